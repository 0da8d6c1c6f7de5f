//! Watches what is made durable and what is decided, and says which invariant is broken. It keeps books
//! of its own and shares no code with the rules.

mod asked;
mod paid;

pub(crate) use asked::Books;

use crate::bits::Bits;
use crate::invariant::{About, Broken, Invariant};
use crate::objects::Objects;
use asked::PoolBook;
use framewake_core::change::{Change, Counts, JobState, Outcome};
use framewake_core::effect::Effect;
use framewake_core::farm::Farm;
use framewake_core::ledger::Cause;
use framewake_core::values::{FunctionRules, NewJob, PoolRules, StoredChunk, StoredChunkState};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use paid::PaidBook;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A single task survives fewer lost workers than this, and most of them it must have met alone.
const LOSSES_BEFORE_QUARANTINE: u32 = 6;
const LOSSES_ALONE: u32 = 4;
/// Orders published because of one event, for each worker there could be: the window of two orders a
/// worker, once because it is refilled and once because it is offered again.
const ORDERS_PER_WORKER_AND_EVENT: u32 = 4;

/// What the scheduler heard, as far as it matters to judge what it makes of it.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// `planted`: it is stale whatever it says of itself.
    Report {
        worker: WorkerId,
        attempt: AttemptId,
        planted: bool,
    },
    Worker(WorkerId),
    OrdersLost,
    Canceled(JobId),
    Retried(JobId),
    Other,
}

#[derive(Debug)]
struct JobBook {
    job: NewJob,
    state: JobState,
    /// Its end was announced since it last began.
    announced: bool,
    steps: Vec<StepBook>,
}

#[derive(Debug, Default)]
struct StepBook {
    done: Bits,
    done_count: u32,
    failed: BTreeSet<u32>,
    quarantined: BTreeSet<u32>,
    /// Open tasks, as last written.
    open: u32,
}

#[derive(Debug)]
struct ChunkBook {
    job: JobId,
    step: usize,
    tasks: TaskSet,
    holder: Option<WorkerId>,
    newest: u32,
}

type Task = (JobId, usize, u32);

#[derive(Debug, Default, Clone, Copy)]
struct Losses {
    all: u32,
    alone: u32,
}

/// The books. What the world knows better is handed in: poison, objects, how many workers live.
#[derive(Debug)]
pub(crate) struct Auditor {
    functions: HashMap<FunctionKey, FunctionRules>,
    pools: BTreeMap<Name, PoolBook>,
    jobs: BTreeMap<JobId, JobBook>,
    chunks: HashMap<ChunkId, ChunkBook>,
    closed: Bits,
    spent: HashMap<Task, u32>,
    losses: HashMap<Task, Losses>,
    /// Workers that spoke since the scheduler started.
    spoke: HashSet<WorkerId>,
    now: Heard,
    /// The scheduler's clock when it heard.
    at: Timestamp,
    /// The same when it started last.
    started_at: Timestamp,
    paid: BTreeMap<WorkerId, PaidBook>,
    /// Where each worker was asked for.
    asked_in: HashMap<WorkerId, Name>,
    /// Milliseconds by cause.
    pub(crate) spent_ms: BTreeMap<Cause, u64>,
    published: BTreeMap<FunctionKey, u32>,
    published_steps: BTreeSet<(JobId, usize)>,
    pub(crate) checks: u64,
    broken: Option<Broken>,
}

impl Auditor {
    pub(crate) fn new(functions: &[(FunctionKey, FunctionRules)], pools: &[PoolRules]) -> Auditor {
        Auditor {
            functions: functions.iter().cloned().collect(),
            pools: pools.iter().map(|pool| (pool.name.clone(), PoolBook::new(pool))).collect(),
            jobs: BTreeMap::new(),
            chunks: HashMap::new(),
            closed: Bits::default(),
            spent: HashMap::new(),
            losses: HashMap::new(),
            spoke: HashSet::new(),
            now: Heard::Other,
            at: Timestamp(0),
            started_at: Timestamp(0),
            paid: BTreeMap::new(),
            asked_in: HashMap::new(),
            spent_ms: BTreeMap::new(),
            published: BTreeMap::new(),
            published_steps: BTreeSet::new(),
            checks: 0,
            broken: None,
        }
    }

    pub(crate) fn take_broken(&mut self) -> Option<Broken> {
        self.broken.take()
    }

