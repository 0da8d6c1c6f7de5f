//! GPUs, as they are now.

use super::App;
use super::openapi::Problems;
use super::problem::Answer;
use super::query::Query;
use axum::Json;
use axum::extract::State;
use framewake_proto::api::{GpuState, Page};
use framewake_proto::time::Timestamp;
use std::sync::Arc;

/// List what the GPUs that workers have do now, by id
#[utoipa::path(get, path = "/v1/gpus", tag = "workers",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<GpuState>), Problems))]
pub(super) async fn gpus(State(app): State<Arc<App>>, query: Query) -> Answer<Json<Page<GpuState>>> {
    let query = query.only(&["cursor", "limit"])?;
    let after = query.cursor(|text| Some(text.to_owned()))?;
    let limit = query.limit()? as usize;
    let mut gpus = app.metrics.gpus.list(after.as_deref(), limit + 1, Timestamp::now());
    let next = (gpus.len() > limit).then(|| gpus[limit - 1].uuid.clone());
    gpus.truncate(limit);
    Ok(Json(Page { items: gpus, next }))
}
