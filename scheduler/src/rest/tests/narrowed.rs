//! Machines are everybody's, and what they are at is not: workers of two projects, looked at by somebody of one.

use super::access::{OWN, of_project, schedule, token};
use super::*;
use framewake_proto::access::Role;
use framewake_proto::notify::Secret;
use framewake_proto::wire;

/// A project whose words are not those of anything else.
const RIVALS: &str = "rivals";
const NOTE: &str = "vault.exr at sample 7";
const REASON: &str = "fallen off the bus";

/// Plays a worker that speaks, and says what it is at.
async fn beats(farm: &Farm, worker: &str, chunk: u64, note: &str) {
    let progress = wire::TaskProgress { note: note.to_owned(), permille: 500, ..wire::TaskProgress::default() };
    let heartbeat = wire::Heartbeat {
        worker: worker.to_owned(),
        function: "paint".to_owned(),
        function_version: 1,
        chunk,
        attempt: u32::from(chunk > 0),
        progress: (chunk > 0).then_some(progress),
        ..wire::Heartbeat::default()
    };
    assert!(farm.handle.tell(Message::Beat { heartbeat, reply: format!("to-{worker}") }).await);
}

/// A job of a project, whose only chunk a worker of its own is at.
async fn at_work(farm: &Farm, project: &str, name: &str, chunk: u64, note: &str) -> JobId {
    let id = farm.submit(&of_project(job(name, 1), project)).await;
    let worker = format!("{project}-{chunk}");
    beats(farm, &worker, 0, "").await;
    let worker: Name = worker.parse().expect("a name");
    let claimed = Event::AttemptClaimed { request: RequestId(0), worker: worker.clone(), attempt: attempt(chunk) };
    assert!(farm.handle.tell(Message::Happened(claimed)).await);
    farm.wait(id, |job| job.state == framewake_proto::api::JobState::Running).await;
    beats(farm, worker.as_str(), chunk, note).await;
    id
}

#[tokio::test]
async fn what_workers_of_two_projects_are_at_is_told_to_their_own() {
    let (root, all) = token("root", Role::Viewer, None);
    let (jane, own) = token("jane", Role::Viewer, Some(OWN));
    let farm = Farm::start().await;
    // Where workers take a while to come, they are called for schedules before these are due.
    let cloud = PoolRules { name: "cloud".parse().expect("a name"), here: false, ..PoolRules::local(4) };
    let pools = Event::PoolsSet { pools: vec![cloud], unfit: BTreeMap::new() };
    assert!(farm.handle.tell(Message::Happened(pools)).await);
    let theirs = at_work(&farm, RIVALS, "heist", 1, NOTE).await;
    let ours = at_work(&farm, OWN, "shot", 2, "wood.exr").await;
    // A frame of theirs ends a GPU, and more of theirs calls for workers.
    at_work(&farm, RIVALS, "loot", 3, NOTE).await;
    let seen = Event::WorkerSeen {
        gpu: String::new(),
        request: RequestId(0),
        worker: "rivals-3".parse().expect("a name"),
        function: "paint@1".parse().expect("a key"),
        holds: None,
        draining: false,
        places: vec![framewake_core::values::Place::new("node1/GPU-5c")],
        progress: None,
    };
    assert!(farm.handle.tell(Message::Happened(seen)).await);
    let gpu = GpuWord::Broke { uuid: "GPU-5c".to_owned(), reason: REASON.to_owned() };
    let report = Report {
        failed: vec![TaskFailure { gpu, ..failed(0, Verdict::RetryElsewhere) }],
        end: Some(AttemptEnd::Finished),
        ..Report::default()
    };
    let worker = "rivals-3".parse().expect("a name");
    let reported = Event::AttemptReported { worker, attempt: attempt(3), report };
    assert!(farm.handle.tell(Message::Happened(reported)).await);
    farm.submit(&of_project(job("getaway", 5000), RIVALS)).await;
    let nightly = schedule("heist-nightly", RIVALS);
    assert_eq!(farm.post("/v1/schedules", &nightly).await.status, StatusCode::CREATED);
    let farm = farm.guarded(vec![root, jane]).await;

    let look = async |secret: &Secret, path: &str| {
        let reply = farm.as_who(secret, "GET", path, None).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.text()
    };
    let (theirs, ours) = (theirs.to_string(), ours.to_string());
    let scaling = "/v1/functions/paint/scaling";
    // What is there to be told, and to whom it is.
    for (path, word) in [
        ("/v1/workers", theirs.as_str()),
        ("/v1/workers", NOTE),
        ("/v1/places", REASON),
        (scaling, "heist-nightly"),
        ("/v1/overview", "getaway"),
    ] {
        let told = look(&all, path).await;
        assert!(told.contains(word), "{path} lacks `{word}`: {told}");
    }
    for path in
        ["/v1/workers", "/v1/places", scaling, "/v1/overview", "/v1/functions", "/v1/functions/paint", "/v1/gpus"]
    {
        let told = look(&own, path).await;
        for word in [theirs.as_str(), NOTE, REASON, "heist", "loot", "getaway"] {
            assert!(!told.contains(word), "{path} tells of `{word}`: {told}");
        }
    }
    let start = look(&own, "/v1/workers/rivals-1/start").await;
    assert!(!start.contains(&theirs) && !start.contains(NOTE), "{start}");
    // The machines are there all the same, and so is what one's own are at.
    let workers: Value = serde_json::from_str(&look(&own, "/v1/workers").await).expect("JSON");
    let workers = workers["items"].as_array().expect("a list");
    let of = |name: &str| workers.iter().find(|worker| worker["id"] == name).expect("machines are everybody's").clone();
    assert_eq!((of("film-2")["job"].as_str(), of("film-2")["note"].as_str()), (Some(ours.as_str()), Some("wood.exr")));
    assert_eq!((of("rivals-1")["state"].as_str(), of("rivals-1")["job"].as_str()), (Some("busy"), None));
    assert!(of("rivals-1")["attempt"].is_null() && of("rivals-1")["permille"].as_u64().unwrap_or(0) == 0);
}