    /// The first thing that breaks counts: the rest follows from it.
    pub(crate) fn fail(&mut self, invariant: Invariant, about: About, text: String) {
        self.broken.get_or_insert(Broken { invariant, text, about });
    }

    /// Who holds the chunk, and since which attempt.
    pub(crate) fn holder_of(&self, chunk: ChunkId) -> Option<(&WorkerId, u32)> {
        let book = self.chunks.get(&chunk)?;
        book.holder.as_ref().map(|holder| (holder, book.newest))
    }

    /// What follows comes of this.
    pub(crate) fn heard(&mut self, heard: Heard, at: Timestamp) {
        self.at = at;
        self.published.clear();
        self.published_steps.clear();
        if let Heard::Worker(worker) = &heard
            && !self.spoke.contains(worker)
        {
            self.spoke.insert(worker.clone());
        }
        self.now = heard;
    }

    fn is_stale(&self) -> bool {
        match &self.now {
            Heard::Report { planted: true, .. } => true,
            Heard::Report { worker, attempt, planted: false } => {
                self.holder_of(attempt.chunk) != Some((worker, attempt.number))
            }
            _ => false,
        }
    }

    /// All that one event made durable, in order.
    pub(crate) fn changed(&mut self, changes: &[Change], objects: &Objects) {
        let stale = !changes.is_empty() && self.is_stale();
        for change in changes {
            self.checks += 1;
            // What is quarantined or lost at the same moment follows from the time, not from the report.
            let counts = match change {
                Change::TaskDone { .. } => true,
                Change::TaskFailed { failure, .. } => failure.verdict != Verdict::Quarantined,
                Change::AttemptEnded { outcome, .. } => *outcome == Outcome::Finished,
                _ => false, // Counts and rows follow from these.
            };
            if stale && counts {
                let about = about_change(change);
                self.fail(Invariant::StaleChangesNothing, about, format!("a stale report counted: {change:?}"));
            }
            self.book(change, objects);
        }
    }

    fn book(&mut self, change: &Change, objects: &Objects) {
        match change {
            Change::JobAdded { id, job, .. } => {
                let steps = job.steps.iter().map(|_| StepBook::default()).collect();
                let book = JobBook { job: job.clone(), state: JobState::Queued, announced: false, steps };
                if self.jobs.insert(*id, book).is_some() {
                    self.fail(Invariant::JobsSurvive, About::job(*id), "a job was added twice".to_owned());
                }
            }
            Change::TaskDone { job, step, attempt, result, .. } => {
                self.task_done(*job, *step, *attempt, result.task, objects);
            }
            Change::TaskFailed { job, step, attempt, failure, for_good, .. } => {
                self.leave_chunk(*attempt, failure.task);
                self.task_failed(*job, *step, *attempt, failure.task, failure.verdict, *for_good);
            }
            Change::TasksReset { job, step, tasks } => {
                for task in tasks.iter() {
                    self.step(*job, *step).failed.remove(&task);
                    self.step(*job, *step).quarantined.remove(&task);
                    self.spent.remove(&(*job, *step, task));
                    self.losses.remove(&(*job, *step, task));
                }
            }
            Change::AttemptStarted { attempt, worker, job, step, tasks, .. } => {
                self.attempt_started(*job, *step, *attempt, worker, tasks);
            }
            Change::AttemptEnded { attempt, outcome, job, step, .. } => {
                let Some(chunk) = self.chunks.get_mut(&attempt.chunk) else { return };
                chunk.holder = None;
                if matches!(outcome, Outcome::Lost { .. }) {
                    let (alone, tasks) = (chunk.tasks.len() == 1, chunk.tasks.clone());
                    for task in tasks.iter() {
                        let losses = self.losses.entry((*job, *step, task)).or_default();
                        losses.all += 1;
                        losses.alone += u32::from(alone);
                    }
                }
            }
            Change::JobState { id, state, .. } => self.job_state(*id, *state),
            Change::StepCounts { job, step, counts } => self.step_counts(*job, *step, *counts),
            Change::ChunkStored(chunk) => self.chunk_stored(chunk),
            Change::ChunkClosed { id } => {
                self.closed.insert(id.0);
                if let Some(ChunkBook { holder: Some(holder), job, .. }) = self.chunks.remove(id) {
                    let about = About { job: Some(job), chunk: Some(*id), worker: None };
                    self.fail(Invariant::OneHolder, about, format!("chunk {id} was closed while {holder} held it"));
                }
            }
            Change::Paid { account, spent } => self.paid(account, spent),
            Change::AccountClosed { worker, at } => self.account_closed(worker, *at),
            Change::JobBudget { .. }
            | Change::ProjectBudget { .. }
            | Change::BudgetTold { .. }
            | Change::JobPriority { .. }
            | Change::ProjectWeight { .. }
            | Change::WorkersKept { .. }
            | Change::StepState { .. }
            | Change::StepTiming { .. }
            | Change::StepVram { .. }
            | Change::PlaceStored(_)
            | Change::PlaceForgotten { .. }
            | Change::WorkerStart { .. }
            | Change::WorkerStartEnded { .. }
            | Change::StartsLearned(_)
            | Change::TimingLearned(_)
            | Change::ChunkNumbers { .. } => {}
        }
    }

