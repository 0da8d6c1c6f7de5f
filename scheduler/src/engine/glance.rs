//! All workers at a glance, counted in one pass, and which of them are asked for.

use super::Engine;
use framewake_core::farm::{WorkerActivity, WorkerStatus};
use framewake_proto::api::{WorkerState, WorkerView};
use framewake_proto::ids::{FunctionKey, FunctionRef, Name, WorkerId};
use framewake_proto::overview::{FunctionGlance, PoolGlance, WorkerCounts};
use std::collections::BTreeMap;

/// Functions that are shown, those with most workers first: a page is no list of all.
const FUNCTIONS_SHOWN_MAX: usize = 40;
/// Workers on their way that are shown, those that have been for longest first: they are who something is wrong with.
const STARTING_SHOWN_MAX: usize = 12;
/// Sentences about a function.
const REASONS_SHOWN_MAX: usize = 4;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Crowd {
    pub(crate) workers: WorkerCounts,
    pub(crate) functions: Vec<FunctionGlance>,
    pub(crate) functions_left_out: u32,
    pub(crate) starting: Vec<WorkerView>,
}

/// Which workers are listed: by name, so many after one, those of which all of it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkerQuery {
    pub(crate) after: Option<WorkerId>,
    pub(crate) limit: usize,
    pub(crate) state: Option<WorkerState>,
    pub(crate) function: Option<FunctionRef>,
    pub(crate) pool: Option<Name>,
}

impl WorkerQuery {
    pub(super) fn wants(&self, worker: &WorkerStatus<'_>) -> bool {
        let of_function = |wanted: &FunctionRef| {
            wanted.name == worker.function.name
                && wanted.version.is_none_or(|version| version == worker.function.version)
        };
        self.state.is_none_or(|state| state == state_of(worker.state))
            && self.function.as_ref().is_none_or(of_function)
            && self.pool.as_ref().is_none_or(|pool| Some(pool) == worker.pool)
    }
}

pub(super) fn state_of(activity: WorkerActivity) -> WorkerState {
    match activity {
        WorkerActivity::Starting => WorkerState::Starting,
        WorkerActivity::Idle => WorkerState::Idle,
        WorkerActivity::Busy(..) => WorkerState::Busy,
        WorkerActivity::Draining => WorkerState::Draining,
    }
}

impl Engine {
    pub(super) fn crowd(&self) -> Crowd {
        let mut workers = WorkerCounts::default();
        let mut groups: BTreeMap<&FunctionKey, BTreeMap<Option<&Name>, WorkerCounts>> = BTreeMap::new();
        let mut starting: Vec<WorkerStatus<'_>> = Vec::new();
        for worker in self.farm.workers() {
            count(&mut workers, worker.state);
            count(groups.entry(worker.function).or_default().entry(worker.pool).or_default(), worker.state);
            if worker.state == WorkerActivity::Starting {
                starting.push(worker);
            }
        }
        starting.sort_by_key(|worker| worker.since);
        starting.truncate(STARTING_SHOWN_MAX);
        let mut functions: Vec<FunctionGlance> = Vec::new();
        for (key, scaling) in self.farm.scaling(self.clock.now()) {
            let pools = groups.remove(key).unwrap_or_default();
            if pools.is_empty() && scaling.wanted == 0 {
                continue;
            }
            let pools = pools.into_iter().map(|(pool, workers)| PoolGlance { pool: pool.cloned(), workers });
            let mut reasons = scaling.reasons;
            reasons.truncate(REASONS_SHOWN_MAX);
            let (function, wanted) = (key.to_string(), scaling.wanted);
            functions.push(FunctionGlance { function, wanted, reasons, pools: pools.collect() });
        }
        functions.sort_by_key(|function| {
            let there: u32 = function.pools.iter().map(|pool| pool.workers.all()).sum();
            std::cmp::Reverse(there.max(function.wanted))
        });
        let functions_left_out = u32::try_from(functions.len().saturating_sub(FUNCTIONS_SHOWN_MAX)).unwrap_or(u32::MAX);
        functions.truncate(FUNCTIONS_SHOWN_MAX);
        let starting = starting.iter().map(|worker| self.worker_view(worker)).collect();
        Crowd { workers, functions, functions_left_out, starting }
    }
}

fn count(counts: &mut WorkerCounts, state: WorkerActivity) {
    let of = match state_of(state) {
        WorkerState::Starting => &mut counts.starting,
        WorkerState::Idle => &mut counts.idle,
        WorkerState::Busy => &mut counts.busy,
        WorkerState::Draining => &mut counts.draining,
    };
    *of += 1;
}
