//! Takes back what workers were given, once they have ended: the server learns, with the claims of the account, which users it
//! shall let in no more, and closes their connections.
//!
//! What is told is a state, the list of those who ended while what they had may still be good. A server that was started again
//! has forgotten it, and is told it as soon as it can be.

use super::Gate;
use super::server::{Authority, TellError};
use async_nats::{Auth, ConnectOptions, Event};
use framewake_proto::chain::Chain;
use framewake_proto::ids::WorkerId;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// Workers whose ends are remembered, here and in the database. The list of all of them stays under the megabyte that a message of
/// NATS may have; who is pushed out of it has what it had until that ends by itself.
pub(crate) const ENDED_MAX: usize = 8_000;
/// Between two lists: for each, a server looks again at what everybody has shown who is connected, which are thousands.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Until a server is told again that did not take it: at its start it knows the account only once somebody has used it.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often it is told although nothing is new: of several servers, one may have been started again.
const REMIND_EVERY: Duration = Duration::from_mins(1);
/// Failures in a row until it is said.
const COMPLAIN_AFTER: u32 = 20;
/// How long a worker that people started is let be after its end: it may have said good-bye before its last words had left.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A worker that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) worker: WorkerId,
    pub(crate) at: Timestamp,
    /// Its place says so. One that people started said good-bye or fell silent, and may come again.
    pub(crate) for_good: bool,
}

impl Ended {
    /// What was signed up to this second is of no use: also what was given while its end was written down.
    pub(super) fn until_s(&self) -> i64 {
        self.at.0.div_euclid(1000) + 1
    }
}

/// Of whom nothing that was given before counts.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    at: HashMap<WorkerId, Ended>,
    order: VecDeque<WorkerId>,
}

impl Revoked {
    pub(super) fn put(&mut self, ended: Ended) {
        let worker = ended.worker.clone();
        if self.at.insert(worker.clone(), ended).is_some() {
            self.order.retain(|other| *other != worker);
        }
        self.order.push_back(worker);
        if self.order.len() > ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.at.remove(&oldest);
        }
    }

    pub(super) fn of(&self, worker: &WorkerId) -> Option<&Ended> {
        self.at.get(worker)
    }

    /// Those whose credentials may still be good for a server that was not told; and when there will be more.
    fn now(&self, now: Timestamp, lasts: Duration) -> (Vec<Ended>, Option<Timestamp>) {
        let due = |ended: &Ended| if ended.for_good { ended.at } else { ended.at.after(LAST_WORDS) };
        let coming = self.at.values().map(due).filter(|due| *due > now).min();
        let list = self.at.values().filter(|ended| due(ended) <= now && ended.at.after(lasts) > now);
        (list.cloned().collect(), coming)
    }
}

impl Gate {
    fn list(&self, now: Timestamp) -> (BTreeMap<String, i64>, Option<Timestamp>) {
        let (ended, coming) = self.known().revoked.now(now, self.lasts);
        let users = ended.into_iter().map(|ended| (self.issuer.user(&ended.worker), ended.until_s()));
        (users.collect(), coming)
    }
}

/// Runs for as long as there is a scheduler, where the server can be told.
pub(crate) async fn tell_always(gate: Arc<Gate>, url: String, ca: Option<PathBuf>) {
    let Some(authority) = gate.issuer.authority.clone() else {
        let lasts = gate.lasts.as_secs();
        return info!(
            "what an ended worker had is good on NATS for up to {lasts} s: `framewake-scheduler nats-keys` makes keys by which it is taken back"
        );
    };
    let (connected_in, mut connected) = watch::channel(0_u64);
    let own = Arc::clone(&authority);
    let options = ConnectOptions::with_auth_callback(move |_| {
        let mut auth = Auth::new();
        auth.jwt = Some(own.own().reveal().to_owned());
        async move { Ok(auth) }
    });
    let options = ca.into_iter().fold(options, ConnectOptions::add_root_certificates);
    let options = options.name("framewake-scheduler, about who has ended").retry_on_initial_connect();
    let options = options.event_callback(move |event| {
        if matches!(event, Event::Connected) {
            connected_in.send_modify(|times| *times += 1);
        }
        async {}
    });
    let client = match options.connect(url).await {
        Ok(client) => client,
        // The connection for everything else says what is wrong with the address.
        Err(error) => return debug!("who has ended is not told: {}", Chain(&error)),
    };
    let mut told = Told::default();
    loop {
        let (list, coming) = gate.list(Timestamp::now());
        let connection = *connected.borrow_and_update();
        if connection > 0
            && told.lacks(&list, connection)
            && let Err(error) = told.tell(&authority, &client, list, connection).await
        {
            told.failures += 1;
            if told.failures == COMPLAIN_AFTER {
                let why = Chain(&error);
                warn!("workers that have ended may go on pulling orders, for NATS takes no list of them: {why}");
            }
            tokio::time::sleep(TRY_AGAIN).await;
            continue;
        }
        let coming = coming.map_or(REMIND_EVERY, |at| at.since(Timestamp::now()).max(TRY_AGAIN));
        tokio::select! {
            () = gate.changed.notified() => {}
            () = tokio::time::sleep(coming) => {}
            Ok(()) = connected.changed() => continue,
        }
        tokio::select! {
            () = tokio::time::sleep_until(told.at.map_or_else(Instant::now, |at| at + TELL_EVERY)) => {}
            Ok(()) = connected.changed() => {}
        }
    }
}

