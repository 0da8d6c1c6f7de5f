//! A job with a budget stops in time, whatever the order of events: beyond its limit goes no more than the frame that
//! each worker is on.

use framewake_core::change::Change;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, GpuUse, Moments, Report, RequestId, TaskResult};
use framewake_core::farm::{Applied, Farm};
use framewake_core::ledger::Spent;
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{AtLimit, Budget, Chunking};
use framewake_proto::money::Money;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A unit of the currency for a second of a worker.
const UNIT: i64 = 1_000_000;
/// Longest frame, load, start and message of these farms, in milliseconds.
const FRAME_MS: u64 = 3000;
const LOAD_MS: u64 = 1000;
const START_MS: u64 = 500;
const MESSAGE_MS: u64 = 100;

#[derive(Debug, Clone, Copy)]
struct Shape {
    seed: u64,
    workers: u32,
    tasks: u32,
    chunk: u32,
    limit_s: u32,
    at_limit: AtLimit,
    dies: bool,
    price_known: bool,
}

/// Something that is under way.
#[derive(Debug, Clone)]
enum What {
    Starts(WorkerId),
    Claims(WorkerId),
    FrameOver(WorkerId, AttemptId),
    Report(WorkerId, AttemptId, Report),
    Keep(WorkerId, AttemptId, u32),
    Dies(WorkerId),
}

struct World {
    farm: Farm,
    dice: fastrand::Rng,
    now: Timestamp,
    planned: BTreeMap<(i64, u64), What>,
    number: u64,
    orders: VecDeque<AttemptId>,
    /// Tasks that a worker has left, the first of them being rendered.
    work: BTreeMap<WorkerId, (AttemptId, TaskSet, u64)>,
    spent_us: u64,
    shape: Shape,
}

fn function() -> FunctionKey {
    "render@1".parse().expect("a good key")
}

fn id() -> JobId {
    JobId(7u128.into())
}

