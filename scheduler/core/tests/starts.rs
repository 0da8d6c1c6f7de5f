//! How workers come: whose clock counts, what is counted once, and what is still known after a restart.

use framewake_core::change::Change;
use framewake_core::coming::StoredStart;
use framewake_core::effect::Effect;
use framewake_core::event::{Event, Moments, Report, RequestId, StartStep, TaskResult, WorkerEnd};
use framewake_core::farm::{Applied, Farm};
use framewake_core::values::{
    FunctionRules, LOCAL_POOL, NewJob, NewStep, PoolRules, Settings, Snapshot, StoredStarts, StoredTiming,
};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const START: Timestamp = Timestamp(1_700_000_000_000);

fn key() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A farm of one pool, and what its store would keep.
struct World {
    farm: Farm,
    now: Timestamp,
    /// As the database has it: the last row of each.
    starts: BTreeMap<WorkerId, StoredStart>,
    learned: BTreeMap<(FunctionKey, Name), StoredStarts>,
    timings: BTreeMap<FunctionKey, StoredTiming>,
    counted: Vec<(StartPoint, Duration)>,
    orders: Vec<AttemptId>,
    started: Vec<WorkerId>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            farm: Farm::restore(Settings::default(), START, snapshot()),
            now: START,
            starts: BTreeMap::new(),
            learned: BTreeMap::new(),
            timings: BTreeMap::new(),
            counted: Vec::new(),
            orders: Vec::new(),
            started: Vec::new(),
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.apply(Event::PoolsSet { pools: vec![PoolRules::local(1)], unfit: BTreeMap::new() });
        self.apply(Event::ReportsDrained);
    }

    fn apply(&mut self, event: Event) {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for change in out.changes {
            match change {
                Change::WorkerStart { start, counted, .. } => {
                    self.counted.extend(counted);
                    self.starts.insert(start.worker.clone(), start);
                }
                Change::StartsLearned(learned) => {
                    self.learned.insert((learned.function.clone(), learned.pool.clone()), learned);
                }
                Change::TimingLearned(learned) => drop(self.timings.insert(learned.function.clone(), learned)),
                _ => {} // Of work, which is tested elsewhere.
            }
        }
        for effect in out.effects {
            match effect {
                Effect::PublishOrder { attempt, .. } => self.orders.push(attempt),
                Effect::StartWorker { worker, .. } => self.started.push(worker),
                _ => {} // Answers and the like.
            }
        }
    }

    fn after(&mut self, passes_ms: u64) -> &mut World {
        self.now = self.now.after(ms(passes_ms));
        self
    }

    /// A job of one task: its worker is asked for.
    fn submit(&mut self) -> WorkerId {
        let step = NewStep {
            function: key(),
            tasks: 1,
            chunking: Chunking::default(),
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let project = "default".parse().expect("a good name");
        let job = NewJob { project, priority: 50, budget: None, deadline: None, steps: vec![step] };
        self.apply(Event::JobSubmitted { id: JobId(1u128.into()), job });
        self.started.last().expect("one is asked for").clone()
    }

    fn beat(&mut self, worker: &WorkerId) {
        let (request, worker, function) = (RequestId(1), worker.clone(), key());
        let (holds, places, gpu, progress) = (None, Vec::new(), String::new(), None);
        self.apply(Event::WorkerSeen { request, worker, function, holds, draining: false, places, gpu, progress });
    }

    fn first_beat(&mut self, worker: &WorkerId, age_ms: u64) {
        self.beat(worker);
        assert!(self.farm.wants_beginning(worker));
        let (age, connected) = (Some(ms(age_ms)), Some(ms(age_ms / 2)));
        self.apply(Event::WorkerBegan { worker: worker.clone(), age, connected });
        assert!(!self.farm.wants_beginning(worker));
    }

    fn claim(&mut self, worker: &WorkerId) -> AttemptId {
        let attempt = *self.orders.last().expect("it is offered");
        self.apply(Event::AttemptClaimed { request: RequestId(2), worker: worker.clone(), attempt });
        attempt
    }

    fn report(&mut self, worker: &WorkerId, attempt: AttemptId, report: Report) {
        self.apply(Event::AttemptReported { worker: worker.clone(), attempt, report });
    }

    /// Killed and started again, on what was kept.
    fn restart(&mut self) {
        let starts = self.starts.values().filter(|start| start.ended.is_none()).cloned().collect();
        let learned_starts = self.learned.values().cloned().collect();
        let timings = self.timings.values().cloned().collect();
        let snapshot = Snapshot { starts, learned_starts, timings, ..snapshot() };
        self.farm = Farm::restore(Settings::default(), self.now, snapshot);
        self.open();
    }

    fn phases(&self, worker: &WorkerId) -> Vec<(&'static str, u128)> {
        let phases = self.starts[worker].timeline.phases();
        phases.map(|(point, took)| (point.as_str(), took.as_millis())).collect()
    }

    /// Milliseconds of a typical start, and how many are known.
    fn learned(&self) -> (Option<Duration>, usize) {
        let scaling = self.farm.explain_scaling(self.now, &key()).expect("there is one");
        (scaling.pools[0].start_typical, scaling.pools[0].starts_known)
    }
}

