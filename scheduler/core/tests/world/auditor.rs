//! Watches what is made durable and what is done, and says which invariant is broken.

use super::{Holders, SLOTS, Seen};
use framewake_core::change::{Change, JobState, Outcome};
use framewake_core::effect::Effect;
use framewake_core::event::Event;
use framewake_core::values::NewJob;
use framewake_proto::ids::{AttemptId, ChunkId, JobId, WorkerId};
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// A single task survives this many lost workers (the rules say six).
const LOSSES_FORGIVEN: u32 = 5;

#[derive(Debug, Default)]
pub(crate) struct Auditor {
    jobs: BTreeMap<JobId, NewJob>,
    states: BTreeMap<JobId, JobState>,
    done: Seen,
    failed: Seen,
    holders: Holders,
    newest: BTreeMap<ChunkId, u32>,
    newest_start: Option<(WorkerId, AttemptId)>,
    announced: BTreeMap<JobId, u32>,
    /// Attempts spent and workers lost, by task.
    spent: BTreeMap<(JobId, usize, u32), u32>,
    losses: u32,
    /// Open tasks of each step, as last written.
    open: BTreeMap<(JobId, usize), u32>,
    stale: bool,
    planted_stale: bool,
    broken: Option<String>,
}

impl Auditor {
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(crate) fn submitted(&mut self, id: JobId, job: &NewJob) {
        self.jobs.insert(id, job.clone());
    }

    pub(crate) fn holder_of(&self, chunk: ChunkId) -> Option<(WorkerId, AttemptId)> {
        self.holders.get(&chunk).cloned()
    }

    pub(crate) fn newest_start(&mut self) -> Option<(WorkerId, AttemptId)> {
        self.newest_start.take()
    }

    /// The report that comes next is stale, whatever it says of itself.
    pub(crate) fn expect_stale(&mut self) {
        self.planted_stale = true;
    }

    pub(crate) fn before(&mut self, event: &Event) {
        self.stale = std::mem::take(&mut self.planted_stale);
        if let Event::AttemptReported { worker, attempt, .. } = event {
            let known = self.holders.get(&attempt.chunk);
            self.stale |= !known.is_some_and(|(holder, newest)| holder == worker && newest == attempt);
        }
    }

    pub(crate) fn changed(&mut self, event: &Event, change: &Change) {
        if self.stale
            && matches!(event, Event::AttemptReported { .. })
            && matches!(change, Change::TaskDone { .. } | Change::TaskFailed { .. } | Change::AttemptEnded { .. })
        {
            self.fail(format!("a stale report counted: {change:?}"));
        }
        match change {
            Change::TaskDone { job, step, result, .. } => {
                if !self.done.insert((*job, *step, result.task)) {
                    self.fail(format!("task {} of {job} was done twice", result.task));
                }
                self.check_task(*job, *step, result.task);
            }
            Change::TaskFailed { job, step, failure, for_good, .. } => {
                let task = (*job, *step, failure.task);
                let spends = !matches!(failure.verdict, Verdict::Preempted | Verdict::LicenseWait | Verdict::Canceled);
                *self.spent.entry(task).or_default() += u32::from(spends);
                if *for_good {
                    let spent = self.spent[&task] >= self.jobs[job].steps[*step].retries.attempts;
                    let excused = failure.verdict == Verdict::SceneError
                        || (failure.verdict == Verdict::Quarantined && self.losses > LOSSES_FORGIVEN);
                    if !spent && !excused {
                        self.fail(format!("a task failed before its attempts were spent: {change:?}"));
                    }
                    if !self.failed.insert(task) {
                        self.fail(format!("task {} of {job} failed twice for good", failure.task));
                    }
                    self.check_task(*job, *step, failure.task);
                }
            }
            Change::AttemptStarted { attempt, worker, job, .. } => {
                let newest = self.newest.entry(attempt.chunk).or_default();
                if attempt.number <= *newest {
                    let text = format!("attempt numbers must rise: {attempt} after {newest}");
                    self.fail(text);
                } else {
                    *newest = attempt.number;
                }
                if self.states.get(job).is_some_and(|state| state.is_over()) {
                    self.fail(format!("attempt {attempt} began after its job was over"));
                }
                if self.holders.insert(attempt.chunk, (worker.clone(), *attempt)).is_some() {
                    self.fail(format!("chunk {} was given to two workers", attempt.chunk));
                }
                self.newest_start = Some((worker.clone(), *attempt));
            }
            Change::AttemptEnded { attempt, outcome, .. } => {
                self.holders.remove(&attempt.chunk);
                self.losses += u32::from(matches!(outcome, Outcome::Lost { .. }));
            }
            Change::JobState { id, state, .. } => {
                if state.is_over()
                    && let Some(open) = self.open.iter().find(|((job, _), open)| job == id && **open > 0)
                {
                    let text = format!("job {id} is over and its counts say that tasks are open: {open:?}");
                    self.fail(text);
                }
                if let Some(before) = self.states.insert(*id, *state)
                    && before.is_over()
                {
                    self.fail(format!("job {id} was {before:?} and became {state:?}"));
                }
            }
            Change::StepCounts { job, step, counts } => {
                self.open.insert((*job, *step), counts.open);
                let of_step = |seen: &Seen| seen.range((*job, *step, 0)..=(*job, *step, u32::MAX)).count();
                let (done, failed) = (of_step(&self.done), of_step(&self.failed));
                if counts.done as usize != done || counts.failed as usize != failed {
                    self.fail(format!("counts of {job} say {counts:?}, the book {done} done and {failed} failed"));
                }
                if counts.done + counts.failed + counts.open > counts.total {
                    self.fail(format!("counts of {job} exceed the total: {counts:?}"));
                }
            }
            Change::JobAdded { .. }
            | Change::JobPriority { .. }
            | Change::ProjectWeight { .. }
            | Change::StepState { .. }
            | Change::StepTiming { .. }
            | Change::TasksReset { .. }
            | Change::ChunkStored(_)
            | Change::ChunkClosed { .. }
            | Change::PlaceStored(_)
            | Change::PlaceForgotten { .. }
            | Change::ChunkNumbers { .. } => {}
        }
    }

