//! Pages of events out of the store, read once for all who want the same one.
//!
//! Thousands may follow one job. When more happens than they can be told live, all of them turn to the store at the same
//! place; without this, each would read for itself what the others read.

use super::App;
use crate::store::read::{Error, JobKey, StoredEvent};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as AsyncMutex;

/// Events of a page, and those held for a reader that is slower than they come.
pub(super) const EVENTS_AT_ONCE: u32 = 256;
/// Full pages kept. They never change, and readers who are behind want the same ones one after the other.
const PAGES_KEPT: usize = 32;

/// The job, if it is of one, and the event before the first.
type Place = (Option<i64>, u64);
type Shared = Arc<AsyncMutex<Option<Page>>>;

/// Events, and whether the job was over before they were read: then they are its last.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) over: bool,
    pub(super) events: Arc<Vec<StoredEvent>>,
    /// When the store was asked for it, in the order of [`Feeds::moments`].
    began: u64,
}

impl Page {
    fn is_full(&self) -> bool {
        self.events.len() == EVENTS_AT_ONCE as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Feeds {
    pages: Mutex<Pages>,
    /// Counts up: which of two things came first.
    moments: AtomicU64,
    /// How often the store was read.
    pub(super) reads: AtomicU64,
}

#[derive(Debug, Default)]
struct Pages {
    /// Those that someone reads or waits for, and full ones.
    shared: HashMap<Place, Shared>,
    /// Full ones, from the one read first.
    full: VecDeque<Place>,
}

impl Feeds {
    /// The next events after number `after`; only of one job, if given.
    pub(super) async fn page(&self, app: &App, job: Option<&JobKey>, after: u64) -> Result<Page, Error> {
        let wanted = self.moments.fetch_add(1, Ordering::Relaxed);
        let place = (job.map(|job| job.seq), after);
        let shared = self.pages().shared.entry(place).or_default().clone();
        let mut visit = Visit { feeds: self, place, shared: shared.clone(), full: false };
        let mut slot = shared.lock_owned().await;
        // A read that began before it was wanted may lack what was committed, and told to others, in between.
        if let Some(page) = slot.as_ref().filter(|page| page.is_full() || page.began > wanted) {
            visit.full = page.is_full();
            return Ok(page.clone());
        }
        let began = self.moments.fetch_add(1, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let read = async {
            // The state first: if the job was over then, its last events were in the store then.
            let over = match job {
                Some(job) => app.reader.job_key(job.id).await?.is_none_or(|job| job.state.is_over()),
                None => false,
            };
            let events = app.reader.events(job.map(|job| job.seq), after, EVENTS_AT_ONCE).await?;
            Ok::<_, Error>(Page { over, events: Arc::new(events), began })
        };
        let page = read.await?;
        *slot = Some(page.clone());
        visit.full = page.is_full();
        Ok(page)
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pages are known.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.pages().shared.len()
    }
}

/// Someone who wants a page, until it has it or has gone.
struct Visit<'a> {
    feeds: &'a Feeds,
    place: Place,
    shared: Shared,
    full: bool,
}

impl Drop for Visit<'_> {
    /// Forgets what nobody waits for, except full pages.
    fn drop(&mut self) {
        let mut pages = self.feeds.pages();
        if self.full {
            if !pages.full.contains(&self.place) {
                pages.full.push_back(self.place);
            }
            if pages.full.len() > PAGES_KEPT
                && let Some(oldest) = pages.full.pop_front()
            {
                pages.shared.remove(&oldest);
            }
        } else if Arc::strong_count(&self.shared) == 2 && !pages.full.contains(&self.place) {
            // The map's and ours.
            pages.shared.remove(&self.place);
        }
    }
}
