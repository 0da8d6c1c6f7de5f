//! Turns a rendered file into a committed result: verify, store once, or count what is there already.

use crate::gpu::GpuUse;
use crate::pictures::{self, Keeper};
use crate::renderer::{Failure, Output, Step, is_cpu};
use crate::store::{Content, Created, Store};
use crate::verify::{self, Bad, OUTPUT_SIZE_MAX, OutputFile, Verified};
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, WorkerId};
use framewake_proto::objects::staging_key;
use framewake_proto::tasks::TaskSet;
use framewake_proto::verdict::{CPU_FALLBACK, Verdict};
use framewake_proto::wire::TaskDone;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Commits the outputs of one step.
#[derive(Debug, Clone)]
pub struct Committer {
    pub store: Store,
    pub pictures: Keeper,
    pub worker: WorkerId,
    pub step: Arc<Step>,
    /// The function asks for a GPU.
    pub gpu_asked: bool,
    /// The job accepts outputs made on the CPU all the same.
    pub allow_cpu: bool,
}

impl Committer {
    /// Key of a task's output; `None` for a step without outputs.
    fn key(&self, frame: i64) -> Option<String> {
        Some(format!("{}{}", self.step.order.prefix, self.step.output.as_ref()?.name(frame)))
    }

    /// Keys that these tasks' outputs will have.
    pub(crate) fn keys(&self, tasks: &TaskSet) -> impl Iterator<Item = String> {
        tasks.iter().filter_map(|task| self.key(self.step.frames.get(task)?))
    }

    /// What did the work. A GPU that was asked for must be named by the renderer; where none was asked for,
    /// none can be seen, so it was the CPU.
    fn device(&self, output: &Output) -> Result<String, Failure> {
        let named = !output.device.is_empty();
        if self.gpu_asked && !self.allow_cpu && (!named || is_cpu(&output.device)) {
            let made_on = if named { output.device.as_str() } else { "a device that the renderer did not name" };
            let message = format!(
                "{CPU_FALLBACK} {made_on}; \
                 hint: `allow_cpu: true` accepts that, and a rule with a group `device` reads the name from the output"
            );
            return Err(Failure::new(Verdict::RetryElsewhere, message));
        }
        // The renderer's word stands, unless the driver surely saw nothing of it.
        if self.gpu_asked
            && !self.allow_cpu
            && let Some(gpu) = output.gpu.filter(GpuUse::was_idle)
        {
            let message = format!(
                "{CPU_FALLBACK} something else, although the renderer names `{}`: at each of {} looks within {:.1} s the GPU \
                 was idle and its memory not used; hint: `allow_cpu: true` accepts that",
                output.device,
                gpu.looks,
                output.elapsed.as_secs_f64(),
            );
            return Err(Failure::new(Verdict::RetryElsewhere, message));
        }
        Ok(if named || self.gpu_asked { output.device.clone() } else { "CPU".to_owned() })
    }

    /// Verifies and stores what the renderer made of a task.
    pub async fn commit(&self, attempt: AttemptId, task: u32, frame: i64, output: Output) -> Result<TaskDone, Failure> {
        let begin = Instant::now();
        let device = self.device(&output)?;
        let gpu = output.gpu.unwrap_or_default();
        let mut done = TaskDone {
            task,
            device,
            renderer: output.renderer,
            elapsed_ms: milliseconds(output.elapsed),
            memory_peak_bytes: output.memory_peak_bytes,
            energy_millijoules: gpu.energy_millijoules,
            vram_peak_bytes: gpu.vram_peak_bytes,
            gpu_busy_permille: gpu.busy_permille,
            gpu_busy_max_permille: gpu.busy_max_permille,
            ..TaskDone::default()
        };
        let (Some(path), Some(key)) = (output.path, self.key(frame)) else {
            return Ok(done);
        };
        let (file, mut verified) = self.verify(&path, &output.said).await?;
        let staging = staging_key(&self.worker, attempt, task);
        let made = pictures::make(std::mem::take(&mut verified.seen));
        let (created, made) = tokio::join!(self.store.create(&key, &file, &staging), made);
        match created.map_err(|error| store_failure(&error))? {
            Created::Now(content) => {
                self.pictures.keep(&self.store, self.step.order.job, content.sha256, made).await;
                fill(&mut done, key, content, &verified);
            }
            Created::Existed(ours) => {
                let found = self.count_existing(task, frame, &path.with_extension("found")).await?;
                let found = found.ok_or_else(|| {
                    Failure::new(Verdict::RetrySame, format!("object `{key}` was there and is gone again"))
                })?;
                if found.sha256 == ours.sha256.0 {
                    // The same bytes: what is known of ours is true of it. Its pictures were kept as it was found.
                    fill(&mut done, key, ours, &verified);
                    done.found = true;
                } else {
                    done = found;
                }
            }
        }
        let _best_effort = tokio::fs::remove_file(&path).await;
        done.upload_ms = milliseconds(begin.elapsed());
        Ok(done)
    }

