//! Workers that ended lately, whose credentials are to be taken from nobody, also after a restart.

use super::load::{get, unreadable};
use super::{Error, Store};
use crate::credentials::{ENDED_MAX, Ended};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

pub(super) async fn write(connection: &mut SqliteConnection, ended: &[Ended]) -> Result<(), sqlx::Error> {
    if ended.is_empty() {
        return Ok(());
    }
    let rows: Vec<Value> = ended.iter().map(|ended| json!([ended.worker, ended.at.0, ended.for_good])).collect();
    super::write::each(
        connection,
        "INSERT OR REPLACE INTO ended_workers (worker, ended_at, for_good)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
        &rows,
    )
    .await?;
    sqlx::query("DELETE FROM ended_workers WHERE seq <= (SELECT max(seq) FROM ended_workers) - ?")
        .bind(i64::try_from(ENDED_MAX).unwrap_or(i64::MAX))
        .execute(&mut *connection)
        .await?;
    Ok(())
}

impl Store {
    /// The oldest first.
    pub(crate) async fn load_ended(&mut self) -> Result<Vec<Ended>, Error> {
        let rows = self.rows("SELECT worker, ended_at, for_good FROM ended_workers ORDER BY seq").await?;
        let ended = rows.iter().map(|row| {
            let worker: String = get(row, 0)?;
            let worker = worker.parse().map_err(|_| unreadable("ended_workers", &worker))?;
            Ok(Ended { worker, at: Timestamp(get(row, 1)?), for_good: get(row, 2)? })
        });
        ended.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, JobCache};

    fn ended(number: usize, at: i64, for_good: bool) -> Ended {
        Ended { worker: format!("w1-{number}").parse().expect("a good id"), at: Timestamp(at), for_good }
    }

    #[tokio::test]
    async fn who_has_ended_is_known_after_a_restart_and_only_the_last_are_kept() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let mut store = Store::open(folder.path()).await.expect("a new database");
        let jobs = JobCache::default();
        let mut all: Vec<Ended> = (0..ENDED_MAX + 7).map(|number| ended(number, 100, number % 2 == 0)).collect();
        store.commit(Batch { ended: &all, ..Batch::default() }, &jobs).await.expect("written");
        // One that people started came again, and ended again: it is among the last now.
        let again = ended(9, 200, false);
        store.commit(Batch { ended: std::slice::from_ref(&again), ..Batch::default() }, &jobs).await.expect("written");
        drop(store);
        let mut store = Store::open(folder.path()).await.expect("what was written can be opened");
        let loaded = store.load_ended().await.expect("read");
        all.retain(|ended| ended.worker != again.worker);
        all.push(again);
        // One number was given twice.
        assert_eq!(loaded, all.split_off(8));
    }
}
