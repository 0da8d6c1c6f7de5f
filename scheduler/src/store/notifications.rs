//! Targets and what is to be told them: written with the changes that are told of, read again at a start.

use super::{Error, Store};
use crate::target_table::TargetId;
use framewake_proto::ids::JobId;
use framewake_proto::notify::{Notice, TargetSpec};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Notifications that were given up and are kept of each target; the oldest go first.
pub(crate) const DEAD_KEPT_MAX: i64 = 1000;

/// What is written of notifications, in this order.
#[derive(Debug, Clone)]
pub(crate) enum NotifyWrite {
    PutTarget {
        id: TargetId,
        spec: Arc<TargetSpec>,
    },
    /// With everything that waits for it.
    RemoveTarget(TargetId),
    Made(Vec<NoticeRow>),
    /// An error of this job was told, or would have been.
    ErrorTold(JobId),
    /// The job is over: if it is tried again, its next error is a first one.
    ErrorForgotten(JobId),
    Tried {
        id: String,
        target: TargetId,
        at: Timestamp,
        outcome: Tried,
    },
    /// One that was given up.
    Resend {
        id: String,
        at: Timestamp,
    },
}

/// A notification as it is made.
#[derive(Debug, Clone)]
pub(crate) struct NoticeRow {
    pub(crate) id: String,
    pub(crate) target: TargetId,
    pub(crate) notice: Notice,
    /// Its tasks are counted, and one of its failures looked up, as they are in this transaction.
    pub(crate) job: Option<JobId>,
    pub(crate) at: Timestamp,
}

/// How a try at a delivery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    Delivered,
    Again { tries: u32, due_at: Timestamp, reason: String },
    GivenUp { tries: u32, reason: String },
}

/// What a start finds.
#[derive(Debug, Default)]
pub(crate) struct StoredNotices {
    pub(crate) targets: Vec<(TargetId, Arc<TargetSpec>)>,
    pub(crate) waiting: HashMap<TargetId, u64>,
    pub(crate) errors_told: HashSet<JobId>,
}

