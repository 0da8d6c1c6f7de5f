//! A job or project with a budget stops in time, whatever the order of events: beyond the limit goes no more than the frame
//! that each worker is on. A new month brings new money.

use framewake_core::change::{Change, JobState, Payer};
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, GpuUse, Moments, Report, RequestId, TaskResult, WorkerEnd};
use framewake_core::farm::{Applied, Farm, Listener};
use framewake_core::ledger::Spent;
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_core::values::{
    FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot, StoredBudget, StoredJob, StoredStep,
};
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::job::{AtLimit, Budget, Chunking};
use framewake_proto::money::Money;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::{Day, Month, Timestamp};
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
    whose: Whose,
    /// Jobs of one project that come at the start; each has the tasks.
    jobs: u32,
    /// Seconds until the next month begins, if it is soon.
    month_ends_s: Option<u32>,
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Jobs,
    Project(Period),
    Nobodys,
}

impl Shape {
    /// A farm of three that works in chunks of four.
    fn of(tasks: u32, limit_s: u32) -> Shape {
        Shape {
            seed: 1,
            workers: 3,
            tasks,
            chunk: 4,
            limit_s,
            at_limit: AtLimit::Hold,
            dies: false,
            price_known: true,
            whose: Whose::Jobs,
            jobs: 1,
            month_ends_s: None,
        }
    }
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
    /// By month.
    spent_us: BTreeMap<Month, u64>,
    told: Vec<(Payer, Standing)>,
    shape: Shape,
}

fn project() -> Name {
    "film".parse().expect("a good name")
}

fn function() -> FunctionKey {
    "render@1".parse().expect("a good key")
}

fn id() -> JobId {
    job_id(0)
}

fn job_id(at: u32) -> JobId {
    JobId((7 + u128::from(at)).into())
}

/// When December 2023 begins.
const DECEMBER_MS: i64 = 1_701_388_800_000;

