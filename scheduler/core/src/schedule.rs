//! What is done about each due time of a schedule: submit, wait, skip; and which runs are late.
//!
//! A due time is decided about once: `last_due` only rises, also when the clock is set back between two starts.

#[cfg(test)]
mod tests;

use crate::calendar::{self, Calendar};
use framewake_proto::duration::Span;
use framewake_proto::ids::JobId;
use framewake_proto::job::Fault;
use framewake_proto::schedule::{CatchUp, Deadline, JITTER_MAX, Missed, Overlap, REPLACE_INTERVAL_MIN, ScheduleSpec};
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A run that is decided about within this time of its due time is on time, so that a slow disk makes no run missed.
pub const ON_TIME: Duration = Duration::from_mins(1);
/// Most jobs of one schedule that are not over: more is a job storm.
pub const JOBS_MAX: usize = 100;
/// Most runs of one schedule that wait for others to end.
pub const WAITING_MAX: usize = 100;
/// Most due times that one look back decides about: all that may be made up for, and as many to be shown as skipped.
const LOOK_BACK_MAX: usize = 200;
/// Due times looked at for the shortest interval of an expression.
const INTERVAL_SAMPLE: usize = 500;
/// Decisions of one turn; what is left follows in the next.
const DECISIONS_MAX: usize = 512;

/// A schedule: its row in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(pub u64);

/// When a schedule is due, and what then holds.
#[derive(Debug, Clone)]
pub struct Rules {
    pub calendar: Calendar,
    overlap: Overlap,
    catch_up: CatchUp,
    jitter: Duration,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    deadline: Deadline,
}

impl Rules {
    /// Everything that is wrong with a schedule but its job.
    pub fn check(spec: &ScheduleSpec, now: Timestamp) -> Result<Rules, Vec<Fault>> {
        let mut faults = spec.faults();
        let zone = calendar::zone(&spec.zone);
        let zone = zone.map_err(|error| faults.push(Fault::new("/zone", error.to_string()))).ok();
        let known = zone.clone().unwrap_or(jiff::tz::TimeZone::UTC);
        let calendar = Calendar::new(&spec.cron, known);
        let calendar = calendar.map_err(|error| faults.push(Fault::new("/cron", error.to_string()))).ok();
        let (Some(_), Some(calendar)) = (zone, calendar) else { return Err(faults) };
        let shortest = calendar::shortest_interval(&calendar, now, INTERVAL_SAMPLE);
        if let Some(shortest) = shortest.filter(|shortest| *shortest < spec.jitter.0 && spec.jitter.0 <= JITTER_MAX) {
            let reason = format!("{} is longer than the {} between two runs", spec.jitter, Span(shortest));
            faults.push(Fault::new("/jitter", reason));
        }
        if let Some(shortest) = shortest.filter(|_| spec.overlap == Overlap::Replace)
            && shortest < REPLACE_INTERVAL_MIN
        {
            let reason = format!(
                "runs {} apart would cancel each other for ever: `replace` needs {} between two",
                Span(shortest),
                Span(REPLACE_INTERVAL_MIN)
            );
            faults.push(Fault::new("/overlap", reason));
        }
        let rules = Rules::new(spec, calendar);
        if faults.is_empty() && rules.next(now).is_none() {
            faults.push(Fault::new("/end", "nothing is due before the end: the schedule would never run"));
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }

    fn new(spec: &ScheduleSpec, calendar: Calendar) -> Rules {
        let ScheduleSpec { overlap, catch_up, jitter, start, end, deadline, .. } = spec;
        Rules {
            calendar,
            overlap: *overlap,
            catch_up: *catch_up,
            jitter: jitter.0,
            start: *start,
            end: *end,
            deadline: *deadline,
        }
    }

    /// Of a schedule that was checked before; its end may have passed since.
    pub fn stored(spec: &ScheduleSpec) -> Option<Rules> {
        let zone = calendar::zone(&spec.zone).ok()?;
        Some(Rules::new(spec, Calendar::new(&spec.cron, zone).ok()?))
    }

    /// The first due time after `after`, within start and end.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.calendar.next(self.begin(after)).filter(|due| self.end.is_none_or(|end| *due < end))
    }

    /// The next due times after `after`.
    pub fn upcoming(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |due| self.next(*due))
    }

    /// A due time at the start itself counts.
    fn begin(&self, after: Timestamp) -> Timestamp {
        self.start.map_or(after, |start| after.max(Timestamp(start.0 - 1)))
    }

    /// When what is due at `due` happens.
    fn fires(&self, id: ScheduleId, due: Timestamp) -> Timestamp {
        let jitter_ms = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        due.after(Duration::from_millis(scramble(id.0, due) % jitter_ms.saturating_add(1)))
    }
}

