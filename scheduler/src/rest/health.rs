//! Whether the scheduler lives, whether it is ready, and what it counts.

use super::App;
use super::openapi::Problems;
use super::problem::Answer;
use crate::access::Caller;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use framewake_proto::api::{Problem, Readiness};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// How long the last probe of the object store is believed: a probe writes an object.
const PROBE_BELIEVED: Duration = Duration::from_secs(20);
/// Longest wait for an answer of the engine.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// The kind of page that can hold exemplars.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// In the place of a reason.
const TOLD_WHO_ASKS: &str = "not well; why, is told with a token";

/// What the object store said last, and when.
#[derive(Debug, Default)]
pub(super) struct LastProbe(Mutex<Option<(Instant, String)>>);

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Whether the scheduler can do its work, and each part that can't
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready", body = Readiness),
        (status = 429, description = "This client asks more at once than one may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not ready: `parts` says why; or too many ask at once",
            content((Readiness = "application/json"), (Problem = "application/problem+json")))))]
pub(super) async fn ready(
    State(app): State<Arc<App>>,
    caller: Option<Extension<Caller>>,
) -> (StatusCode, Json<Readiness>) {
    let health = app.handle.health();
    let engine = match timeout(ENGINE_TIMEOUT, app.handle.scaling()).await {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("did not answer within {} s", ENGINE_TIMEOUT.as_secs()),
    };
    let reports = if health.drained || !health.nats.is_empty() { "" } else { "reports that waited are being counted" };
    let database = app.reader.project_weight("default").await;
    let mut parts = BTreeMap::from([
        ("database".to_owned(), database.err().map_or(String::new(), |error| Chain(&error).to_string())),
        ("engine".to_owned(), engine),
        ("nats".to_owned(), health.nats),
        ("objects".to_owned(), objects(&app).await),
        ("reports".to_owned(), reports.to_owned()),
    ]);
    let ready = parts.values().all(String::is_empty);
    // One that is away is told, and must not take the scheduler from those who use the others.
    if caller.is_some() {
        parts.extend(health.pools.into_iter().map(|(pool, trouble)| (format!("pool {pool}"), trouble)));
    } else {
        // What pools there are is nobody's who shows no token.
        let trouble = health.pools.into_values().find(|trouble| !trouble.is_empty());
        parts.insert("pools".to_owned(), trouble.unwrap_or_default());
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut store = app.objects.address().to_string();
    if caller.is_none() {
        // Probes need no reasons, and reasons have addresses in them.
        store.clear();
        for said in parts.values_mut().filter(|said| !said.is_empty()) {
            TOLD_WHO_ASKS.clone_into(said);
        }
    }
    (status, Json(Readiness { ready, parts, version: env!("CARGO_PKG_VERSION").to_owned(), store }))
}

/// What is wrong with the object store; one probe at a time, and rarely.
async fn objects(app: &App) -> String {
    let mut last = app.probe.0.lock().await;
    if let Some((at, said)) = last.as_ref()
        && at.elapsed() < PROBE_BELIEVED
    {
        return said.clone();
    }
    let said = match app.objects.probe().await {
        Ok(()) => String::new(),
        Err(error) => {
            warn!("the object store is not well: {}", Chain(&error));
            Chain(&error).to_string()
        }
    };
    *last = Some((Instant::now(), said.clone()));
    said
}

/// What the scheduler counts, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text format; OpenMetrics with exemplars for who accepts it, where traces are on",
        content((String = "text/plain"), (String = "application/openmetrics-text"))), Problems))]
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer<impl IntoResponse> {
    let parts = &app.metrics.parts;
    parts.engine_inbox_events.set(i64::try_from(app.handle.backlog()).unwrap_or(i64::MAX));
    parts.nats_connected.set(i64::from(app.handle.health().nats.is_empty()));
    for (file, bytes) in app.reader.files() {
        parts.store_bytes.with_label_values(&[file]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    // A stuck engine must not take its own metrics away.
    if let Ok(Ok(loads)) = timeout(ENGINE_TIMEOUT, app.handle.loads()).await {
        app.metrics.farm.set_loads(&loads);
        app.metrics.cost.set_budgets(&loads.budgets);
    }
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let open = accepts.contains(OPEN_METRICS).then(|| app.metrics.open_text(Timestamp::now())).flatten();
    Ok(match open {
        Some(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text),
        None => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.text(Timestamp::now())),
    })
}
