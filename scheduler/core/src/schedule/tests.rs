use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_767_225_600_000;

fn rules(change: Value) -> Result<Rules, Vec<Fault>> {
    let mut body = json!({ "name": "n", "cron": "@hourly", "job": { "name": "j", "steps": [] } });
    for (field, value) in change.as_object().expect("fields") {
        body[field] = value.clone();
    }
    Rules::check(&serde_json::from_value(body).expect("it can be read"), Timestamp(NEW_YEAR))
}

/// Schedules, a store and a clock; what a crash leaves is what was written down.
struct World {
    schedules: Schedules,
    rules: Rules,
    now: i64,
    next_job: u128,
    /// What became of each due time, as the rows have it: a second row for one due time is a fault.
    rows: BTreeMap<Timestamp, What>,
    over: BTreeSet<JobId>,
    lates: Vec<(Timestamp, LateFor)>,
}

const ID: ScheduleId = ScheduleId(1);

impl World {
    fn new(change: Value) -> World {
        let rules = rules(change).expect("good rules");
        let mut schedules = Schedules::default();
        schedules.put(Timestamp(NEW_YEAR), ID, rules.clone());
        let (rows, over, lates) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        World { schedules, rules, now: NEW_YEAR, next_job: 0, rows, over, lates }
    }

    /// Runs the clock to `now`, looking whenever there is a deadline.
    fn until(&mut self, now: i64) {
        while let Some(at) = self.schedules.next_deadline()
            && at.0 <= now
        {
            self.now = self.now.max(at.0);
            self.decide();
        }
        self.now = now;
    }

    fn decide(&mut self) {
        let decisions = self.decided();
        self.write(decisions);
    }

    fn decided(&mut self) -> Vec<Decision> {
        let next = &mut self.next_job;
        self.schedules.decide(Timestamp(self.now), || {
            *next += 1;
            JobId((*next).into())
        })
    }

    fn write(&mut self, decisions: Vec<Decision>) {
        for Decision { due, what, .. } in decisions {
            match &what {
                What::Late { deadline, .. } => {
                    self.lates.push((due, *deadline));
                    continue;
                }
                What::Submit { replaces, waited, .. } => {
                    for job in replaces.clone() {
                        self.end(job);
                    }
                    if *waited {
                        assert_eq!(self.rows.remove(&due), Some(What::Wait));
                    }
                }
                What::Wait | What::Skip { .. } => {}
            }
            let twice = self.rows.insert(due, what);
            assert_eq!(twice, None, "two rows for {due}");
        }
    }

    fn end(&mut self, job: JobId) {
        self.over.insert(job);
        self.schedules.job_over(job);
    }

    fn end_all(&mut self) {
        for job in self.jobs() {
            self.end(job);
        }
    }

    fn jobs(&self) -> Vec<JobId> {
        self.schedules.get(ID).expect("it is there").jobs().collect()
    }

    /// What a crash leaves: the rows, and of the schedule what was written with them.
    fn row(&self) -> StoredSchedule {
        let schedule = self.schedules.get(ID).expect("it is there");
        StoredSchedule {
            id: ID,
            rules: self.rules.clone(),
            paused: schedule.paused,
            last_due: schedule.last_due,
            last_manual: schedule.last_manual,
            runs: schedule.runs,
            jobs: schedule.jobs.clone(),
            waiting: schedule.waiting.iter().copied().collect(),
        }
    }

    fn restart(&mut self, row: StoredSchedule) {
        self.schedules = Schedules::restore([row]);
    }

    fn kinds(&self) -> String {
        let kind = |what: &What| match what {
            What::Submit { reason: "", .. } => 'S',
            What::Submit { .. } => 'M',
            What::Wait => 'w',
            What::Skip { .. } => '-',
            What::Late { .. } => 'l',
        };
        self.rows.values().map(kind).collect()
    }
}

