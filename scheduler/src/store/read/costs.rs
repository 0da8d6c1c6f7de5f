//! What was paid, and by which prices.

use super::{Error, Reader, named, page, word};
use framewake_core::cost::Piece;
use framewake_core::price::PaidFor;
use framewake_proto::api::Page;
use framewake_proto::money::{Currency, Money};
use framewake_proto::price::{PaidByView, PriceRow};
use framewake_proto::time::Day;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeMap;

/// Time of one step of a job.
#[derive(Debug, Clone)]
pub struct JobTime {
    pub step: usize,
    /// Empty where it is not known.
    pub pool: String,
    pub cause: String,
    pub price: u32,
    pub time_us: u64,
}

/// Time of one day.
#[derive(Debug, Clone)]
pub struct DayTime {
    pub day: Day,
    pub project: String,
    pub function: String,
    /// Empty where it is not known.
    pub pool: String,
    pub gpu: String,
    pub cause: String,
    pub price: u32,
    pub time_us: u64,
}

/// How long the frames of a step took.
#[derive(Debug, Clone, Default)]
pub struct Elapsed {
    pub frames: u64,
    pub all_ms: u64,
    /// Task and time, the longest first.
    pub longest: Vec<(u32, u64)>,
}

/// Rows of the price table by their numbers.
#[derive(Debug, Clone, Default)]
pub struct PriceRows(BTreeMap<u32, PriceRow>);

impl PriceRows {
    pub fn piece(&self, price: u32, time_us: u64) -> Piece {
        let row = self.0.get(&price);
        Piece { time_us, an_hour: row.map(|row| (row.micros_a_worker(), row.an_hour.currency)) }
    }

    pub fn into_rows(self) -> Vec<PriceRow> {
        self.0.into_values().collect()
    }
}

impl Reader {
    pub async fn time_of_job(&self, job: i64) -> Result<Vec<JobTime>, Error> {
        let rows = sqlx::query("SELECT step, pool, cause, price, time_us FROM time_of_jobs WHERE job = ?")
            .bind(job)
            .fetch_all(&self.pool)
            .await?;
        let times = rows.iter().map(|row| {
            Ok(JobTime {
                step: usize::try_from(row.try_get::<i64, _>("step")?).unwrap_or(usize::MAX),
                pool: row.try_get("pool")?,
                cause: row.try_get("cause")?,
                price: row.try_get("price")?,
                time_us: row.try_get::<i64, _>("time_us")?.cast_unsigned(),
            })
        });
        times.collect()
    }

    /// Both days included; one more than `limit` says that there are more.
    pub async fn time_of_days(
        &self,
        from: Day,
        to: Day,
        project: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DayTime>, Error> {
        let rows = sqlx::query(
            "SELECT day, project, function, pool, gpu, cause, price, time_us FROM time_of_days
             WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR project = ?3) LIMIT ?4",
        )
        .bind(from.0)
        .bind(to.0)
        .bind(project)
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let times = rows.iter().map(|row| {
            Ok(DayTime {
                day: Day(row.try_get("day")?),
                project: row.try_get("project")?,
                function: row.try_get("function")?,
                pool: row.try_get("pool")?,
                gpu: row.try_get("gpu")?,
                cause: row.try_get("cause")?,
                price: row.try_get("price")?,
                time_us: row.try_get::<i64, _>("time_us")?.cast_unsigned(),
            })
        });
        times.collect()
    }

