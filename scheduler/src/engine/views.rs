//! What people see of workers and scaling: the rules' state and the last heartbeats.

use super::Engine;
use framewake_core::farm::WorkerActivity;
use framewake_proto::api::{EventView, Happening, ScalingView, WorkerState, WorkerView};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::time::Timestamp;
use framewake_proto::wire;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Progress of one worker is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The last heartbeat of each worker.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    last: HashMap<WorkerId, (wire::Heartbeat, Timestamp)>,
}

impl Beats {
    pub(crate) fn forget(&mut self, worker: &WorkerId) {
        self.last.remove(worker);
    }
}

/// The worker and function of a heartbeat, if its names are names.
pub(crate) fn who(heartbeat: &wire::Heartbeat) -> Option<(WorkerId, FunctionKey)> {
    let function = FunctionKey { name: heartbeat.function.parse().ok()?, version: heartbeat.function_version };
    Some((heartbeat.worker.parse().ok()?, function))
}

impl Engine {
    pub(super) fn note_beat(&mut self, worker: WorkerId, heartbeat: wire::Heartbeat, now: Timestamp) {
        let told = self.beats.last.get(&worker).map(|(_, at)| *at);
        let due = told.is_none_or(|at| now.since(at) >= PROGRESS_EVERY);
        if due {
            self.tell_progress(&heartbeat, now);
        }
        self.beats.last.insert(worker, (heartbeat, now));
        // Workers that died without a goodbye are swept when they are more than the living.
        if self.beats.last.len() > 2 * self.farm.workers().count() + 64 {
            let living: std::collections::HashSet<WorkerId> = self.farm.workers().map(|worker| worker.id.clone()).collect();
            self.beats.last.retain(|worker, _| living.contains(worker));
        }
    }

    /// Progress is for who looks now: it is neither numbered nor kept.
    fn tell_progress(&self, heartbeat: &wire::Heartbeat, now: Timestamp) {
        let Some(progress) = &heartbeat.progress else { return };
        let attempt = AttemptId { chunk: ChunkId(heartbeat.chunk), number: heartbeat.attempt };
        let Some((job, step)) = self.farm.attempt_place(attempt) else { return };
        let place = self.jobs.get(job).and_then(|job| job.steps.get(step));
        let Some(frame) = place.and_then(|step| step.frames.get(progress.task)) else { return };
        let Some(step) = crate::store::happenings::step_name(&self.jobs, job, step) else { return };
        let (permille, note) = (progress.permille.min(1000), wire::clip(&progress.note, wire::NOTE_MAX).to_owned());
        let what = Happening::Progress { step, attempt: attempt.to_string(), frame, permille, note };
        let _ = self.events_out.send(Arc::new(EventView { seq: None, job, at: now, what }));
    }

    pub(super) fn worker_views(&self) -> Vec<WorkerView> {
        let views = self.farm.workers().map(|worker| {
            let beat = self.beats.last.get(worker.id).map(|(beat, _)| beat);
            let (state, attempt, job): (WorkerState, Option<AttemptId>, Option<JobId>) = match worker.state {
                WorkerActivity::Starting => (WorkerState::Starting, None, None),
                WorkerActivity::Idle => (WorkerState::Idle, None, None),
                WorkerActivity::Busy(attempt, job) => (WorkerState::Busy, Some(attempt), Some(job)),
                WorkerActivity::Draining => (WorkerState::Draining, None, None),
            };
            let progress = beat.and_then(|beat| beat.progress.as_ref());
            WorkerView {
                id: worker.id.clone(),
                function: worker.function.to_string(),
                state,
                host: beat.map_or(String::new(), |beat| wire::clip(&beat.host, 255).to_owned()),
                gpus: beat.map_or(Vec::new(), |beat| beat.gpus.clone()),
                attempt: attempt.map(|attempt| attempt.to_string()),
                job,
                since: worker.since,
                seen_at: worker.seen_at,
                permille: progress.map_or(0, |progress| progress.permille.min(1000)),
                note: progress.map_or(String::new(), |progress| wire::clip(&progress.note, wire::NOTE_MAX).to_owned()),
            }
        });
        views.collect()
    }

    pub(super) fn scaling_views(&self) -> Vec<(FunctionKey, ScalingView)> {
        let views = self.farm.scaling().map(|(key, status)| {
            let view = ScalingView {
                wanted: status.wanted,
                starting: status.starting,
                present: status.present,
                started_total: status.started_total,
                reasons: status.reasons,
            };
            (key.clone(), view)
        });
        views.collect()
    }
}
