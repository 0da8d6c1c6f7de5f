//! Why a job's tasks wait, in words.

use super::{Farm, Job, PassedOver, Step, WhyNot, WorkerState};
use crate::change::{JobState, StepState};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;

/// Most places named.
const PLACES_TOLD_MAX: usize = 3;
/// Most starting workers named.
const WAITS_TOLD_MAX: usize = 3;

/// For whom it is explained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listener {
    /// The names of the job's steps, which the farm does not keep; a step without one is told by its number.
    pub steps: Vec<Name>,
    /// Who may see one project alone does not hear what became of others' tasks.
    pub own_alone: bool,
}

impl Listener {
    fn name(&self, step: usize) -> String {
        self.steps.get(step).map_or_else(|| format!("number {}", step + 1), |name| format!("`{name}`"))
    }
}

impl Farm {
    /// One list of sentences a step; empty where nothing waits. `None` for a job that is over or unknown.
    pub fn explain(&self, now: Timestamp, id: JobId, to: &Listener) -> Option<Vec<Vec<String>>> {
        let job = self.jobs.get(&id)?;
        Some(job.steps.iter().enumerate().map(|(at, step)| self.explain_step(now, id, job, at, step, to)).collect())
    }

    fn explain_step(&self, now: Timestamp, id: JobId, job: &Job, at: usize, step: &Step, to: &Listener) -> Vec<String> {
        let mut reasons = Vec::new();
        let waiting = step.left() - step.open;
        if waiting == 0 && step.open == 0 {
            return reasons;
        }
        reasons.extend(self.explain_budget(now, id, at));
        if step.may_run() {
            reasons.extend(self.explain_deadline(now, id, step));
        }
        if job.state == JobState::Paused && !self.is_held_by_budget(now, id, at) {
            reasons.push("held: the job is paused; `framewake resume` lets it go on".to_owned());
        }
        if step.state == StepState::Blocked {
            let before = step.after.iter().filter(|before| job.steps[**before].state != StepState::Succeeded);
            let before: Vec<String> = before.map(|before| to.name(*before)).collect();
            let (word, verb) = if before.len() == 1 { ("step", "is") } else { ("steps", "are") };
            reasons.push(format!("dependency: {word} {} {verb} not done yet", before.join(", ")));
            return reasons;
        }
        // It would wait however many workers there were.
        if job.state == JobState::Paused || self.is_kept_by_budget(now, id, at) {
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
        reasons.extend(self.places_aside(to).take(PLACES_TOLD_MAX));
        let function = &self.functions[step.function];
        let workers = function.workers;
        if function.starts_failed() > 0 {
            reasons.extend(self.explain_pools(now, step.function));
        } else if workers.present == 0 && workers.starting > 0 {
            reasons.push(format!("worker starting: {} of `{}`", workers.starting, function.key));
            reasons.extend(self.explain_waits(step.function).take(WAITS_TOLD_MAX));
        } else if workers.present == 0 && function.rules.workers_max == 0 {
            reasons.push(format!("no function: `{}` is not registered any more", function.key));
        } else if workers.present == 0 {
            reasons.extend(self.explain_pools(now, step.function));
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

    /// How far the starting workers of a function came, and why they are not there yet.
    fn explain_waits(&self, at: usize) -> impl Iterator<Item = String> {
        let starting = self.workers.iter().filter(move |(_, worker)| {
            worker.function == at && worker.state == WorkerState::Starting && !worker.waits.is_empty()
        });
        starting.map(|(id, worker)| {
            let came = worker.timeline.last().filter(|point| *point > StartPoint::Asked);
            let came = came.map_or(String::new(), |point| format!(" ({})", point.describe()));
            format!("worker {id} waits{came}: {}", worker.waits)
        })
    }

    /// What keeps the pools from giving the function a worker.
    fn explain_pools(&self, now: Timestamp, at: usize) -> Vec<String> {
        let function = &self.functions[at];
        let key = &function.key;
        if function.rules.scaling.external {
            let needed = function.needed;
            return vec![format!(
                "no worker yet: those of `{key}` are started by others (scaling.external), and {needed} are needed"
            )];
        }
        if self.pools.is_empty() {
            return vec![format!("no capacity yet: there are no pools for `{key}`")];
        }
        let any_fits = self.fit_pools(at).next().is_some();
        let told = self.passed_over(now, at).into_iter().filter_map(|PassedOver { pool, why, reason }| match why {
            WhyNot::Unfit if any_fits => None,
            WhyNot::Useless => Some(format!("pool {pool} is of no use for what waits: {reason}")),
            WhyNot::Unfit | WhyNot::TooSmall => Some(format!("no pool fits `{key}`: {pool}: {reason}")),
            WhyNot::Failing => Some(format!("no worker of `{key}` starts in pool {pool}: {reason}")),
            WhyNot::Away | WhyNot::Full | WhyNot::Pausing | WhyNot::Gpus => {
                Some(format!("no capacity yet in pool {pool}: {reason}"))
            }
        });
        told.collect()
    }
}
