//! How a worker is asked to go, and whether the frame at hand fits the time that is left.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What ending a renderer, handing back and saying good-bye may take: half a second of TERM, the end of the log, the last
/// report. Longer only if the farm is away, and then the farm finds out by itself.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// Of a short time not more than this part is kept for the farewell.
const FAREWELL_PART: u32 = 4;
/// A frame that had this part of all the time there was, in quarters, will not fit the next time either.
const WHOLE_QUARTERS: u32 = 3;
/// A renderer's own word of how far it is counts from here on: the first hundredths are loading.
const PERMILLE_MIN: u32 = 50;

/// When a worker must be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    pub gone: Instant,
    /// From here on nothing is rendered any more.
    pub latest: Instant,
}

impl Until {
    /// In this time from `now`.
    #[must_use]
    pub fn within(now: Instant, time: Duration) -> Until {
        let farewell = FAREWELL_MAX.min(time / FAREWELL_PART);
        Until { gone: now + time, latest: now + time.saturating_sub(farewell) }
    }
}

/// How the operator, the platform or a deadline asks the worker to go. Handles are the same wish.
#[derive(Debug, Clone)]
pub struct Leave {
    /// No more orders; the frame at hand is finished if it fits, and the rest is given back.
    pub drain: CancellationToken,
    /// Now.
    pub abort: CancellationToken,
    until: watch::Sender<Option<Until>>,
    /// When its time began, where it has a time from the start.
    began: Option<Instant>,
}

impl Default for Leave {
    fn default() -> Leave {
        let until = watch::Sender::new(None);
        Leave { drain: CancellationToken::new(), abort: CancellationToken::new(), until, began: None }
    }
}

impl Leave {
    /// Work may go on until then.
    #[must_use]
    pub fn at(until: Until) -> Leave {
        let leave = Leave { began: Some(Instant::now()), ..Leave::default() };
        leave.until.send_replace(Some(until));
        leave
    }

    /// It is asked to go, and will be made to after `grace`.
    pub fn drain_within(&self, grace: Duration) {
        let asked = Until::within(Instant::now(), grace);
        self.until.send_modify(|until| {
            *until = Some(until.filter(|until| until.gone < asked.gone).unwrap_or(asked));
        });
        self.drain.cancel();
    }

    /// Somebody has more time, unless it was asked to go.
    pub fn extend(&self, other: Until) {
        if !self.drain.is_cancelled() {
            self.until
                .send_modify(|until| *until = until.map(|until| if until.gone < other.gone { other } else { until }));
        }
    }

    /// When it must be gone; `None`: when it likes.
    #[must_use]
    pub fn until(&self) -> Option<Until> {
        *self.until.borrow()
    }

    /// How long the worker had in all, if its time is up and what was begun at `since` had most of it: then it needs more
    /// than any worker there gets.
    #[must_use]
    pub fn too_short_for(&self, since: Instant) -> Option<Duration> {
        let (began, until) = (self.began.filter(|_| !self.drain.is_cancelled())?, self.until()?);
        let (whole, had) = (until.latest - began, until.latest.saturating_duration_since(since));
        (Instant::now() >= until.latest && had * 4 >= whole * WHOLE_QUARTERS).then_some(whole)
    }

    /// Comes back when it must be gone, whatever is not done.
    pub async fn gone(&self) {
        self.pass(|until| until.gone).await;
    }

    /// Comes back when nothing may be rendered any more.
    pub async fn latest(&self) {
        self.pass(|until| until.latest).await;
    }

    async fn pass(&self, when: impl Fn(Until) -> Instant) {
        let mut until = self.until.subscribe();
        loop {
            let at = until.borrow_and_update().map(&when);
            let reached = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = reached => return,
                changed = until.changed() => changed.expect("this handle holds the sender"),
            }
        }
    }
}

/// How long frames take here. Handles are the same pace.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Frames of another step tell nothing about this one.
    step: Option<(String, u32)>,
    typical: Option<Duration>,
    at_hand: Option<Instant>,
}

impl Pace {
    /// What comes now is of this step.
    pub fn begin_step(&self, job: &str, step: u32) {
        let mut known = self.lock();
        if known.step.as_ref().is_none_or(|(of, number)| of != job || *number != step) {
            *known = Known { step: Some((job.to_owned(), step)), ..Known::default() };
        }
    }

