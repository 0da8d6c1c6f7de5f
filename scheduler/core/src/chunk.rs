//! A chunk: tasks of one step leased together to one worker.

use crate::values::{Loss, Place, StoredChunk, StoredChunkState};
use framewake_proto::ids::{AttemptId, ChunkId, JobId, WorkerId};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) job: JobId,
    pub(crate) step: usize,
    /// Neither done nor failed.
    pub(crate) tasks: TaskSet,
    /// The newest attempt's number; 0 before the first.
    pub(crate) attempt: u32,
    /// Attempts spent by failures of the task.
    pub(crate) spent: u32,
    /// Workers lost while they held it.
    pub(crate) losses: u32,
    /// The last of these losses: the evidence of a quarantine.
    pub(crate) lost: Vec<Loss>,
    /// Where attempts were spent that a machine may be to blame for. Not stored: after a restart they stay spent.
    pub(crate) blamed: Vec<Vec<Place>>,
    /// The store has a row of it.
    pub(crate) has_row: bool,
    pub(crate) state: ChunkState,
}

#[derive(Debug, Clone)]
pub(crate) enum ChunkState {
    /// To be tried again, not before `until`.
    Waiting {
        until: Timestamp,
        avoid: Option<WorkerId>,
    },
    /// May be offered.
    Ready {
        avoid: Option<WorkerId>,
    },
    /// Its order is published.
    Offered {
        until: Timestamp,
        avoid: Option<WorkerId>,
    },
    Leased(Lease),
}

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    /// The worker was asked to keep at most this many tasks.
    pub(crate) keep: Option<u32>,
    pub(crate) done: u32,
    pub(crate) failed: u32,
}

impl Lease {
    /// Its renderer has the scene open: a task was told of.
    pub(crate) fn has_begun(&self) -> bool {
        self.done + self.failed > 0
    }
}

/// What a chunk hands on to one that is made of its tasks.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) spent: u32,
    pub(crate) losses: u32,
    pub(crate) lost: Vec<Loss>,
    pub(crate) blamed: Vec<Vec<Place>>,
}

impl Chunk {
    /// One without a history.
    pub(crate) fn new(id: ChunkId, job: JobId, step: usize, tasks: TaskSet, state: ChunkState) -> Chunk {
        let (lost, blamed) = (Vec::new(), Vec::new());
        Chunk { id, job, step, tasks, attempt: 0, spent: 0, losses: 0, lost, blamed, has_row: false, state }
    }

    pub(crate) fn attempt_id(&self) -> AttemptId {
        AttemptId { chunk: self.id, number: self.attempt }
    }

    pub(crate) fn history(&self) -> History {
        let Chunk { spent, losses, lost, blamed, .. } = self;
        History { spent: *spent, losses: *losses, lost: lost.clone(), blamed: blamed.clone() }
    }

    /// Whether something is known of it that its tasks alone don't tell.
    pub(crate) fn has_history(&self) -> bool {
        self.spent > 0 || self.losses > 0
    }

    /// Tasks its holder will have left once it has done what it was asked.
    pub(crate) fn left(&self) -> u32 {
        match &self.state {
            ChunkState::Leased(Lease { keep: Some(keep), .. }) => (*keep).min(self.tasks.len()),
            ChunkState::Leased(_)
            | ChunkState::Waiting { .. }
            | ChunkState::Ready { .. }
            | ChunkState::Offered { .. } => self.tasks.len(),
        }
    }

    /// The chunk's row, as it must be written now.
    pub(crate) fn store(&mut self, now: Timestamp) -> StoredChunk {
        self.has_row = true;
        let state = match &self.state {
            ChunkState::Waiting { until, avoid } => StoredChunkState::Waiting { until: *until, avoid: avoid.clone() },
            ChunkState::Ready { avoid } | ChunkState::Offered { avoid, .. } => {
                StoredChunkState::Waiting { until: now, avoid: avoid.clone() }
            }
            ChunkState::Leased(lease) => StoredChunkState::Leased {
                worker: lease.worker.clone(),
                since: lease.since,
                done: lease.done,
                failed: lease.failed,
            },
        };
        StoredChunk {
            id: self.id,
            job: self.job,
            step: self.step,
            tasks: self.tasks.clone(),
            attempt: self.attempt,
            spent: self.spent,
            losses: self.losses,
            lost: self.lost.clone(),
            state,
        }
    }
}
