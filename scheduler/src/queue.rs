//! NATS: orders go out, reports come in, workers ask and are answered. What JetStream holds may vanish
//! at any moment: streams are made again, and the engine is told to offer its orders anew.

mod calls;
mod logs;
mod reports;
mod streams;
#[cfg(test)]
mod tests;

pub use logs::{Live, LogsError};

use crate::engine::{Handle, Health, Message, QueueCommand};
use crate::objects::Objects;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions};
use framewake_core::event::Event;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId};
use framewake_proto::subjects::Subjects;
use framewake_proto::wire;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message as _;
use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the streams are looked at, besides after each connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait between two tries to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How often a missing NATS is said in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Orders that wait for their acknowledgment.
const PUBLISHING_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{url}` is not the address of a NATS server")]
    Address { url: String, #[source] error: async_nats::ConnectError },
    #[error("cannot listen to the workers")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// The connection, and what every part of the queue needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    context: Context,
    subjects: Subjects,
    connected: watch::Receiver<bool>,
}

impl Queue {
    /// Gives a queue at once; it connects, and reconnects, by itself.
    pub async fn connect(url: &str, subjects: Subjects) -> Result<Queue, Error> {
        let (connected_in, connected) = watch::channel(false);
        let options = ConnectOptions::new()
            .name("framewake-scheduler")
            .retry_on_initial_connect()
            .reconnect_delay_callback(|tries| {
                Duration::from_millis(50).saturating_mul(1 << tries.min(6)).min(RECONNECT_MAX)
            })
            .event_callback(move |event| {
                let connected = connected_in.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => drop(connected.send_replace(true)),
                        async_nats::Event::Disconnected | async_nats::Event::Closed => drop(connected.send_replace(false)),
                        async_nats::Event::SlowConsumer(_) => warn!("NATS drops messages: the scheduler reads too slowly"),
                        _ => {} // Said elsewhere, by who suffers from it.
                    }
                }
            });
        let connect = options.connect(url).await;
        let client = connect.map_err(|error| Error::Address { url: redacted(url), error })?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(Duration::from_secs(5));
        Ok(Queue { client, context, subjects, connected })
    }

    /// Runs until `stop`: carries out what the engine asks, and tells it what workers say.
    pub(crate) async fn run(
        self,
        handle: Handle,
        mut commands: mpsc::UnboundedReceiver<QueueCommand>,
        objects: Objects,
        health: watch::Sender<Health>,
        url: String,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        // They end with this function.
        let mut listeners = JoinSet::new();
        calls::answer(&self, &handle, &mut listeners).await?;
        let (acks_in, acks) = watch::channel(0);
        let (prepared_in, prepared) = watch::channel(false);
        let (logs_in, logs) = mpsc::unbounded_channel();
        listeners.spawn(reports::receive(self.clone(), handle.clone(), acks, prepared, health.clone()));
        listeners.spawn(logs::archive_all(self.clone(), objects, logs));
        let mut functions = BTreeSet::new();
        let mut created = None;
        let mut connected = self.connected.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        // A server that starts beside us gets a moment.
        let mut complain = tokio::time::interval_at(tokio::time::Instant::now() + Duration::from_secs(2), COMPLAIN_EVERY);
        let mut publishing = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                command = commands.recv(), if publishing.len() < PUBLISHING_MAX => match command {
                    None => return Ok(()),
                    Some(QueueCommand::AddFunction(key)) => {
                        if functions.insert(key.clone()) && *prepared_in.borrow() {
                            self.add_consumer(&key).await;
                        }
                    }
                    Some(QueueCommand::PublishOrder { function, job, step, attempt }) => {
                        publishing.push(self.publish_order(function, job, step, attempt));
                    }
                    Some(QueueCommand::AckReports(token)) => drop(acks_in.send_replace(token)),
                    Some(QueueCommand::Answer { subject, body }) => self.send(subject, body).await,
                    Some(QueueCommand::PushControl { worker, body }) => self.send(self.subjects.control(&worker), body).await,
                    Some(QueueCommand::ArchiveLog { job, attempt }) => drop(logs_in.send((job, attempt))),
                    Some(QueueCommand::PurgeOrders(job)) => {
                        let queue = self.clone();
                        tokio::spawn(async move { queue.purge_orders(job).await });
                    }
                },
                Some(()) = publishing.next(), if !publishing.is_empty() => {}
                _ = complain.tick(), if !*connected.borrow() => {
                    let text = format!("no connection to NATS at {}: start it, or name another with --nats", redacted(&url));
                    warn!("{text}");
                    health.send_if_modified(|health| std::mem::replace(&mut health.nats, text.clone()) != text);
                }
                _ = look.tick(), if *connected.borrow() => {
                    self.prepare(&functions, &mut created, &handle, &prepared_in, &health).await;
                }
                Ok(()) = connected.changed() => {
                    let there = *connected.borrow_and_update();
                    info!(connected = there, "NATS is {}", if there { "connected" } else { "gone" });
                    if there {
                        self.prepare(&functions, &mut created, &handle, &prepared_in, &health).await;
                    } else {
                        let text = format!("the connection to NATS at {} is lost", redacted(&url));
                        health.send_modify(|health| health.nats = text);
                    }
                }
            }
        }
    }

    /// Makes streams and consumers that are missing. Tells the engine when the orders are gone.
    async fn prepare(
        &self,
        functions: &BTreeSet<FunctionKey>,
        created: &mut Option<String>,
        handle: &Handle,
        prepared: &watch::Sender<bool>,
        health: &watch::Sender<Health>,
    ) {
        let first = created.is_none();
        let result = streams::prepare(&self.context, &self.subjects, functions, first).await;
        let text = match result {
            Ok(now) => {
                let known = created.replace(now.clone());
                // Before the first look the engine has offered to a stream that may not have been there.
                if known.as_ref() != Some(&now) {
                    let _ = handle.tell(Message::Happened(Event::OrdersLost)).await;
                }
                prepared.send_if_modified(|prepared| !std::mem::replace(prepared, true));
                String::new()
            }
            Err(error) => format!("NATS is there, but its JetStream is not ready: {}", Chain(&error)),
        };
        if !text.is_empty() {
            warn!("{text}");
        }
        health.send_if_modified(|health| std::mem::replace(&mut health.nats, text.clone()) != text);
    }

    async fn add_consumer(&self, key: &FunctionKey) {
        if let Err(error) = streams::add_consumer(&self.context, &self.subjects, key).await {
            // The next look makes it.
            warn!(function = %key, "cannot make the consumer of {key}: {}", Chain(&error));
        }
    }

    /// An order that does not arrive is offered again by the rules, when its time is up.
    fn publish_order(
        &self,
        function: FunctionKey,
        job: JobId,
        step: u32,
        attempt: AttemptId,
    ) -> impl Future<Output = ()> + Send + 'static {
        let context = self.context.clone();
        let subject = self.subjects.order(&function, job);
        let order = wire::Order { chunk: attempt.chunk.0, attempt: attempt.number, job: job.to_string(), step };
        async move {
            let sent = match context.publish(subject, order.encode_to_vec().into()).await {
                Ok(stored) => stored.into_future().await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                warn!(attempt = %attempt, "the order of attempt {attempt} was not stored: {}", Chain(&error));
            }
        }
    }

    async fn purge_orders(&self, job: JobId) {
        let Ok(stream) = self.context.get_stream(self.subjects.orders_stream()).await else { return };
        let _ = stream.purge().filter(self.subjects.orders_of_job(job)).await;
    }

    async fn send(&self, subject: String, body: Vec<u8>) {
        if let Err(error) = self.client.publish(subject, body.into()).await {
            // A worker that gets no answer asks again.
            warn!("an answer to a worker was not sent: {}", Chain(&error));
        }
    }

    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

/// An address without the password that may be in it.
pub(crate) fn redacted(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
