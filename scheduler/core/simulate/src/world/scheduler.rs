//! The engine: receive, apply, commit, perform; killed between any two of them.

use super::worker::worker_of;
use super::{Answer, What, World, job_id, say};
use crate::auditor::{Heard, is_leased};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::invariant::About;
use crate::plant::Plant;
use crate::shape::Shape;
use framewake_core::change::{Change, JobState};
use framewake_core::effect::Effect;
use framewake_core::event::{Event, RequestId, WorkerEnd};
use framewake_core::farm::{Applied, Farm, Listener};
use framewake_core::values::StoredJob;
use framewake_proto::ids::{AttemptId, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, VecDeque};

/// Most messages committed together, as in the engine.
const BATCH_MAX: usize = 1024;
/// Worlds with more jobs compare them with the book only after a restart.
const JOBS_CHECKED_MAX: usize = 64;
/// The wall clock at the beginning of a world.
const WALL_MS: i64 = 1_700_000_000_000;

/// What reaches the scheduler.
#[derive(Debug, Clone)]
pub(super) enum Inbound {
    Submit(usize),
    Cancel(JobId),
    Pause(JobId),
    Resume(JobId),
    Retry(JobId),
    Prioritize(JobId, u32),
    Weigh(Name, u32),
    Claim {
        request: RequestId,
        worker: u32,
        attempt: AttemptId,
    },
    Beat {
        worker: u32,
        holds: Option<AttemptId>,
        draining: bool,
    },
    /// The report with this number.
    Report(u64),
    Left(WorkerId),
    Found {
        worker: WorkerId,
        function: usize,
        pool: Name,
    },
    Exited {
        worker: WorkerId,
        end: WorkerEnd,
    },
    /// Where workers may be started.
    Pools,
    /// The place of the pool with this number has told of its workers.
    PoolReached(usize),
    OrdersLost,
    HeldUp,
    ReportsDrained,
    TimePassed,
    /// Whatever a liar says.
    Lie(Box<Event>),
}

/// One event of a batch and what the rules made of it.
#[derive(Debug)]
struct Turn {
    at: Timestamp,
    heard: Heard,
    applied: Applied,
    report: Option<u64>,
    accepted: bool,
}

pub(super) struct Scheduler {
    /// `None` while it is down.
    farm: Option<Farm>,
    pub(super) disk: Disk,
    inbox: VecDeque<Inbound>,
    /// Applied, and not yet durable.
    batch: Vec<Turn>,
    committing: bool,
    /// Numbers commits over all lives.
    commit: u64,
    clock_ms: i64,
    /// NATS can be reached.
    connected: bool,
    pub(super) orders_lost: bool,
    /// Orders that wait for NATS.
    outbox: Vec<(usize, AttemptId)>,
    pub(super) open_jobs: usize,
    pub(super) accepted: usize,
}

impl Scheduler {
    pub(super) fn new(shape: &Shape) -> Scheduler {
        let disk = Disk { functions: shape.functions.clone(), chunk_next: 1, ..Disk::default() };
        let farm = Farm::restore(shape.rules, Timestamp(WALL_MS), disk.snapshot());
        Scheduler {
            farm: Some(farm),
            disk,
            inbox: VecDeque::new(),
            batch: Vec::new(),
            committing: false,
            commit: 0,
            clock_ms: WALL_MS,
            connected: true,
            orders_lost: false,
            outbox: Vec::new(),
            open_jobs: 0,
            accepted: 0,
        }
    }

    /// When the rules want to be asked again, in the time of the world.
    pub(super) fn deadline(&self) -> Option<i64> {
        if self.committing {
            return None;
        }
        Some(self.farm.as_ref()?.next_deadline()?.0 - self.clock_ms)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.farm.is_some() && self.connected
    }

    pub(super) fn is_up(&self) -> bool {
        self.farm.is_some()
    }

    pub(super) fn explain(&self, id: JobId, now: i64) -> Option<Vec<Vec<String>>> {
        self.farm.as_ref()?.explain(Timestamp(now + self.clock_ms), id, &Listener::default())
    }
}

impl World {
    /// A message reaches the scheduler, if it is there and can be reached.
    pub(super) fn hear(&mut self, inbound: Inbound) {
        let by_nats = matches!(
            inbound,
            Inbound::Claim { .. } | Inbound::Beat { .. } | Inbound::Left(_) | Inbound::Lie(_) | Inbound::Report(_)
        );
        if !self.scheduler.is_up() || (by_nats && !self.scheduler.connected) {
            if let Inbound::Submit(at) = inbound {
                // The client tries again.
                self.plan_in(1000, What::Submit(at));
            }
            return;
        }
        self.scheduler.inbox.push_back(inbound);
        if !self.scheduler.committing {
            self.turn();
        }
    }

