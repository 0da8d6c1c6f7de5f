//! The farm at a glance: bounded, narrowed to one's project, and made once for all who look.

use super::*;
use framewake_proto::access::Role;
use framewake_proto::api::{JobState, Page, WorkerView};
use framewake_proto::overview::OverviewView;
use framewake_proto::wire;

async fn look(farm: &Farm) -> OverviewView {
    farm.read("/v1/overview").await
}

/// Waits for a view that was made since.
async fn look_until(farm: &Farm, is: impl Fn(&OverviewView) -> bool) -> OverviewView {
    let looked = tokio::time::timeout(PATIENCE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            let view = look(farm).await;
            if is(&view) {
                return view;
            }
            tick.tick().await;
        }
    });
    looked.await.expect("the overview gets there in time")
}

async fn comes(farm: &Farm, name: &str) {
    let seen = Event::WorkerSeen {
        gpu: String::new(),
        request: RequestId(0),
        worker: name.parse().expect("a name"),
        function: "paint@1".parse().expect("a key"),
        holds: None,
        draining: false,
        places: Vec::new(),
        progress: None,
    };
    assert!(farm.handle.tell(Message::Happened(seen)).await);
}

#[tokio::test]
async fn jobs_workers_gpus_and_errors_are_seen_at_a_glance() {
    let farm = Farm::start().await;
    assert_eq!(look(&farm).await.workers.all(), 0);
    let bad = farm.submit(&job("bad", 10)).await;
    farm.claim(1).await;
    farm.report(1, Vec::new(), (0..10).map(|task| failed(task, Verdict::SceneError)).collect()).await;
    farm.wait(bad, |job| job.state.is_over()).await;
    // More than can be offered at once.
    let id = farm.submit(&job("good", 5000)).await;
    farm.claim(2).await;
    farm.wait(id, |job| job.state == JobState::Running).await;
    for worker in 0..3 {
        comes(&farm, &format!("idle-{worker}")).await;
    }
    let sample = |uuid: &str, busy: u32| wire::GpuSample {
        uuid: uuid.to_owned(),
        model: "NVIDIA L4".to_owned(),
        busy_percent: Some(busy),
        memory_used_bytes: Some(1 << 30),
        memory_total_bytes: Some(24 << 30),
        ..wire::GpuSample::default()
    };
    for (worker, chunk, sample) in [("w1", 2, sample("GPU-1", 90)), ("idle-0", 0, sample("GPU-2", 10))] {
        let heartbeat = wire::Heartbeat { chunk, attempt: 1, gpu_samples: vec![sample], ..wire::Heartbeat::default() };
        let (worker, function) = (worker.parse().expect("a name"), "paint@1".parse().expect("a key"));
        farm.app.metrics.gpus.observe(&worker, &function, &heartbeat, framewake_proto::time::Timestamp::now());
    }
    let view = look_until(&farm, |view| view.workers.idle == 3 && view.gpus.len() == 1).await;
    assert_eq!(view.workers.busy, 1);
    let function = &view.functions[0];
    let alone = function.pools.iter().find(|pool| pool.pool.is_none()).expect("they came by themselves");
    assert_eq!((function.function.as_str(), alone.workers.idle, alone.workers.busy), ("paint@1", 3, 1));
    let there: u32 = function.pools.iter().map(|pool| pool.workers.all()).sum();
    assert_eq!((there, view.starting.len()), (view.workers.all(), view.workers.starting as usize));
    assert_eq!((view.running.count, view.running.newest[0].name.as_str()), (1, "good"));
    assert_eq!((view.waiting[0].id, view.waiting[0].tasks), (id, view.running.newest[0].tasks.waiting));
    assert!(!view.waiting[0].reasons.is_empty());
    let listed = async |query: &str| -> Vec<String> {
        let page: Page<WorkerView> = farm.read(&format!("/v1/workers?{query}")).await;
        page.items.iter().map(|worker| worker.id.to_string()).collect()
    };
    assert_eq!(listed("state=idle").await, ["idle-0", "idle-1", "idle-2"]);
    assert_eq!(listed("state=idle&limit=1&cursor=idle-1").await, ["idle-2"]);
    assert_eq!(listed("state=busy&function=paint@1").await, ["w1"]);
    assert_eq!(listed("function=paint@2").await.len() + listed("function=other").await.len(), 0);
    assert_eq!(listed("pool=elsewhere").await.len(), 0);
    farm.get("/v1/workers?state=lazy").await.problem(400, "invalid-query");
    let gpu = &view.gpus[0];
    assert_eq!((gpu.model.as_str(), gpu.count, gpu.working, gpu.busy_percent), ("L4", 2, 1, Some(50)));
    assert_eq!((gpu.memory_used_bytes, gpu.memory_total_bytes), (Some(2 << 30), Some(48 << 30)));
    let error = &view.errors[0];
    assert_eq!((error.job, error.tasks, error.verdict), (bad, 10, Verdict::SceneError));
    assert_eq!((error.step.as_str(), error.message.as_str(), view.errors_more), ("render", "no such texture", false));
    let tries = &view.tries[0];
    assert_eq!((tries.function.as_str(), tries.verdict, tries.tries), ("paint@1", Some(Verdict::SceneError), 10));
    assert_eq!((tries.job, tries.attempt.as_str(), tries.message.as_str()), (bad, "1.1", "no such texture"));
    // Tried again, it is no error any more.
    let retry = Request::post(format!("/v1/jobs/{bad}/retry")).body(Body::empty()).expect("a request");
    assert_eq!(farm.send(retry).await.status, StatusCode::OK);
    let view = look_until(&farm, |view| view.errors.is_empty()).await;
    assert_eq!(view.tries[0].tries, 10, "that it was tried and failed stays true");
}

