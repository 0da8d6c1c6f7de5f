//! Workers come, speak, and go.

use super::coming::START_SETTLES;
use super::{Applied, Farm, PassedOver, ScalingStatus, WhyNot, Worker, WorkerState};
use crate::chunk::ChunkState;
use crate::effect::{Control, Effect};
use crate::event::{Progress, RequestId, WorkerEnd};
use crate::ledger::{Doing, Work};
use crate::loss;
use crate::timers::Timer;
use crate::values::Place;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, Name, WorkerId};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// How long the last report of a worker may come after its good-bye: it was on the stream before.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a process was that ran, ended well and was never heard of.
const NEVER_SPOKE: &str = "its process ended at once and never spoke: does its image start framewake-worker?";

/// What a worker says of itself with each heartbeat.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) places: Vec<Place>,
    pub(super) gpu: String,
    pub(super) progress: Option<Progress>,
    pub(super) draining: bool,
}

/// How a worker went away.
#[derive(Debug, Clone)]
pub(super) enum Gone {
    /// It said good-bye, or ended as one does that leaves.
    Left,
    /// Nothing was heard of it for a whole lease.
    Silent,
    /// Its place took it away: its words.
    TakenAway(String),
    /// The provider saw it fail; its words.
    Failed(String),
}

/// What is known of a worker that was lost while it held an attempt.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) places: Vec<Place>,
    pub(super) how: String,
    /// Whether the machine may be to blame.
    pub(super) may_be_machine: bool,
}