    /// The frames of a step that are done, and the longest of them.
    pub async fn elapsed(&self, job: i64, step: usize, longest: u32) -> Result<Elapsed, Error> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let (frames, all_ms): (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(sum(elapsed_ms), 0) FROM results WHERE job = ? AND step = ?")
                .bind(job)
                .bind(step)
                .fetch_one(&self.pool)
                .await?;
        let rows = sqlx::query(
            "SELECT task, elapsed_ms FROM results WHERE job = ? AND step = ? ORDER BY elapsed_ms DESC, task LIMIT ?",
        )
        .bind(job)
        .bind(step)
        .bind(longest)
        .fetch_all(&self.pool)
        .await?;
        let longest = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.cast_unsigned())));
        let longest = longest.collect::<Result<Vec<_>, Error>>()?;
        Ok(Elapsed { frames: frames.cast_unsigned(), all_ms: all_ms.cast_unsigned(), longest })
    }

    /// The chunks of a step that frames were done in: their number, their frames and how long these took, the longest first.
    pub async fn elapsed_of_chunks(&self, job: i64, step: usize, longest: u32) -> Result<Vec<(u64, u64, u64)>, Error> {
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT chunk, count(*), sum(elapsed_ms) FROM results WHERE job = ? AND step = ? GROUP BY chunk
             ORDER BY 3 DESC, chunk LIMIT ?",
        )
        .bind(job)
        .bind(i64::try_from(step).unwrap_or(i64::MAX))
        .bind(longest)
        .fetch_all(&self.pool)
        .await?;
        let unsigned =
            |(chunk, frames, ms): (i64, i64, i64)| (chunk.cast_unsigned(), frames.cast_unsigned(), ms.cast_unsigned());
        Ok(rows.into_iter().map(unsigned).collect())
    }

    /// Bytes of all outputs of a job.
    pub async fn output_bytes(&self, job: i64) -> Result<u64, Error> {
        let bytes: i64 = sqlx::query_scalar("SELECT coalesce(sum(size_bytes), 0) FROM results WHERE job = ?")
            .bind(job)
            .fetch_one(&self.pool)
            .await?;
        Ok(bytes.cast_unsigned())
    }

    pub async fn price_rows(&self, ids: impl Iterator<Item = u32>) -> Result<PriceRows, Error> {
        let ids: std::collections::BTreeSet<u32> = ids.collect();
        let rows = sqlx::query("SELECT * FROM prices WHERE id IN (SELECT value FROM json_each(?))")
            .bind(serde_json::to_string(&ids).expect("numbers"))
            .fetch_all(&self.pool)
            .await?;
        let rows = rows.iter().map(price).collect::<Result<Vec<_>, Error>>()?;
        Ok(PriceRows(rows.into_iter().filter_map(|row| Some((row.id?, row))).collect()))
    }

    /// In the order of their numbers; of one GPU or provider, if given.
    pub async fn prices(
        &self,
        gpu: Option<&str>,
        provider: Option<&str>,
        after: u32,
        limit: u32,
    ) -> Result<Page<PriceRow>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM prices WHERE id > ?1 AND (?2 IS NULL OR gpu = ?2) AND (?3 IS NULL OR provider = ?3)
             ORDER BY id LIMIT ?4",
        )
        .bind(after)
        .bind(gpu)
        .bind(provider)
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.iter().map(price).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(rows, limit, |row| row.id.unwrap_or_default().to_string(), |row| row))
    }

    /// By what it is for and since when.
    pub async fn paid_by(&self, after: Option<(&str, i64)>, limit: u32) -> Result<Page<PaidByView>, Error> {
        let (after, since) = after.unwrap_or(("", i64::MIN));
        let rows = sqlx::query(
            "SELECT prices.*, paid_for, since FROM paid_by JOIN prices ON prices.id = price
             WHERE (paid_for, since) > (?1, ?2) ORDER BY paid_for, since LIMIT ?3",
        )
        .bind(after)
        .bind(since)
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let views = rows.iter().map(paid_by).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(views, limit, |view| format!("{}.{}", view.since.0, view.paid_for), |view| view))
    }

    /// What is paid by on this day.
    pub async fn price_on(&self, paid_for: &PaidFor, day: Day) -> Result<Option<PaidByView>, Error> {
        let row = sqlx::query(
            "SELECT prices.*, paid_for, since FROM paid_by JOIN prices ON prices.id = price WHERE paid_for = ? AND since <= ?
             ORDER BY since DESC LIMIT 1",
        )
        .bind(paid_for.to_string())
        .bind(day.0)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(paid_by).transpose()
    }

    /// What a GB costs on this day.
    pub async fn price_of_outputs(&self, paid_for: &PaidFor, day: Day) -> Result<Option<Money>, Error> {
        Ok(self.price_on(paid_for, day).await?.map(|view| view.price.an_hour))
    }
}

fn paid_by(row: &SqliteRow) -> Result<PaidByView, Error> {
    Ok(PaidByView { paid_for: row.try_get("paid_for")?, since: Day(row.try_get("since")?), price: price(row)? })
}

fn price(row: &SqliteRow) -> Result<PriceRow, Error> {
    let currency: &str = row.try_get("currency")?;
    let currency: Currency = currency.parse().map_err(|_| word("a currency", currency))?;
    Ok(PriceRow {
        id: Some(row.try_get("id")?),
        provider: row.try_get("provider")?,
        instance_type: row.try_get("instance_type")?,
        gpu: row.try_get("gpu")?,
        gpu_count: row.try_get("gpu_count")?,
        market: named("a market", row.try_get("market")?)?,
        region: row.try_get("region")?,
        an_hour: Money { micros: row.try_get("micros")?, currency },
        as_of: Day(row.try_get("as_of")?),
        source: row.try_get("source")?,
    })
}
