//! The events that people follow, made from changes.

use super::JobCache;
use super::write::how_lost;
use framewake_core::change::{Change, Counts, JobState, Outcome, Payer, StepState};
use framewake_proto::api::{self, EventView, Happening, TaskCounts};
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::Step;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;

/// Most frames named in one event; an event that stands for more names the first.
const FRAMES_NAMED_MAX: usize = 1000;

/// Events without numbers, in order; tasks that a batch finished are one event a step.
pub(crate) fn happenings(changes: &[Change], jobs: &JobCache) -> Vec<EventView> {
    let mut counts: BTreeMap<(JobId, usize), Counts> = BTreeMap::new();
    let mut done: BTreeMap<(JobId, usize), Vec<i64>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::StepCounts { job, step, counts: new } => {
                counts.insert((*job, *step), *new);
            }
            Change::TaskDone { job, step, result, .. } => {
                let frames = done.entry((*job, *step)).or_default();
                if frames.len() < FRAMES_NAMED_MAX
                    && let Some(frame) = step_of(jobs, *job, *step, |step| step.frames.get(result.task)).flatten()
                {
                    frames.push(frame);
                }
            }
            _ => {} // Looked at below.
        }
    }
    let mut events = Vec::new();
    for change in changes {
        let Some((job, at, what)) = happening(change, jobs, &counts, &mut done) else { continue };
        events.push(EventView { seq: None, job, at, what });
    }
    events
}

fn happening(
    change: &Change,
    jobs: &JobCache,
    counts: &BTreeMap<(JobId, usize), Counts>,
    done: &mut BTreeMap<(JobId, usize), Vec<i64>>,
) -> Option<(JobId, Timestamp, Happening)> {
    let name = |job: JobId, step: usize| step_of(jobs, job, step, |step| step.name.clone());
    Some(match change {
        Change::JobAdded { id, at, .. } => (*id, *at, Happening::JobState { state: api::JobState::Queued }),
        Change::JobState { id, state, at } => (*id, *at, Happening::JobState { state: job_state(*state) }),
        Change::StepState { job, step, state, at } => {
            (*job, *at, Happening::StepState { step: name(*job, *step)?, state: step_state(*state) })
        }
        Change::TaskDone { job, step, at, .. } => {
            // The first of a step's tasks in the batch speaks for all of them.
            let frames = done.remove(&(*job, *step))?;
            let tasks = counts.get(&(*job, *step)).map(|counts| task_counts(*counts)).unwrap_or_default();
            (*job, *at, Happening::TasksDone { step: name(*job, *step)?, frames, tasks })
        }
        Change::TaskFailed { job, step, attempt, failure, for_good, at } => {
            let frame = step_of(jobs, *job, *step, |step| step.frames.get(failure.task)).flatten()?;
            let (verdict, message) = (failure.verdict, failure.message.clone());
            let (step, attempt) = (name(*job, *step)?, attempt.to_string());
            (*job, *at, Happening::TaskFailed { step, frame, attempt, verdict, message, again: !for_good })
        }
        Change::AttemptStarted { job, step, attempt, worker, tasks, at } => {
            let frames = step_of(jobs, *job, *step, |step| frames_text(&step.frames, tasks))?;
            let (step, attempt, worker) = (name(*job, *step)?, attempt.to_string(), worker.clone());
            (*job, *at, Happening::AttemptStarted { step, attempt, worker, frames })
        }
        Change::AttemptEnded { job, step, attempt, outcome, at, .. } => {
            let (step, attempt, reason) = (name(*job, *step)?, attempt.to_string(), how_lost(outcome).to_owned());
            (*job, *at, Happening::AttemptEnded { step, attempt, outcome: outcome_of(outcome), reason })
        }
        Change::JobPriority { .. }
        | Change::JobBudget { .. }
        | Change::ProjectBudget { .. }
        | Change::BudgetTold { .. }
        | Change::ProjectWeight { .. }
        | Change::WorkersKept { .. }
        | Change::StepCounts { .. }
        | Change::StepTiming { .. }
        | Change::StepVram { .. }
        | Change::TasksReset { .. }
        | Change::ChunkStored(_)
        | Change::ChunkClosed { .. }
        | Change::PlaceStored(_)
        | Change::PlaceForgotten { .. }
        | Change::WorkerStart { .. }
        | Change::WorkerStartEnded { .. }
        | Change::StartsLearned(_)
        | Change::TimingLearned(_)
        | Change::Paid { .. }
        | Change::AccountClosed { .. }
        | Change::ChunkNumbers { .. } => return None,
    })
}

