//! Whether a task that failed is tried again, when, and whether the try was its own fault.

use framewake_proto::job::Retries;
use framewake_proto::verdict::Verdict;
use std::time::Duration;

/// Wait for a license before the first further try; doubles up to [`LICENSE_WAIT_MAX`].
pub(crate) const LICENSE_WAIT: Duration = Duration::from_secs(15);
pub(crate) const LICENSE_WAIT_MAX: Duration = Duration::from_mins(5);
/// A task that was alone in its chunk while this many workers were lost is quarantined.
pub(crate) const LOSSES_MAX: u32 = 6;
/// From this many losses on, the task that was being worked on is put into a chunk of its own.
pub(crate) const LOSSES_BEFORE_SPLIT: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Try again after this; `spends` an attempt; better `elsewhere`.
    Again {
        after: Duration,
        spends: bool,
        elsewhere: bool,
    },
    Never,
}

/// `spent`: attempts the task has spent before this failure. `seed` spreads the waits, so that tasks
/// that failed together don't come back together.
pub(crate) fn decide(verdict: Verdict, spent: u32, retries: &Retries, seed: u64) -> Decision {
    let elsewhere = match verdict {
        // What the farm or the platform did says nothing about the task.
        Verdict::Preempted | Verdict::Canceled | Verdict::Done => {
            return Decision::Again { after: Duration::ZERO, spends: false, elsewhere: false };
        }
        Verdict::LicenseWait => return Decision::Again { after: LICENSE_WAIT, spends: false, elsewhere: false },
        Verdict::SceneError | Verdict::Quarantined => return Decision::Never,
        Verdict::RetrySame | Verdict::OutputBad => false,
        Verdict::RetryElsewhere | Verdict::NeedMoreVram | Verdict::NeedMoreMemory | Verdict::Hung => true,
    };
    if spent + 1 >= retries.attempts {
        return Decision::Never;
    }
    let after = backoff(retries.backoff.0, retries.backoff_max.0, spent, seed);
    Decision::Again { after, spends: true, elsewhere }
}

/// `first * 2^doublings`, at most `longest`, spread over 80 % to 120 %.
pub(crate) fn backoff(first: Duration, longest: Duration, doublings: u32, seed: u64) -> Duration {
    let plain = first.saturating_mul(1u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX)).min(longest);
    // SplitMix64, so that neighboring seeds give unlike waits.
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let share = 0.8 + 0.4 * ((mixed >> 11) as f64 / (1u64 << 53) as f64);
    plain.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::duration::Span;

    fn retries(attempts: u32) -> Retries {
        let second = Span(Duration::from_secs(1));
        Retries { attempts, backoff: second, backoff_max: Span(Duration::from_secs(10)) }
    }

    #[test]
    fn what_the_farm_broke_spends_no_attempt() {
        for verdict in [Verdict::Preempted, Verdict::LicenseWait, Verdict::Canceled] {
            let decision = decide(verdict, 99, &retries(1), 7);
            assert!(matches!(decision, Decision::Again { spends: false, .. }), "{verdict}: {decision:?}");
        }
    }

    #[test]
    fn a_wrong_scene_is_not_tried_again() {
        assert_eq!(decide(Verdict::SceneError, 0, &retries(100), 7), Decision::Never);
    }

    #[test]
    fn other_failures_are_tried_until_the_attempts_are_spent() {
        for verdict in [Verdict::RetrySame, Verdict::Hung, Verdict::OutputBad, Verdict::NeedMoreVram] {
            assert!(matches!(decide(verdict, 0, &retries(3), 7), Decision::Again { spends: true, .. }));
            assert!(matches!(decide(verdict, 1, &retries(3), 7), Decision::Again { spends: true, .. }));
            assert_eq!(decide(verdict, 2, &retries(3), 7), Decision::Never, "{verdict}");
        }
    }

    #[test]
    fn waits_double_up_to_their_limit_and_are_spread() {
        let wait = |doublings, seed| backoff(Duration::from_secs(1), Duration::from_secs(10), doublings, seed);
        for seed in 0..200 {
            for (doublings, plain) in [(0, 1.0), (1, 2.0), (3, 8.0), (4, 10.0), (80, 10.0)] {
                let share = wait(doublings, seed).as_secs_f64() / plain;
                assert!((0.8..=1.2).contains(&share), "{doublings} doublings, seed {seed}: {share}");
            }
        }
        assert_ne!(wait(0, 1), wait(0, 2));
    }
}
