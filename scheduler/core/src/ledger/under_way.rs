//! What workers took since they were accounted for last, summed up: so that a budget can be held against ten thousand of them
//! without a look at each.

use super::{Account, Doing};
use crate::price::{Held, Prices};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::time::{Day, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Workers that are paid alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) function: Name,
    pub(crate) pool: Option<Name>,
    pub(crate) gpu: Arc<str>,
}

/// So many workers, and how far they are accounted for, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    workers: u32,
    until_ms: i128,
}

type Sums = BTreeMap<Kind, Sum>;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// All workers there are.
    kinds: BTreeMap<Kind, u32>,
    /// Of those that hold an attempt, by what it is of.
    jobs: BTreeMap<JobId, Sums>,
    projects: BTreeMap<Name, Sums>,
}

impl UnderWay {
    pub(super) fn add(&mut self, account: &Account) {
        let kind = kind(account);
        if let (Doing::Working { .. }, Some(work)) = (account.doing, &account.work) {
            let until_ms = i128::from(account.until.0);
            for sums in [self.jobs.entry(work.job).or_default(), self.projects.entry(work.project.clone()).or_default()]
            {
                let sum = sums.entry(kind.clone()).or_default();
                sum.workers += 1;
                sum.until_ms += until_ms;
            }
        }
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// As it was added.
    pub(super) fn remove(&mut self, account: &Account) {
        let kind = kind(account);
        if let (Doing::Working { .. }, Some(work)) = (account.doing, &account.work) {
            let until_ms = i128::from(account.until.0);
            take(&mut self.jobs, &work.job, &kind, until_ms);
            take(&mut self.projects, &work.project, &kind, until_ms);
        }
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&kind);
            }
        }
    }

    /// The kinds of a function's workers that there are.
    pub(crate) fn kinds_of(&self, function: &Name) -> impl Iterator<Item = &Kind> {
        let first = Kind { function: function.clone(), pool: None, gpu: "".into() };
        self.kinds.range(first..).map(|(kind, _)| kind).take_while(|kind| kind.function == *function)
    }

    /// What the holders of a job's attempts took since they were accounted for; as [`crate::budget::cost`] counts.
    pub(crate) fn of_job(&self, now: Timestamp, job: JobId, prices: &Prices) -> i128 {
        self.jobs.get(&job).map_or(0, |sums| took(sums, now, prices))
    }

    pub(crate) fn of_project(&self, now: Timestamp, project: &Name, prices: &Prices) -> i128 {
        self.projects.get(project).map_or(0, |sums| took(sums, now, prices))
    }
}

fn kind(account: &Account) -> Kind {
    Kind { function: account.function.name.clone(), pool: account.pool.clone(), gpu: account.gpu.clone() }
}

fn take<K: Ord>(of: &mut BTreeMap<K, Sums>, key: &K, kind: &Kind, until_ms: i128) {
    let Some(sums) = of.get_mut(key) else { return };
    if let Some(sum) = sums.get_mut(kind) {
        sum.workers -= 1;
        sum.until_ms -= until_ms;
        if sum.workers == 0 {
            sums.remove(kind);
        }
    }
    if sums.is_empty() {
        of.remove(key);
    }
}

fn took(sums: &Sums, now: Timestamp, prices: &Prices) -> i128 {
    let today = Day::of(now).0;
    let of = sums.iter().filter_map(|(kind, sum)| {
        let Held { micros_an_hour, .. } = prices.of(&kind.function, &kind.gpu, kind.pool.as_ref(), today)?;
        let ms = (i128::from(now.0) * i128::from(sum.workers) - sum.until_ms).max(0);
        Some(i128::from(micros_an_hour) * ms * 1000)
    });
    of.sum()
}
