//! Keeps the workers of a pool: asks its place for them, looks at what is there, and tells what is new. What all places
//! need alike is done here, once, so that a provider only asks and lists.
//!
//! It goes by what the place lists, never by what it was asked for: an answer may be lost, a list may fail or lag, and a
//! worker may end between two looks.

use crate::{End, Error, Instance, InstanceState, Provider, Start, StartError, StartStep};
use framewake_proto::chain::Chain;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time for the farm to take in the ends of workers, and for what they left to be removed, when all have to leave.
const FORGET_MAX: Duration = Duration::from_secs(3);

/// What a keeper is asked for.
#[derive(Debug)]
pub enum Command {
    /// One that was asked for already is not asked for again.
    Start(Start),
    /// Ends a worker that never spoke.
    Stop(WorkerId),
    /// It said good-bye.
    Left(WorkerId),
    /// The farm knows of its end: what it left may go.
    Forget(WorkerId),
    /// Every report that waited at the start was counted: the ends of workers from before may be told.
    Drained,
}

/// What a keeper tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is there, and this keeper did not ask for it: an earlier scheduler did.
    Found {
        worker: WorkerId,
        function: FunctionKey,
        gpus: Vec<String>,
    },
    /// The place took the request for it.
    Taken {
        worker: WorkerId,
    },
    /// By the clock of the place.
    Stepped {
        worker: WorkerId,
        step: StartStep,
        at: Timestamp,
    },
    /// Why it does not run yet; empty: all goes as it should.
    Waits {
        worker: WorkerId,
        reason: String,
    },
    Ended {
        worker: WorkerId,
        end: End,
    },
    /// The place was looked at for the first time: all that were there have been told. Those of these that the farm
    /// believes in are the only ones there are.
    Looked,
    /// Why the place does not answer; empty: it answers again.
    Trouble {
        reason: String,
    },
}

/// How patient a keeper is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest time between two looks: whatever a place forgets to tell is seen by then.
    pub look_every: Duration,
    /// Shortest: a place that always has news must not keep the machine busy.
    pub look_apart: Duration,
    /// Wait before a worker is asked for again, the first time; doubles.
    pub again: Duration,
    pub again_max: Duration,
    /// A worker that was asked for and is not listed after this long is gone: lists may lag, but not so much.
    pub appears_within: Duration,
    /// Longest call of a provider.
    pub call_max: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            look_every: Duration::from_secs(5),
            look_apart: Duration::from_millis(50),
            again: Duration::from_secs(1),
            again_max: Duration::from_secs(30),
            appears_within: Duration::from_secs(30),
            call_max: Duration::from_secs(30),
        }
    }
}

/// One task a pool.
#[derive(Debug)]
pub struct Keeper {
    pool: Name,
    provider: Box<dyn Provider>,
    pace: Pace,
    /// With the pool's name: the keepers of a scheduler have one listener.
    news: mpsc::Sender<(Name, News)>,
    workers: BTreeMap<WorkerId, Standing>,
    /// To be ended, as soon as the place takes it.
    stops: BTreeSet<WorkerId>,
    /// Whether the place was ever looked at.
    looked: bool,
    drained: bool,
    /// Ends of workers from before, until `drained`.
    held: Vec<(WorkerId, End)>,
    /// Why the last look failed; empty if it did not.
    trouble: String,
}

/// How a worker stands.
#[derive(Debug)]
enum Standing {
    /// To be asked for when it is due.
    Wanted { start: Box<Start>, tries: u32, due: Instant, reason: String },
    /// The place took the request, and has not listed it yet; `reason` is what was told last.
    Asked { at: Instant, reason: String },
    /// Listed and not ended.
    There { steps: BTreeMap<StartStep, Timestamp>, reason: String },
    /// Its end is told, or held; here until the place lists it no longer.
    Over { forgotten: bool },
}

/// The listener is gone: the scheduler ends.
struct Closed;

impl Keeper {
    pub fn new(pool: Name, provider: Box<dyn Provider>, pace: Pace, news: mpsc::Sender<(Name, News)>) -> Keeper {
        Keeper {
            pool,
            provider,
            pace,
            news,
            workers: BTreeMap::new(),
            stops: BTreeSet::new(),
            looked: false,
            drained: false,
            held: Vec::new(),
            trouble: String::new(),
        }
    }

