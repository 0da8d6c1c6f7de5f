//! Why a function has the workers it has, for the interface.

use super::Engine;
use framewake_core::coming;
use framewake_core::farm::{Coming, PoolStanding, Scaling, WindowStanding};
use framewake_proto::ids::FunctionKey;
use framewake_proto::money::Money;
use framewake_proto::scaling::{
    KeepWindow, PhaseTook, PoolScaling, PoolUnfit, RunAhead, ScalingExplained, WorkerComing,
};
use framewake_proto::start::StartPoint;
use std::time::Duration;

impl Engine {
    pub(super) fn explain_scaling(&self, key: &FunctionKey) -> Option<ScalingExplained> {
        self.farm.explain_scaling(self.clock.now(), key).map(view)
    }
}

fn view(scaling: Scaling<'_>) -> ScalingExplained {
    let Scaling { function, rules, demand, decision, task_s, load_s, worth_is_said, .. } = scaling;
    let Scaling { starting, idle, busy, leaving, linger, pools, unfit, coming, windows, runs, .. } = scaling;
    ScalingExplained {
        function: function.to_string(),
        wanted: decision.wanted,
        because: decision.by.to_string(),
        starting,
        idle,
        busy,
        leaving,
        tasks: demand.tasks,
        work_s: demand.work_s,
        task_s,
        load_s,
        start_s: demand.start_s,
        waiting_worth: demand.worth,
        waiting: rules.scaling.waiting.filter(|_| worth_is_said),
        optimum: decision.optimum,
        paid_for: demand.paid_for,
        kept: demand.kept,
        limit: demand.workers_max,
        capacity: demand.capacity,
        linger_s: linger.as_secs_f64(),
        pools: pools.into_iter().map(pool).collect(),
        unfit: unfit.into_iter().map(|told| PoolUnfit { pool: told.pool, reason: told.reason }).collect(),
        coming: coming.into_iter().map(worker).collect(),
        windows: windows.into_iter().map(window).collect(),
        runs: runs
            .into_iter()
            .map(|run| RunAhead {
                schedule: run.schedule.clone(),
                due: run.due,
                called_at: run.from,
                workers: run.workers,
            })
            .collect(),
    }
}

fn pool(standing: PoolStanding) -> PoolScaling {
    let PoolStanding { pool, slots, slots_taken, workers, price, start_typical, start_slow, starts_known, .. } =
        standing;
    let PoolStanding { starts, start_within, starts_a_minute, gpu, workers_max, phases, passed_over, .. } = standing;
    let mean = starts.mean();
    let start_cost = price.filter(|_| !phases.is_empty());
    let start_cost =
        start_cost.map(|held| Money { micros: coming::cost(&phases, held.micros_an_hour), currency: held.currency });
    PoolScaling {
        pool,
        slots,
        slots_taken,
        workers,
        price: price.map(|held| Money { micros: held.micros_an_hour, currency: held.currency }),
        start_p50_s: start_typical.as_ref().map(Duration::as_secs_f64),
        start_p95_s: start_slow.as_ref().map(Duration::as_secs_f64),
        starts_known: u32::try_from(starts_known).unwrap_or(u32::MAX),
        start_mean_s: mean,
        start_deviation_s: mean.map(|mean| (starts.squares / starts.count - mean * mean).max(0.0).sqrt()),
        start_within_s: start_within.as_secs_f64(),
        starts_a_minute: (starts_a_minute < u32::MAX).then_some(starts_a_minute),
        gpu,
        workers_max,
        phases: phases.into_iter().map(|(point, took)| PhaseTook { point, p50_s: took.as_secs_f64() }).collect(),
        start_cost,
        passed_over: passed_over.unwrap_or_default(),
    }
}

fn worker(coming: Coming<'_>) -> WorkerComing {
    let step = coming.point.unwrap_or(StartPoint::Asked).describe();
    let (worker, pool, waits) = (coming.worker.clone(), coming.pool.cloned(), coming.waits.to_owned());
    WorkerComing { worker, pool, asked_at: coming.asked_at, step: step.to_owned(), waits }
}

fn window(standing: WindowStanding) -> KeepWindow {
    let WindowStanding { workers, reading, open_until, next_change } = standing;
    KeepWindow { workers, reading, open_until, next_change }
}
