//! NATS as a worker uses it: hello, orders, claims, reports, heartbeats, control and logs.

mod heartbeat;
mod logs;
mod orders;
mod pass;
mod reports;

pub use heartbeat::{Heartbeats, State};
pub use logs::LogStream;
pub use orders::{Delivered, Orders};
pub use reports::{Gathering, Item, Reports};

use crate::config::{Config, SecretUrl};
use crate::trust;
use async_nats::{ConnectOptions, Event, jetstream};
use bytes::Bytes;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, WorkerId};
use framewake_proto::login::Login;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::{Claim, ClaimAnswer, Hello, HelloAnswer, Order, Sign, Signed, StoreCall};
use pass::Pass;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long NATS and the scheduler may be away at the worker's start.
pub const START_WAIT: Duration = Duration::from_mins(1);
/// How long one request may take.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// How long a claim is asked again; past it `JetStream` gives the order to another worker.
const CLAIM_WAIT: Duration = Duration::from_secs(12);
const RETRY_WAIT: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach NATS at {url} since {}s; hint: is nats-server running there?", START_WAIT.as_secs())]
    Connect {
        url: SecretUrl,
        #[source]
        error: async_nats::ConnectError,
    },
    #[error("no scheduler of farm `{farm}` has answered for {}s; hint: is framewake-scheduler running?", START_WAIT.as_secs())]
    NoScheduler { farm: String },
    #[error("the scheduler refused this worker: {0}")]
    Refused(String),
    #[error("cannot read the join token in `{}`", path.display())]
    JoinToken {
        path: std::path::PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the scheduler's answer to hello makes no sense")]
    Hello(#[source] serde_json::Error),
}

/// What the scheduler says to a new worker.
#[derive(Debug)]
pub struct Welcome {
    pub function: FunctionSpec,
    pub heartbeat: Duration,
    /// It has no credentials of the store: its calls are signed.
    pub signed_store: bool,
}

/// One connection and the names on it.
#[derive(Debug, Clone)]
pub struct Queue {
    client: async_nats::Client,
    context: jetstream::Context,
    subjects: Subjects,
    worker: WorkerId,
    function: FunctionKey,
    host: String,
    /// When this process began, and how long it took from there to NATS.
    began: Instant,
    connected_after: Duration,
    /// Renews the credential for as long as anybody has this.
    _renewing: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Queue {
    /// Connects, waiting for a NATS that is not there yet.
    pub async fn connect(config: &Config, worker: &WorkerId, began: Instant) -> Result<Queue, Error> {
        let subjects = Subjects::new(config.farm.clone());
        let pass = Pass::get(config, &subjects, worker).await?;
        let deadline = Instant::now() + START_WAIT;
        let mut wait = RETRY_WAIT;
        let client = loop {
            let connecting = match (&pass, Login::of(config.nats_url.expose())) {
                (Some(pass), _) => pass.connecting(),
                (None, Some(Login::Password { user, password })) => {
                    ConnectOptions::with_user_and_password(user, password)
                }
                (None, Some(Login::Token(token))) => ConnectOptions::with_token(token),
                (None, None) => ConnectOptions::new(),
            };
            let denied = pass.as_ref().map(Pass::denied);
            let options = options(connecting, config, worker, denied).custom_inbox_prefix(subjects.inbox(worker));
            match options.connect(servers(config)).await {
                Ok(client) => break client,
                Err(error) if Instant::now() + wait > deadline => {
                    return Err(Error::Connect { url: config.nats_url.clone(), error });
                }
                Err(error) => tracing::warn!(%error, url = %config.nats_url, "NATS is not reachable yet; trying again"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        };
        Ok(Queue {
            context: jetstream::new(client.clone()),
            _renewing: pass.map(|pass| Arc::new(pass.keep(client.clone()))),
            client,
            subjects,
            worker: worker.clone(),
            function: config.function.clone(),
            host: config.host(),
            began,
            connected_after: began.elapsed(),
        })
    }

    /// Introduces the worker, waiting for a scheduler that is not there yet.
    pub async fn hello(&self) -> Result<Welcome, Error> {
        let hello = Hello {
            worker: self.worker.to_string(),
            function: self.function.name.to_string(),
            function_version: self.function.version,
        };
        let subject = self.subjects.hello(&self.function, &self.worker);
        let answer: HelloAnswer = self
            .ask_until(subject, &hello, START_WAIT)
            .await
            .ok_or_else(|| Error::NoScheduler { farm: self.subjects.farm().to_string() })?;
        if !answer.refused.is_empty() {
            return Err(Error::Refused(answer.refused));
        }
        let function = serde_json::from_slice(&answer.function).map_err(Error::Hello)?;
        // 0 would be a heartbeat without a pause.
        let heartbeat = Duration::from_millis(answer.heartbeat_ms.clamp(50, 60_000).into());
        Ok(Welcome { function, heartbeat, signed_store: answer.signed_store })
    }

    /// Asks for an attempt. `None` when no scheduler answered in time: the order is then dropped and
    /// comes to another worker.
    pub async fn claim(&self, order: &Order, want_step: bool, confinement: String) -> Option<ClaimAnswer> {
        let worker = self.worker.to_string();
        let claim = Claim { worker, chunk: order.chunk, attempt: order.attempt, want_step, confinement };
        self.ask_until(self.subjects.claim(&self.function, &self.worker), &claim, CLAIM_WAIT).await
    }

    /// Addresses in the store for these calls, or `None` when no scheduler answers.
    pub(crate) async fn sign(&self, attempt: AttemptId, calls: &[StoreCall]) -> Option<Signed> {
        let ask = Sign { chunk: attempt.chunk.0, attempt: attempt.number, calls: calls.to_vec() };
        let subject = self.subjects.sign(&self.function, &self.worker);
        let answer = self.client.request(subject, ask.encode_to_vec().into()).await.ok()?;
        Signed::decode(answer.payload).ok()
    }

    async fn ask_until<A: Message + Default>(
        &self,
        subject: String,
        ask: &impl Message,
        wait_max: Duration,
    ) -> Option<A> {
        let body = Bytes::from(ask.encode_to_vec());
        let deadline = Instant::now() + wait_max;
        let mut wait = RETRY_WAIT;
        loop {
            match self.client.request(subject.clone(), body.clone()).await {
                Ok(answer) => match A::decode(answer.payload) {
                    Ok(answer) => return Some(answer),
                    Err(error) => tracing::warn!(%error, subject, "an answer of the scheduler can't be read"),
                },
                Err(error) => tracing::debug!(%error, subject, "no answer of the scheduler yet"),
            }
            if Instant::now() + wait > deadline {
                return None;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }
}

/// What every connection has in common.
fn options(options: ConnectOptions, config: &Config, worker: &WorkerId, denied: Option<Arc<Notify>>) -> ConnectOptions {
    trust::nats(options, config.nats_ca.as_deref())
        .name(format!("framewake-worker {worker}"))
        .request_timeout(Some(REQUEST_WAIT))
        .connection_timeout(REQUEST_WAIT)
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            let denied = denied.clone();
            async move {
                let text = match event {
                    Event::ServerError(error) => {
                        let text = error.to_string();
                        say(&text);
                        text
                    }
                    Event::ClientError(error) => error.to_string(),
                    _ => return,
                };
                if let Some(denied) = denied.filter(|_| is_denied(&text)) {
                    denied.notify_one();
                }
            }
        })
}

/// Whether what it was let in with is of no use any more, also for a new connection.
fn is_denied(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("authorization violation") || error.contains("authentication revoked")
}

/// What the server complains of; that a credential has ended is how it goes, for the next one is there.
fn say(error: &str) {
    if error.to_ascii_lowercase().contains("authentication expired") {
        tracing::debug!("NATS: {error}");
    } else {
        tracing::warn!("NATS does not let this worker do something: {error}");
    }
}

fn servers(config: &Config) -> Vec<&str> {
    config.nats_url.expose().split(',').collect()
}

/// The attempt that an order or a control message is about; `None` for attempt 0.
pub fn attempt_id(chunk: u64, number: u32) -> Option<AttemptId> {
    (number > 0).then_some(AttemptId { chunk: ChunkId(chunk), number })
}
