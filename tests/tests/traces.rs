//! Traces as a collector gets them: one tree a job, whatever is retried, killed or away.

use framewake_proto::api::JobState;
use framewake_proto::ids::JobId;
use framewake_tests::audit::upload;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::monitoring::Prometheus;
use framewake_tests::parts::{free_port, root};
use framewake_tests::receiver::{Answer, Receiver};
use framewake_tests::spans::{Span, sent, trace_of};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SECRET: &str = "s3cr3t-of-the-collector";

/// A farm whose traces go there.
async fn farm(slots: u32, collector: &Receiver) -> TestFarm {
    let mut farm = TestFarm::start(slots).await;
    let (endpoint, headers) =
        (format!("http://127.0.0.1:{}", collector.port), format!("authorization=Bearer%20{SECRET}"));
    farm.restart_scheduler_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        ("OTEL_SERVICE_NAME", "farm-of-a-test"),
        ("FRAMEWAKE_LOG_FORMAT", "json"),
        ("FRAMEWAKE_LOG", "info,async_nats=warn,framewake_worker=debug"),
    ])
    .await;
    farm
}

/// Submits under somebody's span.
async fn submit_under(farm: &TestFarm, job: &Value, parent: &str) -> JobId {
    let client = reqwest::Client::new();
    let request = client.post(format!("{}/v1/jobs", farm.url())).json(job).header("traceparent", parent);
    let answer = request.send().await.expect("answered");
    assert_eq!(answer.status(), 201);
    let body: Value = answer.json().await.expect("JSON");
    body["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}

fn sampled() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// Every span has its own id, hangs under another of the trace, and lies within it; the job's under `caller`.
fn is_one_tree(spans: &[Span], caller: &str) {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "ids come twice: {spans:#?}");
    for span in spans {
        assert!(span.start_ns <= span.end_ns && span.service == "farm-of-a-test", "{span:?}");
        if span.name == "job" {
            assert_eq!(span.parent, caller, "{span:?}");
            continue;
        }
        let parent = by_id.get(span.parent.as_str()).unwrap_or_else(|| panic!("no parent of {span:?}"));
        assert!(parent.start_ns <= span.start_ns && span.end_ns <= parent.end_ns, "{span:?} is not within {parent:?}");
        let expected = match span.name.as_str() {
            "step" => "job",
            "wait" | "attempt" => "step",
            "frame" | "stage" | "load" => "attempt",
            "render" | "upload" => "frame",
            other => panic!("{other}"),
        };
        assert_eq!(parent.name, expected, "{span:?}");
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendered_job_is_one_tree_under_the_span_of_who_submitted_it() {
    let collector = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let farm = farm(1, &collector).await;
    let scene = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
    let scene = upload(&farm.client, &scene).await;
    let id = submit_under(&farm, &jobs::tachyon(scene, "1-9x2"), &sampled()).await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let spans = trace_of(&collector, TRACE, 1).await;
    is_one_tree(&spans, CALLER);
    let job = named(&spans, "job")[0];
    let of_job = ["job", "job.name", "project", "state", "tasks", "spans_left_out"].map(|key| job.of(key));
    assert_eq!(of_job, [id.to_string().as_str(), "spheres", "default", "succeeded", "5", "0"]);
    let worker = farm.client.attempts(id, &framewake_proto::client::PartQuery::default()).await.expect("listed").items;
    let mut frames = BTreeSet::new();
    for frame in named(&spans, "frame") {
        frames.insert(frame.of("frame").parse::<u32>().expect("a number"));
        let of_frame = ["job", "step", "attempt", "verdict", "worker", "device"].map(|key| frame.of(key));
        assert_eq!(of_frame, [id.to_string().as_str(), "render", "1", "done", worker[0].worker.as_str(), "CPU"]);
        let parts: Vec<&str> =
            spans.iter().filter(|span| span.parent == frame.id).map(|span| span.name.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(parts), BTreeSet::from(["render", "upload"]), "{frame:?}");
    }
    assert_eq!(frames, BTreeSet::from([1, 3, 5, 7, 9]));
    for name in ["step", "wait"] {
        assert_eq!(named(&spans, name).len(), 1, "{name}");
    }
    let attempts = named(&spans, "attempt").len();
    assert!(attempts > 0 && named(&spans, "stage").len() == attempts && !named(&spans, "load").is_empty());
    // Who is sent them is known by the header; nobody else hears of it.
    assert!(collector.got().iter().all(|got| got.header("authorization") == format!("Bearer {SECRET}")));
    assert!(!farm.scheduler_log().contains(SECRET) && !format!("{spans:?}").contains(SECRET));
    // Workers have it in their logs, with the attempt.
    let logs = worker_logs(&farm);
    let lines: Vec<Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let in_trace = |line: &&Value| line["span"]["trace.id"] == TRACE;
    assert!(lines.iter().filter(in_trace).any(|line| line["span"]["job.id"] == id.to_string()), "{logs}");
}

fn worker_logs(farm: &TestFarm) -> String {
    let workers = std::fs::read_dir(farm.data().join("workers")).into_iter().flatten().flatten();
    workers.filter_map(|worker| std::fs::read_to_string(worker.path().join("log")).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_tried_twice_shows_both_attempts_and_renderers_see_no_secret() {
    let collector = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let farm = farm(1, &collector).await;
    let marks = farm.folder().display().to_string();
    // Its second frame fails once.
    let script = format!("env > $1; test $2 != 2 || test -e {marks}/failed || {{ touch {marks}/failed; exit 9; }}");
    let mut job =
        jobs::command_with_output(&["/bin/sh", "-c", &script, "sh", "{output}", "{frame}"], "1-3", "{frame}.txt");
    job["steps"][0]["retries"] = json!({ "attempts": 3, "backoff": "0s" });
    let id = submit_under(&farm, &job, &sampled()).await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let spans = trace_of(&collector, TRACE, 1).await;
    is_one_tree(&spans, CALLER);
    let tries: Vec<&Span> = named(&spans, "frame").into_iter().filter(|span| span.of("frame") == "2").collect();
    let shown: Vec<_> =
        tries.iter().map(|span| (span.of("verdict"), span.of("again"), span.failed.as_deref())).collect();
    assert_eq!(shown, [("retry_same", "true", Some("retry_same")), ("done", "", None)]);
    let under = |span: &Span| (span.of("chunk").to_owned(), span.of("attempt").to_owned(), span.parent.clone());
    assert_ne!(under(tries[0]), under(tries[1]));
    let outputs = farm.store_folder().join(format!("jobs/default/{id}"));
    let seen = std::fs::read_to_string(outputs.join("1.txt")).expect("what the renderer saw");
    assert!(!seen.contains("OTEL") && !seen.contains(SECRET), "{seen}");

    // Whoever keeps nothing of it gets nothing; a header that is none is no harm; one without a span begins a trace.
    let mut plain = jobs::command(&["/bin/true"], "1");
    plain["name"] = json!("not kept");
    let other = TRACE.replace("4bf", "000");
    let unkept = submit_under(&farm, &plain, &format!("00-{other}-{CALLER}-00")).await;
    plain["name"] = json!("begins");
    let begins = submit_under(&farm, &plain, "00-nonsense").await;
    farm.over(unkept).await;
    farm.over(begins).await;
    let begun = until(SOON, "the job without a parent is sent", || async {
        sent(&collector).into_iter().find(|span| span.of("job.name") == "begins")
    });
    let begun = begun.await;
    assert!(begun.parent.chars().all(|digit| digit == '0') && begun.trace != TRACE && begun.trace.len() == 32);
    assert!(sent(&collector).iter().all(|span| span.trace != other), "its caller does not keep it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_killed_goes_on_with_the_same_tree() {
    let collector = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let mut farm = farm(1, &collector).await;
    let go = farm.folder().join("go");
    let script = format!("until test -e {} || test $1 = 1; do sleep 0.02; done", go.display());
    let mut job = jobs::command(&["/bin/sh", "-c", &script, "sh", "{frame}"], "1-3");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 3 });
    let id = submit_under(&farm, &job, &sampled()).await;
    until(SOON, "the first frame is sent", || async { sent(&collector).into_iter().find(|span| span.name == "frame") })
        .await;
    farm.kill_scheduler();
    farm.spawn_scheduler();
    farm.ready().await;
    std::fs::write(&go, "").expect("the test's folder is writable");
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let spans = trace_of(&collector, TRACE, 1).await;
    is_one_tree(&spans, CALLER);
    let frames: Vec<(&str, &str)> =
        named(&spans, "frame").into_iter().map(|span| (span.of("frame"), span.parent.as_str())).collect();
    let attempt = named(&spans, "attempt");
    assert_eq!(attempt.len(), 1, "the worker went on with it");
    assert_eq!(frames, ["1", "2", "3"].map(|frame| (frame, attempt[0].id.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_slows_nothing_and_what_it_misses_is_counted() {
    let collector = Receiver::start(free_port(), |_| Answer::Hang).await;
    let mut farm = farm(1, &collector).await;
    let first = farm.succeed(&jobs::command(&["/bin/true"], "1-20")).await;
    until(SOON, "the collector was asked", || async { (!collector.got().is_empty()).then_some(()) }).await;
    let began = Instant::now();
    farm.succeed(&jobs::command(&["/bin/true"], "1-20")).await;
    assert!(began.elapsed() < Duration::from_secs(10), "a job of 20 empty frames took {:?}", began.elapsed());
    assert_eq!(first.state, JobState::Succeeded);
    let stopped = Instant::now();
    farm.scheduler().signal(rustix::process::Signal::TERM);
    assert_eq!(farm.scheduler().wait(SOON), 0);
    assert!(stopped.elapsed() < Duration::from_secs(12), "its end took {:?}", stopped.elapsed());
    assert!(farm.scheduler_log().contains("the collector of traces is too slow"), "{}", farm.scheduler_log());
    // One that is away is said, and counted.
    drop(collector);
    farm.spawn_scheduler();
    farm.ready().await;
    farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    until(SOON, "what is lost is counted", || async {
        let page = reqwest::get(format!("{}/metrics", farm.url())).await.ok()?.text().await.ok()?;
        let line = page.lines().find(|line| line.starts_with("framewake_trace_spans_total{outcome=\"failed\"}"))?;
        line.rsplit_once(' ').filter(|(_, count)| *count != "0").map(drop)
    })
    .await;
    assert!(farm.scheduler_log().contains("does not take traces"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_the_trace_behind_a_bucket() {
    let collector = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let farm = farm(1, &collector).await;
    let prometheus = Prometheus::start(farm.folder(), &format!("127.0.0.1:{}", farm.port())).await;
    let id = submit_under(&farm, &jobs::command(&["/bin/true"], "1-3"), &sampled()).await;
    farm.over(id).await;
    for family in ["framewake_frame_seconds", "framewake_wait_seconds", "framewake_attempt_seconds"] {
        let query = format!("{family}_bucket{{function=\"command\"}}");
        until(SOON, &format!("{family} has an exemplar"), || async {
            let now = framewake_proto::time::Timestamp::now().0 / 1000;
            let (begin, end) = ((now - 300).to_string(), (now + 5).to_string());
            let asked = [("query", query.as_str()), ("start", &begin), ("end", &end)];
            let found = prometheus.get("query_exemplars", &asked).await.ok()?;
            let exemplars = found.as_array()?.iter().filter_map(|series| series["exemplars"].as_array()).flatten();
            let of_ours = exemplars.filter(|exemplar| exemplar["labels"]["trace_id"] == TRACE).count();
            (of_ours > 0).then_some(())
        })
        .await;
    }
    // Who does not ask for it gets the page as ever.
    let plain = reqwest::get(format!("{}/metrics", farm.url())).await.expect("answered").text().await.expect("text");
    assert!(plain.contains("# TYPE framewake_jobs_submitted_total counter\n") && !plain.contains("trace_id"));
}
