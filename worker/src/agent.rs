//! The life of a worker: hello, then orders one after the other, until nobody wants it any more.

mod attempt;
mod tasks;
mod together;

use crate::config::Config;
use crate::gpu::Gpus;
use crate::inputs::{Cache, Inputs};
use crate::job_mapping::JobMapping;
use crate::port::{Figures, Port};
use crate::queue::{self, Delivered, Heartbeats, LogStream, Orders, Queue, Reports, State, attempt_id};
use crate::renderer::confinement::Confinement;
use crate::renderer::session::Session;
use crate::renderer::{Folders, Setup, Step};
use crate::store::{self, Store};
use crate::{renderer, rules};
use framewake_proto::chain::Chain;
use framewake_proto::ids::WorkerId;
use framewake_proto::order::StepOrder;
use framewake_proto::wire::{ClaimAnswer, task_set};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Steps remembered, so that their description need not travel with each claim.
const STEPS_MAX: usize = 8;
/// How long the logs may take to be published when the worker leaves.
const LOGS_WAIT: Duration = Duration::from_secs(5);

/// Why the worker could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error(transparent)]
    Rules(#[from] rules::Error),
    #[error("the function can't run here")]
    Renderer(#[source] renderer::process::Error),
    #[error("cannot listen on {address}: is another program there? hint: port 0 takes any that is free")]
    Port {
        address: SocketAddr,
        #[source]
        error: std::io::Error,
    },
    #[error("cannot make the {what} folder `{}`", path.display())]
    Folder {
        what: &'static str,
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

/// How the operator, or the platform, asks the worker to go.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// Finish the frame at hand and give back the rest.
    pub drain: CancellationToken,
    /// Now.
    pub abort: CancellationToken,
}

/// Why a worker that did its work left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Idle,
    Drained,
    Aborted,
    GpuBroken,
}

impl Left {
    fn describe(self) -> &'static str {
        match self {
            Left::Idle => "idle",
            Left::Drained => "drained",
            Left::Aborted => "aborted",
            Left::GpuBroken => "its GPU is broken",
        }
    }
}

/// Everything an attempt is worked on with.
#[derive(Debug)]
struct Crew {
    worker: WorkerId,
    setup: Setup,
    session: Session,
    inputs: Inputs,
    store: Store,
    reports: Reports,
    logs: LogStream,
    heartbeats: Heartbeats,
    leave: Leave,
    gpus: Gpus,
    figures: Figures,
    dcgm_job_mapping: Option<PathBuf>,
    /// Numbers the work folders.
    works: u64,
}

/// Runs a worker from its first word to its last.
pub async fn run(config: &Config, path: String, leave: Leave) -> Result<Left, Error> {
    let folder = |what, path: PathBuf| move |error| Error::Folder { what, path, error };
    let folders = Folders::make(&config.scratch).map_err(folder("scratch", config.scratch.clone()))?;
    let cache_folder = config.cache_folder();
    let cache = Cache::open(&cache_folder, config.cache_size.0).map_err(folder("cache", cache_folder))?;
    let store = Store::open(&config.store, &config.worker)?;
    let figures = Figures::default();
    let _port = open_port(config, &figures).await?;
    let queue = tokio::select! {
        connected = Queue::connect(config) => connected?,
        () = leave.drain.cancelled() => return Ok(Left::Drained),
    };
    let welcome = tokio::select! {
        welcome = queue.hello() => welcome?,
        () = leave.drain.cancelled() => return Ok(Left::Drained),
    };
    let writable: Vec<PathBuf> = folders.writable().into_iter().chain(config.writable.iter().cloned()).collect();
    let confinement = Confinement::probe(config.confine, &writable).map_err(|error| Error::Renderer(error.into()))?;
    tracing::info!(held = confinement.held(), missing = confinement.missing(), "renderers are confined");
    let gpus = if welcome.function.resources.gpus > 0 || !config.gpus.is_empty() {
        Gpus::watch(config.gpu_probe.clone(), config.gpus.clone(), config.gpu_look())
    } else {
        Gpus::none()
    };
    gpus.known().await;
    let setup = Setup { gpus: gpus.uuids(), ..Setup::new(welcome.function, folders.clone(), path, confinement)? };
    setup.check().map_err(Error::Renderer)?;
    tracing::info!(worker = %config.worker, function = %config.function, "worker is ready for orders");
    let crew = Crew {
        worker: config.worker.clone(),
        setup,
        session: Session::default(),
        inputs: Inputs::new(store.clone(), cache, folders.inputs.clone(), config.url_input_size.0),
        store,
        reports: Reports::start(queue.clone(), config.keep_reports.0, figures.clone()),
        logs: LogStream::start(queue.clone()),
        heartbeats: Heartbeats::start(queue.clone(), welcome.heartbeat, gpus.clone(), figures.clone()),
        leave,
        gpus,
        figures,
        dcgm_job_mapping: config.dcgm_job_mapping.clone(),
        works: 0,
    };
    let left = Box::pin(crew.serve(queue, config.linger())).await;
    folders.remove();
    tracing::info!(worker = %config.worker, why = left.describe(), "worker leaves");
    Ok(left)
}