/// The job that must be at hand for the change to be told.
pub(crate) fn job_of(change: &Change) -> Option<JobId> {
    match change {
        Change::StepState { job, .. }
        | Change::TaskDone { job, .. }
        | Change::TaskFailed { job, .. }
        | Change::AttemptStarted { job, .. }
        | Change::AttemptEnded { job, .. }
        | Change::BudgetTold { payer: Payer::Job(job), .. } => Some(*job),
        // Somebody may want to be told.
        Change::JobState { id, state: JobState::Succeeded | JobState::Failed, .. } => Some(*id),
        Change::JobAdded { .. }
        | Change::JobState { .. }
        | Change::JobPriority { .. }
        | Change::JobBudget { .. }
        | Change::ProjectBudget { .. }
        | Change::BudgetTold { .. }
        | Change::ProjectWeight { .. }
        | Change::WorkersKept { .. }
        | Change::StepCounts { .. }
        | Change::StepTiming { .. }
        | Change::StepVram { .. }
        | Change::TasksReset { .. }
        | Change::ChunkStored(_)
        | Change::ChunkClosed { .. }
        | Change::PlaceStored(_)
        | Change::PlaceForgotten { .. }
        | Change::WorkerStart { .. }
        | Change::WorkerStartEnded { .. }
        | Change::StartsLearned(_)
        | Change::TimingLearned(_)
        | Change::Paid { .. }
        | Change::AccountClosed { .. }
        | Change::ChunkNumbers { .. } => None,
    }
}

fn step_of<T>(jobs: &JobCache, job: JobId, step: usize, read: impl FnOnce(&Step) -> T) -> Option<T> {
    jobs.get(job).and_then(|job| job.steps.get(step).map(read))
}

/// `7`, `1-10`, or for scattered tasks the first and last frame with dots between.
pub(crate) fn frames_text(frames: &FrameSet, tasks: &TaskSet) -> String {
    let first = tasks.first().and_then(|task| frames.get(task)).unwrap_or(0);
    let last = tasks.runs().last().and_then(|run| frames.get(run.end - 1)).unwrap_or(first);
    let span = i64::from(tasks.len()) - 1;
    match last - first {
        0 => first.to_string(),
        length if length == span => format!("{first}-{last}"),
        _ => format!("{first}…{last}"),
    }
}

pub(crate) fn task_counts(counts: Counts) -> TaskCounts {
    let Counts { total, open, done, failed } = counts;
    TaskCounts { total, waiting: total.saturating_sub(open + done + failed), open, done, failed, canceled: 0 }
}

pub(crate) fn job_state(state: JobState) -> api::JobState {
    match state {
        JobState::Queued => api::JobState::Queued,
        JobState::Running => api::JobState::Running,
        JobState::Paused => api::JobState::Paused,
        JobState::Succeeded => api::JobState::Succeeded,
        JobState::Failed => api::JobState::Failed,
        JobState::Canceled => api::JobState::Canceled,
    }
}

fn step_state(state: StepState) -> api::StepState {
    match state {
        StepState::Blocked => api::StepState::Blocked,
        StepState::Ready => api::StepState::Ready,
        StepState::Running => api::StepState::Running,
        StepState::Succeeded => api::StepState::Succeeded,
        StepState::Failed => api::StepState::Failed,
        StepState::Canceled => api::StepState::Canceled,
    }
}

fn outcome_of(outcome: &Outcome) -> api::AttemptOutcome {
    match outcome {
        Outcome::Finished => api::AttemptOutcome::Finished,
        Outcome::HandedBack => api::AttemptOutcome::HandedBack,
        Outcome::Canceled => api::AttemptOutcome::Canceled,
        Outcome::LicenseWait => api::AttemptOutcome::LicenseWait,
        Outcome::Lost { .. } => api::AttemptOutcome::Lost,
    }
}

/// A step's own name, for callers outside.
pub(crate) fn step_name(jobs: &JobCache, job: JobId, step: usize) -> Option<Name> {
    step_of(jobs, job, step, |step| step.name.clone())
}
