//! The rules themselves, with a provider that makes pods on the nodes: every decision here is [`Farm::apply`]'s.

use super::nodes::{Next, NodePolicy, Nodes};
use super::trace::Job;
use super::{GPUS_MAX, LOAD_MS, MIDNIGHT, Outcome};
use crate::plant::result;
use crate::shape::key;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, Need, Report, RequestId, WorkerEnd};
use framewake_core::farm::{Applied, Farm};
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, ScalingRules, Settings, Snapshot};
use framewake_proto::ids::{AttemptId, JobId, Name, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::money::Money;
use framewake_proto::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// A GPU costs this much an hour, in millionths of a dollar.
const GPU_MICROS: i64 = 710_000;
/// How often a worker speaks that goes on with what it is at. Rarer than real ones do, which changes nothing here but how long
/// this takes.
const BEAT_MS: i64 = 20_000;
const LEASE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Submit(usize),
    Up(usize),
    /// What the worker is at is over, if it is still at that.
    Done(usize, u32),
    /// It has waited for work as long as it should.
    Leave(usize, u32),
    Beat(usize),
    Ready(usize),
    Look(usize),
}

struct Worker {
    id: WorkerId,
    /// Number of what it is at.
    tick: u32,
    state: State,
    linger_ms: i64,
    /// As it is told with each heartbeat.
    stays: bool,
    loaded: Option<JobId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Idle,
    Busy { attempt: AttemptId, job: usize, task: u32, loaded: bool },
    Gone,
}

struct World<'a> {
    jobs: &'a [Job],
    farm: Farm,
    now: i64,
    nodes: Nodes,
    planned: BinaryHeap<Reverse<(i64, u64, What)>>,
    number: u64,
    orders: VecDeque<AttemptId>,
    workers: Vec<Worker>,
    idle: BTreeSet<usize>,
    left: Vec<u32>,
    first: Vec<Option<i64>>,
    outcome: Outcome,
}

pub(super) fn play(jobs: &[Job], policy: NodePolicy, waiting: Option<u32>) -> Outcome {
    let usd = "USD".parse().expect("a currency");
    let mut prices = Prices::default();
    prices.set(PaidFor::Any, 0, Held { price: PriceId(1), micros_an_hour: GPU_MICROS, currency: usd });
    let waiting = waiting.map(|cents| Money { micros: i64::from(cents) * 10_000, currency: usd });
    let scaling = ScalingRules { waiting, ..ScalingRules::default() };
    let rules = FunctionRules { scaling, ..FunctionRules::without_gpu(GPUS_MAX, 1) };
    let snapshot = Snapshot { functions: vec![(key("render"), rules)], prices, ..Snapshot::default() };
    let settings = Settings { lease: LEASE, ..Settings::default() };
    let mut world = World {
        jobs,
        farm: Farm::restore(settings, MIDNIGHT, snapshot),
        now: 0,
        nodes: Nodes::new(policy),
        planned: BinaryHeap::new(),
        number: 0,
        orders: VecDeque::new(),
        workers: Vec::new(),
        idle: BTreeSet::new(),
        left: jobs.iter().map(|job| job.tasks).collect(),
        first: vec![None; jobs.len()],
        outcome: Outcome::default(),
    };
    let pool = PoolRules { start_within: Duration::from_mins(15), here: false, ..PoolRules::local(GPUS_MAX) };
    let name = pool.name.clone();
    world.apply(Event::PoolsSet { pools: vec![pool], unfit: BTreeMap::new() });
    world.apply(Event::PoolReached { pool: name });
    world.apply(Event::ReportsDrained);
    world.expect_night();
    for (at, job) in jobs.iter().enumerate() {
        world.plan(job.at_ms, What::Submit(at));
    }
    world.run();
    world.outcome.add_nodes(&world.nodes);
    world.outcome
}

