//! A store to which this worker has no credentials: each call is taken to the scheduler, which signs an address for it if it is about
//! an input or output of the attempt at hand. The store's client works as with any other, for only the last step before the wire
//! differs.

use crate::queue::Queue;
use async_trait::async_trait;
use framewake_proto::ids::AttemptId;
use framewake_proto::wire::{STORE_CALLS_MAX, SignedCall, StoreCall};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path as Key;
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What the store's client believes to speak to; nothing is ever sent there.
pub(super) const ENDPOINT: &str = "http://signed.invalid";
/// The bucket it believes to have.
pub(super) const BUCKET: &str = "own";
/// How long before its end an address is not begun with any more.
const MARGIN: Duration = Duration::from_mins(1);
const FORBIDDEN: u16 = 403;

/// Cheap to clone; all clones have the same attempt.
#[derive(Debug, Clone)]
pub(crate) struct Signatures {
    queue: Queue,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    attempt: Option<AttemptId>,
    /// By the call, as it is asked for.
    known: HashMap<Vec<u8>, (SignedCall, Instant)>,
}

#[derive(Debug, thiserror::Error)]
enum Unsigned {
    #[error("no scheduler answers, and only it can let this worker into the store")]
    Away,
    #[error("the scheduler lets this worker do it no more: {0}")]
    Refused(String),
    #[error("the store's client makes a call that nobody can sign")]
    Unknown,
}

impl Signatures {
    pub(crate) fn new(queue: Queue) -> Signatures {
        Signatures { queue, held: Arc::default() }
    }

    /// From now on calls are for this attempt. Some that will come are signed at once, so that what is rendered while the scheduler
    /// is away can be stored.
    pub(crate) async fn begin(&self, attempt: AttemptId, calls: Vec<StoreCall>) {
        *self.held() = Held { attempt: Some(attempt), known: HashMap::new() };
        for calls in calls.chunks(STORE_CALLS_MAX).take(1) {
            // What is missing then is asked for when it is needed.
            let _ = self.sign(calls).await;
        }
    }

    async fn address(&self, call: StoreCall) -> Result<SignedCall, Unsigned> {
        let known = self.held().known.get(&call.encode_to_vec()).cloned();
        match known {
            Some((signed, until)) if Instant::now() + MARGIN < until => Ok(signed),
            _ => {
                let mut signed = self.sign(std::slice::from_ref(&call)).await?;
                signed.pop().ok_or(Unsigned::Away)
            }
        }
    }

    /// All of them, in their order.
    async fn sign(&self, calls: &[StoreCall]) -> Result<Vec<SignedCall>, Unsigned> {
        let Some(attempt) = self.held().attempt else {
            return Err(Unsigned::Refused("it holds no attempt".to_owned()));
        };
        let asked = Instant::now();
        let answer = self.queue.sign(attempt, calls).await.ok_or(Unsigned::Away)?;
        if !answer.refused.is_empty() {
            return Err(Unsigned::Refused(answer.refused));
        }
        let until = asked + Duration::from_secs(answer.lasts_s.into());
        let mut held = self.held();
        if held.attempt == Some(attempt) {
            let signed = calls.iter().map(Message::encode_to_vec).zip(&answer.calls);
            held.known.extend(signed.map(|(call, signed)| (call, (signed.clone(), until))));
        }
        Ok(answer.calls)
    }

    fn forget(&self, call: &StoreCall) {
        self.held().known.remove(&call.encode_to_vec());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes clients whose calls are signed by the scheduler. `bucket` is empty for the farm's store.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) signatures: Signatures,
    pub(super) bucket: String,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Signing { client, signatures: self.signatures.clone(), bucket: self.bucket.clone() }))
    }
}

#[derive(Debug)]
struct Signing {
    client: HttpClient,
    signatures: Signatures,
    bucket: String,
}

#[async_trait]
impl HttpService for Signing {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(call) = call_of(&request, &self.bucket) else {
            return Err(HttpError::new(HttpErrorKind::Unknown, Unsigned::Unknown));
        };
        let signed = match self.signatures.address(call.clone()).await {
            Ok(signed) => signed,
            Err(Unsigned::Refused(why)) => return Ok(forbidden(why)),
            Err(error) => return Err(HttpError::new(HttpErrorKind::Connect, error)),
        };
        let unreadable = |error| HttpError::new_boxed(HttpErrorKind::Unknown, error);
        *request.uri_mut() = signed.url.parse().map_err(|_| unreadable(Unsigned::Unknown.into()))?;
        if !signed.copy_from.is_empty() {
            let from = signed.copy_from.parse().map_err(|_| unreadable(Unsigned::Unknown.into()))?;
            request.headers_mut().insert("x-amz-copy-source", from);
        }
        let response = self.client.execute(request).await?;
        if response.status().as_u16() == FORBIDDEN {
            // Signed with what the store trusts no more: the next try asks anew.
            self.signatures.forget(&call);
        }
        Ok(response)
    }
}

fn forbidden(why: String) -> HttpResponse {
    let mut response = HttpResponse::new(why.into());
    *response.status_mut() = FORBIDDEN.try_into().expect("a status of HTTP");
    response
}

/// What a request asks for, in the words of the scheduler.
fn call_of(request: &HttpRequest, bucket: &str) -> Option<StoreCall> {
    let header = |name: &str| match request.headers().get(name) {
        None => Some(String::new()),
        Some(value) => value.to_str().ok().map(str::to_owned),
    };
    let key = |path: &str| Some(Key::from_url_path(path.strip_prefix(BUCKET)?.strip_prefix('/')?).ok()?.to_string());
    let copied = header("x-amz-copy-source")?;
    Some(StoreCall {
        method: request.method().as_str().to_owned(),
        bucket: bucket.to_owned(),
        key: key(request.uri().path().strip_prefix('/')?)?,
        query: request.uri().query().unwrap_or_default().to_owned(),
        if_none_match: header("if-none-match")?,
        copy_from: if copied.is_empty() { copied } else { key(&copied)? },
    })
}
