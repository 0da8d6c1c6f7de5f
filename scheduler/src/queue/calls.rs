//! What workers ask by request and reply: to join, hello, claim, heartbeat, another credential.
//!
//! Who asks is in the subject, which NATS lets nobody else use where the scheduler says who may do what there. What a message says
//! of itself must agree with it.

use super::{Error, Queue};
use crate::credentials::Gate;
use crate::engine::{Handle, Message};
use crate::signing::Signing;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::wire;
use futures::StreamExt;
use prost::Message as _;
use std::sync::Arc;
use tokio::task::JoinSet;
use tracing::warn;

/// Time between two heartbeats of a worker; three fit a lease with room for a slow network.
const HEARTBEAT_MS: u32 = 2000;
const GROUP: &str = "scheduler";
/// Requests for addresses in the store that are answered at the same time.
const SIGNED_AT_ONCE: usize = 64;

/// Why nothing is done for a worker whose place has said that it is over.
const ENDED: &str = "this worker has ended";

/// A request, and who asks.
struct Asked<T> {
    function: FunctionKey,
    worker: WorkerId,
    /// Where its answer goes; empty for nowhere.
    reply: String,
    body: T,
}

/// Listens from now on, for as long as the connection lives.
pub(super) async fn answer(queue: &Queue, handle: &Handle, listeners: &mut JoinSet<()>) -> Result<(), Error> {
    let subscribe =
        async |what: &str| queue.client.queue_subscribe(queue.subjects.requests(what), GROUP.to_owned()).await;
    let mut hellos = subscribe("hello").await?;
    let mut claims = subscribe("claim").await?;
    let mut beats = subscribe("heartbeat").await?;
    let (asked, engine) = (queue.clone(), handle.clone());
    listeners.spawn(async move {
        while let Some(message) = hellos.next().await {
            let Some(asked_for) = asked.asked::<wire::Hello>(message) else { continue };
            let answer = if asked.has_ended(&asked_for.worker) { refused(ENDED) } else { hello(&engine, &asked_for) };
            let answer = wire::HelloAnswer { signed_store: asked.signing.is_some(), ..answer };
            asked.send(asked_for.reply, answer.encode_to_vec()).await;
        }
    });
    let (asked, engine) = (queue.clone(), handle.clone());
    listeners.spawn(async move {
        while let Some(message) = claims.next().await {
            let Some(Asked { function, worker, reply, body }) = asked.asked::<wire::Claim>(message) else { continue };
            if body.worker != worker.as_str() {
                warn!(worker.id = %worker, "worker {worker} claims in the name of another");
            } else if asked.has_ended(&worker) {
                let answer = wire::ClaimAnswer { refused: ENDED.to_owned(), ..Default::default() };
                asked.send(reply, answer.encode_to_vec()).await;
            } else if !engine.tell(Message::Claimed { function, claim: body, reply }).await {
                return;
            }
        }
    });
    let (asked, engine) = (queue.clone(), handle.clone());
    listeners.spawn(async move {
        while let Some(message) = beats.next().await {
            let Some(Asked { function, worker, reply, body }) = asked.asked::<wire::Heartbeat>(message) else {
                continue;
            };
            let its_own = body.worker == worker.as_str()
                && (body.function.as_str(), body.function_version) == (function.name.as_str(), function.version);
            if !its_own {
                warn!(worker.id = %worker, "worker {worker} of {function} speaks as another");
            } else if asked.has_ended(&worker) {
                let leave = wire::Control {
                    chunk: body.chunk,
                    attempt: body.attempt,
                    stop: ENDED.to_owned(),
                    drain: true,
                    ..Default::default()
                };
                asked.send(reply, leave.encode_to_vec()).await;
            } else if !engine.tell(Message::Beat { heartbeat: body, reply }).await {
                return;
            }
        }
    });
    if let Some(gate) = &queue.gate {
        let (joins, renewals) = (subscribe("join").await?, subscribe("renewal").await?);
        listeners.spawn(let_in(queue.clone(), handle.clone(), Arc::clone(gate), joins));
        listeners.spawn(renew(queue.clone(), Arc::clone(gate), renewals));
    }
    if let Some(signing) = &queue.signing {
        let calls = subscribe("sign").await?;
        listeners.spawn(sign(queue.clone(), handle.clone(), Arc::clone(signing), calls));
    }
    Ok(())
}

