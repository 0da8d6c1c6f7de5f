//! A pool: how many workers it holds, how often some were asked for, and whether its place answers.

use crate::values::PoolRules;
use framewake_proto::price::Market;
use framewake_proto::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
/// After a start nobody is started in other pools either until a place has told who is there; but a place that says
/// nothing must not stop them all.
const UNASKED_MAX: Duration = Duration::from_mins(1);

/// Whether more workers may be asked for at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    Open,
    /// Its place has not told yet who is there: what a scheduler started before it was started again would be started twice.
    Unasked {
        since: Timestamp,
    },
    /// Not now: why, for people.
    Away {
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) rules: PoolRules,
    pub(crate) reach: Reach,
    /// When workers were asked for, within the last minute; of a pool that takes any number, none.
    asked: VecDeque<Timestamp>,
}

impl Pool {
    pub(crate) fn new(now: Timestamp, rules: PoolRules) -> Pool {
        let reach = if rules.here { Reach::Open } else { Reach::Unasked { since: now } };
        Pool { rules, reach, asked: VecDeque::new() }
    }

    /// Until when workers may be there that other pools would start again.
    pub(crate) fn unknown_until(&self) -> Option<Timestamp> {
        match &self.reach {
            Reach::Unasked { since } => Some(since.after(UNASKED_MAX)),
            Reach::Open | Reach::Away { .. } => None,
        }
    }

    /// The same pool by other rules.
    pub(crate) fn with_rules(self, rules: PoolRules) -> Pool {
        Pool { rules, ..self }
    }

    /// From when on one more worker may be asked for; `None`: now.
    pub(crate) fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        let mut recent = self.asked.iter().skip_while(|at| at.after(MINUTE) <= now);
        let first = recent.next()?;
        let full = 1 + recent.count() >= self.rules.starts_a_minute as usize;
        full.then(|| first.after(MINUTE))
    }

    pub(crate) fn note_start(&mut self, now: Timestamp) {
        if self.rules.starts_a_minute == u32::MAX {
            return;
        }
        while self.asked.front().is_some_and(|at| at.after(MINUTE) <= now) {
            self.asked.pop_front();
        }
        self.asked.push_back(now);
    }

    /// Machines that may be taken away are cheaper, and come first.
    pub(crate) fn is_dear(&self) -> bool {
        self.rules.market != Market::Spot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_minute_has_more_starts_than_the_pool_takes(
            pauses_ms in prop::collection::vec(0u64..20_000, 1..300),
            most in 1u32..20,
        ) {
            let mut pool = Pool::new(Timestamp(0), PoolRules { starts_a_minute: most, ..PoolRules::local(1000) });
            let mut now = Timestamp(0);
            let mut starts: Vec<Timestamp> = Vec::new();
            for pause in pauses_ms {
                now = now.after(Duration::from_millis(pause));
                match pool.pause(now) {
                    None => {
                        pool.note_start(now);
                        starts.push(now);
                    }
                    Some(until) => prop_assert!(until > now),
                }
            }
            for (at, start) in starts.iter().enumerate() {
                let within = starts[at..].iter().take_while(|other| **other < start.after(MINUTE)).count();
                prop_assert!(within <= most as usize, "{within} from {start}");
            }
        }
    }

    #[test]
    fn a_place_elsewhere_is_asked_only_after_it_told_who_is_there() {
        assert_eq!(Pool::new(Timestamp(0), PoolRules::local(4)).reach, Reach::Open);
        let elsewhere = PoolRules { here: false, ..PoolRules::local(4) };
        assert!(matches!(Pool::new(Timestamp(0), elsewhere).reach, Reach::Unasked { .. }));
    }
}
