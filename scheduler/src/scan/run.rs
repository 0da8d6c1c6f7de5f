//! Runs the scanner: bounded in time and output, and ended with everything that it started.

use framewake_proto::duration::Span;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// Largest report: Trivy writes about a kilobyte for each finding, and images of ten thousand are no images for a farm.
const REPORT_MAX: u64 = 32 * 1024 * 1024;
/// Bytes at the end of what it says on standard error that are told when it fails.
const SAID_MAX: usize = 400;

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

/// Ends the scanner and what it started, however this ends.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Once it was waited for it has no id, and its number may be another's.
        if let Some(pid) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// What it printed, if it ended well.
pub(super) async fn run(words: &[String], within: Duration) -> Result<Vec<u8>, Error> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A scanner has no use for what this process may do, and reads what strangers have written.
    #[allow(clippy::disallowed_methods)] // Not a setting: what to leave out.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_none_or(|name| name.starts_with("FRAMEWAKE_") || name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    let child = command.process_group(0).kill_on_drop(true).spawn();
    let child = child.map_err(|error| Error::Start { program: program.clone(), error })?;
    let mut group = Group(child);
    let ended = tokio::time::timeout(within, follow(&mut group.0)).await;
    ended.unwrap_or(Err(Error::TooSlow { within: Span(within) }))
}

async fn follow(child: &mut Child) -> Result<Vec<u8>, Error> {
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let report = async {
        let mut report = Vec::new();
        stdout.take(REPORT_MAX + 1).read_to_end(&mut report).await.map_err(Error::Read)?;
        if report.len() as u64 > REPORT_MAX { Err(Error::TooLong) } else { Ok(report) }
    };
    let (report, said) = tokio::try_join!(report, async { Ok(last_words(stderr).await) })?;
    let status = child.wait().await.map_err(Error::Read)?;
    if status.success() { Ok(report) } else { Err(Error::Ended { status, said }) }
}

/// The end of what it says, in one line.
async fn last_words(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 8192]);
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(SAID_MAX));
    }
    let text = String::from_utf8_lossy(&kept);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { line } else { format!(", saying: {line}") }
}
