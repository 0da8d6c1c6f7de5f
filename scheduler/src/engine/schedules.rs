//! Schedules in the loop: what is due becomes jobs in the same batch, and so in the same transaction, as its rows.

use super::batch::Batch;
use super::handle::{InPlaceOf, check_sizes, pinned};
use super::{Engine, Refused, ScheduleCommand, Submission};
use crate::function_table::Accepted;
use crate::store::{RunRow, ScheduleWrite};
use framewake_core::change::{Change, JobState};
use framewake_core::event::{Event, Need};
use framewake_core::schedule::{Decision, LateFor, Rules, ScheduleId, Schedules, StoredSchedule, What};
use framewake_proto::api::{EventView, Happening, LateDeadline, Submitted};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::{Fault, LABELS_MAX};
use framewake_proto::notify::Notice;
use framewake_proto::schedule::{
    RunState, SCHEDULES_MAX, ScheduleChange, ScheduleSpec, ScheduleState, ScheduleView, Values, fill,
};
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use tracing::{info, warn};
use ulid::Ulid;

/// Looks at the schedules in one turn: a job that is replaced ends, and what waited for it may begin.
const ROUNDS_MAX: usize = 8;
/// Label of the jobs that a schedule makes.
const LABEL: &str = "schedule";

/// The schedules: their rules, and their texts.
#[derive(Debug)]
pub(super) struct Timetable {
    rules: Schedules,
    specs: BTreeMap<ScheduleId, Arc<ScheduleSpec>>,
    ids: BTreeMap<Name, ScheduleId>,
    id_next: u64,
    /// What a task of each step took in the last run, in seconds.
    measured: BTreeMap<(ScheduleId, usize), f64>,
}

impl Timetable {
    pub(super) fn new(
        loaded: Vec<(Arc<ScheduleSpec>, StoredSchedule)>,
        measured: BTreeMap<(ScheduleId, usize), f64>,
    ) -> Timetable {
        let specs: BTreeMap<_, _> = loaded.iter().map(|(spec, stored)| (stored.id, spec.clone())).collect();
        let ids = specs.iter().map(|(id, spec)| (spec.name.clone(), *id)).collect();
        let id_next = specs.last_key_value().map_or(1, |(id, _)| id.0 + 1);
        let rules = Schedules::restore(loaded.into_iter().map(|(_, stored)| stored));
        Timetable { rules, specs, ids, id_next, measured }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.rules.next_deadline()
    }

    fn state_row(&self, id: ScheduleId) -> Option<ScheduleWrite> {
        let schedule = self.rules.get(id)?;
        let (paused, last_due, last_manual) = (schedule.paused, schedule.last_due, schedule.last_manual);
        Some(ScheduleWrite::State { id, paused, last_due, last_manual, runs: schedule.runs })
    }
}

impl Engine {
    pub(super) fn put_schedule(
        &mut self,
        spec: ScheduleSpec,
        rules: Rules,
        over: &InPlaceOf,
        batch: &mut Batch,
    ) -> Result<(ScheduleChange, Name), Refused> {
        let name = spec.name.clone();
        let table = &mut self.schedules;
        let known = table.ids.get(&name).copied();
        // First, so that whoever lost the answer may ask again.
        if known.is_some_and(|id| *table.specs[&id] == spec) {
            return Ok((ScheduleChange::Unchanged, name));
        }
        if let Some(id) = known {
            over.check(&name, Some(&table.specs[&id].job.project), Refused::ScheduleExists)?;
        }
        if known.is_none() && table.ids.len() >= SCHEDULES_MAX {
            return Err(Refused::TooManySchedules);
        }
        let id = known.unwrap_or_else(|| {
            table.id_next += 1;
            ScheduleId(table.id_next - 1)
        });
        let spec = Arc::new(spec);
        table.rules.put(batch.now, id, rules);
        table.specs.insert(id, spec.clone());
        table.ids.insert(name.clone(), id);
        batch.schedules.push(ScheduleWrite::Put { id, spec });
        batch.schedules.extend(table.state_row(id));
        self.expect_run(id, batch);
        self.count_schedules();
        let change = if known.is_some() { ScheduleChange::Changed } else { ScheduleChange::Created };
        Ok((change, name))
    }

