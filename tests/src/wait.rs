//! Waiting for conditions, with a deadline.

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

/// The same for conditions that need no await.
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
