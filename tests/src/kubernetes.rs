//! A cluster whose failures a test plans, and whose every call is kept. Its API server is the tests' own, which keeps objects,
//! versions and watches, with what controllers and kubelets make of them; or, where `FRAMEWAKE_TEST_KUBECONFIG` names one and
//! `FRAMEWAKE_TEST_NODES` is `played`, a real one with its own controllers and scheduler: calls are passed on to it, and only
//! nodes and kubelets are played.

mod api;
mod books;
mod controllers;
mod nodes;
mod objects;
mod world;

pub use api::Call;
pub use nodes::{Image, Workers};
pub use objects::{Key, Refusal};

use crate::parts::free_port;
use crate::wait::{until, until_sync};
use books::Books;
use futures::FutureExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use objects::Objects;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use world::World;

/// The namespace of the tests.
pub const NAMESPACE: &str = "render";
/// What a GPU is here.
pub const GPU: &str = "nvidia.com/gpu";
/// How long a quota may take until it counts.
const QUOTA_MAX: Duration = Duration::from_secs(30);

/// The kubeconfig of a cluster that is not the tests' own.
pub fn kubeconfig_elsewhere() -> Option<PathBuf> {
    std::env::var_os("FRAMEWAKE_TEST_KUBECONFIG").map(PathBuf::from)
}

/// Whether that cluster has no machines, so that tests play them.
pub fn nodes_are_played() -> bool {
    std::env::var_os("FRAMEWAKE_TEST_NODES").is_some_and(|nodes| nodes == "played")
}

/// What is done to a call.
#[derive(Debug, Clone)]
pub enum Harm {
    /// Answered so, with these seconds to wait.
    Refused(Refusal, Option<u64>),
    /// Never answered.
    Hangs,
    /// Done, and the connection breaks before the answer.
    AnswerLost,
}

/// Which calls something is done to, and how often.
#[derive(Debug)]
struct Planned {
    verb: &'static str,
    resource: &'static str,
    harm: Harm,
    left: usize,
}

pub(crate) struct Shared {
    pub(crate) world: World,
    /// Counts the cuts of watches.
    pub(crate) cut: watch::Sender<u64>,
    planned: Mutex<Vec<Planned>>,
    images: Mutex<BTreeMap<String, Image>>,
    books: Mutex<Books>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        self.world.change(act).expect("the objects are here")
    }

    fn heard(&self, call: &Call) {
        lock(&self.books).heard(call);
    }

    /// Keeps the books about a call that is about to be done.
    async fn before(&self, call: &Call) {
        if call.resource == "jobs.batch" && call.verb == "delete" {
            let pods = self.world.list("pods", &call.namespace, "").await;
            lock(&self.books).deleting(call, &pods);
        }
    }

    /// The same about one that was done.
    async fn after(&self, call: &Call) {
        if call.resource == "jobs.batch" && call.verb == "create" {
            let jobs = self.world.list("jobs.batch", &call.namespace, "").await;
            let pods = self.world.list("pods", &call.namespace, "").await;
            lock(&self.books).created(&jobs, &pods);
        }
    }

    fn harm(&self, call: &Call) -> Option<Harm> {
        let mut planned = lock(&self.planned);
        let at = planned.iter().position(|planned| {
            let all = |name: &str, of: &str| name == "*" || name == of;
            planned.left > 0 && all(planned.verb, call.verb) && all(planned.resource, &call.resource)
        })?;
        planned[at].left -= 1;
        Some(planned[at].harm.clone())
    }

    fn image(&self, name: &str) -> Image {
        lock(&self.images).get(name).cloned().unwrap_or_default()
    }
}

/// The cluster. It ends with its owner, who is told then if anything was asked of it that never should be.
pub struct Cluster {
    shared: Arc<Shared>,
    port: u16,
    server: Option<JoinHandle<()>>,
    nodes: JoinHandle<()>,
    /// Where a cluster elsewhere is asked, while the test's own is waiting for the answer.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Cluster {
    /// With nodes of so many GPUs each. Containers run as long as the test says.
    pub async fn start(nodes: &[u64]) -> Cluster {
        Cluster::start_with(nodes, Workers::Pretended).await
    }

