//! Reports from the stream into the engine, in order; acknowledged once they are durable.

use super::{Queue, reading};
use crate::engine::{Handle, Health, Message};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::Acker;
use framewake_core::event::Event;
use framewake_proto::chain::Chain;
use futures::StreamExt;
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
                    let reporter = queue.subjects.reporter(&message.subject);
                    let event = match reading::report(&message.payload) {
                        Ok(Event::AttemptReported { worker, .. }) if reporter.as_ref() != Some(&worker) => {
                            warn!(subject = %message.subject, "a report was dropped: it is in the name of {worker}");
                            continue;
                        }
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
