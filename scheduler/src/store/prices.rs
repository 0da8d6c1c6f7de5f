//! The price table: rows are added and never changed, and so is what is paid by them.

use super::{Error, Store};
use framewake_core::price::{PaidFor, Prices};
use framewake_proto::price::{PriceRow, PricesAdded};
use framewake_proto::time::{Day, Timestamp};
use serde_json::{Value, json};

/// Most rows of the table: the largest public one has 60,000.
pub(crate) const PRICE_ROWS_MAX: i64 = 200_000;
/// Most prices that are paid by, past ones too.
pub(crate) const PAID_BY_MAX: i64 = 10_000;

impl Store {
    /// Adds what is not there yet. `None`: the table would be too large, and nothing was added.
    pub(crate) async fn add_prices(&mut self, rows: &[PriceRow], now: Timestamp) -> Result<Option<PricesAdded>, Error> {
        let count = self.scalar("SELECT count(*) FROM prices").await?;
        if count + i64::try_from(rows.len()).unwrap_or(i64::MAX) > PRICE_ROWS_MAX {
            return Ok(None);
        }
        let values: Vec<Value> = rows
            .iter()
            .map(|row| {
                let PriceRow {
                    provider, instance_type, gpu, gpu_count, market, region, an_hour, as_of, source, ..
                } = row;
                let (micros, currency) = (an_hour.micros, an_hour.currency);
                json!([
                    provider,
                    instance_type,
                    gpu,
                    gpu_count,
                    market,
                    region,
                    micros,
                    currency,
                    as_of.0,
                    source,
                    now.0
                ])
            })
            .collect();
        let text = "INSERT OR IGNORE INTO prices
             (provider, instance_type, gpu, gpu_count, market, region, micros, currency, as_of, source, added_at)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
                    value ->> 8, value ->> 9, value ->> 10 FROM json_each(?)";
        let done = sqlx::query(text)
            .bind(Value::Array(values).to_string())
            .execute(&mut self.writer)
            .await
            .map_err(|error| Error::Write { error })?;
        let added = u32::try_from(done.rows_affected()).unwrap_or(u32::MAX);
        let all = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        Ok(Some(PricesAdded { added, known: all.saturating_sub(added) }))
    }

    /// The number of a row that is in the table.
    pub(crate) async fn price_id(&mut self, row: &PriceRow) -> Result<Option<u32>, Error> {
        let text = "SELECT id FROM prices WHERE provider = ? AND instance_type = ? AND gpu = ? AND gpu_count = ? AND market = ?
             AND region = ? AND as_of = ? AND micros = ? AND currency = ?";
        sqlx::query_scalar(text)
            .bind(&row.provider)
            .bind(&row.instance_type)
            .bind(&row.gpu)
            .bind(row.gpu_count)
            .bind(row.market.as_str())
            .bind(&row.region)
            .bind(row.as_of.0)
            .bind(row.an_hour.micros)
            .bind(row.an_hour.currency.as_str())
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })
    }

    /// From this day on it is paid by that row. `None`: there is no such row, or too many of these.
    pub(crate) async fn pay_by(&mut self, paid_for: &PaidFor, since: Day, price: u32) -> Result<Option<Prices>, Error> {
        if self.scalar("SELECT count(*) FROM paid_by").await? >= PAID_BY_MAX {
            return Ok(None);
        }
        let done = sqlx::query(
            "INSERT INTO paid_by SELECT ?, ?, id FROM prices WHERE id = ? ON CONFLICT DO UPDATE SET price = excluded.price",
        )
        .bind(paid_for.to_string())
        .bind(since.0)
        .bind(price)
        .execute(&mut self.writer)
        .await
        .map_err(|error| Error::Write { error })?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        self.load_paid_by().await.map(Some)
    }
}
