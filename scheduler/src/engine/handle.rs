//! How the rest of the scheduler speaks to the engine.

use super::deployments::{CALLBACKS_MAX, Deploy};
use super::glance::{Crowd, WorkerQuery};
use super::notices::TriedNotice;
use super::scans::Added;
use crate::access::note;
use crate::deployment_table::DeploymentTable;
use crate::function_table::FunctionTable;
use crate::metrics::farm::Loads;
use crate::store::{AccessWrite, AuditRow, Callback, TriedCallback};
use crate::target_table::TargetTable;
use framewake_core::event::Event;
use framewake_core::farm::Listener;
use framewake_core::schedule::Rules;
use framewake_core::values::Place;
use framewake_proto::api::{EventView, JobState, PlaceView, ScalingView, Submitted, WorkerView};
use framewake_proto::budget::{BUDGETS_MAX, BudgetView, Period, ProjectBudget};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Budget, Fault, Job, JobSpec};
use framewake_proto::money::{Currency, Money};
use framewake_proto::notify::{TARGETS_MAX, TargetChange, TargetSpec};
use framewake_proto::order::StepOrder;
use framewake_proto::pool::PoolSpec;
use framewake_proto::price::{PaidFor, PriceRow, PricesAdded};
use framewake_proto::scaling::ScalingExplained;
use framewake_proto::scan::ScanView;
use framewake_proto::schedule::{SCHEDULES_MAX, ScheduleSpec, ScheduleStored, ScheduleView};
use framewake_proto::start::WorkerStart;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::{Day, Timestamp};
use framewake_proto::trace::TraceParent;
use framewake_proto::wire::{self, STEP_SIZE_MAX};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Most messages that wait for the engine; senders wait beyond it.
pub(crate) const INBOX_MAX: usize = 16 * 1024;
/// Events kept for a slow listener; one that falls further behind reads the rest from the store.
pub(crate) const EVENTS_BEHIND_MAX: usize = 4096;

/// A good job, on its way to the store.
#[derive(Debug)]
pub struct Submission {
    pub id: JobId,
    /// Who or what asked for it, as [`framewake_proto::api::JobView::submitted_by`] says it.
    pub by: String,
    /// As submitted, its functions with their versions.
    pub spec: JobSpec,
    pub job: Job,
    /// The caller's key and the digest of the body it came with.
    pub idempotency: Option<(String, [u8; 32])>,
    /// The span of whoever submitted it.
    pub parent: Option<TraceParent>,
}

/// What something may be put in the place of. It is looked at when it is put: whoever asks may have taken a minute to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InPlaceOf {
    /// There must be none of its name.
    Nothing,
    Any,
    /// Only what is of this project.
    OfProject(Name),
}

impl InPlaceOf {
    /// What whoever sees this one project may replace, or whoever sees all.
    pub(crate) fn seen_by(only: Option<&Name>) -> InPlaceOf {
        only.map_or(InPlaceOf::Any, |project| InPlaceOf::OfProject(project.clone()))
    }

