//! What the changes of a batch mean for the traces of its jobs: whatever ended has a span now.
//!
//! ```text
//! job ─► step ─► wait                          ready, until the first claim
//!             └► attempt ─► stage, load        inputs, renderer
//!                        └► frame ─► render, upload
//! ```

use super::span::Span;
use super::{Root, Traces, ids};
use crate::store::{JobCache, job_state_name, outcome_name, step_state_name};
use framewake_core::change::{Change, JobState, Outcome, StepState};
use framewake_core::event::Moments;
use framewake_proto::ids::{AttemptId, JobId, WorkerId};
use framewake_proto::job::Job;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::trace::SpanId;
use framewake_proto::verdict::Verdict;
use opentelemetry::trace::SpanKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// Frames of a job that have spans; of a job with more, every second, third, … Nobody reads a tree of more.
pub(super) const FRAMES_TRACED_MAX: u32 = 5000;
/// Failures of a job that have spans although their frames have none.
pub(super) const FAILURES_TRACED_MAX: u32 = 1000;

/// A job that is not over.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) root: Root,
    failures: u32,
    /// Spans of frames and attempts that are not made.
    left_out: u64,
    /// Since when each step may be worked on, as far as this scheduler has seen it.
    ready: BTreeMap<usize, Timestamp>,
}

/// An attempt that is not over.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) worker: WorkerId,
    tasks: TaskSet,
    since: Timestamp,
    /// By name; empty for none, and while the worker has told none.
    gpus: String,
    /// Milliseconds from the claim until the inputs were there.
    pub(super) staged_ms: Option<u32>,
    pub(super) load_ms: Option<u32>,
    /// A task of it has a span that its own share of spans has not.
    has_failure: bool,
}

/// A try at a task that ended.
struct Tried {
    job: JobId,
    step: usize,
    attempt: AttemptId,
    task: u32,
    verdict: Verdict,
    at: Timestamp,
    moments: Moments,
}

impl Traced {
    pub(super) fn new(root: Root) -> Traced {
        Traced { root, failures: 0, left_out: 0, ready: BTreeMap::new() }
    }

    fn takes_failure(&mut self) -> bool {
        self.failures += 1;
        self.failures <= FAILURES_TRACED_MAX
    }

    fn span(&self, name: &'static str, (id, parent): (SpanId, SpanId), start: Timestamp, end: Timestamp) -> Span {
        Span {
            trace: self.root.trace,
            id,
            parent: Some(parent),
            name,
            kind: SpanKind::Internal,
            start,
            end,
            attributes: Vec::new(),
            failed: None,
        }
    }

    fn step(&self, step: usize) -> SpanId {
        ids::step(self.root.trace, self.root.span(), step)
    }

    /// A span under another that has one of its kind.
    fn part(&self, name: &'static str, parent: SpanId, start: Timestamp, end: Timestamp) -> Span {
        self.span(name, (ids::child(self.root.trace, parent, name, 0), parent), start, end)
    }
}

impl Held {
    pub(super) fn new(worker: WorkerId, tasks: TaskSet, since: Timestamp) -> Held {
        Held { worker, tasks, since, gpus: String::new(), staged_ms: None, load_ms: None, has_failure: false }
    }
}

/// Every so many frames of a job have spans.
pub(super) fn every(job: &Job) -> u32 {
    let tasks = job.steps.iter().fold(0_u32, |sum, step| sum.saturating_add(step.frames.len()));
    tasks.div_ceil(FRAMES_TRACED_MAX).max(1)
}

/// Whether one of the tasks has spans.
pub(super) fn has_traced(tasks: &TaskSet, every: u32) -> bool {
    tasks.runs().iter().any(|run| run.start.checked_next_multiple_of(every).is_some_and(|next| next < run.end))
}