/// What the server has been told.
#[derive(Debug, Default)]
struct Told {
    list: BTreeMap<String, i64>,
    claims: String,
    connection: u64,
    at: Option<Instant>,
    failures: u32,
}

impl Told {
    fn lacks(&self, list: &BTreeMap<String, i64>, connection: u64) -> bool {
        let is_old = self.connection != connection || self.at.is_none_or(|at| at.elapsed() >= REMIND_EVERY);
        // Those whose time is up may stay on the server's list until there is another.
        list.iter().any(|(user, at)| self.list.get(user) != Some(at)) || is_old && !list.is_empty()
    }

    async fn tell(
        &mut self,
        authority: &Authority,
        client: &async_nats::Client,
        list: BTreeMap<String, i64>,
        connection: u64,
    ) -> Result<(), TellError> {
        if self.claims.is_empty() || self.list != list {
            // Asked again, a server looks at nobody if the text is the same.
            self.claims = authority.without(&list);
            self.list = BTreeMap::new();
        }
        authority.tell(client, self.claims.clone()).await?;
        *self =
            Told { list, claims: std::mem::take(&mut self.claims), connection, at: Some(Instant::now()), failures: 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(number: usize, at: i64, for_good: bool) -> Ended {
        Ended { worker: format!("w1-{number}").parse().expect("a good id"), at: Timestamp(at), for_good }
    }

    fn listed(revoked: &Revoked, now: i64) -> (usize, Option<i64>) {
        let (list, coming) = revoked.now(Timestamp(now), Duration::from_mins(1));
        (list.len(), coming.map(|at| at.0))
    }

    #[test]
    fn those_are_listed_whose_credentials_may_be_good_and_who_has_no_more_to_say() {
        let mut revoked = Revoked::default();
        revoked.put(ended(1, 1000, true));
        revoked.put(ended(2, 1000, false));
        assert_eq!(listed(&revoked, 1000), (1, Some(6000)), "one that people started has a while for its last words");
        assert_eq!(listed(&revoked, 5999), (1, Some(6000)));
        assert_eq!(listed(&revoked, 6000), (2, None));
        assert_eq!(listed(&revoked, 60_999), (2, None));
        assert_eq!(listed(&revoked, 61_000), (0, None), "what they had has ended by itself");
        // It came again, and ended again.
        revoked.put(ended(2, 30_000, false));
        assert_eq!(revoked.of(&ended(2, 0, false).worker).map(Ended::until_s), Some(31));
        assert_eq!(listed(&revoked, 61_000), (1, None));
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut revoked = Revoked::default();
        for number in 0..ENDED_MAX {
            revoked.put(ended(number, 1000, true));
        }
        revoked.put(ended(0, 2000, true));
        revoked.put(ended(ENDED_MAX, 2000, true));
        assert_eq!(listed(&revoked, 2000).0, ENDED_MAX);
        assert!(revoked.of(&ended(0, 0, true).worker).is_some() && revoked.of(&ended(1, 0, true).worker).is_none());
    }

    #[test]
    fn a_server_is_told_what_it_lacks_and_everything_when_it_is_another() {
        let list = |users: &[(&str, i64)]| users.iter().map(|(user, at)| ((*user).to_owned(), *at)).collect();
        let mut told = Told::default();
        assert!(!told.lacks(&list(&[]), 1), "nobody has ended");
        assert!(told.lacks(&list(&[("U1", 1)]), 1));
        told = Told { list: list(&[("U1", 1), ("U2", 2)]), connection: 1, at: Some(Instant::now()), ..told };
        assert!(!told.lacks(&list(&[("U1", 1), ("U2", 2)]), 1));
        assert!(!told.lacks(&list(&[("U2", 2)]), 1), "whose time is up is no news");
        assert!(told.lacks(&list(&[("U2", 3)]), 1) && told.lacks(&list(&[("U3", 1)]), 1));
        assert!(told.lacks(&list(&[("U2", 2)]), 2), "it was started again");
    }
}
