//! Workers as processes of this machine. They run detached: a scheduler that is killed and started again finds them by
//! their command lines. A note on disk would not be there yet if the scheduler was killed just after it started one.

mod process;

use crate::{
    End, Error, INVITATION, Instance, InstanceState, JOIN_TOKEN, Provider, Start, StartError, StartStep, Surroundings,
};
use async_trait::async_trait;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::time::Timestamp;
use framewake_proto::worker_exit;
use process::Process;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
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
/// Of the scheduler's own environment, which its workers inherit for the rest.
const NOT_FOR_WORKERS: [&str; 3] = ["FRAMEWAKE_NATS_SEED_FILE", "FRAMEWAKE_SMTP", "FRAMEWAKE_TOKEN"];
/// Holds the worker's function, so that the end of one that ended while nobody looked can be told.
const FUNCTION: &str = "function";

/// How a worker ended that nobody saw.
pub const ENDED_BEFORE: &str = "ended while no scheduler ran";

/// What a worker is told, and where it runs.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The data folder of the scheduler.
    pub data: PathBuf,
    pub worker: PathBuf,
    /// Most workers; where there may be none, their program need not be there.
    pub max: u32,
    pub surroundings: Surroundings,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the folder of workers `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the worker program `{}` is missing: build it, or name it with --worker-bin", .0.display())]
    NoProgram(PathBuf),
}

#[derive(Debug)]
struct Worker {
    function: FunctionKey,
    /// By name, those that it was given.
    gpus: Vec<String>,
    steps: BTreeMap<StartStep, Timestamp>,
    state: State,
}

#[derive(Debug)]
enum State {
    Child {
        child: Child,
        process: Process,
    },
    /// Of an earlier scheduler: /proc tells of its end.
    Found {
        process: Process,
    },
    Ended(End),
}

#[derive(Debug)]
pub struct LocalProvider {
    config: LocalConfig,
    workers: BTreeMap<WorkerId, Worker>,
}

impl LocalProvider {
    /// The provider, with the workers of an earlier scheduler: those that are alive, and those that left a folder.
    pub fn new(config: LocalConfig) -> Result<LocalProvider, OpenError> {
        if config.max > 0 && !config.worker.is_file() {
            return Err(OpenError::NoProgram(config.worker));
        }
        let folder = config.data.join("workers");
        let cannot = |error| OpenError::Folder { path: folder.clone(), error };
        fs::create_dir_all(&folder).map_err(cannot)?;
        let mut running = process::running(&folder);
        let mut workers = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(cannot)?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<WorkerId>().ok()) else { continue };
            let (function, gpus, state) = if let Some(found) = running.remove(&id) {
                (found.function, found.gpus, State::Found { process: found.process })
            } else {
                let noted = fs::read_to_string(entry.path().join(FUNCTION)).ok().and_then(|key| key.parse().ok());
                let Some(function) = noted else {
                    // It was never started.
                    remove(&entry.path());
                    continue;
                };
                (function, Vec::new(), State::Ended(End::Failed { reason: ENDED_BEFORE.to_owned() }))
            };
            workers.insert(id, Worker { function, gpus, steps: BTreeMap::new(), state });
        }
        Ok(LocalProvider { config, workers })
    }

    fn spawn(&self, start: &Start) -> Result<(Child, Process), String> {
        let id = &start.worker;
        let folder = self.folder(id);
        let scratch = process::scratch_of(&self.config.data.join("workers"), id);
        fs::create_dir_all(&scratch).map_err(|error| format!("cannot make its folder: {error}"))?;
        fs::write(folder.join(FUNCTION), start.function.to_string())
            .map_err(|error| format!("cannot write in its folder: {error}"))?;
        let log = File::create(folder.join("log")).map_err(|error| format!("cannot make its log: {error}"))?;
        let errors = log.try_clone().map_err(|error| format!("cannot share its log: {error}"))?;
        let surroundings = &self.config.surroundings;
        let mut command = Command::new(&self.config.worker);
        command
            // What it is known by. The environment could not be read again: a worker hides its own.
            .args(["--worker", id.as_str(), "--function", &start.function.to_string()])
            .arg("--scratch")
            .arg(&scratch)
            .env("FRAMEWAKE_NATS_URL", &surroundings.nats)
            .env("FRAMEWAKE_FARM", &surroundings.farm)
            .env("FRAMEWAKE_STORE", &surroundings.store)
            .env("FRAMEWAKE_CACHE", self.config.data.join("cache"))
            .env("FRAMEWAKE_LINGER_MS", start.linger.as_millis().to_string())
            .envs(&surroundings.environment)
            .current_dir(&scratch)
            // Its own group: what ends the scheduler's terminal doesn't end a render.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        for name in NOT_FOR_WORKERS {
            command.env_remove(name);
        }
        if let Some(invitation) = &start.invitation {
            command.env(INVITATION, invitation.reveal());
        }
        if let Some(token) = &start.join_token {
            command.env(JOIN_TOKEN, token.reveal());
            if surroundings.store.starts_with("s3://") {
                // Its calls of the store are signed: the scheduler's credentials are not for it.
                for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"AWS_")) {
                    command.env_remove(name);
                }
            }
        }
        if !start.gpus.is_empty() {
            let named = start.gpus.join(",");
            command.args(["--gpus", &named]);
            for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                command.env(name, &named);
            }
        }
        let child =
            command.spawn().map_err(|error| format!("`{}` does not start: {error}", self.config.worker.display()))?;
        let process = Process::of(child.id());
        Ok((child, process))
    }

    /// Sees which workers have ended.
    fn sweep(&mut self) {
        for (id, worker) in &mut self.workers {
            let log = self.config.data.join("workers").join(id.as_str()).join("log");
            let end = match &mut worker.state {
                State::Child { child, .. } => match child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) if status.code().is_some_and(worker_exit::is_well) => End::Left,
                    Ok(Some(status)) => End::Failed { reason: why(status, &log) },
                    Err(error) => End::Failed { reason: error.to_string() },
                },
                State::Found { process } if process.is_alive() => continue,
                // Not our child: how it ended is not to be known.
                State::Found { .. } => End::Left,
                State::Ended(_) => continue,
            };
            worker.state = State::Ended(end);
        }
    }

    fn alive(&self) -> impl Iterator<Item = (&WorkerId, Process)> {
        self.workers.iter().filter_map(|(id, worker)| Some((id, worker.state.process()?)))
    }

    fn folder(&self, id: &WorkerId) -> PathBuf {
        self.config.data.join("workers").join(id.as_str())
    }
}

#[async_trait]
impl Provider for LocalProvider {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        if self.workers.contains_key(&start.worker) {
            return Ok(());
        }
        let (child, process) = self.spawn(start).map_err(StartError::Refused)?;
        let now = Timestamp::now();
        let worker = Worker {
            function: start.function.clone(),
            gpus: start.gpus.clone(),
            steps: BTreeMap::from([(StartStep::Created, now), (StartStep::ProcessStarted, now)]),
            state: State::Child { child, process },
        };
        self.workers.insert(start.worker.clone(), worker);
        Ok(())
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if let Some(process) = self.workers.get(worker).and_then(|worker| worker.state.process()) {
            process.signal(Signal::KILL);
        }
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        self.sweep();
        let instance = |(id, worker): (&WorkerId, &Worker)| Instance {
            worker: id.clone(),
            function: worker.function.clone(),
            gpus: worker.gpus.clone(),
            state: match &worker.state {
                State::Child { .. } | State::Found { .. } => InstanceState::Running,
                State::Ended(end) => InstanceState::Ended(end.clone()),
            },
            steps: worker.steps.clone(),
        };
        Ok(self.workers.iter().map(instance).collect())
    }

    async fn changed(&mut self) {
        let found = self.workers.values().any(|worker| matches!(worker.state, State::Found { .. }));
        tokio::select! {
            () = any_ended(&mut self.workers) => {}
            () = tokio::time::sleep(LOOK_EVERY), if found => {}
        }
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        if self.workers.get(worker).is_some_and(|worker| matches!(worker.state, State::Ended(_))) {
            self.workers.remove(worker);
            // Scratch may be large, and other workers wait to be started.
            let folder = self.folder(worker);
            tokio::task::spawn_blocking(move || remove(&folder));
        }
        Ok(())
    }

    /// Asks all workers to leave, twice: first they may finish the frame at hand, then they give it back.
    async fn end_all(&mut self) {
        for (signal, patience) in [(Signal::TERM, FINISH_MAX), (Signal::TERM, GIVE_BACK_MAX), (Signal::KILL, KILL_MAX)]
        {
            for (id, process) in self.alive() {
                if signal == Signal::KILL {
                    info!(worker.id = %id, "worker {id} is made to leave");
                }
                process.signal(signal);
            }
            let deadline = tokio::time::Instant::now() + patience;
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while self.alive().next().is_some() && tokio::time::Instant::now() < deadline {
                look.tick().await;
                self.sweep();
            }
        }
    }
}

impl State {
    /// Of one that is alive, as far as is known.
    fn process(&self) -> Option<Process> {
        match self {
            State::Child { process, .. } | State::Found { process } => Some(*process),
            State::Ended(_) => None,
        }
    }
}

/// Comes back when one of our children has ended.
async fn any_ended(workers: &mut BTreeMap<WorkerId, Worker>) {
    let waits: Vec<_> = workers
        .values_mut()
        .filter_map(|worker| match &mut worker.state {
            State::Child { child, .. } => Some(Box::pin(child.wait())),
            State::Found { .. } | State::Ended(_) => None,
        })
        .collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = futures::future::select_all(waits).await;
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
    crate::last_line(&String::from_utf8_lossy(&tail))
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
