//! The state of the farm, and what each event makes of it.
//!
//! At any time each task of a step is in exactly one place: among the step's `waiting`, in one chunk,
//! done, or failed for good. Every rule here moves tasks between these places.

mod ahead;
mod attempts;
mod budgets;
mod coming;
mod committed;
mod deadlines;
mod decision;
mod explain;
mod gpus;
mod jobs;
mod keep;
mod load;
mod places;
mod pools;
mod restoring;
mod scaling;
mod settle;
mod workers;

use ahead::Ahead;
pub use ahead::RunAhead;
pub use budgets::BudgetStatus;
use coming::StartBook;
pub use coming::StartStatus;
use committed::{Commitments, Handed};
pub use decision::{Coming, PoolStanding, Scaling, WindowStanding};
pub use explain::Listener;
pub use load::FunctionLoad;
pub use places::{PlaceStanding, PlaceStatus};
use pools::Unended;
pub use pools::{PassedOver, WhyNot};
pub use restoring::Restoring;
pub use scaling::is_given;
use workers::Told;

use crate::budget::{Book, Purse};
use crate::change::{Change, Counts, JobState, StepState};
use crate::chunk::Chunk;
use crate::coming::Timeline;
use crate::effect::Effect;
use crate::event::{Event, Progress};
use crate::gpus::{Gpu, Gpus, Vram};
use crate::health::Health;
use crate::ledger::{Account, Ledger};
use crate::pool::{Pool, Reach};
use crate::rank::{Project, Queue, Rank};
use crate::scale::cold::{ColdStarts, SlowestOfDays};
use crate::timers::{Timer, Timers};
use crate::values::{FunctionRules, Place, Settings, Snapshot, Timing};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::money::Currency;
use framewake_proto::start::StartPoint;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

/// Chunk numbers are reserved on disk in blocks of this size, so that none is used twice after a crash.
const CHUNK_NUMBERS_BLOCK: u64 = 10_000;

/// What applying events gave: first make the changes durable, then perform the effects.
#[derive(Debug, Default)]
pub struct Applied {
    pub changes: Vec<Change>,
    pub effects: Vec<Effect>,
}

#[derive(Debug)]
pub struct Farm {
    settings: Settings,
    functions: Vec<Function>,
    function_index: BTreeMap<FunctionKey, usize>,
    /// How many workers of a function are wanted, with work or without; see `farm/keep.rs`.
    kept: BTreeMap<Name, u32>,
    /// Weight of each project.
    projects: Vec<u32>,
    project_names: Vec<Name>,
    project_index: BTreeMap<Name, Project>,
    /// Jobs that are not over.
    jobs: BTreeMap<JobId, Job>,
    chunks: BTreeMap<ChunkId, Chunk>,
    workers: BTreeMap<WorkerId, Worker>,
    timers: Timers,
    health: Health,
    ledger: Ledger,
    gpus: Gpus,
    pools: BTreeMap<Name, Pool>,
    /// Slots of each pool that workers take, also of pools that are not there any more.
    taken: BTreeMap<Name, u32>,
    /// Workers that are not counted any more and that take their slots until their end is told.
    unended: BTreeMap<WorkerId, Unended>,
    /// Steps that no GPU which was heard of can do with.
    unplaceable: BTreeSet<(JobId, usize)>,
    /// Jobs with a budget.
    budgeted: u32,
    /// Projects with budgets.
    purses: BTreeMap<Project, Purse>,
    committed: Commitments,
    /// Jobs and projects whose budgets people may have to be told of.
    spenders: (BTreeSet<JobId>, BTreeSet<Project>),
    chunk_next: u64,
    /// Numbers below this are reserved on disk.
    chunk_reserved: u64,
    /// Makes the ids of workers differ from those of earlier runs of the scheduler.
    epoch: Timestamp,
    worker_next: u64,
    /// After a start, and while nothing is heard, until the reports that waited have been applied: nobody is
    /// declared lost.
    deadlines_held: bool,
    /// Functions that want workers and found no free slots: looked at again with every event.
    starved: BTreeSet<usize>,
    /// Functions and steps that the current event touched.
    touched: BTreeSet<usize>,
    touched_steps: BTreeSet<(JobId, usize)>,
    /// Steps whose part in their function's work may have changed.
    unweighed: BTreeSet<(JobId, usize)>,
    starts: StartBook,
    /// For each schedule, the functions whose `expected` has its next run, and when that is.
    runs_expected: BTreeMap<Name, (Timestamp, Vec<usize>)>,
    /// Jobs that are not over and have a deadline.
    deadlines: BTreeSet<(Timestamp, JobId)>,
}

