//! Several pools: which is tried first, what each may hold, and what happens when one gives nothing.

use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{Event, RequestId, StartStep, WorkerEnd};
use framewake_core::farm::{Applied, Farm, Listener};
use framewake_core::gpus::Gpu;
use framewake_core::ledger::{Account, Doing};
use framewake_core::values::{FunctionRules, NewJob, NewStep, Place, PoolRules, ScalingRules, Settings, Snapshot};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::pool::PoolGpu;
use framewake_proto::price::Market;
use framewake_proto::size::Size;
use framewake_proto::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
    orders: Vec<AttemptId>,
}

impl World {
    /// A farm whose pools were all heard of.
    fn new(pools: Vec<PoolRules>, rules: FunctionRules) -> World {
        let snapshot = Snapshot { functions: vec![(function(), rules)], ..Snapshot::default() };
        let farm = Farm::restore(Settings::default(), START, snapshot);
        let (workers, asked) = (BTreeMap::new(), Vec::new());
        let mut world = World { farm, now: START, jobs: 0, workers, asked, orders: Vec::new() };
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
        self.submit_with(tasks, 0, None);
    }

    /// A job whose tasks need so much GPU memory, and may take so long.
    fn submit_with(&mut self, tasks: u32, gpu_memory_bytes: u64, frame_limit: Option<Duration>) {
        self.jobs += 1;
        let step = NewStep {
            function: function(),
            tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries::default(),
            gpu_memory_bytes,
            frame_limit,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let job = NewJob { project: name("film"), budget: None, deadline: None, priority: 50, steps: vec![step] };
        let applied = self.apply(Event::JobSubmitted { id: JobId(self.jobs.into()), job });
        self.note_orders(&applied);
    }

    fn note_orders(&mut self, applied: &Applied) {
        self.orders.extend(applied.effects.iter().filter_map(|effect| match effect {
            Effect::PublishOrder { attempt, .. } => Some(*attempt),
            _ => None,
        }));
    }

    /// The worker of this pool that was asked for last comes up with this GPU, and claims the newest order.
    fn come_up(&mut self, pool: &str, gpu: Gpu) -> Applied {
        let worker = self.workers.iter().rev().find(|(_, of)| of.as_str() == pool).map(|(id, _)| id.clone());
        let worker = worker.expect("one was asked for");
        let (places, model, progress) = (vec![gpu.place.clone()], gpu.model.clone(), None);
        self.apply(Event::GpusDescribed { gpus: vec![gpu] });
        let (function, request) = (function(), RequestId(1));
        self.apply(Event::WorkerSeen {
            request,
            worker: worker.clone(),
            function,
            holds: None,
            draining: false,
            places,
            gpu: model,
            progress,
        });
        let attempt = *self.orders.last().expect("something is offered");
        let applied = self.apply(Event::AttemptClaimed { request, worker, attempt });
        self.note_orders(&applied);
        applied
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

const GIB: u64 = 1 << 30;

/// Two pools of GPUs, the smaller tried first.
fn two_sizes() -> Vec<PoolRules> {
    let said = |model: &str, gib: u64| {
        Some(PoolGpu { model: model.to_owned(), memory: Size(gib * GIB), count: 1, driver: None })
    };
    let small = PoolRules { gpu_said: said("NVIDIA L4", 24), ..pool("small", 10) };
    vec![small, PoolRules { order: 1, gpu_said: said("NVIDIA H100", 80), ..pool("large", 10) }]
}

fn with_gpu() -> FunctionRules {
    FunctionRules { gpus: 1, ..FunctionRules::without_gpu(1, 1) }
}

/// As its driver describes it.
fn gpu(model: &str, memory_bytes: u64) -> Gpu {
    let (uuid, model) = ("GPU-1".to_owned(), model.to_owned());
    Gpu { place: Place::new("node/GPU-1"), uuid, model, driver: None, memory_bytes: Some(memory_bytes) }
}

fn is_granted(applied: &Applied) -> bool {
    applied
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::AnswerClaim { answer: ClaimAnswer::Granted { .. }, .. }))
}

#[test]
fn what_needs_a_large_gpu_is_begun_where_a_pool_says_it_has_some() {
    let mut world = World::new(two_sizes(), with_gpu());
    // Only small ones were ever heard of.
    world.apply(Event::GpusDescribed { gpus: vec![gpu("NVIDIA L4", 22 * GIB)] });
    world.submit_with(5, 40 * GIB, None);
    assert_eq!(world.asked, [name("large")]);
    let reasons = world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job").remove(0);
    assert!(!reasons.iter().any(|reason| reason.contains("no GPU fits")), "{reasons:?}");
}

#[test]
fn what_no_gpu_can_hold_is_told_and_nobody_is_asked_for() {
    let mut world = World::new(two_sizes(), with_gpu());
    world.apply(Event::GpusDescribed { gpus: vec![gpu("NVIDIA L4", 22 * GIB)] });
    world.submit_with(5, 81 * GIB, None);
    assert_eq!(world.asked, []);
    let reasons = world.farm.explain(world.now, JobId(1u128.into()), &Listener::default()).expect("a job").remove(0);
    assert!(reasons.iter().any(|reason| reason.contains("no GPU fits")), "{reasons:?}");
    // Until there is a pool that has some.
    let mut pools = two_sizes();
    pools[1].gpu_said = pools[1].gpu_said.take().map(|said| PoolGpu { memory: Size(141 * GIB), ..said });
    let applied = world.apply(Event::PoolsSet { pools, unfit: BTreeMap::new() });
    world.note_orders(&applied);
    assert_eq!(world.asked, [name("large")]);
    assert!(!world.orders.is_empty(), "and it is offered");
}

#[test]
fn a_gpu_with_less_than_its_pool_says_is_tried_once_and_then_the_next_pool() {
    let mut world = World::new(two_sizes(), with_gpu());
    world.submit_with(5, 23 * GIB, None);
    assert_eq!(world.asked, [name("small")], "as it says");
    let claimed = world.come_up("small", gpu("NVIDIA L4", 22 * GIB));
    assert!(!is_granted(&claimed), "{claimed:?}");
    let worker = world.workers.keys().next().cloned().expect("one");
    world.end(&worker, WorkerEnd::Left);
    world.pass(Duration::from_mins(2));
    assert_eq!(world.asked, [name("small"), name("large")]);
    let claimed = world.come_up("large", gpu("NVIDIA H100", 79 * GIB));
    assert!(is_granted(&claimed), "{claimed:?}");
    // Of another model than its pool says: nothing was known of it, and the next one would be no better.
    let mut world = World::new(two_sizes(), with_gpu());
    world.submit_with(5, 23 * GIB, None);
    let claimed = world.come_up("small", gpu("NVIDIA T4", 15 * GIB));
    assert!(!is_granted(&claimed), "{claimed:?}");
    world.pass(Duration::from_mins(2));
    assert_eq!(world.asked, [name("small"), name("large")]);
}

#[test]
fn a_frame_that_may_take_longer_than_workers_may_run_somewhere_is_done_elsewhere() {
    let short = PoolRules { longest_run: Some(Duration::from_mins(9)), ..pool("short", 10) };
    let pools = || vec![short.clone(), PoolRules { order: 1, ..pool("long", 10) }];
    let mut world = World::new(pools(), FunctionRules::without_gpu(1, 1));
    world.submit_with(5, 0, Some(Duration::from_mins(20)));
    assert_eq!(world.asked, [name("long")]);
    // One that came for other work does not get it.
    let mut world = World::new(pools(), FunctionRules::without_gpu(1, 1));
    world.submit_with(5, 0, Some(Duration::from_mins(9)));
    assert_eq!(world.asked, [name("short")]);
    world.apply(Event::JobCanceled { id: JobId(1u128.into()) });
    world.submit_with(5, 0, Some(Duration::from_mins(20)));
    let claimed = world.come_up("short", gpu("NVIDIA L4", 22 * GIB));
    assert!(!is_granted(&claimed), "{claimed:?}");
    world.pass(Duration::from_mins(2));
    assert_eq!(world.asked, [name("short"), name("long")]);
}

#[test]
fn nobody_who_may_render_is_stopped_for_being_silent_after_a_restart() {
    let found = |account: Option<Doing>| {
        let worker: WorkerId = "w1-1".parse().expect("a good id");
        let account = account.map(|doing| Account {
            worker: worker.clone(),
            function: Arc::new(function()),
            gpu: "".into(),
            pool: Some(name("cloud")),
            opened_at: START,
            until: START,
            doing,
            work: None,
        });
        let functions = vec![(function(), FunctionRules::without_gpu(4, 1))];
        let snapshot = Snapshot { functions, accounts: account.into_iter().collect(), ..Snapshot::default() };
        let farm = Farm::restore(Settings::default(), START, snapshot);
        let (workers, asked) = (BTreeMap::new(), Vec::new());
        let mut world = World { farm, now: START, jobs: 0, workers, asked, orders: Vec::new() };
        world.apply(Event::PoolsSet { pools: vec![pool("cloud", 4)], unfit: BTreeMap::new() });
        world.apply(Event::WorkerFound { worker, function: function(), pool: name("cloud"), gpus: Vec::new() });
        world.apply(Event::PoolReached { pool: name("cloud") });
        world.apply(Event::ReportsDrained);
        world.now = world.now.after(START_WITHIN * 2);
        let applied = world.apply(Event::TimePassed);
        applied.effects.iter().any(|effect| matches!(effect, Effect::StopWorker { .. }))
    };
    let attempt = "7.1".parse().expect("an attempt");
    assert!(found(Some(Doing::Starting { spoke_at: None })), "it was asked for and never came");
    assert!(!found(Some(Doing::Working { attempt, upload_ms: 0 })));
    assert!(!found(Some(Doing::Starting { spoke_at: Some(START) })));
    assert!(!found(None), "it was thought gone before the restart");
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
    let mut world = World { farm, now: START, jobs: 0, workers, asked, orders: Vec::new() };
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
