//! What became of each due time of a schedule.

use super::{Error, Reader, job_state, named, page, word};
use framewake_proto::api::Page;
use framewake_proto::schedule::RunView;
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

impl Reader {
    /// Newest first; `before` is the due time of the last run of the page before.
    pub async fn schedule_runs(&self, name: &str, before: Option<i64>, limit: u32) -> Result<Page<RunView>, Error> {
        let rows = sqlx::query(
            "SELECT due, schedule_runs.state, number, jobs.id, jobs.state AS job_state, reason, decided_at, late_start, late_finish
             FROM schedule_runs LEFT JOIN jobs ON jobs.seq = schedule_runs.job
             WHERE schedule = (SELECT id FROM schedules WHERE name = ?) AND due < ? ORDER BY due DESC LIMIT ?",
        )
        .bind(name)
        .bind(before.unwrap_or(i64::MAX))
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let runs = rows.iter().map(run).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(runs, limit, |run| run.due.0.to_string(), |run| run))
    }
}

fn run(row: &SqliteRow) -> Result<RunView, Error> {
    let id: Option<&str> = row.try_get("id")?;
    let state: Option<&str> = row.try_get("job_state")?;
    let at = |column: &str| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp));
    Ok(RunView {
        due: Timestamp(row.try_get("due")?),
        state: named("the state of a run", row.try_get("state")?)?,
        number: row.try_get::<Option<i64>, _>("number")?.map(i64::cast_unsigned),
        job: id.map(|id| id.parse().map_err(|_| word("the id of a job", id))).transpose()?,
        job_state: state.map(job_state).transpose()?,
        reason: row.try_get("reason")?,
        decided_at: Timestamp(row.try_get("decided_at")?),
        late_start: at("late_start")?,
        late_finish: at("late_finish")?,
    })
}
