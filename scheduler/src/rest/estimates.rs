//! What a job will take, before it is submitted.

use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip, invalid};
use super::{App, jobs, narrow, schema};
use crate::access::Caller;
use crate::scene::SceneKey;
use crate::store::measured::Measured;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use framewake_core::estimate::{Figures, Forecast, Plan, Range, Spread};
use framewake_core::price::{PaidFor, Prices, gpu_model};
use framewake_core::scale::LINGER_UNASKED_MAX;
use framewake_proto::estimate::{
    Basis, EstimateView, MoneyRange, MsRange, OptionEstimate, OutputsEstimate, StepEstimate, WORKER_COUNTS_MAX,
};
use framewake_proto::function::WORKERS_MAX;
use framewake_proto::ids::Name;
use framewake_proto::job::{JOB_SIZE_MAX, Job, JobSpec, Source};
use framewake_proto::money::{Currency, Money};
use framewake_proto::objects::Digest;
use framewake_proto::scaling::PoolScaling;
use framewake_proto::time::{Day, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Workers that are told of, as far as the functions allow them; and beside these as many as they allow.
const COUNTS_DEFAULT: [u32; 3] = [1, 4, 16];
/// Bytes of a GB, as stores count them.
const GB: f64 = 1e9;

/// Say how long a job will take and what it will cost, without submitting it
///
/// Checked as a submission is, except that inputs need not be uploaded. Known is what was rendered before of the same scene.
#[utoipa::path(post, path = "/v1/estimates", tag = "costs",
    params(("workers" = Option<String>, Query, description = "Most workers of a step at once, several with commas between; else 1, 4, 16 and as many as the functions allow")),
    request_body(description = "The job, as JSON or YAML",
        content((JobSpec = "application/json"), (JobSpec = "application/yaml"))),
    responses((status = 200, body = EstimateView), Problems))]
