//! Several pools: which is tried first, what each may hold, and what happens when one gives nothing.

use framewake_core::effect::Effect;
use framewake_core::event::{Event, RequestId, StartStep, WorkerEnd};
use framewake_core::farm::{Applied, Farm, Listener};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, ScalingRules, Settings, Snapshot};
use framewake_proto::ids::{FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::price::Market;
use framewake_proto::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const START: Timestamp = Timestamp(1_700_000_000_000);
const START_WITHIN: Duration = Duration::from_mins(10);

fn name(text: &str) -> Name {
    text.parse().expect("a good name")
}

fn function() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

/// Machines elsewhere.
fn pool(text: &str, max: u32) -> PoolRules {
    PoolRules {
        name: name(text),
        start_within: START_WITHIN,
        starts_a_minute: 1000,
        here: false,
        ..PoolRules::local(max)
    }
}

struct World {
    farm: Farm,
    now: Timestamp,
    jobs: u128,
    /// Those asked for whose end the farm was not told, with their pools.
    workers: BTreeMap<WorkerId, Name>,
    /// In the order in which they were asked for.
    asked: Vec<Name>,
}

impl World {
    /// A farm whose pools were all heard of.
    fn new(pools: Vec<PoolRules>, rules: FunctionRules) -> World {
        let snapshot = Snapshot { functions: vec![(function(), rules)], ..Snapshot::default() };
        let farm = Farm::restore(Settings::default(), START, snapshot);
        let (workers, asked) = (BTreeMap::new(), Vec::new());
        let mut world = World { farm, now: START, jobs: 0, workers, asked };
        let names: Vec<Name> = pools.iter().map(|pool| pool.name.clone()).collect();
        world.apply(Event::PoolsSet { pools, unfit: BTreeMap::new() });
        for pool in names {
            world.apply(Event::PoolReached { pool });
        }
        world.apply(Event::ReportsDrained);
        world
    }

    fn apply(&mut self, event: Event) -> Applied {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for effect in &out.effects {
            if let Effect::StartWorker { worker, pool, .. } = effect {
                self.workers.insert(worker.clone(), pool.clone());
                self.asked.push(pool.clone());
            }
        }
        out
    }

    fn submit(&mut self, tasks: u32) {
        self.jobs += 1;
        let step = NewStep {
            function: function(),
            tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let job = NewJob { project: name("film"), budget: None, deadline: None, priority: 50, steps: vec![step] };
        self.apply(Event::JobSubmitted { id: JobId(self.jobs.into()), job });
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.farm.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.apply(Event::TimePassed);
        }
        self.now = until;
    }

    fn speak(&mut self, worker: &WorkerId, draining: bool) {
        let (places, gpu, progress) = (Vec::new(), String::new(), None);
        let (worker, function, request) = (worker.clone(), function(), RequestId(1));
        self.apply(Event::WorkerSeen { request, worker, function, holds: None, draining, places, gpu, progress });
    }

    fn end(&mut self, worker: &WorkerId, end: WorkerEnd) {
        self.workers.remove(worker);
        self.apply(Event::WorkerExited { worker: worker.clone(), end });
    }

    fn in_pool(&self, pool: &str) -> u32 {
        u32::try_from(self.workers.values().filter(|of| of.as_str() == pool).count()).expect("few")
    }

    fn reasons(&self) -> Vec<String> {
        self.farm.scaling(self.now).next().expect("one function").1.reasons
    }
}

fn failed(reason: &str) -> WorkerEnd {
    WorkerEnd::Failed { reason: reason.to_owned() }
}

#[test]
fn cheap_machines_come_first_and_what_they_can_t_hold_goes_to_the_next() {
    let spot = PoolRules { market: Market::Spot, ..pool("spot", 3) };
    let pools = vec![PoolRules { order: 1, ..pool("last", 100) }, pool("always", 2), spot];
    let mut world = World::new(pools, FunctionRules::without_gpu(6, 1));
    world.submit(50);
    let asked: Vec<&str> = world.asked.iter().map(Name::as_str).collect();
    assert_eq!(asked, ["spot", "spot", "spot", "always", "always", "last"]);
}

#[test]
fn a_pool_that_is_not_fit_is_never_asked() {
    let unfit = BTreeMap::from([(name("small"), "its GPUs have too little memory".to_owned())]);
    let rules = FunctionRules { unfit, ..FunctionRules::without_gpu(6, 1) };
    let mut world = World::new(vec![pool("small", 100), pool("large", 2)], rules);
    world.submit(50);
    assert_eq!((world.in_pool("small"), world.in_pool("large")), (0, 2));
    let explained = world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job");
    assert!(explained[0].iter().any(|reason| reason.contains("worker starting")), "{explained:?}");
}

#[test]
fn workers_that_others_start_are_counted_and_not_asked_for() {
    let unfit = BTreeMap::from([(name("cloud"), "its workers are started by others (scaling.external)".to_owned())]);
    let scaling = ScalingRules { external: true, ..ScalingRules::default() };
    let rules = FunctionRules { unfit, scaling, ..FunctionRules::without_gpu(6, 1) };
    let mut world = World::new(vec![pool("cloud", 100)], rules);
    world.submit(50);
    assert_eq!(world.asked, []);
    assert_eq!(world.farm.scaling(world.now).next().expect("one function").1.needed, 6);
    let told = "no worker yet: those of `blender@1` are started by others (scaling.external), and 6 are needed";
    assert_eq!(world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job")[0], [told]);
    let worker: WorkerId = "by-hand".parse().expect("a good id");
    world.speak(&worker, false);
    let explained = world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job");
    assert!(!explained[0].iter().any(|reason| reason.contains("others (scaling")), "{explained:?}");
}

#[test]
fn a_place_that_has_not_told_who_is_there_gets_no_more() {
    let snapshot = Snapshot { functions: vec![(function(), FunctionRules::without_gpu(4, 1))], ..Snapshot::default() };
    let farm = Farm::restore(Settings::default(), START, snapshot);
    let (workers, asked) = (BTreeMap::new(), Vec::new());
    let mut world = World { farm, now: START, jobs: 0, workers, asked };
    world.apply(Event::PoolsSet { pools: vec![pool("cloud", 4)], unfit: BTreeMap::new() });
    world.apply(Event::ReportsDrained);
    world.submit(50);
    assert!(world.asked.is_empty(), "four may be there from before");
    assert!(world.reasons()[0].contains("has not told yet"), "{:?}", world.reasons());
    for number in 0..3 {
        let worker: WorkerId = format!("old-{number}").parse().expect("a good id");
        world.apply(Event::WorkerFound { worker, function: function(), pool: name("cloud"), gpus: Vec::new() });
    }
    world.apply(Event::PoolReached { pool: name("cloud") });
    assert_eq!(world.asked.len(), 1, "beside the three that were found");
    world.apply(Event::PoolAway { pool: name("cloud"), reason: "the API server does not answer".to_owned() });
    let worker = world.workers.keys().next().cloned().expect("one");
    world.end(&worker, WorkerEnd::Left);
    assert_eq!(world.asked.len(), 1);
    assert!(world.reasons()[0].contains("does not answer"), "{:?}", world.reasons());
}

#[test]
fn a_pool_whose_workers_don_t_come_is_passed_over_with_the_reason() {
    let spot = PoolRules { market: Market::Spot, ..pool("spot", 10) };
    let mut world = World::new(vec![spot, pool("always", 10)], FunctionRules::without_gpu(4, 1));
    world.submit(2);
    assert_eq!(world.in_pool("spot"), 2);
    world.pass(START_WITHIN);
    // Given up: asked for elsewhere, while these may come all the same.
    assert_eq!(world.in_pool("always"), 2);
    assert!(world.reasons().iter().any(|reason| reason.contains("spot") && reason.contains("did not speak for 600 s")));
    for worker in world.workers.keys().cloned().collect::<Vec<_>>() {
        world.end(&worker, WorkerEnd::Left);
    }
    // Where starts failed lately is tried last, not never.
    assert_eq!(world.in_pool("spot"), 0, "{:?}", world.asked);
    world.pass(Duration::from_hours(1));
    for worker in world.workers.keys().cloned().collect::<Vec<_>>() {
        world.end(&worker, WorkerEnd::Left);
    }
    assert!(world.in_pool("spot") > 0, "{:?}", world.asked);
}

#[test]
fn why_a_starting_worker_is_not_there_is_told() {
    let mut world = World::new(vec![pool("cloud", 10)], FunctionRules::without_gpu(1, 1));
    world.submit(5);
    let worker = world.workers.keys().next().cloned().expect("one");
    let (step, at) = (StartStep::Created, world.now);
    world.apply(Event::WorkerStepped { worker: worker.clone(), step, at });
    let reason = "Unschedulable: no node with nvidia.com/gpu".to_owned();
    world.apply(Event::WorkerWaits { worker: worker.clone(), reason });
    let explained = world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job").remove(0);
    let told = format!("worker {worker} waits (its place knows of it): Unschedulable: no node with nvidia.com/gpu");
    assert_eq!(explained, ["worker starting: 1 of `blender@1`".to_owned(), told]);
}

#[test]
fn a_refusal_counts_against_its_pool_alone() {
    let mut world =
        World::new(vec![pool("a", 10), PoolRules { order: 1, ..pool("b", 10) }], FunctionRules::without_gpu(1, 1));
    world.submit(5);
    let worker = world.workers.keys().next().cloned().expect("one");
    world.end(&worker, failed("quota `gpus` is exhausted"));
    assert_eq!(world.asked, [name("a"), name("b")], "at once, without a wait");
    assert!(world.reasons()[0].contains("quota `gpus` is exhausted"), "{:?}", world.reasons());
}

#[test]
fn who_is_taken_away_at_its_start_is_replaced_at_once_and_nobody_is_blamed() {
    let mut world = World::new(vec![pool("spot", 10)], FunctionRules::without_gpu(1, 1));
    world.submit(5);
    let worker = world.workers.keys().next().cloned().expect("one");
    world.end(&worker, WorkerEnd::TakenAway { reason: "the node was called back".to_owned() });
    assert_eq!(world.asked.len(), 2);
    assert!(world.reasons().is_empty(), "{:?}", world.reasons());
}

#[test]
fn a_worker_that_fell_silent_keeps_its_slot_until_its_end_is_told() {
    let mut world = World::new(vec![pool("cloud", 1)], FunctionRules::without_gpu(4, 1));
    world.submit(5);
    let worker = world.workers.keys().next().cloned().expect("one");
    world.speak(&worker, false);
    world.pass(Duration::from_mins(2));
    assert_eq!(world.asked.len(), 1, "it may still be there");
    assert!(world.reasons()[0].contains("all 1 slots are taken"), "{:?}", world.reasons());
    world.end(&worker, failed("lost with its node"));
    assert_eq!(world.asked.len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Submit(u32),
    /// Seconds, fewer than a start may take.
    Pass(u64),
    Worker(usize, What),
}

#[derive(Debug, Clone)]
enum What {
    Speak,
    Drain,
    GoodBye,
    End,
    Fail,
    TakeAway,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![
        Just(What::Speak),
        Just(What::Drain),
        Just(What::GoodBye),
        Just(What::End),
        Just(What::Fail),
        Just(What::TakeAway),
    ];
    let step = prop_oneof![
        1 => (1u32..60).prop_map(Step::Submit),
        2 => (1u64..500).prop_map(Step::Pass),
        6 => (0usize..20, what).prop_map(|(at, what)| Step::Worker(at, what)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// As long as places tell of the ends of workers within the time that a start may take, no pool ever has more than it may,
    /// whatever workers do.
    #[test]
    fn a_demand_of_forty_workers_never_creates_more_than_pools_of_eight_gpus_allow(steps in steps()) {
        let mut world = World::new(vec![pool("eight", 8), pool("three", 3)], FunctionRules::without_gpu(40, 1));
        world.submit(40);
        for step in steps {
            let worker = |at: usize| world.workers.keys().nth(at % world.workers.len().max(1)).cloned();
            match step {
                Step::Submit(tasks) => world.submit(tasks),
                Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
                Step::Worker(at, what) => {
                    let Some(worker) = worker(at) else { continue };
                    match what {
                        What::Speak => world.speak(&worker, false),
                        What::Drain => world.speak(&worker, true),
                        What::GoodBye => drop(world.apply(Event::WorkerLeft { worker })),
                        What::End => world.end(&worker, WorkerEnd::Left),
                        What::Fail => world.end(&worker, failed("no node")),
                        What::TakeAway => world.end(&worker, WorkerEnd::TakenAway { reason: "drained".to_owned() }),
                    }
                }
            }
            prop_assert!(world.in_pool("eight") <= 8 && world.in_pool("three") <= 3, "{:?}", world.workers);
            let known: BTreeSet<WorkerId> = world.farm.workers().map(|worker| worker.id.clone()).collect();
            let gone: Vec<WorkerId> = world.workers.keys().filter(|id| !known.contains(*id)).cloned().collect();
            for worker in gone {
                world.end(&worker, WorkerEnd::Left);
            }
            prop_assert!(world.in_pool("eight") <= 8 && world.in_pool("three") <= 3, "{:?}", world.workers);
        }
        prop_assert!(world.asked.len() >= 11, "and no fewer");
    }
}
