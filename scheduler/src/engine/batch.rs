//! One turn of the loop: messages become events, events become changes, callers wait for the commit.

use super::glance::{Crowd, WorkerQuery};
use super::{Added, Engine, Error, JobCommand, Message, ProviderCommand, QueueCommand, Refused, Submission};
use crate::credentials::Ended;
use crate::metrics::farm::Loads;
use crate::queue::reading;
use crate::scene::SceneKey;
use crate::store::{self, AccessWrite, AuditRow, GatewayWrite, Learned, NotifyWrite, ScanWrite, ScheduleWrite};
use crate::traces::Root;
use framewake_core::change::Change;
use framewake_core::coming::StoredStart;
use framewake_core::event::{Event, RequestId};
use framewake_core::farm::{Applied, Listener};
use framewake_core::schedule::ScheduleId;
use framewake_core::values::{FunctionRules, NewJob, StoredJob};
use framewake_proto::api::{self, EventView, PlaceView, ScalingView, Submitted, WorkerView};
use framewake_proto::budget::BudgetView;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::money::Money;
use framewake_proto::notify::{Notice, TargetChange};
use framewake_proto::order::StepOrder;
use framewake_proto::price::{Market, PaidFor, PriceRow, PricesAdded};
use framewake_proto::scaling::ScalingExplained;
use framewake_proto::schedule::{ScheduleChange, ScheduleStored, ScheduleView};
use framewake_proto::start::WorkerStart;
use framewake_proto::time::Day;
use framewake_proto::time::Timestamp;
use framewake_proto::wire;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tracing::warn;

/// Most versions of one function.
const VERSIONS_MAX: u32 = 10_000;

/// An answer that is given once the batch is durable.
#[derive(Debug)]
pub(crate) enum Reply {
    Submitted(oneshot::Sender<Result<Submitted, Refused>>, Result<Submitted, Refused>),
    Function(oneshot::Sender<Result<Added, Refused>>, Result<Added, Refused>),
    Changed(oneshot::Sender<Result<(), Refused>>, Result<(), Refused>),
    Weighed(oneshot::Sender<()>),
    /// The views are made once it is durable.
    Budgeted(oneshot::Sender<Result<Vec<BudgetView>, Refused>>, Result<(), Refused>),
    Budgets(oneshot::Sender<Vec<BudgetView>>),
    Workers(WorkerQuery, oneshot::Sender<Vec<WorkerView>>),
    WorkerStart(WorkerId, oneshot::Sender<Option<WorkerStart>>),
    Loads(oneshot::Sender<Loads>),
    Crowd(oneshot::Sender<Box<Crowd>>),
    Places(oneshot::Sender<Vec<PlaceView>>),
    Scaling(oneshot::Sender<Vec<(FunctionKey, ScalingView)>>),
    ExplainScaling(FunctionKey, oneshot::Sender<Option<Box<ScalingExplained>>>),
    Explain(JobId, Listener, oneshot::Sender<Option<Vec<Vec<String>>>>),
    /// The view is made once it is durable.
    ScheduleStored(oneshot::Sender<Result<ScheduleStored, Refused>>, Result<(ScheduleChange, Name), Refused>),
    Schedules(Option<Name>, usize, oneshot::Sender<Vec<ScheduleView>>),
    Schedule(Name, oneshot::Sender<Option<ScheduleView>>),
    TargetStored(oneshot::Sender<Result<TargetChange, Refused>>, Result<TargetChange, Refused>),
    Noted(oneshot::Sender<()>),
    PricesAdded(oneshot::Sender<Result<PricesAdded, Refused>>, Result<PricesAdded, Refused>),
    PaidBy(oneshot::Sender<Result<u32, Refused>>, Result<u32, Refused>),
}

