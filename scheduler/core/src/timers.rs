//! What is to be looked at again, and when.

use crate::values::Place;
use framewake_proto::ids::{ChunkId, JobId, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A chunk's wait, offer or lease may be over.
    Chunk(ChunkId),
    /// A worker may have been silent for too long.
    Worker(WorkerId),
    /// The workers of the function with this index are to be looked at again.
    Start(usize),
    /// What there was to tell of how a worker came has been told.
    Came(WorkerId),
    /// The end of a worker that is gone should have been told.
    Unended(WorkerId),
    /// The hold of a step may be over.
    Step(JobId, usize),
    /// A place's time aside may be over.
    Place(Place),
    /// A month begins, and with it what projects may pay in it.
    Month,
}

/// Timers are never moved: one that comes too early looks at the thing itself and is set anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.set.insert((at, timer));
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }
}
