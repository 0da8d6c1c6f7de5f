//! What is counted for `/metrics` once a batch is durable, and what must be remembered for it.

use super::Engine;
use super::batch::Batch;
use crate::metrics::farm::{Ended, Load, Loads, Phase};
use framewake_core::change::{Change, Outcome, StepState};
use framewake_core::event::{Event, WorkerEnd};
use framewake_core::farm::PlaceStanding;
use framewake_core::values::StoredPlace;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use framewake_proto::trace::TraceId;
use framewake_proto::verdict::CPU_FALLBACK;
use framewake_proto::wire;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tracing::{info, warn};

/// As much as there are workers: one attempt each, and one way to a first frame.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Attempts that began while this scheduler ran.
    attempts: HashMap<AttemptId, Begun>,
    /// Workers on their way to their first frame: since when they are in which phase.
    starts: HashMap<WorkerId, (Timestamp, Phase)>,
    /// Workers that never got there are swept when there are more than this.
    sweep_above: usize,
}

#[derive(Debug)]
struct Begun {
    worker: WorkerId,
    at: Timestamp,
}

impl Tally {
    fn asked(&mut self, worker: &WorkerId, now: Timestamp) {
        self.starts.insert(worker.clone(), (now, Phase::Process));
    }

    /// The worker has come to the end of this phase; what was not seen of earlier ones took no time.
    fn passed(&mut self, worker: &WorkerId, end: Phase, now: Timestamp) -> Vec<(Phase, Duration)> {
        let Some((since, phase)) = self.starts.get_mut(worker) else { return Vec::new() };
        let mut passed = Vec::new();
        while *phase <= end {
            passed.push((*phase, now.since(*since)));
            *since = now;
            *phase = match *phase {
                Phase::Slot => Phase::Process,
                Phase::Process => Phase::Claim,
                Phase::Claim => Phase::Frame,
                Phase::Frame => {
                    self.starts.remove(worker);
                    break;
                }
            };
        }
        passed
    }

    /// Rarely does anything, so that a heartbeat costs the same on a farm of any size.
    pub(super) fn sweep<'a>(&mut self, living: impl Iterator<Item = &'a WorkerId>) {
        if self.starts.len() > self.sweep_above {
            let living: HashSet<&WorkerId> = living.collect();
            self.starts.retain(|worker, _| living.contains(worker));
            self.sweep_above = 2 * self.starts.len() + 64;
        }
    }
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
                Change::TaskDone { job, step, attempt, result, at } => {
                    let took = (!result.found).then(|| Duration::from_millis(result.elapsed_ms.into()));
                    if let Some(function) = self.function_of(*job, *step) {
                        self.metrics.farm.task_done(&function.name, took, result.size_bytes, self.trace_of(*job, *at));
                    }
                    if let Some(worker) = self.tally.attempts.get(attempt).map(|begun| begun.worker.clone()) {
                        self.passed(&worker, Phase::Frame, (*job, *step), *at);
                    }
                }
                Change::TaskFailed { job, step, failure, .. } => {
                    if let Some(function) = self.function_of(*job, *step) {
                        let without_gpu = failure.message.starts_with(CPU_FALLBACK);
                        self.metrics.farm.task_failed(&function.name, failure.verdict, without_gpu);
                    }
                }
                Change::AttemptStarted { job, step, attempt, worker, at, .. } => {
                    self.tally.attempts.insert(*attempt, Begun { worker: worker.clone(), at: *at });
                    if let Some(function) = self.function_of(*job, *step) {
                        self.metrics.farm.attempt_started(&function.name);
                    }
                    self.passed(worker, Phase::Claim, (*job, *step), *at);
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
                            took: begun.map(|begun| at.since(begun.at)),
                            log_bytes: log.kept_bytes,
                            log_left_out_bytes: log.left_out_bytes,
                            failed: *failed,
                        };
                        self.metrics.farm.attempt_ended(&function.name, ended, self.trace_of(*job, *at));
                    }
                }
                Change::Paid { account, spent } => self.metrics.cost.spent(account, spent),
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
        self.tally.starts.remove(worker);
        self.measuring.forget(worker);
        if let Some(function) = self.farm.worker_function(worker) {
            self.metrics.farm.worker_ended(&function.name, failed);
        }
    }

    pub(super) fn count_start(&mut self, worker: &WorkerId, function: &FunctionKey, waited: Duration) {
        self.metrics.farm.worker_started(&function.name, waited);
        self.tally.asked(worker, self.clock.now());
    }

    /// How long the worker took to its first words, with the first of them.
    pub(super) fn count_heartbeat(
        &mut self,
        worker: &WorkerId,
        function: &FunctionKey,
        heartbeat: &wire::Heartbeat,
        now: Timestamp,
    ) -> Option<Duration> {
        self.functions.get(function)?;
        self.metrics.farm.heartbeat(&function.name);
        let passed = self.tally.passed(worker, Phase::Process, now);
        for (phase, took) in &passed {
            self.metrics.farm.start_phase(&function.name, *phase, *took);
        }
        self.metrics.gpus.observe(worker, function, heartbeat, now);
        passed.into_iter().find(|(phase, _)| *phase == Phase::Process).map(|(_, took)| took)
    }

    fn passed(&mut self, worker: &WorkerId, end: Phase, (job, step): (JobId, usize), now: Timestamp) {
        let passed = self.tally.passed(worker, end, now);
        let Some(function) = self.function_of(job, step) else { return };
        for (phase, took) in passed {
            self.metrics.farm.start_phase(&function.name, phase, took);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> WorkerId {
        text.parse().expect("a good id")
    }

    #[test]
    fn each_phase_of_a_start_is_told_once_and_takes_what_it_took() {
        let mut tally = Tally::default();
        let told = |passed: Vec<(Phase, Duration)>| -> Vec<(Phase, u128)> {
            passed.into_iter().map(|(phase, took)| (phase, took.as_millis())).collect()
        };
        tally.asked(&id("w1"), Timestamp(0));
        assert_eq!(told(tally.passed(&id("w1"), Phase::Process, Timestamp(40))), [(Phase::Process, 40)]);
        assert_eq!(told(tally.passed(&id("w1"), Phase::Process, Timestamp(2040))), []);
        assert_eq!(told(tally.passed(&id("w1"), Phase::Claim, Timestamp(50))), [(Phase::Claim, 10)]);
        assert_eq!(told(tally.passed(&id("w1"), Phase::Claim, Timestamp(60))), []);
        assert_eq!(told(tally.passed(&id("w1"), Phase::Frame, Timestamp(90))), [(Phase::Frame, 40)]);
        assert_eq!(told(tally.passed(&id("w1"), Phase::Frame, Timestamp(99))), []);
        // The claim came before the first heartbeat.
        tally.asked(&id("w2"), Timestamp(0));
        let both = tally.passed(&id("w2"), Phase::Claim, Timestamp(30));
        assert_eq!(told(both), [(Phase::Process, 30), (Phase::Claim, 0)]);
        assert!(tally.passed(&id("stranger"), Phase::Frame, Timestamp(9)).is_empty());
    }

    #[test]
    fn workers_that_never_came_are_swept() {
        let mut tally = Tally::default();
        for worker in 0..1000 {
            tally.asked(&id(&format!("w{worker}")), Timestamp(0));
            tally.sweep([id("w7")].iter());
        }
        assert!(tally.starts.len() < 100, "{} are kept", tally.starts.len());
        assert!(tally.starts.contains_key(&id("w7")));
    }
}
