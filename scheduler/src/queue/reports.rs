//! Reports from the stream into the engine, in order; acknowledged once they are durable.

use super::Queue;
use crate::engine::{Handle, Health, Message};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::Acker;
use framewake_core::event::{AttemptEnd, Event, Report, TaskFailure, TaskResult};
use framewake_core::values::LogSize;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, ChunkId};
use framewake_proto::verdict::Verdict;
use framewake_proto::wire;
use futures::StreamExt;
use prost::Message as _;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Reports taken and not yet acknowledged.
const IN_HAND_MAX: i64 = 8192;
/// A report that was taken and not acknowledged comes again after this: the engine is never this slow.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// JetStream says this often that it is there; twice missed, reading begins anew. Well before a lease ends: a NATS that
/// hangs must be told from workers that are silent.
const IDLE_HEARTBEAT: Duration = Duration::from_secs(3);
const TRY_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn receive(
    queue: Queue,
    handle: Handle,
    mut acks: watch::Receiver<u64>,
    mut prepared: watch::Receiver<bool>,
    health: watch::Sender<Health>,
) {
    let _ = prepared.wait_for(|prepared| *prepared).await;
    let mut reading = Reading { token: 0, drained: false, connected: queue.connected.clone() };
    loop {
        let Ok(_) = reading.connected.wait_for(|connected| *connected).await else { return };
        if let Err(reason) = reading.follow(&queue, &handle, &mut acks, &health).await {
            warn!("reports can't be read for the moment: {reason}");
        }
        if handle.inbox.is_closed() {
            return;
        }
        if std::mem::take(&mut reading.drained) {
            // Whoever renders goes on, and can't say so.
            health.send_modify(|health| health.drained = false);
            let _ = handle.tell(Message::Happened(Event::ReportsHeldUp)).await;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

struct Reading {
    /// Of the newest report that was taken.
    token: u64,
    /// All reports that waited when the connection was made have been passed on.
    drained: bool,
    connected: watch::Receiver<bool>,
}

impl Reading {
    /// Reads until something breaks; the reason.
    async fn follow(
        &mut self,
        queue: &Queue,
        handle: &Handle,
        acks: &mut watch::Receiver<u64>,
        health: &watch::Sender<Health>,
    ) -> Result<(), String> {
        let name = queue.subjects.reports_consumer();
        let config = pull::Config {
            durable_name: Some(name.clone()),
            // One acknowledgment stands for all before it: reports are applied in order.
            ack_policy: AckPolicy::All,
            ack_wait: ACK_WAIT,
            max_ack_pending: IN_HAND_MAX,
            ..Default::default()
        };
        let stream = queue.context.get_stream(queue.subjects.reports_stream()).await.map_err(|error| said(&error))?;
        let consumer = stream.get_or_create_consumer(&name, config).await.map_err(|error| said(&error))?;
        // What was handed to a scheduler that died before it was durable comes first. Without the reset it would
        // come after `ACK_WAIT`, behind newer reports, and the acknowledgment of those would stand for it, unread.
        let reset = stream.reset_consumer(&name, None).await.map_err(|error| said(&error))?;
        let mut waiting = reset.info.num_pending;
        let messages = consumer.stream().max_messages_per_batch(500).heartbeat(IDLE_HEARTBEAT).messages().await;
        let mut messages = messages.map_err(|error| said(&error))?;
        let mut in_hand: VecDeque<(u64, Acker)> = VecDeque::new();
        if waiting > 0 && !self.drained {
            info!(reports = waiting, "{waiting} reports waited for the scheduler");
        }
        loop {
            if waiting == 0 && !self.drained {
                self.drained = true;
                let _ = handle.tell(Message::Happened(Event::ReportsDrained)).await;
                health.send_modify(|health| health.drained = true);
            }
            tokio::select! {
                message = messages.next() => {
                    let message = message.ok_or("the stream of reports ended")?.map_err(|error| said(&error))?;
                    waiting = waiting.saturating_sub(1);
                    let (message, acker) = message.split();
                    self.token += 1;
                    in_hand.push_back((self.token, acker));
                    let event = match read(&message.payload) {
                        Ok(event) => Message::Reported(event, self.token),
                        Err(reason) => {
                            warn!(subject = %message.subject, "a report was dropped: {reason}");
                            continue;
                        }
                    };
                    if !handle.tell(event).await {
                        return Ok(());
                    }
                }
                Ok(()) = acks.changed() => {
                    let durable = *acks.borrow_and_update();
                    let mut last = None;
                    while in_hand.front().is_some_and(|(token, _)| *token <= durable) {
                        last = in_hand.pop_front();
                    }
                    if let Some((_, acker)) = last {
                        acker.ack().await.map_err(|error| error.to_string())?;
                    }
                }
                () = changed(&self.connected) => return Err("the connection to NATS was lost".to_owned()),
            }
        }
    }
}

/// Waits for a change without taking note of it.
async fn changed(connected: &watch::Receiver<bool>) {
    let mut connected = connected.clone();
    let _ = connected.changed().await;
}

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string()
}

fn read(payload: &[u8]) -> Result<Event, String> {
    if payload.len() > 2 * wire::MESSAGE_SIZE_MAX {
        return Err(format!("it has {} bytes", payload.len()));
    }
    let report = wire::Report::decode(payload).map_err(|error| error.to_string())?;
    let end = match report.end() {
        wire::AttemptEnd::None => None,
        wire::AttemptEnd::Finished => Some(AttemptEnd::Finished),
        wire::AttemptEnd::HandedBack => Some(AttemptEnd::HandedBack),
        wire::AttemptEnd::Canceled => Some(AttemptEnd::Canceled),
        wire::AttemptEnd::LicenseWait => Some(AttemptEnd::LicenseWait),
    };
    let worker = report.worker.parse().map_err(|_| "it names an impossible worker".to_owned())?;
    let attempt = AttemptId { chunk: ChunkId(report.chunk), number: report.attempt };
    let done = report.done.into_iter().map(task_result).collect::<Result<_, _>>()?;
    let report = Report {
        done,
        failed: report.failed.into_iter().map(task_failure).collect(),
        released: wire::task_set(&report.released),
        load_ms: report.load_ms,
        end,
        log: LogSize { kept_bytes: report.log_bytes, left_out_bytes: report.log_left_out_bytes },
    };
    Ok(Event::AttemptReported { worker, attempt, report })
}

fn task_result(done: wire::TaskDone) -> Result<TaskResult, String> {
    // A step without output has no digest.
    let sha256 = if done.sha256.is_empty() { vec![0; 32] } else { done.sha256 };
    Ok(TaskResult {
        task: done.task,
        key: done.key,
        sha256: sha256.try_into().map_err(|_| "a digest has the wrong length".to_owned())?,
        size_bytes: done.size_bytes,
        width: done.width,
        height: done.height,
        device: wire::clip(&done.device, 200).to_owned(),
        renderer: wire::clip(&done.renderer, 200).to_owned(),
        elapsed_ms: done.elapsed_ms,
        found: done.found,
        memory_peak_bytes: done.memory_peak_bytes,
    })
}

fn task_failure(failed: wire::TaskFailed) -> TaskFailure {
    TaskFailure {
        task: failed.task,
        // A verdict of a newer worker that this scheduler does not know is a failure like any other.
        verdict: failed.verdict.parse().unwrap_or(Verdict::RetrySame),
        message: wire::clip(&failed.message, wire::FAILURE_MESSAGE_MAX).to_owned(),
        evidence: wire::clip_front(&failed.evidence, wire::EVIDENCE_MAX).to_owned(),
    }
}
