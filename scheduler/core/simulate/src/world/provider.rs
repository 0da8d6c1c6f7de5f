//! Where workers are started: a provider that does too much, too little, or nothing.

use super::scheduler::Inbound;
use super::worker::{State, Worker};
use super::{What, World, say};
use crate::auditor::Books;
use crate::fault::Fault;
use crate::invariant::About;
use framewake_core::event::WorkerEnd;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};

/// A late start comes within this; the rules wait for a minute.
const LATE_MS: std::ops::Range<i64> = 40_000..200_000;
/// A death is noticed within this.
const NOTICED_MS_MAX: i64 = 5000;

/// The GPUs that workers run on. There are always some more.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    free: Vec<usize>,
    known: usize,
}

/// GPUs that come into being together, when none is free.
const GPUS_AT_ONCE: usize = 8;

impl Gpus {
    fn take(&mut self, dice: &mut fastrand::Rng) -> usize {
        if self.free.is_empty() {
            self.free.extend(self.known..self.known + GPUS_AT_ONCE);
            self.known += GPUS_AT_ONCE;
        }
        let at = dice.usize(0..self.free.len());
        self.free.swap_remove(at)
    }

    fn give_back(&mut self, gpu: usize) {
        self.free.push(gpu);
    }
}

impl World {
    pub(super) fn start_worker(&mut self, id: &WorkerId, function: &FunctionKey, pool: &Name) {
        if self.by_id.contains_key(id) {
            return;
        }
        let about = About::worker(id);
        let function =
            self.shape.functions.iter().position(|(key, _)| key == function).expect("a function of the world");
        self.tally.starts += 1;
        if self.strikes(Fault::ProviderNever) {
            say!(self, about, "the provider forgets to start {id}");
            return;
        }
        if self.strikes(Fault::ProviderFails) {
            say!(self, about, "the provider can't start {id}");
            let end = WorkerEnd::Failed { reason: "no such node".to_owned() };
            self.plan_in(500, What::Hear(Inbound::Exited { worker: id.clone(), end }));
            return;
        }
        let boot_ms = self.chance.world().i64(self.shape.boot_ms.0..=self.shape.boot_ms.1);
        let late_ms =
            if self.strikes(Fault::ProviderLate) { self.chance.of(Fault::ProviderLate).i64(LATE_MS) } else { 0 };
        self.add_worker(id.clone(), function, Some(pool.clone()), boot_ms + late_ms);
        if self.strikes(Fault::ProviderDoubles) {
            let twin: WorkerId = format!("{id}-twin").parse().expect("a good name");
            self.add_worker(twin, function, None, boot_ms);
        }
    }

    /// `pool`: where it was asked for; a provider may start more.
    fn add_worker(&mut self, id: WorkerId, function: usize, pool: Option<Name>, boot_ms: i64) {
        say!(self, About::worker(&id), "{id} is started and comes up in {boot_ms} ms");
        let at = u32::try_from(self.workers.len()).expect("fewer workers than u32 holds");
        self.by_id.insert(id.clone(), at);
        let gpu = self.gpus.take(self.chance.world());
        self.workers.push(Worker::new(id, function, pool, self.now, gpu, self.alive.len()));
        self.alive.push(at);
        self.plan_in(boot_ms, What::WorkerDue(at, 0));
    }

    pub(super) fn stop_worker(&mut self, id: &WorkerId) {
        if let Some(worker) = self.by_id.get(id).copied() {
            let ms = self.latency();
            self.plan_in(ms, What::StopAsked(worker));
        }
    }

    pub(super) fn kill(&mut self, worker: u32, why: &str) {
        if self.workers[worker as usize].state.is_gone() {
            return;
        }
        self.tally.kills += 1;
        let id = &self.workers[worker as usize].id;
        say!(self, About::worker(id), "{id} dies: {why}");
        self.end(worker, WorkerEnd::Failed { reason: why.to_owned() });
    }

    /// The worker is no more; the provider may notice.
    pub(super) fn end(&mut self, at: u32, end: WorkerEnd) {
        let worker = &mut self.workers[at as usize];
        if worker.state.is_gone() {
            return;
        }
        let (id, function, seat) = (worker.id.clone(), worker.function, worker.seat);
        self.gpus.give_back(worker.gpu);
        self.tally.paid_ms += u64::try_from(self.now - worker.born_at).unwrap_or(0);
        if let State::Claiming { attempt, .. } = std::mem::replace(&mut worker.state, State::Gone) {
            self.plan_in(super::queue::ACK_WAIT_MS, What::OrderArrives { function, attempt });
        }
        self.alive.swap_remove(seat);
        if let Some(moved) = self.alive.get(seat) {
            self.workers[*moved as usize].seat = seat;
        }
        if !self.strikes(Fault::ExitUnnoticed) {
            let ms = self.chance.world().i64(0..NOTICED_MS_MAX);
            self.plan_in(ms, What::Hear(Inbound::Exited { worker: id, end }));
        }
    }

    /// The place of a pool tells who is there: all of them, and only then that it has told.
    pub(super) fn observe(&mut self, number: usize) {
        let pool = self.shape.pools[number].name.clone();
        for at in self.alive.clone() {
            let worker = &self.workers[at as usize];
            if worker.pool.as_ref() == Some(&pool) {
                let (worker, function) = (worker.id.clone(), worker.function);
                self.hear(Inbound::Found { worker, function, pool: pool.clone() });
            }
        }
        self.hear(Inbound::PoolReached(number));
    }

    /// Workers that were asked for and live: of each function, those that the scheduler has no reason to think dead; of
    /// each pool, also those whose end it has to be told before it may replace them.
    pub(super) fn asked_for(&mut self) -> Books {
        let lease = 2 * self.shape.rules.lease.as_millis();
        let mut books = Books::default();
        for at in &self.alive {
            let worker = &mut self.workers[*at as usize];
            let Some(pool) = &worker.pool else { continue };
            let start = self.shape.pools.iter().find(|rules| rules.name == *pool).map(|rules| rules.start_within);
            let start = start.unwrap_or_default().as_millis();
            let ms = |patience: u128| i64::try_from(patience).unwrap_or(i64::MAX);
            let patience = ms(if worker.heard_at.is_some() { lease } else { start });
            // Its time to start runs from the decision, and that was before the commit.
            let since = worker.heard_at.unwrap_or(worker.born_at - self.shape.commit_ms);
            worker.given_up |= since + patience <= self.now;
            worker.forgotten |= since + patience + ms(start) <= self.now;
            let slots = self.shape.functions[worker.function].1.slots;
            // Who said good-bye to a scheduler that was down is not known to one that starts anew.
            if !worker.forgotten {
                *books.pools.entry(pool.clone()).or_default() += slots;
            }
            if !worker.given_up {
                let key = self.shape.functions[worker.function].0.clone();
                let asked = books.functions.entry(key).or_default();
                *(if worker.draining || worker.told_to_leave { &mut asked.leaving } else { &mut asked.staying }) += 1;
            }
        }
        books
    }
}
