//! Gateways as people have them, played small, with real workers behind: one that brings up a replica for a request, as
//! Knative does, and one that is told how many there are, as `OpenFaaS` is. Replicas are processes of the worker's program, in
//! mode `http`.

use crate::parts::{Running, built, free_port, path};
use crate::wait::until;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Longest wait for a replica.
const REPLICA_MAX: Duration = Duration::from_secs(20);
/// Of the gateway that is told how many replicas there are, base64 of `admin:hunter2`.
const AUTHORIZATION: &str = "Basic YWRtaW46aHVudGVyMg==";

/// How requests are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behavior {
    Well,
    /// Answered with this, and nobody is woken.
    Status(u16),
    /// Passed on after this long.
    Slow(Duration),
}

/// A gateway on this machine. It ends with its owner, and its replicas with it.
#[derive(Debug)]
pub struct Gateway {
    pub port: u16,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Most replicas.
    max: usize,
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

#[derive(Debug)]
struct State {
    behavior: Behavior,
    replicas: Vec<Replica>,
    /// Deployed ones, by name, where they are deployed.
    functions: BTreeMap<String, Value>,
    connections: JoinSet<()>,
    calls: usize,
    started: usize,
}

#[derive(Debug)]
struct Replica {
    function: String,
    port: u16,
    busy: bool,
    running: Running,
}

impl Gateway {
    /// Replicas get this environment, and leave their logs in this folder.
    pub async fn start(max: usize, folder: &Path, environment: &[(&str, String)]) -> Gateway {
        let port = free_port();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let state = State {
            behavior: Behavior::Well,
            replicas: Vec::new(),
            functions: BTreeMap::new(),
            connections: JoinSet::new(),
            calls: 0,
            started: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), max, environment, folder: folder.to_owned() });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is the test's own");
        let known = shared.clone();
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let shared = known.clone();
                known.lock().connections.spawn(async move {
                    let service = service_fn(|request| answer(shared.clone(), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Gateway { port, shared, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn behave(&self, behavior: Behavior) {
        self.shared.lock().behavior = behavior;
    }

    /// Cuts every connection, to callers and replicas alike. Replicas go on with what they do.
    pub fn cut(&self) {
        self.shared.lock().connections.abort_all();
    }

    /// `kill -9` of one replica that works.
    pub fn kill_a_busy_one(&self) {
        let mut state = self.shared.lock();
        let at = state.replicas.iter().position(|replica| replica.busy).expect("one is busy");
        state.replicas.remove(at).running.kill();
    }

    /// Calls that came in so far, refused ones too.
    pub fn calls(&self) -> usize {
        self.shared.lock().calls
    }

    /// Replicas that ever were.
    pub fn started(&self) -> usize {
        self.shared.lock().started
    }

    pub fn replicas(&self) -> usize {
        self.shared.lock().replicas.len()
    }

    /// Names of what is deployed.
    pub fn functions(&self) -> Vec<String> {
        self.shared.lock().functions.keys().cloned().collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
        let mut state = self.shared.lock();
        // Those that end now want the lock, and get it from another thread.
        state.connections.abort_all();
        if std::thread::panicking() {
            for replica in &state.replicas {
                eprintln!("--- replica {} ---\n{}", replica.port, crate::farm::tail(&replica.running.log(), 4000));
            }
        }
        state.replicas.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process of the worker, of which nobody knows yet whether it listens.
    fn bring_up(&self, state: &mut State, function: &str, environment: &[(String, String)], busy: bool) -> u16 {
        let port = free_port();
        let mut command = Command::new(built("framewake-worker"));
        command.args(["--mode", "http", "--listen", &format!("127.0.0.1:{port}")]);
        command.env("PATH", path()).envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("FRAMEWAKE_SCRATCH", self.folder.join(format!("replica-{port}")));
        let running =
            Running::start("framewake-worker", &mut command, &self.folder.join(format!("replica-{port}.log")));
        state.replicas.push(Replica { function: function.to_owned(), port, busy, running });
        state.started += 1;
        port
    }
}

type Answer = Response<Full<Bytes>>;

fn say(status: u16, text: impl Into<String>) -> Answer {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::new(Bytes::from(text.into()))).expect("a good answer")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    if path.starts_with("/system/") {
        if parts.headers.get("authorization").is_none_or(|value| value != AUTHORIZATION) {
            return Ok(say(401, "invalid credentials"));
        }
        return Ok(system(&shared, &parts.method, &path, &serde_json::from_slice(&body).unwrap_or_default()));
    }
    let Some(function) = path.strip_prefix("/function/").filter(|_| parts.method == Method::POST) else {
        return Ok(say(404, "there are functions, and /system"));
    };
    let behavior = {
        let mut state = shared.lock();
        state.calls += 1;
        state.behavior.clone()
    };
    match behavior {
        Behavior::Well => {}
        Behavior::Status(status) => return Ok(say(status, "so I was told")),
        Behavior::Slow(pause) => tokio::time::sleep(pause).await,
    }
    let Some(port) = place(&shared, function) else { return Ok(say(429, "no room")) };
    Ok(pass_on(&shared, port, &parts.headers).await)
}

/// A replica that is free, or a new one where it may be.
fn place(shared: &Shared, function: &str) -> Option<u16> {
    let mut state = shared.lock();
    let free = state.replicas.iter_mut().find(|replica| !replica.busy && replica.function == function);
    if let Some(replica) = free {
        replica.busy = true;
        return Some(replica.port);
    }
    if state.functions.contains_key(function) || state.replicas.len() >= shared.max {
        return None;
    }
    // `NAME/VERSION`
    let key = ("FRAMEWAKE_FUNCTION".to_owned(), function.replace('/', "@"));
    let environment: Vec<_> = shared.environment.iter().cloned().chain([key]).collect();
    Some(shared.bring_up(&mut state, function, &environment, true))
}

/// A replica is free once nobody waits for its answer, whoever hung up.
struct Taken<'a> {
    shared: &'a Shared,
    port: u16,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(replica) = self.shared.lock().replicas.iter_mut().find(|replica| replica.port == self.port) {
            replica.busy = false;
        }
    }
}

async fn pass_on(shared: &Shared, port: u16, headers: &HeaderMap) -> Answer {
    let _taken = Taken { shared, port };
    let replica = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::new();
    until(REPLICA_MAX, "the replica listens", || async { http.get(format!("{replica}/_/health")).send().await.ok() })
        .await;
    let mut request = http.post(format!("{replica}/"));
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        request = request.header(name, value);
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            say(status, answer.text().await.unwrap_or_default())
        }
        Err(_) => say(502, "the replica is gone"),
    }
}

/// The API of `OpenFaaS`, as far as it is asked here.
fn system(shared: &Shared, method: &Method, path: &str, body: &Value) -> Answer {
    let mut state = shared.lock();
    match (method, path.strip_prefix("/system/").expect("looked for before")) {
        (&Method::GET, "functions") => {
            let all: Vec<Value> = state.functions.keys().map(|name| status(&state, name)).collect();
            say(200, json!(all).to_string())
        }
        (&Method::POST, "functions") => {
            let name = body["service"].as_str().unwrap_or_default().to_owned();
            state.functions.insert(name.clone(), body.clone());
            scale(shared, &mut state, &name, 1);
            say(202, "")
        }
        (&Method::DELETE, "functions") => {
            let name = body["functionName"].as_str().unwrap_or_default();
            state.functions.remove(name);
            state.replicas.retain(|replica| replica.function != name);
            say(202, "")
        }
        (&Method::POST, path) if path.starts_with("scale-function/") => {
            let name = body["serviceName"].as_str().unwrap_or_default();
            let wanted = usize::try_from(body["replicas"].as_u64().unwrap_or_default()).unwrap_or(usize::MAX);
            if wanted > shared.max {
                return say(400, "more than there may be");
            }
            scale(shared, &mut state, name, wanted);
            say(202, "")
        }
        (&Method::GET, path) if path.starts_with("function/") => {
            let name = path.trim_start_matches("function/");
            if state.functions.contains_key(name) { say(200, status(&state, name).to_string()) } else { say(404, "") }
        }
        _ => say(404, ""),
    }
}

fn status(state: &State, name: &str) -> Value {
    let count = state.replicas.iter().filter(|replica| replica.function == name).count();
    let deployed = &state.functions[name];
    json!({
        "name": name, "image": deployed["image"], "labels": deployed["labels"],
        "replicas": count, "availableReplicas": count,
    })
}

fn scale(shared: &Shared, state: &mut State, name: &str, wanted: usize) {
    let there = state.replicas.iter().filter(|replica| replica.function == name).count();
    let variables = state.functions[name]["envVars"].as_object().cloned().unwrap_or_default();
    let variables = variables.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    // What its image would have.
    let environment: Vec<_> = shared.environment.iter().cloned().chain(variables).collect();
    for _ in there..wanted {
        shared.bring_up(state, name, &environment, false);
    }
}
