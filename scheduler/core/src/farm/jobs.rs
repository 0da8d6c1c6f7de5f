//! Jobs come, wait for each other's steps, and are over.

use super::committed::Handed;
use super::{Applied, Farm, Job, Step, Weight};
use crate::budget::Book;
use crate::change::{Change, JobState, Outcome, StepState};
use crate::chunk::ChunkState;
use crate::effect::{Control, Effect};
use crate::values::{LogSize, NewJob, StoredJob, StoredStep, Timing, any_failed};
use framewake_proto::ids::{ChunkId, JobId, Name};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

impl Farm {
    pub(super) fn submit_job(&mut self, now: Timestamp, id: JobId, job: NewJob, out: &mut Applied) {
        if self.jobs.contains_key(&id) {
            return;
        }
        out.changes.push(Change::JobAdded { id, job: job.clone(), at: now });
        let steps = vec![StoredStep::default(); job.steps.len()];
        self.add_job(StoredJob { id, job, paused: false, restored: false, spent: Vec::new(), steps }, &BTreeMap::new());
        for at in 0..self.jobs[&id].steps.len() {
            self.keep_vram(id, at, out);
            self.unblock(now, id, at, out);
            self.touch(id, at);
        }
        // Before workers are asked for: a budget that can't be kept holds the job at once.
        for at in 0..self.jobs[&id].steps.len() {
            if self.jobs[&id].state != JobState::Paused && self.jobs[&id].steps[at].may_run() {
                self.room(now, id, at, out);
            }
        }
        self.withdraw_outranked(now, id);
    }

    /// Takes a job in memory. Tasks in `chunked` are in chunks and don't wait.
    fn add_job(&mut self, stored: StoredJob, chunked: &BTreeMap<(JobId, usize), TaskSet>) {
        let StoredJob { id, job: new, paused, restored, spent, steps: stored_steps } = stored;
        let project = self.project(&new.project);
        let mut steps = Vec::with_capacity(new.steps.len());
        for (at, (step, stored)) in new.steps.into_iter().zip(stored_steps).enumerate() {
            let mut waiting = TaskSet::from_run(0..step.tasks);
            let in_chunks = chunked.get(&(id, at)).cloned().unwrap_or_default();
            for gone in [&stored.done, &stored.failed, &in_chunks] {
                for run in gone.runs() {
                    waiting.remove_run(run.clone());
                }
            }
            // The rules of a function that was never added can't be known; the engine adds functions first.
            let function = self.function_index.get(&step.function).copied();
            let function = function.unwrap_or_else(|| {
                self.add_function(step.function.clone(), crate::values::FunctionRules::without_gpu(0, 1))
            });
            steps.push(Step {
                function,
                chunking: step.chunking,
                retries: step.retries,
                after: step.after,
                state: StepState::Blocked,
                // A restart knows no better.
                ready_at: submitted_at(id),
                total: step.tasks,
                done: stored.done.len(),
                open: 0,
                handed: Handed::default(),
                failed: stored.failed,
                weight: Weight::default(),
                longest_s: 0.0,
                waiting,
                again: BTreeSet::new(),
                timing: stored.timing,
                gpu_memory_bytes: step.gpu_memory_bytes,
                frame_limit: step.frame_limit,
                vram: step.vram.with(stored.vram),
                hold: None,
                license_waits: 0,
            });
        }
        let state = if paused { JobState::Paused } else { JobState::Queued };
        let (priority, deadline) = (new.priority, new.deadline);
        self.jobs.insert(id, Job { project, priority, state, restored, budget: None, deadline, steps });
        self.note_deadline(id);
        self.set_book(id, new.budget.map(|budget| Book::of_known_job(budget, &spent)));
    }

    /// A job from the store: its states follow from its tasks.
    pub(super) fn restore_job(&mut self, stored: StoredJob, chunked: &BTreeMap<(JobId, usize), TaskSet>) {
        let id = stored.id;
        self.add_job(stored, chunked);
        let begun = self.jobs[&id].steps.iter().any(|step| step.done > 0 || !step.failed.is_empty());
        let job = self.jobs.get_mut(&id).expect("just added");
        if begun && job.state == JobState::Queued {
            job.state = JobState::Running;
        }
        // What a restart finds already resolved was announced before; nothing is written again.
        let mut quiet = Applied::default();
        for at in 0..self.jobs[&id].steps.len() {
            let step = &mut self.jobs.get_mut(&id).expect("just added").steps[at];
            if step.left() == 0 {
                step.state = if step.failed.is_empty() { StepState::Succeeded } else { StepState::Failed };
            }
        }
        for at in 0..self.jobs[&id].steps.len() {
            self.unblock(Timestamp(0), id, at, &mut quiet);
        }
    }

