//! Logs of attempts: live from their stream, and moved to the store when the attempt ends.

use super::Queue;
use crate::objects::Objects;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::Bytes;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::objects::log_key;
use framewake_proto::wire;
use futures::{Stream, StreamExt};
use prost::Message as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

/// Longest wait for the next piece of a log that is known to be there.
const PIECE_WAIT: Duration = Duration::from_secs(5);
/// A reader of live logs that is gone is forgotten after this.
const READER_IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
#[error("the live log can't be read: {0}")]
pub struct LogsError(String);

/// A live log, piece by piece.
pub type Live = std::pin::Pin<Box<dyn Stream<Item = Bytes> + Send>>;

impl Queue {
    /// What the attempt has written so far, and with `follow` what it will write; without an end of its own.
    pub async fn live_log(&self, job: JobId, attempt: AttemptId, follow: bool) -> Result<Live, LogsError> {
        let failed = |error: &(dyn std::error::Error + 'static)| LogsError(Chain(error).to_string());
        let (messages, pending) = self.log_messages(job, attempt).await?;
        if follow {
            let stream = messages.stream().heartbeat(Duration::from_secs(10)).messages().await.map_err(|error| failed(&error))?;
            return Ok(Box::pin(pieces(stream)));
        }
        let stream = messages.stream().messages().await.map_err(|error| failed(&error))?;
        Ok(Box::pin(pieces(stream).take(usize::try_from(pending).unwrap_or(usize::MAX))))
    }

    async fn log_messages(
        &self,
        job: JobId,
        attempt: AttemptId,
    ) -> Result<(async_nats::jetstream::consumer::PullConsumer, u64), LogsError> {
        let failed = |error: &(dyn std::error::Error + 'static)| LogsError(Chain(error).to_string());
        let stream = self.context.get_stream(self.subjects.logs_stream()).await.map_err(|error| failed(&error))?;
        let config = pull::Config {
            filter_subject: self.subjects.log(job, attempt),
            deliver_policy: DeliverPolicy::All,
            ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
            inactive_threshold: READER_IDLE,
            ..Default::default()
        };
        let mut consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let pending = consumer.info().await.map_err(|error| failed(&error))?.num_pending;
        Ok((consumer, pending))
    }

    async fn archive(&self, objects: &Objects, job: JobId, attempt: AttemptId) -> Result<(), String> {
        let (consumer, pending) = self.log_messages(job, attempt).await.map_err(|error| error.to_string())?;
        if pending == 0 {
            return Ok(());
        }
        let stream = consumer.stream().messages().await.map_err(|error| Chain(&error).to_string())?;
        let mut pieces = Box::pin(pieces(stream).take(usize::try_from(pending).unwrap_or(usize::MAX)));
        let mut text = Vec::new();
        while let Ok(Some(piece)) = tokio::time::timeout(PIECE_WAIT, pieces.next()).await {
            // Workers keep to the bound; this is for those that don't.
            if text.len() as u64 > 2 * wire::LOG_SIZE_MAX {
                break;
            }
            text.extend_from_slice(&piece);
        }
        objects.put(&log_key(job, attempt), text.into()).await.map_err(|error| Chain(&error).to_string())?;
        if let Ok(stream) = self.context.get_stream(self.subjects.logs_stream()).await {
            let _ = stream.purge().filter(self.subjects.log(job, attempt)).await;
        }
        Ok(())
    }
}

fn pieces(
    messages: impl Stream<Item = Result<async_nats::jetstream::Message, async_nats::jetstream::consumer::pull::MessagesError>>,
) -> impl Stream<Item = Bytes> {
    messages.filter_map(async |message| {
        let batch = wire::LogBatch::decode(&*message.ok()?.payload).ok()?;
        Some(Bytes::from(batch.text))
    })
}

/// One after the other: logs are many small objects, and rendering comes first.
pub(super) async fn archive_all(queue: Queue, objects: Objects, mut ended: mpsc::UnboundedReceiver<(JobId, AttemptId)>) {
    while let Some((job, attempt)) = ended.recv().await {
        if let Err(reason) = queue.archive(&objects, job, attempt).await {
            // It stays readable from the stream until it expires.
            warn!(job.id = %job, attempt = %attempt, "the log of attempt {attempt} was not moved to the store: {reason}");
        }
    }
}
