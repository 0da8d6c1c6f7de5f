//! Outputs of a job: what was verified and committed, and its bytes.

use super::border::store_away;
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, not_one_of, pair};
use super::shares::{Class, Peer};
use super::{App, jobs};
use crate::store::read::StoredOutput;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use framewake_proto::api::{OutputView, Page};
use framewake_proto::ids::JobId;
use framewake_proto::objects::Digest;
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;

/// List the verified, committed outputs of a job
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs", tag = "outputs",
    params(
        ("id" = JobId, Path),
        ("step" = Option<String>, Query, description = "Name of a step"),
        ("order" = Option<String>, Query, description = "`first` task first, which is the default, or `last`"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<OutputView>), Problems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<Page<OutputView>>> {
    let query = query.only(&["step", "order", "cursor", "limit"])?;
    let last_first = match query.one("order")? {
        None | Some("first") => false,
        Some("last") => true,
        Some(word) => return Err(not_one_of("order", word, &["first", "last"])),
    };
    let job = jobs::key(&app, &id).await?;
    let step = jobs::step(&job, query.one("step")?)?;
    let after = query.cursor(pair)?;
    Ok(Json(app.reader.outputs(&job, step, last_first, after, query.limit()?).await?))
}

/// Get the bytes of a task's output
///
/// Answers ranges; the entity tag is the SHA-256 of the whole.
#[utoipa::path(get, path = "/v1/jobs/{id}/outputs/{step}/{task}", tag = "outputs",
    params(
        ("id" = JobId, Path),
        ("step" = String, Path, description = "Name of the step"),
        ("task" = u32, Path, description = "Number of the task"),
        ("of" = Option<Digest>, Query, description = "The digest it must have; then the answer may be kept for ever"),
        ("range" = Option<String>, Header, description = "`bytes=100-` or another single range"),
    ),
    responses((status = 200, description = "All of it", content_type = "application/octet-stream"),
        (status = 206, description = "The range", content_type = "application/octet-stream"),
        (status = 304, description = "The caller has it already"), Problems))]
pub(super) async fn bytes(
    State(app): State<Arc<App>>,
    Path((id, step, task)): Path<(String, String, String)>,
    query: Query,
    method: Method,
    peer: Peer,
    headers: HeaderMap,
) -> Answer<Response> {
    let query = query.only(&["of"])?;
    let (_, output) = find(&app, &id, &step, &task).await?;
    let keep = how_long_kept(&query, &output)?;
    let tag = format!("\"{}\"", output.sha256);
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&tag)), (CACHE_CONTROL, keep)]).into_response());
    }
    let whole = 0..output.size_bytes;
    let range = wanted_range(&headers, &tag, output.size_bytes)?;
    let send = range.clone().unwrap_or(whole);
    let body = if method == Method::HEAD { Body::empty() } else { body(&app, peer, &output, send.clone()).await? };
    let mut response = Response::new(body);
    let head = response.headers_mut();
    if let Some(range) = &range {
        let place = format!("bytes {}-{}/{}", range.start, range.end - 1, output.size_bytes);
        head.insert(CONTENT_RANGE, header(&place));
    }
    head.insert(CONTENT_LENGTH, HeaderValue::from(send.end - send.start));
    head.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(&output.file)));
    head.insert(ETAG, header(&tag));
    head.insert(CACHE_CONTROL, keep);
    head.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let name: String =
        output.file.chars().map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' }).collect();
    head.insert(CONTENT_DISPOSITION, header(&format!("inline; filename=\"{name}\"")));
    // An output is the work of a renderer: should it be read as a page, that page may do nothing.
    head.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    *response.status_mut() = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Ok(response)
}

/// What is on record of a task's output.
pub(super) async fn find(app: &App, id: &str, step: &str, task: &str) -> Answer<(JobId, StoredOutput)> {
    let job = jobs::key(app, id).await?;
    let at = jobs::step(&job, Some(step))?.unwrap_or_default();
    let none = || Refusal::not_found(format!("task `{}` of step `{step}` has no output yet", super::query::clip(task)));
    let number: u32 = task.parse().map_err(|_| none())?;
    let output = app.reader.output(&job, at, number).await?.ok_or_else(none)?;
    Ok((job.id, output))
}

