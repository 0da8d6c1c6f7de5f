//! A small hostile world around the rules: a queue that repeats, reorders and forgets, workers that fail,
//! vanish and come back, a scheduler that is killed between any two steps. An auditor watches, which
//! shares no code with the rules: it believes only what was made durable.

pub(crate) mod auditor;

use auditor::Auditor;
use framewake_core::change::{Change, JobState};
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, Report, RequestId, TaskFailure, TaskResult, WorkerEnd};
use framewake_core::farm::{Applied, Farm};
use framewake_core::values::{
    FunctionRules, NewJob, NewStep, Place, Settings, Snapshot, StoredChunk, StoredJob, StoredPlace, StoredStep,
};
use framewake_proto::duration::Span;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub(crate) const SLOTS: u32 = 5;

/// Something that happens; `u16`s choose among what is there.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Submit {
        project: u8,
        tasks: u16,
        steps: u8,
        fixed: u8,
        priority: u8,
    },
    Cancel(u16),
    Pause(u16),
    Resume(u16),
    Prioritize(u16, u8),
    Weigh(u8, u8),
    /// A worker pulls an order and claims it.
    Pull(u16, u16),
    /// A worker reports its next task.
    Work(u16, Verdict),
    /// The worker of an attempt gives back what it has not begun.
    HandBack(u16),
    /// Deliver a report that is under way; `copy`: it stays and comes again.
    Deliver {
        which: u16,
        copy: bool,
    },
    LoseReport(u16),
    Beat(u16),
    KillWorker(u16),
    /// The worker is cut off for longer than its lease and comes back.
    Zombie(u16),
    WipeOrders,
    RepeatOrder(u16),
    /// The scheduler is killed; `durable`: after the last commit, else before it.
    Crash {
        durable: bool,
    },
    Wait(u16),
}

/// Faults planted between the rules and the world, to see that the auditor sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    /// A stale attempt's report is believed.
    StaleReportCounts,
    /// Orders of second and later attempts are never published.
    RetryNeverPublished,
    /// A retry keeps its attempt's number.
    AttemptNumberKept,
    /// The store forgets one done task over a restart.
    RestartForgetsTask,
    /// Chunk numbers start again after a restart.
    ChunkNumbersReused,
    /// A canceled job's order is published.
    CanceledJobOrders,
    /// The end of a job is announced when a step is done.
    OverTooEarly,
    /// A lost worker is charged to the task.
    LossSpendsAttempt,
    /// Workers beyond the slots are started.
    TooManyWorkers,
    /// A committed result is recorded a second time.
    DoneTwice,
}

#[derive(Debug, Clone)]
struct Worker {
    function: FunctionKey,
    holds: Option<Held>,
    alive: bool,
    spoke_at: Timestamp,
    /// It was silent for so long that another was rightly started in its place.
    replaced: bool,
}

#[derive(Debug, Clone)]
struct Held {
    attempt: AttemptId,
    left: VecDeque<u32>,
}

#[derive(Debug, Clone)]
struct Order {
    attempt: AttemptId,
    function: FunctionKey,
}

#[derive(Debug, Clone)]
struct Mail {
    worker: WorkerId,
    attempt: AttemptId,
    report: Report,
}

/// What `SQLite` would hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    jobs: BTreeMap<JobId, (NewJob, JobState)>,
    done: BTreeMap<(JobId, usize), TaskSet>,
    failed: BTreeMap<(JobId, usize), TaskSet>,
    chunks: BTreeMap<ChunkId, StoredChunk>,
    chunk_next: u64,
    weights: BTreeMap<Name, u32>,
    places: BTreeMap<Place, StoredPlace>,
}

pub(crate) struct World {
    now: Timestamp,
    farm: Farm,
    disk: Disk,
    orders: Vec<Order>,
    mail: Vec<Mail>,
    workers: BTreeMap<WorkerId, Worker>,
    jobs_next: u128,
    requests: u64,
    /// Who the answer to the present heartbeat goes to.
    beating: Option<WorkerId>,
    pub auditor: Auditor,
    plant: Plant,
}