fn snapshot() -> Snapshot {
    Snapshot { functions: vec![(key(), FunctionRules::without_gpu(4, 1))], ..Snapshot::default() }
}

fn done(ended_ms: u32) -> TaskResult {
    TaskResult {
        task: 0,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 0,
        width: 0,
        height: 0,
        device: "CPU".to_owned(),
        renderer: String::new(),
        elapsed_ms: 1000,
        found: false,
        memory_peak_bytes: 0,
        gpu: framewake_core::event::GpuUse::default(),
        moments: Moments { ended_ms: Some(ended_ms), ..Moments::default() },
    }
}

#[test]
fn a_way_is_told_by_all_who_know_and_every_phase_is_counted_once() {
    let mut world = World::new();
    let worker = world.submit();
    world.after(20).apply(Event::WorkerTaken { worker: worker.clone() });
    // The clock of the place is an hour ahead.
    let steps = [(StartStep::Created, 0), (StartStep::Scheduled, 2000), (StartStep::ImageReady, 7000)];
    let mut at = START.after(Duration::from_hours(1));
    for (step, passes_ms) in steps {
        at = at.after(ms(passes_ms));
        world.after(passes_ms).apply(Event::WorkerStepped { worker: worker.clone(), step, at });
    }
    world.after(4000).first_beat(&worker, 400);
    assert_eq!(world.counted, [], "its place may have more to tell");
    let late = (StartStep::ProcessStarted, at.after(ms(3500)));
    world.apply(Event::WorkerStepped { worker: worker.clone(), step: late.0, at: late.1 });
    let attempt = world.after(100).claim(&worker);
    assert_eq!(world.counted, []);
    let loaded = Report { staged_ms: Some(30), load_ms: Some(500), ..Report::default() };
    world.after(600).report(&worker, attempt, loaded);
    world.after(4300).apply(Event::TimePassed);
    assert_eq!(world.counted.len(), 9, "all but the frame");
    world.after(700).report(&worker, attempt, Report { done: vec![done(5100)], ..Report::default() });
    let expected = [
        ("asked", 0),
        ("created", 20),
        ("scheduled", 2000),
        ("image", 7000),
        ("process", 3600),
        ("nats", 200),
        ("order", 300),
        ("inputs", 30),
        ("renderer", 470),
        ("frame", 4600),
    ];
    assert_eq!(world.phases(&worker), expected);
    let counted: Vec<_> = world.counted.iter().map(|(point, took)| (point.as_str(), took.as_millis())).collect();
    assert_eq!(counted, world.phases(&worker));
}

