//! What open chunks will take: summed up for each step and each project as chunks come and go, because ten thousand of them
//! can't be looked at for every order. Only of what has a budget.

use super::{Farm, Job, Step};
use crate::budget::{Forecast, cost, time_us};
use crate::price::Held;
use crate::rank::Project;
use framewake_proto::ids::JobId;
use framewake_proto::time::{Day, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks of a step that workers may claim, or hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Handed {
    pub(super) offers: u32,
    pub(super) leases: u32,
    /// Of the leases, those whose renderer has the scene open.
    pub(super) begun: u32,
}

/// What open chunks will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Committed {
    pub(super) chunks: i64,
    /// All their tasks, with what comes before them.
    pub(super) expected: i128,
    /// Of each that is held, one task.
    pub(super) frames: i128,
}

#[derive(Debug, Default)]
pub(super) struct Commitments {
    steps: BTreeMap<(JobId, usize), (Project, Committed)>,
    projects: BTreeMap<Project, Committed>,
    /// Steps that may have changed since they were summed up.
    stale: BTreeSet<(JobId, usize)>,
    /// Prices are those of this day.
    day: i64,
}

/// What a worker of a function costs, and how long one takes to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfWorker {
    held: Option<Held>,
    load_s: f64,
    start_s: f64,
    task_s: Option<f64>,
}

impl Commitments {
    /// What everything costs has changed.
    pub(super) fn forget_prices(&mut self) {
        self.stale.extend(self.steps.keys());
    }

    fn set(&mut self, key: (JobId, usize), fresh: Option<(Project, Committed)>) {
        if let Some((project, before)) = self.steps.remove(&key)
            && let Some(sum) = self.projects.get_mut(&project)
        {
            sum.chunks -= before.chunks;
            sum.expected -= before.expected;
            sum.frames -= before.frames;
            if sum.chunks == 0 {
                self.projects.remove(&project);
            }
        }
        if let Some((project, fresh)) = fresh.filter(|(_, fresh)| fresh.chunks > 0) {
            self.projects.entry(project).or_default().add(fresh);
            self.steps.insert(key, (project, fresh));
        }
    }
}

impl Committed {
    fn add(&mut self, other: Committed) {
        self.chunks += other.chunks;
        self.expected += other.expected;
        self.frames += other.frames;
    }
}

impl Farm {
    /// Chunks of the step were offered, claimed, given up or ended.
    pub(super) fn hand(&mut self, job: JobId, at: usize, how: impl FnOnce(&mut Handed)) {
        if let Some(step) = self.step_mut(job, at) {
            how(&mut step.handed);
            self.commit_anew(job, at);
        }
    }

    /// What the step's chunks will take may have changed.
    pub(super) fn commit_anew(&mut self, job: JobId, at: usize) {
        if self.budgeted > 0 || !self.purses.is_empty() {
            self.committed.stale.insert((job, at));
        }
    }

    /// The same, of all jobs that are so. Rare: a budget came or went.
    pub(super) fn commit_all_anew(&mut self, of: impl Fn(&Job) -> bool) {
        let jobs = self.jobs.iter().filter(|(_, job)| of(job));
        let steps = jobs.flat_map(|(id, job)| (0..job.steps.len()).map(|at| (*id, at)));
        self.committed.stale.extend(steps);
    }

    /// Brings the sums up to date.
    pub(super) fn sum_commitments(&mut self, now: Timestamp) {
        let today = Day::of(now).0;
        if std::mem::replace(&mut self.committed.day, today) != today {
            self.committed.forget_prices();
        }
        for (id, at) in std::mem::take(&mut self.committed.stale) {
            let budgeted = |job: &&Job| job.budget.is_some() || self.purses.contains_key(&job.project);
            let fresh = self.jobs.get(&id).filter(budgeted).map(|job| {
                let step = &job.steps[at];
                // Most steps have nothing open when a project's budget comes.
                let is_open = step.handed.offers + step.handed.leases > 0;
                let committed = is_open.then(|| step.committed(self.forecast(now, id, at)));
                (job.project, committed.unwrap_or_default())
            });
            self.committed.set((id, at), fresh);
        }
    }

    /// As of the last time that sums were brought up to date, with what workers took until now.
    pub(super) fn committed_of_job(&self, now: Timestamp, id: JobId) -> Committed {
        let mut sum = Committed::default();
        for (_, (_, step)) in self.committed.steps.range((id, 0)..=(id, usize::MAX)) {
            sum.add(*step);
        }
        sum.with(self.ledger.under_way.of_job(now, id, &self.ledger.prices))
    }

