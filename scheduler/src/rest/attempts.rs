//! Attempts of a job: who tried what, and how it ended.

use super::openapi::Problems;
use super::problem::Answer;
use super::query::{Order, Query, pair};
use super::{App, jobs};
use axum::Json;
use axum::extract::{Path, State};
use framewake_proto::api::{AttemptView, Page};
use framewake_proto::ids::JobId;
use std::sync::Arc;

/// List the attempts of a job, in the order they were made or from the newest on
#[utoipa::path(get, path = "/v1/jobs/{id}/attempts", tag = "attempts",
    params(
        ("id" = JobId, Path),
        ("step" = Option<String>, Query, description = "Name of a step"),
        ("order" = Option<String>, Query, description = "`oldest` first, which is the default, or `newest`"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<AttemptView>), Problems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<Page<AttemptView>>> {
    let query = query.only(&["step", "order", "cursor", "limit"])?;
    let job = jobs::key(&app, &id).await?;
    let step = jobs::step(&job, query.one("step")?)?;
    let after = query.cursor(pair)?;
    let newest_first = query.order()?.unwrap_or(Order::Oldest) == Order::Newest;
    Ok(Json(app.reader.attempts(&job, step, newest_first, after, query.limit()?).await?))
}
