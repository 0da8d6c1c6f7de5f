//! What each function has to do and who is there to do it, for those who watch the farm.

use super::Farm;
use framewake_proto::ids::{FunctionKey, JobId};
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// First ones in line that are asked how long they have waited: a farm of a million projects must not stand still
/// to be watched.
const HEADS_MAX: usize = 10_000;
/// Offered chunks that are asked the same; those with the lowest numbers have waited longest.
const OFFERED_MAX: usize = 1000;

/// One version of a function at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionLoad<'a> {
    pub function: &'a FunctionKey,
    pub wanted: u32,
    pub starting: u32,
    pub idle: u32,
    pub busy: u32,
    pub draining: u32,
    /// Starts in a row that failed.
    pub starts_failed: u32,
    /// Tasks that may run and that no worker holds.
    pub tasks_waiting: u64,
    pub chunks_offered: usize,
    pub chunks_held: usize,
    /// How long the first in line has waited; of all that are first of their project and priority, the longest.
    pub oldest_waiting: Duration,
}

impl Farm {
    pub fn loads(&self, now: Timestamp) -> impl Iterator<Item = FunctionLoad<'_>> {
        self.functions.iter().map(move |function| {
            let held: u64 = function.leased.iter().map(|(left, _)| u64::from(*left)).sum();
            let heads = function.queue.heads().take(HEADS_MAX).map(|rank| (rank.job, rank.step));
            let offered = function.offered.iter().take(OFFERED_MAX).filter_map(|id| self.chunks.get(id));
            let waiting = heads.chain(offered.map(|chunk| (chunk.job, chunk.step)));
            let since = waiting.filter_map(|(job, step)| self.ready_at(job, step)).min();
            let idle = u32::try_from(function.idle.len()).unwrap_or(u32::MAX);
            FunctionLoad {
                function: &function.key,
                wanted: function.wanted,
                starting: function.workers.starting,
                idle,
                busy: function.workers.present.saturating_sub(idle),
                draining: function.workers.draining,
                starts_failed: function.starts_failed(),
                tasks_waiting: function.tasks.saturating_sub(held),
                chunks_offered: function.offered.len(),
                chunks_held: function.leased.len(),
                oldest_waiting: since.map_or(Duration::ZERO, |since| now.since(since)),
            }
        })
    }

    /// Since when the tasks of a step may be given out; `None` for a job that is over.
    pub fn ready_at(&self, job: JobId, step: usize) -> Option<Timestamp> {
        self.step(job, step).map(|step| step.ready_at)
    }
}
