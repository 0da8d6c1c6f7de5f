//! Tokens that open nothing, counted by where they come from: after some in a minute they are refused unread. A good one always
//! opens: who shares an address with somebody who guesses must not be shut out, and 256 bits can't be guessed.

use crate::rest::Peer;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long wrong tokens count.
const WINDOW: Duration = Duration::from_mins(1);
/// Wrong tokens of one address in that time that are answered at length.
pub(crate) const WRONG_MAX: u32 = 30;
/// Addresses told apart; those beyond count as one.
const ADDRESSES_MAX: usize = 4096;

/// How many there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    Few,
    /// The first one that is too many: worth a line in the log.
    JustTooMany,
    TooMany,
}

#[derive(Debug, Default)]
pub(crate) struct Wrong(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_peer: HashMap<Peer, Count>,
    others: Option<Count>,
    swept_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    wrong: u32,
}

impl Count {
    fn add(&mut self, now: Instant) -> Tries {
        if now.duration_since(self.since) >= WINDOW {
            *self = Count { since: now, wrong: 0 };
        }
        self.wrong = self.wrong.saturating_add(1);
        match self.wrong {
            few if few <= WRONG_MAX => Tries::Few,
            one_more if one_more == WRONG_MAX + 1 => Tries::JustTooMany,
            _ => Tries::TooMany,
        }
    }
}

impl Wrong {
    pub(crate) fn note(&self, peer: Peer, now: Instant) -> Tries {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Count { since: now, wrong: 0 };
        if !counts.by_peer.contains_key(&peer) && counts.by_peer.len() >= ADDRESSES_MAX {
            // Once in a while: to look through all of them for each would be what somebody wants who has many addresses.
            if counts.swept_at.is_none_or(|at| now.duration_since(at) >= WINDOW) {
                counts.swept_at = Some(now);
                counts.by_peer.retain(|_, count| now.duration_since(count.since) < WINDOW);
            }
            if counts.by_peer.len() >= ADDRESSES_MAX {
                return counts.others.get_or_insert(new).add(now);
            }
        }
        counts.by_peer.entry(peer).or_insert(new).add(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn peer(number: u32) -> Peer {
        Peer::from(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn wrong_tokens_are_counted_for_each_address_and_forgotten() {
        let (wrong, begin) = (Wrong::default(), Instant::now());
        let all: Vec<Tries> = (0..WRONG_MAX + 3).map(|_| wrong.note(peer(1), begin)).collect();
        assert!(all[..WRONG_MAX as usize].iter().all(|tries| *tries == Tries::Few));
        assert_eq!(all[WRONG_MAX as usize..], [Tries::JustTooMany, Tries::TooMany, Tries::TooMany]);
        assert_eq!(wrong.note(peer(2), begin), Tries::Few, "another's");
        assert_eq!(wrong.note(peer(1), begin + WINDOW), Tries::Few, "a minute later");
    }

    #[test]
    fn a_million_addresses_take_no_more_room_than_some_thousand() {
        let (wrong, begin) = (Wrong::default(), Instant::now());
        for number in 0..1_000_000 {
            wrong.note(peer(number), begin);
        }
        let kept = || wrong.0.lock().expect("nobody panics").by_peer.len();
        assert_eq!(kept(), ADDRESSES_MAX);
        assert_eq!(wrong.note(peer(2_000_000), begin), Tries::TooMany, "they count as one");
        assert_eq!(wrong.note(peer(2_000_001), begin + WINDOW), Tries::Few);
        assert_eq!(kept(), 1, "those of before are forgotten");
    }
}
