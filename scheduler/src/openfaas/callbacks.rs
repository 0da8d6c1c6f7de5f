//! Sends answers to those who called and did not wait: at least once, signed, and forgotten only when it is durable that
//! they arrived or were given up. What is to be sent was written down with the call itself.

use super::Settings;
use super::calls::{self, CALL_ID, DURATION, JOB, Outcome};
use crate::engine::clock::Clock;
use crate::notify;
use crate::rest::{self, App};
use crate::store::TriedCallback;
use crate::store::read::DueCallback;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use framewake_proto::api::{Happening, JobState};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Answers that are sent at once; each holds up to [`ANSWER_MAX`].
const AT_ONCE: usize = 4;
/// Answers looked up at once.
const DUE_AT_ONCE: u32 = 64;
/// Largest answer that is sent; of a larger one it is said where it lies.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;
/// Longest time of one try: it may carry a large answer.
const TRY_MAX: Duration = Duration::from_mins(1);
/// The store is looked at at least so often.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Wait after the store could not be read.
const STORE_AGAIN: Duration = Duration::from_secs(5);

const STATUS: HeaderName = HeaderName::from_static("x-function-status");
const NAME: HeaderName = HeaderName::from_static("x-function-name");
/// As `faas-cli invoke --sign` makes it: `sha256=` and the HMAC of the body in hexadecimal digits.
const HMAC: HeaderName = HeaderName::from_static("hmac");

/// One task for all callbacks.
#[derive(Debug)]
pub(crate) struct Callbacks {
    app: Arc<App>,
    key: Vec<u8>,
    namespace: String,
    /// How long an answer is tried.
    patience: Duration,
    clock: Clock,
}

