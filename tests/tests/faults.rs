//! What breaks, and what it costs: nothing that was done.

use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::{Action, PartQuery};
use framewake_proto::verdict::Verdict;
use framewake_tests::audit::{audit_folder, frame_names, upload};
use framewake_tests::farm::{SOON, TestFarm, kill, processes};
use framewake_tests::jobs;
use framewake_tests::parts::root;
use framewake_tests::tight::Tight;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A job whose tasks take `seconds` each.
fn slow(frames: &str, seconds: f64) -> Value {
    let mut job = jobs::command(&["/bin/sh", "-c", &format!("sleep {seconds}")], frames);
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 4 });
    job
}

async fn some_done(farm: &TestFarm, id: framewake_proto::ids::JobId, count: u32) {
    until(SOON, "some tasks are done", || async {
        farm.client.job(id).await.ok().filter(|job| job.tasks.done >= count)
    })
    .await;
}

#[tokio::test]
async fn failed_frames_fail_the_job_after_the_others_are_done_and_retry_renders_only_those() {
    let farm = TestFarm::start(2).await;
    let gate = farm.folder().join("gate");
    let script = format!(
        "echo working; test $(({{frame}} % 4)) -ne 0 || test -e {} || {{ echo 'no luck today' >&2; exit 3; }}",
        gate.display()
    );
    let function = json!({
        "name": "moody",
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", script.replace("{{frame}}", "{frame}")] },
    });
    let function = escape_braces(function);
    farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "moody", "steps": [{
        "name": "run", "function": "moody", "frames": "1-12", "retries": { "attempts": 2, "backoff": "100ms" },
    }] });
    let id = farm.submit(&job).await;
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done, view.tasks.failed), (JobState::Failed, 9, 3), "{view:?}");
    let failures = farm.failures(id).await;
    assert_eq!(failures.iter().map(|task| task.frame).collect::<Vec<_>>(), [4, 8, 12]);
    for task in &failures {
        let failure = task.failure.as_ref().expect("it says why");
        assert!(failure.evidence.contains("no luck today"), "{failure:?}");
    }
    std::fs::write(&gate, "").expect("writable");
    farm.client.act(id, Action::Retry).await.expect("a failed job can be retried");
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 12));
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    let done: u32 = attempts.iter().map(|attempt| attempt.done).sum();
    assert_eq!(done, 12, "no task was done twice: {attempts:?}");
}

/// In a command, braces that are no placeholder are doubled.
fn escape_braces(mut function: Value) -> Value {
    let word = function["driver"]["command"][2].as_str().expect("a script").to_owned();
    let word = word.replace('{', "{{").replace('}', "}}").replace("{{frame}}", "{frame}");
    function["driver"]["command"][2] = json!(word);
    function
}

/// How long this machine takes now for what a farm takes milliseconds for where nothing else runs: one program, to its end.
async fn yardstick(farm: &TestFarm) -> Duration {
    let begin = Instant::now();
    farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    begin.elapsed()
}

#[tokio::test]
async fn cancel_stops_a_running_renderer_within_two_seconds() {
    let farm = TestFarm::start(1).await;
    farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    let before = yardstick(&farm).await;
    // It ignores TERM, and so does the child that it leaves behind.
    let marker = framewake_tests::farm::unique();
    let script = format!("trap '' TERM; sh -c 'sleep 1000; true' {marker} & sleep 1000; echo {marker}");
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    let running = || processes().iter().filter(|process| process.line.contains(&marker)).count();
    until(SOON, "the renderer and its child run", || async { (running() >= 2).then_some(()) }).await;
    let begin = Instant::now();
    let view = farm.client.act(id, Action::Cancel).await.expect("it can be canceled");
    assert_eq!(view.state, JobState::Canceled);
    until(SOON, "the renderer and its child are gone", || async { (running() == 0).then_some(()) }).await;
    let took = begin.elapsed();
    // Beside others on this machine all takes longer; waiting for the frame, or for a heartbeat, would not be made good by that.
    let (longest, after) = (Duration::from_secs(2), yardstick(&farm).await);
    assert!(took < longest + 4 * before.max(after), "it took {took:?}, and one program {before:?} and {after:?}");
}