    /// Runs until `stop`; with `end_workers` they are then asked to leave, and at last made to.
    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        end_workers: bool,
        stop: CancellationToken,
    ) {
        if self.keep(&mut commands, &stop).await.is_ok() && end_workers {
            self.provider.end_all().await;
            // Their ends are told, and what they left is removed once the farm knows.
            let _ = timeout(FORGET_MAX, self.settle(&mut commands)).await;
        }
    }

    async fn settle(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Result<(), Closed> {
        self.look().await?;
        while self.workers.values().any(|standing| matches!(standing, Standing::Over { forgotten: false })) {
            match commands.recv().await {
                Some(command @ (Command::Forget(_) | Command::Drained)) => self.obey(command).await?,
                Some(Command::Start(_) | Command::Stop(_) | Command::Left(_)) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn keep(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        stop: &CancellationToken,
    ) -> Result<(), Closed> {
        // Before anything else: who is there already.
        let (mut looked_at, mut look_at) = (Instant::now(), Instant::now());
        loop {
            let start_at = self.next_start();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(look_at) => {
                    self.look().await?;
                    looked_at = Instant::now();
                    look_at = looked_at + self.pace.look_every;
                }
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.obey(command).await?,
                },
                () = sleep_until(start_at.unwrap_or(looked_at)), if start_at.is_some() => {
                    self.start_due().await?;
                    look_at = look_at.min(looked_at + self.pace.look_apart);
                }
                // What has changed is seen with the look that is due anyway.
                () = self.provider.changed(), if look_at > looked_at + self.pace.look_apart => {
                    look_at = looked_at + self.pace.look_apart;
                }
            }
        }
    }

    async fn tell(&mut self, news: News) -> Result<(), Closed> {
        self.news.send((self.pool.clone(), news)).await.map_err(|_| Closed)
    }

    async fn obey(&mut self, command: Command) -> Result<(), Closed> {
        match command {
            Command::Start(start) => {
                let worker = start.worker.clone();
                if self.workers.contains_key(&worker) {
                    return Ok(());
                }
                let reason = self.trouble.clone();
                let wanted =
                    Standing::Wanted { start: Box::new(start), tries: 0, due: Instant::now(), reason: reason.clone() };
                self.workers.insert(worker.clone(), wanted);
                if !reason.is_empty() {
                    self.tell(News::Waits { worker, reason }).await?;
                }
            }
            Command::Stop(worker) => match self.workers.get(&worker) {
                Some(Standing::Wanted { reason, .. }) => {
                    let reason = format!("it was not started in time: {}", or(reason, "its pool was busy"));
                    self.workers.remove(&worker);
                    self.tell(News::Ended { worker, end: End::Failed { reason } }).await?;
                }
                Some(Standing::Asked { .. } | Standing::There { .. }) => self.stop(worker).await,
                Some(Standing::Over { .. }) | None => {}
            },
            Command::Left(worker) => {
                if let Some(Standing::Asked { .. } | Standing::There { .. }) = self.workers.get(&worker) {
                    self.provider.left(&worker);
                }
            }
            Command::Forget(worker) => {
                if let Some(Standing::Over { forgotten }) = self.workers.get_mut(&worker) {
                    *forgotten = true;
                    self.forget(&worker).await;
                }
            }
            Command::Drained => {
                self.drained = true;
                for (worker, end) in std::mem::take(&mut self.held) {
                    self.tell(News::Ended { worker, end }).await?;
                }
            }
        }
        Ok(())
    }

    async fn stop(&mut self, worker: WorkerId) {
        match bounded(self.pace.call_max, self.provider.stop(&worker)).await {
            Ok(()) => {
                self.stops.remove(&worker);
            }
            Err(error) => {
                warn!(worker.id = %worker, "worker {worker} can't be ended yet: {}", Chain(&error));
                self.stops.insert(worker);
            }
        }
    }

    async fn forget(&mut self, worker: &WorkerId) {
        if let Err(error) = bounded(self.pace.call_max, self.provider.forget(worker)).await {
            // It is listed again, and tried again.
            warn!(worker.id = %worker, "what worker {worker} left can't be removed yet: {}", Chain(&error));
        }
    }

    /// When the next worker is to be asked for: never while nobody knows who is there.
    fn next_start(&self) -> Option<Instant> {
        if !self.looked || !self.trouble.is_empty() {
            return None;
        }
        let due = self.workers.values().filter_map(|standing| match standing {
            Standing::Wanted { due, .. } => Some(*due),
            Standing::Asked { .. } | Standing::There { .. } | Standing::Over { .. } => None,
        });
        due.min()
    }

    /// Asks for all that are due, until one of them shows that the place is away.
    async fn start_due(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        let due = |standing: &Standing| matches!(standing, Standing::Wanted { due, .. } if *due <= now);
        let ids: Vec<WorkerId> =
            self.workers.iter().filter(|(_, standing)| due(standing)).map(|(id, _)| id.clone()).collect();
        for worker in ids {
            let Some(Standing::Wanted { start, tries, reason: before, .. }) = self.workers.remove(&worker) else {
                continue;
            };
            let asked = timeout(self.pace.call_max, self.provider.start(&start)).await;
            let at = Instant::now();
            let due = at + self.wait(tries);
            let again = |reason: String| Standing::Wanted { start, tries: tries + 1, due, reason };
            match asked {
                Ok(Ok(())) => {
                    self.workers.insert(worker.clone(), Standing::Asked { at, reason: before });
                    self.tell(News::Taken { worker }).await?;
                }
                Ok(Err(StartError::Refused(reason))) => {
                    self.tell(News::Ended { worker, end: End::Failed { reason } }).await?;
                }
                Ok(Err(StartError::Full(reason))) => {
                    self.workers.insert(worker.clone(), again(reason.clone()));
                    if reason != before {
                        self.tell(News::Waits { worker, reason }).await?;
                    }
                }
                // It may have been started all the same: it is looked for first.
                away => {
                    let reason = match away {
                        Ok(Err(StartError::Away(error))) => Chain(&error).to_string(),
                        _ => no_answer(self.pace.call_max),
                    };
                    self.workers.insert(worker, again(reason.clone()));
                    return self.troubled(reason).await;
                }
            }
        }
        Ok(())
    }

    fn wait(&self, tries: u32) -> Duration {
        self.pace.again.saturating_mul(1 << tries.min(16)).min(self.pace.again_max)
    }

    async fn look(&mut self) -> Result<(), Closed> {
        let began = Instant::now();
        match bounded(self.pace.call_max, self.provider.observe()).await {
            Ok(listed) => {
                if !self.trouble.is_empty() {
                    info!(pool = %self.pool, "pool {} answers again", self.pool);
                    self.trouble.clear();
                    self.tell(News::Trouble { reason: String::new() }).await?;
                }
                self.take_in(listed, began).await
            }
            Err(error) => {
                let reason = Chain(&error).to_string();
                self.troubled(reason).await
            }
        }
    }

    /// The place does not answer. What was known stays so.
    async fn troubled(&mut self, reason: String) -> Result<(), Closed> {
        if self.trouble == reason {
            return Ok(());
        }
        if self.trouble.is_empty() {
            warn!(pool = %self.pool, "pool {} does not answer: {reason}", self.pool);
        }
        self.trouble.clone_from(&reason);
        let mut waiting = Vec::new();
        for (worker, standing) in &mut self.workers {
            if let Standing::Wanted { reason: before, .. } = standing {
                before.clone_from(&reason);
                waiting.push(worker.clone());
            }
        }
        for worker in waiting {
            self.tell(News::Waits { worker, reason: reason.clone() }).await?;
        }
        self.tell(News::Trouble { reason }).await
    }

    /// `listed` is all there is, or was when the look began.
    async fn take_in(&mut self, listed: Vec<Instance>, began: Instant) -> Result<(), Closed> {
        let first = !self.looked;
        self.looked = true;
        let names: BTreeSet<WorkerId> = listed.iter().map(|instance| instance.worker.clone()).collect();
        let mut found = false;
        for instance in listed {
            found |= self.take_in_one(instance, first).await?;
        }
        self.miss(&names, began).await?;
        if first {
            if found {
                self.give_back().await?;
            }
            self.tell(News::Looked).await?;
        }
        for worker in self.stops.clone() {
            match self.workers.get(&worker) {
                Some(Standing::Asked { .. } | Standing::There { .. }) => self.stop(worker).await,
                Some(Standing::Wanted { .. } | Standing::Over { .. }) | None => {
                    self.stops.remove(&worker);
                }
            }
        }
        Ok(())
    }

    /// Whether it lives, and is news.
    async fn take_in_one(&mut self, instance: Instance, first: bool) -> Result<bool, Closed> {
        let Instance { worker, function, gpus, state, steps } = instance;
        let known = self.workers.remove(&worker);
        let (told, told_reason, is_new) = match known {
            Some(Standing::There { steps, reason }) => (steps, reason, false),
            Some(Standing::Asked { reason, .. } | Standing::Wanted { reason, .. }) => (BTreeMap::new(), reason, false),
            Some(Standing::Over { forgotten }) if matches!(state, InstanceState::Ended(_)) => {
                self.workers.insert(worker.clone(), Standing::Over { forgotten });
                if forgotten {
                    self.forget(&worker).await;
                }
                return Ok(false);
            }
            // Or it was told to be gone, and was not: it counts again.
            Some(Standing::Over { .. }) | None => (BTreeMap::new(), String::new(), true),
        };
        let lives = !matches!(state, InstanceState::Ended(_));
        if is_new && lives {
            info!(worker.id = %worker, pool = %self.pool, "worker {worker} of {function} is still there");
            self.tell(News::Found { worker: worker.clone(), function, gpus }).await?;
        }
        for (step, at) in &steps {
            if !told.contains_key(step) && (lives || !is_new) {
                self.tell(News::Stepped { worker: worker.clone(), step: *step, at: *at }).await?;
            }
        }
        let reason = match state {
            InstanceState::Waiting { reason } => reason,
            InstanceState::Running => String::new(),
            InstanceState::Ended(end) => {
                self.workers.insert(worker.clone(), Standing::Over { forgotten: false });
                self.end(worker, end, first && !self.drained).await?;
                return Ok(false);
            }
        };
        if reason != told_reason {
            self.tell(News::Waits { worker: worker.clone(), reason: reason.clone() }).await?;
        }
        self.workers.insert(worker, Standing::There { steps, reason });
        Ok(is_new)
    }

    async fn end(&mut self, worker: WorkerId, end: End, hold: bool) -> Result<(), Closed> {
        if hold {
            // What it reported with its last breath counts.
            self.held.push((worker, end));
            return Ok(());
        }
        self.tell(News::Ended { worker, end }).await
    }

    /// Those that are not listed.
    async fn miss(&mut self, listed: &BTreeSet<WorkerId>, began: Instant) -> Result<(), Closed> {
        let mut gone = Vec::new();
        for (worker, standing) in self.workers.iter().filter(|(worker, _)| !listed.contains(*worker)) {
            let reason = match standing {
                Standing::There { .. } => format!("it is gone from pool {}, and nobody knows why", self.pool),
                Standing::Asked { at, .. } if began > *at + self.pace.appears_within => format!(
                    "pool {} took it, and has not listed it within {} s",
                    self.pool,
                    self.pace.appears_within.as_secs()
                ),
                Standing::Asked { .. } | Standing::Wanted { .. } | Standing::Over { forgotten: false } => continue,
                Standing::Over { forgotten: true } => String::new(),
            };
            gone.push((worker.clone(), reason));
        }
        for (worker, reason) in gone {
            self.workers.remove(&worker);
            if !reason.is_empty() {
                self.tell(News::Ended { worker, end: End::Failed { reason } }).await?;
            }
        }
        Ok(())
    }

    /// Those that were asked for before it was known who is there: the farm counts again, with those that were found.
    async fn give_back(&mut self) -> Result<(), Closed> {
        let wanted = self.workers.extract_if(.., |_, standing| matches!(standing, Standing::Wanted { .. }));
        for worker in wanted.map(|(worker, _)| worker).collect::<Vec<_>>() {
            self.tell(News::Ended { worker, end: End::Left }).await?;
        }
        Ok(())
    }
}

/// A call that comes back.
async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error { what: no_answer(limit), cause: None }),
    }
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

#[cfg(test)]
mod tests;
