//! What a task usually takes, for jobs of which none is done yet.

use std::collections::VecDeque;

/// Jobs that are remembered: enough for a mean although a few take many times as long as most.
pub const JOBS_MAX: usize = 32;

/// What the first task of each of the last jobs took, in seconds: every job counts once, however many tasks it has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usual {
    last: VecDeque<f64>,
}

impl Usual {
    pub fn add(&mut self, task_s: f64) {
        if self.last.len() == JOBS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(task_s);
    }

    pub fn mean(&self) -> Option<f64> {
        (!self.last.is_empty()).then(|| self.last.iter().sum::<f64>() / self.last.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_last_jobs_is_usual() {
        let mut usual = Usual::default();
        assert_eq!(usual.mean(), None);
        (0..1000).for_each(|_| usual.add(7000.0));
        (0..JOBS_MAX - 1).for_each(|_| usual.add(10.0));
        assert_eq!(usual.mean(), Some((7000.0 + 31.0 * 10.0) / 32.0), "one long job among them shows");
        usual.add(10.0);
        assert_eq!(usual.mean(), Some(10.0), "and is forgotten");
    }
}
