//! How workers come, as the farm hears of it, and what it learns of that: kept over a restart.

use super::workers::Gone;
use super::{Farm, InPool, Starts, Worker, WorkerState};
use crate::change::Change;
use crate::coming::{StoredStart, Timeline};
use crate::event::StartStep;
use crate::loss;
use crate::scale::cold::ColdStarts;
use crate::timers::Timer;
use crate::values::{StoredStarts, StoredTiming};
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after its first words the phases of a worker are counted: its place, which is looked at and does not call, has told
/// by then what it knows; of Kubernetes' events every other second.
pub(super) const START_SETTLES: Duration = Duration::from_secs(3);

/// What is to be written of how workers come.
#[derive(Debug, Default)]
pub(super) struct StartBook {
    /// Ways of workers of before a restart that were not heard of since.
    before: BTreeMap<WorkerId, Timeline>,
    changes: Vec<Change>,
    /// Functions of which something was learned, in a pool or (`None`) of their tasks.
    learned: BTreeSet<(usize, Option<Name>)>,
}

/// How a worker that is here, or asked for, came so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartStatus<'a> {
    pub function: &'a FunctionKey,
    pub pool: Option<&'a Name>,
    pub timeline: &'a Timeline,
    /// Why it does not come further; empty: all goes as it should.
    pub waits: &'a str,
}

