//! What is counted for `/metrics` once a batch is durable, and what must be remembered for it.

use super::Engine;
use super::batch::Batch;
use crate::metrics::farm::{Ended, Load, Loads};
use framewake_core::change::{Change, Outcome, StepState};
use framewake_core::event::{Event, WorkerEnd};
use framewake_core::farm::PlaceStanding;
use framewake_core::values::StoredPlace;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use framewake_proto::trace::TraceId;
use framewake_proto::verdict::CPU_FALLBACK;
use framewake_proto::wire;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tracing::{info, warn};

/// As much as there are workers: one attempt each.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Attempts that began while this scheduler ran.
    attempts: HashMap<AttemptId, Timestamp>,
}

impl Engine {
    pub(super) fn count(&mut self, batch: &Batch) {
        for change in &batch.applied.changes {
            match change {
                Change::JobAdded { .. } => self.metrics.farm.jobs_submitted.inc(),
                Change::JobState { state, .. } if state.is_over() => {
                    let state = crate::store::job_state_name(*state);
                    self.metrics.farm.jobs_finished.with_label_values(&[state]).inc();
                }
                Change::StepState { job, step, state: StepState::Running, at } => {
                    if let (Some(ready_at), Some(function)) =
                        (self.farm.ready_at(*job, *step), self.function_of(*job, *step))
                    {
                        self.metrics.farm.step_began(&function.name, at.since(ready_at), self.trace_of(*job, *at));
                    }
                }
                Change::TaskDone { job, step, result, at, .. } => {
                    let took = (!result.found).then(|| Duration::from_millis(result.elapsed_ms.into()));
                    if let Some(function) = self.function_of(*job, *step) {
                        self.metrics.farm.task_done(&function.name, took, result.size_bytes, self.trace_of(*job, *at));
                    }
                }
                Change::TaskFailed { job, step, failure, .. } => {
                    if let Some(function) = self.function_of(*job, *step) {
                        let without_gpu = failure.message.starts_with(CPU_FALLBACK);
                        self.metrics.farm.task_failed(&function.name, failure.verdict, without_gpu);
                    }
                }
                Change::AttemptStarted { job, step, attempt, at, .. } => {
                    self.tally.attempts.insert(*attempt, *at);
                    if let Some(function) = self.function_of(*job, *step) {
                        self.metrics.farm.attempt_started(&function.name);
                    }
                }
                Change::AttemptEnded { job, step, attempt, outcome, failed, log, at, .. } => {
                    let begun = self.tally.attempts.remove(attempt);
                    if let Outcome::Lost { how } = outcome {
                        let (chunk, number) = (attempt.chunk.0, attempt.number);
                        info!(job.id = %job, chunk.id = chunk, attempt = number, "attempt {attempt} of job {job} is lost: {how}");
                    }
                    if let Some(function) = self.function_of(*job, *step) {
                        let ended = Ended {
                            outcome: crate::store::outcome_name(outcome),
                            took: begun.map(|begun| at.since(begun)),
                            log_bytes: log.kept_bytes,
                            log_left_out_bytes: log.left_out_bytes,
                            failed: *failed,
                        };
                        self.metrics.farm.attempt_ended(&function.name, ended, self.trace_of(*job, *at));
                    }
                }
                Change::Paid { account, spent } => self.metrics.cost.spent(account, spent),
                Change::WorkerStart { start, counted, .. } => {
                    if let Some(pool) = &start.pool {
                        self.metrics.farm.worker_came(&start.function.name, pool, counted);
                    }
                }
                Change::PlaceStored(stored) => self.count_place(stored),
                Change::JobState { .. }
                | Change::JobPriority { .. }
                | Change::JobBudget { .. }
                | Change::ProjectBudget { .. }
                | Change::BudgetTold { .. }
                | Change::ProjectWeight { .. }
                | Change::WorkersKept { .. }
                | Change::StepState { .. }
                | Change::StepCounts { .. }
                | Change::StepTiming { .. }
                | Change::StepVram { .. }
                | Change::TasksReset { .. }
                | Change::ChunkStored(_)
                | Change::ChunkClosed { .. }
                | Change::PlaceForgotten { .. }
                | Change::WorkerStartEnded { .. }
                | Change::StartsLearned(_)
                | Change::TimingLearned(_)
                | Change::AccountClosed { .. }
                | Change::ChunkNumbers { .. } => {}
            }
        }
    }