    pub fn begin_frame(&self, now: Instant) {
        self.lock().at_hand = Some(now);
    }

    /// The frame at hand is over; with how long it took, if it was done. The last frames count most.
    pub fn end_frame(&self, took: Option<Duration>) {
        let mut known = self.lock();
        known.at_hand = None;
        if let Some(took) = took {
            known.typical = Some(known.typical.map_or(took, |before| (before + took) / 2));
        }
    }

    /// How long a frame takes; `None` before the first.
    #[must_use]
    pub fn typical(&self) -> Option<Duration> {
        self.lock().typical
    }

    /// When the frame at hand was begun.
    #[must_use]
    pub fn at_hand(&self) -> Option<Instant> {
        self.lock().at_hand
    }

    /// What the frame at hand will still take, by what the renderer says or by the frames before. `None`: not known, as
    /// for a first frame, or one that takes longer than those before.
    #[must_use]
    pub fn left(&self, now: Instant, permille: Option<u32>) -> Option<Duration> {
        let known = self.lock();
        let elapsed = now.saturating_duration_since(known.at_hand?);
        match permille.filter(|permille| (PERMILLE_MIN..=1000).contains(permille)) {
            Some(permille) => Some(elapsed * (1000 - permille) / permille),
            None => known.typical?.checked_sub(elapsed).filter(|left| !left.is_zero()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn the_farewell_is_kept_out_of_the_time_and_is_a_small_part_of_it() {
        let now = Instant::now();
        for (time, latest) in [(s(30), s(25)), (s(8), s(6)), (Duration::ZERO, Duration::ZERO), (s(3600), s(3595))] {
            assert_eq!(Until::within(now, time), Until { gone: now + time, latest: now + latest });
        }
    }

    #[tokio::test]
    async fn a_signal_shortens_the_time_and_a_longer_wish_lengthens_it_unless_it_was_asked_to_go() {
        let now = Instant::now();
        let leave = Leave::at(Until::within(now, s(60)));
        leave.extend(Until::within(now, s(90)));
        leave.extend(Until::within(now, s(20)));
        assert_eq!(leave.until().map(|until| until.gone), Some(now + s(90)));
        leave.drain_within(s(10));
        let gone = leave.until().expect("set").gone;
        assert!(gone <= Instant::now() + s(10) && leave.drain.is_cancelled());
        leave.extend(Until::within(now, s(600)));
        leave.drain_within(s(100));
        assert_eq!(leave.until().map(|until| until.gone), Some(gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_had_most_of_the_time_is_too_long_for_it_unless_the_worker_was_asked_to_go() {
        let began = Instant::now();
        let leave = Leave::at(Until::within(began, s(45)));
        assert_eq!(leave.too_short_for(began), None, "the time is not up");
        leave.latest().await;
        assert_eq!(leave.too_short_for(began + s(10)), Some(s(40)));
        assert_eq!(leave.too_short_for(began + s(11)), None);
        leave.drain_within(s(0));
        assert_eq!(leave.too_short_for(began), None);
        let pulled = Leave::default();
        pulled.drain_within(s(0));
        pulled.latest().await;
        assert_eq!(pulled.too_short_for(began), None, "it had no time of its own");
    }

    #[test]
    fn what_a_frame_still_takes_is_told_by_the_renderer_or_by_the_frames_before() {
        let (pace, now) = (Pace::default(), Instant::now());
        let check = |after: u64, permille: Option<u32>, left: Option<u64>| {
            assert_eq!(pace.left(now + s(after), permille), left.map(s), "after {after} s at {permille:?}");
        };
        pace.begin_step("a", 0);
        check(5, None, None);
        pace.begin_frame(now);
        check(5, None, None);
        check(5, Some(10), None);
        check(5, Some(250), Some(15));
        check(5, Some(1000), Some(0));
        pace.end_frame(Some(s(40)));
        pace.begin_frame(now);
        check(10, None, Some(30));
        check(10, Some(500), Some(10));
        check(41, None, None);
        pace.end_frame(Some(s(20)));
        assert_eq!(pace.typical(), Some(s(30)));
        pace.begin_step("a", 0);
        assert_eq!(pace.typical(), Some(s(30)));
        pace.begin_step("a", 1);
        assert_eq!(pace.typical(), None);
    }
}
