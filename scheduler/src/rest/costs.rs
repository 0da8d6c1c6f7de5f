//! What was paid and what for, of one job and of days; and the prices that it was paid by.

use super::body;
use super::narrow::{self, Narrowed};
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, clip, invalid, job_id, not_one_of};
use super::{App, audit, jobs, schema};
use crate::access::Caller;
use crate::engine::Refused;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use framewake_core::cost::{Groups, efficiency_permille, of_frames, of_some_frames};
use framewake_core::ledger::Cause;
use framewake_core::price::PaidFor;
use framewake_proto::api::Page;
use framewake_proto::cost::{
    CauseCost, ChunkCost, CostRow, CostsView, FrameCost, JobCostView, PoolCost, StepCost, StoredCost,
};
use framewake_proto::ids::JobId;
use framewake_proto::job::Fault;
use framewake_proto::money::Money;
use framewake_proto::price::{
    PaidByChange, PaidByView, PriceRow, PricesAdd, PricesAdded, ROWS_MAX, SOURCE_MAX, WORD_MAX,
};
use framewake_proto::time::{Day, Timestamp};
use serde_json::json;
use std::sync::Arc;

/// Largest body with rows of prices.
const PRICES_SIZE_MAX: usize = ROWS_MAX * (SOURCE_MAX + 5 * WORD_MAX);
/// Most frames or chunks of a job that are listed with their costs, and the default of frames.
const FRAMES_MAX: u32 = 1000;
const FRAMES_DEFAULT: u32 = 10;
/// Most rows of days that are added up for one answer: a farm of ten projects and ten functions makes some 800 a day.
const DAY_ROWS_MAX: u32 = 100_000;
/// Most rows of one answer.
const ROWS_TOLD_MAX: usize = 20_000;
/// Bytes of a GB, as stores count them.
const GB: u128 = 1_000_000_000;
const KEYS: [&str; 7] = ["day", "project", "function", "pool", "gpu", "cause", "price"];

/// Show what a job cost so far, by cause, step and frame
#[utoipa::path(get, path = "/v1/jobs/{id}/cost", tag = "costs",
    params(
        ("id" = JobId, Path),
        ("frames" = Option<u32>, Query, description = "How many of the dearest frames to list: 0 to 1000, else 10"),
        ("chunks" = Option<u32>, Query, description = "How many of the dearest chunks to list: 0 to 1000, else none"),
    ),
    responses((status = 200, body = JobCostView), Problems))]
pub(super) async fn of_job(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Query,
) -> Answer<Json<JobCostView>> {
    let query = query.only(&["frames", "chunks"])?;
    let wanted = query.parsed("frames", "a whole number")?.unwrap_or(FRAMES_DEFAULT);
    let chunks_wanted = query.parsed("chunks", "a whole number")?.unwrap_or(0);
    for (name, wanted) in [("frames", wanted), ("chunks", chunks_wanted)] {
        if wanted > FRAMES_MAX {
            return Err(invalid(format!("`{name}` must be 0 to {FRAMES_MAX}, not {wanted}")));
        }
    }
    let id = job_id(&id)?;
    let key = app.reader.job_key(id).await?.ok_or_else(|| jobs::no_such_job(id))?;
    let times = app.reader.time_of_job(key.seq).await?;
    let prices = app.reader.price_rows(times.iter().map(|time| time.price)).await?;
    let (mut by_step, mut by_pool, mut by_cause) = (Groups::default(), Groups::default(), Groups::default());
    for time in &times {
        let piece = prices.piece(time.price, time.time_us);
        by_step.add(time.step, piece);
        by_pool.add(time.pool.clone(), piece);
        by_cause.add(time.cause.clone(), piece);
    }
    let useful = Cause::Useful.as_str();
    let useful_us = times.iter().filter(|time| time.cause == useful).map(|time| time.time_us).sum();
    let (paid, steps) = by_step.paid();
    let (mut frames, mut frames_done, mut chunks) = (Vec::new(), 0, Vec::new());
    let mut step_costs = Vec::new();
    for (at, cost) in steps {
        let Some(step) = key.outline.steps.get(at) else { continue };
        let elapsed = app.reader.elapsed(key.seq, at, wanted).await?;
        frames_done += elapsed.frames;
        let ms: Vec<u64> = elapsed.longest.iter().map(|(_, ms)| *ms).collect();
        let costs = shares(&cost.cost, &ms, elapsed.all_ms, elapsed.longest.len() as u64 == elapsed.frames);
        for ((task, elapsed_ms), cost) in elapsed.longest.into_iter().zip(costs) {
            let frame = step.frames.get(task).unwrap_or_default();
            frames.push(FrameCost { step: step.name.clone(), frame, elapsed_ms, cost });
        }
        if chunks_wanted > 0 {
            let longest = app.reader.elapsed_of_chunks(key.seq, at, chunks_wanted).await?;
            let ms: Vec<u64> = longest.iter().map(|(.., ms)| *ms).collect();
            let all_are_here = longest.iter().map(|(_, frames, _)| frames).sum::<u64>() == elapsed.frames;
            let costs = shares(&cost.cost, &ms, elapsed.all_ms, all_are_here);
            chunks.extend(longest.into_iter().zip(costs).map(|((chunk, frames, elapsed_ms), cost)| ChunkCost {
                step: step.name.clone(),
                chunk,
                frames,
                elapsed_ms,
                cost,
            }));
        }
        step_costs.push(StepCost { step: step.name.clone(), paid: cost });
    }
    let dearest = |cost: &[Money]| std::cmp::Reverse(cost.iter().map(|part| part.micros).max());
    chunks.sort_by_key(|chunk| dearest(&chunk.cost));
    chunks.truncate(chunks_wanted as usize);
    frames.sort_by_key(|frame| dearest(&frame.cost));
    frames.truncate(wanted as usize);
    let (_, causes) = by_cause.paid();
    let (_, pools) = by_pool.paid();
    Ok(Json(JobCostView {
        job: id,
        efficiency_permille: efficiency_permille(useful_us, paid.time_us),
        paid,
        causes: causes.into_iter().map(|(cause, paid)| CauseCost { cause, paid }).collect(),
        steps: step_costs,
        pools: pools.into_iter().map(|(pool, paid)| PoolCost { pool, paid }).collect(),
        frames,
        frames_done,
        chunks,
        stored: stored(&app, app.reader.output_bytes(key.seq).await?).await?,
        prices: prices.into_rows(),
    }))
}

