//! Attempts of a job, and their logs.

use super::border::store_away;
use super::events::stream_permit;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip, pair};
use super::{App, jobs};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use framewake_proto::api::{AttemptView, Page};
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::objects::log_key;
use futures::StreamExt;
use std::sync::Arc;

/// List the attempts of a job, in the order they were made
#[utoipa::path(get, path = "/v1/jobs/{id}/attempts", tag = "attempts",
    params(
        ("id" = JobId, Path),
        ("step" = Option<String>, Query, description = "Name of a step"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<AttemptView>), Problems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<Page<AttemptView>>> {
    let query = query.only(&["step", "cursor", "limit"])?;
    let job = jobs::key(&app, &id).await?;
    let step = jobs::step(&job, query.one("step")?)?;
    let after = query.cursor(pair)?;
    Ok(Json(app.reader.attempts(&job, step, after, query.limit()?).await?))
}

/// Get the log of an attempt
///
/// Plain text, as the renderer wrote it. With `follow`, what comes is sent until the attempt ends.
#[utoipa::path(get, path = "/v1/jobs/{id}/attempts/{attempt}/log", tag = "attempts",
    params(
        ("id" = JobId, Path),
        ("attempt" = String, Path, description = "`17.2`"),
        ("follow" = Option<bool>, Query, description = "Go on until the attempt ends"),
    ),
    responses((status = 200, description = "The log", body = String, content_type = "text/plain"), Problems))]
pub(super) async fn log(
    State(app): State<Arc<App>>,
    Path((id, attempt)): Path<(String, String)>,
    query: Query,
) -> Answer<Response> {
    let query = query.only(&["follow"])?;
    let follow: bool = query.parsed("follow", "`true` or `false`")?.unwrap_or(false);
    let job = jobs::key(&app, &id).await?;
    let none = || Refusal::not_found(format!("job {} has no attempt `{}`", job.id, clip(&attempt)));
    let number: AttemptId = attempt.parse().map_err(|_| none())?;
    let view = app.reader.attempt(&job, number).await?.ok_or_else(none)?;
    let permit = stream_permit(&app)?;
    let stored = app.objects.get(&log_key(job.id, number), None).await.map_err(|error| store_away(&error))?;
    let _ = follow;
    match stored {
        Some(stored) => {
            let pieces = stored.into_stream().map(move |piece| {
                let _held = &permit;
                piece
            });
            Ok(text(Body::from_stream(pieces)))
        }
        None if view.has_log => Err(Refusal::not_found("gone")),
        None => Ok(text(Body::empty())),
    }
}

fn text(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}
