//! Every stream, consumer and subject on NATS, built here only. `farm` is the farm's own prefix, so
//! that several farms (and parallel tests) can share one NATS account.

use crate::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
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

    pub fn log(&self, job: JobId, attempt: AttemptId) -> String {
        format!("{}.logs.{job}.{}.{}", self.farm, attempt.chunk, attempt.number)
    }

    /// The other way round: whose log a subject carries.
    pub fn log_of(&self, subject: &str) -> Option<(JobId, AttemptId)> {
        let rest = subject.strip_prefix(self.farm.as_str())?.strip_prefix(".logs.")?;
        let (job, attempt) = rest.split_once('.')?;
        Some((job.parse().ok()?, attempt.parse().ok()?))
    }

    /// Requests to the scheduler (core NATS).
    pub fn hello(&self) -> String {
        format!("{}.hello", self.farm)
    }

    pub fn claim(&self) -> String {
        format!("{}.claim", self.farm)
    }

    pub fn heartbeat(&self) -> String {
        format!("{}.heartbeat", self.farm)
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