    pub(super) fn change_schedule(
        &mut self,
        name: &Name,
        command: ScheduleCommand,
        batch: &mut Batch,
    ) -> Result<(), Refused> {
        let table = &mut self.schedules;
        let id = table.ids.get(name).copied().ok_or_else(|| Refused::NoSchedule(name.clone()))?;
        match command {
            ScheduleCommand::Pause => table.rules.pause(id),
            ScheduleCommand::Resume => table.rules.resume(batch.now, id),
            ScheduleCommand::Remove => {
                table.rules.remove(id);
                table.specs.remove(&id);
                table.ids.remove(name);
                table.measured.retain(|(of, _), _| *of != id);
                batch.runs_learned.retain(|(of, _), _| *of != id);
                batch.schedules.push(ScheduleWrite::Removed(id));
            }
        }
        batch.schedules.extend(table.state_row(id));
        if command == ScheduleCommand::Remove {
            let (schedule, due, needs) = (name.clone(), None, Vec::new());
            self.apply(Event::RunExpected { schedule, due, needs }, batch);
        }
        self.expect_run(id, batch);
        self.count_schedules();
        Ok(())
    }

    pub(super) fn run_schedule(
        &mut self,
        name: &Name,
        idempotency: Option<(String, [u8; 32])>,
        batch: &mut Batch,
    ) -> Result<Submitted, Refused> {
        let no_schedule = || Refused::NoSchedule(name.clone());
        let id = self.schedules.ids.get(name).copied().ok_or_else(no_schedule)?;
        if let Some((key, digest)) = &idempotency
            && let Some((job, known)) = batch.keys.get(key)
        {
            let repeated = Submitted { id: *job, tasks: 0, repeated: true };
            return if known == digest { Ok(repeated) } else { Err(Refused::Conflict) };
        }
        let no_run = |reason| Refused::NoRun { schedule: name.clone(), reason };
        let job = JobId(Ulid::generate());
        let decision = self.schedules.rules.run_now(batch.now, id, job).ok_or_else(no_schedule)?;
        let decision = decision.map_err(|error| no_run(error.to_string()))?;
        let made = self.carry_out(decision, idempotency, batch);
        batch.schedules.extend(self.schedules.state_row(id));
        made.ok_or_else(no_schedule)?.map_err(no_run)
    }

    /// Everything that is due, after what this batch has changed.
    pub(super) fn run_schedules(&mut self, batch: &mut Batch) {
        let mut seen = 0;
        for _ in 0..ROUNDS_MAX {
            for over in self.note_jobs(batch, &mut seen) {
                // What its last run took is known now.
                self.expect_run(over, batch);
            }
            let decisions = self.schedules.rules.decide(batch.now, || JobId(Ulid::generate()));
            if decisions.is_empty() {
                return;
            }
            let mut touched: Vec<ScheduleId> = decisions.iter().map(|decision| decision.schedule).collect();
            touched.dedup();
            for decision in decisions {
                self.carry_out(decision, None, batch);
            }
            for id in touched {
                batch.schedules.extend(self.schedules.state_row(id));
                self.expect_run(id, batch);
            }
        }
        self.note_jobs(batch, &mut seen);
    }

    /// Jobs that began or ended in this batch; the schedules of those that ended.
    fn note_jobs(&mut self, batch: &mut Batch, seen: &mut usize) -> BTreeSet<ScheduleId> {
        let mut over = BTreeSet::new();
        for change in &batch.applied.changes[*seen..] {
            if let Change::StepTiming { job, step, timing } = change
                && let (Some(id), Some(task_s)) = (self.schedules.rules.of_job(*job), timing.task_s)
            {
                self.schedules.measured.insert((id, *step), task_s);
                batch.runs_learned.insert((id, *step), task_s);
            }
            if let Change::JobState { id, state, .. } = change {
                match state {
                    JobState::Running => self.schedules.rules.job_started(*id),
                    JobState::Succeeded | JobState::Failed | JobState::Canceled => {
                        over.extend(self.schedules.rules.of_job(*id));
                        self.schedules.rules.job_over(*id);
                    }
                    JobState::Queued | JobState::Paused => {}
                }
            }
        }
        *seen = batch.applied.changes.len();
        over
    }

