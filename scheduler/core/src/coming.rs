//! How a worker comes: when it passed which point between the wish for one and its first frame, by clocks that do not agree.
//!
//! Everything is told by the scheduler's clock, by these rules:
//!
//! - The scheduler knows itself when a worker was wanted and asked for, when its place took the request, and when it was given
//!   its first order.
//! - Times of its place count from what the place calls its creation: that was when the place took the request. So it makes no
//!   difference how wrong the clock there is, and Kubernetes, which tells whole seconds, is wrong by less than one.
//! - A worker tells no times. It says for how long it has run, and how long something took after its start or after its claim.
//! - No point is earlier than one that comes before it, later than one that comes after it, or later than it was heard of. What
//!   is told otherwise counts as the nearest time that is none of these; so no phase is negative, whoever lies.
//! - A point that nobody tells is missing, and what it took is in the next one that is known. So phases always add up to the
//!   time from the first point to the last.

use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// When one worker came how far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timeline {
    points: BTreeMap<StartPoint, Timestamp>,
    /// What the clock of its place lacks to be ours, in milliseconds.
    place_lacks_ms: Option<i64>,
    /// Phases up to this one were counted; what is told of them later comes too late for that.
    counted: Option<StartPoint>,
}

/// The way of a worker, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStart {
    pub worker: WorkerId,
    pub function: FunctionKey,
    /// Absent for one that people started.
    pub pool: Option<Name>,
    pub timeline: Timeline,
    /// When the worker ended, and how.
    pub ended: Option<(Timestamp, String)>,
}

impl Timeline {
    /// As it was kept. Rows are ours, so they are believed.
    pub fn restore(points: BTreeMap<StartPoint, Timestamp>, counted: Option<StartPoint>) -> Timeline {
        Timeline { points, place_lacks_ms: None, counted }
    }

    pub fn points(&self) -> impl Iterator<Item = (StartPoint, Timestamp)> + '_ {
        self.points.iter().map(|(point, at)| (*point, *at))
    }

    pub fn counted(&self) -> Option<StartPoint> {
        self.counted
    }

    pub fn at(&self, point: StartPoint) -> Option<Timestamp> {
        self.points.get(&point).copied()
    }

    pub fn last(&self) -> Option<StartPoint> {
        self.points.last_key_value().map(|(point, _)| *point)
    }

    /// What was passed, with the time since the point before: none for the first.
    pub fn phases(&self) -> impl Iterator<Item = (StartPoint, Duration)> + '_ {
        let earlier = self.points.values();
        self.points.iter().skip(1).zip(earlier).map(|((point, at), before)| (*point, at.since(*before)))
    }

    /// It passed a point, by our clock. The first word counts.
    pub fn note(&mut self, heard: Timestamp, point: StartPoint, at: Timestamp) {
        if !self.points.contains_key(&point) {
            self.set(heard, point, at);
        }
    }

    /// Its place says when it passed a point, by the clock there.
    pub fn note_place(&mut self, heard: Timestamp, point: StartPoint, at: Timestamp) {
        if point == StartPoint::Created {
            self.note(heard, point, at);
            let ours = self.points[&point];
            self.place_lacks_ms.get_or_insert(ours.0.saturating_sub(at.0));
        } else {
            let ours = Timestamp(at.0.saturating_add(self.place_lacks_ms.unwrap_or(0)));
            self.note(heard, point, ours);
        }
    }

    /// The worker says for how long it has run, and how long it took from there to NATS. It knows better than its place when
    /// it began.
    pub fn note_process(&mut self, heard: Timestamp, age: Duration, connected: Option<Duration>) {
        let began = before(heard, age);
        self.points.remove(&StartPoint::Process);
        self.set(heard, StartPoint::Process, began);
        if let Some(connected) = connected {
            self.note(heard, StartPoint::Nats, began.after(connected));
        }
    }

    fn set(&mut self, heard: Timestamp, point: StartPoint, at: Timestamp) {
        let earliest = self.points.range(..point).next_back().map_or(Timestamp(i64::MIN), |(_, earlier)| *earlier);
        let latest = self.points.range(point..).next().map_or(heard, |(_, later)| (*later).min(heard));
        self.points.insert(point, at.min(latest).max(earliest));
    }

    /// What each phase took, of those up to this point that were not counted before.
    pub fn count(&mut self, until: StartPoint) -> Vec<(StartPoint, Duration)> {
        let since = self.counted;
        self.counted = since.max(Some(until));
        self.phases().filter(|(point, _)| Some(*point) > since && *point <= until).collect()
    }
}