    /// Refuses it where there is one of this project already.
    pub(super) fn check(
        &self,
        name: &Name,
        project: Option<&Name>,
        exists: impl FnOnce(Name) -> Refused,
    ) -> Result<(), Refused> {
        match self {
            InPlaceOf::Any => Ok(()),
            InPlaceOf::OfProject(own) if project == Some(own) => Ok(()),
            InPlaceOf::OfProject(_) => Err(Refused::Taken(name.clone())),
            InPlaceOf::Nothing => Err(exists(name.clone())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleCommand {
    Pause,
    Resume,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobCommand {
    Cancel,
    Pause,
    Resume,
    /// All that failed, or of one step these.
    Retry(Option<(usize, TaskSet)>),
    Priority(u32),
}

/// Why the engine did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no such job")]
    NotFound,
    #[error("the job is {state}")]
    WrongState { state: JobState },
    #[error("no such task of the job failed for good")]
    NothingFailed,
    #[error("the idempotency key was used with another body")]
    Conflict,
    #[error(
        "the description of step {step} takes {size_bytes} bytes, more than the {STEP_SIZE_MAX} that a worker can be \
         sent: give it fewer inputs or shorter names, or pack small files into one"
    )]
    StepTooLarge { step: usize, size_bytes: usize },
    #[error("{}", said(.0))]
    NoPool(Vec<Fault>),
    #[error("the function has {0} versions, the most there may be")]
    TooManyVersions(u32),
    #[error("there are {0} jobs that are not over, the most there may be")]
    TooManyJobs(usize),
    #[error("there is no schedule `{0}`")]
    NoSchedule(Name),
    #[error("there is a schedule `{0}` already")]
    ScheduleExists(Name),
    #[error("the name `{0}` is taken")]
    Taken(Name),
    #[error("there are {SCHEDULES_MAX} schedules, the most there may be")]
    TooManySchedules,
    #[error("no run of `{schedule}` can be made: {reason}")]
    NoRun { schedule: Name, reason: String },
    #[error("the price table is full")]
    TooManyPrices,
    #[error("there is no budget of project `{0}` for {1}")]
    NoBudget(Name, Period),
    #[error("there are {BUDGETS_MAX} budgets, the most there may be")]
    TooManyBudgets,
    #[error("nothing is paid in {0}: the prices of this farm are in {1}, and a budget could not be kept")]
    OtherCurrency(Currency, String),
    #[error("there is no notification target `{0}`")]
    NoTarget(Name),
    #[error("there is a notification target `{0}` already, and it is another")]
    TargetExists(Name),
    #[error("there are {TARGETS_MAX} notification targets, the most there may be")]
    TooManyTargets,
    #[error("there is no such notification among those that were given up")]
    NotDead,
    #[error("function `{0}` not found")]
    NotDeployed(Name),
    #[error("function `{0}` is deployed already: update it, or remove it first")]
    Deployed(Name),
    #[error(
        "function `{0}` was not deployed through this interface, but added as a function file: choose another name"
    )]
    OfOthers(Name),
    #[error("{CALLBACKS_MAX} answers wait to be sent, the most there may be")]
    TooManyCallbacks,
    #[error("the scheduler is stopping")]
    Closing,
}

/// How the parts are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Empty when connected, else why not.
    pub nats: String,
    /// Reports that waited at the start have been applied.
    pub drained: bool,
    /// Pools that were heard of, and why each does not answer; empty when it does.
    pub pools: BTreeMap<Name, String>,
}