    /// Tells the rules when the schedule runs next and what that begins with, so that workers are there in time.
    fn expect_run(&mut self, id: ScheduleId, batch: &mut Batch) {
        let Some(spec) = self.schedules.specs.get(&id).cloned() else { return };
        let Some(schedule) = self.schedules.rules.get(id) else { return };
        let number = schedule.runs + 1;
        let due = schedule.next_fire().filter(|_| !schedule.paused);
        // What can't be filled in now is told when it is due.
        let run = due.and_then(|due| render(&spec, due, number, &Accepted(&self.functions)).ok());
        let steps = run.iter().flat_map(|(_, job)| job.steps.iter().enumerate());
        let first = steps.filter(|(_, step)| step.after.is_empty());
        let needs = first.map(|(at, step)| Need {
            function: step.function.clone(),
            tasks: step.frames.len().into(),
            task_s: self.schedules.measured.get(&(id, at)).copied(),
        });
        let (schedule, needs) = (spec.name.clone(), needs.collect());
        self.apply(Event::RunExpected { schedule, due, needs }, batch);
    }

    /// The same for all of them: after a start.
    pub(super) fn expect_runs(&mut self, batch: &mut Batch) {
        for id in self.schedules.specs.keys().copied().collect::<Vec<_>>() {
            self.expect_run(id, batch);
        }
    }

    /// Does what was decided. Of a run: its job, or why there is none.
    fn carry_out(
        &mut self,
        decision: Decision,
        idempotency: Option<(String, [u8; 32])>,
        batch: &mut Batch,
    ) -> Option<Result<Submitted, String>> {
        let Decision { schedule, due, what } = decision;
        let spec = self.schedules.specs.get(&schedule)?.clone();
        let name = &spec.name;
        let runs = &self.metrics.farm.schedules_runs;
        let (number, job, reason) = (None, None, String::new());
        let row = RunRow { schedule, due, state: RunState::Waiting, number, job, reason, decided_at: batch.now };
        match what {
            What::Wait => {
                runs.with_label_values(&["waiting"]).inc();
                batch.schedules.push(ScheduleWrite::Run(row));
                None
            }
            What::Skip { reason } => {
                runs.with_label_values(&["skipped"]).inc();
                warn!(schedule = %name, "the run of schedule {name} due {due} is skipped: {reason}");
                batch.run_notices.push(missed(&spec, due, &reason));
                batch.schedules.push(ScheduleWrite::Run(RunRow { state: RunState::Skipped, reason, ..row }));
                None
            }
            What::Late { deadline, job } => {
                self.tell_late(&spec, due, deadline, job, batch);
                batch.schedules.push(ScheduleWrite::Late { schedule, due, deadline, at: batch.now });
                None
            }
            What::Submit { job, number, reason, waited, replaces } => {
                let made = self.make_job(&spec, due, number, job, idempotency, batch);
                let number = Some(number);
                let row = match &made {
                    Ok(_) => {
                        self.metrics.farm.schedules_runs.with_label_values(&["submitted"]).inc();
                        info!(schedule = %name, job.id = %job, "schedule {name} makes job {job}");
                        RunRow { state: RunState::Submitted, number, job: Some(job), reason: reason.to_owned(), ..row }
                    }
                    Err(reason) => {
                        self.metrics.farm.schedules_runs.with_label_values(&["refused"]).inc();
                        warn!(schedule = %name, "schedule {name} makes no job for {due}: {reason}");
                        batch.run_notices.push(missed(&spec, due, reason));
                        self.schedules.rules.job_over(job);
                        RunRow { state: RunState::Skipped, number, reason: reason.clone(), ..row }
                    }
                };
                batch.schedules.push(if waited { ScheduleWrite::RunWaited(row) } else { ScheduleWrite::Run(row) });
                // One transaction: the earlier jobs end with the new one there, or not at all.
                for earlier in replaces.into_iter().filter(|_| made.is_ok()) {
                    self.apply(Event::JobCanceled { id: earlier }, batch);
                }
                Some(made)
            }
        }
    }