fn functions() -> Vec<(FunctionKey, FunctionRules)> {
    let key = |name: &str| FunctionKey { name: name.parse().expect("good"), version: 1 };
    vec![
        (key("render"), FunctionRules { workers_max: 4, slots: 1 }),
        (key("encode"), FunctionRules { workers_max: 2, slots: 2 }),
    ]
}

fn settings() -> Settings {
    Settings { slots: SLOTS, ..Settings::default() }
}

impl World {
    pub(crate) fn new(plant: Plant) -> World {
        let now = Timestamp(1_000_000);
        let disk = Disk { chunk_next: 1, ..Disk::default() };
        let farm = Farm::restore(settings(), now, snapshot(&disk));
        let mut world = World {
            now,
            farm,
            disk,
            orders: Vec::new(),
            mail: Vec::new(),
            workers: BTreeMap::new(),
            jobs_next: 1,
            requests: 0,
            beating: None,
            auditor: Auditor::default(),
            plant,
        };
        world.apply(Event::ReportsDrained);
        world
    }

    pub(crate) fn play(&mut self, step: Move) {
        match step {
            Move::Submit { project, tasks, steps, fixed, priority } => {
                self.submit(project, tasks, steps, fixed, priority);
            }
            Move::Cancel(which) => self.with_job(which, |id| Event::JobCanceled { id }),
            Move::Pause(which) => self.with_job(which, |id| Event::JobPaused { id }),
            Move::Resume(which) => self.with_job(which, |id| Event::JobResumed { id }),
            Move::Prioritize(which, priority) => {
                self.with_job(which, |id| Event::JobPrioritized { id, priority: u32::from(priority) % 101 });
            }
            Move::Weigh(project, weight) => {
                self.apply(Event::ProjectWeighed { project: project_name(project), weight: u32::from(weight) + 1 });
            }
            Move::Pull(worker, order) => self.pull(worker, order),
            Move::Work(which, verdict) => self.work(which, verdict),
            Move::HandBack(which) => self.hand_back(which),
            Move::Deliver { which, copy } => self.deliver(which, copy),
            Move::LoseReport(which) => {
                if let Some(at) = pick(self.mail.len(), which) {
                    self.mail.remove(at);
                }
            }
            Move::Beat(which) => {
                if let Some(id) = self.living(which) {
                    self.beat(&id);
                }
            }
            Move::KillWorker(which) => {
                if let Some(id) = self.living(which) {
                    self.kill(&id);
                }
            }
            Move::Zombie(which) => {
                if let Some(id) = self.living(which) {
                    self.pass(settings().lease + Duration::from_secs(1));
                    self.beat(&id);
                }
            }
            Move::WipeOrders => {
                self.orders.clear();
                self.apply(Event::OrdersLost);
            }
            Move::RepeatOrder(which) => {
                if let Some(at) = pick(self.orders.len(), which) {
                    self.orders.push(self.orders[at].clone());
                }
            }
            Move::Crash { durable } => self.crash(durable),
            Move::Wait(ms) => self.pass(Duration::from_millis(u64::from(ms) * 4)),
        }
    }

    /// No more faults: everything that was accepted must come to its end.
    pub(crate) fn settle(&mut self) {
        for id in self.disk.jobs.keys().copied().collect::<Vec<_>>() {
            self.apply(Event::JobResumed { id });
        }
        for round in 0..2000 {
            if self.disk.jobs.values().all(|(_, state)| state.is_over()) {
                self.auditor.check_end();
                return;
            }
            for id in self.workers.keys().cloned().collect::<Vec<_>>() {
                if self.workers[&id].alive {
                    self.beat(&id);
                }
            }
            for worker in 0..8 {
                self.pull(worker, round);
            }
            for worker in 0..8 {
                self.work(worker, Verdict::Done);
            }
            while !self.mail.is_empty() {
                self.deliver(0, false);
            }
            self.pass(Duration::from_secs(2));
        }
        self.auditor.fail(format!("work was lost: these jobs never end: {:?}", self.unfinished()));
    }