impl Traces {
    /// Sends the spans of what these changes, which are durable, ended. Jobs that they speak of are at hand; `gpus_of` knows
    /// those of each worker.
    pub(crate) fn follow(&mut self, changes: &[Change], jobs: &JobCache, gpus_of: impl Fn(&WorkerId) -> String) {
        let mut over = Vec::new();
        for change in changes {
            match change {
                Change::StepState { job, step, state, at } => self.step_changed((*job, *step), *state, *at, jobs),
                Change::AttemptStarted { job, attempt, worker, tasks, at, .. } if self.jobs.contains_key(job) => {
                    let gpus = gpus_of(worker);
                    self.attempts.insert(*attempt, Held { gpus, ..Held::new(worker.clone(), tasks.clone(), *at) });
                }
                Change::TaskDone { job, step, attempt, result, at } => {
                    let (task, verdict, moments) = (result.task, Verdict::Done, result.moments);
                    let tried = Tried { job: *job, step: *step, attempt: *attempt, task, verdict, at: *at, moments };
                    let size_bytes = i64::try_from(result.size_bytes).unwrap_or(i64::MAX);
                    self.tried(tried, jobs, &gpus_of, |span| {
                        span.with("framewake.device", result.device.clone())
                            .with("framewake.output_bytes", size_bytes)
                            .with("framewake.found", result.found)
                    });
                }
                Change::TaskFailed { job, step, attempt, failure, for_good, at } => {
                    let (task, verdict, moments) = (failure.task, failure.verdict, failure.moments);
                    let tried = Tried { job: *job, step: *step, attempt: *attempt, task, verdict, at: *at, moments };
                    self.tried(tried, jobs, &gpus_of, |span| span.with("framewake.again", !for_good));
                }
                Change::AttemptEnded { job, step, attempt, outcome, done, failed, at, .. } => {
                    self.attempt_ended((*job, *step), *attempt, outcome, (*done, *failed), *at, jobs);
                }
                Change::JobState { id, state, at } if state.is_over() => over.push((*id, *state, *at)),
                _ => {} // They begin or end nothing that has a span.
            }
        }
        // A job's last attempts end in the batch in which it does, before or after it.
        for (job, state, at) in over {
            self.job_over(job, state, at, jobs);
        }
    }

    fn step_changed(&mut self, (id, step): (JobId, usize), state: StepState, at: Timestamp, jobs: &JobCache) {
        let Some(traced) = self.jobs.get_mut(&id) else { return };
        let Some(spec) = jobs.get(id).and_then(|job| job.steps.get(step)) else { return };
        let since = traced.ready.get(&step).copied();
        let job = traced.root.span();
        match state {
            StepState::Blocked => {}
            StepState::Ready => {
                traced.ready.insert(step, at);
            }
            StepState::Running => {
                if let Some(since) = since {
                    let wait = traced.part("wait", traced.step(step), since, at);
                    self.outlet.send(wait.with("framewake.step", spec.name.to_string()));
                }
            }
            StepState::Succeeded | StepState::Failed | StepState::Canceled => {
                // One that was never ready has no time; of one from before a restart it is not known since when it was.
                let since = match (since, state) {
                    (Some(since), _) => since,
                    (None, StepState::Canceled) => return,
                    (None, _) => traced.root.since,
                };
                let mut span = traced
                    .span("step", (traced.step(step), job), since, at)
                    .with("framewake.job", id.to_string())
                    .with("framewake.step", spec.name.to_string())
                    .with("framewake.function", spec.function.to_string())
                    .with("framewake.state", step_state_name(state));
                span.failed = (state == StepState::Failed).then_some("failed");
                traced.ready.remove(&step);
                self.outlet.send(span);
            }
        }
    }

