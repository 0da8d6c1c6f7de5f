//! Workers as processes of this machine. They run detached: a scheduler that is killed and started again
//! finds them by their command lines. A note on disk would not be there yet if the scheduler was killed just
//! after it started a worker.

use super::gpus;
use crate::engine::{Handle, Health, Message, ProviderCommand};
use framewake_core::event::{Event, WorkerEnd};
use framewake_core::values::Place;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::worker_exit;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group, test_kill_process};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often workers that are not our children are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most of a worker's last words that are passed on.
const LAST_WORDS_MAX: u64 = 2048;
/// Time for workers to finish the frame at hand when `dev` ends.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// Time to give back what is not finished then.
const GIVE_BACK_MAX: Duration = Duration::from_secs(3);
/// Time for the kernel to end what is killed.
const KILL_MAX: Duration = Duration::from_secs(2);

const ENDED_BEFORE: &str = "ended while no scheduler ran";

/// What a worker is told, and where it runs.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The data folder of the scheduler.
    pub data: PathBuf,
    pub worker: PathBuf,
    pub nats: String,
    pub farm: String,
    pub store: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the folder of workers `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the worker program `{}` is missing: build it, or name it with --worker-bin", .0.display())]
    NoProgram(PathBuf),
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// Ticks since boot, from /proc: another process with this pid began at another time.
    began: u64,
}

#[derive(Debug)]
struct Worker {
    function: FunctionKey,
    /// By name, those that it was given.
    gpus: Vec<String>,
    process: Process,
    /// Absent for one that was found: then /proc tells of its end.
    child: Option<Child>,
}

#[derive(Debug)]
pub struct LocalProvider {
    config: LocalConfig,
    workers: BTreeMap<WorkerId, Worker>,
    /// Those that ended while no scheduler ran.
    ended_before: BTreeSet<WorkerId>,
}

impl LocalProvider {
    /// The provider, with the workers of an earlier scheduler that are still alive, and word of those that are not.
    pub fn new(config: LocalConfig) -> Result<LocalProvider, Error> {
        if !config.worker.is_file() {
            return Err(Error::NoProgram(config.worker));
        }
        let folder = config.data.join("workers");
        fs::create_dir_all(&folder).map_err(|error| Error::Folder { path: folder.clone(), error })?;
        let mut running = running(&folder);
        let (mut workers, mut ended_before) = (BTreeMap::new(), BTreeSet::new());
        for entry in fs::read_dir(&folder).map_err(|error| Error::Folder { path: folder.clone(), error })?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<WorkerId>().ok()) else { continue };
            if let Some((function, gpus, process)) = running.remove(&id) {
                workers.insert(id, Worker { function, gpus, process, child: None });
            } else {
                remove(&entry.path());
                ended_before.insert(id);
            }
        }
        Ok(LocalProvider { config, workers, ended_before })
    }

    /// Those that the farm remembers, and that left no trace here: a scheduler may have been killed after it removed
    /// what an ended worker left, and before that was durable.
    pub fn remembered(&mut self, workers: impl IntoIterator<Item = WorkerId>) {
        let gone = workers.into_iter().filter(|worker| !self.workers.contains_key(worker));
        self.ended_before.extend(gone);
    }

    /// The workers found alive.
    pub fn found(&self) -> impl Iterator<Item = (WorkerId, FunctionKey, Vec<Place>)> + '_ {
        let host = gpus::host();
        let places = move |uuids: &[String]| uuids.iter().map(|uuid| gpus::place(&host, uuid)).collect();
        self.workers.iter().map(move |(id, worker)| (id.clone(), worker.function.clone(), places(&worker.gpus)))
    }

    /// Runs until `stop`; with `end_workers` they are then asked to leave, and at last made to.
    pub(crate) async fn run(
        mut self,
        handle: Handle,
        mut commands: mpsc::UnboundedReceiver<ProviderCommand>,
        end_workers: bool,
        stop: CancellationToken,
    ) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut health = handle.health.clone();
        loop {
            tokio::select! {
                // Not before: what they reported with their last breath counts.
                Some(()) = drained(&mut health), if !self.ended_before.is_empty() => {
                    for worker in std::mem::take(&mut self.ended_before) {
                        info!(worker.id = %worker, "worker {worker} {ENDED_BEFORE}");
                        let end = WorkerEnd::Failed { reason: ENDED_BEFORE.to_owned() };
                        let _ = handle.tell(Message::Happened(Event::WorkerExited { worker, end })).await;
                    }
                }
                () = stop.cancelled() => break,
                command = commands.recv() => match command {
                    None => break,
                    Some(ProviderCommand::Start { worker, function, gpus, linger, .. }) => {
                        if let Err(reason) = self.start(&worker, &function, gpus, linger) {
                            tell_end(&handle, worker, WorkerEnd::Failed { reason }).await;
                        }
                    }
                    Some(ProviderCommand::Stop { worker }) => {
                        if let Some(worker) = self.workers.get(&worker) {
                            worker.process.signal(Signal::KILL);
                        }
                    }
                },
                _ = look.tick() => {}
                () = any_ended(&mut self.workers) => {}
            }
            for (id, end) in self.sweep() {
                tell_end(&handle, id, end).await;
            }
        }
        if end_workers {
            self.end_all(&handle).await;
        }
    }

    /// Starts a worker; one that runs already is left alone.
    fn start(
        &mut self,
        id: &WorkerId,
        function: &FunctionKey,
        gpus: Vec<String>,
        linger: Duration,
    ) -> Result<(), String> {
        if self.workers.contains_key(id) {
            return Ok(());
        }
        let folder = self.folder(id);
        let scratch = scratch_of(&self.config.data.join("workers"), id);
        fs::create_dir_all(&scratch).map_err(|error| format!("cannot make its folder: {error}"))?;
        let log = File::create(folder.join("log")).map_err(|error| format!("cannot make its log: {error}"))?;
        let errors = log.try_clone().map_err(|error| format!("cannot share its log: {error}"))?;
        let mut command = Command::new(&self.config.worker);
        command
            // What it is known by. The environment could not be read again: a worker hides its own.
            .args(["--worker", id.as_str(), "--function", &function.to_string()])
            .arg("--scratch")
            .arg(&scratch)
            .env("FRAMEWAKE_NATS_URL", &self.config.nats)
            .env("FRAMEWAKE_FARM", &self.config.farm)
            .env("FRAMEWAKE_STORE", &self.config.store)
            .env("FRAMEWAKE_CACHE", self.config.data.join("cache"))
            .env("FRAMEWAKE_LINGER_MS", linger.as_millis().to_string())
            .current_dir(&scratch)
            // Its own group: what ends the scheduler's terminal doesn't end a render.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        if !gpus.is_empty() {
            let named = gpus.join(",");
            command.args(["--gpus", &named]);
            for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                command.env(name, &named);
            }
        }
        let child =
            command.spawn().map_err(|error| format!("`{}` does not start: {error}", self.config.worker.display()))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let process = Process { pid, began: began(pid).unwrap_or(0) };
        self.workers.insert(id.clone(), Worker { function: function.clone(), gpus, process, child: Some(child) });
        Ok(())
    }

    /// Takes out the workers that ended, and their folders.
    fn sweep(&mut self) -> Vec<(WorkerId, WorkerEnd)> {
        let mut ended = Vec::new();
        for (id, worker) in &mut self.workers {
            let log = self.config.data.join("workers").join(id.as_str()).join("log");
            let end = match &mut worker.child {
                Some(child) => match child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) if status.code().is_some_and(worker_exit::is_well) => WorkerEnd::Left,
                    Ok(Some(status)) => WorkerEnd::Failed { reason: why(status, &log) },
                    Err(error) => WorkerEnd::Failed { reason: error.to_string() },
                },
                None if worker.process.is_alive() => continue,
                // Not our child: how it ended is not to be known.
                None => WorkerEnd::Left,
            };
            ended.push((id.clone(), end));
        }
        for (id, _) in &ended {
            self.workers.remove(id);
            // Scratch may be large, and other workers wait to be started.
            let folder = self.folder(id);
            tokio::task::spawn_blocking(move || remove(&folder));
        }
        ended
    }

    /// Asks all workers to leave, twice: first they may finish the frame at hand, then they give it back.
    async fn end_all(&mut self, handle: &Handle) {
        for (signal_sent, patience) in
            [(Signal::TERM, FINISH_MAX), (Signal::TERM, GIVE_BACK_MAX), (Signal::KILL, KILL_MAX)]
        {
            for (id, worker) in &self.workers {
                if signal_sent == Signal::KILL {
                    info!(worker.id = %id, "worker {id} is made to leave");
                }
                worker.process.signal(signal_sent);
            }
            let deadline = tokio::time::Instant::now() + patience;
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while !self.workers.is_empty() && tokio::time::Instant::now() < deadline {
                look.tick().await;
                for (id, end) in self.sweep() {
                    tell_end(handle, id, end).await;
                }
            }
        }
    }

    fn folder(&self, id: &WorkerId) -> PathBuf {
        self.config.data.join("workers").join(id.as_str())
    }
}

/// Comes back when every report that waited has been counted; `None` when nobody will tell.
async fn drained(health: &mut watch::Receiver<Health>) -> Option<()> {
    health.wait_for(|health| health.drained).await.ok().map(drop)
}

async fn tell_end(handle: &Handle, worker: WorkerId, end: WorkerEnd) {
    match &end {
        WorkerEnd::Left => info!(worker.id = %worker, "worker {worker} has left"),
        WorkerEnd::TakenAway { reason } => info!(worker.id = %worker, "worker {worker} was taken away: {reason}"),
        WorkerEnd::Failed { reason } => warn!(worker.id = %worker, "worker {worker} failed: {reason}"),
    }
    let _ = handle.tell(Message::Happened(Event::WorkerExited { worker, end })).await;
}

/// Comes back when one of our children has ended.
async fn any_ended(workers: &mut BTreeMap<WorkerId, Worker>) {
    let children = workers.values_mut().filter_map(|worker| worker.child.as_mut());
    let waits: Vec<_> = children.map(|child| Box::pin(child.wait())).collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = futures::future::select_all(waits).await;
}

/// The workers that run with their scratch in `folder`. A worker leads its group, so that its children are not
/// taken for it.
fn running(folder: &Path) -> HashMap<WorkerId, (FunctionKey, Vec<String>, Process)> {
    let mut found = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<&str> =
            line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        let told = |option: &str| words.iter().skip_while(|word| **word != option).nth(1).copied();
        let Some(id) = told("--worker").and_then(|id| id.parse::<WorkerId>().ok()) else { continue };
        let Some(function) = told("--function").and_then(|key| key.parse().ok()) else { continue };
        let ours = told("--scratch").is_some_and(|scratch| Path::new(scratch) == scratch_of(folder, &id));
        let leads = |pid| getpgid(Some(pid)).is_ok_and(|group| group == pid);
        if ours
            && Pid::from_raw(pid).is_some_and(leads)
            && let Some(began) = began(pid)
        {
            let gpus = told("--gpus").map_or_else(Vec::new, |gpus| gpus.split(',').map(str::to_owned).collect());
            found.insert(id, (function, gpus, Process { pid, began }));
        }
    }
    found
}

fn scratch_of(folder: &Path, worker: &WorkerId) -> PathBuf {
    folder.join(worker.as_str()).join("scratch")
}

impl Process {
    fn is_alive(self) -> bool {
        let there = Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid).is_ok());
        there && began(self.pid) == Some(self.began)
    }

    /// Killed is the whole group: a worker that is made to leave takes its renderer along.
    fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else { return };
        if signal == Signal::KILL {
            let _ = kill_process_group(pid, signal);
        }
        let _ = kill_process(pid, signal);
    }
}

/// Field 22 of /proc/PID/stat (proc(5)); `None` for a process that is gone or a zombie.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Its last line, where it has one: it says more than a number. Who is killed outright could not speak of it.
fn why(status: ExitStatus, log: &Path) -> String {
    let end = match (status.signal(), status.code()) {
        (Some(9), _) => return "killed by signal 9 (by hand, or because memory ran out)".to_owned(),
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, code) => format!("exit code {}", code.unwrap_or(-1)),
    };
    last_words(log).map_or_else(|| end.clone(), |words| format!("{words} ({end})"))
}

/// The last line that a worker wrote.
fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LAST_WORDS_MAX))).ok()?;
    let mut tail = Vec::new();
    file.take(LAST_WORDS_MAX).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!("the folder `{}` of a worker that ended can't be removed: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests;