/// A number that looks like chance and is always the same (splitmix64).
fn scramble(id: u64, due: Timestamp) -> u64 {
    let mut mixed = due.0.cast_unsigned().wrapping_add(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A schedule as the store has it.
#[derive(Debug, Clone)]
pub struct StoredSchedule {
    pub id: ScheduleId,
    pub rules: Rules,
    pub paused: bool,
    pub last_due: Timestamp,
    pub last_manual: Timestamp,
    pub runs: u64,
    /// Runs whose jobs are not over.
    pub jobs: Vec<Run>,
    /// Due times of runs that wait, oldest first.
    pub waiting: Vec<WaitingRun>,
}

/// A run whose job is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub due: Timestamp,
    pub job: JobId,
    pub started: bool,
    pub late_start: bool,
    pub late_finish: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingRun {
    pub due: Timestamp,
    pub late_start: bool,
}

/// What is to be done, and to be written down with it in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub schedule: ScheduleId,
    pub due: Timestamp,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Make the job under this id; then, if it is there, cancel those it replaces.
    Submit {
        job: JobId,
        number: u64,
        reason: &'static str,
        waited: bool,
        replaces: Vec<JobId>,
    },
    Wait,
    Skip {
        reason: String,
    },
    /// The run missed a deadline.
    Late {
        deadline: LateFor,
        job: Option<JobId>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LateFor {
    Start,
    Finish,
}

/// Why a run can't be started by hand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{JOBS_MAX} jobs of this schedule are not over, the most there may be")]
pub struct TooManyRuns;

/// All schedules of a farm.
#[derive(Debug, Default)]
pub struct Schedules {
    all: BTreeMap<ScheduleId, Schedule>,
    by_job: BTreeMap<JobId, ScheduleId>,
    /// When each is to be looked at.
    deadlines: BTreeSet<(Timestamp, ScheduleId)>,
}

/// What is held of one schedule.
#[derive(Debug)]
pub struct Schedule {
    id: ScheduleId,
    pub rules: Rules,
    pub paused: bool,
    /// The newest due time that was decided about.
    pub last_due: Timestamp,
    pub last_manual: Timestamp,
    /// Number of the newest run.
    pub runs: u64,
    jobs: Vec<Run>,
    waiting: VecDeque<WaitingRun>,
    next: Option<Timestamp>,
    deadline: Option<Timestamp>,
}

impl Schedules {
    pub fn restore(stored: impl IntoIterator<Item = StoredSchedule>) -> Schedules {
        let mut schedules = Schedules::default();
        for stored in stored {
            let StoredSchedule { id, rules, paused, last_due, last_manual, runs, jobs, waiting } = stored;
            schedules.by_job.extend(jobs.iter().map(|run| (run.job, id)));
            let waiting = waiting.into();
            let (next, deadline) = (None, None);
            let schedule = Schedule { id, rules, paused, last_due, last_manual, runs, jobs, waiting, next, deadline };
            schedules.all.insert(id, schedule);
            schedules.change(id, |_| ());
        }
        schedules
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, id: ScheduleId) -> Option<&Schedule> {
        self.all.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.all.values()
    }

    /// A new schedule, or new rules for one: what was due before `now` is not looked at again.
    pub fn put(&mut self, now: Timestamp, id: ScheduleId, rules: Rules) {
        if self.all.contains_key(&id) {
            self.change(id, |schedule| {
                schedule.rules = rules;
                schedule.last_due = schedule.last_due.max(now);
            });
        } else {
            let (paused, last_manual, runs) = (false, Timestamp(0), 0);
            let (jobs, waiting) = (Vec::new(), Vec::new());
            let stored = StoredSchedule { id, rules, paused, last_due: now, last_manual, runs, jobs, waiting };
            let mut restored = Schedules::restore([stored]);
            self.all.append(&mut restored.all);
            self.deadlines.append(&mut restored.deadlines);
        }
    }

    /// Its jobs go on.
    pub fn remove(&mut self, id: ScheduleId) {
        let Some(schedule) = self.all.remove(&id) else { return };
        for run in &schedule.jobs {
            self.by_job.remove(&run.job);
        }
        if let Some(deadline) = schedule.deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }

    pub fn pause(&mut self, id: ScheduleId) {
        self.change(id, |schedule| schedule.paused = true);
    }

    /// What was due in the meantime is not made up for: somebody did not want it.
    pub fn resume(&mut self, now: Timestamp, id: ScheduleId) {
        self.change(id, |schedule| {
            if schedule.paused {
                schedule.paused = false;
                schedule.last_due = schedule.last_due.max(now);
            }
        });
    }

    /// When [`Schedules::decide`] has something to say.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Everything that is due by `now`. `new_job` gives an id for each job that is to be made.
    pub fn decide(&mut self, now: Timestamp, mut new_job: impl FnMut() -> JobId) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= now
            && decisions.len() < DECISIONS_MAX
        {
            let before = decisions.len();
            self.change(id, |schedule| schedule.decide(now, &mut new_job, &mut decisions));
            for decision in &decisions[before..] {
                if let What::Submit { job, .. } = decision.what {
                    self.by_job.insert(job, id);
                }
            }
        }
        decisions
    }

    /// A run that somebody wants now, whatever else goes on.
    pub fn run_now(&mut self, now: Timestamp, id: ScheduleId, job: JobId) -> Option<Result<Decision, TooManyRuns>> {
        let schedule = self.all.get(&id)?;
        if schedule.jobs.len() >= JOBS_MAX {
            return Some(Err(TooManyRuns));
        }
        let mut due = Timestamp(now.0.max(schedule.last_manual.0 + 1));
        if due.0 % 1000 == 0 {
            // What a calendar names is a whole second: the two never meet.
            due.0 += 1;
        }
        let mut decision = None;
        self.change(id, |schedule| {
            schedule.last_manual = due;
            decision = Some(schedule.submit(due, job, "run by hand", false, Vec::new()));
        });
        self.by_job.insert(job, id);
        decision.map(Ok)
    }

    /// The schedule that made this job, which is not over.
    pub fn of_job(&self, job: JobId) -> Option<ScheduleId> {
        self.by_job.get(&job).copied()
    }

    /// A worker has begun with the job.
    pub fn job_started(&mut self, job: JobId) {
        let Some(id) = self.by_job.get(&job).copied() else { return };
        self.change(id, |schedule| {
            for run in schedule.jobs.iter_mut().filter(|run| run.job == job) {
                run.started = true;
            }
        });
    }

    /// The job is over, or was never made.
    pub fn job_over(&mut self, job: JobId) {
        let Some(id) = self.by_job.remove(&job) else { return };
        self.change(id, |schedule| schedule.jobs.retain(|run| run.job != job));
    }

    fn change(&mut self, id: ScheduleId, change: impl FnOnce(&mut Schedule)) {
        let Some(schedule) = self.all.get_mut(&id) else { return };
        if let Some(deadline) = schedule.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        change(schedule);
        schedule.next = schedule.rules.next(schedule.last_due);
        schedule.deadline = schedule.deadline();
        if let Some(deadline) = schedule.deadline {
            self.deadlines.insert((deadline, id));
        }
    }
}

impl Schedule {
    pub fn id(&self) -> ScheduleId {
        self.id
    }

    /// The next due time, as long as it is not paused.
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// When what is due next happens.
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.next.map(|due| self.rules.fires(self.id, due))
    }

    /// Jobs of its runs that are not over.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.iter().map(|run| run.job)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Runs not over that missed a deadline.
    pub fn late(&self) -> usize {
        let jobs = self.jobs.iter().filter(|run| run.late_start || run.late_finish).count();
        jobs + self.waiting.iter().filter(|run| run.late_start).count()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let fires = self.next.filter(|_| !self.paused).map(|due| self.rules.fires(self.id, due));
        let waits = (!self.waiting.is_empty() && self.jobs.is_empty()).then_some(Timestamp(0));
        fires.into_iter().chain(waits).chain(self.lates().map(|(at, ..)| at)).min()
    }

    /// Deadlines that no alarm was given for yet: when, of which run, which.
    fn lates(&self) -> impl Iterator<Item = (Timestamp, Timestamp, LateFor, Option<JobId>)> {
        let Deadline { start, finish } = self.rules.deadline;
        let at = |due: Timestamp, span: Span| due.after(span.0);
        let waiting = self.waiting.iter().filter(|run| !run.late_start);
        let waiting = waiting.filter_map(move |run| Some((at(run.due, start?), run.due, LateFor::Start, None)));
        let starts = self.jobs.iter().filter(|run| !run.started && !run.late_start);
        let starts = starts.filter_map(move |run| Some((at(run.due, start?), run.due, LateFor::Start, Some(run.job))));
        let ends = self.jobs.iter().filter(|run| !run.late_finish);
        let ends = ends.filter_map(move |run| Some((at(run.due, finish?), run.due, LateFor::Finish, Some(run.job))));
        waiting.chain(starts).chain(ends)
    }

    fn decide(&mut self, now: Timestamp, new_job: &mut impl FnMut() -> JobId, out: &mut Vec<Decision>) {
        if self.jobs.is_empty()
            && let Some(run) = self.waiting.pop_front()
        {
            out.push(self.submit(run.due, new_job(), "waited for earlier runs", true, Vec::new()));
        }
        if !self.paused {
            self.look_back(now, new_job, out);
        }
        let lates: Vec<_> = self.lates().filter(|(at, ..)| *at <= now).collect();
        for (_, due, deadline, job) in lates {
            for run in self.waiting.iter_mut().filter(|run| run.due == due && job.is_none()) {
                run.late_start = true;
            }
            for run in self.jobs.iter_mut().filter(|run| Some(run.job) == job) {
                match deadline {
                    LateFor::Start => run.late_start = true,
                    LateFor::Finish => run.late_finish = true,
                }
            }
            out.push(Decision { schedule: self.id, due, what: What::Late { deadline, job } });
        }
    }

    /// Decides about every due time since the last: one, unless the scheduler was away.
    fn look_back(&mut self, now: Timestamp, new_job: &mut impl FnMut() -> JobId, out: &mut Vec<Decision>) {
        let until = self.rules.end.map_or(now, |end| now.min(Timestamp(end.0 - 1)));
        let (mut dues, older) = self.rules.calendar.between(self.rules.begin(self.last_due), until, LOOK_BACK_MAX);
        while dues.last().is_some_and(|due| self.rules.fires(self.id, *due) > now) {
            dues.pop();
        }
        let Some(newest) = dues.last().copied() else { return };
        let on_time = |due: Timestamp| now.since(self.rules.fires(self.id, due)) <= ON_TIME;
        let missed = dues.iter().filter(|due| !on_time(**due)).count();
        let CatchUp { missed: policy, runs, window } = self.rules.catch_up;
        let made_up = match policy {
            Missed::None => 0,
            Missed::Latest => usize::from(missed == dues.len()),
            Missed::All => runs.map_or(0, |runs| runs as usize),
        };
        self.last_due = newest;
        for (at, due) in dues.into_iter().enumerate() {
            let recent = window.is_none_or(|window| now.since(due) <= window.0);
            let what = if at >= missed {
                self.overlap(due, "", new_job)
            } else if at + made_up >= missed && recent {
                self.overlap(due, "made up for: the scheduler was not running", new_job)
            } else {
                let more = if older && at == 0 { ", and at many due times before" } else { "" };
                What::Skip { reason: format!("the scheduler was not running when it was due{more}") }
            };
            out.push(Decision { schedule: self.id, due, what });
        }
    }

    fn overlap(&mut self, due: Timestamp, reason: &'static str, new_job: &mut impl FnMut() -> JobId) -> What {
        let full =
            |what: &str, max: usize| What::Skip { reason: format!("{max} of its runs {what}, the most there may be") };
        let earlier = self.jobs.last().map(|run| run.job);
        match (self.rules.overlap, earlier) {
            (Overlap::Skip, Some(job)) => What::Skip { reason: format!("job {job} of an earlier run goes on") },
            (Overlap::Queue, _) if earlier.is_some() || !self.waiting.is_empty() => {
                if self.waiting.len() >= WAITING_MAX {
                    return full("wait", WAITING_MAX);
                }
                self.waiting.push_back(WaitingRun { due, late_start: false });
                What::Wait
            }
            (Overlap::Allow, _) if self.jobs.len() >= JOBS_MAX => full("go on", JOBS_MAX),
            (Overlap::Replace, Some(_)) => {
                let replaces = self.jobs().collect();
                self.submit(due, new_job(), reason, false, replaces).what
            }
            (Overlap::Skip | Overlap::Replace, None) | (Overlap::Queue | Overlap::Allow, _) => {
                self.submit(due, new_job(), reason, false, Vec::new()).what
            }
        }
    }

    fn submit(
        &mut self,
        due: Timestamp,
        job: JobId,
        reason: &'static str,
        waited: bool,
        replaces: Vec<JobId>,
    ) -> Decision {
        self.runs += 1;
        self.jobs.push(Run { due, job, started: false, late_start: false, late_finish: false });
        let what = What::Submit { job, number: self.runs, reason, waited, replaces };
        Decision { schedule: self.id, due, what }
    }
}
