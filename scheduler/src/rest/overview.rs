//! The farm at a glance. It is made at most twice a second, whoever looks: hundreds of screens on walls cost what one costs.

use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::{App, jobs};
use crate::access::Caller;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use framewake_proto::api::JobState;
use framewake_proto::ids::Name;
use framewake_proto::overview::{JobGlance, JobsGlance, OverviewView, WaitingJob};
use framewake_proto::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old a view may be that is given to others.
const FRESH_FOR: Duration = Duration::from_millis(400);
/// Projects whose views are kept; with more, all are made anew.
const VIEWS_KEPT_MAX: usize = 64;
/// Jobs of a state that are shown, and how far they are counted.
const JOBS_SHOWN_MAX: u32 = 12;
const JOBS_COUNTED_MAX: u32 = 1000;
/// Jobs of which it is said why they wait, and sentences about each.
const WAITING_SHOWN_MAX: usize = 6;
const REASONS_SHOWN_MAX: usize = 3;
/// Errors that are shown, causes of tries that failed, how far back they are looked for, and how much of what was said.
const ERRORS_SHOWN_MAX: u32 = 10;
const TRIES_SHOWN_MAX: u32 = 12;
const ERRORS_WITHIN: Duration = Duration::from_hours(1);
const MESSAGE_CHARS_MAX: usize = 300;

/// Views that were made just now; of each project, and (`None`) of all.
#[derive(Debug, Default)]
pub(super) struct Glances(Mutex<HashMap<Option<Name>, (Instant, Bytes)>>);

/// Show the farm at a glance: what runs, what waits and why, workers, GPUs, errors of the last hour
///
/// Bounded, however large the farm is, and at most half a second old.
#[utoipa::path(get, path = "/v1/overview", tag = "overview", responses((status = 200, body = OverviewView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, caller: Caller) -> Answer<Response> {
    let only = caller.only().cloned();
    // Held while it is made: those who come meanwhile get the same.
    let mut kept = app.glances.0.lock().await;
    if let Some((made, view)) = kept.get(&only)
        && made.elapsed() < FRESH_FOR
    {
        return Ok(answer(view.clone()));
    }
    let view = look(&app, only.as_ref()).await?;
    let view = Bytes::from(serde_json::to_vec(&view).map_err(|error| Refusal::internal(&error))?);
    if kept.len() >= VIEWS_KEPT_MAX {
        kept.clear();
    }
    kept.insert(only, (Instant::now(), view.clone()));
    Ok(answer(view))
}

fn answer(view: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], view).into_response()
}

async fn look(app: &App, only: Option<&Name>) -> Answer<OverviewView> {
    let now = Timestamp::now();
    let project = only.map(Name::as_str);
    let crowd = app.handle.crowd().await.map_err(|error| jobs::refused(&error, None))?;
    let running = in_state(app, JobState::Running, project).await?;
    let queued = in_state(app, JobState::Queued, project).await?;
    let paused = in_state(app, JobState::Paused, project).await?;
    let with_waiting = running.newest.iter().filter(|job| job.tasks.waiting > 0);
    let mut waiting = Vec::new();
    for job in queued.newest.iter().take(WAITING_SHOWN_MAX / 2).chain(with_waiting).take(WAITING_SHOWN_MAX) {
        waiting.push(explained(app, job, only.is_some()).await?);
    }
    let since = Timestamp(now.0.saturating_sub(i64::try_from(ERRORS_WITHIN.as_millis()).unwrap_or(i64::MAX)));
    let (mut errors, errors_more) = app.reader.errors_since(since, project, ERRORS_SHOWN_MAX).await?;
    let (mut tries, tries_more) = app.reader.tries_since(since, project, TRIES_SHOWN_MAX).await?;
    for message in
        errors.iter_mut().map(|error| &mut error.message).chain(tries.iter_mut().map(|tries| &mut tries.message))
    {
        *message = message.chars().take(MESSAGE_CHARS_MAX).collect();
    }
    Ok(OverviewView {
        at: now,
        running,
        queued,
        paused,
        waiting,
        workers: crowd.workers,
        functions: crowd.functions,
        functions_left_out: crowd.functions_left_out,
        // At nothing yet, and so everybody's.
        starting: crowd.starting,
        gpus: app.metrics.gpus.by_model(now),
        errors,
        errors_more,
        tries,
        tries_more,
    })
}

async fn in_state(app: &App, state: JobState, project: Option<&str>) -> Answer<JobsGlance> {
    let count = app.reader.count_jobs(state, project, JOBS_COUNTED_MAX + 1).await?;
    let newest = app.reader.job_glances(state, project, JOBS_SHOWN_MAX).await?;
    Ok(JobsGlance { count: count.min(JOBS_COUNTED_MAX), more: count > JOBS_COUNTED_MAX, newest })
}

async fn explained(app: &App, glance: &JobGlance, own_alone: bool) -> Answer<WaitingJob> {
    let Json(job) = jobs::view(app, glance.id).await?;
    let mut reasons: Vec<String> = jobs::why_waiting(app, &job, own_alone).await?.into_iter().flatten().collect();
    reasons.truncate(REASONS_SHOWN_MAX);
    Ok(WaitingJob { id: glance.id, name: glance.name.clone(), tasks: glance.tasks.waiting, reasons })
}
