//! After each event: deadlines that passed, workers that are wanted, orders that can be offered, tails
//! that an idle worker can take over.

use super::workers::Gone;
use super::{Applied, Farm, Worker, WorkerState};
use crate::budget::Room;
use crate::change::Change;
use crate::chunk::{Chunk, ChunkState};
use crate::effect::{Control, Effect};
use crate::pool::Reach;
use crate::rank::Rank;
use crate::scale::{Demand, wanted_workers};
use crate::split::chunk_size;
use crate::timers::Timer;
use crate::values::Place;
use framewake_proto::ids::{ChunkId, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// Orders on the stream for each worker that is there or wanted: enough to have the next at hand,
/// few enough that what is published says nothing about what is decided.
const ORDERS_PER_WORKER: u32 = 2;
/// Most orders on the stream for workers that are busy: those that end within the next moments find one. When a job
/// comes that ranks before them they are all taken back and published anew, and with two for each of 10,000 workers
/// every submission would cost a tenth of a second and leave 20,000 orders to be refused.
const ORDERS_AHEAD_MAX: usize = 1000;

/// What came of asking for workers in one pool.
struct Started {
    workers: u32,
    /// Why there are not more, if others could make room.
    short: Option<Short>,
}

/// What there is too little of to start a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Short {
    Slots,
    /// Those that will do are with workers of other functions, or set aside.
    Gpus,
}

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
                if self.functions[function].idle.is_empty() {
                    // Nobody could have taken it: it lies where it should.
                    self.extend_offer(now, id);
                } else {
                    self.offer(now, id, out);
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
        self.touched.append(&mut self.starved);
        self.serve_again();
        while let Some(function) = self.next_touched() {
            self.scale(now, function, out);
            self.refill(now, function, out);
            self.share_tail(function, out);
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

    fn scale(&mut self, now: Timestamp, at: usize, out: &mut Applied) {
        let capacity = self.capacity(at);
        let start_s = self.start_s(now, at);
        let function = &mut self.functions[at];
        let start_s = start_s.map(|start_s| start_s + function.timing.load_s.unwrap_or(0.0));
        let demand = Demand { tasks: function.tasks, task_s: function.timing.task_s, start_s };
        function.wanted = wanted_workers(demand, function.rules.workers_max.min(capacity));
        let kept = self.kept_of(at);
        let function = &mut self.functions[at];
        function.needed = wanted_workers(demand, function.rules.workers_max).max(kept);
        function.wanted = function.wanted.max(kept.min(capacity));
        let there = function.workers.present + function.workers.starting;
        let mut missing = function.wanted.saturating_sub(there);
        function.short_since = (missing > 0).then(|| function.short_since.unwrap_or(now));
        let too_many = function.workers.present > function.rules.workers_max;
        if too_many && let Some(id) = function.idle.first().cloned() {
            // One that was thought lost came back, or the provider started more than it was asked for.
            self.ask_to_leave(now, id, out);
            return;
        }
        // After a start it is not known yet which workers live.
        if missing == 0 || self.deadlines_held {
            return;
        }
        if let Some(until) = self.unknown_until(at).filter(|until| *until > now) {
            self.set_timer(until, Timer::Start(at));
            return;
        }
        let mut short = None;
        for pool in self.pools_in_order(now, at) {
            let Started { workers, short: here } = self.start_in(now, at, &pool, missing, out);
            missing -= workers;
            short = short.or(here);
            if missing == 0 {
                return;
            }
        }
        if let Some(short) = short {
            self.starved.insert(at);
            self.make_room(now, at, missing, short, out);
        }
    }

    /// Seconds from asking for a worker to its first words, in the pool that is tried first of those where some came.
    pub(super) fn start_s(&self, now: Timestamp, at: usize) -> Option<f64> {
        let function = &self.functions[at];
        let typical = |pool: &Name| function.in_pools.get(pool)?.cold.typical();
        self.pools_in_order(now, at).iter().find_map(typical).map(|took| took.as_secs_f64())
    }

    /// Asks for at most `missing` workers in this pool.
    fn start_in(&mut self, now: Timestamp, at: usize, name: &Name, missing: u32, out: &mut Applied) -> Started {
        let slots = self.functions[at].rules.slots;
        let mut started = Started { workers: 0, short: None };
        let mut most = missing;
        if let Some(within) = self.functions[at].in_pools.get(name) {
            if within.starts.not_before.is_some_and(|until| until > now) {
                return started;
            }
            if within.starts.failures > 0 {
                // One at a time until one has spoken.
                most = most.min(1u32.saturating_sub(within.workers.starting));
            }
        }
        while started.workers < most {
            let Some(pool) = self.pools.get(name).filter(|pool| pool.reach == Reach::Open) else { break };
            if let Some(until) = pool.pause(now) {
                self.set_timer(until, Timer::Start(at));
                break;
            }
            let (max, here) = (pool.rules.max, pool.rules.here);
            if self.taken(name) + slots > max {
                started.short = Some(Short::Slots);
                break;
            }
            let gpus = if here { self.gpus_for_worker(at) } else { Some(Vec::new()) };
            let Some(gpus) = gpus else {
                started.short = Some(Short::Gpus);
                break;
            };
            self.start_worker(now, at, name, gpus, out);
            started.workers += 1;
        }
        started
    }

    fn start_worker(&mut self, now: Timestamp, at: usize, pool: &Name, gpus: Vec<Place>, out: &mut Applied) {
        let id = given_name(self.epoch, self.worker_next);
        self.worker_next += 1;
        let function = &mut self.functions[at];
        function.started_total += 1;
        let waited = function.short_since.map_or(Duration::ZERO, |since| now.since(since));
        out.effects.push(Effect::StartWorker {
            worker: id.clone(),
            function: function.key.clone(),
            pool: pool.clone(),
            gpus: gpus.clone(),
            waited,
        });
        self.ledger.open(now, &id, &function.key);
        self.add_worker(now, &id, at, Some(pool.clone()), WorkerState::Starting);
        self.give_gpus(&id, gpus);
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.note_start(now);
        }
    }

    /// Asks workers of other functions, in pools that this one may use, to leave: those that are idle, and while this
    /// function has none at all and another has more than its even share, one that is busy once it has finished its task.
    fn make_room(&mut self, now: Timestamp, at: usize, workers: u32, short: Short, out: &mut Applied) {
        let usable: BTreeSet<Name> = self.fit_pools(at).map(|pool| pool.rules.name.clone()).collect();
        let all_slots = self.fit_pools(at).fold(0, |sum: u32, pool| sum.saturating_add(pool.rules.max));
        let taken = usable.iter().map(|pool| self.taken(pool)).fold(0, u32::saturating_add);
        let leaving: u32 = (0..self.functions.len()).map(|other| self.slots_in(other, &usable, true)).sum();
        let wanted = workers.saturating_mul(self.functions[at].rules.slots);
        let free = if short == Short::Slots { all_slots.saturating_sub(taken) } else { 0 };
        let mut missing = wanted.saturating_sub(free).saturating_sub(leaving);
        let needing = self.functions.iter().filter(|function| function.tasks > 0).count();
        let even = all_slots / u32::try_from(needing.max(1)).unwrap_or(u32::MAX);
        let empty = self.functions[at].workers.present + self.functions[at].workers.starting == 0;
        let in_usable = |worker: &Worker| worker.pool.as_ref().is_some_and(|pool| usable.contains(pool));
        let mut victims = Vec::new();
        let others = self.functions.iter().enumerate().filter(|(other, _)| *other != at);
        for (other, function) in others.filter(|(_, function)| short == Short::Slots || function.rules.gpus > 0) {
            let spare = (function.workers.present + function.workers.starting).saturating_sub(function.wanted);
            let idle = function.idle.iter().filter(|id| self.workers.get(*id).is_some_and(in_usable));
            victims.extend(idle.take(spare as usize).map(|id| (id.clone(), function.rules.slots)));
            let takes = self.slots_in(other, &usable, false);
            if empty && leaving == 0 && victims.is_empty() && takes > even.max(function.rules.slots) {
                let busy = self.workers.iter().find(|(_, worker)| {
                    worker.function == other
                        && in_usable(worker)
                        && matches!(worker.state, WorkerState::Busy(_) | WorkerState::Idle)
                });
                victims.extend(busy.map(|(id, _)| (id.clone(), function.rules.slots)));
            }
        }
        for (id, slots) in victims {
            if missing == 0 {
                return;
            }
            missing = missing.saturating_sub(slots);
            self.ask_to_leave(now, id, out);
        }
    }

    pub(super) fn ask_to_leave(&mut self, now: Timestamp, id: WorkerId, out: &mut Applied) {
        self.drain_state(now, &id);
        out.effects.push(Effect::PushControl { worker: id, control: Control { drain: true, ..Control::default() } });
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
        }
        let function = step.function;
        self.touched_steps.insert((job, at));
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
        let function = &mut self.functions[function];
        if function.offered.remove(&id) {
            function.queue.closed(project);
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
                let project = self.jobs[&job].project;
                self.functions[function].leased.insert((tasks, id));
                self.functions[function].queue.opened(project);
                self.step_mut(job, at).expect("found above").open += tasks;
                self.set_timer(until, Timer::Chunk(id));
                self.hold_worker(now, &worker, function, attempt);
            }
            ChunkState::Waiting { .. } | ChunkState::Ready { .. } | ChunkState::Offered { .. } => {
                self.wait_or_ready(now, id);
            }
        }
    }
}

/// The name of a worker that the farm asks a provider for. People give other names to those that they start.
fn given_name(epoch: Timestamp, number: u64) -> WorkerId {
    format!("w{:x}-{number}", epoch.0).parse().expect("letters, digits and a dash")
}

/// Whether a farm, this one or an earlier run of it, asked a provider for this worker.
pub(super) fn is_given(id: &WorkerId) -> bool {
    let parts = id.as_str().strip_prefix('w').and_then(|name| name.split_once('-'));
    let read = parts.map(|(epoch, number)| (i64::from_str_radix(epoch, 16), number.parse()));
    matches!(read, Some((Ok(epoch), Ok(number))) if given_name(Timestamp(epoch), number) == *id)
}
