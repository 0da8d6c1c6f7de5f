//! Brings a worker to its first step: its image is fetched, checked, and becomes a container that runs. One task each,
//! which tries again while the engine is away.

use super::engine::{Engine, Failure};
use super::{Pool, pull, request};
use crate::{End, Error, Instance, InstanceState, Start, StartStep};
use bollard::models::ContainerCreateBody;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Pause before the engine is asked again.
const AGAIN: Duration = Duration::from_secs(2);
const CANCELED: &str = "it was ended before it ran";

/// What is to be done for a worker.
pub(super) enum Work {
    Whole {
        images: Arc<Images>,
        start: Box<Start>,
        image: String,
        gpus: Vec<String>,
    },
    /// Its container was made, and not started because its scheduler ended.
    OnlyStart {
        worker: WorkerId,
    },
}

/// A worker that is brought; dropped, it is given up.
pub(super) struct Bringing {
    progress: Arc<Mutex<Progress>>,
    canceled: CancellationToken,
    /// Of one that this scheduler was asked for: a container that was found says it itself.
    wanted: Option<(FunctionKey, Vec<String>)>,
}

#[derive(Default)]
struct Progress {
    steps: BTreeMap<StartStep, Timestamp>,
    /// Why it does not go on; empty: it does.
    waits: String,
    /// `Err`: why it will never run.
    outcome: Option<Result<(), String>>,
}

/// What the versions of functions are made of here: an image name may mean another image tomorrow, and a version never
/// changes. Locked while one is fetched: it is fetched once, and the next finds it.
#[derive(Default)]
pub(super) struct Images {
    known: tokio::sync::Mutex<BTreeMap<FunctionKey, String>>,
    /// How far the one that is fetched is.
    fetched: Mutex<String>,
}

impl Bringing {
    pub(super) fn begin(engine: &Engine, pool: &Arc<Pool>, work: Work, news: &Arc<Notify>) -> Bringing {
        let wanted = match &work {
            Work::Whole { start, gpus, .. } => Some((start.function.clone(), gpus.clone())),
            Work::OnlyStart { .. } => None,
        };
        let progress = Arc::new(Mutex::new(Progress::default()));
        let canceled = CancellationToken::new();
        step(&progress, StartStep::Created);
        let (shared, cancel, news) = (progress.clone(), canceled.clone(), news.clone());
        let (engine, pool) = (engine.clone(), pool.clone());
        tokio::spawn(async move {
            let outcome = loop {
                match work.once(&engine, &pool, &shared, &cancel).await {
                    Ok(()) => break Ok(()),
                    Err(Failure::Refused { message, .. }) => break Err(message),
                    Err(Failure::Away(error)) => wait(&shared, &Chain(&error).to_string()),
                }
                tokio::select! {
                    () = cancel.cancelled() => break Err(CANCELED.to_owned()),
                    () = tokio::time::sleep(AGAIN) => {}
                }
            };
            lock(&shared).outcome = Some(outcome);
            news.notify_one();
        });
        Bringing { progress, canceled, wanted }
    }

    pub(super) fn cancel(&self) {
        self.canceled.cancel();
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.progress).outcome.is_some()
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(lock(&self.progress).outcome, Some(Err(_)))
    }

    pub(super) fn state(&self) -> InstanceState {
        let progress = lock(&self.progress);
        match &progress.outcome {
            Some(Err(reason)) => InstanceState::Ended(End::Failed { reason: reason.clone() }),
            Some(Ok(())) | None => InstanceState::Waiting { reason: progress.waits.clone() },
        }
    }

    pub(super) fn steps(&self) -> BTreeMap<StartStep, Timestamp> {
        lock(&self.progress).steps.clone()
    }

    /// As a worker, while no container is listed.
    pub(super) fn instance(&self, worker: &WorkerId) -> Option<Instance> {
        let (function, gpus) = self.wanted.clone()?;
        Some(Instance { worker: worker.clone(), function, gpus, state: self.state(), steps: self.steps() })
    }
}

