//! Workers as containers of a Docker engine, each made of its function's image and named after its worker.
//!
//! The engine is the memory: labels say whose a container is, so that a scheduler that is started again finds all of
//! them. What takes long, fetching an image above all, is done beside the keeper by one task a worker (`bringing`).

mod bringing;
mod end;
mod engine;
mod pull;
mod request;

use crate::{End, Error, Instance, InstanceState, Provider, Start, StartError, Surroundings};
use async_trait::async_trait;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as Summary};
use bringing::{Bringing, Images, Work};
use engine::{Engine, Failure};
use framewake_proto::ids::{Name, WorkerId};
use framewake_proto::pool::docker::DockerPool;
use futures::StreamExt;
use futures::stream::BoxStream;
use request::{LABEL_FARM, LABEL_FUNCTION, LABEL_GPUS, LABEL_POOL, LABEL_WORKER};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

/// Pause before the engine's events are asked for again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);
/// Time for workers to finish the frame at hand when `dev` ends.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// Time to give back what is not finished then.
const GIVE_BACK_MAX: Duration = Duration::from_secs(3);
/// Time for the engine to end what is killed.
const KILL_MAX: Duration = Duration::from_secs(2);

/// Why a pool can't be used as it is written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

pub struct DockerProvider {
    engine: Engine,
    pool: Arc<Pool>,
    images: Arc<Images>,
    /// Asked for by this scheduler, until they run or have failed.
    bringing: BTreeMap<WorkerId, Bringing>,
    /// How those ended whose container is still there: asked once, for the answer stays the same.
    ended: BTreeMap<WorkerId, End>,
    /// GPUs that are with workers.
    taken: BTreeMap<WorkerId, Vec<String>>,
    /// What tasks of our own have to tell.
    news: Arc<Notify>,
    events: Option<BoxStream<'static, Result<(), Failure>>>,
    follow_at: Instant,
}

/// What all containers of a pool have in common.
#[derive(Debug)]
struct Pool {
    name: Name,
    spec: DockerPool,
    /// As workers there reach them.
    surroundings: Surroundings,
}

impl std::fmt::Debug for DockerProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerProvider").field("pool", &self.pool.name).finish_non_exhaustive()
    }
}

impl DockerProvider {
    /// The engine need not be there yet.
    pub fn new(name: Name, spec: DockerPool, surroundings: Surroundings) -> Result<DockerProvider, OpenError> {
        let surroundings = Surroundings {
            nats: spec.nats.clone().unwrap_or(surroundings.nats),
            store: spec.store.clone().unwrap_or(surroundings.store),
            environment: surroundings.environment.into_iter().chain(spec.environment.clone()).collect(),
            farm: surroundings.farm,
        };
        request::reachable(&spec, &surroundings).map_err(OpenError)?;
        let engine = Engine::new(&spec);
        Ok(DockerProvider {
            engine,
            pool: Arc::new(Pool { name, spec, surroundings }),
            images: Arc::default(),
            bringing: BTreeMap::new(),
            ended: BTreeMap::new(),
            taken: BTreeMap::new(),
            news: Arc::default(),
            events: None,
            follow_at: Instant::now(),
        })
    }

    /// Of those that the pool names, as many as the function needs.
    fn free_gpus(&self, start: &Start) -> Result<Vec<String>, StartError> {
        if !start.gpus.is_empty() {
            return Ok(start.gpus.clone());
        }
        let taken: BTreeSet<&String> = self.taken.values().flatten().collect();
        let needed = start.spec.resources.gpus as usize;
        let free: Vec<String> =
            self.pool.spec.gpus.iter().filter(|gpu| !taken.contains(gpu)).take(needed).cloned().collect();
        if free.len() < needed {
            let all = self.pool.spec.gpus.len();
            return Err(StartError::Full(format!(
                "{needed} GPUs are needed, and of the {all} here {} are free",
                free.len()
            )));
        }
        Ok(free)
    }

    /// A container that the engine lists, as a worker; `None` for one that is on its way out.
    async fn instance(&mut self, container: ContainerSummary) -> Result<Option<Instance>, Failure> {
        let labels = container.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let (Ok(worker), Ok(function)) = (label(LABEL_WORKER).parse::<WorkerId>(), label(LABEL_FUNCTION).parse())
        else {
            return Ok(None);
        };
        let gpus: Vec<String> = label(LABEL_GPUS).split(',').filter(|gpu| !gpu.is_empty()).map(str::to_owned).collect();
        let state = match container.state {
            Some(Summary::REMOVING) => return Ok(None),
            Some(Summary::RUNNING | Summary::PAUSED | Summary::RESTARTING | Summary::STOPPING) => {
                InstanceState::Running
            }
            Some(Summary::EXITED | Summary::DEAD) => InstanceState::Ended(self.end(&worker).await?),
            // Made, and not started yet.
            Some(Summary::CREATED | Summary::EMPTY) | None => {
                if !self.bringing.contains_key(&worker) {
                    info!(worker.id = %worker, "the container of worker {worker} was made and not started: it is now");
                    let work = Work::OnlyStart { worker: worker.clone() };
                    let bringing = Bringing::begin(&self.engine, &self.pool, work, &self.news);
                    self.bringing.insert(worker.clone(), bringing);
                }
                let nothing = InstanceState::Waiting { reason: String::new() };
                self.bringing.get(&worker).map_or(nothing, Bringing::state)
            }
        };
        let steps = self.bringing.get(&worker).map_or_else(BTreeMap::new, Bringing::steps);
        Ok(Some(Instance { worker, function, gpus, state, steps }))
    }