    /// Counts an output that an earlier attempt committed, if there is one and it is good. `scratch` is
    /// a file to fetch it to.
    pub async fn count_existing(&self, task: u32, frame: i64, scratch: &Path) -> Result<Option<TaskDone>, Failure> {
        let Some(key) = self.key(frame) else { return Ok(None) };
        if self.store.size(&key).await.map_err(|error| store_failure(&error))?.is_none() {
            return Ok(None);
        }
        // Whatever a renderer left there, a link for one, is not written through.
        let _usually_absent = tokio::fs::remove_file(scratch).await;
        let content = self.store.fetch(&key, scratch, OUTPUT_SIZE_MAX).await.map_err(|error| store_failure(&error))?;
        let (_, mut verified) = self.verify(scratch, "").await.map_err(|failure| Failure {
            verdict: Verdict::OutputBad,
            message: format!("object `{key}` is there from an earlier attempt and is not good: {}", failure.message),
            evidence: String::new(),
        })?;
        let _best_effort = tokio::fs::remove_file(scratch).await;
        // The attempt that was lost may have come no further than its output.
        let made = pictures::make(std::mem::take(&mut verified.seen)).await;
        self.pictures.keep(&self.store, self.step.order.job, content.sha256, made).await;
        let mut done = TaskDone { task, found: true, ..TaskDone::default() };
        fill(&mut done, key, content, &verified);
        Ok(Some(done))
    }

    /// Opens and checks a file. What is stored is what was opened, whatever the renderer does with the name since. Why there is none,
    /// what it `said` last may tell.
    async fn verify(&self, path: &Path, said: &str) -> Result<(Arc<OutputFile>, Verified), Failure> {
        let extension =
            self.step.output.as_ref().map_or(String::new(), framewake_proto::template::OutputTemplate::extension);
        let wanted = self.step.order.verify;
        let path = path.to_owned();
        // Decoders are other people's code over hostile bytes: one that panics is a bad output, no more.
        let check = move || -> Result<(OutputFile, Verified), Bad> {
            let file = OutputFile::open(&path)?;
            let verified = verify::check_file(&file, &extension, &wanted)?;
            Ok((file, verified))
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(Ok((file, verified))) => Ok((Arc::new(file), verified)),
            Ok(Err(bad)) => {
                let evidence = if matches!(bad, Bad::Missing | Bad::Empty) { said } else { "" };
                Err(Failure {
                    evidence: evidence.to_owned(),
                    ..Failure::new(Verdict::OutputBad, Chain(&bad).to_string())
                })
            }
            Err(_) => Err(Failure::new(Verdict::OutputBad, "the output does not decode: the decoder gave up on it")),
        }
    }
}

fn fill(done: &mut TaskDone, key: String, content: Content, verified: &Verified) {
    done.key = key;
    done.sha256 = content.sha256.0.to_vec();
    done.size_bytes = content.size_bytes;
    (done.width, done.height) = (verified.width, verified.height);
}

fn store_failure(error: &crate::store::Error) -> Failure {
    Failure::new(error.verdict(), Chain(error).to_string())
}

pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
