//! The provider interface of `OpenFaaS`, for people who live in its tools: `faas-cli` deploys a function, scales it,
//! reads its logs and calls it, and all of it happens on this farm.
//!
//! A deployment is a name for a version of a function, and a call is a job of one task: its body is the input, its output
//! the answer. Shapes, statuses and names of headers are those that the clients' own types have (`shapes.rs`); what has
//! no meaning here is refused in words, and nothing is taken and dropped.

mod auth;
mod callbacks;
mod calls;
mod deploy;
mod functions;
mod logs;
pub(crate) mod rules;
mod shapes;
#[cfg(test)]
mod tests;

use crate::access::note;
use crate::engine::clock::Clock;
use crate::notify;
use crate::rest::{self, App, Class, Code, Refusal, Speech, peer_of};
use crate::store::{AuditRow, Share};
use anyhow::{Context as _, Result, ensure};
use auth::Door;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use callbacks::Callbacks;
use framewake_proto::duration::Span;
use framewake_proto::ids::Name;
use rules::{Needs, Noted, line};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::CsrfLayer;
use tracing::{debug, error, info};

/// Longest secret in a file: a path that leads to something else is noticed.
const SECRET_FILE_MAX: u64 = 4096;
/// Longest time until the answer to anything but a call or a log begins.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// What is counted of calls: as many functions as may be told apart.
const COUNTED_MAX: usize = 10_000;
/// Who they are in the audit: they share one password.
const WHO: &str = "openfaas";
/// Most signs of an address that are noted.
const SUBJECT_MAX: usize = 300;

/// What the operator says of it.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::doc_markdown)] // The text of `--help`.
pub struct Settings {
    /// Address for clients of OpenFaaS, as `127.0.0.1:8080`; without it they are not served
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_LISTEN", requires = "openfaas_password_file")]
    pub openfaas_listen: Option<SocketAddr>,
    /// Name that clients of OpenFaaS log in with
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_USER", default_value = "admin")]
    pub openfaas_user: String,
    /// File with the password that clients of OpenFaaS log in with
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_PASSWORD_FILE")]
    pub openfaas_password_file: Option<PathBuf>,
    /// The one namespace that clients of OpenFaaS see; calls are jobs of the project of this name
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_NAMESPACE", default_value = "openfaas-fn")]
    pub openfaas_namespace: Name,
    /// How long a client of OpenFaaS waits for the answer to a call
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_WAIT", default_value = "1m")]
    pub openfaas_wait: Span,
    /// File with the secret, `whsec_…`, that answers sent to `X-Callback-Url` are signed with; without it none are sent
    #[arg(long, env = "FRAMEWAKE_OPENFAAS_CALLBACK_SECRET_FILE")]
    pub openfaas_callback_secret_file: Option<PathBuf>,
}

/// The address for these clients, where there is one. Before anything else, so that a taken one is noticed.
pub(crate) async fn listen(settings: &Settings) -> Result<Option<TcpListener>> {
    let Some(address) = settings.openfaas_listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener
        .map(Some)
        .with_context(|| format!("cannot listen on {address}: choose another address with --openfaas-listen"))
}

/// Serves these clients, if they are to be served, until `stop`, and sends answers.
pub(crate) async fn serve(
    settings: Settings,
    listener: Option<TcpListener>,
    app: Arc<App>,
    patience: Duration,
    clock: Clock,
    stop: CancellationToken,
) -> Result<()> {
    let Some(listener) = listener else {
        stop.cancelled().await;
        return Ok(());
    };
    let gateway = Gateway::new(&settings, app.clone(), clock)?;
    info!("clients of OpenFaaS are served on {}://{}", app.scheme(), listener.local_addr()?);
    let callbacks = Callbacks::new(&settings, app.clone(), patience, clock)?;
    let sending = async {
        match callbacks {
            Some(callbacks) => callbacks.run(stop.clone()).await,
            None => stop.cancelled().await,
        }
    };
    let serving = rest::serve_router(listener, app, router(gateway), Speech::Http, stop.clone());
    let ((), served) = tokio::join!(sending, serving);
    Ok(served?)
}

