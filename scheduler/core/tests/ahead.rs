//! What is known to come calls its workers in time: first runs of schedules, runs beside other work, jobs with deadlines. And workers
//! that have nothing to do learn how long it is worth waiting.

use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, Need, Report, RequestId, TaskResult, WorkerEnd};
use framewake_core::farm::{Applied, Farm, Listener};
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, ScalingRules, Settings, Snapshot};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::money::Money;
use framewake_proto::time::Timestamp;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// A Monday, half past seven in London.
const START: Timestamp = Timestamp(1_767_598_200_000);
const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Up(usize),
    Done(usize),
    Idle(usize, u32),
    Submit(u32, u32, Option<Timestamp>),
}

struct Worker {
    id: WorkerId,
    function: FunctionKey,
    linger: Duration,
    /// Number of what it is at.
    tick: u32,
    asked_at: Timestamp,
    up_at: Option<Timestamp>,
    busy: Option<(AttemptId, u32, Duration)>,
    gone_at: Option<Timestamp>,
}

/// Workers that come after a time that is drawn, work, and leave when they have waited long enough.
struct World {
    farm: Farm,
    now: Timestamp,
    cold: Box<dyn FnMut() -> Duration>,
    planned: BinaryHeap<Reverse<(Timestamp, u64, What)>>,
    number: u64,
    orders: VecDeque<AttemptId>,
    workers: Vec<Worker>,
    /// Of each job, what its tasks take, and when the first was begun.
    jobs: Vec<(Duration, Option<Timestamp>)>,
    done_at: BTreeMap<usize, Timestamp>,
}

fn key(text: &str) -> FunctionKey {
    text.parse().expect("a good key")
}

fn number(job: JobId) -> usize {
    usize::try_from(u128::from(job.0)).expect("few jobs") - 1
}

fn nightly() -> Name {
    "nightly".parse().expect("a good name")
}

fn need(tasks: u64, task_s: Option<f64>) -> Need {
    Need { function: key("blender@1"), tasks, task_s }
}

impl World {
    fn new(workers_max: u32, cold: impl FnMut() -> Duration + 'static) -> World {
        let rules = || FunctionRules::without_gpu(workers_max, 1);
        let functions = vec![(key("blender@1"), rules()), (key("other@1"), rules())];
        // Nobody is lost here, so nobody has to say that he is alive.
        let settings = Settings { lease: Duration::from_hours(10), ..Settings::default() };
        let farm = Farm::restore(settings, START, Snapshot { functions, ..Snapshot::default() });
        let mut world = World {
            farm,
            now: START,
            cold: Box::new(cold),
            planned: BinaryHeap::new(),
            number: 0,
            orders: VecDeque::new(),
            workers: Vec::new(),
            jobs: Vec::new(),
            done_at: BTreeMap::new(),
        };
        let pool = PoolRules { start_within: 15 * MINUTE, here: false, ..PoolRules::local(1000) };
        let name = pool.name.clone();
        world.apply(Event::PoolsSet { pools: vec![pool], unfit: BTreeMap::new() });
        world.apply(Event::PoolReached { pool: name });
        world.apply(Event::ReportsDrained);
        world
    }

