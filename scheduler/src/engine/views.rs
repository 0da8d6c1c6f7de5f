//! What people see of workers and scaling: the rules' state and the last heartbeats.

use super::Engine;
use super::glance::{WorkerQuery, state_of};
use super::starts::steps;
use crate::queue::reading::{GPU_MAX, HOST_MAX};
use framewake_core::farm::{PlaceStanding, WorkerActivity, WorkerStatus};
use framewake_proto::api::{EventView, Happening, PlaceState, PlaceView, ScalingView, WorkerView};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use framewake_proto::wire;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Progress of one worker is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The last heartbeat of each worker.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    last: HashMap<WorkerId, Beat>,
    /// Workers that died without a good-bye are swept when there are more than this.
    sweep_above: usize,
}

#[derive(Debug)]
struct Beat {
    heartbeat: wire::Heartbeat,
    /// When its progress was last told.
    told_at: Option<Timestamp>,
}

impl Beats {
    /// Keeps the heartbeat. Whether its progress is due to be told.
    fn note(&mut self, worker: WorkerId, heartbeat: wire::Heartbeat, now: Timestamp) -> bool {
        let told_at = self.last.get(&worker).and_then(|beat| beat.told_at);
        let due = heartbeat.progress.is_some() && told_at.is_none_or(|at| now.since(at) >= PROGRESS_EVERY);
        let told_at = if due { Some(now) } else { told_at };
        self.last.insert(worker, Beat { heartbeat, told_at });
        due
    }

    fn get(&self, worker: &WorkerId) -> Option<&wire::Heartbeat> {
        self.last.get(worker).map(|beat| &beat.heartbeat)
    }

    /// By name; empty for none, or when it was not heard yet.
    pub(super) fn gpus(&self, worker: &WorkerId) -> String {
        self.get(worker).map_or_else(String::new, |beat| {
            let gpus = beat.gpus.iter().take(wire::GPUS_MAX).map(|gpu| wire::clip(gpu.trim(), GPU_MAX));
            gpus.collect::<Vec<_>>().join(",")
        })
    }

    pub(crate) fn forget(&mut self, worker: &WorkerId) {
        self.last.remove(worker);
    }

    /// Rarely does anything, so that a heartbeat costs the same on a farm of any size.
    fn sweep<'a>(&mut self, living: impl Iterator<Item = &'a WorkerId>) {
        if self.last.len() > self.sweep_above {
            let living: HashSet<&WorkerId> = living.collect();
            self.last.retain(|worker, _| living.contains(worker));
            self.sweep_above = 2 * self.last.len() + 64;
        }
    }
}

impl Engine {
    pub(super) fn note_beat(&mut self, worker: WorkerId, heartbeat: wire::Heartbeat, now: Timestamp) {
        if self.beats.note(worker.clone(), heartbeat, now)
            && let Some(heartbeat) = self.beats.get(&worker)
        {
            self.tell_progress(heartbeat, now);
        }
        self.beats.sweep(self.farm.workers().map(|worker| worker.id));
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

    pub(super) fn worker_views(&self, query: &WorkerQuery) -> Vec<WorkerView> {
        let wanted = self.farm.workers_after(query.after.as_ref()).filter(|worker| query.wants(worker));
        wanted.take(query.limit).map(|worker| self.worker_view(&worker)).collect()
    }

    pub(super) fn worker_view(&self, worker: &WorkerStatus<'_>) -> WorkerView {
        let beat = self.beats.get(worker.id);
        let (attempt, job): (Option<AttemptId>, Option<JobId>) = match worker.state {
            WorkerActivity::Busy(attempt, job) => (Some(attempt), Some(job)),
            WorkerActivity::Starting | WorkerActivity::Idle | WorkerActivity::Draining => (None, None),
        };
        // What it said of an attempt of before is not what it is at, and may be another project's.
        let is_of_now =
            |beat: &&wire::Heartbeat| attempt == Some(AttemptId { chunk: ChunkId(beat.chunk), number: beat.attempt });
        let progress = beat.filter(is_of_now).and_then(|beat| beat.progress.as_ref());
        let start = self.farm.start_of(worker.id);
        let steps = start.as_ref().map_or_else(Vec::new, |start| steps(start.timeline));
        let is_complete = steps.last().is_some_and(|step| step.point == StartPoint::Frame);
        let took_ms = steps.iter().map(|step| step.took_ms).sum();
        WorkerView {
            id: worker.id.clone(),
            function: worker.function.to_string(),
            pool: worker.pool.cloned(),
            state: state_of(worker.state),
            host: beat.map_or(String::new(), |beat| wire::clip(&beat.host, HOST_MAX).to_owned()),
            gpus: beat.map_or(Vec::new(), |beat| beat.gpus.clone()),
            attempt: attempt.map(|attempt| attempt.to_string()),
            job,
            since: worker.since,
            seen_at: worker.seen_at,
            permille: progress.map_or(0, |progress| progress.permille.min(1000)),
            note: progress.map_or(String::new(), |progress| wire::clip(&progress.note, wire::NOTE_MAX).to_owned()),
            start_ms: is_complete.then_some(took_ms),
            start: if is_complete { Vec::new() } else { steps },
            waits: start.map_or(String::new(), |start| start.waits.to_owned()),
        }
    }

    /// Places with workers, and those that are not simply good.
    pub(super) fn place_views(&self) -> Vec<PlaceView> {
        let views = self.farm.places(self.clock.now()).map(|status| {
            let name = status.place.to_string();
            let plain = PlaceView { name, workers: status.workers, times: status.times, ..PlaceView::default() };
            match status.standing {
                PlaceStanding::Good => plain,
                PlaceStanding::Suspect { reason, kept } => {
                    let reason = format!("{reason}; it goes on, because {kept}");
                    PlaceView { state: PlaceState::Suspect, reason, ..plain }
                }
                PlaceStanding::Aside { since, until, reason } => {
                    let (since, until) = (Some(since), Some(until));
                    PlaceView { state: PlaceState::SetAside, reason, since, until, ..plain }
                }
                PlaceStanding::Trial { since, reason } => {
                    PlaceView { state: PlaceState::OnTrial, reason, since: Some(since), ..plain }
                }
            }
        });
        views.filter(|view| view.workers > 0 || view.state != PlaceState::Good).collect()
    }

    pub(super) fn scaling_views(&self) -> Vec<(FunctionKey, ScalingView)> {
        let views = self.farm.scaling(self.clock.now()).map(|(key, status)| {
            let view = ScalingView {
                wanted: status.wanted,
                needed: status.needed,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(permille: u32) -> wire::Heartbeat {
        let progress = wire::TaskProgress { task: 0, permille, note: String::new() };
        wire::Heartbeat { progress: Some(progress), ..wire::Heartbeat::default() }
    }

    fn id(text: &str) -> WorkerId {
        text.parse().expect("a good id")
    }

    #[test]
    fn progress_is_told_now_and_then_however_often_a_worker_speaks() {
        let mut beats = Beats::default();
        // Every 20 ms for a second.
        let told = (0..50).filter(|at| beats.note(id("w1"), beat(0), Timestamp(at * 20))).count();
        assert_eq!(told, 10);
    }

    #[test]
    fn the_dead_are_swept_and_the_living_are_kept() {
        let mut beats = Beats::default();
        for worker in 0..1000 {
            beats.note(id(&format!("w{worker}")), beat(0), Timestamp(0));
            beats.sweep([id("w7")].iter());
        }
        assert!(beats.last.len() < 100, "{} are kept", beats.last.len());
        assert!(beats.get(&id("w7")).is_some());
    }
}