impl World {
    fn new(shape: Shape, budget: bool) -> World {
        let now = Timestamp(1_700_000_000_000);
        let mut prices = Prices::default();
        let currency = "USD".parse().expect("good");
        if shape.price_known {
            prices.set(PaidFor::Any, 0, Held { price: PriceId(1), micros_an_hour: UNIT * 3600, currency });
        }
        let snapshot = Snapshot {
            functions: vec![(function(), FunctionRules::without_gpu(shape.workers, 1))],
            prices,
            ..Snapshot::default()
        };
        let mut world = World {
            farm: Farm::restore(Settings::default(), now, snapshot),
            dice: fastrand::Rng::with_seed(shape.seed),
            now,
            planned: BTreeMap::new(),
            number: 0,
            orders: VecDeque::new(),
            work: BTreeMap::new(),
            spent_us: 0,
            shape,
        };
        let pools = vec![PoolRules::local(world.shape.workers)];
        world.apply(Event::PoolsSet { pools, unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let limit = Money { micros: i64::from(shape.limit_s) * UNIT, currency };
        let step = NewStep {
            function: function(),
            tasks: shape.tasks,
            gpu_memory_bytes: 0,
            chunking: Chunking::Fixed { size: shape.chunk },
            retries: framewake_proto::job::Retries::default(),
            after: Vec::new(),
        };
        let budget = budget.then_some(Budget { limit, at_limit: shape.at_limit });
        let job = NewJob { project: "film".parse().expect("good"), priority: 50, budget, steps: vec![step] };
        world.apply(Event::JobSubmitted { id: id(), job });
        world
    }

    fn plan(&mut self, ms: u64, what: What) {
        self.number += 1;
        let at = self.now.after(Duration::from_millis(ms)).0;
        self.planned.insert((at, self.number), what);
    }

    fn ms(&mut self, most: u64) -> u64 {
        self.dice.u64(0..=most)
    }

    fn apply(&mut self, event: Event) {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        self.follow(out);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Starts(worker) => {
                let seen = Event::WorkerSeen {
                    request: RequestId(0),
                    worker: worker.clone(),
                    function: function(),
                    holds: None,
                    draining: false,
                    places: Vec::new(),
                    gpu: String::new(),
                    progress: None,
                };
                self.apply(seen);
                self.plan(0, What::Claims(worker));
            }
            What::Claims(worker) => self.claim(worker),
            What::FrameOver(worker, attempt) => self.frame_over(&worker, attempt),
            What::Report(worker, attempt, report) => {
                let over = report.end.is_some();
                self.apply(Event::AttemptReported { worker: worker.clone(), attempt, report });
                if over {
                    self.claim(worker);
                }
            }
            What::Keep(worker, attempt, keep) => {
                let Some((held, tasks, _)) = self.work.get_mut(&worker).filter(|work| work.0 == attempt) else {
                    return;
                };
                let kept = tasks.take_first(keep.max(1));
                let released = std::mem::replace(tasks, kept);
                let report = Report { released, ..Report::default() };
                let held = *held;
                self.apply(Event::AttemptReported { worker, attempt: held, report });
            }
            What::Dies(worker) => {
                self.work.remove(&worker);
                self.apply(Event::WorkerLeft { worker });
            }
        }
    }

    /// Takes an order, or leaves at once: waiting is not what is looked at here.
    fn claim(&mut self, worker: WorkerId) {
        while let Some(attempt) = self.orders.pop_front() {
            let mut out = Applied::default();
            let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt };
            self.farm.apply(self.now, claimed, &mut out);
            let mut granted = None;
            let mut rest = Applied { changes: out.changes, effects: Vec::new() };
            for effect in out.effects {
                if let Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } = effect {
                    granted = Some(tasks);
                } else {
                    rest.effects.push(effect);
                }
            }
            self.follow(rest);
            let Some(tasks) = granted else { continue };
            let load = self.ms(LOAD_MS);
            self.work.insert(worker.clone(), (attempt, tasks, load));
            let frame = self.dice.u64(1..=FRAME_MS);
            if self.shape.dies && self.dice.u32(0..20) == 0 {
                self.plan(load + frame / 2, What::Dies(worker));
            } else {
                self.plan(load + frame, What::FrameOver(worker, attempt));
            }
            return;
        }
        self.apply(Event::WorkerLeft { worker });
    }

    fn follow(&mut self, out: Applied) {
        for change in &out.changes {
            if let Change::Paid { spent, .. } = change {
                self.spent_us += spent.iter().filter(|piece| piece.work.is_some()).map(Spent::time_us).sum::<u64>();
            }
        }
        for effect in out.effects {
            match effect {
                Effect::StartWorker { worker, .. } => {
                    let ms = self.ms(START_MS);
                    self.plan(ms, What::Starts(worker));
                }
                Effect::PublishOrder { attempt, .. } => self.orders.push_back(attempt),
                Effect::PushControl { worker, control } => {
                    if let (Some(attempt), Some(keep)) = (control.attempt, control.keep_tasks) {
                        let ms = self.ms(MESSAGE_MS);
                        self.plan(ms, What::Keep(worker, attempt, keep));
                    }
                }
                _ => {} // Nobody else listens.
            }
        }
    }

    fn frame_over(&mut self, worker: &WorkerId, attempt: AttemptId) {
        let frame = self.dice.u64(1..=FRAME_MS);
        let Some((_, tasks, load)) = self.work.get_mut(worker) else { return };
        let first = tasks.take_first(1);
        let load_ms = (*load > 0).then(|| u32::try_from(std::mem::take(load)).expect("small"));
        let left = !tasks.is_empty();
        // Whatever it says: what is reported is bounded by what was paid.
        let elapsed_ms = self.dice.u32(1..=u32::try_from(FRAME_MS).expect("small"));
        let result = |task| TaskResult {
            task,
            key: String::new(),
            sha256: [0; 32],
            size_bytes: 1,
            width: 1,
            height: 1,
            device: String::new(),
            renderer: String::new(),
            elapsed_ms,
            found: false,
            memory_peak_bytes: 0,
            gpu: GpuUse::default(),
            moments: Moments::default(),
        };
        let done = first.iter().map(result).collect();
        let end = (!left).then_some(AttemptEnd::Finished);
        let report = Report { done, load_ms, end, ..Report::default() };
        let ms = self.ms(MESSAGE_MS);
        self.plan(ms, What::Report(worker.clone(), attempt, report));
        if left {
            self.plan(frame, What::FrameOver(worker.clone(), attempt));
        } else {
            self.work.remove(worker);
        }
    }

    /// Milliseconds paid for the job, once nothing happens any more.
    fn play(mut self) -> u64 {
        for _ in 0..100_000 {
            let Some(((at, _), what)) = self.planned.pop_first() else { break };
            self.now = Timestamp(at);
            self.happen(what);
        }
        assert!(self.planned.is_empty() && self.work.is_empty(), "it comes to rest");
        self.spent_us / 1000
    }
}

