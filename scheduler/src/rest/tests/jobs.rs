//! Submitting, listing and changing jobs; their tasks and attempts.

use super::*;
use framewake_proto::api::{AttemptView, JobState, Page, TaskState, TaskView};
use framewake_proto::objects::{Digest, input_key};

#[tokio::test]
async fn the_same_key_and_job_is_one_job_and_another_job_under_it_is_refused() {
    let farm = Farm::start().await;
    let submit = |kind: &'static str, body: String| {
        let request = Request::post("/v1/jobs").header("content-type", kind).header("idempotency-key", "night-7");
        farm.send(request.body(Body::from(body)).expect("a request"))
    };
    let first = submit("application/json", job("shot", 10).to_string()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let first: Submitted = first.json();
    assert_eq!((first.tasks, first.repeated), (10, false));
    let second = submit("application/json", job("shot", 10).to_string()).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(second.json::<Submitted>(), Submitted { repeated: true, ..first.clone() });
    // The same job written another way is the same job.
    let yaml = "name: shot\nsteps:\n  - name: render\n    function: paint\n    frames: 1-10\n    output: f/{frame:04}.png\n    chunking: {mode: fixed, size: 10}\n    retries: {attempts: 1}\n";
    let third = submit("application/yaml", yaml.to_owned()).await;
    assert_eq!(third.json::<Submitted>().id, first.id, "{}", third.text());
    submit("application/json", job("shot", 11).to_string()).await.problem(409, "conflict");
    let mut bad = job("shot", 10);
    bad["steps"][0]["function"] = json!("gone");
    submit("application/json", bad.to_string()).await.problem(409, "conflict");
    assert_eq!(farm.jobs().await, 1);
    let keyless =
        Request::post("/v1/jobs").header("content-type", "application/json").header("idempotency-key", "x".repeat(201));
    farm.send(keyless.body(Body::from(job("x", 1).to_string())).expect("a request"))
        .await
        .problem(400, "invalid-query");
}

#[tokio::test]
async fn a_job_that_was_accepted_stays_so_when_its_input_is_gone() {
    let farm = Farm::start().await;
    let input = Digest::of(b"scene");
    let key = input_key(&input);
    farm.app.objects.put(&key, "scene".into()).await.expect("put");
    let mut body = job("shot", 10);
    body["steps"][0]["inputs"] = json!([{"digest": input, "as": "scene.blend"}]);
    let submit = async |farm: &Farm, key: &str| {
        let request = Request::post("/v1/jobs").header("content-type", "application/json");
        farm.send(request.header("idempotency-key", key).body(Body::from(body.to_string())).expect("a request")).await
    };
    let first: Submitted = submit(&farm, "a").await.json();
    std::fs::remove_file(farm.folder.path().join("objects").join(&key)).expect("removed");
    let farm = farm.restarted();
    let second = submit(&farm, "a").await;
    assert_eq!((second.status, second.json::<Submitted>().id), (StatusCode::OK, first.id));
    submit(&farm, "b").await.problem(422, "invalid-body");
}

#[tokio::test]
async fn a_job_keeps_the_version_of_its_function() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let newer = json!({"name": "paint", "driver": {"kind": "command", "command": ["paint", "--new", "{output}"]}});
    let reply = farm.post("/v1/functions", &newer).await;
    assert_eq!((reply.status, reply.json::<Value>()["version"].as_u64()), (StatusCode::CREATED, Some(2)));
    assert_eq!(farm.post("/v1/functions", &newer).await.status, StatusCode::OK);
    assert_eq!(farm.job(id).await.steps[0].function, "paint@1");
    let newest = farm.submit(&job("shot", 10)).await;
    assert_eq!(farm.job(newest).await.steps[0].function, "paint@2");
    assert_eq!(farm.read::<Value>("/v1/functions/paint@1").await["newest"], false);
    assert_eq!(farm.read::<Value>("/v1/functions/paint").await["version"], 2);
    assert_eq!(
        farm.get("/v1/functions/pant").await.problem(404, "not-found").hint.as_deref(),
        Some("did you mean `paint`?")
    );
}