#[derive(Debug)]
struct Function {
    key: FunctionKey,
    rules: FunctionRules,
    queue: Queue,
    offered: BTreeSet<ChunkId>,
    /// Chunks held by workers, by the tasks their holder will have left.
    leased: BTreeSet<(u32, ChunkId)>,
    /// Tasks neither done nor failed, of steps that may run, of jobs that are not paused.
    tasks: u64,
    timing: Timing,
    workers: WorkerCounts,
    /// Workers that spoke and hold nothing, without those that are draining.
    idle: BTreeSet<WorkerId>,
    in_pools: BTreeMap<Name, InPool>,
    /// Of its tasks, those whose time was measured by their own job, and what these take together, in milliseconds.
    measured: Weight,
    ahead: Ahead,
    wanted: u32,
    /// As many as would be wanted if there were room for any number.
    needed: u32,
    /// Since when more workers are wanted than there are or are starting.
    short_since: Option<Timestamp>,
    started_total: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct WorkerCounts {
    starting: u32,
    /// Spoke, and is not draining.
    present: u32,
    draining: u32,
}

/// A function's workers in one pool, and how it went with them.
#[derive(Debug, Default)]
struct InPool {
    workers: WorkerCounts,
    starts: Starts,
    cold: ColdStarts,
    slowest: SlowestOfDays,
    /// What each phase of these starts took.
    phases: BTreeMap<StartPoint, ColdStarts>,
}

/// Tasks, and the milliseconds that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Weight {
    tasks: u64,
    ms: u64,
}

/// How starting workers went lately.
#[derive(Debug, Clone, Default)]
struct Starts {
    /// In a row.
    failures: u32,
    not_before: Option<Timestamp>,
    /// Until then other pools are tried first.
    last_until: Option<Timestamp>,
    reason: String,
}

#[derive(Debug)]
struct Job {
    project: Project,
    priority: u32,
    state: JobState,
    /// Its chunks begin with attempt 2, which looks into the store before it renders.
    restored: bool,
    budget: Option<Book>,
    deadline: Option<Timestamp>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    function: usize,
    chunking: Chunking,
    retries: Retries,
    after: Vec<usize>,
    state: StepState,
    /// Since when its tasks may be given out.
    ready_at: Timestamp,
    total: u32,
    done: u32,
    /// In chunks that are offered or held.
    open: u32,
    handed: Handed,
    failed: TaskSet,
    /// What its function counts of it.
    weight: Weight,
    /// How long the longest of its tasks has been under way; looked at until one is measured.
    longest_s: f64,
    /// Not given out yet.
    waiting: TaskSet,
    /// Chunks that may be offered again.
    again: BTreeSet<ChunkId>,
    timing: Timing,
    /// Least memory of a GPU that its tasks need, as the job says; and as was learned.
    gpu_memory_bytes: u64,
    vram: Vram,
    /// Longest a task may take, where the job says so.
    frame_limit: Option<Duration>,
    /// No orders before this: the license is not to be had.
    hold: Option<Timestamp>,
    license_waits: u32,
}

