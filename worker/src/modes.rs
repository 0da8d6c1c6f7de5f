//! The modes of the worker's program: `pull` takes orders until none comes for a while, `exec` takes one, `http` takes them
//! whenever a gateway wakes it. And what a signal does in each: the first lets it leave in order, the second at once.

use crate::agent::{self, Ended, Error, Leave, Life, Wanted};
use crate::config::{Config, Mode};
use crate::figures::Figures;
use crate::port::{Pages, Port};
use crate::queue;
use crate::wakeups::{Drain, Summary, Wakeups};
use framewake_proto::chain::Chain;
use framewake_proto::worker_exit;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// SIGTERM and SIGINT, which mean the same.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a worker in its mode to its end; the program's exit code. `began`: when its process did.
pub async fn run(config: Config, path: String, signals: Signals, began: Instant) -> Result<u8, Error> {
    match config.mode {
        Mode::Pull | Mode::Exec => run_once(&config, path, signals, began).await,
        Mode::Http => run_on_wakeups(config, path, signals, began).await,
    }
}

async fn run_once(config: &Config, path: String, mut signals: Signals, began: Instant) -> Result<u8, Error> {
    let (leave, figures, worker) = (Leave::default(), Figures::default(), config.worker_id());
    let pages =
        Pages { worker: worker.clone(), function: config.function.clone(), figures: figures.clone(), wakeups: None };
    let _port = match config.metrics {
        Some(address) => Some(open(address, pages, "metrics").await?),
        None => None,
    };
    let wanted = if config.mode == Mode::Exec { Wanted::One } else { Wanted::All };
    let linger = config.linger();
    let life = Life { worker, path, wanted, linger, leave: leave.clone(), figures: figures.clone(), began };
    let mut working = Box::pin(agent::run(config, life));
    loop {
        tokio::select! {
            ended = &mut working => return ended.map(|ended| exit_code(config.mode, &ended)),
            () = signals.next() => {
                if leave.drain.is_cancelled() {
                    tracing::warn!("second signal: the frame at hand is given up");
                    leave.abort.cancel();
                } else {
                    let grace = config.grace.0;
                    tracing::info!("told to leave within {} s: finishing the frame at hand if it fits", grace.as_secs());
                    figures.set_leaving();
                    leave.drain_within(grace);
                }
            }
        }
    }
}

async fn open(address: SocketAddr, pages: Pages, what: &str) -> Result<Port, Error> {
    let port = Port::open(address, pages).await.map_err(|error| Error::Port { address, error })?;
    tracing::info!("worker answers on http://{} ({what})", port.address());
    Ok(port)
}

fn exit_code(mode: Mode, ended: &Ended) -> u8 {
    if !ended.told_all {
        worker_exit::FAILED
    } else if ended.handed_back {
        worker_exit::HANDED_BACK
    } else if mode == Mode::Exec && ended.sums.failed > 0 {
        worker_exit::TASK_FAILED
    } else {
        worker_exit::LEFT
    }
}

/// The exit code of a worker that could not do its work.
pub fn exit_code_of(error: &Error) -> u8 {
    match error {
        Error::Queue(queue::Error::Hello(_) | queue::Error::JoinToken { .. })
        | Error::Store(_)
        | Error::Folder { .. }
        | Error::Port { .. } => worker_exit::FAILED,
        Error::Queue(_) => worker_exit::UNAVAILABLE,
        Error::Renderer(_) | Error::Rules(_) => worker_exit::CANNOT_RUN,
    }
}

async fn run_on_wakeups(config: Config, path: String, mut signals: Signals, began: Instant) -> Result<u8, Error> {
    let config = Arc::new(config);
    let figures = Figures::default();
    let wakeups = {
        let (name, runs, counts) = (Arc::clone(&config), Arc::clone(&config), figures.clone());
        let run = move |drain| drain_once(Arc::clone(&runs), path.clone(), counts.clone(), drain, began);
        let within = config.drain_for.0;
        Wakeups::new(config.max_inflight, within, figures.clone(), move || name.worker_id(), run)
    };
    let pages = Pages {
        worker: config.worker_id(),
        function: config.function.clone(),
        figures: figures.clone(),
        wakeups: Some(wakeups.clone()),
    };
    let _port = open(config.listen, pages.clone(), "wake-ups").await?;
    let _metrics = match config.metrics {
        Some(address) => Some(open(address, pages, "metrics").await?),
        None => None,
    };
    signals.next().await;
    let grace = config.grace.0;
    tracing::info!("told to leave within {} s: no more wake-ups", grace.as_secs());
    wakeups.leave_within(grace);
    let mut over = Box::pin(wakeups.over());
    let last = loop {
        tokio::select! {
            last = &mut over => break last,
            () = signals.next() => {
                tracing::warn!("second signal: the frame at hand is given up");
                wakeups.abort();
            }
        }
    };
    Ok(match last {
        Some(Ok(summary)) if summary.handed_back => worker_exit::HANDED_BACK,
        Some(Err(_)) => worker_exit::FAILED,
        Some(Ok(_)) | None => worker_exit::LEFT,
    })
}

/// One wake-up's drain: a whole life of a worker.
async fn drain_once(
    config: Arc<Config>,
    path: String,
    figures: Figures,
    drain: Drain,
    process_began: Instant,
) -> Result<Summary, String> {
    let (began, worker) = (Instant::now(), drain.worker);
    let config = config.invited(drain.invitation);
    let linger = drain.linger.unwrap_or_else(|| config.linger());
    let (wanted, leave) = (Wanted::All, drain.leave);
    let life = Life { worker: worker.clone(), path, wanted, linger, leave, figures, began: process_began };
    let ended = Box::pin(agent::run(&config, life)).await.map_err(|error| {
        let why = Chain(&error).to_string();
        tracing::error!(worker = %worker, "a wake-up came to nothing: {why}");
        why
    })?;
    Ok(Summary {
        worker,
        why: ended.left.describe().to_owned(),
        attempts: ended.sums.attempts,
        tasks_done: ended.sums.done,
        tasks_failed: ended.sums.failed,
        tasks_given_back: ended.sums.given_back,
        handed_back: ended.handed_back,
        seconds: began.elapsed().as_secs_f64(),
        draining: false,
    })
}
