//! Schedules and their runs, as the store keeps them.

use super::*;

/// A schedule, and one due time whose job is in the same batch.
fn due_row(books: &mut Books, due: i64) -> JobId {
    let (job, _) = books.submit(1, None);
    books.pending.schedules.push(ScheduleWrite::Run(RunRow {
        schedule: ScheduleId(1),
        due: Timestamp(due),
        state: RunState::Submitted,
        number: Some(1),
        job: Some(job),
        reason: String::new(),
        decided_at: Timestamp(due),
    }));
    job
}

async fn with_schedule() -> Books {
    let mut books = Books::new().await;
    let spec = serde_json::json!({ "name": "n", "cron": "@daily", "job": { "name": "j", "steps": [] } });
    let spec = Arc::new(serde_json::from_value(spec).expect("a good schedule"));
    books.pending.schedules.push(ScheduleWrite::Put { id: ScheduleId(1), spec });
    books.commit().await.expect("there is room");
    books
}

#[tokio::test]
async fn a_due_time_that_is_recorded_twice_takes_its_second_job_with_it() {
    let mut books = with_schedule().await;
    let first = due_row(&mut books, 1000);
    books.commit().await.expect("the first time");
    let second = due_row(&mut books, 1000);
    books.commit().await.expect_err("the second time");
    drop(books.store);
    let mut store = Store::open(books.folder.path()).await.expect("it opens");
    assert!(store.job_state(first).await.expect("readable").is_some());
    assert_eq!(store.job_state(second).await.expect("readable"), None, "no job without its row");
    let loaded = store.load_schedules().await.expect("readable");
    assert_eq!(loaded[0].1.jobs.iter().map(|run| run.job).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn old_runs_go_and_those_that_go_on_or_wait_stay() {
    let mut books = with_schedule().await;
    let job = due_row(&mut books, 1);
    let row = |due: i64, state| RunRow {
        schedule: ScheduleId(1),
        due: Timestamp(due),
        state,
        number: None,
        job: None,
        reason: String::new(),
        decided_at: Timestamp(due),
    };
    books.pending.schedules.push(ScheduleWrite::Run(row(2, RunState::Waiting)));
    for due in 3..1500 {
        books.pending.schedules.push(ScheduleWrite::Run(row(due, RunState::Skipped)));
    }
    books.commit().await.expect("there is room");
    let count: (i64,) = sqlx::query_as("SELECT count(*) FROM schedule_runs")
        .fetch_one(&mut books.store.writer)
        .await
        .expect("readable");
    assert_eq!(count.0, 1002);
    let (_, loaded) = books.store.load_schedules().await.expect("readable").pop().expect("one");
    assert_eq!(loaded.jobs.iter().map(|run| run.job).collect::<Vec<_>>(), [job]);
    assert_eq!(loaded.waiting.iter().map(|run| run.due.0).collect::<Vec<_>>(), [2]);
}