    fn step(&mut self, job: JobId, step: usize) -> &mut StepBook {
        &mut self.jobs.get_mut(&job).expect("changes are about jobs that were added").steps[step]
    }

    fn leave_chunk(&mut self, attempt: AttemptId, task: u32) {
        if let Some(chunk) = self.chunks.get_mut(&attempt.chunk) {
            chunk.tasks.remove(task);
        }
    }

    fn task_done(&mut self, job: JobId, step: usize, attempt: AttemptId, task: u32, objects: &Objects) {
        let about = About::attempt(job, attempt);
        self.leave_chunk(attempt, task);
        let total = self.jobs[&job].job.steps[step].tasks;
        let book = self.step(job, step);
        let fresh = book.done.insert(u64::from(task));
        book.done_count += u32::from(fresh);
        let failed = book.failed.contains(&task);
        if !fresh || failed || task >= total {
            let why = if fresh { "it had failed for good, or does not exist" } else { "it was done already" };
            self.fail(Invariant::OneResult, about, format!("task {task} is done: {why}"));
        } else if !objects.has(job, step, task) {
            let text = format!("task {task} counts as done and its object is not in the store");
            self.fail(Invariant::OnlyObjectsCount, about, text);
        }
    }

    fn task_failed(
        &mut self,
        job: JobId,
        step: usize,
        attempt: AttemptId,
        task: u32,
        verdict: Verdict,
        for_good: bool,
    ) {
        let about = About::attempt(job, attempt);
        let key = (job, step, task);
        let free = matches!(
            verdict,
            Verdict::Preempted | Verdict::LicenseWait | Verdict::Canceled | Verdict::Quarantined | Verdict::Done
        );
        let spent = self.spent.entry(key).or_default();
        *spent += u32::from(!free);
        let spent = *spent;
        if !for_good {
            return;
        }
        let attempts = self.jobs[&job].job.steps[step].retries.attempts;
        match verdict {
            Verdict::Quarantined => {
                let losses = self.losses.get(&key).copied().unwrap_or_default();
                if losses.all < LOSSES_BEFORE_QUARANTINE || losses.alone < LOSSES_ALONE {
                    let text = format!("task {task} was quarantined after {losses:?}");
                    self.fail(Invariant::HealthyAreNotQuarantined, about.clone(), text);
                }
                self.step(job, step).quarantined.insert(task);
            }
            Verdict::SceneError => {}
            _ if spent < attempts || free => {
                let text = format!("task {task} failed for good ({verdict}) with {spent} of {attempts} attempts spent");
                self.fail(Invariant::LossIsFree, about.clone(), text);
            }
            _ => {}
        }
        let book = self.step(job, step);
        let done = book.done.has(u64::from(task));
        if !book.failed.insert(task) || done {
            self.fail(Invariant::OneResult, about, format!("task {task} failed for good and was over already"));
        }
    }

    fn attempt_started(&mut self, job: JobId, step: usize, attempt: AttemptId, worker: &WorkerId, tasks: &TaskSet) {
        let about = About { worker: Some(worker.clone()), ..About::attempt(job, attempt) };
        if self.closed.has(attempt.chunk.0) {
            let text = format!("attempt {attempt} began and its chunk was closed before");
            self.fail(Invariant::FenceRises, about.clone(), text);
        }
        if self.jobs[&job].state.is_over() {
            let text = format!("attempt {attempt} began after its job was over");
            self.fail(Invariant::OverIsOver, about.clone(), text);
        }
        let chunk = self.chunks.entry(attempt.chunk).or_insert(ChunkBook {
            job,
            step,
            tasks: TaskSet::new(),
            holder: None,
            newest: 0,
        });
        let before = (chunk.holder.replace(worker.clone()), chunk.newest, chunk.job);
        chunk.newest = chunk.newest.max(attempt.number);
        chunk.tasks = tasks.clone();
        if attempt.number <= before.1 || before.2 != job {
            let text = format!("attempt {attempt} began after attempt {} of the same chunk", before.1);
            self.fail(Invariant::FenceRises, about.clone(), text);
        } else if let Some(holder) = before.0 {
            let text = format!("attempt {attempt} was given to {worker} while {holder} held the chunk");
            self.fail(Invariant::OneHolder, about.clone(), text);
        }
        let book = &self.jobs[&job].steps[step];
        if let Some(task) = tasks.iter().find(|task| book.done.has(u64::from(*task)) || book.failed.contains(task)) {
            let text = format!("attempt {attempt} began and holds task {task}, which is over");
            self.fail(Invariant::OneResult, about, text);
        }
    }

