//! How much may go on at once: a bound for each class of requests, so that lists can't hold up submissions, and a share
//! of each for one client, so that one can't hold up the others.
//!
//! Shares count what is under way, not what came in a second: a client that waits for its answers is never refused,
//! however fast it is.

use super::problem::{Answer, Code, Refusal};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Submissions and other changes; each waits for one sync of the disk, which all of them share.
pub(crate) const CHANGES_MAX: usize = 256;
/// Logins under way: whoever is not known yet must not be in the way of those who are.
pub(crate) const LOGINS_MAX: usize = 64;
/// Lists and views; four at a time are read from the store, the others wait.
pub(crate) const LOOKS_MAX: usize = 128;
/// `/readyz` and `/metrics`. `/healthz` has no bound.
pub(crate) const PROBES_MAX: usize = 32;
/// Inputs and outputs on their way; each holds up to 16 MiB.
pub(crate) const TRANSFERS_MAX: usize = 64;
/// Streams of events and logs, of some 20 KiB each.
pub(crate) const STREAMS_MAX: usize = 8192;
/// Connections, busy or idle.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;
/// One client has at most one part in so many of each bound.
pub(crate) const PARTS: usize = 2;

/// What is bounded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Change,
    Login,
    Look,
    Probe,
    Transfer,
    Stream,
    Connection,
}

impl Class {
    fn noun(self) -> &'static str {
        match self {
            Class::Change => "changes",
            Class::Login => "logins",
            Class::Look => "lists and views",
            Class::Probe => "looks at its health",
            Class::Transfer => "inputs and outputs on their way",
            Class::Stream => "streams",
            Class::Connection => "connections",
        }
    }
}

/// Who asks: an address, or the network that IPv6 gives to one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v4 @ IpAddr::V4(_) => v4.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Peer {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Peer(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            v4 @ IpAddr::V4(_) => Peer(v4),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    /// Requests that came over no socket, as in tests, are those of one client.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Peer, Infallible> {
        Ok(peer_of(&parts.extensions))
    }
}

pub(crate) fn peer_of(extensions: &axum::http::Extensions) -> Peer {
    extensions.get().copied().unwrap_or(Peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// What is under way of each class.
#[derive(Debug)]
pub(crate) struct Shares {
    change: Arc<Gate>,
    login: Arc<Gate>,
    look: Arc<Gate>,
    probe: Arc<Gate>,
    transfer: Arc<Gate>,
    stream: Arc<Gate>,
    connection: Arc<Gate>,
}

impl Shares {
    /// `files_max` is how many files the system lets this process have open.
    pub(crate) fn new(files_max: usize) -> Shares {
        let gate = |class, max| Arc::new(Gate { class, max, held: Mutex::default() });
        // The rest is for the database, the store and NATS.
        let connections = CONNECTIONS_MAX.min(files_max / 4 * 3);
        Shares {
            change: gate(Class::Change, CHANGES_MAX),
            login: gate(Class::Login, LOGINS_MAX),
            look: gate(Class::Look, LOOKS_MAX),
            probe: gate(Class::Probe, PROBES_MAX),
            transfer: gate(Class::Transfer, TRANSFERS_MAX),
            stream: gate(Class::Stream, STREAMS_MAX),
            connection: gate(Class::Connection, connections),
        }
    }

    /// One more of `class` for `peer`, until the pass is dropped.
    pub(crate) fn enter(&self, class: Class, peer: Peer) -> Answer<Pass> {
        let gate = match class {
            Class::Change => &self.change,
            Class::Login => &self.login,
            Class::Look => &self.look,
            Class::Probe => &self.probe,
            Class::Transfer => &self.transfer,
            Class::Stream => &self.stream,
            Class::Connection => &self.connection,
        };
        gate.enter(peer)
    }
}

#[derive(Debug)]
struct Gate {
    class: Class,
    max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Only those who hold something, so that there are never more than `all`.
    by_peer: HashMap<Peer, usize>,
}

impl Gate {
    fn enter(self: &Arc<Gate>, peer: Peer) -> Answer<Pass> {
        let (share, noun) = ((self.max / PARTS).max(1), self.class.noun());
        let mut held = self.held();
        let mine = held.by_peer.get(&peer).copied().unwrap_or(0);
        if mine >= share {
            let detail = format!("this client has {mine} {noun} open, as many as one may");
            return Err(Refusal::new(Code::TooMany, detail)
                .hint("ask less at once; clients behind one address or proxy count as one"));
        }
        if held.all >= self.max {
            let detail = format!("the scheduler has {} {noun} open, as many as it may", held.all);
            return Err(Refusal::new(Code::Busy, detail));
        }
        held.all += 1;
        *held.by_peer.entry(peer).or_default() += 1;
        Ok(Pass { gate: self.clone(), peer })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to go on, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    peer: Peer,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut held = self.gate.held();
        held.all -= 1;
        let left = held.by_peer.get_mut(&self.peer).map_or(0, |mine| {
            *mine -= 1;
            *mine
        });
        if left == 0 {
            held.by_peer.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    fn fill(shares: &Shares, class: Class, who: Peer, count: usize) -> Vec<Pass> {
        (0..count).map(|_| shares.enter(class, who).expect("room")).collect()
    }

    #[test]
    fn one_client_leaves_room_for_others_and_a_class_for_the_other_classes() {
        let shares = Shares::new(20_000);
        let (one, two, three) = (peer("10.0.0.1"), peer("10.0.0.2"), peer("10.0.0.3"));
        let held = fill(&shares, Class::Look, one, LOOKS_MAX / PARTS);
        assert_eq!(shares.enter(Class::Look, one).expect_err("its share").code(), Code::TooMany);
        let others = fill(&shares, Class::Look, two, LOOKS_MAX / PARTS);
        assert_eq!(shares.enter(Class::Look, three).expect_err("all of it").code(), Code::Busy);
        let _change = shares.enter(Class::Change, one).expect("another class");
        drop(held);
        drop(others);
        assert!(shares.look.held().by_peer.is_empty(), "nobody is remembered who holds nothing");
        shares.enter(Class::Look, three).expect("room again");
    }

    #[test]
    fn a_client_is_an_address_or_an_ipv6_network() {
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
    }

    #[test]
    fn connections_leave_files_for_the_rest() {
        let shares = Shares::new(1024);
        assert_eq!(shares.connection.max, 768);
    }
}