    fn make_job(
        &mut self,
        spec: &ScheduleSpec,
        due: Timestamp,
        number: u64,
        id: JobId,
        idempotency: Option<(String, [u8; 32])>,
        batch: &mut Batch,
    ) -> Result<Submitted, String> {
        let (made, job) = render(spec, due, number, &Accepted(&self.functions)).map_err(|faults| said(&faults))?;
        let by = format!("schedule {}", spec.name);
        let submission = Submission { id, by, spec: made, job, idempotency, parent: None };
        check_sizes(&submission).map_err(|error| error.to_string())?;
        self.submit(submission, batch).map_err(|error| error.to_string())
    }

    fn tell_late(&self, spec: &ScheduleSpec, due: Timestamp, deadline: LateFor, job: Option<JobId>, batch: &mut Batch) {
        let (name, deadline) = (
            &spec.name,
            match deadline {
                LateFor::Start => LateDeadline::Start,
                LateFor::Finish => LateDeadline::Finish,
            },
        );
        let word = deadline.as_str();
        self.metrics.farm.schedules_late.with_label_values(&[word]).inc();
        warn!(schedule = %name, "the run of schedule {name} due {due} missed its deadline to {word}");
        let project = spec.job.project.clone();
        batch.run_notices.push(Notice::Late { schedule: name.clone(), project, due, deadline, job });
        if let Some(job) = job {
            let what = Happening::RunLate { schedule: name.clone(), due, deadline };
            batch.schedule_events.push(EventView { seq: None, job, at: batch.now, what });
        }
    }

    pub(super) fn count_schedules(&self) {
        let paused = self.schedules.rules.iter().filter(|schedule| schedule.paused).count();
        let active = self.schedules.rules.len() - paused;
        for (state, count) in [("active", active), ("paused", paused)] {
            self.metrics.farm.schedules.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn schedule_view(&self, name: &Name) -> Option<ScheduleView> {
        let id = self.schedules.ids.get(name)?;
        let (schedule, spec) = (self.schedules.rules.get(*id)?, self.schedules.specs.get(id)?);
        let next = schedule.next().filter(|_| !schedule.paused);
        let state = match (schedule.paused, next) {
            (true, _) => ScheduleState::Paused,
            (false, Some(_)) => ScheduleState::Active,
            (false, None) => ScheduleState::Over,
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Some(ScheduleView {
            name: name.clone(),
            spec: spec.as_ref().clone(),
            reading: schedule.rules.calendar.reading(),
            state,
            next,
            runs: schedule.runs,
            jobs: schedule.jobs().collect(),
            waiting: count(schedule.waiting()),
            late: count(schedule.late()),
        })
    }

    pub(super) fn schedule_views(&self, after: Option<&Name>, limit: usize) -> Vec<ScheduleView> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.schedules.ids.range::<Name, _>((begin, Bound::Unbounded)).take(limit);
        names.filter_map(|(name, _)| self.schedule_view(name)).collect()
    }
}

fn missed(spec: &ScheduleSpec, due: Timestamp, reason: &str) -> Notice {
    let (schedule, project) = (spec.name.clone(), spec.job.project.clone());
    Notice::Missed { schedule, project, due, reason: reason.to_owned() }
}

/// The job of one run as it is submitted: filled in, checked, labeled, its functions with their versions.
pub(crate) fn render(
    spec: &ScheduleSpec,
    due: Timestamp,
    number: u64,
    known: &impl framewake_proto::job::Known,
) -> Result<(framewake_proto::job::JobSpec, framewake_proto::job::Job), Vec<Fault>> {
    let fault = |reason: String| vec![Fault::new("", reason)];
    let zone = framewake_core::calendar::zone(&spec.zone).map_err(|error| fault(error.to_string()))?;
    let values = Values::new(spec.name.clone(), number, due, &zone);
    let values = values.ok_or_else(|| fault(format!("{due} is in no calendar")))?;
    let mut filled = fill(&spec.job, &values, known)?;
    if filled.labels.len() < LABELS_MAX {
        filled.labels.entry(LABEL.to_owned()).or_insert_with(|| spec.name.to_string());
    }
    filled.deadline = spec.deadline.finish.map(|finish| due.after(finish.0));
    let job = filled.check(known)?;
    Ok((pinned(filled, &job), job))
}

fn said(faults: &[Fault]) -> String {
    let said: Vec<String> = faults.iter().take(3).map(|fault| format!("{}: {}", fault.field, fault.reason)).collect();
    said.join("; ")
}
