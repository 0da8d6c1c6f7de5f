//! The interface against a real engine, a real database and a real folder, without sockets and without NATS.

mod access;
mod audit;
mod bodies;
mod budgets;
mod copies;
mod costs;
mod events;
mod guards;
mod hostile;
mod jobs;
mod narrowed;
mod outputs;
mod overview;
mod places;
mod raw;
mod sessions;
mod smuggling;
mod sockets;
mod starts;
mod uploads;

use super::{App, UploadLimits, Uploads, UrlsAllowed};
use crate::access::{Access, Mode, Token};
use crate::engine::{Commands, Engine, Handle, Health, Message};
use crate::metrics::Metrics;
use crate::notify::{Allowed, Ways};
use crate::objects::{Address, Objects};
use crate::store::read::Reader;
use crate::store::{AccessWrite, Store};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use framewake_core::event::{AttemptEnd, Event, GpuUse, GpuWord, Moments, Report, RequestId, TaskFailure, TaskResult};
use framewake_core::values::{LogSize, PoolRules, Settings};
use framewake_proto::api::{JobView, Problem, Submitted};
use framewake_proto::ids::{AttemptId, ChunkId, JobId, Name};
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A scheduler without workers: the tests play them.
struct Farm {
    router: Router,
    app: Arc<App>,
    handle: Handle,
    folder: TempDir,
    _commands: Commands,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem, which has the shape that every problem has.
    fn problem(&self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Problem = self.json();
        assert_eq!(problem.kind, format!("urn:framewake:{code}"));
        assert_eq!(problem.status, status);
        assert_eq!(problem.request_id, self.headers["x-request-id"].to_str().expect("ASCII"));
        problem
    }
}

impl Farm {
    async fn start() -> Farm {
        Farm::start_with(UploadLimits::default(), UrlsAllowed::default()).await
    }

    async fn start_with(limits: UploadLimits, urls: UrlsAllowed) -> Farm {
        Farm::start_bounded(limits, urls, crate::engine::JOBS_MAX_DEFAULT).await
    }

