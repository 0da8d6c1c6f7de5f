//! Reports, in order, for as long as it is worth. Results of fast tasks travel together.

use super::{Queue, RETRY_WAIT, RETRY_WAIT_MAX};
use crate::figures::Figures;
use async_nats::HeaderMap;
use bytes::Bytes;
use framewake_proto::ids::AttemptId;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::wire::{AttemptEnd, MESSAGE_SIZE_MAX, REPORT_TASKS_MAX, Report, TaskDone, TaskFailed, TaskRun};
use prost::Message;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, Span};

/// How long a result may wait for others to travel with.
const GATHER_MAX: Duration = Duration::from_millis(50);
/// Results kept in memory while NATS is away. Past it rendering waits.
const ITEMS_MAX: usize = 16 * 1024;

/// Something to report of an attempt.
#[derive(Debug)]
pub enum Item {
    Done(TaskDone),
    Failed(TaskFailed),
    Released(TaskSet),
    /// The inputs are there; told at once only of a worker's first attempt.
    Staged {
        staged_ms: u32,
    },
    Loaded {
        load_ms: u32,
        staged_ms: u32,
    },
    End {
        end: AttemptEnd,
        log_bytes: u64,
        log_left_out_bytes: u64,
    },
}

#[derive(Debug)]
enum Note {
    /// With the span of the attempt, for what is logged of it.
    Item(AttemptId, Box<Item>, Span),
    Flush(oneshot::Sender<()>),
}

/// Where reports are handed in.
#[derive(Debug, Clone)]
pub struct Reports {
    notes: mpsc::Sender<Note>,
    figures: Figures,
}

impl Reports {
    /// Starts the task that sends, each report for `keep` at most. It ends with the last handle.
    pub fn start(queue: Queue, keep: Duration, figures: Figures) -> Reports {
        let (notes, received) = mpsc::channel(ITEMS_MAX);
        tokio::spawn(Sender::new(queue, keep).run(received));
        Reports { notes, figures }
    }

    /// Hands in; waits only when far too much is unsent.
    pub async fn tell(&self, attempt: AttemptId, item: Item) {
        match &item {
            Item::Done(done) => self.figures.done(done.elapsed_ms),
            Item::Failed(_) => self.figures.failed(),
            Item::Released(tasks) => self.figures.given_back(tasks.len().into()),
            Item::Staged { .. } | Item::Loaded { .. } | Item::End { .. } => {}
        }
        self.notes
            .send(Note::Item(attempt, Box::new(item), Span::current()))
            .await
            .expect("the sender lives as long as its handles");
    }

    /// Waits until everything handed in so far is on the stream, or given up.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.notes.send(Note::Flush(done)).await.expect("the sender lives as long as its handles");
        let _sender_gone = is_done.await;
    }
}

/// Puts items into as few reports as their bounds allow.
#[derive(Debug)]
pub struct Gathering {
    worker: String,
    report: Option<Report>,
    size: usize,
}

/// Bytes of a report beside its results: ids, run, numbers.
const REPORT_SIZE: usize = 256;

