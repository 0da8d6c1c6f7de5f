//! One farm has one scheduler. Two of them on one data folder are kept apart by its lock; here, two on one NATS.
//!
//! What is durable is in the streams' metadata: the farm whose database they belong to. Who is alive is asked: whoever
//! comes asks first, and whoever is there answers. A lease in a bucket would have to run out after a `kill -9`, and would
//! be lost with JetStream; a subscription ends with its connection. Nobody ends for silence, only for an answer.

use super::{Error, Queue};
use async_nats::client::RequestErrorKind;
use framewake_proto::time::Timestamp;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::warn;

/// Whoever has subscribed and does not answer for this long hangs, or its machine is gone. Should it come back, one of
/// the two is told by the next look.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long answers are gathered while all is well.
const GATHER: Duration = Duration::from_millis(500);
/// A start waits this long for a connection, to be refused before it has touched anything.
const CONNECTION_MAX: Duration = Duration::from_secs(1);

/// A scheduler, as it tells others of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// When it came. The later one of two goes; of two at once, the one with the greater `run`.
    since_ms: i64,
    /// No two runs of a scheduler have the same.
    run: String,
    /// The id of its database.
    pub(super) farm: String,
    host: String,
    process: u32,
    folder: String,
}

impl Owner {
    /// This process, with a database.
    pub fn this(farm: &str, folder: &Path) -> Owner {
        Owner {
            since_ms: Timestamp::now().0,
            run: ulid::Ulid::generate().to_string(),
            farm: farm.to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            process: std::process::id(),
            folder: folder.display().to_string(),
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Owner { since_ms, host, process, folder, .. } = self;
        write!(f, "process {process} on {host}, with the data folder `{folder}`, since {}", Timestamp(*since_ms))
    }
}

impl Queue {
    /// Refuses to begin beside a scheduler that is there. Without a connection nothing is known, and nothing refused.
    pub(crate) async fn ask_before_start(&self) -> Result<(), Error> {
        let mut connected = self.connected.clone();
        let waited = tokio::time::timeout(CONNECTION_MAX, connected.wait_for(|connected| *connected)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        self.ask_first().await
    }

    /// Before this one answers itself: any answer is another's, and none is known at once when nobody is there.
    pub(super) async fn ask_first(&self) -> Result<(), Error> {
        let request = async_nats::Request::new().timeout(Some(ANSWER_MAX));
        match self.client.send_request(self.subjects.owner(), request).await {
            Ok(answer) => match serde_json::from_slice::<Owner>(&answer.payload) {
                Ok(owner) if owner.run != self.owner.run => Err(self.owned_by(owner)),
                Ok(_) | Err(_) => Ok(()),
            },
            Err(error) => {
                if error.kind() == RequestErrorKind::TimedOut {
                    warn!(
                        "a scheduler of this farm has not answered for {} s: going on without it",
                        ANSWER_MAX.as_secs()
                    );
                }
                Ok(())
            }
        }
    }

    /// While this one works: whoever came earlier stays.
    pub(super) async fn ask_others(&self) -> Result<(), Error> {
        let inbox = self.client.new_inbox();
        let Ok(mut answers) = self.client.subscribe(inbox.clone()).await else { return Ok(()) };
        if self.client.publish_with_reply(self.subjects.owner(), inbox, "".into()).await.is_err() {
            return Ok(());
        }
        let end = tokio::time::Instant::now() + GATHER;
        while let Ok(Some(answer)) = tokio::time::timeout_at(end, answers.next()).await {
            let Ok(owner) = serde_json::from_slice::<Owner>(&answer.payload) else { continue };
            if owner.run != self.owner.run && (owner.since_ms, &owner.run) < (self.owner.since_ms, &self.owner.run) {
                return Err(self.owned_by(owner));
            }
        }
        Ok(())
    }

    fn owned_by(&self, owner: Owner) -> Error {
        Error::Owned { farm: self.subjects.farm().to_string(), owner: Box::new(owner) }
    }

    /// Answers whoever asks, from now on.
    pub(super) async fn answer_others(&self, listeners: &mut JoinSet<()>) -> Result<(), Error> {
        let mut asked = self.client.subscribe(self.subjects.owner()).await?;
        let client = self.client.clone();
        let answer = serde_json::to_vec(&self.owner).expect("it is plain JSON");
        listeners.spawn(async move {
            while let Some(message) = asked.next().await {
                if let Some(reply) = message.reply {
                    let _ = client.publish(reply, answer.clone().into()).await;
                }
            }
        });
        Ok(())
    }
}
