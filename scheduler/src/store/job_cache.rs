//! Jobs that are not over, as they were accepted: those used last, because a million of them are too many to keep.

use framewake_proto::ids::JobId;
use framewake_proto::job::Job;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most that jobs weigh together; one weighs about its size in kilobytes.
const WEIGHT_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct JobCache {
    jobs: HashMap<JobId, Kept>,
    /// From the one that was not used for the longest time.
    by_use: BTreeMap<u64, JobId>,
    uses: u64,
    weight: usize,
}

#[derive(Debug)]
struct Kept {
    job: Arc<Job>,
    used: u64,
    weight: usize,
}

impl JobCache {
    pub(crate) fn get(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id).map(|kept| &kept.job)
    }

    pub(crate) fn insert(&mut self, id: JobId, job: Arc<Job>) {
        self.remove(id);
        self.uses += 1;
        let weight = weight(&job);
        self.weight += weight;
        self.by_use.insert(self.uses, id);
        self.jobs.insert(id, Kept { job, used: self.uses, weight });
    }

    pub(crate) fn remove(&mut self, id: JobId) {
        if let Some(kept) = self.jobs.remove(&id) {
            self.by_use.remove(&kept.used);
            self.weight -= kept.weight;
        }
    }

    /// Notes that the job is needed now; false when it must be read from the store.
    pub(crate) fn touch(&mut self, id: JobId) -> bool {
        let Some(kept) = self.jobs.get_mut(&id) else { return false };
        self.uses += 1;
        self.by_use.remove(&kept.used);
        kept.used = self.uses;
        self.by_use.insert(self.uses, id);
        true
    }

    /// Lets go of those that were not used for the longest time, down to the bound.
    pub(crate) fn trim(&mut self) {
        while self.weight > WEIGHT_MAX
            && let Some((_, id)) = self.by_use.first_key_value()
        {
            self.remove(*id);
        }
    }
}

fn weight(job: &Job) -> usize {
    let parts = job.steps.iter().map(|step| 1 + (step.inputs.len() + step.parameters.len()) / 4);
    1 + parts.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function_table::{Accepted, FunctionTable};
    use framewake_proto::job::JobSpec;
    use serde_json::json;

    #[test]
    fn the_jobs_used_last_are_kept() {
        let mut functions = FunctionTable::default();
        let spec = json!({ "name": "any", "driver": { "kind": "command", "command": ["true"] } });
        functions.insert("any@1".parse().expect("a key"), serde_json::from_value(spec).expect("a good function"));
        let spec = json!({ "name": "a job", "steps": [{ "name": "render", "function": "any@1", "frames": "1" }] });
        let spec: JobSpec = serde_json::from_value(spec).expect("a job");
        let job = Arc::new(spec.check(&Accepted(&functions)).expect("a good job"));
        let mut cache = JobCache::default();
        let id = |number: usize| JobId((number as u128).into());
        let count = WEIGHT_MAX;
        for number in 0..count {
            cache.insert(id(number), job.clone());
            assert!(cache.touch(id(0)));
            cache.trim();
        }
        assert!(cache.get(id(0)).is_some() && cache.get(id(count - 1)).is_some());
        assert!(!cache.touch(id(1)));
        assert!(cache.weight <= WEIGHT_MAX && cache.jobs.len() == cache.by_use.len());
        for number in 0..count {
            cache.remove(id(number));
        }
        assert_eq!((cache.weight, cache.jobs.len(), cache.by_use.len()), (0, 0, 0));
    }
}
