//! What workers ask by request and reply: hello, claim, heartbeat.

use super::{Error, Queue};
use crate::engine::{Handle, Message};
use framewake_proto::ids::FunctionKey;
use framewake_proto::wire;
use futures::StreamExt;
use prost::Message as _;
use tokio::task::JoinSet;
use tracing::warn;

/// Time between two heartbeats of a worker; three fit a lease with room for a slow network.
const HEARTBEAT_MS: u32 = 2000;
const GROUP: &str = "scheduler";

/// Listens from now on, for as long as the connection lives.
pub(super) async fn answer(queue: &Queue, handle: &Handle, listeners: &mut JoinSet<()>) -> Result<(), Error> {
    let subscribe = async |subject: String| queue.client.queue_subscribe(subject, GROUP.to_owned()).await;
    let mut hellos = subscribe(queue.subjects.hello()).await?;
    let mut claims = subscribe(queue.subjects.claim()).await?;
    let mut beats = subscribe(queue.subjects.heartbeat()).await?;
    let (client, engine) = (queue.client.clone(), handle.clone());
    listeners.spawn(async move {
        while let Some(message) = hellos.next().await {
            let Some((reply, asked)) = request::<wire::Hello>(message) else { continue };
            let _ = client.publish(reply, hello(&engine, &asked).encode_to_vec().into()).await;
        }
    });
    let engine = handle.clone();
    listeners.spawn(async move {
        while let Some(message) = claims.next().await {
            let Some((reply, claim)) = request::<wire::Claim>(message) else { continue };
            if !engine.tell(Message::Claimed { claim, reply }).await {
                return;
            }
        }
    });
    let engine = handle.clone();
    listeners.spawn(async move {
        while let Some(message) = beats.next().await {
            let Some((reply, heartbeat)) = request::<wire::Heartbeat>(message) else { continue };
            if !engine.tell(Message::Beat { heartbeat, reply }).await {
                return;
            }
        }
    });
    Ok(())
}

/// The message and where its answer goes, empty for nowhere; what can't be understood is said and dropped.
fn request<T: prost::Message + Default>(message: async_nats::Message) -> Option<(String, T)> {
    if message.payload.len() > wire::MESSAGE_SIZE_MAX {
        warn!(subject = %message.subject, bytes = message.payload.len(), "a request was dropped: it is too large");
        return None;
    }
    let reply = message.reply.map(|subject| subject.to_string()).unwrap_or_default();
    match T::decode(&*message.payload) {
        Ok(decoded) => Some((reply, decoded)),
        Err(error) => {
            warn!(subject = %message.subject, "a request was dropped: {error}");
            None
        }
    }
}

fn hello(handle: &Handle, hello: &wire::Hello) -> wire::HelloAnswer {
    let refused = |refused: String| wire::HelloAnswer { refused, ..Default::default() };
    let Ok(name) = hello.function.parse() else {
        return refused(format!("`{}` is not the name of a function", wire::clip(&hello.function, 64)));
    };
    let key = FunctionKey { name, version: hello.function_version };
    let functions = handle.functions();
    let Some(spec) = functions.get(&key) else {
        return refused(format!("{key} is not a function of this farm"));
    };
    let function = serde_json::to_vec(spec.as_ref()).expect("a function can be written as JSON");
    wire::HelloAnswer { refused: String::new(), function, heartbeat_ms: HEARTBEAT_MS }
}
