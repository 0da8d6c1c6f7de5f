//! What is known to come, before there is work: windows, runs of schedules, steps that follow, deadlines. Who is called for it and
//! who stays although nothing is to be done.

use super::deadlines::Urgent;
use super::{Farm, Step, WorkerState};
use crate::change::StepState;
use crate::event::Need;
use crate::scale::gaps::Gaps;
use crate::scale::usual::Usual;
use crate::scale::{keep, worth_keeping};
use crate::timers::Timer;
use framewake_proto::ids::{FunctionKey, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Workers are called before a run is due only if they take longer than this to come.
const EARLY_FROM: Duration = Duration::from_secs(5);
/// Those that were called early are wanted for so long after the run was due, should its job be late.
const EARLY_FOR: Duration = Duration::from_mins(1);
/// How long the first start of a machine elsewhere is taken to be, as long as nobody knows: nodes with GPUs take 3 to 4 minutes
/// (the FAQ of the cluster-autoscaler), and their image is on them. Too long costs a few idle minutes once, too short a cold night.
const START_UNSEEN: Duration = Duration::from_mins(5);
/// Runs that are looked ahead to: the next ones of a function.
const RUNS_AHEAD_MAX: usize = 16;
/// Open chunks whose jobs are looked at for steps that will follow.
const CHUNKS_LOOKED_AT_MAX: usize = 64;

/// A run of a schedule for which workers are called before it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAhead<'a> {
    pub schedule: &'a Name,
    pub due: Timestamp,
    /// When they are called.
    pub from: Timestamp,
    pub workers: u32,
}

/// What a function knows of what comes, and of how long its workers waited for it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Runs of schedules that will want workers, by when and by schedule.
    pub(super) expected: BTreeMap<(Timestamp, Name), Need>,
    window: OpenWindow,
    pub(super) urgent: Urgent,
    pub(super) gaps: Gaps,
    pub(super) usual: Usual,
    /// When it is looked at again, as far as that is planned.
    look_at: Option<Timestamp>,
}

/// Workers that a function's windows ask for, and until when that holds.
#[derive(Debug, Clone, Copy, Default)]
struct OpenWindow {
    workers: u32,
    until: Option<Timestamp>,
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Farm {
    /// Workers that are to be there whatever is to be done: by windows, and for runs whose jobs are late. Of the newest version
    /// alone; older ones only finish what they have.
    pub(super) fn kept(&self, now: Timestamp, at: usize) -> u32 {
        if !self.is_newest(at) {
            return 0;
        }
        let late = self.runs_ahead(now, at).filter(|run| run.due <= now);
        let late = late.map(|run| run.workers).fold(0, u32::saturating_add);
        late.max(self.functions[at].ahead.window.workers).max(self.kept_of(at))
    }

    /// Workers for runs that are about to begin. They are wanted beside those that are at work, for nobody knows whether these
    /// will be done by then.
    pub(super) fn early(&self, now: Timestamp, at: usize) -> u32 {
        if !self.is_newest(at) {
            return 0;
        }
        let soon = self.runs_ahead(now, at).filter(|run| run.from <= now && now < run.due);
        soon.map(|run| run.workers).fold(0, u32::saturating_add)
    }

    /// Runs of schedules that workers are or will be called for before they are due, the next first. Called so early that
    /// nineteen of twenty are there in time; what starts within seconds need not come early.
    pub(super) fn runs_ahead(&self, now: Timestamp, at: usize) -> impl Iterator<Item = RunAhead<'_>> {
        let lead = self.slow_start(now, at).filter(|lead| *lead >= EARLY_FROM);
        let runs = self.functions[at].ahead.expected.iter().take(RUNS_AHEAD_MAX);
        let runs = runs.filter(move |((due, _), _)| due.after(EARLY_FOR) > now);
        lead.into_iter().flat_map(move |lead| {
            runs.clone().map(move |((due, schedule), need)| RunAhead {
                schedule,
                due: *due,
                from: Timestamp(due.0 - ms(lead)),
                workers: self.workers_for(now, at, need.tasks, need.task_s),
            })
        })
    }

    /// How long a slow start takes, in the pool that is tried first of those where some came; where none of this function did,
    /// by those of others.
    fn slow_start(&self, now: Timestamp, at: usize) -> Option<Duration> {
        let slow = |at: usize, pool: &Name| {
            let within = self.functions[at].in_pools.get(pool)?;
            within.cold.slow().max(within.slowest.typical())
        };
        let pools = self.pools_in_order(now, at);
        let own = pools.iter().find_map(|pool| slow(at, pool));
        let others = || pools.iter().find_map(|pool| (0..self.functions.len()).filter_map(|at| slow(at, pool)).max());
        let unseen = || {
            let rules = &self.pools.get(pools.first()?)?.rules;
            // Processes of this machine start at once.
            (!rules.here).then(|| START_UNSEEN.min(rules.start_within))
        };
        own.or_else(others).or_else(unseen)
    }

    fn is_newest(&self, at: usize) -> bool {
        let key = &self.functions[at].key;
        let newer = FunctionKey { name: key.name.clone(), version: key.version.saturating_add(1) };
        self.function_index.range(newer..).next().is_none_or(|(other, _)| other.name != key.name)
    }

