//! Attempts: who tried what, and how it ended.

use super::tasks::runs_of;
use super::{Error, JobKey, Reader, attempt, name, named, page, word};
use framewake_proto::api::{AttemptView, Page};
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::AttemptId;
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

impl Reader {
    /// In the order they were made, after `after`; only of `step`, if given.
    pub async fn attempts(
        &self,
        job: &JobKey,
        step: Option<usize>,
        after: Option<(i64, u32)>,
        limit: u32,
    ) -> Result<Page<AttemptView>, Error> {
        let (chunk, number) = after.unwrap_or((-1, 0));
        let step = step.map(|step| i64::try_from(step).expect("a job has at most STEPS_MAX steps"));
        let rows = sqlx::query(
            "SELECT * FROM attempts WHERE job = ?1 AND (chunk, attempt) > (?2, ?3) AND (?4 IS NULL OR step = ?4)
             ORDER BY chunk, attempt LIMIT ?5",
        )
        .bind(job.seq)
        .bind(chunk)
        .bind(number)
        .bind(step)
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let views = rows.iter().map(|row| view(job, row)).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(views, limit, |view| view.attempt.clone(), |view| view))
    }

    /// `None` when the job has no such attempt.
    pub async fn attempt(&self, job: &JobKey, id: AttemptId) -> Result<Option<AttemptView>, Error> {
        let Ok(chunk) = i64::try_from(id.chunk.0) else { return Ok(None) };
        let row = sqlx::query("SELECT * FROM attempts WHERE job = ? AND chunk = ? AND attempt = ?")
            .bind(job.seq)
            .bind(chunk)
            .bind(id.number)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| view(job, &row)).transpose()
    }
}

fn view(job: &JobKey, row: &SqliteRow) -> Result<AttemptView, Error> {
    let at: u32 = row.try_get("step")?;
    let step = job.outline.steps.get(at as usize).ok_or_else(|| word("a step", &at.to_string()))?;
    Ok(AttemptView {
        attempt: attempt(row)?,
        step: step.name.clone(),
        worker: name(row, "worker")?,
        frames: first_and_last(&step.frames, &runs_of(row.try_get("tasks")?)),
        outcome: named("the outcome of an attempt", row.try_get("outcome")?)?,
        done: row.try_get("done")?,
        failed: row.try_get("failed")?,
        started_at: Timestamp(row.try_get("started_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp),
        reason: row.try_get("reason")?,
        has_log: row.try_get::<i64, _>("log_bytes")? > 0,
        confinement: row.try_get("confinement")?,
        log_left_out_bytes: row.try_get("log_left_out_bytes")?,
    })
}

fn first_and_last(frames: &FrameSet, runs: &[(u32, u32)]) -> String {
    let first = runs.first().and_then(|(first, _)| frames.get(*first));
    let last = runs.last().and_then(|(_, end)| frames.get(end.saturating_sub(1)));
    match (first, last) {
        (Some(first), Some(last)) if first == last => first.to_string(),
        (Some(first), Some(last)) => format!("{first}-{last}"),
        (Some(_), None) | (None, _) => String::new(),
    }
}
