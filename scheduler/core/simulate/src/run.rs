//! One run of a small world, and the search for the smallest setting that still breaks it.

use crate::chance::Chance;
use crate::fault::{Fault, FaultSet};
use crate::invariant::{Broken, Invariant};
use crate::plant::Plant;
use crate::shape::{Setting, Shape};
use crate::trace::Trace;
use crate::world::World;
use std::fmt::Write as _;

/// Lines of a trace that are printed.
const TRACE_LINES: usize = 40;

/// What was done and seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: u64,
    pub commits: u64,
    pub changes: u64,
    pub effects: u64,
    /// Changes and effects that were held against the books.
    pub checks: u64,
    pub crashes: u64,
    pub kills: u64,
    pub starts: u64,
    /// Frames rendered, of which some twice or in vain.
    pub frames: u64,
    /// Frames that were found in the store.
    pub found: u64,
    pub done: u64,
    pub failed: u64,
    /// Of those that failed.
    pub quarantined: u64,
    pub jobs_over: u64,
    pub paid_ms: u64,
    pub useful_ms: u64,
    faults: [u64; Fault::ALL.len()],
}

impl Tally {
    pub(crate) fn count(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub fn of(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.commits += other.commits;
        self.changes += other.changes;
        self.effects += other.effects;
        self.checks += other.checks;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.starts += other.starts;
        self.frames += other.frames;
        self.found += other.found;
        self.done += other.done;
        self.failed += other.failed;
        self.quarantined += other.quarantined;
        self.jobs_over += other.jobs_over;
        self.paid_ms += other.paid_ms;
        self.useful_ms += other.useful_ms;
        for (mine, others) in self.faults.iter_mut().zip(other.faults) {
            *mine += others;
        }
    }
}

/// A run that broke something.
#[derive(Debug, Clone)]
pub struct Failure {
    pub setting: Setting,
    pub broken: Broken,
    /// The last things that happened to what broke.
    pub trace: Vec<String>,
}

/// Plays one world to its end.
pub fn play(setting: Setting, plant: Option<Plant>) -> Result<Tally, Broken> {
    let mut world = small_world(setting, plant, None);
    world.play(|_| {})?;
    Ok(world.tally)
}

/// The same, with what happened last.
pub fn play_traced(setting: Setting, plant: Option<Plant>, lines: usize) -> Result<Tally, Box<Failure>> {
    let mut world = small_world(setting, plant, Some(Trace::default()));
    match world.play(|_| {}) {
        Ok(()) => Ok(world.tally),
        Err(broken) => {
            let trace = world.trace.as_ref().map_or(Vec::new(), |trace| trace.about(&broken.about, lines));
            Err(Box::new(Failure { setting, broken, trace }))
        }
    }
}

fn small_world(setting: Setting, plant: Option<Plant>, trace: Option<Trace>) -> World {
    let mut chance = Chance::new(setting.seed);
    let shape = Shape::draw(setting, &mut chance);
    World::new(shape, chance, plant, trace)
}

/// The smallest setting that still breaks the same invariant: faults are switched off one by one, then there
/// are fewer jobs, then fewer tasks.
pub fn shorten(setting: Setting, plant: Option<Plant>, invariant: Invariant) -> Box<Failure> {
    let breaks = |setting: Setting| play(setting, plant).is_err_and(|broken| broken.invariant == invariant);
    let mut smallest = setting;
    let mut drawn = Chance::new(setting.seed);
    smallest.faults = Shape::draw(setting, &mut drawn).drawn();
    for fault in smallest.faults.iter() {
        let smaller = Setting { faults: smallest.faults.without(fault), ..smallest };
        if breaks(smaller) {
            smallest = smaller;
        }
    }
    for jobs_max in 1..setting.jobs_max {
        let smaller = Setting { jobs_max, ..smallest };
        if breaks(smaller) {
            smallest = smaller;
            break;
        }
    }
    for tasks_max in [1, 2, 3, 5, 8, 12, 20] {
        let smaller = Setting { tasks_max, ..smallest };
        if tasks_max < smallest.tasks_max && breaks(smaller) {
            smallest = smaller;
            break;
        }
    }
    match play_traced(smallest, plant, TRACE_LINES) {
        Err(failure) => failure,
        // Only if drawing its faults alone had changed the world; then the whole one is shown.
        Ok(_) => play_traced(setting, plant, TRACE_LINES).expect_err("the same seed breaks the same way"),
    }
}

impl Failure {
    /// The command that plays it again.
    pub fn command(&self) -> String {
        let Setting { seed, faults, jobs_max, tasks_max } = self.setting;
        let mut command = format!("target/release/simulate --seed {seed}");
        if faults != FaultSet::ALL {
            let names: Vec<&str> = faults.iter().map(Fault::name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
            let _ = write!(command, " --faults {names}");
        }
        if jobs_max != Setting::JOBS_MAX {
            let _ = write!(command, " --jobs {jobs_max}");
        }
        if tasks_max != Setting::TASKS_MAX {
            let _ = write!(command, " --tasks {tasks_max}");
        }
        command + " --trace"
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} breaks: {}", self.setting.seed, self.broken.invariant)?;
        writeln!(f, "  {}", self.broken.text)?;
        writeln!(f, "the last things that happened to it:")?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "play it again:\n  {}", self.command())
    }
}
