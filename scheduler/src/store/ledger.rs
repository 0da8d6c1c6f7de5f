//! Paid time in rows: totals of jobs and days, and how far each worker is accounted for.

use super::read::{self, Reader};
use super::rows::Rows;
use super::write::{each, insert};
use super::{Error, Store};
use framewake_core::ledger::{Account, Cause, Doing, Spent, Work};
use framewake_core::price::{Held, PaidFor, PriceId, Prices};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, Name};
use framewake_proto::money::Currency;
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// `prices.id` of a price that is not known.
const UNKNOWN: u32 = 0;

/// In the order of [`held`].
const PAID_BY: &str =
    "SELECT paid_for, since, prices.id, micros, currency, gpu_count FROM paid_by JOIN prices ON prices.id = price";

/// Time that a batch gave out, added up by the rows it goes to.
#[derive(Debug, Default)]
pub(crate) struct SpentTime {
    jobs: BTreeMap<(JobId, usize, Option<Name>, Cause, u32), u64>,
    days: BTreeMap<DayKey, u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DayKey {
    day: i64,
    work: Option<Name>,
    function: Arc<FunctionKey>,
    pool: Option<Name>,
    gpu: Arc<str>,
    cause: Cause,
    price: u32,
}

impl SpentTime {
    pub(crate) fn add(&mut self, account: &Account, spent: &[Spent]) {
        for piece in spent {
            let price = piece.price.map_or(UNKNOWN, |held| held.price.0);
            if let Some(work) = &piece.work {
                let key = (work.job, work.step, account.pool.clone(), piece.cause, price);
                *self.jobs.entry(key).or_default() += piece.time_us();
            }
            let key = DayKey {
                day: piece.day(),
                work: piece.work.as_ref().map(|work| work.project.clone()),
                function: account.function.clone(),
                pool: account.pool.clone(),
                gpu: account.gpu.clone(),
                cause: piece.cause,
                price,
            };
            *self.days.entry(key).or_default() += piece.time_us();
        }
    }
}

pub(super) async fn write(c: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let jobs: Vec<Value> = rows
        .spent
        .jobs
        .iter()
        .map(|((job, step, pool, cause, price), time_us)| {
            json!([job, step, pool_name(pool.as_ref()), cause.as_str(), price, time_us])
        })
        .collect();
    // Time goes on for a job that is over, while its last workers wait for more.
    each(
        c,
        "INSERT INTO time_of_jobs SELECT jobs.seq, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
         FROM json_each(?) JOIN jobs ON jobs.id = value ->> 0
         WHERE true ON CONFLICT DO UPDATE SET time_us = time_us + excluded.time_us",
        &jobs,
    )
    .await?;
    let days = rows.spent.days.iter().map(|(key, time_us)| {
        let DayKey { day, work, function, pool, gpu, cause, price } = key;
        let project = work.as_ref().map_or("", Name::as_str);
        let pool = pool_name(pool.as_ref());
        json!([day, project, function.to_string(), pool, &**gpu, cause.as_str(), price, time_us])
    });
    let days: Vec<Value> = days.collect();
    insert(c, "time_of_days", 8, "WHERE true ON CONFLICT DO UPDATE SET time_us = time_us + excluded.time_us", &days)
        .await?;
    let closed = rows.accounts.iter().filter(|(_, account)| account.is_none()).map(|(worker, _)| json!(worker));
    each(c, "DELETE FROM accounts WHERE worker IN (SELECT value FROM json_each(?))", &closed.collect::<Vec<_>>())
        .await?;
    let accounts: Vec<Value> = rows.accounts.values().flatten().map(account_row).collect();
    insert(
        c,
        "accounts",
        15,
        "WHERE true ON CONFLICT DO UPDATE SET function = excluded.function, version = excluded.version, gpu = excluded.gpu,
         opened_at = excluded.opened_at, until = excluded.until, doing = excluded.doing,
         spoke_at = excluded.spoke_at, chunk = excluded.chunk, attempt = excluded.attempt, upload_ms = excluded.upload_ms,
         job = excluded.job, step = excluded.step, project = excluded.project, pool = excluded.pool",
        &accounts,
    )
    .await
}

fn account_row(account: &Account) -> Value {
    let Account { worker, function, gpu, pool, opened_at, until, doing, work } = account;
    let (name, spoke_at, attempt, upload_ms) = match doing {
        Doing::Starting { spoke_at } => ("starting", *spoke_at, None, 0),
        Doing::Idle => ("idle", None, None, 0),
        Doing::Working { attempt, upload_ms } => ("working", None, Some(attempt), *upload_ms),
        Doing::Silent => ("silent", None, None, 0),
    };
    json!([
        worker,
        function.name,
        function.version,
        &**gpu,
        opened_at.0,
        until.0,
        name,
        spoke_at.map(|at| at.0),
        attempt.map(|attempt| attempt.chunk.0),
        attempt.map(|attempt| attempt.number),
        upload_ms,
        work.as_ref().map(|work| work.job),
        work.as_ref().map(|work| work.step),
        work.as_ref().map(|work| &work.project),
        pool,
    ])
}

/// As it is in rows: empty where it is not known.
fn pool_name(pool: Option<&Name>) -> &str {
    pool.map_or("", Name::as_str)
}

impl Store {
    pub(super) async fn load_accounts(&mut self) -> Result<Vec<Account>, Error> {
        let rows = self.fetch("SELECT * FROM accounts").await?;
        rows.iter().map(|row| account(row).ok_or_else(|| unreadable("accounts"))).collect()
    }

