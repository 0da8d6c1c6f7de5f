//! Plain values that events bring and [`crate::farm::Farm::restore`] takes.

use crate::coming::StoredStart;
use crate::gpus::{GpuNeeds, Vram};
use crate::ledger::Account;
use crate::price::{Held, Prices};
use crate::scale::keep::Window;
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Budget, Chunking, Job, Retries};
use framewake_proto::money::Money;
use framewake_proto::pool::PoolGpu;
use framewake_proto::price::Market;
use framewake_proto::start::StartPoint;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the rules need to know of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRules {
    /// Most workers at once.
    pub workers_max: u32,
    /// Slots of the provider that one worker takes.
    pub slots: u32,
    /// GPUs of one worker, and what each of them must have.
    pub gpus: u32,
    pub gpu_needs: GpuNeeds,
    /// Pools that it can't use, and why; any other will do.
    pub unfit: BTreeMap<Name, String>,
    pub scaling: ScalingRules,
}

/// What a function says of when its workers come and go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScalingRules {
    /// How long a worker waits for work; `None`: chosen.
    pub linger: Option<Duration>,
    /// What an hour of waiting is worth.
    pub waiting: Option<Money>,
    pub keep: Vec<Window>,
    /// Its workers are started by others; no pool is fit for it.
    pub external: bool,
}

impl FunctionRules {
    /// Those of a function that needs no GPU.
    pub fn without_gpu(workers_max: u32, slots: u32) -> FunctionRules {
        let (gpu_needs, unfit, scaling) = (GpuNeeds::default(), BTreeMap::new(), ScalingRules::default());
        FunctionRules { workers_max, slots, gpus: 0, gpu_needs, unfit, scaling }
    }
}

/// Name of the pool that is the scheduler's own machine.
pub const LOCAL_POOL: &str = "local";

/// What the rules need to know of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRules {
    pub name: Name,
    /// Most slots at once, of workers that start, are there or leave.
    pub max: u32,
    /// Whether its machines may be taken away.
    pub market: Market,
    /// Pools with a lower number are tried first; of equal ones spot, then the cheaper.
    pub order: u32,
    /// How long a worker may take from being asked for until it speaks.
    pub start_within: Duration,
    /// Most workers that are asked for in a minute.
    pub starts_a_minute: u32,
    /// Model of its GPUs as the price table calls it; empty: none, or not known.
    pub gpu: String,
    /// What it says of its GPUs before any was heard of; `None`: it has none, or they are looked for.
    pub gpu_said: Option<PoolGpu>,
    /// Longest a worker may run there; `None`: any.
    pub longest_run: Option<Duration>,
    /// It is the scheduler's own machine: its GPUs are given out one by one, and who runs there is told of before anything
    /// else. Of any other place it has to be heard first.
    pub here: bool,
}

impl PoolRules {
    /// The scheduler's own machine.
    pub fn local(max: u32) -> PoolRules {
        PoolRules {
            name: LOCAL_POOL.parse().expect("a good name"),
            max,
            market: Market::OnDemand,
            order: 0,
            start_within: Duration::from_mins(1),
            starts_a_minute: u32::MAX,
            gpu: String::new(),
            gpu_said: None,
            longest_run: None,
            here: true,
        }
    }
}

/// What the rules need to know of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub project: Name,
    pub priority: u32,
    pub budget: Option<Budget>,
    /// By then it should be done.
    pub deadline: Option<Timestamp>,
    /// Never empty.
    pub steps: Vec<NewStep>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewStep {
    pub function: FunctionKey,
    /// At least 1.
    pub tasks: u32,
    pub chunking: Chunking,
    pub retries: Retries,
    /// Least memory of a GPU that its tasks need; 0: as the function asks for.
    pub gpu_memory_bytes: u64,
    /// Longest a task of it may take, where the job says so.
    pub frame_limit: Option<Duration>,
    /// What earlier jobs of its scene tell.
    pub vram: Vram,
    /// Indexes of the steps that come before; without cycles.
    pub after: Vec<usize>,
}

impl From<&Job> for NewJob {
    fn from(job: &Job) -> NewJob {
        let steps = job.steps.iter().map(|step| NewStep {
            function: step.function.clone(),
            tasks: step.frames.len(),
            chunking: step.chunking,
            retries: step.retries,
            gpu_memory_bytes: step.gpu_memory_bytes,
            frame_limit: step.timeouts.frame_said().map(|limit| limit.0),
            vram: Vram::default(),
            after: step.after.clone(),
        });
        let (project, priority, budget) = (job.project.clone(), job.priority, job.budget);
        NewJob { project, priority, budget, deadline: job.deadline, steps: steps.collect() }
    }
}

/// How long the log of an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSize {
    pub kept_bytes: u64,
    /// Said by the renderer, and not in the log because it was full.
    pub left_out_bytes: u64,
}

/// Settings of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an attempt may stay silent.
    pub lease: Duration,
    /// An order that no worker claimed for this long is published again, if one waits for some: it may be lost with a worker that left
    /// as it came, and NATS itself delivers it again only after [`ORDER_ACK_WAIT`](framewake_proto::subjects::ORDER_ACK_WAIT).
    pub offer: Duration,
    /// A worker of a pool that is not known any more, and that has not spoken for this long, has failed to start.
    pub start: Duration,
    /// How long a place that fails what others render is set aside the first time; zero: never.
    pub aside: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: Duration::from_secs(15),
            offer: Duration::from_secs(5),
            start: Duration::from_mins(1),
            aside: Duration::from_mins(10),
        }
    }
}

