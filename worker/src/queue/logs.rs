//! Publishes batches of logs. Logs are worth a few tries, never a wait of the render.

use super::Queue;
use crate::logs::AttemptLog;
use bytes::Bytes;
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::wire::LogBatch;
use prost::Message;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, Span};

/// Batches that wait, of 64 KiB each. Past it text waits in its log.
const BATCHES_MAX: usize = 16;
const TRIES_MAX: u32 = 5;
const RETRY_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Note {
    /// With the span of the attempt, for what is logged of it.
    Batch(String, LogBatch, Span),
    Flush(oneshot::Sender<()>),
}

/// Where batches are handed in.
#[derive(Debug, Clone)]
pub struct LogStream {
    queue: Queue,
    notes: mpsc::Sender<Note>,
}

impl LogStream {
    /// Starts the task that publishes. It ends with the last handle.
    pub fn start(queue: Queue) -> LogStream {
        let (notes, received) = mpsc::channel(BATCHES_MAX);
        tokio::spawn(run(queue.clone(), received));
        LogStream { queue, notes }
    }

    /// Hands in all that the log has, as there is room for it.
    pub async fn publish(&self, job: JobId, attempt: AttemptId, log: &AttemptLog) {
        loop {
            let Ok(room) = self.notes.reserve().await else { return };
            let Some(batch) = log.take_batch() else { return };
            room.send(Note::Batch(self.queue.subjects.log(&self.queue.worker, job, attempt), batch, Span::current()));
        }
    }

    /// Waits until everything handed in so far was published or given up.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.notes.send(Note::Flush(done)).await.is_ok() {
            let _publisher_gone = is_done.await;
        }
    }
}

async fn run(queue: Queue, mut notes: mpsc::Receiver<Note>) {
    while let Some(note) = notes.recv().await {
        match note {
            Note::Batch(subject, batch, about) => publish(&queue, subject, &batch).instrument(about).await,
            Note::Flush(done) => {
                let _nobody_waits_any_more = done.send(());
            }
        }
    }
}

async fn publish(queue: &Queue, subject: String, batch: &LogBatch) {
    let body = Bytes::from(batch.encode_to_vec());
    for number in 1..=TRIES_MAX {
        let acknowledged = match queue.context.publish(subject.clone(), body.clone()).await {
            Ok(acknowledgment) => acknowledgment.await.map(|_| ()),
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, number, subject, "a batch of a log is not on its stream yet"),
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
    tracing::warn!(subject, offset = batch.offset, "a batch of a log is lost: NATS does not take it");
}
