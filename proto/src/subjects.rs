//! Every stream, consumer and subject on NATS, built here only. `farm` is the farm's own prefix, so
//! that several farms (and parallel tests) can share one NATS account.

use crate::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use crate::permissions::Joiner;
use std::time::Duration;

/// How long an order may be with a worker that has not answered before `JetStream` delivers it again.
pub const ORDER_ACK_WAIT: Duration = Duration::from_secs(15);
/// Most orders on the stream; the scheduler keeps far fewer.
pub const ORDERS_MAX: i64 = 100_000;
/// Most bytes of reports kept for a scheduler that is away.
pub const REPORTS_BYTES_MAX: i64 = 4 * 1024 * 1024 * 1024;
/// Most bytes of live logs kept.
pub const LOGS_BYTES_MAX: i64 = 1024 * 1024 * 1024;
/// Live logs are archived when their attempt ends; what nobody archived goes after this.
pub const LOGS_AGE_MAX: Duration = Duration::from_hours(6);

/// The names of one farm.
#[derive(Debug, Clone)]
pub struct Subjects {
    farm: Name,
}

impl Subjects {
    #[must_use]
    pub fn new(farm: Name) -> Subjects {
        Subjects { farm }
    }

    pub fn farm(&self) -> &Name {
        &self.farm
    }

    fn stream(&self, kind: &str) -> String {
        format!("{}_{kind}", self.farm.as_str().to_uppercase())
    }

    /// Work queue: one message for each open chunk that waits for a worker.
    pub fn orders_stream(&self) -> String {
        self.stream("ORDERS")
    }

    pub fn orders_all(&self) -> String {
        format!("{}.orders.>", self.farm)
    }

    pub fn order(&self, function: &FunctionKey, job: JobId) -> String {
        format!("{}.orders.{}.{}.{job}", self.farm, function.name, function.version)
    }

    /// All orders of one version of a function.
    pub fn orders_of(&self, function: &FunctionKey) -> String {
        format!("{}.orders.{}.{}.>", self.farm, function.name, function.version)
    }

    /// All orders of one job.
    pub fn orders_of_job(&self, job: JobId) -> String {
        format!("{}.orders.*.*.{job}", self.farm)
    }

    /// The durable consumer that the workers of one version of a function pull from.
    pub fn orders_consumer(&self, function: &FunctionKey) -> String {
        format!("{}-{}", function.name, function.version)
    }

    pub fn reports_stream(&self) -> String {
        self.stream("REPORTS")
    }

    pub fn reports_all(&self) -> String {
        format!("{}.reports.>", self.farm)
    }

    pub fn report(&self, worker: &WorkerId) -> String {
        format!("{}.reports.{worker}", self.farm)
    }

    /// The scheduler's one durable consumer of reports.
    pub fn reports_consumer(&self) -> String {
        "scheduler".to_owned()
    }

    pub fn logs_stream(&self) -> String {
        self.stream("LOGS")
    }

    pub fn logs_all(&self) -> String {
        format!("{}.logs.>", self.farm)
    }

    /// What a worker says of an attempt. The worker is in it, so that nobody can write another's.
    pub fn log(&self, worker: &WorkerId, job: JobId, attempt: AttemptId) -> String {
        format!("{}.logs.{worker}.{job}.{}.{}", self.farm, attempt.chunk, attempt.number)
    }

    /// Everything that it says.
    pub fn logs_of_worker(&self, worker: &WorkerId) -> String {
        format!("{}.logs.{worker}.>", self.farm)
    }

    /// The other way round: whose log a subject carries.
    pub fn log_of(&self, subject: &str) -> Option<(WorkerId, JobId, AttemptId)> {
        let rest = subject.strip_prefix(self.farm.as_str())?.strip_prefix(".logs.")?;
        let (worker, rest) = rest.split_once('.')?;
        let (job, attempt) = rest.split_once('.')?;
        Some((worker.parse().ok()?, job.parse().ok()?, attempt.parse().ok()?))
    }

    /// Requests to the scheduler (core NATS), each worker's on a subject of its own with its function: the server knows who may
    /// use it.
    pub fn hello(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("hello", function, worker)
    }

    pub fn claim(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("claim", function, worker)
    }

    pub fn heartbeat(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("heartbeat", function, worker)
    }

    /// For a new credential in the place of the one that it is asked with.
    pub fn renewal(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("renewal", function, worker)
    }

    /// For addresses in the store.
    pub fn sign(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("sign", function, worker)
    }

    /// Who has a join token asks here for a credential of its own.
    pub fn join(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        self.request("join", function, worker)
    }

    fn request(&self, what: &str, function: &FunctionKey, worker: &WorkerId) -> String {
        format!("{}.{what}.{}.{}.{worker}", self.farm, function.name, function.version)
    }

    /// The requests of all workers: `hello`, `claim`, `heartbeat`, `renewal`, `sign` or `join`.
    pub fn requests(&self, what: &str) -> String {
        format!("{}.{what}.*.*.*", self.farm)
    }

    /// Whose request a subject carries.
    pub fn asker(&self, subject: &str) -> Option<(FunctionKey, WorkerId)> {
        let mut parts = subject.strip_prefix(self.farm.as_str())?.strip_prefix('.')?.split('.');
        let (_, name, version, worker) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let function = FunctionKey { name: name.parse().ok()?, version: version.parse().ok()? };
        Some((function, worker.parse().ok().filter(|_| parts.next().is_none())?))
    }

    /// Whose report a subject carries.
    pub fn reporter(&self, subject: &str) -> Option<WorkerId> {
        subject.strip_prefix(self.farm.as_str())?.strip_prefix(".reports.")?.parse().ok()
    }

    /// Under which a worker is answered.
    pub fn inbox(&self, worker: &WorkerId) -> String {
        format!("{}.inbox.{worker}", self.farm)
    }

    /// Under which those are answered that have only a join token: they may hear each other, so answers are sealed.
    pub fn joining_inbox(&self) -> String {
        format!("{}.joining", self.farm)
    }

    /// Where the holder of a join token may ask.
    pub fn joins_of(&self, joiner: &Joiner) -> String {
        match joiner {
            Joiner::Worker(function, worker) => self.join(function, worker),
            Joiner::Function(function) => {
                let version = function.version.map_or("*".to_owned(), |version| version.to_string());
                format!("{}.join.{}.{version}.*", self.farm, function.name)
            }
            Joiner::Any => self.requests("join"),
        }
    }

    /// Who is the scheduler of this farm? (core NATS)
    pub fn owner(&self) -> String {
        format!("{}.owner", self.farm)
    }

    /// A notification, for whoever listens (core NATS).
    pub fn notification(&self, occasion: &str, project: &str) -> String {
        format!("{}.events.{occasion}.{project}", self.farm)
    }

    /// What the scheduler wants of one worker (core NATS).
    pub fn control(&self, worker: &WorkerId) -> String {
        format!("{}.control.{worker}", self.farm)
    }
}
