//! Pulls one order at a time: what is prefetched is hidden from idle workers.

use super::{Queue, REQUEST_WAIT, RETRY_WAIT};
use async_nats::jetstream::consumer::{PullConsumer, pull};
use framewake_proto::trace::{TRACEPARENT, TraceParent};
use framewake_proto::wire::Order;
use futures::{FutureExt, StreamExt};
use prost::Message;
use std::time::Duration;

/// Longest single pull. Short enough that a pull which NATS forgot costs little.
const PULL_MAX: Duration = Duration::from_secs(20);
/// Shortest pull: NATS refuses to be asked for nothing.
const PULL_MIN: Duration = Duration::from_millis(50);

/// The queue of orders of the worker's function.
#[derive(Debug)]
pub struct Orders {
    queue: Queue,
    consumer: Option<PullConsumer>,
    /// A pull under way; it outlives the future that waits for it.
    pull: Option<Pull>,
}

struct Pull {
    batch: pull::Batch,
    until: tokio::time::Instant,
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("until", &self.until).finish_non_exhaustive()
    }
}

/// An order that `JetStream` delivered and waits to hear about.
#[derive(Debug)]
pub struct Delivered {
    pub order: Order,
    /// The span that the attempt is, where the job is traced.
    pub trace: Option<TraceParent>,
    client: async_nats::Client,
    reply: Option<async_nats::Subject>,
}

impl Orders {
    pub fn new(queue: Queue) -> Orders {
        Orders { queue, consumer: None, pull: None }
    }

    /// The next order, if one comes within `wait`. After any fault it answers `None` soon, so that the
    /// caller can look whether it should still be here. Losing the future loses nothing.
    pub async fn next(&mut self, wait: Duration) -> Option<Delivered> {
        if self.pull.is_none() {
            match self.begin(wait.clamp(PULL_MIN, PULL_MAX)).await {
                Ok(pull) => self.pull = Some(pull),
                Err(error) => {
                    tracing::debug!(error, "cannot pull orders; trying again");
                    // It may have been made anew under the same name.
                    self.consumer = None;
                    tokio::time::sleep(RETRY_WAIT).await;
                    return None;
                }
            }
        }
        let pull = self.pull.as_mut()?;
        let next = tokio::time::timeout_at(pull.until, pull.batch.next()).await;
        self.pull = None;
        match next {
            Ok(Some(Ok(message))) => self.read(&message).await,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a pull ended early; pulling again");
                self.consumer = None;
                tokio::time::sleep(RETRY_WAIT).await;
                None
            }
            // The pull has expired, or NATS forgot it.
            Ok(None) | Err(_) => None,
        }
    }

    /// Ends a pull under way. An order that came just now goes back at once.
    pub async fn close(&mut self) {
        let Some(mut pull) = self.pull.take() else { return };
        if let Some(Some(Ok(message))) = pull.batch.next().now_or_never()
            && let Some(delivered) = self.read(&message).await
        {
            delivered.give_back().await;
        }
    }

    async fn begin(&mut self, expires: Duration) -> Result<Pull, String> {
        let consumer = if let Some(consumer) = self.consumer.take() {
            consumer
        } else {
            let name = self.queue.subjects.orders_consumer(&self.queue.function);
            let stream = self.queue.subjects.orders_stream();
            let found = self.queue.context.get_consumer_from_stream(name, stream).await;
            found.map_err(|error| error.to_string())?
        };
        let batch = consumer.batch().max_messages(1).expires(expires);
        // NATS wants at least two heartbeats in a pull.
        let batch = if expires >= PULL_MAX / 2 { batch.heartbeat(expires / 4) } else { batch };
        let batch = batch.messages().await.map_err(|error| error.to_string())?;
        self.consumer = Some(consumer);
        Ok(Pull { batch, until: tokio::time::Instant::now() + expires + REQUEST_WAIT })
    }

    async fn read(&self, message: &async_nats::jetstream::Message) -> Option<Delivered> {
        match Order::decode(message.payload.clone()) {
            Ok(order) => {
                let header = message.headers.as_ref().and_then(|headers| headers.get(TRACEPARENT));
                let trace = header.and_then(|value| value.as_str().parse().ok());
                Some(Delivered { order, trace, client: self.queue.client.clone(), reply: message.reply.clone() })
            }
            Err(error) => {
                tracing::warn!(%error, "an order can't be read; dropped");
                let _comes_again = message.double_ack().await;
                None
            }
        }
    }
}

impl Delivered {
    /// Tells `JetStream` that the order is settled, without making the render wait for it. Should that
    /// fail, the order comes again and its claim is refused.
    pub fn settle(self) {
        let Some(reply) = self.reply else { return };
        tokio::spawn(async move {
            // A request, so that JetStream confirms: a plain ack may be lost in a crash.
            if let Err(error) = self.client.request(reply, "+ACK".into()).await {
                tracing::debug!(%error, "JetStream did not confirm an order; it will come again and be refused");
            }
        });
    }

    /// Gives an order back that was not claimed.
    pub async fn give_back(self) {
        if let Some(reply) = self.reply {
            let _comes_again_anyway = self.client.publish(reply, "-NAK".into()).await;
        }
    }
}