impl Reply {
    /// Says in the note what is known of the change by now; false if nothing was changed.
    fn note(&self, row: &mut AuditRow) -> bool {
        match self {
            Reply::Submitted(_, Ok(submitted)) => {
                row.subject = format!("/v1/jobs/{}", submitted.id);
                row.after = serde_json::to_string(submitted).expect("an answer can be written as JSON");
                !submitted.repeated
            }
            Reply::Function(_, Ok(added)) => {
                row.subject = format!("/v1/functions/{}", added.key);
                true
            }
            Reply::ScheduleStored(_, Ok((_, name))) => {
                row.subject = format!("/v1/schedules/{name}");
                true
            }
            Reply::Changed(_, answer) | Reply::Budgeted(_, answer) => answer.is_ok(),
            Reply::TargetStored(_, answer) => answer.is_ok(),
            Reply::PricesAdded(_, answer) => answer.is_ok(),
            Reply::PaidBy(_, answer) => answer.is_ok(),
            Reply::Weighed(_) | Reply::Noted(_) => true,
            // Refused, or they only tell.
            Reply::Submitted(_, Err(_))
            | Reply::Function(_, Err(_))
            | Reply::ScheduleStored(_, Err(_))
            | Reply::Budgets(_)
            | Reply::Workers(..)
            | Reply::WorkerStart(..)
            | Reply::Loads(_)
            | Reply::Crowd(_)
            | Reply::Places(_)
            | Reply::Scaling(_)
            | Reply::ExplainScaling(..)
            | Reply::Explain(..)
            | Reply::Schedules(..)
            | Reply::Schedule(..) => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) now: Timestamp,
    pub(crate) applied: Applied,
    submissions: BTreeMap<JobId, Submission>,
    functions: Vec<(FunctionKey, FunctionSpec)>,
    pub(crate) schedules: Vec<ScheduleWrite>,
    /// What a task of each step took in the last run of a schedule.
    pub(crate) runs_learned: BTreeMap<(ScheduleId, usize), f64>,
    pub(crate) schedule_events: Vec<EventView>,
    /// Of runs of schedules; those of jobs follow from the changes.
    pub(crate) run_notices: Vec<Notice>,
    pub(crate) notices: Vec<NotifyWrite>,
    pub(crate) gateway: Vec<GatewayWrite>,
    pub(crate) access: Vec<AccessWrite>,
    pub(crate) scans: Vec<ScanWrite>,
    /// Workers whose rights are over.
    pub(crate) ended: Vec<Ended>,
    /// Versions whose images are to be scanned from now on.
    pub(crate) scans_begun: Vec<FunctionKey>,
    /// Where jobs belong in traces.
    pub(crate) roots: Vec<(JobId, Root)>,
    /// What was measured of scenes.
    pub(crate) learned: HashMap<SceneKey, Learned>,
    pub(crate) targets_changed: bool,
    /// Deliveries that have something new to do.
    pub(crate) wakes: Vec<Arc<Notify>>,
    /// What confines the renderers of those who claim; the rules have no use for it.
    confinements: BTreeMap<WorkerId, String>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) report_token: Option<u64>,
    /// Idempotency keys of this batch's submissions that are known already.
    pub(super) keys: HashMap<String, (JobId, Vec<u8>)>,
}

impl Batch {
    pub(crate) fn new(now: Timestamp) -> Batch {
        Batch {
            now,
            applied: Applied::default(),
            submissions: BTreeMap::new(),
            functions: Vec::new(),
            schedules: Vec::new(),
            runs_learned: BTreeMap::new(),
            schedule_events: Vec::new(),
            run_notices: Vec::new(),
            notices: Vec::new(),
            gateway: Vec::new(),
            access: Vec::new(),
            scans: Vec::new(),
            ended: Vec::new(),
            scans_begun: Vec::new(),
            roots: Vec::new(),
            learned: HashMap::new(),
            targets_changed: false,
            wakes: Vec::new(),
            confinements: BTreeMap::new(),
            replies: Vec::new(),
            report_token: None,
            keys: HashMap::new(),
        }
    }

    pub(crate) fn is_durable_change(&self) -> bool {
        !self.applied.changes.is_empty()
            || !self.functions.is_empty()
            || !self.schedules.is_empty()
            || !self.runs_learned.is_empty()
            || !self.notices.is_empty()
            || !self.gateway.is_empty()
            || !self.access.is_empty()
            || !self.scans.is_empty()
            || !self.ended.is_empty()
            || !self.learned.is_empty()
    }

    /// Those that people started end when they say so, or fall silent; of others their places tell.
    pub(crate) fn note_ends(&mut self) {
        for change in &self.applied.changes {
            if let Change::WorkerStart { start: StoredStart { worker, pool: None, ended: Some(_), .. }, .. } = change {
                self.ended.push(Ended { worker: worker.clone(), at: Timestamp::now(), for_good: false });
            }
        }
    }