    async fn end(&mut self, worker: &WorkerId) -> Result<End, Failure> {
        if let Some(end) = self.ended.get(worker) {
            return Ok(end.clone());
        }
        let end = end::ask(&self.engine, &self.pool.container_name(worker)).await?;
        self.ended.insert(worker.clone(), end.clone());
        Ok(end)
    }

    /// Sends this to all that run; how many there are.
    async fn signal_all(&mut self, signal: &str) -> usize {
        let ids = self.running().await;
        for id in &ids {
            // One that ended meanwhile is what is wanted.
            let _ = self.engine.kill(id, signal).await;
        }
        ids.len()
    }

    async fn running(&mut self) -> Vec<String> {
        let listed = self.engine.list(self.pool.filter()).await.unwrap_or_default();
        let running = listed.into_iter().filter(|container| container.state == Some(Summary::RUNNING));
        running.filter_map(|container| container.id).collect()
    }
}

#[async_trait]
impl Provider for DockerProvider {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        if self.bringing.contains_key(&start.worker) {
            return Ok(());
        }
        let image = start.spec.image.clone();
        let image = image.ok_or_else(|| StartError::Refused(format!("function {} names no image", start.function)))?;
        let gpus = self.free_gpus(start)?;
        if !gpus.is_empty() {
            self.taken.insert(start.worker.clone(), gpus.clone());
        }
        let work = Work::Whole { images: self.images.clone(), start: Box::new(start.clone()), image, gpus };
        let bringing = Bringing::begin(&self.engine, &self.pool, work, &self.news);
        self.bringing.insert(start.worker.clone(), bringing);
        Ok(())
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if let Some(bringing) = self.bringing.get(worker) {
            bringing.cancel();
        }
        match self.engine.kill(&self.pool.container_name(worker), "KILL").await {
            // Or it is not there, or does not run.
            Ok(()) | Err(Failure::Refused { .. }) => Ok(()),
            Err(Failure::Away(error)) => Err(error),
        }
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        // Before the list: what was begun by then is in it.
        let settled: BTreeSet<WorkerId> =
            self.bringing.iter().filter(|(_, bringing)| bringing.is_over()).map(|(id, _)| id.clone()).collect();
        let listed = self.engine.list(self.pool.filter()).await.map_err(Failure::into_error)?;
        let mut instances = Vec::with_capacity(listed.len());
        for container in listed {
            match self.instance(container).await {
                Ok(instance) => instances.extend(instance),
                Err(Failure::Away(error)) => return Err(error),
                // Removed between the list and the question.
                Err(Failure::Refused { .. }) => {}
            }
        }
        let seen: BTreeSet<WorkerId> = instances.iter().map(|instance| instance.worker.clone()).collect();
        let speaks = |id: &WorkerId, bringing: &Bringing| !settled.contains(id) || bringing.has_failed();
        for (id, bringing) in self.bringing.iter().filter(|(id, _)| !seen.contains(*id)) {
            if speaks(id, bringing) {
                instances.extend(bringing.instance(id));
            }
        }
        // From here on their containers speak for them, or are gone.
        self.bringing.retain(|id, bringing| speaks(id, bringing));
        let lives = |instance: &&Instance| !matches!(instance.state, InstanceState::Ended(_));
        let with_gpus = instances.iter().filter(lives).filter(|instance| !instance.gpus.is_empty());
        self.taken = with_gpus.map(|instance| (instance.worker.clone(), instance.gpus.clone())).collect();
        Ok(instances)
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = self.news.notified() => {}
            () = follow(&self.engine, &self.pool, &mut self.events, &mut self.follow_at) => {}
        }
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if let Some(bringing) = self.bringing.get(worker) {
            bringing.cancel();
        }
        self.engine.remove(&self.pool.container_name(worker)).await.map_err(Failure::into_error)?;
        self.bringing.remove(worker);
        self.ended.remove(worker);
        Ok(())
    }

    /// Asks all to leave, twice: first they may finish the frame at hand, then they give it back.
    async fn end_all(&mut self) {
        for bringing in self.bringing.values() {
            bringing.cancel();
        }
        for (signal, patience) in [("TERM", FINISH_MAX), ("TERM", GIVE_BACK_MAX), ("KILL", KILL_MAX)] {
            let deadline = Instant::now() + patience;
            let mut look = tokio::time::interval(Duration::from_millis(100));
            let mut running = self.signal_all(signal).await;
            while running > 0 && Instant::now() < deadline {
                look.tick().await;
                running = self.running().await.len();
            }
        }
    }
}

/// Comes back when a container of ours has changed, or when the engine no longer tells.
async fn follow(
    engine: &Engine,
    pool: &Pool,
    events: &mut Option<BoxStream<'static, Result<(), Failure>>>,
    follow_at: &mut Instant,
) {
    if events.is_none() {
        sleep_until(*follow_at).await;
        *follow_at = Instant::now() + FOLLOW_AGAIN;
        *events = engine.events(pool.filter()).await.ok();
        // What happened before is seen by the look that follows.
        return;
    }
    let next = match events {
        Some(events) => events.next().await,
        None => None,
    };
    if !matches!(next, Some(Ok(()))) {
        *events = None;
    }
}

impl Pool {
    fn container_name(&self, worker: &WorkerId) -> String {
        format!("framewake-{}-{worker}", self.surroundings.farm)
    }

    /// What only containers of this farm and pool have.
    fn filter(&self) -> HashMap<String, Vec<String>> {
        let labels = vec![format!("{LABEL_FARM}={}", self.surroundings.farm), format!("{LABEL_POOL}={}", self.name)];
        HashMap::from([("label".to_owned(), labels)])
    }
}
