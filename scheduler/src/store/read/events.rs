//! Kept events, in the order they happened.

use super::{Error, Reader, word};
use framewake_proto::api::{EventView, Happening};
use framewake_proto::ids::JobId;
use framewake_proto::time::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite};

/// An event as the store has it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub seq: u64,
    pub view: EventView,
}

impl Reader {
    /// The next `limit` events after number `after`; only of one job (its `seq`), if given.
    pub async fn events(&self, job: Option<i64>, after: u64, limit: u32) -> Result<Vec<StoredEvent>, Error> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT events.seq, at, body, id FROM events JOIN jobs ON jobs.seq = job WHERE events.seq > ",
        );
        query.push_bind(i64::try_from(after).unwrap_or(i64::MAX));
        if let Some(job) = job {
            query.push(" AND job = ").push_bind(job);
        }
        query.push(" ORDER BY events.seq LIMIT ").push_bind(limit);
        let rows = query.build().fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let id: &str = row.try_get("id")?;
                let job: JobId = id.parse().map_err(|_| word("the id of a job", id))?;
                let what: Happening = serde_json::from_str(row.try_get("body")?).map_err(|cause| Error::Strange {
                    what: "an event",
                    job,
                    cause: cause.into(),
                })?;
                let seq = u64::try_from(row.try_get::<i64, _>("seq")?).unwrap_or(0);
                let view = EventView { seq: Some(seq), job, at: Timestamp(row.try_get("at")?), what };
                Ok(StoredEvent { seq, view })
            })
            .collect()
    }

    /// The numbers of the oldest and the newest event kept; of the next one to come, while there are none.
    pub async fn event_span(&self) -> Result<(u64, u64), Error> {
        let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT min(seq) FROM events), (SELECT seq FROM sqlite_sequence WHERE name = 'events')",
        )
        .fetch_one(&self.pool)
        .await?;
        let newest = newest.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0);
        Ok((oldest.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(newest + 1), newest))
    }
}
