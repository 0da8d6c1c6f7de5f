//! Bad input: a clear answer that names the thing and the way out, and nothing stored or lost.

use framewake_proto::client::{Error, JobQuery};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, free_port, root};
use serde_json::{Value, json};
use std::process::Command;

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut job = jobs::command(&["/bin/true"], "1-3");
    change(&mut job);
    job
}

fn two_steps(change: impl FnOnce(&mut Value, &mut Value)) -> Value {
    let mut first = jobs::command_with_output(&["/bin/true"], "1-3", "{frame}.txt");
    let mut second = first["steps"][0].clone();
    second["name"] = json!("second");
    change(&mut first["steps"][0], &mut second);
    first["steps"].as_array_mut().expect("steps").push(second);
    first
}

/// A step of a function that makes a file for each task, and no name for any.
fn without_output(function: &str, frames: Option<&str>) -> Value {
    with(|job| {
        let step = job["steps"][0].as_object_mut().expect("a step");
        step.insert("function".to_owned(), json!(function));
        step.insert("frames".to_owned(), json!(frames));
        step.remove("parameters");
    })
}

/// The job, the field that is named, and words of the reason.
fn cases() -> Vec<(Value, &'static str, &'static str)> {
    let frames = |text: &str| with(|job| job["steps"][0]["frames"] = json!(text));
    vec![
        (frames("1-"), "/steps/0/frames", "`1-` is not a frame or a range"),
        (frames("5-1x0"), "/steps/0/frames", "step of 0"),
        (frames("5-1"), "/steps/0/frames", "runs backwards"),
        (frames(""), "/steps/0/frames", "empty"),
        (frames("1-2000000000"), "/steps/0/frames", "outside"),
        (frames("1-900000000"), "/steps/0/frames", "more than the 10000000 allowed"),
        (with(|job| job["steps"][0]["function"] = json!("comand")), "/steps/0/function", "did you mean `command`?"),
        (
            with(|job| job["steps"][0]["function"] = json!("command@99")),
            "/steps/0/function",
            "`command` has version 1 alone",
        ),
        (with(|job| job["priority"] = json!(101)), "/priority", "100"),
        (with(|job| job["priority"] = json!(0.5)), "/priority", "must be a whole number, not 0.5"),
        (with(|job| job["priority"] = json!("high")), "/priority", "whole number, not text"),
        (with(|job| job["priorty"] = json!(1)), "/priorty", "did you mean `priority`?"),
        (with(|job| job["steps"][0]["frame"] = json!("1")), "/steps/0/frame", "did you mean `frames`?"),
        (with(|job| job["name"] = json!("")), "/name", "1"),
        (with(|job| job["steps"] = json!([])), "/steps", "1"),
        (without_output("povray", Some("1-3")), "/steps/0/output", "write for example `output: frames/{frame:04}.png`"),
        (without_output("blender", None), "/steps/0/output", "write for example `output: picture.png`"),
        (without_output("ffmpeg-encode", None), "/steps/0/output", "write for example `output: film.mp4`"),
        (with(|job| job["steps"][0]["output"] = json!("out.txt")), "/steps/0/output", "no `{frame}`"),
        (with(|job| job["steps"][0]["output"] = json!("../{frame}.txt")), "/steps/0/output", "leaves its folder"),
        (with(|job| job["steps"][0]["output"] = json!("/etc/{frame}.txt")), "/steps/0/output", "leaves its folder"),
        (with(|job| job["steps"][0]["output"] = json!("{frmae}.txt")), "/steps/0/output", "not a placeholder"),
        (with(|job| job["steps"][0]["after"] = json!(["run"])), "/steps/0/after/0", "can't wait for itself"),
        (with(|job| job["steps"][0]["after"] = json!(["rum"])), "/steps/0/after/0", "did you mean `run`?"),
        (
            with(|job| job["steps"][0]["parameters"]["wrods"] = json!([])),
            "/steps/0/parameters/wrods",
            "did you mean `words`?",
        ),
        (
            with(|job| drop(job["steps"][0].as_object_mut().expect("a step").remove("parameters"))),
            "/steps/0/parameters/program",
            "needs this parameter",
        ),
        (
            with(|job| job["steps"][0]["parameters"]["program"] = json!(7)),
            "/steps/0/parameters/program",
            "must be text",
        ),
        (with(|job| job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 0 })), "/steps/0/chunking", "1"),
        (with(|job| job["steps"][0]["timeouts"] = json!({ "frame": "soon" })), "/steps/0/timeouts/frame", ""),
        (with(|job| job["steps"][0]["retries"] = json!({ "attempts": 0 })), "/steps/0/retries/attempts", "1"),
        (
            with(|job| job["steps"][0]["inputs"] = json!([{ "path": "scene.blend" }])),
            "/steps/0/inputs/0/path",
            "local file",
        ),
        (
            with(|job| job["steps"][0]["inputs"] = json!([{ "digest": "0".repeat(64), "as": "a" }])),
            "/steps/0/inputs/0",
            "upload",
        ),
        (
            with(|job| job["steps"][0]["inputs"] = json!([{ "url": "http://169.254.169.254/x" }])),
            "/steps/0/inputs/0/url",
            "allow",
        ),
        (with(|job| job["steps"][0]["inputs"] = json!([{}])), "/steps/0/inputs/0", "exactly one"),
        (
            with(|job| {
                let digest = "0".repeat(64);
                job["steps"][0]["inputs"] = json!([{ "digest": digest, "as": "a/b" }, { "digest": digest, "as": "a" }]);
            }),
            "/steps/0/inputs/0/as",
            "`a` is the place of a file",
        ),
        (two_steps(|_, _| {}), "/steps/1/output", "could write the same names"),
        (
            two_steps(|first, second| {
                second["output"] = json!("b/{frame}.txt");
                first["after"] = json!(["second"]);
                second["after"] = json!(["run"]);
            }),
            "/steps/0/after",
            "in a circle",
        ),
        (two_steps(|_, second| second["name"] = json!("run")), "/steps/1/name", "already the name"),
    ]
}