#[tokio::test]
async fn a_silent_renderer_is_hung_and_its_whole_group_is_killed() {
    let farm = TestFarm::start(1).await;
    let marker = framewake_tests::farm::unique();
    let mut job = jobs::command(
        &["/bin/sh", "-c", &format!("trap '' TERM; (trap '' TERM; sleep 999; echo {marker}) & sleep 999")],
        "1",
    );
    job["steps"][0]["timeouts"] = json!({ "silent": "1s" });
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    let id = farm.submit(&job).await;
    let view = farm.over(id).await;
    assert_eq!(view.state, JobState::Failed);
    let failure = farm.failures(id).await[0].failure.clone().expect("it says why");
    assert_eq!(failure.verdict, Verdict::Hung, "{failure:?}");
    assert!(failure.message.contains("0.0 s of CPU in "), "it says what was measured: {}", failure.message);
    until(SOON, "nothing of it is left", || async {
        (!processes().iter().any(|process| process.line.contains(&marker))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pause_stops_new_orders_and_resume_goes_on() {
    let farm = TestFarm::start(1).await;
    let id = farm.submit(&slow("1-40", 0.1)).await;
    some_done(&farm, id, 2).await;
    farm.client.act(id, Action::Pause).await.expect("it can be paused");
    let paused = until(SOON, "what ran is finished", || async {
        farm.client.job(id).await.ok().filter(|job| job.tasks.open == 0)
    })
    .await;
    assert_eq!(paused.state, JobState::Paused);
    assert!(paused.tasks.waiting > 0, "{paused:?}");
    let explained = farm.client.explain(id).await.expect("explained");
    assert!(explained.steps[0].reasons.iter().any(|reason| reason.contains("paused")), "{explained:?}");
    farm.client.act(id, Action::Resume).await.expect("it can be resumed");
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn killed_workers_cost_no_attempts_and_lose_no_frame() {
    let farm = TestFarm::start(2).await;
    let scene = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
    let scene = upload(&farm.client, &scene).await;
    let calm = farm.succeed(&jobs::tachyon(scene, "1-150")).await;
    let calm = audit_folder(&farm, calm.id, &frame_names(1..=150)).await;
    let mut job = jobs::tachyon(scene, "1-150");
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 10 });
    let id = farm.submit(&job).await;
    for count in [10, 40, 80, 120] {
        some_done(&farm, id, count).await;
        farm.worker_pids().into_iter().take(1).for_each(kill);
    }
    let view = farm.over(id).await;
    assert_eq!(view.state, JobState::Succeeded, "{view:?}");
    let killed = audit_folder(&farm, id, &frame_names(1..=150)).await;
    assert_eq!(killed, calm, "the same frames as without a fault");
}

#[tokio::test]
async fn a_killed_scheduler_finds_its_workers_and_jobs_again() {
    let mut farm = TestFarm::start(2).await;
    let id = farm.submit(&slow("1-40", 0.2)).await;
    some_done(&farm, id, 4).await;
    let workers: BTreeSet<u32> = farm.worker_pids().into_iter().collect();
    farm.kill_scheduler();
    assert!(workers.iter().all(|pid| farm.worker_pids().contains(pid)), "workers go on");
    farm.restart_scheduler().await;
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 40));
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    assert!(attempts.iter().all(|attempt| attempt.outcome != AttemptOutcome::Lost), "nothing was lost: {attempts:?}");
    let done: u32 = attempts.iter().map(|attempt| attempt.done).sum();
    assert_eq!(done, 40, "nothing was done twice: {attempts:?}");
}

#[tokio::test]
async fn an_emptied_jetstream_loses_nothing() {
    let mut farm = TestFarm::start(2).await;
    let id = farm.submit(&slow("1-60", 0.2)).await;
    some_done(&farm, id, 4).await;
    farm.nats.kill();
    farm.nats.wipe();
    farm.nats.restart();
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 60));
}