/// What parts of a step cost, by what rendering each took.
fn shares(cost: &[Money], ms: &[u64], all_ms: u64, all_are_here: bool) -> Vec<Vec<Money>> {
    if all_are_here { of_frames(cost, ms) } else { of_some_frames(cost, ms, all_ms) }
}

async fn stored(app: &App, size_bytes: u64) -> Answer<StoredCost> {
    let today = Day::of(Timestamp::now());
    let cost = |a_gb: Option<Money>| {
        a_gb.map(|a_gb| {
            let micros = (u128::from(a_gb.micros.unsigned_abs()) * u128::from(size_bytes)).div_ceil(GB);
            Money { micros: i64::try_from(micros).unwrap_or(i64::MAX), currency: a_gb.currency }
        })
    };
    Ok(StoredCost {
        size_bytes,
        storage_a_month: cost(app.reader.price_of_outputs(&PaidFor::Storage, today).await?),
        egress: cost(app.reader.price_of_outputs(&PaidFor::Egress, today).await?),
    })
}

/// Show what was paid on some days, added up by what is asked for
#[utoipa::path(get, path = "/v1/costs", tag = "costs",
    params(
        ("from" = Day, Query, description = "The first day, in UTC"),
        ("to" = Option<Day>, Query, description = "The last day, else the first"),
        ("project" = Option<String>, Query, description = "Only this project"),
        ("by" = Option<String>, Query,
         description = "One or more of `day`, `project`, `function`, `pool`, `gpu`, `cause`, `price`, with commas between; else `day`"),
    ),
    responses((status = 200, body = CostsView), Problems))]
pub(super) async fn of_days(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<CostsView>> {
    let query = query.only(&["from", "to", "project", "by"])?;
    let from: Day = query
        .parsed("from", "a day, as `2026-11-21`")?
        .ok_or_else(|| invalid("`from` is missing: a day, as `2026-11-21`"))?;
    let to = query.parsed("to", "a day, as `2026-11-21`")?.unwrap_or(from);
    if to < from {
        return Err(invalid(format!("`to` is before `from`: {to} and {from}")));
    }
    let by: Vec<&str> = query.one("by")?.unwrap_or("day").split(',').map(str::trim).collect();
    if let Some(word) = by.iter().find(|key| !KEYS.contains(*key)) {
        return Err(not_one_of("by", word, &KEYS));
    }
    let times = match narrow::project(&caller, query.one("project")?) {
        Narrowed::All => app.reader.time_of_days(from, to, None, DAY_ROWS_MAX).await?,
        Narrowed::To(project) => app.reader.time_of_days(from, to, Some(&project), DAY_ROWS_MAX).await?,
        Narrowed::Nothing => Vec::new(),
    };
    let narrow = |rows: usize| {
        invalid(format!("more than {rows} rows are between {from} and {to}"))
            .hint("ask for fewer days, or for one project")
    };
    if times.len() > DAY_ROWS_MAX as usize {
        return Err(narrow(DAY_ROWS_MAX as usize));
    }
    let prices = app.reader.price_rows(times.iter().map(|time| time.price)).await?;
    let mut groups = Groups::default();
    let mut useful = std::collections::BTreeMap::new();
    let mut useful_us = 0;
    for time in times {
        let piece = prices.piece(time.price, time.time_us);
        let key = |name: &str, value: String| by.contains(&name).then_some(value);
        let keys = (
            by.contains(&"day").then_some(time.day),
            key("project", time.project),
            key("function", time.function),
            key("pool", time.pool),
            key("gpu", time.gpu),
            key("cause", time.cause.clone()),
            by.contains(&"price").then_some(time.price),
        );
        if time.cause == Cause::Useful.as_str() {
            *useful.entry(keys.clone()).or_default() += time.time_us;
            useful_us += time.time_us;
        }
        groups.add(keys, piece);
    }
    if groups.len() > ROWS_TOLD_MAX {
        return Err(narrow(ROWS_TOLD_MAX));
    }
    let (paid, rows) = groups.paid();
    let rows = rows.into_iter().map(|(keys, paid)| {
        let useful_us = useful.get(&keys).copied().unwrap_or_default();
        let (day, project, function, pool, gpu, cause, price) = keys;
        CostRow { day, project, function, pool, gpu, cause, price, paid, useful_us }
    });
    let efficiency_permille = efficiency_permille(useful_us, paid.time_us);
    Ok(Json(CostsView { from, to, rows: rows.collect(), efficiency_permille, paid, prices: prices.into_rows() }))
}

/// List the rows of the price table
#[utoipa::path(get, path = "/v1/prices", tag = "costs",
    params(
        ("gpu" = Option<String>, Query, description = "Only of this model: `L4`"),
        ("provider" = Option<String>, Query, description = "Only of this provider"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<PriceRow>), Problems))]
