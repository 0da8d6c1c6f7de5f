//! What is known of the workers of a pool, kept from what the watches of Jobs and pods say.

use super::plain;
use super::state::{self, state};
use super::template::owner;
use super::watch::{FIRST_LIST_MAX, Seen};
use crate::{End, Error, Instance, InstanceState};
use framewake_proto::chain::Chain;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::time::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long after its grace a pod whose end nobody confirms is given up: its node is lost, and may never come back.
const LOST_AFTER: Duration = Duration::from_mins(1);
/// How long after its start an event about a worker's image is looked for.
const IMAGE_SOUGHT: Duration = Duration::from_secs(30);
/// Many events come at once: they are looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// The workers of a pool, as their watches left them. Shared with the tasks that follow.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    inner: Arc<Mutex<Inner>>,
    /// Counts changes. Never waited for while `inner` is locked: whoever waits for a change may lock it.
    changes: watch::Sender<u64>,
    /// The count that [`Workers::observe`] was last asked at.
    told: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inner {
    workers: BTreeMap<WorkerId, Worker>,
    jobs: Followed,
    pods: Followed,
}

/// Whether the truth about a kind is known.
#[derive(Debug, Default)]
enum Followed {
    #[default]
    NotYet,
    Known,
    Trouble(Arc<Error>),
}

#[derive(Debug)]
struct Worker {
    function: FunctionKey,
    job: Option<Job>,
    pod: Option<Pod>,
    /// Its Job is ours for sure, though no list or watch has shown it yet.
    created: Option<Instant>,
    /// What events say.
    note: String,
    image_at: Option<Timestamp>,
    ran: bool,
    /// Since when it waits, or its image's time is not known, by our clock.
    since: Instant,
    /// When its pod was first seen to be deleted, by our clock: that of its node may be another.
    deleted_since: Option<Instant>,
    /// Once ended, it stays so, whatever becomes of its objects.
    ended: Option<End>,
    /// Nobody asks for it any more; it is kept until its objects are gone.
    dropped: bool,
}

/// What [`super::events`] should look for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Curious {
    /// Somebody waits and gives no reason.
    pub waiting: bool,
    /// The time of somebody's image is not known.
    pub image: bool,
}

impl Workers {
    pub(super) fn new() -> Workers {
        Workers { inner: Arc::default(), changes: watch::Sender::new(0), told: Arc::default() }
    }

    /// All of them, or why they are not known.
    pub(super) async fn observe(&self) -> Result<Vec<Instance>, Error> {
        let mut changes = self.changes.subscribe();
        let first = changes.wait_for(|_| !self.lock().is_beginning());
        // In time it is known, or in trouble; else what follows is an error that says so.
        let _ = tokio::time::timeout(FIRST_LIST_MAX, first).await;
        // Before the look: what changes meanwhile is told again.
        self.told.store(*changes.borrow(), Ordering::SeqCst);
        let mut inner = self.lock();
        match (&inner.jobs, &inner.pods) {
            (Followed::Known, Followed::Known) => Ok(inner.observe(Instant::now())),
            // Also where the other is not listed yet: this one is known to fail.
            (Followed::Trouble(error), _) | (_, Followed::Trouble(error)) => Err(again(error)),
            (Followed::NotYet, _) | (_, Followed::NotYet) => {
                Err(plain("the API server has not listed Jobs and pods yet"))
            }
        }
    }

    /// Comes back when there is something that [`Workers::observe`] has not told.
    pub(super) async fn changed(&self) {
        let mut changes = self.changes.subscribe();
        let new = changes.wait_for(|count| *count != self.told.load(Ordering::SeqCst)).await.is_ok();
        if !new {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GATHER).await;
    }

    pub(super) fn state(&self, worker: &WorkerId) -> Option<InstanceState> {
        let mut inner = self.lock();
        inner.workers.get_mut(worker).map(|worker| worker.look(Instant::now()))
    }

    pub(super) fn job(&self, worker: &WorkerId) -> Option<Job> {
        self.lock().workers.get(worker)?.job.clone()
    }

    /// A Job that the API server has just taken.
    pub(super) fn created(&self, worker: &WorkerId, function: &FunctionKey, job: Job) {
        self.lock().workers.entry(worker.clone()).or_insert_with(|| Worker {
            job: Some(job),
            created: Some(Instant::now()),
            ..Worker::new(function.clone())
        });
        self.tell();
    }

