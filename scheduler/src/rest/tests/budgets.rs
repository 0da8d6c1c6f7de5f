//! What jobs and projects may cost, and what a job is thought to cost before it is submitted.

use super::*;
use framewake_proto::api::{AttemptView, JobState, Page};
use framewake_proto::budget::{BudgetView, Standing};
use framewake_proto::estimate::EstimateView;
use framewake_proto::notify::TargetView;

fn put(path: &str, body: &Value) -> Request<Body> {
    json_request("PUT", path, body)
}

/// A farm where milliseconds cost something, and in which somebody wants to hear of budgets.
async fn farm() -> Farm {
    let farm = Farm::start().await;
    let reply = farm.send(put("/v1/paid-by/function:paint", &json!({ "own": "100000000 USD" }))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let target = json!({ "name": "bus", "on": ["budget"], "way": { "kind": "nats" } });
    assert_eq!(farm.post("/v1/notifications/targets", &target).await.status, StatusCode::CREATED);
    farm
}

/// One that is done, of so many frames, whose chunks come after `chunk`.
async fn done_job(farm: &Farm, frames: u32, chunk: u64) -> JobId {
    let id = farm.submit(&super::job("a job", frames)).await;
    farm.claim(chunk).await;
    farm.wait(id, |job| job.state == JobState::Running).await;
    farm.report(chunk, (0..frames).map(|task| done(task, &format!("{id}/{task}"), b"x")).collect(), Vec::new()).await;
    farm.wait(id, |job| job.state.is_over()).await;
    id
}

async fn budget(farm: &Farm, period: &str, body: Value) -> BudgetView {
    let reply = farm.send(put(&format!("/v1/budgets/default/{period}"), &body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()
}

async fn told(farm: &Farm) -> u64 {
    farm.read::<TargetView>("/v1/notifications/targets/bus").await.waiting
}

#[tokio::test]
async fn a_project_is_held_below_what_it_spent_and_goes_on_with_more() {
    let farm = farm().await;
    done_job(&farm, 3, 1).await;
    let view = budget(&farm, "month", json!({ "limit": "0.000001USD" })).await;
    assert!(view.held && view.standing == Standing::UsedUp && view.spent.micros > 1, "{view:?}");
    assert!(view.month.is_some() && view.budget.warn_percent == 80 && view.warnings.len() == 1, "{view:?}");
    assert_eq!(told(&farm).await, 1, "people are told at once");
    let waits = farm.submit(&super::job("waits", 3)).await;
    let why = farm.get(&format!("/v1/jobs/{waits}/explain")).await.text();
    assert!(
        why.contains("held by the budget of project default: ") && why.contains("of 0.000001 USD is spent this month"),
        "{why}"
    );
    let view =
        budget(&farm, "month", json!({ "limit": "1000000000USD", "at_limit": "finish", "warn_percent": 1 })).await;
    assert!(!view.held && view.warnings.is_empty(), "{view:?}");
    budget(&farm, "total", json!({ "limit": "5USD", "at_limit": "warn" })).await;
    let page: Page<BudgetView> = farm.read("/v1/budgets?limit=1").await;
    let (first, next) = (page.items[0].clone(), page.next.expect("two"));
    assert_eq!(first.period.as_str(), "month");
    let page: Page<BudgetView> = farm.read(&format!("/v1/budgets?cursor={next}")).await;
    assert!(
        page.next.is_none() && page.items[0].period.as_str() == "total" && page.items[0].month.is_none(),
        "{page:?}"
    );
    assert!(!page.items[0].held, "a warning holds nothing");
    let text = farm.get("/metrics").await.text();
    for line in [
        "framewake_budget_limit_micros{currency=\"USD\",period=\"month\",project=\"default\"} 1000000000000000",
        "framewake_budget_held{period=\"total\",project=\"default\"} 0",
    ] {
        assert!(text.contains(line), "{line}");
    }
    for period in ["month", "total"] {
        let gone = json_request("DELETE", &format!("/v1/budgets/default/{period}"), &json!(null));
        assert_eq!(farm.send(gone).await.status, StatusCode::NO_CONTENT);
    }
    assert!(!farm.get("/metrics").await.text().contains("framewake_budget_held{"), "no budget, no series");
    done_job_of(&farm, waits, 2).await;
}

/// A job that waits, played to its end. Its chunk has `first` or one of the next numbers: offers that were taken back
/// have used some up, and a claim of those is refused.
async fn done_job_of(farm: &Farm, id: JobId, first: u64) {
    for chunk in first..first + 8 {
        farm.claim(chunk).await;
    }
    farm.wait(id, |job| job.state == JobState::Running).await;
    let attempts: Page<AttemptView> = farm.read(&format!("/v1/jobs/{id}/attempts")).await;
    let chunk = attempts.items[0].attempt.split('.').next().and_then(|chunk| chunk.parse().ok()).expect("a number");
    farm.report(chunk, (0..3).map(|task| done(task, &format!("{id}/{task}"), b"x")).collect(), Vec::new()).await;
    farm.wait(id, |job| job.state == JobState::Succeeded).await;
}

#[tokio::test]
async fn bad_budgets_are_refused_with_the_reason() {
    let farm = farm().await;
    let send = async |path: &str, body: Value| farm.send(put(path, &body)).await;
    let month = "/v1/budgets/film/month";
    send(month, json!({ "limit": "-1USD" })).await.problem(400, "invalid-body");
    send(month, json!({ "limit": "5" })).await.problem(400, "invalid-body");
    send(month, json!({ "limit": "0USD" })).await.problem(422, "invalid-body");
    let other = send(month, json!({ "limit": "5EUR" })).await.problem(422, "invalid-body");
    assert!(
        other.faults[0].reason.contains("nothing is paid in EUR") && other.faults[0].reason.contains("USD"),
        "{other:?}"
    );
    for percent in [0, 101] {
        send(month, json!({ "limit": "5USD", "warn_percent": percent })).await.problem(422, "invalid-body");
    }
    send("/v1/budgets/film/week", json!({ "limit": "5USD" })).await.problem(404, "not-found");
    let gone = json_request("DELETE", month, &json!(null));
    farm.send(gone).await.problem(404, "not-found");
    farm.get("/v1/budgets?cursor=x").await.problem(400, "invalid-query");
    let none: Page<BudgetView> = farm.read("/v1/budgets").await;
    assert!(none.items.is_empty(), "nothing was stored: {none:?}");
}

#[tokio::test]
async fn a_job_gets_another_budget_while_it_is_not_over() {
    let farm = farm().await;
    let id = farm.submit(&super::job("a job", 3)).await;
    let path = format!("/v1/jobs/{id}/budget");
    let set = async |budget: Value| farm.send(put(&path, &json!({ "budget": budget }))).await;
    // One frame tells how long they take; it may go out.
    assert_eq!(set(json!({ "limit": "0.01USD" })).await.status, StatusCode::OK);
    let spec: Value = farm.read(&format!("/v1/jobs/{id}/spec")).await;
    assert_eq!(spec["budget"], json!({ "limit": "0.01 USD", "at_limit": "hold" }));
    set(json!({ "limit": "0USD" })).await.problem(422, "invalid-body");
    set(json!({ "limit": "5EUR" })).await;
    assert_eq!(farm.job(id).await.state, JobState::Paused, "nothing is paid in EUR");
    assert_eq!(set(Value::Null).await.json::<JobView>().state, JobState::Queued, "nothing holds it any more");
    let spec: Value = farm.read(&format!("/v1/jobs/{id}/spec")).await;
    assert!(spec.get("budget").is_none(), "{spec}");
    farm.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    set(json!({ "limit": "5USD" })).await.problem(409, "wrong-state");
    let nobody = put("/v1/jobs/00000000000000000000000001/budget", &json!({}));
    farm.send(nobody).await.problem(404, "not-found");
}

#[tokio::test]
async fn what_was_measured_of_a_scene_is_the_estimate_of_the_next_job() {
    let farm = farm().await;
    let ask = async |job: &Value| farm.post("/v1/estimates?workers=1,3", job).await.json::<EstimateView>();
    let job = super::job("another name", 50);
    let before = ask(&job).await;
    assert_eq!((before.tasks, before.unknown_steps.len(), before.steps[0].basis.clone()), (50, 1, None));
    assert!(before.options.iter().all(|option| option.cost.is_empty() && option.time_ms.high == 0), "{before:?}");
    done_job(&farm, 3, 1).await;
    let view = ask(&job).await;
    let basis = view.steps[0].basis.clone().expect("known");
    assert_eq!((basis.tasks, basis.runs, basis.scaled, view.unknown_steps.len()), (3, 1, false, 0));
    let [one, three] = view.options.as_slice() else { panic!("{view:?}") };
    assert_eq!((one.workers, three.workers), (1, 3));
    // Fifty frames of 7 ms.
    assert!(one.time_ms.low <= 350 && one.time_ms.high >= 350 && three.time_ms.low < one.time_ms.low, "{view:?}");
    assert!(one.cost[0].low.micros > 0 && one.cost[0].low.micros < one.cost[0].high.micros, "{view:?}");
    assert_eq!(view.outputs.map(|outputs| outputs.low_bytes <= 50 && outputs.high_bytes >= 50), Some(true));
    let mut other = job.clone();
    other["steps"][0]["parameters"] = json!({ "samples": 9 });
    assert_eq!(ask(&other).await.unknown_steps.len(), 1, "another scene");
    assert_eq!(farm.jobs().await, 1, "an estimate stores nothing");
    other["steps"][0]["parameters"] = json!({ "samples": 0 });
    let estimated = farm.post("/v1/estimates", &other).await.problem(422, "invalid-body");
    assert_eq!(estimated.faults, farm.post("/v1/jobs", &other).await.problem(422, "invalid-body").faults);
    for workers in ["0", "1,x", "99999999", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"] {
        farm.post(&format!("/v1/estimates?workers={workers}"), &job).await.problem(400, "invalid-query");
    }
}
