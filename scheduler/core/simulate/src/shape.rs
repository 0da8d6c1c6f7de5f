//! What a world consists of: functions, jobs, and how often what goes wrong. Drawn from a seed.

use crate::chance::Chance;
use crate::fault::{Fault, FaultSet};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings};
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionKey, Name};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::price::Market;
use std::collections::BTreeSet;
use std::time::Duration;

/// The calm of a world in which things go wrong to the end.
pub(crate) const NEVER_MS: i64 = i64::MAX / 4;

/// What can be chosen of a small world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub seed: u64,
    /// Faults that may happen; a seed draws some of them.
    pub faults: FaultSet,
    /// Most jobs.
    pub jobs_max: u32,
    /// Most tasks of a step.
    pub tasks_max: u32,
}

impl Setting {
    pub const JOBS_MAX: u32 = 8;
    pub const TASKS_MAX: u32 = 40;

    #[must_use]
    pub fn new(seed: u64) -> Setting {
        Setting { seed, faults: FaultSet::ALL, jobs_max: Setting::JOBS_MAX, tasks_max: Setting::TASKS_MAX }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) rules: Settings,
    pub(crate) pools: Vec<PoolRules>,
    pub(crate) functions: Vec<(FunctionKey, FunctionRules)>,
    pub(crate) jobs: Vec<JobShape>,
    /// Times a minute, or chances; by fault.
    rates: [f64; Fault::ALL.len()],
    /// No faults from then on.
    pub(crate) calm_ms: i64,
    /// Everything must be over so long after.
    pub(crate) patience_ms: i64,
    pub(crate) beat_ms: i64,
    pub(crate) linger_ms: i64,
    /// Longest time of a message under way; 0: none, and heartbeats are heard at once.
    pub(crate) latency_ms: i64,
    /// Longest time of a commit; 0: each event is committed at once.
    pub(crate) commit_ms: i64,
    pub(crate) boot_ms: (i64, i64),
}

#[derive(Debug, Clone)]
pub(crate) struct JobShape {
    pub(crate) at_ms: i64,
    pub(crate) job: NewJob,
    pub(crate) steps: Vec<StepShape>,
}

#[derive(Debug, Clone)]
pub(crate) struct StepShape {
    pub(crate) frame_ms: u32,
    pub(crate) load_ms: u32,
    /// Tasks that kill who renders them.
    pub(crate) poison: BTreeSet<u32>,
    /// Tasks that can't succeed.
    pub(crate) wrong: BTreeSet<u32>,
}

impl Shape {
    pub(crate) fn rate(&self, fault: Fault) -> f64 {
        self.rates[fault as usize]
    }

    pub(crate) fn set_rate(&mut self, fault: Fault, rate: f64) {
        self.rates[fault as usize] = rate;
    }

    /// All slots there are.
    pub(crate) fn slots(&self) -> u32 {
        self.pools.iter().map(|pool| pool.max).sum()
    }

    pub(crate) fn drawn(&self) -> FaultSet {
        let drawn = Fault::ALL.into_iter().filter(|fault| self.rate(*fault) > 0.0);
        drawn.fold(FaultSet::NONE, FaultSet::with)
    }