#[tokio::test]
async fn a_renderer_killed_in_the_middle_of_a_frame_leaves_the_same_frames() {
    let farm = TestFarm::start(1).await;
    let marker = framewake_tests::farm::unique();
    let script = format!("sleep 0.2; cp \"$1\" \"$2\" # {marker}");
    let picture = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
    let source = farm.folder().join("source.txt");
    std::fs::write(&source, &picture).expect("writable");
    let function = json!({
        "name": "copy",
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", script, "sh", source.display().to_string(), "{output}"] },
    });
    farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "copy", "steps": [{
        "name": "run", "function": "copy", "frames": "1-10", "output": "{frame:02}.txt",
        "retries": { "attempts": 5, "backoff": "50ms" },
    }] });
    let id = farm.submit(&job).await;
    for count in [1, 4, 7] {
        some_done(&farm, id, count).await;
        for process in processes().iter().filter(|process| process.line.contains(&marker)) {
            kill(process.pid);
        }
    }
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let expected = (1..=10).map(|frame| format!("{frame:02}.txt")).collect();
    let digests = audit_folder(&farm, id, &expected).await;
    assert_eq!(digests.values().collect::<BTreeSet<_>>().len(), 1, "all are whole copies");
}

#[tokio::test]
async fn a_renderer_that_is_not_installed_is_named_and_does_not_spin() {
    let farm = TestFarm::start(2).await;
    let function =
        json!({ "name": "ghost", "driver": { "kind": "command", "command": ["no-such-renderer", "{frame}"] } });
    farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "ghost", "steps": [{ "name": "run", "function": "ghost", "frames": "1-100" }] });
    let id = farm.submit(&job).await;
    let explained = until(SOON, "the reason is known", || async {
        let explained = farm.client.explain(id).await.ok()?;
        explained.steps[0].reasons.iter().any(|reason| reason.contains("no-such-renderer")).then_some(explained)
    })
    .await;
    let view = farm.client.job(id).await.expect("there");
    assert_eq!(view.tasks.failed, 0, "no frame is blamed: {explained:?}");
    farm.client.act(id, Action::Cancel).await.expect("canceled");
}

#[tokio::test]
async fn a_full_disk_refuses_jobs_and_loses_none_that_was_accepted() {
    let mut farm = TestFarm::start(0).await;
    let data = farm.folder().join("tight");
    let Some(tight) = Tight::mount(&data, "2m") else {
        eprintln!("LEFT OUT: this machine allows no mount, so the disk can't be filled");
        return;
    };
    let listen = format!("127.0.0.1:{}", framewake_tests::parts::free_port());
    let start = |farm: &mut TestFarm| {
        let mut command = farm.scheduler_command_in(&data, &listen);
        framewake_tests::parts::Running::start("scheduler", &mut command, &farm.folder().join("tight.log"))
    };
    let mut scheduler = start(&mut farm);
    let client = framewake_proto::client::Client::new(&format!("http://{listen}")).expect("a good address");
    let ready = async || {
        until(SOON, "it is ready", || async { client.readiness().await.ok().filter(|readiness| readiness.ready) })
            .await;
    };
    ready().await;
    let mut accepted = Vec::new();
    let refused = loop {
        let mut job = jobs::command(&["/bin/true"], "1");
        job["labels"] = json!({ "filler": "x".repeat(200) });
        match client.submit(&job, &framewake_tests::farm::unique()).await {
            Ok(submitted) => accepted.push(submitted.id),
            Err(error) => break error,
        }
        assert!(accepted.len() < 10_000, "the disk never filled");
    };
    assert_ne!(scheduler.wait(SOON), 0, "it must not go on with what is not durable: {refused:?}");
    assert!(scheduler.log().contains("is the disk full?"), "{}", scheduler.log());
    // Room again.
    tight.resize("16m");
    let _scheduler = start(&mut farm);
    ready().await;
    for id in accepted {
        client.job(id).await.unwrap_or_else(|error| panic!("job {id} was accepted and is lost: {error:?}"));
    }
}
