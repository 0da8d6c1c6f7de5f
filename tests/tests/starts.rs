//! How workers came: told point by point while they come, once they are there, and after they are gone.

use framewake_proto::api::JobState;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_proto::start::{StartPoint, WorkerStart};
use framewake_proto::time::Timestamp;
use framewake_tests::farm::{LONG, SOON, TestFarm, kill, signal};
use framewake_tests::jobs;
use framewake_tests::kubernetes::{Cluster, Workers};
use framewake_tests::parts::{built, path, root};
use framewake_tests::wait::until;
use rustix::process::Signal;
use serde_json::json;
use std::process::Command;
use std::time::Duration;

/// Points that a worker on the scheduler's own machine passes: no machine is chosen for it, and no image fetched.
const LOCAL: [StartPoint; 9] = [
    StartPoint::Wanted,
    StartPoint::Asked,
    StartPoint::Created,
    StartPoint::Process,
    StartPoint::Nats,
    StartPoint::Order,
    StartPoint::Inputs,
    StartPoint::Renderer,
    StartPoint::Frame,
];

fn points(start: &WorkerStart) -> Vec<StartPoint> {
    start.steps.iter().map(|step| step.point).collect()
}

/// Phases are what passed between two points, and all of them what passed in all.
fn adds_up(start: &WorkerStart) {
    let (Some(first), Some(last)) = (start.steps.first(), start.steps.last()) else { panic!("{start:?}") };
    assert!(start.steps.is_sorted_by_key(|step| (step.point, step.at)), "{start:?}");
    for pair in start.steps.windows(2) {
        assert_eq!(Duration::from_millis(pair[1].took_ms), pair[1].at.since(pair[0].at), "{start:?}");
    }
    assert_eq!(Duration::from_millis(start.took_ms()), last.at.since(first.at), "{start:?}");
}

/// The only worker that is there, once its way is so.
async fn the_worker(farm: &TestFarm, what: &str, is_so: impl Fn(&WorkerStart) -> bool) -> WorkerStart {
    until(SOON, what, || async {
        let page = farm.client.workers(None).await.ok()?;
        let start = farm.client.worker_start(page.items.first()?.id.as_str()).await.ok()?;
        Some(start).filter(&is_so)
    })
    .await
}

async fn start_of(farm: &TestFarm, worker: &str) -> WorkerStart {
    farm.client.worker_start(worker).await.expect("it is told")
}

/// Who had the job's first attempt.
async fn worker_of(farm: &TestFarm, id: JobId) -> String {
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("a list");
    attempts.items.first().expect("it was rendered").worker.to_string()
}

fn framewake(farm: &TestFarm, arguments: &[&str]) -> String {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("PATH", path()).current_dir(root());
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn every_phase_of_a_local_worker_is_told_and_they_add_up_to_its_first_frame() {
    let farm = TestFarm::start(1).await;
    let before = Timestamp::now();
    let id = farm.submit(&jobs::command(&["/bin/sleep", "0.3"], "1-3")).await;
    farm.over(id).await;
    let after = Timestamp::now();
    let worker = worker_of(&farm, id).await;
    let start = start_of(&farm, &worker).await;
    assert_eq!(points(&start), LOCAL);
    adds_up(&start);
    let (wanted, frame) = (start.steps[0].at, start.steps[LOCAL.len() - 1].at);
    assert!(before <= wanted && frame <= after, "from {before} to {after}: {start:?}");
    let took = |point| start.steps.iter().find(|step| step.point == point).expect("told").took_ms;
    assert!((300..10_000).contains(&took(StartPoint::Frame)), "it sleeps 0.3 s: {start:?}");
    assert_eq!(start.pool.as_ref().map(ToString::to_string).as_deref(), Some("local"));
    assert_eq!(start.ended, None);
    // In the metrics each phase is counted once, and adds up to the same.
    let page = until(SOON, "its phases are counted", || async {
        let page = reqwest::get(format!("{}/metrics", farm.url())).await.ok()?.text().await.ok()?;
        page.contains("framewake_cold_start_seconds_count{function=\"command\",phase=\"frame\",pool=\"local\"} 1")
            .then_some(page)
    })
    .await;
    let mut sum_s = 0.0;
    for point in &LOCAL[1..] {
        let labels = format!("{{function=\"command\",phase=\"{}\",pool=\"local\"}}", point.as_str());
        assert!(page.contains(&format!("framewake_cold_start_seconds_count{labels} 1\n")), "{labels}: {page}");
        let name = format!("framewake_cold_start_seconds_sum{labels} ");
        sum_s += page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok()).expect("a sum");
    }
    assert!((sum_s - frame.since(wanted).as_secs_f64()).abs() < 0.001, "{sum_s} s of {start:?}");
    // People see it too; without a terminal, in words.
    let shown = framewake(&farm, &["workers", "show", &worker]);
    for words in ["its first frame was done after", "  process ", "its renderer is ready"] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains('━'), "{shown}");
    let told: WorkerStart =
        serde_json::from_str(&framewake(&farm, &["workers", "show", &worker, "--json"])).expect("JSON");
    assert_eq!(told, start);
    // And once it is gone.
    farm.no_workers().await;
    let start = start_of(&farm, &worker).await;
    assert_eq!(points(&start), LOCAL);
    assert_eq!(start.ended.expect("it left").reason, "it left");
    let unknown = farm.client.worker_start("w1-1").await.expect_err("there is none");
    assert!(unknown.to_string().contains("there is no worker `w1-1`"), "{unknown}");
}