#[derive(Debug)]
struct Worker {
    function: usize,
    /// Where it was started; absent for one that people started.
    pool: Option<Name>,
    state: WorkerState,
    since: Timestamp,
    seen_at: Timestamp,
    /// Where it runs; empty until it has said so.
    places: Vec<Place>,
    /// The GPUs that the provider gave it.
    gpus: Vec<Place>,
    progress: Option<Progress>,
    /// How far its start came.
    timeline: Timeline,
    /// Why it is not there yet, by its place; empty: all goes as it should.
    waits: String,
    has_worked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    Starting,
    Idle,
    Busy(AttemptId),
    /// Told to leave; what it holds, it may finish.
    Draining(Option<AttemptId>),
}

/// A worker, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus<'a> {
    pub id: &'a WorkerId,
    pub function: &'a FunctionKey,
    /// Where it was started; `None` for one that people started.
    pub pool: Option<&'a Name>,
    pub state: WorkerActivity,
    pub since: Timestamp,
    pub seen_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerActivity {
    Starting,
    Idle,
    Busy(AttemptId, JobId),
    Draining,
}

/// A function's workers, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingStatus {
    pub wanted: u32,
    pub needed: u32,
    pub starting: u32,
    pub present: u32,
    pub started_total: u64,
    pub reasons: Vec<String>,
}

impl Farm {
    /// The farm as the store remembers it; an empty snapshot gives a new farm.
    ///
    /// Until [`Event::ReportsDrained`] nobody is declared lost: workers went on while the scheduler was away.
    #[must_use]
    pub fn restore(settings: Settings, now: Timestamp, mut snapshot: Snapshot) -> Farm {
        let jobs = std::mem::take(&mut snapshot.jobs);
        let mut restoring = Restoring::new(settings, now, snapshot);
        for job in jobs {
            restoring.add(job);
        }
        restoring.finish()
    }

    /// Makes of the state what the event asks for. Afterwards work that can be offered is offered, and
    /// workers that are wanted and missing are asked for.
    pub fn apply(&mut self, now: Timestamp, event: Event, out: &mut Applied) {
        match event {
            Event::FunctionAdded { key, rules } => {
                // What is kept of it is of the new version from now on.
                self.touched.extend(self.newest(&key.name));
                let function = self.add_function(key, rules);
                self.touched.insert(function);
            }
            Event::WorkersKept { function, workers } => self.keep_workers(now, function, workers, out),
            Event::ProjectWeighed { project, weight } => self.weigh_project(now, &project, weight, out),
            Event::JobSubmitted { id, job } => self.submit_job(now, id, job, out),
            Event::JobCanceled { id } => self.cancel_job(now, id, out),
            Event::JobPaused { id } => self.pause_job(now, id, out),
            Event::JobResumed { id } => self.resume_job(now, id, out),
            Event::JobBudgeted { id, budget, spent } => self.budget_job(now, id, budget, &spent, out),
            Event::ProjectBudgeted { project, period, budget, spent } => {
                self.budget_project(now, &project, period, budget, &spent, out);
            }
            Event::JobRetried { job, only } => self.retry_job(now, *job, only.as_ref(), out),
            Event::JobPrioritized { id, priority } => self.prioritize_job(now, id, priority, out),
            Event::AttemptClaimed { request, worker, attempt } => self.claim(now, request, &worker, attempt, out),
            Event::AttemptReported { worker, attempt, report } => self.report(now, &worker, attempt, report, out),
            Event::WorkerSeen { request, worker, function, holds, draining, places, gpu, progress } => {
                let told = Told { places, gpu, progress, draining };
                self.see_worker(now, request, &worker, &function, holds, told, out);
            }
            Event::WorkerLeft { worker } => self.say_goodbye(now, &worker, out),
            Event::WorkerFound { worker, function, pool, gpus } => {
                self.find_worker(now, &worker, &function, pool, gpus);
            }
            Event::WorkerTaken { worker } => self.note_taken(now, &worker),
            Event::WorkerStepped { worker, step, at } => self.note_step(now, &worker, step, at),
            Event::WorkerBegan { worker, age, connected } => self.note_beginning(now, &worker, age, connected),
            Event::WorkerWaits { worker, reason } => self.note_wait(&worker, &reason),
            Event::RunExpected { schedule, due, needs } => self.expect_run(&schedule, due, needs),
            Event::PoolsSet { pools, unfit } => self.set_pools(now, pools, unfit),
            Event::PoolReached { pool } => self.set_reach(&pool, Reach::Open),
            Event::PoolAway { pool, reason } => self.set_reach(&pool, Reach::Away { reason }),
            Event::GpusHanded(handing) => self.hand_out_gpus(now, handing),
            Event::GpusDescribed { gpus } => self.describe_gpus(now, gpus),
            Event::WorkerExited { worker, end } => self.end_worker(now, &worker, end, out),
            Event::PlaceBroke { place, reason } => self.condemn(now, &place, &reason, out),
            Event::PlaceRestored { place } => self.restore_place(now, &place, out),
            Event::PricesSet { prices } => {
                self.ledger.prices = prices;
                self.committed.forget_prices();
                self.look_at_all_purses_again(now);
            }
            Event::OrdersLost => self.offer_all_again(now, out),
            Event::ReportsHeldUp => self.deadlines_held = true,
            Event::ReportsDrained => self.honor_deadlines(now),
            Event::TimePassed => {}
        }
        self.pass_time(now, out);
        self.count_spent();
        self.settle(now, out);
        self.count_spent();
        self.tell_standings(out);
        self.ledger.take_changes(&mut out.changes);
        self.take_starts(&mut out.changes);
        #[cfg(debug_assertions)]
        self.check_handed();
    }

