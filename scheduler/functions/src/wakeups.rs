//! Workers that gateways wake: a request for each, open while the worker works. What the answer means is judged here,
//! for every gateway alike.
//!
//! An open request is the best word there is of such a worker, and its end is not always that of the worker: where
//! nobody can know, the worker counts until its time is up, so that no second one is woken in its place. Its own
//! heartbeats tell the farm sooner.

use crate::{End, Error, Instance, InstanceState, Start, StartError, StartStep};
use framewake_proto::chain::Chain;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::pool::secret::{SECRET_SIZE_MAX, Secret};
use framewake_proto::time::Timestamp;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// What the worker is told: who it is, for how long it is waited, in seconds, and how long it stays without work.
const WORKER: &str = "x-framewake-worker";
const DEADLINE: &str = "x-deadline";
const LINGER: &str = "x-framewake-linger-ms";
const INVITATION: &str = "x-framewake-invitation";
/// A gateway that has no room says so at once. No longer than this is waited for it: others are to be started too.
const REFUSED_WITHIN: Duration = Duration::from_millis(250);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How much later than the worker's time an answer may come, or a worker be gone.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 16 * 1024;
/// Characters of an answer that are said back.
const SAID_MAX: usize = 200;

/// The requests that are open, and those that ended and were not forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Wakeups(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    longest_run: Duration,
    /// A file for each that was woken: requests end with the scheduler, and workers don't.
    notes: PathBuf,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    workers: BTreeMap<WorkerId, Wakeup>,
    /// The last request did not reach the gateway.
    away: bool,
}

#[derive(Debug)]
struct Wakeup {
    function: FunctionKey,
    asked_at: Timestamp,
    /// Whatever happens, it is gone then.
    gone_by: Instant,
    state: InstanceState,
    request: Option<AbortHandle>,
    /// It said good-bye.
    has_left: bool,
}

/// How a request ended.
#[derive(Debug)]
enum Outcome {
    /// The worker did what there was to do.
    Left,
    /// It may go on all the same: why nobody knows; empty: it said so itself.
    Unknown(String),
    Full(String),
    Refused(String),
    /// The request did not leave.
    Unreachable(reqwest::Error),
}

/// A client for gateways whose calls may take this long.
pub(crate) fn client(longest_run: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("framewake/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_MAX)
        .timeout(longest_run + LATE_MAX)
        .build()
}

/// Why a provider that wakes workers can't be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Notes(#[from] NotesError),
    #[error("cannot set up HTTP")]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    Unreachable(String),
}

/// What was woken can't be kept in mind.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep notes of wake-ups in `{}`", folder.display())]
pub struct NotesError {
    folder: PathBuf,
    #[source]
    error: std::io::Error,
}

/// A secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read {0}")]
    Unreadable(Secret, #[source] std::io::Error),
    #[error("{0} is empty or has more than {SECRET_SIZE_MAX} bytes")]
    Odd(Secret),
}

pub(crate) fn read_secret(secret: &Secret) -> Result<String, SecretError> {
    let text = match secret {
        Secret::File(path) => {
            let failed = |error| SecretError::Unreadable(secret.clone(), error);
            if std::fs::metadata(path).map_err(failed)?.len() > SECRET_SIZE_MAX {
                return Err(SecretError::Odd(secret.clone()));
            }
            std::fs::read_to_string(path).map_err(failed)?
        }
        #[allow(clippy::disallowed_methods)] // The pool's file names the variable.
        Secret::Env(name) => std::env::var(name).unwrap_or_default(),
    };
    let text = text.trim();
    if text.is_empty() || text.len() as u64 > SECRET_SIZE_MAX {
        return Err(SecretError::Odd(secret.clone()));
    }
    Ok(text.to_owned())
}

impl Wakeups {
    /// With those that an earlier scheduler woke.
    pub(crate) fn open(longest_run: Duration, notes: PathBuf) -> Result<Wakeups, NotesError> {
        let inner = Inner { longest_run, notes, known: Mutex::default(), changed: Notify::new() };
        inner.adopt().map_err(|error| NotesError { folder: inner.notes.clone(), error })?;
        Ok(Wakeups(Arc::new(inner)))
    }