#[tokio::test]
async fn bad_jobs_are_refused_by_field_and_reason_and_nothing_is_stored() {
    let farm = TestFarm::start(1).await;
    let mut missed = Vec::new();
    for (job, field, reason) in cases() {
        let key = framewake_tests::farm::unique();
        let Err(Error::Refused(problem)) = farm.client.submit(&job, &key).await else { panic!("accepted: {job}") };
        assert_eq!(problem.status, 422, "{problem:?}");
        let named = problem.faults.iter().any(|fault| fault.field.starts_with(field) && fault.reason.contains(reason));
        if !named {
            missed.push(format!("expected {field}: …{reason}…, got {:?}", problem.faults));
        }
        assert!(!problem.request_id.is_empty());
    }
    assert!(missed.is_empty(), "{missed:#?}");
    let all = json!({ "name": "", "priority": 101, "steps": [{ "name": "a", "function": "x", "frames": "1-", "output": "../x" }] });
    let Err(Error::Refused(problem)) = farm.client.submit(&all, "all").await else { panic!("accepted: {all}") };
    assert!(problem.faults.len() >= 2, "all faults at once: {problem:#?}");
    let jobs = farm.client.jobs(&JobQuery::default()).await.expect("listed").items;
    assert!(jobs.is_empty(), "nothing was stored: {jobs:?}");
    assert!(farm.worker_pids().is_empty(), "nobody was started");
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_large_are_refused() {
    let farm = TestFarm::start(1).await;
    let url = format!("{}/v1/jobs", farm.url());
    let client = reqwest::Client::new();
    let post = async |body: Vec<u8>| {
        let request =
            client.post(&url).header("content-type", "application/json").header("idempotency-key", "x").body(body);
        let answer = request.send().await.expect("an answer, whatever the body");
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (status, kind, answer.text().await.expect("a problem"))
    };
    let (status, kind, text) = post(b"{ \"name\": }".to_vec()).await;
    assert_eq!((status, kind.as_str()), (400, "application/problem+json"), "{text}");
    assert!(text.contains("line 1"), "{text}");
    // Two hundred megabytes are announced; the answer comes before they are sent.
    let address = farm.url().trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(&address).await.expect("it listens");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 209715200\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut answer).await.expect("answered");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
}

