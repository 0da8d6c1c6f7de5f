//! Workers that were asked for: whether there are too many, of a function or in a pool.

use super::Auditor;
use crate::invariant::{About, Invariant};
use framewake_core::values::PoolRules;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;

/// Workers that were asked for, of one function. One that leaves takes its slots until it is gone, and may be replaced.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) staying: u32,
    pub(crate) leaving: u32,
}

/// Workers that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) functions: BTreeMap<FunctionKey, Asked>,
    /// Slots that they take.
    pub(crate) pools: BTreeMap<Name, u32>,
}

/// A pool, and when workers were asked for there, within a minute.
#[derive(Debug)]
pub(super) struct PoolBook {
    max: u32,
    starts_a_minute: u32,
    asked: Vec<Timestamp>,
}

impl PoolBook {
    pub(super) fn new(rules: &PoolRules) -> PoolBook {
        PoolBook { max: rules.max, starts_a_minute: rules.starts_a_minute, asked: Vec::new() }
    }
}

impl Auditor {
    /// No more starts in a minute than the pool takes. A scheduler that starts anew does not know of those before.
    pub(super) fn check_pace(&mut self, pool: &Name, worker: &WorkerId) {
        let (at, since) = (self.at, self.started_at);
        let Some(book) = self.pools.get_mut(pool) else {
            let text = format!("{worker} is asked for in pool {pool}, which is not there");
            self.fail(Invariant::WorkersAreBounded, About::worker(worker), text);
            return;
        };
        book.asked.retain(|asked| asked.0 > at.0 - 60_000 && *asked >= since);
        book.asked.push(at);
        if book.asked.len() > book.starts_a_minute as usize {
            let text = format!("{} starts in pool {pool} within a minute", book.asked.len());
            self.fail(Invariant::WorkersAreBounded, About::worker(worker), text);
        }
    }

    /// Workers that were asked for, live, and can't be thought dead.
    pub(crate) fn check_workers(&mut self, asked: &Books) {
        for (pool, slots) in &asked.pools {
            let most = self.pools[pool].max;
            if *slots > most {
                let text = format!("workers take {slots} slots of the {most} of pool {pool}");
                self.fail(Invariant::WorkersAreBounded, About::default(), text);
            }
        }
        for (function, Asked { staying: count, .. }) in &asked.functions {
            let most = self.functions[function].workers_max;
            if *count > most {
                let text = format!("{count} workers of {function} were asked for and it may have {most}");
                self.fail(Invariant::WorkersAreBounded, About::default(), text);
            }
        }
    }
}