    fn unfinished(&self) -> Vec<String> {
        let open = self.disk.jobs.iter().filter(|(_, (_, state))| !state.is_over());
        open.map(|(id, (_, state))| format!("{id} {state:?} {:?}", self.farm.explain(self.now, *id))).collect()
    }

    fn submit(&mut self, project: u8, tasks: u16, steps: u8, fixed: u8, priority: u8) {
        let id = JobId(self.jobs_next.into());
        self.jobs_next += 1;
        let chunking = match fixed % 4 {
            0 => Chunking::default(),
            size => Chunking::Fixed { size: u32::from(size) },
        };
        let second = Duration::from_secs(1);
        let retries = Retries { attempts: 2, backoff: Span(second), backoff_max: Span(second * 4) };
        let steps = (0..=usize::from(steps % 3)).map(|at| NewStep {
            function: functions()[at % 2].0.clone(),
            tasks: u32::from(tasks % 12) + 1,
            chunking,
            retries,
            after: (at > 0).then(|| at - 1).into_iter().collect(),
        });
        let job =
            NewJob { project: project_name(project), priority: u32::from(priority) % 101, steps: steps.collect() };
        self.auditor.submitted(id, &job);
        self.apply(Event::JobSubmitted { id, job });
    }

    fn with_job(&mut self, which: u16, event: impl Fn(JobId) -> Event) {
        let ids: Vec<JobId> = self.disk.jobs.keys().copied().collect();
        if let Some(at) = pick(ids.len(), which) {
            self.apply(event(ids[at]));
        }
    }

    fn pull(&mut self, worker: u16, order: u16) {
        let Some(id) = self.living(worker) else { return };
        if self.workers[&id].holds.is_some() {
            return;
        }
        let function = self.workers[&id].function.clone();
        let fitting: Vec<usize> = (0..self.orders.len()).filter(|at| self.orders[*at].function == function).collect();
        let Some(at) = pick(fitting.len(), order) else { return };
        let order = self.orders.remove(fitting[at]);
        self.requests += 1;
        let request = RequestId(self.requests);
        self.apply(Event::AttemptClaimed { request, worker: id, attempt: order.attempt });
    }

    /// A worker that works, chosen among those that hold something.
    fn busy(&self, which: u16) -> Option<WorkerId> {
        let busy = self.workers.iter().filter(|(_, worker)| worker.alive && worker.holds.is_some());
        let busy: Vec<WorkerId> = busy.map(|(id, _)| id.clone()).collect();
        pick(busy.len(), which).map(|at| busy[at].clone())
    }

    fn work(&mut self, which: u16, verdict: Verdict) {
        let Some(id) = self.busy(which) else { return };
        let worker = self.workers.get_mut(&id).expect("busy");
        let held = worker.holds.as_mut().expect("busy");
        let attempt = held.attempt;
        let mut report = Report { load_ms: Some(5), ..Report::default() };
        if let Some(task) = held.left.pop_front() {
            match verdict {
                Verdict::Done => report.done.push(result(task)),
                verdict => {
                    report.failed.push(TaskFailure { task, verdict, message: String::new(), evidence: String::new() });
                }
            }
        }
        if held.left.is_empty() {
            report.end = Some(AttemptEnd::Finished);
            worker.holds = None;
        }
        self.mail.push(Mail { worker: id, attempt, report });
    }

    fn hand_back(&mut self, which: u16) {
        let Some(id) = self.busy(which) else { return };
        let held = self.workers.get_mut(&id).and_then(|worker| worker.holds.take()).expect("busy");
        let report = Report { end: Some(AttemptEnd::HandedBack), ..Report::default() };
        self.mail.push(Mail { worker: id, attempt: held.attempt, report });
    }