    /// A blocked step whose predecessors are done becomes ready; one whose predecessor failed is canceled.
    fn unblock(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) {
        let steps = &self.jobs[&id].steps;
        if steps[at].state != StepState::Blocked {
            return;
        }
        let before = || steps[at].after.iter().map(|before| steps[*before].state);
        if before().any(|state| matches!(state, StepState::Failed | StepState::Canceled)) {
            self.set_step_state(now, id, at, StepState::Canceled, out);
            self.unblock_followers(now, id, at, out);
        } else if before().all(|state| state == StepState::Succeeded) {
            let state = if steps[at].done > 0 { StepState::Running } else { StepState::Ready };
            self.set_step_state(now, id, at, state, out);
            self.count_tasks(id, at, true);
            self.enqueue(now, id, at);
        }
    }

    fn unblock_followers(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) {
        for follower in 0..self.jobs[&id].steps.len() {
            if self.jobs[&id].steps[follower].after.contains(&at) {
                self.unblock(now, id, follower, out);
            }
        }
    }

    /// Adds what is left of a step to its function's demand, or takes it away. A paused job demands nothing, nor one whose
    /// project has no money.
    pub(super) fn count_tasks(&mut self, id: JobId, at: usize, add: bool) {
        if self.jobs[&id].state == JobState::Paused || self.is_held(self.jobs[&id].project) {
            return;
        }
        let step = &self.jobs[&id].steps[at];
        let left = u64::from(step.left());
        let tasks = &mut self.functions[step.function].tasks;
        *tasks = if add { *tasks + left } else { *tasks - left };
        self.touched.insert(step.function);
        if add {
            self.unweighed.insert((id, at));
        } else {
            self.set_weight(id, at, Weight::default());
        }
    }

    /// Looks whether the step, and with it the job, is over.
    pub(super) fn check_over(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) {
        let Some(step) = self.step(id, at) else { return };
        if step.left() > 0 || !step.may_run() {
            return;
        }
        let state = if step.failed.is_empty() { StepState::Succeeded } else { StepState::Failed };
        self.set_step_state(now, id, at, state, out);
        self.unblock_followers(now, id, at, out);
        let states = || self.jobs[&id].steps.iter().map(|step| step.state);
        if states().any(|state| matches!(state, StepState::Blocked | StepState::Ready | StepState::Running)) {
            return;
        }
        let good = states().all(|state| state == StepState::Succeeded);
        self.end_job(now, id, if good { JobState::Succeeded } else { JobState::Failed }, out);
    }

    fn end_job(&mut self, now: Timestamp, id: JobId, state: JobState, out: &mut Applied) {
        self.flush_counts(out);
        self.set_job_state(now, id, state, out);
        self.set_book(id, None);
        for at in 0..self.jobs[&id].steps.len() {
            self.set_weight(id, at, Weight::default());
        }
        self.forget_deadline(id);
        self.jobs.remove(&id);
        self.health.forget_job(id);
        self.unplaceable.retain(|(job, _)| *job != id);
        out.effects.push(Effect::AnnounceJobOver { job: id, state });
    }

    pub(super) fn cancel_job(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        let Some(job) = self.jobs.get(&id) else { return };
        for at in 0..job.steps.len() {
            self.dequeue(id, at);
            if self.jobs[&id].steps[at].may_run() {
                self.count_tasks(id, at, false);
            }
        }
        for chunk in self.chunks_of(id) {
            self.stop_chunk(now, chunk, "the job was canceled", out);
        }
        for at in 0..self.jobs[&id].steps.len() {
            if !matches!(self.jobs[&id].steps[at].state, StepState::Succeeded | StepState::Failed) {
                self.set_step_state(now, id, at, StepState::Canceled, out);
            }
            self.touched_steps.insert((id, at));
        }
        out.effects.push(Effect::PurgeOrders { job: id });
        self.end_job(now, id, JobState::Canceled, out);
    }

