//! Which of several schedulers acts, by a Lease of Kubernetes. The others wait before they open anything. Whoever can't renew
//! its lease in time ends on the spot, earlier than any other may act.
//!
//! No two clocks are compared: whoever waits counts, by its own steady clock, how long it has seen the lease unchanged; whoever
//! holds it counts from before it asked for the renewal. So the clocks of nodes may be set as they like.

use super::Access;
use super::refusal::{Call, Failure};
use crate::Error;
use framewake_proto::chain::Chain;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::Api;
use kube::api::PostParams;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Where the lease is: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseName {
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the name of a lease: write NAMESPACE/NAME, both of lower-case letters, digits and `-`")]
pub struct LeaseNameError(String);

impl FromStr for LeaseName {
    type Err = LeaseNameError;

    fn from_str(text: &str) -> Result<LeaseName, LeaseNameError> {
        let good = |part: &str| {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let within = part.chars().all(|c| letter(c) || c == '-');
            !part.is_empty() && part.len() <= 63 && within && part.starts_with(letter) && part.ends_with(letter)
        };
        match text.split_once('/') {
            Some((namespace, name)) if good(namespace) && good(name) => {
                Ok(LeaseName { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(LeaseNameError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A lease that nobody renewed for this long is free.
    pub lease: Duration,
    /// Its holder ends when it could not renew it for this long. Shorter than `lease` by the time that ending takes, and
    /// that an answer may be under way.
    pub renew_within: Duration,
    /// How often it is renewed, and looked at.
    pub every: Duration,
}

/// Shortest and longest time that a lease may go unrenewed.
pub const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_mins(5);

impl Timing {
    /// In the proportions that the parts of Kubernetes themselves have: 15 s, 10 s, 2 s.
    pub fn of(lease: Duration) -> Timing {
        let lease = lease.clamp(*LEASE.start(), *LEASE.end());
        Timing { lease, renew_within: lease * 2 / 3, every: lease * 2 / 15 }
    }
}

/// One who would hold the lease.
#[derive(Debug)]
pub struct Candidate {
    access: Access,
    at: LeaseName,
    /// No two have the same, nor has one that was started again in the same place.
    holder: String,
    timing: Timing,
}

/// A lease as it was seen, and since when it is so.
struct Watched {
    version: Option<String>,
    since: Instant,
}

impl Candidate {
    pub fn new(access: Access, at: LeaseName, holder: String, timing: Timing) -> Candidate {
        Candidate { access, at, holder, timing }
    }

    /// Waits until the lease is ours. `lost` is called when it no longer is, on a thread of its own, and must not come back.
    pub async fn win(self, lost: impl FnOnce(&str) + Send + 'static) -> Result<Held, Error> {
        let mut watched: Option<Watched> = None;
        let (mut told, mut troubled) = (String::new(), false);
        let mut look = tokio::time::interval(self.timing.every);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let asked = Instant::now();
            match self.try_once(&mut watched).await {
                Ok(Ok(())) => {
                    info!("this scheduler acts: it holds the lease {}", self.at);
                    return Ok(Held::new(self, asked, lost));
                }
                Ok(Err(other)) => {
                    troubled = false;
                    if told != other {
                        info!("standby: the lease {} is held by {other}", self.at);
                        told = other;
                    }
                }
                // Without the right it would wait for ever.
                Err((call, failure)) if failure.code() == Some(403) => return Err(call.error(failure)),
                Err((call, failure)) => {
                    if !std::mem::replace(&mut troubled, true) {
                        warn!("standby: {}", Chain(&call.error(failure)));
                    }
                }
            }
        }
    }

    /// Takes the lease if it is free; else says who holds it.
    async fn try_once(&self, watched: &mut Option<Watched>) -> Result<Result<(), String>, (Call<'_>, Failure)> {
        let leases = self.leases();
        let get = self.call("get");
        let found = get.answered(leases.get_opt(&self.at.name)).await.map_err(|failure| (get, failure))?;
        let Some(found) = found else {
            let create = self.call("create");
            let lease = self.lease(None, 0);
            return match create.answered(leases.create(&PostParams::default(), &lease)).await {
                Ok(_) => Ok(Ok(())),
                Err(failure) if failure.code() == Some(409) => Ok(Err("another, who came first".to_owned())),
                Err(failure) => Err((create, failure)),
            };
        };
        let spec = found.spec.clone().unwrap_or_default();
        let version = found.metadata.resource_version.clone();
        let since = match watched {
            Some(watched) if watched.version == version => watched.since,
            _ => watched.insert(Watched { version, since: Instant::now() }).since,
        };
        let holder = spec.holder_identity.unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        if !holder.is_empty() && since.elapsed() < Duration::from_secs(seconds) {
            return Ok(Err(holder));
        }
        let lease = self.lease(Some(&found.metadata), spec.lease_transitions.unwrap_or(0) + 1);
        self.replace(&lease).await.map(|won| if won { Ok(()) } else { Err("another, who came first".to_owned()) })
    }

    /// Writes the lease, unless it was changed since it was read.
    async fn replace(&self, lease: &Lease) -> Result<bool, (Call<'_>, Failure)> {
        let (update, leases) = (self.call("update"), self.leases());
        match update.answered(leases.replace(&self.at.name, &PostParams::default(), lease)).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Some(409) => Ok(false),
            Err(failure) => Err((update, failure)),
        }
    }

    /// The lease as ours.
    fn lease(&self, old: Option<&ObjectMeta>, transitions: i32) -> Lease {
        // For people: nobody counts with them.
        let now = MicroTime(jiff::Timestamp::now());
        let seconds = i32::try_from(self.timing.lease.as_secs().max(1)).unwrap_or(i32::MAX);
        let metadata = ObjectMeta {
            name: Some(self.at.name.clone()),
            resource_version: old.and_then(|old| old.resource_version.clone()),
            labels: old.and_then(|old| old.labels.clone()),
            annotations: old.and_then(|old| old.annotations.clone()),
            ..ObjectMeta::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.access.client.clone(), &self.at.namespace)
    }

    fn call(&self, verb: &'static str) -> Call<'_> {
        Call { verb, resource: "leases.coordination.k8s.io", namespace: &self.at.namespace }
    }
}

/// A lease that is held, until it is given back or this process ends.
#[derive(Debug)]
pub struct Held {
    candidate: Arc<Candidate>,
    guard: Arc<Guard>,
    stop: CancellationToken,
    renewing: tokio::task::JoinHandle<()>,
}

/// Ends the process in time, however busy its runtime is.
#[derive(Debug)]
struct Guard {
    /// `None`: the lease was given back.
    until: Mutex<Option<Instant>>,
    moved: Condvar,
}

impl Guard {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.lock() = until;
        self.moved.notify_one();
    }

    /// Waits until it is over; whether it is because nobody renewed.
    fn watch(&self) -> bool {
        let mut until = self.lock();
        loop {
            let Some(at) = *until else { return false };
            let Some(left) = at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return true;
            };
            until = self.moved.wait_timeout(until, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Held {
    fn new(candidate: Candidate, asked: Instant, lost: impl FnOnce(&str) + Send + 'static) -> Held {
        let guard = Guard { until: Mutex::new(Some(asked + candidate.timing.renew_within)), moved: Condvar::new() };
        let (candidate, guard, stop) = (Arc::new(candidate), Arc::new(guard), CancellationToken::new());
        let (watching, why) = (Arc::clone(&guard), format!("the lease {} could not be renewed in time", candidate.at));
        let over = stop.clone();
        std::thread::spawn(move || {
            if watching.watch() {
                // What is lost is not renewed any more, should the process take its time.
                over.cancel();
                lost(&why);
            }
        });
        let renewing = tokio::spawn(renew(Arc::clone(&candidate), Arc::clone(&guard), stop.clone()));
        Held { candidate, guard, stop, renewing }
    }

    /// Gives it back, so that another acts at once. Only when nothing here acts any more.
    pub async fn give_back(self) {
        self.stop.cancel();
        let _ = self.renewing.await;
        let (leases, call) = (self.candidate.leases(), self.candidate.call("get"));
        if let Ok(Some(mut lease)) = call.answered(leases.get_opt(&self.candidate.at.name)).await
            && let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.candidate.holder)
        {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            if let Err((call, failure)) = self.candidate.replace(&lease).await {
                warn!("the lease runs out by itself: {}", Chain(&call.error(failure)));
            }
        }
        self.guard.set(None);
    }
}

async fn renew(candidate: Arc<Candidate>, guard: Arc<Guard>, stop: CancellationToken) {
    let mut look = tokio::time::interval(candidate.timing.every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut troubled = false;
    while stop.run_until_cancelled(look.tick()).await.is_some() {
        let asked = Instant::now();
        let call = candidate.call("get");
        let renewed = async {
            let found =
                call.answered(candidate.leases().get(&candidate.at.name)).await.map_err(|failure| (call, failure))?;
            let spec = found.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_ref() != Some(&candidate.holder) {
                return Ok(Err(spec.holder_identity.unwrap_or_else(|| "nobody".to_owned())));
            }
            let mut lease = candidate.lease(Some(&found.metadata), spec.lease_transitions.unwrap_or(0));
            if let Some(new) = &mut lease.spec {
                new.acquire_time = spec.acquire_time;
            }
            candidate.replace(&lease).await.map(Ok)
        };
        // No longer than until it is lost: the next try may have more luck.
        match tokio::time::timeout(candidate.timing.renew_within / 2, renewed).await {
            Ok(Ok(Ok(true))) => {
                guard.set(Some(asked + candidate.timing.renew_within));
                troubled = false;
            }
            // Somebody wrote in between, as people do: the next look says who.
            Ok(Ok(Ok(false))) | Err(_) => {}
            Ok(Ok(Err(other))) => {
                warn!("the lease {} was taken by {other}", candidate.at);
                guard.set(Some(Instant::now()));
                return;
            }
            Ok(Err((call, failure))) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn!("the lease {} is not renewed: {}", candidate.at, Chain(&call.error(failure)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_lease_is_a_namespace_and_a_name() {
        let name: LeaseName = "render/framewake".parse().expect("good");
        assert_eq!(name.to_string(), "render/framewake");
        for wrong in ["", "framewake", "/framewake", "render/", "a/b/c", "Render/x", "-a/b", "a/b-"] {
            assert!(wrong.parse::<LeaseName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_holder_has_ended_before_any_other_may_act() {
        for seconds in [0, 2, 15, 86_400] {
            let Timing { lease, renew_within, every } = Timing::of(Duration::from_secs(seconds));
            assert!(LEASE.contains(&lease));
            assert!(renew_within + every <= lease, "with room for an answer that is under way");
            assert!(every * 3 < renew_within, "one lost request is no reason to end");
        }
    }
}
