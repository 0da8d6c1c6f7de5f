//! How workers came, for the interface.

use super::Engine;
use framewake_core::coming::{StoredStart, Timeline};
use framewake_proto::ids::WorkerId;
use framewake_proto::start::{StartEnd, StartStep, WorkerStart};

/// What is said of a worker that is not here, and whose end nobody told.
const NOT_HEARD: &str = "nothing was heard of it since the scheduler was started";

impl Engine {
    pub(super) fn worker_start(&self, id: &WorkerId) -> Option<WorkerStart> {
        let start = self.farm.start_of(id)?;
        Some(WorkerStart {
            worker: id.clone(),
            function: start.function.to_string(),
            pool: start.pool.cloned(),
            steps: steps(start.timeline),
            waits: start.waits.to_owned(),
            ended: None,
        })
    }
}

/// Of a worker that is not here.
pub(crate) fn view(start: StoredStart) -> WorkerStart {
    let StoredStart { worker, function, pool, timeline, ended } = start;
    let ended = match ended {
        Some((at, reason)) => StartEnd { at: Some(at), reason },
        None => StartEnd { at: None, reason: NOT_HEARD.to_owned() },
    };
    let (function, steps) = (function.to_string(), steps(&timeline));
    WorkerStart { worker, function, pool, steps, waits: String::new(), ended: Some(ended) }
}

pub(super) fn steps(timeline: &Timeline) -> Vec<StartStep> {
    let first = timeline.points().map(|(point, at)| StartStep { point, at, took_ms: 0 });
    let mut steps: Vec<StartStep> = first.collect();
    for (step, (_, took)) in steps.iter_mut().skip(1).zip(timeline.phases()) {
        step.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    }
    steps
}