impl World {
    fn new(shape: Shape) -> World {
        let left_ms = shape.month_ends_s.map_or(1_388_800_000, |left_s| i64::from(left_s) * 1000);
        let now = Timestamp(DECEMBER_MS - left_ms);
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
            spent_us: BTreeMap::new(),
            told: Vec::new(),
            shape,
        };
        let pools = vec![PoolRules::local(world.shape.workers)];
        world.apply(Event::PoolsSet { pools, unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let limit = Money { micros: i64::from(shape.limit_s) * UNIT, currency };
        if let Whose::Project(period) = shape.whose {
            world.budget_project(period, limit);
        }
        let budget = (shape.whose == Whose::Jobs).then_some(Budget { limit, at_limit: shape.at_limit });
        for at in 0..shape.jobs {
            let step = NewStep {
                function: function(),
                tasks: shape.tasks,
                gpu_memory_bytes: 0,
                frame_limit: None,
                vram: framewake_core::gpus::Vram::default(),
                chunking: Chunking::Fixed { size: shape.chunk },
                retries: framewake_proto::job::Retries::default(),
                after: Vec::new(),
            };
            let job = NewJob { project: project(), priority: 50, budget, deadline: None, steps: vec![step] };
            world.apply(Event::JobSubmitted { id: job_id(at), job });
        }
        world
    }

    fn budget_project(&mut self, period: Period, limit: Money) {
        let budget = Some(ProjectBudget { limit, warn_percent: 80, at_limit: self.shape.at_limit });
        let month = Month::of(Day::of(self.now));
        let of = |(spent_in, us): (&Month, &u64)| (period == Period::Total || *spent_in == month).then_some(*us);
        let spent = self.spent_us.iter().filter_map(of).sum();
        let held = Held { price: PriceId(1), micros_an_hour: UNIT * 3600, currency: limit.currency };
        self.apply(Event::ProjectBudgeted { project: project(), period, budget, spent: vec![(held, spent)] });
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
                self.leave(worker);
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
        self.leave(worker);
    }

    /// It says goodbye, and its process is seen to end.
    fn leave(&mut self, worker: WorkerId) {
        self.apply(Event::WorkerLeft { worker: worker.clone() });
        self.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
    }

    fn follow(&mut self, out: Applied) {
        for change in &out.changes {
            if let Change::BudgetTold { payer, standing, .. } = change {
                self.told.push((payer.clone(), *standing));
            }
            if let Change::Paid { spent, .. } = change {
                for piece in spent.iter().filter(|piece| piece.work.is_some()) {
                    *self.spent_us.entry(Month::of(Day(piece.day()))).or_default() += Spent::time_us(piece);
                }
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

    /// Until nothing happens any more.
    fn rest(&mut self) {
        for _ in 0..100_000 {
            let Some(((at, _), what)) = self.planned.pop_first() else { break };
            self.turn_month(Timestamp(at));
            self.now = Timestamp(at);
            self.happen(what);
        }
        assert!(self.planned.is_empty() && self.work.is_empty(), "it comes to rest");
    }

    /// The farm is told when its deadlines are, and the month's end is one.
    fn turn_month(&mut self, until: Timestamp) {
        let end = Timestamp(DECEMBER_MS);
        if self.now < end && until >= end {
            self.now = end;
            self.apply(Event::TimePassed);
        }
    }

    /// Milliseconds paid in each month, once it is at rest; and at rest again after the month's end, if that is soon.
    fn play(mut self) -> Vec<u64> {
        self.rest();
        if self.shape.month_ends_s.is_some() {
            self.turn_month(Timestamp(DECEMBER_MS));
            self.rest();
        }
        self.spent_us.values().map(|us| us / 1000).collect()
    }

    fn explained(&self) -> String {
        self.farm.explain(self.now, id(), &Listener::default()).expect("it is not over").concat().join("\n")
    }
}

/// What may be paid: the limit, and for each worker the way to one frame and that frame.
fn most_ms(shape: Shape) -> u64 {
    let one = START_MS + LOAD_MS + 2 * FRAME_MS + 3 * MESSAGE_MS;
    let frames = if shape.at_limit == AtLimit::Finish { u64::from(shape.chunk) } else { 1 };
    let budgets = if shape.whose == Whose::Jobs { u64::from(shape.jobs) } else { 1 };
    budgets * u64::from(shape.limit_s) * 1000 + u64::from(shape.workers) * (one + (frames - 1) * FRAME_MS)
}

fn shape() -> impl Strategy<Value = Shape> {
    let at_limit = prop_oneof![3 => Just(AtLimit::Hold), 1 => Just(AtLimit::Finish)];
    (any::<u64>(), 1..6u32, 1..80u32, 1..12u32, 1..60u32, at_limit, any::<bool>()).prop_map(
        |(seed, workers, tasks, chunk, limit_s, at_limit, dies)| Shape {
            seed,
            workers,
            chunk,
            at_limit,
            dies,
            ..Shape::of(tasks, limit_s)
        },
    )
}

fn shape_of_a_project() -> impl Strategy<Value = Shape> {
    let period = prop_oneof![3 => Just(Period::Month), 1 => Just(Period::Total)];
    let month_ends_s = prop_oneof![1 => Just(None), 2 => (1..60u32).prop_map(Some)];
    (shape(), period, 1..5u32, month_ends_s).prop_map(|(shape, period, jobs, month_ends_s)| Shape {
        whose: Whose::Project(period),
        jobs,
        month_ends_s,
        ..shape
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_stops_a_job_in_time(shape in shape()) {
        let paid_ms: u64 = World::new(shape).play().into_iter().sum();
        prop_assert!(paid_ms <= most_ms(shape), "{paid_ms} ms of {shape:?}, at most {}", most_ms(shape));
    }

    #[test]
    fn a_budget_stops_a_project_in_time_in_every_month(shape in shape_of_a_project()) {
        let paid_ms = World::new(shape).play();
        let most_ms = most_ms(shape);
        match shape.whose {
            Whose::Project(Period::Month) => {
                prop_assert!(paid_ms.iter().all(|paid_ms| *paid_ms <= most_ms), "{paid_ms:?} ms of {shape:?}, at most {most_ms}");
            }
            _ => prop_assert!(paid_ms.iter().sum::<u64>() <= most_ms, "{paid_ms:?} ms of {shape:?}, at most {most_ms}"),
        }
    }
}

#[test]
fn a_month_that_is_used_up_by_its_first_report_is_stopped_like_the_one_before() {
    let month = Shape { whose: Whose::Project(Period::Month), month_ends_s: Some(3), ..Shape::of(6, 2) };
    let shape = Shape { seed: 10_277_865_199_145_610_381, workers: 1, chunk: 5, dies: true, ..month };
    let paid_ms = World::new(shape).play();
    assert_eq!(paid_ms.len(), 2, "the first month had its stop");
    assert!(paid_ms.iter().all(|paid_ms| *paid_ms <= most_ms(shape)), "{paid_ms:?} ms, at most {}", most_ms(shape));
}

#[test]
fn a_budget_that_is_forgotten_is_seen_to_be_passed() {
    for whose in [Whose::Jobs, Whose::Project(Period::Month)] {
        let shape = Shape { whose, ..Shape::of(79, 5) };
        let paid = |shape: Shape| World::new(shape).play().into_iter().sum::<u64>();
        assert!(paid(Shape { whose: Whose::Nobodys, ..shape }) > most_ms(shape));
        assert!(paid(shape) <= most_ms(shape));
    }
}

#[test]
fn work_within_its_budget_is_finished() {
    for whose in [Whose::Jobs, Whose::Project(Period::Month), Whose::Project(Period::Total)] {
        let mut world = World::new(Shape { whose, jobs: 2, ..Shape::of(20, 500) });
        world.rest();
        assert_eq!(world.farm.jobs(), 0, "all are over");
    }
}

#[test]
fn without_a_known_price_no_work_is_given_out_until_somebody_says_so() {
    let mut world = World::new(Shape { price_known: false, ..Shape::of(9, 5) });
    assert!(world.orders.is_empty() && world.planned.is_empty(), "neither orders nor workers");
    let told = world.explained();
    assert!(told.contains("budget: what its workers cost is not known"), "{told}");
    let mut out = Applied::default();
    world.farm.apply(world.now, Event::JobResumed { id: id() }, &mut out);
    assert!(out.changes.contains(&Change::JobBudget { job: id(), budget: None }));
    assert!(out.effects.iter().any(|effect| matches!(effect, Effect::PublishOrder { .. })));
}

#[test]
fn a_project_with_a_budget_gets_no_work_of_unknown_price() {
    let whose = Whose::Project(Period::Month);
    let world = World::new(Shape { price_known: false, whose, ..Shape::of(9, 5) });
    assert!(world.orders.is_empty() && world.planned.is_empty(), "neither orders nor workers");
    let told = world.explained();
    assert!(told.contains("budget of project film: what workers of this job cost is not known"), "{told}");
}

#[test]
fn a_used_up_budget_is_said_and_lifted_by_a_resume() {
    let mut world = World::new(Shape::of(79, 5));
    world.rest();
    let told = world.explained();
    assert!(told.contains("of 5.00 USD is spent, and no frame fits into the rest"), "{told}");
    assert_eq!(told.lines().count(), 1, "nothing else holds it: {told}");
    let mut out = Applied::default();
    world.farm.apply(world.now, Event::JobResumed { id: id() }, &mut out);
    assert!(out.changes.contains(&Change::JobBudget { job: id(), budget: None }));
    assert!(out.effects.iter().any(|effect| matches!(effect, Effect::PublishOrder { .. })));
}

#[test]
fn a_job_that_its_budget_held_goes_on_with_a_larger_one() {
    let mut world = World::new(Shape::of(79, 5));
    world.rest();
    assert_eq!(world.farm.job_state(id()), Some(JobState::Paused));
    let currency = "USD".parse().expect("good");
    let held = Held { price: PriceId(1), micros_an_hour: UNIT * 3600, currency };
    let spent = vec![(held, world.spent_us.values().sum())];
    let budget = |units: i64| Some(Budget { limit: Money { micros: units * UNIT, currency }, at_limit: AtLimit::Hold });
    world.apply(Event::JobBudgeted { id: id(), budget: budget(6), spent: spent.clone() });
    assert_eq!(world.farm.job_state(id()), Some(JobState::Paused), "less than what is spent");
    world.apply(Event::JobBudgeted { id: id(), budget: budget(9000), spent });
    world.rest();
    assert_eq!(world.farm.jobs(), 0, "it is over");
}

#[test]
fn a_held_project_demands_nothing_and_goes_on_with_more_money_or_the_next_month() {
    let whose = Whose::Project(Period::Month);
    for waits in [false, true] {
        let mut world = World::new(Shape { whose, jobs: 2, month_ends_s: Some(100_000), ..Shape::of(79, 5) });
        world.rest();
        let told = world.explained();
        assert!(
            told.contains("held by the budget of project film: ") && told.contains(" of 5.00 USD is spent this month"),
            "{told}"
        );
        assert!(!told.contains("capacity"), "nothing else holds it: {told}");
        let status = world.farm.budgets().next().expect("one").clone();
        assert!(
            status.held && status.standing == Standing::UsedUp && status.month.to_string() == "2023-11",
            "{status:?}"
        );
        let load = world.farm.loads(world.now).next().expect("a function").wanted;
        assert_eq!(load, 0, "no workers are wanted");
        // What comes meanwhile waits too.
        let before = world.planned.len();
        world.apply(Event::TimePassed);
        assert_eq!(world.planned.len(), before);
        if waits {
            world.turn_month(Timestamp(DECEMBER_MS));
            assert!(!world.farm.budgets().any(|status| status.held), "a new month");
        } else {
            let limit = Money { micros: 9000 * UNIT, currency: "USD".parse().expect("good") };
            world.budget_project(Period::Month, limit);
        }
        let begun = world.spent_us.values().sum::<u64>();
        world.rest();
        assert!(world.spent_us.values().sum::<u64>() > begun, "it goes on");
        assert_eq!(world.farm.jobs() == 0, !waits, "five more are not enough for all");
    }
}

#[test]
fn a_held_project_is_held_after_a_restart_and_others_are_served() {
    let whose = Whose::Project(Period::Total);
    let mut world = World::new(Shape { whose, ..Shape::of(79, 5) });
    world.rest();
    let currency = "USD".parse().expect("good");
    let held = Held { price: PriceId(1), micros_an_hour: UNIT * 3600, currency };
    let mut prices = Prices::default();
    prices.set(PaidFor::Any, 0, held);
    let step = NewStep {
        function: function(),
        tasks: 9,
        gpu_memory_bytes: 0,
        frame_limit: None,
        vram: framewake_core::gpus::Vram::default(),
        chunking: Chunking::Fixed { size: 1 },
        retries: framewake_proto::job::Retries::default(),
        after: Vec::new(),
    };
    let job = NewJob { project: project(), priority: 50, budget: None, deadline: None, steps: vec![step] };
    let limit = Money { micros: 5 * UNIT, currency };
    let budget = ProjectBudget { limit, warn_percent: 80, at_limit: AtLimit::Hold };
    let spent = vec![(held, world.spent_us.values().sum())];
    let (period, told) = (Period::Total, Standing::UsedUp);
    let stored = StoredBudget { project: project(), period, budget, spent, told };
    let snapshot = Snapshot {
        functions: vec![(function(), FunctionRules::without_gpu(3, 1))],
        prices,
        budgets: vec![stored],
        jobs: vec![StoredJob {
            id: id(),
            job: job.clone(),
            paused: false,
            restored: false,
            spent: Vec::new(),
            steps: vec![StoredStep::default()],
        }],
        ..Snapshot::default()
    };
    let mut farm = Farm::restore(Settings::default(), world.now, snapshot);
    let mut out = Applied::default();
    let pools = vec![PoolRules::local(3)];
    farm.apply(world.now, Event::PoolsSet { pools, unfit: BTreeMap::new() }, &mut out);
    farm.apply(world.now, Event::ReportsDrained, &mut out);
    assert!(out.effects.is_empty(), "neither orders nor workers: {:?}", out.effects);
    assert!(!out.changes.iter().any(|change| matches!(change, Change::BudgetTold { .. })), "people know");
    let other = NewJob { project: "other".parse().expect("good"), ..job };
    farm.apply(world.now, Event::JobSubmitted { id: job_id(5), job: other }, &mut out);
    let served = out.effects.iter().filter_map(|effect| match effect {
        Effect::PublishOrder { job, .. } => Some(*job),
        _ => None,
    });
    assert!(served.clone().count() > 0 && served.clone().all(|job| job == job_id(5)), "{:?}", out.effects);
}

#[test]
fn people_are_told_once_of_each_standing_and_once_a_month() {
    let whose = Whose::Project(Period::Month);
    let mut world = World::new(Shape { whose, jobs: 2, month_ends_s: Some(100_000), ..Shape::of(79, 30) });
    world.rest();
    world.turn_month(Timestamp(DECEMBER_MS));
    world.rest();
    let told: Vec<(String, Standing)> = world
        .told
        .iter()
        .filter_map(|(payer, standing)| match payer {
            Payer::Project { month, .. } => Some((month.to_string(), *standing)),
            Payer::Job(_) => None,
        })
        .collect();
    let month = |month: &str| [(month.to_owned(), Standing::Warned), (month.to_owned(), Standing::UsedUp)];
    assert_eq!(told, [month("2023-11"), month("2023-12")].concat());
}
