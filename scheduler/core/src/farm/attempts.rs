//! Attempts: claimed, reported on, given back, lost.

use super::gpus::Escalation;
use super::workers::Lost;
use super::{Applied, Farm, WorkerState};
use crate::change::{Change, JobState, Outcome, StepState};
use crate::chunk::{Chunk, ChunkState, History, Lease};
use crate::effect::{ClaimAnswer, Effect};
use crate::event::{AttemptEnd, GpuWord, Moments, Report, ReportedTime, RequestId, TaskFailure, TaskResult};
use crate::health::{Fault, may_blame_machine};
use crate::ledger::Worked;
use crate::loss;
use crate::retry::{self, Decision, LICENSE_WAIT, LICENSE_WAIT_MAX, LOSSES_BEFORE_SPLIT, LOSSES_MAX};
use crate::timers::Timer;
use crate::values::{LogSize, Loss, Place, Timing};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::size::Size;
use framewake_proto::start::StartPoint;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use framewake_proto::xid::{self, Blame};
use std::time::Duration;

impl Farm {
    /// The job and step of an attempt, if this worker holds it.
    pub fn held_by(&self, worker: &WorkerId, attempt: AttemptId) -> Option<(JobId, usize)> {
        let chunk = self.chunks.get(&attempt.chunk).filter(|chunk| chunk.attempt == attempt.number)?;
        let holds = matches!(&chunk.state, ChunkState::Leased(lease) if lease.worker == *worker);
        holds.then_some((chunk.job, chunk.step))
    }

    /// The function whose workers an open attempt is for.
    pub fn attempt_function(&self, attempt: AttemptId) -> Option<&FunctionKey> {
        let (job, step) = self.attempt_place(attempt)?;
        Some(&self.functions[self.jobs.get(&job)?.steps[step].function].key)
    }

    /// Compares the attempt with the fence and sets its holder, or says why not.
    pub(super) fn claim(
        &mut self,
        now: Timestamp,
        request: RequestId,
        worker: &WorkerId,
        attempt: AttemptId,
        out: &mut Applied,
    ) {
        let answer = match self.try_claim(now, worker, attempt, out) {
            Ok(answer) => answer,
            Err(reason) => ClaimAnswer::Refused { reason },
        };
        out.effects.push(Effect::AnswerClaim { request, answer });
    }

