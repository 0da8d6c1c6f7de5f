//! What must be done in the world once the changes are durable. Each may be done twice without harm.

use crate::change::JobState;
use crate::event::RequestId;
use crate::values::Place;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::tasks::TaskSet;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    PublishOrder {
        attempt: AttemptId,
        function: FunctionKey,
        job: JobId,
        step: usize,
    },
    /// Answer a claim.
    AnswerClaim {
        request: RequestId,
        answer: ClaimAnswer,
    },
    /// Answer a heartbeat with the state that should be.
    AnswerHeartbeat {
        request: RequestId,
        control: Control,
    },
    /// The same, pushed at once.
    PushControl {
        worker: WorkerId,
        control: Control,
    },
    StartWorker {
        worker: WorkerId,
        function: FunctionKey,
        pool: Name,
        /// The GPUs that it gets, where the provider gives them out.
        gpus: Vec<Place>,
        /// How long it waits for work before it leaves.
        linger: Duration,
    },
    /// End a worker that never spoke: it hangs at its start, and renders nothing.
    StopWorker {
        worker: WorkerId,
    },
    /// Move the attempt's live log to the store.
    ArchiveLog {
        job: JobId,
        attempt: AttemptId,
        /// Who wrote it.
        worker: WorkerId,
    },
    /// Orders of this job that are still on the stream are of no use: a courtesy, for claims are refused anyway.
    PurgeOrders {
        job: JobId,
    },
    AnnounceJobOver {
        job: JobId,
        state: JobState,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimAnswer {
    Granted {
        job: JobId,
        step: usize,
        tasks: TaskSet,
    },
    /// Why not; the worker drops the order.
    Refused {
        reason: &'static str,
    },
}

/// What a worker should do about the attempt it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Control {
    pub attempt: Option<AttemptId>,
    /// Stop it, and why.
    pub stop: Option<&'static str>,
    /// Give back unbegun tasks from the end until at most this many are left.
    pub keep_tasks: Option<u32>,
    /// Leave when idle.
    pub drain: bool,
    /// Do not leave, however long there is no work.
    pub stay: bool,
}
