//! What budgets cost the rules: the same work of many workers with and without, and while budgets run out.

use crate::plant::result;
use crate::shape::key;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, Report, RequestId, TaskResult};
use framewake_core::farm::{Applied, Farm};
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot};
use framewake_proto::budget::{Period, ProjectBudget};
use framewake_proto::ids::{AttemptId, JobId, Name, WorkerId};
use framewake_proto::job::{AtLimit, Budget, Chunking, Retries};
use framewake_proto::money::{Currency, Money};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// Longer than a frame: nobody speaks here but to report.
const LEASE: Duration = Duration::from_mins(10);
const FRAME_MS: u32 = 30_000;
const CHUNK_FRAMES: u32 = 8;
/// Frames of each worker that are measured; before them as many that are not.
const ROUNDS: u32 = 3;
/// Millionths of a unit an hour.
const PRICE: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budgets {
    None,
    /// Each job has one.
    Jobs,
    /// All jobs are of a project that has one.
    Project,
    /// The same, and it is used up while it is measured.
    ProjectEnds,
}

#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub budgets: Budgets,
    pub workers: u32,
    pub jobs: u32,
    pub reports: u64,
    pub took: Duration,
    /// The longest that one report took, with all that followed.
    pub longest: Duration,
}

/// Reports of so many workers, and how long the rules took for them.
#[must_use]
pub fn measure(workers: u32, jobs: u32, budgets: Budgets) -> Figures {
    let mut world = World::new(workers, jobs, budgets);
    for _ in 0..ROUNDS {
        world.round();
    }
    if budgets == Budgets::ProjectEnds {
        // What the next round takes, with all that is under way, is more than this.
        world.budget_project(world.spent_frames() + workers / 2);
    }
    (world.reports, world.took, world.longest) = (0, Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        world.round();
    }
    let World { reports, took, longest, .. } = world;
    Figures { budgets, workers, jobs, reports, took, longest }
}

struct World {
    farm: Farm,
    now: Timestamp,
    workers: Vec<(WorkerId, Option<(AttemptId, TaskSet)>)>,
    orders: VecDeque<AttemptId>,
    frames_done: u32,
    reports: u64,
    took: Duration,
    longest: Duration,
}

fn currency() -> Currency {
    "USD".parse().expect("a currency")
}

fn held() -> Held {
    Held { price: PriceId(1), micros_an_hour: PRICE, currency: currency() }
}

fn film() -> Name {
    "film".parse().expect("a good name")
}