impl Callbacks {
    /// `None` where none are sent.
    pub(crate) fn new(
        settings: &Settings,
        app: Arc<App>,
        patience: Duration,
        clock: Clock,
    ) -> anyhow::Result<Option<Callbacks>> {
        let namespace = settings.openfaas_namespace.to_string();
        Ok(settings.callback_key()?.map(|key| Callbacks { app, key, namespace, patience, clock }))
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut events = self.app.handle.events();
        loop {
            let wait = match stop.run_until_cancelled(self.send_due()).await {
                None => return,
                Some(Ok(true)) => continue,
                Some(Ok(false)) => self.next_look().await,
                Some(Err(error)) => {
                    warn!("answers to calls can't be sent: {}", Chain(&error));
                    STORE_AGAIN
                }
            };
            // Whoever is told too much looks too often, and no more.
            let over = async {
                loop {
                    match events.recv().await {
                        Ok(event) if !matches!(event.what, Happening::JobState { state } if state.is_over()) => {}
                        _ => return,
                    }
                }
            };
            tokio::select! {
                () = over => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn next_look(&self) -> Duration {
        let now = self.clock.now();
        let next = self.app.reader.next_callback(now).await.ok().flatten();
        next.map_or(LOOK_EVERY, |at| at.since(now).min(LOOK_EVERY))
    }

    /// Whether there were any.
    async fn send_due(&self) -> Result<bool, Trouble> {
        let due = self.app.reader.due_callbacks(self.clock.now(), DUE_AT_ONCE).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let mut tried = futures::stream::iter(due).map(|due| self.try_one(due)).buffer_unordered(AT_ONCE);
        while let Some(tried) = tried.next().await {
            self.app.handle.note_callbacks(vec![tried]).await?;
        }
        Ok(true)
    }

    async fn try_one(&self, due: DueCallback) -> TriedCallback {
        let tries = due.tries + 1;
        let (call, seq) = (due.callback.call.clone(), due.seq);
        let Err(reason) = self.send(&due, tries).await else {
            self.count("delivered");
            return TriedCallback { job: seq, again: None };
        };
        let now = self.clock.now();
        let again = notify::next_try(tries, now, due.finished_at, self.patience);
        match again {
            None => {
                self.count("given_up");
                warn!(job.id = %due.job, tries, "the answer to call {call} is given up: {reason}");
            }
            Some(at) => {
                self.count("failed");
                info!(job.id = %due.job, tries, "the answer to call {call} did not arrive, and is sent again at {at}: {reason}");
            }
        }
        TriedCallback { job: seq, again: again.map(|at| (tries, at)) }
    }

    fn count(&self, outcome: &str) {
        self.app.metrics.parts.notifications.with_label_values(&["callback", outcome]).inc();
    }

    async fn send(&self, due: &DueCallback, tries: u32) -> Result<(), String> {
        let answer = self.answer(due).await?;
        let callback = &due.callback;
        let plain = |text: &str| HeaderValue::from_str(text).map_err(|_| "a header can't be written".to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(CALL_ID, plain(&callback.call)?);
        headers.insert(JOB, plain(&due.job.to_string())?);
        headers.insert(NAME, plain(&format!("{}.{}", callback.function, self.namespace))?);
        headers.insert(STATUS, HeaderValue::from(answer.status));
        let took = due.finished_at.since(callback.began_at).as_secs_f64();
        headers.insert(DURATION, plain(&format!("{took:.6}"))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.media_type));
        if tries > 1 {
            headers.insert("x-retry", HeaderValue::from(tries - 1));
        }
        // Both ways that receivers know: the second also covers the time, so that nobody can send it again later.
        headers.insert(HMAC, plain(&format!("sha256={}", notify::hmac_hex(&self.key, &answer.body)))?);
        let now_s = Timestamp::now().0 / 1000;
        headers.insert("webhook-id", plain(&callback.call)?);
        headers.insert("webhook-timestamp", now_s.into());
        headers.insert("webhook-signature", plain(&notify::signature(&self.key, &callback.call, now_s, &answer.body))?);
        let sent = self.app.ways.call(&callback.url, headers, answer.body, TRY_MAX).await;
        sent.map_err(|error| Chain(&error).to_string())
    }

    async fn answer(&self, due: &DueCallback) -> Result<Sent, String> {
        let app = &self.app;
        let refused = |refusal: rest::Refusal| refusal.cause().unwrap_or(refusal.detail()).to_owned();
        let text =
            |status, said: String| Sent { status, media_type: "text/plain; charset=utf-8", body: said.into_bytes() };
        if due.state == JobState::Canceled {
            return Ok(text(499, "the call was canceled\n".to_owned()));
        }
        let key = app.reader.job_key(due.job).await.map_err(|error| Chain(&error).to_string())?;
        let Some(key) = key else { return Ok(text(500, "the call is not known any more\n".to_owned())) };
        match calls::outcome(app, &key).await.map_err(refused)? {
            Outcome::Canceled => Ok(text(499, "the call was canceled\n".to_owned())),
            Outcome::Failed(said) => Ok(text(500, said)),
            Outcome::Answer(output) if output.size_bytes > ANSWER_MAX => {
                let size = output.size_bytes;
                let said = format!(
                    "the answer has {size} bytes, more than the {ANSWER_MAX} that are sent: it is `{}` in the farm's store, and \
                     GET /v1/jobs/{}/outputs/call/0 gives it\n",
                    output.key, due.job
                );
                Ok(text(413, said))
            }
            Outcome::Answer(output) => {
                let found = app.objects.get(&output.key, None).await.map_err(|error| Chain(&error).to_string())?;
                let Some(found) = found else {
                    return Ok(text(500, "the answer is gone from the store\n".to_owned()));
                };
                let body = found.bytes().await.map_err(|error| Chain(&error).to_string())?.to_vec();
                Ok(Sent { status: 200, media_type: rest::media_type(&output.file), body })
            }
        }
    }
}

/// What is sent of a call.
struct Sent {
    /// As the function would have answered.
    status: u16,
    media_type: &'static str,
    body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] crate::store::read::Error),
    #[error(transparent)]
    Engine(#[from] crate::engine::Refused),
}
