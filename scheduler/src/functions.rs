//! Where workers are started: a keeper for each pool, and the way between them and the engine.

pub(crate) mod files;
pub(crate) mod gpus;
mod open;

pub(crate) use open::{open, worker_program};

use crate::credentials::Issuer;
use crate::engine::{Handle, Health, Message, ProviderCommand};
use framewake_core::event::{self, Event, WorkerEnd};
use framewake_core::values::Place;
use framewake_functions::keeper::{Command, Keeper, News, Pace};
use framewake_functions::local::ENDED_BEFORE;
use framewake_functions::{End, Provider, Start, StartStep};
use framewake_proto::ids::{Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Longest wait at the start until each pool was looked at: one that does not answer must not keep the others.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Most news that wait to be told to the engine.
const NEWS_MAX: usize = 1024;
/// Most news told together: the ends among them share one commit.
const NEWS_TOGETHER: usize = 256;

/// The keepers of all pools, and what is known of them.
pub(crate) struct Keepers {
    handle: Handle,
    /// Makes what workers join with, where NATS lets nobody in without.
    pub(crate) issuer: Option<Issuer>,
    health: watch::Sender<Health>,
    commands: BTreeMap<Name, mpsc::UnboundedSender<Command>>,
    news: mpsc::Receiver<(Name, News)>,
    running: JoinSet<()>,
    stop: CancellationToken,
    /// Pools that were not looked at yet.
    unseen: BTreeSet<Name>,
    /// Workers that the farm knows from before, and that no pool has named yet.
    remembered: BTreeSet<WorkerId>,
    drained: bool,
}

impl Keepers {
    /// Begins to keep these pools. With `end_workers` all workers are made to leave when they end.
    pub(crate) fn begin(
        providers: Vec<(Name, Box<dyn Provider>)>,
        handle: Handle,
        health: watch::Sender<Health>,
        remembered: Vec<WorkerId>,
        end_workers: bool,
    ) -> Keepers {
        let (news_in, news) = mpsc::channel(NEWS_MAX);
        let (stop, mut running, mut commands) = (CancellationToken::new(), JoinSet::new(), BTreeMap::new());
        for (name, provider) in providers {
            let (sender, receiver) = mpsc::unbounded_channel();
            let keeper = Keeper::new(name.clone(), provider, Pace::default(), news_in.clone());
            running.spawn(keeper.run(receiver, end_workers, stop.clone()));
            commands.insert(name, sender);
        }
        let unseen = commands.keys().cloned().collect();
        let remembered = remembered.into_iter().collect();
        Keepers { handle, issuer: None, health, commands, news, running, stop, unseen, remembered, drained: false }
    }

    /// Has told the engine, as far as the pools answer, who is there: nobody is then started in the place of a worker
    /// that lives.
    pub(crate) async fn look(&mut self) {
        let looked = async {
            while !self.unseen.is_empty() {
                let Some(news) = self.news.recv().await else { return };
                self.take_in(vec![news]).await;
            }
        };
        if tokio::time::timeout(LOOK_MAX, looked).await.is_err() {
            let silent: Vec<&str> = self.unseen.iter().map(Name::as_str).collect();
            warn!("nobody is started in these pools until they answer: {}", silent.join(", "));
        }
    }

    /// Runs until `stop`, and then until every keeper has ended.
    pub(crate) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<ProviderCommand>, stop: CancellationToken) {
        let mut health = self.handle.health.clone();
        let mut news = Vec::with_capacity(NEWS_TOGETHER);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = drained(&mut health), if !self.drained => {
                    self.drained = true;
                    for keeper in self.commands.values() {
                        let _ = keeper.send(Command::Drained);
                    }
                    self.end_remembered().await;
                }
                command = asked.recv() => match command {
                    None => break,
                    Some(command) => self.obey(command).await,
                },
                told = self.news.recv_many(&mut news, NEWS_TOGETHER) => match told {
                    0 => break,
                    _ => self.take_in(std::mem::take(&mut news)).await,
                },
            }
        }
        self.stop.cancel();
        loop {
            tokio::select! {
                ended = self.running.join_next() => if ended.is_none() { return },
                Some(told) = self.news.recv() => self.take_in(vec![told]).await,
            }
        }
    }

    async fn obey(&mut self, command: ProviderCommand) {
        match command {
            ProviderCommand::Start { worker, function, spec, pool, gpus, linger } => {
                let Some(keeper) = self.commands.get(&pool) else {
                    let reason = format!("there is no pool `{pool}`");
                    self.tell(Event::WorkerExited { worker, end: WorkerEnd::Failed { reason } }).await;
                    return;
                };
                let issuer = self.issuer.as_ref();
                let join_token = issuer.map(|issuer| issuer.join_token_of(&function, &worker, Timestamp::now()));
                let invitation = issuer.map(|issuer| issuer.invitation(&function, &worker));
                let start = Start { worker, function, spec, gpus, linger, join_token, invitation };
                let _ = keeper.send(Command::Start(start));
            }
            ProviderCommand::Left { worker } => {
                for keeper in self.commands.values() {
                    let _ = keeper.send(Command::Left(worker.clone()));
                }
            }
            // Only the one that has it takes note.
            ProviderCommand::Stop { worker } => {
                for keeper in self.commands.values() {
                    let _ = keeper.send(Command::Stop(worker.clone()));
                }
            }
        }
    }

    /// Passes news on, and lets go of workers whose end is durable.
    async fn take_in(&mut self, news: Vec<(Name, News)>) {
        let mut ended = Vec::new();
        for (pool, news) in news {
            match news {
                News::Found { worker, function, gpus } => {
                    self.remembered.remove(&worker);
                    let gpus = places(&gpus);
                    self.tell(Event::WorkerFound { worker, function, pool, gpus }).await;
                }
                News::Taken { worker } => self.tell(Event::WorkerTaken { worker }).await,
                News::Stepped { worker, step, at } => {
                    self.tell(Event::WorkerStepped { worker, step: step_of(step), at }).await;
                }
                News::Waits { worker, reason } => self.tell(Event::WorkerWaits { worker, reason }).await,
                News::Ended { worker, end } => {
                    self.remembered.remove(&worker);
                    say_end(&worker, &end);
                    self.tell(Event::WorkerExited { worker: worker.clone(), end: end_of(end) }).await;
                    ended.push((pool, worker));
                }
                News::Looked => {
                    self.unseen.remove(&pool);
                    self.tell(Event::PoolReached { pool }).await;
                    self.end_remembered().await;
                }
                News::Trouble { reason } => self.trouble(pool, reason).await,
            }
        }
        if !ended.is_empty() && self.handle.durable().await {
            for (pool, worker) in ended {
                if let Some(keeper) = self.commands.get(&pool) {
                    let _ = keeper.send(Command::Forget(worker));
                }
            }
        }
    }

    async fn trouble(&mut self, pool: Name, reason: String) {
        self.health.send_modify(|health| {
            health.pools.insert(pool.clone(), reason.clone());
        });
        if !reason.is_empty() {
            self.tell(Event::PoolAway { pool, reason }).await;
        } else if !self.unseen.contains(&pool) {
            self.tell(Event::PoolReached { pool }).await;
        }
    }

    /// Those that the farm remembers and that left no trace anywhere: a scheduler may have been killed after what an
    /// ended worker left was removed, and before that was durable.
    async fn end_remembered(&mut self) {
        if !self.drained || !self.unseen.is_empty() {
            return;
        }
        for worker in std::mem::take(&mut self.remembered) {
            let end = WorkerEnd::Failed { reason: ENDED_BEFORE.to_owned() };
            info!(worker.id = %worker, "worker {worker} {ENDED_BEFORE}");
            self.tell(Event::WorkerExited { worker, end }).await;
        }
    }

    async fn tell(&self, event: Event) {
        // False only when the whole scheduler stops.
        let _ = self.handle.tell(Message::Happened(event)).await;
    }
}

