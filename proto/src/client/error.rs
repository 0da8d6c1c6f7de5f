//! What can go wrong between a client and the scheduler.

use crate::api::Problem;

/// Most characters of a strange answer that are shown.
const EXCERPT_CHARS: usize = 200;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not the address of a scheduler: write it as in `http://127.0.0.1:7700`")]
    Address(String),
    /// Not said: it is a secret.
    #[error("the token has characters that no token has: copy it again")]
    Token,
    #[error("can't set up an HTTP client")]
    Setup {
        #[source]
        error: reqwest::Error,
    },
    /// Nothing was sent.
    #[error("can't reach the scheduler at {url}")]
    Unreachable {
        url: String,
        #[source]
        error: reqwest::Error,
    },
    /// Nothing was sent: it did not answer in TLS.
    #[error("what is at {url} speaks no TLS")]
    NoTls { url: String },
    /// Whether the request was carried out is unknown.
    #[error("lost the connection to the scheduler at {url}")]
    Lost {
        url: String,
        #[source]
        error: reqwest::Error,
    },
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    #[error("{url} answered {status}, and not as a Framewake scheduler does: {excerpt:?}")]
    Strange { url: String, status: u16, excerpt: String },
    #[error("can't understand the answer of {url}: is it a Framewake scheduler of this version?")]
    Misunderstood {
        url: String,
        #[source]
        error: serde_json::Error,
    },
    #[error("the answer of {url} is larger than the {size_bytes_max} bytes allowed")]
    TooLarge { url: String, size_bytes_max: usize },
}

impl Error {
    pub(super) fn lost(url: &str, error: reqwest::Error) -> Error {
        let url = url.to_owned();
        if speaks_no_tls(&error) {
            return Error::NoTls { url };
        }
        // The address is said once, by us.
        let never_sent = error.is_connect();
        let error = error.without_url();
        if never_sent { Error::Unreachable { url, error } } else { Error::Lost { url, error } }
    }

    pub(super) fn strange(url: &str, status: u16, body: &[u8]) -> Error {
        let excerpt = String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS).collect();
        Error::Strange { url: url.to_owned(), status, excerpt }
    }

    /// Too much went on at once, so that the scheduler did not begin with it.
    pub fn is_crowded(&self) -> bool {
        matches!(self, Error::Refused(problem) if ["urn:framewake:too-many", "urn:framewake:busy"].contains(&problem.kind.as_str()))
    }

    /// Whether the same request may well succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Lost { .. } => true,
            Error::Refused(problem) => is_passing(problem.status),
            Error::Strange { status, .. } => is_passing(*status),
            Error::Address(_)
            | Error::Token
            | Error::NoTls { .. }
            | Error::Setup { .. }
            | Error::Misunderstood { .. }
            | Error::TooLarge { .. } => false,
        }
    }
}

/// The answer to a greeting of TLS was none. No type within reach tells it, only the library's words.
fn speaks_no_tls(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        if at.to_string().contains("InvalidContentType") {
            return true;
        }
        cause = at.source();
    }
    false
}

/// Too many requests, and what gateways answer while the scheduler restarts.
fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}
