//! How long a worker should wait for work, by how long those before it waited until work came: the wait that would have cost
//! least is a better guess than any that knows nothing of the farm.

use framewake_proto::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that are remembered: about half a day of a busy function, so that a night does not make it forget the day.
pub const GAPS_MAX: usize = 128;
/// Fewer say nothing yet.
pub const GAPS_MIN: usize = 8;
/// Shorter ones are no gaps: the next order is on its way. No worker leaves sooner, for a scheduler that is started again is back
/// by then.
pub const GAP_LEAST: Duration = Duration::from_secs(5);

/// Gaps of a function's workers, from the end of their work until there was work again, whether they were still there or had
/// left and another was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    last: VecDeque<Duration>,
    /// Since when those had no work that left, oldest first.
    left: VecDeque<Timestamp>,
}

impl Gaps {
    /// Work came for a worker that had waited for it so long.
    pub fn ended(&mut self, gap: Duration) {
        if gap < GAP_LEAST {
            return;
        }
        if self.last.len() == GAPS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(gap);
    }

    /// A worker leaves that has had no work since then.
    pub fn left(&mut self, idle_since: Timestamp) {
        if self.left.len() == GAPS_MAX {
            self.left.pop_front();
        }
        self.left.push_back(idle_since);
    }

    /// A worker is asked for: the one that left last could have taken its work.
    pub fn missed(&mut self, now: Timestamp) {
        if let Some(idle_since) = self.left.pop_back() {
            self.ended(now.since(idle_since));
        }
    }

    pub fn known(&self) -> usize {
        self.last.len()
    }

    /// The wait, up to `most`, with which the last gaps would have cost least: waited out, or waited in vain and then a start,
    /// which costs `start`. `None`: too few are known.
    pub fn cheapest(&self, start: Duration, most: Duration) -> Option<Duration> {
        if self.last.len() < GAPS_MIN {
            return None;
        }
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        // Only just as long as a gap, or not at all, can be best.
        let mut best = (cost(GAP_LEAST, Duration::ZERO, sorted.len(), start), GAP_LEAST);
        let mut waited = Duration::ZERO;
        for (at, wait) in sorted.iter().enumerate().take_while(|(_, gap)| **gap <= most) {
            waited += *wait;
            best = best.min((cost(*wait, waited, sorted.len() - at - 1, start), *wait));
        }
        Some(best.1)
    }
}

/// Of the gaps that end within `wait`, and take `waited` together, and of so many longer ones.
fn cost(wait: Duration, waited: Duration, longer: usize, start: Duration) -> Duration {
    waited + (wait + start) * u32::try_from(longer).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn of(seconds: impl IntoIterator<Item = u32>) -> Gaps {
        let mut gaps = Gaps::default();
        seconds.into_iter().for_each(|gap| gaps.ended(gap * S));
        gaps
    }

    #[test]
    fn few_gaps_and_short_ones_say_nothing() {
        assert_eq!(of([30; GAPS_MIN - 1]).cheapest(200 * S, 200 * S), None);
        assert_eq!(of([1; 100]).known(), 0);
    }

    #[test]
    fn a_worker_waits_for_jobs_that_come_soon_and_not_for_those_that_do_not() {
        let check =
            |gaps: &[u32], wait: u32| assert_eq!(of(gaps.iter().copied()).cheapest(200 * S, 200 * S), Some(wait * S));
        check(&[40; 10], 40);
        check(&[4000; 10], 5);
        // One in ten within a minute does not pay for nine in vain, five do for five.
        check(&[60, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000], 5);
        check(&[60, 60, 60, 60, 60, 4000, 4000, 4000, 4000, 4000], 60);
    }

    #[test]
    fn who_left_too_early_is_noticed_when_the_next_is_asked_for() {
        let mut gaps = Gaps::default();
        for number in 0..10 {
            let idle_since = Timestamp(number * 1_000_000);
            gaps.left(idle_since);
            gaps.missed(idle_since.after(90 * S));
        }
        gaps.missed(Timestamp(99_000_000));
        assert_eq!(gaps.known(), 10, "nobody left before the last one was asked for");
        assert_eq!(gaps.cheapest(200 * S, 200 * S), Some(90 * S));
        assert_eq!(gaps.cheapest(200 * S, 60 * S), Some(GAP_LEAST), "it may not wait so long");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut gaps = of((0..1000).map(|_| 30));
        (0..1000).for_each(|at| gaps.left(Timestamp(at)));
        assert_eq!((gaps.known(), gaps.left.len()), (GAPS_MAX, GAPS_MAX));
    }

    proptest! {
        /// No other wait would have been cheaper over the gaps that are remembered.
        #[test]
        fn the_cheapest_wait_is_cheapest(
            gaps in proptest::collection::vec(5u32..2000, GAPS_MIN..GAPS_MAX),
            start in 1u32..600,
            other in 5u32..600,
        ) {
            let paid = |wait: Duration| -> Duration {
                gaps.iter().map(|gap| if *gap * S <= wait { *gap * S } else { wait + start * S }).sum()
            };
            let cheapest = of(gaps.iter().copied()).cheapest(start * S, 600 * S).expect("enough are known");
            prop_assert!(paid(cheapest) <= paid(other * S), "{cheapest:?} beside {other} s");
        }
    }
}
