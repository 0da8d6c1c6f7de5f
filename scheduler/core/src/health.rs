//! Which places are set aside: a GPU or a machine that fails what others render.
//!
//! The rule, as an operator would put it:
//!
//! - Only what may be the machine's fault counts, and only since the last task of the same function that was done
//!   there: a place that works is not sick.
//! - A place is suspect when tasks of [`JOBS_MIN`] jobs failed on it, or [`TASKS_PROVEN_MIN`] tasks failed on it that
//!   others then did. A job that fails elsewhere too and is done nowhere else counts against no place: it is the scene.
//! - It is set aside only while others work: each function that failed on it was done elsewhere meanwhile, and each
//!   that has work for it can be. So the store's or the network's fault sets nobody aside, and never the last place.
//! - At most half of the places are set aside. What more than half of them have in common is not their hardware.
//! - A GPU that its driver calls broken needs no comparison: it is set aside at once, whatever others do.
//! - It comes back by itself, each time after twice as long, and then one worker tries: its first task decides.
//!
//! What to do about it (workers leave, attempts are given back) is the farm's: see `farm/places.rs`.

use crate::values::{Place, StoredPlace};
use framewake_proto::ids::JobId;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Jobs that must have failed: two may be two bad scenes of one artist.
pub(crate) const JOBS_MIN: usize = 3;
/// Tasks that failed here and were done elsewhere. One task that fails by chance in ten would give five in a row
/// once in 100,000.
pub(crate) const TASKS_PROVEN_MIN: usize = 5;
/// Failures and successes older than this say nothing: a night and a day, because a frame may take hours.
pub(crate) const MEMORY: Duration = Duration::from_hours(24);
/// Longest time aside, unless the first is longer: a shift, so that a machine that was mended is tried the same day.
const ASIDE_MAX: Duration = Duration::from_hours(8);
/// A machine that goes away takes all its workers along: losses within this time are one failure, not many.
const LOSSES_TOGETHER: Duration = Duration::from_mins(1);
/// A place that no worker spoke from for this long is not counted among those that are there.
const PRESENT: Duration = Duration::from_hours(1);
/// Places remembered: twice the largest farm that is simulated.
const PLACES_MAX: usize = 20_000;
/// Steps of jobs of which is remembered where they failed and were done.
const SCENES_MAX: usize = 10_000;
/// Places remembered of one of them: two tell "elsewhere" from "here", more tell nothing new.
const SCENE_PLACES_MAX: usize = 2;
/// Failures remembered of one place.
const STREAK_MAX: usize = 32;

/// A step of a job: what is rendered.
pub(crate) type Scene = (JobId, usize);

/// What is known of all places.
#[derive(Debug)]
pub(crate) struct Health {
    /// First time aside; zero: nothing is ever set aside.
    aside: Duration,
    places: BTreeMap<Place, Record>,
    scenes: BTreeMap<Scene, Traces>,
    /// Those of `places` that are set aside: few, and looked at with each failure.
    aside_now: BTreeSet<Place>,
}

#[derive(Debug, Default)]
struct Record {
    standing: Standing,
    seen_at: Timestamp,
    /// When a task of each function was last done here.
    done_at: BTreeMap<usize, Timestamp>,
    /// What failed since.
    streak: BTreeMap<Scene, Failed>,
    /// Tasks that failed since, and were done elsewhere.
    proven: BTreeSet<(Scene, u32)>,
    lost_at: Option<Timestamp>,
    /// It is set aside on its driver's word, not for what failed on it.
    condemned: bool,
    /// Times it was set aside, until it has been well for [`MEMORY`].
    times: u32,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    function: usize,
    at: Timestamp,
    how: Fault,
}

/// Where a scene failed and was done: enough places to tell "elsewhere" from "here".
#[derive(Debug, Default)]
struct Traces {
    failed_on: Vec<Place>,
    done_on: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    #[default]
    Good,
    Aside {
        since: Timestamp,
        until: Timestamp,
        reason: String,
    },
    /// It is back: its first task decides.
    Trial {
        since: Timestamp,
        reason: String,
    },
    /// It did its first task; remembered for a while, so that the next time aside is longer.
    Proven {
        since: Timestamp,
        reason: String,
    },
}

/// What failed, as far as a machine can be blamed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Task(Verdict),
    Lost,
}

