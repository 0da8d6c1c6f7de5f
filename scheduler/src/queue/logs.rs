//! Logs of attempts: live from their stream, and moved to the store when the attempt ends.

use super::Queue;
use crate::engine::{Handle, Message};
use crate::objects::Objects;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::Bytes;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, JobId, WorkerId};
use framewake_proto::objects::log_key;
use framewake_proto::wire::{self, LOG_BATCH_MAX, LOG_SIZE_MAX};
use futures::{Stream, StreamExt};
use prost::Message as _;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::warn;

/// Logs that wait to be moved to the store.
pub(super) const WAITING_MAX: usize = 10_000;
/// Logs that are moved at the same time: many small objects, on stores that take a moment for each.
const ARCHIVED_AT_ONCE: usize = 8;
/// Most kilobytes of logs in memory on their way: eight flooded logs at once would take more than all else.
const ARCHIVED_KIB_MAX: u32 = 64 * 1024;
/// Past this a log is cut off: workers keep to the bound, and say what they left out; this is for those that don't.
const SIZE_MAX: u64 = LOG_SIZE_MAX + 64 * 1024;
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
    pub async fn live_log(
        &self,
        worker: &WorkerId,
        job: JobId,
        attempt: AttemptId,
        follow: bool,
    ) -> Result<Live, LogsError> {
        let failed = |error: &(dyn std::error::Error + 'static)| LogsError(Chain(error).to_string());
        let (messages, pending) = self.log_messages(worker, job, attempt).await?;
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

    /// Of the one worker that had the attempt: anybody else's words under it count for nothing.
    async fn log_messages(
        &self,
        worker: &WorkerId,
        job: JobId,
        attempt: AttemptId,
    ) -> Result<(async_nats::jetstream::consumer::PullConsumer, u64), LogsError> {
        let failed = |error: &(dyn std::error::Error + 'static)| LogsError(Chain(error).to_string());
        let stream = self.context.get_stream(self.subjects.logs_stream()).await.map_err(|error| failed(&error))?;
        let config = pull::Config {
            filter_subject: self.subjects.log(worker, job, attempt),
            deliver_policy: DeliverPolicy::All,
            ack_policy: async_nats::jetstream::consumer::AckPolicy::None,
            inactive_threshold: READER_IDLE,
            ..Default::default()
        };
        let mut consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        let pending = consumer.info().await.map_err(|error| failed(&error))?.num_pending;
        Ok((consumer, pending))
    }

    async fn archive(
        &self,
        objects: &Objects,
        room: &Semaphore,
        (worker, job, attempt): (WorkerId, JobId, AttemptId),
    ) -> Result<(), String> {
        let (consumer, pending) = self.log_messages(&worker, job, attempt).await.map_err(|error| error.to_string())?;
        if pending == 0 {
            return Ok(());
        }
        // As much as it may be: messages are at most as long as a batch.
        let size_max = SIZE_MAX.min(pending.saturating_mul(LOG_BATCH_MAX as u64));
        let kib = u32::try_from(size_max.div_ceil(1024)).unwrap_or(ARCHIVED_KIB_MAX).min(ARCHIVED_KIB_MAX);
        let _room = room.acquire_many(kib).await.expect("the semaphore is never closed");
        let messages = consumer.stream().messages().await.map_err(|error| said(&error))?;
        let mut messages = messages.take(usize::try_from(pending).unwrap_or(usize::MAX));
        let mut text = Vec::new();
        let mut first = true;
        // Bytes of the log up to here, there or lost.
        let mut position = 0;
        let mut read_to = 0;
        while let Ok(Some(message)) = tokio::time::timeout(PIECE_WAIT, messages.next()).await {
            let message = message.map_err(|error| said(&error))?;
            read_to = message.info().map_err(|error| error.to_string())?.stream_sequence;
            let Ok(batch) = wire::LogBatch::decode(&*message.payload) else { continue };
            if std::mem::take(&mut first) && batch.offset > 0 {
                // Written after the attempt was given up: what came before is in the store already.
                text = stored(objects, job, attempt, batch.offset).await?;
                position = text.len() as u64;
            }
            if batch.offset > position {
                let words = format!("\n[framewake] … {} bytes lost on their way …\n", batch.offset - position);
                text.extend_from_slice(words.as_bytes());
            }
            position = batch.offset.saturating_add(batch.text.len() as u64);
            if (text.len() + batch.text.len()) as u64 <= SIZE_MAX {
                text.extend_from_slice(&batch.text);
            }
        }
        objects.put(&log_key(job, attempt), text.into()).await.map_err(|error| said(&error))?;
        let stream = self.context.get_stream(self.subjects.logs_stream()).await.map_err(|error| said(&error))?;
        // What was written since stays for the next look.
        let purge = stream.purge().filter(self.subjects.log(&worker, job, attempt)).sequence(read_to + 1);
        purge.await.map(drop).map_err(|error| said(&error))
    }

    /// Attempts whose logs lie on the stream, and who wrote there.
    async fn found_logs(&self) -> Result<Vec<(WorkerId, JobId, AttemptId)>, String> {
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
    ended: mpsc::Receiver<(WorkerId, JobId, AttemptId)>,
    mut prepared: watch::Receiver<bool>,
) {
    let room = Semaphore::new(ARCHIVED_KIB_MAX as usize);
    let ended = futures::stream::unfold(ended, async |mut ended| Some((ended.recv().await?, ended)));
    let archive = ended.for_each_concurrent(ARCHIVED_AT_ONCE, |(worker, job, attempt)| {
        let (queue, objects, room) = (&queue, &objects, &room);
        async move {
            if let Err(reason) = queue.archive(objects, room, (worker, job, attempt)).await {
                // It stays readable from the stream, and the next look finds it.
                warn!(job.id = %job, chunk.id = attempt.chunk.0, attempt = attempt.number, "the log of attempt {attempt} was not moved to the store: {reason}");
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