#[tokio::test]
async fn jobs_are_listed_in_stable_pages_by_what_they_are() {
    let farm = Farm::start().await;
    let mut ids = Vec::new();
    for at in 0..25 {
        let mut body = job(&format!("shot {at:02}"), 1);
        body["project"] = json!(if at % 2 == 0 { "film" } else { "series" });
        body["labels"] = json!({"nth": at.to_string(), "it's \"odd\"": (at % 2 == 1).to_string()});
        ids.push(farm.submit(&body).await);
    }
    ids.reverse();
    let mut seen: Vec<JobId> = Vec::new();
    let mut path = "/v1/jobs?limit=10".to_owned();
    loop {
        let page: Page<JobView> = farm.read(&path).await;
        seen.extend(page.items.iter().map(|job| job.id));
        // A job that comes while somebody turns pages moves nothing.
        farm.submit(&job("later", 1)).await;
        match page.next {
            Some(next) => path = format!("/v1/jobs?limit=10&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = async |query: &str| farm.read::<Page<JobView>>(&format!("/v1/jobs?{query}")).await.items.len();
    assert_eq!(count("project=film").await, 13);
    assert_eq!(count("label=nth%3D7").await, 1);
    assert_eq!(count("label=nth%3D7&label=it%27s%20%22odd%22%3Dtrue").await, 1);
    assert_eq!(count("label=nth%3D7&label=it%27s%20%22odd%22%3Dfalse").await, 0);
    assert_eq!(count("name=shot%200").await, 10);
    assert_eq!(count("state=canceled,failed").await, 0);
    farm.send(Request::post(format!("/v1/jobs/{}/cancel", ids[3])).body(Body::empty()).expect("a request")).await;
    assert_eq!(count("state=canceled,failed").await, 1);
    assert_eq!(count("state=queued&project=series").await, 11);
    farm.get("/v1/jobs?cursor=x").await.problem(400, "invalid-query");
    assert_eq!(
        farm.get("/v1/jobs?state=runing").await.problem(400, "invalid-query").hint.as_deref(),
        Some("did you mean `running`?")
    );
    let projects = farm.read::<Value>("/v1/projects?limit=2").await;
    assert_eq!(projects["items"], json!([{"name": "default", "weight": 1}, {"name": "film", "weight": 1}]));
    let rest = farm.read::<Value>(&format!("/v1/projects?cursor={}", projects["next"].as_str().expect("more"))).await;
    assert_eq!(rest["items"], json!([{"name": "series", "weight": 1}]));
}

#[tokio::test]
async fn tasks_of_a_large_job_are_listed_without_listing_all() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("film", 1_000_000)).await;
    farm.wait(id, |job| job.tasks.open > 0).await;
    farm.claim(1).await;
    farm.report(1, (0..9).map(|task| done(task, "", b"")).collect(), vec![failed(9, Verdict::SceneError)]).await;
    farm.wait(id, |job| (job.tasks.done, job.tasks.failed) == (9, 1)).await;
    let tasks = async |query: &str| farm.read::<Page<TaskView>>(&format!("/v1/jobs/{id}/tasks?{query}")).await;
    let page = tasks("limit=12").await;
    let states: Vec<TaskState> = page.items.iter().map(|task| task.state).collect();
    assert_eq!(states[..9], [TaskState::Done; 9]);
    assert_eq!((states[9], states[10]), (TaskState::Failed, TaskState::Waiting));
    assert_eq!(page.next.as_deref(), Some("0.12"));
    let last = tasks("cursor=0.999998").await;
    assert_eq!(last.items.iter().map(|task| task.frame).collect::<Vec<_>>(), [999_999, 1_000_000]);
    assert_eq!(last.next, None);
    let all_failed = tasks("state=failed").await;
    assert_eq!((all_failed.items.len(), all_failed.next), (1, None));
    let failure = all_failed.items[0].failure.as_ref().expect("why");
    assert_eq!(
        (failure.verdict, failure.message.as_str(), failure.attempt.as_str()),
        (Verdict::SceneError, "no such texture", "1.1")
    );
    assert_eq!(tasks("state=done&limit=5&cursor=0.3").await.items.len(), 5);
    assert_eq!(tasks("state=waiting&limit=1").await.items[0].task, 10);
    farm.get(&format!("/v1/jobs/{id}/tasks?step=rendr")).await.problem(404, "not-found");
    farm.get(&format!("/v1/jobs/{id}/tasks?cursor=x")).await.problem(400, "invalid-query");
    farm.send(Request::post(format!("/v1/jobs/{id}/cancel")).body(Body::empty()).expect("a request")).await;
    assert_eq!(tasks("cursor=0.999999").await.items[0].state, TaskState::Canceled);
    let attempts: Page<AttemptView> = farm.read(&format!("/v1/jobs/{id}/attempts")).await;
    assert_eq!((attempts.items[0].frames.as_str(), attempts.items[0].done, attempts.items[0].failed), ("1-10", 9, 1));
}

#[tokio::test]
async fn a_change_that_the_state_does_not_allow_is_refused_in_words() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    let act = async |action: &str| {
        farm.send(Request::post(format!("/v1/jobs/{id}/{action}")).body(Body::empty()).expect("a request")).await
    };
    assert_eq!(act("pause").await.json::<JobView>().state, JobState::Paused);
    assert_eq!(act("resume").await.json::<JobView>().state, JobState::Queued);
    let change = farm.send(json_request("PATCH", &format!("/v1/jobs/{id}"), &json!({"priority": 90}))).await;
    assert_eq!(change.json::<JobView>().priority, 90, "{}", change.text());
    farm.send(json_request("PATCH", &format!("/v1/jobs/{id}"), &json!({"priority": 101})))
        .await
        .problem(422, "invalid-body");
    farm.send(json_request("PATCH", &format!("/v1/jobs/{id}"), &json!({"priorty": 1})))
        .await
        .problem(422, "invalid-body");
    assert_eq!(act("cancel").await.json::<JobView>().state, JobState::Canceled);
    for action in ["pause", "resume", "retry", "cancel"] {
        let problem = act(action).await.problem(409, "wrong-state");
        assert!(
            problem.detail.starts_with(&format!("job {id} is canceled: it can't be ")),
            "{action}: {}",
            problem.detail
        );
    }
    let none = "/v1/jobs/01M7YBHVZ6VMB2M2E9ZN8GY9D6";
    for path in ["", "/spec", "/steps", "/tasks", "/outputs", "/attempts", "/events", "/explain", "/attempts/1.1/log"] {
        farm.get(&format!("{none}{path}")).await.problem(404, "not-found");
    }
    farm.send(Request::post(format!("{none}/cancel")).body(Body::empty()).expect("a request"))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_project_is_weighed_and_keeps_its_weight() {
    let farm = Farm::start().await;
    assert_eq!(farm.read::<Value>("/v1/projects/film").await["weight"], 1);
    let weigh =
        async |weight: Value| farm.send(json_request("PUT", "/v1/projects/film", &json!({"weight": weight}))).await;
    assert_eq!(weigh(json!(7)).await.status, StatusCode::OK);
    assert_eq!(farm.read::<Value>("/v1/projects/film").await["weight"], 7);
    for bad in [json!(0), json!(1001), json!("7"), json!(1.5)] {
        let reply = weigh(bad).await;
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{}", reply.text());
    }
    farm.send(json_request("PUT", "/v1/projects/My%20Film", &json!({"weight": 1}))).await.problem(404, "not-found");
}

#[tokio::test]
async fn addresses_that_are_allowed_pass_the_border() {
    let urls = UrlsAllowed::new(vec!["https://assets.example/".to_owned()]).expect("good");
    let farm = Farm::start_with(UploadLimits::default(), urls).await;
    let mut body = job("shot", 1);
    body["steps"][0]["inputs"] = json!([{"url": "https://assets.example/a.hdr"}]);
    farm.submit(&body).await;
    body["steps"][0]["inputs"] = json!([{"url": "https://other.example/a.hdr"}]);
    farm.post("/v1/jobs", &body).await.problem(422, "invalid-body");
}

#[tokio::test]
async fn a_step_that_no_worker_could_be_told_about_is_refused() {
    let farm = Farm::start().await;
    let digest = Digest::of(b"scene");
    farm.app.objects.put(&input_key(&digest), "scene".into()).await.expect("stored");
    let with_inputs = |count: usize| {
        let mut body = job("shot", 10);
        let input = |at| json!({ "digest": digest, "as": format!("{}{at}", "textures/".repeat(12)) });
        body["steps"][0]["inputs"] = (0..count).map(input).collect();
        body
    };
    let refused = farm.post("/v1/jobs", &with_inputs(4096)).await.problem(422, "invalid-body");
    let fault = &refused.faults[0];
    assert_eq!(fault.field, "/steps/0");
    assert!(fault.reason.contains("more than the 786432 that a worker can be sent"), "{}", fault.reason);
    assert_eq!(farm.jobs().await, 0);
    assert_eq!(farm.post("/v1/jobs", &with_inputs(2000)).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_full_queue_refuses_new_jobs_and_knows_the_old_ones() {
    let farm = Farm::start_bounded(UploadLimits::default(), UrlsAllowed::default(), 2).await;
    let keyed = |name: &'static str| {
        let body = Body::from(job(name, 1).to_string());
        let request = Request::post("/v1/jobs").header("content-type", "application/json");
        farm.send(request.header("idempotency-key", name).body(body).expect("a request"))
    };
    let first: Submitted = keyed("first").await.json();
    assert_eq!(keyed("second").await.status, StatusCode::CREATED);
    let reply = keyed("third").await;
    assert!(reply.problem(429, "queue-full").hint.is_some_and(|hint| hint.contains("--jobs-max")));
    assert_eq!(reply.headers["retry-after"], "30");
    assert_eq!(farm.jobs().await, 2);
    assert_eq!(keyed("first").await.json::<Submitted>().id, first.id);
    farm.post(&format!("/v1/jobs/{}/cancel", first.id), &json!({})).await;
    assert_eq!(keyed("third").await.status, StatusCode::CREATED, "the key stands for nothing that was refused");
}

/// Fails all ten tasks of a job's first chunk.
async fn all_fail(farm: &Farm, id: JobId) {
    farm.claim(1).await;
    farm.report(1, Vec::new(), (0..10).map(|task| failed(task, Verdict::SceneError)).collect()).await;
    farm.wait(id, |job| job.state == JobState::Failed).await;
}

#[tokio::test]
async fn of_failed_frames_those_are_tried_again_that_are_named() {
    let farm = Farm::start().await;
    let id = farm.submit(&job("shot", 10)).await;
    all_fail(&farm, id).await;
    let path = format!("/v1/jobs/{id}/retry");
    let retry = async |body: Value| farm.post(&path, &body).await;
    let fault = |reply: Reply| reply.problem(422, "invalid-body").faults.remove(0);
    let refused = fault(retry(json!({"step": "rendr", "frames": "3"})).await);
    assert_eq!((refused.field.as_str(), refused.reason.contains("`rendr`")), ("/step", true));
    for (frames, reason) in [("11", "frame 11 is not one of this step"), ("3-", "3-"), ("1-5000", "more than the 1000")]
    {
        let refused = fault(retry(json!({"step": "render", "frames": frames})).await);
        assert!(refused.field == "/frames" && refused.reason.contains(reason), "{refused:?}");
    }
    assert_eq!(farm.job(id).await.tasks.failed, 10, "nothing was changed");
    let reply = retry(json!({"step": "render", "frames": "3,7-8"})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let view: JobView = reply.json();
    assert_eq!((view.state, view.tasks.failed, view.tasks.done), (JobState::Running, 7, 0));
    let failed: Page<TaskView> = farm.read(&format!("/v1/jobs/{id}/tasks?state=failed")).await;
    let frames: Vec<i64> = failed.items.iter().map(|task| task.frame).collect();
    assert_eq!(frames, [1, 2, 4, 5, 6, 9, 10]);
    assert!(failed.items.iter().all(|task| task.failure.is_some()), "what was said of the others stays");
    // All that are left, as before.
    let rest = farm.send(Request::post(&path).body(Body::empty()).expect("a request")).await;
    assert_eq!(rest.json::<JobView>().tasks.failed, 0);
}

#[tokio::test]
async fn attempts_and_jobs_come_from_either_end() {
    let farm = Farm::start().await;
    let ids = [farm.submit(&job("a", 30)).await, farm.submit(&job("b", 1)).await, farm.submit(&job("c", 1)).await];
    farm.claim(1).await;
    let broken = vec![failed(9, Verdict::SceneError)];
    farm.report(1, vec![done(0, "jobs/default/a/f/0001.png", b"x")], broken).await;
    farm.claim(2).await;
    farm.wait(ids[0], |job| job.tasks.done == 1).await;
    assert!(farm.handle.durable().await);
    let attempts = async |order: &str| -> Vec<AttemptView> {
        let mut all: Vec<AttemptView> = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/jobs/{}/attempts?limit=1{order}{cursor}", ids[0]);
            let page: Page<AttemptView> = farm.read(&path).await;
            all.extend(page.items);
            let Some(next) = page.next else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    let named = |attempts: &[AttemptView]| attempts.iter().map(|one| one.attempt.clone()).collect::<Vec<_>>();
    let (oldest, newest) = (attempts("").await, attempts("&order=newest").await);
    assert_eq!((named(&oldest), named(&newest)), (vec!["1.1".into(), "2.1".into()], vec!["2.1".into(), "1.1".into()]));
    assert_eq!((oldest[0].device.as_str(), oldest[0].verdict), ("CPU", Some(Verdict::SceneError)));
    assert_eq!((oldest[1].device.as_str(), oldest[1].verdict), ("", None));
    for (order, expected) in [("", ["c", "b", "a"]), ("&order=oldest", ["a", "b", "c"])] {
        let mut cursor = String::new();
        for name in expected {
            let page: Page<JobView> = farm.read(&format!("/v1/jobs?limit=1{order}{cursor}")).await;
            assert_eq!(page.items[0].name, name);
            cursor = format!("&cursor={}", page.next.unwrap_or_default());
        }
    }
    farm.get("/v1/jobs?order=best").await.problem(400, "invalid-query");
}
