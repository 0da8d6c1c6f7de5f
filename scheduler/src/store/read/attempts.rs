//! Attempts: who tried what, and how it ended.

use super::tasks::runs_of;
use super::{Error, JobKey, Reader, attempt, name, named, page, word};
use framewake_proto::api::{AttemptView, Page};
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::AttemptId;
use framewake_proto::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

/// An attempt, on what it rendered, and the verdict of what failed in it. Its tasks are beside each other in the primary keys.
const COLUMNS: &str = "
    SELECT attempts.*,
        CASE WHEN done > 0 THEN (
            SELECT device FROM results WHERE results.job = attempts.job AND results.step = attempts.step
            AND results.task BETWEEN tasks ->> '$[0][0]' AND tasks ->> '$[#-1][1]'
            AND results.chunk = attempts.chunk AND results.attempt = attempts.attempt LIMIT 1
        ) END AS device,
        CASE WHEN failed > 0 THEN (
            SELECT verdict FROM failures WHERE failures.job = attempts.job AND failures.step = attempts.step
            AND failures.task BETWEEN tasks ->> '$[0][0]' AND tasks ->> '$[#-1][1]'
            AND failures.chunk = attempts.chunk AND failures.attempt = attempts.attempt LIMIT 1
        ) END AS verdict
    FROM attempts WHERE job = ";

impl Reader {
    /// In the order they were made, or from the newest on, after the one named; only of `step`, if given.
    pub async fn attempts(
        &self,
        job: &JobKey,
        step: Option<usize>,
        newest_first: bool,
        after: Option<(i64, u32)>,
        limit: u32,
    ) -> Result<Page<AttemptView>, Error> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(COLUMNS);
        query.push_bind(job.seq);
        if let Some((chunk, number)) = after {
            query.push(if newest_first { " AND (chunk, attempt) < (" } else { " AND (chunk, attempt) > (" });
            query.push_bind(chunk).push(", ").push_bind(number).push(")");
        }
        if let Some(step) = step {
            let step = i64::try_from(step).expect("a job has at most STEPS_MAX steps");
            query.push(" AND step = ").push_bind(step);
        }
        let order = if newest_first { "chunk DESC, attempt DESC" } else { "chunk, attempt" };
        query.push(format_args!(" ORDER BY {order} LIMIT ")).push_bind(super::fetch(limit));
        let rows = query.build().fetch_all(&self.pool).await?;
        let views = rows.iter().map(|row| view(job, row)).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(views, limit, |view| view.attempt.clone(), |view| view))
    }

    /// `None` when the job has no such attempt.
    pub async fn attempt(&self, job: &JobKey, id: AttemptId) -> Result<Option<AttemptView>, Error> {
        let Ok(chunk) = i64::try_from(id.chunk.0) else { return Ok(None) };
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(COLUMNS);
        query.push_bind(job.seq).push(" AND chunk = ").push_bind(chunk).push(" AND attempt = ").push_bind(id.number);
        let row = query.build().fetch_optional(&self.pool).await?;
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
        device: row.try_get::<Option<String>, _>("device")?.unwrap_or_default(),
        verdict: row.try_get::<Option<&str>, _>("verdict")?.map(|word| named("a verdict", word)).transpose()?,
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
