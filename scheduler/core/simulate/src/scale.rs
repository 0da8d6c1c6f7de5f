//! A farm at its real size, to completion: how close it comes to what is possible, and what that takes.

use crate::chance::Chance;
use crate::fault::Fault;
use crate::invariant::Broken;
use crate::run::Tally;
use crate::shape::{JobShape, NEVER_MS, Setting, Shape, StepShape, key, project};
use crate::world::World;
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings};
use framewake_proto::duration::Span;
use framewake_proto::job::{Chunking, Retries};
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

/// Projects that share the farm.
const PROJECTS: u32 = 20;
/// Jobs come within this.
const ARRIVALS_MS: i64 = 600_000;
/// How long a renderer loads a scene.
const LOAD_MS: std::ops::Range<u32> = 5000..20_000;
/// The median time of a frame differs by job within this; each frame is spread around it.
const FRAME_MS: std::ops::Range<u32> = 20_000..60_000;
/// Events between two looks at how far it is.
const LOOK_EVENTS: u64 = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub gpus: u32,
    pub jobs: u32,
    /// In all.
    pub frames: u32,
    pub seed: u64,
}

impl Default for Size {
    fn default() -> Size {
        Size { gpus: 10_000, jobs: 1000, frames: 10_000_000, seed: 1 }
    }
}

#[derive(Debug, Clone)]
pub struct Report {
    pub size: Size,
    pub tally: Tally,
    pub objects: u64,
    pub makespan_ms: i64,
    pub wall: Duration,
    pub memory_peak_bytes: u64,
}

/// Runs it; `look` is told how far it is, every now and then.
pub fn run(size: Size, mut look: impl FnMut(&str)) -> Result<Report, Broken> {
    let mut chance = Chance::new(size.seed);
    let shape = shape(size, &mut chance);
    let begin = Instant::now();
    let mut world = World::new(shape, chance, None, None);
    let mut next = LOOK_EVENTS;
    let mut makespan_ms = 0;
    let mut done = 0;
    world.play(|world| {
        if world.tally.done > done {
            (done, makespan_ms) = (world.tally.done, world.now_ms());
        }
        if world.tally.events >= next {
            next += LOOK_EVENTS;
            look(&format!(
                "{} of {} frames, {} workers, {:.1} h simulated, {} s",
                world.tally.done,
                size.frames,
                world.workers_alive(),
                world.now_ms() as f64 / 3_600_000.0,
                begin.elapsed().as_secs()
            ));
        }
    })?;
    let objects = world.objects().count;
    Ok(Report {
        size,
        objects,
        makespan_ms,
        tally: world.tally,
        wall: begin.elapsed(),
        memory_peak_bytes: memory_peak_bytes(),
    })
}

fn shape(size: Size, chance: &mut Chance) -> Shape {
    // Everything of a small world that does not matter here, with nothing that goes wrong.
    let calm = Setting { faults: crate::fault::FaultSet::NONE, ..Setting::new(size.seed) };
    let mut shape = Shape::draw(calm, chance);
    shape.rules = Settings::default();
    shape.pools = vec![PoolRules::local(size.gpus)];
    shape.functions = vec![
        (key("render"), FunctionRules::without_gpu(size.gpus, 1)),
        (key("encode"), FunctionRules::without_gpu(100, 1)),
    ];
    shape.jobs = (0..size.jobs).map(|number| job(size, number, chance)).collect();
    shape.calm_ms = NEVER_MS;
    (shape.beat_ms, shape.linger_ms, shape.latency_ms, shape.commit_ms) = (5000, 60_000, 0, 0);
    shape.boot_ms = (10_000, 60_000);
    let gpus = f64::from(size.gpus);
    for (fault, rate) in [
        (Fault::Kill, gpus * 0.01),
        (Fault::Transient, 0.005),
        (Fault::Straggler, 0.05),
        (Fault::SpotWave, 1.0 / 30.0),
        (Fault::Crash, 1.0 / 60.0),
        (Fault::Wipe, 1.0 / 60.0),
        (Fault::LoseReport, 0.0001),
    ] {
        shape.set_rate(fault, rate);
    }
    shape
}

fn job(size: Size, number: u32, chance: &mut Chance) -> JobShape {
    let dice = chance.world();
    let (frame_ms, load_ms) = (dice.u32(FRAME_MS), dice.u32(LOAD_MS));
    let step = |function: &str, tasks: u32, after: Vec<usize>| NewStep {
        function: key(function),
        tasks,
        chunking: Chunking::default(),
        // A frame that passes with 0.5 % fails five times in a row once in 3 * 10^11.
        retries: Retries { attempts: 5, backoff: Span(Duration::from_secs(1)), ..Retries::default() },
        gpu_memory_bytes: 0,
        frame_limit: None,
        vram: framewake_core::gpus::Vram::default(),
        after,
    };
    let shape =
        |frame_ms: u32, load_ms: u32| StepShape { frame_ms, load_ms, poison: BTreeSet::new(), wrong: BTreeSet::new() };
    let steps = vec![step("render", size.frames / size.jobs, Vec::new()), step("encode", 1, vec![0])];
    JobShape {
        at_ms: dice.i64(0..ARRIVALS_MS),
        job: NewJob {
            project: project(number % PROJECTS),
            budget: None,
            deadline: None,
            priority: dice.u32(0..=100),
            steps,
        },
        steps: vec![shape(frame_ms, load_ms), shape(60_000, 1000)],
    }
}

/// The most memory this process had, as Linux says it; 0 elsewhere.
fn memory_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |ms: f64| ms / 3_600_000.0;
        let tally = &self.tally;
        let (useful, paid) = (tally.useful_ms as f64, tally.paid_ms as f64);
        let makespan = self.makespan_ms as f64;
        let bound = useful / f64::from(self.size.gpus);
        let total = u64::from(self.size.jobs) * u64::from(self.size.frames / self.size.jobs + 1);
        let wall = self.wall.as_secs_f64();
        writeln!(
            f,
            "tasks        {} done of {total}, {} failed for good ({} quarantined)",
            tally.done, tally.failed, tally.quarantined
        )?;
        writeln!(f, "lost         {}", total - tally.done - tally.failed)?;
        writeln!(f, "objects      {} for {} done tasks", self.objects, tally.done)?;
        writeln!(
            f,
            "makespan     {:.2} h; lower bound {:.2} h (useful GPU time / GPUs); {:.3} times",
            hours(makespan),
            hours(bound),
            makespan / bound
        )?;
        writeln!(
            f,
            "GPU time     {:.0} h useful, {:.0} h paid; {:.1} % of what is paid is useful",
            hours(useful),
            hours(paid),
            100.0 * useful / paid
        )?;
        writeln!(f, "frames       {} rendered, {} found in the store", tally.frames, tally.found)?;
        let struck = Fault::ALL.into_iter().filter(|fault| tally.of(*fault) > 0);
        let struck: Vec<String> = struck.map(|fault| format!("{fault} {}", tally.of(fault))).collect();
        writeln!(f, "faults       {} workers killed of {} started; {}", tally.kills, tally.starts, struck.join(", "))?;
        writeln!(
            f,
            "simulation   {} events, {:.0} a second; {} changes and effects audited",
            tally.events,
            tally.events as f64 / wall,
            tally.checks
        )?;
        write!(f, "this machine {wall:.0} s, {} MiB at most", self.memory_peak_bytes / 1024 / 1024)
    }
}
