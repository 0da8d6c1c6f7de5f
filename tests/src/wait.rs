//! Waiting for conditions, with a deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something, and gives it back.
///
/// # Panics
/// When `limit` has passed: names what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begin.elapsed() < limit, "waited {} s in vain until {what}", limit.as_secs());
        tick.tick().await;
    }
}

/// The same, and says in the end what was there instead.
///
/// # Panics
/// When `limit` has passed.
pub async fn until_ok<T, E: Display, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        match condition().await {
            Ok(found) => return found,
            Err(instead) if begin.elapsed() >= limit => {
                panic!("waited {} s in vain until {what}: {instead}", limit.as_secs())
            }
            Err(_) => tick.tick().await,
        };
    }
}

/// The same as [`until`] for conditions that need no await.
pub fn until_sync<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < limit, "waited {} s in vain until {what}", limit.as_secs());
        std::thread::park_timeout(LOOK);
    }
}
