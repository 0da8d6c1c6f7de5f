//! Delivers what people asked to be told: what the engine wrote down in the transaction of the change itself goes out
//! from here, at least once, and is forgotten only when it is durable that it arrived.
//!
//! Each target has a lane of its own, so that one that is slow or away holds up no other, and never the engine.

mod address;
mod check;
mod event;
mod mail;
#[cfg(test)]
mod tests;
mod ways;
mod words;

pub use address::Allowed;
pub(crate) use check::faults;
pub(crate) use event::{hmac_hex, key as secret_key, signature};
pub use mail::Mail;
pub use ways::Ways;

use crate::engine::clock::Clock;
use crate::engine::handle::Handle;
use crate::engine::notices::TriedNotice;
use crate::metrics::Metrics;
use crate::store::Tried;
use crate::store::read::{DueNotice, Reader};
use crate::target_table::{Target, TargetId};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Tries under way at once for one target.
const LANE_MAX: u32 = 4;
/// Wait before the second try; doubles with each further one.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_hours(6);
/// Most tries, however long they may go on: doubling waits reach a day with seventeen.
const TRIES_MAX: u32 = 20;
/// A lane that can't read the store waits this long.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// A lane looks at the store at least so often.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// What every lane needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) handle: Handle,
    pub(crate) reader: Reader,
    pub(crate) ways: Arc<Ways>,
    pub(crate) metrics: Arc<Metrics>,
    /// How long one notification is tried.
    pub(crate) patience: Duration,
    pub(crate) clock: Clock,
}

impl Delivery {
    /// Runs until `stop`, with a lane for each target there is. A try that is cut off is made again at the next start.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut targets = self.handle.targets.clone();
        let mut lanes: HashMap<TargetId, AbortHandle> = HashMap::new();
        // They end with this function.
        let mut running = JoinSet::new();
        loop {
            let table = targets.borrow_and_update().clone();
            lanes.retain(|id, lane| {
                if table.of(*id).is_none() {
                    lane.abort();
                }
                !lane.is_finished()
            });
            for target in table.iter() {
                lanes.entry(target.id).or_insert_with(|| running.spawn(self.clone().lane(target.id)));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = targets.changed() => if changed.is_err() {
                    return;
                },
                Some(_) = running.join_next(), if !running.is_empty() => {}
            }
        }
    }

    /// Delivers to one target, until it is removed or the engine is gone.
    async fn lane(self, id: TargetId) {
        let mut under_way = FuturesUnordered::new();
        let mut ids: HashSet<String> = HashSet::new();
        while let Some(target) = self.handle.targets().of(id).cloned() {
            let now = self.clock.now();
            // Those under way are the ones that were due first.
            let due = match self.reader.due_notices(id, now, LANE_MAX).await {
                Ok(due) => due,
                Err(error) => {
                    warn!("notifications can't be read: {}", Chain(&error));
                    tokio::time::sleep(STORE_AGAIN).await;
                    continue;
                }
            };
            for due in due {
                if ids.len() < LANE_MAX as usize && ids.insert(due.id.clone()) {
                    under_way.push(self.deliver(target.clone(), due));
                }
            }
            let next = self.reader.next_notice(id, now).await.ok().flatten();
            let wait = next.map_or(LOOK_EVERY, |next| self.clock.until(next)).min(LOOK_EVERY);
            tokio::select! {
                Some(tried) = under_way.next(), if !under_way.is_empty() => {
                    let tried: TriedNotice = tried;
                    let tried_id = tried.id.clone();
                    if self.handle.note_tries(vec![tried]).await.is_err() {
                        return;
                    }
                    // Only now: until it is durable the store would give it out again.
                    ids.remove(&tried_id);
                }
                // A wake-up that came since the look is not lost.
                () = target.wake.notified(), if ids.len() < LANE_MAX as usize => {}
                () = tokio::time::sleep(wait), if ids.len() < LANE_MAX as usize => {}
            }
        }
    }

    async fn deliver(&self, target: Target, due: DueNotice) -> TriedNotice {
        let (spec, id) = (&target.spec, &due.id);
        let sent = self.ways.send(spec, id, &due.notice, due.made_at).await;
        let tries = due.tries.saturating_add(1);
        let (outcome, word) = match sent {
            Ok(()) => (Tried::Delivered, "delivered"),
            Err(error) => {
                let reason = Chain(&error).to_string();
                match next_try(tries, self.clock.now(), due.since, self.patience) {
                    None => {
                        warn!(notification = %id, tries, "notification {id} for target {} is given up: {reason}", spec.name);
                        (Tried::GivenUp { tries, reason }, "given_up")
                    }
                    Some(due_at) => {
                        info!(notification = %id, tries, "target {} was not told, and is told again at {due_at}: {reason}", spec.name);
                        (Tried::Again { tries, due_at, reason }, "failed")
                    }
                }
            }
        };
        self.metrics.parts.notifications.with_label_values(&[spec.way.as_str(), word]).inc();
        TriedNotice { id: id.clone(), target: target.id, outcome }
    }
}

/// When a delivery that failed is tried again; `None`: it is given up.
pub(crate) fn next_try(tries: u32, now: Timestamp, since: Timestamp, patience: Duration) -> Option<Timestamp> {
    let due_at = now.after(wait_before_next(tries, fastrand::f64()));
    (tries < TRIES_MAX && due_at.since(since) <= patience).then_some(due_at)
}

/// A wait that doubles with each try, of which `chance`, 0 to 1, takes off up to a fifth: those that failed together
/// shall not come back together.
fn wait_before_next(tries: u32, chance: f64) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(WAIT_MAX).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 5.0)
}