    pub(super) fn chunks_of(&self, id: JobId) -> Vec<ChunkId> {
        // Canceling is rare, and open chunks are few: a window of orders and one a worker.
        self.chunks.values().filter(|chunk| chunk.job == id).map(|chunk| chunk.id).collect()
    }

    /// Ends a chunk whatever its state; its tasks go nowhere.
    fn stop_chunk(&mut self, now: Timestamp, id: ChunkId, reason: &'static str, out: &mut Applied) {
        let Some(chunk) = self.chunks.get(&id) else { return };
        let open = matches!(chunk.state, ChunkState::Leased(_) | ChunkState::Offered { .. });
        if let ChunkState::Leased(lease) = &chunk.state {
            let attempt = chunk.attempt_id();
            let control = Control { attempt: Some(attempt), stop: Some(reason), ..Control::default() };
            out.effects.push(Effect::PushControl { worker: lease.worker.clone(), control });
            // The rest of its log comes within seconds; it stays readable live until it expires.
            self.end_attempt(now, id, Outcome::Canceled, LogSize::default(), out);
        }
        let chunk = &self.chunks[&id];
        let (job, at, tasks) = (chunk.job, chunk.step, chunk.tasks.len());
        if open && let Some(step) = self.step_mut(job, at) {
            step.open -= tasks;
        }
        self.close_chunk(id, out);
    }

    pub(super) fn pause_job(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.state == JobState::Paused {
            return;
        }
        for at in 0..job.steps.len() {
            self.dequeue(id, at);
            if self.jobs[&id].steps[at].may_run() {
                self.count_tasks(id, at, false);
            }
        }
        self.set_job_state(now, id, JobState::Paused, out);
        let offered = self
            .chunks_of(id)
            .into_iter()
            .filter(|chunk| matches!(self.chunks[chunk].state, ChunkState::Offered { .. }));
        for chunk in offered.collect::<Vec<_>>() {
            self.withdraw(now, chunk);
        }
        out.effects.push(Effect::PurgeOrders { job: id });
    }

    pub(super) fn resume_job(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.state != JobState::Paused {
            return;
        }
        let begun = job.steps.iter().any(|step| step.state != StepState::Blocked && step.state != StepState::Ready);
        self.lift_budget(now, id, out);
        self.set_job_state(now, id, if begun { JobState::Running } else { JobState::Queued }, out);
        for at in 0..self.jobs[&id].steps.len() {
            self.jobs.get_mut(&id).expect("found above").steps[at].ready_at = now;
            if self.jobs[&id].steps[at].may_run() {
                self.count_tasks(id, at, true);
            }
            self.enqueue(now, id, at);
        }
        self.withdraw_outranked(now, id);
    }

    pub(super) fn prioritize_job(&mut self, now: Timestamp, id: JobId, priority: u32, out: &mut Applied) {
        let Some(job) = self.jobs.get(&id) else { return };
        for at in 0..job.steps.len() {
            self.dequeue(id, at);
        }
        let job = self.jobs.get_mut(&id).expect("found above");
        job.priority = priority;
        out.changes.push(Change::JobPriority { id, priority });
        for at in 0..self.jobs[&id].steps.len() {
            self.enqueue(now, id, at);
        }
        self.withdraw_all_of(now, id);
    }

    pub(super) fn weigh_project(&mut self, now: Timestamp, name: &Name, weight: u32, out: &mut Applied) {
        let project = self.project(name);
        self.projects[project] = weight;
        out.changes.push(Change::ProjectWeight { project: name.clone(), weight });
        for function in 0..self.functions.len() {
            self.withdraw_function(now, function);
        }
    }

    /// Whether any task of a job failed for good, of all or of one step's these.
    pub fn has_failed(&self, id: JobId, only: Option<&(usize, TaskSet)>) -> bool {
        self.jobs.get(&id).is_some_and(|job| any_failed(job.steps.iter().map(|step| &step.failed), only))
    }

