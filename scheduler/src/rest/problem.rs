//! Refusals: one body shape (RFC 9457), a short list of stable codes, and no inner message of a 5xx.
//!
//! A handler answers with a [`Refusal`]; [`finish`] turns it into the body once the request id is known.

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use framewake_proto::api::Problem;
use framewake_proto::chain::Chain;
use framewake_proto::job::{FAULTS_MAX, Fault};
use std::error::Error;
use std::fmt::Write as _;

/// What a handler gives back.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// What a client should wait before it tries again, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");
/// The same where jobs must end first.
const RETRY_AFTER_FULL_S: HeaderValue = HeaderValue::from_static("30");

/// Why a request is refused: the stable part of `urn:framewake:<code>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The body can't be read, or what it asks for makes no sense.
    InvalidBody,
    InvalidQuery,
    NotFound,
    MethodNotAllowed,
    WrongState,
    TooLarge,
    /// The idempotency key stands for another body.
    Conflict,
    /// A piece of an upload that doesn't begin where the last one ended.
    WrongOffset,
    /// An upload whose bytes don't have the digest they were sent under.
    WrongDigest,
    WrongRange,
    NotAcceptable,
    UnsupportedMedia,
    /// Nobody knows who asks, or the token opens nothing.
    Unauthorized,
    /// Who asks may not do this.
    Forbidden,
    /// A page of another site asks, or one that pretends to be this machine.
    CrossOrigin,
    /// This client asks too much at once.
    TooMany,
    /// As many jobs wait as may.
    QueueFull,
    /// All clients together ask too much at once.
    Busy,
    /// A part of the farm is away.
    Unavailable,
    StorageFull,
    Timeout,
    Internal,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Code::InvalidBody => "invalid-body",
            Code::InvalidQuery => "invalid-query",
            Code::NotFound => "not-found",
            Code::MethodNotAllowed => "method-not-allowed",
            Code::WrongState => "wrong-state",
            Code::TooLarge => "too-large",
            Code::Conflict => "conflict",
            Code::WrongOffset => "wrong-offset",
            Code::WrongDigest => "wrong-digest",
            Code::WrongRange => "wrong-range",
            Code::NotAcceptable => "not-acceptable",
            Code::UnsupportedMedia => "unsupported-media",
            Code::Unauthorized => "unauthorized",
            Code::Forbidden => "forbidden",
            Code::CrossOrigin => "cross-origin",
            Code::TooMany => "too-many",
            Code::QueueFull => "queue-full",
            Code::Busy => "busy",
            Code::Unavailable => "unavailable",
            Code::StorageFull => "storage-full",
            Code::Timeout => "timeout",
            Code::Internal => "internal",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::InvalidBody | Code::WrongDigest => StatusCode::UNPROCESSABLE_ENTITY,
            Code::InvalidQuery => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::WrongState | Code::Conflict | Code::WrongOffset => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::WrongRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Code::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::CrossOrigin | Code::Forbidden => StatusCode::FORBIDDEN,
            Code::TooMany | Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Code::Busy | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Code::InvalidBody => "The body is not valid",
            Code::InvalidQuery => "The request's address is not valid",
            Code::NotFound => "There is no such thing",
            Code::MethodNotAllowed => "This address has no such method",
            Code::WrongState => "Not in this state",
            Code::TooLarge => "Too large",
            Code::Conflict => "The idempotency key stands for another body",
            Code::WrongOffset => "The piece does not begin where the last one ended",
            Code::WrongDigest => "The bytes are not those of the digest",
            Code::WrongRange => "The range is outside the object",
            Code::NotAcceptable => "Not to be had in the wanted format",
            Code::UnsupportedMedia => "The body's format is not understood",
            Code::Unauthorized => "Nobody knows who asks",
            Code::Forbidden => "Not for this token",
            Code::CrossOrigin => "Another site's page may not ask this",
            Code::TooMany => "More at once than one client may",
            Code::QueueFull => "As many jobs wait as may",
            Code::Busy => "Too many requests at once",
            Code::Unavailable => "A part of the farm is away",
            Code::StorageFull => "No room left",
            Code::Timeout => "The request took too long to arrive",
            Code::Internal => "The scheduler failed",
        }
    }
}

