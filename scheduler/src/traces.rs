//! Traces for OpenTelemetry: what became of a job as one tree of spans, under the span of whoever submitted it.
//!
//! Spans are made of what is committed, once it is over: workers send none, and only say how their time went. Ids follow
//! from the trace and from what a span is about, so that spans from before a crash and after it make one tree.

mod ids;
mod lane;
mod settings;
mod span;
#[cfg(test)]
mod tests;
mod trail;

pub use settings::{Error, TraceSettings};

pub(crate) use lane::{Lane, Outlet};

use crate::store::StoredTraces;
use framewake_core::event::{Event, Report};
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::time::Timestamp;
use framewake_proto::trace::{SpanId, TraceId, TraceParent};
use opentelemetry_sdk::trace::Sampler;
use std::collections::HashMap;
use trail::{Held, Traced};

/// Jobs that are traced at the same time. Each takes some hundred bytes.
pub(crate) const JOBS_TRACED_MAX: usize = 100_000;

/// Where a job is in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) trace: TraceId,
    /// What the job's span hangs under, if anything.
    pub(crate) parent: Option<SpanId>,
    /// When it begins.
    pub(crate) since: Timestamp,
}

impl Root {
    fn span(&self) -> SpanId {
        ids::job(self.trace, self.parent)
    }
}

/// What the engine keeps for the traces of jobs that are not over.
#[derive(Debug)]
pub(crate) struct Traces {
    sampler: Sampler,
    outlet: Outlet,
    jobs: HashMap<JobId, Traced>,
    attempts: HashMap<AttemptId, Held>,
}

impl Traces {
    pub(crate) fn new(settings: &TraceSettings, outlet: Outlet) -> Traces {
        Traces { sampler: settings.sampler(), outlet, jobs: HashMap::new(), attempts: HashMap::new() }
    }

    /// What is not over, after a start.
    pub(crate) fn restore(&mut self, stored: StoredTraces) {
        self.jobs = stored.jobs.into_iter().map(|(job, root)| (job, Traced::new(root))).collect();
        for held in stored.held {
            self.attempts.insert(held.attempt, Held::new(held.worker, held.tasks, held.since));
        }
    }

    /// Decides whether a new job is traced, and where.
    pub(crate) fn begin(&mut self, job: JobId, parent: Option<TraceParent>, now: Timestamp) -> Option<Root> {
        let trace = parent.map_or_else(ids::new_trace, |parent| parent.trace);
        if !settings::is_sampled(&self.sampler, trace, parent) {
            return None;
        }
        self.enter(job, Root { trace, parent: parent.map(|parent| parent.span), since: now })
    }

    /// A job that was over goes on: under its first span, so that no id comes twice.
    pub(crate) fn begin_again(&mut self, job: JobId, before: Root, now: Timestamp) -> Option<Root> {
        self.enter(job, Root { trace: before.trace, parent: Some(before.span()), since: now })
    }

    fn enter(&mut self, job: JobId, root: Root) -> Option<Root> {
        if self.jobs.len() >= JOBS_TRACED_MAX {
            self.outlet.left_out(1);
            return None;
        }
        self.jobs.insert(job, Traced::new(root));
        Some(root)
    }

    /// The trace of a job that is not over.
    pub(crate) fn of(&self, job: JobId) -> Option<TraceId> {
        self.jobs.get(&job).map(|traced| traced.root.trace)
    }

    /// What goes with an order: whatever its worker does hangs under the attempt.
    pub(crate) fn order(&self, job: JobId, step: usize, attempt: AttemptId) -> Option<TraceParent> {
        let root = self.jobs.get(&job)?.root;
        let span = ids::attempt(root.trace, ids::step(root.trace, root.span(), step), attempt);
        Some(TraceParent { trace: root.trace, span, sampled: true })
    }

    /// What a worker says of its time before its first task.
    pub(crate) fn hear(&mut self, event: &Event) {
        let Event::AttemptReported { worker, attempt, report: Report { staged_ms, load_ms, .. } } = event else {
            return;
        };
        if let Some(held) = self.attempts.get_mut(attempt)
            && held.worker == *worker
        {
            held.staged_ms = held.staged_ms.or(*staged_ms);
            held.load_ms = held.load_ms.or(*load_ms);
        }
    }
}