    /// A report of an attempt that is over is not believed, here either.
    pub(super) fn count_load(&self, event: &Event) {
        if let Event::AttemptReported { attempt, report, .. } = event
            && let Some(load_ms) = report.load_ms
            && let Some((job, step)) = self.farm.attempt_place(*attempt)
            && let Some(function) = self.function_of(job, step)
        {
            self.metrics.farm.loaded(&function.name, Duration::from_millis(load_ms.into()));
        }
    }

    /// The worker's goodbye, or the end of its process, whichever is heard first.
    pub(super) fn count_end(&mut self, event: &Event) {
        let (worker, failed) = match event {
            Event::WorkerLeft { worker } => (worker, false),
            Event::WorkerExited { worker, end } => (worker, matches!(end, WorkerEnd::Failed { .. })),
            _ => return,
        };
        self.measuring.forget(worker);
        if let Some(function) = self.farm.worker_function(worker) {
            self.metrics.farm.worker_ended(&function.name, failed);
        }
    }

    pub(super) fn count_heartbeat(
        &mut self,
        worker: &WorkerId,
        function: &FunctionKey,
        heartbeat: &wire::Heartbeat,
        now: Timestamp,
    ) {
        if self.functions.get(function).is_some() {
            self.metrics.farm.heartbeat(&function.name);
            self.metrics.gpus.observe(worker, function, heartbeat, now);
        }
    }

    /// What a measurement of a job that is traced is of.
    fn trace_of(&self, job: JobId, at: Timestamp) -> Option<(TraceId, Timestamp)> {
        Some((self.traces.as_ref()?.of(job)?, at))
    }

    /// At hand for every job that the batch speaks of (see `recall`).
    fn function_of(&self, job: JobId, step: usize) -> Option<&FunctionKey> {
        Some(&self.jobs.get(job)?.steps.get(step)?.function)
    }

    fn count_place(&self, stored: &StoredPlace) {
        let StoredPlace { place, since, until, times, reason, proven_at } = stored;
        if proven_at.is_some() {
            info!(place = %place, "{place} works again");
        } else if since == until {
            info!(place = %place, "{place} is tried again");
        } else {
            self.metrics.farm.places_set_aside.inc();
            warn!(place = %place, times, "{place} is set aside until {until}: {reason}");
        }
    }

    pub(super) fn loads(&self) -> Loads {
        let now = self.clock.now();
        let mut functions: BTreeMap<Name, Load> = BTreeMap::new();
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for load in self.farm.loads(now) {
            let of = functions.entry(load.function.name.clone()).or_default();
            of.add(&Load {
                wanted: load.wanted,
                starting: load.starting,
                idle: load.idle,
                busy: load.busy,
                draining: load.draining,
                starts_failed: load.starts_failed,
                tasks_waiting: load.tasks_waiting,
                chunks_offered: number(load.chunks_offered),
                chunks_held: number(load.chunks_held),
                oldest_waiting: load.oldest_waiting,
            });
        }
        let mut places = BTreeMap::from([("good", 0), ("suspect", 0), ("set_aside", 0), ("on_trial", 0)]);
        for place in self.farm.places(now) {
            let state = match place.standing {
                PlaceStanding::Good if place.workers == 0 => continue,
                PlaceStanding::Good => "good",
                PlaceStanding::Suspect { .. } => "suspect",
                PlaceStanding::Aside { .. } => "set_aside",
                PlaceStanding::Trial { .. } => "on_trial",
            };
            *places.entry(state).or_default() += 1;
        }
        Loads { functions, places, jobs: number(self.farm.jobs()), budgets: self.budget_views() }
    }
}
