//! The object store: a put takes effect if nothing is there.

use crate::bits::Bits;
use framewake_proto::ids::JobId;
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Objects {
    steps: HashMap<(JobId, usize), Bits>,
    pub(crate) count: u64,
    /// Puts that found something.
    pub(crate) refused: u64,
}

impl Objects {
    pub(crate) fn has(&self, job: JobId, step: usize, task: u32) -> bool {
        self.steps.get(&(job, step)).is_some_and(|bits| bits.has(u64::from(task)))
    }

    /// Whether it took effect.
    pub(crate) fn put(&mut self, job: JobId, step: usize, task: u32) -> bool {
        let fresh = self.steps.entry((job, step)).or_default().insert(u64::from(task));
        self.count += u64::from(fresh);
        self.refused += u64::from(!fresh);
        fresh
    }
}
