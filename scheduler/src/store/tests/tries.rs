//! Tries that failed are counted in few rows, however many they are, and not for longer than they are shown.

use super::*;
use crate::store::tries::MINUTES_KEPT;
use framewake_core::change::Outcome;
use framewake_core::values::LogSize;

async fn counted(books: &mut Books) -> Vec<(String, i64, String)> {
    let all = "SELECT cause, tries, chunk || '.' || attempt || ' ' || message FROM failed_tries ORDER BY minute, cause";
    sqlx::query_as(all).fetch_all(&mut books.store.writer).await.expect("readable")
}

/// So many tries that failed, in one batch.
fn fail(books: &mut Books, job: JobId, count: u32, verdict: Verdict) {
    for task in 0..count {
        let attempt = AttemptId { chunk: framewake_proto::ids::ChunkId(u64::from(task)), number: 1 };
        let (failure, at) = (failure(task, verdict), books.now);
        books.pending.changes.push(Change::TaskFailed { job, step: 0, attempt, failure, for_good: false, at });
    }
}

#[tokio::test]
async fn tries_are_counted_in_one_row_for_a_cause_and_a_minute() {
    let mut books = Books::new().await;
    let (job, _) = books.submit(20_000, None);
    fail(&mut books, job, 10_000, Verdict::RetrySame);
    books.commit().await.expect("there is room");
    fail(&mut books, job, 5, Verdict::RetrySame);
    fail(&mut books, job, 1, Verdict::Hung);
    let attempt = AttemptId { chunk: framewake_proto::ids::ChunkId(7), number: 2 };
    let outcome = |how: &str| Outcome::Lost { how: how.to_owned() };
    for outcome in [outcome("no sign of life for 30 s"), Outcome::Finished, Outcome::Canceled] {
        let (done, failed, log, at) = (0, 0, LogSize::default(), books.now);
        books.pending.changes.push(Change::AttemptEnded { job, step: 0, attempt, outcome, done, failed, log, at });
    }
    books.commit().await.expect("there is room");
    let row = |cause: &str, tries, last: &str| (cause.to_owned(), tries, last.to_owned());
    let lost = row("", 1, "7.2 no sign of life for 30 s");
    let broke = "it \"broke\"\n";
    let all = [lost, row("hung", 1, &format!("0.1 {broke}")), row("retry_same", 10_005, &format!("4.1 {broke}"))];
    assert_eq!(counted(&mut books).await, all);
}

#[tokio::test]
async fn tries_go_when_they_are_too_old_to_be_shown() {
    let mut books = Books::new().await;
    let (job, _) = books.submit(10, None);
    let turns = async |books: &mut Books| {
        for turn in 0..write::PRUNE_EVERY {
            books.apply(Event::JobPrioritized { id: job, priority: u32::try_from(turn % 100).expect("small") });
            books.commit().await.expect("there is room");
        }
    };
    fail(&mut books, job, 1, Verdict::Hung);
    turns(&mut books).await;
    books.now = books.now.after(Duration::from_mins(MINUTES_KEPT.unsigned_abs()));
    fail(&mut books, job, 1, Verdict::OutputBad);
    turns(&mut books).await;
    assert_eq!(counted(&mut books).await.len(), 2, "the first is of the last hour still");
    books.now = books.now.after(Duration::from_mins(1));
    turns(&mut books).await;
    let left = counted(&mut books).await;
    assert_eq!(left.iter().map(|(cause, ..)| cause.as_str()).collect::<Vec<_>>(), ["output_bad"]);
}