#[test]
fn each_due_time_has_one_run_with_its_number() {
    let mut world = World::new(json!({ "overlap": "allow" }));
    world.until(NEW_YEAR + 3 * HOUR);
    let numbers: Vec<u64> = world
        .rows
        .values()
        .filter_map(|what| match what {
            What::Submit { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(world.rows.keys().map(|due| due.0).collect::<Vec<_>>(), [1, 2, 3].map(|hour| NEW_YEAR + hour * HOUR));
}

#[test]
fn overlap_skips_waits_replaces_or_allows() {
    for (overlap, rows) in [("skip", "S--"), ("queue", "Sww"), ("replace", "SSS"), ("allow", "SSS")] {
        let mut world = World::new(json!({ "overlap": overlap }));
        world.until(NEW_YEAR + 3 * HOUR);
        assert_eq!(world.kinds(), rows, "{overlap}");
        let going = if overlap == "allow" { 3 } else { 1 };
        assert_eq!(world.jobs().len(), going, "{overlap}");
    }
    // The runs that wait come one after the other, oldest first.
    let mut world = World::new(json!({ "overlap": "queue" }));
    world.until(NEW_YEAR + 3 * HOUR);
    for runs in 2..=3 {
        world.end_all();
        world.until(world.now);
        assert_eq!(world.schedules.get(ID).expect("there").runs, runs);
    }
    assert_eq!(world.kinds(), "SMM");
}

#[test]
fn a_storm_of_replacements_leaves_one_job_at_any_moment() {
    // The fastest there may be.
    assert!(rules(json!({ "overlap": "replace", "cron": "*/30 * * * * *" })).is_err());
    let mut world = World::new(json!({ "overlap": "replace", "cron": "* * * * *" }));
    for minute in 1..=500 {
        world.until(NEW_YEAR + minute * MINUTE);
        assert_eq!(world.jobs().len(), 1, "after {minute} minutes");
    }
    assert!(world.kinds().chars().all(|kind| kind == 'S'));
}

#[test]
fn runs_that_wait_or_go_on_are_bounded() {
    let mut world = World::new(json!({ "overlap": "queue" }));
    world.until(NEW_YEAR + 103 * HOUR);
    assert_eq!(world.kinds(), format!("S{}--", "w".repeat(WAITING_MAX)));
    let mut world = World::new(json!({ "overlap": "allow" }));
    world.until(NEW_YEAR + 102 * HOUR);
    assert_eq!(world.kinds(), format!("{}--", "S".repeat(JOBS_MAX)));
    let job = JobId(9999u128.into());
    assert_eq!(world.schedules.run_now(Timestamp(world.now), ID, job), Some(Err(TooManyRuns)));
}

#[test]
fn missed_runs_are_made_up_for_as_the_policy_says() {
    for (catch_up, rows) in [
        (json!({ "missed": "none" }), "-----"),
        (json!({ "missed": "latest" }), "----M"),
        (json!({ "missed": "latest", "window": "10m" }), "-----"),
        (json!({ "missed": "all", "runs": 3 }), "--MMM"),
        (json!({ "missed": "all", "runs": 3, "window": "2h" }), "---MM"),
        (json!({ "missed": "all", "runs": 100 }), "MMMMM"),
    ] {
        let mut world = World::new(json!({ "overlap": "allow", "catch_up": catch_up }));
        world.restart(world.row());
        world.now = NEW_YEAR + 5 * HOUR + 30 * MINUTE;
        world.decide();
        assert_eq!(world.kinds(), rows, "{catch_up}");
    }
    // What is due just now is no missed run, so the newest of the missed is not made up for as well.
    let mut world = World::new(json!({ "overlap": "allow" }));
    world.now = NEW_YEAR + 3 * HOUR + 1000;
    world.decide();
    assert_eq!(world.kinds(), "--S");
}

#[test]
fn years_of_missed_seconds_are_decided_about_at_once_and_stay_few() {
    let mut world =
        World::new(json!({ "cron": "* * * * * *", "catch_up": { "missed": "all", "runs": 100 }, "overlap": "allow" }));
    world.now = NEW_YEAR + 1000 * DAY;
    world.decide();
    assert_eq!(world.rows.len(), LOOK_BACK_MAX);
    let first = world.rows.values().next().expect("some");
    assert!(matches!(first, What::Skip { reason } if reason.contains("many due times before")), "{first:?}");
}

#[test]
fn a_clock_set_back_between_two_starts_repeats_nothing() {
    let mut world = World::new(json!({ "overlap": "allow" }));
    world.until(NEW_YEAR + 5 * HOUR);
    let row = world.row();
    world.restart(row);
    world.now = NEW_YEAR + 2 * HOUR;
    world.decide();
    world.until(NEW_YEAR + 6 * HOUR);
    assert_eq!(world.kinds(), "SSSSSS");
    // Nor does a run by hand meet one of an earlier, later clock.
    for now in [NEW_YEAR + 6 * HOUR, NEW_YEAR + 6 * HOUR, NEW_YEAR] {
        world.next_job += 1;
        let decision = world.schedules.run_now(Timestamp(now), ID, JobId(world.next_job.into()));
        world.write(vec![decision.expect("it is there").expect("there is room")]);
    }
    assert_eq!(world.rows.len(), 9);
}

#[test]
fn a_crash_before_or_after_the_commit_gives_one_job_a_due_time() {
    for commits in [false, true] {
        for downtime in [0, 10, MINUTE, HOUR / 2] {
            let mut world = World::new(json!({ "overlap": "allow" }));
            for hour in 1..=5 {
                world.now = NEW_YEAR + hour * HOUR;
                let before = world.row();
                let decisions = world.decided();
                if commits {
                    // The transaction held; nothing after it was done.
                    world.write(decisions);
                    let row = world.row();
                    world.restart(row);
                } else {
                    // Nothing of it held.
                    world.restart(before);
                }
                world.now += downtime;
                world.decide();
            }
            let jobs = world.rows.values().filter(|what| matches!(what, What::Submit { .. })).count();
            assert_eq!((jobs, world.rows.len()), (5, 5), "{commits} {downtime}");
        }
    }
}

#[test]
fn nothing_is_due_while_paused_nor_made_up_for() {
    let mut world = World::new(json!({ "overlap": "allow" }));
    world.until(NEW_YEAR + HOUR);
    world.schedules.pause(ID);
    world.until(NEW_YEAR + 5 * HOUR);
    world.schedules.resume(Timestamp(world.now), ID);
    world.until(NEW_YEAR + 6 * HOUR);
    assert_eq!(world.rows.keys().map(|due| due.0).collect::<Vec<_>>(), [NEW_YEAR + HOUR, NEW_YEAR + 6 * HOUR]);
}

#[test]
fn start_and_end_hold() {
    let mut world = World::new(json!({
        "overlap": "allow", "start": "2026-01-01T03:00:00Z", "end": "2026-01-01T05:00:00Z",
    }));
    world.until(NEW_YEAR + DAY);
    assert_eq!(world.rows.keys().map(|due| due.0).collect::<Vec<_>>(), [NEW_YEAR + 3 * HOUR, NEW_YEAR + 4 * HOUR]);
    assert_eq!(world.schedules.next_deadline(), None);
    let faults = rules(json!({ "end": "2025-01-01T00:00:00Z" })).expect_err("over");
    assert_eq!(faults[0].field, "/end");
}

#[test]
fn late_runs_are_told_once() {
    let mut world = World::new(json!({ "overlap": "queue", "deadline": { "start": "10m", "finish": "90m" } }));
    world.until(NEW_YEAR + HOUR + 5 * MINUTE);
    let first = world.jobs()[0];
    world.schedules.job_started(first);
    world.until(NEW_YEAR + 3 * HOUR - 1);
    let hour = |hour: i64| Timestamp(NEW_YEAR + hour * HOUR);
    // The first began in time and goes on too long; the second waits for it.
    assert_eq!(world.lates, [(hour(2), LateFor::Start), (hour(1), LateFor::Finish)]);
    assert_eq!(world.schedules.get(ID).expect("there").late(), 2);
    world.restart(world.row());
    world.until(NEW_YEAR + 3 * HOUR - 1);
    assert_eq!(world.lates.len(), 2, "nor again after a restart");
}

#[test]
fn jitter_is_the_same_every_time_and_within_its_bound() {
    let rules = rules(json!({ "jitter": "10m" })).expect("good");
    let due = |hour: i64| Timestamp(NEW_YEAR + hour * HOUR);
    let delays: Vec<i64> = (0..100).map(|hour| rules.fires(ID, due(hour)).0 - due(hour).0).collect();
    assert_eq!(delays, (0..100).map(|hour| rules.fires(ID, due(hour)).0 - due(hour).0).collect::<Vec<_>>());
    assert!(delays.iter().all(|delay| (0..=10 * MINUTE).contains(delay)));
    assert!(delays.iter().collect::<BTreeSet<_>>().len() > 90, "they differ");
    assert!(delays.iter().any(|delay| *delay > 8 * MINUTE) && delays.iter().any(|delay| *delay < 2 * MINUTE));
}

#[test]
fn contradictory_rules_are_refused() {
    let fields = |change| rules(change).expect_err("refused").into_iter().map(|fault| fault.field).collect::<Vec<_>>();
    assert_eq!(
        fields(json!({ "cron": "61 * * * *", "zone": "Mars/Olympus", "jitter": "25h" })),
        ["/jitter", "/zone", "/cron"]
    );
    assert_eq!(fields(json!({ "cron": "*/10 * * * * *", "overlap": "replace" })), ["/overlap"]);
    assert_eq!(fields(json!({ "cron": "*/5 * * * *", "jitter": "6m" })), ["/jitter"]);
    assert!(rules(json!({ "cron": "* * * * *", "overlap": "replace" })).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever ends, crashes and jumps when: one row a due time, and never more jobs at once than the rule says.
    #[test]
    fn any_order_of_events_keeps_the_rules(
        overlap in prop_oneof![Just("skip"), Just("queue"), Just("replace"), Just("allow")],
        missed in prop_oneof![Just(json!({ "missed": "none" })), Just(json!({ "missed": "latest" })), Just(json!({ "missed": "all", "runs": 5 }))],
        jitter in prop_oneof![Just("0s"), Just("40m")],
        steps in proptest::collection::vec((0u8..6, 0i64..4 * HOUR), 1..60),
    ) {
        let mut world = World::new(json!({ "overlap": overlap, "catch_up": missed, "jitter": jitter }));
        for (what, ms) in steps {
            match what {
                0 | 1 => world.until(world.now + ms),
                2 => world.end_all(),
                3 => {
                    let before = world.row();
                    world.now += ms;
                    let _ = world.decided();
                    world.restart(before);
                }
                4 => {
                    let row = world.row();
                    world.restart(row);
                    world.now += ms;
                }
                _ => {
                    let row = world.row();
                    world.restart(row);
                    world.now -= ms;
                }
            }
            if overlap != "allow" {
                prop_assert!(world.jobs().len() <= 1);
            }
            if overlap == "queue" && world.jobs().is_empty() {
                prop_assert!(world.schedules.get(ID).expect("there").waiting() == 0 || world.schedules.next_deadline() == Some(Timestamp(0)));
            }
        }
        // Every due time up to the last that was decided about has its row: none is lost.
        let last = world.schedules.get(ID).expect("there").last_due;
        let due = world.rules.upcoming(Timestamp(NEW_YEAR)).take_while(|due| *due <= last);
        prop_assert_eq!(due.collect::<Vec<_>>(), world.rows.keys().copied().collect::<Vec<_>>());
    }
}
