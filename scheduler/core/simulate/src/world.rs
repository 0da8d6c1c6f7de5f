//! The world around the rules, on a fake clock: what happens next, and when.

mod faults;
mod provider;
mod queue;
mod scheduler;
mod worker;

use crate::auditor::Auditor;
use crate::chance::{Chance, pause_ms};
use crate::fault::Fault;
use crate::invariant::{About, Broken, Invariant};
use crate::objects::Objects;
use crate::plant::Plant;
use crate::run::Tally;
use crate::shape::{NEVER_MS, Shape};
use crate::trace::Trace;
use framewake_core::effect::{ClaimAnswer, Control};
use framewake_core::event::WorkerEnd;
use framewake_proto::ids::{AttemptId, JobId, WorkerId};
use provider::Gpus;
use queue::{Mail, Queue};
use scheduler::{Inbound, Scheduler};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use worker::Worker;

/// Formats only if somebody reads it: a run has millions of lines, and a failing one is played again.
macro_rules! say {
    ($world:expr, $about:expr, $($text:tt)*) => {
        if $world.trace.is_some() {
            let (about, text) = ($about, format!($($text)*));
            if let Some(trace) = &mut $world.trace {
                trace.say($world.now, about, text);
            }
        }
    };
}
pub(crate) use say;

/// A small world that takes more events than this goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;
/// Workers must be gone so long after the last job, at the latest: they linger for less than a minute, and one that
/// the provider started late first has to come up.
const GONE_WITHIN_MS: i64 = 600_000;

/// What happens at a time.
#[derive(Debug)]
enum What {
    Submit(usize),
    /// A request of a worker, or a word of the provider, reaches the scheduler.
    Hear(Inbound),
    /// An answer or a push reaches a worker.
    Answer(u32, u32, Box<Answer>),
    OrderArrives {
        function: usize,
        attempt: AttemptId,
    },
    ReportArrives(Box<Mail>),
    OrdersLostTold,
    /// The scheduler's commit is through; its number, for one of a former life means nothing.
    Committed(u64),
    Restart,
    /// The place of the pool with this number is asked who is there.
    Observed(usize),
    HeldUpTold,
    Reconnect,
    /// What a worker is at is over; its number, for only the newest counts.
    WorkerDue(u32, u32),
    Beat(u32),
    Kill(u32),
    StopAsked(u32),
    Fault(Fault),
    Calm,
}

#[derive(Debug)]
enum Answer {
    Claim(ClaimAnswer),
    Control(Control),
}

#[derive(Debug)]
struct Planned {
    at: i64,
    number: u64,
    what: What,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub(crate) struct World {
    now: i64,
    planned: BinaryHeap<Reverse<Planned>>,
    planned_next: u64,
    chance: Chance,
    shape: Shape,
    plant: Option<Plant>,
    scheduler: Scheduler,
    queue: Queue,
    objects: Objects,
    workers: Vec<Worker>,
    gpus: Gpus,
    by_id: HashMap<WorkerId, u32>,
    /// Workers that live, in no order.
    alive: Vec<u32>,
    submitted: usize,
    calm: bool,
    over_at: Option<i64>,
    auditor: Auditor,
    pub(crate) tally: Tally,
    pub(crate) trace: Option<Trace>,
}

impl World {
    pub(crate) fn new(shape: Shape, chance: Chance, plant: Option<Plant>, trace: Option<Trace>) -> World {
        let scheduler = Scheduler::new(&shape);
        let auditor = Auditor::new(&shape.functions, &shape.pools);
        let mut world = World {
            now: 0,
            planned: BinaryHeap::new(),
            planned_next: 0,
            chance,
            plant,
            scheduler,
            queue: Queue::new(shape.functions.len()),
            objects: Objects::default(),
            workers: Vec::new(),
            gpus: Gpus::default(),
            by_id: HashMap::new(),
            alive: Vec::new(),
            submitted: 0,
            calm: false,
            over_at: None,
            auditor,
            tally: Tally::default(),
            trace,
            shape,
        };
        world.plan_in(0, What::Hear(Inbound::Pools));
        for pool in 0..world.shape.pools.len() {
            world.plan_in(1, What::Observed(pool));
        }
        world.plan_in(0, What::Hear(Inbound::ReportsDrained));
        for at in 0..world.shape.jobs.len() {
            world.plan_at(world.shape.jobs[at].at_ms, What::Submit(at));
        }
        world.plan_at(world.shape.calm_ms, What::Calm);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_timed()) {
            world.plan_fault(fault);
        }
        world
    }