#[test]
fn a_start_is_learned_from_the_wish_for_it_whatever_happens_meanwhile() {
    // The claim overtakes the first heartbeat.
    let mut world = World::new();
    let worker = world.submit();
    world.after(3000).claim(&worker);
    assert_eq!(world.learned(), (Some(ms(3000)), 1));
    world.after(5).first_beat(&worker, 40);
    assert_eq!(world.learned(), (Some(ms(3000)), 1), "once");
    assert_eq!(world.phases(&worker), [("asked", 0), ("process", 2965), ("nats", 20), ("order", 15)]);

    // The scheduler is killed while it comes.
    let mut world = World::new();
    let worker = world.submit();
    world.after(10_000).restart();
    let pool = LOCAL_POOL.parse().expect("a good name");
    world.apply(Event::WorkerFound { worker: worker.clone(), function: key(), pool, gpus: Vec::new() });
    world.after(2000).first_beat(&worker, 500);
    assert_eq!(world.learned(), (Some(ms(12_000)), 1), "since it was asked for, not since it was found");
}

#[test]
fn what_was_learned_is_known_after_a_restart() {
    let mut world = World::new();
    let worker = world.submit();
    world.after(3000).first_beat(&worker, 500);
    let attempt = world.claim(&worker);
    let end = Some(framewake_core::event::AttemptEnd::Finished);
    let report = Report { load_ms: Some(700), done: vec![done(1700)], end, ..Report::default() };
    world.after(1700).report(&worker, attempt, report);
    world.after(5000).apply(Event::TimePassed);
    let before = world.farm.explain_scaling(world.now, &key()).expect("there is one");
    let (pools, task_s, load_s) = (before.pools, before.task_s, before.load_s);
    assert!(task_s.is_some() && load_s.is_some() && !pools[0].phases.is_empty());
    world.restart();
    let after = world.farm.explain_scaling(world.now, &key()).expect("there is one");
    assert_eq!((after.task_s, after.load_s), (task_s, load_s));
    assert_eq!((after.pools[0].start_typical, &after.pools[0].phases), (pools[0].start_typical, &pools[0].phases));
}

#[test]
fn starts_that_failed_are_remembered_and_never_for_longer_than_they_make_wait() {
    let mut world = World::new();
    let worker = world.submit();
    for _ in 0..3 {
        let worker = world.started.last().unwrap_or(&worker).clone();
        let end = WorkerEnd::Failed { reason: "no such image".to_owned() };
        world.apply(Event::WorkerExited { worker, end });
        world.after(10_000).apply(Event::TimePassed);
    }
    let over = |world: &World| {
        let scaling = world.farm.explain_scaling(world.now, &key()).expect("there is one");
        scaling.pools[0].passed_over.clone().unwrap_or_default()
    };
    assert!(over(&world).starts_with("3 in a row failed, the last because: no such image"), "{}", over(&world));
    world.restart();
    assert!(over(&world).starts_with("3 in a row failed, the last because: no such image"), "{}", over(&world));
    // The clock is set back by a day: it is tried again within the minute all the same.
    world.now = Timestamp(world.now.0 - 24 * 3_600_000);
    world.restart();
    let again = world.farm.next_deadline().expect("a time is set");
    assert!(again <= world.now.after(Duration::from_mins(1)), "{again} from {}", world.now);
}

#[test]
fn one_that_was_thought_dead_goes_on_where_it_was() {
    let mut world = World::new();
    let worker = world.submit();
    world.after(3000).first_beat(&worker, 500);
    let before = world.phases(&worker);
    // Nothing is heard of it for two leases.
    world.after(60_000).apply(Event::TimePassed);
    let ended = world.starts[&worker].ended.clone().expect("it is given up");
    assert!(ended.1.starts_with("nothing was heard of it for "), "{ended:?}");
    world.after(1000).beat(&worker);
    world.after(100).claim(&worker);
    assert_eq!(world.starts[&worker].ended, None, "it is back");
    assert_eq!(world.phases(&worker)[..before.len()], before);
}

#[test]
fn a_worker_that_people_start_has_a_way_that_counts_for_nothing() {
    let mut world = World::new();
    let own: WorkerId = "mine".parse().expect("a good id");
    world.first_beat(&own, 200);
    world.apply(Event::WorkerLeft { worker: own.clone() });
    assert_eq!(world.phases(&own), [("nats", 100)]);
    assert_eq!(
        world.starts[&own].ended.as_ref().expect("it left").1,
        "it left without an order: there was none for it"
    );
    assert_eq!((world.counted.len(), world.learned()), (0, (None, 0)));
}