#[tokio::test]
async fn how_far_a_worker_came_is_told_while_it_comes_and_its_phases_survive_a_killed_scheduler() {
    let mut farm = TestFarm::start(1).await;
    let go = farm.folder().join("go");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &waits], "1")).await;
    // Its first frame takes long: the renderer is told to be ready before.
    let rendering =
        the_worker(&farm, "its renderer is ready", |start| points(start).last() == Some(&StartPoint::Renderer)).await;
    assert_eq!(points(&rendering), LOCAL[..LOCAL.len() - 1]);
    let listed = farm.client.workers(None).await.expect("a list").items.remove(0);
    assert_eq!((listed.start_ms, listed.start), (None, rendering.steps.clone()), "the list has it while it comes");
    let list = framewake(&farm, &["workers"]);
    assert!(list.contains("renderer, ") && list.contains(" so far"), "{list}");
    let learned = until(SOON, "its phases are learned", || async {
        let pool = farm.client.function_scaling("command").await.ok()?.pools.remove(0);
        (!pool.phases.is_empty()).then_some(pool)
    })
    .await;
    assert_eq!(learned.starts_known, 1, "{learned:?}");

    farm.kill_scheduler();
    farm.restart_scheduler().await;
    let again = farm.client.function_scaling("command").await.expect("explained").pools.remove(0);
    assert_eq!((again.starts_known, again.start_p50_s), (1, learned.start_p50_s), "learned before, known after");
    assert_eq!(again.phases, learned.phases);
    std::fs::write(&go, "").expect("the test's folder is writable");
    farm.over(id).await;
    let worker = worker_of(&farm, id).await;
    let start = start_of(&farm, &worker).await;
    assert_eq!(points(&start), LOCAL, "and it goes on where it was");
    assert_eq!(start.steps[..rendering.steps.len()], rendering.steps);
    adds_up(&start);
    let again = farm.client.function_scaling("command").await.expect("explained");
    assert_eq!(again.pools[0].starts_known, 1, "it was found again, and not started again: {again:?}");
    assert!(again.task_s.is_some(), "{again:?}");

    // Nothing is under way, and what was measured is known all the same.
    farm.no_workers().await;
    farm.kill_scheduler();
    farm.restart_scheduler().await;
    assert_eq!(start_of(&farm, &worker).await.steps, start.steps);
    let kept = farm.client.function_scaling("command").await.expect("explained");
    assert_eq!((kept.task_s, kept.pools[0].starts_known), (again.task_s, 1));
}

#[tokio::test]
async fn a_worker_without_an_order_has_a_way_that_ends_where_it_stands_with_the_reason() {
    let functions = tempfile::tempdir().expect("room for a folder");
    let kept = "name: kept\ndriver: { kind: command, command: [/bin/true] }\n\
                scaling: { max: 1, keep: [{ workers: 1, from: '* * * * *', for: 1h, zone: UTC }] }\n";
    std::fs::write(functions.path().join("kept.yaml"), kept).expect("writable");
    let farm = TestFarm::start_with(1, false, functions.path()).await;
    let here = |start: &WorkerStart| start.steps.last().is_some_and(|step| step.point == StartPoint::Nats);
    let told = async |how: &str, end: &dyn Fn(u32)| {
        let start = the_worker(&farm, "one is kept", here).await;
        end(*farm.worker_pids().first().expect("it runs"));
        let over = until(SOON, how, || async {
            farm.client.worker_start(start.worker.as_str()).await.ok().filter(|start| start.ended.is_some())
        })
        .await;
        assert_eq!(points(&over), LOCAL[..5], "{over:?}");
        let reason = over.ended.expect("just seen").reason;
        assert!(reason.starts_with(how), "{reason}");
        let shown = framewake(&farm, &["workers", "show", start.worker.as_str()]);
        assert!(shown.contains("it is connected to NATS") && shown.contains(how), "{shown}");
    };
    told("it failed: killed by signal 9", &kill).await;
    told("it left without an order", &|pid| signal(pid, Signal::TERM)).await;
}

