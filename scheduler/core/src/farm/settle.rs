//! After each event: deadlines that passed, workers that are wanted, orders that can be offered, tails
//! that an idle worker can take over.

use super::workers::Gone;
use super::{Applied, Farm, WorkerState};
use crate::budget::Room;
use crate::change::Change;
use crate::chunk::{Chunk, ChunkState};
use crate::effect::{Control, Effect};
use crate::rank::Rank;
use crate::split::chunk_size;
use crate::timers::Timer;
use framewake_proto::ids::{ChunkId, JobId, WorkerId};
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// Orders on the stream for each worker that is there or wanted: enough to have the next at hand,
/// few enough that what is published says nothing about what is decided.
const ORDERS_PER_WORKER: u32 = 2;
/// Most orders on the stream for workers that are busy: those that end within the next moments find one. When a job
/// comes that ranks before them they are all taken back and published anew, and with two for each of 10,000 workers
/// every submission would cost a tenth of a second and leave 20,000 orders to be refused.
const ORDERS_AHEAD_MAX: usize = 1000;
/// A worker that has been idle for so long waits for an order, and is not between two.
const IDLE_LONG: Duration = Duration::from_secs(1);

impl Farm {
    /// Looks at every timer that is due.
    pub(super) fn pass_time(&mut self, now: Timestamp, out: &mut Applied) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Chunk(id) => self.chunk_due(now, id, out),
                Timer::Worker(id) => self.worker_due(now, &id, out),
                Timer::Start(function) => {
                    self.touched.insert(function);
                }
                Timer::Step(job, step) => {
                    if let Some(held) = self.step_mut(job, step)
                        && held.hold.is_some_and(|until| until <= now)
                    {
                        held.hold = None;
                    }
                    self.enqueue(now, job, step);
                }
                Timer::Came(id) => self.settle_start(&id),
                Timer::Unended(id) => self.free_slots(&id),
                Timer::Place(place) => self.place_due(now, &place, out),
                Timer::Month => self.turn_month(now),
            }
        }
    }

    fn chunk_due(&mut self, now: Timestamp, id: ChunkId, out: &mut Applied) {
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        let (job, step) = (chunk.job, chunk.step);
        match &mut chunk.state {
            ChunkState::Ready { .. } => {}
            ChunkState::Waiting { .. } => self.wait_or_ready(now, id),
            ChunkState::Offered { until, .. } if *until > now => {}
            ChunkState::Offered { .. } => {
                let function = self.jobs[&job].steps[step].function;
                let waits_long =
                    |id: &WorkerId| self.workers.get(id).is_some_and(|worker| now.since(worker.since) >= IDLE_LONG);
                if self.functions[function].idle.iter().any(waits_long) {
                    self.offer(now, id, out);
                } else {
                    // Nobody could have taken it: it lies where it should. Between two chunks every worker is idle for a moment.
                    self.extend_offer(now, id);
                }
            }
            ChunkState::Leased(lease) if lease.until > now => {
                let until = lease.until;
                self.set_timer(until, Timer::Chunk(id));
            }
            // Set anew by `honor_deadlines`.
            ChunkState::Leased(_) if self.deadlines_held => {}
            ChunkState::Leased(lease) => {
                let worker = lease.worker.clone();
                let gone = if self.workers.contains_key(&worker) { Gone::Silent } else { Gone::Left };
                let lost = self.lost(now, &worker, gone);
                self.lose(now, id, lost, out);
                self.touch(job, step);
            }
        }
    }

    fn worker_due(&mut self, now: Timestamp, id: &WorkerId, out: &mut Applied) {
        let Some(worker) = self.workers.get(id) else {
            if !self.deadlines_held {
                self.ledger.closed(now, id);
            }
            return;
        };
        let starting = worker.state == WorkerState::Starting;
        let silent = self.patience(worker);
        let due = worker.seen_at.after(silent);
        if due > now {
            self.set_timer(due, Timer::Worker(id.clone()));
        } else if self.deadlines_held {
            // Set anew by `honor_deadlines`.
        } else {
            let (function, pool) = (worker.function, worker.pool.clone());
            self.remove_worker(now, id, Gone::Silent, out);
            if starting {
                out.effects.push(Effect::StopWorker { worker: id.clone() });
                self.start_failed(
                    now,
                    function,
                    pool.as_ref(),
                    format!("worker {id} was started and did not speak for {} s", silent.as_secs()),
                );
            }
        }
    }

    /// From now on silence counts, beginning now.
    pub(super) fn honor_deadlines(&mut self, now: Timestamp) {
        self.deadlines_held = false;
        self.touched.extend(0..self.functions.len());
        let until = now.after(self.settings.lease);
        let mut timers = Vec::new();
        for chunk in self.chunks.values_mut() {
            if let ChunkState::Leased(lease) = &mut chunk.state {
                lease.until = lease.until.max(until);
                timers.push((lease.until, Timer::Chunk(chunk.id)));
            }
        }
        for (id, worker) in &mut self.workers {
            worker.seen_at = now;
            timers.push((until, Timer::Worker(id.clone())));
        }
        // Workers of before a restart that nobody has heard of since.
        let silent = self.ledger.accounts().filter(|account| !self.workers.contains_key(&account.worker));
        timers.extend(silent.map(|account| (until, Timer::Worker(account.worker.clone()))));
        for (at, timer) in timers {
            self.set_timer(at, timer);
        }
    }

    /// Brings workers and orders in line with the work, for each function that was touched.
    pub(super) fn settle(&mut self, now: Timestamp, out: &mut Applied) {
        self.weigh();
        self.serve_again();
        // Twice: who finds no room may find some once it is known what the others want now.
        for _ in 0..2 {
            self.touched.append(&mut self.starved);
            while let Some(function) = self.next_touched() {
                self.scale(now, function, out);
                self.refill(now, function, out);
                self.share_tail(function, out);
            }
        }
        self.flush_counts(out);
    }

    /// Functions without any worker come first: what became free may have been made free for them.
    fn next_touched(&mut self) -> Option<usize> {
        let is_empty = |at: &&usize| {
            let workers = self.functions[**at].workers;
            workers.present + workers.starting == 0
        };
        let at = *self.touched.iter().find(is_empty).or_else(|| self.touched.first())?;
        self.touched.remove(&at);
        Some(at)
    }

    /// Keeps the window of offered orders full.
    fn refill(&mut self, now: Timestamp, at: usize, out: &mut Applied) {
        loop {
            let function = &self.functions[at];
            let workers = function.wanted.max(function.workers.present + function.workers.starting);
            let free = (workers as usize).saturating_sub(function.leased.len());
            let window = ((workers * ORDERS_PER_WORKER) as usize).min(free + ORDERS_AHEAD_MAX);
            if function.offered.len() >= window {
                return;
            }
            let Some(rank) = function.queue.next(|project| self.weight_served(project)) else { return };
            let tasks_max = match self.room(now, rank.job, rank.step, out) {
                Room::Free => u32::MAX,
                Room::Tasks(tasks) => tasks,
                Room::Later | Room::None => continue,
            };
            let id = self.open_chunk(rank, workers, tasks_max, out);
            self.offer(now, id, out);
            self.enqueue(now, rank.job, rank.step);
        }
    }

    /// The next chunk of a step: one that is to be tried again, else a new one.
    fn open_chunk(&mut self, rank: Rank, workers: u32, tasks_max: u32, out: &mut Applied) -> ChunkId {
        let (job, at) = (rank.job, rank.step);
        let step = self.step_mut(job, at).expect("queued steps exist");
        if let Some(id) = step.again.pop_first() {
            return id;
        }
        let count = chunk_size(step.chunking, step.timing, step.waiting.len(), workers);
        let tasks = step.waiting.take_first(count.min(tasks_max));
        let id = self.next_chunk(out);
        let state = ChunkState::Ready { avoid: None };
        let attempt = self.attempts_before(job);
        self.chunks.insert(id, Chunk { attempt, ..Chunk::new(id, job, at, tasks, state) });
        id
    }

    /// Attempts that a new chunk of the job has behind it. What a farm did after its backup was made is not known, and
    /// counts as one.
    pub(super) fn attempts_before(&self, job: JobId) -> u32 {
        u32::from(self.jobs.get(&job).is_some_and(|job| job.restored))
    }

    pub(super) fn next_chunk(&mut self, out: &mut Applied) -> ChunkId {
        let id = ChunkId(self.chunk_next);
        self.chunk_next += 1;
        if self.chunk_next > self.chunk_reserved {
            self.chunk_reserved = self.chunk_next + super::CHUNK_NUMBERS_BLOCK;
            out.changes.push(Change::ChunkNumbers { next: self.chunk_reserved });
        }
        id
    }

    /// Publishes an order for the chunk, with the next number.
    fn offer(&mut self, now: Timestamp, id: ChunkId, out: &mut Applied) {
        let until = now.after(self.settings.offer);
        let chunk = self.chunks.get_mut(&id).expect("the caller found it");
        chunk.attempt += 1;
        let attempt = chunk.attempt_id();
        let (job, at, tasks) = (chunk.job, chunk.step, chunk.tasks.len());
        let again = matches!(chunk.state, ChunkState::Offered { .. });
        let avoid = match &chunk.state {
            ChunkState::Waiting { avoid, .. } | ChunkState::Ready { avoid } | ChunkState::Offered { avoid, .. } => {
                avoid.clone()
            }
            ChunkState::Leased(_) => None,
        };
        chunk.state = ChunkState::Offered { until, avoid };
        self.set_timer(until, Timer::Chunk(id));
        let project = self.jobs[&job].project;
        let step = self.step_mut(job, at).expect("a chunk's step exists");
        if !again {
            step.open += tasks;
            step.handed.offers += 1;
        }
        let function = step.function;
        self.touched_steps.insert((job, at));
        self.commit_anew(job, at);
        let function = &mut self.functions[function];
        if !again {
            function.queue.opened(project);
            function.offered.insert(id);
        }
        out.effects.push(Effect::PublishOrder { attempt, function: function.key.clone(), job, step: at });
    }

    fn extend_offer(&mut self, now: Timestamp, id: ChunkId) {
        let later = now.after(self.settings.offer);
        if let Some(chunk) = self.chunks.get_mut(&id)
            && let ChunkState::Offered { until, .. } = &mut chunk.state
        {
            *until = later;
            self.set_timer(later, Timer::Chunk(id));
        }
    }

    /// The chunk is no longer among the offered ones. Its tasks still count as open.
    pub(super) fn unoffer(&mut self, id: ChunkId) {
        let Some(chunk) = self.chunks.get(&id) else { return };
        if !matches!(chunk.state, ChunkState::Offered { .. }) {
            return;
        }
        let Some(function) = self.step(chunk.job, chunk.step).map(|step| step.function) else { return };
        let project = self.jobs[&chunk.job].project;
        let (job, at) = (chunk.job, chunk.step);
        let function = &mut self.functions[function];
        if function.offered.remove(&id) {
            function.queue.closed(project);
            self.hand(job, at, |handed| handed.offers -= 1);
        }
    }

    /// Takes an offer back: a claim of it is refused from now on.
    pub(super) fn withdraw(&mut self, now: Timestamp, id: ChunkId) {
        self.unoffer(id);
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        let (job, at) = (chunk.job, chunk.step);
        let ChunkState::Offered { avoid, .. } = &chunk.state else { return };
        let keep = chunk.has_row;
        chunk.state = ChunkState::Ready { avoid: avoid.clone() };
        let tasks = chunk.tasks.clone();
        if !keep {
            // Never claimed, never stored: as if it had not been.
            self.chunks.remove(&id);
        }
        if let Some(step) = self.step_mut(job, at) {
            step.open -= tasks.len();
            if keep {
                step.again.insert(id);
            } else {
                step.waiting.insert_all(&tasks);
            }
        }
        self.enqueue(now, job, at);
    }

    pub(super) fn withdraw_function(&mut self, now: Timestamp, at: usize) {
        for id in self.functions[at].offered.clone() {
            self.withdraw(now, id);
        }
        self.touched.insert(at);
    }

    /// Every function that this job's steps use orders anew.
    pub(super) fn withdraw_all_of(&mut self, now: Timestamp, id: JobId) {
        let functions: Vec<usize> = self.jobs[&id].steps.iter().map(|step| step.function).collect();
        for function in functions {
            self.withdraw_function(now, function);
        }
    }

    /// A job came that may rank before what is on offer: offers that it outranks are taken back.
    pub(super) fn withdraw_outranked(&mut self, now: Timestamp, id: JobId) {
        let job = &self.jobs[&id];
        let (project, priority) = (job.project, job.priority);
        let mut functions: Vec<usize> =
            job.steps.iter().filter(|step| step.may_run()).map(|step| step.function).collect();
        functions.dedup();
        for function in functions {
            let outranked = self.functions[function].offered.iter().any(|chunk| {
                let other = &self.jobs[&self.chunks[chunk].job];
                other.project != project || other.priority < priority
            });
            if outranked {
                self.withdraw_function(now, function);
            }
        }
    }

    /// The stream of orders is empty: what was offered is offered again.
    pub(super) fn offer_all_again(&mut self, now: Timestamp, out: &mut Applied) {
        for at in 0..self.functions.len() {
            for id in self.functions[at].offered.clone() {
                self.offer(now, id, out);
            }
        }
    }

    /// Nothing is left to offer and workers stand idle: the holder of the longest tail gives half of it back.
    fn share_tail(&mut self, at: usize, out: &mut Applied) {
        let function = &self.functions[at];
        let waits = function.queue.next(|project| self.weight_served(project)).is_some();
        if waits || function.offered.len() >= function.idle.len() {
            return;
        }
        let Some((left, id)) = function.leased.last().copied() else { return };
        // The first of them is being worked on.
        if left < 2 {
            return;
        }
        let keep = left.div_ceil(2);
        if let (Some(task_s), Some(load_s)) = (function.timing.task_s, function.timing.load_s)
            && f64::from(left - 1) * task_s < load_s
        {
            return; // It would be done before another renderer has loaded.
        }
        let chunk = self.chunks.get_mut(&id).expect("leased chunks exist");
        let attempt = chunk.attempt_id();
        let ChunkState::Leased(lease) = &mut chunk.state else { return };
        // Asked already: it answers with its next task at the latest.
        if lease.keep.is_some() {
            return;
        }
        lease.keep = Some(keep);
        let worker = lease.worker.clone();
        self.rank_lease(id, left);
        let control = Control { attempt: Some(attempt), keep_tasks: Some(keep), ..Control::default() };
        out.effects.push(Effect::PushControl { worker, control });
    }

    pub(super) fn restore_chunk(&mut self, id: ChunkId, now: Timestamp) {
        let chunk = &self.chunks[&id];
        let (job, at, tasks) = (chunk.job, chunk.step, chunk.tasks.len());
        let attempt = chunk.attempt_id();
        let function = self.jobs[&job].steps[at].function;
        match &chunk.state {
            ChunkState::Leased(lease) => {
                let (worker, until) = (lease.worker.clone(), lease.until);
                let lease_begun = lease.has_begun();
                let project = self.jobs[&job].project;
                self.functions[function].leased.insert((tasks, id));
                self.functions[function].queue.opened(project);
                self.step_mut(job, at).expect("found above").open += tasks;
                let begun = u32::from(lease_begun);
                self.hand(job, at, |handed| {
                    handed.leases += 1;
                    handed.begun += begun;
                });
                self.set_timer(until, Timer::Chunk(id));
                self.hold_worker(now, &worker, function, attempt);
            }
            ChunkState::Waiting { .. } | ChunkState::Ready { .. } | ChunkState::Offered { .. } => {
                self.wait_or_ready(now, id);
            }
        }
    }
}