/// Something for the engine, with the way back where there is an answer.
#[derive(Debug)]
pub(crate) enum Message {
    Submit(Box<Submission>, oneshot::Sender<Result<Submitted, Refused>>),
    /// A job whose caller wants the answer sent.
    Call(Box<Submission>, Callback, oneshot::Sender<Result<Submitted, Refused>>),
    Deploy {
        spec: Box<FunctionSpec>,
        /// What was sent, as it was sent.
        body: String,
        /// Workers that stay.
        kept: u32,
        how: Deploy,
        reply: oneshot::Sender<Result<Added, Refused>>,
    },
    Undeploy(Name, oneshot::Sender<Result<(), Refused>>),
    KeepWorkers(Name, u32, oneshot::Sender<Result<(), Refused>>),
    TriedCallbacks(Vec<TriedCallback>, oneshot::Sender<()>),
    AddFunction(Box<FunctionSpec>, oneshot::Sender<Result<Added, Refused>>),
    /// What became of the scan of a version's image.
    Scanned(FunctionKey, Box<ScanView>, oneshot::Sender<()>),
    ChangeJob(JobId, JobCommand, oneshot::Sender<Result<(), Refused>>),
    PutSchedule {
        spec: Box<ScheduleSpec>,
        rules: Box<Rules>,
        over: InPlaceOf,
        reply: oneshot::Sender<Result<ScheduleStored, Refused>>,
    },
    ChangeSchedule(Name, ScheduleCommand, oneshot::Sender<Result<(), Refused>>),
    RunSchedule {
        name: Name,
        idempotency: Option<(String, [u8; 32])>,
        reply: oneshot::Sender<Result<Submitted, Refused>>,
    },
    /// By name, after this one, at most so many.
    Schedules(Option<Name>, usize, oneshot::Sender<Vec<ScheduleView>>),
    Schedule(Name, oneshot::Sender<Option<ScheduleView>>),
    PutTarget {
        spec: Box<TargetSpec>,
        over: InPlaceOf,
        reply: oneshot::Sender<Result<TargetChange, Refused>>,
    },
    RemoveTarget(Name, oneshot::Sender<Result<(), Refused>>),
    TriedNotices(Vec<TriedNotice>, oneshot::Sender<()>),
    /// One that was given up.
    Resend(String, oneshot::Sender<Result<(), Refused>>),
    /// What the rules know nothing of; answered once it is durable.
    Access(Vec<AccessWrite>, oneshot::Sender<()>),
    WeighProject(Name, u32, oneshot::Sender<()>),
    BudgetJob(JobId, Option<Budget>, oneshot::Sender<Result<(), Refused>>),
    BudgetProject(Name, Period, Option<ProjectBudget>, oneshot::Sender<Result<Vec<BudgetView>, Refused>>),
    Budgets(oneshot::Sender<Vec<BudgetView>>),
    AddPrices(Vec<PriceRow>, oneshot::Sender<Result<PricesAdded, Refused>>),
    /// By a row of the table, or an amount of one's own.
    PayBy(PaidFor, Day, Option<u32>, Option<Money>, oneshot::Sender<Result<u32, Refused>>),
    Workers(WorkerQuery, oneshot::Sender<Vec<WorkerView>>),
    /// How a worker came that is here.
    WorkerStart(WorkerId, oneshot::Sender<Option<WorkerStart>>),
    Loads(oneshot::Sender<Loads>),
    Crowd(oneshot::Sender<Box<Crowd>>),
    Places(oneshot::Sender<Vec<PlaceView>>),
    RestorePlace(Place, oneshot::Sender<Result<(), Refused>>),
    /// Where workers may be started.
    SetPools(Vec<PoolSpec>),
    ExplainScaling(FunctionKey, oneshot::Sender<Option<Box<ScalingExplained>>>),
    Scaling(oneshot::Sender<Vec<(FunctionKey, ScalingView)>>),
    /// Answered once all that was told before is durable.
    Durable(oneshot::Sender<()>),
    Explain(JobId, Listener, oneshot::Sender<Option<Vec<Vec<String>>>>),
    /// A change that somebody asked for, and the note of it: both are durable, or neither.
    By(Box<AuditRow>, Box<Message>),
    /// From the adapters: what needs no answer.
    Happened(Event),
    /// A report from the stream; the token is handed to the queue once it is applied and durable.
    Reported(Event, u64),
    /// Logs that lie on their stream, and who wrote them.
    FoundLogs(Vec<(WorkerId, JobId, AttemptId)>),
    /// What a worker that is here, or asked for, works for.
    WorkerFunction(WorkerId, oneshot::Sender<Option<FunctionKey>>),
    /// The job and step of an attempt, if this worker holds it.
    HeldBy(WorkerId, AttemptId, oneshot::Sender<Option<(JobId, usize)>>),
    StepOrder(JobId, usize, oneshot::Sender<Option<StepOrder>>),
    Claimed {
        /// Of which the worker may take orders.
        function: FunctionKey,
        claim: wire::Claim,
        reply: String,
    },
    Beat {
        heartbeat: wire::Heartbeat,
        reply: String,
    },
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) inbox: mpsc::Sender<Message>,
    pub(crate) functions: watch::Receiver<Arc<FunctionTable>>,
    pub(crate) targets: watch::Receiver<Arc<TargetTable>>,
    pub(crate) deployed: watch::Receiver<Arc<DeploymentTable>>,
    pub(crate) events: broadcast::Sender<Arc<EventView>>,
    pub(crate) health: watch::Receiver<Health>,
}