impl Farm {
    /// `None`: it is not here.
    pub fn start_of(&self, id: &WorkerId) -> Option<StartStatus<'_>> {
        let Worker { function, pool, timeline, waits, .. } = self.workers.get(id)?;
        Some(StartStatus { function: &self.functions[*function].key, pool: pool.as_ref(), timeline, waits })
    }

    /// Whether the worker, which just spoke, has not yet said when it began.
    pub fn wants_beginning(&self, id: &WorkerId) -> bool {
        self.workers.get(id).is_some_and(|worker| worker.timeline.at(StartPoint::Nats).is_none())
    }

    pub(super) fn restore_starts(&mut self, starts: Vec<StoredStart>) {
        self.starts.before = starts.into_iter().map(|start| (start.worker, start.timeline)).collect();
    }

    /// What was learned before a restart. Functions are there already.
    pub(super) fn restore_learned(&mut self, now: Timestamp, starts: Vec<StoredStarts>, timings: Vec<StoredTiming>) {
        for StoredTiming { function, timing } in timings {
            if let Some(at) = self.function_index.get(&function) {
                self.functions[*at].timing = timing;
            }
        }
        for StoredStarts { function, pool, took, phases, failures, not_before, last_until, reason } in starts {
            let Some(at) = self.function_index.get(&function).copied() else { continue };
            // The wall clock may have been set back: no wait becomes longer.
            let (not_before, last_until) = super::pools::bounded_waits(now, not_before, last_until);
            if let Some(until) = not_before {
                self.set_timer(until, Timer::Start(at));
            }
            let within = self.in_pool(at, &pool);
            within.cold = took.into_iter().collect();
            within.phases = phases.into_iter().map(|(point, took)| (point, took.into_iter().collect())).collect();
            within.starts = Starts { failures, not_before, last_until, reason };
        }
    }

    /// The way of this worker as far as it was heard of before: before a restart, or before it was thought dead.
    pub(super) fn recall_start(&mut self, id: &WorkerId) -> Timeline {
        let lost = self.unended.get_mut(id).map(|unended| std::mem::take(&mut unended.timeline));
        lost.or_else(|| self.starts.before.remove(id)).unwrap_or_default()
    }

    /// Whether it was on its way, unheard, before a restart.
    pub(super) fn was_starting(&self, id: &WorkerId) -> bool {
        self.starts.before.get(id).is_some_and(|timeline| timeline.at(StartPoint::Nats).is_none())
    }

    /// It is asked for now, and has been wanted for a while.
    pub(super) fn begin_start(&mut self, now: Timestamp, id: &WorkerId, wanted: Timestamp) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.timeline.note(now, StartPoint::Wanted, wanted);
        worker.timeline.note(now, StartPoint::Asked, now);
        self.tell_start(id, None, None);
    }

    /// Its place took the request. Not durable by itself: what is, is told once the worker has spoken.
    pub(super) fn note_taken(&mut self, now: Timestamp, id: &WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.timeline.note(now, StartPoint::Created, now);
        }
    }

    /// Its place says how far its start came. A place says it again after a restart.
    pub(super) fn note_step(&mut self, now: Timestamp, id: &WorkerId, step: StartStep, at: Timestamp) {
        let point = match step {
            StartStep::Created => StartPoint::Created,
            StartStep::Scheduled => StartPoint::Scheduled,
            StartStep::ImageReady => StartPoint::Image,
            StartStep::ProcessStarted => StartPoint::Process,
        };
        if let Some(worker) = self.workers.get_mut(id) {
            worker.timeline.note_place(now, point, at);
        }
    }

    /// Its place says why it is not there yet.
    pub(super) fn note_wait(&mut self, id: &WorkerId, reason: &str) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.waits = loss::words(reason);
        }
    }

    /// It says for how long it has run; a worker of before that was told tells nothing.
    pub(super) fn note_beginning(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        age: Option<Duration>,
        connected: Option<Duration>,
    ) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if let Some(age) = age {
            worker.timeline.note_process(now, age, connected);
        }
        worker.timeline.note(now, StartPoint::Nats, now);
        self.set_timer(now.after(START_SETTLES), Timer::Came(id.clone()));
        self.tell_start(id, None, None);
    }

    /// A worker that was asked for has spoken for the first time: this is how long it took.
    pub(super) fn learn_start(&mut self, now: Timestamp, id: &WorkerId) {
        let Some(Worker { function, pool: Some(pool), timeline, .. }) = self.workers.get(id) else { return };
        // One that was found after a restart was asked for before it was found.
        let Some(asked) = timeline.at(StartPoint::Asked) else { return };
        let (at, pool, took) = (*function, pool.clone(), now.since(asked));
        let within = self.in_pool(at, &pool);
        within.cold.add(took);
        within.slowest.add(now, took);
        self.note_learned(at, Some(&pool));
        self.tell_start(id, None, Some(took));
    }

    /// What there was to tell of how it came has been told: it is counted, and from now on what follows as it comes.
    pub(super) fn settle_start(&mut self, id: &WorkerId) {
        let timeline = self.workers.get(id).map(|worker| &worker.timeline);
        if let Some(last) = timeline.filter(|timeline| timeline.counted().is_none()).and_then(Timeline::last) {
            self.tell_start(id, Some(last), None);
        }
    }

    pub(super) fn note_order(&mut self, now: Timestamp, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        if worker.timeline.at(StartPoint::Order).is_some() {
            return;
        }
        worker.timeline.note(now, StartPoint::Order, now);
        let until = worker.timeline.counted().map(|_| StartPoint::Order);
        self.tell_start(id, until, None);
    }

    /// It says how long after its claim it came to a point; only the way to the first frame counts.
    pub(super) fn note_since_claim(
        &mut self,
        now: Timestamp,
        id: &WorkerId,
        claimed: Timestamp,
        point: StartPoint,
        after_ms: Option<u32>,
    ) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let known = worker.timeline.at(point).is_some() || worker.timeline.at(StartPoint::Frame).is_some();
        if known {
            return;
        }
        let at = after_ms.map_or(now, |ms| claimed.after(Duration::from_millis(ms.into())));
        worker.timeline.note(now, point, at);
        let until = worker.timeline.counted().map(|_| point);
        self.tell_start(id, until, None);
    }

    /// It is gone. Whoever had no first frame has a way that ends where it stands.
    pub(super) fn end_start(&mut self, now: Timestamp, id: &WorkerId, worker: &mut Worker, gone: &Gone) {
        let counted = worker.timeline.count(StartPoint::Frame);
        let reason = loss::words(&how_it_ended(now, worker, gone));
        let start = self.stored_start(id, worker, Some((now, reason)));
        self.push_start(worker.function, start, counted, None);
    }

    /// The end of one that was not heard of since a restart.
    pub(super) fn end_unheard_start(&mut self, now: Timestamp, id: &WorkerId, reason: &str) {
        // Its function and pool are in its row.
        if self.starts.before.remove(id).is_some() {
            let (worker, reason) = (id.clone(), loss::words(reason));
            self.starts.changes.push(Change::WorkerStartEnded { worker, at: now, reason });
        }
    }

    /// Has its way written down, and counted up to this point.
    fn tell_start(&mut self, id: &WorkerId, count: Option<StartPoint>, spoke_after: Option<Duration>) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let counted = count.map_or_else(Vec::new, |until| worker.timeline.count(until));
        let Some(worker) = self.workers.get(id) else { return };
        let (function, start) = (worker.function, self.stored_start(id, worker, None));
        self.push_start(function, start, counted, spoke_after);
    }

    fn stored_start(&self, id: &WorkerId, worker: &Worker, ended: Option<(Timestamp, String)>) -> StoredStart {
        let Worker { function, pool, timeline, .. } = worker;
        let function = self.functions[*function].key.clone();
        StoredStart { worker: id.clone(), function, pool: pool.clone(), timeline: timeline.clone(), ended }
    }

    fn push_start(
        &mut self,
        at: usize,
        start: StoredStart,
        mut counted: Vec<(StartPoint, Duration)>,
        spoke_after: Option<Duration>,
    ) {
        // Of those that people start nobody knows when they were wanted.
        let pool = start.pool.clone().filter(|_| start.timeline.at(StartPoint::Asked).is_some());
        match pool {
            None => counted.clear(),
            Some(pool) if !counted.is_empty() => {
                let InPool { phases, .. } = self.in_pool(at, &pool);
                for (point, took) in &counted {
                    phases.entry(*point).or_default().add(*took);
                }
                self.note_learned(at, Some(&pool));
            }
            Some(_) => {}
        }
        self.starts.changes.push(Change::WorkerStart { start, counted, spoke_after });
    }

    /// Something was learned of the function, in a pool or of its tasks.
    pub(super) fn note_learned(&mut self, function: usize, pool: Option<&Name>) {
        self.starts.learned.insert((function, pool.cloned()));
    }

    /// What this event made known.
    pub(super) fn take_starts(&mut self, changes: &mut Vec<Change>) {
        changes.append(&mut self.starts.changes);
        for (at, pool) in std::mem::take(&mut self.starts.learned) {
            let function = self.functions[at].key.clone();
            let Some(pool) = pool else {
                let timing = self.functions[at].timing;
                changes.push(Change::TimingLearned(StoredTiming { function, timing }));
                continue;
            };
            let InPool { cold, phases, starts, .. } = self.in_pool(at, &pool);
            let all = |starts: &ColdStarts| starts.iter().collect();
            let Starts { failures, not_before, last_until, reason } = starts.clone();
            let (took, phases) = (all(cold), phases.iter().map(|(point, took)| (*point, all(took))).collect());
            let learned = StoredStarts { function, pool, took, phases, failures, not_before, last_until, reason };
            changes.push(Change::StartsLearned(learned));
        }
    }
}

fn how_it_ended(now: Timestamp, worker: &Worker, gone: &Gone) -> String {
    let because = if worker.waits.is_empty() { String::new() } else { format!(": {}", worker.waits) };
    match gone {
        Gone::Left if worker.state == WorkerState::Starting => format!("it left before it had begun{because}"),
        Gone::Left if worker.timeline.at(StartPoint::Order).is_none() => {
            format!("it left without an order{}", if because.is_empty() { ": there was none for it" } else { &because })
        }
        Gone::Left => "it left".to_owned(),
        Gone::Silent => format!("nothing was heard of it for {} s{because}", now.since(worker.seen_at).as_secs()),
        Gone::TakenAway(reason) => format!("it was taken away: {reason}"),
        Gone::Failed(reason) => format!("it failed: {reason}"),
    }
}
