//! What is measured of scenes while their jobs are rendered, and what of it helps the next job.

use super::Engine;
use super::batch::Batch;
use crate::scene::SceneKey;
use framewake_core::change::{Change, Outcome, StepState};
use framewake_core::estimate::{Figures, Spread};
use framewake_core::event::Event;
use framewake_core::gpus::Vram;
use framewake_core::values::NewJob;
use framewake_proto::ids::{AttemptId, JobId, WorkerId};
use framewake_proto::job::Job;
use framewake_proto::time::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// As much as there are workers, and steps at work.
#[derive(Debug, Default)]
pub(crate) struct Measuring {
    /// Attempts that began while this scheduler runs.
    attempts: HashMap<AttemptId, Under>,
    /// Tasks of steps that are not over.
    steps: BTreeMap<(JobId, usize), Spread>,
    /// The scene that a worker has open.
    open: HashMap<WorkerId, SceneKey>,
    /// GPU memory that scenes were seen to take.
    vrams: HashMap<SceneKey, Vram>,
}

/// An attempt under way.
#[derive(Debug)]
struct Under {
    scene: SceneKey,
    step: (JobId, usize),
    worker: WorkerId,
    began_at: Timestamp,
    /// Its worker had not opened this scene.
    is_new: bool,
    load_s: f64,
    task: Spread,
    longest_s: f64,
    bytes: Spread,
}

impl Measuring {
    pub(super) fn new(vrams: HashMap<SceneKey, Vram>) -> Measuring {
        Measuring { vrams, ..Measuring::default() }
    }

    /// A report tells how long opening the scene took.
    pub(super) fn hear(&mut self, event: &Event) {
        if let Event::AttemptReported { attempt, report, .. } = event
            && let (Some(load_ms), Some(under)) = (report.load_ms, self.attempts.get_mut(attempt))
        {
            under.load_s = f64::from(load_ms) / 1000.0;
        }
    }

    pub(super) fn forget(&mut self, worker: &WorkerId) {
        self.open.remove(worker);
    }
}

impl Under {
    /// What the attempt tells of its scene, at its end.
    fn figures(self, outcome: &Outcome, ended_at: Timestamp, gpu: &str) -> Figures {
        let mut figures = Figures {
            task: self.task,
            task_max_s: self.longest_s,
            bytes: self.bytes,
            gpu: gpu.to_owned(),
            ..Figures::default()
        };
        if *outcome == Outcome::Finished && self.task.count > 0.0 {
            if self.is_new {
                figures.load.add(self.load_s);
            }
            let beside = ended_at.since(self.began_at).as_secs_f64() - self.load_s - self.task.sum;
            // A session that has the scene open tells a short load, which every attempt has.
            let beside = if self.is_new { beside } else { beside + self.load_s };
            figures.extra.add(beside.max(0.0) / self.task.count);
        }
        figures
    }
}

impl Engine {
    /// What is known of the GPU memory that the job's steps will take. What was learned keeps no job from being tried: the rules
    /// leave out what no GPU has.
    pub(super) fn remember(&self, job: &Job, new: &mut NewJob) {
        for (at, step) in new.steps.iter_mut().enumerate() {
            let takes_gpus = self.functions.get(&step.function).is_some_and(|spec| spec.resources.gpus > 0);
            if takes_gpus && let Some(vram) = self.measuring.vrams.get(&SceneKey::of(job, at)) {
                step.vram = *vram;
            }
        }
    }

    /// What this batch makes known, to be durable with it. Jobs that it speaks of are at hand.
    pub(super) fn measure(&mut self, batch: &mut Batch) {
        let (measuring, jobs) = (&mut self.measuring, &self.jobs);
        let scene = |job: JobId, step: usize| jobs.get(job).map(|text| SceneKey::of(text, step));
        let paid = batch.applied.changes.iter().filter_map(|change| match change {
            Change::Paid { account, .. } => Some((&account.worker, &*account.gpu)),
            _ => None, // Nothing is said of GPUs.
        });
        let gpus: HashMap<&WorkerId, &str> = paid.collect();
        for change in &batch.applied.changes {
            match change {
                Change::AttemptStarted { job, step, attempt, worker, at, .. } => {
                    let Some(scene) = scene(*job, *step) else { continue };
                    let is_new = measuring.open.insert(worker.clone(), scene) != Some(scene);
                    let under = Under {
                        scene,
                        step: (*job, *step),
                        worker: worker.clone(),
                        began_at: *at,
                        is_new,
                        load_s: 0.0,
                        task: Spread::default(),
                        longest_s: 0.0,
                        bytes: Spread::default(),
                    };
                    measuring.attempts.insert(*attempt, under);
                }
                Change::TaskDone { attempt, result, .. } if !result.found => {
                    let Some(under) = measuring.attempts.get_mut(attempt) else { continue };
                    let took_s = f64::from(result.elapsed_ms) / 1000.0;
                    under.task.add(took_s);
                    under.longest_s = under.longest_s.max(took_s);
                    under.bytes.add(result.size_bytes as f64);
                    measuring.steps.entry(under.step).or_default().add(took_s);
                }
                Change::AttemptEnded { attempt, outcome, at, .. } => {
                    let Some(under) = measuring.attempts.remove(attempt) else { continue };
                    let gpu = gpus.get(&under.worker).copied().unwrap_or_default();
                    let scene = under.scene;
                    if under.task.count > 0.0 {
                        batch.learned.entry(scene).or_default().figures.merge(&under.figures(outcome, *at, gpu));
                    }
                }
                Change::WorkerStart { start, spoke_after: Some(took), .. } => {
                    let learned = batch.learned.entry(SceneKey::of_function(&start.function.name)).or_default();
                    learned.figures.start.add(took.as_secs_f64());
                }
                Change::StepState { job, step, state: StepState::Succeeded, .. } => {
                    let mean = measuring.steps.remove(&(*job, *step)).and_then(|tasks| tasks.mean());
                    if let (Some(mean), Some(scene)) = (mean, scene(*job, *step)) {
                        batch.learned.entry(scene).or_default().figures.run.add(mean);
                    }
                }
                Change::StepVram { job, step, vram } => {
                    let Some(scene) = scene(*job, *step) else { continue };
                    // Another job of the scene may have seen more, at the same time.
                    let known = measuring.vrams.entry(scene).or_default();
                    *known = known.with(*vram);
                    batch.learned.entry(scene).or_default().vram = Some(*known);
                }
                Change::JobState { id, state, .. } if state.is_over() => {
                    let steps = measuring.steps.range((*id, 0)..=(*id, usize::MAX)).map(|(step, _)| *step);
                    for step in steps.collect::<Vec<_>>() {
                        measuring.steps.remove(&step);
                    }
                }
                _ => {} // Of the others nothing is learned.
            }
        }
    }
}
