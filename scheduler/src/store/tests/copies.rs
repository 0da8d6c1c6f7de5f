//! Backups: what was committed is in them, and a farm made of one never gives a number twice.

use super::*;
use crate::store::backup::{self, back_up, restore};
use crate::store::file::DATABASE;

/// Claims an order for a worker.
fn claim(books: &mut Books, attempt: AttemptId) -> Option<TaskSet> {
    let worker: WorkerId = "w1".parse().expect("a good id");
    granted(&books.apply(Event::AttemptClaimed { request: RequestId(1), worker, attempt }))
}

#[tokio::test]
async fn a_backup_beside_a_working_store_has_what_was_committed() {
    let mut books = Books::new().await;
    books.submit(9, Some("first"));
    books.commit().await.expect("the disk has room");
    let to = books.folder.path().join("monday.db");
    let bytes = back_up(books.folder.path(), &to).await.expect("it can be copied");
    assert_eq!(bytes, std::fs::metadata(&to).expect("there").len());
    books.submit(9, Some("second"));
    books.commit().await.expect("the copy holds nobody up");

    let error = back_up(books.folder.path(), &to).await.expect_err("it is there");
    assert!(matches!(error, backup::Error::Exists { .. }), "{error}");
    let names = std::fs::read_dir(books.folder.path()).expect("there").flatten().map(|file| file.file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("partial")), "nothing half is left");

    let error = restore(&to, books.folder.path()).await.expect_err("the folder is in use");
    assert!(matches!(error, backup::Error::Store(Error::InUse { .. })), "{error}");
    let other = tempfile::tempdir().expect("room for a folder");
    let restored = restore(&to, other.path()).await.expect("it can be restored");
    assert_eq!((restored.jobs, restored.before), (1, None));
    let mut store = Store::open(other.path()).await.expect("it can be opened");
    assert_eq!(load_all(&mut store).await.0.jobs.len(), 1);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_the_database() {
    let mut books = Books::new().await;
    books.submit(9, None);
    books.commit().await.expect("the disk has room");
    let to = books.folder.path().join("monday.db");
    back_up(books.folder.path(), &to).await.expect("it can be copied");
    let mut bytes = std::fs::read(&to).expect("readable");
    bytes[8192..12288].fill(0xa5);
    std::fs::write(&to, bytes).expect("writable");
    let Books { folder, store, .. } = books;
    drop(store);
    let error = restore(&to, folder.path()).await.expect_err("it is damaged");
    assert!(matches!(error, backup::Error::Store(Error::Damaged { .. })), "{error}");
    let mut store = Store::open(folder.path()).await.expect("the database is as it was");
    assert_eq!(load_all(&mut store).await.0.jobs.len(), 1);
}

#[tokio::test]
async fn a_restored_farm_gives_no_number_twice_and_lets_nothing_be_rendered_unseen() {
    let mut books = Books::new().await;
    let (_, effects) = books.submit(9, Some("kept"));
    let attempt = orders(&effects)[0];
    assert!(claim(&mut books, attempt).is_some());
    books.commit().await.expect("the disk has room");
    let backups = tempfile::tempdir().expect("room for a folder");
    let to = backups.path().join("yesterday.db");
    back_up(books.folder.path(), &to).await.expect("it can be copied");

    // The farm goes on, and gives out more numbers.
    let (lost, effects) = books.submit(9, Some("lost"));
    let mut used: Vec<AttemptId> = orders(&effects);
    used.push(attempt);
    books.commit().await.expect("the disk has room");
    let Books { folder, store, now, .. } = books;
    drop(store);

    for again in [false, true] {
        let restored = restore(&to, folder.path()).await.expect("the backup is good");
        let before = restored.before.expect("there was a database");
        let mut old = crate::store::file::open_to_read(&before).await.expect("the one before can be opened");
        let jobs: i64 =
            crate::store::file::one(&mut old, &before, "SELECT count(*) FROM jobs").await.expect("readable");
        assert_eq!(jobs, if again { 1 } else { 2 }, "it is kept, with all that was in it");

        let mut store = Store::open(folder.path()).await.expect("it can be opened");
        let (snapshot, _, _) = load_all(&mut store).await;
        assert!(snapshot.jobs.iter().all(|job| job.restored && job.id != lost));
        let mut farm = Farm::restore(Settings::default(), now, snapshot);
        let mut out = Applied::default();
        farm.apply(now, pools(), &mut out);
        farm.apply(now, Event::ReportsDrained, &mut out);
        let worker: WorkerId = "w2".parse().expect("a good id");
        let function = FunctionKey { name: "any".parse().expect("a good name"), version: 1 };
        farm.apply(
            now,
            Event::WorkerFound {
                worker,
                function,
                pool: framewake_core::values::PoolRules::local(1).name,
                gpus: Vec::new(),
            },
            &mut out,
        );
        let offered = orders(&out.effects);
        assert!(!offered.is_empty(), "its tasks are offered again");
        for order in &offered {
            assert!(used.iter().all(|earlier| earlier.chunk.0 < order.chunk.0), "{order} is new: {used:?}");
            assert!(order.number > 1, "{order}: the worker looks into the store first");
        }
        // A worker that lives on from the time since.
        let worker: WorkerId = "w1".parse().expect("a good id");
        let report = Report { done: vec![result(0)], ..Report::default() };
        let mut out = Applied::default();
        farm.apply(now, Event::AttemptReported { worker, attempt, report }, &mut out);
        assert!(!out.changes.iter().any(|change| matches!(change, Change::TaskDone { .. })), "{:?}", out.changes);
        used.extend(offered);
        let running: i64 = crate::store::file::one(
            &mut store.writer,
            &folder.path().join(DATABASE),
            "SELECT count(*) FROM attempts WHERE outcome = 'running'",
        )
        .await
        .expect("readable");
        assert_eq!(running, 0, "attempts of before are over");
    }
}

#[tokio::test]
async fn a_job_submitted_after_a_restore_is_like_any_other() {
    let mut books = Books::new().await;
    books.submit(3, None);
    books.commit().await.expect("the disk has room");
    let to = books.folder.path().join("yesterday.db");
    back_up(books.folder.path(), &to).await.expect("it can be copied");
    let other = tempfile::tempdir().expect("room for a folder");
    restore(&to, other.path()).await.expect("the backup is good");
    let mut books = Books { store: Store::open(other.path()).await.expect("it can be opened"), folder: other, ..books };
    let (snapshot, functions, jobs) = load_all(&mut books.store).await;
    books.farm = Farm::restore(Settings::default(), books.now, snapshot);
    (books.functions, books.jobs) = (functions, jobs);
    books.apply(pools());
    let (id, _) = books.submit(3, None);
    books.commit().await.expect("the disk has room");
    let (_, snapshot, _) = books.restart().await;
    let restored = |job: &StoredJob| (job.id == id, job.restored);
    let mut flags: Vec<_> = snapshot.jobs.iter().map(restored).collect();
    flags.sort_unstable();
    assert_eq!(flags, [(false, true), (true, false)]);
}