    /// A small world: a handful of workers, and every second fault there is.
    pub(crate) fn draw(setting: Setting, chance: &mut Chance) -> Shape {
        let mut rates = [0.0; Fault::ALL.len()];
        for fault in Fault::ALL {
            let most = match fault {
                Fault::Lie => 20.0,
                Fault::Kill => 12.0,
                Fault::People => 6.0,
                Fault::Crash | Fault::Freeze => 3.0,
                Fault::Wipe | Fault::ReorderOrders => 1.0,
                Fault::SpotWave | Fault::HoldUp | Fault::ClockJump | Fault::ExitUnnoticed => 0.5,
                Fault::ProviderNever
                | Fault::ProviderLate
                | Fault::ProviderFails
                | Fault::ProviderDoubles
                | Fault::RepeatOrder
                | Fault::RepeatReport
                | Fault::DelayReport => 0.3,
                Fault::Transient | Fault::LoseOrder | Fault::LoseReport | Fault::LoseRequest => 0.1,
                Fault::Straggler | Fault::LicenseWait => 0.05,
                Fault::Poison | Fault::SceneError | Fault::Hang => 0.04,
            };
            // Drawn whether it is switched on or not, so that the others stay as they are.
            let dice = chance.of(fault);
            let rate = if dice.bool() { most * dice.f64() } else { 0.0 };
            rates[fault as usize] = if setting.faults.has(fault) { rate } else { 0.0 };
        }
        let dice = chance.world();
        let slots = dice.u32(2..12);
        let workers_max = dice.u32(1..=slots);
        let encode_slots = dice.u32(1..=2);
        // Here is room for any worker; the rest may be elsewhere, in a pool that is tried first and takes few starts a minute.
        let elsewhere = if dice.bool() { dice.u32(0..slots - 1) } else { 0 };
        let mut pools = vec![PoolRules::local(slots - elsewhere)];
        if elsewhere > 0 {
            pools.push(PoolRules {
                name: "elsewhere".parse().expect("a good name"),
                market: Market::Spot,
                starts_a_minute: dice.u32(1..60),
                here: false,
                ..PoolRules::local(elsewhere)
            });
        }
        let functions = vec![
            (key("render"), FunctionRules::without_gpu(workers_max, 1)),
            (key("encode"), FunctionRules::without_gpu(2, encode_slots)),
        ];
        let calm_ms = i64::from(dice.u32(120..900)) * 1000;
        let jobs = dice.u32(1..=Setting::JOBS_MAX).min(setting.jobs_max);
        let mut shape = Shape {
            rules: Settings::default(),
            pools,
            functions,
            jobs: Vec::new(),
            rates,
            calm_ms,
            patience_ms: 0,
            beat_ms: 2000,
            linger_ms: i64::from(dice.u32(5..60)) * 1000,
            latency_ms: i64::from(*dice.choice(&[1, 20, 300]).expect("not empty")),
            commit_ms: i64::from(*dice.choice(&[0, 5, 200]).expect("not empty")),
            boot_ms: (500, i64::from(dice.u32(1..20)) * 1000),
        };
        for _ in 0..jobs {
            let job = shape.draw_job(setting, chance);
            shape.jobs.push(job);
        }
        // One worker could do it all within this, with every backoff between: the farm may take as long, and no longer.
        let work_ms: i64 = shape.jobs.iter().flat_map(|job| job.job.steps.iter().zip(&job.steps)).map(work_ms).sum();
        shape.patience_ms = 1_800_000 + 4 * work_ms;
        shape
    }

    fn draw_job(&self, setting: Setting, chance: &mut Chance) -> JobShape {
        let (poisonous, wrong) = (self.rate(Fault::Poison), self.rate(Fault::SceneError));
        let dice = chance.world();
        let chunking = match dice.u32(0..3) {
            0 => Chunking::Fixed { size: dice.u32(1..12) },
            _ => Chunking::Auto { target: Span(Duration::from_secs(dice.u64(5..120))) },
        };
        let retries = Retries {
            attempts: dice.u32(1..5),
            backoff: Span(Duration::from_secs(1)),
            backoff_max: Span(Duration::from_secs(dice.u64(1..60))),
        };
        let count = dice.usize(1..=3);
        let (mut steps, mut shapes) = (Vec::new(), Vec::new());
        for at in 0..count {
            let dice = chance.world();
            let function = at % 2;
            let tasks = dice.u32(1..=Setting::TASKS_MAX).min(setting.tasks_max);
            let frame_ms = dice.u32(200..10_000);
            let load_ms = dice.u32(0..8000);
            let after = (0..at).filter(|_| dice.bool()).collect();
            let mut some = |fault: Fault, share: f64| -> BTreeSet<u32> {
                (0..tasks).filter(|_| chance.of(fault).f64() < share).collect()
            };
            shapes.push(StepShape {
                frame_ms,
                load_ms,
                poison: some(Fault::Poison, poisonous),
                wrong: some(Fault::SceneError, wrong),
            });
            let function = self.functions[function].0.clone();
            steps.push(NewStep {
                function,
                tasks,
                chunking,
                retries,
                gpu_memory_bytes: 0,
                frame_limit: None,
                vram: framewake_core::gpus::Vram::default(),
                after,
            });
        }
        let dice = chance.world();
        // Some at the start, the others while things go wrong.
        let at_ms = if dice.bool() { 0 } else { dice.i64(0..self.calm_ms) };
        let project = project(dice.u32(0..3));
        JobShape {
            at_ms,
            job: NewJob { project, budget: None, deadline: None, priority: dice.u32(0..=100), steps },
            steps: shapes,
        }
    }
}

/// Milliseconds for one worker, with generous room for failures, losses and their backoffs.
fn work_ms((step, shape): (&NewStep, &StepShape)) -> i64 {
    let poison = i64::try_from(shape.poison.len()).unwrap_or(i64::MAX);
    let backoff = i64::try_from(step.retries.backoff_max.0.as_millis()).unwrap_or(i64::MAX);
    i64::from(step.tasks) * (i64::from(shape.frame_ms) + i64::from(shape.load_ms) + backoff) + poison * 600_000
}

pub(crate) fn project(number: u32) -> Name {
    format!("project-{number}").parse().expect("a good name")
}

pub(crate) fn key(name: &str) -> FunctionKey {
    FunctionKey { name: name.parse().expect("a good name"), version: 1 }
}
