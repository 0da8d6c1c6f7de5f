//! Who is called and who stays although nothing is to be done: windows, runs of schedules, steps that follow.

use framewake_core::calendar::{Calendar, zone};
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, Need, Report, RequestId, TaskResult, WorkerEnd};
use framewake_core::farm::{Applied, Farm};
use framewake_core::scale::keep::Window;
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, ScalingRules, Settings, Snapshot};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A Monday, half past seven in London.
const START: Timestamp = Timestamp(1_767_598_200_000);
const COLD: Duration = Duration::from_secs(200);
const MINUTE: Duration = Duration::from_mins(1);

struct World {
    farm: Farm,
    now: Timestamp,
    jobs: u128,
    started: Vec<(WorkerId, FunctionKey, Duration)>,
    orders: Vec<AttemptId>,
}

fn key(text: &str) -> FunctionKey {
    text.parse().expect("a good key")
}

impl World {
    fn new(functions: Vec<(FunctionKey, FunctionRules)>) -> World {
        let farm = Farm::restore(Settings::default(), START, Snapshot { functions, ..Snapshot::default() });
        let mut world = World { farm, now: START, jobs: 0, started: Vec::new(), orders: Vec::new() };
        let pools = vec![PoolRules { start_within: Duration::from_mins(15), ..PoolRules::local(100) }];
        world.apply(Event::PoolsSet { pools, unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        world
    }

    fn apply(&mut self, event: Event) -> Applied {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for effect in &out.effects {
            match effect {
                Effect::StartWorker { worker, function, linger, .. } => {
                    self.started.push((worker.clone(), function.clone(), *linger));
                }
                Effect::PublishOrder { attempt, .. } => self.orders.push(*attempt),
                _ => {} // Of no interest here.
            }
        }
        out
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.farm.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.apply(Event::TimePassed);
        }
        self.now = until;
    }

    /// Steps one after the other, each with so many tasks of a function.
    fn submit(&mut self, steps: &[(&str, u32)]) -> Vec<WorkerId> {
        let before = self.started.len();
        self.jobs += 1;
        let steps = steps.iter().enumerate().map(|(at, (function, tasks))| NewStep {
            function: key(function),
            tasks: *tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: (0..at).collect(),
        });
        let project = "film".parse().expect("a good name");
        let job = NewJob { project, budget: None, deadline: None, priority: 50, steps: steps.collect() };
        self.apply(Event::JobSubmitted { id: JobId(self.jobs.into()), job });
        self.started[before..].iter().map(|(id, ..)| id.clone()).collect()
    }

    /// A heartbeat; whether the worker is told to stay.
    fn beat(&mut self, worker: &WorkerId, function: &str) -> bool {
        let (places, gpu, progress) = (Vec::new(), String::new(), None);
        let (worker, function, request) = (worker.clone(), key(function), RequestId(1));
        let seen = Event::WorkerSeen { request, worker, function, holds: None, draining: false, places, gpu, progress };
        let told = self.apply(seen).effects.into_iter().find_map(|effect| match effect {
            Effect::AnswerHeartbeat { control, .. } => Some(control.stay),
            _ => None,
        });
        told.expect("an answer")
    }

    /// The worker claims the oldest order and is done with it after `took`.
    fn work(&mut self, worker: &WorkerId, took: Duration) {
        let attempt = self.orders.remove(0);
        let claimed = self.apply(Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt });
        let tasks = claimed.effects.iter().find_map(|effect| match effect {
            Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } => Some(tasks.clone()),
            _ => None,
        });
        self.now = self.now.after(took);
        let elapsed_ms = u32::try_from(took.as_millis()).expect("short");
        let task = tasks.and_then(|tasks| tasks.first()).expect("granted");
        let done = vec![TaskResult { elapsed_ms, ..result(task) }];
        let report = Report { done, end: Some(AttemptEnd::Finished), ..Report::default() };
        self.apply(Event::AttemptReported { worker: worker.clone(), attempt, report });
    }

    /// One worker of the function comes, works and leaves: it is known from then on how long they take to come.
    fn learn(&mut self, function: &str, took: Duration) {
        let worker = self.submit(&[(function, 1)]).remove(0);
        self.pass(COLD);
        self.beat(&worker, function);
        self.work(&worker, took);
        self.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
        self.started.clear();
    }
}

fn result(task: u32) -> TaskResult {
    TaskResult {
        task,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 1,
        width: 0,
        height: 0,
        device: String::new(),
        renderer: String::new(),
        elapsed_ms: 0,
        found: false,
        memory_peak_bytes: 0,
        gpu: framewake_core::event::GpuUse::default(),
        moments: framewake_core::event::Moments::default(),
    }
}

fn nightly() -> Name {
    "nightly".parse().expect("a good name")
}

#[test]
fn a_window_has_its_workers_there_and_lets_them_go_when_it_closes() {
    let calendar = Calendar::new("0 8 * * 1-5", zone("Europe/London").expect("a zone")).expect("good");
    let keep = vec![Window { workers: 2, calendar, length: Duration::from_hours(1) }];
    let scaling = ScalingRules { keep, ..ScalingRules::default() };
    let rules = FunctionRules { scaling, ..FunctionRules::without_gpu(4, 1) };
    let mut world = World::new(vec![(key("blender@1"), rules)]);
    world.pass(29 * MINUTE);
    assert!(world.started.is_empty(), "it is not eight yet");
    world.pass(MINUTE);
    assert_eq!(world.started.len(), 2, "nothing is to be done, and they are there");
    let workers: Vec<WorkerId> = world.started.iter().map(|(id, ..)| id.clone()).collect();
    for worker in &workers {
        world.beat(worker, "blender@1");
    }
    world.now = world.now.after(Duration::from_secs(20));
    for worker in &workers {
        assert!(world.beat(worker, "blender@1"), "it stays");
    }
    world.now = world.now.after(60 * MINUTE);
    world.apply(Event::TimePassed);
    assert!(!world.beat(&workers[0], "blender@1"), "it goes when it likes");
    assert_eq!(world.started.len(), 2, "and nobody comes in its place");
}

