//! Who is told of what: targets, a test of each, and what could not be delivered.

use super::audit::OfProject;
use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip};
use super::{App, jobs, narrow, schema};
use crate::access::Caller;
use crate::engine::handle::InPlaceOf;
use crate::notify;
use crate::store::read::TargetState;
use crate::target_table::Target;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_proto::api::Page;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{Name, NameError};
use framewake_proto::job::{Fault, JOB_SIZE_MAX};
use framewake_proto::notify::{DeadView, Notice, TargetChange, TargetSpec, TargetStored, TargetTried, TargetView};
use framewake_proto::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use ulid::Ulid;

/// List targets, by name
#[utoipa::path(get, path = "/v1/notifications/targets", tag = "notifications",
    responses((status = 200, body = Page<TargetView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Answer<Json<Page<TargetView>>> {
    let mut states = app.reader.target_states().await?;
    let targets = app.handle.targets();
    let seen = targets.iter().filter(|target| match &target.spec.project {
        Some(project) => caller.sees(project),
        None => caller.only().is_none(),
    });
    let views = seen.map(|target| view_of(&app, target, states.remove(&target.id).unwrap_or_default()));
    // There are never more than a page has room for.
    Ok(Json(Page { items: views.collect(), next: None }))
}

/// Add a target
///
/// Its secrets are stored and never shown again.
#[utoipa::path(post, path = "/v1/notifications/targets", tag = "notifications", request_body = TargetSpec,
    responses((status = 201, description = "Stored and durable", body = TargetStored),
        (status = 200, description = "The same was there", body = TargetStored), Problems))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let spec = read(&headers, body).await?;
    store(&app, &caller, spec, InPlaceOf::Nothing).await
}

/// Add a target, or put it in the place of the one of its name
#[utoipa::path(put, path = "/v1/notifications/targets/{name}", tag = "notifications", params(("name" = Name, Path)),
    request_body = TargetSpec,
    responses((status = 201, description = "Stored and durable", body = TargetStored),
        (status = 200, description = "Changed, or the same was there", body = TargetStored), Problems))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(wanted): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let wanted = name(&wanted)?;
    let spec = read(&headers, body).await?;
    if spec.name != wanted {
        let reason = format!("`{}` is not `{wanted}`, which the address names", spec.name);
        return Err(Refusal::faults(vec![Fault::new("/name", reason)]));
    }
    let over = InPlaceOf::seen_by(caller.only());
    store(&app, &caller, spec, over).await
}

async fn read(headers: &HeaderMap, body: Body) -> Answer<TargetSpec> {
    body::take(headers, body, JOB_SIZE_MAX, &schema::TARGET).await
}

async fn store(app: &Arc<App>, caller: &Caller, mut spec: TargetSpec, over: InPlaceOf) -> Answer<Response> {
    if let Some(only) = caller.only() {
        narrow::fit(caller, spec.project.get_or_insert_with(|| only.clone()))?;
    }
    let project = spec.project.clone().map(|project| Extension(OfProject(project)));
    let faults = notify::faults(&spec, &app.ways);
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    let name = spec.name.clone();
    let change = app.handle.put_target(spec, over).await.map_err(|error| jobs::refused(&error, None))?;
    let status = match change {
        TargetChange::Created => StatusCode::CREATED,
        TargetChange::Changed | TargetChange::Unchanged => StatusCode::OK,
    };
    let at = format!("/v1/notifications/targets/{name}");
    let Json(target) = view(app, &name).await?;
    let answer = (status, [(LOCATION, at)], Json(TargetStored { change, target })).into_response();
    Ok(match project {
        Some(project) => (project, answer).into_response(),
        None => answer,
    })
}

/// Show a target and how it fares
#[utoipa::path(get, path = "/v1/notifications/targets/{name}", tag = "notifications", params(("name" = Name, Path)),
    responses((status = 200, body = TargetView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<Json<TargetView>> {
    view(&app, &name(&wanted)?).await
}

/// Remove a target, with everything that waits for it
#[utoipa::path(delete, path = "/v1/notifications/targets/{name}", tag = "notifications", params(("name" = Name, Path)),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<StatusCode> {
    app.handle.remove_target(name(&wanted)?).await.map_err(|error| jobs::refused(&error, None))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tell a target something at once, as a test, and say how it went
#[utoipa::path(post, path = "/v1/notifications/targets/{name}/test", tag = "notifications", params(("name" = Name, Path)),
    responses((status = 200, body = TargetTried), Problems))]
pub(super) async fn test(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<Json<TargetTried>> {
    let target = find(&app, &name(&wanted)?)?;
    let notice = Notice::Test { target: target.spec.name.clone() };
    let id = Ulid::generate().to_string();
    let sent = app.ways.send(&target.spec, &id, &notice, Timestamp::now()).await;
    let reason = sent.as_ref().err().map(|error| Chain(error).to_string()).unwrap_or_default();
    Ok(Json(TargetTried { delivered: sent.is_ok(), reason }))
}

/// List notifications that were given up, newest first
#[utoipa::path(get, path = "/v1/notifications/dead", tag = "notifications",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<DeadView>), Problems))]
pub(super) async fn dead(State(app): State<Arc<App>>, query: Query) -> Answer<Json<Page<DeadView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let (before, limit) = (query.cursor(|text| text.parse::<i64>().ok())?, query.limit()?);
    Ok(Json(app.reader.dead_notices(before, limit).await?))
}

/// Try a notification again that was given up
#[utoipa::path(post, path = "/v1/notifications/dead/{id}/resend", tag = "notifications",
    params(("id" = String, Path, description = "ULID of the notification")),
    responses((status = 202, description = "It waits to be delivered"), Problems))]
pub(super) async fn resend(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<StatusCode> {
    app.handle.resend(clip(&id)).await.map_err(|error| jobs::refused(&error, None))?;
    Ok(StatusCode::ACCEPTED)
}

async fn view(app: &App, name: &Name) -> Answer<Json<TargetView>> {
    let target = find(app, name)?;
    let state = app.reader.target_states().await.map(|mut states: HashMap<_, _>| states.remove(&target.id))?;
    Ok(Json(view_of(app, &target, state.unwrap_or_default())))
}

fn view_of(app: &App, target: &Target, state: TargetState) -> TargetView {
    let spec = &target.spec;
    TargetView {
        name: spec.name.clone(),
        way: spec.way.as_str().to_owned(),
        address: spec.shown_address(app.ways.farm().as_str()),
        on: spec.on.clone(),
        project: spec.project.clone(),
        waiting: state.waiting,
        dead: state.dead,
        delivered_at: state.delivered_at,
        failed_at: state.failed_at,
        failure: state.failure,
    }
}

fn find(app: &App, name: &Name) -> Answer<Target> {
    let found = app.handle.targets().get(name).cloned();
    found.ok_or_else(|| jobs::refused(&crate::engine::Refused::NoTarget(name.clone()), None))
}

fn name(text: &str) -> Answer<Name> {
    text.parse().map_err(|error: NameError| Refusal::not_found(error.to_string()))
}
