//! How fast tasks are finished, and how long the rest will take.

use std::collections::VecDeque;
use std::time::Duration;

/// Older samples say little about now …
const WINDOW: Duration = Duration::from_mins(1);
/// … unless frames are so slow that fewer than these were finished in it.
const TASKS_MIN: u32 = 8;
/// Most samples kept; past it every second one is dropped.
const SAMPLES_MAX: usize = 256;

/// Tasks done at points in time, both rising.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    samples: VecDeque<(Duration, u32)>,
}

impl Pace {
    /// `done` tasks are finished at `now`.
    pub(crate) fn sample(&mut self, now: Duration, done: u32) {
        match self.samples.back() {
            Some((_, last)) if *last == done => return,
            // A retry began: what was measured before is of no use.
            Some((_, last)) if *last > done => self.samples.clear(),
            Some(_) | None => {}
        }
        self.samples.push_back((now, done));
        while let Some((at, second)) = self.samples.get(1)
            && now.saturating_sub(*at) > WINDOW
            && done - second >= TASKS_MIN
        {
            self.samples.pop_front();
        }
        if self.samples.len() > SAMPLES_MAX {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            // The last one tells what is done now.
            if self.samples.back() != Some(&(now, done)) {
                self.samples.push_back((now, done));
            }
        }
    }

    /// Tasks per second; `None` until one was finished after the first look.
    pub(crate) fn per_s(&self, now: Duration) -> Option<f64> {
        let (first_at, first) = self.samples.front()?;
        let (last_at, last) = self.samples.back()?;
        let tasks = last - first;
        if tasks == 0 {
            return None;
        }
        let measured = (*last_at).saturating_sub(*first_at).as_secs_f64();
        let waited = now.saturating_sub(*last_at).as_secs_f64();
        // Between two tasks the pace is what was measured; only a longer silence than usual slows it down.
        let usual = measured / f64::from(tasks);
        let seconds = measured + (waited - usual).max(0.0);
        (seconds > 0.0).then(|| f64::from(tasks) / seconds)
    }

    /// Time until `left` more tasks are finished.
    pub(crate) fn time_left(&self, now: Duration, left: u32) -> Option<Duration> {
        self.per_s(now).and_then(|per_s| Duration::try_from_secs_f64(f64::from(left) / per_s).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn steady(each_s: u64, tasks: u32) -> Pace {
        let mut pace = Pace::default();
        for done in 0..=tasks {
            pace.sample(seconds(u64::from(done) * each_s), done);
        }
        pace
    }

    #[test]
    fn a_steady_pace_gives_a_steady_estimate() {
        let pace = steady(2, 10);
        assert_eq!(pace.per_s(seconds(20)), Some(0.5));
        assert_eq!(pace.time_left(seconds(21), 10), Some(seconds(20)));
    }

    #[test]
    fn nothing_is_said_before_something_is_known() {
        let mut pace = Pace::default();
        assert_eq!(pace.per_s(seconds(5)), None);
        pace.sample(seconds(0), 40);
        assert_eq!(pace.time_left(seconds(5), 10), None);
        pace.sample(seconds(0), 41);
        assert_eq!(pace.time_left(seconds(0), 10), None, "no time has passed");
    }

    #[test]
    fn silence_slows_the_estimate_down() {
        let pace = steady(2, 10);
        assert!(pace.per_s(seconds(60)).is_some_and(|per_s| per_s < 0.2));
    }

    #[test]
    fn slow_frames_are_measured_over_more_than_the_window() {
        let pace = steady(300, 20);
        assert!(pace.per_s(seconds(6000)).is_some_and(|per_s| (per_s - 1.0 / 300.0).abs() < 1e-6));
        assert!(pace.samples.len() <= 10);
    }

    #[test]
    fn a_retry_begins_to_measure_anew() {
        let mut pace = steady(1, 10);
        pace.sample(seconds(11), 3);
        assert_eq!(pace.per_s(seconds(12)), None);
    }

    #[test]
    fn many_samples_are_thinned_out() {
        let mut pace = Pace::default();
        for done in 0..100_000 {
            pace.sample(Duration::from_micros(u64::from(done) * 100), done);
        }
        assert!(pace.samples.len() <= SAMPLES_MAX + 1);
        assert!(pace.per_s(seconds(10)).is_some_and(|per_s| (per_s - 10_000.0).abs() < 100.0));
    }
}