/// Whether a phase is paid for a start: all since the worker was asked for until its renderer is ready, but for its wait for an
/// order.
pub fn is_start(phase: StartPoint) -> bool {
    StartPoint::Asked < phase && phase < StartPoint::Frame && phase != StartPoint::Order
}

/// What a start costs whose phases take so long.
pub fn cost(phases: &[(StartPoint, Duration)], micros_an_hour: i64) -> i64 {
    let took: Duration = phases.iter().filter(|(point, _)| is_start(*point)).map(|(_, took)| *took).sum();
    let micros = u128::from(micros_an_hour.unsigned_abs()) * took.as_millis() / 3_600_000;
    i64::try_from(micros).unwrap_or(i64::MAX)
}

fn before(at: Timestamp, time: Duration) -> Timestamp {
    Timestamp(at.0.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    const HOUR_MS: i64 = 3_600_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn told(timeline: &Timeline) -> Vec<(&'static str, u128)> {
        timeline.phases().map(|(point, took)| (point.as_str(), took.as_millis())).collect()
    }

    /// Asked for at 1000, taken at 1200; the clock of its place is wrong by `skew_ms`.
    fn come(skew_ms: i64) -> Timeline {
        let mut timeline = Timeline::default();
        let ours = |timeline: &mut Timeline, point, at| timeline.note(Timestamp(at), point, Timestamp(at));
        ours(&mut timeline, StartPoint::Wanted, 0);
        ours(&mut timeline, StartPoint::Asked, 1000);
        ours(&mut timeline, StartPoint::Created, 1200);
        let steps = [
            (StartPoint::Created, 1200),
            (StartPoint::Scheduled, 4000),
            (StartPoint::Image, 44_000),
            (StartPoint::Process, 46_000),
        ];
        for (point, at) in steps {
            timeline.note_place(Timestamp(47_000), point, Timestamp(at + skew_ms));
        }
        timeline.note_process(Timestamp(47_100), ms(900), Some(ms(150)));
        ours(&mut timeline, StartPoint::Order, 47_300);
        timeline
    }

    #[test]
    fn phases_are_what_passed_between_points_whatever_the_clock_of_the_place_says() {
        let expected = [
            ("asked", 1000),
            ("created", 200),
            ("scheduled", 2800),
            ("image", 40_000),
            // By its own word: 900 ms before it spoke.
            ("process", 2200),
            ("nats", 150),
            ("order", 950),
        ];
        for skew_ms in [0, HOUR_MS, -HOUR_MS, i64::MAX / 2, i64::MIN / 2] {
            assert_eq!(told(&come(skew_ms)), expected, "wrong by {skew_ms} ms");
        }
    }

    #[test]
    fn a_place_that_was_not_seen_to_take_it_is_believed_between_what_is_known() {
        for skew_ms in [HOUR_MS, -HOUR_MS] {
            let mut timeline = Timeline::default();
            timeline.note(Timestamp(1000), StartPoint::Asked, Timestamp(1000));
            timeline.note_place(Timestamp(9000), StartPoint::Created, Timestamp(2000 + skew_ms));
            timeline.note_place(Timestamp(9000), StartPoint::Scheduled, Timestamp(5000 + skew_ms));
            let created = timeline.at(StartPoint::Created).expect("told");
            let scheduled = timeline.at(StartPoint::Scheduled).expect("told");
            assert!(Timestamp(1000) <= created && created <= scheduled && scheduled <= Timestamp(9000));
        }
    }

    #[test]
    fn what_nobody_tells_of_is_in_the_next_phase_and_what_comes_late_finds_its_place() {
        let mut timeline = Timeline::default();
        timeline.note(Timestamp(0), StartPoint::Asked, Timestamp(0));
        timeline.note_process(Timestamp(500), ms(100), Some(ms(20)));
        assert_eq!(told(&timeline), [("process", 400), ("nats", 20)]);
        timeline.note(Timestamp(600), StartPoint::Created, Timestamp(50));
        assert_eq!(told(&timeline), [("created", 50), ("process", 350), ("nats", 20)]);
        // Told again, another time: the first word counts.
        timeline.note(Timestamp(700), StartPoint::Created, Timestamp(70));
        assert_eq!(timeline.at(StartPoint::Created), Some(Timestamp(50)));
    }

    #[test]
    fn a_process_that_ran_before_it_was_asked_for_took_no_time_to_start() {
        let mut timeline = Timeline::default();
        timeline.note(Timestamp(5000), StartPoint::Asked, Timestamp(5000));
        timeline.note_process(Timestamp(5100), ms(4_000_000), Some(ms(3_999_950)));
        assert_eq!(told(&timeline), [("process", 0), ("nats", 50)]);
    }

    #[test]
    fn each_phase_is_counted_once() {
        let mut timeline = come(0);
        let counted = timeline.count(StartPoint::Nats);
        assert_eq!(counted.len(), 6, "{counted:?}");
        timeline.note(Timestamp(47_500), StartPoint::Inputs, Timestamp(47_400));
        assert_eq!(timeline.count(StartPoint::Frame), [(StartPoint::Order, ms(950)), (StartPoint::Inputs, ms(100))]);
        assert_eq!(timeline.count(StartPoint::Frame), []);
        assert_eq!(timeline.counted(), Some(StartPoint::Frame));
    }

    #[test]
    fn a_start_costs_what_is_paid_until_the_renderer_is_ready() {
        let phases = [
            (StartPoint::Asked, ms(500_000)),
            (StartPoint::Image, ms(40_000)),
            (StartPoint::Process, ms(2000)),
            (StartPoint::Order, ms(600_000)),
            (StartPoint::Renderer, ms(3000)),
            (StartPoint::Frame, ms(90_000)),
        ];
        // 45 s of a worker at 0.80 an hour.
        assert_eq!(cost(&phases, 800_000), 10_000);
        assert_eq!(cost(&[], 800_000), 0);
    }

    /// Anybody's word about any point, in any order.
    #[derive(Debug, Clone)]
    enum Word {
        Ours(StartPoint, i64),
        Place(StartPoint, i64),
        Process(u64, Option<u64>),
    }

    fn word() -> impl Strategy<Value = Word> {
        let times = || prop_oneof![0i64..10_000, any::<i64>()];
        prop_oneof![
            (select(&StartPoint::ALL[..]), times()).prop_map(|(point, at)| Word::Ours(point, at)),
            (select(&StartPoint::ALL[2..6]), times()).prop_map(|(point, at)| Word::Place(point, at)),
            (any::<u64>(), prop::option::of(0u64..10_000)).prop_map(|(age, connected)| Word::Process(age, connected)),
        ]
    }

    proptest! {
        #[test]
        fn no_phase_is_negative_and_all_add_up_whoever_says_what(words in prop::collection::vec((word(), 0i64..1000), 0..40)) {
            let mut timeline = Timeline::default();
            let mut now = Timestamp(20_000);
            for (word, passes_ms) in words {
                now = Timestamp(now.0 + passes_ms);
                match word {
                    // Of its own points the scheduler hears when they are.
                    Word::Ours(point, at) => timeline.note(now, point, Timestamp(at)),
                    Word::Place(point, at) => timeline.note_place(now, point, Timestamp(at)),
                    Word::Process(age, connected) => timeline.note_process(now, ms(age), connected.map(ms)),
                }
                let times: Vec<Timestamp> = timeline.points().map(|(_, at)| at).collect();
                prop_assert!(times.is_sorted(), "{timeline:?}");
                prop_assert!(times.iter().all(|at| *at <= now), "{timeline:?} at {now}");
            }
            if let (Some((_, first)), Some((_, last))) = (timeline.points().next(), timeline.points().last()) {
                let sum: u128 = timeline.phases().map(|(_, took)| took.as_millis()).sum();
                // Longer than any clock can tell is told as the longest.
                let whole = u128::from(last.0.abs_diff(first.0));
                prop_assert!(sum == whole || whole > i64::MAX as u128, "{sum} of {whole}");
            }
        }

        /// The clocks of places and workers are as wrong as they like: no phase changes.
        #[test]
        fn a_skewed_clock_changes_nothing(skew_ms in -(1i64 << 50)..(1i64 << 50)) {
            prop_assert_eq!(told(&come(skew_ms)), told(&come(0)));
        }
    }
}
