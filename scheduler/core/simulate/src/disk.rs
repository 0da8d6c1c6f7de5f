//! What the store of a scheduler would hold: changes go in, and a restart finds a snapshot of them.

use framewake_core::change::{Change, JobState};
use framewake_core::coming::StoredStart;
use framewake_core::ledger::Account;
use framewake_core::price::Prices;
use framewake_core::values::{
    FunctionRules, NewJob, Place, Snapshot, StoredChunk, StoredJob, StoredPlace, StoredStarts, StoredStep, StoredTiming,
};
use framewake_proto::ids::WorkerId;
use framewake_proto::ids::{ChunkId, FunctionKey, JobId, Name};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) functions: Vec<(FunctionKey, FunctionRules)>,
    pub(crate) jobs: BTreeMap<JobId, (NewJob, JobState)>,
    pub(crate) steps: BTreeMap<(JobId, usize), StoredStep>,
    pub(crate) chunks: BTreeMap<ChunkId, StoredChunk>,
    pub(crate) chunk_next: u64,
    pub(crate) weights: BTreeMap<Name, u32>,
    pub(crate) kept: BTreeMap<Name, u32>,
    pub(crate) places: BTreeMap<Place, StoredPlace>,
    pub(crate) accounts: BTreeMap<WorkerId, Account>,
    /// Ways of workers whose end was not told.
    pub(crate) starts: BTreeMap<WorkerId, StoredStart>,
    pub(crate) learned_starts: BTreeMap<(FunctionKey, Name), StoredStarts>,
    pub(crate) timings: BTreeMap<FunctionKey, StoredTiming>,
}

impl Disk {
    pub(crate) fn commit(&mut self, change: Change) {
        match change {
            Change::JobAdded { id, job, .. } => {
                self.jobs.insert(id, (job, JobState::Queued));
            }
            Change::JobState { id, state, .. } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.1 = state;
                }
            }
            Change::JobPriority { id, priority } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.0.priority = priority;
                }
            }
            Change::JobBudget { job, budget } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.0.budget = budget;
                }
            }
            Change::ProjectWeight { project, weight } => {
                self.weights.insert(project, weight);
            }
            Change::WorkersKept { function, workers } => {
                self.kept.insert(function, workers);
            }
            Change::TaskDone { job, step, result, .. } => {
                self.step(job, step).done.insert(result.task);
            }
            Change::TaskFailed { job, step, failure, for_good: true, .. } => {
                self.step(job, step).failed.insert(failure.task);
            }
            Change::TasksReset { job, step, tasks } => {
                tasks.runs().iter().for_each(|run| self.step(job, step).failed.remove_run(run.clone()));
            }
            Change::StepTiming { job, step, timing } => self.step(job, step).timing = timing,
            Change::StepVram { job, step, vram } => self.step(job, step).vram = vram,
            Change::ChunkStored(chunk) => {
                self.chunks.insert(chunk.id, chunk);
            }
            Change::ChunkClosed { id } => {
                self.chunks.remove(&id);
            }
            Change::PlaceStored(place) => {
                self.places.insert(place.place.clone(), place);
            }
            Change::PlaceForgotten { place } => {
                self.places.remove(&place);
            }
            Change::Paid { account, .. } => {
                self.accounts.insert(account.worker.clone(), account);
            }
            Change::AccountClosed { worker, .. } => {
                self.accounts.remove(&worker);
            }
            Change::WorkerStart { start, .. } if start.ended.is_some() => drop(self.starts.remove(&start.worker)),
            Change::WorkerStart { start, .. } => drop(self.starts.insert(start.worker.clone(), start)),
            Change::WorkerStartEnded { worker, .. } => drop(self.starts.remove(&worker)),
            Change::StartsLearned(learned) => {
                self.learned_starts.insert((learned.function.clone(), learned.pool.clone()), learned);
            }
            Change::TimingLearned(learned) => drop(self.timings.insert(learned.function.clone(), learned)),
            Change::ChunkNumbers { next } => self.chunk_next = next,
            // For people; the rules make them anew.
            Change::TaskFailed { for_good: false, .. }
            | Change::StepState { .. }
            | Change::StepCounts { .. }
            | Change::ProjectBudget { .. }
            | Change::BudgetTold { .. }
            | Change::AttemptStarted { .. }
            | Change::AttemptEnded { .. } => {}
        }
    }

    fn step(&mut self, job: JobId, step: usize) -> &mut StoredStep {
        self.steps.entry((job, step)).or_default()
    }

    pub(crate) fn state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(&id).map(|(_, state)| *state)
    }

    pub(crate) fn stored_job(&self, id: JobId) -> Option<StoredJob> {
        let (job, state) = self.jobs.get(&id)?;
        let steps = (0..job.steps.len()).map(|at| self.steps.get(&(id, at)).cloned().unwrap_or_default());
        Some(StoredJob {
            id,
            job: job.clone(),
            paused: *state == JobState::Paused,
            restored: false,
            spent: Vec::new(),
            steps: steps.collect(),
        })
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let open = self.jobs.iter().filter(|(_, (_, state))| !state.is_over());
        Snapshot {
            functions: self.functions.clone(),
            projects: self.weights.iter().map(|(name, weight)| (name.clone(), *weight)).collect(),
            kept: self.kept.iter().map(|(name, workers)| (name.clone(), *workers)).collect(),
            jobs: open.filter_map(|(id, _)| self.stored_job(*id)).collect(),
            chunks: self.chunks.values().cloned().collect(),
            chunk_next: self.chunk_next,
            places: self.places.values().cloned().collect(),
            starts: self.starts.values().cloned().collect(),
            learned_starts: self.learned_starts.values().cloned().collect(),
            timings: self.timings.values().cloned().collect(),
            accounts: self.accounts.values().cloned().collect(),
            prices: Prices::default(),
            budgets: Vec::new(),
        }
    }
}
