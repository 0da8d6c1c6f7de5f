//! Wake-ups: a gateway knocks, the worker takes orders until none waits or the time is up, and answers with what it did.
//! Who knocks meanwhile shares the drain that is under way: one worker renders one thing at a time.

use crate::agent::{Leave, Until};
use crate::figures::Figures;
use framewake_proto::duration::{SPAN_MAX, Span};
use framewake_proto::ids::WorkerId;
use futures::future::BoxFuture;
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long the gateway will wait: `540`, in seconds, or with a unit, `9m`.
pub const DEADLINE_HEADER: &str = "x-deadline";
/// The id that the farm gave this worker; without it, it makes one.
pub const WORKER_HEADER: &str = "x-framewake-worker";
/// How long to stay without work, in milliseconds; without it, as long as the worker was told at its start.
pub const LINGER_HEADER: &str = "x-framewake-linger-ms";
/// By which the farm knows whom it woke; told to nobody else.
pub const INVITATION_HEADER: &str = "x-framewake-invitation";
/// Longest invitation.
const INVITATION_LEN_MAX: usize = 256;
/// An answer that comes when the gateway has hung up is worth nothing: so much of the time is kept for it, and of a short
/// time not more than a part.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const ANSWER_PART: u32 = 4;
/// How long the answers may take to be handed over when the worker leaves.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What a wake-up asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub within: Option<Duration>,
    pub worker: Option<WorkerId>,
    pub linger: Option<Duration>,
    pub invitation: Option<String>,
}

impl Asked {
    /// From the headers, as they were written.
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Asked, String> {
        let within = header(DEADLINE_HEADER).map(|text| {
            let time = match text.parse::<u64>() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => text.parse::<Span>().map_err(|error| format!("{DEADLINE_HEADER}: {error}"))?.0,
            };
            if time.is_zero() || time > SPAN_MAX {
                return Err(format!("{DEADLINE_HEADER}: in {} s nothing can be done", time.as_secs()));
            }
            Ok(time)
        });
        let worker =
            header(WORKER_HEADER).map(|text| text.parse().map_err(|error| format!("{WORKER_HEADER}: {error}")));
        let linger = header(LINGER_HEADER).map(|text| match text.parse::<u64>() {
            Ok(ms) if Duration::from_millis(ms) <= SPAN_MAX => Ok(Duration::from_millis(ms)),
            _ => Err(format!("{LINGER_HEADER}: a number of milliseconds")),
        });
        let invitation = header(INVITATION_HEADER).map(str::to_owned);
        if invitation.as_ref().is_some_and(|text| text.len() > INVITATION_LEN_MAX) {
            return Err(format!("{INVITATION_HEADER}: too long"));
        }
        let (within, worker, linger) = (within.transpose()?, worker.transpose()?, linger.transpose()?);
        Ok(Asked { within, worker, linger, invitation })
    }
}

/// One life of the worker, from hello to good-bye.
#[derive(Debug, Clone)]
pub struct Drain {
    pub leave: Leave,
    pub worker: WorkerId,
    pub linger: Option<Duration>,
    pub invitation: Option<String>,
}

/// What a drain came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub worker: WorkerId,
    /// Why it ended.
    pub why: String,
    pub attempts: u64,
    pub tasks_done: u64,
    pub tasks_failed: u64,
    pub tasks_given_back: u64,
    /// It had to go before its work was done.
    pub handed_back: bool,
    pub seconds: f64,
    /// It goes on: whoever asked could wait no longer.
    pub draining: bool,
}

/// Why a wake-up was not answered with a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Malformed(String),
    Full,
    Leaving,
    /// The worker could not work.
    Failed(String),
}

impl Refused {
    pub fn status(&self) -> &'static str {
        match self {
            Refused::Malformed(_) => "400 Bad Request",
            Refused::Full => "429 Too Many Requests",
            Refused::Leaving => "503 Service Unavailable",
            Refused::Failed(_) => "502 Bad Gateway",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Malformed(fault) | Refused::Failed(fault) => f.write_str(fault),
            Refused::Full => f.write_str("as many wake-ups as are let in (`--max-inflight`) wait already"),
            Refused::Leaving => f.write_str("this worker leaves"),
        }
    }
}

type Ended = Option<Result<Summary, String>>;

/// The door for wake-ups. Handles are the same door.
#[derive(Clone)]
pub struct Wakeups(Arc<Inner>);