    fn check_task(&mut self, job: JobId, step: usize, task: u32) {
        let both = self.done.contains(&(job, step, task)) && self.failed.contains(&(job, step, task));
        if both || task >= self.jobs[&job].steps[step].tasks {
            self.fail(format!("task {task} of {job} is done and failed, or does not exist"));
        }
    }

    pub(crate) fn performed(&mut self, effect: &Effect) {
        match effect {
            Effect::PublishOrder { job, attempt, .. } if self.states.get(job).is_some_and(|state| state.is_over()) => {
                self.fail(format!("order {attempt} was published for a job that is over"));
            }
            Effect::AnnounceJobOver { job, .. } => {
                let times = self.announced.entry(*job).or_default();
                *times += 1;
                if *times > 1 || !self.states.get(job).is_some_and(|state| state.is_over()) {
                    self.fail(format!("job {job} was announced over too early or twice"));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn check_workers(&mut self, slots_taken: u32) {
        if slots_taken > SLOTS {
            self.fail(format!("workers take {slots_taken} slots of {SLOTS}"));
        }
    }

    /// Everything is over: each task of a job that was not canceled is done or failed, or stands behind one that failed.
    pub(crate) fn check_end(&mut self) {
        let mut missing = BTreeSet::new();
        for (id, job) in &self.jobs {
            let state = self.states.get(id).copied();
            if state == Some(JobState::Canceled) {
                continue;
            }
            let mut blocked = false;
            for (at, step) in job.steps.iter().enumerate() {
                let failed = (0..step.tasks).any(|task| self.failed.contains(&(*id, at, task)));
                let all = (0..step.tasks)
                    .all(|task| self.done.contains(&(*id, at, task)) || self.failed.contains(&(*id, at, task)));
                if !all && !blocked {
                    missing.insert((*id, at));
                }
                blocked |= failed;
            }
            if (state == Some(JobState::Succeeded)) == blocked {
                self.broken.get_or_insert(format!("job {id} ended {state:?} although a task failed: {blocked}"));
            }
            if self.announced.get(id) != Some(&1) {
                self.broken.get_or_insert(format!("the end of job {id} was not announced once"));
            }
        }
        if !missing.is_empty() {
            self.fail(format!("tasks were lost in {missing:?}"));
        }
        if !self.holders.is_empty() {
            self.fail(format!("chunks are still held: {:?}", self.holders));
        }
    }
}
