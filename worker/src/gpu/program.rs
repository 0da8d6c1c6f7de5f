//! GPUs as the program `framewake-gpu` tells of them, to a worker that is one static file: the driver's library wants to be
//! loaded, by a program that has glibc.

use super::Error;
use crate::renderer::leftovers;
use framewake_gpu::Look;
use rustix::process::Pid;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Its name, beside the worker's own program or on `PATH`.
const NAME: &str = "framewake-gpu";
/// What it does not need and shall not have: addresses with passwords.
const SECRETS: [&str; 3] = ["FRAMEWAKE_NATS_URL", "FRAMEWAKE_STORE", "AWS_"];
/// Longest line that it says: sixteen GPUs are a tenth of it.
const LINE_MAX: u64 = 256 * 1024;
/// Most of its last words that are passed on.
const LAST_WORDS_MAX: u64 = 1024;

pub(super) struct Reader {
    program: PathBuf,
    given: Vec<String>,
    every: Duration,
    running: Option<Running>,
    /// What it said at its start.
    first: Option<Look>,
}

struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may hang in its driver, where nothing ends it but the driver.
        let _gone_already = self.child.kill();
        let _not_waited_for = self.child.try_wait();
    }
}

/// Where the program is that reads for a worker which can't.
pub(super) fn beside() -> PathBuf {
    let own = std::env::current_exe().ok().and_then(|worker| Some(worker.parent()?.join(NAME)));
    own.filter(|file| file.is_file()).unwrap_or_else(|| NAME.into())
}

impl Reader {
    pub(super) fn open(program: &Path, given: &[String], every: Duration) -> Result<Reader, Error> {
        let mut reader =
            Reader { program: program.to_owned(), given: given.to_vec(), every, running: None, first: None };
        reader.first = Some(reader.look()?);
        Ok(reader)
    }

    pub(super) fn look(&mut self) -> Result<Look, Error> {
        if let Some(look) = self.first.take() {
            return Ok(look);
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let mut line = Vec::new();
        let read = (&mut running.lines).take(LINE_MAX).read_until(b'\n', &mut line);
        let failed = |said: String| Error::Program { program: self.program.clone(), said };
        if read.is_err() || !line.ends_with(b"\n") {
            let mut said = String::new();
            let words = running.child.stderr.take().map(|words| words.take(LAST_WORDS_MAX));
            let _as_far_as_it_goes = words.map(|mut words| words.read_to_string(&mut said));
            return Err(failed(said.lines().next_back().unwrap_or("it ended without a word").to_owned()));
        }
        self.running = Some(running);
        serde_json::from_slice(&line).map_err(|_| failed(String::from_utf8_lossy(&line).trim().to_owned()))
    }

    /// The program waits itself, before its next look; without it a new one is tried after so long.
    pub(super) fn wait(&self, long: Duration) {
        if self.running.is_none() {
            std::thread::park_timeout(long);
        }
    }

    fn start(&self) -> Result<Running, Error> {
        let is_secret = |name: &str| SECRETS.iter().any(|secret| name.starts_with(secret));
        let mut command = Command::new(&self.program);
        command
            .arg(self.every.as_millis().to_string())
            .args(&self.given)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !is_secret(name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What ends the renderers' group is not for it.
            .process_group(0);
        let started = command.spawn();
        let mut child = started.map_err(|error| Error::NoProgram { program: self.program.clone(), error })?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            leftovers::spare(pid);
        }
        let lines = BufReader::new(child.stdout.take().expect("asked for above"));
        Ok(Running { child, lines })
    }
}
