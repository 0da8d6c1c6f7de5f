//! What a cluster was asked, and what of it should never have been asked.

use super::api::Call;
use super::nodes::is_over;
use framewake_functions::kubernetes::rights::{self, Right};
use serde_json::Value;
use std::collections::BTreeSet;

/// Of everything that was asked since the cluster is there.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) calls: Vec<Call>,
    /// Most Jobs whose worker was not over, at any time.
    pub(super) peak_jobs: usize,
    /// Most that are allowed.
    pub(super) jobs_max: Option<usize>,
    /// Workers of which the test says that they never spoke, so that they may be ended.
    pub(super) silent: BTreeSet<String>,
    pub(super) faults: Vec<String>,
}

impl Books {
    pub(super) fn heard(&mut self, call: &Call) {
        if !is_allowed(call) {
            self.faults.push(format!("`{} {}` is not in the Role", call.verb, call.resource));
        }
        self.calls.push(call.clone());
    }

    /// A Job is about to be deleted, in whose namespace are these pods.
    pub(super) fn deleting(&mut self, call: &Call, pods: &[Value]) {
        let runs = |pod: &&Value| {
            pod["metadata"]["labels"]["framewake/worker"] == call.name && pod["status"]["phase"] == "Running"
        };
        if pods.iter().any(|pod| runs(&pod)) && !self.silent.contains(&call.name) {
            self.faults.push(format!("{} was deleted while it rendered", call.name));
        }
    }

    /// A Job was made: now there are these.
    pub(super) fn created(&mut self, jobs: &[Value], pods: &[Value]) {
        let open = jobs.iter().filter(|job| is_open(job, pods)).count();
        self.peak_jobs = self.peak_jobs.max(open);
        if let Some(max) = self.jobs_max.filter(|max| open > *max) {
            self.faults.push(format!("{open} workers at once, and {max} are allowed"));
        }
    }
}

/// Whether a Job of ours has a worker that is not over.
fn is_open(job: &Value, pods: &[Value]) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let finished = |condition: &Value| {
        (condition["type"] == "Complete" || condition["type"] == "Failed") && condition["status"] == "True"
    };
    let worker = &job["metadata"]["labels"]["framewake/worker"];
    let over = |pod: &&Value| pod["metadata"]["labels"]["framewake/worker"] == *worker && is_over(pod);
    !worker.is_null() && !conditions.into_iter().flatten().any(finished) && !pods.iter().any(|pod| over(&pod))
}

fn is_allowed(call: &Call) -> bool {
    let resource = |right: &Right| match right.group {
        "" => right.resource.to_owned(),
        group => format!("{}.{group}", right.resource),
    };
    let mut all = rights::WORKERS.iter().chain(rights::LEASE);
    all.any(|right| resource(right) == call.resource && right.verbs.contains(&call.verb))
}
