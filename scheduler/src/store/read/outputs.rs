//! Verified, committed outputs.

use super::{Error, JobKey, Reader, attempt, page, word};
use framewake_proto::api::{GpuView, OutputView, Page};
use framewake_proto::objects::Digest;
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// What is needed to send an output's bytes.
#[derive(Debug, Clone)]
pub struct StoredOutput {
    pub key: String,
    /// The last part of its name.
    pub file: String,
    pub sha256: Digest,
    pub size_bytes: u64,
}

impl Reader {
    /// In the order of steps and task numbers, or from the last on, after `(step, task)` in that order; only of `step`, if given.
    pub async fn outputs(
        &self,
        job: &JobKey,
        step: Option<usize>,
        last_first: bool,
        after: Option<(u32, u32)>,
        limit: u32,
    ) -> Result<Page<OutputView>, Error> {
        let begin = if last_first { (i64::MAX, i64::MAX) } else { (-1, -1) };
        let (after_step, after_task) = after.map_or(begin, |(step, task)| (i64::from(step), i64::from(task)));
        let (low, high) = step.map_or((0, i64::MAX), |step| {
            let step = i64::try_from(step).expect("a job has at most STEPS_MAX steps");
            (step, step)
        });
        let text = if last_first {
            "SELECT * FROM results WHERE job = ? AND (step, task) < (?, ?) AND step BETWEEN ? AND ? AND key <> ''
             ORDER BY step DESC, task DESC LIMIT ?"
        } else {
            "SELECT * FROM results WHERE job = ? AND (step, task) > (?, ?) AND step BETWEEN ? AND ? AND key <> ''
             ORDER BY step, task LIMIT ?"
        };
        let rows = sqlx::query(text)
            .bind(job.seq)
            .bind(after_step)
            .bind(after_task)
            .bind(low)
            .bind(high)
            .bind(super::fetch(limit))
            .fetch_all(&self.pool)
            .await?;
        let views = rows.iter().map(|row| view(job, row)).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(views, limit, |(step, view)| format!("{step}.{}", view.task), |(_, view)| view))
    }

    pub async fn output(&self, job: &JobKey, step: usize, task: u32) -> Result<Option<StoredOutput>, Error> {
        let row = sqlx::query(
            "SELECT key, sha256, size_bytes FROM results WHERE job = ? AND step = ? AND task = ? AND key <> ''",
        )
        .bind(job.seq)
        .bind(i64::try_from(step).expect("a job has at most STEPS_MAX steps"))
        .bind(task)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let key: String = row.try_get("key")?;
            let file = key.rsplit('/').next().unwrap_or_default().to_owned();
            Ok(StoredOutput { key, file, sha256: digest(&row)?, size_bytes: size(&row, "size_bytes")? })
        })
        .transpose()
    }
}

fn view(job: &JobKey, row: &SqliteRow) -> Result<(u32, OutputView), Error> {
    let (at, task): (u32, u32) = (row.try_get("step")?, row.try_get("task")?);
    let step = job.outline.steps.get(at as usize).ok_or_else(|| word("a step", &at.to_string()))?;
    let key: String = row.try_get("key")?;
    let name = key.strip_prefix(&job.outline.prefix).unwrap_or(&key).to_owned();
    let view = OutputView {
        step: step.name.clone(),
        task,
        frame: step.frames.get(task).ok_or_else(|| word("a task", &task.to_string()))?,
        name,
        key,
        sha256: digest(row)?,
        size_bytes: size(row, "size_bytes")?,
        width: row.try_get("width")?,
        height: row.try_get("height")?,
        device: row.try_get("device")?,
        renderer: row.try_get("renderer")?,
        attempt: attempt(row)?,
        elapsed_ms: row.try_get("elapsed_ms")?,
        memory_peak_bytes: size(row, "memory_peak")?,
        gpu: gpu(row)?,
        at: Timestamp(row.try_get("at")?),
    };
    Ok((at, view))
}

/// What GPUs did for a task, if anything is known of it.
pub(super) fn gpu(row: &SqliteRow) -> Result<Option<GpuView>, Error> {
    let number = |column: &str| {
        let number: Option<i64> = row.try_get(column)?;
        number.map(|number| u64::try_from(number).map_err(|_| word("a number", &number.to_string()))).transpose()
    };
    let gpu = GpuView {
        energy_millijoules: number("energy_mj")?,
        vram_peak_bytes: number("vram_peak")?,
        busy_permille: row.try_get("gpu_busy")?,
        busy_max_permille: row.try_get("gpu_busy_max")?,
    };
    Ok((gpu != GpuView::default()).then_some(gpu))
}

fn digest(row: &SqliteRow) -> Result<Digest, Error> {
    let bytes: &[u8] = row.try_get("sha256")?;
    bytes.try_into().map(Digest).map_err(|_| word("a digest", &format!("{} bytes", bytes.len())))
}

fn size(row: &SqliteRow, column: &str) -> Result<u64, Error> {
    let size: i64 = row.try_get(column)?;
    u64::try_from(size).map_err(|_| word("a size", &size.to_string()))
}
