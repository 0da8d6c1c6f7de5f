//! Outputs as workers report them: of each task only the one that its job names counts. What lies elsewhere in the store may be of
//! another project, and whoever may see the job would be sent it.

use super::{Engine, Error};
use framewake_core::event::{Event, GpuWord, TaskFailure, TaskResult};
use framewake_proto::ids::JobId;
use framewake_proto::job::Job;
use framewake_proto::objects::job_prefix;
use framewake_proto::verdict::Verdict;
use std::sync::Arc;
use tracing::warn;

impl Engine {
    /// The report, in which a task whose output is another's has failed.
    pub(super) async fn own_outputs(&mut self, event: Event) -> Result<Event, Error> {
        let Event::AttemptReported { worker, attempt, mut report } = event else { return Ok(event) };
        // Nothing counts of an attempt that is not open.
        if report.done.iter().any(|done| !done.key.is_empty())
            && let Some((id, step)) = self.farm.attempt_place(attempt)
            && let Some(job) = self.job(id).await?
        {
            let (own, others) = report.done.into_iter().partition(|done| is_own(&job, id, step, done));
            report.done = own;
            for TaskResult { task, moments, .. } in others {
                warn!(worker.id = %worker, job.id = %id, "worker {worker} says of a task of job {id} that its output is elsewhere");
                report.failed.push(TaskFailure {
                    task,
                    verdict: Verdict::OutputBad,
                    message: "the worker names another output than the job does".to_owned(),
                    evidence: String::new(),
                    gpu: GpuWord::Nothing,
                    moments,
                });
            }
        }
        Ok(Event::AttemptReported { worker, attempt, report })
    }

    /// One that is not over, or was a moment ago.
    pub(super) async fn job(&mut self, id: JobId) -> Result<Option<Arc<Job>>, Error> {
        if let Some(job) = self.jobs.get(id) {
            return Ok(Some(job.clone()));
        }
        Ok(self.store.jobs(&[id], &self.functions).await?.pop().map(|(_, job)| job))
    }
}

fn is_own(job: &Job, id: JobId, step: usize, done: &TaskResult) -> bool {
    let step = job.steps.get(step);
    let named = step.and_then(|step| Some(step.output.as_ref()?.name(step.frames.get(done.task)?)));
    done.key.is_empty() || named.is_some_and(|name| done.key == format!("{}{name}", job_prefix(&job.project, id)))
}
