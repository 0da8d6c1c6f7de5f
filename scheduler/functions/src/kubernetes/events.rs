//! What only Events tell: why a pod isn't made or can't begin, whether a machine is being made for it, and when its image was
//! there. They are best effort, and many: they are asked for only while somebody waits without a word.

use super::refusal::Call;
use super::seen::{Curious, Workers};
use framewake_proto::chain::Chain;
use framewake_proto::time::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Pause before it is asked, at first and while somebody waits on and on: a machine may take a quarter of an hour.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long somebody may wait without a word before it is asked why.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most events of an answer: those of a thousand workers that all wait for the same are known by some.
const EVENTS_MAX: u32 = 1000;

pub(super) struct Events {
    pub api: Api<Event>,
    pub namespace: String,
    pub workers: Workers,
}

impl Events {
    pub(super) async fn look(self, stop: CancellationToken) {
        let (mut refused, mut pause) = (false, PAUSE);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            self.workers.tick();
            let curious = self.workers.curious(PATIENCE);
            pause = if curious == Curious::default() { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
            let wanted = [
                (curious.waiting, "type=Warning"),
                (curious.waiting, "reason=NotTriggerScaleUp"),
                (curious.waiting, "reason=TriggeredScaleUp"),
                (curious.image, "reason=Pulled"),
            ];
            for selector in wanted.into_iter().filter_map(|(wanted, selector)| wanted.then_some(selector)) {
                let call = Call { verb: "list", resource: "events", namespace: &self.namespace };
                let listed = ListParams::default().fields(selector).limit(EVENTS_MAX);
                match call.answered(self.api.list(&listed)).await {
                    Ok(events) => {
                        refused = false;
                        self.read(events.items);
                    }
                    Err(failure) => {
                        if !std::mem::replace(&mut refused, true) {
                            let error = call.error(failure);
                            warn!("why workers wait is told without what events say: {}", Chain(&error));
                        }
                        break;
                    }
                }
            }
        }
    }

    /// The newest of each object counts.
    fn read(&self, mut events: Vec<Event>) {
        events.sort_by_key(at);
        let mut notes: BTreeMap<String, String> = BTreeMap::new();
        for event in events {
            let Some(object) = event.involved_object.name.clone() else { continue };
            if event.reason.as_deref() == Some("Pulled") {
                if let Some(at) = at(&event) {
                    self.workers.image_at(&object, at);
                }
            } else if let Some(note) = note(&event) {
                notes.insert(object, note);
            }
        }
        for (object, note) in notes {
            self.workers.note(&object, &note);
        }
    }
}

/// What an event says of a worker that waits; `None` for what its pod says better itself.
fn note(event: &Event) -> Option<String> {
    let reason = event.reason.as_deref()?;
    let message = event.message.as_deref().unwrap_or_default();
    match reason {
        "FailedScheduling" | "BackOff" | "Failed" | "Unhealthy" => None,
        "TriggeredScaleUp" => Some(format!("a machine is being made: {message}")),
        "NotTriggerScaleUp" => Some(format!("no machine can be made for it: {message}")),
        "FailedCreate" if message.contains("exceeded quota") => Some(format!("quota: {message}")),
        _ => Some(format!("{reason}: {message}")),
    }
}

fn at(event: &Event) -> Option<Timestamp> {
    let stamp = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| time.0;
    let at = event.last_timestamp.as_ref().map(stamp);
    let at = at.or(event.event_time.as_ref().map(|time| time.0)).or(event.first_timestamp.as_ref().map(stamp));
    at.map(|at| Timestamp(at.as_millisecond()))
}
