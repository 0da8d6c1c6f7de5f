//! What is known of a job while it is watched: the last look at it, and the events since.

use crate::pace::Pace;
use crate::text;
use framewake_proto::api::{EventView, Happening, JobView, Page, StepView, TaskCounts, WorkerView};
use framewake_proto::ids::Name;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) job: JobView,
    /// Attempts that workers are on.
    pub(crate) running: BTreeMap<String, Running>,
    /// Something changed that events don't tell in full.
    pub(crate) is_stale: bool,
    paces: BTreeMap<Name, Pace>,
    /// Of all steps.
    pace: Pace,
}

/// How much shorter or longer than foretold the rest may take: by what was measured in the last minute, …
const MEASURED: (f64, f64) = (0.8, 1.3);
/// … or by what a task costs, before one ended while somebody watched. The pages say the same.
const FORETOLD: (f64, f64) = (0.7, 1.5);

/// The shortest and the longest time that is left.
pub(crate) type TimeLeft = (Duration, Duration);

/// An attempt that a worker is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) step: Option<Name>,
    pub(crate) worker: Name,
    /// First and last frame given; empty where only the worker told of the attempt.
    pub(crate) frames: String,
    pub(crate) frame: Option<i64>,
    pub(crate) permille: u32,
    pub(crate) note: String,
}

impl Watch {
    pub(crate) fn new(job: JobView, now: Duration) -> Watch {
        let (running, paces, pace) = (BTreeMap::new(), BTreeMap::new(), Pace::default());
        let mut watch = Watch { job: job.clone(), running, is_stale: true, paces, pace };
        watch.look(job, now);
        watch
    }

    /// Takes in a fresh look at the job.
    pub(crate) fn look(&mut self, job: JobView, now: Duration) {
        for step in &job.steps {
            self.paces.entry(step.name.clone()).or_default().sample(now, step.tasks.done);
        }
        self.pace.sample(now, job.tasks.done);
        self.job = job;
        self.is_stale = false;
    }

    /// Takes in who works now: events that were missed would leave workers standing for ever.
    pub(crate) fn look_at_workers(&mut self, workers: Page<WorkerView>) {
        let mut before = std::mem::take(&mut self.running);
        let is_whole = workers.next.is_none();
        for worker in workers.items {
            let Some(attempt) = worker.attempt.filter(|_| worker.job == Some(self.job.id)) else { continue };
            let known = before.remove(&attempt);
            let running = Running {
                step: known.as_ref().and_then(|known| known.step.clone()),
                frame: known.as_ref().and_then(|known| known.frame),
                frames: known.map_or(String::new(), |known| known.frames),
                worker: worker.id,
                permille: worker.permille,
                note: worker.note,
            };
            self.running.insert(attempt, running);
        }
        // Of those on further pages nothing was heard.
        if !is_whole {
            self.running.extend(before);
        }
    }

    pub(crate) fn apply(&mut self, event: &EventView, now: Duration) {
        match &event.what {
            Happening::JobState { state } => {
                self.job.state = *state;
                self.is_stale = true;
            }
            Happening::StepState { step, state } => {
                if let Some(step) = self.job.steps.iter_mut().find(|known| known.name == *step) {
                    step.state = *state;
                }
                self.is_stale = true;
            }
            Happening::AttemptStarted { step, attempt, worker, frames } => {
                let running = Running {
                    step: Some(step.clone()),
                    worker: worker.clone(),
                    frames: frames.clone(),
                    frame: None,
                    permille: 0,
                    note: String::new(),
                };
                self.running.insert(attempt.clone(), running);
            }
            Happening::AttemptEnded { attempt, .. } => drop(self.running.remove(attempt)),
            Happening::TasksDone { step, tasks, .. } => self.count(step, *tasks, now),
            Happening::TaskFailed { .. } => self.is_stale = true,
            // It says nothing about the job itself.
            Happening::RunLate { .. } => {}
            Happening::Progress { step, attempt, frame, permille, note } => {
                // One that is not running any more has only been overtaken by its end.
                if let Some(running) = self.running.get_mut(attempt) {
                    running.step = Some(step.clone());
                    running.frame = Some(*frame);
                    running.permille = *permille;
                    running.note.clone_from(note);
                }
            }
        }
    }

