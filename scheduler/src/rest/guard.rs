//! What every request passes: its id, its time, the bound on how many there are, and who may ask at all.

use super::App;
use super::problem::{self, Code, Refusal};
use super::shares::{Class, peer_of};
use crate::access::{HostName, is_ours, name_in};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, STRICT_TRANSPORT_SECURITY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info_span, warn};
use ulid::Ulid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LEN_MAX: usize = 64;
/// Longest time until an answer begins; the longest honest one is an upload's last piece on its way to the store.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(150);

/// What a request is called, in answers, logs and notes.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Outermost: names the request, bounds it, and writes the body of a refusal.
pub(super) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = info_span!("request", request.id = id, %method, route);
    let entered = class_of(&method, &route).map(|class| app.shares.enter(class, peer_of(request.extensions())));
    let mut response = match entered.transpose() {
        Err(refusal) => refusal.into_response(),
        Ok(_pass) => match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request).instrument(span)).await {
            Ok(response) => response,
            Err(_) => Refusal::new(Code::Unavailable, "the scheduler did not get to it in time").into_response(),
        },
    };
    if let Some(refusal) = refusal_of(&mut response) {
        let code = refusal.code().as_str();
        app.metrics.parts.problems.with_label_values(&[code]).inc();
        if let Some(cause) = refusal.cause() {
            error!(request.id = id, %method, route, code, "request {id} failed: {cause}");
        } else {
            debug!(request.id = id, %method, route, code, "request {id} refused: {}", refusal.detail());
        }
        // Headers that a router has set, `Allow` for one, belong to the answer.
        let headers = std::mem::take(response.headers_mut());
        response = problem::finish(refusal, &id);
        for (name, value) in headers.iter().filter(|(name, _)| *name == axum::http::header::ALLOW) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    // No page of others shows what is answered here, unless it is allowed to ask for it.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    if app.certificate.is_some() {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    let elapsed = started.elapsed().as_secs_f64();
    let method = known_method(&method);
    app.metrics.parts.request_seconds.with_label_values(&[&route, method, response.status().as_str()]).observe(elapsed);
    response
}

/// What a request counts as, until its answer begins.
fn class_of(method: &Method, route: &str) -> Option<Class> {
    match (method, route) {
        // A probe of the process itself must not wait behind the requests it is about.
        (_, "/healthz") => None,
        (_, "/readyz" | "/metrics") => Some(Class::Probe),
        (&Method::PATCH, "/v1/inputs/{digest}") => Some(Class::Transfer),
        // By whoever reaches the address, and slowly: a body comes within a minute, a provider answers within seconds.
        (&Method::POST, "/v1/session") | (_, "/v1/session/oidc" | "/v1/session/oidc/callback") => Some(Class::Login),
        (&Method::GET | &Method::HEAD, _) => Some(Class::Look),
        (_, _) => Some(Class::Change),
    }
}

/// Methods are the client's words; only those we know become label values.
pub(crate) fn known_method(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    }
}

/// A refusal of ours, or one made of an error that a library answered in its own words.
fn refusal_of(response: &mut Response) -> Option<Refusal> {
    if let Some(refusal) = problem::refusal_of(response) {
        return Some(refusal);
    }
    let status = response.status();
    let ours = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Refusal::not_found("there is nothing at this address"),
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(Code::TooLarge, "the body is too large"),
        _ if status.is_client_error() => Refusal::new(Code::InvalidQuery, "the request's address can't be read"),
        _ => Refusal::new(Code::Internal, "the scheduler could not carry out the request"),
    })
}

/// The caller's id, if it is one that can stand in a log line, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_LEN_MAX && id.chars().all(good) => id.to_owned(),
        Some(_) | None => Ulid::generate().to_string(),
    }
}

/// The answer when a handler panics. The panic itself is in the log already, with its place.
pub(crate) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    warn!("a request's handler panicked");
    Refusal::new(Code::Internal, "the scheduler could not carry out the request; its log has the reason")
        .into_response()
}

/// A browser sends what a page of another site asks; without tokens, that page would act as the user.
pub(crate) fn cross_origin() -> Response {
    Refusal::new(Code::CrossOrigin, "a page of another site may not change anything here").into_response()
}

/// Where nobody is asked who they are, another name than ours is a page that had its name point here (DNS rebinding).
pub(super) async fn only_our_names(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    // A whole address as the target counts before the header.
    let named = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, None, _) => Some(""),
        (None, Some(host), None) => host.to_str().ok(),
        (_, _, Some(_)) => None,
    };
    if named.is_some_and(|host| is_ours(host, &app.names)) {
        return next.run(request).await;
    }
    let ours: Vec<&str> = ["localhost"].into_iter().chain(app.names.iter().map(HostName::as_str)).collect();
    let detail = format!("this scheduler answers under IP addresses and `{}` only", ours.join("`, `"));
    let name = named.map(name_in).and_then(|name| name.parse::<HostName>().ok());
    let refusal = Refusal::new(Code::CrossOrigin, detail);
    match name {
        Some(name) => refusal.hint(format!("for `{0}` start it with `--names {0}`", name.as_str())),
        None => refusal,
    }
    .into_response()
}
