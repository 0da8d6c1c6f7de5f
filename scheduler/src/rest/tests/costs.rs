//! Prices, and what jobs and days cost by them.

use super::*;
use framewake_proto::cost::{CostsView, JobCostView};
use framewake_proto::estimate::{EstimateView, OptionEstimate};
use framewake_proto::money::Money;
use framewake_proto::price::{PaidByView, PricesAdded};
use framewake_proto::time::{Day, Timestamp};

fn put(path: &str, body: &Value) -> Request<Body> {
    json_request("PUT", path, body)
}

fn sum(amounts: impl Iterator<Item = Money>) -> i64 {
    amounts.map(|money| money.micros).sum()
}

/// A job of three frames that is done, and its cost with all its frames.
async fn cost_of_a_job(farm: &Farm) -> JobCostView {
    let id = farm.submit(&super::job("a job", 3)).await;
    farm.claim(1).await;
    farm.wait(id, |job| job.state == framewake_proto::api::JobState::Running).await;
    let frames = (0..3).map(|task| done(task, &format!("k{task}"), b"x")).collect();
    farm.report(1, frames, Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    farm.read(&format!("/v1/jobs/{id}/cost?frames=1000")).await
}

#[tokio::test]
async fn a_job_costs_what_its_frames_do_and_what_its_causes_do() {
    let farm = Farm::start().await;
    // Dear, so that milliseconds cost something.
    let reply = farm.send(put("/v1/paid-by/function:paint", &json!({ "own": "100000000 USD" }))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let cost = cost_of_a_job(&farm).await;
    let [whole] = cost.paid.cost.as_slice() else { panic!("one currency: {cost:?}") };
    assert!(whole.micros > 0 && cost.paid.unknown_us == 0, "{cost:?}");
    assert_eq!((cost.frames.len(), cost.frames_done), (3, 3));
    assert_eq!(sum(cost.frames.iter().flat_map(|frame| frame.cost.clone())), whole.micros);
    assert_eq!(sum(cost.causes.iter().flat_map(|cause| cause.paid.cost.clone())), whole.micros);
    assert_eq!(cost.causes.iter().map(|cause| cause.paid.time_us).sum::<u64>(), cost.paid.time_us);
    assert_eq!((cost.prices.len(), cost.prices[0].provider.as_str()), (1, "own"));
    let today = Day::of(Timestamp::now());
    let (from, to) = (Day(today.0 - 1), Day(today.0 + 1));
    let days: CostsView = farm.read(&format!("/v1/costs?from={from}&to={to}&by=project,cause")).await;
    assert!(days.rows.iter().any(|row| row.project.as_deref() == Some("default") && row.day.is_none()), "{days:?}");
    assert_eq!(sum(days.rows.iter().flat_map(|row| row.paid.cost.clone())), sum(days.paid.cost.iter().copied()));
    let none: CostsView = farm.read(&format!("/v1/costs?from={from}&to={to}&project=nobody")).await;
    assert_eq!((none.rows.len(), none.paid.time_us), (0, 0));
}

#[tokio::test]
async fn without_a_price_the_time_is_told_and_no_amount() {
    let farm = Farm::start().await;
    let cost = cost_of_a_job(&farm).await;
    assert_eq!((cost.paid.cost.len(), cost.paid.unknown_us), (0, cost.paid.time_us));
    assert!(cost.paid.time_us > 0 && cost.frames.iter().all(|frame| frame.cost.is_empty()), "{cost:?}");
    assert_eq!((cost.stored.size_bytes, cost.stored.storage_a_month), (3, None));
    let set = farm.send(put("/v1/paid-by/storage", &json!({ "own": "0.023USD" }))).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text());
    let again: JobCostView = farm.read(&format!("/v1/jobs/{}/cost", cost.job)).await;
    assert_eq!(again.stored.storage_a_month.map(|money| money.micros), Some(1), "rounded up, not to nothing");
}

#[tokio::test]
async fn what_is_paid_is_told_by_pool_and_by_chunk() {
    let farm = Farm::start().await;
    farm.send(put("/v1/paid-by/pool:spot", &json!({ "own": "300000000 USD" }))).await;
    farm.send(put("/v1/paid-by/any", &json!({ "own": "100000000 USD" }))).await;
    let cost = cost_of_a_job(&farm).await;
    let [pool] = cost.pools.as_slice() else { panic!("one pool: {cost:?}") };
    assert_eq!((pool.pool.as_str(), &pool.paid), ("", &cost.paid), "nobody told where the worker was started");
    assert_eq!(cost.prices[0].an_hour.micros, 100_000_000_000_000, "the price of a pool is not that of an unknown one");
    let chunks: JobCostView = farm.read(&format!("/v1/jobs/{}/cost?chunks=5", cost.job)).await;
    let [chunk] = chunks.chunks.as_slice() else { panic!("one chunk: {chunks:?}") };
    assert_eq!((chunk.frames, &chunk.cost), (3, &cost.paid.cost), "a step's chunks cost what it does");
    let today = Day::of(Timestamp::now());
    let (from, to) = (Day(today.0 - 1), Day(today.0 + 1));
    let days: CostsView = farm.read(&format!("/v1/costs?from={from}&to={to}&by=pool")).await;
    assert_eq!(days.rows.iter().map(|row| row.paid.time_us).sum::<u64>(), days.paid.time_us);
    assert!(days.rows.iter().all(|row| row.pool.is_some() && row.day.is_none()), "{days:?}");
}

#[tokio::test]
async fn an_estimate_tells_each_pool_with_its_price_its_starts_and_its_limits() {
    let farm = Farm::start().await;
    let estimate = async || {
        let view = farm.post("/v1/estimates?workers=1,8", &super::job("a job", 3)).await;
        view.json::<EstimateView>().options
    };
    let told = |options: &[OptionEstimate]| -> Vec<(String, u32)> {
        let name = |option: &OptionEstimate| option.pool.as_ref().map_or_else(String::new, ToString::to_string);
        options.iter().map(|option| (name(option), option.workers)).collect()
    };
    cost_of_a_job(&farm).await;
    assert_eq!(told(&estimate().await), [(String::new(), 1), (String::new(), 8)], "there is one pool");
    let spot = PoolRules {
        name: "spot".parse().expect("a good name"),
        market: framewake_proto::price::Market::Spot,
        start_within: Duration::from_mins(15),
        starts_a_minute: 6,
        here: false,
        ..PoolRules::local(2)
    };
    let pools = Event::PoolsSet { pools: vec![PoolRules::local(4), spot], unfit: BTreeMap::new() };
    assert!(farm.handle.tell(Message::Happened(pools)).await);
    farm.send(put("/v1/paid-by/pool:spot", &json!({ "own": "36 USD" }))).await;
    let options = estimate().await;
    let pools = ["", "", "spot", "spot", "local", "local"].map(ToOwned::to_owned);
    assert_eq!(
        told(&options),
        pools.into_iter().zip([1, 8, 1, 2, 1, 4]).collect::<Vec<_>>(),
        "spot first, as many as fit"
    );
    let [any, _, spot_one, spot_two, local, _] = options.as_slice() else { panic!("{options:?}") };
    assert_eq!(spot_one.cost[0].high.currency.as_str(), "USD");
    assert_eq!((local.cost.len(), local.unknown_prices.len()), (0, 1), "unknown, not 0");
    assert_eq!((any.cost.len(), any.unknown_prices.len()), (0, 1), "what is not known of one pool is not known of any");
    assert!(spot_one.start_unknown && spot_one.time_ms.high >= 900_000 && local.time_ms.high < 900_000, "{options:?}");
    assert_eq!(
        (any.time_ms.low, any.time_ms.high),
        (local.time_ms.low.min(spot_one.time_ms.low), spot_one.time_ms.high)
    );
    // The second is asked for ten seconds after the first, and both may be paid for while they start.
    assert!(spot_two.time_ms.high >= 910_000, "{spot_two:?}");
    assert!(spot_two.cost[0].high.micros >= 2 * 900 * 10_000 && spot_one.cost[0].high.micros < 2 * 900 * 10_000);
    farm.send(put("/v1/paid-by/any", &json!({ "own": "72 USD" }))).await;
    let options = estimate().await;
    let cost = |at: usize| options[at].cost[0];
    assert_eq!(cost(0).low, cost(2).low, "the cheaper pool");
    assert!(cost(4).low.micros >= 2 * cost(2).low.micros - 2, "{options:?}");
}

#[tokio::test]
async fn rows_are_added_once_and_paid_by_from_their_day_on() {
    let farm = Farm::start().await;
    let row = json!({ "provider": "gcp", "instance_type": "a2-8", "gpu": "L4", "gpu_count": 8, "market": "spot",
                      "region": "us-central1", "an_hour": "3.1784USD", "as_of": "2026-08-03", "source": "a list" });
    let rows = json!({ "rows": [row, row] });
    assert_eq!(farm.post("/v1/prices", &rows).await.json::<PricesAdded>(), PricesAdded { added: 1, known: 1 });
    let listed: Value = farm.read("/v1/prices?gpu=L4").await;
    assert_eq!(listed["items"][0]["an_hour"], "3.1784 USD");
    let id = listed["items"][0]["id"].clone();
    let used = farm.send(put("/v1/paid-by/gpu:L4", &json!({ "price": id, "since": "2026-08-03" }))).await;
    let used: PaidByView = used.json();
    assert_eq!((used.paid_for.as_str(), used.price.micros_a_worker()), ("gpu:L4", 397_300), "an hour of one GPU");
    let listed: Value = farm.read("/v1/paid-by").await;
    assert_eq!(listed["items"][0]["since"], "2026-08-03");
}

#[tokio::test]
async fn bad_prices_are_refused_with_the_reason() {
    let farm = Farm::start().await;
    let row = |an_hour: &str, as_of: &str| json!({ "rows": [{ "provider": "aws", "market": "spot", "an_hour": an_hour, "as_of": as_of }] });
    for (an_hour, as_of) in
        [("-1USD", "2026-01-01"), ("1", "2026-01-01"), ("1 usd", "2026-01-01"), ("1USD", "2026-02-30")]
    {
        let problem = farm.post("/v1/prices", &row(an_hour, as_of)).await.problem(400, "invalid-body");
        let wrong =
            if as_of == "2026-01-01" { an_hour.trim_end_matches("USD").trim_end_matches(" usd") } else { as_of };
        assert!(problem.detail.contains(wrong) || problem.detail.contains("usd"), "{}", problem.detail);
    }
    farm.post("/v1/prices", &json!({ "rows": [] })).await.problem(422, "invalid-body");
    let set = async |what: &str, body: Value| farm.send(put(&format!("/v1/paid-by/{what}"), &body)).await;
    set("any", json!({})).await.problem(422, "invalid-body");
    set("any", json!({ "own": "-1USD" })).await.problem(400, "invalid-body");
    set("any", json!({ "price": 999 })).await.problem(404, "not-found");
    set("market:a", json!({ "own": "1USD" })).await.problem(404, "not-found");
    farm.get("/v1/costs").await.problem(400, "invalid-query");
    farm.get("/v1/costs?from=2026-01-02&to=2026-01-01").await.problem(400, "invalid-query");
    farm.get("/v1/costs?from=2026-01-02&by=market").await.problem(400, "invalid-query");
    let id = farm.submit(&super::job("a job", 1)).await;
    farm.get(&format!("/v1/jobs/{id}/cost?chunks=1001")).await.problem(400, "invalid-query");
    farm.get("/v1/jobs/00000000000000000000000001/cost").await.problem(404, "not-found");
}
