//! What is noted of changes: what was there before and after.

use super::access::token;
use super::*;
use framewake_proto::access::{AuditView, Role};
use framewake_proto::api::{JobState, Page};

impl Farm {
    /// The newest note of this action; what was there before and after.
    async fn noted(&self, action: &str) -> [Value; 2] {
        let page: Page<AuditView> = self.read(&format!("/v1/audit?action={action}&limit=1")).await;
        let [note] = &page.items[..] else { panic!("{action}: {page:?}") };
        [&note.before, &note.after].map(|text| serde_json::from_str(text).unwrap_or(Value::Null))
    }

    async fn put(&self, path: &str, body: &Value) {
        let reply = self.send(json_request("PUT", path, body)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    }
}

#[tokio::test]
async fn of_a_jobs_budget_is_noted_what_it_was_and_is() {
    let farm = Farm::start().await;
    let mut bounded = job("bounded", 3);
    bounded["budget"] = json!({"limit": "5USD"});
    let path = format!("/v1/jobs/{}/budget", farm.submit(&bounded).await);
    for (budget, was, is) in [
        (json!({"limit": "9USD"}), Some("5.00 USD"), Some("9.00 USD")),
        (Value::Null, Some("9.00 USD"), None),
        (json!({"limit": "2USD"}), None, Some("2.00 USD")),
    ] {
        farm.put(&path, &json!({"budget": budget})).await;
        let limits = farm.noted("job.budget").await.map(|side| side["budget"]["limit"].as_str().map(str::to_owned));
        assert_eq!(limits, [was, is].map(|limit| limit.map(str::to_owned)));
    }
}

#[tokio::test]
async fn of_a_retry_is_noted_which_frames_had_failed_and_which_still_are() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("broken", 8)).await;
    farm.claim(1).await;
    farm.wait(id, |job| job.state == JobState::Running).await;
    let bad = [1, 2, 3, 6];
    let good = (0..8).filter(|task| !bad.contains(task)).map(|task| done(task, &format!("{id}/{task}"), b"x"));
    farm.report(1, good.collect(), Vec::from(bad.map(|task| failed(task, Verdict::SceneError)))).await;
    farm.wait(id, |job| job.state == JobState::Failed).await;
    let path = format!("/v1/jobs/{id}/retry");
    let retried = farm.post(&path, &json!({"step": "render", "frames": "3-7"})).await;
    assert_eq!(retried.status, StatusCode::OK, "{}", retried.text());
    let [before, after] = farm.noted("job.retry").await;
    assert_eq!([&before["failed"], &after["failed"]], [&json!({"render": "2-4,7"}), &json!({"render": "2"})]);
}

#[tokio::test]
async fn of_a_price_and_of_a_function_is_noted_what_counted_until_then() {
    let farm = Farm::start().await;
    farm.put("/v1/paid-by/gpu:L4", &json!({"own": "3USD"})).await;
    assert_eq!(farm.noted("price.pay-by").await[0], Value::Null, "nothing was paid by");
    farm.put("/v1/paid-by/gpu:L4", &json!({"own": "4USD"})).await;
    let prices = farm.noted("price.pay-by").await.map(|side| side["price"]["an_hour"].clone());
    assert_eq!(prices, [json!("3.00 USD"), json!("4.00 USD")]);

    let [before, after] = farm.noted("function.add").await;
    assert_eq!((before, &after["version"]), (Value::Null, &json!(1)));
    let second = json!({"name": "paint", "driver": {"kind": "command", "command": ["other", "{output}"]}});
    assert_eq!(farm.post("/v1/functions", &second).await.status, StatusCode::CREATED);
    let [before, after] = farm.noted("function.add").await;
    let of = |side: &Value| (side["version"].clone(), side["spec"]["driver"]["command"][0].clone());
    assert_eq!([of(&before), of(&after)], [(json!(1), json!("paint")), (json!(2), json!("other"))]);
}

#[tokio::test]
async fn no_token_is_named_as_people_are() {
    let (admin, secret) = token("root", Role::Admin, None);
    let farm = Farm::start().await.guarded(vec![admin]).await;
    for (name, status) in [("oidc-jane", 422), ("oidc-", 422), ("oidc", 201), ("jane-oidc-1", 201)] {
        let made = farm.as_who(&secret, "POST", "/v1/tokens", Some(&json!({"name": name, "role": "viewer"}))).await;
        assert_eq!(made.status.as_u16(), status, "{name}: {}", made.text());
        assert!(status == 201 || made.text().contains("/name"), "{}", made.text());
    }
}

#[tokio::test]
async fn notes_of_what_needs_other_rights_are_in_other_shares() {
    let (admin, secret) = token("root", Role::Admin, None);
    let farm = Farm::start().await.guarded(vec![admin]).await;
    let do_it = async |method: &str, path: &str, body: Value| {
        let reply = farm.as_who(&secret, method, path, Some(&body)).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text());
        reply
    };
    // One of each, and of some two.
    do_it("POST", "/v1/session", json!({"token": secret.reveal()})).await;
    let id = do_it("POST", "/v1/jobs", job("film", 1)).await.json::<Value>()["id"].clone();
    for what in ["pause", "resume"] {
        do_it("POST", &format!("/v1/jobs/{}/{what}", id.as_str().expect("an id")), json!({})).await;
    }
    do_it("PUT", "/v1/projects/film", json!({"weight": 2})).await;
    do_it("PUT", "/v1/paid-by/gpu:L4", json!({"own": "3USD"})).await;
    do_it("POST", "/v1/tokens", json!({"name": "jane", "role": "viewer"})).await;
    let mut database = farm.database().await;
    let shares: Vec<(i64, String)> = sqlx::query_as(
        "SELECT share, group_concat(action, ' ') FROM (SELECT * FROM audit WHERE token <> '' ORDER BY seq)
         GROUP BY share ORDER BY min(seq)",
    )
    .fetch_all(&mut database)
    .await
    .expect("read");
    let together: Vec<&str> = shares.iter().map(|(_, actions)| actions.as_str()).collect();
    assert_eq!(
        together,
        ["session.begin", "job.submit", "job.pause job.resume", "project.weigh price.pay-by", "token.add"]
    );
}