    async fn start_bounded(limits: UploadLimits, urls: UrlsAllowed, jobs_max: u32) -> Farm {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).await.expect("a new store");
        let metrics = Arc::new(Metrics::default());
        let pools = BTreeMap::from([("cloud".parse().expect("a name"), "192.0.2.7 does not answer".to_owned())]);
        let (_, health) = watch::channel(Health { pools, ..Health::default() });
        let (engine, handle, commands) =
            Engine::load(store, Settings::default(), health, metrics.clone()).await.expect("an empty farm");
        tokio::spawn(engine.with_jobs_max(jobs_max).run());
        let pools = Event::PoolsSet { pools: vec![PoolRules::local(4)], unfit: BTreeMap::new() };
        assert!(handle.tell(Message::Happened(pools)).await);
        let reader = Reader::open(&folder.path().join("framewake.db")).await.expect("the store's file");
        let objects = Objects::open(&Address::Folder(folder.path().join("objects"))).expect("a folder");
        let uploads = Uploads::open(folder.path().join("uploads"), limits).expect("a folder");
        let app = Arc::new(App::new(handle.clone(), reader, objects, uploads, metrics, urls, ways()));
        let farm = Farm { router: super::router(app.clone()), app, handle, folder, _commands: commands };
        let function = json!({
            "name": "paint",
            "driver": {"kind": "command", "command": ["paint", "{output}"]},
            "parameters": {"samples": {"type": "integer", "default": 1, "minimum": 1}},
        });
        assert_eq!(farm.post("/v1/functions", &function).await.status, StatusCode::CREATED);
        farm
    }

    /// The same farm with an interface that remembers nothing.
    fn restarted(self) -> Farm {
        self.anew(|app| app)
    }

    /// The same farm with an interface that remembers nothing, and is as somebody wants it.
    fn anew(self, made: impl FnOnce(App) -> App) -> Farm {
        let uploads = Uploads::open(self.folder.path().join("uploads"), UploadLimits::default()).expect("a folder");
        let App { handle, reader, objects, metrics, urls, .. } = &*self.app;
        let (handle, reader, objects) = (handle.clone(), reader.clone(), objects.clone());
        let app = App::new(handle, reader, objects, uploads, metrics.clone(), urls.clone(), ways());
        let app = Arc::new(made(app));
        Farm { router: super::router(app.clone()), app, ..self }
    }

    /// The same farm with somebody at the door, and these tokens.
    async fn guarded(self, tokens: Vec<Token>) -> Farm {
        let writes = tokens.into_iter().map(AccessWrite::TokenMade).collect();
        self.handle.write_access(writes).await.expect("written");
        self.guarded_anew().await
    }

    /// The same after a restart: at the door is known what is in the database.
    async fn guarded_anew(self) -> Farm {
        let App { handle, reader, .. } = &*self.app;
        let access = Access::new(Mode::Tokens, reader.tokens().await.expect("they are read"));
        let over = access.restore(reader.sessions().await.expect("they are read"), Timestamp::now());
        handle.write_access(over.into_iter().map(AccessWrite::SessionEnded).collect()).await.expect("written");
        self.anew(|app| app.with_access(access))
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.expect("a router answers");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body").to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(json_request("POST", path, body)).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        let reply = self.get(path).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    /// How many jobs there are: none may be left behind by a refusal.
    async fn jobs(&self) -> usize {
        self.read::<Value>("/v1/jobs").await["items"].as_array().expect("a list").len()
    }

    async fn submit(&self, job: &Value) -> JobId {
        let reply = self.post("/v1/jobs", job).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        reply.json::<Submitted>().id
    }

    async fn job(&self, id: JobId) -> JobView {
        self.read(&format!("/v1/jobs/{id}")).await
    }

    /// Plays a worker that claims the first attempt of a chunk.
    async fn claim(&self, chunk: u64) {
        let worker: Name = "w1".parse().expect("a name");
        let seen = Event::WorkerSeen {
            gpu: String::new(),
            request: RequestId(0),
            worker: worker.clone(),
            function: "paint@1".parse().expect("a key"),
            holds: None,
            draining: false,
            places: Vec::new(),
            progress: None,
        };
        assert!(self.handle.tell(Message::Happened(seen)).await);
        let claimed = Event::AttemptClaimed { request: RequestId(0), worker, attempt: attempt(chunk) };
        assert!(self.handle.tell(Message::Happened(claimed)).await);
    }

    /// Plays a worker that ends the first attempt of a chunk.
    async fn report(&self, chunk: u64, done: Vec<TaskResult>, failed: Vec<TaskFailure>) {
        let report = Report {
            done,
            failed,
            end: Some(AttemptEnd::Finished),
            log: LogSize { kept_bytes: 5, left_out_bytes: 7 },
            ..Report::default()
        };
        let worker = "w1".parse().expect("a name");
        let reported = Event::AttemptReported { worker, attempt: attempt(chunk), report };
        assert!(self.handle.tell(Message::Happened(reported)).await);
    }

    /// Waits until the job is as `is` says.
    async fn wait(&self, id: JobId, is: impl Fn(&JobView) -> bool) -> JobView {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let job = self.job(id).await;
                if is(&job) {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        });
        waited.await.expect("the job gets there in time")
    }
}

fn ways() -> Arc<Ways> {
    // Some tests ask nothing that needs TLS, others have set it up.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Arc::new(Ways::new("farm".parse().expect("a name"), Allowed::default(), None, None).expect("a client"))
}

fn attempt(chunk: u64) -> AttemptId {
    AttemptId { chunk: ChunkId(chunk), number: 1 }
}

fn done(task: u32, key: &str, bytes: &[u8]) -> TaskResult {
    TaskResult {
        task,
        key: key.to_owned(),
        sha256: framewake_proto::objects::Digest::of(bytes).0,
        size_bytes: bytes.len() as u64,
        width: 4,
        height: 2,
        device: "CPU".to_owned(),
        renderer: "paint 1".to_owned(),
        elapsed_ms: 7,
        found: false,
        memory_peak_bytes: 1024,
        gpu: GpuUse::default(),
        moments: Moments::default(),
    }
}

fn failed(task: u32, verdict: Verdict) -> TaskFailure {
    TaskFailure {
        task,
        verdict,
        message: "no such texture".to_owned(),
        evidence: "wood.png: not found".to_owned(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    }
}

fn json_request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).expect("a request")
}

/// A job of one step with frames `1-{frames}`.
fn job(name: &str, frames: u32) -> Value {
    let step = json!({
        "name": "render",
        "function": "paint",
        "frames": format!("1-{frames}"),
        "output": "f/{frame:04}.png",
        "chunking": {"mode": "fixed", "size": 10},
        "retries": {"attempts": 1},
    });
    json!({"name": name, "steps": [step]})
}
