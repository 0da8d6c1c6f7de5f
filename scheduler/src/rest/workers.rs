//! Workers, as they are now.

use super::openapi::Problems;
use super::problem::Answer;
use super::query::Query;
use super::{App, door, jobs};
use crate::access::Caller;
use axum::Json;
use axum::extract::State;
use framewake_proto::api::{Page, WorkerView};
use framewake_proto::ids::Name;
use std::sync::Arc;

/// List the workers there are, by name
#[utoipa::path(get, path = "/v1/workers", tag = "workers",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<WorkerView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<WorkerView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let after = query.cursor(|text| text.parse::<Name>().ok())?;
    let limit = query.limit()? as usize;
    let workers = app.handle.workers(after, limit + 1).await;
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