impl Gathering {
    pub fn new(worker: String) -> Gathering {
        Gathering { worker, report: None, size: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.report.is_none()
    }

    /// Adds an item; gives the reports that are ready to go.
    pub fn add(&mut self, attempt: AttemptId, item: Item) -> Vec<Report> {
        let mut ready = Vec::new();
        let size = match &item {
            Item::Done(done) => done.encoded_len() + 8,
            Item::Failed(failed) => failed.encoded_len() + 8,
            Item::Released(tasks) => tasks.runs().len() * 16,
            Item::Staged { .. } | Item::Loaded { .. } | Item::End { .. } => 0,
        };
        let other = self
            .report
            .as_ref()
            .is_some_and(|report| (report.chunk, report.attempt) != (attempt.chunk.0, attempt.number));
        if other || self.size + size > MESSAGE_SIZE_MAX {
            ready.extend(self.take());
        }
        let report = self.report.get_or_insert_with(|| {
            self.size = REPORT_SIZE;
            let worker = self.worker.clone();
            Report { worker, chunk: attempt.chunk.0, attempt: attempt.number, ..Report::default() }
        });
        self.size += size;
        let mut full = false;
        match item {
            Item::Done(done) => report.done.push(done),
            Item::Failed(failed) => report.failed.push(failed),
            Item::Released(tasks) => {
                report.released.extend(Vec::<TaskRun>::from(&tasks));
                // An idle worker may be waiting for these.
                full = true;
            }
            Item::Staged { staged_ms } => report.staged_ms = Some(staged_ms),
            Item::Loaded { load_ms, staged_ms } => {
                (report.load_ms, report.staged_ms) = (Some(load_ms), Some(staged_ms));
            }
            Item::End { end, log_bytes, log_left_out_bytes } => {
                report.end = end.into();
                report.log_bytes = log_bytes;
                report.log_left_out_bytes = log_left_out_bytes;
                full = true;
            }
        }
        if full || report.done.len() + report.failed.len() >= REPORT_TASKS_MAX {
            ready.extend(self.take());
        }
        ready
    }

    pub fn take(&mut self) -> Option<Report> {
        self.report.take()
    }
}

struct Sender {
    queue: Queue,
    gathering: Gathering,
    subject: String,
    /// Differs from an earlier worker that had the same id.
    start: i64,
    sent: u64,
    /// Longest time that a report is tried.
    keep: Duration,
    given_up: bool,
    /// The attempt that was told of last.
    about: Span,
}

impl Sender {
    fn new(queue: Queue, keep: Duration) -> Sender {
        let gathering = Gathering::new(queue.worker.to_string());
        let subject = queue.subjects.report(&queue.worker);
        Sender {
            gathering,
            subject,
            start: Timestamp::now().0,
            sent: 0,
            queue,
            keep,
            given_up: false,
            about: Span::none(),
        }
    }

    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut due = Instant::now();
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                () = tokio::time::sleep_until(due), if !self.gathering.is_empty() => {
                    self.send_gathered().await;
                    continue;
                }
            };
            match note {
                None => return self.send_gathered().await,
                Some(Note::Item(attempt, item, span)) => {
                    if self.gathering.is_empty() {
                        due = Instant::now() + GATHER_MAX;
                    }
                    for report in self.gathering.add(attempt, *item) {
                        let is_its = (report.chunk, report.attempt) == (attempt.chunk.0, attempt.number);
                        let about = if is_its { span.clone() } else { self.about.clone() };
                        self.send(report).instrument(about).await;
                    }
                    self.about = span;
                }
                Some(Note::Flush(done)) => {
                    self.send_gathered().await;
                    let _nobody_waits_any_more = done.send(());
                }
            }
        }
    }

    async fn send_gathered(&mut self) {
        if let Some(report) = self.gathering.take() {
            let about = self.about.clone();
            self.send(report).instrument(about).await;
        }
    }

    /// Publishes until the stream has it. Past [`Sender::keep`] it gives up: a machine that waits for a farm that is gone
    /// costs more than a look into the store.
    async fn send(&mut self, report: Report) {
        let is_away = self.queue.client.connection_state() == async_nats::connection::State::Disconnected;
        if self.given_up && is_away {
            return;
        }
        let body = Bytes::from(report.encode_to_vec());
        let mut headers = HeaderMap::new();
        let id = format!("{}.{}.{}", self.queue.worker, self.start, self.sent);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        self.sent += 1;
        let mut wait = RETRY_WAIT;
        let began = Instant::now();
        loop {
            let context = &self.queue.context;
            let published = context.publish_with_headers(self.subject.clone(), headers.clone(), body.clone()).await;
            let acknowledged = match published {
                Ok(acknowledgment) => acknowledgment.await.map(|_| ()),
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(()) => {
                    self.given_up = false;
                    return;
                }
                Err(error) if self.given_up || began.elapsed() > self.keep => {
                    tracing::error!(%error, "a report is given up, as NATS is away for too long; its results are in the store");
                    // The next ones are not waited for, until NATS is back.
                    self.given_up = true;
                    return;
                }
                Err(error) => tracing::warn!(%error, "a report is not on its stream yet; kept and sent again"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::ids::ChunkId;

    const FIRST: AttemptId = AttemptId { chunk: ChunkId(7), number: 1 };
    const SECOND: AttemptId = AttemptId { chunk: ChunkId(8), number: 1 };

    fn done(task: u32) -> Item {
        Item::Done(TaskDone { task, key: "k".repeat(40), sha256: vec![1; 32], ..TaskDone::default() })
    }

    fn failed(task: u32) -> Item {
        Item::Failed(TaskFailed { task, evidence: "e".repeat(4096), ..TaskFailed::default() })
    }

    #[test]
    fn results_travel_sixteen_together_and_the_end_at_once() {
        let mut gathering = Gathering::new("w".into());
        for task in 0..15 {
            assert!(gathering.add(FIRST, done(task)).is_empty());
        }
        assert_eq!(gathering.add(FIRST, done(15)).remove(0).done.len(), 16);
        assert!(gathering.add(FIRST, done(16)).is_empty());
        let last = gathering
            .add(FIRST, Item::End { end: AttemptEnd::Finished, log_bytes: 9, log_left_out_bytes: 4 })
            .remove(0);
        assert_eq!((last.done.len(), last.end(), last.log_bytes), (1, AttemptEnd::Finished, 9));
        assert!(gathering.is_empty());
    }

    #[test]
    fn a_report_is_about_one_attempt_and_within_its_size() {
        let mut gathering = Gathering::new("w".into());
        assert!(gathering.add(FIRST, done(0)).is_empty());
        let ready = gathering.add(SECOND, failed(0));
        assert_eq!((ready.len(), ready[0].chunk, ready[0].done.len()), (1, 7, 1));
        let mut reports = Vec::new();
        for task in 1..20 {
            reports.extend(gathering.add(SECOND, failed(task)));
        }
        reports.extend(gathering.take());
        assert!(reports.iter().all(|report| report.encoded_len() <= MESSAGE_SIZE_MAX));
        assert_eq!(reports.iter().map(|report| report.failed.len()).sum::<usize>(), 20);
    }
}
