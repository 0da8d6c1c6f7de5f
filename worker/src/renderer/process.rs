//! One renderer process: started in a group of its own with a clean environment, heard as lines,
//! ended with all it left behind.

use super::confinement::{self, Confinement};
use super::usage::Usage;
use super::{Failure, leftovers};
use crate::lines::{Line, LineCutter};
use framewake_proto::chain::Chain;
use framewake_proto::verdict::Verdict;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// Most bytes read before the caller may look at its timers again: a flood must not hide a stop.
const READ_MAX: usize = 1024 * 1024;

/// What to start, and where.
#[derive(Debug)]
pub struct Launch {
    /// Absolute, as [`find_program`] gives it.
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Working folder.
    pub folder: PathBuf,
    /// The whole environment.
    pub environment: BTreeMap<String, OsString>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("program `{program}` is not installed: it is not in PATH")]
    NotFound { program: String, path: String },
    #[error(
        "`{module}` is not installed for `{}`; hint: if it is in `.venv`, the farm was started with another PATH: \
         `export PATH=\"$PWD/.venv/bin:$PATH\"` and start the farm again; else `pip install {module}`", program.display()
    )]
    NoModule { program: PathBuf, module: &'static str },
    #[error(transparent)]
    Confinement(#[from] confinement::Error),
    #[error("cannot start `{}`", program.display())]
    Start {
        program: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

impl Error {
    /// What it means for a task. `PATH` may have thousands of letters: it is told as evidence, once, and not in each sentence.
    pub(super) fn failure(&self, verdict: Verdict) -> Failure {
        let evidence = match self {
            Error::NotFound { path, .. } => format!("PATH={path}"),
            Error::NoModule { .. } | Error::Confinement(_) | Error::Start { .. } => String::new(),
        };
        Failure { evidence, ..Failure::new(verdict, Chain(self).to_string()) }
    }
}

/// Something that a renderer did.
#[derive(Debug)]
pub enum Event {
    /// It wrote; whole lines only, so there may be none yet.
    Output(Vec<Line>),
    Exited(ExitStatus),
}

#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    run: leftovers::Run,
    output: pipe::Receiver,
    output_ended: bool,
    cutter: LineCutter,
    buffer: Vec<u8>,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Must be called inside the runtime.
    pub fn start(launch: &Launch, confinement: &Confinement) -> Result<Process, Error> {
        let start = |error| Error::Start { program: launch.program.clone(), error };
        // One pipe for both, so that lines keep their order.
        let (reader, writer) = std::io::pipe().map_err(start)?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(start)?;
        let run = leftovers::Run::new();
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            .env_clear()
            .envs(&launch.environment)
            .env(leftovers::RUN_VARIABLE, run.mark())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(start)?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let runtime = tokio::runtime::Handle::current();
        let spawned = confinement.start(move || {
            let _inside = runtime.enter();
            // The command goes with its thread: its ends of the pipe would keep the output open.
            command.spawn()
        })?;
        let child = spawned.map_err(start)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = group.expect("a child that was not waited for has an id");
        run.began(group);
        Ok(Process {
            child,
            group,
            run,
            output,
            output_ended: false,
            cutter: LineCutter::default(),
            buffer: vec![0; 64 * 1024],
            exited: None,
        })
    }

    /// Waits for the next thing the renderer does. Losing the future loses nothing.
    pub async fn next(&mut self) -> Event {
        if let Some(status) = self.exited {
            return Event::Exited(status);
        }
        tokio::select! {
            // Output first: what was said before the end explains the end.
            biased;
            readable = self.output.readable(), if !self.output_ended => {
                if readable.is_err() {
                    self.output_ended = true;
                }
                Event::Output(self.read_ready())
            }
            status = self.child.wait() => {
                // `wait` fails only for a child that somebody else waited for; nobody does.
                let status = status.unwrap_or_default();
                self.exited = Some(status);
                Event::Exited(status)
            }
        }
    }

    /// All that was written and not read yet, up to a bound.
    pub fn read_ready(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut total = 0;
        while !self.output_ended && total < READ_MAX {
            let read = match self.output.try_read(&mut self.buffer) {
                // tokio answers from what its reactor has noticed so far, which may be nothing yet: the pipe itself
                // knows. (tokio comes first, because its "nothing there" is what makes `readable` wait again.)
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    rustix::io::read(&self.output, &mut self.buffer[..]).map_err(std::io::Error::from)
                }
                read => read,
            };
            match read {
                Ok(0) => {
                    self.output_ended = true;
                    self.cutter.finish(&mut lines);
                }
                Ok(count) => {
                    total += count;
                    self.cutter.push(&self.buffer[..count], &mut lines);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    // A progress line that ends in `\r` shall be seen now, not with the next one.
                    self.cutter.flush_held(&mut lines);
                    break;
                }
                Err(_) => self.output_ended = true,
            }
        }
        lines
    }

    /// Tells whether it works while it is silent.
    pub(super) fn usage(&self) -> Usage {
        Usage::new(self.group, self.run.mark())
    }

    /// Most memory that the renderer's first process had, as far as the system tells.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.group.as_raw_nonzero())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Ends the renderer and everything it started: TERM to its group, KILL after `grace`, then what
    /// left the group. Gives the lines that came meanwhile.
    pub async fn end(&mut self, grace: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.exited.is_none() {
            let _gone_already = kill_process_group(self.group, Signal::TERM);
            if !self.exits_before(Instant::now() + grace, &mut lines).await {
                let _gone_already = kill_process_group(self.group, Signal::KILL);
                // KILL can't be refused; only a process stuck in the kernel outlives it.
                self.exits_before(Instant::now() + Duration::from_secs(2), &mut lines).await;
            }
        }
        self.run.end_leftovers().await;
        lines.extend(self.read_ready());
        self.cutter.finish(&mut lines);
        lines
    }

    async fn exits_before(&mut self, deadline: Instant, lines: &mut Vec<Line>) -> bool {
        loop {
            match timeout_at(deadline, self.next()).await {
                // A flood of words while it dies is of no interest beyond its first lines.
                Ok(Event::Output(more)) if lines.len() < 1000 => lines.extend(more),
                Ok(Event::Output(_)) => {}
                Ok(Event::Exited(_)) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Where a program is: as given when it has a `/`, else in `path`.
pub fn find_program(name: &str, path: &str) -> Result<PathBuf, Error> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |file: &Path| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
    let found = if name.contains('/') {
        Some(PathBuf::from(name)).filter(|file| runs(file))
    } else {
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(name)).find(|f| runs(f))
    };
    found.map(absolute).ok_or_else(|| Error::NotFound { program: name.to_owned(), path: path.to_owned() })
}