    pub(crate) fn functions_changed(&self) -> bool {
        !self.functions.is_empty()
    }

    /// A job that came with this batch.
    pub(super) fn submission_mut(&mut self, id: JobId) -> Option<&mut Submission> {
        self.submissions.get_mut(&id)
    }

    pub(crate) fn new_functions(&self) -> impl Iterator<Item = &FunctionKey> {
        self.functions.iter().map(|(key, _)| key)
    }

    pub(crate) fn to_store(&self) -> store::Batch<'_> {
        store::Batch {
            changes: &self.applied.changes,
            submissions: self.submissions.iter().map(|(id, submission)| (*id, submission)).collect(),
            functions: self.functions.clone(),
            schedules: &self.schedules,
            runs_learned: self.runs_learned.clone(),
            notices: &self.notices,
            gateway: &self.gateway,
            access: &self.access,
            scans: &self.scans,
            ended: &self.ended,
            roots: &self.roots,
            learned: self.learned.iter().map(|(scene, learned)| (*scene, learned)).collect(),
            events: &self.schedule_events,
            confinements: self.confinements.iter().map(|(worker, said)| (worker, said.as_str())).collect(),
            now: self.now,
        }
    }
}

impl Engine {
    /// One look into the store for all keys of a batch.
    pub(super) async fn look_up_keys(&mut self, messages: &[Message], batch: &mut Batch) -> Result<(), Error> {
        let asked = messages.iter().map(|message| match message {
            Message::By(_, message) => message.as_ref(),
            message => message,
        });
        let keys = asked.filter_map(|message| match message {
            Message::Submit(submission, _) | Message::Call(submission, ..) => {
                submission.idempotency.as_ref().map(|(key, _)| key.as_str())
            }
            Message::RunSchedule { idempotency, .. } => idempotency.as_ref().map(|(key, _)| key.as_str()),
            _ => None,
        });
        let keys: Vec<&str> = keys.collect();
        batch.keys = self.store.repeated(&keys).await?;
        Ok(())
    }