    fn chunk_stored(&mut self, stored: &StoredChunk) {
        let about = About { job: Some(stored.job), chunk: Some(stored.id), worker: None };
        if self.closed.has(stored.id.0) {
            let text = format!("chunk {} was closed and is stored again", stored.id);
            self.fail(Invariant::FenceRises, about, text);
            return;
        }
        let chunk = self.chunks.entry(stored.id).or_insert(ChunkBook {
            job: stored.job,
            step: stored.step,
            tasks: TaskSet::new(),
            holder: None,
            newest: 0,
        });
        if chunk.job != stored.job || chunk.step != stored.step {
            let text = format!("chunk {} was of another step before", stored.id);
            self.fail(Invariant::FenceRises, about, text);
            return;
        }
        chunk.tasks = stored.tasks.clone();
    }

    fn job_state(&mut self, id: JobId, state: JobState) {
        let book = self.jobs.get_mut(&id).expect("states are of jobs that were added");
        let before = std::mem::replace(&mut book.state, state);
        let open = book.steps.iter().map(|step| step.open).sum::<u32>();
        let retried = matches!(self.now, Heard::Retried(job) if job == id) && before == JobState::Failed;
        if retried {
            self.jobs.get_mut(&id).expect("found above").announced = false;
        }
        if before.is_over() && !retried {
            let text = format!("job was {before:?} and became {state:?}");
            self.fail(Invariant::OverIsOver, About::job(id), text);
        }
        if state.is_over() && open > 0 {
            let text = format!("the job is over and its counts say that {open} tasks are open");
            self.fail(Invariant::CountsAgree, About::job(id), text);
        }
        if state == JobState::Canceled && !matches!(self.now, Heard::Canceled(job) if job == id) {
            self.fail(Invariant::NothingIsMissing, About::job(id), "nobody canceled the job, and it is".to_owned());
        }
    }

    fn step_counts(&mut self, job: JobId, step: usize, counts: Counts) {
        let total = self.jobs[&job].job.steps[step].tasks;
        let book = self.step(job, step);
        book.open = counts.open;
        let (done, failed) = (book.done_count, book.failed.len());
        let agree = counts.done == done && counts.failed as usize == failed && counts.total == total;
        if !agree || counts.done + counts.failed + counts.open > counts.total {
            let text = format!("step {step}: {counts:?}; the book has {done} done and {failed} failed of {total}");
            self.fail(Invariant::CountsAgree, About::job(job), text);
        }
    }

