//! Databases that must not be used are refused by name, with the fault and the way out, and stay as they are.

use super::*;
use crate::store::file::{APPLICATION_ID, DATABASE, wal_of};
use framewake_proto::objects::Digest;
use sqlx::Connection;
use std::fs;

/// A farm's database with a job in it, closed or as a `kill -9` leaves it, in a folder of its own.
async fn folder_with_job(killed: bool) -> TempDir {
    let mut books = Books::new().await;
    books.submit(5000, Some("key"));
    books.commit().await.expect("the disk has room");
    if !killed {
        books.store.settle().await.expect("it can be merged");
        return books.folder;
    }
    // What a kill leaves is what is there while the database is open.
    let copy = tempfile::tempdir().expect("room for a folder");
    for file in fs::read_dir(books.folder.path()).expect("it is there").flatten() {
        if !file.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(file.path(), copy.path().join(file.file_name())).expect("it can be copied");
        }
    }
    assert!(fs::metadata(wal_of(&copy.path().join(DATABASE))).expect("a WAL is left").len() > 0);
    copy
}

/// Every file but the lock and what a reader makes: the index of the WAL, and an empty WAL.
fn content(folder: &TempDir) -> BTreeMap<String, Digest> {
    let files = fs::read_dir(folder.path()).expect("it is there").flatten();
    let files = files.map(|file| (file.file_name().to_string_lossy().into_owned(), file.path()));
    let files = files.map(|(name, path)| (name, fs::read(path).expect("readable")));
    let kept = files.filter(|(name, bytes)| {
        name != "lock" && !name.ends_with("-shm") && !(name.ends_with("-wal") && bytes.is_empty())
    });
    kept.map(|(name, bytes)| (name, Digest::of(&bytes))).collect()
}

async fn refusal(folder: &TempDir, fault: &str) -> Error {
    let before = content(folder);
    let error = Store::open(folder.path()).await.expect_err(fault);
    assert!(error.to_string().contains(DATABASE), "{fault}: it names the file: {error}");
    assert_eq!(content(folder), before, "{fault}: nothing is altered");
    error
}

#[tokio::test]
async fn every_damage_is_refused_with_a_way_out_and_alters_nothing() {
    type Fault = (&'static str, bool, fn(&Path), &'static str);
    let faults: [Fault; 9] = [
        ("cut off in the header", false, |db| cut(db, 50), "cut off after 50 bytes"),
        ("cut off in the middle of a page", false, |db| cut(db, 9000), "cut off"),
        ("cut off at the end of a page", false, |db| cut(db, 3 * 4096), "cut off"),
        ("emptied", true, |db| cut(db, 0), "it is empty"),
        ("removed beside its WAL", true, |db| fs::remove_file(db).expect("there"), "missing"),
        ("garbage in its pages", false, |db| overwrite(db, 4096, 3 * 4096), "is damaged"),
        ("not a database", false, |db| overwrite(db, 0, 100), "not a SQLite database"),
        ("a WAL that is none", true, |db| overwrite(&wal_of(db), 0, 500), "not a WAL"),
        ("without its WAL", true, |db| fs::remove_file(wal_of(db)).expect("there"), "-wal` is missing"),
    ];
    for (fault, killed, strike, expected) in faults {
        let folder = folder_with_job(killed).await;
        strike(&folder.path().join(DATABASE));
        let said = refusal(&folder, fault).await.to_string();
        assert!(said.contains(expected), "{fault}: {said}");
        assert!(said.contains("`framewake-scheduler restore`"), "{fault}: it names the way out: {said}");
    }
}

fn cut(path: &Path, bytes: u64) {
    fs::File::options().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("writable");
}

fn overwrite(path: &Path, at: usize, count: usize) {
    let mut bytes = fs::read(path).expect("readable");
    let end = bytes.len().min(at + count);
    bytes[at..end].fill(0xa5);
    fs::write(path, bytes).expect("writable");
}

#[tokio::test]
async fn what_a_kill_left_and_what_was_closed_open_again() {
    for killed in [false, true] {
        let folder = folder_with_job(killed).await;
        let mut store = Store::open(folder.path()).await.expect("nothing is wrong with it");
        assert_eq!(load_all(&mut store).await.0.jobs.len(), 1, "killed: {killed}");
        drop(store);
        // Another program, or nobody, merged the WAL after a clean end.
        let _ = fs::remove_file(wal_of(&folder.path().join(DATABASE)));
        Store::open(folder.path()).await.expect("after a clean end no WAL is needed");
    }
}

async fn alter(path: &Path, text: &'static str) {
    let mut writer = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.expect("opens");
    sqlx::raw_sql(text).execute(&mut writer).await.expect("good SQL");
    writer.close().await.expect("closes");
}

#[tokio::test]
async fn databases_of_other_programs_and_of_newer_versions_are_refused() {
    let folder = tempfile::tempdir().expect("room for a folder");
    alter(&folder.path().join(DATABASE), "CREATE TABLE songs (name TEXT)").await;
    assert!(matches!(refusal(&folder, "tables of others").await, Error::Foreign { .. }));
    let folder = folder_with_job(false).await;
    alter(&folder.path().join(DATABASE), "PRAGMA application_id = 7").await;
    assert!(matches!(refusal(&folder, "the mark of others").await, Error::Foreign { .. }));
    let folder = folder_with_job(false).await;
    alter(&folder.path().join(DATABASE), "PRAGMA user_version = 1000").await;
    let error = refusal(&folder, "a newer version").await;
    assert!(matches!(error, Error::TooNew { found: 1000, .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_answered_survives_the_power() {
    let mut books = Books::new().await;
    let mut ask = async |text: &'static str| {
        let value: String = sqlx::query_scalar(text).fetch_one(&mut books.store.writer).await.expect("a pragma");
        value
    };
    assert_eq!(ask("SELECT journal_mode FROM pragma_journal_mode").await, "wal");
    // 2 is FULL: a commit waits until the disk has it.
    assert_eq!(ask("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
    let id: String = ask("SELECT CAST(application_id AS TEXT) FROM pragma_application_id").await;
    assert_eq!(id, APPLICATION_ID.to_string());
}