#[tokio::test]
async fn an_idempotency_key_gives_one_job_and_refuses_another_body() {
    let farm = TestFarm::start(1).await;
    let job = jobs::command(&["/bin/true"], "1");
    let first = farm.client.submit(&job, "same").await.expect("accepted");
    let second = farm.client.submit(&job, "same").await.expect("repeated");
    assert_eq!((first.id, first.repeated, second.repeated), (second.id, false, true));
    let Err(Error::Refused(problem)) = farm.client.submit(&jobs::command(&["/bin/true"], "1-2"), "same").await else {
        panic!("another body under the same key was accepted")
    };
    assert_eq!(problem.status, 409, "{problem:?}");
    assert_eq!(farm.client.jobs(&JobQuery::default()).await.expect("listed").items.len(), 1);
}

#[tokio::test]
async fn a_broken_scene_is_said_and_not_tried_again() {
    let farm = TestFarm::start(1).await;
    for (bytes, name) in
        [(b"BLENDER-v300 and nothing more".to_vec(), "truncated"), (b"not a scene".to_vec(), "foreign")]
    {
        let digest = framewake_tests::audit::upload(&farm.client, &bytes).await;
        let job = json!({ "name": name, "steps": [{
            "name": "render", "function": "blender", "frames": "1-2",
            "inputs": [{ "digest": digest, "as": "scene.blend" }],
            "parameters": { "scene": "scene.blend" }, "output": "{frame:04}.png",
        }] });
        let id = farm.submit(&job).await;
        farm.over(id).await;
        let failures = farm.failures(id).await;
        assert_eq!(failures.len(), 2, "{failures:?}");
        let failure = failures[0].failure.as_ref().expect("it says why");
        assert_eq!(failure.verdict, framewake_proto::verdict::Verdict::SceneError, "{failure:?}");
        assert!(failure.message.contains("scene.blend"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_second_scheduler_on_the_folder_or_the_port_is_refused() {
    let mut farm = TestFarm::start(1).await;
    let pid = farm.scheduler().pid();
    let log = farm.folder().join("second.log");
    let mut second = Running::start("second", &mut farm.scheduler_command(), &log);
    assert_ne!(second.wait(SOON), 0);
    let said = second.log();
    assert!(said.contains("is used by another scheduler") && said.contains(&pid.to_string()), "{said}");

    // A folder of its own, and the same address.
    let mut other = Command::new(built("framewake-scheduler"));
    other.arg("--data").arg(farm.folder().join("other"));
    other.args([
        "--listen",
        farm.url().trim_start_matches("http://"),
        "--nats",
        &farm.nats.url(),
        "--store",
        &farm.store_url(),
    ]);
    let mut third = Running::start("third", &mut other, &farm.folder().join("third.log"));
    assert_ne!(third.wait(SOON), 0);
    assert!(third.log().contains("cannot listen on"), "{}", third.log());
}

#[tokio::test]
async fn a_store_that_refuses_writes_is_said_at_the_start() {
    let farm = TestFarm::start(1).await;
    let mut command = Command::new(built("framewake-scheduler"));
    command.arg("--data").arg(farm.folder().join("other"));
    command.args([
        "--listen",
        &format!("127.0.0.1:{}", free_port()),
        "--nats",
        &farm.nats.url(),
        "--store",
        "file:///proc/framewake",
    ]);
    let mut scheduler = Running::start("scheduler", &mut command, &farm.folder().join("other.log"));
    assert_ne!(scheduler.wait(SOON), 0);
    assert!(scheduler.log().contains("/proc/framewake"), "{}", scheduler.log());
}

#[tokio::test]
async fn a_scheduler_without_nats_says_so_takes_jobs_and_goes_on_when_it_comes() {
    let mut farm = TestFarm::start(1).await;
    farm.nats.kill();
    // A scheduler that just began is not ready for other reasons either.
    framewake_tests::wait::until(SOON, "the loss is noticed", || async {
        let readiness = farm.client.readiness().await.ok().filter(|readiness| !readiness.ready)?;
        readiness.parts["nats"].contains("NATS").then_some(())
    })
    .await;
    let id = farm.submit(&jobs::command(&["/bin/true"], "1-3")).await;
    farm.nats.restart();
    let view = farm.over(id).await;
    assert_eq!(view.tasks.done, 3);
}

#[tokio::test]
async fn a_nats_without_room_for_the_streams_is_said_with_the_way_out() {
    let mut farm = TestFarm::start(0).await;
    farm.kill_scheduler();
    farm.nats.configure("jetstream { max_file_store: 1GiB }\n");
    farm.nats.kill();
    farm.nats.wipe();
    farm.nats.restart();
    farm.spawn_scheduler();
    framewake_tests::wait::until(SOON, "the reason is said", || async {
        let said = farm.client.readiness().await.ok()?.parts["nats"].clone();
        (said.contains("reserve 5 GiB") && said.contains("max_file_store")).then_some(())
    })
    .await;
}

/// Runs `framewake` with arguments; exit code and what it said.
fn cli(farm: &TestFarm, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(built("framewake"))
        .args(arguments)
        .env("FRAMEWAKE_URL", farm.url())
        .env("NO_COLOR", "1")
        .current_dir(root())
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_what_is_wrong_with_a_job_file() {
    let farm = TestFarm::start(1).await;
    let check = |text: &str, expected: &[&str]| {
        let file = farm.folder().join("job.yaml");
        std::fs::write(&file, text).expect("writable");
        let (code, said) = cli(&farm, &["submit", &file.display().to_string()]);
        assert_eq!(code, 2, "{text}\n{said}");
        for words in expected {
            assert!(said.contains(words), "expected {words:?} of\n{text}\n{said}");
        }
    };
    check("name: [", &["line"]);
    check("{\"name\": \"x\",}", &["line"]);
    check("name: x\nstpes: []\n", &["stpes", "steps"]);
    let missing = "name: x\nsteps:\n- name: a\n  function: command\n  inputs: [{path: nowhere.blend}]\n  parameters: {program: /bin/true}\n";
    check(missing, &["nowhere.blend"]);
    // What the command line says in place of a file is held against it.
    let orbit = "samples/jobs/povray.yaml";
    for command in ["submit", "estimate"] {
        for (words, expected) in [
            (["--frames", "rendr=1-3"], "did you mean `render`?"),
            (["--frames", "encode=1-3"], "step `encode` has no frames in the job"),
            (["--frames", "1-3,"], "1-3,"),
            (["--project", "No Name"], "project"),
        ] {
            let (code, said) = cli(&farm, &[command, orbit, words[0], words[1]]);
            assert!(code == 2 && said.contains(expected), "{command} {words:?}: {code} {said}");
        }
    }
    let (code, said) = cli(&farm, &["submit", "no-such-file.yaml"]);
    assert_eq!(code, 2);
    assert!(said.contains("no-such-file.yaml"), "{said}");
    assert!(farm.client.jobs(&JobQuery::default()).await.expect("listed").items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_names_the_address_and_what_to_start() {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let output = Command::new(built("framewake")).args(["jobs", "--url", &url]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&url) && said.contains("framewake dev"), "{said}");
}
