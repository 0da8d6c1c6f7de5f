//! The pools of the farm: what the rules need to know of each, and which function can use which.

use super::batch::Batch;
use super::{Engine, Refused};
use framewake_core::event::Event;
use framewake_core::price::gpu_model;
use framewake_core::values::PoolRules;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::Name;
use framewake_proto::job::{Fault, Job};
use framewake_proto::pool::{PoolSpec, ProviderSpec, fit};
use std::collections::BTreeMap;

impl Engine {
    pub(super) fn set_pools(&mut self, pools: Vec<PoolSpec>, batch: &mut Batch) {
        self.pools = pools;
        let unfit = self.functions.iter().map(|(key, spec)| (key, self.unfit(spec))).collect();
        let pools = self.pools.iter().map(rules).collect();
        self.apply(Event::PoolsSet { pools, unfit }, batch);
        self.expect_runs(batch);
    }

    /// What no pool can ever run must not be accepted.
    pub(super) fn check_pools(&self, function: &FunctionSpec) -> Result<(), Refused> {
        no_pool(fit::function_faults(&self.pools, function))
    }

    /// The same of a job: its steps may ask for more than their functions do.
    pub(super) fn check_steps(&self, job: &Job) -> Result<(), Refused> {
        let mut faults = Vec::new();
        for (at, step) in job.steps.iter().enumerate() {
            if let Some(function) = self.functions.get(&step.function) {
                faults.extend(fit::step_faults(&self.pools, function, step, &format!("/steps/{at}")));
            }
        }
        no_pool(faults)
    }

    /// Pools that the function can't use, and why.
    pub(super) fn unfit(&self, function: &FunctionSpec) -> BTreeMap<Name, String> {
        self.pools.iter().filter_map(|pool| Some((pool.name.clone(), pool.unfit(function)?))).collect()
    }
}

fn no_pool(faults: Vec<Fault>) -> Result<(), Refused> {
    if faults.is_empty() { Ok(()) } else { Err(Refused::NoPool(faults)) }
}

fn rules(pool: &PoolSpec) -> PoolRules {
    let here = matches!(pool.provider, ProviderSpec::Local {});
    PoolRules {
        name: pool.name.clone(),
        max: pool.max,
        market: pool.market,
        order: pool.order,
        start_within: pool.start_within.map_or_else(|| pool.provider.start_within(), |within| within.0),
        // A process is started in no time, and its machine is ours.
        starts_a_minute: if here { u32::MAX } else { pool.starts_a_minute },
        gpu: pool.gpu.as_ref().map_or_else(String::new, |gpu| gpu_model(&gpu.model).to_owned()),
        gpu_said: pool.gpu.clone().filter(|_| !here),
        longest_run: pool.provider.longest_run().map(|longest| longest.0),
        here,
    }
}
