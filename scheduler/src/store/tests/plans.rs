//! How SQLite goes about questions that were slow once: its plan is looked at, which no load of the machine changes.

use super::super::read::map::TIMES_OF_SOME;
use super::super::read::tasks::{FAILURES_OF_SOME, GPUS_OF_SOME};
use super::*;
use sqlx::{AssertSqlSafe, Row};

/// Enough that a wrong order is what statistics of one job may lead to.
const RESULTS: u32 = 100_000;

impl Books {
    /// The steps of the plan, as SQLite words them.
    async fn plan(&mut self, text: &str) -> Vec<String> {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
        let rows = explained.fetch_all(&mut self.store.writer).await.expect("it can be explained");
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// The wanted ones are gone through once, and for each its row is looked up by the whole key.
    async fn looks_each_up(&mut self, text: &str, table: &str) {
        let plan = self.plan(text).await;
        assert_eq!(plan.len(), 2, "{plan:?}");
        assert!(plan[0].starts_with("SCAN wanted"), "{table} is gone through first: {plan:?}");
        let key = format!("SEARCH {table} USING PRIMARY KEY (job=? AND step=? AND task=?)");
        assert_eq!(plan[1], key, "{plan:?}");
    }
}

#[tokio::test]
async fn of_many_results_only_those_are_read_that_are_asked_for() {
    let mut books = Books::new().await;
    sqlx::query(
        "WITH RECURSIVE task(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM task WHERE number + 1 < ?)
         INSERT INTO results SELECT 1, 0, number, '', x'', 0, 0, 0, '', '', 1, 1, 5, 0, 0, NULL, NULL, NULL, NULL FROM task",
    )
    .bind(RESULTS)
    .execute(&mut books.store.writer)
    .await
    .expect("the disk takes them");
    sqlx::query(
        "INSERT INTO failures SELECT job, step, task, 'hung', '', '', chunk, attempt, at FROM results WHERE task % 7 = 0",
    )
    .execute(&mut books.store.writer)
    .await
    .expect("the disk takes them");
    // With what SQLite knows of the tables by itself, and with what it counts when somebody has it count.
    for counted in [false, true] {
        if counted {
            sqlx::query("ANALYZE").execute(&mut books.store.writer).await.expect("it counts");
        }
        books.looks_each_up(TIMES_OF_SOME, "results").await;
        books.looks_each_up(GPUS_OF_SOME, "results").await;
        books.looks_each_up(FAILURES_OF_SOME, "failures").await;
        // The plan of the slow question is another, or the rest shows nothing.
        let (right, wrong) =
            ("json_each(?5) AS wanted CROSS JOIN results", "results CROSS JOIN json_each(?5) AS wanted");
        let slow = books.plan(&TIMES_OF_SOME.replace(right, wrong)).await;
        assert!(slow[0].contains("results"), "{slow:?}");
    }
}
