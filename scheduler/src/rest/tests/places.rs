//! Machines and GPUs, listed and brought back.

use super::*;
use framewake_core::values::Place;
use framewake_proto::api::{Page, PlaceState, PlaceView};

/// Plays workers that speak from these places.
async fn seen(farm: &Farm, places: &[&str]) {
    for (number, place) in places.iter().enumerate() {
        let seen = Event::WorkerSeen {
            gpu: String::new(),
            request: RequestId(0),
            worker: format!("w{number}").parse().expect("a name"),
            function: "paint@1".parse().expect("a key"),
            holds: None,
            draining: false,
            places: vec![Place::new(place)],
            progress: None,
        };
        assert!(farm.handle.tell(Message::Happened(seen)).await);
    }
}

#[tokio::test]
async fn places_come_by_name_in_pages_and_by_state() {
    let farm = Farm::start().await;
    seen(&farm, &["node2", "node1/GPU-5c 9a", "node3"]).await;
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<PlaceView> = farm.read(&format!("/v1/places?limit=1{cursor}")).await;
        names.extend(page.items.into_iter().map(|place| (place.name, place.state, place.workers)));
        let Some(next) = page.next else { break };
        cursor = format!("&cursor={}", next.replace('/', "%2F").replace(' ', "%20"));
    }
    let good = |name: &str| (name.to_owned(), PlaceState::Good, 1);
    assert_eq!(names, [good("node1/GPU-5c 9a"), good("node2"), good("node3")]);
    let aside: Page<PlaceView> = farm.read("/v1/places?state=set_aside").await;
    assert_eq!(aside.items, []);
    farm.get("/v1/places?state=broken").await.problem(400, "invalid-query");
}

#[tokio::test]
async fn a_place_is_brought_back_by_its_name_and_a_stranger_is_not() {
    let farm = Farm::start().await;
    seen(&farm, &["node1/GPU-5c 9a"]).await;
    let restore = |name: &str| {
        let request = Request::post(format!("/v1/places/{name}/restore")).body(Body::empty()).expect("a request");
        farm.send(request)
    };
    let reply = restore("node1%2FGPU-5c%209a").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json::<PlaceView>().state, PlaceState::Good);
    restore("node9").await.problem(404, "not-found");
    restore(&"x".repeat(5000)).await.problem(404, "not-found");
}
