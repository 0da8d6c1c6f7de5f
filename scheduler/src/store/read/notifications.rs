//! What is to be delivered, and what could not be.

use super::{Error, Reader, word};
use crate::target_table::TargetId;
use framewake_proto::api::Page;
use framewake_proto::notify::{DeadView, Notice};
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// A notification whose time has come.
#[derive(Debug, Clone)]
pub struct DueNotice {
    pub id: String,
    pub notice: Notice,
    pub made_at: Timestamp,
    /// Made or sent again then.
    pub since: Timestamp,
    pub tries: u32,
}

/// How a target fares.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    pub waiting: u64,
    pub dead: u64,
    pub delivered_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
    pub failure: String,
}

impl Reader {
    /// Those of one target that are due, the longest due first.
    pub(crate) async fn due_notices(
        &self,
        target: TargetId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueNotice>, Error> {
        let rows = sqlx::query(
            "SELECT id, notice, made_at, since, tries FROM notifications
             WHERE target = ? AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, seq LIMIT ?",
        )
        .bind(target.0)
        .bind(now.0)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let due = rows.iter().map(|row| {
            Ok(DueNotice {
                id: row.try_get("id")?,
                notice: notice(row)?,
                made_at: Timestamp(row.try_get("made_at")?),
                since: Timestamp(row.try_get("since")?),
                tries: row.try_get("tries")?,
            })
        });
        due.collect()
    }

    /// When the next notification of a target will be due.
    pub(crate) async fn next_notice(&self, target: TargetId, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let text = "SELECT min(due_at) FROM notifications WHERE target = ? AND due_at IS NOT NULL AND due_at > ?";
        let next: Option<i64> = sqlx::query_scalar(text).bind(target.0).bind(now.0).fetch_one(&self.pool).await?;
        Ok(next.map(Timestamp))
    }

    pub(crate) async fn target_states(&self) -> Result<HashMap<TargetId, TargetState>, Error> {
        let rows = sqlx::query(
            "SELECT id, delivered_at, failed_at, failure,
                    (SELECT count(*) FROM notifications WHERE target = notify_targets.id AND due_at IS NOT NULL) AS waiting,
                    (SELECT count(*) FROM notifications WHERE target = notify_targets.id AND due_at IS NULL) AS dead
             FROM notify_targets",
        )
        .fetch_all(&self.pool)
        .await?;
        let states = rows.iter().map(|row| {
            let at = |column: &str| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp));
            let state = TargetState {
                waiting: row.try_get::<i64, _>("waiting")?.cast_unsigned(),
                dead: row.try_get::<i64, _>("dead")?.cast_unsigned(),
                delivered_at: at("delivered_at")?,
                failed_at: at("failed_at")?,
                failure: row.try_get("failure")?,
            };
            Ok((TargetId(row.try_get("id")?), state))
        });
        states.collect()
    }

    /// Newest first; `before` is the place of the last one of the page before.
    pub async fn dead_notices(&self, before: Option<i64>, limit: u32) -> Result<Page<DeadView>, Error> {
        let rows = sqlx::query(
            "SELECT seq, notifications.id, name, notice, made_at, tries, given_up_at, reason
             FROM notifications JOIN notify_targets ON notify_targets.id = target
             WHERE due_at IS NULL AND seq < ? ORDER BY seq DESC LIMIT ?",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let dead = rows.iter().map(|row| {
            let view = DeadView {
                id: row.try_get("id")?,
                target: super::name(row, "name")?,
                notice: notice(row)?,
                made_at: Timestamp(row.try_get("made_at")?),
                tries: row.try_get("tries")?,
                given_up_at: Timestamp(row.try_get("given_up_at")?),
                reason: row.try_get("reason")?,
            };
            Ok((row.try_get("seq")?, view))
        });
        let dead = dead.collect::<Result<Vec<(i64, DeadView)>, Error>>()?;
        Ok(super::page(dead, limit, |(seq, _)| seq.to_string(), |(_, view)| view))
    }
}

fn notice(row: &SqliteRow) -> Result<Notice, Error> {
    let text: &str = row.try_get("notice")?;
    serde_json::from_str(text).map_err(|_| word("a notice", text))
}
