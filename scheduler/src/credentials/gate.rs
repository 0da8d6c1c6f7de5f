//! Lets workers in: who has a join token gets a credential once, who has a credential gets the next one, and who has ended gets
//! neither. Who has ended is also told to the server (`revoking`).

use super::Issuer;
use super::revoking::{Ended, Revoked};
use crate::engine::Handle;
use framewake_core::farm::is_given;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::sealed::seal;
use framewake_proto::time::Timestamp;
use framewake_proto::wire;
use prost::Message as _;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// Most workers that are remembered, of those that joined and of those that ended. The first to be forgotten is the oldest.
const REMEMBERED_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) issuer: Issuer,
    pub(super) lasts: Duration,
    known: Mutex<Known>,
    /// Somebody has ended.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// With the key that it came with, which is that of its process.
    joined: Recent<Vec<u8>>,
    ended: Recent<()>,
    pub(super) revoked: Revoked,
}

/// The newest of what was put in.
#[derive(Debug)]
struct Recent<T> {
    values: HashMap<WorkerId, T>,
    order: VecDeque<WorkerId>,
}

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    fn put(&mut self, worker: &WorkerId, value: T) {
        if self.values.insert(worker.clone(), value).is_some() {
            return;
        }
        self.order.push_back(worker.clone());
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

impl Gate {
    pub(crate) fn new(issuer: Issuer, lasts: Duration) -> Gate {
        Gate { issuer, lasts, known: Mutex::default(), changed: Notify::new() }
    }

    /// What it was given is of no use any more. Where its place says that its process is over, whoever comes in its name now is another.
    pub(crate) fn note_end(&self, ended: Ended) {
        let mut known = self.known();
        if ended.for_good {
            known.ended.put(&ended.worker, ());
        }
        known.revoked.put(ended);
        self.changed.notify_one();
    }

    pub(crate) fn has_ended(&self, worker: &WorkerId) -> bool {
        self.known().ended.values.contains_key(worker)
    }

    /// Somebody with a join token asks to be this worker.
    pub(crate) async fn join(
        &self,
        handle: &Handle,
        function: &FunctionKey,
        worker: &WorkerId,
        join: &wire::Join,
    ) -> wire::JoinAnswer {
        let refused = |why: &str| wire::JoinAnswer { refused: why.to_owned(), ..Default::default() };
        if self.has_ended(worker) {
            return refused("this worker has ended");
        }
        if handle.functions().get(function).is_none() {
            return refused(&format!("{function} is not a function of this farm"));
        }
        let had_one = self.issuer.was_of(&join.former, function, worker);
        if is_given(worker) && !had_one && !self.issuer.has_invited(function, worker, &join.invitation) {
            return refused("it shows no invitation of this worker, which only the one has that the farm had started");
        }
        let is_here = match handle.worker_function(worker.clone()).await {
            Ok(Some(known)) if known == *function => true,
            Ok(Some(known)) => return refused(&format!("this worker was started for {known}")),
            // It may be there since before this scheduler, whose places have not told of it yet.
            Ok(None) if is_given(worker) => {
                return wire::JoinAnswer { later: true, ..refused("no worker of this name was started") };
            }
            // Started by hand.
            Ok(None) => false,
            Err(_) => return wire::JoinAnswer { later: true, ..refused("the scheduler is stopping") },
        };
        {
            let mut known = self.known();
            let by_another = known.joined.values.get(worker).is_some_and(|key| *key != join.key);
            if is_here && by_another && !had_one {
                return refused("a worker of this name has joined already");
            }
            known.joined.put(worker, join.key.clone());
        }
        let credential = self.renew(function, worker).encode_to_vec();
        match seal(&join.key, &credential) {
            Some(credential) => wire::JoinAnswer { credential, ..Default::default() },
            None => refused("the key to seal the answer for is none"),
        }
    }

    /// The next credential of a worker that is let in.
    pub(crate) fn renew(&self, function: &FunctionKey, worker: &WorkerId) -> wire::Credential {
        if self.has_ended(worker) {
            return wire::Credential { refused: "this worker has ended".to_owned(), ..Default::default() };
        }
        let until = Timestamp::now().after(self.lasts);
        let taken_back = self.known().revoked.of(worker).map(Ended::until_s);
        wire::Credential {
            refused: String::new(),
            jwt: self.issuer.of_worker(function, worker, until, taken_back).reveal().to_owned(),
            lasts_s: u32::try_from(self.lasts.as_secs()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics with it")
    }
}