    /// It is not spoken of any more.
    pub(super) fn drop_worker(&self, worker: &WorkerId) {
        let mut inner = self.lock();
        if let Some(worker) = inner.workers.get_mut(worker) {
            worker.dropped = true;
        }
        inner.sweep();
    }

    pub(super) fn curious(&self, patience: Duration) -> Curious {
        let (mut inner, now) = (self.lock(), Instant::now());
        let mut curious = Curious::default();
        for worker in inner.workers.values_mut().filter(|worker| !worker.dropped) {
            match worker.look(now) {
                InstanceState::Waiting { .. } => curious.waiting |= now - worker.since > patience,
                InstanceState::Running => {
                    curious.image |= worker.image_at.is_none() && now - worker.since < IMAGE_SOUGHT;
                }
                InstanceState::Ended(_) => {}
            }
        }
        curious
    }

    /// What events say of the worker whose Job or pod has this name.
    pub(super) fn note(&self, object: &str, note: &str) {
        self.with_named(object, |worker| {
            let new = worker.note != note;
            note.clone_into(&mut worker.note);
            new
        });
    }

    pub(super) fn image_at(&self, pod: &str, at: Timestamp) {
        self.with_named(pod, |worker| worker.image_at.replace(at) != Some(at));
    }

    /// Time passes: what depends on it may be different.
    pub(super) fn tick(&self) {
        if self.lock().workers.values().any(|worker| worker.deleted_since.is_some() && !worker.dropped) {
            self.tell();
        }
    }