impl Drop for Bringing {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Work {
    async fn once(
        &self,
        engine: &Engine,
        pool: &Pool,
        progress: &Mutex<Progress>,
        canceled: &CancellationToken,
    ) -> Result<(), Failure> {
        let name = match self {
            Work::OnlyStart { worker } => pool.container_name(worker),
            Work::Whole { images, start, image, gpus } => {
                let id = tokio::select! {
                    id = images.of(engine, pool, start, image, progress) => id?,
                    () = canceled.cancelled() => return Err(ended()),
                };
                wait(progress, "");
                step(progress, StartStep::ImageReady);
                let machine = engine.machine().await?.name;
                let body = request::container(&pool.name, &pool.spec, &pool.surroundings, &machine, start, &id, gpus);
                let name = pool.container_name(&start.worker);
                create(engine, &name, body, &start.worker).await.map_err(|failure| explained(failure, image))?;
                if canceled.is_cancelled() {
                    engine.remove(&name).await?;
                    return Err(ended());
                }
                name
            }
        };
        engine.start(&name).await.map_err(|failure| explained(failure, self.image()))?;
        step(progress, StartStep::ProcessStarted);
        Ok(())
    }

    fn image(&self) -> &str {
        match self {
            Work::Whole { image, .. } => image,
            Work::OnlyStart { .. } => "of its function",
        }
    }
}

/// One that an earlier try made, whose answer was lost, is as good.
async fn create(engine: &Engine, name: &str, body: ContainerCreateBody, worker: &WorkerId) -> Result<(), Failure> {
    match engine.create(name, body).await {
        Err(Failure::Refused { status: 409, message }) => {
            let labels = engine.inspect(name).await?.config.and_then(|config| config.labels).unwrap_or_default();
            let ours = labels.get(request::LABEL_WORKER).is_some_and(|label| label == worker.as_str());
            if ours { Ok(()) } else { Err(Failure::Refused { status: 409, message }) }
        }
        done => done,
    }
}

fn ended() -> Failure {
    Failure::Refused { status: 0, message: CANCELED.to_owned() }
}

/// What an engine means that can't make a container of an image.
fn explained(failure: Failure, image: &str) -> Failure {
    let Failure::Refused { status, message } = failure else { return failure };
    let lacks_program = ["executable file not found", "no such file or directory", "No command specified"];
    let means = if lacks_program.iter().any(|words| message.contains(words)) && !message.contains("bind source path") {
        format!(
            "image `{image}` starts no framewake-worker: copy it in and make it the entrypoint ({})",
            message.trim()
        )
    } else if message.contains("could not select device driver") {
        format!("the engine has no driver for GPUs: install the NVIDIA container toolkit there ({})", message.trim())
    } else if message.contains("exec format error") {
        format!("image `{image}` is made for another architecture ({})", message.trim())
    } else {
        message.trim().to_owned()
    };
    Failure::Refused { status, message: means }
}

impl Images {
    /// The image that this version of a function is made of, fetched if it is not there.
    async fn of(
        &self,
        engine: &Engine,
        pool: &Pool,
        start: &Start,
        name: &str,
        progress: &Mutex<Progress>,
    ) -> Result<String, Failure> {
        let mut known = loop {
            // Whoever waits for its turn tells how far the other is.
            match tokio::time::timeout(Duration::from_secs(1), self.known.lock()).await {
                Ok(known) => break known,
                Err(_) => wait(progress, &lock(&self.fetched)),
            }
        };
        if let Some(id) = known.get(&start.function)
            && engine.image(id).await?.is_some()
        {
            return Ok(id.clone());
        }
        let found = if let Some(found) = engine.image(name).await? {
            found
        } else {
            let told = |said: String| {
                wait(progress, &said);
                *lock(&self.fetched) = said;
            };
            pull::pull(engine, name, pool.spec.credentials.as_deref(), told).await?;
            let lost = || Error { what: format!("image `{name}` was fetched and is not there"), cause: None };
            engine.image(name).await?.ok_or_else(|| Failure::Away(lost()))?
        };
        let machine = engine.machine().await?;
        let made_for = found.architecture.unwrap_or_default();
        if !made_for.is_empty() && made_for != machine.architecture {
            let message = format!(
                "image `{name}` is made for {made_for}, and the machine of this pool is {}: build it for both, or \
                 keep the function to other pools (`scaling.pools`)",
                machine.architecture
            );
            return Err(Failure::Refused { status: 0, message });
        }
        let id = found.id.unwrap_or_default();
        let digest = found.repo_digests.and_then(|digests| digests.into_iter().next());
        info!(function = %start.function, "function {} is made of image `{name}`, {}", start.function, digest.as_ref().unwrap_or(&id));
        known.insert(start.function.clone(), id.clone());
        Ok(id)
    }
}

fn step(progress: &Mutex<Progress>, step: StartStep) {
    lock(progress).steps.entry(step).or_insert_with(Timestamp::now);
}

fn wait(progress: &Mutex<Progress>, reason: &str) {
    reason.clone_into(&mut lock(progress).waits);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