    /// What one event decided to do. `asked_by`: whose heartbeat is answered. `alive`: workers of a function that live.
    pub(crate) fn decided(
        &mut self,
        effect: &Effect,
        asked_by: Option<&WorkerId>,
        alive: impl Fn(&FunctionKey) -> u32,
    ) {
        self.checks += 1;
        match effect {
            Effect::PublishOrder { job, attempt, function, step } => {
                if self.jobs.get(job).is_none_or(|book| book.state.is_over()) {
                    let text = format!("order {attempt} is published for a job that is over");
                    self.fail(Invariant::OverIsOver, About::attempt(*job, *attempt), text);
                }
                self.published_steps.insert((*job, *step));
                let published = self.published.entry(function.clone()).or_default();
                *published += 1;
                let workers = self.functions[function].workers_max;
                // A provider may have started more than it was asked for.
                if *published > workers * ORDERS_PER_WORKER_AND_EVENT
                    && *published > alive(function) * ORDERS_PER_WORKER_AND_EVENT
                {
                    let text = format!("one event publishes {published} orders of {function} for {workers} workers");
                    self.fail(Invariant::OrdersAreBounded, About::job(*job), text);
                }
            }
            Effect::AnnounceJobOver { job, .. } => {
                let Some(book) = self.jobs.get_mut(job) else { return };
                if std::mem::replace(&mut book.announced, true) || !book.state.is_over() {
                    let text = format!("the end is announced twice or while the job is {:?}", book.state);
                    self.fail(Invariant::OverIsOver, About::job(*job), text);
                }
            }
            Effect::StartWorker { worker, function, pool, .. } => {
                self.asked_in.insert(worker.clone(), pool.clone());
                self.check_pace(pool, worker);
                if self.demand(function) == 0 {
                    let text = format!("{worker} is asked for and nothing is to be done for {function}");
                    self.fail(Invariant::NoDemandNoWorkers, About::worker(worker), text);
                }
            }
            Effect::StopWorker { worker } => {
                let held = self.chunks.iter().find(|(_, chunk)| chunk.holder.as_ref() == Some(worker));
                if held.is_some() || self.spoke.contains(worker) {
                    let text = format!("{worker} is stopped and has spoken, or holds {:?}", held.map(|(id, _)| *id));
                    self.fail(Invariant::NobodyIsStopped, About::worker(worker), text);
                }
            }
            Effect::PushControl { worker, control } => {
                if let (Some(reason), Some(attempt)) = (control.stop, control.attempt) {
                    self.check_stop(worker, attempt, reason);
                }
            }
            Effect::AnswerHeartbeat { control, .. } => {
                if let (Some(reason), Some(attempt), Some(worker)) = (control.stop, control.attempt, asked_by) {
                    self.check_stop(worker, attempt, reason);
                }
            }
            Effect::AnswerClaim { .. } | Effect::ArchiveLog { .. } | Effect::PurgeOrders { .. } => {}
        }
    }

    fn check_stop(&mut self, worker: &WorkerId, attempt: AttemptId, reason: &str) {
        if self.holder_of(attempt.chunk) == Some((worker, attempt.number)) {
            let job = self.chunks[&attempt.chunk].job;
            let about = About { worker: Some(worker.clone()), ..About::attempt(job, attempt) };
            let text = format!("{worker} holds {attempt} and is told to stop: {reason}");
            self.fail(Invariant::NobodyIsStopped, about, text);
        }
    }

    /// Tasks of this function that could be rendered now, or once a failed one has waited.
    pub(crate) fn demand(&self, function: &FunctionKey) -> u64 {
        let mut demand = 0;
        for book in self.jobs.values() {
            if matches!(book.state, JobState::Queued | JobState::Running) {
                for (at, step) in book.job.steps.iter().enumerate() {
                    let over = |before: &usize| book.steps[*before].done_count == book.job.steps[*before].tasks;
                    if step.function == *function && step.after.iter().all(over) {
                        let failed = u32::try_from(book.steps[at].failed.len()).unwrap_or(u32::MAX);
                        demand += u64::from(step.tasks - book.steps[at].done_count - failed);
                    }
                }
            }
        }
        demand
    }

    /// The event is dealt with.
    pub(crate) fn event_over(&mut self) {
        if !matches!(self.now, Heard::OrdersLost) {
            return;
        }
        let mut offered: BTreeMap<(JobId, usize), u32> = BTreeMap::new();
        for (id, book) in &self.jobs {
            if matches!(book.state, JobState::Queued | JobState::Running) {
                offered.extend(book.steps.iter().enumerate().map(|(at, step)| ((*id, at), step.open)));
            }
        }
        for chunk in self.chunks.values().filter(|chunk| chunk.holder.is_some()) {
            if let Some(open) = offered.get_mut(&(chunk.job, chunk.step)) {
                *open = open.saturating_sub(chunk.tasks.len());
            }
        }
        let missing = offered.iter().find(|(step, open)| **open > 0 && !self.published_steps.contains(step));
        if let Some(((job, step), open)) = missing {
            let text =
                format!("step {step} has {open} tasks on offer, JetStream was emptied, and no order is published");
            self.fail(Invariant::OrdersComeAgain, About::job(*job), text);
        }
    }

    /// The scheduler started again from what was durable.
    pub(crate) fn restarted(&mut self, farm: &Farm, at: Timestamp) {
        self.spoke.clear();
        self.started_at = at;
        self.check_jobs(farm);
        self.check_paid(farm);
        for book in self.jobs.values_mut() {
            for step in &mut book.steps {
                step.open = 0;
            }
        }
        // Offers that nobody claimed are forgotten: open is what is held.
        for chunk in self.chunks.values().filter(|chunk| chunk.holder.is_some()) {
            if let Some(book) = self.jobs.get_mut(&chunk.job) {
                book.steps[chunk.step].open += chunk.tasks.len();
            }
        }
    }