    fn count(&mut self, step: &Name, tasks: TaskCounts, now: Duration) {
        let Some(known) = self.job.steps.iter_mut().find(|known| known.name == *step) else { return };
        // An event from before the last look is old news.
        if tasks.done < known.tasks.done {
            return;
        }
        known.tasks = tasks;
        self.paces.entry(step.clone()).or_default().sample(now, tasks.done);
        let mut total = TaskCounts::default();
        for step in &self.job.steps {
            total.total += step.tasks.total;
            total.waiting += step.tasks.waiting;
            total.open += step.tasks.open;
            total.done += step.tasks.done;
            total.failed += step.tasks.failed;
            total.canceled += step.tasks.canceled;
        }
        self.job.tasks = total;
        self.pace.sample(now, total.done);
    }

    /// Tasks of all steps a second; `None` until one was finished.
    pub(crate) fn per_s(&self, now: Duration) -> Option<f64> {
        self.pace.per_s(now)
    }

    /// How long the whole job will take yet.
    pub(crate) fn time_left(&self, now: Duration) -> Option<TimeLeft> {
        let left = self.job.tasks.waiting + self.job.tasks.open;
        if left == 0 {
            return None;
        }
        let measured = self.pace.time_left(now, left).map(|time| range(time, MEASURED));
        let foretold = || {
            let open = self.job.steps.iter().filter(|step| step.tasks.waiting + step.tasks.open > 0);
            let times = open.map(|step| self.time_from_cost(step, step.tasks.waiting + step.tasks.open));
            Some(range(times.sum::<Option<Duration>>()?, FORETOLD))
        };
        measured.or_else(foretold)
    }

    /// Rate and time left of a step, in words; empty while nothing is known.
    pub(crate) fn outlook(&self, step: &StepView, now: Duration) -> String {
        let left = step.tasks.waiting + step.tasks.open;
        let pace = self.paces.get(&step.name);
        let mut words = Vec::new();
        if let Some(per_s) = pace.and_then(|pace| pace.per_s(now)) {
            words.push(text::rate(per_s));
        }
        let measured = pace.and_then(|pace| pace.time_left(now, left)).map(|time| range(time, MEASURED));
        let time = measured.or_else(|| Some(range(self.time_from_cost(step, left)?, FORETOLD)));
        if let Some(time) = time.filter(|_| left > 0) {
            words.push(format!("ETA {}", range_words(time)));
        }
        words.join(", ")
    }