async fn open_port(config: &Config, figures: &Figures) -> Result<Option<Port>, Error> {
    let Some(address) = config.metrics else { return Ok(None) };
    let port = Port::open(address, config.worker.clone(), config.function.clone(), figures.clone()).await;
    let port = port.map_err(|error| Error::Port { address, error })?;
    tracing::info!(worker = %config.worker, "worker answers on http://{}/metrics", port.address());
    Ok(Some(port))
}

impl Crew {
    /// Takes orders until idle for `linger`, or told to leave.
    async fn serve(mut self, queue: Queue, linger: Duration) -> Left {
        let mut orders = Orders::new(queue.clone());
        let mut steps = Steps::default();
        let mut idle_since = Instant::now();
        let mut looked = false;
        let gpus = self.gpus.clone();
        self.figures.set_ready(true);
        let left = loop {
            if self.leave.abort.is_cancelled() {
                break Left::Aborted;
            }
            if !self.gpus.faults().is_empty() {
                break Left::GpuBroken;
            }
            if self.leave.drain.is_cancelled() || self.heartbeats.wanted.borrow().drain {
                break Left::Drained;
            }
            let still = linger.saturating_sub(idle_since.elapsed());
            // Even without a linger it looks once.
            if still.is_zero() && looked {
                break Left::Idle;
            }
            looked = true;
            let mut wanted = self.heartbeats.wanted.clone();
            let delivered = tokio::select! {
                delivered = orders.next(still) => delivered,
                () = self.leave.drain.cancelled() => continue,
                _ = wanted.wait_for(|control| control.drain) => continue,
                () = gpus.broken() => continue,
            };
            if let Some(delivered) = delivered
                && self.take(&queue, delivered, &mut steps).await
            {
                idle_since = Instant::now();
            }
        };
        self.figures.set_ready(false);
        self.heartbeats.state.send_modify(|state| state.draining = true);
        orders.close().await;
        self.session.close().await;
        // Results are kept until they are delivered; only a second signal gives them up.
        tokio::select! {
            () = self.reports.flush() => {}
            () = self.leave.abort.cancelled() => {}
        }
        let _given_up = tokio::time::timeout(LOGS_WAIT, self.logs.flush()).await;
        self.heartbeats.leave(left.describe()).await;
        left
    }

    /// Claims an order and works on it. False when the claim was refused or not answered.
    async fn take(&mut self, queue: &Queue, delivered: Delivered, steps: &mut Steps) -> bool {
        let order = delivered.order.clone();
        let Some(attempt) = attempt_id(order.chunk, order.attempt) else {
            tracing::warn!(chunk = order.chunk, "an order without an attempt number; dropped");
            delivered.settle();
            return false;
        };
        let known = steps.get(&order.job, order.step);
        let Some(answer) = queue.claim(&order, known.is_none(), self.setup.confinement.held()).await else {
            tracing::warn!(%attempt, "no scheduler answered the claim; JetStream delivers the order again");
            return false;
        };
        delivered.settle();
        if !answer.refused.is_empty() {
            tracing::debug!(%attempt, reason = answer.refused, "the claim was refused");
            return false;
        }
        let claimed = Instant::now();
        let step = match known.map_or_else(|| read_step(&answer), Ok) {
            Ok(step) => step,
            Err(reason) => {
                // Ours by now: without a word the lease would have to run out.
                tracing::error!(%attempt, reason, "the order's step can't be read; handed back");
                self.hand_back(attempt).await;
                return true;
            }
        };
        steps.put(&order.job, order.step, &step);
        self.heartbeats.progress.send_replace(None);
        self.heartbeats.state.send_modify(|state| *state = State { attempt: Some(attempt), ..state.clone() });
        self.figures.begin_attempt();
        let mapping = self.dcgm_job_mapping.as_deref();
        let mapping = mapping.map(|folder| JobMapping::write(folder, &self.gpus.samples(), &order.job));
        let span = tracing::info_span!("attempt", job.id = order.job, chunk.id = order.chunk, attempt = order.attempt);
        self.work(attempt, step, task_set(&answer.tasks), claimed).instrument(span).await;
        drop(mapping);
        self.figures.end_attempt();
        self.heartbeats.state.send_modify(|state| state.attempt = None);
        true
    }
}

fn read_step(answer: &ClaimAnswer) -> Result<Arc<Step>, String> {
    let order: StepOrder = serde_json::from_slice(&answer.step).map_err(|error| Chain(&error).to_string())?;
    Step::new(order).map(Arc::new).map_err(|error| Chain(&error).to_string())
}

/// The steps worked on last.
#[derive(Debug, Default)]
struct Steps {
    recent: VecDeque<(String, u32, Arc<Step>)>,
}

impl Steps {
    fn get(&self, job: &str, step: u32) -> Option<Arc<Step>> {
        let mut recent = self.recent.iter();
        recent.find(|(of, number, _)| of == job && *number == step).map(|(_, _, step)| step.clone())
    }

    fn put(&mut self, job: &str, number: u32, step: &Arc<Step>) {
        self.recent.retain(|(of, other, _)| of != job || *other != number);
        self.recent.push_front((job.to_owned(), number, step.clone()));
        self.recent.truncate(STEPS_MAX);
    }
}