/// What the rule says of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgment {
    Well,
    /// It looks broken and must go on all the same.
    Suspect {
        reason: String,
        kept: &'static str,
    },
    Broken {
        reason: String,
    },
}

/// Whether the machine may be to blame. What needs more memory is not broken, and a scene that is wrong, a license
/// that is missing or a machine that is taken away say nothing of it.
pub(crate) fn may_blame_machine(verdict: Verdict) -> bool {
    match verdict {
        Verdict::RetrySame | Verdict::RetryElsewhere | Verdict::Hung | Verdict::OutputBad => true,
        Verdict::Done
        | Verdict::NeedMoreVram
        | Verdict::NeedMoreMemory
        | Verdict::LicenseWait
        | Verdict::Preempted
        | Verdict::SceneError
        | Verdict::Canceled
        | Verdict::Quarantined => false,
    }
}

impl Health {
    pub(crate) fn new(aside: Duration, stored: Vec<StoredPlace>) -> Health {
        let mut health = Health { aside, places: BTreeMap::new(), scenes: BTreeMap::new(), aside_now: BTreeSet::new() };
        for place in stored {
            let (since, reason) = (place.since, place.reason);
            let standing = match (place.proven_at, place.until) {
                (Some(since), _) => Standing::Proven { since, reason },
                (None, until) => Standing::Aside { since, until, reason },
            };
            if matches!(standing, Standing::Aside { .. }) {
                health.aside_now.insert(place.place.clone());
            }
            let record = Record { standing, times: place.times, ..Record::default() };
            health.places.insert(place.place, record);
        }
        health
    }

    /// A worker spoke from there.
    pub(crate) fn seen(&mut self, now: Timestamp, place: &Place) {
        if let Some(record) = self.places.get_mut(place) {
            record.seen_at = now;
            return;
        }
        if self.places.len() >= PLACES_MAX {
            let old = |record: &Record| now.since(record.seen_at) > PRESENT;
            self.places.retain(|_, record| record.standing != Standing::Good || !old(record));
        }
        if self.places.len() < PLACES_MAX {
            self.places.insert(place.clone(), Record { seen_at: now, ..Record::default() });
        }
    }

    /// A task was done there. True when that was what a trial waited for.
    pub(crate) fn done(&mut self, now: Timestamp, place: &Place, function: usize, scene: Scene) -> bool {
        remember(&mut self.scenes, scene, |traces| &mut traces.done_on, place);
        let Some(record) = self.places.get_mut(place) else { return false };
        record.done_at.insert(function, now);
        if !record.streak.is_empty() {
            record.streak.retain(|_, failed| failed.function != function);
            if record.streak.is_empty() {
                record.proven.clear();
            }
        }
        if let Standing::Trial { reason, .. } = &mut record.standing {
            record.standing = Standing::Proven { since: now, reason: std::mem::take(reason) };
            return true;
        }
        false
    }

    /// A task failed there, or its worker was lost.
    pub(crate) fn failed(&mut self, now: Timestamp, place: &Place, function: usize, scene: Scene, how: Fault) {
        let Some(record) = self.places.get_mut(place) else { return };
        if how == Fault::Lost {
            if record.lost_at.is_some_and(|at| now.since(at) < LOSSES_TOGETHER) {
                return;
            }
            record.lost_at = Some(now);
        }
        record.streak.retain(|_, failed| now.since(failed.at) < MEMORY);
        if record.streak.len() < STREAK_MAX || record.streak.contains_key(&scene) {
            record.streak.entry(scene).or_insert(Failed { function, at: now, how });
        }
        remember(&mut self.scenes, scene, |traces| &mut traces.failed_on, place);
    }