    /// Time left from what a task costs, before this watch has seen one end.
    fn time_from_cost(&self, step: &StepView, left: u32) -> Option<Duration> {
        let workers = self.running.values().filter(|running| running.step.as_ref() == Some(&step.name)).count();
        let seconds = step.task_s? * f64::from(left) / workers.max(1) as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

fn range(time: Duration, (shorter, longer): (f64, f64)) -> TimeLeft {
    let times = |by: f64| Duration::try_from_secs_f64(time.as_secs_f64() * by).unwrap_or(Duration::MAX);
    (times(shorter), times(longer))
}

/// `2m 00s – 4m 18s`
pub(crate) fn range_words((shortest, longest): TimeLeft) -> String {
    let (from, to) = (text::duration(shortest), text::duration(longest));
    if from == to { from } else { format!("{from} – {to}") }
}

/// A failed try in one line.
pub(crate) fn failure_line(event: &EventView) -> Option<String> {
    let Happening::TaskFailed { step, frame, attempt, verdict, message, again } = &event.what else { return None };
    let what = if *again { "failed and will be tried again" } else { "failed for good" };
    let (message, attempt) = (text::clean(message), text::clean(attempt));
    Some(format!("{step} frame {frame} {what}: {message} ({verdict}, attempt {attempt})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::api::{JobState, StepState};
    use serde_json::json;

    fn job(done: u32) -> JobView {
        let tasks = json!({"total": 96, "waiting": 90 - done, "open": 6, "done": done, "failed": 0});
        serde_json::from_value(json!({
            "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "a", "project": "default", "priority": 50,
            "state": "running", "tasks": tasks, "submitted_at": "2026-01-01T00:00:00Z",
            "steps": [{"name": "render", "function": "blender@1", "frames": "1-96", "state": "running",
                "tasks": tasks, "after": [], "task_s": 2.0}],
        }))
        .expect("a job")
    }

    fn event(what: &serde_json::Value) -> EventView {
        let mut event = json!({"job": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "at": "2026-01-01T00:00:00Z"});
        event.as_object_mut().expect("a map").extend(what.as_object().expect("a map").clone());
        serde_json::from_value(event).expect("an event")
    }

    fn done(done: u32) -> EventView {
        let tasks = json!({"total": 96, "waiting": 90 - done, "open": 6, "done": done, "failed": 0});
        event(&json!({"event": "tasks_done", "step": "render", "frames": [1], "tasks": tasks}))
    }

    #[test]
    fn counts_rise_and_old_news_change_nothing() {
        let mut watch = Watch::new(job(10), Duration::ZERO);
        watch.apply(&done(12), Duration::from_secs(1));
        watch.apply(&done(4), Duration::from_secs(2));
        assert_eq!((watch.job.tasks.done, watch.job.steps[0].tasks.done), (12, 12));
    }

    #[test]
    fn the_outlook_comes_from_cost_first_and_from_the_pace_then() {
        let mut watch = Watch::new(job(10), Duration::ZERO);
        assert_eq!(watch.outlook(&watch.job.steps[0], Duration::ZERO), "ETA 2m 00s – 4m 18s");
        assert_eq!(watch.time_left(Duration::ZERO), Some((Duration::from_millis(120_400), Duration::from_secs(258))));
        watch.apply(&done(20), Duration::from_secs(2));
        assert_eq!(
            watch.time_left(Duration::from_secs(2)),
            Some((Duration::from_millis(12_160), Duration::from_millis(19_760)))
        );
        assert_eq!(watch.outlook(&watch.job.steps[0], Duration::from_secs(2)), "5.0 frames/s, ETA 12s – 19s");
    }

    #[test]
    fn progress_after_the_end_brings_no_attempt_back() {
        let mut watch = Watch::new(job(0), Duration::ZERO);
        let progress = event(&json!({"event": "progress", "step": "render", "attempt": "1.1", "frame": 7,
            "permille": 500, "note": "Sample 4/8"}));
        let start = event(&json!({"event": "attempt_started", "step": "render", "attempt": "1.1",
            "worker": "local-1", "frames": "1-8"}));
        let end = event(&json!({"event": "attempt_ended", "step": "render", "attempt": "1.1", "outcome": "finished"}));
        for (event, running) in [(&progress, 0), (&start, 1), (&progress, 1), (&end, 0), (&progress, 0)] {
            watch.apply(event, Duration::ZERO);
            assert_eq!(watch.running.len(), running);
        }
    }

    #[test]
    fn a_look_at_the_workers_ends_what_was_missed() {
        let worker = |attempt: &str| {
            json!({"id": "local-1", "function": "blender@1", "state": "busy", "host": "h", "gpus": [],
                "attempt": attempt, "job": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "since": "2026-01-01T00:00:00Z",
                "seen_at": "2026-01-01T00:00:00Z", "permille": 7, "note": ""})
        };
        let page = |attempt, next: Option<&str>| {
            serde_json::from_value(json!({"items": [worker(attempt)], "next": next})).expect("a page")
        };
        let mut watch = Watch::new(job(0), Duration::ZERO);
        watch.look_at_workers(page("1.1", None));
        watch.look_at_workers(page("2.1", Some("more")));
        assert_eq!(watch.running.len(), 2, "the rest is on another page");
        watch.look_at_workers(page("3.1", None));
        assert_eq!(watch.running.keys().collect::<Vec<_>>(), ["3.1"]);
    }

    #[test]
    fn states_ask_for_another_look() {
        let mut watch = Watch::new(job(0), Duration::ZERO);
        assert!(!watch.is_stale);
        watch.apply(&event(&json!({"event": "step_state", "step": "render", "state": "failed"})), Duration::ZERO);
        assert!(watch.is_stale && watch.job.steps[0].state == StepState::Failed);
        watch.apply(&event(&json!({"event": "job_state", "state": "failed"})), Duration::ZERO);
        assert_eq!(watch.job.state, JobState::Failed);
    }

    #[test]
    fn failures_are_one_harmless_line() {
        let failed = event(&json!({"event": "task_failed", "step": "render", "frame": 41, "attempt": "17.2",
            "verdict": "scene_error", "message": "no camera\n\u{1b}[2J", "again": false}));
        let line = failure_line(&failed).expect("a failure");
        assert_eq!(line, "render frame 41 failed for good: no camera\\n\\u{1b}[2J (scene_error, attempt 17.2)");
        assert_eq!(failure_line(&done(1)), None);
    }
}