    /// One batch: apply what waits, then commit.
    fn turn(&mut self) {
        for _ in 0..BATCH_MAX {
            let Some(inbound) = self.scheduler.inbox.pop_front() else { break };
            self.apply(inbound);
        }
        if self.scheduler.batch.is_empty() {
            return;
        }
        if self.shape.commit_ms == 0 {
            self.commit();
            return;
        }
        self.scheduler.committing = true;
        self.scheduler.commit += 1;
        let ms = self.chance.world().i64(1..=self.shape.commit_ms);
        self.plan_in(ms, What::Committed(self.scheduler.commit));
    }

    fn apply(&mut self, inbound: Inbound) {
        let report = if let Inbound::Report(number) = inbound { Some(number) } else { None };
        let accepted = matches!(inbound, Inbound::Submit(_));
        let Some((event, heard)) = self.event(inbound) else { return };
        let now = Timestamp(self.now + self.scheduler.clock_ms);
        let mut applied = Applied::default();
        let Some(farm) = &mut self.scheduler.farm else { return };
        farm.apply(now, event, &mut applied);
        if let Some(plant) = self.plant {
            let smallest = self.shape.pools.iter().min_by_key(|pool| pool.max).expect("a world has pools");
            plant.bend(&heard, &self.shape.functions[0].0, &smallest.name, &mut applied);
        }
        self.scheduler.batch.push(Turn { at: now, heard, applied, report, accepted });
    }

    fn event(&mut self, inbound: Inbound) -> Option<(Event, Heard)> {
        Some(match inbound {
            Inbound::Submit(at) => {
                say!(self, About::job(job_id(at)), "job {} is submitted", job_id(at));
                (Event::JobSubmitted { id: job_id(at), job: self.shape.jobs[at].job.clone() }, Heard::Other)
            }
            Inbound::Cancel(id) => (Event::JobCanceled { id }, Heard::Canceled(id)),
            Inbound::Pause(id) => (Event::JobPaused { id }, Heard::Other),
            Inbound::Resume(id) => (Event::JobResumed { id }, Heard::Other),
            Inbound::Retry(id) => {
                (Event::JobRetried { job: Box::new(self.to_retry(id)?), only: None }, Heard::Retried(id))
            }
            Inbound::Prioritize(id, priority) => (Event::JobPrioritized { id, priority }, Heard::Other),
            Inbound::Weigh(project, weight) => (Event::ProjectWeighed { project, weight }, Heard::Other),
            Inbound::Claim { request, worker, attempt } => {
                // Its hello may have been lost; where this claim is refused, its start still counts.
                self.workers[worker as usize].heard_at.get_or_insert(self.now);
                let worker = self.workers[worker as usize].id.clone();
                (Event::AttemptClaimed { request, worker, attempt }, Heard::Other)
            }
            Inbound::Beat { worker: at, holds, draining } => {
                let worker = &mut self.workers[at as usize];
                worker.heard_at = Some(self.now);
                let function = self.shape.functions[worker.function].0.clone();
                let worker = worker.id.clone();
                let request = RequestId(u64::from(at) << 32);
                let heard = Heard::Worker(worker.clone());
                let places = vec![self.workers[at as usize].place.clone()];
                let (gpu, progress) = ("NVIDIA L4".to_owned(), None);
                (Event::WorkerSeen { request, worker, function, holds, draining, places, gpu, progress }, heard)
            }
            Inbound::Report(number) => {
                let mut mail = self.mail(number)?;
                let mut planted = false;
                if self.plant == Some(Plant::StaleReportCounts)
                    && let Some((holder, newest)) = self.auditor.holder_of(mail.attempt.chunk)
                    && (*holder != mail.worker || newest != mail.attempt.number)
                {
                    (mail.worker, mail.attempt.number) = (holder.clone(), newest);
                    planted = true;
                }
                let heard = Heard::Report { worker: mail.worker.clone(), attempt: mail.attempt, planted };
                (Event::AttemptReported { worker: mail.worker, attempt: mail.attempt, report: mail.report }, heard)
            }
            Inbound::Left(worker) => (Event::WorkerLeft { worker }, Heard::Other),
            Inbound::Found { worker, function, pool } => {
                let function = self.shape.functions[function].0.clone();
                (Event::WorkerFound { worker, function, pool, gpus: Vec::new() }, Heard::Other)
            }
            Inbound::Pools => {
                let (pools, unfit) = (self.shape.pools.clone(), BTreeMap::new());
                (Event::PoolsSet { pools, unfit }, Heard::Other)
            }
            Inbound::PoolReached(pool) => {
                (Event::PoolReached { pool: self.shape.pools[pool].name.clone() }, Heard::Other)
            }
            Inbound::Exited { worker, end } => (Event::WorkerExited { worker, end }, Heard::Other),
            Inbound::OrdersLost => (Event::OrdersLost, Heard::OrdersLost),
            Inbound::HeldUp => (Event::ReportsHeldUp, Heard::Other),
            Inbound::ReportsDrained => (Event::ReportsDrained, Heard::Other),
            Inbound::TimePassed => (Event::TimePassed, Heard::Other),
            Inbound::Lie(event) => {
                let heard = match &*event {
                    Event::AttemptReported { worker, attempt, .. } => {
                        Heard::Report { worker: worker.clone(), attempt: *attempt, planted: false }
                    }
                    _ => Heard::Other,
                };
                (*event, heard)
            }
        })
    }