impl World<'_> {
    fn plan(&mut self, at: i64, what: What) {
        self.number += 1;
        self.planned.push(Reverse((at, self.number, what)));
    }

    fn run(&mut self) {
        loop {
            let planned = self.planned.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.farm.next_deadline().map(|at| at.0 - MIDNIGHT.0);
            match (planned, deadline) {
                (Some(planned), Some(deadline)) if deadline < planned => {
                    self.now = self.now.max(deadline);
                    self.apply(Event::TimePassed);
                }
                (Some(_), _) => {
                    let Some(Reverse((at, _, what))) = self.planned.pop() else { return };
                    self.now = at;
                    self.happen(what);
                }
                // What the rules still look at then is nobody's.
                (None, _) => return,
            }
            self.give_out();
        }
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Applied::default();
        self.farm.apply(Timestamp(MIDNIGHT.0 + self.now), event, &mut out);
        for effect in &out.effects {
            match effect {
                Effect::PublishOrder { attempt, .. } => self.orders.push_back(*attempt),
                Effect::StartWorker { worker, linger, .. } => self.start(worker.clone(), *linger),
                // Nothing here has to be stopped, made room or answered.
                _ => {}
            }
        }
        out.effects
    }

    fn follow(&mut self, next: Option<Next>) {
        match next {
            Some(Next::Up { pod, at }) => self.plan(at, What::Up(pod)),
            Some(Next::Ready { node, at }) => self.plan(at, What::Ready(node)),
            Some(Next::Look { node, at }) => self.plan(at, What::Look(node)),
            None => {}
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Submit(at) => self.submit(at),
            What::Up(at) => {
                self.be_idle(at);
                self.plan(self.now + BEAT_MS, What::Beat(at));
            }
            What::Beat(at) if self.workers[at].state != State::Gone => {
                self.beat(at);
                self.plan(self.now + BEAT_MS, What::Beat(at));
            }
            What::Done(at, tick) if self.workers[at].tick == tick => self.done(at),
            What::Leave(at, tick) if self.workers[at].tick == tick => self.leave(at),
            What::Beat(_) | What::Done(..) | What::Leave(..) => {}
            What::Ready(node) => {
                let next = self.nodes.ready(self.now, node);
                self.follow(Some(next));
            }
            What::Look(node) => {
                let next = self.nodes.look(self.now, node);
                self.follow(next);
            }
        }
    }

    fn submit(&mut self, at: usize) {
        let job = self.jobs[at];
        let step = NewStep {
            function: key("render"),
            tasks: job.tasks,
            chunking: Chunking::Fixed { size: 1 },
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let project = "film".parse().expect("a good name");
        let new = NewJob { project, budget: None, deadline: None, priority: 50, steps: vec![step] };
        self.apply(Event::JobSubmitted { id: JobId((at as u128 + 1).into()), job: new });
        if job.nightly {
            self.expect_night();
        }
    }

    /// As the engine does it: with each run the next one is known.
    fn expect_night(&mut self) {
        let schedule: Name = "nightly".parse().expect("a good name");
        let next = self.jobs.iter().find(|job| job.nightly && job.at_ms > self.now);
        let due = next.map(|job| Timestamp(MIDNIGHT.0 + job.at_ms));
        let before = self.jobs.iter().find(|job| job.nightly && job.at_ms <= self.now);
        let task_s = before.map(|job| f64::from(job.task_ms) / 1000.0);
        let need = |job: &Job| Need { function: key("render"), tasks: job.tasks.into(), task_s };
        let needs = next.map(need).into_iter().collect();
        self.apply(Event::RunExpected { schedule, due, needs });
    }

    fn start(&mut self, id: WorkerId, linger: Duration) {
        let linger_ms = i64::try_from(linger.as_millis()).unwrap_or(i64::MAX);
        let at = self.workers.len();
        self.workers.push(Worker { id, tick: 0, state: State::Starting, linger_ms, stays: false, loaded: None });
        let next = self.nodes.take(self.now, at);
        self.follow(next);
    }

    fn be_idle(&mut self, at: usize) {
        let now = self.now;
        let worker = &mut self.workers[at];
        worker.tick += 1;
        (worker.state, worker.stays) = (State::Idle, false);
        let (tick, leave) = (worker.tick, now + worker.linger_ms);
        self.idle.insert(at);
        self.plan(leave, What::Leave(at, tick));
        // A change is told at once.
        self.beat(at);
    }

    fn beat(&mut self, at: usize) {
        let worker = &self.workers[at];
        let holds = match worker.state {
            State::Busy { attempt, .. } => Some(attempt),
            State::Idle => None,
            State::Starting | State::Gone => return,
        };
        let (worker, function, request) = (worker.id.clone(), key("render"), RequestId(at as u64));
        let (places, gpu, progress) = (Vec::new(), String::new(), None);
        let seen = Event::WorkerSeen { request, worker, function, holds, draining: false, places, gpu, progress };
        for effect in self.apply(seen) {
            if let Effect::AnswerHeartbeat { control, .. } = effect {
                self.workers[at].stays = control.stay;
            }
        }
    }

    fn leave(&mut self, at: usize) {
        if self.workers[at].stays {
            // It waits anew.
            let (tick, again) = (self.workers[at].tick, self.now + self.workers[at].linger_ms);
            self.plan(again, What::Leave(at, tick));
            return;
        }
        self.workers[at].state = State::Gone;
        self.idle.remove(&at);
        let worker = self.workers[at].id.clone();
        self.apply(Event::WorkerLeft { worker: worker.clone() });
        self.apply(Event::WorkerExited { worker, end: WorkerEnd::Left });
        let next = self.nodes.leave(self.now, at);
        self.follow(next);
    }

    /// Idle workers claim what is on offer.
    fn give_out(&mut self) {
        while !self.orders.is_empty()
            && let Some(at) = self.idle.first().copied()
        {
            let Some(attempt) = self.orders.pop_front() else { return };
            let (worker, request) = (self.workers[at].id.clone(), RequestId(at as u64));
            for effect in self.apply(Event::AttemptClaimed { request, worker, attempt }) {
                if let Effect::AnswerClaim { answer: ClaimAnswer::Granted { job, tasks, .. }, .. } = effect {
                    self.begin(at, attempt, job, tasks.first().unwrap_or_default());
                }
            }
        }
    }

    fn begin(&mut self, at: usize, attempt: AttemptId, id: JobId, task: u32) {
        let job = crate::world::job_at(id);
        let worker = &mut self.workers[at];
        let loaded = worker.loaded.replace(id) == Some(id);
        worker.tick += 1;
        worker.state = State::Busy { attempt, job, task, loaded };
        let tick = worker.tick;
        self.idle.remove(&at);
        let waited = self.now + if loaded { 0 } else { LOAD_MS } - self.jobs[job].at_ms;
        self.outcome.waits_ms.push(waited);
        self.first[job].get_or_insert(waited);
        self.plan(self.now + self.jobs[job].takes_ms(loaded), What::Done(at, tick));
    }

    fn done(&mut self, at: usize) {
        let State::Busy { attempt, job, task, loaded } = self.workers[at].state else { return };
        let mut done = result(task);
        done.elapsed_ms = self.jobs[job].task_ms;
        let load_ms = (!loaded).then(|| u32::try_from(LOAD_MS).unwrap_or(u32::MAX));
        let report = Report { done: vec![done], load_ms, end: Some(AttemptEnd::Finished), ..Report::default() };
        self.outcome.paid.useful_ms += i64::from(self.jobs[job].task_ms);
        self.outcome.paid.load_ms += if loaded { 0 } else { LOAD_MS };
        self.left[job] -= 1;
        if self.left[job] == 0 {
            let done = self.now - self.jobs[job].at_ms;
            self.outcome.done_ms.push(done);
            if self.jobs[job].nightly {
                self.outcome.nights.push((self.first[job].unwrap_or_default(), done));
            }
        }
        let worker = self.workers[at].id.clone();
        self.apply(Event::AttemptReported { worker, attempt, report });
        self.be_idle(at);
    }
}
