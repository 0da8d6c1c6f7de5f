//! Why a function has the workers it has: the decision, and everything that went into it.

use super::{Farm, PassedOver, RunAhead, WorkerState};
use crate::estimate::Spread;
use crate::price::Held;
use crate::scale::{Decision, Demand, keep};
use crate::values::FunctionRules;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// Starting workers that are told of.
const STARTING_TOLD_MAX: usize = 100;

/// Everything that decides how many workers a function has.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling<'a> {
    pub function: &'a FunctionKey,
    pub rules: &'a FunctionRules,
    pub demand: Demand,
    pub decision: Decision,
    /// Mean seconds of a task, and of the load of a renderer, over all jobs.
    pub task_s: Option<f64>,
    pub load_s: Option<f64>,
    /// Whether what waiting is worth is the function's own word.
    pub worth_is_said: bool,
    pub starting: u32,
    pub idle: u32,
    pub busy: u32,
    pub leaving: u32,
    /// How long a worker that starts now, and alone, waits for work.
    pub linger: Duration,
    /// In the order in which they are tried.
    pub pools: Vec<PoolStanding>,
    /// What it can't use.
    pub unfit: Vec<PassedOver>,
    pub coming: Vec<Coming<'a>>,
    pub windows: Vec<WindowStanding>,
    pub runs: Vec<RunAhead<'a>>,
}

/// A pool as the function sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolStanding {
    pub pool: Name,
    pub slots: u32,
    pub slots_taken: u32,
    /// Of this function, in any state.
    pub workers: u32,
    pub price: Option<Held>,
    /// How long workers took to come: half of them, nineteen of twenty, and of how many that is known.
    pub start_typical: Option<Duration>,
    pub start_slow: Option<Duration>,
    pub starts_known: usize,
    pub starts: Spread,
    /// How long a start may take, and how many there may be in a minute.
    pub start_within: Duration,
    pub starts_a_minute: u32,
    /// Model of its GPUs; empty: none, or not known.
    pub gpu: String,
    /// Workers of the function that it can hold.
    pub workers_max: u32,
    /// What each phase of a start took, half of the times no longer; in their order.
    pub phases: Vec<(StartPoint, Duration)>,
    /// Why it is passed over now.
    pub passed_over: Option<String>,
}

/// A worker on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Coming<'a> {
    pub worker: &'a WorkerId,
    pub pool: Option<&'a Name>,
    pub asked_at: Timestamp,
    /// How far it came.
    pub point: Option<StartPoint>,
    /// Why it is not there yet; empty: all goes as it should.
    pub waits: &'a str,
}

/// A window in which workers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowStanding {
    pub workers: u32,
    /// Its calendar in words.
    pub reading: String,
    pub open_until: Option<Timestamp>,
    pub next_change: Option<Timestamp>,
}

impl Farm {
    /// `None`: there is no such function.
    pub fn explain_scaling(&self, now: Timestamp, key: &FunctionKey) -> Option<Scaling<'_>> {
        let at = self.function_index.get(key).copied()?;
        let function = &self.functions[at];
        let demand = self.demand(now, at);
        let order = self.pools_in_order(now, at);
        let (over, unfit): (Vec<PassedOver>, Vec<PassedOver>) =
            self.passed_over(now, at).into_iter().partition(|told| order.contains(&told.pool));
        let linger = order.first().map_or(Duration::ZERO, |pool| self.linger_in(now, at, pool, 1));
        let idle = u32::try_from(function.idle.len()).unwrap_or(u32::MAX);
        Some(Scaling {
            function: &function.key,
            rules: &function.rules,
            demand,
            decision: demand.decide(),
            task_s: function.timing.task_s,
            load_s: function.timing.load_s,
            worth_is_said: self.worth(now, at).is_some(),
            starting: function.workers.starting,
            idle,
            busy: function.workers.present.saturating_sub(idle),
            leaving: function.workers.draining,
            linger,
            pools: order.into_iter().map(|pool| self.pool_standing(now, at, pool, &over)).collect(),
            unfit,
            coming: self.coming(at).take(STARTING_TOLD_MAX).collect(),
            windows: function.rules.scaling.keep.iter().map(|window| window_standing(now, window)).collect(),
            runs: self.runs_ahead(now, at).collect(),
        })
    }

    fn pool_standing(&self, now: Timestamp, at: usize, pool: Name, over: &[PassedOver]) -> PoolStanding {
        let within = self.functions[at].in_pools.get(&pool);
        let counts = within.map(|within| within.workers).unwrap_or_default();
        let cold = within.map(|within| &within.cold);
        let rules = &self.pools[&pool].rules;
        PoolStanding {
            slots: rules.max,
            slots_taken: self.taken(&pool),
            workers: counts.starting + counts.present + counts.draining,
            price: self.price_in(now, at, &pool),
            start_typical: cold.and_then(crate::scale::cold::ColdStarts::typical),
            start_slow: cold.and_then(crate::scale::cold::ColdStarts::slow),
            starts_known: cold.map_or(0, crate::scale::cold::ColdStarts::samples),
            starts: cold.map_or_else(Spread::default, crate::scale::cold::ColdStarts::spread),
            start_within: rules.start_within,
            starts_a_minute: rules.starts_a_minute,
            gpu: rules.gpu.clone(),
            workers_max: self.holds(at, rules),
            phases: within.map_or_else(Vec::new, |within| {
                within.phases.iter().filter_map(|(point, took)| Some((*point, took.typical()?))).collect()
            }),
            passed_over: over.iter().find(|told| told.pool == pool).map(|told| told.reason.clone()),
            pool,
        }
    }

    fn coming(&self, at: usize) -> impl Iterator<Item = Coming<'_>> {
        let starting = self
            .workers
            .iter()
            .filter(move |(_, worker)| worker.function == at && worker.state == WorkerState::Starting);
        starting.map(|(id, worker)| Coming {
            worker: id,
            pool: worker.pool.as_ref(),
            asked_at: worker.timeline.at(StartPoint::Asked).unwrap_or(worker.since),
            point: worker.timeline.last(),
            waits: &worker.waits,
        })
    }
}

fn window_standing(now: Timestamp, window: &keep::Window) -> WindowStanding {
    WindowStanding {
        workers: window.workers,
        reading: window.calendar.reading(),
        open_until: window.open_until(now),
        next_change: window.next_change(now),
    }
}