    /// When [`Event::TimePassed`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Jobs that are not over.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The state of a job that is not over.
    pub fn job_state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(&id).map(|job| job.state)
    }

    /// The job and step of an attempt that is under way.
    pub fn attempt_place(&self, attempt: AttemptId) -> Option<(JobId, usize)> {
        let chunk = self.chunks.get(&attempt.chunk).filter(|chunk| chunk.attempt == attempt.number)?;
        Some((chunk.job, chunk.step))
    }

    /// Those known of, after a restart for instance, that a provider was asked for, and so must know of too.
    pub fn workers_of_providers(&self) -> impl Iterator<Item = &WorkerId> {
        self.workers.keys().filter(|id| scaling::is_given(id))
    }

    /// What a worker that is here, or asked for, works for.
    pub fn worker_function(&self, worker: &WorkerId) -> Option<&FunctionKey> {
        Some(&self.functions[self.workers.get(worker)?.function].key)
    }

    /// Whether this is all that is to be known of a GPU.
    pub fn knows_gpu(&self, gpu: &Gpu) -> bool {
        self.gpus.get(&gpu.place) == Some(gpu)
    }

    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus<'_>> {
        self.workers_after(None)
    }

    /// By name, those after the one named.
    pub fn workers_after(&self, after: Option<&WorkerId>) -> impl Iterator<Item = WorkerStatus<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.workers.range::<WorkerId, _>((from, Bound::Unbounded)).map(|(id, worker)| WorkerStatus {
            id,
            function: &self.functions[worker.function].key,
            pool: worker.pool.as_ref(),
            state: match worker.state {
                WorkerState::Starting => WorkerActivity::Starting,
                WorkerState::Idle => WorkerActivity::Idle,
                WorkerState::Draining(_) => WorkerActivity::Draining,
                WorkerState::Busy(attempt) => self
                    .chunks
                    .get(&attempt.chunk)
                    .map_or(WorkerActivity::Idle, |chunk| WorkerActivity::Busy(attempt, chunk.job)),
            },
            since: worker.since,
            seen_at: worker.seen_at,
        })
    }

    /// Workers that are paid, and how far their time is accounted for.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.ledger.accounts()
    }

    /// What workers are paid in.
    pub fn currencies(&self) -> BTreeSet<Currency> {
        self.ledger.prices.currencies()
    }

    fn add_function(&mut self, key: FunctionKey, rules: FunctionRules) -> usize {
        if let Some(at) = self.function_index.get(&key) {
            return *at;
        }
        let at = self.functions.len();
        self.function_index.insert(key.clone(), at);
        self.functions.push(Function {
            key,
            rules,
            queue: Queue::default(),
            offered: BTreeSet::new(),
            leased: BTreeSet::new(),
            tasks: 0,
            timing: Timing::default(),
            workers: WorkerCounts::default(),
            idle: BTreeSet::new(),
            in_pools: BTreeMap::new(),
            measured: Weight::default(),
            ahead: Ahead::default(),
            wanted: 0,
            needed: 0,
            short_since: None,
            started_total: 0,
        });
        at
    }

    fn project(&mut self, name: &Name) -> Project {
        if let Some(at) = self.project_index.get(name) {
            return *at;
        }
        let at = self.projects.len();
        self.project_index.insert(name.clone(), at);
        self.projects.push(1);
        self.project_names.push(name.clone());
        at
    }

    fn step(&self, job: JobId, step: usize) -> Option<&Step> {
        self.jobs.get(&job).map(|job| &job.steps[step])
    }

    fn step_mut(&mut self, job: JobId, step: usize) -> Option<&mut Step> {
        self.jobs.get_mut(&job).map(|job| &mut job.steps[step])
    }

    fn touch(&mut self, job: JobId, step: usize) {
        self.touched_steps.insert((job, step));
        self.commit_anew(job, step);
        if let Some(function) = self.step(job, step).map(|step| step.function) {
            self.touched.insert(function);
        }
    }

    /// Puts the step into the queue of its function, or takes it out, as its state demands.
    fn enqueue(&mut self, now: Timestamp, id: JobId, at: usize) {
        let Some(job) = self.jobs.get(&id) else { return };
        let step = &job.steps[at];
        let rank = Rank { priority: Reverse(job.priority), job: id, step: at };
        let project = job.project;
        let active = matches!(job.state, JobState::Queued | JobState::Running) && !self.is_held(project);
        let may_run = matches!(step.state, StepState::Ready | StepState::Running);
        let held = step.hold.is_some_and(|until| until > now);
        let placeable = self.is_placeable(id, at);
        if !placeable {
            self.unplaceable.insert((id, at));
        }
        let step = &self.jobs[&id].steps[at];
        let queue = &mut self.functions[step.function].queue;
        if active && may_run && placeable && !held && !(step.waiting.is_empty() && step.again.is_empty()) {
            queue.insert(project, rank);
        } else {
            queue.remove(project, rank);
        }
        self.touch(id, at);
    }

    /// Takes the step out of its function's queue, before anything its rank is made of changes.
    fn dequeue(&mut self, id: JobId, at: usize) {
        let Some(job) = self.jobs.get(&id) else { return };
        let rank = Rank { priority: Reverse(job.priority), job: id, step: at };
        self.functions[job.steps[at].function].queue.remove(job.project, rank);
    }

    fn set_step_state(&mut self, now: Timestamp, job: JobId, at: usize, state: StepState, out: &mut Applied) {
        let Some(step) = self.step_mut(job, at) else { return };
        if step.state != state {
            step.state = state;
            if state == StepState::Ready {
                step.ready_at = step.ready_at.max(now);
            }
            out.changes.push(Change::StepState { job, step: at, state, at: now });
        }
    }

    fn set_job_state(&mut self, now: Timestamp, id: JobId, state: JobState, out: &mut Applied) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.state != state {
            job.state = state;
            out.changes.push(Change::JobState { id, state, at: now });
        }
    }

    fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.timers.set(at, timer);
    }
}

impl Function {
    /// Starts in a row that failed, in the pool where most did.
    fn starts_failed(&self) -> u32 {
        self.in_pools.values().map(|within| within.starts.failures).max().unwrap_or(0)
    }
}

impl Step {
    fn counts(&self) -> Counts {
        Counts { total: self.total, open: self.open, done: self.done, failed: self.failed.len() }
    }

    /// Tasks neither done nor failed.
    fn left(&self) -> u32 {
        self.total - self.done - self.failed.len()
    }

    fn may_run(&self) -> bool {
        matches!(self.state, StepState::Ready | StepState::Running)
    }
}
