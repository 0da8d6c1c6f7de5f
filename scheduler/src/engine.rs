//! The loop that owns the farm: receive, apply, commit, perform. First durable, then visible.
//!
//! Messages that wait are taken together, applied one by one, and made durable in one transaction, so
//! that many callers share one sync of the disk.

mod batch;
mod budgets;
pub(crate) mod clock;
pub(crate) mod deployments;
pub(crate) mod glance;
pub mod handle;
mod measuring;
pub(crate) mod notices;
mod outputs;
mod perform;
mod pools;
mod scaling;
mod scans;
pub(crate) mod schedules;
pub(crate) mod starts;
mod tally;
mod views;

pub use deployments::Deploy;
pub(crate) use handle::Message;
pub use handle::{Handle, Health, JobCommand, Refused, ScheduleCommand, Submission};
pub use scans::Added;
pub(crate) use scans::Candidate;

use crate::credentials::Ended;
use crate::function_table::FunctionTable;
use crate::metrics::Metrics;
use crate::store::{self, JobCache, Loaded, Store};
use crate::traces::{JOBS_TRACED_MAX, Traces};
use batch::Batch;
use clock::Clock;
use deployments::Deployments;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::Event;
use framewake_core::farm::{Farm, Restoring};
use framewake_core::values::Settings;
use framewake_proto::api::EventView;
use framewake_proto::chain::Chain;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::pool::PoolSpec;
use framewake_proto::trace::TraceParent;
use measuring::Measuring;
use notices::Notices;
use perform::Waiting;
use scans::Scans;
use schedules::Timetable;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::{error, info};
use views::Beats;

/// Most jobs that are not over, unless it is set otherwise: each takes about half a kilobyte of memory.
pub const JOBS_MAX_DEFAULT: u32 = 1_000_000;
/// Most messages applied and committed together.
const BATCH_MAX: usize = 1024;

/// What the engine asks of the adapters around it. They are bounded by what the rules keep open: a
/// window of orders and one attempt a worker.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    pub(crate) queue: mpsc::UnboundedSender<QueueCommand>,
    pub(crate) provider: mpsc::UnboundedSender<ProviderCommand>,
}

#[derive(Debug)]
pub(crate) enum QueueCommand {
    /// The consumer that workers of this function pull from.
    AddFunction(FunctionKey),
    PublishOrder {
        function: FunctionKey,
        job: JobId,
        step: u32,
        attempt: AttemptId,
        /// What its worker's doings hang under.
        trace: Option<TraceParent>,
    },
    PurgeOrders(JobId),
    /// Reports up to this token are applied and durable.
    AckReports(u64),
    Answer {
        subject: String,
        body: Vec<u8>,
    },
    PushControl {
        worker: WorkerId,
        body: Vec<u8>,
    },
    ArchiveLog {
        job: JobId,
        attempt: AttemptId,
        worker: WorkerId,
    },
    WorkerEnded(Ended),
}

#[derive(Debug)]
pub(crate) enum ProviderCommand {
    /// `gpus`: names of those that it gets, where the farm gives them out.
    Start {
        worker: WorkerId,
        function: FunctionKey,
        #[allow(dead_code)] // Processes are started without it.
        spec: Arc<FunctionSpec>,
        #[allow(dead_code)] // One provider, of one pool.
        pool: Name,
        gpus: Vec<String>,
        linger: Duration,
    },
    Stop {
        worker: WorkerId,
    },
    /// It said good-bye.
    Left {
        worker: WorkerId,
    },
}

/// The receiving ends of an [`Outbox`].
#[derive(Debug)]
pub(crate) struct Commands {
    pub(crate) queue: mpsc::UnboundedReceiver<QueueCommand>,
    pub(crate) provider: mpsc::UnboundedReceiver<ProviderCommand>,
}

/// Why the engine ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the farm can't go on: its state could not be made durable")]
    Store(#[from] store::Error),
}

pub(crate) struct Engine {
    farm: Farm,
    store: Store,
    jobs: JobCache,
    jobs_max: usize,
    /// Beginnings of addresses that workers may fetch from.
    urls: Vec<String>,
    schedules: Timetable,
    notices: Notices,
    deployments: Deployments,
    scans: Scans,
    /// `None` while traces are off.
    traces: Option<Traces>,
    functions: FunctionTable,
    pools: Vec<PoolSpec>,
    functions_out: watch::Sender<Arc<FunctionTable>>,
    events_out: broadcast::Sender<Arc<EventView>>,
    inbox: mpsc::Receiver<Message>,
    outbox: Outbox,
    /// Requests whose answers wait for the commit.
    waiting: HashMap<u64, Waiting>,
    request_next: u64,
    beats: Beats,
    tally: Tally,
    measuring: Measuring,
    clock: Clock,
    lease: Duration,
    metrics: Arc<Metrics>,
}