    /// Lets everything happen until all is over, or something breaks.
    pub(crate) fn play(&mut self, mut watch: impl FnMut(&World)) -> Result<(), Broken> {
        while let Some(deadline) = self.next_time() {
            self.tally.events += 1;
            if deadline.of_rules {
                self.now = deadline.at.max(self.now);
                self.hear(Inbound::TimePassed);
            } else if let Some(Reverse(next)) = self.planned.pop() {
                self.now = next.at;
                self.happen(next.what);
            }
            self.check_end();
            if let Some(broken) = self.auditor.take_broken() {
                return Err(broken);
            }
            if self.is_over() {
                break;
            }
            watch(self);
        }
        self.tally.checks = self.auditor.checks;
        let (shape, jobs) = (&self.shape, self.submitted);
        // An announcement can be lost with a crash; it is for people's eyes, and the state is durable.
        let announced_all = self.tally.crashes == 0;
        self.auditor.check_end(|job, step| poison(shape, jobs, job, step), announced_all);
        self.auditor.take_broken().map_or(Ok(()), Err)
    }

    fn next_time(&self) -> Option<Next> {
        let planned = self.planned.peek().map(|Reverse(next)| next.at);
        match (planned, self.scheduler.deadline()) {
            (Some(planned), Some(rules)) if rules < planned => Some(Next { at: rules, of_rules: true }),
            (Some(planned), _) => Some(Next { at: planned, of_rules: false }),
            (None, Some(rules)) => Some(Next { at: rules, of_rules: true }),
            (None, None) => None,
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Submit(job) => self.submit(job),
            What::Hear(inbound) => self.hear(inbound),
            What::Answer(worker, tick, answer) => self.answered(worker, tick, *answer),
            What::OrderArrives { function, attempt } => self.order_arrives(function, attempt),
            What::ReportArrives(mail) => self.report_arrives(*mail),
            What::OrdersLostTold => self.tell_orders_lost(),
            What::Committed(number) => self.committed(number),
            What::Restart => self.restart(),
            What::Observed(pool) => self.observe(pool),
            // It may be over before it is seen.
            What::HeldUpTold if self.scheduler.is_connected() => {}
            What::HeldUpTold => self.hear(Inbound::HeldUp),
            What::Reconnect => self.reconnect(),
            What::WorkerDue(worker, tick) => self.worker_due(worker, tick),
            What::Beat(worker) => self.beat(worker),
            What::Kill(worker) => self.kill(worker, "the machine was taken away"),
            What::StopAsked(worker) => {
                say!(self, About::worker(&self.workers[worker as usize].id), "the provider stops the worker");
                self.end(worker, WorkerEnd::Failed { reason: "it was stopped".to_owned() });
            }
            What::Fault(fault) => {
                self.strike(fault);
                self.plan_fault(fault);
            }
            What::Calm => self.calm_down(),
        }
    }

    fn plan_at(&mut self, at: i64, what: What) {
        self.planned_next += 1;
        self.planned.push(Reverse(Planned { at, number: self.planned_next, what }));
    }

    fn plan_in(&mut self, ms: i64, what: What) {
        self.plan_at(self.now + ms, what);
    }