/// A request that is answered with a problem.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(Box<Parts>); // In a box, because every answer of a handler has room for one.

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    status: StatusCode,
    detail: String,
    hint: Option<String>,
    faults: Vec<Fault>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    cause: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Refusal {
        let mut headers = Vec::new();
        match code {
            Code::TooMany | Code::Busy | Code::Unavailable => headers.push((RETRY_AFTER, RETRY_AFTER_S)),
            Code::QueueFull => headers.push((RETRY_AFTER, RETRY_AFTER_FULL_S)),
            _ => {}
        }
        let (status, detail) = (code.status(), detail.into());
        Refusal(Box::new(Parts { code, status, detail, hint: None, faults: Vec::new(), headers, cause: None }))
    }

    /// A body that can't be read at all, as opposed to one that says something wrong.
    pub(crate) fn malformed(detail: impl Into<String>) -> Refusal {
        let mut refusal = Refusal::new(Code::InvalidBody, detail);
        refusal.0.status = StatusCode::BAD_REQUEST;
        refusal
    }

    /// Everything that is wrong with a body, bounded.
    pub(crate) fn faults(mut faults: Vec<Fault>) -> Refusal {
        let detail = match faults.as_slice() {
            [only] => format!("{}: {}", place(only), only.reason),
            [first, ..] => format!("{} faults, the first at {}: {}", faults.len(), place(first), first.reason),
            [] => "the body is not valid".to_owned(),
        };
        faults.truncate(FAULTS_MAX);
        let mut refusal = Refusal::new(Code::InvalidBody, detail);
        refusal.0.faults = faults;
        refusal
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Refusal {
        Refusal::new(Code::NotFound, detail)
    }

    /// Something of ours broke: the caller learns that, the log learns why.
    pub(crate) fn internal(cause: &(dyn Error + 'static)) -> Refusal {
        let detail = "the scheduler could not carry out the request; its log has the reason under the request id";
        Refusal::new(Code::Internal, detail).because(cause)
    }

    /// A part of the farm is away for now: `what` is for the caller, `cause` for the log.
    pub(crate) fn unavailable(what: impl Into<String>, cause: &(dyn Error + 'static)) -> Refusal {
        Refusal::new(Code::Unavailable, what).because(cause)
    }

    fn because(mut self, cause: &(dyn Error + 'static)) -> Refusal {
        self.0.cause = Some(Chain(cause).to_string());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Refusal {
        self.0.headers.push((name, value));
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The answer for clients that show people the body as it is.
    pub(crate) fn in_words(self) -> Response {
        let Parts { status, detail, hint, headers, .. } = *self.0;
        let hint = hint.map_or_else(String::new, |hint| format!("; hint: {hint}"));
        let mut response = (status, format!("{detail}{hint}\n")).into_response();
        response.headers_mut().extend(headers);
        response
    }

    /// What broke, for the log.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }
}

fn place(fault: &Fault) -> String {
    if fault.field.is_empty() { "the body".to_owned() } else { format!("`{}`", fault.field) }
}

impl IntoResponse for Refusal {
    /// Without a body yet: [`finish`] writes it, with the request id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self);
        response
    }
}

/// Takes the refusal out of a response, if it is one.
pub(crate) fn refusal_of(response: &mut Response) -> Option<Refusal> {
    response.extensions_mut().remove::<Refusal>()
}

/// The response to a refused request.
pub(crate) fn finish(mut refusal: Refusal, request_id: &str) -> Response {
    let (status, headers) = (refusal.0.status, std::mem::take(&mut refusal.0.headers));
    let mut response = (status, Json(body(refusal, request_id))).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The whole answer to a connection that is refused before it is read.
pub(crate) fn plain(refusal: Refusal) -> String {
    let (status, headers) = (refusal.0.status, refusal.0.headers.clone());
    let id = ulid::Ulid::generate().to_string();
    let body = serde_json::to_string(&body(refusal, &id)).expect("a problem is JSON");
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nx-request-id: {id}\r\nconnection: close\r\n\
         content-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        let _a_string_takes_all = write!(answer, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    answer + "\r\n" + &body
}

fn body(refusal: Refusal, request_id: &str) -> Problem {
    let Parts { code, status, detail, hint, faults, .. } = *refusal.0;
    Problem {
        kind: format!("urn:framewake:{}", code.as_str()),
        title: code.title().to_owned(),
        status: status.as_u16(),
        detail,
        hint,
        faults,
        request_id: request_id.to_owned(),
    }
}

impl From<crate::store::read::Error> for Refusal {
    fn from(error: crate::store::read::Error) -> Refusal {
        use crate::store::read::Error as Store;
        match &error {
            Store::Query(sqlx::Error::PoolTimedOut) => {
                Refusal::new(Code::Busy, "too many questions wait for the store")
            }
            Store::Query(_) => Refusal::unavailable("the store can't be read; nothing was changed", &error),
            Store::Strange { .. } | Store::Word { .. } => Refusal::internal(&error),
        }
    }
}
