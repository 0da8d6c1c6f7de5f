//! How long workers take to come, by the last ones that did.

use crate::estimate::Spread;
use framewake_proto::time::{Day, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Workers that are remembered: enough for a 95th percentile, few enough that a new image or network soon shows.
pub const COLD_STARTS_MAX: usize = 32;

/// From asking for a worker to its first words, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColdStarts {
    last: VecDeque<Duration>,
}

impl ColdStarts {
    pub fn add(&mut self, took: Duration) {
        if self.last.len() == COLD_STARTS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        self.last.iter().copied()
    }

    pub fn samples(&self) -> usize {
        self.last.len()
    }

    pub fn spread(&self) -> Spread {
        Spread::of(self.last.iter().map(Duration::as_secs_f64))
    }

    /// Half of them came within this.
    pub fn typical(&self) -> Option<Duration> {
        self.quantile(50)
    }

    /// Nineteen of twenty came within this; with few samples, all did.
    pub fn slow(&self) -> Option<Duration> {
        self.quantile(95)
    }

    /// By nearest rank: a value that was measured, and one outlier in thirty-two moves neither.
    fn quantile(&self, percent: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

impl FromIterator<Duration> for ColdStarts {
    fn from_iter<T: IntoIterator<Item = Duration>>(all: T) -> ColdStarts {
        let mut starts = ColdStarts::default();
        for took in all {
            starts.add(took);
        }
        starts
    }
}

/// Days that are remembered.
const DAYS_MAX: usize = 7;

/// The slowest start of each of the last days. Where machines stay for a while, most starts of a busy day are quick, and the
/// one that matters for the next run is that of a machine that has to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlowestOfDays {
    days: VecDeque<(Day, Duration)>,
}

impl SlowestOfDays {
    pub fn add(&mut self, now: Timestamp, took: Duration) {
        let today = Day::of(now);
        match self.days.back_mut() {
            Some((day, slowest)) if *day == today => *slowest = took.max(*slowest),
            _ => {
                if self.days.len() == DAYS_MAX {
                    self.days.pop_front();
                }
                self.days.push_back((today, took));
            }
        }
    }

    /// On half of the days no start took longer: one day on which a machine was not to be had moves it no further.
    pub fn typical(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.days.iter().map(|(_, slowest)| *slowest).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().div_ceil(2).max(1) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: impl IntoIterator<Item = u64>) -> ColdStarts {
        seconds.into_iter().map(Duration::from_secs).collect()
    }

    #[test]
    fn what_is_typical_and_what_is_slow_was_measured() {
        assert_eq!(of([]).typical(), None);
        assert_eq!(of([7]).slow(), Some(Duration::from_secs(7)));
        let starts = of(1..=20);
        assert_eq!(starts.typical(), Some(Duration::from_secs(10)));
        assert_eq!(starts.slow(), Some(Duration::from_secs(19)));
    }

    #[test]
    fn one_outlier_moves_neither_and_old_ones_are_forgotten() {
        let starts = of(std::iter::repeat_n(10, 31).chain([4000]));
        assert_eq!(starts.typical(), Some(Duration::from_secs(10)));
        assert_eq!(starts.slow(), Some(Duration::from_secs(10)));
        let starts = of((0..1000).map(|_| 900).chain((0..32).map(|_| 5)));
        assert_eq!((starts.samples(), starts.slow()), (COLD_STARTS_MAX, Some(Duration::from_secs(5))));
    }

    #[test]
    fn the_slowest_start_of_a_usual_day_is_remembered_whatever_the_last_ones_took() {
        let (mut slowest, day) = (SlowestOfDays::default(), Duration::from_hours(24));
        assert_eq!(slowest.typical(), None);
        let mut now = Timestamp(1_767_598_200_000);
        for longest in [200, 210, 4000, 190, 205] {
            for took in [longest, 10, 11, 10] {
                slowest.add(now, Duration::from_secs(took));
            }
            now = now.after(day);
        }
        assert_eq!(slowest.typical(), Some(Duration::from_secs(205)));
        for _ in 0..100 {
            slowest.add(now, Duration::from_secs(7));
            now = now.after(day);
        }
        assert_eq!((slowest.days.len(), slowest.typical()), (DAYS_MAX, Some(Duration::from_secs(7))));
    }
}