impl Engine {
    /// The engine over what the store remembers, the way to speak to it, and what it asks of its adapters.
    pub(crate) async fn load(
        mut store: Store,
        settings: Settings,
        health: watch::Receiver<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<(Engine, Handle, Commands), Error> {
        let clock = Clock::start();
        let Loaded { snapshot, functions } = store.load(clock.now()).await?;
        let chunks = snapshot.chunks.len();
        let mut restoring = Restoring::new(settings, clock.now(), snapshot);
        store.load_jobs(&functions, |job| restoring.add(job)).await?;
        let farm = restoring.finish();
        let schedules = Timetable::new(store.load_schedules().await?, store.load_learned_runs().await?);
        let (notices, targets) = Notices::new(store.load_notices().await?);
        let (deployments, deployed) = Deployments::new(store.load_gateway().await?);
        let scans = Scans::new(store.load_candidates().await?);
        let measuring = Measuring::new(store.load_vrams().await?);
        let ended = store.load_ended().await?;
        info!(jobs = farm.jobs(), chunks, functions = functions.iter().count(), "the farm is loaded");
        let (inbox_in, inbox) = mpsc::channel(handle::INBOX_MAX);
        let (functions_out, functions_in) = watch::channel(Arc::new(functions.clone()));
        let (events_out, _) = broadcast::channel(handle::EVENTS_BEHIND_MAX);
        let (queue, queue_commands) = mpsc::unbounded_channel();
        let (provider, provider_commands) = mpsc::unbounded_channel();
        let outbox = Outbox { queue, provider };
        for (key, _) in functions.iter() {
            let _ = outbox.queue.send(QueueCommand::AddFunction(key));
        }
        for ended in ended {
            let _ = outbox.queue.send(QueueCommand::WorkerEnded(ended));
        }
        let events = events_out.clone();
        let handle = Handle { inbox: inbox_in, functions: functions_in, targets, deployed, events, health };
        let engine = Engine {
            farm,
            store,
            jobs: JobCache::default(),
            jobs_max: JOBS_MAX_DEFAULT as usize,
            urls: Vec::new(),
            schedules,
            notices,
            deployments,
            scans,
            traces: None,
            functions,
            pools: Vec::new(),
            functions_out,
            events_out,
            inbox,
            outbox,
            waiting: HashMap::new(),
            request_next: 0,
            beats: Beats::default(),
            tally: Tally::default(),
            measuring,
            clock,
            lease: settings.lease,
            metrics,
        };
        Ok((engine, handle, Commands { queue: queue_commands, provider: provider_commands }))
    }

    /// Takes no more jobs once so many are not over.
    #[must_use]
    pub(crate) fn with_jobs_max(mut self, jobs_max: u32) -> Engine {
        self.jobs_max = jobs_max as usize;
        self
    }

    /// Lets addresses lead workers no further than where they begin so.
    #[must_use]
    pub(crate) fn with_urls(mut self, beginnings: Vec<String>) -> Engine {
        self.urls = beginnings;
        self
    }

    /// Traces the jobs that there are and those to come.
    pub(crate) async fn with_traces(mut self, mut traces: Traces) -> Result<Engine, Error> {
        traces.restore(self.store.load_traces(JOBS_TRACED_MAX).await?);
        self.traces = Some(traces);
        Ok(self)
    }

    /// Those that hold work and that a provider was asked for.
    pub(crate) fn workers_of_providers(&self) -> Vec<WorkerId> {
        self.farm.workers_of_providers().cloned().collect()
    }

    /// The time that everything here goes by.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Runs until every handle is gone, or until the store fails: memory must not run ahead of the disk.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        self.count_schedules();
        let mut messages = Vec::with_capacity(BATCH_MAX);
        loop {
            let deadline = self.farm.next_deadline().into_iter().chain(self.schedules.next_deadline()).min();
            let deadline = deadline.map(|at| self.clock.until(at));
            let received = tokio::select! {
                received = self.inbox.recv_many(&mut messages, BATCH_MAX) => received,
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {
                    messages.push(Message::Happened(Event::TimePassed));
                    1
                }
            };
            if received == 0 {
                return Ok(self.store.settle().await?);
            }
            self.metrics.parts.engine_batch_events.observe(received as f64);
            self.metrics.parts.engine_inbox_events.set(i64::try_from(self.inbox.len()).unwrap_or(i64::MAX));
            if let Err(error) = self.turn(&mut messages).await {
                error!("{}", Chain(&error));
                return Err(error);
            }
        }
    }

    /// One batch: receive, apply, commit, perform.
    async fn turn(&mut self, messages: &mut Vec<Message>) -> Result<(), Error> {
        let turn = self.metrics.parts.engine_turn_seconds.start_timer();
        let now = self.clock.now();
        let mut batch = Batch::new(now);
        self.look_up_keys(messages, &mut batch).await?;
        for message in messages.drain(..) {
            self.receive(message, &mut batch).await?;
        }
        self.run_schedules(&mut batch);
        self.recall(&batch).await?;
        self.take_note(&mut batch);
        self.measure(&mut batch);
        batch.note_ends();
        let events = if batch.is_durable_change() {
            let commit = self.metrics.parts.store_commit_seconds.start_timer();
            let events = self.store.commit(batch.to_store(), &self.jobs).await?;
            commit.observe_duration();
            events
        } else {
            Vec::new()
        };
        self.count(&batch);
        if let Some(traces) = &mut self.traces {
            traces.follow(&batch.applied.changes, &self.jobs, |worker| self.beats.gpus(worker));
        }
        self.forget_over(&batch.applied.changes);
        if batch.functions_changed() {
            self.functions_out.send_replace(Arc::new(self.functions.clone()));
        }
        for event in events {
            // Nobody may be listening.
            let _ = self.events_out.send(event);
        }
        self.perform(batch);
        self.jobs.trim();
        turn.observe_duration();
        Ok(())
    }

    /// Has at hand every job that this batch will speak of.
    async fn recall(&mut self, batch: &Batch) -> Result<(), Error> {
        let told = batch.applied.changes.iter().filter_map(store::happenings::job_of);
        let granted = batch.applied.effects.iter().filter_map(|effect| match effect {
            Effect::AnswerClaim { answer: ClaimAnswer::Granted { job, .. }, .. } => Some(*job),
            _ => None,
        });
        let needed: BTreeSet<JobId> = told.chain(granted).collect();
        let missing: Vec<JobId> = needed.into_iter().filter(|id| !self.jobs.touch(*id)).collect();
        if !missing.is_empty() {
            for (id, job) in self.store.jobs(&missing, &self.functions).await? {
                self.jobs.insert(id, job);
            }
        }
        Ok(())
    }
}