    fn with_named(&self, object: &str, change: impl FnOnce(&mut Worker) -> bool) {
        let mut inner = self.lock();
        let named = |metadata: &ObjectMeta| metadata.name.as_deref() == Some(object);
        let found = inner.workers.values_mut().find(|worker| {
            worker.job.as_ref().is_some_and(|job| named(&job.metadata))
                || worker.pod.as_ref().is_some_and(|pod| named(&pod.metadata))
        });
        if found.is_some_and(change) {
            drop(inner);
            self.tell();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Inner {
    fn is_beginning(&self) -> bool {
        let beginning = |followed: &Followed| matches!(followed, Followed::NotYet);
        // Trouble with one is trouble: no need to wait for the other.
        let trouble = |followed: &Followed| matches!(followed, Followed::Trouble(_));
        (beginning(&self.jobs) || beginning(&self.pods)) && !trouble(&self.jobs) && !trouble(&self.pods)
    }

    fn observe(&mut self, now: Instant) -> Vec<Instance> {
        let told = self.workers.iter_mut().filter(|(_, worker)| !worker.dropped);
        told.map(|(id, worker)| Instance {
            worker: id.clone(),
            function: worker.function.clone(),
            gpus: Vec::new(),
            state: worker.look(now),
            steps: state::steps(worker.job.as_ref(), worker.pod.as_ref(), worker.image_at),
        })
        .collect()
    }

    fn worker(&mut self, metadata: &ObjectMeta) -> Option<&mut Worker> {
        let (id, function) = owner(metadata)?;
        Some(self.workers.entry(id).or_insert_with(|| Worker::new(function)))
    }

    /// Removes those that nobody asks for, and that left nothing.
    fn sweep(&mut self) {
        self.workers.retain(|_, worker| !(worker.dropped && worker.job.is_none() && worker.pod.is_none()));
    }
}

impl Worker {
    fn new(function: FunctionKey) -> Worker {
        Worker {
            function,
            job: None,
            pod: None,
            created: None,
            note: String::new(),
            image_at: None,
            ran: false,
            since: Instant::now(),
            deleted_since: None,
            ended: None,
            dropped: false,
        }
    }

    fn look(&mut self, now: Instant) -> InstanceState {
        if self.ended.is_none() {
            match self.state(now) {
                InstanceState::Ended(end) => self.ended = Some(end),
                other => return other,
            }
        }
        InstanceState::Ended(self.ended.clone().expect("set above"))
    }

    fn state(&mut self, now: Instant) -> InstanceState {
        let found = state(self.job.as_ref(), self.pod.as_ref(), &self.note);
        if found == InstanceState::Running && !std::mem::replace(&mut self.ran, true) {
            self.since = now;
        }
        let grace = self.pod.as_ref().and_then(|pod| pod.metadata.deletion_grace_period_seconds).unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let away = |reason: &str| InstanceState::Ended(End::TakenAway { reason: reason.to_owned() });
        match &found {
            InstanceState::Ended(_) => found,
            _ if self.deleted_since.is_some_and(|since| now - since > grace + LOST_AFTER) => {
                away("its pod was deleted, and its node confirms nothing: the node is lost")
            }
            // Kueue suspends a Job to take its place back. Resumed, it would be another process of the same name.
            InstanceState::Waiting { .. } if self.ran && self.pod.is_none() => {
                away(&state::taken_back(self.job.as_ref()))
            }
            InstanceState::Waiting { .. } | InstanceState::Running => found,
        }
    }
}

/// Jobs, as their watch tells of them.
#[derive(Debug, Clone)]
pub(super) struct Jobs(pub Workers);

/// Pods, as their watch tells of them.
#[derive(Debug, Clone)]
pub(super) struct Pods(pub Workers);

impl Seen<Job> for Jobs {
    fn all(&self, objects: Vec<Job>, asked_at: Instant) {
        let mut inner = self.0.lock();
        let there: BTreeSet<WorkerId> = objects.iter().filter_map(|job| Some(owner(&job.metadata)?.0)).collect();
        for (id, worker) in &mut inner.workers {
            // A list that was asked for before does not know it.
            let newer = worker.created.is_some_and(|created| created >= asked_at);
            if !there.contains(id) && !newer {
                worker.job = None;
            }
        }
        for job in objects {
            if let Some(worker) = inner.worker(&job.metadata) {
                worker.job = Some(job);
                worker.created = None;
            }
        }
        inner.sweep();
        drop(inner);
        self.0.tell();
    }

    fn one(&self, object: Job) {
        let mut inner = self.0.lock();
        if let Some(worker) = inner.worker(&object.metadata) {
            worker.job = Some(object);
            worker.created = None;
        }
        drop(inner);
        self.0.tell();
    }

    fn gone(&self, object: &Job) {
        let mut inner = self.0.lock();
        if let Some(worker) = inner.worker(&object.metadata) {
            worker.look(Instant::now());
            worker.job = None;
            worker.created = None;
        }
        inner.sweep();
        drop(inner);
        self.0.tell();
    }

    fn trouble(&self, error: Option<Error>) {
        self.0.lock().jobs = followed(error);
        self.0.tell();
    }
}

impl Seen<Pod> for Pods {
    fn all(&self, objects: Vec<Pod>, _: Instant) {
        let mut inner = self.0.lock();
        let there: BTreeSet<WorkerId> = objects.iter().filter_map(|pod| Some(owner(&pod.metadata)?.0)).collect();
        for (id, worker) in &mut inner.workers {
            if !there.contains(id) {
                worker.pod = None;
            }
        }
        for pod in objects {
            inner.pod(pod);
        }
        inner.sweep();
        drop(inner);
        self.0.tell();
    }

    fn one(&self, object: Pod) {
        self.0.lock().pod(object);
        self.0.tell();
    }

    fn gone(&self, object: &Pod) {
        let mut inner = self.0.lock();
        inner.pod(object.clone());
        if let Some(worker) = inner.worker(&object.metadata) {
            worker.look(Instant::now());
            worker.pod = None;
            worker.deleted_since = None;
        }
        inner.sweep();
        drop(inner);
        self.0.tell();
    }

    fn trouble(&self, error: Option<Error>) {
        self.0.lock().pods = followed(error);
        self.0.tell();
    }
}

impl Inner {
    /// The newest of a worker's pods counts: there is never more than one, unless somebody copies pods.
    fn pod(&mut self, pod: Pod) {
        let Some(worker) = self.worker(&pod.metadata) else { return };
        let born = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        if worker.pod.as_ref().is_some_and(|known| known.metadata.uid != pod.metadata.uid && born(known) > born(&pod)) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            worker.deleted_since.get_or_insert_with(Instant::now);
        }
        worker.pod = Some(pod);
    }
}

fn followed(error: Option<Error>) -> Followed {
    error.map_or(Followed::Known, |error| Followed::Trouble(Arc::new(error)))
}

/// The same error, for everybody who asks while it lasts.
fn again(error: &Error) -> Error {
    Error { what: error.what.clone(), cause: error.cause.as_ref().map(|cause| Chain(&**cause).to_string().into()) }
}
