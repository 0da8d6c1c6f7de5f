//! What changed: the store writes it, in one transaction, before any effect is performed. The events
//! that people follow are made from it too.

use crate::coming::StoredStart;
use crate::event::{TaskFailure, TaskResult};
use crate::gpus::Vram;
use crate::ledger::{Account, Spent};
use crate::values::{LogSize, NewJob, Place, StoredChunk, StoredPlace, StoredStarts, StoredTiming, Timing};
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{AttemptId, ChunkId, JobId, Name, WorkerId};
use framewake_proto::job::{AtLimit, Budget};
use framewake_proto::money::Money;
use framewake_proto::start::StartPoint;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::{Month, Timestamp};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job came in; its full text is with the engine, under the same id.
    JobAdded {
        id: JobId,
        job: NewJob,
        at: Timestamp,
    },
    JobState {
        id: JobId,
        state: JobState,
        at: Timestamp,
    },
    JobPriority {
        id: JobId,
        priority: u32,
    },
    /// The job has this budget from now on, or none.
    JobBudget {
        job: JobId,
        budget: Option<Budget>,
    },
    /// The project has this budget from now on, or none; and what people were told of it.
    ProjectBudget {
        project: Name,
        period: Period,
        budget: Option<ProjectBudget>,
        month: Month,
        told: Standing,
    },
    /// A budget is gone so far that people are told.
    BudgetTold {
        payer: Payer,
        standing: Standing,
        spent: Money,
        limit: Money,
        at_limit: AtLimit,
    },
    ProjectWeight {
        project: Name,
        weight: u32,
    },
    /// So many workers of a function stay without work; 0: none.
    WorkersKept {
        function: Name,
        workers: u32,
    },
    StepState {
        job: JobId,
        step: usize,
        state: StepState,
        at: Timestamp,
    },
    /// Absolute counts; the last one of a batch counts.
    StepCounts {
        job: JobId,
        step: usize,
        counts: Counts,
    },
    StepTiming {
        job: JobId,
        step: usize,
        timing: Timing,
    },
    /// What is known of the GPU memory that the step's tasks take.
    StepVram {
        job: JobId,
        step: usize,
        vram: Vram,
    },
    TaskDone {
        job: JobId,
        step: usize,
        attempt: AttemptId,
        result: TaskResult,
        at: Timestamp,
    },
    /// A try failed; `for_good` when there will be no other.
    TaskFailed {
        job: JobId,
        step: usize,
        attempt: AttemptId,
        failure: TaskFailure,
        for_good: bool,
        at: Timestamp,
    },
    /// Tasks that had failed for good wait again.
    TasksReset {
        job: JobId,
        step: usize,
        tasks: TaskSet,
    },
    AttemptStarted {
        job: JobId,
        step: usize,
        attempt: AttemptId,
        worker: WorkerId,
        tasks: TaskSet,
        at: Timestamp,
    },
    AttemptEnded {
        job: JobId,
        step: usize,
        attempt: AttemptId,
        outcome: Outcome,
        done: u32,
        failed: u32,
        log: LogSize,
        at: Timestamp,
    },
    /// Write this chunk's row, or overwrite it.
    ChunkStored(StoredChunk),
    /// Remove this chunk's row, if there is one.
    ChunkClosed {
        id: ChunkId,
    },
    /// Write this place's row, or overwrite it.
    PlaceStored(StoredPlace),
    /// Remove this place's row, if there is one.
    PlaceForgotten {
        place: Place,
    },
    /// Time of a worker, each piece with its cause, and how far it is accounted for now.
    Paid {
        account: Account,
        spent: Vec<Spent>,
    },
    /// The worker is paid no longer; all its time is accounted for.
    AccountClosed {
        worker: WorkerId,
        at: Timestamp,
    },
    /// How far a worker came, or how its way ended: write its row, or overwrite it. `counted`: phases that are known for good
    /// now; `spoke_after`: it has spoken for the first time, so long after it was asked for.
    WorkerStart {
        start: StoredStart,
        counted: Vec<(StartPoint, Duration)>,
        spoke_after: Option<Duration>,
    },
    /// A worker that was not heard of since a restart is gone.
    WorkerStartEnded {
        worker: WorkerId,
        at: Timestamp,
        reason: String,
    },
    /// What is known of a function's starts in a pool.
    StartsLearned(StoredStarts),
    /// What is known of a function's tasks.
    TimingLearned(StoredTiming),
    /// Chunk numbers below this may have been used.
    ChunkNumbers {
        next: u64,
    },
}

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payer {
    Job(JobId),
    Project { project: Name, period: Period, month: Month },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Canceled,
}

impl JobState {
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Canceled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Waits for other steps.
    Blocked,
    Ready,
    Running,
    Succeeded,
    Failed,
    /// The job was canceled, or a step before this one failed.
    Canceled,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    HandedBack,
    Canceled,
    LicenseWait,
    /// Its worker is gone or silent; how, in words.
    Lost {
        how: String,
    },
}

/// Tasks of a step; `waiting` is the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub total: u32,
    /// Offered to or held by workers.
    pub open: u32,
    pub done: u32,
    pub failed: u32,
}
