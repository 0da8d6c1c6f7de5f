//! Keeps smaller pictures beside an output, before it is reported, so that who hears of the output finds them; but a report is
//! not held up where that takes a while. They are for people: whatever goes wrong with one is a line in the debug log, never the
//! output's fault.

use crate::store::Store;
use framewake_proto::chain::Chain;
use framewake_proto::ids::JobId;
use framewake_proto::objects::{Digest, Picture, picture_key};
use framewake_reading::pictures::{self, Pictures, Seen};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the report of a frame waits for its pictures: the store has just taken the output itself, so they are there in no time.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// How long the store is given for them; the scheduler too, which signs for workers without credentials and may be away.
const KEEP_TIME_MAX: Duration = Duration::from_mins(1);
/// Outputs whose pictures come late, of at most 8 MiB each; those of further ones are left out.
const LATE_MAX: usize = 8;

/// Makes the pictures, away from the runtime's own threads. `None`: there are none.
pub(crate) async fn make(seen: Seen) -> Option<Pictures> {
    match tokio::task::spawn_blocking(move || pictures::make(seen)).await {
        Ok(Ok(made)) => Some(made),
        Ok(Err(reason)) => {
            tracing::debug!("an output has no pictures: {}", Chain(&reason));
            None
        }
        Err(_) => {
            tracing::debug!("an output has no pictures: making them gave up");
            None
        }
    }
}

/// Stores pictures beside outputs.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// A pass for each output whose pictures come late.
    late: Arc<Semaphore>,
}

impl Default for Keeper {
    fn default() -> Keeper {
        Keeper { late: Arc::new(Semaphore::new(LATE_MAX)) }
    }
}

impl Keeper {
    /// Stores the pictures of the output with this digest.
    pub(crate) async fn keep(&self, store: &Store, job: JobId, output: Digest, made: Option<Pictures>) {
        let Some(Pictures { thumbnail, preview }) = made else { return };
        let store = store.clone();
        self.hold(async move {
            let put = async |picture, bytes: Vec<u8>| {
                let key = picture_key(job, &output, picture);
                if let Err(error) = store.put_small(&key, bytes).await {
                    tracing::debug!(key, "a picture is not kept: {}", Chain(&error));
                }
            };
            let preview = async {
                if let Some(preview) = preview {
                    put(Picture::Preview, preview).await;
                }
            };
            tokio::join!(put(Picture::Thumbnail, thumbnail), preview);
        })
        .await;
    }

    /// Waits a moment for what is kept, and lets it go on behind the report if it takes longer. Once something is late, nothing
    /// waits until it is there: an outage holds up one frame for a moment, and no other.
    async fn hold(&self, keeping: impl Future<Output = ()> + Send + 'static) {
        let mut keeping = Box::pin(keeping);
        let is_quick = self.late.available_permits() == LATE_MAX;
        if is_quick && tokio::time::timeout(HOLD_MAX, &mut keeping).await.is_ok() {
            return;
        }
        let Ok(pass) = Arc::clone(&self.late).try_acquire_owned() else {
            tracing::debug!("pictures are not kept: those of {LATE_MAX} outputs are late already");
            return;
        };
        tokio::spawn(async move {
            if tokio::time::timeout(KEEP_TIME_MAX, keeping).await.is_err() {
                tracing::debug!("pictures are not kept: the store took longer than {} s", KEEP_TIME_MAX.as_secs());
            }
            drop(pass);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_holds_up_one_frame_for_a_moment_and_no_other() {
        let keeper = Keeper::default();
        let (there, kept) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let keeping = || {
            let (there, kept) = (Arc::clone(&there), Arc::clone(&kept));
            async move {
                there.notified().await;
                kept.fetch_add(1, Ordering::Relaxed);
            }
        };
        let begin = Instant::now();
        keeper.hold(keeping()).await;
        assert_eq!(begin.elapsed(), HOLD_MAX);
        for _ in 0..2 * LATE_MAX {
            keeper.hold(keeping()).await;
        }
        assert_eq!(begin.elapsed(), HOLD_MAX, "the others did not wait");
        // It goes on: those that are late are kept, and the next is waited for again.
        tokio::task::yield_now().await;
        there.notify_waiters();
        nothing_is_late(&keeper).await;
        assert_eq!(kept.load(Ordering::Relaxed), LATE_MAX);
        let begin = Instant::now();
        keeper.hold(keeping()).await;
        assert_eq!(begin.elapsed(), HOLD_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_given_up() {
        let (keeper, begin) = (Keeper::default(), Instant::now());
        keeper.hold(std::future::pending()).await;
        assert_eq!(keeper.late.available_permits(), LATE_MAX - 1);
        nothing_is_late(&keeper).await;
        assert_eq!(begin.elapsed(), HOLD_MAX + KEEP_TIME_MAX);
    }

    /// The clock of these tests goes on by itself while all wait.
    async fn nothing_is_late(keeper: &Keeper) {
        let all = u32::try_from(LATE_MAX).expect("a few");
        drop(keeper.late.acquire_many(all).await.expect("never closed"));
    }
}
