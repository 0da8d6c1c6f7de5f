//! Paid time in rows: by the pool it was spent in.

use super::*;
use crate::store::file::DATABASE;
use sqlx::Connection;

/// In each pool: the time of its days, and of its jobs.
pub(super) async fn time_by_pool(store: &mut Store) -> BTreeMap<String, (i64, i64)> {
    let text = "SELECT pool, sum(days), sum(jobs) FROM (SELECT pool, time_us AS days, 0 AS jobs FROM time_of_days
                UNION ALL SELECT pool, 0, time_us FROM time_of_jobs) GROUP BY pool";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(text).fetch_all(&mut store.writer).await.expect("readable");
    rows.into_iter().map(|(pool, days, jobs)| (pool, (days, jobs))).collect()
}

#[tokio::test]
async fn what_was_paid_before_pools_were_kept_is_of_no_pool_and_nothing_of_it_is_lost() {
    let by_pool = MIGRATIONS.iter().position(|text| text.contains("time_of_days_by_pool")).expect("it is there");
    let folder = tempfile::tempdir().expect("room for a folder");
    let options = SqliteConnectOptions::new().filename(folder.path().join(DATABASE)).create_if_missing(true);
    let mut writer = options.connect().await.expect("opens");
    let old = MIGRATIONS[..by_pool].join(";");
    let rows = "INSERT INTO accounts VALUES ('w1', 'blender', 2, 'NVIDIA L4', 5, 9, 'idle', NULL, NULL, NULL, 0, NULL, NULL, NULL);
        INSERT INTO time_of_jobs VALUES (1, 0, 'useful', 3, 100), (1, 0, 'idle', 0, 20), (2, 1, 'useful', 3, 7);
        INSERT INTO time_of_days VALUES (20000, 'film', 'blender@2', 'NVIDIA L4', 'useful', 3, 107),
            (20000, '', 'blender@2', '', 'cold_start', 0, 11), (20001, 'film', 'blender@2', 'NVIDIA L4', 'idle', 0, 20)";
    let all = format!("{old}; {rows}; PRAGMA user_version = {by_pool}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(&mut writer).await.expect("good SQL");
    writer.close().await.expect("closes");

    let mut store = Store::open(folder.path()).await.expect("it is brought up to date");
    assert_eq!(time_by_pool(&mut store).await, BTreeMap::from([(String::new(), (138, 127))]));
    let kept = |text| sqlx::query_scalar::<_, i64>(text);
    let rows =
        "SELECT count(*) FROM time_of_days WHERE cause = 'useful' AND price = 3 AND gpu = 'NVIDIA L4' AND day = 20000";
    assert_eq!(kept(rows).fetch_one(&mut store.writer).await.expect("a count"), 1);
    let accounts = store.load_accounts().await.expect("readable");
    assert_eq!((accounts.len(), accounts[0].worker.as_str(), accounts[0].pool.as_ref()), (1, "w1", None));
}