    /// Sends the request, and waits a moment for a refusal.
    pub(crate) async fn wake(&self, start: &Start, request: RequestBuilder) -> Result<(), StartError> {
        if self.0.known().workers.contains_key(&start.worker) {
            return Ok(());
        }
        let request = request
            .header(WORKER, start.worker.as_str())
            .header(DEADLINE, self.0.longest_run.as_secs())
            .header(LINGER, start.linger.as_millis().to_string());
        let invitation = start.invitation.iter();
        let request = invitation.fold(request, |request, invitation| request.header(INVITATION, invitation.reveal()));
        let (worker, asked_at) = (start.worker.clone(), Timestamp::now());
        self.0.note(&worker, &start.function, asked_at).map_err(|error| {
            let error = NotesError { folder: self.0.notes.clone(), error };
            StartError::Away(Error { what: "nobody is woken".to_owned(), cause: Some(Box::new(error)) })
        })?;
        let mut waking = tokio::spawn(async move { outcome(request.send().await, &worker).await });
        let ended = timeout(REFUSED_WITHIN, &mut waking).await.map(|ended| match ended {
            Ok(outcome) => outcome,
            Err(panic) => Outcome::Unknown(panic.to_string()),
        });
        self.0.known().away = matches!(ended, Ok(Outcome::Unreachable(_)));
        if !matches!(ended, Err(_) | Ok(Outcome::Left | Outcome::Unknown(_))) {
            self.0.strike(&start.worker);
        }
        let state = match ended {
            Err(_still_open) => InstanceState::Running,
            Ok(Outcome::Full(said)) => return Err(StartError::Full(said)),
            Ok(Outcome::Refused(said)) => return Err(StartError::Refused(said)),
            Ok(Outcome::Unreachable(error)) => return Err(StartError::Away(unreachable(error))),
            Ok(ended) => ended.state(),
        };
        let wakeup = Wakeup {
            function: start.function.clone(),
            asked_at,
            gone_by: Instant::now() + self.0.longest_run + LATE_MAX,
            state,
            request: Some(waking.abort_handle()),
            has_left: false,
        };
        self.0.known().workers.insert(start.worker.clone(), wakeup);
        self.0.changed.notify_one();
        if !waking.is_finished() {
            let (inner, worker) = (self.0.clone(), start.worker.clone());
            tokio::spawn(async move {
                if let Ok(outcome) = waking.await {
                    inner.settle(&worker, outcome);
                }
            });
        }
        Ok(())
    }

    /// Gives the request up. What the gateway makes of that is its own affair; a worker that has not spoken has no work.
    pub(crate) fn stop(&self, worker: &WorkerId) {
        if let Some(wakeup) = self.0.known().workers.get_mut(worker)
            && !matches!(wakeup.state, InstanceState::Ended(_))
        {
            if let Some(request) = &wakeup.request {
                request.abort();
            }
            let waited = match &wakeup.state {
                InstanceState::Waiting { reason } if !reason.is_empty() => format!("it did not speak: {reason}"),
                _ => "it did not speak, and the gateway did not answer".to_owned(),
            };
            wakeup.state = InstanceState::Ended(End::Failed { reason: waited });
        }
        self.0.changed.notify_one();
    }

    /// All that were woken and not forgotten.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        let now = Instant::now();
        let mut known = self.0.known();
        let instances = known.workers.iter_mut().map(|(worker, wakeup)| {
            if !matches!(wakeup.state, InstanceState::Ended(_)) {
                let answers = wakeup.request.as_ref().is_some_and(|request| !request.is_finished());
                if wakeup.has_left && !answers {
                    wakeup.state = InstanceState::Ended(End::Left);
                } else if now >= wakeup.gone_by {
                    let reason = "its time is up, and nobody heard of its end".to_owned();
                    wakeup.state = InstanceState::Ended(End::TakenAway { reason });
                }
            }
            Instance {
                worker: worker.clone(),
                function: wakeup.function.clone(),
                gpus: Vec::new(),
                state: wakeup.state.clone(),
                steps: BTreeMap::from([(StartStep::Created, wakeup.asked_at)]),
            }
        });
        instances.collect()
    }

    /// Those of a function that may still work.
    pub(crate) fn awake(&self, function: &FunctionKey) -> usize {
        let instances = self.instances();
        let awake =
            |instance: &&Instance| instance.function == *function && !matches!(instance.state, InstanceState::Ended(_));
        instances.iter().filter(awake).count()
    }

    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(crate) fn forget(&self, worker: &WorkerId) {
        self.0.known().workers.remove(worker);
        self.0.strike(worker);
    }

    /// It is gone, unless its request is open: then the answer says more.
    pub(crate) fn left(&self, worker: &WorkerId) {
        if let Some(wakeup) = self.0.known().workers.get_mut(worker) {
            wakeup.has_left = true;
        }
        self.0.changed.notify_one();
    }

    pub(crate) fn is_away(&self) -> bool {
        self.0.known().away
    }

    pub(crate) fn is_back(&self) {
        self.0.known().away = false;
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests of an earlier scheduler ended with it; the workers that they woke did not.
    fn adopt(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.notes)?;
        let now = Timestamp::now();
        for entry in std::fs::read_dir(&self.notes)? {
            let entry = entry?;
            let text = std::fs::read_to_string(entry.path())?;
            let noted = text.split_once(' ').and_then(|(function, asked_at)| {
                let worker: WorkerId = entry.file_name().to_str()?.parse().ok()?;
                Some((worker, function.parse().ok()?, Timestamp(asked_at.parse().ok()?)))
            });
            // One that was cut off by a crash: its request was not sent.
            let Some((worker, function, asked_at)) = noted else {
                std::fs::remove_file(entry.path())?;
                continue;
            };
            let left = (self.longest_run + LATE_MAX).saturating_sub(now.since(asked_at));
            let (gone_by, state) = (Instant::now() + left, InstanceState::Running);
            self.known()
                .workers
                .insert(worker, Wakeup { function, asked_at, gone_by, state, request: None, has_left: false });
        }
        Ok(())
    }

    fn note(&self, worker: &WorkerId, function: &FunctionKey, asked_at: Timestamp) -> std::io::Result<()> {
        std::fs::write(self.notes.join(worker.as_str()), format!("{function} {}", asked_at.0))
    }

    fn strike(&self, worker: &WorkerId) {
        // One that stays is read again, found to be over, and struck then.
        let _ = std::fs::remove_file(self.notes.join(worker.as_str()));
    }

    /// The request of a worker that was running has ended.
    fn settle(&self, worker: &WorkerId, outcome: Outcome) {
        let mut known = self.known();
        known.away |= matches!(outcome, Outcome::Unreachable(_));
        if let Some(wakeup) = known.workers.get_mut(worker).filter(|wakeup| wakeup.state == InstanceState::Running) {
            wakeup.state = outcome.state();
        }
        self.changed.notify_one();
    }
}

