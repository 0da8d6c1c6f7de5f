//! Tries again while the scheduler restarts or the network flickers.

use crate::printer::Printer;
use framewake_proto::client::Error;
use std::time::Duration;
use tokio::time::Instant;

/// How long a command that does not watch anything puts up with a scheduler that went away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Does `once` until it succeeds, fails for good, or [`PATIENCE`] is spent. A scheduler that never was there is no
/// reason to wait, so an unreachable one at the first try fails at once.
pub(crate) async fn while_passing<T>(printer: &Printer, once: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut failing_since = None;
    let mut pauses = Pauses::default();
    loop {
        match once().await {
            Err(Error::Unreachable { url, error }) if pauses.taken() == 0 => {
                return Err(Error::Unreachable { url, error });
            }
            Err(error) if error.is_passing() && failing_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                // A connection that was merely reused too late is not worth a word.
                if pauses.taken() == 1 {
                    printer.note(format_args!("{error}; trying again for {} s", PATIENCE.as_secs()));
                }
                tokio::time::sleep(pauses.next()).await;
            }
            result => return result,
        }
    }
}

/// Pauses that double up to a limit.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    taken: u32,
}

impl Pauses {
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.taken.min(10)).min(PAUSE_MAX);
        self.taken += 1;
        pause
    }
}
