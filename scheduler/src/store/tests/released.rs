//! Databases of released versions are brought up to date, and nothing in them is lost.

use super::*;
use crate::store::file::DATABASE;
use framewake_core::values::StoredChunkState;
use framewake_proto::objects::Digest;
use sqlx::Connection;

/// Each released version: the database of a farm of it, and how many migrations it had.
const RELEASED: [(&str, &str, usize); 1] = [("0.1.0", include_str!("../released/0.1.0.sql"), 1)];

/// Of each migration that was released: what it was. A database that ran it will not run it again.
const MIGRATIONS_RELEASED: [&str; 1] = ["5b991c0eb59cdb43c18be329c5b8dda1468d168378aa392c8ed828b28f16ef87"];

#[test]
fn a_released_migration_is_never_changed() {
    for (text, expected) in MIGRATIONS.iter().zip(MIGRATIONS_RELEASED) {
        assert_eq!(
            Digest::of(text.as_bytes()).to_string(),
            expected,
            "a released migration is what the databases out there have run: add another file instead\n{text}"
        );
    }
    assert!(RELEASED.iter().all(|(_, _, version)| *version <= MIGRATIONS_RELEASED.len()));
}

async fn folder_of(dump: &'static str) -> TempDir {
    let folder = tempfile::tempdir().expect("room for a folder");
    let options = SqliteConnectOptions::new().filename(folder.path().join(DATABASE)).create_if_missing(true);
    let mut writer = options.connect().await.expect("opens");
    sqlx::raw_sql(dump).execute(&mut writer).await.expect("the dump is good SQL");
    writer.close().await.expect("closes");
    folder
}

/// What is in the tables, by the columns that the released version knew.
async fn rows(path: &Path, columns: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let mut reader = crate::store::file::open_to_read(path).await.expect("opens");
    let mut found = BTreeMap::new();
    for (table, columns) in columns {
        let list: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let text = format!("SELECT concat_ws('|', {}) AS row FROM {table} ORDER BY row", list.join(", "));
        let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_all(&mut reader).await.expect("readable");
        found.insert(table.clone(), rows);
    }
    found
}

async fn columns(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut reader = crate::store::file::open_to_read(path).await.expect("opens");
    let pairs: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&mut reader)
    .await
    .expect("readable");
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in pairs {
        columns.entry(table).or_default().push(column);
    }
    columns
}

#[tokio::test]
async fn a_database_of_every_released_version_opens_with_all_that_is_in_it_and_goes_on() {
    for (version, dump, migrations) in RELEASED {
        let folder = folder_of(dump).await;
        let path = folder.path().join(DATABASE);
        let known = columns(&path).await;
        let before = rows(&path, &known).await;
        let filled =
            ["attempts", "chunks", "done_tasks", "events", "failures", "functions", "idempotency", "jobs", "meta"];
        for table in filled.into_iter().chain(["projects", "results", "steps"]) {
            assert!(!before[table].is_empty(), "{version}: `{table}` has rows to lose");
        }
        for state in ["queued", "running", "paused", "succeeded", "failed", "canceled"] {
            assert!(before["jobs"].iter().any(|row| row.contains(state)), "{version}: a job is {state}");
        }

        let mut store = Store::open(folder.path()).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        for (table, rows) in rows(&path, &known).await {
            // The farm has got an id.
            let kept: Vec<String> = rows.into_iter().filter(|row| table != "meta" || !row.contains("'farm'")).collect();
            assert_eq!(kept, before[&table], "{version}: all of `{table}` is there");
        }
        let now: i64 =
            crate::store::file::one(&mut store.writer, &path, "PRAGMA user_version").await.expect("a number");
        assert_eq!(usize::try_from(now).expect("small"), MIGRATIONS.len(), "{version} had {migrations}");

        let (snapshot, functions, jobs) = load_all(&mut store).await;
        assert_eq!(snapshot.jobs.len(), 4, "{version}: jobs that are not over");
        assert_eq!(snapshot.chunks.len(), 2, "{version}: a chunk that is held, and one that waits");
        let held = snapshot.chunks.iter().find_map(|chunk| match &chunk.state {
            StoredChunkState::Leased { worker, .. } => Some((worker.clone(), chunk.attempt_id(), chunk.tasks.clone())),
            StoredChunkState::Waiting { .. } => None,
        });
        let (worker, attempt, mut tasks) = held.expect("a worker holds a chunk");

        // Work goes on: the worker that held a chunk over the upgrade reports, and it counts.
        let now = Timestamp(1_800_000_000_000);
        let mut farm = Farm::restore(Settings::default(), now, snapshot);
        let mut out = Applied::default();
        let task = tasks.take_first(1).iter().next().expect("it has tasks left");
        let report = Report { done: vec![result(task)], ..Report::default() };
        farm.apply(now, Event::AttemptReported { worker, attempt, report }, &mut out);
        assert!(out.changes.iter().any(|change| matches!(change, Change::TaskDone { .. })), "{version}: it counts");
        let batch = Batch { changes: &out.changes, now, ..Batch::default() };
        store.commit(batch, &jobs).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        assert!(functions.iter().count() >= 2);
        let results: i64 =
            crate::store::file::one(&mut store.writer, &path, "SELECT count(*) FROM results").await.expect("a count");
        assert_eq!(usize::try_from(results).expect("small"), before["results"].len() + 1);
    }
}
