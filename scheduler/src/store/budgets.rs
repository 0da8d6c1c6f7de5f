//! What jobs and projects may cost, and what people were told of it.

use super::ledger::paid_times;
use super::rows::Rows;
use super::write::{each, insert};
use super::{Error, Store};
use framewake_core::price::Held;
use framewake_core::values::StoredBudget;
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::money::Money;
use framewake_proto::time::{Day, Month, Timestamp};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

pub(super) async fn write(c: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    // As text, because SQLite has no JSON of its own: NULL takes the budget away.
    let changed = rows.job_budgets.iter().map(|(seq, budget)| {
        json!([seq, budget.map(|budget| serde_json::to_string(&budget).expect("a budget can be written as JSON"))])
    });
    let changed: Vec<Value> = changed.collect();
    each(
        c,
        "UPDATE jobs SET spec = CASE WHEN r.value ->> 1 IS NULL THEN json_remove(spec, '$.budget')
         ELSE json_set(spec, '$.budget', json(r.value ->> 1)) END
         FROM json_each(?) r WHERE jobs.seq = r.value ->> 0",
        &changed,
    )
    .await?;
    let gone = rows.budgets.iter().filter(|(_, (budget, ..))| budget.is_none());
    let gone: Vec<Value> = gone.map(|((project, period), _)| json!([project, period])).collect();
    each(
        c,
        "DELETE FROM budgets WHERE (project, period) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
        &gone,
    )
    .await?;
    let stored = rows.budgets.iter().filter_map(|((project, period), (budget, month, told))| {
        let ProjectBudget { limit, warn_percent, at_limit } = (*budget)?;
        let told = told.as_str();
        Some(json!([project, period, limit.micros, limit.currency, warn_percent, at_limit, told, month.0]))
    });
    let stored: Vec<Value> = stored.collect();
    insert(
        c,
        "budgets",
        8,
        "WHERE true ON CONFLICT DO UPDATE SET micros = excluded.micros, currency = excluded.currency, warn = excluded.warn,
         at_limit = excluded.at_limit, told = excluded.told, told_period = excluded.told_period",
        &stored,
    )
    .await?;
    let standings = rows.project_standings.iter();
    let standings =
        standings.map(|((project, period), (month, told))| json!([project, period, told.as_str(), month.0]));
    let standings: Vec<Value> = standings.collect();
    each(
        c,
        "UPDATE budgets SET told = r.value ->> 2, told_period = r.value ->> 3 FROM json_each(?) r
         WHERE budgets.project = r.value ->> 0 AND budgets.period = r.value ->> 1",
        &standings,
    )
    .await
}

impl Store {
    pub(super) async fn load_budgets(&mut self, now: Timestamp) -> Result<Vec<StoredBudget>, Error> {
        let text = "SELECT project, period, micros, currency, warn, at_limit, told, told_period FROM budgets";
        let rows = sqlx::query(text).fetch_all(&mut self.writer).await.map_err(|error| Error::Read { error })?;
        let this_month = Month::of(Day::of(now));
        let mut budgets = Vec::with_capacity(rows.len());
        for row in rows {
            let reason = || "it was not written by this program".to_owned();
            let read = budget(&row).ok_or_else(|| Error::Row { row: "a row of budgets".to_owned(), reason: reason() });
            let (project, period, budget, told, told_month) = read?;
            let told = if period == Period::Month && told_month != this_month { Standing::Fine } else { told };
            let spent = self.spent_of_project(&project, period, now).await?;
            budgets.push(StoredBudget { project, period, budget, spent, told });
        }
        Ok(budgets)
    }

    pub(crate) async fn spent_of_job(&mut self, id: JobId) -> Result<Vec<(Held, u64)>, Error> {
        let Some(seq) = self.seqs.get(&id).copied() else { return Ok(Vec::new()) };
        Ok(self.load_spent(Some(seq)).await?.remove(&seq).unwrap_or_default())
    }

    /// What was paid for a project, in the month of `now` or in all.
    pub(crate) async fn spent_of_project(
        &mut self,
        project: &Name,
        period: Period,
        now: Timestamp,
    ) -> Result<Vec<(Held, u64)>, Error> {
        let month = Month::of(Day::of(now));
        let (first, end) = match period {
            Period::Month => (month.first().0, month.next().first().0),
            Period::Total => (i64::MIN, i64::MAX),
        };
        let rows = sqlx::query(
            "SELECT 0, prices.id, micros, currency, gpu_count, sum(time_us) FROM time_of_days
             JOIN prices ON prices.id = price WHERE project = ? AND day >= ? AND day < ? GROUP BY prices.id",
        )
        .bind(project.as_str())
        .bind(first)
        .bind(end)
        .fetch_all(&mut self.writer)
        .await
        .map_err(|error| Error::Read { error })?;
        paid_times(&rows)
    }
}

/// `None` for a row that this program did not write.
fn budget(row: &SqliteRow) -> Option<(Name, Period, ProjectBudget, Standing, Month)> {
    let text = |at: usize| row.try_get::<&str, _>(at).ok();
    let limit = Money { micros: row.try_get(2).ok()?, currency: text(3)?.parse().ok()? };
    let at_limit = serde_json::from_value(Value::from(text(5)?)).ok()?;
    let budget = ProjectBudget { limit, warn_percent: row.try_get(4).ok()?, at_limit };
    Some((text(0)?.parse().ok()?, text(1)?.parse().ok()?, budget, text(6)?.parse().ok()?, Month(row.try_get(7).ok()?)))
}