    fn deliver(&mut self, which: u16, copy: bool) {
        let Some(at) = pick(self.mail.len(), which) else { return };
        let mut mail = if copy { self.mail[at].clone() } else { self.mail.remove(at) };
        if self.plant == Plant::StaleReportCounts
            && let Some((holder, current)) = self.auditor.holder_of(mail.attempt.chunk)
        {
            (mail.worker, mail.attempt) = (holder, current);
            self.auditor.expect_stale();
        }
        self.apply(Event::AttemptReported { worker: mail.worker, attempt: mail.attempt, report: mail.report });
    }

    fn beat(&mut self, id: &WorkerId) {
        self.requests += 1;
        let worker = self.workers.get_mut(id).expect("known");
        worker.replaced |= worker.spoke_at.after(settings().lease * 2) <= self.now;
        worker.spoke_at = self.now;
        let worker = &self.workers[id];
        let holds = worker.holds.as_ref().map(|held| held.attempt);
        let function = worker.function.clone();
        self.beating = Some(id.clone());
        self.apply(Event::WorkerSeen {
            request: RequestId(self.requests),
            worker: id.clone(),
            function,
            holds,
            draining: false,
            places: vec![place_of(id)],
            progress: None,
        });
    }

    /// The worker was told to leave when it holds nothing.
    fn drain(&mut self, worker: WorkerId) {
        let state = self.workers.get_mut(&worker).expect("known");
        if state.holds.is_none() && state.alive {
            state.alive = false;
            let function = state.function.clone();
            self.apply(Event::WorkerExited { worker, function, end: WorkerEnd::Left });
        }
    }

    fn kill(&mut self, id: &WorkerId) {
        let worker = self.workers.get_mut(id).expect("living");
        worker.alive = false;
        worker.holds = None;
        let function = worker.function.clone();
        let end = WorkerEnd::Failed { reason: "killed".to_owned() };
        self.apply(Event::WorkerExited { worker: id.clone(), function, end });
    }

    fn crash(&mut self, durable: bool) {
        if !durable {
            // Killed between apply and commit: nobody heard of it.
            let mut unheard = Applied::default();
            self.farm.apply(self.now, Event::TimePassed, &mut unheard);
        }
        let mut disk = self.disk.clone();
        if self.plant == Plant::RestartForgetsTask
            && let Some(done) = disk.done.values_mut().find(|done| !done.is_empty())
        {
            let _ = done.take_first(1);
        }
        if self.plant == Plant::ChunkNumbersReused {
            disk.chunk_next = 1;
            disk.chunks.clear();
        }
        self.now = self.now.after(Duration::from_millis(10));
        self.farm = Farm::restore(settings(), self.now, snapshot(&disk));
        for (id, worker) in self.workers.clone() {
            if worker.alive {
                self.apply(Event::WorkerFound { worker: id, function: worker.function });
            }
        }
        self.apply(Event::ReportsDrained);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.apply(Event::TimePassed);
    }

