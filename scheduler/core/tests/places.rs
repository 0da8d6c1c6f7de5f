//! Machines that fail what others render are set aside; workers that are lost leave evidence.

use framewake_core::change::{Change, Outcome};
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{
    AttemptEnd, Event, GpuUse, GpuWord, Moments, Progress, Report, RequestId, TaskFailure, TaskResult, WorkerEnd,
};
use framewake_core::farm::{Applied, Farm, Listener, PlaceStanding};
use framewake_core::values::{
    FunctionRules, NewJob, NewStep, Place, PoolRules, Settings, Snapshot, StoredChunk, StoredPlace,
};
use framewake_proto::duration::Span;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A farm whose workers are started by hand, and what it made durable.
struct World {
    farm: Farm,
    now: Timestamp,
    jobs: u128,
    orders: Vec<AttemptId>,
    chunks: BTreeMap<u64, StoredChunk>,
    places: BTreeMap<Place, StoredPlace>,
    attempts_lost: Vec<String>,
    failures: Vec<(TaskFailure, bool)>,
    /// Told to leave.
    drained: BTreeSet<WorkerId>,
    started: Vec<WorkerId>,
}

fn function() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

fn id(name: &str) -> WorkerId {
    name.parse().expect("a good id")
}

impl World {
    fn new() -> World {
        let now = Timestamp(1_000_000);
        let farm = Farm::restore(Settings::default(), now, Snapshot::default());
        let mut world = World {
            farm,
            now,
            jobs: 0,
            orders: Vec::new(),
            chunks: BTreeMap::new(),
            places: BTreeMap::new(),
            attempts_lost: Vec::new(),
            failures: Vec::new(),
            drained: BTreeSet::new(),
            started: Vec::new(),
        };
        world.apply(Event::PoolsSet { pools: vec![PoolRules::local(4)], unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let rules = FunctionRules::without_gpu(4, 1);
        world.apply(Event::FunctionAdded { key: function(), rules });
        world
    }

    fn apply(&mut self, event: Event) -> Applied {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for change in &out.changes {
            match change {
                Change::ChunkStored(chunk) => drop(self.chunks.insert(chunk.id.0, chunk.clone())),
                Change::ChunkClosed { id } => drop(self.chunks.remove(&id.0)),
                Change::PlaceStored(place) => drop(self.places.insert(place.place.clone(), place.clone())),
                Change::PlaceForgotten { place } => drop(self.places.remove(place)),
                Change::AttemptEnded { outcome: Outcome::Lost { how }, .. } => self.attempts_lost.push(how.clone()),
                Change::TaskFailed { failure, for_good, .. } => self.failures.push((failure.clone(), *for_good)),
                _ => {} // Of no interest here.
            }
        }
        for effect in &out.effects {
            match effect {
                Effect::PublishOrder { attempt, .. } => self.orders.push(*attempt),
                Effect::PushControl { worker, control } if control.drain => drop(self.drained.insert(worker.clone())),
                Effect::StartWorker { worker, .. } => self.started.push(worker.clone()),
                _ => {} // Of no interest here.
            }
        }
        out
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.apply(Event::TimePassed);
    }

    fn submit(&mut self, tasks: u32) -> JobId {
        self.jobs += 1;
        let second = Span(Duration::from_secs(1));
        let step = NewStep {
            function: function(),
            tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries { attempts: 3, backoff: second, backoff_max: second },
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let id = JobId(self.jobs.into());
        let job = NewJob {
            project: "film".parse().expect("a good name"),
            budget: None,
            deadline: None,
            priority: 50,
            steps: vec![step],
        };
        self.apply(Event::JobSubmitted { id, job });
        id
    }

    /// A heartbeat; whether the worker is told to leave.
    fn speaks(&mut self, worker: &str, place: &str, progress: Option<Progress>) -> bool {
        let out = self.apply(Event::WorkerSeen {
            gpu: String::new(),
            request: RequestId(1),
            worker: id(worker),
            function: function(),
            holds: None,
            draining: false,
            places: vec![Place::new(place)],
            progress,
        });
        out.effects.iter().any(|effect| matches!(effect, Effect::AnswerHeartbeat { control, .. } if control.drain))
    }

    /// Claims the oldest order that is still good, or says why none was granted.
    fn claims(&mut self, worker: &str) -> Result<(AttemptId, u32), Vec<&'static str>> {
        let mut refusals = Vec::new();
        for attempt in std::mem::take(&mut self.orders) {
            let out = self.apply(Event::AttemptClaimed { request: RequestId(2), worker: id(worker), attempt });
            for effect in out.effects {
                match effect {
                    Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } => {
                        return Ok((attempt, tasks.first().expect("a chunk has a task")));
                    }
                    Effect::AnswerClaim { answer: ClaimAnswer::Refused { reason }, .. } => refusals.push(reason),
                    _ => {} // Of no interest here.
                }
            }
        }
        Err(refusals)
    }

    fn holds(&mut self, worker: &str) -> (AttemptId, u32) {
        self.claims(worker).unwrap_or_else(|refusals| panic!("{worker} got nothing: {refusals:?}"))
    }

    fn reports(&mut self, worker: &str, attempt: AttemptId, report: Report) {
        let report = Report { end: Some(AttemptEnd::Finished), ..report };
        self.apply(Event::AttemptReported { worker: id(worker), attempt, report });
    }

    fn does(&mut self, worker: &str) {
        let (attempt, task) = self.holds(worker);
        let result = TaskResult {
            task,
            key: String::new(),
            sha256: [0; 32],
            size_bytes: 1,
            width: 0,
            height: 0,
            device: String::new(),
            renderer: String::new(),
            elapsed_ms: 100,
            found: false,
            memory_peak_bytes: 0,
            gpu: GpuUse::default(),
            moments: Moments::default(),
        };
        self.reports(worker, attempt, Report { done: vec![result], ..Report::default() });
    }

    fn fails(&mut self, worker: &str, verdict: Verdict) {
        let (attempt, task) = self.holds(worker);
        let failure = TaskFailure {
            task,
            verdict,
            message: "no luck".to_owned(),
            evidence: String::new(),
            gpu: GpuWord::Nothing,
            moments: Moments::default(),
        };
        self.reports(worker, attempt, Report { failed: vec![failure], ..Report::default() });
    }

    fn standing(&self, place: &str) -> PlaceStanding {
        let found = self.farm.places(self.now).find(|status| status.place.as_str() == place);
        found.unwrap_or_else(|| panic!("{place} is not known")).standing
    }

    /// Three jobs fail on `bad` while the worker on `good` does them.
    fn break_down(&mut self) {
        for _ in 0..3 {
            self.submit(1);
            self.speaks("bad", "node1", None);
            self.speaks("good", "node2", None);
            self.fails("bad", Verdict::RetryElsewhere);
            self.pass(Duration::from_secs(2));
            self.speaks("good", "node2", None);
            if !matches!(self.standing("node1"), PlaceStanding::Aside { .. }) {
                self.does("good");
            }
        }
    }
}

#[test]
fn a_machine_that_fails_three_jobs_is_set_aside_and_its_worker_leaves() {
    let mut world = World::new();
    world.break_down();
    let PlaceStanding::Aside { since, until, reason } = world.standing("node1") else {
        panic!("{:?}", world.standing("node1"));
    };
    assert_eq!(until.since(since), Settings::default().aside);
    assert!(reason.contains("3 jobs") && reason.contains("retry_elsewhere 3 times"), "{reason}");
    assert!(world.drained.contains(&id("bad")), "{:?}", world.drained);
    assert!(!world.drained.contains(&id("good")));
    assert!(world.places.contains_key(&Place::new("node1")), "a restart must know");
    world.submit(1);
    assert!(world.speaks("bad", "node1", None), "each heartbeat says so again");
    let refusals = world.claims("bad").expect_err("it gets nothing");
    assert!(refusals.contains(&"its place is set aside"), "{refusals:?}");
    let explained =
        world.farm.explain(world.now, JobId(4u128.into()), &Listener::default()).expect("it waits").concat();
    assert!(explained.iter().any(|reason| reason.contains("node1") && reason.contains("jobs failed")), "{explained:?}");
    let own_alone = Listener { own_alone: true, ..Listener::default() };
    let explained = world.farm.explain(world.now, JobId(4u128.into()), &own_alone).expect("it waits").concat();
    assert!(explained.iter().any(|reason| reason.contains("set aside: node1 until")), "{explained:?}");
    assert!(!explained.iter().any(|reason| reason.contains("jobs failed")), "what others' tasks did: {explained:?}");
}

#[test]
fn what_a_broken_machine_cost_is_given_back() {
    let mut world = World::new();
    world.break_down();
    // The task that failed last waits for its second try; it has spent nothing.
    let chunk = world.chunks.values().next().expect("it waits");
    assert_eq!((chunk.spent, chunk.losses), (0, 0), "{chunk:?}");
}

#[test]
fn a_worker_that_comes_up_on_a_machine_that_is_set_aside_leaves_and_is_not_replaced_at_once() {
    let mut world = World::new();
    world.break_down();
    world.apply(Event::WorkerLeft { worker: id("bad") });
    world.apply(Event::WorkerLeft { worker: id("good") });
    world.submit(100);
    let mut started = 0;
    for _ in 0..600 {
        for worker in std::mem::take(&mut world.started) {
            started += 1;
            assert!(world.speaks(worker.as_str(), "node1", None), "it has no work there");
            world.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
        }
        world.pass(Duration::from_secs(1));
    }
    // 1, 2, 4, … seconds up to one minute, spread by a fifth; until its time is over, and then it is tried.
    assert!((10..=25).contains(&started), "{started} workers were started in ten minutes");
    let explained =
        world.farm.explain(world.now, JobId(4u128.into()), &Listener::default()).expect("it waits").concat();
    let came = explained.iter().find(|reason| reason.contains("came up on node1")).expect("it is said");
    assert!(!came.contains("jobs failed"), "whoever asks about the function hears it: {came}");
}

#[test]
fn after_its_time_one_worker_tries_and_its_first_task_decides() {
    let mut world = World::new();
    world.break_down();
    world.apply(Event::WorkerLeft { worker: id("bad") });
    world.pass(Settings::default().aside);
    assert!(matches!(world.standing("node1"), PlaceStanding::Trial { .. }));
    world.submit(10);
    world.speaks("good", "node2", None);
    assert!(!world.speaks("first", "node1", None), "one may try");
    assert!(world.speaks("second", "node1", None), "not two");
    assert!(!world.speaks("first", "node1", None));
    world.does("good");
    world.fails("first", Verdict::Hung);
    let PlaceStanding::Aside { since, until, .. } = world.standing("node1") else {
        panic!("{:?}", world.standing("node1"));
    };
    assert_eq!(until.since(since), Settings::default().aside * 2, "longer than the first time");
    world.pass(Settings::default().aside * 2);
    world.speaks("third", "node1", None);
    world.does("third");
    assert_eq!(world.standing("node1"), PlaceStanding::Good);
    assert!(!world.speaks("fourth", "node1", None), "all are welcome again");
}

#[test]
fn a_machine_that_somebody_mended_is_welcome_at_once() {
    let mut world = World::new();
    world.break_down();
    world.apply(Event::WorkerLeft { worker: id("bad") });
    world.apply(Event::PlaceRestored { place: Place::new("node1") });
    assert_eq!(world.standing("node1"), PlaceStanding::Good);
    assert!(!world.speaks("new", "node1", None));
    assert!(world.places.is_empty(), "{:?}", world.places);
}

#[test]
fn a_restart_keeps_a_machine_aside_and_brings_it_back_in_time() {
    let mut world = World::new();
    world.break_down();
    let snapshot = Snapshot {
        functions: vec![(function(), FunctionRules::without_gpu(4, 1))],
        places: world.places.values().cloned().collect(),
        ..Snapshot::default()
    };
    world.farm = Farm::restore(Settings::default(), world.now, snapshot);
    world.apply(Event::ReportsDrained);
    assert!(world.speaks("bad", "node1", None), "it is still set aside");
    world.pass(Settings::default().aside);
    assert!(matches!(world.standing("node1"), PlaceStanding::Trial { .. }));
}

#[test]
fn on_one_machine_nothing_is_set_aside_but_the_suspicion_is_said() {
    let mut world = World::new();
    for _ in 0..5 {
        world.submit(1);
        world.speaks("only", "node1", None);
        world.fails("only", Verdict::RetryElsewhere);
    }
    assert!(matches!(world.standing("node1"), PlaceStanding::Suspect { .. }), "{:?}", world.standing("node1"));
    assert!(world.drained.is_empty());
}

#[test]
fn a_frame_that_kills_its_workers_is_quarantined_with_what_happened_each_time() {
    let mut world = World::new();
    let job = world.submit(1);
    for number in 1..=6 {
        let worker = format!("w{number}");
        world.speaks(&worker, &format!("node{number}"), None);
        let (attempt, _) = world.holds(&worker);
        if number == 1 {
            // A hang of the worker itself: nothing is heard of it.
            world.speaks(&worker, "node1", Some(Progress { permille: 430, note: "Sample 7/64".to_owned() }));
            world.pass(Settings::default().lease + Duration::from_secs(1));
        } else {
            let end = WorkerEnd::Failed { reason: "killed by signal 9".to_owned() };
            world.apply(Event::WorkerExited { worker: id(&worker), end });
        }
        // What the scheduler knows of it comes from its disk, at the third time.
        if number == 3 {
            let mut stored: Vec<StoredChunk> = world.chunks.values().cloned().collect();
            assert_eq!(stored[0].lost.len(), 3, "chunk of attempt {attempt}");
            let step = NewStep {
                function: function(),
                tasks: 1,
                chunking: Chunking::Fixed { size: 1 },
                retries: Retries::default(),
                gpu_memory_bytes: 0,
                frame_limit: None,
                vram: framewake_core::gpus::Vram::default(),
                after: Vec::new(),
            };
            let snapshot = Snapshot {
                functions: vec![(function(), FunctionRules::without_gpu(4, 1))],
                jobs: vec![framewake_core::values::StoredJob {
                    id: job,
                    job: NewJob {
                        project: "film".parse().expect("good"),
                        budget: None,
                        deadline: None,
                        priority: 50,
                        steps: vec![step],
                    },
                    paused: false,
                    restored: false,
                    spent: Vec::new(),
                    steps: vec![framewake_core::values::StoredStep::default()],
                }],
                chunks: std::mem::take(&mut stored),
                chunk_next: 10_001,
                ..Snapshot::default()
            };
            world.farm = Farm::restore(Settings::default(), world.now, snapshot);
            world.orders.clear();
            world.apply(Event::ReportsDrained);
        }
    }
    let (failure, for_good) = world.failures.last().expect("it is quarantined").clone();
    assert!(for_good && failure.verdict == Verdict::Quarantined, "{failure:?}");
    assert!(failure.message.contains("6 workers") && failure.message.contains("signal 9"), "{}", failure.message);
    let lines: Vec<&str> = failure.evidence.lines().collect();
    assert_eq!(lines.len(), 7, "{}", failure.evidence);
    let silent = "worker w1 on node1: it fell silent: last heard 16 s before, then 43 % through its task (Sample 7/64)";
    assert!(lines[0].contains(silent), "{}", lines[0]);
    for (at, line) in lines[1..6].iter().enumerate() {
        let number = at + 2;
        let expected = format!("worker w{number} on node{number}: its process ended: killed by signal 9");
        assert!(line.contains(&expected), "{line}");
    }
    assert!(lines[6].contains(&format!("framewake logs {job} ")), "{}", lines[6]);
    assert_eq!(world.attempts_lost.len(), 6);
    assert!(world.attempts_lost[5].contains("signal 9"), "{:?}", world.attempts_lost);
}