    fn try_claim(
        &mut self,
        now: Timestamp,
        worker: &WorkerId,
        attempt: AttemptId,
        out: &mut Applied,
    ) -> Result<ClaimAnswer, &'static str> {
        let chunk = self.chunks.get(&attempt.chunk).filter(|chunk| chunk.attempt == attempt.number);
        let chunk = chunk.ok_or("the order is out of date")?;
        let (job, step) = (chunk.job, chunk.step);
        match &chunk.state {
            // The answer was lost and the worker asks again.
            ChunkState::Leased(lease) if lease.worker == *worker => {
                return Ok(ClaimAnswer::Granted { job, step, tasks: chunk.tasks.clone() });
            }
            ChunkState::Leased(_) => return Err("another worker has it"),
            ChunkState::Waiting { .. } | ChunkState::Ready { .. } => return Err("the order was withdrawn"),
            ChunkState::Offered { avoid, .. } => {
                let function = self.jobs[&job].steps[step].function;
                let others = self.functions[function].workers;
                if avoid.as_ref() == Some(worker) && others.present + others.starting > 1 {
                    // Once: after that the same worker is better than none.
                    self.retry_later(now, attempt.chunk, None);
                    return Err("the task failed on this worker: another one is tried first");
                }
            }
        }
        if let Some(WorkerState::Draining(_)) = self.workers.get(worker).map(|worker| worker.state) {
            let avoid = match &self.chunks[&attempt.chunk].state {
                ChunkState::Offered { avoid, .. } => avoid.clone(),
                ChunkState::Leased(_) | ChunkState::Waiting { .. } | ChunkState::Ready { .. } => None,
            };
            // Nobody else may be there to take it yet: without a pause it would be offered to this one again and again. And what told
            // it to leave may have been lost.
            self.retry_later(now, attempt.chunk, avoid);
            self.ask_to_leave(now, worker.clone(), out);
            return Err(if self.is_aside(worker) { "its place is set aside" } else { "the worker is leaving" });
        }
        if let Some(reason) = self.misfit(worker, job, step) {
            let function = self.jobs[&job].steps[step].function;
            self.retry_later(now, attempt.chunk, None);
            if !self.is_of_use(worker, function) {
                // Its GPU and its slot are for one that can do more.
                self.ask_to_leave(now, worker.clone(), out);
                self.note_useless(now, worker, function, reason);
            }
            return Err(reason);
        }
        self.grant(now, worker, attempt.chunk, out);
        let tasks = self.chunks[&attempt.chunk].tasks.clone();
        Ok(ClaimAnswer::Granted { job, step, tasks })
    }

    fn grant(&mut self, now: Timestamp, worker: &WorkerId, id: ChunkId, out: &mut Applied) {
        let until = now.after(self.settings.lease);
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        chunk.state =
            ChunkState::Leased(Lease { worker: worker.clone(), since: now, until, keep: None, done: 0, failed: 0 });
        let attempt = chunk.attempt_id();
        let (job, step, tasks) = (chunk.job, chunk.step, chunk.tasks.clone());
        out.changes.push(Change::ChunkStored(chunk.store(now)));
        let function = self.jobs[&job].steps[step].function;
        if self.functions[function].offered.remove(&id) {
            self.hand(job, step, |handed| handed.offers -= 1);
        }
        self.functions[function].leased.insert((tasks.len(), id));
        self.hand(job, step, |handed| handed.leases += 1);
        out.changes.push(Change::AttemptStarted { job, step, attempt, worker: worker.clone(), tasks, at: now });
        self.set_timer(until, Timer::Chunk(id));
        self.hold_worker(now, worker, function, attempt);
        self.note_order(now, worker);
        if self.jobs[&job].steps[step].state == StepState::Ready {
            self.set_step_state(now, job, step, StepState::Running, out);
        }
        if self.jobs[&job].state == JobState::Queued {
            self.set_job_state(now, job, JobState::Running, out);
        }
        self.touch(job, step);
    }

    /// News of an attempt. Only the holder of the newest attempt is believed, and only about tasks that
    /// are still open: everything else is stale and changes nothing.
    pub(super) fn report(
        &mut self,
        now: Timestamp,
        worker: &WorkerId,
        attempt: AttemptId,
        report: Report,
        out: &mut Applied,
    ) {
        let Some(chunk) = self.chunks.get_mut(&attempt.chunk).filter(|chunk| chunk.attempt == attempt.number) else {
            return;
        };
        let (job, step) = (chunk.job, chunk.step);
        let before = chunk.left();
        let ChunkState::Leased(lease) = &mut chunk.state else { return };
        if lease.worker != *worker {
            return;
        }
        lease.until = lease.until.max(now.after(self.settings.lease));
        let claimed = lease.since;
        self.ledger.worked(now, worker, attempt, worked(&report));
        for (point, ms) in [(StartPoint::Inputs, report.staged_ms), (StartPoint::Renderer, report.load_ms)] {
            if ms.is_some() {
                self.note_since_claim(now, worker, claimed, point, ms);
            }
        }
        if let Some(load_ms) = report.load_ms {
            self.measure(job, step, Timing { load_s: Some(f64::from(load_ms) / 1000.0), task_s: None });
        }
        for result in report.done {
            self.task_done(now, attempt, result, out);
        }
        for failure in report.failed {
            self.task_failed(now, attempt, failure, out);
        }
        self.release(now, attempt.chunk, &report.released);
        self.rank_lease(attempt.chunk, before);
        if let Some(end) = report.end {
            self.end_reported(now, attempt.chunk, end, report.log, out);
        } else if let Some(chunk) = self.chunks.get_mut(&attempt.chunk) {
            // Also when nothing is left and only the end is yet to be told: after a restart what is stored is open.
            out.changes.push(Change::ChunkStored(chunk.store(now)));
        }
        self.touch(job, step);
        if self.budgeted > 0 || !self.purses.is_empty() {
            self.count_spent();
            self.stop_at_budget(now, job, out);
            self.look_at_budget_again(now, job);
        }
        self.check_over(now, job, step, out);
    }

    fn task_done(&mut self, now: Timestamp, attempt: AttemptId, result: TaskResult, out: &mut Applied) {
        let chunk = self.chunks.get_mut(&attempt.chunk).expect("the caller found it");
        if !chunk.tasks.remove(result.task) {
            return;
        }
        let (job, step) = (chunk.job, chunk.step);
        let blamed: Vec<Place> = chunk.blamed.concat();
        let mut holder = None;
        let mut is_first = false;
        if let ChunkState::Leased(lease) = &mut chunk.state {
            is_first = !lease.has_begun();
            lease.done += 1;
            holder = Some((lease.worker.clone(), lease.since));
        }
        self.hand(job, step, |handed| handed.begun += u32::from(is_first));
        let (holder, claimed) = holder.unzip();
        if !result.found {
            let places = self.places_of(holder.as_ref());
            if let Some(function) = self.step(job, step).map(|step| step.function) {
                self.praise(now, &places, function, (job, step), out);
                for place in blamed.iter().filter(|place| !places.contains(place)) {
                    self.prove(now, place, (job, step), result.task, out);
                }
            }
            let task_s = f64::from(result.elapsed_ms) / 1000.0;
            self.measure(job, step, Timing { load_s: None, task_s: Some(task_s) });
            if let (Some(worker), Some(claimed)) = (&holder, claimed) {
                self.note_since_claim(now, worker, claimed, StartPoint::Frame, result.moments.ended_ms);
                self.learn_vram(worker, result.gpu.vram_peak_bytes, job, step, out);
            }
        }
        if let Some(step) = self.step_mut(job, step) {
            step.done += 1;
            step.open -= 1;
            step.license_waits = 0;
        }
        self.task_resolved(job, step);
        out.changes.push(Change::TaskDone { job, step, attempt, result, at: now });
    }

    fn task_failed(&mut self, now: Timestamp, attempt: AttemptId, mut failure: TaskFailure, out: &mut Applied) {
        let chunk = self.chunks.get_mut(&attempt.chunk).expect("the caller found it");
        let task = failure.task;
        if !chunk.tasks.remove(task) {
            return;
        }
        let (job, at) = (chunk.job, chunk.step);
        let mut history = chunk.history();
        let mut holder = None;
        let mut is_first = false;
        if let ChunkState::Leased(lease) = &mut chunk.state {
            is_first = !lease.has_begun();
            lease.failed += 1;
            holder = Some(lease.worker.clone());
        }
        self.hand(job, at, |handed| handed.begun += u32::from(is_first));
        let places = self.places_of(holder.as_ref());
        let verdict = failure.verdict;
        if let GpuWord::Broke { uuid, reason } = &failure.gpu {
            for place in places.iter().filter(|place| place.is_gpu(uuid)) {
                self.condemn(now, place, reason, out);
            }
            // It costs no attempt, but a task under which GPU after GPU breaks is kept apart as one that kills workers.
            history.losses += 1;
            if let Some(worker) = holder.clone() {
                let how = loss::words(&failure.message);
                loss::keep(&mut history.lost, Loss { attempt, worker, places: places.clone(), at: now, how });
            }
            if history.losses >= LOSSES_MAX {
                self.quarantine_task(now, attempt, (job, at), task, &history.lost, out);
                return;
            }
        }
        // What the scene did to the GPU says nothing of the machine.
        let may_blame = may_blame_machine(verdict) && !is_the_scenes(&failure.gpu);
        let Some(step) = self.step_mut(job, at) else { return };
        step.open -= 1;
        let function = step.function;
        let seed = attempt.chunk.0 ^ (u64::from(task) << 32);
        let mut decision = retry::decide(verdict, history.spent, &step.retries, seed);
        if verdict == Verdict::NeedMoreVram
            && let Some(worker) = &holder
        {
            match self.escalate(worker, job, at, out) {
                // The floor rises each time, so this ends with the largest GPU at the latest.
                Escalation::Larger => {
                    decision = Decision::Again { after: Duration::ZERO, spends: false, elsewhere: false };
                }
                Escalation::Largest { memory } => {
                    decision = Decision::Never;
                    let most = Size(memory);
                    failure.message = format!("{}; no GPU of this farm has more memory than {most}", failure.message);
                }
                Escalation::Unknown => {}
            }
        }
        let for_good = decision == Decision::Never;
        if for_good && let Some(step) = self.step_mut(job, at) {
            step.failed.insert(task);
            self.task_resolved(job, at);
        }
        out.changes.push(Change::TaskFailed { job, step: at, attempt, failure, for_good, at: now });
        if let Decision::Again { after, spends, elsewhere } = decision {
            let state = ChunkState::Waiting { until: now.after(after), avoid: holder.filter(|_| elsewhere) };
            history.spent += u32::from(spends);
            if spends && may_blame && !places.is_empty() {
                history.blamed.push(places.clone());
            }
            self.add_chunk(now, job, at, TaskSet::from_run(task..task + 1), history, state, out);
        }
        if may_blame {
            self.blame(now, &places, function, (job, at), Fault::Task(verdict), out);
        }
    }

    /// A chunk with a history, of tasks that are in no other place.
    #[allow(clippy::too_many_arguments)] // They are the chunk.
    fn add_chunk(
        &mut self,
        now: Timestamp,
        job: JobId,
        step: usize,
        tasks: TaskSet,
        history: History,
        state: ChunkState,
        out: &mut Applied,
    ) {
        let id = self.next_chunk(out);
        let History { spent, losses, lost, blamed } = history;
        let attempt = self.attempts_before(job);
        let mut chunk = Chunk { attempt, spent, losses, lost, blamed, ..Chunk::new(id, job, step, tasks, state) };
        out.changes.push(Change::ChunkStored(chunk.store(now)));
        self.chunks.insert(id, chunk);
        self.wait_or_ready(now, id);
    }

    /// A chunk that waits gets its timer; one whose wait is over may be offered.
    pub(super) fn wait_or_ready(&mut self, now: Timestamp, id: ChunkId) {
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        let (job, step) = (chunk.job, chunk.step);
        if let ChunkState::Waiting { until, avoid } = &chunk.state {
            if *until > now {
                let until = *until;
                self.set_timer(until, Timer::Chunk(id));
                return;
            }
            chunk.state = ChunkState::Ready { avoid: avoid.clone() };
        }
        if let Some(step) = self.step_mut(job, step) {
            step.again.insert(id);
        }
        self.enqueue(now, job, step);
    }

    /// Tasks given back while the attempt goes on.
    fn release(&mut self, now: Timestamp, id: ChunkId, released: &TaskSet) {
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        let mut given = TaskSet::new();
        for task in released.iter().take(chunk.tasks.len() as usize) {
            if chunk.tasks.remove(task) {
                given.insert(task);
            }
        }
        if let ChunkState::Leased(lease) = &mut chunk.state {
            // Answered; it may be asked again.
            lease.keep = lease.keep.filter(|keep| *keep < chunk.tasks.len());
        }
        let (job, step) = (chunk.job, chunk.step);
        self.give_back(now, job, step, &given);
    }

    /// Tasks of a chunk wait again, as if never given out.
    fn give_back(&mut self, now: Timestamp, job: JobId, at: usize, tasks: &TaskSet) {
        if tasks.is_empty() {
            return;
        }
        if let Some(step) = self.step_mut(job, at) {
            step.open -= tasks.len();
            step.waiting.insert_all(tasks);
        }
        self.enqueue(now, job, at);
    }

    fn end_reported(&mut self, now: Timestamp, id: ChunkId, end: AttemptEnd, log: LogSize, out: &mut Applied) {
        let outcome = match end {
            AttemptEnd::Finished => Outcome::Finished,
            AttemptEnd::HandedBack => Outcome::HandedBack,
            AttemptEnd::Canceled => Outcome::Canceled,
            AttemptEnd::LicenseWait => Outcome::LicenseWait,
        };
        self.end_attempt(now, id, outcome, log, out);
        let chunk = &self.chunks[&id];
        let (job, at) = (chunk.job, chunk.step);
        if end == AttemptEnd::LicenseWait
            && let Some(step) = self.step_mut(job, at)
        {
            let wait = retry::backoff(LICENSE_WAIT, LICENSE_WAIT_MAX, step.license_waits, id.0);
            step.license_waits += 1;
            step.hold = Some(now.after(wait));
            self.set_timer(now.after(wait), Timer::Step(job, at));
        }
        // Nothing is left of a finished attempt, unless the broker lost a report: those tasks come again,
        // and their next attempt finds the committed objects.
        self.reopen(now, id, out);
        self.enqueue(now, job, at);
    }

    /// What is left of an ended attempt waits again, free of charge.
    fn reopen(&mut self, now: Timestamp, id: ChunkId, out: &mut Applied) {
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        let (job, at, left) = (chunk.job, chunk.step, chunk.tasks.clone());
        if left.is_empty() || !chunk.has_history() {
            chunk.tasks = TaskSet::new();
            self.close_chunk(id, out);
            self.give_back(now, job, at, &left);
            return;
        }
        chunk.state = ChunkState::Ready { avoid: None };
        out.changes.push(Change::ChunkStored(chunk.store(now)));
        if let Some(step) = self.step_mut(job, at) {
            step.open -= left.len();
        }
        self.wait_or_ready(now, id);
    }

    /// The holder of the attempt is gone or silent. Free of charge, but a chunk that loses worker after
    /// worker is taken apart until the task that does it is alone.
    pub(super) fn lose(&mut self, now: Timestamp, id: ChunkId, lost: Lost, out: &mut Applied) {
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        let (job, at, attempt) = (chunk.job, chunk.step, chunk.attempt_id());
        chunk.losses += 1;
        if let ChunkState::Leased(lease) = &chunk.state {
            let (worker, places, how) = (lease.worker.clone(), lost.places.clone(), lost.how.clone());
            loss::keep(&mut chunk.lost, Loss { attempt, worker, places, at: now, how });
        }
        self.end_attempt(now, id, Outcome::Lost { how: lost.how }, LogSize::default(), out);
        self.place_lost(now, id, attempt, out);
        self.look_at_budget_again(now, job);
        if lost.may_be_machine
            && let Some(function) = self.step(job, at).map(|step| step.function)
        {
            self.blame(now, &lost.places, function, (job, at), Fault::Lost, out);
        }
    }

    /// Where the tasks of a chunk go whose worker was lost.
    fn place_lost(&mut self, now: Timestamp, id: ChunkId, attempt: AttemptId, out: &mut Applied) {
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        let (job, at) = (chunk.job, chunk.step);
        let Some(first) = chunk.tasks.first() else {
            self.close_chunk(id, out);
            return;
        };
        let alone = chunk.tasks.len() == 1;
        if chunk.losses >= LOSSES_MAX && alone {
            self.quarantine(now, id, first, attempt, out);
            self.check_over(now, job, at, out);
            return;
        }
        if chunk.losses >= LOSSES_BEFORE_SPLIT && !alone {
            // Tasks are worked on in order, so the first is the suspect; the rest is free to go.
            let mut rest = std::mem::take(&mut chunk.tasks);
            chunk.tasks = rest.take_first(1);
            self.give_back(now, job, at, &rest);
        }
        let chunk = self.chunks.get_mut(&id).expect("still there");
        chunk.state = ChunkState::Ready { avoid: None };
        let left = chunk.tasks.len();
        out.changes.push(Change::ChunkStored(chunk.store(now)));
        if let Some(step) = self.step_mut(job, at) {
            step.open -= left;
        }
        self.wait_or_ready(now, id);
    }

    fn quarantine(&mut self, now: Timestamp, id: ChunkId, task: u32, attempt: AttemptId, out: &mut Applied) {
        let (job, at) = (self.chunks[&id].job, self.chunks[&id].step);
        let lost = std::mem::take(&mut self.chunks.get_mut(&id).expect("the caller found it").lost);
        self.close_chunk(id, out);
        self.quarantine_task(now, attempt, (job, at), task, &lost, out);
    }

    /// A task that is in no chunk any more, and was open.
    fn quarantine_task(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        (job, at): (JobId, usize),
        task: u32,
        lost: &[Loss],
        out: &mut Applied,
    ) {
        if let Some(step) = self.step_mut(job, at) {
            step.open -= 1;
            step.failed.insert(task);
        }
        self.task_resolved(job, at);
        self.touch(job, at);
        let failure = TaskFailure {
            task,
            verdict: Verdict::Quarantined,
            message: loss::message(lost),
            evidence: loss::evidence(job, lost),
            gpu: GpuWord::Nothing,
            moments: Moments::default(),
        };
        out.changes.push(Change::TaskFailed { job, step: at, attempt, failure, for_good: true, at: now });
    }

    /// Where the holder of an attempt runs, as far as it has said so.
    fn places_of(&self, worker: Option<&WorkerId>) -> Vec<Place> {
        let worker = worker.and_then(|worker| self.workers.get(worker));
        worker.map_or_else(Vec::new, |worker| worker.places.clone())
    }

    /// The attempt is over: its lease and its worker are free. The chunk stays for the caller to place.
    pub(super) fn end_attempt(
        &mut self,
        now: Timestamp,
        id: ChunkId,
        outcome: Outcome,
        log: LogSize,
        out: &mut Applied,
    ) {
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        let left = chunk.left();
        let attempt = chunk.attempt_id();
        let (job, step) = (chunk.job, chunk.step);
        let state = std::mem::replace(&mut chunk.state, ChunkState::Ready { avoid: None });
        let ChunkState::Leased(lease) = state else { return };
        let timing = self.step(job, step).map(|step| (step.function, step.timing));
        if let Some((function, timing)) = timing {
            self.functions[function].leased.remove(&(left, id));
            let project = self.jobs[&job].project;
            self.functions[function].queue.closed(project);
            self.hand(job, step, |handed| {
                handed.leases -= 1;
                handed.begun -= u32::from(lease.has_begun());
            });
            out.changes.push(Change::StepTiming { job, step, timing });
            self.note_learned(function, None);
        }
        self.free_worker(now, &lease.worker, attempt);
        self.ledger.ended(now, &lease.worker, attempt, &outcome);
        let (done, failed) = (lease.done, lease.failed);
        let was_lost = matches!(outcome, Outcome::Lost { .. });
        out.changes.push(Change::AttemptEnded { job, step, attempt, outcome, done, failed, log, at: now });
        if log.kept_bytes > 0 || was_lost {
            out.effects.push(Effect::ArchiveLog { job, attempt, worker: lease.worker });
        }
    }

    /// Keeps the index of leases in step with what a lease has left.
    pub(super) fn rank_lease(&mut self, id: ChunkId, before: u32) {
        let Some(chunk) = self.chunks.get(&id) else { return };
        let after = chunk.left();
        if let Some(function) = self.step(chunk.job, chunk.step).map(|step| step.function)
            && before != after
            && self.functions[function].leased.remove(&(before, id))
        {
            self.functions[function].leased.insert((after, id));
        }
    }

    pub(super) fn close_chunk(&mut self, id: ChunkId, out: &mut Applied) {
        self.unoffer(id);
        if let Some(chunk) = self.chunks.remove(&id) {
            if let Some(step) = self.step_mut(chunk.job, chunk.step) {
                step.again.remove(&id);
            }
            out.changes.push(Change::ChunkClosed { id });
        }
    }

    /// The worker that asks can't have it: offered again in a moment, so that another can take it first; not to `avoid`, if another can
    /// be had.
    fn retry_later(&mut self, now: Timestamp, id: ChunkId, avoid: Option<WorkerId>) {
        const A_MOMENT: Duration = Duration::from_millis(200);
        self.unoffer(id);
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        let (job, at, tasks) = (chunk.job, chunk.step, chunk.tasks.len());
        chunk.state = ChunkState::Waiting { until: now.after(A_MOMENT), avoid };
        if let Some(step) = self.step_mut(job, at) {
            step.open -= tasks;
        }
        self.touch(job, at);
        self.wait_or_ready(now, id);
    }
}

/// Whether the driver blames what was rendered.
fn is_the_scenes(gpu: &GpuWord) -> bool {
    matches!(gpu, GpuWord::Xid(xid) if xid::blame(*xid) == Blame::Application)
}

/// What a report says of the time it took.
fn worked(report: &Report) -> Worked {
    let ReportedTime { failed_ms, preempted_ms, upload_ms } = report.spent;
    let rendered = report.done.iter().filter(|result| !result.found).map(|result| u64::from(result.elapsed_ms));
    let load_ms = report.load_ms.map_or(0, u64::from);
    Worked { load_ms, useful_ms: rendered.sum(), failed_ms, preempted_ms, upload_ms }
}
