//! Workers, as they are now, and how they came.

use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, not_one_of};
use super::{App, door, jobs};
use crate::access::Caller;
use crate::engine::glance::WorkerQuery;
use crate::engine::starts;
use axum::Json;
use axum::extract::{Path, State};
use framewake_proto::api::{Page, WorkerState, WorkerView};
use framewake_proto::ids::Name;
use framewake_proto::start::WorkerStart;
use std::sync::Arc;

/// List the workers there are, by name
#[utoipa::path(get, path = "/v1/workers", tag = "workers",
    params(
        ("state" = Option<WorkerState>, Query),
        ("function" = Option<String>, Query, description = "`blender` or `blender@3`"),
        ("pool" = Option<String>, Query, description = "Only those that were started in this one"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<WorkerView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<WorkerView>>> {
    let query = query.only(&["state", "function", "pool", "cursor", "limit"])?;
    let limit = query.limit()? as usize;
    let wanted = WorkerQuery {
        after: query.cursor(|text| text.parse::<Name>().ok())?,
        limit: limit + 1,
        state: query.one("state")?.map(worker_state).transpose()?,
        function: query.parsed("function", "a function, as `blender` or `blender@3`")?,
        pool: query.parsed("pool", "the name of a pool")?,
    };
    let workers = app.handle.workers(wanted).await;
    let mut workers = workers.map_err(|error| jobs::refused(&error, None))?;
    let next = (workers.len() > limit).then(|| workers[limit - 1].id.to_string());
    workers.truncate(limit);
    if let Some(only) = caller.only() {
        // Machines are everybody's; what they are at is not.
        for worker in &mut workers {
            if let Some(job) = worker.job
                && !door::is_of(&app, job, only).await?
            {
                (worker.job, worker.attempt, worker.permille) = (None, None, 0);
                worker.note.clear();
            }
        }
    }
    Ok(Json(Page { items: workers, next }))
}

fn worker_state(word: &str) -> Answer<WorkerState> {
    match word {
        "starting" => Ok(WorkerState::Starting),
        "idle" => Ok(WorkerState::Idle),
        "busy" => Ok(WorkerState::Busy),
        "draining" => Ok(WorkerState::Draining),
        _ => Err(not_one_of("state", word, &["starting", "idle", "busy", "draining"])),
    }
}

/// Show how a worker came: from the wish for one to its first frame, point after point
///
/// Of those that are here and of the last 10,000 in all.
#[utoipa::path(get, path = "/v1/workers/{id}/start", tag = "workers",
    params(("id" = String, Path, description = "As in the list of workers, or in a job's attempts")),
    responses((status = 200, body = WorkerStart), Problems))]
pub(super) async fn start(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<WorkerStart>> {
    let unknown = || {
        let clipped: String = id.chars().take(200).collect();
        let refusal = Refusal::not_found(format!("there is no worker `{clipped}`, and was none lately"));
        refusal.hint("GET /v1/workers lists those that are here")
    };
    let worker: Name = id.parse().map_err(|_| unknown())?;
    let here = app.handle.worker_start(worker.clone()).await.map_err(|error| jobs::refused(&error, None))?;
    let start = match here {
        Some(start) => start,
        None => app.reader.start(&worker).await?.map(starts::view).ok_or_else(unknown)?,
    };
    Ok(Json(start))
}