impl Farm {
    /// First words or a heartbeat: renews the lease it names, and says what should be done about it.
    #[allow(clippy::too_many_arguments)] // They are the event's fields.
    pub(super) fn see_worker(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: &WorkerId,
        key: &FunctionKey,
        holds: Option<AttemptId>,
        told: Told,
        out: &mut Applied,
    ) {
        let Some(function) = self.function_index.get(key).copied() else {
            // A worker of a function this farm does not know has no work here.
            out.effects
                .push(Effect::AnswerHeartbeat { request, control: Control { drain: true, ..Control::default() } });
            return;
        };
        let before = self.workers.get(id).map(|worker| worker.state);
        match before {
            None => self.add_worker(now, id, function, None, WorkerState::Idle),
            Some(WorkerState::Starting) => {
                self.set_worker_state(now, id, WorkerState::Idle);
                self.learn_start(now, id);
            }
            Some(WorkerState::Idle | WorkerState::Busy(_) | WorkerState::Draining(_)) => {}
        }
        self.ledger.open(now, id, key, self.workers.get(id).and_then(|worker| worker.pool.clone()));
        self.ledger.spoke(now, id, &told.gpu);
        for place in &told.places {
            self.health.seen(now, place);
        }
        // A worker that is leaving anyway, or that is told so for the first time.
        let welcome = if told.draining { Ok(()) } else { self.is_welcome(id, &told.places) };
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen_at = now;
            worker.places = told.places;
            worker.progress = told.progress;
        }
        match (before, welcome) {
            (None | Some(WorkerState::Starting), Err(reason)) => {
                self.note_wait(id, &reason);
                self.drain_state(now, id);
                // It would be started again at once, and there again: it counts as one that could not start.
                let pool = self.pool_of(id);
                self.start_failed(now, function, pool.as_ref(), reason);
            }
            (Some(WorkerState::Idle | WorkerState::Busy(_)), Err(_)) => self.drain_state(now, id),
            (Some(WorkerState::Starting), Ok(())) => {
                let pool = self.pool_of(id);
                self.start_succeeded(function, pool.as_ref());
            }
            (Some(WorkerState::Draining(_)), _) | (None | Some(WorkerState::Idle | WorkerState::Busy(_)), Ok(())) => {}
        }
        if told.draining {
            self.note_leaving(id);
            self.drain_state(now, id);
        }
        let mut control = holds.map_or_else(Control::default, |attempt| self.renew(now, id, attempt));
        control.drain = matches!(self.workers.get(id).map(|worker| worker.state), Some(WorkerState::Draining(_)));
        control.stay = !control.drain && self.is_soon_needed(now, id);
        out.effects.push(Effect::AnswerHeartbeat { request, control });
    }

    fn renew(&mut self, now: Timestamp, id: &WorkerId, attempt: AttemptId) -> Control {
        let until = now.after(self.settings.lease);
        let chunk = self.chunks.get_mut(&attempt.chunk).filter(|chunk| chunk.attempt == attempt.number);
        if let Some(ChunkState::Leased(lease)) = chunk.map(|chunk| &mut chunk.state)
            && lease.worker == *id
        {
            lease.until = until;
            let (keep_tasks, since) = (lease.keep, lease.since);
            self.note_longest(now, attempt.chunk, since);
            return Control { attempt: Some(attempt), keep_tasks, ..Control::default() };
        }
        Control { attempt: Some(attempt), stop: Some("the attempt is over"), ..Control::default() }
    }

    /// The worker holds this attempt from now on.
    pub(super) fn hold_worker(&mut self, now: Timestamp, id: &WorkerId, function: usize, attempt: AttemptId) {
        match self.workers.get(id).map(|worker| worker.state) {
            None => self.add_worker(now, id, function, None, WorkerState::Busy(attempt)),
            Some(WorkerState::Draining(_)) => self.set_worker_state(now, id, WorkerState::Draining(Some(attempt))),
            // Its claim overtook its first heartbeat.
            Some(WorkerState::Starting) => {
                self.set_worker_state(now, id, WorkerState::Busy(attempt));
                self.learn_start(now, id);
            }
            Some(WorkerState::Idle | WorkerState::Busy(_)) => {
                if let Some((function, idle_since)) = self.idle_since(id) {
                    self.functions[function].ahead.gaps.ended(now.since(idle_since));
                }
                self.set_worker_state(now, id, WorkerState::Busy(attempt));
            }
        }
        let pool = self.pool_of(id);
        self.start_succeeded(function, pool.as_ref());
        self.ledger.open(now, id, &self.functions[function].key, pool);
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen_at = now;
            worker.has_worked = true;
        }
        if let Some(chunk) = self.chunks.get(&attempt.chunk)
            && let Some(job) = self.jobs.get(&chunk.job)
        {
            let project = self.project_names[job.project].clone();
            self.ledger.claimed(now, id, attempt, Work { job: chunk.job, step: chunk.step, project });
        }
    }

    /// Its function, and since when it waits for work that followed the last; one that never worked was called for nothing, or
    /// for what has not begun yet, and says nothing of how work follows work.
    fn idle_since(&self, id: &WorkerId) -> Option<(usize, Timestamp)> {
        let worker = self.workers.get(id).filter(|worker| worker.has_worked && worker.state == WorkerState::Idle)?;
        Some((worker.function, worker.since))
    }

    /// It found nothing to do.
    fn note_leaving(&mut self, id: &WorkerId) {
        if let Some((function, idle_since)) = self.idle_since(id) {
            self.functions[function].ahead.gaps.left(idle_since);
        }
    }

    /// The worker holds this attempt no longer.
    pub(super) fn free_worker(&mut self, now: Timestamp, id: &WorkerId, attempt: AttemptId) {
        match self.workers.get(id).map(|worker| worker.state) {
            Some(WorkerState::Busy(held)) if held == attempt => self.set_worker_state(now, id, WorkerState::Idle),
            Some(WorkerState::Draining(Some(held))) if held == attempt => {
                self.set_worker_state(now, id, WorkerState::Draining(None));
            }
            _ => {} // Gone, or on to something newer.
        }
    }

    pub(super) fn drain_state(&mut self, now: Timestamp, id: &WorkerId) {
        match self.workers.get(id).map(|worker| worker.state) {
            Some(WorkerState::Starting | WorkerState::Idle) => {
                self.set_worker_state(now, id, WorkerState::Draining(None));
            }
            Some(WorkerState::Busy(attempt)) => self.set_worker_state(now, id, WorkerState::Draining(Some(attempt))),
            Some(WorkerState::Draining(_)) | None => {}
        }
    }

    pub(super) fn find_worker(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        key: &FunctionKey,
        pool: Name,
        gpus: Vec<Place>,
    ) {
        let known = self.workers.get(id).map(|worker| (worker.function, worker.pool.is_some()));
        match (known, self.function_index.get(key).copied()) {
            (None, Some(function)) => {
                // One of before a restart is late in its start only if it was asked for and never heard of: any other may
                // render, however long it is silent, and is never stopped.
                let state = if self.is_unheard(id) { WorkerState::Starting } else { WorkerState::Idle };
                self.ledger.open(now, id, key, Some(pool.clone()));
                self.add_worker(now, id, function, Some(pool), state);
            }
            // It spoke before its place was heard.
            (Some((function, false)), _) => {
                self.count_worker(id, false);
                let pool = self.take_slots(id, function, Some(pool));
                self.ledger.open(now, id, key, pool.clone());
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.pool = pool;
                }
                self.count_worker(id, true);
            }
            (Some((_, true)), _) | (None, None) => {}
        }
        self.give_gpus(id, gpus);
    }

    /// Whether it was asked for and nothing was heard of it, as far as that is durable.
    fn is_unheard(&self, id: &WorkerId) -> bool {
        match self.ledger.account(id) {
            Some(account) => matches!(account.doing, Doing::Starting { spoke_at: None }),
            None => self.was_starting(id),
        }
    }

    pub(super) fn pool_of(&self, id: &WorkerId) -> Option<Name> {
        self.workers.get(id)?.pool.clone()
    }

    /// The provider gave it these.
    pub(super) fn give_gpus(&mut self, id: &WorkerId, gpus: Vec<Place>) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.gpus = gpus;
        }
    }

    /// `pool`: absent where it is not known, as of one that people started.
    pub(super) fn add_worker(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        function: usize,
        pool: Option<Name>,
        state: WorkerState,
    ) {
        let timeline = self.recall_start(id);
        let pool = self.take_slots(id, function, pool);
        let worker = Worker {
            function,
            pool,
            state,
            since: now,
            seen_at: now,
            places: Vec::new(),
            gpus: Vec::new(),
            progress: None,
            timeline,
            waits: String::new(),
            has_worked: false,
        };
        if worker.timeline.at(StartPoint::Nats).is_some() {
            self.set_timer(now.after(START_SETTLES), Timer::Came(id.clone()));
        }
        self.set_timer(now.after(self.patience(&worker)), Timer::Worker(id.clone()));
        self.workers.insert(id.clone(), worker);
        self.count_worker(id, true);
    }

    /// How long the worker may stay silent.
    pub(super) fn patience(&self, worker: &Worker) -> Duration {
        if worker.state != WorkerState::Starting {
            return self.settings.lease * 2;
        }
        let pool = worker.pool.as_ref().and_then(|pool| self.pools.get(pool));
        pool.map_or(self.settings.start, |pool| pool.rules.start_within)
    }

    fn set_worker_state(&mut self, now: Timestamp, id: &WorkerId, state: WorkerState) {
        self.count_worker(id, false);
        let mut spoke = false;
        if let Some(worker) = self.workers.get_mut(id) {
            spoke = worker.state == WorkerState::Starting;
            worker.state = state;
            worker.since = now;
        }
        self.count_worker(id, true);
        if spoke {
            // Its start may have been given many minutes; its silence is given none of them.
            self.set_timer(now.after(self.settings.lease * 2), Timer::Worker(id.clone()));
        }
    }

    fn count_worker(&mut self, id: &WorkerId, add: bool) {
        let Some(worker) = self.workers.get(id) else { return };
        let function = &mut self.functions[worker.function];
        let within = worker.pool.as_ref().map(|pool| &mut function.in_pools.entry(pool.clone()).or_default().workers);
        for counts in [Some(&mut function.workers), within].into_iter().flatten() {
            let count = match worker.state {
                WorkerState::Starting => &mut counts.starting,
                WorkerState::Idle | WorkerState::Busy(_) => &mut counts.present,
                WorkerState::Draining(_) => &mut counts.draining,
            };
            *count = if add { *count + 1 } else { *count - 1 };
        }
        match (worker.state, add) {
            (WorkerState::Idle, true) => {
                function.idle.insert(id.clone());
            }
            (WorkerState::Idle, false) => {
                function.idle.remove(id);
            }
            (WorkerState::Starting | WorkerState::Busy(_) | WorkerState::Draining(_), _) => {}
        }
        self.touched.insert(worker.function);
    }

    /// A worker says that it leaves. Who leaves before it has begun would be started again at once, and again.
    pub(super) fn say_goodbye(&mut self, now: Timestamp, id: &WorkerId, out: &mut Applied) {
        let Some(worker) = self.workers.get(id) else { return };
        let (state, function, pool) = (worker.state, worker.function, worker.pool.clone());
        match state {
            WorkerState::Busy(attempt) | WorkerState::Draining(Some(attempt)) => {
                self.await_last_words(now, id, attempt);
            }
            WorkerState::Idle => self.note_leaving(id),
            WorkerState::Starting | WorkerState::Draining(None) => {}
        }
        self.remove_worker(now, id, Gone::Left, out);
        if state == WorkerState::Starting {
            self.start_failed(now, function, pool.as_ref(), format!("worker {id} left before it had begun"));
        }
    }

    /// What it says of its attempt in the end goes by way of the stream, which the good-bye may overtake.
    fn await_last_words(&mut self, now: Timestamp, id: &WorkerId, attempt: AttemptId) {
        let until = now.after(LAST_WORDS);
        if let Some(ChunkState::Leased(lease)) = self.chunks.get_mut(&attempt.chunk).map(|chunk| &mut chunk.state)
            && lease.worker == *id
        {
            lease.until = until;
            self.set_timer(until, Timer::Chunk(attempt.chunk));
            self.free_worker(now, id, attempt);
        }
    }

    /// The worker is gone; what it held is lost with it, free of charge.
    pub(super) fn remove_worker(&mut self, now: Timestamp, id: &WorkerId, gone: Gone, out: &mut Applied) {
        let Some(worker) = self.workers.get(id) else { return };
        let how_gone = gone.clone();
        let lost = self.lost(now, id, gone);
        let held = match worker.state {
            WorkerState::Busy(attempt) | WorkerState::Draining(Some(attempt)) => Some(attempt),
            WorkerState::Starting | WorkerState::Idle | WorkerState::Draining(None) => None,
        };
        self.count_worker(id, false);
        if let Some(mut worker) = self.workers.remove(id) {
            self.end_start(now, id, &mut worker, &how_gone);
            // Its process may live on; the provider tells of its end.
            let Worker { function, pool, gpus, timeline, .. } = worker;
            self.await_end(now, id, function, pool, timeline);
            if !gpus.is_empty() {
                self.gpus.kept.insert(id.clone(), gpus);
            }
        }
        if let Some(attempt) = held
            && self.holder(attempt.chunk) == Some(id)
        {
            self.lose(now, attempt.chunk, lost, out);
        }
        self.ledger.closed(now, id);
    }

    /// What is to be said of a worker that is lost now.
    pub(super) fn lost(&self, now: Timestamp, id: &WorkerId, gone: Gone) -> Lost {
        let worker = self.workers.get(id);
        let places = worker.map_or_else(Vec::new, |worker| worker.places.clone());
        let may_be_machine = !matches!(gone, Gone::Left | Gone::TakenAway(_));
        let how = match gone {
            Gone::Left => "it left and had not finished".to_owned(),
            Gone::TakenAway(reason) => format!("it was taken away: {reason}"),
            Gone::Failed(reason) => format!("its process ended: {reason}"),
            Gone::Silent => {
                let heard = worker.map_or_else(String::new, |worker| {
                    format!(": last heard {} s before", now.since(worker.seen_at).as_secs())
                });
                let progress =
                    worker.and_then(|worker| worker.progress.as_ref()).map_or_else(String::new, |progress| {
                        let note =
                            if progress.note.is_empty() { String::new() } else { format!(" ({})", progress.note) };
                        format!(", then {} % through its task{note}", progress.permille / 10)
                    });
                format!("it fell silent{heard}{progress}")
            }
        };
        Lost { places, how: loss::words(&how), may_be_machine }
    }

    fn holder(&self, chunk: ChunkId) -> Option<&WorkerId> {
        match &self.chunks.get(&chunk)?.state {
            ChunkState::Leased(lease) => Some(&lease.worker),
            ChunkState::Waiting { .. } | ChunkState::Ready { .. } | ChunkState::Offered { .. } => None,
        }
    }

    pub(super) fn end_worker(&mut self, now: Timestamp, id: &WorkerId, end: WorkerEnd, out: &mut Applied) {
        let starting = self.workers.get(id).filter(|worker| worker.state == WorkerState::Starting);
        let started_for = starting.map(|worker| (worker.function, worker.pool.clone()));
        let ran = starting.is_some_and(|worker| worker.timeline.at(StartPoint::Process).is_some());
        let end = match end {
            // A worker can't end well before it was answered: whatever this was, another would do the same.
            WorkerEnd::Left if ran => WorkerEnd::Failed { reason: NEVER_SPOKE.to_owned() },
            end => end,
        };
        let unheard = match &end {
            WorkerEnd::Left => "it left".to_owned(),
            WorkerEnd::TakenAway { reason } => format!("it was taken away: {reason}"),
            WorkerEnd::Failed { reason } => format!("it failed: {reason}"),
        };
        let gone = match &end {
            WorkerEnd::Left => Gone::Left,
            WorkerEnd::TakenAway { reason } => Gone::TakenAway(reason.clone()),
            WorkerEnd::Failed { reason } => Gone::Failed(reason.clone()),
        };
        self.remove_worker(now, id, gone, out);
        // One of before a restart that never spoke again.
        self.ledger.closed(now, id);
        self.end_unheard_start(now, id, &unheard);
        self.gpus.kept.remove(id);
        self.forget_worker(id);
        if let (WorkerEnd::Failed { reason }, Some((function, pool))) = (end, started_for) {
            self.start_failed(now, function, pool.as_ref(), reason);
        }
    }

    /// A function's workers and why there are not more, for people.
    pub fn scaling(&self, now: Timestamp) -> impl Iterator<Item = (&FunctionKey, ScalingStatus)> {
        self.functions.iter().enumerate().map(move |(at, function)| {
            let there = function.workers.present + function.workers.starting;
            let mut reasons = Vec::new();
            if function.wanted > there || function.starts_failed() > 0 {
                let told = self.passed_over(now, at).into_iter().filter(|told| told.why != WhyNot::Unfit);
                reasons.extend(told.map(|PassedOver { pool, reason, .. }| format!("pool {pool}: {reason}")));
            }
            let status = ScalingStatus {
                wanted: function.wanted,
                needed: function.needed,
                starting: function.workers.starting,
                present: function.workers.present + function.workers.draining,
                started_total: function.started_total,
                reasons,
            };
            (&function.key, status)
        })
    }
}