#[tokio::test]
async fn tries_that_fail_are_told_by_cause_also_while_others_are_made() {
    let farm = Farm::start().await;
    let mut patient = job("patient", 30);
    patient["steps"][0]["retries"] = json!({ "attempts": 5, "backoff": "1h" });
    let id = farm.submit(&patient).await;
    for (chunk, verdict) in [(1, Verdict::RetrySame), (2, Verdict::OutputBad), (3, Verdict::RetrySame)] {
        farm.claim(chunk).await;
        let first = (u32::try_from(chunk).expect("small") - 1) * 10;
        farm.report(chunk, Vec::new(), (first..first + 10).map(|task| failed(task, verdict)).collect()).await;
    }
    let view = look_until(&farm, |view| view.tries.iter().map(|one| one.tries).sum::<u32>() == 30).await;
    let told: Vec<_> = view.tries.iter().map(|one| (one.verdict, one.tries, one.attempt.as_str())).collect();
    let (same, bad) = ((Some(Verdict::RetrySame), 20, "3.1"), (Some(Verdict::OutputBad), 10, "2.1"));
    assert!(told == [same, bad] || told == [bad, same], "{told:?}");
    assert_eq!((view.errors.len(), view.tries[0].job, view.tries_more), (0, id, false));
}

#[tokio::test]
async fn a_look_of_all_is_bounded_and_made_once_for_those_who_look_together() {
    let farm = Farm::start().await;
    for at in 0..40 {
        farm.submit(&job(&format!("job {at} {}", "x".repeat(100)), 1000)).await;
    }
    let view = look_until(&farm, |view| view.queued.count == 40).await;
    assert!(view.queued.newest.len() <= 12 && view.waiting.len() <= 6 && !view.queued.more);
    let reply = farm.get("/v1/overview").await;
    assert!(reply.body.len() < 16 * 1024, "{} bytes", reply.body.len());
    let both = tokio::join!(look(&farm), look(&farm));
    assert_eq!(both.0.at, both.1.at);
}

#[tokio::test]
async fn whoever_belongs_to_a_project_sees_the_jobs_and_errors_of_that_one() {
    let farm = Farm::start().await;
    let mut others = job("of others", 10);
    others["project"] = json!("other");
    let bad = farm.submit(&others).await;
    farm.claim(1).await;
    farm.report(1, Vec::new(), (0..10).map(|task| failed(task, Verdict::SceneError)).collect()).await;
    farm.wait(bad, |job| job.state.is_over()).await;
    farm.submit(&others).await;
    let mut own = job("of film", 10);
    own["project"] = json!("film");
    farm.submit(&own).await;
    let (token, secret) = super::access::token("vera", Role::Viewer, Some("film"));
    let farm = farm.guarded(vec![token]).await;
    let request = Request::get("/v1/overview").header("authorization", format!("Bearer {}", secret.reveal()));
    let reply = farm.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let view: OverviewView = reply.json();
    assert_eq!((view.queued.count, view.errors.len(), view.tries.len()), (1, 0, 0));
    assert!(reply.text().contains("of film") && !reply.text().contains("of others"), "{}", reply.text());
}