async fn sign(queue: Queue, handle: Handle, signing: Arc<Signing>, calls: async_nats::Subscriber) {
    // Several at once: one that is signed with credentials which have to be fetched first holds up no other.
    calls
        .for_each_concurrent(SIGNED_AT_ONCE, |message| async {
            let inbox = |worker: &WorkerId| queue.subjects.inbox(worker);
            let asked = queue.read::<wire::Sign>(message, wire::SIGN_SIZE_MAX, inbox);
            let Some(Asked { worker, reply, body, .. }) = asked else { return };
            let answer = if queue.has_ended(&worker) {
                wire::Signed { refused: ENDED.to_owned(), ..Default::default() }
            } else {
                signing.sign(&handle, &worker, &body).await
            };
            queue.send(reply, answer.encode_to_vec()).await;
        })
        .await;
}

async fn let_in(queue: Queue, handle: Handle, gate: Arc<Gate>, mut joins: async_nats::Subscriber) {
    while let Some(message) = joins.next().await {
        let inbox = queue.subjects.joining_inbox();
        let asked = queue.read::<wire::Join>(message, wire::MESSAGE_SIZE_MAX, |_| inbox);
        let Some(Asked { function, worker, reply, body }) = asked else { continue };
        let answer = gate.join(&handle, &function, &worker, &body).await;
        if !answer.refused.is_empty() && !answer.later {
            warn!(worker.id = %worker, "worker {worker} of {function} may not join: {}", answer.refused);
        }
        queue.send(reply, answer.encode_to_vec()).await;
    }
}

async fn renew(queue: Queue, gate: Arc<Gate>, mut renewals: async_nats::Subscriber) {
    while let Some(message) = renewals.next().await {
        let Some(Asked { function, worker, reply, .. }) = queue.asked::<wire::Renewal>(message) else { continue };
        queue.send(reply, gate.renew(&function, &worker).encode_to_vec()).await;
    }
}

impl Queue {
    /// Of a worker, which is answered under its own inbox.
    fn asked<T: prost::Message + Default>(&self, message: async_nats::Message) -> Option<Asked<T>> {
        self.read(message, wire::MESSAGE_SIZE_MAX, |worker| self.subjects.inbox(worker))
    }

    /// What can't be understood is said and dropped.
    fn read<T: prost::Message + Default>(
        &self,
        message: async_nats::Message,
        size_max: usize,
        inbox: impl FnOnce(&WorkerId) -> String,
    ) -> Option<Asked<T>> {
        let dropped = |why: &str| {
            warn!(subject = %message.subject, bytes = message.payload.len(), "a request was dropped: {why}");
            None
        };
        if message.payload.len() > size_max {
            return dropped("it is too large");
        }
        let Some((function, worker)) = self.subjects.asker(&message.subject) else {
            return dropped("its subject names no worker");
        };
        let reply = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        // The answer is sent with the scheduler's rights: it must not become a message to somebody else.
        let inside = || reply.strip_prefix(&inbox(&worker)).is_some_and(|rest| rest.starts_with('.'));
        if self.gate.is_some() && !reply.is_empty() && !inside() {
            return dropped("its answer would go to somebody else");
        }
        match T::decode(&*message.payload) {
            Ok(body) => Some(Asked { function, worker, reply, body }),
            Err(error) => dropped(&error.to_string()),
        }
    }

    fn has_ended(&self, worker: &WorkerId) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.has_ended(worker))
    }
}

fn refused(why: impl Into<String>) -> wire::HelloAnswer {
    wire::HelloAnswer { refused: why.into(), ..Default::default() }
}

fn hello(handle: &Handle, asked: &Asked<wire::Hello>) -> wire::HelloAnswer {
    let Asked { function: key, body, .. } = asked;
    if (body.function.as_str(), body.function_version) != (key.name.as_str(), key.version) {
        return refused(format!("`{}` is not the function that the worker asks for", wire::clip(&body.function, 64)));
    }
    let functions = handle.functions();
    let Some(spec) = functions.get(key) else {
        return refused(format!("{key} is not a function of this farm"));
    };
    let function = serde_json::to_vec(spec.as_ref()).expect("a function can be written as JSON");
    wire::HelloAnswer { refused: String::new(), function, heartbeat_ms: HEARTBEAT_MS, signed_store: false }
}
