//! The pools of the farm: what the rules need to know of each, and which function can use which.

use super::batch::Batch;
use super::{Engine, Refused};
use framewake_core::event::Event;
use framewake_core::price::gpu_model;
use framewake_core::values::PoolRules;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::Name;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
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
        let unfit = self.unfit(function);
        if self.pools.is_empty() || unfit.len() < self.pools.len() {
            return Ok(());
        }
        let reasons = unfit.into_iter().map(|(pool, reason)| format!("pool {pool}: {reason}")).collect();
        Err(Refused::NoPool { function: function.name.clone(), reasons })
    }

    /// Pools that the function can't use, and why.
    pub(super) fn unfit(&self, function: &FunctionSpec) -> BTreeMap<Name, String> {
        let named = &function.scaling.pools;
        let unfit = self.pools.iter().filter_map(|pool| {
            let reason = if named.is_empty() || named.contains(&pool.name) {
                pool.unfit(function)?
            } else {
                let named: Vec<&str> = named.iter().map(Name::as_str).collect();
                format!("the function names others: {}", named.join(", "))
            };
            Some((pool.name.clone(), reason))
        });
        unfit.collect()
    }
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
        here,
    }
}