    fn plan_fault(&mut self, fault: Fault) {
        let rate = self.shape.rate(fault);
        if rate > 0.0 {
            let at = self.now + pause_ms(self.chance.of(fault), rate);
            if at < self.shape.calm_ms {
                self.plan_at(at, What::Fault(fault));
            }
        }
    }

    /// Whether this goes wrong, this time.
    fn strikes(&mut self, fault: Fault) -> bool {
        let rate = self.shape.rate(fault);
        let strikes = rate > 0.0 && !self.calm && self.chance.of(fault).f64() < rate;
        if strikes {
            self.tally.count(fault);
        }
        strikes
    }

    /// How long a message is under way.
    fn latency(&mut self) -> i64 {
        match self.shape.latency_ms {
            0 => 0,
            most => self.chance.world().i64(0..=most),
        }
    }

    fn submit(&mut self, at: usize) {
        self.submitted = self.submitted.max(at + 1);
        self.hear(Inbound::Submit(at));
    }

    fn check_end(&mut self) {
        if self.scheduler.open_jobs > 0 || !self.all_submitted() {
            self.over_at = None;
            if self.calm && self.now > self.shape.calm_ms + self.shape.patience_ms {
                self.complain();
            }
        } else if self.over_at.is_none() {
            self.over_at = Some(self.now);
        } else if let Some(over_at) = self.over_at
            && self.calm
            && self.now > over_at.max(self.shape.calm_ms) + self.shape.linger_ms + GONE_WITHIN_MS
            && let Some(worker) = self.alive.first()
        {
            let worker = &self.workers[*worker as usize];
            let text = format!("{} still lives {} s after the last job", worker.id, (self.now - over_at) / 1000);
            let about = About::worker(&worker.id);
            self.auditor.fail(Invariant::NoDemandNoWorkers, about, text);
        }
        if self.shape.commit_ms + self.shape.latency_ms > 0 && self.tally.events > EVENTS_MAX {
            let text = format!("{EVENTS_MAX} events and no end: the farm goes round in circles");
            self.auditor.fail(Invariant::WorkEnds, About::default(), text);
        }
    }

    /// The time is up and there is work.
    fn complain(&mut self) {
        let open: Vec<_> = self.auditor.open_jobs().map(|(id, _)| id).collect();
        let about = open.first().copied().map_or(About::default(), About::job);
        let why = open.first().and_then(|id| self.scheduler.explain(*id, self.now));
        let starved = self.shape.functions.iter().enumerate().find(|(at, (key, _))| {
            self.auditor.demand(key) > 0
                && !self.alive.iter().any(|worker| self.workers[*worker as usize].function == *at)
        });
        if let Some((_, (key, _))) = starved {
            let text = format!("{key} has work and no worker; the farm says: {why:?}");
            self.auditor.fail(Invariant::DemandGetsWorkers, about, text);
        } else {
            let text = format!("{} jobs do not end; the first because: {why:?}", open.len());
            self.auditor.fail(Invariant::WorkEnds, about, text);
        }
    }

    fn all_submitted(&self) -> bool {
        self.scheduler.accepted == self.shape.jobs.len()
    }

    fn is_over(&self) -> bool {
        let calm = self.calm || self.shape.calm_ms == NEVER_MS;
        calm && self.over_at.is_some() && self.alive.is_empty()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn workers_alive(&self) -> usize {
        self.alive.len()
    }
}

struct Next {
    at: i64,
    of_rules: bool,
}

pub(crate) fn job_id(at: usize) -> JobId {
    JobId((at as u128 + 1).into())
}

pub(crate) fn job_at(id: JobId) -> usize {
    usize::try_from(u128::from(id.0)).expect("ids of a simulation count jobs") - 1
}

fn poison(shape: &Shape, submitted: usize, job: JobId, step: usize) -> Vec<u32> {
    let at = job_at(job);
    if at >= submitted { Vec::new() } else { shape.jobs[at].steps[step].poison.iter().copied().collect() }
}