    /// The farm knows every job that was accepted and is not over, and no other.
    pub(crate) fn check_jobs(&mut self, farm: &Farm) {
        let wrong = self.jobs.iter().find(|(id, book)| farm.job_state(**id).is_some() == book.state.is_over());
        if let Some((id, book)) = wrong {
            let text = format!("the job is {:?} and the farm has it as {:?}", book.state, farm.job_state(*id));
            let id = *id;
            self.fail(Invariant::JobsSurvive, About::job(id), text);
        }
    }

    /// Every worker that the farm hears of is paid, and nobody else.
    pub(crate) fn check_paid(&mut self, farm: &Farm) {
        let accounts: BTreeSet<&WorkerId> = farm.accounts().map(|account| &account.worker).collect();
        // One of before a restart may be long gone: it is paid once it speaks.
        let mut heard = farm.workers().map(|worker| worker.id).filter(|id| self.spoke.contains(*id));
        let unpaid = heard.find(|id| !self.paid.contains_key(*id));
        let forgotten = self.paid.keys().find(|id| !accounts.contains(*id));
        if let Some(worker) = unpaid.or(forgotten).cloned() {
            let text = format!("{worker} works without an account, or is paid although it is gone");
            self.fail(Invariant::PaidTimeAddsUp, About::worker(&worker), text);
        }
    }

    pub(crate) fn open_jobs(&self) -> impl Iterator<Item = (JobId, JobState)> + '_ {
        self.jobs.iter().filter(|(_, book)| !book.state.is_over()).map(|(id, book)| (*id, book.state))
    }

    /// Everything is over. `poison`: tasks that kill their workers.
    pub(crate) fn check_end(&mut self, poison: impl Fn(JobId, usize) -> Vec<u32>, announced_all: bool) {
        let mut found = Vec::new();
        for (id, book) in &self.jobs {
            if book.state == JobState::Canceled {
                continue;
            }
            let mut failed_steps = BTreeSet::new();
            for (at, step) in book.job.steps.iter().enumerate() {
                let books = &book.steps[at];
                let behind = step.after.iter().any(|before| failed_steps.contains(before));
                let over = books.done_count as usize + books.failed.len() == step.tasks as usize;
                if !books.failed.is_empty() || behind {
                    failed_steps.insert(at);
                }
                if behind {
                    continue;
                }
                if !over {
                    let text = format!("step {at}: {} of {} tasks are done", books.done_count, step.tasks);
                    found.push((Invariant::NothingIsMissing, *id, text));
                }
                for task in poison(*id, at) {
                    if !books.quarantined.contains(&task) {
                        let text = format!("task {task} of step {at} kills its workers and is not quarantined");
                        found.push((Invariant::KillersAreQuarantined, *id, text));
                    }
                }
            }
            if (book.state == JobState::Succeeded) != failed_steps.is_empty() {
                let text = format!("the job ended {:?}, and these steps failed: {failed_steps:?}", book.state);
                found.push((Invariant::NothingIsMissing, *id, text));
            }
            if announced_all && !book.announced {
                found.push((Invariant::OverIsOver, *id, "the end of the job was not announced".to_owned()));
            }
        }
        for (invariant, id, text) in found {
            self.fail(invariant, About::job(id), text);
        }
        if let Some((id, chunk)) = self.chunks.iter().find(|(_, chunk)| chunk.holder.is_some()) {
            let text = format!("chunk {id} is still held by {:?}", chunk.holder);
            let about = About { job: Some(chunk.job), chunk: Some(*id), worker: None };
            self.fail(Invariant::NothingIsMissing, about, text);
        }
    }
}

fn about_change(change: &Change) -> About {
    match change {
        Change::TaskDone { job, attempt, .. }
        | Change::TaskFailed { job, attempt, .. }
        | Change::AttemptEnded { job, attempt, .. }
        | Change::AttemptStarted { job, attempt, .. } => About::attempt(*job, *attempt),
        _ => About::default(),
    }
}

/// Whether the row of a chunk says that a worker holds it.
pub(crate) fn is_leased(chunk: &StoredChunk) -> bool {
    matches!(chunk.state, StoredChunkState::Leased { .. })
}