    fn plan(&mut self, at: Timestamp, what: What) {
        self.number += 1;
        self.planned.push(Reverse((at, self.number, what)));
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for effect in &out.effects {
            match effect {
                Effect::StartWorker { worker, function, linger, .. } => {
                    let up_at = self.now.after((self.cold)());
                    let (id, function, linger, asked_at) = (worker.clone(), function.clone(), *linger, self.now);
                    let (up, busy, gone_at) = (None, None, None);
                    self.workers.push(Worker { id, function, linger, tick: 0, asked_at, up_at: up, busy, gone_at });
                    self.plan(up_at, What::Up(self.workers.len() - 1));
                }
                Effect::PublishOrder { attempt, .. } => self.orders.push_back(*attempt),
                _ => {} // Of no interest here.
            }
        }
        out.effects
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.give_out();
            let planned = self.planned.peek().map(|Reverse((at, ..))| *at);
            let next = planned.into_iter().chain(self.farm.next_deadline()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if planned == Some(next) {
                let Some(Reverse((.., what))) = self.planned.pop() else { break };
                self.happen(what);
            } else {
                self.apply(Event::TimePassed);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Up(at) => {
                self.workers[at].up_at = Some(self.now);
                self.beat(at);
                self.rest(at);
            }
            What::Done(at) => self.done(at),
            What::Idle(at, tick) if self.workers[at].tick == tick && self.workers[at].gone_at.is_none() => {
                if self.beat(at) {
                    self.rest(at);
                } else {
                    self.workers[at].gone_at = Some(self.now);
                    let worker = self.workers[at].id.clone();
                    self.apply(Event::WorkerLeft { worker: worker.clone() });
                    self.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
                }
            }
            What::Idle(..) => {}
            What::Submit(tasks, task_s, deadline) => {
                self.submit("blender@1", tasks, task_s * S, deadline);
            }
        }
    }

    /// A heartbeat; whether the worker is told to stay.
    fn beat(&mut self, at: usize) -> bool {
        let (places, gpu, progress) = (Vec::new(), String::new(), None);
        let holds = self.workers[at].busy.map(|(attempt, ..)| attempt);
        let (worker, function, request) =
            (self.workers[at].id.clone(), self.workers[at].function.clone(), RequestId(1));
        let seen = Event::WorkerSeen { request, worker, function, holds, draining: false, places, gpu, progress };
        let told = self.apply(seen).into_iter().find_map(|effect| match effect {
            Effect::AnswerHeartbeat { control, .. } => Some(control.stay),
            _ => None,
        });
        told.expect("an answer")
    }

    fn rest(&mut self, at: usize) {
        self.workers[at].tick += 1;
        let (until, tick) = (self.now.after(self.workers[at].linger), self.workers[at].tick);
        self.plan(until, What::Idle(at, tick));
    }

    /// Those that are idle claim what is on offer; an order that comes too late is followed by another.
    fn give_out(&mut self) {
        let is_idle = |worker: &Worker| worker.up_at.is_some() && worker.busy.is_none() && worker.gone_at.is_none();
        while let Some(attempt) = self.orders.front().copied()
            && let Some(at) = self.workers.iter().position(is_idle)
        {
            self.orders.pop_front();
            let worker = self.workers[at].id.clone();
            for effect in self.apply(Event::AttemptClaimed { request: RequestId(1), worker, attempt }) {
                if let Effect::AnswerClaim { answer: ClaimAnswer::Granted { job, tasks, .. }, .. } = effect {
                    let (takes, first) = &mut self.jobs[number(job)];
                    first.get_or_insert(self.now);
                    let takes = *takes;
                    self.workers[at].busy = Some((attempt, tasks.first().unwrap_or_default(), takes));
                    self.workers[at].tick += 1;
                    self.plan(self.now.after(takes), What::Done(at));
                }
            }
        }
    }

    fn done(&mut self, at: usize) {
        let Some((attempt, task, took)) = self.workers[at].busy.take() else { return };
        let elapsed_ms = u32::try_from(took.as_millis()).expect("short");
        let done = vec![TaskResult { elapsed_ms, ..result(task) }];
        let report = Report { done, end: Some(AttemptEnd::Finished), ..Report::default() };
        let worker = self.workers[at].id.clone();
        let effects = self.apply(Event::AttemptReported { worker, attempt, report });
        for effect in effects {
            if let Effect::AnnounceJobOver { job, .. } = effect {
                self.done_at.insert(number(job), self.now);
            }
        }
        self.rest(at);
    }

    /// A job of so many tasks; its number.
    fn submit(&mut self, function: &str, tasks: u32, takes: Duration, deadline: Option<Timestamp>) -> usize {
        self.jobs.push((takes, None));
        let step = NewStep {
            function: key(function),
            tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let project = "film".parse().expect("a good name");
        let job = NewJob { project, budget: None, deadline, priority: 50, steps: vec![step] };
        self.apply(Event::JobSubmitted { id: JobId((self.jobs.len() as u128).into()), job });
        self.jobs.len() - 1
    }

    fn expect(&mut self, due: Option<Timestamp>, needs: Vec<Need>) {
        self.apply(Event::RunExpected { schedule: nightly(), due, needs });
    }

    fn explained(&self, job: usize) -> String {
        let told =
            self.farm.explain(self.now, JobId((job as u128 + 1).into()), &Listener::default()).expect("it is not over");
        told.concat().join("\n")
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

#[test]
fn the_very_first_run_of_a_schedule_finds_its_workers_there() {
    let mut world = World::new(64, || 200 * S);
    let due = world.now.after(Duration::from_hours(2));
    world.expect(Some(due), vec![need(40, None)]);
    world.run(due.since(world.now));
    assert_eq!(world.workers.len(), 40);
    let early = due.since(world.workers[0].asked_at);
    assert!(early >= 200 * S && early <= 5 * MINUTE, "asked for {early:?} before");
    let job = world.submit("blender@1", 40, 10 * MINUTE, None);
    world.expect(None, Vec::new());
    world.run(30 * MINUTE);
    assert_eq!(world.jobs[job].1, Some(due), "the first frame begins when the run does");
    assert_eq!(world.workers.len(), 40, "and nobody else was asked for");
}

#[test]
fn a_first_run_learns_from_other_functions_how_long_starts_take() {
    let mut world = World::new(64, || 90 * S);
    world.submit("other@1", 1, MINUTE, None);
    world.run(10 * MINUTE);
    let due = world.now.after(Duration::from_hours(2));
    world.expect(Some(due), vec![need(3, None)]);
    world.run(due.since(world.now));
    assert_eq!(due.since(world.workers[1].asked_at), 90 * S);
}

#[test]
fn a_run_finds_its_workers_beside_those_that_are_at_other_work() {
    let mut world = World::new(64, || 200 * S);
    world.submit("blender@1", 8, Duration::from_hours(3), None);
    world.run(Duration::from_hours(1));
    let due = world.now.after(Duration::from_hours(1));
    // Two first steps of the same function.
    world.expect(Some(due), vec![need(4, None), need(6, Some(600.0))]);
    world.run(due.since(world.now));
    assert_eq!(world.workers.len(), 18, "ten that wait for the run, beside eight that work");
    let job = world.submit("blender@1", 10, 10 * MINUTE, None);
    world.expect(None, Vec::new());
    world.run(10 * MINUTE);
    assert_eq!((world.jobs[job].1, world.done_at.get(&job)), (Some(due), Some(&due.after(10 * MINUTE))));
    assert_eq!(world.workers.len(), 18);
}

/// A farm that knows that starts take 200 s and tasks 20 s.
fn learned(workers_max: u32) -> World {
    let mut world = World::new(workers_max, || 200 * S);
    world.submit("blender@1", 1, 20 * S, None);
    world.run(Duration::from_hours(1));
    world.workers.clear();
    world
}

#[test]
fn a_job_with_a_deadline_gets_as_many_workers_as_that_takes() {
    let check = |within: Option<Duration>, workers: usize| {
        let mut world = learned(64);
        let deadline = within.map(|within| world.now.after(within));
        let job = world.submit("blender@1", 100, 20 * S, deadline);
        assert_eq!(world.workers.len(), workers, "within {within:?}");
        world.run(Duration::from_hours(1));
        if let Some(deadline) = deadline {
            assert!(world.done_at[&job] <= deadline, "{:?} late", world.done_at[&job].since(deadline));
        }
        assert_eq!(world.workers.len(), workers, "and nobody later: what goes as planned calls nobody");
    };
    check(None, 10);
    check(Some(Duration::from_hours(1)), 10);
    // 200 s until they come, then five tasks each, or two.
    check(Some(310 * S), 20);
    check(Some(245 * S), 50);
}

#[test]
fn a_deadline_that_comes_nearer_than_its_work_calls_more_workers() {
    let mut world = learned(64);
    let deadline = world.now.after(1000 * S);
    // Its tasks turn out to take three times as long.
    let job = world.submit("blender@1", 100, 60 * S, Some(deadline));
    assert_eq!(world.workers.len(), 10);
    world.run(Duration::from_hours(1));
    assert!(world.workers.len() > 10 && world.workers.len() <= 64, "{}", world.workers.len());
    assert!(world.done_at[&job] <= deadline.after(60 * S), "{:?} late", world.done_at[&job].since(deadline));
}

/// One worker would do, for waiting is worth nothing; and what is half done counts.
#[test]
fn a_deadline_calls_workers_where_nobody_minds_waiting_and_goes_on_with_them() {
    let mut world = learned(64);
    let currency = "USD".parse().expect("a currency");
    let mut prices = Prices::default();
    prices.set(PaidFor::Any, 0, Held { price: PriceId(1), micros_an_hour: 1_000_000, currency });
    world.apply(Event::PricesSet { prices });
    let waiting = Some(Money { micros: 1, currency });
    let scaling = ScalingRules { waiting, ..ScalingRules::default() };
    let rules = FunctionRules { scaling, ..FunctionRules::without_gpu(64, 1) };
    world.apply(Event::FunctionAdded { key: key("blender@2"), rules });
    world.submit("blender@2", 1, 60 * S, None);
    world.run(Duration::from_hours(1));
    world.workers.clear();
    let idle = world.submit("blender@2", 100, 60 * S, None);
    assert_eq!(world.workers.len(), 1, "nobody minds");
    world.run(Duration::from_hours(3));
    assert!(world.done_at.contains_key(&idle));
    world.workers.clear();
    let deadline = world.now.after(Duration::from_secs(200 + 10 * 60));
    let job = world.submit("blender@2", 100, 60 * S, Some(deadline));
    assert_eq!(world.workers.len(), 10, "ten tasks each");
    world.run(Duration::from_hours(1));
    assert_eq!((world.done_at[&job], world.workers.len()), (deadline, 10));
}

#[test]
fn a_deadline_that_can_t_be_met_is_told_and_calls_nobody_in_vain() {
    let mut world = learned(64);
    let job = world.submit("blender@1", 100, 20 * S, Some(world.now.after(100 * S)));
    assert_eq!(world.workers.len(), 10, "as without: nobody would come in time");
    let told = world.explained(job);
    assert!(told.contains("can't be met") && told.contains("begins in 200 s"), "{told}");
    world.run(110 * S);
    assert!(world.explained(job).contains("has passed"), "{}", world.explained(job));

    let mut world = learned(8);
    let job = world.submit("blender@1", 100, 20 * S, Some(world.now.after(310 * S)));
    assert_eq!(world.workers.len(), 8, "its limit holds");
    let told = world.explained(job);
    assert!(told.contains("takes 20 workers of `blender@1`, and there may be 8"), "{told}");

    let mut world = learned(64);
    let job = world.submit("blender@1", 100, 20 * S, Some(world.now.after(310 * S)));
    assert!(!world.explained(job).contains("deadline"), "{}", world.explained(job));
}

#[test]
fn workers_learn_how_long_waiting_for_work_pays() {
    let linger = |gap: Duration| {
        let mut world = World::new(4, || 200 * S);
        for _ in 0..20 {
            world.submit("blender@1", 1, 5 * MINUTE, None);
            world.run(5 * MINUTE + 200 * S + gap);
        }
        world.run(Duration::from_hours(1));
        world.submit("blender@1", 1, 5 * MINUTE, None);
        world.workers.last().expect("one is asked for").linger
    };
    assert_eq!(linger(Duration::from_hours(1)), 5 * S, "who waits, waits in vain");
    let soon = linger(100 * S);
    assert!(soon >= 100 * S && soon <= 200 * S, "who waits has work soon: {soon:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every night, the first one too, begins when it is due, however long a start takes and whatever the day was.
    #[test]
    fn runs_begin_when_they_are_due(cold_s in 1u32..290, tasks in 1u32..40, day in proptest::option::of(1u32..2000)) {
        let mut world = World::new(64, move || cold_s * S);
        for night in 1..4 {
            let due = START.after(Duration::from_hours(24 * night));
            world.expect(Some(due), vec![need(tasks.into(), None)]);
            if let Some(task_s) = day {
                world.plan(world.now.after(Duration::from_hours(8)), What::Submit(3, task_s, None));
            }
            world.run(due.since(world.now));
            let job = world.submit("blender@1", tasks, 5 * MINUTE, None);
            world.expect(None, Vec::new());
            world.run(Duration::from_hours(1));
            let late = world.jobs[job].1.expect("it was rendered").since(due);
            // Who comes within five seconds is not called early.
            prop_assert!(late <= 2 * S || cold_s < 5, "night {night} begins {late:?} late");
            prop_assert!(world.workers.iter().all(|worker| worker.gone_at.is_some()), "nobody stays for the day");
        }
    }

    /// Whatever comes when, and however long workers take to come: never more workers than are allowed, none started twice for
    /// the same task, and in the end nobody is left. A run of a schedule finds a worker there.
    #[test]
    fn starts_are_bounded_by_work_and_everybody_leaves(
        jobs in proptest::collection::vec((0u64..7200, 1u32..12, 1u32..900, proptest::option::of(1u64..3600)), 1..25),
        colds in proptest::collection::vec(5u32..200, 1..40),
        run in proptest::option::of((600u64..7200, 1u32..20)),
        workers_max in 1u32..40,
    ) {
        // The next start may take longer than those that are known by so much.
        let uneven = (colds.iter().max().unwrap_or(&0) - colds.iter().min().unwrap_or(&0)) * S;
        let mut at = 0;
        let mut world = World::new(workers_max, move || {
            at += 1;
            colds[at % colds.len()] * S
        });
        let tasks: u32 = jobs.iter().map(|(_, tasks, ..)| tasks).sum();
        for (at, tasks, task_s, within) in jobs {
            let at = START.after(at.try_into().map(|at: u32| at * S).expect("small"));
            let deadline = within.map(|within| at.after(Duration::from_secs(within)));
            world.plan(at, What::Submit(tasks, task_s, deadline));
        }
        let mut early = 0;
        if let Some((due_s, tasks)) = run {
            let due = START.after(Duration::from_secs(due_s));
            world.expect(Some(due), vec![need(tasks.into(), None)]);
            world.run(due.since(world.now));
            let job = world.submit("blender@1", tasks, 60 * S, None);
            world.expect(None, Vec::new());
            early = tasks;
            let others = world.jobs.len() > 1;
            world.run(Duration::from_hours(24));
            let late = world.jobs[job].1.expect("it was rendered").since(due);
            prop_assert!(others || late <= uneven + 2 * S, "begun {late:?} late");
        }
        world.run(Duration::from_hours(24));
        prop_assert_eq!(world.done_at.len(), world.jobs.len(), "everything is done");
        prop_assert!(world.workers.iter().all(|worker| worker.gone_at.is_some()), "everybody left");
        // One for each task, and for the run those that waited for it may have been at other work when it came.
        let starts = u32::try_from(world.workers.len()).expect("few");
        prop_assert!(starts <= tasks + 2 * early, "{starts} starts for {tasks} tasks and a run of {early}");
        let ids: BTreeSet<&WorkerId> = world.workers.iter().map(|worker| &worker.id).collect();
        prop_assert_eq!(ids.len(), world.workers.len());
        let mut changes: Vec<(Timestamp, i64)> = Vec::new();
        for worker in &world.workers {
            changes.push((worker.asked_at, 1));
            changes.push((worker.gone_at.expect("it left"), -1));
        }
        changes.sort_unstable();
        let mut there = 0;
        for (_, change) in changes {
            there += change;
            prop_assert!(there <= i64::from(workers_max), "{there} at once");
        }
    }
}
