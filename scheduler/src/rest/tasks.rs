//! Tasks of a job, computed page by page.

use super::openapi::Problems;
use super::problem::Answer;
use super::query::{Query, not_one_of, pair};
use super::{App, jobs};
use axum::Json;
use axum::extract::{Path, State};
use framewake_proto::api::{Page, TaskState, TaskView};
use framewake_proto::ids::JobId;
use std::sync::Arc;

/// List the tasks of a job, with the reason for each that failed
///
/// In the order of steps and task numbers. A task that is offered but not yet held by a worker counts as waiting.
#[utoipa::path(get, path = "/v1/jobs/{id}/tasks", tag = "tasks",
    params(
        ("id" = JobId, Path),
        ("step" = Option<String>, Query, description = "Name of a step"),
        ("state" = Option<TaskState>, Query),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<TaskView>), Problems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<Page<TaskView>>> {
    let query = query.only(&["step", "state", "cursor", "limit"])?;
    let job = jobs::key(&app, &id).await?;
    let step = jobs::step(&job, query.one("step")?)?;
    let state = query.one("state")?.map(task_state).transpose()?;
    let from = query.cursor(pair::<usize, u32>)?.unwrap_or((0, 0));
    Ok(Json(app.reader.tasks(&job, step, state, from, query.limit()?).await?))
}

fn task_state(word: &str) -> Answer<TaskState> {
    match word {
        "waiting" => Ok(TaskState::Waiting),
        "open" => Ok(TaskState::Open),
        "done" => Ok(TaskState::Done),
        "failed" => Ok(TaskState::Failed),
        "canceled" => Ok(TaskState::Canceled),
        _ => Err(not_one_of("state", word, &["waiting", "open", "done", "failed", "canceled"])),
    }
}
