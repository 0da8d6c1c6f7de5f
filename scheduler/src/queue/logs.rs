//! Logs of attempts: live from their stream, and moved to the store when the attempt ends.

use super::Queue;
use crate::engine::{Handle, Message};
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
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// Logs that wait to be moved to the store.
pub(super) const WAITING_MAX: usize = 10_000;
/// Logs that are moved at the same time: many small objects, on stores that take a moment for each.
const ARCHIVED_AT_ONCE: usize = 8;
/// How often logs that were forgotten are looked for.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// Most of them that are found by one look.
const FOUND_MAX: usize = WAITING_MAX;
/// Longest wait for the next piece of a log that is known to be there.
const PIECE_WAIT: Duration = Duration::from_secs(5);
/// A reader of live logs that is gone is forgotten after this.
const READER_IDLE: Duration = Duration::from_mins(1);

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
            let stream = messages
                .stream()
                .heartbeat(Duration::from_secs(10))
                .messages()
                .await
                .map_err(|error| failed(&error))?;
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
        let messages = consumer.stream().messages().await.map_err(|error| said(&error))?;
        let mut messages = messages.take(usize::try_from(pending).unwrap_or(usize::MAX));
        let mut text = Vec::new();
        let mut first = true;
        let mut read_to = 0;
        while let Ok(Some(message)) = tokio::time::timeout(PIECE_WAIT, messages.next()).await {
            let message = message.map_err(|error| said(&error))?;
            read_to = message.info().map_err(|error| error.to_string())?.stream_sequence;
            let Ok(batch) = wire::LogBatch::decode(&*message.payload) else { continue };
            if std::mem::take(&mut first) && batch.offset > 0 {
                // Written after the attempt was given up: what came before is in the store already.
                text = stored(objects, job, attempt, batch.offset).await?;
            }
            // Workers keep to the bound; this is for those that don't.
            if text.len() as u64 <= 2 * wire::LOG_SIZE_MAX {
                text.extend_from_slice(&batch.text);
            }
        }
        objects.put(&log_key(job, attempt), text.into()).await.map_err(|error| said(&error))?;
        let stream = self.context.get_stream(self.subjects.logs_stream()).await.map_err(|error| said(&error))?;
        // What was written since stays for the next look.
        let purge = stream.purge().filter(self.subjects.log(job, attempt)).sequence(read_to + 1);
        purge.await.map(drop).map_err(|error| said(&error))
    }

    /// Attempts whose logs lie on the stream.
    async fn found_logs(&self) -> Result<Vec<(JobId, AttemptId)>, String> {
        let stream = self.context.get_stream(self.subjects.logs_stream()).await.map_err(|error| said(&error))?;
        let found = stream.info_with_subjects(self.subjects.logs_all()).await.map_err(|error| said(&error))?;
        let mut found = found.take(FOUND_MAX);
        let mut logs = Vec::new();
        while let Some(subject) = found.next().await {
            let (subject, _) = subject.map_err(|error| said(&error))?;
            logs.extend(self.subjects.log_of(&subject));
        }
        Ok(logs)
    }
}

/// The beginning of a log that is in the store.
async fn stored(objects: &Objects, job: JobId, attempt: AttemptId, bytes: u64) -> Result<Vec<u8>, String> {
    match objects.get(&log_key(job, attempt), None).await.map_err(|error| said(&error))? {
        None => Ok(Vec::new()),
        Some(found) => {
            let mut text = found.bytes().await.map_err(|error| said(&error))?.to_vec();
            text.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
            Ok(text)
        }
    }
}

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string()
}

fn pieces(
    messages: impl Stream<
        Item = Result<async_nats::jetstream::Message, async_nats::jetstream::consumer::pull::MessagesError>,
    >,
) -> impl Stream<Item = Bytes> {
    messages.filter_map(async |message| {
        let batch = wire::LogBatch::decode(&*message.ok()?.payload).ok()?;
        Some(Bytes::from(batch.text))
    })
}

/// Moves logs to the store as their attempts end, and looks for those that were forgotten.
pub(super) async fn archive_all(
    queue: Queue,
    handle: Handle,
    objects: Objects,
    ended: mpsc::Receiver<(JobId, AttemptId)>,
    mut prepared: watch::Receiver<bool>,
) {
    let ended = futures::stream::unfold(ended, async |mut ended| Some((ended.recv().await?, ended)));
    let archive = ended.for_each_concurrent(ARCHIVED_AT_ONCE, |(job, attempt)| {
        let (queue, objects) = (&queue, &objects);
        async move {
            if let Err(reason) = queue.archive(objects, job, attempt).await {
                // It stays readable from the stream, and the next look finds it.
                warn!(job.id = %job, attempt = %attempt, "the log of attempt {attempt} was not moved to the store: {reason}");
            }
        }
    });
    let look = async {
        let _ = prepared.wait_for(|prepared| *prepared).await;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            if let Ok(found) = queue.found_logs().await {
                let _ = handle.tell(Message::FoundLogs(found)).await;
            }
        }
    };
    tokio::select! {
        () = archive => {}
        () = look => {}
    }
}