/// Everything a request of these clients may need.
#[derive(Debug)]
pub(crate) struct Gateway {
    app: Arc<App>,
    door: Door,
    namespace: Name,
    wait: Duration,
    /// Answers are sent, signed with this.
    callback_key: Option<Vec<u8>>,
    clock: Clock,
    /// Calls of each function since the start.
    called: Mutex<BTreeMap<Name, u64>>,
}

impl Gateway {
    pub(crate) fn new(settings: &Settings, app: Arc<App>, clock: Clock) -> Result<Arc<Gateway>> {
        let file = settings.openfaas_password_file.as_deref().context("--openfaas-password-file is needed")?;
        let password = secret(file).context("--openfaas-password-file")?;
        Ok(Arc::new(Gateway {
            app,
            door: Door::new(&settings.openfaas_user, &password),
            namespace: settings.openfaas_namespace.clone(),
            wait: settings.openfaas_wait.0,
            callback_key: settings.callback_key()?,
            clock,
            called: Mutex::default(),
        }))
    }

    fn count_call(&self, function: &Name) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        if called.len() < COUNTED_MAX || called.contains_key(function) {
            *called.entry(function.clone()).or_default() += 1;
        }
    }

    fn calls(&self, function: &Name) -> u64 {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).get(function).copied().unwrap_or(0)
    }

    /// `name` or `name.namespace`, as in addresses of functions.
    fn name(&self, text: &str) -> rest::Answer<Name> {
        let (name, namespace) = text.split_once('.').unwrap_or((text, ""));
        self.check_namespace(namespace)?;
        name.parse().map_err(|_| not_found(name))
    }

    /// Empty: ours.
    fn check_namespace(&self, namespace: &str) -> rest::Answer<()> {
        if namespace.is_empty() || namespace == self.namespace.as_str() {
            return Ok(());
        }
        let shown: String = namespace.chars().take(64).collect();
        Err(Refusal::not_found(format!("namespace `{shown}` not found: the only one is `{}`", self.namespace)))
    }
}

impl Settings {
    /// The key that answers are signed with; `None`: none are sent.
    pub(crate) fn callback_key(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = &self.openfaas_callback_secret_file else { return Ok(None) };
        let secret = secret(file).context("--openfaas-callback-secret-file")?;
        let key = notify::secret_key(&secret).map_err(anyhow::Error::msg);
        key.with_context(|| format!("the secret in `{}`", file.display())).map(Some)
    }
}

/// The text of a file, without the line's end that editors leave.
fn secret(file: &Path) -> Result<String> {
    let named = || format!("cannot read `{}`", file.display());
    ensure!(std::fs::metadata(file).with_context(named)?.len() <= SECRET_FILE_MAX, "`{}` is too long", file.display());
    let text = std::fs::read_to_string(file).with_context(named)?;
    let text = text.trim_end_matches(['\r', '\n']);
    ensure!(!text.is_empty(), "`{}` is empty", file.display());
    Ok(text.to_owned())
}

/// Everything that is answered, to those whom `rules` let in.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    guarded(answering(), gateway)
}

fn answering() -> Router<Arc<Gateway>> {
    let system = get(functions::list).post(functions::deploy).put(functions::update).delete(functions::remove);
    Router::new()
        .route("/healthz", get(async || "OK"))
        .route("/system/functions", system)
        .route("/system/function/{name}", get(functions::show))
        .route("/system/scale-function/{name}", post(functions::scale))
        .route("/system/logs", get(logs::read))
        .route("/system/info", get(functions::info))
        .route("/system/namespaces", get(functions::namespaces))
        .route("/system/namespace/{name}", any(functions::namespace))
        .route("/system/secrets", get(functions::secrets).fallback(functions::no_secrets))
        .route("/async-function/{name}", post(calls::later))
        .route("/async-function/{name}/{*path}", post(calls::later))
        .route("/function/{name}", any(calls::now))
        .route("/function/{name}/", any(calls::now))
        .route("/function/{name}/{*path}", any(calls::now))
        .fallback(async || Refusal::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || Refusal::new(Code::MethodNotAllowed, "this address has no such method"))
}