    pub(super) fn committed_of_project(&self, now: Timestamp, project: Project) -> Committed {
        let sum = self.committed.projects.get(&project).copied().unwrap_or_default();
        let name = &self.project_names[project];
        sum.with(self.ledger.under_way.of_project(now, name, &self.ledger.prices))
    }

    /// How long tasks of a step take and what they cost, as far as that is known.
    pub(super) fn forecast(&self, now: Timestamp, id: JobId, at: usize) -> Forecast {
        let step = &self.jobs[&id].steps[at];
        step.forecast(self.forecast_of_worker(now, step.function))
    }

    pub(super) fn forecast_of_worker(&self, now: Timestamp, at: usize) -> OfWorker {
        let function = &self.functions[at];
        OfWorker {
            held: self.price_of_worker(now, at),
            load_s: function.timing.load_s.unwrap_or(0.0),
            start_s: if function.idle.is_empty() { self.start_s(now, at).unwrap_or(0.0) } else { 0.0 },
            task_s: function.timing.task_s,
        }
    }

    /// The dearest price of the function's workers, or where there are none, of the pools that may start some. `None`: it is not
    /// known of all of them, or they are paid in several currencies; a budget can't be held against that.
    fn price_of_worker(&self, now: Timestamp, at: usize) -> Option<Held> {
        let (name, today) = (&self.functions[at].key.name, Day::of(now).0);
        let there = self.ledger.under_way.kinds_of(name);
        let told = there.filter(|kind| !kind.gpu.is_empty() || self.functions[at].rules.gpus == 0);
        let mut held: Vec<Option<Held>> =
            told.map(|kind| self.ledger.prices.of(name, &kind.gpu, kind.pool.as_ref(), today)).collect();
        if held.is_empty() {
            held = self.fit_pools(at).map(|pool| self.price_in(now, at, &pool.rules.name)).collect();
        }
        if held.is_empty() {
            held.push(self.ledger.prices.of(name, "", None, today));
        }
        let held: Vec<Held> = held.into_iter().collect::<Option<_>>()?;
        let dearest = held.iter().max_by_key(|held| held.micros_an_hour)?;
        held.iter().all(|other| other.currency == dearest.currency).then_some(*dearest)
    }

    /// Counts what is handed out anew and compares.
    #[cfg(debug_assertions)]
    pub(super) fn check_handed(&self) {
        use crate::chunk::ChunkState;
        if self.budgeted == 0 && self.purses.is_empty() {
            return;
        }
        let mut counted: BTreeMap<(JobId, usize), (Handed, u32)> = BTreeMap::new();
        for chunk in self.chunks.values() {
            let (handed, open) = counted.entry((chunk.job, chunk.step)).or_default();
            match &chunk.state {
                ChunkState::Offered { .. } => handed.offers += 1,
                ChunkState::Leased(lease) => {
                    handed.leases += 1;
                    handed.begun += u32::from(lease.has_begun());
                }
                ChunkState::Waiting { .. } | ChunkState::Ready { .. } => continue,
            }
            *open += chunk.tasks.len();
        }
        for (id, job) in &self.jobs {
            for (at, step) in job.steps.iter().enumerate() {
                let expected = counted.remove(&(*id, at)).unwrap_or_default();
                debug_assert_eq!((step.handed, step.open), expected, "what is handed out of step {at} of job {id}");
            }
        }
    }
}

impl Step {
    /// By its own measure, else by that of its function.
    pub(super) fn forecast(&self, of: OfWorker) -> Forecast {
        let load_s = self.timing.load_s.unwrap_or(of.load_s);
        Forecast { held: of.held, before_s: load_s + of.start_s, task_s: self.timing.task_s.or(of.task_s) }
    }

    fn committed(&self, forecast: Forecast) -> Committed {
        let Handed { offers, leases, begun } = self.handed;
        let chunks = i64::from(offers) + i64::from(leases);
        let Some(held) = forecast.held else { return Committed { chunks, ..Committed::default() } };
        let task_s = forecast.task_s.unwrap_or(0.0);
        let before_s = f64::from(offers + leases - begun) * forecast.before_s;
        Committed {
            chunks,
            expected: cost(held, time_us(before_s + f64::from(self.open) * task_s)),
            frames: cost(held, time_us(f64::from(leases) * task_s)),
        }
    }
}

impl Committed {
    /// And what their holders took already and was not told of. Of what is expected that may be a part, so at most a frame of each
    /// worker counts twice until it is told of: the rest of a budget is given out a little later, and never twice.
    fn with(self, under_way: i128) -> Committed {
        Committed { expected: self.expected + under_way, frames: self.frames + under_way, ..self }
    }
}