    fn living(&self, which: u16) -> Option<WorkerId> {
        let living: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| worker.alive).map(|(id, _)| id.clone()).collect();
        pick(living.len(), which).map(|at| living[at].clone())
    }

    fn apply(&mut self, event: Event) {
        self.auditor.before(&event);
        let mut applied = Applied::default();
        self.farm.apply(self.now, event.clone(), &mut applied);
        self.plant_in(&event, &mut applied);
        for change in &applied.changes {
            self.auditor.changed(&event, change);
            self.commit(change);
        }
        for effect in applied.effects {
            self.perform(effect);
        }
        // Nobody can count a worker that was cut off for long.
        let silent = settings().lease * 2;
        let running = u32::try_from(
            self.workers
                .values()
                .filter(|worker| worker.alive && !worker.replaced && worker.spoke_at.after(silent) > self.now)
                .map(slots_of)
                .sum::<usize>(),
        );
        self.auditor.check_workers(running.expect("few"));
    }

    fn plant_in(&mut self, event: &Event, applied: &mut Applied) {
        match self.plant {
            Plant::RetryNeverPublished => {
                applied
                    .effects
                    .retain(|effect| !matches!(effect, Effect::PublishOrder { attempt, .. } if attempt.number > 1));
            }
            Plant::AttemptNumberKept => {
                for change in &mut applied.changes {
                    if let Change::AttemptStarted { attempt, .. } = change {
                        attempt.number = 1;
                    }
                }
            }
            Plant::CanceledJobOrders => {
                if let Event::JobCanceled { id } = event {
                    let attempt = AttemptId { chunk: ChunkId(1), number: 99 };
                    let function = functions()[0].0.clone();
                    applied.effects.push(Effect::PublishOrder { attempt, function, job: *id, step: 0 });
                }
            }
            Plant::OverTooEarly => {
                if let Some(Change::TaskDone { job, .. }) =
                    applied.changes.iter().find(|c| matches!(c, Change::TaskDone { .. }))
                {
                    applied.effects.push(Effect::AnnounceJobOver { job: *job, state: JobState::Succeeded });
                }
            }
            Plant::LossSpendsAttempt => {
                if let Event::WorkerExited { .. } = event {
                    let lost = applied.changes.iter().find_map(|change| match change {
                        Change::AttemptEnded { job, step, attempt, at, .. } => Some((*job, *step, *attempt, *at)),
                        _ => None,
                    });
                    if let Some((job, step, attempt, at)) = lost {
                        let failure = TaskFailure {
                            task: 0,
                            verdict: Verdict::RetrySame,
                            message: String::new(),
                            evidence: String::new(),
                        };
                        applied.changes.push(Change::TaskFailed { job, step, attempt, failure, for_good: true, at });
                    }
                }
            }
            Plant::TooManyWorkers => {
                let more: Vec<Effect> = applied
                    .effects
                    .iter()
                    .filter_map(|effect| match effect {
                        Effect::StartWorker { worker, function } => {
                            let worker = format!("{worker}b").parse().expect("good");
                            Some(Effect::StartWorker { worker, function: function.clone() })
                        }
                        _ => None,
                    })
                    .collect();
                applied.effects.extend(more);
            }
            Plant::DoneTwice => {
                if let Some(change) = applied.changes.iter().find(|c| matches!(c, Change::TaskDone { .. })).cloned() {
                    applied.changes.push(change);
                }
            }
            Plant::Nothing | Plant::StaleReportCounts | Plant::RestartForgetsTask | Plant::ChunkNumbersReused => {}
        }
    }

    fn commit(&mut self, change: &Change) {
        let disk = &mut self.disk;
        match change {
            Change::JobAdded { id, job, .. } => {
                disk.jobs.insert(*id, (job.clone(), JobState::Queued));
            }
            Change::JobState { id, state, .. } => disk.jobs.get_mut(id).expect("added").1 = *state,
            Change::JobPriority { id, priority } => disk.jobs.get_mut(id).expect("added").0.priority = *priority,
            Change::ProjectWeight { project, weight } => {
                disk.weights.insert(project.clone(), *weight);
            }
            Change::TaskDone { job, step, result, .. } => {
                disk.done.entry((*job, *step)).or_default().insert(result.task);
            }
            Change::TaskFailed { job, step, failure, for_good: true, .. } => {
                disk.failed.entry((*job, *step)).or_default().insert(failure.task);
            }
            Change::TasksReset { job, step, .. } => {
                disk.failed.remove(&(*job, *step));
            }
            Change::ChunkStored(chunk) => {
                disk.chunks.insert(chunk.id, chunk.clone());
            }
            Change::ChunkClosed { id } => {
                disk.chunks.remove(id);
            }
            Change::PlaceStored(place) => {
                disk.places.insert(place.place.clone(), place.clone());
            }
            Change::PlaceForgotten { place } => {
                disk.places.remove(place);
            }
            Change::ChunkNumbers { next } => disk.chunk_next = *next,
            Change::TaskFailed { for_good: false, .. }
            | Change::StepState { .. }
            | Change::StepCounts { .. }
            | Change::StepTiming { .. }
            | Change::AttemptStarted { .. }
            | Change::AttemptEnded { .. } => {}
        }
    }

    fn perform(&mut self, effect: Effect) {
        let now = self.now;
        self.auditor.performed(&effect);
        match effect {
            Effect::PublishOrder { attempt, function, .. } => self.orders.push(Order { attempt, function }),
            Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } => {
                if let Some((worker, attempt)) = self.auditor.newest_start() {
                    let held = Held { attempt, left: tasks.iter().collect() };
                    self.workers.get_mut(&worker).expect("claimed").holds = Some(held);
                }
            }
            Effect::PushControl { worker, control } => {
                let Some(state) = self.workers.get_mut(&worker) else { return };
                if let (Some(attempt), Some(keep)) = (control.attempt, control.keep_tasks)
                    && let Some(held) = state.holds.as_mut().filter(|held| held.attempt == attempt)
                {
                    let back: TaskSet =
                        held.left.drain(held.left.len().min(keep as usize)..).map(|task| task..task + 1).collect();
                    let report = Report { released: back, ..Report::default() };
                    self.mail.push(Mail { worker, attempt, report });
                } else if control.drain {
                    self.drain(worker);
                }
            }
            Effect::AnswerHeartbeat { control, .. } => {
                if let Some(worker) = self.beating.take().filter(|_| control.drain || control.stop.is_some()) {
                    if control.stop.is_some() {
                        self.workers.get_mut(&worker).expect("known").holds = None;
                    }
                    if control.drain {
                        self.drain(worker);
                    }
                }
            }
            Effect::StopWorker { worker } => {
                if self.workers.get(&worker).is_some_and(|state| state.alive) {
                    self.kill(&worker);
                }
            }
            Effect::StartWorker { worker, function } => {
                self.workers.entry(worker.clone()).or_insert(Worker {
                    function,
                    holds: None,
                    alive: true,
                    spoke_at: now,
                    replaced: false,
                });
            }
            Effect::AnswerClaim { answer: ClaimAnswer::Refused { .. }, .. }
            | Effect::ArchiveLog { .. }
            | Effect::PurgeOrders { .. }
            | Effect::AnnounceJobOver { .. } => {}
        }
    }
}

