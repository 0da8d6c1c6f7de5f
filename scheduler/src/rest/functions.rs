//! Functions: add versions, list them.

use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip};
use super::{App, audit, jobs, schema};
use crate::access::Caller;
use crate::engine::Added;
use crate::store::read::StoredFunction;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use framewake_core::scale::keep::Window;
use framewake_proto::api::{FunctionView, Page, ScalingView};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, FunctionRef, nearest};
use framewake_proto::job::JOB_SIZE_MAX;
use framewake_proto::scaling::ScalingExplained;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// List functions with all their versions
#[utoipa::path(get, path = "/v1/functions", tag = "functions",
    params(
        ("name" = Option<String>, Query, description = "Versions of this function only"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<FunctionView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, query: Query) -> Answer<Json<Page<FunctionView>>> {
    let query = query.only(&["name", "cursor", "limit"])?;
    let after = query.cursor(|text| text.parse::<FunctionKey>().ok())?;
    let after = after.as_ref().map(|key| (key.name.as_str(), key.version));
    let page = app.reader.functions(query.one("name")?, after, query.limit()?).await?;
    let scaling = scaling(&app).await?;
    let items = page.items.into_iter().map(|function| view(&app, &scaling, function));
    Ok(Json(Page { items: items.collect(), next: page.next }))
}

/// Show the newest version of a function, or the one that is named: `blender@3`
#[utoipa::path(get, path = "/v1/functions/{name}", tag = "functions",
    params(("name" = String, Path, description = "`blender` or `blender@3`")),
    responses((status = 200, body = FunctionView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer<Json<FunctionView>> {
    let wanted: Option<FunctionRef> = name.parse().ok();
    let found = match &wanted {
        Some(wanted) => app.reader.function(wanted.name.as_str(), wanted.version).await?,
        None => None,
    };
    let found = found.ok_or_else(|| unknown(&app, &name))?;
    let candidates = app.reader.candidates(&found.key).await?;
    Ok(Json(FunctionView { candidates, ..view(&app, &scaling(&app).await?, found) }))
}

/// Say why a function has the workers it has: the decision and everything that went into it
#[utoipa::path(get, path = "/v1/functions/{name}/scaling", tag = "functions",
    params(("name" = String, Path, description = "`blender` or `blender@3`")),
    responses((status = 200, body = ScalingExplained), Problems))]
pub(super) async fn explain_scaling(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer<Json<ScalingExplained>> {
    let wanted: Option<FunctionRef> = name.parse().ok();
    let functions = app.handle.functions();
    let found = wanted.and_then(|wanted| {
        let (version, _) = functions.find(&wanted)?;
        Some(FunctionKey { name: wanted.name, version })
    });
    let key = found.ok_or_else(|| unknown(&app, &name))?;
    let explained = app.handle.explain_scaling(key).await.map_err(|error| jobs::refused(&error, None))?;
    let mut explained = explained.ok_or_else(|| unknown(&app, &name))?;
    if caller.only().is_some() {
        // Names of schedules, of whatever project.
        explained.runs.clear();
    }
    Ok(Json(*explained))
}

fn unknown(app: &App, name: &str) -> Refusal {
    let functions = app.handle.functions();
    let known: Vec<&str> = functions.functions.keys().map(framewake_proto::ids::Name::as_str).collect();
    let hint = match nearest(&clip(name), known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none yet: `framewake functions add FILE` adds one".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    };
    Refusal::not_found(format!("there is no function `{}`", clip(name))).hint(hint)
}

/// Add a version of a function
///
/// The newest version's text again adds none. Where images are scanned, a version with an image is active once its scan has
/// passed; until then the one before stays the newest. The text of a version that was kept out, sent again, has it scanned again.
#[utoipa::path(post, path = "/v1/functions", tag = "functions",
    request_body(description = "The function, as JSON or YAML",
        content((FunctionSpec = "application/json"), (FunctionSpec = "application/yaml"))),
    responses((status = 201, description = "A new version", body = FunctionView),
        (status = 200, description = "The newest version is the same", body = FunctionView),
        (status = 202, description = "A version that is active once the scan of its image has passed", body = FunctionView), Problems))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<FunctionView>)> {
    let spec: FunctionSpec = body::take(&headers, body, JOB_SIZE_MAX, &schema::FUNCTION).await?;
    let mut faults = spec.faults();
    faults.extend(Window::faults(&spec));
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    let before = app.handle.functions();
    if let Some((version, spec)) = before.newest(&spec.name) {
        audit::note_before(&json!({"name": spec.name, "version": version, "spec": **spec}));
    }
    let Added { key, active } = app.handle.add_function(spec).await.map_err(|error| jobs::refused(&error, None))?;
    let status = match before.get(&key) {
        Some(_) => StatusCode::OK,
        None if active => StatusCode::CREATED,
        None => StatusCode::ACCEPTED,
    };
    let stored = app.reader.function(key.name.as_str(), Some(key.version)).await?;
    let stored = stored.ok_or_else(|| unknown(&app, &key.to_string()))?;
    Ok((status, Json(view(&app, &scaling(&app).await?, stored))))
}

type Scaling = BTreeMap<FunctionKey, ScalingView>;

async fn scaling(app: &App) -> Answer<Scaling> {
    let scaling = app.handle.scaling().await.map_err(|error| jobs::refused(&error, None))?;
    Ok(scaling.into_iter().collect())
}

fn view(app: &App, scaling: &Scaling, function: StoredFunction) -> FunctionView {
    let StoredFunction { key, spec, added_at, scan } = function;
    let active = scan.as_ref().is_none_or(|scan| scan.state.is_active());
    let newest = active && app.handle.functions().newest(&key.name).is_none_or(|(version, _)| version <= key.version);
    let workers = scaling.get(&key).cloned().unwrap_or_default();
    FunctionView { name: key.name, version: key.version, newest, spec, workers, added_at, scan, candidates: Vec::new() }
}