/// What may be paid: the limit, and for each worker the way to one frame and that frame.
fn most_ms(shape: Shape) -> u64 {
    let one = START_MS + LOAD_MS + 2 * FRAME_MS + 3 * MESSAGE_MS;
    let frames = if shape.at_limit == AtLimit::Finish { u64::from(shape.chunk) } else { 1 };
    u64::from(shape.limit_s) * 1000 + u64::from(shape.workers) * (one + (frames - 1) * FRAME_MS)
}

fn shape() -> impl Strategy<Value = Shape> {
    let at_limit = prop_oneof![3 => Just(AtLimit::Hold), 1 => Just(AtLimit::Finish)];
    (any::<u64>(), 1..6u32, 1..80u32, 1..12u32, 1..60u32, at_limit, any::<bool>()).prop_map(
        |(seed, workers, tasks, chunk, limit_s, at_limit, dies)| Shape {
            seed,
            workers,
            tasks,
            chunk,
            limit_s,
            at_limit,
            dies,
            price_known: true,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_stops_a_job_in_time(shape in shape()) {
        let paid_ms = World::new(shape, true).play();
        prop_assert!(paid_ms <= most_ms(shape), "{paid_ms} ms of {shape:?}, at most {}", most_ms(shape));
    }
}

#[test]
fn a_job_whose_budget_is_forgotten_is_seen_to_pass_it() {
    let shape = Shape {
        seed: 1,
        workers: 3,
        tasks: 79,
        chunk: 4,
        limit_s: 5,
        at_limit: AtLimit::Hold,
        dies: false,
        price_known: true,
    };
    assert!(World::new(shape, false).play() > most_ms(shape));
    assert!(World::new(shape, true).play() <= most_ms(shape));
}

#[test]
fn a_job_within_its_budget_is_finished() {
    let shape = Shape {
        seed: 1,
        workers: 3,
        tasks: 20,
        chunk: 4,
        limit_s: 500,
        at_limit: AtLimit::Hold,
        dies: false,
        price_known: true,
    };
    let mut world = World::new(shape, true);
    while let Some(((at, _), what)) = world.planned.pop_first() {
        world.now = Timestamp(at);
        world.happen(what);
    }
    assert_eq!(world.farm.job_state(id()), None, "it is over");
}

#[test]
fn without_a_known_price_no_work_is_given_out_until_somebody_says_so() {
    let shape = Shape {
        seed: 1,
        workers: 2,
        tasks: 9,
        chunk: 2,
        limit_s: 5,
        at_limit: AtLimit::Hold,
        dies: false,
        price_known: false,
    };
    let mut world = World::new(shape, true);
    assert!(world.orders.is_empty() && world.planned.is_empty(), "neither orders nor workers");
    let told = world.farm.explain(world.now, id()).expect("it is not over").concat().join("\n");
    assert!(told.contains("budget: what its workers cost is not known"), "{told}");
    let mut out = Applied::default();
    world.farm.apply(world.now, Event::JobResumed { id: id() }, &mut out);
    assert!(out.changes.contains(&Change::BudgetLifted { job: id() }));
    assert!(out.effects.iter().any(|effect| matches!(effect, Effect::PublishOrder { .. })));
}

#[test]
fn a_used_up_budget_is_said_and_lifted_by_a_resume() {
    let shape = Shape {
        seed: 1,
        workers: 2,
        tasks: 79,
        chunk: 2,
        limit_s: 5,
        at_limit: AtLimit::Hold,
        dies: false,
        price_known: true,
    };
    let mut world = World::new(shape, true);
    while let Some(((at, _), what)) = world.planned.pop_first() {
        world.now = Timestamp(at);
        world.happen(what);
    }
    let told = world.farm.explain(world.now, id()).expect("it is not over").concat().join("\n");
    assert!(told.contains("of 5.00 USD is spent, and no frame fits into the rest"), "{told}");
    let mut out = Applied::default();
    world.farm.apply(world.now, Event::JobResumed { id: id() }, &mut out);
    assert!(out.changes.contains(&Change::BudgetLifted { job: id() }));
    assert!(out.effects.iter().any(|effect| matches!(effect, Effect::PublishOrder { .. })));
}