impl Outcome {
    fn state(self) -> InstanceState {
        match self {
            Outcome::Left => InstanceState::Ended(End::Left),
            Outcome::Unknown(reason) if reason.is_empty() => InstanceState::Running,
            Outcome::Unknown(reason) => InstanceState::Waiting { reason },
            Outcome::Full(reason) | Outcome::Refused(reason) => InstanceState::Ended(End::Failed { reason }),
            Outcome::Unreachable(error) => {
                InstanceState::Ended(End::Failed { reason: Chain(&unreachable(error)).to_string() })
            }
        }
    }
}

pub(crate) fn unreachable(error: reqwest::Error) -> Error {
    Error { what: "the gateway can't be reached".to_owned(), cause: Some(Box::new(error.without_url())) }
}

async fn outcome(sent: Result<Response, reqwest::Error>, worker: &WorkerId) -> Outcome {
    let response = match sent {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Outcome::Unreachable(error),
        Err(error) => {
            let how = Chain(&error.without_url()).to_string();
            return Outcome::Unknown(format!("its request broke off: {how}"));
        }
    };
    let status = response.status();
    let text = beginning(response).await;
    if status == StatusCode::ACCEPTED {
        // The gateway keeps the request, and has its own time for it.
        return Outcome::Unknown(String::new());
    }
    if status.is_success() {
        return answered(&text, worker);
    }
    let said = said(status, &text);
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Full(said),
        // Cut off, by the gateway or by what is before it; the worker goes by its own clock.
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => {
            Outcome::Unknown(format!("{said}; hint: is the pool's `longest_run` longer than the gateway's?"))
        }
        _ => Outcome::Refused(said),
    }
}

/// What a worker says at the end.
fn answered(text: &str, worker: &WorkerId) -> Outcome {
    let summary: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match summary["worker"].as_str() {
        Some(other) if other != worker.as_str() => Outcome::Refused(format!(
            "the gateway gave its request to worker {other}, who was awake already; hint: let one request into a \
             replica at a time (`FRAMEWAKE_MAX_INFLIGHT=1`)"
        )),
        // It could not tell all before the gateway's time was up.
        Some(_) if summary["draining"] == true => Outcome::Unknown(String::new()),
        Some(_) => Outcome::Left,
        None => Outcome::Refused(format!(
            "what answers there is no worker: `{}`; hint: the pool's address, and `FRAMEWAKE_MODE=http` behind it",
            clean(text)
        )),
    }
}

/// What a gateway answered, in one line, with what to do about it.
pub(crate) fn said(status: StatusCode, text: &str) -> String {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; hint: the pool's secret",
        StatusCode::NOT_FOUND => "; hint: is the function there, and the pool's address right?",
        _ => "",
    };
    let line = clean(text);
    let line = if line.is_empty() { String::new() } else { format!(": {line}") };
    format!("the gateway answered {status}{line}{hint}")
}

fn clean(text: &str) -> String {
    let line = text.trim().chars().take(SAID_MAX);
    line.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// So much of an answer as anybody reads.
pub(crate) async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX
        && let Ok(Some(piece)) = response.chunk().await
    {
        bytes.extend_from_slice(&piece[..piece.len().min(ANSWER_MAX - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