fn slots_of(worker: &Worker) -> usize {
    functions().iter().find(|(key, _)| *key == worker.function).map_or(0, |(_, rules)| rules.slots as usize)
}

fn snapshot(disk: &Disk) -> Snapshot {
    let open = disk.jobs.iter().filter(|(_, (_, state))| !state.is_over());
    let jobs = open.map(|(id, (job, state))| StoredJob {
        id: *id,
        job: job.clone(),
        paused: *state == JobState::Paused,
        restored: false,
        steps: (0..job.steps.len())
            .map(|at| StoredStep {
                done: disk.done.get(&(*id, at)).cloned().unwrap_or_default(),
                failed: disk.failed.get(&(*id, at)).cloned().unwrap_or_default(),
                ..StoredStep::default()
            })
            .collect(),
    });
    Snapshot {
        functions: functions(),
        projects: disk.weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect(),
        jobs: jobs.collect(),
        chunks: disk.chunks.values().cloned().collect(),
        chunk_next: disk.chunk_next,
        places: disk.places.values().cloned().collect(),
    }
}

/// Workers are spread over three machines.
fn place_of(worker: &WorkerId) -> Place {
    let number = worker.as_str().bytes().map(usize::from).sum::<usize>() % 3;
    Place::new(["node1", "node2", "node3"][number])
}

fn project_name(number: u8) -> Name {
    ["red", "green", "blue"][usize::from(number % 3)].parse().expect("good")
}

fn result(task: u32) -> TaskResult {
    TaskResult {
        task,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 1,
        width: 0,
        height: 0,
        device: String::new(),
        renderer: String::new(),
        elapsed_ms: 100,
        found: false,
        memory_peak_bytes: 0,
    }
}

fn pick(len: usize, which: u16) -> Option<usize> {
    (len > 0).then(|| usize::from(which) % len)
}

/// The chunks that are held, for the auditor's own book.
pub(crate) type Holders = BTreeMap<ChunkId, (WorkerId, AttemptId)>;
pub(crate) type Seen = BTreeSet<(JobId, usize, u32)>;