pub(super) async fn write(
    connection: &mut SqliteConnection,
    writes: &[NotifyWrite],
    seqs: &HashMap<JobId, i64>,
) -> Result<(), sqlx::Error> {
    for write in writes {
        let query = match write {
            NotifyWrite::PutTarget { id, spec } => sqlx::query(
                "INSERT INTO notify_targets VALUES (?, ?, ?, NULL, NULL, '')
                 ON CONFLICT (id) DO UPDATE SET spec = excluded.spec",
            )
            .bind(id.0)
            .bind(spec.name.to_string())
            .bind(serde_json::to_string(spec.as_ref()).expect("a target can be written as JSON")),
            NotifyWrite::RemoveTarget(id) => {
                let waiting = sqlx::query("DELETE FROM notifications WHERE target = ?").bind(id.0);
                waiting.execute(&mut *connection).await?;
                sqlx::query("DELETE FROM notify_targets WHERE id = ?").bind(id.0)
            }
            NotifyWrite::Made(rows) => {
                insert(connection, rows, seqs).await?;
                continue;
            }
            NotifyWrite::ErrorTold(job) => {
                let Some(seq) = seqs.get(job) else { continue };
                sqlx::query("INSERT INTO first_errors VALUES (?) ON CONFLICT DO NOTHING").bind(*seq)
            }
            NotifyWrite::ErrorForgotten(job) => {
                let Some(seq) = seqs.get(job) else { continue };
                sqlx::query("DELETE FROM first_errors WHERE job = ?").bind(*seq)
            }
            NotifyWrite::Tried { id, target, at, outcome } => {
                note_try(connection, id, *target, *at, outcome).await?;
                continue;
            }
            NotifyWrite::Resend { id, at } => sqlx::query(
                "UPDATE notifications SET since = ?1, due_at = ?1, tries = 0, given_up_at = NULL
                 WHERE id = ?2 AND due_at IS NULL",
            )
            .bind(at.0)
            .bind(id.clone()),
        };
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    rows: &[NoticeRow],
    seqs: &HashMap<JobId, i64>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<Value> = rows
        .iter()
        .map(|NoticeRow { id, target, notice, job, at }| {
            let notice = serde_json::to_string(notice).expect("a notice can be written as JSON");
            json!([id, target.0, notice, at.0, job.and_then(|job| seqs.get(&job).copied())])
        })
        .collect();
    // A count of tasks is 32 bits wide, and the steps of a job may have more together.
    sqlx::query(
        "INSERT INTO notifications (id, target, notice, made_at, since, tries, due_at, given_up_at, reason)
         SELECT r.value ->> 0, r.value ->> 1,
                CASE WHEN r.value ->> 4 IS NULL THEN r.value ->> 2 ELSE json_set(r.value ->> 2,
                    '$.tasks', json((SELECT json_object(
                        'total', min(sum(total), 4294967295), 'waiting', min(sum(total - open - done - failed), 4294967295),
                        'open', min(sum(open), 4294967295), 'done', min(sum(done), 4294967295),
                        'failed', min(sum(failed), 4294967295))
                     FROM steps WHERE job = r.value ->> 4)),
                    '$.failure', json((SELECT json_object('verdict', verdict, 'message', message)
                     FROM failures WHERE job = r.value ->> 4 LIMIT 1))) END,
                r.value ->> 3, r.value ->> 3, 0, r.value ->> 3, NULL, ''
         FROM json_each(?) r",
    )
    .bind(serde_json::to_string(&rows).expect("rows are plain JSON"))
    .execute(connection)
    .await?;
    Ok(())
}

async fn note_try(
    connection: &mut SqliteConnection,
    id: &str,
    target: TargetId,
    at: Timestamp,
    outcome: &Tried,
) -> Result<(), sqlx::Error> {
    let query = match outcome {
        Tried::Delivered => {
            let delivered = sqlx::query("DELETE FROM notifications WHERE id = ?").bind(id);
            delivered.execute(&mut *connection).await?;
            sqlx::query("UPDATE notify_targets SET delivered_at = ? WHERE id = ?").bind(at.0).bind(target.0)
        }
        Tried::Again { reason, .. } | Tried::GivenUp { reason, .. } => {
            sqlx::query("UPDATE notify_targets SET failed_at = ?, failure = ? WHERE id = ?")
                .bind(at.0)
                .bind(reason)
                .bind(target.0)
        }
    };
    query.execute(&mut *connection).await?;
    match outcome {
        Tried::Delivered => {}
        Tried::Again { tries, due_at, reason } => {
            sqlx::query("UPDATE notifications SET tries = ?, due_at = ?, reason = ? WHERE id = ?")
                .bind(tries)
                .bind(due_at.0)
                .bind(reason)
                .bind(id)
                .execute(&mut *connection)
                .await?;
        }
        Tried::GivenUp { tries, reason } => {
            sqlx::query("UPDATE notifications SET tries = ?, due_at = NULL, given_up_at = ?, reason = ? WHERE id = ?")
                .bind(tries)
                .bind(at.0)
                .bind(reason)
                .bind(id)
                .execute(&mut *connection)
                .await?;
            sqlx::query(
                "DELETE FROM notifications WHERE target = ?1 AND due_at IS NULL AND seq <=
                 (SELECT seq FROM notifications WHERE target = ?1 AND due_at IS NULL ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            )
            .bind(target.0)
            .bind(DEAD_KEPT_MAX)
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(())
}

impl Store {
    pub(crate) async fn load_notices(&mut self) -> Result<StoredNotices, Error> {
        let read = |error| Error::Read { error };
        let mut stored = StoredNotices::default();
        let rows = sqlx::query("SELECT id, spec FROM notify_targets ORDER BY id").fetch_all(&mut self.writer).await;
        for row in rows.map_err(read)? {
            let (id, text): (i64, String) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
            let spec: TargetSpec = serde_json::from_str(&text).map_err(|error| Error::Row {
                row: format!("notification target {id}"),
                // Not its words, which may hold a secret.
                reason: format!("it can't be read at column {}", error.column()),
            })?;
            stored.targets.push((TargetId(id), Arc::new(spec)));
        }
        let rows = sqlx::query("SELECT target, count(*) FROM notifications WHERE due_at IS NOT NULL GROUP BY target");
        for row in rows.fetch_all(&mut self.writer).await.map_err(read)? {
            let (target, count): (i64, i64) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
            stored.waiting.insert(TargetId(target), count.cast_unsigned());
        }
        let rows = sqlx::query("SELECT jobs.id FROM first_errors JOIN jobs ON jobs.seq = job");
        for row in rows.fetch_all(&mut self.writer).await.map_err(read)? {
            let id: String = row.try_get(0).map_err(read)?;
            let job = id.parse().map_err(|_| Error::Row { row: format!("job {id}"), reason: "no id".to_owned() })?;
            stored.errors_told.insert(job);
        }
        Ok(stored)
    }

    /// Whose notification this is, if it was given up.
    pub(crate) async fn dead_notification(&mut self, id: &str) -> Result<Option<TargetId>, Error> {
        let found = sqlx::query_scalar("SELECT target FROM notifications WHERE id = ? AND due_at IS NULL")
            .bind(id)
            .fetch_optional(&mut self.writer)
            .await;
        found.map(|target: Option<i64>| target.map(TargetId)).map_err(|error| Error::Read { error })
    }
}