    pub(super) async fn receive(&mut self, message: Message, batch: &mut Batch) -> Result<(), Error> {
        match message {
            Message::Submit(submission, reply) => {
                let answer = self.submit(*submission, batch);
                batch.replies.push(Reply::Submitted(reply, answer));
            }
            Message::Call(submission, callback, reply) => {
                let answer = self.call(*submission, callback, batch);
                batch.replies.push(Reply::Submitted(reply, answer));
            }
            Message::Deploy { spec, body, kept, how, reply } => {
                let answer = self.deploy(*spec, body, kept, how, batch);
                batch.replies.push(Reply::Function(reply, answer));
            }
            Message::Undeploy(name, reply) => {
                let answer = self.undeploy(&name, batch);
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::KeepWorkers(name, workers, reply) => {
                let answer = self.keep_workers(name, workers, batch);
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::TriedCallbacks(tries, reply) => {
                self.note_callbacks(tries, batch);
                batch.replies.push(Reply::Noted(reply));
            }
            Message::AddFunction(spec, reply) => {
                let answer = self.add_function(*spec, batch);
                batch.replies.push(Reply::Function(reply, answer));
            }
            Message::Scanned(key, scan, reply) => {
                self.scanned(key, *scan, batch);
                batch.replies.push(Reply::Noted(reply));
            }
            Message::ChangeJob(id, command, reply) => {
                let answer = self.change_job(id, command, batch).await?;
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::PutSchedule { spec, rules, over, reply } => {
                let answer = self.put_schedule(*spec, *rules, &over, batch);
                batch.replies.push(Reply::ScheduleStored(reply, answer));
            }
            Message::ChangeSchedule(name, command, reply) => {
                let answer = self.change_schedule(&name, command, batch);
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::RunSchedule { name, idempotency, reply } => {
                let answer = self.run_schedule(&name, idempotency, batch);
                batch.replies.push(Reply::Submitted(reply, answer));
            }
            Message::PutTarget { spec, over, reply } => {
                let answer = self.put_target(*spec, &over, batch);
                batch.replies.push(Reply::TargetStored(reply, answer));
            }
            Message::RemoveTarget(name, reply) => {
                let answer = self.remove_target(&name, batch);
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::TriedNotices(tries, reply) => {
                self.note_tries(tries, batch);
                batch.replies.push(Reply::Noted(reply));
            }
            Message::Resend(id, reply) => {
                let answer = self.resend(id, batch).await?;
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::Access(writes, reply) => {
                batch.access.extend(writes);
                batch.replies.push(Reply::Noted(reply));
            }
            Message::Schedules(after, limit, reply) => batch.replies.push(Reply::Schedules(after, limit, reply)),
            Message::Schedule(name, reply) => batch.replies.push(Reply::Schedule(name, reply)),
            Message::AddPrices(rows, reply) => {
                let added = self.store.add_prices(&rows, batch.now).await?;
                batch.replies.push(Reply::PricesAdded(reply, added.ok_or(Refused::TooManyPrices)));
            }
            Message::PayBy(paid_for, since, price, own, reply) => {
                let answer = self.pay_by(&paid_for, since, price, own, batch).await?;
                batch.replies.push(Reply::PaidBy(reply, answer));
            }
            Message::BudgetJob(id, budget, reply) => {
                let answer = self.budget_job(id, budget, batch).await?;
                batch.replies.push(Reply::Changed(reply, answer));
            }
            Message::BudgetProject(project, period, budget, reply) => {
                let answer = self.budget_project(project, period, budget, batch).await?;
                batch.replies.push(Reply::Budgeted(reply, answer));
            }
            Message::Budgets(reply) => batch.replies.push(Reply::Budgets(reply)),
            Message::WeighProject(project, weight, reply) => {
                self.apply(Event::ProjectWeighed { project, weight }, batch);
                batch.replies.push(Reply::Weighed(reply));
            }
            Message::Workers(query, reply) => batch.replies.push(Reply::Workers(query, reply)),
            Message::WorkerStart(id, reply) => batch.replies.push(Reply::WorkerStart(id, reply)),
            Message::Loads(reply) => batch.replies.push(Reply::Loads(reply)),
            Message::Crowd(reply) => batch.replies.push(Reply::Crowd(reply)),
            Message::Places(reply) => batch.replies.push(Reply::Places(reply)),
            Message::RestorePlace(place, reply) => {
                let known = self.farm.knows_place(&place);
                self.apply(Event::PlaceRestored { place }, batch);
                batch.replies.push(Reply::Changed(reply, if known { Ok(()) } else { Err(Refused::NotFound) }));
            }
            Message::SetPools(pools) => self.set_pools(pools, batch),
            Message::Durable(reply) => batch.replies.push(Reply::Noted(reply)),
            Message::ExplainScaling(key, reply) => batch.replies.push(Reply::ExplainScaling(key, reply)),
            Message::Scaling(reply) => batch.replies.push(Reply::Scaling(reply)),
            Message::Explain(id, to, reply) => batch.replies.push(Reply::Explain(id, to, reply)),
            Message::WorkerFunction(worker, reply) => drop(reply.send(self.farm.worker_function(&worker).cloned())),
            Message::HeldBy(worker, attempt, reply) => drop(reply.send(self.farm.held_by(&worker, attempt))),
            Message::StepOrder(job, step, reply) => drop(reply.send(self.step_order(job, step).await?)),
            Message::Happened(event) => {
                self.count_end(&event);
                if let Event::WorkerExited { worker, .. } = &event {
                    // By the clock that credentials are signed by.
                    batch.ended.push(Ended { worker: worker.clone(), at: Timestamp::now(), for_good: true });
                }
                self.apply(event, batch);
            }
            Message::Reported(event, token) => {
                let event = self.own_outputs(event).await?;
                self.count_load(&event);
                if let Some(traces) = &mut self.traces {
                    traces.hear(&event);
                }
                self.measuring.hear(&event);
                self.apply(event, batch);
                batch.report_token = Some(token);
            }
            Message::FoundLogs(found) => self.archive_forgotten(found).await?,
            Message::Claimed { function, claim, reply } => self.claimed(&function, &claim, reply, batch),
            Message::By(row, message) => self.receive_noted(row, *message, batch).await?,
            Message::Beat { heartbeat, reply } => self.beat(heartbeat, reply, batch),
        }
        Ok(())
    }

    /// A change and its note, in one transaction.
    async fn receive_noted(
        &mut self,
        mut row: Box<AuditRow>,
        message: Message,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        row.at = batch.now;
        self.note_deployment(&message, &mut row);
        // These are written before the batch is.
        let own = matches!(message, Message::AddPrices(..) | Message::PayBy(..));
        let asked = batch.replies.len();
        if own {
            self.store.begin().await?;
        }
        Box::pin(self.receive(message, batch)).await?;
        let changed = batch.replies.get(asked).is_some_and(|reply| reply.note(&mut row));
        if let Some(Reply::Submitted(_, Ok(submitted))) = batch.replies.get(asked)
            && let Some(submission) = batch.submissions.get(&submitted.id)
        {
            row.project = Some(submission.spec.project.clone());
        }
        if changed {
            row.noted.set();
        }
        let note = changed.then_some(AccessWrite::Changed(row));
        if own {
            self.store.end(note.as_slice()).await?;
        } else {
            batch.access.extend(note);
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, event: Event, batch: &mut Batch) {
        self.farm.apply(batch.now, event, &mut batch.applied);
    }

    pub(super) fn submit(&mut self, submission: Submission, batch: &mut Batch) -> Result<Submitted, Refused> {
        let id = submission.id;
        if let Some((key, digest)) = &submission.idempotency
            && let Some((earlier, known)) = batch.keys.get(key)
        {
            if known != digest {
                return Err(Refused::Conflict);
            }
            return Ok(Submitted { id: *earlier, tasks: total_tasks(&submission), repeated: true });
        }
        if self.farm.jobs() >= self.jobs_max {
            return Err(Refused::TooManyJobs(self.jobs_max));
        }
        self.check_steps(&submission.job)?;
        if let Some((key, digest)) = &submission.idempotency {
            batch.keys.insert(key.clone(), (id, digest.to_vec()));
        }
        let tasks = total_tasks(&submission);
        if let Some(traces) = &mut self.traces {
            let root = traces.begin(id, submission.parent, batch.now);
            batch.roots.extend(root.map(|root| (id, root)));
        }
        let job = Arc::new(submission.job.clone());
        let mut new = NewJob::from(job.as_ref());
        self.remember(&job, &mut new);
        self.apply(Event::JobSubmitted { id, job: new }, batch);
        self.jobs.insert(id, job);
        batch.submissions.insert(id, submission);
        Ok(Submitted { id, tasks, repeated: false })
    }

    pub(super) fn add_function(&mut self, spec: FunctionSpec, batch: &mut Batch) -> Result<Added, Refused> {
        let newest = self.functions.newest(&spec.name);
        if let Some((version, known)) = newest
            && known.as_ref() == &spec
        {
            return Ok(Added { key: FunctionKey { name: spec.name, version }, active: true });
        }
        let version = self.scans.next_version(&spec, newest.map_or(0, |(version, _)| version));
        if version > VERSIONS_MAX {
            return Err(Refused::TooManyVersions(VERSIONS_MAX));
        }
        self.check_pools(&spec)?;
        let key = FunctionKey { name: spec.name.clone(), version };
        if self.keep_back(&key, &spec, batch) {
            return Ok(Added { key, active: false });
        }
        self.activate(key.clone(), spec, batch);
        Ok(Added { key, active: true })
    }

    /// From now on it is a version like all others.
    pub(super) fn activate(&mut self, key: FunctionKey, spec: FunctionSpec, batch: &mut Batch) {
        let rules = FunctionRules { unfit: self.unfit(&spec), ..store::function_rules(&spec) };
        self.apply(Event::FunctionAdded { key: key.clone(), rules }, batch);
        self.functions.insert(key.clone(), spec.clone());
        batch.functions.push((key, spec));
    }

    /// Durable at once, and in force before the next event.
    async fn pay_by(
        &mut self,
        paid_for: &PaidFor,
        since: Day,
        price: Option<u32>,
        own: Option<Money>,
        batch: &mut Batch,
    ) -> Result<Result<u32, Refused>, Error> {
        let mut id = price;
        if let Some(an_hour) = own {
            let row = PriceRow {
                id: None,
                provider: "own".to_owned(),
                instance_type: paid_for.to_string(),
                gpu: String::new(),
                gpu_count: 0,
                market: Market::OnDemand,
                region: String::new(),
                an_hour,
                as_of: since,
                source: "set by hand".to_owned(),
            };
            if self.store.add_prices(std::slice::from_ref(&row), batch.now).await?.is_none() {
                return Ok(Err(Refused::TooManyPrices));
            }
            id = self.store.price_id(&row).await?;
        }
        let Some(id) = id else { return Ok(Err(Refused::NotFound)) };
        let Some(prices) = self.store.pay_by(paid_for, since, id).await? else { return Ok(Err(Refused::NotFound)) };
        self.apply(Event::PricesSet { prices }, batch);
        Ok(Ok(id))
    }

    async fn change_job(
        &mut self,
        id: JobId,
        command: JobCommand,
        batch: &mut Batch,
    ) -> Result<Result<(), Refused>, Error> {
        if self.farm.job_state(id).is_none() {
            return self.change_over_job(id, command, batch).await;
        }
        if let JobCommand::Retry(only) = &command
            && !self.farm.has_failed(id, only.as_ref())
        {
            return Ok(Err(Refused::NothingFailed));
        }
        let event = match command {
            JobCommand::Cancel => Event::JobCanceled { id },
            JobCommand::Pause => Event::JobPaused { id },
            JobCommand::Resume => Event::JobResumed { id },
            JobCommand::Priority(priority) => Event::JobPrioritized { id, priority },
            JobCommand::Retry(only) => {
                let job = match self.jobs.get(id) {
                    Some(job) => job.clone(),
                    None => self.store.jobs(&[id], &self.functions).await?.pop().expect("it is not over").1,
                };
                let job = StoredJob {
                    id,
                    job: NewJob::from(job.as_ref()),
                    paused: false,
                    restored: false,
                    spent: Vec::new(),
                    steps: Vec::new(),
                };
                Event::JobRetried { job: Box::new(job), only }
            }
        };
        self.apply(event, batch);
        Ok(Ok(()))
    }

    async fn change_over_job(
        &mut self,
        id: JobId,
        command: JobCommand,
        batch: &mut Batch,
    ) -> Result<Result<(), Refused>, Error> {
        // A job that ended in this very batch is not in the store as over yet.
        let ended = batch.applied.changes.iter().rev().find_map(|change| match change {
            Change::JobState { id: ended, state, .. } if *ended == id => {
                Some(crate::store::happenings::job_state(*state))
            }
            _ => None,
        });
        let state = match ended {
            Some(state) => state,
            None => match self.store.job_state(id).await? {
                None => return Ok(Err(Refused::NotFound)),
                Some(state) => state,
            },
        };
        let JobCommand::Retry(only) = command else { return Ok(Err(Refused::WrongState { state })) };
        if state != api::JobState::Failed || ended.is_some() {
            return Ok(Err(Refused::WrongState { state }));
        }
        let Some((stored, job)) = self.store.revive(id, &self.functions).await? else {
            return Ok(Err(Refused::NotFound));
        };
        if !stored.has_failed(only.as_ref()) {
            return Ok(Err(Refused::NothingFailed));
        }
        self.jobs.insert(id, job);
        if let Some(traces) = &mut self.traces
            && let Some(before) = self.store.trace_of(id).await?
        {
            let root = traces.begin_again(id, before, batch.now);
            batch.roots.extend(root.map(|root| (id, root)));
        }
        self.apply(Event::JobRetried { job: Box::new(stored), only }, batch);
        Ok(Ok(()))
    }

    fn claimed(&mut self, function: &FunctionKey, claim: &wire::Claim, reply: String, batch: &mut Batch) {
        let Ok(worker) = claim.worker.parse::<WorkerId>() else {
            warn!(worker = %wire::clip(&claim.worker, 64), "a claim names a worker with an impossible id");
            return;
        };
        let attempt = AttemptId { chunk: ChunkId(claim.chunk), number: claim.attempt };
        // Numbers of chunks can be guessed.
        if self.farm.attempt_function(attempt).is_some_and(|of| of != function) {
            warn!(worker.id = %worker, "worker {worker} of {function} claims an order of another function");
            let body =
                wire::ClaimAnswer { refused: "the order is of another function".to_owned(), ..Default::default() };
            self.ask_queue(QueueCommand::Answer { subject: reply, body: body.encode_to_vec() });
            return;
        }
        let request = self.wait_for_answer(reply, claim.want_step);
        let confinement = wire::clip(&claim.confinement, wire::CONFINEMENT_MAX).to_owned();
        batch.confinements.insert(worker.clone(), confinement);
        self.apply(Event::AttemptClaimed { request, worker, attempt }, batch);
    }

    fn beat(&mut self, heartbeat: wire::Heartbeat, reply: String, batch: &mut Batch) {
        let Some((worker, function)) = reading::who(&heartbeat) else {
            warn!(worker = %wire::clip(&heartbeat.worker, 64), "a heartbeat names a worker or function that can't exist");
            return;
        };
        self.count_heartbeat(&worker, &function, &heartbeat, batch.now);
        let gpus = reading::gpus(&heartbeat);
        if !gpus.iter().all(|gpu| self.farm.knows_gpu(gpu)) {
            self.apply(Event::GpusDescribed { gpus }, batch);
        }
        for (place, reason) in reading::broken(&heartbeat) {
            self.apply(Event::PlaceBroke { place, reason }, batch);
        }
        if !heartbeat.leaving.is_empty() {
            self.beats.forget(&worker);
            // Its place may have no other way to know.
            let _ = self.outbox.provider.send(ProviderCommand::Left { worker: worker.clone() });
            let left = Event::WorkerLeft { worker };
            self.count_end(&left);
            self.apply(left, batch);
            // It waits for a moment to be heard; the answer promises nothing.
            self.ask_queue(QueueCommand::Answer { subject: reply, body: Vec::new() });
            return;
        }
        let holds =
            (heartbeat.chunk > 0).then_some(AttemptId { chunk: ChunkId(heartbeat.chunk), number: heartbeat.attempt });
        let request = self.wait_for_answer(reply, false);
        let (places, progress) = (reading::places(&heartbeat), reading::progress(&heartbeat));
        let gpu = reading::gpu(&heartbeat);
        let (seen, draining) = (worker.clone(), heartbeat.draining);
        self.apply(
            Event::WorkerSeen { request, worker: seen, function, holds, draining, places, gpu, progress },
            batch,
        );
        if self.farm.wants_beginning(&worker) {
            let (age, connected) = reading::beginning(&heartbeat);
            self.apply(Event::WorkerBegan { worker: worker.clone(), age, connected }, batch);
        }
        self.note_beat(worker, heartbeat, batch.now);
    }

    /// Logs of attempts that are over and were not moved to the store: the scheduler died in between, or the
    /// store was away.
    async fn archive_forgotten(&mut self, found: Vec<(WorkerId, JobId, AttemptId)>) -> Result<(), Error> {
        for (worker, job, attempt) in found {
            // Whoever wrote under an attempt that it never had wrote nothing.
            if self.farm.attempt_place(attempt).is_none() && self.store.has_had(&worker, job, attempt).await? {
                self.ask_queue(QueueCommand::ArchiveLog { job, attempt, worker });
            }
        }
        Ok(())
    }

    async fn step_order(&mut self, id: JobId, step: usize) -> Result<Option<StepOrder>, Error> {
        let job = self.job(id).await?;
        Ok(job.filter(|job| step < job.steps.len()).map(|job| StepOrder::new(id, &job, step)))
    }

    fn wait_for_answer(&mut self, subject: String, want_step: bool) -> RequestId {
        self.request_next += 1;
        self.waiting.insert(self.request_next, super::Waiting { subject, want_step });
        RequestId(self.request_next)
    }

    /// Jobs that are over need no room here.
    pub(super) fn forget_over(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::JobState { id, state, .. } = change
                && state.is_over()
                && self.farm.job_state(*id).is_none()
            {
                self.jobs.remove(*id);
            }
        }
    }
}

fn total_tasks(submission: &Submission) -> u32 {
    submission.job.steps.iter().fold(0u32, |sum, step| sum.saturating_add(step.frames.len()))
}
