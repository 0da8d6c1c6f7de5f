//! What every request passes.

use super::super::shares::{Class, LOOKS_MAX, PARTS, Pass, Peer, STREAMS_MAX};
use super::super::{answering, guarded, named_router};
use super::*;
use axum::routing::get;
use std::net::IpAddr;

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems() {
    let farm = Farm::start().await;
    assert!(farm.get("/v1/job").await.problem(404, "not-found").detail.contains("`/v1/job`"));
    assert!(farm.get("/nothing").await.problem(404, "not-found").hint.is_some());
    let reply = farm.send(Request::delete("/v1/jobs").body(Body::empty()).expect("a request")).await;
    reply.problem(405, "method-not-allowed");
    let allowed = reply.headers["allow"].to_str().expect("ASCII");
    assert!(allowed.contains("GET") && allowed.contains("POST") && !allowed.contains("DELETE"), "{allowed}");
    farm.get("/v1/jobs/%ff").await.problem(400, "invalid-query");
    farm.get("/v1/jobs/x").await.problem(404, "not-found");
    farm.get("/v1/jobs?lmit=3").await.problem(400, "invalid-query");
    for limit in ["0", "1001", "-1", "x"] {
        farm.get(&format!("/v1/jobs?limit={limit}")).await.problem(400, "invalid-query");
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_if_it_can_stand_in_a_log() {
    let farm = Farm::start().await;
    let ask = |id: &'static str| {
        farm.send(Request::get("/v1/jobs/x").header("x-request-id", id).body(Body::empty()).expect("a request"))
    };
    assert_eq!(ask("abc-1.2:3").await.problem(404, "not-found").request_id, "abc-1.2:3");
    for bad in ["a b", "\u{e4}", "", "{x}"] {
        let reply = farm
            .send(Request::get("/v1/jobs/x").header("x-request-id", bad).body(Body::empty()).expect("a request"))
            .await;
        assert_eq!(reply.problem(404, "not-found").request_id.len(), 26, "{bad}");
    }
    assert!(farm.get("/healthz").await.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_panic_is_a_problem_and_says_nothing_of_its_inside() {
    let farm = Farm::start().await;
    let broken = answering(&farm.app).route("/broken", get(async || -> String { panic!("the secret is 42") }));
    let response =
        guarded(broken, farm.app.clone()).oneshot(Request::get("/broken").body(Body::empty()).expect("a request"));
    let response = response.await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body").to_vec();
    let reply = Reply { status: parts.status, headers: parts.headers, body };
    reply.problem(500, "internal");
    assert!(!reply.text().contains("42"), "{}", reply.text());
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let farm = Farm::start().await;
    let cancel = |name: &'static str, value: &'static str| {
        let request = Request::post("/v1/jobs/01M7YBHVZ6VMB2M2E9ZN8GY9D6/cancel").header("host", "localhost:7700");
        farm.send(request.header(name, value).body(Body::empty()).expect("a request"))
    };
    cancel("origin", "https://evil.example").await.problem(403, "cross-origin");
    cancel("sec-fetch-site", "cross-site").await.problem(403, "cross-origin");
    cancel("origin", "http://localhost:7700").await.problem(404, "not-found");
    cancel("x-none", "x").await.problem(404, "not-found");
    let local = named_router(farm.app.clone());
    let ask = async |host: &str| {
        let request = Request::get("/v1/jobs").header("host", host).body(Body::empty()).expect("a request");
        local.clone().oneshot(request).await.expect("an answer").status()
    };
    assert_eq!(ask("evil.example:7700").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("127.0.0.1:7700").await, StatusCode::OK);
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let farm = Farm::start().await;
    let held = hold(&farm, Class::Look, LOOKS_MAX, 2);
    let from = async |client: u8| {
        let mut request = Request::get("/v1/jobs").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Peer::from(IpAddr::from([10, 0, 0, client])));
        farm.send(request).await
    };
    let mine = from(0).await;
    assert!(mine.problem(429, "too-many").hint.is_some());
    assert_eq!(mine.headers["retry-after"], "1");
    let anyones = from(9).await;
    anyones.problem(503, "busy");
    assert_eq!(anyones.headers["retry-after"], "1");
    assert_eq!(farm.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(farm.get("/metrics").await.status, StatusCode::OK);
    assert_eq!(farm.post("/v1/jobs", &job("others-look", 1)).await.status, StatusCode::CREATED);
    drop(held);
    assert_eq!(from(0).await.status, StatusCode::OK);
}

#[tokio::test]
async fn streams_past_a_clients_share_are_told_to_come_back() {
    let farm = Farm::start().await;
    let held = hold(&farm, Class::Stream, STREAMS_MAX, 2);
    let reply = farm.get("/v1/events").await;
    reply.problem(503, "busy");
    assert_eq!(reply.headers["retry-after"], "1");
    drop(held);
    let id = farm.submit(&job("followed", 1)).await;
    farm.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(farm.get(&format!("/v1/jobs/{id}/events")).await.status, StatusCode::OK);
}

/// Fills a class with what so many clients do at once.
fn hold(farm: &Farm, class: Class, max: usize, clients: u8) -> Vec<Pass> {
    let peers = (0..clients).map(|client| Peer::from(IpAddr::from([10, 0, 0, client])));
    peers.flat_map(|peer| (0..max / PARTS).map(move |_| farm.app.shares.enter(class, peer).expect("room"))).collect()
}

#[tokio::test]
async fn readiness_names_the_part_that_is_not_well() {
    let farm = Farm::start().await;
    let reply = farm.get("/readyz").await;
    // Nothing counts waiting reports here, as without NATS.
    let parts = &reply.json::<Value>()["parts"];
    assert_eq!(
        (parts["objects"].as_str(), parts["engine"].as_str(), parts["database"].as_str()),
        (Some(""), Some(""), Some(""))
    );
    let objects = farm.folder.path().join("objects");
    std::fs::remove_dir_all(&objects).expect("removed");
    std::fs::write(&objects, "in the way").expect("written");
    let reply = farm.restarted().get("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        reply.json::<Value>()["parts"]["objects"].as_str().is_some_and(|said| said.contains("does not take objects")),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_address() {
    let farm = Farm::start().await;
    for at in 0..5 {
        farm.get(&format!("/v1/jobs/{at}")).await;
        farm.get(&format!("/{at}")).await;
    }
    let text = farm.get("/metrics").await.text();
    let count =
        |route: &str| format!("framewake_request_seconds_count{{method=\"GET\",route=\"{route}\",status=\"404\"}} 5");
    assert!(text.contains(&count("/v1/jobs/{id}")) && text.contains(&count("unknown")), "{text}");
    assert!(text.contains("framewake_problems_total{code=\"not-found\"} 10"), "{text}");
}
