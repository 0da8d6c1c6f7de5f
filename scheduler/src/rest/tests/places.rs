//! Machines and GPUs, listed and brought back.

use super::access::{OTHER, OWN, of_project, token};
use super::*;
use framewake_core::event::GpuWord;
use framewake_core::values::Place;
use framewake_proto::access::Role;
use framewake_proto::api::{Explanation, JobState, Page, PlaceState, PlaceView};
use framewake_proto::overview::OverviewView;

/// Plays workers that speak from these places.
async fn seen(farm: &Farm, places: &[&str]) {
    for (number, place) in places.iter().enumerate() {
        seen_as(farm, &format!("w{number}"), place).await;
    }
}

async fn seen_as(farm: &Farm, worker: &str, place: &str) {
    let seen = Event::WorkerSeen {
        gpu: String::new(),
        request: RequestId(0),
        worker: worker.parse().expect("a name"),
        function: "paint@1".parse().expect("a key"),
        holds: None,
        draining: false,
        places: vec![Place::new(place)],
        progress: None,
    };
    assert!(farm.handle.tell(Message::Happened(seen)).await);
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

#[tokio::test]
async fn why_a_job_waits_names_its_steps_and_tells_one_project_nothing_of_what_failed_for_others() {
    let (root, roots) = token("root", Role::Viewer, None);
    let (jane, hers) = token("jane", Role::Viewer, Some(OWN));
    let farm = Farm::start().await;
    let theirs = farm.submit(&of_project(job("theirs", 1), OTHER)).await;
    // Another project's frame ends a GPU.
    let gpu = "node1/GPU-5c";
    farm.claim(1).await;
    farm.wait(theirs, |job| job.state == JobState::Running).await;
    seen_as(&farm, "w1", gpu).await;
    let word = GpuWord::Broke { uuid: "GPU-5c".to_owned(), reason: "fallen off the bus".to_owned() };
    farm.report(1, Vec::new(), vec![TaskFailure { gpu: word, ..failed(0, Verdict::RetryElsewhere) }]).await;
    let mut ours = of_project(job("ours", 1), OWN);
    let comp = json!({"name": "comp", "function": "paint", "frames": "1", "output": "c.png", "after": ["render"]});
    ours["steps"].as_array_mut().expect("steps").push(comp);
    let id = farm.submit(&ours).await;
    let farm = farm.guarded(vec![root, jane]).await;
    let told = |of: Explanation| of.steps.into_iter().map(|step| step.reasons.join("\n")).collect::<Vec<_>>();
    let path = format!("/v1/jobs/{id}/explain");
    let all = told(farm.read_as(&roots, &path).await);
    assert!(all[0].contains(&format!("set aside: {gpu}")) && all[0].contains("fallen off the bus"), "{all:?}");
    assert_eq!(all[1], "dependency: step `render` is not done yet");
    let own = told(farm.read_as(&hers, &path).await);
    assert!(own[0].contains(&format!("set aside: {gpu}")) && !own[0].contains("fallen off"), "{own:?}");
    assert_eq!(own[1], all[1]);
    for (secret, hears) in [(&roots, true), (&hers, false)] {
        let view: OverviewView = farm.read_as(secret, "/v1/overview").await;
        let job = view.waiting.into_iter().find(|job| job.id == id).expect("it waits");
        let said = job.reasons.join("\n");
        assert!(said.contains("set aside") && said.contains("fallen off") == hears, "{said}");
    }
}
