//! A cluster of the tests' own: an API server that keeps objects, versions and watches, with what controllers and kubelets make
//! of them, and with the failures that a test wants. Every call to it is kept.

mod api;
mod nodes;
mod objects;

pub use api::Call;
pub use nodes::{Image, Workers};
pub use objects::{Key, Objects, Refusal};

use crate::parts::free_port;
use crate::wait::until_sync;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The namespace of the tests.
pub const NAMESPACE: &str = "render";
/// What a GPU is here.
pub const GPU: &str = "nvidia.com/gpu";

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
    objects: Mutex<Objects>,
    pub(crate) changed: watch::Sender<u64>,
    /// Counts the cuts of watches.
    pub(crate) cut: watch::Sender<u64>,
    planned: Mutex<Vec<Planned>>,
    calls: Mutex<Vec<Call>>,
    images: Mutex<BTreeMap<String, Image>>,
    /// Most Jobs that were not over, at any time.
    peak_jobs: AtomicUsize,
    /// Workers whose Job was deleted by a call while their container ran.
    deleted_while_running: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        let mut objects = lock(&self.objects);
        let before = objects.version();
        let result = act(&mut objects);
        let after = objects.version();
        drop(objects);
        if before != after {
            self.changed.send_replace(after);
        }
        result
    }

    fn heard(&self, call: &Call) {
        lock(&self.calls).push(call.clone());
    }

    /// Keeps the books about a call that is about to be done, or was.
    fn account(&self, call: &Call, before: bool) {
        if call.resource != "jobs.batch" {
            return;
        }
        let (jobs, pods) = self
            .change(|objects| (objects.list("jobs.batch", NAMESPACE, "", ""), objects.list("pods", NAMESPACE, "", "")));
        if call.verb == "create" && !before {
            let open = jobs.iter().filter(|job| job["status"]["conditions"].is_null()).count();
            self.peak_jobs.fetch_max(open, Ordering::SeqCst);
        }
        let runs = |pod: &Value| {
            pod["metadata"]["labels"]["framewake/worker"] == call.name && pod["status"]["phase"] == "Running"
        };
        if call.verb == "delete" && before && pods.iter().any(runs) {
            lock(&self.deleted_while_running).push(call.name.clone());
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

/// The cluster. It ends with its owner.
pub struct Cluster {
    shared: Arc<Shared>,
    port: u16,
    server: Option<JoinHandle<()>>,
    nodes: JoinHandle<()>,
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
        let shared = Shared {
            objects: Mutex::default(),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
            planned: Mutex::default(),
            calls: Mutex::default(),
            images: Mutex::default(),
            peak_jobs: AtomicUsize::new(0),
            deleted_while_running: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let nodes = tokio::spawn(nodes::run(Arc::clone(&shared), nodes.to_vec(), workers));
        let mut cluster = Cluster { shared, port: free_port(), server: None, nodes };
        cluster.up().await;
        cluster
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

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    pub fn calls_of(&self, verb: &str, resource: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.verb == verb && call.resource == resource).collect()
    }

    pub fn peak_jobs(&self) -> usize {
        self.shared.peak_jobs.load(Ordering::SeqCst)
    }

    pub fn deleted_while_running(&self) -> Vec<String> {
        lock(&self.shared.deleted_while_running).clone()
    }

    /// What becomes of containers of this image.
    pub fn image(&self, name: &str, image: Image) {
        lock(&self.shared.images).insert(name.to_owned(), image);
    }

    /// Looks at the objects, or changes them as somebody else would.
    pub fn objects<T>(&self, act: impl FnOnce(&mut Objects) -> T) -> T {
        self.shared.change(act)
    }

    pub fn jobs(&self) -> Vec<Value> {
        self.objects(|objects| objects.list("jobs.batch", NAMESPACE, "", ""))
    }

    pub fn pods(&self) -> Vec<Value> {
        self.objects(|objects| objects.list("pods", NAMESPACE, "", ""))
    }

    /// The pod of a worker.
    pub fn pod(&self, worker: &str) -> Option<Value> {
        self.pods().into_iter().find(|pod| pod["metadata"]["labels"]["framewake/worker"] == worker)
    }

    pub fn job_key(worker: &str) -> Key {
        ("jobs.batch".to_owned(), NAMESPACE.to_owned(), worker.to_owned())
    }

    /// Changes a worker's pod.
    pub fn with_pod(&self, worker: &str, change: impl FnOnce(&mut Value)) {
        let pod = self.pod(worker).expect("the worker has a pod");
        let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
        self.objects(|objects| objects.modify(&("pods".to_owned(), NAMESPACE.to_owned(), name), change));
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

    pub fn quota(&self, hard: &Value) {
        let quota = json!({ "metadata": { "name": "gpus" }, "spec": { "hard": hard } });
        self.objects(|objects| objects.create("resourcequotas", NAMESPACE, quota)).expect("there is none yet");
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
    }
}
