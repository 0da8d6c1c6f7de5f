//! What happened, as the rules hear of it.

use crate::gpus::{Gpu, Handing};
use crate::price::{Held, Prices};
use crate::values::{FunctionRules, LogSize, NewJob, Place, PoolRules, StoredJob};
use framewake_proto::budget::{Period, ProjectBudget};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::Budget;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::BTreeMap;
use std::time::Duration;

/// Ties an answer to the request it belongs to; chosen by the engine, meaningless to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    FunctionAdded {
        key: FunctionKey,
        rules: FunctionRules,
    },
    ProjectWeighed {
        project: Name,
        weight: u32,
    },
    /// So many workers of the newest version of this function are wanted, with work or without.
    WorkersKept {
        function: Name,
        workers: u32,
    },
    JobSubmitted {
        id: JobId,
        job: NewJob,
    },
    JobCanceled {
        id: JobId,
    },
    JobPaused {
        id: JobId,
    },
    JobResumed {
        id: JobId,
    },
    /// Another budget for a job, or none; and what was paid for it.
    JobBudgeted {
        id: JobId,
        budget: Option<Budget>,
        spent: Vec<(Held, u64)>,
    },
    /// A budget for a project, or none; and what was paid for it, in this month or in all.
    ProjectBudgeted {
        project: Name,
        period: Period,
        budget: Option<ProjectBudget>,
        spent: Vec<(Held, u64)>,
    },
    /// Tasks that failed for good are to be tried again, all or of one step those that are named. A job that is over is
    /// not in memory, so it comes along as the store has it.
    JobRetried {
        job: Box<StoredJob>,
        only: Option<(usize, TaskSet)>,
    },
    JobPrioritized {
        id: JobId,
        priority: u32,
    },
    /// A worker asks for an attempt.
    AttemptClaimed {
        request: RequestId,
        worker: WorkerId,
        attempt: AttemptId,
    },
    /// Applied at most once: a stale or repeated report changes nothing.
    AttemptReported {
        worker: WorkerId,
        attempt: AttemptId,
        report: Report,
    },
    /// A worker spoke: its first words or a heartbeat.
    WorkerSeen {
        request: RequestId,
        worker: WorkerId,
        function: FunctionKey,
        holds: Option<AttemptId>,
        draining: bool,
        /// Where it runs: its GPUs, or its machine if it names none.
        places: Vec<Place>,
        /// Model of its first GPU; empty if it names none.
        gpu: String,
        /// Where it is within its task.
        progress: Option<Progress>,
    },
    /// A worker said goodbye.
    WorkerLeft {
        worker: WorkerId,
    },
    /// The provider runs this worker (told after a restart of the scheduler, for each).
    WorkerFound {
        worker: WorkerId,
        function: FunctionKey,
        pool: Name,
        /// The GPUs that it was given.
        gpus: Vec<Place>,
    },
    /// The place where it was asked for took the request.
    WorkerTaken {
        worker: WorkerId,
    },
    /// The place where a starting worker is made says how far it is.
    WorkerStepped {
        worker: WorkerId,
        step: StartStep,
        /// By the clock of the place.
        at: Timestamp,
    },
    /// A worker, which has just spoken, says for how long it has run, and how long it took from its start to NATS.
    WorkerBegan {
        worker: WorkerId,
        age: Option<Duration>,
        connected: Option<Duration>,
    },
    /// Why a starting worker is not there yet, as its place tells; empty: all goes as it should.
    WorkerWaits {
        worker: WorkerId,
        reason: String,
    },
    /// The provider saw the worker's process or pod end, or could not start it.
    WorkerExited {
        worker: WorkerId,
        end: WorkerEnd,
    },
    /// Where workers may be started from now on; in place of what was said before. `unfit`: of the functions there are,
    /// why each can't use some of them.
    PoolsSet {
        pools: Vec<PoolRules>,
        unfit: BTreeMap<FunctionKey, BTreeMap<Name, String>>,
    },
    /// The place of the pool answers, and every worker there has been told of with [`Event::WorkerFound`]: more may be
    /// started.
    PoolReached {
        pool: Name,
    },
    /// The place of the pool does not answer: nobody is started there until it does.
    PoolAway {
        pool: Name,
        reason: String,
    },
    /// When the schedule makes its next job, and what begins with it; in place of what was said before. `due`: none is known.
    RunExpected {
        schedule: Name,
        due: Option<Timestamp>,
        needs: Vec<Need>,
    },
    /// The provider says how it gives GPUs to workers.
    GpusHanded(Handing),
    /// Workers tell of their GPUs what was not known before.
    GpusDescribed {
        gpus: Vec<Gpu>,
    },
    /// The driver says of the GPU at this place that it is broken.
    PlaceBroke {
        place: Place,
        reason: String,
    },
    /// Somebody says that a place that was set aside is mended.
    PlaceRestored {
        place: Place,
    },
    /// From now on workers are paid so.
    PricesSet {
        prices: Prices,
    },
    /// The stream of orders is gone or new: what was offered must be offered again.
    OrdersLost,
    /// Nothing is heard of the workers for now, through no fault of theirs: silence does not count until
    /// [`Event::ReportsDrained`].
    ReportsHeldUp,
    /// After a start, or after [`Event::ReportsHeldUp`]: every report that waited has been applied, so
    /// deadlines may be honored from now on.
    ReportsDrained,
    /// A deadline may have passed (see [`crate::farm::Farm::next_deadline`]).
    TimePassed,
}