    /// When the schedule makes its next job, and what that will want.
    pub(super) fn expect_run(&mut self, schedule: &Name, due: Option<Timestamp>, needs: Vec<Need>) {
        if let Some((before, functions)) = self.runs_expected.remove(schedule) {
            for at in functions {
                self.functions[at].ahead.expected.remove(&(before, schedule.clone()));
                self.touched.insert(at);
            }
        }
        let Some(due) = due else { return };
        let mut functions = Vec::new();
        for need in needs {
            if let Some(at) = self.function_index.get(&need.function).copied() {
                let expected = self.functions[at].ahead.expected.entry((due, schedule.clone()));
                expected.and_modify(|other| *other = other.with(&need)).or_insert(need);
                self.touched.insert(at);
                functions.push(at);
            }
        }
        self.runs_expected.insert(schedule.clone(), (due, functions));
    }

    pub(super) fn look_at_windows(&mut self, now: Timestamp, at: usize) {
        let function = &mut self.functions[at];
        let windows = &function.rules.scaling.keep;
        if windows.is_empty() || function.ahead.window.until.is_some_and(|until| now < until) {
            return;
        }
        let until = windows.iter().filter_map(|window| window.next_change(now)).min();
        function.ahead.window = OpenWindow { workers: keep::kept(windows, now), until };
    }

    /// Windows open, deadlines come nearer, and workers are called early, when no event may come.
    pub(super) fn look_again(&mut self, now: Timestamp, at: usize) {
        let early = self.runs_ahead(now, at).flat_map(|run| [run.from, run.due.after(EARLY_FOR)]);
        let ahead = &self.functions[at].ahead;
        let next = early.chain(ahead.window.until).chain(ahead.urgent.look_at).filter(|when| *when > now).min();
        let Some(next) = next else { return };
        let look_at = &mut self.functions[at].ahead.look_at;
        if look_at.is_none_or(|planned| planned <= now || next < planned) {
            *look_at = Some(next);
            self.set_timer(next, Timer::Start(at));
        }
    }

    /// Whether a worker without work is to stay, because it will be needed; it is told with each heartbeat.
    pub(super) fn is_soon_needed(&self, now: Timestamp, id: &WorkerId) -> bool {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.state == WorkerState::Idle) else {
            return false;
        };
        let at = worker.function;
        let function = &self.functions[at];
        let busy = function.workers.present.saturating_sub(u32::try_from(function.idle.len()).unwrap_or(u32::MAX));
        let needed = self.kept(now, at).max(self.soon_wanted(now, at)).saturating_sub(busy).max(self.early(now, at));
        function.idle.iter().take(needed as usize).any(|idle| idle == id)
    }

    /// Workers of the function for what is known to come before a worker that waits for it costs more than a new one.
    fn soon_wanted(&self, now: Timestamp, at: usize) -> u32 {
        let function = &self.functions[at];
        if function.tasks > 0 || !self.is_newest(at) {
            return 0;
        }
        let Some(start_s) = self.start_s(now, at) else { return 0 };
        let start = Duration::from_secs_f64(start_s + function.timing.load_s.unwrap_or(0.0));
        let worth = self.worth(now, at).unwrap_or(0.0);
        let worth_it = |gap: Duration, workers: u32| gap < worth_keeping(start, worth, workers);
        let next = function.ahead.expected.iter().find(|((due, _), _)| *due > now);
        let by_calendar =
            next.map(|((due, _), need)| (due.since(now), self.workers_for(now, at, need.tasks, need.task_s)));
        let behind = self.next_step(now, at);
        let known = by_calendar.into_iter().chain(behind).filter(|(gap, workers)| worth_it(*gap, *workers));
        known.map(|(_, workers)| workers).max().unwrap_or(0)
    }

    /// The first step of this function that waits for others which are being worked on: when it begins, and its workers.
    fn next_step(&self, now: Timestamp, at: usize) -> Option<(Duration, u32)> {
        let jobs: BTreeSet<JobId> = self.chunks.values().take(CHUNKS_LOOKED_AT_MAX).map(|chunk| chunk.job).collect();
        let steps = jobs.iter().filter_map(|id| self.jobs.get(id)).flat_map(|job| {
            let blocked = job.steps.iter().filter(|step| step.function == at && step.state == StepState::Blocked);
            blocked.map(move |step| (job, step))
        });
        let coming = steps.filter_map(|(job, step)| {
            let before = step.after.iter().map(|before| &job.steps[*before]);
            let gap_s =
                before.map(|before| self.rest_s(before)).try_fold(0.0, |most: f64, rest| Some(most.max(rest?)))?;
            let gap = Duration::try_from_secs_f64(gap_s).ok()?;
            Some((gap, self.workers_for(now, at, step.total.into(), step.timing.task_s)))
        });
        coming.min()
    }

    /// Seconds until a step that may run is done, by its own measure and the workers of its function.
    fn rest_s(&self, step: &Step) -> Option<f64> {
        match step.state {
            StepState::Succeeded => Some(0.0),
            StepState::Ready | StepState::Running => {
                let function = &self.functions[step.function];
                let task_s = step.timing.task_s.or(self.usual_task_s(step.function))?;
                Some(f64::from(step.left()) * task_s / f64::from(function.workers.present.clamp(1, step.left().max(1))))
            }
            StepState::Blocked | StepState::Failed | StepState::Canceled => None,
        }
    }
}
