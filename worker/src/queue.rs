//! NATS as a worker uses it: hello, orders, claims, reports, heartbeats, control and logs.

mod heartbeat;
mod logs;
mod orders;
mod reports;

pub use heartbeat::{Heartbeats, State};
pub use logs::LogStream;
pub use orders::{Delivered, Orders};
pub use reports::{Gathering, Item, Reports};

use crate::config::{Config, SecretUrl};
use crate::trust;
use async_nats::jetstream;
use bytes::Bytes;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, WorkerId};
use framewake_proto::login::Login;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::{Claim, ClaimAnswer, Hello, HelloAnswer, Order};
use prost::Message;
use std::time::Duration;
use tokio::time::Instant;

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
    #[error("the scheduler's answer to hello makes no sense")]
    Hello(#[source] serde_json::Error),
}

/// What the scheduler says to a new worker.
#[derive(Debug)]
pub struct Welcome {
    pub function: FunctionSpec,
    pub heartbeat: Duration,
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
}

impl Queue {
    /// Connects, waiting for a NATS that is not there yet.
    pub async fn connect(config: &Config, worker: &WorkerId, began: Instant) -> Result<Queue, Error> {
        let deadline = Instant::now() + START_WAIT;
        let mut wait = RETRY_WAIT;
        let client = loop {
            let options = trust::nats(async_nats::ConnectOptions::new())
                .name(format!("framewake-worker {worker}"))
                .request_timeout(Some(REQUEST_WAIT))
                .connection_timeout(REQUEST_WAIT)
                .ping_interval(Duration::from_secs(10));
            let options = match Login::of(config.nats_url.expose()) {
                Some(Login::Password { user, password }) => options.user_and_password(user, password),
                Some(Login::Token(token)) => options.token(token),
                None => options,
            };
            let servers: Vec<&str> = config.nats_url.expose().split(',').collect();
            match options.connect(servers).await {
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
            client,
            subjects: Subjects::new(config.farm.clone()),
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
        let answer: HelloAnswer = self.ask_until(self.subjects.hello(), &hello, START_WAIT).await.ok_or_else(|| {
            let hello = self.subjects.hello();
            let farm = hello.split('.').next().unwrap_or_default().to_owned();
            Error::NoScheduler { farm }
        })?;
        if !answer.refused.is_empty() {
            return Err(Error::Refused(answer.refused));
        }
        let function = serde_json::from_slice(&answer.function).map_err(Error::Hello)?;
        // 0 would be a heartbeat without a pause.
        let heartbeat = Duration::from_millis(answer.heartbeat_ms.clamp(50, 60_000).into());
        Ok(Welcome { function, heartbeat })
    }

    /// Asks for an attempt. `None` when no scheduler answered in time: the order is then dropped and
    /// comes to another worker.
    pub async fn claim(&self, order: &Order, want_step: bool, confinement: String) -> Option<ClaimAnswer> {
        let worker = self.worker.to_string();
        let claim = Claim { worker, chunk: order.chunk, attempt: order.attempt, want_step, confinement };
        self.ask_until(self.subjects.claim(), &claim, CLAIM_WAIT).await
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

/// The attempt that an order or a control message is about; `None` for attempt 0.
pub fn attempt_id(chunk: u64, number: u32) -> Option<AttemptId> {
    (number > 0).then_some(AttemptId { chunk: ChunkId(chunk), number })
}