    pub async fn start_with(nodes: &[u64], workers: Workers) -> Cluster {
        let (world, runtime) = match kubeconfig_elsewhere().filter(|_| nodes_are_played()) {
            None => (World::own(), None),
            Some(path) => {
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let runtime = builder.worker_threads(1).enable_all().build().expect("there is room for a thread");
                // Its clients belong to this thread: they answer also while the test's own waits.
                let (namespace, nodes) = (NAMESPACE.to_owned(), nodes.to_vec());
                let world = runtime.spawn(async move { World::elsewhere(&path, &namespace, &nodes).await });
                (world.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())), Some(runtime))
            }
        };
        let shared = Shared {
            world,
            cut: watch::Sender::new(0),
            planned: Mutex::default(),
            images: Mutex::default(),
            books: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let kubelets = nodes::run(Arc::clone(&shared), nodes.to_vec(), workers);
        let nodes = match &runtime {
            None => tokio::spawn(kubelets),
            Some(runtime) => runtime.spawn(kubelets),
        };
        let mut cluster = Cluster { shared, port: free_port(), server: None, nodes, runtime };
        cluster.up().await;
        cluster
    }

    /// What the test asks itself, of the cluster and not over its REST.
    fn ask<T: Send>(&self, asked: impl Future<Output = T> + Send) -> T {
        match &self.runtime {
            None => asked.now_or_never().expect("what is here is there at once"),
            Some(runtime) => std::thread::scope(|scope| {
                scope.spawn(|| runtime.block_on(asked)).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        }
    }

    /// The API server comes back at its address.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the port is the test's own");
        let shared = Arc::clone(&self.shared);
        self.server = Some(tokio::spawn(async move {
            // Ended with this task: nobody keeps a connection to what is down.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| api::answer(request, Arc::clone(&shared)));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }));
    }

    /// The API server is gone: no connection is accepted, those that are open break. What runs on nodes runs on.
    pub async fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    /// A kubeconfig for it, in this folder.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": format!("http://127.0.0.1:{}", self.port) } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": NAMESPACE } }],
        });
        std::fs::write(&path, config.to_string()).expect("the test's folder is writable");
        path
    }

    /// What happens to the next `times` calls of this verb on this resource; `*`: any.
    pub fn harm(&self, verb: &'static str, resource: &'static str, times: usize, harm: Harm) {
        lock(&self.shared.planned).push(Planned { verb, resource, harm, left: times });
    }

    pub fn heal(&self) {
        lock(&self.shared.planned).clear();
    }

    /// Breaks all watches in the middle.
    pub fn cut_watches(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// What pods must ask for in a node to find those of this cluster.
    pub fn node_selector(&self) -> Value {
        self.shared.world.node_selector()
    }

    /// Whether the API server is not the tests' own.
    pub fn is_elsewhere(&self) -> bool {
        self.runtime.is_some()
    }

    /// Never more workers than these: the test fails at its end, if there were.
    pub fn allow(&self, jobs_max: usize) {
        lock(&self.shared.books).jobs_max = Some(jobs_max);
    }

    /// The test's word that this worker never spoke, so that it may be ended though its container runs.
    pub fn never_spoke(&self, worker: &str) {
        lock(&self.shared.books).silent.insert(worker.to_owned());
    }

    /// What was asked for that never should be. Told once: the test knows of it then.
    pub fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.books).faults)
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.books).calls.clone()
    }

    pub fn calls_of(&self, verb: &str, resource: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.verb == verb && call.resource == resource).collect()
    }

    /// Most workers that there were at once.
    pub fn peak_jobs(&self) -> usize {
        lock(&self.shared.books).peak_jobs
    }

    /// What becomes of containers of this image.
    pub fn image(&self, name: &str, image: Image) {
        lock(&self.shared.images).insert(name.to_owned(), image);
    }

    /// From now on nobody can say what changed before, as after a compaction of etcd.
    pub fn forget_changes(&self) {
        if self.shared.world.change(Objects::forget_changes).is_none() {
            let gone = Refusal::new(410, "Expired", "too old resource version");
            for resource in ["jobs.batch", "pods"] {
                self.harm("watch", resource, 1, Harm::Refused(gone.clone(), None));
            }
        }
    }

    pub fn jobs(&self) -> Vec<Value> {
        self.ask(self.shared.world.list("jobs.batch", NAMESPACE, ""))
    }

    pub fn pods(&self) -> Vec<Value> {
        self.ask(self.shared.world.list("pods", NAMESPACE, ""))
    }

    /// The pod of a worker.
    pub fn pod(&self, worker: &str) -> Option<Value> {
        self.pods().into_iter().find(|pod| pod["metadata"]["labels"]["framewake/worker"] == worker)
    }

    /// Makes an object, as somebody else would.
    pub fn create(&self, resource: &str, object: Value) -> Value {
        let made = self.ask(self.shared.world.create(resource, NAMESPACE, object));
        made.unwrap_or_else(|refusal| panic!("{resource}: {}", refusal.message))
    }

    /// Changes a worker's Job, as somebody else would.
    pub fn with_job(&self, worker: &str, change: impl Fn(&mut Value) + Send + Sync) {
        let key = ("jobs.batch".to_owned(), NAMESPACE.to_owned(), worker.to_owned());
        assert!(self.ask(self.shared.world.modify(&key, change)), "worker {worker} has no Job");
    }

    /// Deletes a worker's Job, as somebody with `kubectl` would.
    pub fn delete_job(&self, worker: &str) {
        let key = ("jobs.batch".to_owned(), NAMESPACE.to_owned(), worker.to_owned());
        let deleted = self.ask(self.shared.world.delete(&key));
        deleted.unwrap_or_else(|refusal| panic!("{worker}: {}", refusal.message));
    }

    /// A worker's node is gone, and its pod with it.
    pub fn lose_pod(&self, worker: &str) {
        let pod = self.pod(worker).expect("the worker has a pod");
        let deleted = self.ask(self.shared.world.delete(&nodes::pod_key(&pod)));
        deleted.unwrap_or_else(|refusal| panic!("{worker}: {}", refusal.message));
    }

    /// Changes a worker's pod.
    pub fn with_pod(&self, worker: &str, change: impl Fn(&mut Value) + Send + Sync) {
        let pod = self.pod(worker).expect("the worker has a pod");
        self.ask(self.shared.world.modify(&nodes::pod_key(&pod), change));
    }

    /// The container of a worker ends.
    pub fn exit(&self, worker: &str, terminated: &Value) {
        self.with_pod(worker, |pod| nodes::exited(pod, terminated));
    }

    /// The platform ends a worker, with the condition that tells so.
    pub fn disrupt(&self, worker: &str, reason: &str) {
        self.with_pod(worker, |pod| {
            nodes::exited(pod, &json!({ "exitCode": 143, "reason": "Error" }));
            let conditions = pod["status"]["conditions"].as_array_mut().expect("they are there");
            conditions
                .push(json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "told" }));
        });
    }

    /// A quota of the namespace, once it counts.
    pub async fn quota(&self, hard: &Value) {
        self.create("resourcequotas", json!({ "metadata": { "name": "gpus" }, "spec": { "hard": hard } }));
        if self.is_elsewhere() {
            until(QUOTA_MAX, "the quota counts", || async {
                let quotas = self.ask(self.shared.world.list("resourcequotas", NAMESPACE, ""));
                quotas.first().filter(|quota| quota["status"]["hard"] == *hard).map(drop)
            })
            .await;
        }
    }

    /// Waits for something about the cluster.
    pub fn until<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        until_sync(Duration::from_secs(10), what, condition)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
        self.nodes.abort();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if !std::thread::panicking() {
            assert_eq!(self.take_faults(), Vec::<String>::new());
        }
    }
}
