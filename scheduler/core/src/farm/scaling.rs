//! How many workers each function gets, where they are asked for, and how long they wait for work.

use super::{Applied, Farm, Weight, Worker, WorkerState};
use crate::change::JobState;
use crate::effect::{Control, Effect};
use crate::pool::Reach;
use crate::price::Held;
use crate::scale::{Demand, LINGER_MAX, WORTH, linger, worth_keeping};
use crate::timers::Timer;
use crate::values::Place;
use framewake_proto::ids::{ChunkId, JobId, Name, WorkerId};
use framewake_proto::time::{Day, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

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
    /// Brings the workers of a function in line with what it has to do.
    pub(super) fn scale(&mut self, now: Timestamp, at: usize, out: &mut Applied) {
        self.look_at_windows(now, at);
        self.look_at_deadlines(now, at);
        let demand = self.demand(now, at);
        let function = &mut self.functions[at];
        function.wanted = demand.decide().wanted;
        function.needed = Demand { capacity: u32::MAX, ..demand }.decide().wanted;
        let there = function.workers.present + function.workers.starting;
        let mut missing = function.wanted.saturating_sub(there);
        function.short_since = (missing > 0).then(|| function.short_since.unwrap_or(now));
        self.look_again(now, at);
        let function = &self.functions[at];
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

    /// What is to be done for the function, and what doing it takes.
    pub(super) fn demand(&self, now: Timestamp, at: usize) -> Demand {
        let function = &self.functions[at];
        let start_s = self.start_s(now, at).map(|start_s| start_s + function.timing.load_s.unwrap_or(0.0));
        Demand {
            tasks: function.tasks,
            work_s: self.work_s(at),
            start_s,
            worth: self.worth(now, at).unwrap_or(WORTH),
            workers_max: function.rules.workers_max,
            capacity: self.capacity(at),
            paid_for: start_s.and_then(|start_s| self.paid_for(now, at, start_s)),
            urgent: self.functions[at].ahead.urgent.workers,
            kept: self.kept(now, at),
            early: self.early(now, at),
        }
    }

    /// Seconds that the function's tasks take, each by its own job where that was measured.
    pub(super) fn work_s(&self, at: usize) -> Option<f64> {
        let function = &self.functions[at];
        let Weight { tasks, ms } = function.measured;
        let measured_s = ms as f64 / 1000.0;
        let others = function.tasks.saturating_sub(tasks);
        if others == 0 {
            return Some(measured_s);
        }
        let task_s = self.usual_task_s(at).or_else(|| (tasks > 0).then(|| measured_s / tasks as f64))?;
        Some(measured_s + others as f64 * task_s)
    }

    /// What a task takes of a job of which none is done yet: as those of the last jobs. The last tasks are no measure of it, for
    /// they are often all of one job.
    pub(super) fn usual_task_s(&self, at: usize) -> Option<f64> {
        let function = &self.functions[at];
        function.ahead.usual.mean().or(function.timing.task_s)
    }

    /// What an hour of waiting is worth, in hours of a worker of the pool that is tried first; `None`: the function does not say,
    /// or what a worker costs is not known in that currency.
    pub(super) fn worth(&self, now: Timestamp, at: usize) -> Option<f64> {
        let function = &self.functions[at];
        let waiting = function.rules.scaling.waiting?;
        let first = self.pools_in_order(now, at).into_iter().next()?;
        let price = self.price_in(now, at, &first).filter(|price| price.currency == waiting.currency)?;
        (price.micros_an_hour > 0).then(|| waiting.micros as f64 / price.micros_an_hour as f64)
    }

    /// What an hour of a worker costs there.
    pub(super) fn price_in(&self, now: Timestamp, at: usize, pool: &Name) -> Option<Held> {
        let gpu = self.pools.get(pool).map_or("", |pool| &pool.rules.gpu);
        self.ledger.prices.of(&self.functions[at].key.name, gpu, Some(pool), Day::of(now).0)
    }

    /// Workers that would be called for so many tasks of the function, by what they took before or else by what is usual.
    pub(super) fn workers_for(&self, now: Timestamp, at: usize, tasks: u64, task_s: Option<f64>) -> u32 {
        let work_s = task_s.or(self.usual_task_s(at)).map(|task_s| tasks as f64 * task_s);
        Demand { tasks, work_s, ..self.demand_without_kept(now, at) }.decide().wanted
    }

    fn demand_without_kept(&self, now: Timestamp, at: usize) -> Demand {
        let function = &self.functions[at];
        let start_s = self.start_s(now, at).map(|start_s| start_s + function.timing.load_s.unwrap_or(0.0));
        let (worth, workers_max) = (self.worth(now, at).unwrap_or(WORTH), function.rules.workers_max);
        Demand { start_s, worth, workers_max, capacity: self.capacity(at), ..Demand::default() }
    }

    /// The attempt at this chunk goes on: of a step that was never measured, that says how long its tasks take at least.
    pub(super) fn note_longest(&mut self, now: Timestamp, chunk: ChunkId, since: Timestamp) {
        let Some((job, at)) = self.chunks.get(&chunk).map(|chunk| (chunk.job, chunk.step)) else { return };
        let Some(step) = self.step_mut(job, at).filter(|step| step.timing.task_s.is_none()) else { return };
        let under_way_s = now.since(since).as_secs_f64();
        if under_way_s > step.longest_s {
            step.longest_s = under_way_s;
            self.unweighed.insert((job, at));
        }
    }

    /// Counts anew what steps contribute to the work of their functions.
    pub(super) fn weigh(&mut self) {
        for (id, at) in std::mem::take(&mut self.unweighed) {
            let Some(job) = self.jobs.get(&id) else { continue };
            let step = &job.steps[at];
            let counts = job.state != JobState::Paused && step.may_run();
            // A task that has been under way for longer than others took will, for all that is known, take as long again.
            let mean_s = self.usual_task_s(step.function);
            let longer_s = mean_s.filter(|mean_s| step.longest_s > *mean_s).map(|_| 2.0 * step.longest_s);
            let weight = match step.timing.task_s.or(longer_s).filter(|_| counts) {
                None => Weight::default(),
                Some(task_s) => {
                    let tasks = u64::from(step.left());
                    // Tasks of a century are none.
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let task_ms = (task_s.clamp(0.0, 3.2e9) * 1000.0).round() as u64;
                    Weight { tasks, ms: tasks.saturating_mul(task_ms) }
                }
            };
            self.set_weight(id, at, weight);
        }
    }

    pub(super) fn set_weight(&mut self, id: JobId, at: usize, weight: Weight) {
        let Some(step) = self.step_mut(id, at) else { return };
        let (before, function) = (std::mem::replace(&mut step.weight, weight), step.function);
        let measured = &mut self.functions[function].measured;
        measured.tasks = measured.tasks - before.tasks + weight.tasks;
        measured.ms = measured.ms - before.ms + weight.ms;
        self.touched.insert(function);
    }

    /// How long a worker that is started now, one of `together`, waits for work before it leaves.
    pub(super) fn linger_in(&self, now: Timestamp, at: usize, pool: &Name, together: u32) -> Duration {
        let function = &self.functions[at];
        if let Some(linger) = function.rules.scaling.linger {
            return linger;
        }
        let start = function.in_pools.get(pool).and_then(|within| within.cold.typical());
        let load = Duration::try_from_secs_f64(function.timing.load_s.unwrap_or(0.0)).unwrap_or_default();
        let (start, worth) = (start.map(|start| start + load), self.worth(now, at));
        let learned = start.and_then(|start| {
            let most = worth_keeping(start, worth.unwrap_or(0.0), together).min(LINGER_MAX);
            function.ahead.gaps.cheapest(most, most)
        });
        learned.unwrap_or_else(|| linger(start, worth, together))
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
        if self.pools.get(name).is_some_and(|pool| self.useless(pool, at).is_some()) {
            return started;
        }
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
            self.start_worker(now, at, name, gpus, missing, out);
            started.workers += 1;
        }
        started
    }

    fn start_worker(
        &mut self,
        now: Timestamp,
        at: usize,
        pool: &Name,
        gpus: Vec<Place>,
        together: u32,
        out: &mut Applied,
    ) {
        let id = given_name(self.epoch, self.worker_next);
        self.worker_next += 1;
        let linger = self.linger_in(now, at, pool, together);
        let function = &mut self.functions[at];
        function.started_total += 1;
        function.ahead.gaps.missed(now);
        let wanted = function.short_since.unwrap_or(now);
        out.effects.push(Effect::StartWorker {
            worker: id.clone(),
            function: function.key.clone(),
            pool: pool.clone(),
            gpus: gpus.clone(),
            linger,
        });
        self.ledger.open(now, &id, &function.key, Some(pool.clone()));
        self.add_worker(now, &id, at, Some(pool.clone()), WorkerState::Starting);
        self.begin_start(now, &id, wanted);
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
}

/// The name of a worker that the farm asks a provider for. People give other names to those that they start.
fn given_name(epoch: Timestamp, number: u64) -> WorkerId {
    format!("w{:x}-{number}", epoch.0).parse().expect("letters, digits and a dash")
}

/// Whether a farm, this one or an earlier run of it, asked a provider for this worker.
pub fn is_given(id: &WorkerId) -> bool {
    let parts = id.as_str().strip_prefix('w').and_then(|name| name.split_once('-'));
    let read = parts.map(|(epoch, number)| (i64::from_str_radix(epoch, 16), number.parse()));
    matches!(read, Some((Ok(epoch), Ok(number))) if given_name(Timestamp(epoch), number) == *id)
}