    pub(super) async fn load_paid_by(&mut self) -> Result<Prices, Error> {
        let mut prices = Prices::default();
        for row in self.fetch(PAID_BY).await? {
            let (paid_for, day, held) = held(&row).ok_or_else(|| unreadable("paid_by"))?;
            prices.set(paid_for, day, held);
        }
        Ok(prices)
    }

    /// What was paid for jobs that may go on, by their numbers; of one job or of all.
    pub(crate) async fn load_spent(&mut self, only: Option<i64>) -> Result<HashMap<i64, Vec<(Held, u64)>>, Error> {
        // Jobs first: of a million that wait nothing was paid, and of a million that are over nothing is asked.
        let rows = sqlx::query(
            "SELECT jobs.seq, prices.id, micros, currency, gpu_count, sum(time_us)
             FROM jobs CROSS JOIN time_of_jobs ON time_of_jobs.job = jobs.seq JOIN prices ON prices.id = price
             WHERE jobs.seq = ?1 OR (?1 IS NULL AND jobs.state IN ('running', 'paused'))
             GROUP BY jobs.seq, prices.id",
        )
        .bind(only)
        .fetch_all(&mut self.writer)
        .await
        .map_err(|error| Error::Read { error })?;
        let mut spent: HashMap<i64, Vec<(Held, u64)>> = HashMap::new();
        for row in rows {
            let (seq, held, time_us) = paid(&row).ok_or_else(|| unreadable("time_of_jobs"))?;
            spent.entry(seq).or_default().push((held, time_us));
        }
        Ok(spent)
    }

    async fn fetch(&mut self, text: &'static str) -> Result<Vec<SqliteRow>, Error> {
        sqlx::query(text).fetch_all(&mut self.writer).await.map_err(|error| Error::Read { error })
    }
}

/// Of rows that have a number, a price and a time.
pub(super) fn paid_times(rows: &[SqliteRow]) -> Result<Vec<(Held, u64)>, Error> {
    let read = rows.iter().map(|row| paid(row).map(|(_, held, time_us)| (held, time_us)));
    read.collect::<Option<Vec<_>>>().ok_or_else(|| unreadable("paid time"))
}

/// `None` for a row that this program did not write.
fn account(row: &SqliteRow) -> Option<Account> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column).ok();
    let number = |column: &str| row.try_get::<Option<i64>, _>(column).ok();
    let attempt = match (number("chunk")?, number("attempt")?) {
        (Some(chunk), Some(attempt)) => {
            Some(AttemptId { chunk: ChunkId(u64::try_from(chunk).ok()?), number: u32::try_from(attempt).ok()? })
        }
        _ => None,
    };
    let doing = match text("doing")??.as_str() {
        "starting" => Doing::Starting { spoke_at: number("spoke_at")?.map(Timestamp) },
        "idle" => Doing::Idle,
        "working" => Doing::Working { attempt: attempt?, upload_ms: u64::try_from(number("upload_ms")??).ok()? },
        "silent" => Doing::Silent,
        _ => return None,
    };
    let work = match text("job")? {
        Some(job) => Some(Arc::new(Work {
            job: job.parse().ok()?,
            step: usize::try_from(number("step")??).ok()?,
            project: text("project")??.parse().ok()?,
        })),
        None => None,
    };
    let function =
        FunctionKey { name: text("function")??.parse().ok()?, version: u32::try_from(number("version")??).ok()? };
    Some(Account {
        worker: text("worker")??.parse().ok()?,
        function: Arc::new(function),
        gpu: text("gpu")??.into(),
        pool: text("pool")?.map(|pool| pool.parse()).transpose().ok()?,
        opened_at: Timestamp(number("opened_at")??),
        until: Timestamp(number("until")??),
        doing,
        work,
    })
}

/// The same.
fn paid(row: &SqliteRow) -> Option<(i64, Held, u64)> {
    let currency = row.try_get::<String, _>(3).ok()?.parse().ok()?;
    let held = held_of(row.try_get(1).ok()?, row.try_get(2).ok()?, row.try_get(4).ok()?, currency);
    Some((row.try_get(0).ok()?, held, row.try_get::<i64, _>(5).ok()?.cast_unsigned()))
}

/// An hour of one GPU of the machine.
fn held_of(price: u32, micros: i64, gpus: u32, currency: Currency) -> Held {
    let micros_an_hour = micros.unsigned_abs().div_ceil(u64::from(gpus.max(1))).cast_signed();
    Held { price: PriceId(price), micros_an_hour, currency }
}

/// The same.
fn held(row: &SqliteRow) -> Option<(PaidFor, i64, Held)> {
    let paid_for = row.try_get::<String, _>(0).ok()?.parse().ok()?;
    let currency = row.try_get::<String, _>(4).ok()?.parse().ok()?;
    let held = held_of(row.try_get(2).ok()?, row.try_get(3).ok()?, row.try_get(5).ok()?, currency);
    Some((paid_for, row.try_get(1).ok()?, held))
}

impl Reader {
    /// The prices that workers are paid by.
    pub async fn prices_in_use(&self) -> Result<Prices, read::Error> {
        let rows = sqlx::query(PAID_BY).fetch_all(&self.pool).await?;
        let mut prices = Prices::default();
        for (paid_for, day, held) in rows.iter().filter_map(held) {
            prices.set(paid_for, day, held);
        }
        Ok(prices)
    }
}

fn unreadable(table: &str) -> Error {
    Error::Row { row: format!("a row of {table}"), reason: "it was not written by this program".to_owned() }
}
