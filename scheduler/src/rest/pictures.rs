//! Smaller pictures of outputs, which workers keep beside them.

use super::App;
use super::border::store_away;
use super::openapi::Problems;
use super::outputs::{find, header, how_long_kept, is_known};
use super::problem::{Answer, Refusal};
use super::query::Query;
use super::shares::{Class, Peer};
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use framewake_proto::ids::JobId;
use framewake_proto::objects::{Digest, Picture, PictureError, picture_key};
use std::sync::Arc;

/// Get a smaller picture of a task's output: a `thumbnail`, or a `preview` of light
///
/// `thumbnail` is a JPEG of at most 256 pixels a side. PNG, JPEG and EXR outputs have one; what is brighter than white in EXR is
/// white. `preview` is of EXR alone, at most 1280 pixels a side: a PNG of eight bits whose fourth channel is the exponent of the
/// other three, as in Radiance files (RGBE); a color is its byte times 2 to the power of the exponent less 136.
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs/{step}/{task}/{picture}", tag = "outputs",
    params(
        ("id" = JobId, Path),
        ("step" = String, Path, description = "Name of the step"),
        ("task" = u32, Path, description = "Number of the task"),
        ("picture" = String, Path, description = "`thumbnail` or `preview`"),
        ("of" = Option<Digest>, Query, description = "The digest the output must have; then the answer may be kept for ever"),
    ),
    responses((status = 200, description = "The picture", content((Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"))),
        (status = 304, description = "The caller has it already"), Problems))]
pub(super) async fn picture(
    State(app): State<Arc<App>>,
    Path((id, step, task, picture)): Path<(String, String, String, String)>,
    query: Query,
    peer: Peer,
    headers: HeaderMap,
) -> Answer<Response> {
    let query = query.only(&["of"])?;
    let picture: Picture = picture.parse().map_err(|error: PictureError| Refusal::not_found(error.to_string()))?;
    let (job, output) = find(&app, &id, &step, &task).await?;
    let keep = how_long_kept(&query, &output)?;
    let tag = format!("\"{}.{}\"", output.sha256, picture.as_str());
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&tag)), (CACHE_CONTROL, keep)]).into_response());
    }
    let bytes = read(&app, peer, job, &output.sha256, picture).await?;
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static(picture.media_type())),
        (ETAG, header(&tag)),
        (CACHE_CONTROL, keep),
        // A worker made it: should it be read as a page, that page may do nothing.
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
    ];
    Ok((head, bytes).into_response())
}

async fn read(app: &App, peer: Peer, job: JobId, output: &Digest, picture: Picture) -> Answer<Bytes> {
    let none = || {
        Refusal::not_found(format!("the output has no {}", picture.as_str()))
            .hint("workers make them of PNG, JPEG and EXR files, and previews of EXR alone; the output is there")
    };
    let _pass = app.shares.enter(Class::Transfer, peer)?;
    let found = app.objects.get(&picture_key(job, output, picture), None).await;
    let found = found.map_err(|error| store_away(&error))?.ok_or_else(none)?;
    // It is held whole: what is larger, no worker of ours has made.
    if found.meta.size > picture.size_max() {
        return Err(none());
    }
    found.bytes().await.map_err(|error| store_away(&error))
}