pub(super) async fn prices(State(app): State<Arc<App>>, query: Query) -> Answer<Json<Page<PriceRow>>> {
    let query = query.only(&["gpu", "provider", "cursor", "limit"])?;
    let after = query.cursor(|text| text.parse().ok())?.unwrap_or(0);
    Ok(Json(app.reader.prices(query.one("gpu")?, query.one("provider")?, after, query.limit()?).await?))
}

/// Add rows to the price table; those that are there already are left as they are
#[utoipa::path(post, path = "/v1/prices", tag = "costs", request_body = PricesAdd,
    responses((status = 200, body = PricesAdded), Problems))]
pub(super) async fn add(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Answer<Json<PricesAdded>> {
    let PricesAdd { rows } = body::take(&headers, body, PRICES_SIZE_MAX, &schema::PRICES_ADD).await?;
    if rows.is_empty() || rows.len() > ROWS_MAX {
        let reason = format!("it has {} rows, not 1 to {ROWS_MAX}", rows.len());
        return Err(Refusal::faults(vec![Fault::new("/rows", reason)]));
    }
    let faults = rows.iter().enumerate().filter_map(|(at, row)| Some(Fault::new(format!("/rows/{at}"), row.fault()?)));
    let faults: Vec<Fault> = faults.collect();
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    app.handle.add_prices(rows).await.map(Json).map_err(|error| jobs::refused(&error, None))
}

/// List which prices are paid by, and since when
#[utoipa::path(get, path = "/v1/paid-by", tag = "costs",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<PaidByView>), Problems))]
pub(super) async fn paid_by(State(app): State<Arc<App>>, query: Query) -> Answer<Json<Page<PaidByView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let after = query.cursor(|text| {
        let (since, paid_for) = text.split_once('.')?;
        Some((paid_for.to_owned(), since.parse().ok()?))
    })?;
    let after = after.as_ref().map(|(paid_for, since): &(String, i64)| (paid_for.as_str(), *since));
    Ok(Json(app.reader.paid_by(after, query.limit()?).await?))
}

/// Pay by another price from a day on: a row of the table, or one of your own
#[utoipa::path(put, path = "/v1/paid-by/{what}", tag = "costs",
    params(("what" = String, Path, description = "`any`, `gpu:L4`, `pool:NAME`, `function:NAME`, `function:NAME+pool:NAME`, `storage` or `egress`")),
    request_body = PaidByChange, responses((status = 200, body = PaidByView), Problems))]
pub(super) async fn pay_by(
    State(app): State<Arc<App>>,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<PaidByView>> {
    let paid_for: PaidFor = what.parse().map_err(Refusal::not_found)?;
    let PaidByChange { price, own, since } =
        body::take(&headers, body, framewake_proto::job::JOB_SIZE_MAX, &schema::PAID_BY_CHANGE).await?;
    let since = since.unwrap_or(Day::of(Timestamp::now()));
    if price.is_some() == own.is_some() {
        return Err(Refusal::faults(vec![Fault::new(
            "",
            "give either `price`, the number of a row, or `own`, an amount",
        )]));
    }
    if let Some(before) = app.reader.price_on(&paid_for, since).await? {
        audit::note_before(&json!(before));
    }
    let stored = app.handle.pay_by(paid_for.clone(), since, price, own).await.map_err(|error| match error {
        Refused::NotFound => Refusal::new(Code::NotFound, "there is no such row, or no room for more prices")
            .hint("GET /v1/prices lists the rows"),
        error => jobs::refused(&error, None),
    })?;
    let rows = app.reader.price_rows(std::iter::once(stored)).await?.into_rows();
    let row = rows.into_iter().next().ok_or_else(|| Refusal::not_found(format!("there is no price {stored}")))?;
    Ok(Json(PaidByView { paid_for: clip(&paid_for.to_string()), since, price: row }))
}