impl Handle {
    /// Answers once the job is durable.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Refused> {
        // Here, not in the loop: a job may be large, and others wait.
        check_sizes(&submission)?;
        self.change(|reply| Message::Submit(Box::new(submission), reply)).await?
    }

    /// The same, and the caller is told when it is over.
    pub(crate) async fn call(&self, submission: Submission, callback: Callback) -> Result<Submitted, Refused> {
        check_sizes(&submission)?;
        self.change(|reply| Message::Call(Box::new(submission), callback, reply)).await?
    }

    /// A version of a function that a client of `OpenFaaS` deployed, of which `kept` workers stay.
    pub async fn deploy(&self, spec: FunctionSpec, body: String, kept: u32, how: Deploy) -> Result<Added, Refused> {
        self.change(|reply| Message::Deploy { spec: Box::new(spec), body, kept, how, reply }).await?
    }

    pub async fn undeploy(&self, name: Name) -> Result<(), Refused> {
        self.change(|reply| Message::Undeploy(name, reply)).await?
    }

    /// So many workers of the function stay, with work or without.
    pub async fn keep_workers(&self, name: Name, workers: u32) -> Result<(), Refused> {
        self.change(|reply| Message::KeepWorkers(name, workers, reply)).await?
    }

    /// Answers once it is durable how the tries went.
    pub(crate) async fn note_callbacks(&self, tries: Vec<TriedCallback>) -> Result<(), Refused> {
        self.ask(|reply| Message::TriedCallbacks(tries, reply)).await
    }

    pub fn deployed(&self) -> Arc<DeploymentTable> {
        self.deployed.borrow().clone()
    }

    /// The new version; the same function again gives the version it has.
    pub async fn add_function(&self, spec: FunctionSpec) -> Result<Added, Refused> {
        self.change(|reply| Message::AddFunction(Box::new(spec), reply)).await?
    }

    /// Answers once it is durable what became of the scan.
    pub(crate) async fn scanned(&self, key: FunctionKey, scan: ScanView) -> Result<(), Refused> {
        self.ask(|reply| Message::Scanned(key, Box::new(scan), reply)).await
    }

    pub async fn change_job(&self, id: JobId, command: JobCommand) -> Result<(), Refused> {
        self.change(|reply| Message::ChangeJob(id, command, reply)).await?
    }

    /// A new schedule, or other rules for the one of that name; `rules` are those of `spec`.
    pub async fn put_schedule(
        &self,
        spec: ScheduleSpec,
        rules: Rules,
        over: InPlaceOf,
    ) -> Result<ScheduleStored, Refused> {
        let (spec, rules) = (Box::new(spec), Box::new(rules));
        self.change(|reply| Message::PutSchedule { spec, rules, over, reply }).await?
    }

    pub async fn change_schedule(&self, name: Name, command: ScheduleCommand) -> Result<(), Refused> {
        self.change(|reply| Message::ChangeSchedule(name, command, reply)).await?
    }

    /// Makes a job now, whatever is due when.
    pub async fn run_schedule(
        &self,
        name: Name,
        idempotency: Option<(String, [u8; 32])>,
    ) -> Result<Submitted, Refused> {
        self.change(|reply| Message::RunSchedule { name, idempotency, reply }).await?
    }

    /// What a worker that is here, or asked for, works for.
    pub(crate) async fn worker_function(&self, worker: WorkerId) -> Result<Option<FunctionKey>, Refused> {
        self.ask(|reply| Message::WorkerFunction(worker, reply)).await
    }

    /// The job and step of an attempt, if this worker holds it.
    pub(crate) async fn held_by(
        &self,
        worker: WorkerId,
        attempt: AttemptId,
    ) -> Result<Option<(JobId, usize)>, Refused> {
        self.ask(|reply| Message::HeldBy(worker, attempt, reply)).await
    }

    /// What workers are told of a step, of a job that is not over.
    pub(crate) async fn step_order(&self, job: JobId, step: usize) -> Result<Option<StepOrder>, Refused> {
        self.ask(|reply| Message::StepOrder(job, step, reply)).await
    }

    /// By name, after `after`, at most `limit`.
    pub async fn schedules(&self, after: Option<Name>, limit: usize) -> Result<Vec<ScheduleView>, Refused> {
        self.ask(|reply| Message::Schedules(after, limit, reply)).await
    }

    pub async fn schedule(&self, name: Name) -> Result<Option<ScheduleView>, Refused> {
        self.ask(|reply| Message::Schedule(name, reply)).await
    }

    pub async fn put_target(&self, spec: TargetSpec, over: InPlaceOf) -> Result<TargetChange, Refused> {
        self.change(|reply| Message::PutTarget { spec: Box::new(spec), over, reply }).await?
    }

    pub async fn remove_target(&self, name: Name) -> Result<(), Refused> {
        self.change(|reply| Message::RemoveTarget(name, reply)).await?
    }

    /// Answers once it is durable how the tries went.
    pub(crate) async fn note_tries(&self, tries: Vec<TriedNotice>) -> Result<(), Refused> {
        self.ask(|reply| Message::TriedNotices(tries, reply)).await
    }

    /// Answers once it is durable.
    pub(crate) async fn write_access(&self, writes: Vec<AccessWrite>) -> Result<(), Refused> {
        let mut writes = writes;
        writes.extend(note::take().map(|mut row| {
            row.at = Timestamp::now();
            row.noted.set();
            AccessWrite::Changed(row)
        }));
        self.ask(|reply| Message::Access(writes, reply)).await
    }

    /// The same, for what nobody waits for.
    pub(crate) async fn tell_access(&self, writes: Vec<AccessWrite>) {
        let (nobody_waits, _) = oneshot::channel();
        // Where the engine is gone, so is what it would be about.
        let _ = self.tell(Message::Access(writes, nobody_waits)).await;
    }

    /// Tries a notification again that was given up.
    pub async fn resend(&self, id: String) -> Result<(), Refused> {
        self.change(|reply| Message::Resend(id, reply)).await?
    }

    pub fn targets(&self) -> Arc<TargetTable> {
        self.targets.borrow().clone()
    }

    pub async fn weigh_project(&self, project: Name, weight: u32) -> Result<(), Refused> {
        self.change(|reply| Message::WeighProject(project, weight, reply)).await
    }

    /// Another budget for a job that is not over, or none.
    pub async fn budget_job(&self, id: JobId, budget: Option<Budget>) -> Result<(), Refused> {
        self.change(|reply| Message::BudgetJob(id, budget, reply)).await?
    }

    /// A budget for a project, or none; those that there are then.
    pub async fn budget_project(
        &self,
        project: Name,
        period: Period,
        budget: Option<ProjectBudget>,
    ) -> Result<Vec<BudgetView>, Refused> {
        self.change(|reply| Message::BudgetProject(project, period, budget, reply)).await?
    }

    /// By project and period.
    pub async fn budgets(&self) -> Result<Vec<BudgetView>, Refused> {
        self.ask(Message::Budgets).await
    }

    /// Those that are in the table already are left as they are.
    pub async fn add_prices(&self, rows: Vec<PriceRow>) -> Result<PricesAdded, Refused> {
        self.change(|reply| Message::AddPrices(rows, reply)).await?
    }

    /// The number of the row that is paid by from that day on.
    pub async fn pay_by(
        &self,
        paid_for: PaidFor,
        since: Day,
        price: Option<u32>,
        own: Option<Money>,
    ) -> Result<u32, Refused> {
        self.change(|reply| Message::PayBy(paid_for, since, price, own, reply)).await?
    }

    /// By name.
    pub(crate) async fn workers(&self, query: WorkerQuery) -> Result<Vec<WorkerView>, Refused> {
        self.ask(|reply| Message::Workers(query, reply)).await
    }

    /// How a worker came, as far as it did; `None`: it is not here.
    pub async fn worker_start(&self, id: WorkerId) -> Result<Option<WorkerStart>, Refused> {
        self.ask(|reply| Message::WorkerStart(id, reply)).await
    }

    /// What each function has to do and who is there to do it.
    pub async fn loads(&self) -> Result<Loads, Refused> {
        self.ask(Message::Loads).await
    }

    /// All workers at a glance.
    pub(crate) async fn crowd(&self) -> Result<Box<Crowd>, Refused> {
        self.ask(Message::Crowd).await
    }

    /// By name.
    pub async fn places(&self) -> Result<Vec<PlaceView>, Refused> {
        self.ask(Message::Places).await
    }

    /// Brings a place back that was set aside.
    pub async fn restore_place(&self, name: &str) -> Result<(), Refused> {
        self.change(|reply| Message::RestorePlace(Place::new(name), reply)).await?
    }

    /// Where workers may be started from now on; checked before.
    pub async fn set_pools(&self, pools: Vec<PoolSpec>) {
        self.tell(Message::SetPools(pools)).await;
    }

    /// Comes back once all that was told before is durable; false when the engine is gone.
    pub(crate) async fn durable(&self) -> bool {
        self.ask(Message::Durable).await.is_ok()
    }

    pub async fn scaling(&self) -> Result<Vec<(FunctionKey, ScalingView)>, Refused> {
        self.ask(Message::Scaling).await
    }

    /// Why the function has the workers it has; `None`: it is not known.
    pub async fn explain_scaling(&self, key: FunctionKey) -> Result<Option<Box<ScalingExplained>>, Refused> {
        self.ask(|reply| Message::ExplainScaling(key, reply)).await
    }

    /// One list of sentences a step; `None` for a job that is over or unknown.
    pub async fn explain(&self, job: JobId, to: Listener) -> Result<Option<Vec<Vec<String>>>, Refused> {
        self.ask(|reply| Message::Explain(job, to, reply)).await
    }

    pub fn functions(&self) -> Arc<FunctionTable> {
        self.functions.borrow().clone()
    }

    /// Events from now on, after they are durable; progress is among them and has no number.
    pub fn events(&self) -> broadcast::Receiver<Arc<EventView>> {
        self.events.subscribe()
    }

    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Messages that wait for the engine.
    pub fn backlog(&self) -> usize {
        INBOX_MAX - self.inbox.capacity()
    }

    /// False when the engine is gone.
    pub(crate) async fn tell(&self, message: Message) -> bool {
        self.inbox.send(message).await.is_ok()
    }

    /// The same for what changes something: the note of the request at hand goes with it.
    async fn change<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Refused> {
        self.ask(|reply| match note::take() {
            Some(row) => Message::By(row, Box::new(message(reply))),
            None => message(reply),
        })
        .await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(message(reply)).await.map_err(|_| Refused::Closing)?;
        answer.await.map_err(|_| Refused::Closing)
    }
}

/// `blender` becomes `blender@3`: a job is rendered by what was newest when it came, also after a restart.
pub(crate) fn pinned(mut spec: JobSpec, job: &Job) -> JobSpec {
    for (text, step) in spec.steps.iter_mut().zip(&job.steps) {
        text.function = step.function.to_string();
    }
    spec
}

/// All that no pool can serve, in a line.
fn said(faults: &[Fault]) -> String {
    let said: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect();
    said.join("; ")
}

/// What can't be sent to a worker must not be accepted: nobody could ever work on it.
pub(crate) fn check_sizes(submission: &Submission) -> Result<(), Refused> {
    for step in 0..submission.job.steps.len() {
        let mut size = Size(0);
        let order = StepOrder::new(submission.id, &submission.job, step);
        serde_json::to_writer(&mut size, &order).expect("an order can be written as JSON");
        if size.0 > STEP_SIZE_MAX {
            return Err(Refused::StepTooLarge { step, size_bytes: size.0 });
        }
    }
    Ok(())
}

/// Counts what is written to it.
struct Size(usize);

impl std::io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
