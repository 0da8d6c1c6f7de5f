//! The life of a worker: hello, then orders one after the other, until nobody wants it any more.

mod attempt;
mod leave;
mod tasks;
mod together;

pub use leave::{Leave, Pace, Until};

use crate::config::Config;
use crate::figures::{Figures, Sums};
use crate::gpu::Gpus;
use crate::inputs::{Cache, Inputs};
use crate::job_mapping::JobMapping;
use crate::pictures::Keeper;
use crate::queue::{self, Delivered, Heartbeats, LogStream, Orders, Queue, Reports, State, attempt_id};
use crate::renderer::confinement::Confinement;
use crate::renderer::session::Session;
use crate::renderer::{Folders, Setup, Step};
use crate::store::{self, Signatures, Store};
use crate::{renderer, rules};
use framewake_proto::chain::Chain;
use framewake_proto::ids::WorkerId;
use framewake_proto::order::StepOrder;
use framewake_proto::wire::{ClaimAnswer, task_set};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;

/// Steps remembered, so that their description need not travel with each claim.
const STEPS_MAX: usize = 8;
/// How long the last reports of a worker that must go at once are tried.
const LAST_REPORTS: Duration = Duration::from_secs(1);
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

/// How many orders a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// As long as there are any.
    All,
    One,
}

/// What one life of a worker, from hello to good-bye, is given beside its settings.
#[derive(Debug)]
pub struct Life {
    pub worker: WorkerId,
    /// `PATH` of renderers.
    pub path: String,
    pub wanted: Wanted,
    /// It leaves after this long without work.
    pub linger: Duration,
    pub leave: Leave,
    pub figures: Figures,
    /// When its process began.
    pub began: Instant,
}

/// Why a worker that did its work left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Idle,
    /// It has worked on the one order it was to take.
    Worked,
    /// It was asked to go, by a signal or by the scheduler.
    Drained,
    /// Its time was up.
    TimeUp,
    Aborted,
    GpuBroken,
}

impl Left {
    pub fn describe(self) -> &'static str {
        match self {
            Left::Idle => "idle",
            Left::Worked => "its order is worked on",
            Left::Drained => "drained",
            Left::TimeUp => "its time is up",
            Left::Aborted => "aborted",
            Left::GpuBroken => "its GPU is broken",
        }
    }
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub left: Left,
    /// It had to go before its work was done, and handed back what was not done.
    pub handed_back: bool,
    /// All its reports are on their stream.
    pub told_all: bool,
    /// What was done in this life.
    pub sums: Sums,
}

impl Ended {
    /// Of a life that ended before there was work.
    fn without_work(left: Left) -> Ended {
        Ended { left, handed_back: false, told_all: true, sums: Sums::default() }
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
    pictures: Keeper,
    reports: Reports,
    logs: LogStream,
    heartbeats: Heartbeats,
    leave: Leave,
    gpus: Gpus,
    figures: Figures,
    pace: Pace,
    /// It had to go before its work was done.
    handed_back: bool,
    /// It had an order before.
    has_begun: bool,
    dcgm_job_mapping: Option<PathBuf>,
    /// Numbers the work folders.
    works: u64,
}

/// Runs a worker from its first word to its last.
pub async fn run(config: &Config, life: Life) -> Result<Ended, Error> {
    let Life { worker, path, wanted, linger, leave, figures, began } = life;
    let before = figures.sums();
    let folder = |what, path: PathBuf| move |error| Error::Folder { what, path, error };
    let scratch = config.scratch_folder(&worker);
    if config.scratch.is_none() {
        let parent = config.default_folder();
        own_folder(&parent).map_err(folder("scratch", parent))?;
    }
    let folders = Folders::make(&scratch).map_err(folder("scratch", scratch))?;
    let cache_folder = config.cache_folder(&worker);
    let cache = Cache::open(&cache_folder, config.cache_size.0).map_err(folder("cache", cache_folder))?;
    let store = Store::open(&config.store, &worker)?;
    let introduced = async {
        let queue = Queue::connect(config, &worker, began).await?;
        let welcome = queue.hello().await?;
        Ok::<_, queue::Error>((queue, welcome))
    };
    let (queue, welcome) = tokio::select! {
        introduced = introduced => introduced?,
        () = leave.drain.cancelled() => return Ok(Ended::without_work(Left::Drained)),
        () = leave.latest() => return Ok(Ended::without_work(Left::TimeUp)),
    };
    let store = if welcome.signed_store { Store::signed(Signatures::new(queue.clone())) } else { store };
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
    if let Err(error) = setup.check().await {
        tracing::info!("programs are looked for in PATH={}", setup.path);
        return Err(Error::Renderer(error));
    }
    tracing::info!(worker = %worker, function = %config.function, "worker is ready for orders");
    let crew = Crew {
        worker: worker.clone(),
        setup,
        session: Session::default(),
        inputs: Inputs::new(store.clone(), cache, folders.inputs.clone(), config.url_input_size.0),
        store,
        pictures: Keeper::default(),
        reports: Reports::start(queue.clone(), config.keep_reports.0, figures.clone()),
        logs: LogStream::start(queue.clone()),
        heartbeats: Heartbeats::start(queue.clone(), welcome.heartbeat, gpus.clone(), figures.clone()),
        leave,
        gpus,
        figures: figures.clone(),
        pace: Pace::default(),
        handed_back: false,
        has_begun: false,
        dcgm_job_mapping: config.dcgm_job_mapping.clone(),
        works: 0,
    };
    let ended = Box::pin(crew.serve(queue, linger, wanted)).await;
    folders.remove();
    let ended = Ended { sums: figures.sums().since(before), ..ended };
    tracing::info!(worker = %worker, why = ended.left.describe(), handed_back = ended.handed_back, "worker leaves");
    Ok(ended)
}

/// Makes a folder in a place where everybody may, such as /tmp: it must be ours, or whoever made it could change what we
/// write.
fn own_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = std::fs::symlink_metadata(path)?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(std::io::Error::other("it belongs to somebody else; hint: name another with --scratch"))
}

