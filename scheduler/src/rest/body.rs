//! Bodies at the border: bounded first, then their syntax, then each field, everything that is wrong at once.

use super::faults;
use super::problem::{Answer, Code, Refusal};
use super::schema::BodySchema;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Longest time a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// By the content type. Without one nothing is guessed: a page of another site can send text, not JSON.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Format> {
        check_unpacked(headers)?;
        let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "application/json" => Ok(Format::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Format::Yaml),
            _ => {
                let said = if media.is_empty() {
                    "no content type is given".to_owned()
                } else {
                    format!("`{media}` is not understood here")
                };
                let hint = "send `content-type: application/json` or `application/yaml`";
                Err(Refusal::new(Code::UnsupportedMedia, said).hint(hint))
            }
        }
    }
}

/// Refuses a packed body: it would be taken for what it is not, and what it unfolds to has no bound.
pub(super) fn check_unpacked(headers: &HeaderMap) -> Answer<()> {
    if headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding == "identity") {
        return Ok(());
    }
    let hint = "send it as it is, without `content-encoding`";
    Err(Refusal::new(Code::UnsupportedMedia, "packed bodies are not unpacked here").hint(hint))
}

/// What a body of at most `size_bytes_max` says.
pub(super) async fn take<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    size_bytes_max: usize,
    schema: &BodySchema,
) -> Answer<T> {
    let format = Format::of(headers)?;
    let bytes = read(headers, body, size_bytes_max).await?;
    parse(format, &bytes, schema)
}

/// The same where there need be no body.
pub(super) async fn take_any<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    size_bytes_max: usize,
    schema: &BodySchema,
) -> Answer<Option<T>> {
    let bytes = read(headers, body, size_bytes_max).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(Format::of(headers)?, &bytes, schema).map(Some)
}

/// All bytes of a body of at most `size_bytes_max`. A larger one is refused without being read.
pub(crate) async fn read(headers: &HeaderMap, body: Body, size_bytes_max: usize) -> Answer<Bytes> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size_bytes| size_bytes > size_bytes_max as u64) {
        return Err(too_large(size_bytes_max));
    }
    let waited = BODY_TIMEOUT.as_secs();
    tokio::time::timeout(BODY_TIMEOUT, collect(body, size_bytes_max))
        .await
        .map_err(|_| Refusal::new(Code::Timeout, format!("the body did not arrive within {waited} s")))?
}

async fn collect(body: Body, size_bytes_max: usize) -> Answer<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refusal::malformed("the connection ended before the body did"))?;
        if bytes.len() + piece.len() > size_bytes_max {
            return Err(too_large(size_bytes_max));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn too_large(size_bytes_max: usize) -> Refusal {
    Refusal::new(Code::TooLarge, format!("the body is larger than the {size_bytes_max} bytes allowed here"))
        // What was not read is in the way of the next request.
        .header(axum::http::header::CONNECTION, HeaderValue::from_static("close"))
}

/// Reads a body as its type says, or names every field that is wrong.
pub(super) fn parse<T: DeserializeOwned>(format: Format, bytes: &[u8], schema: &BodySchema) -> Answer<T> {
    if bytes.trim_ascii().is_empty() {
        return Err(Refusal::malformed("the body is empty"));
    }
    let value = match format {
        // The type decides; the schema explains. So a good body is read once.
        Format::Json => match serde_json::from_slice::<T>(bytes) {
            Ok(body) => return Ok(body),
            Err(error) if error.is_data() => {
                let value = serde_json::from_slice::<Value>(bytes).map_err(|error| not_json(&error))?;
                return Err(explain(schema, &value, &error));
            }
            Err(error) => return Err(not_json(&error)),
        },
        Format::Yaml => yaml(bytes)?,
    };
    T::deserialize(&value).map_err(|error| explain(schema, &value, &error))
}

fn explain(schema: &BodySchema, value: &Value, error: &serde_json::Error) -> Refusal {
    let found = faults::of(schema, value);
    // What the schema can't see, a field given twice for instance, the type has seen.
    if found.is_empty() { Refusal::malformed(error.to_string()) } else { Refusal::faults(found) }
}

fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::malformed(format!("the body is not JSON: {error}"))
}

fn yaml(bytes: &[u8]) -> Answer<Value> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::malformed("the body is not UTF-8 text"))?;
    framewake_proto::yaml::read(text).map_err(|error| {
        let place =
            error.location().map_or(String::new(), |at| format!(" at line {} column {}", at.line(), at.column()));
        Refusal::malformed(format!("the body is not YAML{place}: {}", error.without_snippet()))
    })
}
