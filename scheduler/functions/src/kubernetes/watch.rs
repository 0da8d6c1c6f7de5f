//! Follows all objects of one kind: lists them, then watches from there. Whatever goes wrong, it lists again, because a list
//! is the truth and a watch only says when to look.

use super::refusal::{ANSWER_MAX, Call, Failure};
use crate::Error;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use kube::core::{Resource, WatchEvent};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Objects of one page of a list: a Job has about 6 kB, a pod 10 kB.
const PAGE: u32 = 500;
/// How long one watch lasts. A connection that died without a word is noticed by its end.
const WATCH: Duration = Duration::from_mins(1);
/// How much later than it should a watch may end before its connection counts as dead.
const WATCH_LATE: Duration = Duration::from_secs(10);
/// A watch may have lost something, by a fault of the API server: now and then all is listed again.
const LIST_EVERY: Duration = Duration::from_mins(10);
/// Pauses after the first failure, and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Kinds that are followed.
pub(super) trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {
    /// As errors name it.
    const RESOURCE: &'static str;
}

impl Kind for Job {
    const RESOURCE: &'static str = "jobs.batch";
}

impl Kind for Pod {
    const RESOURCE: &'static str = "pods";
}

/// Who is told of what was seen.
pub(super) trait Seen<K>: Send + 'static {
    /// All there are, in a list that was asked for at `asked_at`.
    fn all(&self, objects: Vec<K>, asked_at: Instant);
    fn one(&self, object: K);
    fn gone(&self, object: &K);
    /// From now on the truth is not known; `None`: it is again.
    fn trouble(&self, error: Option<Error>);
}

/// Follows until `stop`.
pub(super) async fn follow<K: Kind>(
    api: Api<K>,
    namespace: String,
    selector: String,
    seen: impl Seen<K>,
    stop: CancellationToken,
) {
    let follower = Follower { api, namespace, selector, seen };
    stop.run_until_cancelled(follower.run()).await;
}

struct Follower<K, S> {
    api: Api<K>,
    namespace: String,
    selector: String,
    seen: S,
}

/// How a watch ended.
enum Watched {
    /// As it should: the next begins where this one was.
    Over,
    /// Where it should begin is forgotten (410): all has to be listed.
    TooOld,
    Failed(Error),
}

impl<K: Kind, S: Seen<K>> Follower<K, S> {
    async fn run(self) {
        let mut pause = PAUSE;
        let mut troubled = false;
        loop {
            let error = match self.list().await {
                Ok(version) => {
                    if std::mem::take(&mut troubled) {
                        info!("{} of namespace `{}` are known again", K::RESOURCE, self.namespace);
                    }
                    let begin = Instant::now();
                    let error = self.watch_from(version).await;
                    if begin.elapsed() > PAUSE_MAX {
                        pause = PAUSE;
                    }
                    error
                }
                Err(error) => Some(error),
            };
            let Some(error) = error else { continue };
            if !std::mem::replace(&mut troubled, true) {
                warn!("{}", framewake_proto::chain::Chain(&error));
            }
            self.seen.trouble(Some(error));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Everything there is, and the version it is of.
    async fn list(&self) -> Result<String, Error> {
        let call = Call { verb: "list", resource: K::RESOURCE, namespace: &self.namespace };
        let asked_at = Instant::now();
        let mut page = ListParams::default().labels(&self.selector).limit(PAGE);
        let mut objects = Vec::new();
        loop {
            let answer = call.answered(self.api.list(&page)).await;
            let list = answer.map_err(|failure| call.error(failure))?;
            objects.extend(list.items);
            let Some(more) = list.metadata.continue_.filter(|token| !token.is_empty()) else {
                self.seen.all(objects, asked_at);
                self.seen.trouble(None);
                return Ok(list.metadata.resource_version.unwrap_or_default());
            };
            page = page.continue_token(&more);
        }
    }

    /// Watches until all has to be listed again; says why, if it is for a failure.
    async fn watch_from(&self, mut version: String) -> Option<Error> {
        let listed = Instant::now();
        while listed.elapsed() < LIST_EVERY {
            let begin = Instant::now();
            match self.watch(&mut version).await {
                Watched::Over if begin.elapsed() < PAUSE => tokio::time::sleep(PAUSE).await,
                Watched::Over => {}
                Watched::TooOld => return None,
                Watched::Failed(error) => return Some(error),
            }
        }
        None
    }

    async fn watch(&self, version: &mut String) -> Watched {
        let call = Call { verb: "watch", resource: K::RESOURCE, namespace: &self.namespace };
        let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
        let wanted = WatchParams::default().labels(&self.selector).timeout(seconds);
        let events = match call.answered(self.api.watch(&wanted, version)).await {
            Ok(events) => events,
            Err(failure) if failure.code() == Some(410) => return Watched::TooOld,
            Err(failure) => return Watched::Failed(call.error(failure)),
        };
        let mut events = std::pin::pin!(events.into_stream());
        let until = Instant::now() + WATCH + WATCH_LATE;
        loop {
            let event = match tokio::time::timeout_at(until, events.next()).await {
                Ok(None) => return Watched::Over,
                Ok(Some(event)) => event,
                Err(_) => return Watched::Failed(call.error(Failure::Unheard(None))),
            };
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    moved(version, &object);
                    self.seen.one(object);
                }
                Ok(WatchEvent::Deleted(object)) => {
                    moved(version, &object);
                    self.seen.gone(&object);
                }
                Ok(WatchEvent::Bookmark(bookmark)) => *version = bookmark.metadata.resource_version,
                Ok(WatchEvent::Error(status)) | Err(kube::Error::Api(status)) if status.code == 410 => {
                    return Watched::TooOld;
                }
                Ok(WatchEvent::Error(status)) | Err(kube::Error::Api(status)) => {
                    return Watched::Failed(call.error(Failure::Refused(status)));
                }
                Err(error) => return Watched::Failed(call.error(Failure::Unheard(Some(error)))),
            }
        }
    }
}

fn moved<K: Resource>(version: &mut String, object: &K) {
    if let Some(newer) = &object.meta().resource_version {
        version.clone_from(newer);
    }
}

/// A first look waits this long for the first list.
pub(super) const FIRST_LIST_MAX: Duration = ANSWER_MAX;