    /// The job is over: where it was done tells nothing more, unless it also failed.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        let of_job: Vec<Scene> = self.scenes.range((job, 0)..=(job, usize::MAX)).map(|(scene, _)| *scene).collect();
        for scene in of_job {
            if self.scenes.get(&scene).is_some_and(|traces| traces.failed_on.is_empty()) {
                self.scenes.remove(&scene);
            }
        }
    }

    /// A task that had failed there was done elsewhere.
    pub(crate) fn done_elsewhere(&mut self, place: &Place, scene: Scene, task: u32) {
        if let Some(record) = self.places.get_mut(place)
            && record.streak.contains_key(&scene)
            && record.proven.len() < TASKS_PROVEN_MIN
        {
            record.proven.insert((scene, task));
        }
    }

    /// What the rule says of a place that works. `needed`: functions whose workers there have work to do.
    pub(crate) fn judge(&self, now: Timestamp, place: &Place, needed: impl FnOnce() -> Vec<usize>) -> Judgment {
        let Some(record) = self.places.get(place).filter(|_| !self.aside.is_zero()) else { return Judgment::Well };
        let (on_trial, began) = match &record.standing {
            Standing::Good | Standing::Proven { .. } => (false, None),
            Standing::Trial { since, .. } => (true, Some(*since)),
            Standing::Aside { .. } => return Judgment::Well,
        };
        let counting: Vec<(&Scene, &Failed)> =
            record.streak.iter().filter(|(scene, _)| self.counts(place, **scene)).collect();
        let jobs: BTreeSet<JobId> = counting.iter().map(|((job, _), _)| *job).collect();
        let reason = if on_trial && !jobs.is_empty() {
            "the first task after its return failed".to_owned()
        } else if jobs.len() >= JOBS_MIN {
            format!("tasks of {} jobs failed here, one after the other", jobs.len())
        } else if record.proven.len() >= TASKS_PROVEN_MIN {
            format!("{} tasks failed here, one after the other, and others did them", record.proven.len())
        } else {
            return Judgment::Well;
        };
        let reason = format!("{reason}: {}", kinds(counting.iter().map(|(_, failed)| failed.how)));
        // While it failed, others must have worked: else it is the store, the network, or the scenes.
        let first = counting.iter().map(|(_, failed)| failed.at).min();
        let first = began.or(first).unwrap_or(now);
        let failing: BTreeSet<usize> = counting.iter().map(|(_, failed)| failed.function).collect();
        if failing.iter().any(|function| !self.is_done_elsewhere(place, *function, |at| at >= first)) {
            return Judgment::Suspect { reason, kept: "no other place has done such work meanwhile" };
        }
        if needed().into_iter().any(|function| !self.is_done_elsewhere(place, function, |at| now.since(at) < MEMORY)) {
            return Judgment::Suspect { reason, kept: "it is the only place for other work that waits" };
        }
        let there = self
            .places
            .iter()
            .filter(|(other, record)| *other == place || record.is_aside() || now.since(record.seen_at) < PRESENT);
        if (self.aside_now.len() + 1) * 2 > there.count() {
            return Judgment::Suspect { reason, kept: "half of the places are set aside already" };
        }
        Judgment::Broken { reason }
    }

    /// Whether the failure of a scene says something of the place.
    fn counts(&self, place: &Place, scene: Scene) -> bool {
        let Some(traces) = self.scenes.get(&scene) else { return true };
        let elsewhere = |places: &[Place]| places.iter().any(|other| other != place);
        !elsewhere(&traces.failed_on) || elsewhere(&traces.done_on)
    }

    fn is_done_elsewhere(&self, place: &Place, function: usize, when: impl Fn(Timestamp) -> bool) -> bool {
        self.places.iter().any(|(other, record)| {
            other != place && !record.is_aside() && record.done_at.get(&function).is_some_and(|at| when(*at))
        })
    }

    /// Places that were set aside for scenes which by now failed elsewhere too: wrongly, as is known now.
    pub(crate) fn wronged(&self) -> Vec<Place> {
        let wronged = self.aside_now.iter().filter(|place| {
            let Some(record) = self.places.get(place) else { return false };
            let jobs: BTreeSet<JobId> =
                record.streak.keys().filter(|scene| self.counts(place, **scene)).map(|(job, _)| *job).collect();
            let first_time = record.times == 1 && !record.streak.is_empty() && !record.condemned;
            first_time && jobs.len() < JOBS_MIN && record.proven.len() < TASKS_PROVEN_MIN
        });
        wronged.cloned().collect()
    }

    /// Sets the place aside; says until when.
    pub(crate) fn set_aside(&mut self, now: Timestamp, place: &Place, reason: String) -> Timestamp {
        let record = self.places.entry(place.clone()).or_default();
        let doublings = record.times.min(31);
        record.times += 1;
        let wait = self.aside.saturating_mul(1 << doublings).min(ASIDE_MAX.max(self.aside));
        let until = now.after(wait);
        record.standing = Standing::Aside { since: now, until, reason };
        self.aside_now.insert(place.clone());
        until
    }

    /// Sets the place aside because its driver says that it is broken. False when it is already, or nothing ever is.
    pub(crate) fn condemn(&mut self, now: Timestamp, place: &Place, reason: String) -> bool {
        self.seen(now, place);
        let Some(record) = self.places.get_mut(place) else { return false };
        if record.is_aside() || self.aside.is_zero() {
            return false;
        }
        record.condemned = true;
        record.streak.clear();
        record.proven.clear();
        self.set_aside(now, place, reason);
        true
    }

    /// The time aside may be over, or an old one may be forgotten. True when something changed.
    pub(crate) fn look(&mut self, now: Timestamp, place: &Place) -> bool {
        let Some(record) = self.places.get_mut(place) else { return false };
        match &mut record.standing {
            Standing::Aside { until, reason, .. } if *until <= now => {
                record.standing = Standing::Trial { since: now, reason: std::mem::take(reason) };
                record.streak.clear();
                record.proven.clear();
                record.condemned = false;
                self.aside_now.remove(place);
                true
            }
            Standing::Proven { since, .. } if since.after(MEMORY) <= now => {
                record.standing = Standing::Good;
                record.times = 0;
                true
            }
            Standing::Good | Standing::Aside { .. } | Standing::Trial { .. } | Standing::Proven { .. } => false,
        }
    }

    /// Brings the place back as if it had never failed. False when there is nothing to bring back.
    pub(crate) fn restore(&mut self, place: &Place) -> bool {
        let Some(record) = self.places.get_mut(place) else { return false };
        let was_noted = record.standing != Standing::Good;
        record.standing = Standing::Good;
        record.times = 0;
        record.streak.clear();
        record.proven.clear();
        record.condemned = false;
        self.aside_now.remove(place);
        was_noted
    }

    /// When [`Health::look`] is due.
    pub(crate) fn deadline(&self, place: &Place) -> Option<Timestamp> {
        match &self.places.get(place)?.standing {
            Standing::Aside { until, .. } => Some(*until),
            Standing::Proven { since, .. } => Some(since.after(MEMORY)),
            Standing::Good | Standing::Trial { .. } => None,
        }
    }

    pub(crate) fn knows(&self, place: &Place) -> bool {
        self.places.contains_key(place)
    }

    pub(crate) fn standing(&self, place: &Place) -> &Standing {
        self.places.get(place).map_or(&Standing::Good, |record| &record.standing)
    }

    /// The row of a place that is not simply good.
    pub(crate) fn stored(&self, place: &Place) -> Option<StoredPlace> {
        let record = self.places.get(place)?;
        let (since, until, reason, proven_at) = match &record.standing {
            Standing::Good => return None,
            Standing::Aside { since, until, reason } => (*since, *until, reason, None),
            // Found by a restart, its time is over, so it is on trial again.
            Standing::Trial { since, reason } => (*since, *since, reason, None),
            Standing::Proven { since, reason } => (*since, *since, reason, Some(*since)),
        };
        Some(StoredPlace { place: place.clone(), since, until, times: record.times, reason: reason.clone(), proven_at })
    }

    /// All places that are known, and how often each was set aside lately.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Place, &Standing, u32)> {
        self.places.iter().map(|(place, record)| (place, &record.standing, record.times))
    }
}

impl Record {
    fn is_aside(&self) -> bool {
        matches!(self.standing, Standing::Aside { .. })
    }
}

fn remember(
    scenes: &mut BTreeMap<Scene, Traces>,
    scene: Scene,
    list: impl Fn(&mut Traces) -> &mut Vec<Place>,
    place: &Place,
) {
    let places = list(scenes.entry(scene).or_default());
    if places.len() < SCENE_PLACES_MAX && !places.contains(place) {
        places.push(place.clone());
    }
    if scenes.len() > SCENES_MAX {
        // Ids rise with time, so this is the oldest.
        scenes.pop_first();
    }
}

/// `hung twice, lost workers once`
fn kinds(faults: impl Iterator<Item = Fault>) -> String {
    let mut counts: BTreeMap<&'static str, u32> = BTreeMap::new();
    for fault in faults {
        let name = match fault {
            Fault::Task(verdict) => verdict.as_str(),
            Fault::Lost => "lost workers",
        };
        *counts.entry(name).or_default() += 1;
    }
    let parts = counts.iter().map(|(name, count)| format!("{name} {}", times(*count)));
    parts.collect::<Vec<_>>().join(", ")
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

#[cfg(test)]
mod tests;
