//! NATS: orders go out, reports come in, workers ask and are answered. What JetStream holds may vanish
//! at any moment: streams are made again, and the engine is told to offer its orders anew.

mod calls;
mod logs;
mod owner;
pub(crate) mod reading;
mod reports;
mod streams;
#[cfg(test)]
mod tests;

pub use logs::{Live, LogsError};
pub use owner::Owner;

use crate::credentials::{Gate, Issuer, tell_always};
use crate::engine::{Handle, Health, Message, QueueCommand};
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::signing::Signing;
use async_nats::jetstream::{self, Context};
use async_nats::{Auth, Client, ConnectOptions};
use framewake_core::event::Event;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId};
use framewake_proto::login::Login;
use framewake_proto::subjects::Subjects;
use framewake_proto::trace::{TRACEPARENT, TraceParent};
use framewake_proto::wire;
use futures::future::{BoxFuture, Fuse, FusedFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use prost::Message as _;
use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use streams::Found;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the streams are looked at, besides after each connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon they are looked at again when something was wrong.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A connection over which nothing comes is given up after two of these.
const PING_EVERY: Duration = Duration::from_secs(3);
/// Longest wait between two tries to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// A server that starts beside us, or again, gets a moment.
const COMPLAIN_AFTER: Duration = Duration::from_secs(2);
/// How often a missing NATS is said in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Orders that wait for their acknowledgment.
const PUBLISHING_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{url}` is not the address of a NATS server")]
    Address {
        url: String,
        #[source]
        error: async_nats::ConnectError,
    },
    #[error("cannot listen to the workers")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error(
        "farm `{farm}` has another scheduler on this NATS ({owner}): stop one of them, or give one a name of its own with --farm"
    )]
    Owned { farm: String, owner: Box<Owner> },
    #[error(
        "the stream {stream} belongs to another database (farm {theirs}; this is {ours}): start that one's scheduler, give this one a name of its own with --farm, or take the streams over with --take-streams, if nobody will start the other again"
    )]
    Foreign { stream: String, theirs: String, ours: String },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("there is no connection to NATS")]
    Away,
    #[error("cannot publish on NATS")]
    Publish(#[from] async_nats::PublishError),
    #[error("NATS did not confirm that it has it")]
    Flush(#[from] async_nats::client::FlushError),
}

/// The connection, and what every part of the queue needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    context: Context,
    subjects: Subjects,
    connected: watch::Receiver<bool>,
    owner: Owner,
    metrics: Arc<Metrics>,
    /// Streams of another database are emptied, not refused.
    take_streams: bool,
    /// Where the scheduler says who may do what there.
    gate: Option<Arc<Gate>>,
    /// Certificates of authorities, where not those of the system.
    ca: Option<PathBuf>,
    /// Where workers have no credentials of the store.
    signing: Option<Arc<Signing>>,
}

/// Which NATS, and how it is spoken to.
#[derive(Debug)]
pub struct Connection<'a> {
    pub url: &'a str,
    /// Whose word the server takes, with how long credentials last.
    pub issuer: Option<(Issuer, Duration)>,
    /// Certificates of authorities, where not those of the system.
    pub ca: Option<PathBuf>,
    /// Calls of the store are signed for workers: only where nobody can ask in another's name.
    pub signing: Option<Signing>,
}

impl Queue {
    /// Gives a queue at once; it connects, and reconnects, by itself.
    pub async fn connect(
        connection: Connection<'_>,
        subjects: Subjects,
        owner: Owner,
        take_streams: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Queue, Error> {
        let (connected_in, connected) = watch::channel(false);
        let Connection { url, issuer, ca, signing } = connection;
        let options = match &issuer {
            Some((issuer, _)) => {
                let issuer = issuer.clone();
                ConnectOptions::with_auth_callback(move |_| {
                    let jwt = issuer.own().reveal().to_owned();
                    async move {
                        let mut auth = Auth::new();
                        auth.jwt = Some(jwt);
                        Ok(auth)
                    }
                })
            }
            None => match Login::of(url) {
                Some(Login::Password { user, password }) => ConnectOptions::with_user_and_password(user, password),
                Some(Login::Token(token)) => ConnectOptions::with_token(token),
                None => ConnectOptions::new(),
            },
        };
        let options = ca.iter().cloned().fold(options, ConnectOptions::add_root_certificates);
        let options = options
            .name("framewake-scheduler")
            .retry_on_initial_connect()
            .ping_interval(PING_EVERY)
            .reconnect_delay_callback(|tries| {
                Duration::from_millis(50).saturating_mul(1 << tries.min(6)).min(RECONNECT_MAX)
            })
            .event_callback(move |event| {
                let connected = connected_in.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => {
                            connected.send_replace(true);
                        }
                        async_nats::Event::Disconnected | async_nats::Event::Closed => {
                            connected.send_replace(false);
                        }
                        async_nats::Event::SlowConsumer(_) => {
                            warn!("NATS drops messages: the scheduler reads too slowly");
                        }
                        _ => {} // Said elsewhere, by who suffers from it.
                    }
                }
            });
        let connect = options.connect(url).await;
        let client = connect.map_err(|error| Error::Address { url: redacted(url), error })?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(Duration::from_secs(5));
        let gate = issuer.map(|(issuer, lasts)| Arc::new(Gate::new(issuer, lasts)));
        Ok(Queue {
            client,
            context,
            subjects,
            connected,
            owner,
            metrics,
            take_streams,
            gate,
            ca,
            signing: signing.map(Arc::new),
        })
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
        // Nothing is answered before it is known that nobody else does.
        let mut answering = false;
        let (acks_in, acks) = watch::channel(0);
        let (prepared_in, prepared) = watch::channel(false);
        let (logs_in, logs) = mpsc::channel(logs::WAITING_MAX);
        listeners.spawn(reports::receive(self.clone(), handle.clone(), acks, prepared.clone(), health.clone()));
        listeners.spawn(logs::archive_all(self.clone(), handle.clone(), objects, logs, prepared));
        if let Some(gate) = &self.gate {
            listeners.spawn(tell_always(Arc::clone(gate), url.clone(), self.ca.clone()));
        }
        let mut streams = Streams::default();
        let mut connected = self.connected.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // In flight beside everything else: an answer that JetStream owes must not hold up a claim.
        let mut looking: Fuse<BoxFuture<'static, Result<Found, Look>>> = Fuse::terminated();
        let mut complain = tokio::time::interval_at(Instant::now() + COMPLAIN_AFTER, COMPLAIN_EVERY);
        complain.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut publishing = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                command = commands.recv(), if publishing.len() < PUBLISHING_MAX => match command {
                    None => return Ok(()),
                    Some(QueueCommand::AddFunction(key)) => {
                        // Before the first look that is the look's part.
                        if streams.functions.insert(key.clone()) && streams.created.is_some() {
                            tokio::spawn(self.clone().add_consumer(key));
                        }
                    }
                    Some(QueueCommand::PublishOrder { function, job, step, attempt, trace }) => {
                        if *connected.borrow() {
                            publishing.push(self.publish_order(function, job, step, attempt, trace));
                        } else {
                            streams.unsent = Some("there is no connection to NATS".to_owned());
                        }
                    }
                    Some(QueueCommand::AckReports(token)) => drop(acks_in.send_replace(token)),
                    Some(QueueCommand::Answer { subject, body }) => self.send(subject, body).await,
                    Some(QueueCommand::PushControl { worker, body }) => self.send(self.subjects.control(&worker), body).await,
                    Some(QueueCommand::ArchiveLog { job, attempt, worker }) => {
                        // Full, it is left to the next look for forgotten logs.
                        let _ = logs_in.try_send((worker, job, attempt));
                    }
                    Some(QueueCommand::WorkerEnded(ended)) => {
                        if let Some(gate) = &self.gate {
                            gate.note_end(ended);
                        }
                    }
                    Some(QueueCommand::PurgeOrders(job)) => drop(tokio::spawn(self.clone().purge_orders(job))),
                },
                Some(sent) = publishing.next(), if !publishing.is_empty() => {
                    if let Err(reason) = sent {
                        streams.unsent = Some(reason);
                        look.reset_after(LOOK_AGAIN);
                    }
                }
                _ = complain.tick(), if !*connected.borrow() => {
                    let text = format!("no connection to NATS at {}: start it, or name another with --nats", redacted(&url));
                    warn!("{text}");
                    set_nats(&health, text);
                }
                _ = look.tick(), if *connected.borrow() && looking.is_terminated() => {
                    let (queue, functions, stale) = (self.clone(), streams.functions.clone(), streams.are_stale());
                    looking = async move { queue.look(&functions, stale, answering).await }.boxed().fuse();
                }
                result = &mut looking => match result {
                    Ok(found) => {
                        if !std::mem::replace(&mut answering, true) {
                            self.answer_others(&mut listeners).await?;
                            calls::answer(&self, &handle, &mut listeners).await?;
                            // Two that began in the same moment have not heard of each other yet.
                            look.reset_after(LOOK_AGAIN);
                        }
                        self.count(&found);
                        if streams.were_made(found.created) {
                            let _ = handle.tell(Message::Happened(Event::OrdersLost)).await;
                        }
                        prepared_in.send_if_modified(|prepared| !std::mem::replace(prepared, true));
                        set_nats(&health, String::new());
                    }
                    Err(Look::Refused(error)) => return Err(error),
                    Err(Look::NotReady(error)) => {
                        let text = format!("NATS is there, but its JetStream is not ready: {}", Chain(&error));
                        warn!("{text}");
                        set_nats(&health, text);
                        look.reset_after(LOOK_AGAIN);
                    }
                },
                Ok(()) = connected.changed() => {
                    let there = *connected.borrow_and_update();
                    info!(connected = there, "NATS is {}", if there { "connected" } else { "gone" });
                    looking = Fuse::terminated();
                    look.reset_immediately();
                    if !there {
                        complain.reset_after(COMPLAIN_AFTER);
                        set_nats(&health, format!("the connection to NATS at {} is lost", redacted(&url)));
                    }
                }
            }
        }
    }

    /// Whether the farm is ours, then the streams.
    async fn look(&self, functions: &BTreeSet<FunctionKey>, stale: bool, answering: bool) -> Result<Found, Look> {
        if !answering {
            self.ask_first().await.map_err(Look::Refused)?;
        }
        streams::take(self).await?;
        let found = streams::prepare(&self.context, &self.subjects, functions, stale).await.map_err(Look::NotReady)?;
        if answering {
            self.ask_others().await.map_err(Look::Refused)?;
        }
        Ok(found)
    }

    fn count(&self, found: &Found) {
        for (stream, messages) in [("orders", Some(found.orders)), ("reports", found.reports)] {
            if let Some(messages) = messages {
                let gauge = self.metrics.parts.jetstream_messages.with_label_values(&[stream]);
                gauge.set(i64::try_from(messages).unwrap_or(i64::MAX));
            }
        }
    }

    async fn add_consumer(self, key: FunctionKey) {
        if let Err(error) = streams::add_consumer(&self.context, &self.subjects, &key).await {
            // The next look makes it.
            warn!(function = %key, "cannot make the consumer of {key}: {}", Chain(&error));
        }
    }

    /// An order that does not arrive is offered again once the streams have been looked at. Gives the reason.
    fn publish_order(
        &self,
        function: FunctionKey,
        job: JobId,
        step: u32,
        attempt: AttemptId,
        trace: Option<TraceParent>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let context = self.context.clone();
        let subject = self.subjects.order(&function, job);
        let order = wire::Order { chunk: attempt.chunk.0, attempt: attempt.number, job: job.to_string(), step };
        async move {
            let body = order.encode_to_vec().into();
            let published = match trace {
                Some(trace) => {
                    let mut headers = async_nats::HeaderMap::new();
                    headers.insert(TRACEPARENT, trace.to_string());
                    context.publish_with_headers(subject, headers, body).await
                }
                None => context.publish(subject, body).await,
            };
            let sent = match published {
                Ok(stored) => stored.into_future().await.map(drop),
                Err(error) => Err(error),
            };
            sent.map_err(|error| Chain(&error).to_string())
        }
    }

    async fn purge_orders(self, job: JobId) {
        let Ok(stream) = self.context.get_stream(self.subjects.orders_stream()).await else { return };
        let _ = stream.purge().filter(self.subjects.orders_of_job(job)).await;
    }

    async fn send(&self, subject: String, body: Vec<u8>) {
        // Who asked was cut off too, and asks again; some only tell, and ask nothing.
        if !self.is_connected() || subject.is_empty() {
            return;
        }
        if let Err(error) = self.client.publish(subject, body.into()).await {
            // A worker that gets no answer asks again.
            warn!("an answer to a worker was not sent: {}", Chain(&error));
        }
    }

    /// A notification, for whoever listens. The server has it when this is done.
    pub(crate) async fn publish_event(
        &self,
        occasion: &str,
        project: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<(), PublishError> {
        if !self.is_connected() {
            return Err(PublishError::Away);
        }
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("content-type", media_type);
        let subject = self.subjects.notification(occasion, project);
        self.client.publish_with_headers(subject, headers, body.into()).await?;
        Ok(self.client.flush().await?)
    }

    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }
}

/// Why a look at the streams failed.
#[derive(Debug)]
enum Look {
    NotReady(streams::Error),
    /// The farm is another's.
    Refused(Error),
}

/// What is known of the streams.
#[derive(Debug, Default)]
struct Streams {
    functions: BTreeSet<FunctionKey>,
    /// When the stream of orders was made; `None` before the first look.
    created: Option<String>,
    /// Why orders were not stored, if some were not.
    unsent: Option<String>,
}

impl Streams {
    /// Orders from before this scheduler began are stale, and so are all when they are offered anew.
    fn are_stale(&self) -> bool {
        self.created.is_none() || self.unsent.is_some()
    }

    /// Takes note of a look; whether orders must be offered anew.
    fn were_made(&mut self, created: String) -> bool {
        let unsent = self.unsent.take();
        // At a start the engine plans before NATS is connected: nothing to tell anyone.
        if let (Some(reason), Some(_)) = (&unsent, &self.created) {
            warn!("orders did not reach NATS and are offered again: {reason}");
        }
        // Before the first look the engine has offered to a stream that may not have been there.
        unsent.is_some() | (self.created.replace(created.clone()) != Some(created))
    }
}

fn set_nats(health: &watch::Sender<Health>, text: String) {
    health.send_if_modified(|health| {
        let changed = health.nats != text;
        health.nats = text;
        changed
    });
}

/// An address without the password that may be in it.
pub(crate) fn redacted(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
