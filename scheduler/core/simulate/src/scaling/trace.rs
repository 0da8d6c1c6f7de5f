//! What people and schedules submit.

use super::{DAY_MS, LOAD_MS};
use crate::chance::{Chance, log_normal_ms};

/// Working days of a trace.
const DAYS: i64 = 5;
/// Jobs that artists submit on a day, in office hours.
const JOBS_A_DAY: usize = 60;
const OFFICE_MS: std::ops::Range<i64> = 9 * 3_600_000..17 * 3_600_000;
/// GPUs that one job of an artist wants.
const GPUS: std::ops::RangeInclusive<u32> = 1..=8;
/// What a GPU is busy for: nine of ten between one minute and half an hour.
const BUSY_MEDIAN_MS: u32 = 300_000;
const BUSY_SIGMA: f64 = 1.16;
const BUSY_MS: std::ops::RangeInclusive<u32> = 10_000..=7_200_000;
/// When the nightly run is due, its GPUs, and what each is busy for.
const NIGHT_MS: i64 = 22 * 3_600_000;
const NIGHT_GPUS: u32 = 40;
const NIGHT_BUSY_MS: u32 = 1_800_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Artists: sixty jobs a day in office hours, for one to eight GPUs and five minutes.
    Bursty,
    /// Forty GPUs for half an hour each night, by a schedule.
    Nightly,
    Mixed,
}

impl Trace {
    pub const ALL: [Trace; 3] = [Trace::Bursty, Trace::Nightly, Trace::Mixed];

    pub fn name(self) -> &'static str {
        match self {
            Trace::Bursty => "bursty",
            Trace::Nightly => "nightly",
            Trace::Mixed => "mixed",
        }
    }
}

/// A job: so many tasks of the same length, each for a GPU of its own if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Since the first midnight.
    pub at_ms: i64,
    pub tasks: u32,
    pub task_ms: u32,
    /// Made by the schedule.
    pub nightly: bool,
}

impl Job {
    /// What a task takes on a worker that loads its renderer first, or has it loaded.
    pub(super) fn takes_ms(&self, loaded: bool) -> i64 {
        i64::from(self.task_ms) + if loaded { 0 } else { LOAD_MS }
    }
}

/// The jobs of a trace, by time.
pub fn jobs(trace: Trace, seed: u64) -> Vec<Job> {
    let mut chance = Chance::new(seed);
    let dice = chance.world();
    let mut jobs = Vec::new();
    for day in 0..DAYS {
        for _ in 0..JOBS_A_DAY {
            let (at_ms, tasks) = (day * DAY_MS + dice.i64(OFFICE_MS), dice.u32(GPUS));
            let task_ms = log_normal_ms(dice, BUSY_MEDIAN_MS, BUSY_SIGMA).clamp(*BUSY_MS.start(), *BUSY_MS.end());
            if trace != Trace::Nightly {
                jobs.push(Job { at_ms, tasks, task_ms, nightly: false });
            }
        }
        if trace != Trace::Bursty {
            let at_ms = day * DAY_MS + NIGHT_MS;
            jobs.push(Job { at_ms, tasks: NIGHT_GPUS, task_ms: NIGHT_BUSY_MS, nightly: true });
        }
    }
    jobs.sort_by_key(|job| job.at_ms);
    jobs
}
