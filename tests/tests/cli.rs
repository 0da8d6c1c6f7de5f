//! The command line against a real farm.

use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, path, root};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn framewake(farm: &TestFarm, arguments: &[&str]) -> Said {
    said(&mut command(farm, arguments))
}

fn command(farm: &TestFarm, arguments: &[&str]) -> Command {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1").env("PATH", path());
    command.current_dir(root());
    command
}

fn said(command: &mut Command) -> Said {
    let output = command.output().expect("the program runs");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that is a shell script.
fn script(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    std::fs::write(file, format!("#!/bin/sh\n{text}\n")).expect("writable");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).expect("its owner's");
}

/// The same with the programs of a folder before all others.
fn framewake_on(folder: &Path, farm: &TestFarm, arguments: &[&str]) -> Said {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(self::path());
    said(command(farm, arguments).env("PATH", path))
}

/// Runs it and demands success; standard output.
fn good(farm: &TestFarm, arguments: &[&str]) -> String {
    let said = framewake(farm, arguments);
    assert_eq!(said.code, 0, "{arguments:?}\n{}\n{}", said.out, said.err);
    said.out
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_jobs_are_submitted_waited_for_and_fetched() {
    let farm = TestFarm::start(2).await;
    for (sample, outputs) in [("mitsuba", 6), ("povray", 13), ("command", 0)] {
        good(&farm, &["submit", &format!("samples/jobs/{sample}.yaml"), "--wait"]);
        let folder = farm.folder().join(sample);
        good(&farm, &["fetch", "latest", &folder.display().to_string()]);
        let fetched = framewake_tests::audit::files(&folder);
        assert_eq!(fetched.len(), outputs, "{sample}: {fetched:?}");
        // A second time everything is there already.
        good(&farm, &["fetch", "latest", &folder.display().to_string()]);
        assert_eq!(framewake_tests::audit::files(&folder), fetched);
    }
    let jobs = json_lines(&good(&farm, &["jobs", "--json"]));
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_shows_frames_reasons_and_logs_and_its_exit_code() {
    let farm = TestFarm::start(1).await;
    let file = farm.folder().join("job.yaml");
    let marker = unique();
    let text = format!(
        "name: fails\nsteps:\n- name: run\n  function: command\n  frames: 1-2\n  retries: {{ attempts: 1 }}\n  \
         parameters:\n    program: /bin/sh\n    words: [-c, 'echo {marker}; exit 3']\n"
    );
    std::fs::write(&file, text).expect("writable");
    let said = framewake(&farm, &["submit", &file.display().to_string(), "--wait"]);
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("run: failed, 0 of 2 tasks done, 2 failed\n"), "{}", said.out);
    let frames = good(&farm, &["frames", "latest", "--failed"]);
    assert!(frames.contains(&marker), "the lines that show it: {frames}");
    let log = good(&farm, &["logs", "latest"]);
    assert!(log.contains(&marker), "{log}");
    let job = good(&farm, &["job", "latest"]);
    assert!(job.contains("failed"), "{job}");
    let tail = framewake(&farm, &["tail", "latest"]);
    assert_eq!(tail.code, 1, "tail ends as the job ended: {}\n{}", tail.out, tail.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_is_told_why_nobody_works_on_it_and_what_failed_alike_once() {
    let farm = TestFarm::start(1).await;
    // Its program is nowhere, so no worker of it starts.
    let ghost = farm.folder().join("ghost.yaml");
    std::fs::write(&ghost, "name: ghost\ndriver: { kind: command, command: [no-such-renderer] }\n").expect("writable");
    good(&farm, &["functions", "add", &ghost.display().to_string()]);
    let file = farm.folder().join("job.yaml");
    std::fs::write(&file, "name: waits\nsteps:\n- { name: run, function: ghost, frames: 1-3 }\n- { name: next, function: ghost, after: [run] }\n")
        .expect("writable");
    let log = farm.folder().join("waits.log");
    let waiting = &mut command(&farm, &["submit", &file.display().to_string(), "--wait"]);
    let mut waiting = Running::start("submit", waiting, &log);
    until(SOON, "it says why", || async {
        waiting.log().contains("run waits: no worker of `ghost@1` starts").then_some(())
    })
    .await;
    good(&farm, &["pause", "latest"]);
    until(SOON, "it says who holds it", || async {
        waiting.log().contains("run waits: held: the job is paused").then_some(())
    })
    .await;
    good(&farm, &["cancel", "latest"]);
    assert_eq!(waiting.wait(SOON), 3);
    let text = waiting.log();
    assert_eq!(text.matches("held: the job is paused").count(), 1, "{text}");
    assert!(!text.contains("next waits"), "it waits for the step before: {text}");
    let job = json_lines(&good(&farm, &["job", "latest", "--json"]));
    let tasks = &job[0]["tasks"];
    assert_eq!(
        *tasks,
        json!({ "total": 4, "waiting": 0, "open": 0, "done": 0, "failed": 0, "canceled": 4 }),
        "nobody waits"
    );

    let text = "name: fails\nsteps:\n- name: run\n  function: command\n  frames: 1-12\n  retries: { attempts: 1 }\n  \
                parameters: { program: /bin/false }\n- name: next\n  function: command\n  after: [run]\n  \
                parameters: { program: /bin/true }\n";
    std::fs::write(&file, text).expect("writable");
    let said = framewake(&farm, &["submit", &file.display().to_string(), "--wait"]);
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("\n  run frames 1-12: the renderer exited with code 1"), "{}", said.out);
    let alike = said.out.lines().filter(|line| line.contains("failed for good")).count();
    assert!(alike <= 3, "{}", said.out);
    let job = json_lines(&good(&farm, &["job", "latest", "--json"]));
    let tasks = &job[0]["tasks"];
    assert_eq!(*tasks, json!({ "total": 13, "waiting": 0, "open": 0, "done": 0, "failed": 12, "canceled": 1 }));
    let overview = farm.rest("/jobs?state=failed").await;
    assert_eq!(overview["items"][0]["tasks"], *tasks);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_paused_resumed_prioritized_and_canceled() {
    let farm = TestFarm::start(1).await;
    let file = farm.folder().join("job.yaml");
    let text = "name: long\nsteps:\n- name: run\n  function: command\n  frames: 1-500\n  chunking: { mode: fixed, size: 1 }\n  \
                parameters: { program: /bin/sleep, words: ['0.2'] }\n";
    std::fs::write(&file, text).expect("writable");
    good(&farm, &["submit", &file.display().to_string(), "--frames", "101-400", "--project", "film"]);
    good(&farm, &["pause", "latest"]);
    let explained = good(&farm, &["explain", "latest"]);
    let reasons: Vec<&str> = explained.lines().filter(|line| line.starts_with("  - ")).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("the job is paused"), "{explained}");
    let none = framewake(&farm, &["retry", "latest"]);
    assert!(none.code == 1 && none.err.contains("failed for good: there is nothing to try again"), "{}", none.err);
    good(&farm, &["priority", "latest", "90"]);
    good(&farm, &["resume", "latest"]);
    let job = json_lines(&good(&farm, &["job", "latest", "--json"]));
    assert_eq!(job[0]["priority"], 90, "{job:?}");
    let asked = [&job[0]["project"], &job[0]["steps"][0]["frames"], &job[0]["tasks"]["total"]];
    assert_eq!(json!(asked), json!(["film", "101-400", 300]), "as the command line says, not the file");
    good(&farm, &["cancel", "latest"]);
    let said = framewake(&farm, &["tail", "latest"]);
    assert_eq!(said.code, 3, "{}\n{}", said.out, said.err);
    let again = framewake(&farm, &["cancel", "latest"]);
    assert_ne!(again.code, 0, "a canceled job can't be canceled");
    farm.no_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_added_in_versions_and_the_doctor_looks_at_each_part() {
    let farm = TestFarm::start(1).await;
    let file = farm.folder().join("function.yaml");
    for version in 1..=2 {
        let text =
            format!("name: mine\ndescription: version {version}\ndriver: {{ kind: command, command: [/bin/true] }}\n");
        std::fs::write(&file, text).expect("writable");
        // The same again is the same version.
        good(&farm, &["functions", "add", &file.display().to_string()]);
        good(&farm, &["functions", "add", &file.display().to_string()]);
    }
    let mine: Vec<Value> = json_lines(&good(&farm, &["functions", "list", "--json"]))
        .into_iter()
        .filter(|function| function["name"] == "mine" && function["newest"] == true)
        .collect();
    assert_eq!(mine.len(), 1, "{mine:?}");
    assert_eq!(mine[0]["version"], 2, "{mine:?}");
    let doctor = framewake(&farm, &["doctor"]);
    let text = format!("{}{}", doctor.out, doctor.err);
    for part in ["NATS", "store", "disk"] {
        assert!(text.to_lowercase().contains(&part.to_lowercase()), "{part}: {text}");
    }
    // With a Python on PATH that has no Blender, and one that has.
    for (code, word, words) in
        [(1, "warn", "fails at `import bpy` (for blender)"), (0, "ok", "with `bpy` (for blender)")]
    {
        let folder = farm.folder().join(format!("python-{code}"));
        script(&folder.join("python3"), &format!("[ \"$2\" = 'import bpy' ] && exit {code}; exit 2"));
        let said = framewake_on(&folder, &farm, &["doctor"]);
        let line = said.out.lines().find(|line| line.contains("renderer python3")).expect("it is looked at").to_owned();
        assert!(line.starts_with(word) && line.contains(words), "{}", said.out);
        assert_eq!(said.out.contains("export PATH="), code == 1, "{}", said.out);
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(&farm, &["completions", shell]).contains("framewake"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_goes_on_after_a_restart_of_the_scheduler() {
    let mut farm = TestFarm::start(1).await;
    let file = farm.folder().join("job.yaml");
    let go = farm.folder().join("go");
    // It speaks, waits for the test, and speaks again.
    let script = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", go.display());
    let text = format!(
        "name: talks\nsteps:\n- name: run\n  function: command\n  parameters:\n    program: /bin/sh\n    \
         words: [-c, '{script}']\n"
    );
    std::fs::write(&file, text).expect("writable");
    good(&farm, &["submit", &file.display().to_string()]);
    let attempt = until(SOON, "an attempt", async || {
        let list = framewake(&farm, &["logs", "latest", "--list", "--json"]);
        json_lines(&list.out).first().map(|attempt| attempt["attempt"].as_str().expect("text").to_owned())
    })
    .await;
    let log = farm.folder().join("followed.log");
    let mut command = Command::new(built("framewake"));
    command.args(["logs", "latest", &attempt, "--follow"]).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1");
    let mut logs = Running::start("framewake logs", &mut command, &log);
    let lines = |log: &str, word: &str| log.lines().filter(|line| *line == word).count();
    until(SOON, "the first line", async || (lines(&logs.log(), "first") == 1).then_some(())).await;
    farm.kill_scheduler();
    farm.restart_scheduler().await;
    std::fs::write(&go, "").expect("writable");
    until(SOON, "the second line", async || (lines(&logs.log(), "second") == 1).then_some(())).await;
    assert_eq!(logs.wait(SOON), 0, "{}", logs.log());
    assert_eq!(lines(&logs.log(), "first"), 1, "nothing is printed twice: {}", logs.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_failed_frames_those_are_rendered_again_that_are_named() {
    let farm = TestFarm::start(1).await;
    let marks = farm.folder().join("tried");
    let note = format!("echo {{frame}} >> {}; exit 3", marks.display());
    let mut job = jobs::command(&["/bin/sh", "-c", &note], "1-5");
    job["steps"][0]["retries"] = serde_json::json!({ "attempts": 1 });
    let id = farm.submit(&job).await;
    farm.over(id).await;
    let before = std::fs::read_to_string(&marks).expect("each was tried").lines().count();
    assert_eq!(before, 5);
    good(&farm, &["retry", "latest", "--frames", "2,4-5"]);
    until(SOON, "the job is over again", async || {
        let job = farm.client.job(id).await.ok()?;
        (job.tasks.failed == 5 && job.state.is_over()).then_some(())
    })
    .await;
    let tried = std::fs::read_to_string(&marks).expect("there");
    let mut again: Vec<&str> = tried.lines().skip(5).collect();
    again.sort_unstable();
    assert_eq!(again, ["2", "4", "5"]);
    let mut one_fails = jobs::command(&["/bin/sh", "-c", "[ {frame} != 2 ]"], "1-2");
    one_fails["steps"][0]["retries"] = json!({ "attempts": 1 });
    farm.over(farm.submit(&one_fails).await).await;
    let none = framewake(&farm, &["retry", "latest", "--frames", "1"]);
    assert!(none.code == 1 && none.err.contains("none of these frames of job"), "{}", none.err);
    good(&farm, &["retry", "latest", "--frames", "1-2"]);
    let wrong = framewake(&farm, &["retry", "latest", "--frames", "6"]);
    assert!(wrong.code != 0 && wrong.err.contains("frame 6 is not one of this step"), "{}", wrong.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_job_file_is_said_at_once_though_an_input_is_missing() {
    let farm = TestFarm::start(1).await;
    let file = farm.folder().join("job.yaml");
    let text = "name: wrong\nsteps:\n- name: render\n  function: povray\n  frames: 1-\n  inputs: [{ path: orbit.pov }]\n  \
                parameters: { scene: orbit.pov, widht: 64 }\n  output: 'frames/{frame:04}.png'\n\
                - name: again\n  function: povray\n  inputs: [{ path: textures }]\n  \
                parameters: { scene: textures/orbit.pov }\n  output: frame.png\n";
    std::fs::write(&file, text).expect("writable");
    let file = file.display().to_string();
    for command in ["submit", "estimate"] {
        let said = framewake(&farm, &[command, &file]);
        assert_eq!(said.code, 2, "{}", said.err);
        let fields: Vec<&str> = said.err.lines().filter(|line| line.starts_with("  ")).collect();
        let told = |field: &str, reason: &str| fields.iter().any(|line| line.contains(field) && line.contains(reason));
        assert!(told("steps[0].inputs[0].path", "`orbit.pov` is not there"), "{}", said.err);
        assert!(told("steps[1].inputs[0].path", "`textures` is not there"), "{}", said.err);
        assert!(told("steps[0].frames", "`1-`"), "{}", said.err);
        assert!(told("steps[0].parameters.widht", "did you mean `width`"), "{}", said.err);
        assert_eq!(fields.len(), 4, "and nothing that only follows from these: {}", said.err);
    }
    assert_eq!(good(&farm, &["jobs", "--json"]), "", "nothing was stored");
    // Without a farm, what is known here.
    let output = Command::new(built("framewake")).args(["submit", &file, "--url", "http://127.0.0.1:1"]).output();
    let output = output.expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("`orbit.pov` is not there"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_failure_comes_first_and_what_shows_it_once() {
    let farm = TestFarm::start(1).await;
    let marker = unique();
    let words = format!("echo {marker}");
    let job = jobs::command_with_output(&["/bin/sh", "-c", &words], "1", "frame.png");
    let fails = async |mut job: Value| {
        job["steps"][0]["retries"] = json!({ "attempts": 1 });
        let id = farm.submit(&job).await;
        farm.over(id).await;
        (framewake(&farm, &["tail", "latest"]).out, good(&farm, &["frames", "latest", "--failed"]))
    };
    // It ended well without its file, and only what it said can tell why.
    let (_, frames) = fails(job).await;
    let lines: Vec<&str> = frames.lines().collect();
    assert!(lines[0].contains("failed: the renderer wrote no output (output_bad"), "{frames}");
    assert_eq!(lines[1..], [format!("    | {marker}")], "{frames}");
    let (tail, frames) = fails(jobs::command(&["no-such-program"], "1")).await;
    assert!(tail.contains("program `no-such-program` is not installed: it is not in PATH (scene_error)"), "{tail}");
    assert!(!tail.contains("/bin"), "PATH is long, and is told where the evidence is: {tail}");
    assert_eq!(frames.matches("PATH=").count(), 1, "{frames}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_without_prices_says_so_once_and_how_to_set_them() {
    let farm = TestFarm::start(1).await;
    let file = "samples/jobs/command.yaml";
    good(&farm, &["submit", file, "--wait", "--frames", "1-2"]);
    let told = good(&farm, &["estimate", file]);
    assert!(told.contains("no price is set: `framewake prices set any 0.30USD`"), "{told}");
    assert!(!told.contains("unknown") && !told.lines().any(|line| line.trim_end().ends_with("cost")), "{told}");
    good(&farm, &["prices", "set", "any", "0.30USD"]);
    let told = good(&farm, &["estimate", file]);
    assert!(told.contains("USD") && !told.contains("price"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_and_usage_are_of_the_command_line() {
    let farm = TestFarm::start(1).await;
    for (arguments, command) in [
        (&["schedules", "show", "nightly"][..], "schedules"),
        (&["job", "01ARZ3NDEKTSV4RRFFQ69G5FAV"], "jobs"),
        (&["budgets", "rm", "film"], "budgets"),
        (&["notify", "show", "ops"], "notify"),
        (&["tokens", "revoke", "jane"], "tokens"),
        (&["workers", "show", "w-1"], "workers"),
        (&["workers", "restore", "host/gpu"], "workers places"),
    ] {
        let said = framewake(&farm, arguments);
        assert!(said.code != 0 && !said.err.contains("/v1"), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(&format!("`framewake {command}`")), "{arguments:?}: {}", said.err);
    }
    // The address is given by the environment here, as it mostly is.
    for (arguments, usage) in [
        (&["retry"][..], "framewake retry [OPTIONS] <JOBS>..."),
        (&["--url", "jobs", "schedules", "show"], "framewake schedules show [OPTIONS] <NAME>"),
        (&["retry", "latest", "--frobs"], "framewake retry [OPTIONS] <JOBS>..."),
    ] {
        let said = framewake(&farm, arguments);
        assert!(said.code == 2 && said.err.contains(&format!("Usage: {usage}\n")), "{}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said_in_words_that_help() {
    let farm = TestFarm::start(1).await;
    let text = |file: &Path| file.display().to_string();
    // A folder of functions, as a farm takes one, and a function's own with a sample job beside it.
    let (many, own) = (farm.folder().join("many"), farm.folder().join("own"));
    for (folder, name) in [(&many, "one"), (&many, "two"), (&own, "function")] {
        std::fs::create_dir_all(folder).expect("made");
        let function = format!("name: {name}\ndriver: {{ kind: command, command: [/bin/true] }}\n");
        std::fs::write(folder.join(format!("{name}.yaml")), function).expect("writable");
    }
    std::fs::write(own.join("job.yaml"), "name: no function\n").expect("writable");
    let added = good(&farm, &["functions", "add", &text(&many), &text(&own)]);
    assert_eq!(added, "function one@1\nfunction two@1\nfunction function@1\n");
    std::fs::create_dir(many.join("empty")).expect("made");
    let none = framewake(&farm, &["functions", "add", &text(&many.join("empty"))]);
    assert!(none.code == 2 && none.err.contains("there is no function file in"), "{}", none.err);
    let explained = good(&farm, &["functions", "explain", "one"]);
    assert!(
        explained.contains("not measured yet, for nothing was rendered: the time of a task, of loading"),
        "{explained}"
    );
    assert!(!explained.contains("takes not measured"), "{explained}");

    // An engine whose daemon is away.
    std::fs::write(own.join("Dockerfile"), "FROM scratch\n").expect("writable");
    let docker = farm.folder().join("docker");
    script(&docker, "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1");
    let built = framewake(&farm, &["functions", "build", &text(&own), "--engine", &text(&docker)]);
    assert!(
        built.err.contains("Cannot connect to the Docker daemon") && !built.err.contains("no buildx"),
        "{}",
        built.err
    );
    script(&docker, "[ \"$1\" = version ] && exit 0; exit 1");
    let built = framewake(&farm, &["functions", "build", &text(&own), "--engine", &text(&docker)]);
    assert!(built.err.contains("has no buildx"), "{}", built.err);

    let safe = farm.url().replacen("http:", "https:", 1);
    let said = framewake(&farm, &["jobs", "--url", &safe]);
    assert!(said.code == 2 && said.err.contains("speaks no TLS"), "{}", said.err);
    assert!(said.err.contains(&format!("hint: write {}", farm.url())), "{}", said.err);
    let said = framewake(&farm, &["dev", "--listen", "7733"]);
    assert!(said.code == 2 && said.err.contains("as 127.0.0.1:7733"), "{}", said.err);

    // A kind of video that nobody knows, and outputs that somebody took away.
    let file = farm.folder().join("job.yaml");
    std::fs::copy(root().join("samples/scenes/orbit.pov"), farm.folder().join("orbit.pov")).expect("copied");
    let job = |film: &str| {
        let job = format!(
            "name: film\nsteps:\n- name: render\n  function: povray\n  frames: 1-2\n  inputs: [{{ path: orbit.pov }}]\n  \
             parameters: {{ scene: orbit.pov, width: 32, height: 18 }}\n  output: 'frames/{{frame:04}}.png'\n\
             - name: encode\n  function: ffmpeg-encode\n  inputs: [{{ step: render }}]\n  output: {film}\n"
        );
        std::fs::write(&file, job).expect("writable");
    };
    job("film.xyz");
    let said = framewake(&farm, &["submit", &text(&file), "--wait"]);
    assert!(said.out.contains("Unable to choose an output format for"), "{}", said.out);
    let log = good(&farm, &["logs", "latest"]);
    assert!(log.contains("[framewake] frame 1: scene_error: ffmpeg: Unable"), "{log}");
    job("film.mp4");
    good(&farm, &["submit", &text(&file), "--wait"]);
    let late = framewake(&farm, &["budget", "latest", "5USD"]);
    assert!(
        late.code == 1 && late.err.contains("it spends nothing any more") && late.err.contains("hint: "),
        "{}",
        late.err
    );
    let jobs = farm.store_folder().join("jobs/default");
    std::fs::remove_dir_all(jobs).expect("they were there");
    let fetched = framewake(&farm, &["fetch", "latest", &text(&farm.folder().join("out"))]);
    assert!(fetched.code == 1 && fetched.err.contains("3 outputs are no longer in the store"), "{}", fetched.err);
    assert!(fetched.err.contains("submit it again") && !fetched.err.contains("missing: the job is"), "{}", fetched.err);
}