impl Crew {
    /// Takes orders until idle for `linger`, or told to leave.
    async fn serve(mut self, queue: Queue, linger: Duration, orders_wanted: Wanted) -> Ended {
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
            if self.is_late() {
                break Left::TimeUp;
            }
            if self.heartbeats.wanted.borrow().stay {
                idle_since = Instant::now();
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
                () = self.leave.latest() => continue,
                _ = wanted.wait_for(|control| control.drain) => continue,
                () = gpus.broken() => continue,
            };
            if let Some(delivered) = delivered
                && self.take(&queue, delivered, &mut steps).await
            {
                idle_since = Instant::now();
                if orders_wanted == Wanted::One {
                    break if self.leave.abort.is_cancelled() { Left::Aborted } else { Left::Worked };
                }
            }
        };
        self.figures.set_ready(false);
        self.heartbeats.state.send_modify(|state| state.draining = true);
        orders.close().await;
        self.session.close().await;
        // Results are kept until they are delivered; only a second signal gives them up, or the end of the time: whoever
        // gets the tasks then finds them in the store.
        let told_all = tokio::select! {
            biased;
            () = self.reports.flush() => true,
            () = self.leave.abort.cancelled() => tokio::time::timeout(LAST_REPORTS, self.reports.flush()).await.is_ok(),
            () = self.leave.gone() => false,
        };
        if told_all {
            let _given_up = tokio::time::timeout(LOGS_WAIT, self.logs.flush()).await;
            self.heartbeats.leave(left.describe()).await;
        } else {
            tracing::error!("the last reports could not be handed in: the farm finds out when their lease ends");
        }
        Ended { left, handed_back: self.handed_back, told_all, sums: Sums::default() }
    }

    /// No time is left in which another frame would fit, by how long they take.
    fn is_late(&self) -> bool {
        let typical = self.pace.typical().unwrap_or_default();
        self.leave.until().is_some_and(|until| Instant::now() + typical >= until.latest)
    }

    /// Claims an order and works on it. False when the claim was refused or not answered.
    async fn take(&mut self, queue: &Queue, delivered: Delivered, steps: &mut Steps) -> bool {
        let order = &delivered.order;
        let span = tracing::info_span!(
            "attempt",
            job.id = order.job,
            chunk.id = order.chunk,
            attempt = order.attempt,
            trace.id = tracing::field::Empty
        );
        if let Some(trace) = delivered.trace {
            span.record("trace.id", tracing::field::display(trace.trace));
        }
        self.take_order(queue, delivered, steps).instrument(span).await
    }

    async fn take_order(&mut self, queue: &Queue, delivered: Delivered, steps: &mut Steps) -> bool {
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
        self.pace.begin_step(&order.job, order.step);
        let mapping = self.dcgm_job_mapping.as_deref();
        let mapping = mapping.map(|folder| JobMapping::write(folder, &self.gpus.samples(), &order.job));
        self.work(attempt, step, task_set(&answer.tasks), claimed).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_somebody_else_may_change_is_not_used() {
        let place = tempfile::tempdir().expect("room for a folder");
        let path = place.path().join("framewake-1");
        own_folder(&path).expect("made");
        own_folder(&path).expect("ours");
        std::os::unix::fs::symlink(&path, place.path().join("link")).expect("made");
        assert!(own_folder(&place.path().join("link")).is_err());
        std::fs::write(place.path().join("file"), "").expect("made");
        assert!(own_folder(&place.path().join("file")).is_err());
        // Only root can give folders away.
        if std::os::unix::fs::chown(&path, Some(65_000), None).is_ok() {
            assert!(own_folder(&path).is_err());
        }
    }
}