#[tokio::test]
async fn one_that_can_t_run_says_how_far_it_came_and_why_no_further() {
    let functions = tempfile::tempdir().expect("room for a folder");
    let broken = "name: broken\ndriver: { kind: command, command: [/no/such/program] }\nscaling: { max: 1 }\n";
    std::fs::write(functions.path().join("broken.yaml"), broken).expect("writable");
    let mut farm = TestFarm::start_with(1, false, functions.path()).await;
    let job = json!({ "name": "x", "steps": [{ "name": "run", "function": "broken", "frames": "1" }] });
    farm.submit(&job).await;
    let log = until(LONG, "two starts failed", || async {
        let log = farm.scheduler_log();
        (log.matches("/no/such/program").count() >= 2).then_some(log)
    })
    .await;
    let is_id = |word: &&str| word.starts_with('w') && word.contains('-') && word.len() > 10;
    let worker = log.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).find(is_id);
    let start = start_of(&farm, worker.expect("it is named")).await;
    assert_eq!(points(&start).first(), Some(&StartPoint::Wanted));
    assert!(points(&start).last() < Some(&StartPoint::Order), "{start:?}");
    let reason = start.ended.expect("it ended").reason;
    assert!(reason.contains("/no/such/program"), "{reason}");
    // Starts that failed in a row are remembered over a restart: the pool is not tried anew at once.
    let explained = async |farm: &TestFarm| farm.client.function_scaling("broken").await.expect("explained");
    let failing = "in a row failed, the last because:";
    until(SOON, "it is passed over", || async {
        explained(&farm).await.pools[0].passed_over.contains(failing).then_some(())
    })
    .await;
    farm.kill_scheduler();
    farm.restart_scheduler().await;
    let again = explained(&farm).await;
    assert!(again.pools[0].passed_over.contains(failing), "{again:?}");
}

// The API server answers also while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_tells_when_a_machine_was_chosen_and_the_image_was_there() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let cluster = Cluster::start_with(&[1], Workers::Real(folder.path().join("nodes"))).await;
    let kubeconfig = cluster.kubeconfig(folder.path());
    let pool = json!({ "name": "nodes", "max": 1, "provider": { "kind": "kubernetes", "ephemeral_storage": "1GiB" } });
    let function = json!({
        "name": "command", "image": "registry.example/command:1",
        "driver": { "kind": "command", "command": ["{program}", "{words}"] },
        "parameters": { "program": { "type": "text" }, "words": { "type": "words", "default": [] } },
        "scaling": { "max": 1, "linger": "10s" },
    });
    for (name, file) in [("pools", &pool), ("functions", &function)] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(&path).expect("the test's folder is writable");
        // JSON is YAML.
        std::fs::write(path.join("only.yaml"), file.to_string()).expect("the test's folder is writable");
    }
    let (pools, kubeconfig) = (folder.path().join("pools").display().to_string(), kubeconfig.display().to_string());
    let mut farm = TestFarm::start_with(0, false, &folder.path().join("functions")).await;
    farm.restart_scheduler_with(&[("FRAMEWAKE_POOLS", &pools), ("KUBECONFIG", &kubeconfig)]).await;
    let before = Timestamp::now();
    let id = farm.submit(&jobs::command(&["/bin/sleep", "0.2"], "1")).await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let worker = worker_of(&farm, id).await;
    let start = until(SOON, "its place has told", || async {
        let start = farm.client.worker_start(&worker).await.ok()?;
        points(&start).contains(&StartPoint::Image).then_some(start)
    })
    .await;
    assert_eq!(points(&start), StartPoint::ALL, "every point is passed");
    adds_up(&start);
    assert!(before <= start.steps[0].at && start.steps[10].at <= Timestamp::now(), "{start:?}");
}
