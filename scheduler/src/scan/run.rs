//! Runs the scanner: bounded in time and output, and ended with everything that it started.
//!
//! What it starts is of its process group as a rule. What left the group is found by a mark in its environment, also when the
//! scheduler that started it was killed. Not found is what left the group and cleared its environment: a scanner is the operator's
//! program, and no enemy.

use framewake_proto::duration::Span;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

/// Largest report: Trivy writes about a kilobyte for each finding, and images of ten thousand are no images for a farm.
const REPORT_MAX: u64 = 32 * 1024 * 1024;
/// Bytes at the end of what it says on standard error that are told when it fails.
const SAID_MAX: usize = 400;
/// Environment variable with the mark of whose scan it is.
const MARK: &str = "FRAMEWAKE_SCAN";
/// Looks for what carries the mark: a look takes about as long as what was killed takes to die, and who starts others faster than
/// they are killed is not waited for.
const LOOKS_MAX: usize = 100;
/// What the scanner has no use for: the scheduler's own settings, and keys of its store and of its collector of traces.
const KEPT_BACK: [&str; 3] = ["FRAMEWAKE_", "AWS_", "OTEL_"];

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("`{program}` can't be started")]
    Start {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("what it says can't be read")]
    Read(#[source] std::io::Error),
    #[error("it printed more than {REPORT_MAX} bytes")]
    TooLong,
    #[error("it did not end within {within}")]
    TooSlow { within: Span },
    #[error("it ended with {status}{said}")]
    Ended { status: ExitStatus, said: String },
}

/// The scanner and what it started, ended however this ends.
struct Group {
    child: Child,
    mark: String,
}

impl Group {
    /// Its number, while it is its own: once it was waited for, it may be another's.
    fn first(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(first) = self.first() {
            let _gone_already = kill_process_group(first, Signal::KILL);
        }
        end_marked(&self.mark);
    }
}

/// What it printed, if it ended well.
pub(super) async fn run(words: &[String], within: Duration, mark: &str) -> Result<Vec<u8>, Error> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // It reads what strangers have written.
    #[allow(clippy::disallowed_methods)] // Not a setting: what to leave out.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_none_or(|name| KEPT_BACK.iter().any(|kept| name.starts_with(kept))) {
            command.env_remove(name);
        }
    }
    let child = command.env(MARK, mark).process_group(0).kill_on_drop(true).spawn();
    let child = child.map_err(|error| Error::Start { program: program.clone(), error })?;
    let mut group = Group { child, mark: mark.to_owned() };
    let ended = tokio::time::timeout(within, follow(&mut group)).await;
    ended.unwrap_or(Err(Error::TooSlow { within: Span(within) }))
}

async fn follow(group: &mut Group) -> Result<Vec<u8>, Error> {
    let stdout = group.child.stdout.take().expect("it is piped");
    let stderr = group.child.stderr.take().expect("it is piped");
    let (first, mark) = (group.first().expect("nobody has waited for it"), group.mark.clone());
    let report = async {
        let mut report = Vec::new();
        stdout.take(REPORT_MAX + 1).read_to_end(&mut report).await.map_err(Error::Read)?;
        if report.len() as u64 > REPORT_MAX { Err(Error::TooLong) } else { Ok(report) }
    };
    let ended = async {
        let ended = spawn_blocking(move || {
            // It keeps its number until it is waited for below, so the group is still its own.
            let waited =
                rustix::io::retry_on_intr(|| waitid(WaitId::Pid(first), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
            waited?;
            // Whoever is left would hold the output open.
            let _nobody_left = kill_process_group(first, Signal::KILL);
            end_marked(&mark);
            Ok(())
        });
        ended.await.expect("it does not panic").map_err(|error: rustix::io::Errno| Error::Read(error.into()))
    };
    let (report, said, ()) = tokio::try_join!(report, async { Ok(last_words(stderr).await) }, ended)?;
    let status = group.child.wait().await.map_err(Error::Read)?;
    if status.success() { Ok(report) } else { Err(Error::Ended { status, said }) }
}

/// Kills what carries this mark, wherever it went.
pub(super) fn end_marked(mark: &str) {
    for _ in 0..LOOKS_MAX {
        let marked = marked(mark);
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            let _gone_already = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(mark: &str) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        // That of a process of somebody else can't be read, and it is none of ours.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| {
            variable.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(mark.as_bytes())
        })
    };
    numbers.filter(carries).filter_map(Pid::from_raw).collect()
}

/// The end of what it says, in one line.
async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 8192]);
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(SAID_MAX));
    }
    let line = super::in_one_line(&String::from_utf8_lossy(&kept), SAID_MAX);
    if line.is_empty() { line } else { format!(", saying: {line}") }
}