struct Inner {
    room: Semaphore,
    inflight_max: usize,
    within: Duration,
    figures: Figures,
    running: Mutex<Option<Running>>,
    name: Box<dyn Fn() -> WorkerId + Send + Sync>,
    run: Box<dyn Fn(Drain) -> BoxFuture<'static, Result<Summary, String>> + Send + Sync>,
}

#[derive(Clone)]
struct Running {
    worker: WorkerId,
    leave: Leave,
    began: Instant,
    ended: watch::Receiver<Ended>,
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups").field("inflight_max", &self.0.inflight_max).finish_non_exhaustive()
    }
}

impl Wakeups {
    /// Lets in `inflight_max` at once; `within` is for those who don't say how long they wait, `name` for those who don't
    /// say who the worker is. `run` is one drain.
    pub fn new<F>(
        inflight_max: usize,
        within: Duration,
        figures: Figures,
        name: impl Fn() -> WorkerId + Send + Sync + 'static,
        run: impl Fn(Drain) -> F + Send + Sync + 'static,
    ) -> Wakeups
    where
        F: Future<Output = Result<Summary, String>> + Send + 'static,
    {
        let run = Box::new(move |drain| -> BoxFuture<'static, _> { Box::pin(run(drain)) });
        let room = Semaphore::new(inflight_max);
        Wakeups(Arc::new(Inner {
            room,
            inflight_max,
            within,
            figures,
            running: Mutex::default(),
            name: Box::new(name),
            run,
        }))
    }

    /// Whether the next one would be too many.
    pub fn is_full(&self) -> bool {
        self.0.room.available_permits() == 0
    }

    /// Wakes the worker, or joins those who did. The drain goes on if nobody waits for it any more.
    pub async fn wake(&self, asked: Asked) -> Result<Summary, Refused> {
        if self.0.figures.is_leaving() {
            return Err(Refused::Leaving);
        }
        let _pass = self.0.room.try_acquire().map_err(|_| Refused::Full)?;
        let within = asked.within.unwrap_or(self.0.within);
        let for_answer = ANSWER_MAX.min(within / ANSWER_PART);
        let now = Instant::now();
        let mut running = self.join(asked, Until::within(now, within.saturating_sub(for_answer)));
        let before = self.0.figures.sums();
        tokio::select! {
            ended = running.ended.wait_for(Option::is_some) => {
                let ended = ended.ok().and_then(|ended| ended.clone());
                ended.unwrap_or_else(|| Err("the drain was broken off".to_owned())).map_err(Refused::Failed)
            }
            () = tokio::time::sleep_until(now + within.saturating_sub(for_answer / 2)) => {
                let sums = self.0.figures.sums().since(before);
                Ok(Summary {
                    worker: running.worker.clone(),
                    why: "it still works: this answer could wait no longer".to_owned(),
                    attempts: sums.attempts,
                    tasks_done: sums.done,
                    tasks_failed: sums.failed,
                    tasks_given_back: sums.given_back,
                    handed_back: false,
                    seconds: running.began.elapsed().as_secs_f64(),
                    draining: true,
                })
            }
        }
    }

    fn join(&self, asked: Asked, until: Until) -> Running {
        let mut running = self.lock();
        if let Some(running) = running.as_ref().filter(|running| running.ended.borrow().is_none()) {
            running.leave.extend(until);
            return running.clone();
        }
        let Asked { worker, linger, invitation, within: _ } = asked;
        let (worker, leave) = (worker.unwrap_or_else(&self.0.name), Leave::at(until));
        let (tell, ended) = watch::channel(None);
        let drain = (self.0.run)(Drain { leave: leave.clone(), worker: worker.clone(), linger, invitation });
        tokio::spawn(async move {
            let summary = drain.await;
            tell.send_replace(Some(summary));
        });
        let new = Running { worker, leave, began: Instant::now(), ended };
        *running = Some(new.clone());
        new
    }

    /// No one is let in any more; a drain under way has `grace` left.
    pub fn leave_within(&self, grace: Duration) {
        self.0.figures.set_leaving();
        if let Some(running) = &*self.lock() {
            running.leave.drain_within(grace);
        }
    }

    /// The drain under way ends now.
    pub fn abort(&self) {
        if let Some(running) = &*self.lock() {
            running.leave.abort.cancel();
        }
    }

    /// Waits for the drain under way and the answers; what the last drain came to.
    pub async fn over(&self) -> Option<Result<Summary, String>> {
        let mut running = self.lock().clone()?;
        let ended = running.ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        let all = u32::try_from(self.0.inflight_max).unwrap_or(u32::MAX);
        let _hang_on = tokio::time::timeout(LAST_ANSWERS, self.0.room.acquire_many(all)).await;
        ended
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