/// Comes back when every report that waited has been counted; `None` when nobody will tell.
async fn drained(health: &mut watch::Receiver<Health>) -> Option<()> {
    health.wait_for(|health| health.drained).await.ok().map(drop)
}

/// GPUs of this machine, by which workers here name their places; workers elsewhere name theirs when they speak.
fn places(gpus: &[String]) -> Vec<Place> {
    let host = gpus::host();
    gpus.iter().map(|uuid| gpus::place(&host, uuid)).collect()
}

fn step_of(step: StartStep) -> event::StartStep {
    match step {
        StartStep::Created => event::StartStep::Created,
        StartStep::Scheduled => event::StartStep::Scheduled,
        StartStep::ImageReady => event::StartStep::ImageReady,
        StartStep::ProcessStarted => event::StartStep::ProcessStarted,
    }
}

fn end_of(end: End) -> WorkerEnd {
    match end {
        End::Left => WorkerEnd::Left,
        End::TakenAway { reason } => WorkerEnd::TakenAway { reason },
        End::Failed { reason } => WorkerEnd::Failed { reason },
    }
}

fn say_end(worker: &WorkerId, end: &End) {
    match end {
        End::Left => info!(worker.id = %worker, "worker {worker} has left"),
        End::TakenAway { reason } => info!(worker.id = %worker, "worker {worker} was taken away: {reason}"),
        End::Failed { reason } => warn!(worker.id = %worker, "worker {worker} failed: {reason}"),
    }
}

#[cfg(test)]
mod tests;