/// Whether the caller has it already.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    tags.is_some_and(|tags| tags.contains(tag) || tags == "*")
}

/// What is asked for by its digest never changes; anything else is asked for each time, and seldom sent.
pub(super) fn how_long_kept(query: &Query, output: &StoredOutput) -> Answer<HeaderValue> {
    let Some(wanted) = query.parsed::<Digest>("of", "a SHA-256 digest")? else {
        return Ok(HeaderValue::from_static("private, no-cache"));
    };
    if wanted != output.sha256 {
        return Err(Refusal::not_found(format!("the output is not {wanted}"))
            .hint("it was rendered again since: leave `of` out, or ask for its digest anew"));
    }
    Ok(HeaderValue::from_static("private, max-age=31536000, immutable"))
}

async fn body(app: &App, peer: Peer, output: &StoredOutput, range: Range<u64>) -> Answer<Body> {
    if range.is_empty() {
        return Ok(Body::empty());
    }
    let pass = app.shares.enter(Class::Transfer, peer)?;
    let found = app.objects.get(&output.key, Some(range)).await.map_err(|error| store_away(&error))?;
    let gone = || {
        Refusal::not_found(format!("the object `{}` is gone from the store", output.key))
            .hint("someone removed it there: submit the job again to render it again")
    };
    let pieces = found.ok_or_else(gone)?.into_stream();
    Ok(Body::from_stream(pieces.map(move |piece| {
        let _held = &pass;
        piece
    })))
}

/// The single range that is asked for. Others are answered with all of it, as RFC 9110 allows.
fn wanted_range(headers: &HeaderMap, tag: &str, size_bytes: u64) -> Answer<Option<Range<u64>>> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(words) = text(RANGE) else { return Ok(None) };
    if text(IF_RANGE).is_some_and(|wanted| wanted != tag) {
        return Ok(None);
    }
    let Some((first, last)) = words.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size_bytes),
        (Some(first), None) if last.is_empty() => first..size_bytes,
        (None, Some(count)) if first.is_empty() => size_bytes.saturating_sub(count)..size_bytes,
        _ => return Ok(None),
    };
    if range.is_empty() {
        let outside = Refusal::new(Code::WrongRange, format!("the output has {size_bytes} bytes"));
        return Err(outside.header(CONTENT_RANGE, header(&format!("bytes */{size_bytes}"))));
    }
    Ok(Some(range))
}

/// Of a text of ours, made of ASCII only.
pub(super) fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("visible ASCII")
}

/// Only what a browser may show without harm; the rest is bytes.
pub(crate) fn media_type(file: &str) -> &'static str {
    let extension = file.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_ascii_lowercase());
    match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "exr" => "image/x-exr",
        "tif" | "tiff" => "image/tiff",
        "webp" => "image/webp",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "mkv" => "video/x-matroska",
        "txt" | "log" | "csv" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(words: &str, size_bytes: u64) -> Result<Option<Range<u64>>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, words.parse().expect("a header"));
        wanted_range(&headers, "\"tag\"", size_bytes).map_err(|_| ())
    }

    #[test]
    fn ranges_are_those_of_http() {
        for (words, expected) in [
            ("bytes=0-9", Ok(Some(0..10))),
            ("bytes=90-", Ok(Some(90..100))),
            ("bytes=90-1000", Ok(Some(90..100))),
            ("bytes=-10", Ok(Some(90..100))),
            ("bytes=-1000", Ok(Some(0..100))),
            ("bytes=100-", Err(())),
            ("bytes=-0", Err(())),
            ("bytes=18446744073709551615-", Err(())),
            // Not a range, or several: all of it.
            ("bytes=9-0", Ok(None)),
            ("bytes=0-1,5-6", Ok(None)),
            ("bytes=a-b", Ok(None)),
            ("bytes=-", Ok(None)),
            ("lines=0-9", Ok(None)),
        ] {
            assert_eq!(range(words, 100), expected, "{words}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_all_of_this_one() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"other\""));
        assert!(matches!(wanted_range(&headers, "\"tag\"", 100), Ok(None)));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"tag\""));
        assert!(matches!(wanted_range(&headers, "\"tag\"", 100), Ok(Some(range)) if range == (5..100)));
    }
}