impl World {
    fn new(workers: u32, jobs: u32, budgets: Budgets) -> World {
        let mut prices = Prices::default();
        prices.set(PaidFor::Any, 0, held());
        let functions = vec![(key("render"), FunctionRules::without_gpu(workers, 1))];
        let snapshot = Snapshot { functions, prices, ..Snapshot::default() };
        let now = Timestamp(1_700_000_000_000);
        let mut world = World {
            farm: Farm::restore(Settings { lease: LEASE, ..Settings::default() }, now, snapshot),
            now,
            workers: Vec::new(),
            orders: VecDeque::new(),
            frames_done: 0,
            reports: 0,
            took: Duration::ZERO,
            longest: Duration::ZERO,
        };
        world.apply(Event::PoolsSet { pools: vec![PoolRules::local(workers)], unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let plenty = Money { micros: i64::MAX / 4, currency: currency() };
        let budget = (budgets == Budgets::Jobs).then_some(Budget { limit: plenty, at_limit: AtLimit::Hold });
        if matches!(budgets, Budgets::Project | Budgets::ProjectEnds) {
            world.budget_project(u32::MAX);
        }
        let tasks = (workers * (2 * ROUNDS + 2 * CHUNK_FRAMES)).div_ceil(jobs).max(CHUNK_FRAMES);
        for at in 0..jobs {
            let step = NewStep {
                function: key("render"),
                tasks,
                chunking: Chunking::Fixed { size: CHUNK_FRAMES },
                retries: Retries::default(),
                gpu_memory_bytes: 0,
                frame_limit: None,
                vram: framewake_core::gpus::Vram::default(),
                after: Vec::new(),
            };
            let job = NewJob { project: film(), priority: 50, budget, deadline: None, steps: vec![step] };
            world.apply(Event::JobSubmitted { id: JobId((u128::from(at) + 1).into()), job });
        }
        world
    }

    /// So that as many frames may be paid.
    fn budget_project(&mut self, frames: u32) {
        let micros = i64::from(frames) * PRICE / 3600 * i64::from(FRAME_MS / 1000);
        let limit = Money { micros: micros.max(1), currency: currency() };
        let budget = Some(ProjectBudget { limit, warn_percent: 80, at_limit: AtLimit::Hold });
        let spent_us = u64::from(self.spent_frames()) * u64::from(FRAME_MS) * 1000;
        let spent = vec![(held(), spent_us)];
        self.apply(Event::ProjectBudgeted { project: film(), period: Period::Total, budget, spent });
    }

    fn spent_frames(&self) -> u32 {
        self.frames_done
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        let mut come = Vec::new();
        for effect in &out.effects {
            match effect {
                Effect::PublishOrder { attempt, .. } => self.orders.push_back(*attempt),
                Effect::StartWorker { worker, .. } => come.push(worker.clone()),
                Effect::PushControl { worker, control } => {
                    if let Some(keep) = control.keep_tasks {
                        self.keep(worker, keep);
                    }
                }
                _ => {} // Nobody else listens.
            }
        }
        for worker in come {
            self.apply(Event::WorkerSeen {
                request: RequestId(0),
                worker: worker.clone(),
                function: key("render"),
                holds: None,
                draining: false,
                places: Vec::new(),
                gpu: String::new(),
                progress: None,
            });
            self.workers.push((worker, None));
        }
        out.effects
    }

    /// It answers with its next report.
    fn keep(&mut self, worker: &WorkerId, keep: u32) {
        let held = self.workers.iter_mut().find(|(id, _)| id == worker);
        if let Some((_, Some((_, tasks)))) = held {
            *tasks = tasks.take_first(keep.max(1));
        }
    }

    /// Each worker tells of a frame, and takes the next chunk when it has no more.
    fn round(&mut self) {
        for at in 0..self.workers.len() {
            let pause_us = u64::from(FRAME_MS) * 1000 / self.workers.len().max(1) as u64;
            // Whole milliseconds, so that a round takes a frame's time.
            if (at as u64 * pause_us) / 1000 != ((at as u64 + 1) * pause_us) / 1000 {
                self.now = self.now.after(Duration::from_millis(pause_us.div_ceil(1000)));
            }
            if self.workers[at].1.is_none() {
                self.claim(at);
                continue;
            }
            let (id, held) = &mut self.workers[at];
            let Some((attempt, tasks)) = held else { continue };
            let first = tasks.take_first(1);
            let report = Report {
                done: first.iter().map(|task| TaskResult { elapsed_ms: FRAME_MS, ..result(task) }).collect(),
                end: tasks.is_empty().then_some(AttemptEnd::Finished),
                ..Report::default()
            };
            let (over, attempt, worker) = (report.end.is_some(), *attempt, id.clone());
            let begin = Instant::now();
            self.apply(Event::AttemptReported { worker, attempt, report });
            let took = begin.elapsed();
            self.frames_done += 1;
            self.reports += 1;
            self.took += took;
            self.longest = self.longest.max(took);
            if over {
                self.workers[at].1 = None;
                self.claim(at);
            }
        }
    }

    fn claim(&mut self, at: usize) {
        while let Some(attempt) = self.orders.pop_front() {
            let worker = self.workers[at].0.clone();
            let effects = self.apply(Event::AttemptClaimed { request: RequestId(1), worker, attempt });
            let granted = effects.into_iter().find_map(|effect| match effect {
                Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } => Some(tasks),
                _ => None,
            });
            if let Some(tasks) = granted {
                self.workers[at].1 = Some((attempt, tasks));
                return;
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budgets = match self.budgets {
            Budgets::None => "no budgets",
            Budgets::Jobs => "a budget for each job",
            Budgets::Project => "a budget for the project",
            Budgets::ProjectEnds => "the same, used up meanwhile",
        };
        let each = self.took.as_secs_f64() / self.reports.max(1) as f64;
        let a_second = f64::from(self.workers) / f64::from(FRAME_MS / 1000);
        write!(
            f,
            "{budgets:28} {} workers, {} jobs: {:.1} µs a report, {:.2} ms at most; frames of {} s: {:.2} % of a core",
            self.workers,
            self.jobs,
            each * 1e6,
            self.longest.as_secs_f64() * 1e3,
            FRAME_MS / 1000,
            100.0 * each * a_second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_happens() {
        for budgets in [Budgets::None, Budgets::Jobs, Budgets::Project, Budgets::ProjectEnds] {
            let figures = measure(20, 3, budgets);
            let ends = budgets == Budgets::ProjectEnds;
            // Frames of three rounds, less the rounds in which a worker claims; and far fewer where the money ends.
            assert_eq!(figures.reports >= 20 * 2, !ends, "{figures:?}");
            assert!(figures.reports > 5, "{figures:?}");
        }
    }
}
