//! Answers that are to be sent to those who called.

use super::{Error, Reader, job_state, name, word};
use crate::store::gateway::Callback;
use framewake_proto::api::JobState;
use framewake_proto::ids::JobId;
use framewake_proto::time::Timestamp;
use sqlx::Row;

/// A call that is over, and whose caller is to be told now.
#[derive(Debug, Clone)]
pub(crate) struct DueCallback {
    /// `jobs.seq`
    pub(crate) seq: i64,
    pub(crate) job: JobId,
    pub(crate) state: JobState,
    pub(crate) finished_at: Timestamp,
    pub(crate) callback: Callback,
    pub(crate) tries: u32,
}

impl Reader {
    /// The longest due first.
    pub(crate) async fn due_callbacks(&self, now: Timestamp, limit: u32) -> Result<Vec<DueCallback>, Error> {
        let rows = sqlx::query(
            "SELECT job, id, state, finished_at, call, function, url, began_at, tries
             FROM callbacks JOIN jobs ON jobs.seq = job
             WHERE state IN ('succeeded', 'failed', 'canceled') AND due_at <= ? ORDER BY due_at, job LIMIT ?",
        )
        .bind(now.0)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let due = rows.iter().map(|row| {
            let id: &str = row.try_get("id")?;
            let finished_at: Option<i64> = row.try_get("finished_at")?;
            Ok(DueCallback {
                seq: row.try_get("job")?,
                job: id.parse().map_err(|_| word("the id of a job", id))?,
                state: job_state(row.try_get("state")?)?,
                finished_at: Timestamp(finished_at.unwrap_or(now.0)),
                callback: Callback {
                    call: row.try_get("call")?,
                    function: name(row, "function")?,
                    url: row.try_get("url")?,
                    began_at: Timestamp(row.try_get("began_at")?),
                },
                tries: row.try_get("tries")?,
            })
        });
        due.collect()
    }

    /// When the next one is to be tried again.
    pub(crate) async fn next_callback(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let text = "SELECT min(due_at) FROM callbacks WHERE due_at > ?";
        let next: Option<i64> = sqlx::query_scalar(text).bind(now.0).fetch_one(&self.pool).await?;
        Ok(next.map(Timestamp))
    }
}