/// Tasks of one function that a run of a schedule begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    pub function: FunctionKey,
    pub tasks: u64,
    /// What one took in the last run, in seconds.
    pub task_s: Option<f64>,
}

impl Need {
    /// With what the same run wants of the same function besides.
    #[must_use]
    pub fn with(&self, other: &Need) -> Need {
        let tasks = self.tasks + other.tasks;
        let work_s = |need: &Need| Some(need.task_s? * need.tasks as f64);
        let task_s = work_s(self).zip(work_s(other)).map(|(one, other)| (one + other) / tasks.max(1) as f64);
        Need { function: self.function.clone(), tasks, task_s }
    }
}

/// Where a worker is within its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub permille: u32,
    pub note: String,
}

/// How far the start of a worker has come, as far as its place can tell. When it was wanted and when it spoke, the rules
/// know themselves.
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

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It left by itself: idle, or drained.
    Left,
    /// Its place took it away: a drained node, a spot machine that was called back. Nobody is to blame.
    TakenAway { reason: String },
    /// It can't run here, or it crashed; why, for people.
    Failed { reason: String },
}

/// News of an attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    pub done: Vec<TaskResult>,
    pub failed: Vec<TaskFailure>,
    /// Unbegun tasks given back while the attempt goes on.
    pub released: TaskSet,
    /// Milliseconds from the claim until the renderer was ready, and before that until the inputs were there.
    pub load_ms: Option<u32>,
    pub staged_ms: Option<u32>,
    pub end: Option<AttemptEnd>,
    /// What the time went to, beside loading and what is done.
    pub spent: ReportedTime,
    pub log: LogSize,
}

/// What a worker's time went to, as its report tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportedTime {
    /// Rendering tasks that failed.
    pub failed_ms: u64,
    /// Rendering tasks that were preempted.
    pub preempted_ms: u64,
    /// Verifying and storing outputs.
    pub upload_ms: u64,
}

/// A verified and committed task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    pub task: u32,
    pub key: String,
    pub sha256: [u8; 32],
    pub size_bytes: u64,
    pub width: u32,
    pub height: u32,
    pub device: String,
    pub renderer: String,
    pub elapsed_ms: u32,
    /// The object was there already: says nothing about how long a task takes.
    pub found: bool,
    pub memory_peak_bytes: u64,
    pub gpu: GpuUse,
    pub moments: Moments,
}

/// When a try at a task was where, in milliseconds since the claim, as far as its worker tells. For who follows it: no
/// rule goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moments {
    pub began_ms: Option<u32>,
    pub rendered_ms: Option<u32>,
    pub uploading_ms: Option<u32>,
    pub ended_ms: Option<u32>,
}

/// What the worker's GPUs did for a task, by their driver; absent where it did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuUse {
    pub energy_millijoules: Option<u64>,
    /// Most memory in use on any of them.
    pub vram_peak_bytes: Option<u64>,
    pub busy_permille: Option<u32>,
    pub busy_max_permille: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    pub task: u32,
    pub verdict: Verdict,
    pub message: String,
    pub evidence: String,
    pub gpu: GpuWord,
    pub moments: Moments,
}

/// What the driver of the GPUs said while a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GpuWord {
    #[default]
    Nothing,
    Xid(u32),
    /// The GPU of this name broke: the task is not to blame.
    Broke {
        uuid: String,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    Finished,
    HandedBack,
    Canceled,
    LicenseWait,
}