/// What the store remembers: everything the rules need to go on after a restart. Orders that were
/// offered and not claimed are not in it: their tasks wait again, and a claim of such an order is refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    pub functions: Vec<(FunctionKey, FunctionRules)>,
    /// Projects whose weight is not 1.
    pub projects: Vec<(Name, u32)>,
    /// Functions of which workers are wanted with work or without.
    pub kept: Vec<(Name, u32)>,
    /// Jobs that are not over.
    pub jobs: Vec<StoredJob>,
    /// In any order; each of a job above.
    pub chunks: Vec<StoredChunk>,
    /// No chunk at or above this number was ever made.
    pub chunk_next: u64,
    /// Places that are set aside, or were lately.
    pub places: Vec<StoredPlace>,
    /// Workers that are paid.
    pub accounts: Vec<Account>,
    /// How workers came that may still be there.
    pub starts: Vec<StoredStart>,
    pub learned_starts: Vec<StoredStarts>,
    pub timings: Vec<StoredTiming>,
    pub prices: Prices,
    pub budgets: Vec<StoredBudget>,
}

/// What was learned of a function's starts in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStarts {
    pub function: FunctionKey,
    pub pool: Name,
    /// From asking for a worker to its first words, oldest first.
    pub took: Vec<Duration>,
    /// What each phase took, oldest first.
    pub phases: BTreeMap<StartPoint, Vec<Duration>>,
    /// Starts in a row that failed; what they make wait, and the last reason.
    pub failures: u32,
    pub not_before: Option<Timestamp>,
    pub last_until: Option<Timestamp>,
    pub reason: String,
}

/// What was measured of a function's tasks, over all jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTiming {
    pub function: FunctionKey,
    pub timing: Timing,
}

/// A budget of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBudget {
    pub project: Name,
    pub period: Period,
    pub budget: ProjectBudget,
    /// In this month, or in all.
    pub spent: Vec<(Held, u64)>,
    /// What people were told; of an earlier month that is nothing.
    pub told: Standing,
}

/// Where workers run, as they name it: a machine (`node7`), or a GPU of it (`node7/GPU-5c9a…`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    pub fn new(name: &str) -> Place {
        Place(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the GPU, if it is one.
    pub fn gpu(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, gpu)| gpu)
    }

    /// Whether it is the GPU of this name.
    pub fn is_gpu(&self, uuid: &str) -> bool {
        self.gpu() == Some(uuid)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place that is or was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPlace {
    pub place: Place,
    pub since: Timestamp,
    /// From then on it may be tried again.
    pub until: Timestamp,
    /// Times in a row; each lasts twice as long.
    pub times: u32,
    pub reason: String,
    /// It was tried again and worked.
    pub proven_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    pub id: JobId,
    pub job: NewJob,
    pub paused: bool,
    /// It comes from a backup: tasks that wait may have been done since, and their outputs be in the store.
    pub restored: bool,
    /// What was paid for it, of a job with a budget.
    pub spent: Vec<(Held, u64)>,
    /// One a step.
    pub steps: Vec<StoredStep>,
}

impl StoredJob {
    /// Whether any task failed for good, of all or of one step's these.
    pub fn has_failed(&self, only: Option<&(usize, TaskSet)>) -> bool {
        any_failed(self.steps.iter().map(|step| &step.failed), only)
    }
}

/// Whether any of each step's failed tasks is meant: all are, or of one step these.
pub(crate) fn any_failed<'a>(failed: impl Iterator<Item = &'a TaskSet>, only: Option<&(usize, TaskSet)>) -> bool {
    failed.enumerate().any(|(at, failed)| match only {
        None => !failed.is_empty(),
        Some((step, tasks)) => at == *step && tasks.iter().any(|task| failed.contains(task)),
    })
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredStep {
    pub done: TaskSet,
    pub failed: TaskSet,
    pub timing: Timing,
    pub vram: Vram,
}

/// A chunk with a history: held by a worker, or waiting to be tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredChunk {
    pub id: ChunkId,
    pub job: JobId,
    pub step: usize,
    /// Neither done nor failed.
    pub tasks: TaskSet,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    pub spent: u32,
    pub losses: u32,
    /// The last of these losses, oldest first.
    pub lost: Vec<Loss>,
    pub state: StoredChunkState,
}

/// A worker that was lost while it held the chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub attempt: AttemptId,
    pub worker: WorkerId,
    /// Where it ran, as far as it had said.
    pub places: Vec<Place>,
    pub at: Timestamp,
    /// How it was lost, in words.
    pub how: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChunkState {
    /// To be offered, not before `until`; not to `avoid`, if another can be had.
    Waiting { until: Timestamp, avoid: Option<WorkerId> },
    /// `done` and `failed`: tasks of this attempt so far.
    Leased { worker: WorkerId, since: Timestamp, done: u32, failed: u32 },
}

/// What was measured of a step: seconds to load, and seconds a task. Exponentially weighted means.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timing {
    pub load_s: Option<f64>,
    pub task_s: Option<f64>,
}

impl StoredChunk {
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId { chunk: self.id, number: self.attempt }
    }
}