    /// Tasks that failed for good wait again, all or of one step these; steps that were canceled for their sake are blocked again.
    pub(super) fn retry_job(
        &mut self,
        now: Timestamp,
        stored: StoredJob,
        only: Option<&(usize, TaskSet)>,
        out: &mut Applied,
    ) {
        let id = stored.id;
        if !self.jobs.contains_key(&id) {
            self.restore_job(stored, &BTreeMap::new());
            // Over until now: what the store has is the end state, whatever it looks like from the tasks.
            self.jobs.get_mut(&id).expect("just added").state = JobState::Failed;
        }
        let mut any = false;
        for at in 0..self.jobs[&id].steps.len() {
            let step = self.step_mut(id, at).expect("in range");
            let (again, rest) = match only {
                None => (step.failed.clone(), TaskSet::new()),
                Some((of, tasks)) if *of == at => divide(&step.failed, tasks),
                Some(_) => continue,
            };
            if again.is_empty() {
                continue;
            }
            any = true;
            let was_counted = step.may_run();
            if was_counted {
                self.count_tasks(id, at, false);
            }
            let step = self.step_mut(id, at).expect("in range");
            step.failed = rest;
            step.waiting.insert_all(&again);
            out.changes.push(Change::TasksReset { job: id, step: at, tasks: again });
            self.set_step_state(now, id, at, StepState::Running, out);
            self.count_tasks(id, at, true);
            self.enqueue(now, id, at);
        }
        let over = self.jobs[&id].state.is_over();
        if over && !any {
            // Nothing had failed: as before.
            for at in 0..self.jobs[&id].steps.len() {
                self.dequeue(id, at);
                if self.jobs[&id].steps[at].may_run() {
                    self.count_tasks(id, at, false);
                }
            }
            self.set_book(id, None);
            self.forget_deadline(id);
            self.jobs.remove(&id);
            return;
        }
        if over {
            self.set_job_state(now, id, JobState::Running, out);
        }
        for at in 0..self.jobs[&id].steps.len() {
            if self.jobs[&id].steps[at].state == StepState::Canceled {
                self.set_step_state(now, id, at, StepState::Blocked, out);
            }
        }
        // Those that wait for a step of which nothing is tried again never come to it.
        for at in 0..self.jobs[&id].steps.len() {
            self.unblock(now, id, at, out);
        }
        for at in 0..self.jobs[&id].steps.len() {
            self.enqueue(now, id, at);
        }
    }

    /// Counts the tasks of a step's function when one of them is resolved.
    pub(super) fn task_resolved(&mut self, id: JobId, at: usize) {
        let demands = self.jobs.get(&id).is_some_and(|job| job.state != JobState::Paused && !self.is_held(job.project));
        if let Some(step) = self.step(id, at).filter(|step| demands && step.may_run()) {
            let function = step.function;
            self.functions[function].tasks -= 1;
            self.touched.insert(function);
            self.unweighed.insert((id, at));
        }
    }

    /// Writes the counts of the steps that were touched.
    pub(super) fn flush_counts(&mut self, out: &mut Applied) {
        for (job, at) in std::mem::take(&mut self.touched_steps) {
            if let Some(step) = self.step(job, at) {
                out.changes.push(Change::StepCounts { job, step: at, counts: step.counts() });
            }
        }
    }

    pub(super) fn measure(&mut self, id: JobId, at: usize, measured: Timing) {
        let Some(step) = self.step_mut(id, at) else { return };
        let is_first = step.timing.task_s.is_none();
        blend(&mut step.timing, measured);
        let function = step.function;
        blend(&mut self.functions[function].timing, measured);
        if let Some(task_s) = measured.task_s.filter(|_| is_first) {
            self.functions[function].ahead.usual.add(task_s);
        }
        self.unweighed.insert((id, at));
    }
}

/// Those of the set that are chosen, and the others.
fn divide(set: &TaskSet, chosen: &TaskSet) -> (TaskSet, TaskSet) {
    let (mut inside, mut outside) = (TaskSet::new(), TaskSet::new());
    for task in set.iter() {
        if chosen.contains(task) {
            inside.insert(task)
        } else {
            outside.insert(task)
        };
    }
    (inside, outside)
}

/// Weight of a new measurement: about the last five count.
const NEWEST: f64 = 0.3;

fn blend(timing: &mut Timing, measured: Timing) {
    let mix = |old: &mut Option<f64>, new: Option<f64>| {
        if let Some(new) = new {
            *old = Some(old.map_or(new, |old| old + NEWEST * (new - old)));
        }
    };
    mix(&mut timing.load_s, measured.load_s);
    mix(&mut timing.task_s, measured.task_s);
}

/// When the job's id was made.
fn submitted_at(id: JobId) -> Timestamp {
    Timestamp(i64::try_from(id.0.timestamp_ms()).unwrap_or(i64::MAX))
}
