//! When to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a scheduler that was told twice.
const EXIT_AT_ONCE: i32 = 130;

/// Canceled by SIGTERM or Ctrl-C. A second one ends the process at once: what was answered is on disk.
///
/// # Panics
/// When the system refuses to tell of signals, which leaves nothing to build on.
pub fn on_signal() -> CancellationToken {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened to");
    let token = CancellationToken::new();
    let canceled = token.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        canceled.cancel();
        either(&mut terminate, &mut interrupt).await;
        at_once();
    });
    token
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[allow(clippy::disallowed_methods)] // Whoever asks twice does not want what is open to be closed.
fn at_once() {
    tracing::warn!("told to stop a second time: ending at once");
    std::process::exit(EXIT_AT_ONCE);
}