pub(super) async fn estimate(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<EstimateView>> {
    let query = query.only(&["workers"])?;
    let wanted = query.one("workers")?.map(counts).transpose()?;
    let mut spec: JobSpec = body::take(&headers, body, JOB_SIZE_MAX, &schema::JOB).await?;
    narrow::fit(&caller, &mut spec.project)?;
    let (_, job) = jobs::check(&app, &caller, spec).await?;
    let prices = app.reader.prices_in_use().await?;
    let mut known = Vec::with_capacity(job.steps.len());
    let own = own_scenes(&app, &caller, &job).await?;
    for (at, own) in own.into_iter().enumerate() {
        let mut step = Known::of(&app, &prices, &job, at).await?;
        step.measured = step.measured.filter(|_| own);
        known.push(step);
    }
    let most = known.iter().map(|step| step.workers_max).max().unwrap_or(1);
    let counts = wanted.unwrap_or_else(|| {
        let below = COUNTS_DEFAULT.into_iter().filter(|workers| *workers < most);
        below.chain([most]).collect()
    });
    let steps = job.steps.iter().zip(&known).map(|(step, known)| StepEstimate {
        step: step.name.clone(),
        function: step.function.to_string(),
        tasks: step.frames.len(),
        basis: known.measured.as_ref().map(|measured| known.basis(measured, step.frames.len())),
    });
    let unknown = job.steps.iter().zip(&known).filter(|(_, known)| known.measured.is_none());
    Ok(Json(EstimateView {
        tasks: job.steps.iter().fold(0, |sum: u32, step| sum.saturating_add(step.frames.len())),
        steps: steps.collect(),
        options: options(&job, &known, &counts),
        unknown_steps: unknown.map(|(step, _)| step.name.clone()).collect(),
        outputs: outputs(&app, &job, &known).await?,
    }))
}

/// Of which steps whoever asks has all inputs: the digest of a file is not the file, and that others have rendered it is theirs.
async fn own_scenes(app: &App, caller: &Caller, job: &Job) -> Answer<Vec<bool>> {
    let mut own = vec![true; job.steps.len()];
    let Some(project) = caller.only() else { return Ok(own) };
    let mut sent: BTreeMap<Digest, bool> = BTreeMap::new();
    for at in order(job) {
        for input in &job.steps[at].inputs {
            own[at] &= match &input.source {
                Source::Url(_) => true,
                Source::Step(before) => own[*before],
                Source::Digest(digest) => {
                    if !sent.contains_key(digest) {
                        sent.insert(*digest, app.reader.has_sent(project, digest).await?);
                    }
                    sent[digest]
                }
            };
        }
    }
    Ok(own)
}

fn counts(text: &str) -> Answer<Vec<u32>> {
    let wrong = |word: &str| {
        let range = format!("`workers` must be numbers of 1 to {WORKERS_MAX}, at most {WORKER_COUNTS_MAX} of them");
        invalid(format!("{range}, not `{}`", clip(word)))
    };
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    if words.len() > WORKER_COUNTS_MAX {
        return Err(wrong(text));
    }
    let number = |word: &&str| match word.parse() {
        Ok(workers) if (1..=WORKERS_MAX).contains(&workers) => Ok(workers),
        _ => Err(wrong(word)),
    };
    words.iter().map(number).collect()
}

/// What is known of a step.
struct Known {
    measured: Option<Measured>,
    /// Pixels to those that were measured.
    scale: f64,
    workers_max: u32,
    linger_s: f64,
    /// Where its workers may be started; never empty.
    pools: Vec<InPool>,
}

/// A pool, as far as it makes a difference.
struct InPool {
    /// `None`: none is known that would do.
    name: Option<Name>,
    workers_max: u32,
    /// An hour of a worker.
    price: Option<Money>,
    /// How long starts took; `None`: not known, but not longer than this.
    start: Option<Spread>,
    start_within_s: f64,
    /// From one start to the next.
    pace_s: f64,
    /// It has another GPU than the one that was measured.
    other_gpu: bool,
}

/// What a step takes, and what it costs where that is known.
struct Taken {
    time_s: Range,
    cost: Option<(Currency, Range)>,
}

impl Known {
    async fn of(app: &App, prices: &Prices, job: &Job, at: usize) -> Answer<Known> {
        let step = &job.steps[at];
        let functions = app.handle.functions();
        let spec = functions.get(&step.function).ok_or_else(|| Refusal::not_found("the function is gone"))?;
        let key = SceneKey::of(job, at);
        let measured = nearest(app.reader.measured(&key).await?, key.pixels);
        let scale = measured.as_ref().map_or(1.0, |measured| factor(key.pixels, measured.pixels));
        let start = app.reader.measured(&SceneKey::of_function(&step.function.name)).await?;
        let start = start.first().map_or_else(Spread::default, |of_function| of_function.figures.start);
        let scaling = app.handle.explain_scaling(step.function.clone()).await.unwrap_or_default();
        let standings = scaling.map_or_else(Vec::new, |scaling| scaling.pools);
        // Of the GPU that it had last, where the pool does not say which it has.
        let gpu = measured.as_ref().map_or("", |measured| measured.figures.gpu.as_str());
        let today = Day::of(Timestamp::now()).0;
        let price = |pool: Option<&Name>| {
            let held = prices.of(&step.function.name, gpu, pool, today)?;
            Some(Money { micros: held.micros_an_hour, currency: held.currency })
        };
        let only = standings.len() == 1;
        let mut pools: Vec<InPool> = standings
            .into_iter()
            .map(|standing| InPool {
                price: standing.price.or_else(|| price(Some(&standing.pool)).filter(|_| standing.gpu.is_empty())),
                workers_max: standing.workers_max.max(1),
                // What is known of the function's starts is kept for longer, and is of the only place there is.
                start: if only && start.count > 0.0 { Some(start) } else { start_of(&standing) },
                start_within_s: standing.start_within_s,
                pace_s: standing.starts_a_minute.map_or(0.0, |starts| 60.0 / f64::from(starts)),
                other_gpu: !gpu.is_empty() && !standing.gpu.is_empty() && gpu_model(gpu) != standing.gpu,
                name: Some(standing.pool),
            })
            .collect();
        if pools.is_empty() {
            let (workers_max, start) = (u32::MAX, Some(start));
            let (price, other_gpu) = (price(None), false);
            pools.push(InPool { name: None, workers_max, price, start, start_within_s: 0.0, pace_s: 0.0, other_gpu });
        }
        Ok(Known {
            scale,
            workers_max: spec.scaling.max.max(1),
            // At most, where the farm chooses.
            linger_s: spec.scaling.linger.map_or(LINGER_UNASKED_MAX, |linger| linger.0).as_secs_f64(),
            pools,
            measured,
        })
    }

    fn basis(&self, Measured { figures, last_at, .. }: &Measured, tasks: u32) -> Basis {
        Basis {
            tasks: whole(figures.task.count),
            runs: whole(figures.run.count),
            last_at: *last_at,
            scaled: (self.scale - 1.0).abs() > f64::EPSILON,
            task_ms: ms(figures.task_range(tasks, self.scale)),
        }
    }

    fn forecast(&self, figures: &Figures, tasks: u32, workers: u32, pool: &InPool) -> Taken {
        let start = pool.start.unwrap_or_default();
        let plan = Plan { figures, start, scale: self.scale, tasks, linger_s: self.linger_s };
        let workers = workers.min(self.workers_max).min(pool.workers_max);
        let Forecast { mut time_s, mut paid_s } = plan.with(workers);
        let started = f64::from(workers.min(tasks).max(1));
        let start_most_s = if pool.start.is_none() { pool.start_within_s } else { 0.0 };
        time_s.high += start_most_s + (started - 1.0) * pool.pace_s;
        paid_s.high += started * start_most_s;
        let cost = pool.price.map(|price| {
            let a_second = price.micros as f64 / 3600.0;
            (price.currency, Range { low: paid_s.low * a_second, high: paid_s.high * a_second })
        });
        Taken { time_s, cost }
    }

    fn in_pool(&self, name: &Name) -> Option<&InPool> {
        self.pools.iter().find(|pool| pool.name.as_ref() == Some(name))
    }

    /// From the best case of all pools to the worst. A price that is not known of one is known of none, and so is one in several
    /// currencies.
    fn anywhere(&self, figures: &Figures, tasks: u32, workers: u32) -> Taken {
        let mut each = self.pools.iter().map(|pool| self.forecast(figures, tasks, workers, pool));
        let first = each.next().expect("there is one at least");
        each.fold(first, |all, other| Taken {
            time_s: all.time_s.or(other.time_s),
            cost: all.cost.zip(other.cost).and_then(|((currency, all), (other_currency, other))| {
                (currency == other_currency).then(|| (currency, all.or(other)))
            }),
        })
    }
}

/// Of the same number of pixels, else of the nearest; only of what has finished tasks.
fn nearest(measured: Vec<Measured>, pixels: u64) -> Option<Measured> {
    let comparable = |other: u64| other == pixels || (other > 0 && pixels > 0);
    let good = measured.into_iter().filter(|found| found.figures.task.count > 0.0 && comparable(found.pixels));
    good.min_by_key(|found| found.pixels.abs_diff(pixels))
}

fn factor(pixels: u64, measured: u64) -> f64 {
    if pixels == measured { 1.0 } else { pixels as f64 / measured as f64 }
}

fn start_of(standing: &PoolScaling) -> Option<Spread> {
    let (mean, deviation) = (standing.start_mean_s?, standing.start_deviation_s?);
    let count = f64::from(standing.starts_known);
    Some(Spread { count, sum: count * mean, squares: count * (deviation * deviation + mean * mean) })
}

/// Wherever they may be, and in each pool if there are several.
fn options(job: &Job, known: &[Known], counts: &[u32]) -> Vec<OptionEstimate> {
    let mut options: Vec<OptionEstimate> = counts.iter().map(|workers| option(job, known, *workers, None)).collect();
    let mut pools: Vec<&Name> = Vec::new();
    for pool in known.iter().flat_map(|step| &step.pools).filter_map(|pool| pool.name.as_ref()) {
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    }
    for pool in pools.iter().filter(|_| pools.len() > 1) {
        let in_it = known.iter().filter_map(|step| Some(step.workers_max.min(step.in_pool(pool)?.workers_max)));
        let most = in_it.max().unwrap_or(1);
        let mut fit: Vec<u32> = counts.iter().map(|workers| (*workers).min(most)).collect();
        fit.dedup();
        options.extend(fit.into_iter().map(|workers| option(job, known, workers, Some(pool))));
    }
    options
}

fn option(job: &Job, known: &[Known], workers: u32, pool: Option<&Name>) -> OptionEstimate {
    // Steps wait for each other: the last to end is the end of the job. At worst they take turns.
    let mut ends: Vec<Range> = vec![Range::default(); job.steps.len()];
    let (mut low, mut high) = (0.0_f64, 0.0);
    let mut cost: BTreeMap<Currency, Range> = BTreeMap::new();
    let (mut unknown_prices, mut elsewhere, mut other_gpu) = (Vec::new(), Vec::new(), Vec::new());
    let mut start_unknown = false;
    for at in order(job) {
        let (step, known) = (&job.steps[at], &known[at]);
        let begin = step.after.iter().map(|before| ends[*before].low).fold(0.0, f64::max);
        ends[at].low = begin;
        let Some(measured) = &known.measured else { continue };
        let (figures, tasks) = (&measured.figures, step.frames.len());
        let taken = match pool.map(|pool| known.in_pool(pool)) {
            Some(Some(pool)) => {
                start_unknown |= pool.start.is_none();
                other_gpu.extend(pool.other_gpu.then(|| step.name.clone()));
                known.forecast(figures, tasks, workers, pool)
            }
            Some(None) => {
                elsewhere.push(step.name.clone());
                known.anywhere(figures, tasks, workers)
            }
            None => known.anywhere(figures, tasks, workers),
        };
        ends[at].low = begin + taken.time_s.low;
        low = low.max(ends[at].low);
        high += taken.time_s.high;
        match taken.cost {
            Some((currency, paid)) => {
                let sum = cost.entry(currency).or_default();
                *sum = sum.and(paid);
            }
            None => unknown_prices.push(step.name.clone()),
        }
    }
    let cost = cost.into_iter().map(|(currency, paid)| money(paid, currency));
    let time_ms = ms(Range { low, high });
    let (pool, cost) = (pool.cloned(), cost.collect());
    OptionEstimate { pool, workers, elsewhere, other_gpu, start_unknown, time_ms, cost, unknown_prices }
}

/// Each step after those that it waits for.
fn order(job: &Job) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(job.steps.len());
    while order.len() < job.steps.len() {
        let ready =
            |at: &usize| !order.contains(at) && job.steps[*at].after.iter().all(|before| order.contains(before));
        let next: Vec<usize> = (0..job.steps.len()).filter(ready).collect();
        if next.is_empty() {
            break; // A checked job has no cycles.
        }
        order.extend(next);
    }
    order
}

