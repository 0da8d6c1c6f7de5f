//! Why a job's tasks wait, in words.

use super::{Farm, Job, Step};
use crate::change::{JobState, StepState};
use framewake_proto::ids::JobId;
use framewake_proto::time::Timestamp;

/// Most places named.
const PLACES_TOLD_MAX: usize = 3;

impl Farm {
    /// One list of sentences a step; empty where nothing waits. `None` for a job that is over or unknown.
    pub fn explain(&self, now: Timestamp, id: JobId) -> Option<Vec<Vec<String>>> {
        let job = self.jobs.get(&id)?;
        Some(job.steps.iter().enumerate().map(|(at, step)| self.explain_step(now, id, job, at, step)).collect())
    }

    fn explain_step(&self, now: Timestamp, id: JobId, job: &Job, at: usize, step: &Step) -> Vec<String> {
        let mut reasons = Vec::new();
        let waiting = step.left() - step.open;
        if waiting == 0 && step.open == 0 {
            return reasons;
        }
        reasons.extend(self.explain_budget(now, id, at));
        if job.state == JobState::Paused && !self.is_held_by_budget(now, id, at) {
            reasons.push("held: the job is paused; `framewake resume` lets it go on".to_owned());
        }
        if step.state == StepState::Blocked {
            let before = step.after.iter().filter(|before| job.steps[**before].state != StepState::Succeeded);
            let before: Vec<String> = before.map(|before| (before + 1).to_string()).collect();
            reasons.push(format!("dependency: step number {} is not done yet", before.join(", ")));
            return reasons;
        }
        if let Some(until) = step.hold.filter(|until| *until > now) {
            reasons.push(format!("license: none was free; tried again in {} s", until.since(now).as_secs() + 1));
        }
        reasons.extend(self.misfit_reason(id, at));
        let backing_off = self.chunks.values().filter(|chunk| {
            chunk.job == id && chunk.step == at && matches!(chunk.state, crate::chunk::ChunkState::Waiting { .. })
        });
        let backing_off: u32 = backing_off.map(|chunk| chunk.tasks.len()).sum();
        if backing_off > 0 {
            reasons.push(format!("retry: {backing_off} tasks failed and wait before they are tried again"));
        }
        reasons.extend(self.places_aside().take(PLACES_TOLD_MAX));
        let function = &self.functions[step.function];
        let workers = function.workers;
        if function.starts.failures > 0 {
            reasons.push(format!(
                "no worker of `{}` starts: {} in a row failed, the last because: {}",
                function.key, function.starts.failures, function.starts.reason
            ));
        } else if workers.present == 0 && workers.starting > 0 {
            reasons.push(format!("worker starting: {} of `{}`", workers.starting, function.key));
        } else if workers.present == 0 && function.rules.workers_max == 0 {
            reasons.push(format!("no function: `{}` is not registered any more", function.key));
        } else if workers.present == 0 && self.settings.slots < function.rules.slots {
            reasons.push(format!(
                "no pool fits: a worker of `{}` takes {} slots and there are {}",
                function.key, function.rules.slots, self.settings.slots
            ));
        } else if let (true, Some(reason)) = (workers.present == 0, self.gpu_reason(step.function)) {
            reasons.push(reason);
        } else if workers.present == 0 {
            reasons.push(format!("no capacity yet: all {} slots are taken by other functions", self.settings.slots));
        } else if waiting > backing_off {
            let limit = function.rules.workers_max;
            let busy = workers.present - u32::try_from(function.idle.len()).unwrap_or(0);
            if busy >= limit {
                reasons.push(format!("limit: all {limit} workers that `{}` may have are busy", function.key));
            } else if function.queue.projects_waiting() > 1 {
                reasons.push("share: other projects wait too, and each gets workers by its weight".to_owned());
            } else {
                reasons.push(format!("capacity: {busy} workers of `{}` are busy with what comes first", function.key));
            }
        }
        reasons
    }
}
