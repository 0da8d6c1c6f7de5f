//! Tasks of a job, computed page by page.

use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, invalid, not_one_of, pair};
use super::{App, jobs};
use axum::Json;
use axum::extract::{Path, State};
use framewake_proto::api::{Page, StepMap, TaskState, TaskView};
use framewake_proto::ids::JobId;
use std::sync::Arc;

/// Most columns of a map: as many as a wide screen has points.
pub(super) const COLUMNS_MAX: u32 = 4096;
const COLUMNS_DEFAULT: u32 = 1000;

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

/// Show all tasks of a step at a glance, however many there are
///
/// In columns of one task or more: how many are done, failed and open, and how long they took.
#[utoipa::path(get, path = "/v1/jobs/{id}/steps/{step}/map", tag = "tasks",
    params(
        ("id" = JobId, Path),
        ("step" = String, Path, description = "Name of the step"),
        ("columns" = Option<u32>, Query, description = "1 to 4096, else 1000; never more than there are tasks"),
    ),
    responses((status = 200, body = StepMap), Problems))]
pub(super) async fn map(
    State(app): State<Arc<App>>,
    Path((id, step)): Path<(String, String)>,
    query: Query,
) -> Answer<Json<StepMap>> {
    let query = query.only(&["columns"])?;
    let columns = query.parsed("columns", "a whole number")?.unwrap_or(COLUMNS_DEFAULT);
    if !(1..=COLUMNS_MAX).contains(&columns) {
        return Err(invalid(format!("`columns` must be 1 to {COLUMNS_MAX}, not {columns}")));
    }
    let job = jobs::key(&app, &id).await?;
    let step = jobs::step(&job, Some(&step))?.ok_or_else(|| Refusal::not_found("a step has a name"))?;
    Ok(Json(app.reader.step_map(&job, step, columns).await?))
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