async fn outputs(app: &App, job: &Job, known: &[Known]) -> Answer<Option<OutputsEstimate>> {
    let mut bytes = Range::default();
    for (step, known) in job.steps.iter().zip(known) {
        if let Some(measured) = known.measured.as_ref().filter(|_| step.output.is_some()) {
            bytes = bytes.and(measured.figures.bytes_range(step.frames.len(), known.scale));
        }
    }
    if bytes.high <= 0.0 {
        return Ok(None);
    }
    let today = Day::of(Timestamp::now());
    let cost = |a_gb: Option<Money>| {
        a_gb.map(|a_gb| {
            let micros = |bytes: f64| bytes / GB * a_gb.micros as f64;
            money(Range { low: micros(bytes.low), high: micros(bytes.high) }, a_gb.currency)
        })
    };
    Ok(Some(OutputsEstimate {
        low_bytes: whole(bytes.low),
        high_bytes: whole(bytes.high.ceil()),
        storage_a_month: cost(app.reader.price_of_outputs(&PaidFor::Storage, today).await?),
        egress: cost(app.reader.price_of_outputs(&PaidFor::Egress, today).await?),
    }))
}

fn ms(seconds: Range) -> MsRange {
    MsRange { low: whole((seconds.low * 1000.0).floor()), high: whole((seconds.high * 1000.0).ceil()) }
}

fn money(micros: Range, currency: Currency) -> MoneyRange {
    let of = |micros: f64| Money { micros: i64::try_from(whole(micros)).unwrap_or(i64::MAX), currency };
    MoneyRange { low: of(micros.low.floor()), high: of(micros.high.ceil()) }
}

/// As much of it as a number holds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // What is too large or below 0 is cut.
fn whole(number: f64) -> u64 {
    number.round() as u64
}
