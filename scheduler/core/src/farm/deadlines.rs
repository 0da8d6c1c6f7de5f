//! Deadlines of jobs: how many workers it takes to meet them, and which can't be met.

use super::{Farm, Step, WorkerState};
use crate::change::JobState;
use crate::chunk::ChunkState;
use crate::scale::deadline::{Due, Plan, plan};
use framewake_proto::ids::{JobId, WorkerId};
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// The most urgent jobs are planned for; later ones have time.
const DEADLINES_LOOKED_AT_MAX: usize = 256;
/// A plan looks at every worker of a function, and holds for so long.
const PLAN_FOR: Duration = Duration::from_secs(5);
/// Tasks may take longer than they should while nothing is heard: it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Workers that deadlines ask for, and when that was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Urgent {
    pub(super) workers: u32,
    until: Option<Timestamp>,
    /// When to look again, if nothing happens.
    pub(super) look_at: Option<Timestamp>,
}

impl Farm {
    pub(super) fn note_deadline(&mut self, id: JobId) {
        let Some(deadline) = self.jobs.get(&id).and_then(|job| job.deadline) else { return };
        self.deadlines.insert((deadline, id));
        self.plan_anew(id);
    }

    /// The job is over.
    pub(super) fn forget_deadline(&mut self, id: JobId) {
        let Some(deadline) = self.jobs.get(&id).and_then(|job| job.deadline) else { return };
        self.deadlines.remove(&(deadline, id));
        self.plan_anew(id);
    }

    fn plan_anew(&mut self, id: JobId) {
        for step in &self.jobs[&id].steps {
            self.functions[step.function].ahead.urgent.until = None;
            self.touched.insert(step.function);
        }
    }

    pub(super) fn look_at_deadlines(&mut self, now: Timestamp, at: usize) {
        let urgent = self.functions[at].ahead.urgent;
        if (self.deadlines.is_empty() && urgent.workers == 0) || urgent.until.is_some_and(|until| now < until) {
            return;
        }
        let dues = self.dues(now, at);
        let look_at = (!dues.is_empty()).then(|| now.after(LOOK_AGAIN));
        let most = self.functions[at].rules.workers_max.min(self.capacity(at));
        let planned = self.plan_deadlines(now, at, dues, most);
        let workers = planned.map_or(0, |(_, plan)| u32::try_from(plan.workers).unwrap_or(u32::MAX));
        self.functions[at].ahead.urgent = Urgent { workers, until: Some(now.after(PLAN_FOR)), look_at };
    }

    /// `None`: how long workers take to come is not known. With the jobs in the order of the plan.
    fn plan_deadlines(
        &self,
        now: Timestamp,
        at: usize,
        dues: Vec<(JobId, Due)>,
        most: u32,
    ) -> Option<(Vec<JobId>, Plan)> {
        let start_s = self.start_s(now, at)? + self.functions[at].timing.load_s.unwrap_or(0.0);
        let here = self.workers.iter().filter(|(_, worker)| worker.function == at);
        let free_s = here.filter_map(|(id, _)| self.free_s(now, id, start_s)).collect();
        let (jobs, dues): (Vec<JobId>, Vec<Due>) = dues.into_iter().unzip();
        Some((jobs, plan(dues.into_iter().enumerate().collect(), free_s, start_s, most.into())))
    }

    /// What is to be done by deadlines by this function, as far as it is known what it takes.
    fn dues(&self, now: Timestamp, at: usize) -> Vec<(JobId, Due)> {
        let jobs = self.deadlines.iter().take(DEADLINES_LOOKED_AT_MAX);
        let jobs = jobs.filter_map(|(deadline, id)| Some((*deadline, *id, self.jobs.get(id)?)));
        let dues = jobs.filter(|(.., job)| job.state != JobState::Paused).flat_map(|(deadline, id, job)| {
            let steps = job.steps.iter().filter(move |step| step.function == at && step.may_run() && step.left() > 0);
            steps.filter_map(move |step| Some((id, self.due(now, deadline, step)?)))
        });
        dues.collect()
    }

    fn due(&self, now: Timestamp, deadline: Timestamp, step: &Step) -> Option<Due> {
        let task_s = step.timing.task_s.or(self.usual_task_s(step.function))?;
        let left_s = (deadline.0 - now.0) as f64 / 1000.0;
        (task_s > 0.0).then_some(Due { left_s, tasks: step.left().into(), task_s })
    }

    /// In so many seconds the worker is free; less than 0: for so long it has been at a task that counts among those that
    /// have a deadline. `None`: it leaves.
    fn free_s(&self, now: Timestamp, id: &WorkerId, start_s: f64) -> Option<f64> {
        let worker = self.workers.get(id)?;
        let attempt = match worker.state {
            WorkerState::Idle => return Some(0.0),
            WorkerState::Starting => return Some((start_s - now.since(worker.since).as_secs_f64()).max(0.0)),
            WorkerState::Draining(_) => return None,
            WorkerState::Busy(attempt) => attempt,
        };
        let Some(chunk) = self.chunks.get(&attempt.chunk) else { return Some(0.0) };
        let ChunkState::Leased(lease) = &chunk.state else { return Some(0.0) };
        let Some(job) = self.jobs.get(&chunk.job) else { return Some(0.0) };
        let task_s = job.steps[chunk.step].timing.task_s.or(self.usual_task_s(worker.function)).unwrap_or(0.0);
        let begun_s =
            (now.since(lease.since).as_secs_f64() - f64::from(lease.done + lease.failed) * task_s).clamp(0.0, task_s);
        Some(if job.deadline.is_some() { -begun_s } else { task_s - begun_s })
    }

    /// Why the job won't be done by its deadline, if it won't.
    pub(super) fn explain_deadline(&self, now: Timestamp, id: JobId, step: &Step) -> Option<String> {
        let deadline = self.jobs.get(&id)?.deadline?;
        if deadline <= now {
            return Some(format!("deadline: {deadline} has passed"));
        }
        let at = step.function;
        let function = &self.functions[at];
        let most = function.rules.workers_max.min(self.capacity(at));
        let (jobs, within) = self.plan_deadlines(now, at, self.dues(now, at), most)?;
        let is_missed = |plan: &Plan| plan.missed.iter().any(|index| jobs[*index] == id);
        if !is_missed(&within) {
            return None;
        }
        let Due { left_s, tasks, task_s } = self.due(now, deadline, step)?;
        let (_, any) = self.plan_deadlines(now, at, self.dues(now, at), u32::MAX)?;
        let said = format!("deadline: {deadline} can't be met: {tasks} tasks of about {task_s:.0} s are left");
        if is_missed(&any) {
            let start_s = self.start_s(now, at)? + function.timing.load_s.unwrap_or(0.0);
            return Some(format!(
                "{said} for the next {left_s:.0} s, and a worker that is asked for now begins in {start_s:.0} s"
            ));
        }
        Some(format!("{said}, which takes {} workers of `{}`, and there may be {most}", any.workers, function.key))
    }
}
