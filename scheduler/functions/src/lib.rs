//! Where the workers of functions are started: processes of a machine, containers, Kubernetes Jobs, other gateways.
//! Every place is a [`Provider`]; what all of them do alike is done once, by the keeper.

pub mod docker;
pub mod http;
pub mod keeper;
pub mod kubernetes;
pub mod local;
pub mod openfaas;
mod wakeups;

use async_trait::async_trait;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::notify::Secret;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A place where workers are started, for one pool.
///
/// The farm names each worker before it asks for it, so every call may be repeated: a worker that is there is not started
/// again, and one that is gone is gone. A provider makes no decisions, and is never asked to end a worker that renders: workers
/// leave by themselves.
#[async_trait]
pub trait Provider: fmt::Debug + Send {
    /// Asks for a worker; one of this name that is there already is left alone. Comes back as soon as the place has
    /// taken the request, not when the worker runs.
    async fn start(&mut self, start: &Start) -> Result<(), StartError>;

    /// Ends a worker that never spoke; one that is not there is no error.
    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error>;

    /// Every worker of this farm here, also those that ended and were not yet forgotten. All of them or an error: an
    /// answer that lacks some would have them started twice.
    async fn observe(&mut self) -> Result<Vec<Instance>, Error>;

    /// Comes back when [`Provider::observe`] may have something new to say, or never if that can't be known. Dropped
    /// and called again at will.
    async fn changed(&mut self);

    /// It said good-bye to the farm: a place that might not hear of its end takes note.
    fn left(&mut self, _worker: &WorkerId) {}

    /// Removes what an ended worker left, once its end is known to the farm.
    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error>;

    /// Has all workers leave, and makes those leave that do not: a farm on one machine ends (`framewake dev`). Where
    /// workers outlive their scheduler whatever happens, nothing is done.
    async fn end_all(&mut self) {}
}

/// A worker that is wanted.
#[derive(Debug, Clone)]
pub struct Start {
    pub worker: WorkerId,
    pub function: FunctionKey,
    /// Image, resources and scaling of that version.
    pub spec: Arc<FunctionSpec>,
    /// GPUs that it gets, as their driver names them, where the farm hands them out one by one; empty: as many as
    /// `spec.resources.gpus` says, chosen by the place.
    pub gpus: Vec<String>,
    /// It leaves after this long without work.
    pub linger: Duration,
    /// What it joins the farm with, where NATS lets nobody in without: of this one worker, and of no use once it has joined.
    pub join_token: Option<Secret>,
    /// By which the farm knows that it asked for whoever comes as this worker. Alone it opens nothing: where others may read it, as
    /// in a Job, the join token is not there.
    pub invitation: Option<Secret>,
}

/// The variable by which a worker is told its join token.
pub const JOIN_TOKEN: &str = "FRAMEWAKE_JOIN_TOKEN";

/// The variable by which it is told its invitation.
pub const INVITATION: &str = "FRAMEWAKE_INVITATION";

/// Why a worker is not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can't be started as it is: the image is missing, the request is not allowed. Tried again later all the same, for
    /// people mend such things.
    #[error("{0}")]
    Refused(String),
    /// The place has no room for now: a quota, or its own limit.
    #[error("{0}")]
    Full(String),
    /// The place does not answer: nobody knows whether the worker was started, so it is looked for before it is asked for again.
    #[error(transparent)]
    Away(Error),
}

/// The place can't be asked, or does not allow it: what was tried, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    pub what: String,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A worker as its place sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub worker: WorkerId,
    pub function: FunctionKey,
    pub gpus: Vec<String>,
    pub state: InstanceState,
    /// When it came how far, by the clock of the place; only what the place tells.
    pub steps: BTreeMap<StartStep, Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// It does not run yet: why, for people; empty while all goes as it should.
    Waiting {
        reason: String,
    },
    Running,
    Ended(End),
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, with nothing left to do or because it was asked to.
    Left,
    /// The place took it away: a drained node, a spot machine that was called back.
    TakenAway { reason: String },
    /// It could not run, or crashed: why, for people.
    Failed { reason: String },
}

/// How far the start of a worker has come, as far as its place can tell. What comes before and after, the farm knows: when it
/// was wanted, when the worker spoke, when its renderer was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartStep {
    /// The place has it on its list.
    Created,
    /// A machine was chosen for it.
    Scheduled,
    /// Its image is on that machine.
    ImageReady,
    /// Its process runs.
    ProcessStarted,
}

/// What every worker is told, wherever it is started.
#[derive(Clone)]
pub struct Surroundings {
    /// Address of NATS, as workers there reach it; empty: what they are given elsewhere tells it, as a Secret.
    pub nats: String,
    pub farm: String,
    /// Address of the store, as workers there reach it.
    pub store: String,
    /// Credentials of the store, and other settings of workers: names and values of environment variables.
    pub environment: BTreeMap<String, String>,
}

/// Without addresses and values: they may hold passwords.
impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Surroundings").field("farm", &self.farm).field("environment", &names).finish_non_exhaustive()
    }
}

/// The last line that says something: a panic ends with a hint at how to learn more of it.
fn last_line(text: &str) -> Option<String> {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    text.lines().rev().map(str::trim).find(says).map(str::to_owned)
}