#[test]
fn workers_for_a_run_are_called_as_early_as_slow_starts_need() {
    let mut world = World::new(vec![(key("blender@1"), FunctionRules::without_gpu(40, 1))]);
    let due = world.now.after(Duration::from_hours(2));
    let need = |task_s| Need { function: key("blender@1"), tasks: 30, task_s };
    let expected = |task_s| Event::RunExpected { schedule: nightly(), due: Some(due), needs: vec![need(task_s)] };
    world.apply(expected(None));
    world.learn("blender@1", 10 * MINUTE);
    let early = Timestamp(due.0 - i64::try_from(COLD.as_millis()).expect("short"));
    world.pass(early.since(world.now).saturating_sub(Duration::from_secs(1)));
    assert!(world.started.is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.started.len(), 30, "one for each task");
    let worker = world.started[0].0.clone();
    world.pass(Duration::from_secs(195));
    assert!(world.beat(&worker, "blender@1"), "it waits for the run");
    // Tasks that take a second are no work for thirty.
    let mut world = World::new(vec![(key("blender@1"), FunctionRules::without_gpu(40, 1))]);
    world.learn("blender@1", 10 * MINUTE);
    world.apply(expected(Some(20.0)));
    world.pass(due.since(world.now));
    assert_eq!(world.started.len(), 3, "600 s of work, and 200 s to come");
}

#[test]
fn a_run_that_is_taken_back_calls_nobody() {
    let mut world = World::new(vec![(key("blender@1"), FunctionRules::without_gpu(40, 1))]);
    world.learn("blender@1", MINUTE);
    let due = Some(world.now.after(Duration::from_hours(1)));
    let needs = vec![Need { function: key("blender@1"), tasks: 30, task_s: None }];
    world.apply(Event::RunExpected { schedule: nightly(), due, needs });
    world.apply(Event::RunExpected { schedule: nightly(), due: None, needs: Vec::new() });
    world.pass(Duration::from_hours(3));
    assert!(world.started.is_empty());
}

#[test]
fn a_worker_stays_for_a_step_that_follows_soon_and_not_for_one_that_takes_long() {
    let check = |render_s: u64, stays: bool| {
        let rules = FunctionRules::without_gpu(4, 1);
        let mut world = World::new(vec![(key("blender@1"), rules.clone()), (key("encode@1"), rules)]);
        world.learn("encode@1", Duration::from_secs(5));
        let encoder = world.submit(&[("encode@1", 1)]).remove(0);
        world.pass(COLD);
        world.beat(&encoder, "encode@1");
        world.work(&encoder, Duration::from_secs(5));
        // Its next work stands behind frames of another function.
        let renderer = world.submit(&[("blender@1", 2), ("encode@1", 1)]).remove(0);
        world.work(&renderer, Duration::from_secs(render_s));
        let told = world.beat(&encoder, "encode@1");
        assert_eq!(told, stays, "while a frame takes {render_s} s");
    };
    check(60, true);
    check(2000, false);
}

#[test]
fn a_worker_waits_for_work_as_long_as_its_start_takes_or_as_the_function_says() {
    let fixed = ScalingRules { linger: Some(Duration::from_secs(3)), ..ScalingRules::default() };
    let rules = FunctionRules { scaling: fixed, ..FunctionRules::without_gpu(4, 1) };
    let mut world = World::new(vec![(key("blender@1"), rules), (key("povray@1"), FunctionRules::without_gpu(4, 1))]);
    for (function, unknown, known) in [("blender@1", 3, 3), ("povray@1", 10, 60)] {
        world.started.clear();
        world.submit(&[(function, 1)]);
        assert_eq!(world.started[0].2, Duration::from_secs(unknown));
        let worker = world.started[0].0.clone();
        world.pass(COLD);
        world.beat(&worker, function);
        world.work(&worker, MINUTE);
        world.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
        world.started.clear();
        world.submit(&[(function, 1)]);
        assert_eq!(world.started[0].2, Duration::from_secs(known));
        let worker = world.started[0].0.clone();
        world.pass(COLD);
        world.beat(&worker, function);
        world.work(&worker, MINUTE);
    }
}

#[test]
fn a_job_whose_first_tasks_take_longer_than_others_gets_more_workers_before_one_is_done() {
    let mut world = World::new(vec![(key("blender@1"), FunctionRules::without_gpu(40, 1))]);
    world.learn("blender@1", Duration::from_secs(20));
    let workers = world.submit(&[("blender@1", 30)]);
    assert_eq!(workers.len(), 3, "600 s of work by what others took, and 200 s to come");
    world.pass(COLD);
    let (attempt, worker) = (world.orders.remove(0), workers[0].clone());
    world.beat(&worker, "blender@1");
    world.apply(Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt });
    world.now = world.now.after(Duration::from_secs(10));
    let (places, gpu, progress) = (Vec::new(), String::new(), None);
    let (function, request, holds) = (key("blender@1"), RequestId(1), Some(attempt));
    let seen = Event::WorkerSeen { request, worker, function, holds, draining: false, places, gpu, progress };
    world.apply(seen.clone());
    assert_eq!(world.started.len(), 3, "no longer than others yet");
    world.now = world.now.after(Duration::from_secs(90));
    world.apply(seen);
    assert_eq!(world.started.len(), 30, "what has taken 100 s may take as long again");
}
