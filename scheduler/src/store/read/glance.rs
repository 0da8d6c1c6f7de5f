//! Jobs and errors at a glance: what is counted is bounded, so that a look costs the same on a farm of any size.

use super::{Error, Reader, job_state, named, word};
use crate::store::tries;
use framewake_proto::api::JobState;
use framewake_proto::ids::JobId;
use framewake_proto::overview::{ErrorGlance, JobGlance, TriesGlance};
use framewake_proto::time::Timestamp;
use sqlx::Row;

/// Failures that are looked at: of a farm where everything fails, the newest tell what is wrong.
const FAILURES_LOOKED_AT_MAX: u32 = 10_000;
/// Rows of tries that are looked at, each of which is a cause in a minute.
const TRIES_LOOKED_AT_MAX: u32 = 10_000;

impl Reader {
    /// How many jobs are in a state, counted as far as `count_max`; only of one project, if given.
    pub async fn count_jobs(&self, state: JobState, project: Option<&str>, count_max: u32) -> Result<u32, Error> {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = ?1 AND (?2 IS NULL OR project = ?2) LIMIT ?3)",
        );
        Ok(count.bind(state.as_str()).bind(project).bind(count_max).fetch_one(&self.pool).await?)
    }

    /// The newest jobs in a state.
    pub async fn job_glances(
        &self,
        state: JobState,
        project: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobGlance>, Error> {
        let rows = sqlx::query(
            "SELECT found.id AS id, found.name AS name, found.project AS project, found.state AS state,
                    sum(total) AS total, sum(iif(steps.state = 'canceled', 0, open)) AS open, sum(done) AS done,
                    sum(failed) AS failed, sum(iif(steps.state = 'canceled', total - done - failed, 0)) AS canceled
             FROM (SELECT seq, id, name, project, state FROM jobs WHERE state = ?1 AND (?2 IS NULL OR project = ?2)
                   ORDER BY seq DESC LIMIT ?3) AS found
             JOIN steps ON steps.job = found.seq GROUP BY found.seq ORDER BY found.seq DESC",
        )
        .bind(state.as_str())
        .bind(project)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let glances = rows.iter().map(|row| {
            let id: &str = row.try_get("id")?;
            Ok(JobGlance {
                id: id.parse().map_err(|_| word("the id of a job", id))?,
                name: row.try_get("name")?,
                project: super::name(row, "project")?,
                state: job_state(row.try_get("state")?)?,
                tasks: super::jobs::counts(row)?,
            })
        });
        glances.collect()
    }

    /// What failed for good since then and waits for nothing, by step and verdict, the newest first; and whether more failed than
    /// was looked at.
    pub async fn errors_since(
        &self,
        since: Timestamp,
        project: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<ErrorGlance>, bool), Error> {
        // A column beside max() is of the row that has it.
        let rows = sqlx::query(
            "SELECT jobs.id AS id, jobs.name AS job_name, steps.name AS step, verdict, message, count(*) AS tasks, max(latest.at) AS at
             FROM (SELECT job, step, verdict, message, at FROM failures WHERE at >= ?1 ORDER BY at DESC LIMIT ?2) AS latest
             JOIN jobs ON jobs.seq = latest.job
             JOIN steps ON steps.job = latest.job AND steps.step = latest.step
             WHERE ?3 IS NULL OR jobs.project = ?3
             GROUP BY latest.job, latest.step, verdict ORDER BY at DESC LIMIT ?4",
        )
        .bind(since.0)
        .bind(FAILURES_LOOKED_AT_MAX)
        .bind(project)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let errors = rows.iter().map(|row| {
            let id: &str = row.try_get("id")?;
            let job: JobId = id.parse().map_err(|_| word("the id of a job", id))?;
            Ok(ErrorGlance {
                job,
                job_name: row.try_get("job_name")?,
                step: row.try_get("step")?,
                verdict: named("a verdict", row.try_get("verdict")?)?,
                message: row.try_get("message")?,
                tasks: row.try_get("tasks")?,
                at: Timestamp(row.try_get("at")?),
            })
        });
        let errors = errors.collect::<Result<Vec<_>, Error>>()?;
        let more: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM failures WHERE at >= ? LIMIT 1 OFFSET ?)")
            .bind(since.0)
            .bind(FAILURES_LOOKED_AT_MAX)
            .fetch_one(&self.pool)
            .await?;
        Ok((errors, more))
    }

    /// Tries that failed since then, by function and cause, those first of which the last is the newest; and whether there were more
    /// than was looked at.
    pub async fn tries_since(
        &self,
        since: Timestamp,
        project: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<TriesGlance>, bool), Error> {
        // A column beside max() is of the row that has it.
        let rows = sqlx::query(
            "SELECT jobs.id AS id, jobs.name AS job_name, steps.name AS step, function, cause, sum(tries) AS tries, chunk, attempt,
                    message, max(latest.at) AS at
             FROM (SELECT * FROM failed_tries WHERE minute >= ?1 AND (?3 IS NULL OR project = ?3) ORDER BY minute DESC LIMIT ?2) AS latest
             JOIN jobs ON jobs.seq = latest.job
             JOIN steps ON steps.job = latest.job AND steps.step = latest.step
             GROUP BY function, cause ORDER BY at DESC LIMIT ?4",
        )
        .bind(tries::minute(since))
        .bind(TRIES_LOOKED_AT_MAX)
        .bind(project)
        .bind(limit + 1)
        .fetch_all(&self.pool)
        .await?;
        let more = rows.len() > limit as usize;
        let groups = rows.iter().take(limit as usize).map(|row| {
            let (id, cause): (&str, &str) = (row.try_get("id")?, row.try_get("cause")?);
            Ok(TriesGlance {
                function: row.try_get("function")?,
                verdict: (!cause.is_empty()).then(|| named("a verdict", cause)).transpose()?,
                tries: row.try_get("tries")?,
                job: id.parse().map_err(|_| word("the id of a job", id))?,
                job_name: row.try_get("job_name")?,
                step: row.try_get("step")?,
                attempt: super::attempt(row)?,
                message: row.try_get("message")?,
                at: Timestamp(row.try_get("at")?),
            })
        });
        Ok((groups.collect::<Result<_, Error>>()?, more))
    }
}