    /// As the engine does it: what is in memory is enough, unless the job is over.
    fn to_retry(&self, id: JobId) -> Option<StoredJob> {
        let (job, _) = self.scheduler.disk.jobs.get(&id)?;
        if self.scheduler.farm.as_ref()?.job_state(id).is_some() {
            return Some(StoredJob {
                id,
                job: job.clone(),
                paused: false,
                restored: false,
                spent: Vec::new(),
                steps: Vec::new(),
            });
        }
        let failed = self.scheduler.disk.state(id) == Some(JobState::Failed);
        if failed { self.scheduler.disk.stored_job(id) } else { None }
    }

    pub(super) fn committed(&mut self, number: u64) {
        if number != self.scheduler.commit || !self.scheduler.committing {
            return;
        }
        self.scheduler.committing = false;
        self.commit();
        if self.scheduler.is_up() && !self.scheduler.inbox.is_empty() {
            self.turn();
        }
    }

    /// The batch is made durable; then its effects are performed.
    fn commit(&mut self) {
        let effects = self.make_durable();
        for effect in effects {
            self.perform(effect);
        }
    }

    fn make_durable(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut starts = false;
        let mut acknowledged = None;
        for turn in std::mem::take(&mut self.scheduler.batch) {
            let Turn { at, heard, applied, report, accepted } = turn;
            acknowledged = report.or(acknowledged);
            self.scheduler.accepted += usize::from(accepted && !applied.changes.is_empty());
            self.tally.changes += applied.changes.len() as u64;
            self.tally.effects += applied.effects.len() as u64;
            self.auditor.heard(heard, at);
            self.auditor.changed(&applied.changes, &self.objects);
            for effect in &applied.effects {
                let told = match effect {
                    Effect::PushControl { worker, control } if control.drain => self.by_id.get(worker).copied(),
                    Effect::AnswerHeartbeat { request, control } if control.drain => Some(worker_of(*request).0),
                    _ => None, // The others tell nobody to leave.
                };
                if let Some(told) = told {
                    self.workers[told as usize].told_to_leave = true;
                }
                let asked_by = match effect {
                    Effect::AnswerHeartbeat { request, control } if control.stop.is_some() => {
                        Some(&self.workers[worker_of(*request).0 as usize].id)
                    }
                    _ => None,
                };
                starts |= matches!(effect, Effect::StartWorker { .. });
                let (alive, workers, functions) = (&self.alive, &self.workers, &self.shape.functions);
                self.auditor.decided(effect, asked_by, |key| {
                    let of = alive.iter().filter(|at| functions[workers[**at as usize].function].0 == *key);
                    u32::try_from(of.count()).unwrap_or(u32::MAX)
                });
            }
            self.auditor.event_over();
            for change in applied.changes {
                self.note(&change);
                self.scheduler.disk.commit(change);
            }
            if effects.is_empty() { effects = applied.effects } else { effects.extend(applied.effects) }
        }
        if let Some(farm) = &self.scheduler.farm
            && self.shape.jobs.len() < JOBS_CHECKED_MAX
        {
            self.auditor.check_jobs(farm);
            self.auditor.check_paid(farm);
        }
        if let Some(last) = acknowledged {
            self.queue.acknowledge(last);
        }
        self.tally.commits += 1;
        if starts {
            // Not yet started are those that this very batch asks for.
            let mut asked = self.asked_for();
            for effect in &effects {
                if let Effect::StartWorker { function, worker, pool, .. } = effect
                    && !self.by_id.contains_key(worker)
                {
                    asked.functions.entry(function.clone()).or_default().staying += 1;
                    let slots = self.shape.functions.iter().find(|(key, _)| key == function);
                    *asked.pools.entry(pool.clone()).or_default() += slots.map_or(0, |(_, rules)| rules.slots);
                }
            }
            self.auditor.check_workers(&asked);
        }
        effects
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::JobAdded { .. } => self.scheduler.open_jobs += 1,
            Change::JobState { id, state, .. } => {
                let before = self.scheduler.disk.state(*id).is_some_and(JobState::is_over);
                match (before, state.is_over()) {
                    (false, true) => self.scheduler.open_jobs -= 1,
                    (true, false) => self.scheduler.open_jobs += 1,
                    (false, false) | (true, true) => {}
                }
                self.tally.jobs_over += u64::from(state.is_over());
                say!(self, About::job(*id), "job {id} is {state:?}");
            }
            Change::AttemptStarted { job, attempt, worker, tasks, .. } => {
                let about = About { worker: Some(worker.clone()), ..About::attempt(*job, *attempt) };
                say!(self, about, "{worker} is given {attempt} of job {job}: tasks {tasks:?}");
            }
            Change::AttemptEnded { job, attempt, outcome, .. } => {
                say!(self, About::attempt(*job, *attempt), "attempt {attempt} is over: {outcome:?}");
            }
            Change::TaskFailed { job, attempt, failure, for_good, .. } => {
                let how = if *for_good { "for good" } else { "and is tried again" };
                let (task, verdict) = (failure.task, failure.verdict);
                self.tally.failed += u64::from(*for_good);
                self.tally.quarantined += u64::from(failure.verdict == Verdict::Quarantined);
                say!(self, About::attempt(*job, *attempt), "{attempt}: task {task} failed ({verdict}) {how}");
            }
            Change::TaskDone { job, attempt, result, .. } => {
                self.tally.done += 1;
                say!(self, About::attempt(*job, *attempt), "{attempt}: task {} is done", result.task);
            }
            Change::ChunkStored(chunk) => {
                let about = About { job: Some(chunk.job), chunk: Some(chunk.id), worker: None };
                let state = if is_leased(chunk) { "held" } else { "waiting" };
                let (id, tasks, losses, spent) = (chunk.id, &chunk.tasks, chunk.losses, chunk.spent);
                say!(self, about, "chunk {id} is stored: {state}, tasks {tasks:?}, {losses} losses, {spent} spent");
            }
            _ => {} // The trace is short; the auditor sees the rest.
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::PublishOrder { attempt, function, job, .. } => {
                say!(self, About::attempt(job, attempt), "order {attempt} of job {job} is published");
                let at = self.shape.functions.iter().position(|(key, _)| *key == function);
                let at = at.expect("orders are of functions of the world");
                if self.scheduler.connected {
                    self.publish(at, attempt);
                } else {
                    self.scheduler.outbox.push((at, attempt));
                }
            }
            Effect::AnswerClaim { request, answer } => {
                let (worker, tick) = worker_of(request);
                self.answer(worker, tick, Answer::Claim(answer));
            }
            Effect::AnswerHeartbeat { request, control } => {
                // Nothing to say is nothing to do: most heartbeats are answered so.
                if control.stop.is_some() || control.keep_tasks.is_some() || control.drain {
                    self.answer(worker_of(request).0, 0, Answer::Control(control));
                }
            }
            Effect::PushControl { worker, control } => {
                if let Some(worker) = self.by_id.get(&worker).copied() {
                    self.answer(worker, 0, Answer::Control(control));
                }
            }
            Effect::StartWorker { worker, function, pool, .. } => self.start_worker(&worker, &function, &pool),
            Effect::StopWorker { worker } => self.stop_worker(&worker),
            Effect::PurgeOrders { .. } | Effect::ArchiveLog { .. } | Effect::AnnounceJobOver { .. } => {}
        }
    }

    fn answer(&mut self, worker: u32, tick: u32, answer: Answer) {
        if self.scheduler.connected && (worker as usize) < self.workers.len() {
            self.tell(worker, tick, answer);
        }
    }

    /// Killed between any two steps: what is being committed may or may not be durable, and of what is to be done,
    /// some may be done.
    pub(super) fn crash(&mut self, down_ms: i64) {
        if !self.scheduler.is_up() {
            return;
        }
        self.tally.crashes += 1;
        let dice = self.chance.of(Fault::Crash);
        let (durable, share) = (dice.bool(), dice.f64());
        let waiting = self.scheduler.batch.len();
        if durable {
            let effects = self.make_durable();
            let count = effects.len();
            say!(self, About::default(), "the scheduler is killed after a commit of {waiting} events");
            for (at, effect) in effects.into_iter().enumerate() {
                if (at as f64) < share * count as f64 {
                    self.perform(effect);
                }
            }
        } else {
            say!(self, About::default(), "the scheduler is killed before a commit of {waiting} events");
        }
        self.scheduler.farm = None;
        for turn in std::mem::take(&mut self.scheduler.batch) {
            if turn.accepted
                && let Some(Change::JobAdded { id, .. }) = turn.applied.changes.first()
            {
                // Its client had no answer, and sends it again.
                self.plan_in(down_ms + 1000, What::Submit(super::job_at(*id)));
            }
        }
        for inbound in std::mem::take(&mut self.scheduler.inbox) {
            if let Inbound::Submit(at) = inbound {
                self.plan_in(down_ms + 1000, What::Submit(at));
            }
        }
        self.scheduler.committing = false;
        self.scheduler.outbox.clear();
        self.plan_in(down_ms, What::Restart);
    }

    pub(super) fn restart(&mut self) {
        if self.scheduler.is_up() {
            return;
        }
        if self.strikes(Fault::ClockJump) {
            const DAY_MS: i64 = 86_400_000;
            self.scheduler.clock_ms += self.chance.of(Fault::ClockJump).i64(-2 * DAY_MS..2 * DAY_MS);
        }
        let clock_ms = self.scheduler.clock_ms;
        say!(self, About::default(), "the scheduler starts again; its clock stands at {clock_ms} ms");
        let mut snapshot = self.scheduler.disk.snapshot();
        if let Some(plant) = self.plant {
            plant.bend_snapshot(&mut snapshot);
        }
        let farm = Farm::restore(self.shape.rules, Timestamp(self.now + clock_ms), snapshot);
        self.auditor.restarted(&farm, Timestamp(self.now + clock_ms));
        self.scheduler.farm = Some(farm);
        self.hear(Inbound::Pools);
        // Each provider says whom it runs; those of other places may take a while.
        for (number, pool) in self.shape.pools.clone().into_iter().enumerate() {
            for at in self.alive.clone() {
                let worker = &self.workers[at as usize];
                // Nobody knows where one is that was started too much: this machine's provider finds it.
                let of = worker.pool.as_ref().map_or(pool.here, |name| *name == pool.name);
                if of && pool.here {
                    let (worker, function) = (worker.id.clone(), worker.function);
                    self.hear(Inbound::Found { worker, function, pool: pool.name.clone() });
                }
            }
            if !pool.here {
                let ms = self.chance.world().i64(0..20_000);
                self.plan_in(ms, What::Observed(number));
            }
        }
        if self.scheduler.connected {
            self.read_reports();
        }
    }

    /// NATS can be reached again.
    pub(super) fn reconnect(&mut self) {
        if self.scheduler.connected {
            return;
        }
        say!(self, About::default(), "NATS can be reached again");
        self.scheduler.connected = true;
        if self.scheduler.is_up() {
            self.read_reports();
        }
        for (function, attempt) in std::mem::take(&mut self.scheduler.outbox) {
            self.publish(function, attempt);
        }
    }

    /// What was never acknowledged comes first; then deadlines may be honored.
    fn read_reports(&mut self) {
        if std::mem::take(&mut self.scheduler.orders_lost) {
            self.hear(Inbound::OrdersLost);
        }
        let waiting: Vec<u64> = self.queue.reports.iter().map(|(number, _)| *number).collect();
        for number in waiting {
            self.hear(Inbound::Report(number));
        }
        self.hear(Inbound::ReportsDrained);
    }

    /// NATS can't be reached; the scheduler sees it within seconds.
    pub(super) fn hold_up(&mut self, ms: i64) {
        if !self.scheduler.connected {
            return;
        }
        say!(self, About::default(), "NATS can't be reached for {ms} ms");
        self.scheduler.connected = false;
        self.plan_in(ms.min(3000), What::HeldUpTold);
        self.plan_in(ms, What::Reconnect);
    }
}

/// Worker and tick of a request.
pub(super) fn asked_by(request: RequestId) -> (u32, u32) {
    // Made of two u32 where the request is made.
    #[allow(clippy::cast_possible_truncation)]
    let parts = ((request.0 >> 32) as u32, request.0 as u32);
    parts
}
