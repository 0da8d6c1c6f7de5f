//! A proxy in front of a scheduler's REST that refuses what a test names, in the scheduler's place; all else passes, streams too.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// How something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Seconds after which it may be asked again.
    pub retry_after: Option<u32>,
    /// In the words of the scheduler (RFC 9457); else as a proxy does that knows nothing of it.
    pub in_its_words: bool,
}

/// What a refusal says in the scheduler's words.
pub const DETAIL: &str = "the test does not tell this";
pub const HINT: &str = "wait until it does";

type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Debug, Default)]
struct Rules {
    /// Beginnings of addresses.
    refused: Vec<(String, Refusal)>,
    /// What was refused, and when.
    asked: Vec<(String, Instant)>,
}

/// Ends when dropped.
#[derive(Debug)]
pub struct RestProxy {
    pub port: u16,
    rules: Arc<Mutex<Rules>>,
    task: JoinHandle<()>,
}

impl RestProxy {
    pub async fn start(to: u16) -> RestProxy {
        let port = crate::parts::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let rules = Arc::new(Mutex::new(Rules::default()));
        let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build_http();
        let task = tokio::spawn({
            let rules = Arc::clone(&rules);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                            let (rules, client) = (Arc::clone(&rules), client.clone());
                            connections.spawn(async move {
                                let service = service_fn(|request| pass(request, &rules, &client, to));
                                let server = hyper::server::conn::http1::Builder::new();
                                let _the_browser_leaves = server.serve_connection(TokioIo::new(stream), service).await;
                            });
                        },
                        Some(_) = connections.join_next() => {}
                    }
                }
            }
        });
        RestProxy { port, rules, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on what begins so is refused, and nothing else.
    pub fn refuse(&self, addresses: &[&str], refusal: Refusal) {
        let mut rules = locked(&self.rules);
        rules.refused = addresses.iter().map(|address| ((*address).to_owned(), refusal)).collect();
        rules.asked.clear();
    }

    pub fn pass_all(&self) {
        locked(&self.rules).refused.clear();
    }

    /// When this was asked for and refused since the last rule.
    pub fn refused_at(&self, address: &str) -> Vec<Instant> {
        let rules = locked(&self.rules);
        rules.asked.iter().filter(|(asked, _)| asked.starts_with(address)).map(|(_, at)| *at).collect()
    }
}

impl Drop for RestProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().expect("nobody panics with it")
}

async fn pass(
    mut request: Request<Incoming>,
    rules: &Mutex<Rules>,
    client: &Client<HttpConnector, Incoming>,
    to: u16,
) -> io::Result<Response<Body>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let refusal = {
        let mut rules = locked(rules);
        let found = rules.refused.iter().find(|(address, _)| path.starts_with(address)).map(|(_, refusal)| *refusal);
        if found.is_some() {
            rules.asked.push((path.clone(), Instant::now()));
        }
        found
    };
    if let Some(refusal) = refusal {
        return refuse(refusal);
    }
    *request.uri_mut() = format!("http://127.0.0.1:{to}{path}").parse::<Uri>().map_err(io::Error::other)?;
    let response = client.request(request).await.map_err(io::Error::other)?;
    Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}

fn refuse(refusal: Refusal) -> io::Result<Response<Body>> {
    let (kind, text) = if refusal.in_its_words {
        let body = json!({ "title": "Refused", "status": refusal.status, "detail": DETAIL, "hint": HINT });
        ("application/problem+json", body.to_string())
    } else {
        ("text/html", format!("<html><h1>{}</h1></html>", refusal.status))
    };
    let mut response = Response::builder().status(refusal.status).header(CONTENT_TYPE, kind);
    if let Some(seconds) = refusal.retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(Full::new(Bytes::from(text)).map_err(io::Error::other).boxed_unsync()).map_err(io::Error::other)
}
