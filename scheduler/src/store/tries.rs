//! Tries that failed, counted as they are written: a farm on which everything fails writes no more for it than one row for each
//! cause and minute, and a look at the last hour reads no more than these.

use super::JobCache;
use super::write::insert;
use framewake_core::change::{Change, Outcome};
use framewake_proto::ids::{AttemptId, JobId};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use std::collections::{BTreeMap, HashMap};

const MINUTE_MS: i64 = 60_000;
/// What is shown is the last hour; what is older is of no use.
pub(super) const MINUTES_KEPT: i64 = 60;

/// Tries of one cause in one minute, in one batch.
struct Tries<'a> {
    count: u32,
    job: i64,
    step: usize,
    attempt: AttemptId,
    message: &'a str,
    at: Timestamp,
}

/// The minute of a moment, since 1970.
pub(super) fn minute(at: Timestamp) -> i64 {
    at.0.div_euclid(MINUTE_MS)
}

/// A row for each minute, function, project and cause.
pub(super) fn rows(changes: &[Change], jobs: &JobCache, seqs: &HashMap<JobId, i64>) -> Vec<Value> {
    let mut tries = BTreeMap::new();
    for change in changes {
        let (job, step, attempt, cause, message, at) = match change {
            Change::TaskFailed { job, step, attempt, failure, at, .. } => {
                (job, *step, *attempt, failure.verdict.as_str(), failure.message.as_str(), *at)
            }
            Change::AttemptEnded { job, step, attempt, outcome: Outcome::Lost { how }, at, .. } => {
                (job, *step, *attempt, "", how.as_str(), *at)
            }
            _ => continue, // Nothing failed.
        };
        let Some((text, seq)) = jobs.get(*job).zip(seqs.get(job)) else { continue };
        let Some(of) = text.steps.get(step) else { continue };
        let key = (minute(at), of.function.to_string(), text.project.to_string(), cause);
        let count = tries.get(&key).map_or(0, |tries: &Tries<'_>| tries.count) + 1;
        tries.insert(key, Tries { count, job: *seq, step, attempt, message, at });
    }
    let row = |((minute, function, project, cause), last): (_, Tries<'_>)| {
        let Tries { count, job, step, attempt, message, at } = last;
        json!([minute, function, project, cause, count, job, step, attempt.chunk.0, attempt.number, message, at.0])
    };
    tries.into_iter().map(row).collect()
}

pub(super) async fn write(connection: &mut SqliteConnection, rows: &[Value]) -> Result<(), sqlx::Error> {
    let more =
        "WHERE true ON CONFLICT DO UPDATE SET tries = tries + excluded.tries, job = excluded.job, step = excluded.step,
                chunk = excluded.chunk, attempt = excluded.attempt, message = excluded.message, at = excluded.at";
    insert(connection, "failed_tries", 11, more, rows).await
}

/// Removes what nobody is shown any more.
pub(super) async fn prune(connection: &mut SqliteConnection, now: Timestamp) -> Result<(), sqlx::Error> {
    let oldest = minute(now) - MINUTES_KEPT;
    sqlx::query("DELETE FROM failed_tries WHERE minute < ?").bind(oldest).execute(connection).await?;
    Ok(())
}