    fn tried(
        &mut self,
        tried: Tried,
        jobs: &JobCache,
        gpus_of: impl Fn(&WorkerId) -> String,
        more: impl FnOnce(Span) -> Span,
    ) {
        let Tried { job: id, step, attempt, task, verdict, at, moments } = tried;
        let Some(traced) = self.jobs.get_mut(&id) else { return };
        let Some(job) = jobs.get(id) else { return };
        let Some(spec) = job.steps.get(step) else { return };
        let mut held = self.attempts.get_mut(&attempt);
        if !task.is_multiple_of(every(job)) {
            if verdict == Verdict::Done || !traced.takes_failure() {
                traced.left_out += 1;
                self.outlet.left_out(1);
                return;
            }
            if let Some(held) = &mut held {
                held.has_failure = true;
            }
        }
        if let Some(held) = &mut held
            && held.gpus.is_empty()
        {
            held.gpus = gpus_of(&held.worker);
        }
        let claimed = held.as_ref().map_or(at, |held| held.since);
        // Whatever a worker says, nothing is before its claim or after its report.
        let moment = |ms: Option<u32>| ms.map(|ms| claimed.after(Duration::from_millis(ms.into())).min(at));
        let (began, ended) = (moment(moments.began_ms), moment(moments.ended_ms).unwrap_or(at));
        let (rendered, uploading) = (moment(moments.rendered_ms), moment(moments.uploading_ms));
        let parent = ids::attempt(traced.root.trace, traced.step(step), attempt);
        let frame = ids::child(traced.root.trace, parent, "frame", task.into());
        let mut span = traced
            .span("frame", (frame, parent), began.unwrap_or(ended), ended)
            .with("framewake.job", id.to_string())
            .with("framewake.step", spec.name.to_string())
            .with("framewake.frame", spec.frames.get(task).unwrap_or_default())
            .with("framewake.chunk", number(attempt.chunk.0))
            .with("framewake.attempt", i64::from(attempt.number))
            .with("framewake.verdict", verdict.as_str());
        if let Some(held) = held {
            span = span.with("framewake.worker", held.worker.to_string()).with("framewake.gpu", held.gpus.clone());
        }
        span.failed = (verdict != Verdict::Done).then(|| verdict.as_str());
        self.outlet.send(more(span));
        if let Some((began, rendered)) = began.zip(rendered) {
            self.outlet.send(traced.part("render", frame, began, rendered));
        }
        if let Some(uploading) = uploading {
            self.outlet.send(traced.part("upload", frame, uploading, ended));
        }
    }

    fn attempt_ended(
        &mut self,
        (id, step): (JobId, usize),
        attempt: AttemptId,
        outcome: &Outcome,
        (done, failed): (u32, u32),
        at: Timestamp,
        jobs: &JobCache,
    ) {
        let Some(held) = self.attempts.remove(&attempt) else { return };
        let Some(traced) = self.jobs.get_mut(&id) else { return };
        let Some(job) = jobs.get(id) else { return };
        let Some(spec) = job.steps.get(step) else { return };
        let is_lost = matches!(outcome, Outcome::Lost { .. });
        let has_span = held.has_failure || has_traced(&held.tasks, every(job)) || (is_lost && traced.takes_failure());
        if !has_span {
            traced.left_out += 1;
            return self.outlet.left_out(1);
        }
        let parent = traced.step(step);
        let own = ids::attempt(traced.root.trace, parent, attempt);
        let mut span = traced
            .span("attempt", (own, parent), held.since, at)
            .with("framewake.job", id.to_string())
            .with("framewake.step", spec.name.to_string())
            .with("framewake.chunk", number(attempt.chunk.0))
            .with("framewake.attempt", i64::from(attempt.number))
            .with("framewake.worker", held.worker.to_string())
            .with("framewake.gpu", held.gpus)
            .with("framewake.outcome", outcome_name(outcome))
            .with("framewake.done", i64::from(done))
            .with("framewake.failed", i64::from(failed));
        span.failed = is_lost.then(|| outcome_name(outcome));
        let moment = |ms: u32| held.since.after(Duration::from_millis(ms.into())).min(at);
        let staged = held.staged_ms.map(moment);
        if let Some(staged) = staged {
            self.outlet.send(traced.part("stage", own, held.since, staged));
        }
        if let Some(loaded) = held.load_ms.map(moment) {
            self.outlet.send(traced.part("load", own, staged.unwrap_or(held.since), loaded));
        }
        self.outlet.send(span);
    }

    fn job_over(&mut self, id: JobId, state: JobState, at: Timestamp, jobs: &JobCache) {
        let Some(traced) = self.jobs.remove(&id) else { return };
        let Some(job) = jobs.get(id) else { return };
        let Root { trace, parent, since } = traced.root;
        let tasks = job.steps.iter().map(|step| i64::from(step.frames.len())).sum::<i64>();
        let span = Span {
            trace,
            id: traced.root.span(),
            parent,
            name: "job",
            kind: SpanKind::Server,
            start: since,
            end: at,
            attributes: Vec::new(),
            failed: (state == JobState::Failed).then_some("failed"),
        };
        self.outlet.send(
            span.with("framewake.job", id.to_string())
                .with("framewake.job.name", job.name.clone())
                .with("framewake.project", job.project.to_string())
                .with("framewake.state", job_state_name(state))
                .with("framewake.tasks", tasks)
                .with("framewake.frames_traced_every", i64::from(every(job)))
                .with("framewake.spans_left_out", number(traced.left_out)),
        );
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