fn guarded(routes: Router<Arc<Gateway>>, gateway: Arc<Gateway>) -> Router {
    routes
        .layer(CsrfLayer::new().with_rejection_response(|_| rest::cross_origin()))
        .layer(CatchPanicLayer::custom(rest::panicked))
        .layer(from_fn_with_state(gateway.clone(), pass))
        .with_state(gateway)
}

/// What every request passes: the password, the bound on how many there are, and refusals in words.
async fn pass(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let row = noted(&gateway, &request);
    let next = async move |request: Request| match row {
        Some(row) => note::carry(row, next.run(request)).await.0,
        None => next.run(request).await,
    };
    let began = Instant::now();
    let metrics = &gateway.app.metrics.parts;
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let is_open =
        matched.as_deref().and_then(|route| line(&method, route)).is_some_and(|it| it.needs == Needs::Nothing);
    let mut response = if !is_open && !gateway.door.opens(request.headers().get(AUTHORIZATION)) {
        metrics.problems.with_label_values(&["unauthorized"]).inc();
        let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"Restricted\"")];
        (StatusCode::UNAUTHORIZED, challenge, "invalid credentials").into_response()
    } else if let Some(route) = matched.as_deref().filter(|route| !rules::is_known(route)) {
        let detail = format!("nobody may ask this: `{route}` has no line in the table of access");
        Refusal::new(Code::Forbidden, detail).into_response()
    } else {
        let route = matched.as_deref().unwrap_or_default();
        let entered =
            class_of(&method, route).map(|class| gateway.app.enter(class, peer_of(request.extensions()))).transpose();
        match entered {
            Err(refusal) => refusal.into_response(),
            // Calls and logs bound themselves.
            Ok(None) => next(request).await,
            Ok(Some(_pass)) => match tokio::time::timeout(REQUEST_TIMEOUT, next(request)).await {
                Ok(response) => response,
                Err(_) => Refusal::new(Code::Unavailable, "the scheduler did not get to it in time").into_response(),
            },
        }
    };
    let route = matched.as_deref().unwrap_or("unknown");
    if let Some(refusal) = rest::refusal_of(&mut response) {
        let code = refusal.code().as_str();
        metrics.problems.with_label_values(&[code]).inc();
        if let Some(cause) = refusal.cause() {
            error!(%method, route, code, "a request of an OpenFaaS client failed: {cause}");
        } else {
            debug!(%method, route, code, "an OpenFaaS client is refused: {}", refusal.detail());
        }
        response = refusal.in_words();
    }
    let status = response.status();
    metrics
        .request_seconds
        .with_label_values(&[route, rest::known_method(&method), status.as_str()])
        .observe(began.elapsed().as_secs_f64());
    response
}

/// What is noted of a request, if it changes something.
fn noted(gateway: &Gateway, request: &Request) -> Option<AuditRow> {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (action, share) = match line(request.method(), route)?.noted {
        Noted::Nothing => return None,
        Noted::As(action) => (action, Share::Operators),
        Noted::InBulkAs(action) => (action, Share::Submissions),
    };
    let (who, peer) = (WHO.to_owned(), peer_of(request.extensions()).to_string());
    let subject: String = request.uri().path().chars().take(SUBJECT_MAX).collect();
    Some(AuditRow {
        share,
        who,
        peer,
        action,
        subject,
        project: Some(gateway.namespace.clone()),
        ..AuditRow::default()
    })
}

/// What a request counts as, until its answer begins.
fn class_of(method: &Method, route: &str) -> Option<Class> {
    match route {
        "/healthz" | "/system/logs" => None,
        _ if route.starts_with("/function/") || route.starts_with("/async-function/") => None,
        _ if method == Method::GET || method == Method::HEAD => Some(Class::Look),
        _ => Some(Class::Change),
    }
}

fn not_found(name: &str) -> Refusal {
    let shown: String = name.chars().take(64).collect();
    Refusal::not_found(format!("function `{shown}` not found"))
}

fn bad_request(said: impl Into<String>) -> Refusal {
    Refusal::malformed(said)
}

/// It exists in `OpenFaaS` and has no meaning here.
fn not_offered(said: &str) -> Response {
    (StatusCode::NOT_IMPLEMENTED, [(CONTENT_TYPE, "text/plain; charset=utf-8")], said.to_owned()).into_response()
}
