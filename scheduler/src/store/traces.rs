//! Where jobs belong in traces, and what a start must know of those that are not over.

use super::load::{get, unreadable};
use super::rows::tasks_from;
use super::{Error, Store};
use crate::traces::Root;
use framewake_proto::ids::{AttemptId, ChunkId, JobId, WorkerId};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::trace::{SpanId, TraceId};
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// What a start finds.
#[derive(Debug, Default)]
pub(crate) struct StoredTraces {
    pub(crate) jobs: Vec<(JobId, Root)>,
    pub(crate) held: Vec<HeldAttempt>,
}

/// An attempt of a traced job that is not over.
#[derive(Debug)]
pub(crate) struct HeldAttempt {
    pub(crate) attempt: AttemptId,
    pub(crate) worker: WorkerId,
    pub(crate) tasks: TaskSet,
    pub(crate) since: Timestamp,
}

pub(super) async fn write(
    connection: &mut SqliteConnection,
    roots: &[(JobId, Root)],
    seqs: &HashMap<JobId, i64>,
) -> Result<(), sqlx::Error> {
    for (job, root) in roots {
        let Some(seq) = seqs.get(job) else { continue };
        sqlx::query("INSERT OR REPLACE INTO traces VALUES (?, ?, ?, ?)")
            .bind(*seq)
            .bind(root.trace.to_string())
            .bind(root.parent.map(|parent| parent.to_string()))
            .bind(root.since.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Of jobs that are not over, the newest `jobs_max`.
    pub(crate) async fn load_traces(&mut self, jobs_max: usize) -> Result<StoredTraces, Error> {
        let mut stored = StoredTraces::default();
        let text = format!(
            "SELECT jobs.id, trace, parent, since FROM traces JOIN jobs ON jobs.seq = traces.job
             WHERE state IN ('queued', 'running', 'paused') ORDER BY jobs.seq DESC LIMIT {jobs_max}"
        );
        for row in self.rows_of(text).await? {
            let id: String = get(&row, 0)?;
            let root = root(&row, &id)?;
            stored.jobs.push((id.parse().map_err(|_| unreadable("traces", &id))?, root));
        }
        let text = "SELECT chunks.id, attempt, worker, tasks, chunks.since FROM chunks JOIN traces USING (job)
                    WHERE worker IS NOT NULL";
        for row in self.rows(text).await? {
            let (worker, tasks): (String, String) = (get(&row, 2)?, get(&row, 3)?);
            let chunk = u64::try_from(get::<i64>(&row, 0)?).unwrap_or(0);
            stored.held.push(HeldAttempt {
                attempt: AttemptId { chunk: ChunkId(chunk), number: get(&row, 1)? },
                worker: worker.parse().map_err(|_| unreadable("chunks", &worker))?,
                tasks: tasks_from(&tasks).ok_or_else(|| unreadable("chunks", &tasks))?,
                since: Timestamp(get(&row, 4)?),
            });
        }
        Ok(stored)
    }

    /// Of any job.
    pub(crate) async fn trace_of(&mut self, job: JobId) -> Result<Option<Root>, Error> {
        let text =
            "SELECT jobs.id, trace, parent, since FROM traces JOIN jobs ON jobs.seq = traces.job WHERE jobs.id = ?";
        let found = sqlx::query(text)
            .bind(job.to_string())
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })?;
        found.map(|row| root(&row, &job.to_string())).transpose()
    }
}

fn root(row: &sqlx::sqlite::SqliteRow, job: &str) -> Result<Root, Error> {
    let bad = || unreadable("traces", job);
    let trace = u128::from_str_radix(row.try_get(1).map_err(|_| bad())?, 16).map_err(|_| bad())?;
    let parent = row.try_get::<Option<&str>, _>(2).map_err(|_| bad())?;
    let parent = parent.map(|text| u64::from_str_radix(text, 16)).transpose().map_err(|_| bad())?;
    Ok(Root { trace: TraceId(trace), parent: parent.map(SpanId), since: Timestamp(get(row, 3)?) })
}
