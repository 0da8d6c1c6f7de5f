//! Schedules on real parts: they make jobs by themselves, one a due time, whatever dies when.

use framewake_proto::api::JobState;
use framewake_proto::client::JobQuery;
use framewake_proto::ids::Name;
use framewake_proto::schedule::{RunState, RunView, ScheduleState};
use framewake_tests::audit::upload;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{built, path, root};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

async fn runs(farm: &TestFarm, schedule: &str) -> Vec<RunView> {
    farm.client.schedule_runs(&name(schedule), None).await.expect("runs can be listed").items
}

#[tokio::test]
async fn a_schedule_due_at_the_next_second_renders_a_real_job_by_itself() {
    let farm = TestFarm::start(2).await;
    let scene =
        upload(&farm.client, &std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample")).await;
    let mut job = jobs::tachyon(scene, "1-{run:01}");
    job["name"] = json!("night of {date}, run {run}");
    job["steps"][0]["output"] = json!("{year}/{frame:04}.png");
    let spec =
        json!({ "name": "soon", "cron": "*/2 * * * * *", "zone": "Europe/Paris", "overlap": "skip", "job": job });
    let stored = farm.client.add_schedule(&spec).await.expect("a good schedule");
    assert_eq!(stored.schedule.state, ScheduleState::Active);
    assert!(stored.schedule.reading.contains("every 2 seconds (six fields"), "{}", stored.schedule.reading);
    let done = until(SOON, "two of its jobs are done", || async {
        let runs = runs(&farm, "soon").await;
        let done = runs.into_iter().filter(|run| run.job_state == Some(JobState::Succeeded));
        Some(done.collect::<Vec<_>>()).filter(|done| done.len() >= 2)
    })
    .await;
    farm.client.pause_schedule(&name("soon")).await.expect("it can be paused");
    for run in &done {
        let job = farm.client.job(run.job.expect("it has a job")).await.expect("the link leads there");
        let number = run.number.expect("it has a number");
        assert_eq!(u64::from(job.tasks.done), number, "its frames are 1 to its number: {job:?}");
        assert!(job.name.ends_with(&format!(", run {number}")), "{}", job.name);
        assert_eq!(job.labels.get("schedule").map(String::as_str), Some("soon"));
        assert_eq!(job.submitted_by.as_deref(), Some("schedule soon"));
        assert_eq!(run.due.0 % 2000, 0, "{run:?}");
        assert!(farm.outputs(job.id).await.iter().all(|output| output.name.starts_with("20")));
    }
    // Paused, nothing more is made; what was due in the meantime is not made up for.
    let before = runs(&farm, "soon").await;
    let after_pause = farm.client.run_schedule(&name("soon"), "by hand").await.expect("by hand it goes");
    let again = farm.client.run_schedule(&name("soon"), "by hand").await.expect("the same key");
    assert_eq!((again.id, again.repeated), (after_pause.id, true));
    assert_eq!(farm.over(after_pause.id).await.state, JobState::Succeeded);
    let after = runs(&farm, "soon").await;
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
    assert_eq!(after[0].reason, "run by hand");
    let metrics = reqwest::get(format!("{}/metrics", farm.url())).await.expect("answered").text().await.expect("text");
    assert!(metrics.contains("framewake_schedules{state=\"paused\"} 1"), "{metrics}");
    assert!(metrics.contains("framewake_schedules_runs_total{outcome=\"submitted\"}"), "{metrics}");
}

#[tokio::test]
async fn a_scheduler_killed_around_due_times_makes_one_job_for_each() {
    let mut farm = TestFarm::start(2).await;
    let spec = json!({
        "name": "tick", "cron": "* * * * * *", "overlap": "allow", "catch_up": { "missed": "all", "runs": 100 },
        "job": jobs::command(&["/bin/true"], "1"),
    });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    for round in 1..=4 {
        until(SOON, "it has made jobs", || async { (runs(&farm, "tick").await.len() >= 2 * round).then_some(()) })
            .await;
        farm.kill_scheduler();
        farm.restart_scheduler().await;
    }
    farm.client.pause_schedule(&name("tick")).await.expect("it can be paused");
    let runs = runs(&farm, "tick").await;
    let dues: Vec<i64> = runs.iter().rev().map(|run| run.due.0).collect();
    let expected: Vec<i64> = (0..).map(|at| dues[0] + at * 1000).take(dues.len()).collect();
    assert_eq!(dues, expected, "every second has its row, the time of the restarts too");
    assert!(runs.iter().all(|run| run.state == RunState::Submitted), "{runs:?}");
    let linked: BTreeSet<_> = runs.iter().filter_map(|run| run.job).collect();
    assert_eq!(linked.len(), runs.len(), "each has a job of its own");
    let jobs = farm.client.jobs(&JobQuery { limit: Some(1000), ..JobQuery::default() }).await.expect("listed").items;
    assert_eq!(jobs.iter().map(|job| job.id).collect::<BTreeSet<_>>(), linked, "and there are no others");
    let numbers: Vec<Option<u64>> = runs.iter().rev().map(|run| run.number).collect();
    assert_eq!(numbers, (1..=runs.len() as u64).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn runs_of_a_template_with_one_path_write_below_folders_of_their_own() {
    let farm = TestFarm::start(1).await;
    let words = ["/bin/sh", "-c", "echo run {run} > $1", "sh", "{output}"];
    let job = jobs::command_with_output(&words, "1", "same/{frame}.txt");
    let spec = json!({ "name": "same", "cron": "* * * * * *", "overlap": "allow", "job": job });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    let written = |run: RunView| {
        let file = farm.store_folder().join(format!("jobs/default/{}/same/1.txt", run.job?));
        Some((run.number?, std::fs::read_to_string(file).ok()?))
    };
    let texts = until(SOON, "three runs have written", || async {
        let texts: Vec<_> = runs(&farm, "same").await.into_iter().filter_map(written).collect();
        (texts.len() >= 3).then_some(texts)
    })
    .await;
    for (number, text) in texts {
        assert_eq!(text, format!("run {number}\n"), "none has another's");
    }
}

#[tokio::test]
async fn a_late_run_is_told_in_view_log_and_events_until_its_job_is_over() {
    let farm = TestFarm::start(1).await;
    let slow = jobs::command(&["/bin/sh", "-c", "sleep 30"], "1");
    let spec = json!({
        "name": "slow", "cron": "0 0 1 1 *", "overlap": "queue", "deadline": { "finish": "1s" }, "job": slow,
    });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    let made = farm.client.run_schedule(&name("slow"), "one").await.expect("by hand");
    until(SOON, "it is late", || async {
        let late = farm.client.schedule(&name("slow")).await.ok()?.late;
        let marked = runs(&farm, "slow").await[0].late_finish.is_some();
        (late == 1 && marked).then_some(())
    })
    .await;
    assert!(farm.scheduler_log().contains("missed its deadline to finish"));
    let told = farm.client.explain(made.id).await.expect("it is not over");
    assert!(serde_json::to_string(&told).expect("JSON").contains("has passed"), "its job has the deadline: {told:?}");
    let mut events = farm.client.events(Some(made.id), Some(0)).await.expect("they can be followed");
    until_event(&mut events, "run_late").await;
    farm.client.act(made.id, framewake_proto::client::Action::Cancel).await.expect("it can be canceled");
    until(SOON, "nothing is late any more", || async {
        (farm.client.schedule(&name("slow")).await.ok()?.late == 0).then_some(())
    })
    .await;
}

async fn until_event(events: &mut framewake_proto::client::Events, kind: &str) {
    loop {
        let event = events.next().await.expect("the stream goes on").expect("an event");
        if serde_json::to_value(&event).expect("JSON")["event"] == kind {
            return;
        }
    }
}

#[tokio::test]
async fn bad_schedules_are_refused_with_every_fault_and_nothing_is_stored() {
    let farm = TestFarm::start(1).await;
    let job = jobs::command(&["/bin/true"], "1");
    let check = async |change: Value, faults: &[(&str, &str)]| {
        let mut spec = json!({ "name": "bad", "cron": "@daily", "job": job });
        for (field, value) in change.as_object().expect("fields") {
            spec[field] = value.clone();
        }
        let refused = farm.client.add_schedule(&spec).await.expect_err("refused");
        let framewake_proto::client::Error::Refused(problem) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.status, 422, "{problem:?}");
        for (field, says) in faults {
            let fault = problem.faults.iter().find(|fault| fault.field == *field);
            let fault = fault.unwrap_or_else(|| panic!("no fault at {field}: {problem:?}"));
            assert!(fault.reason.contains(says), "{fault:?}");
        }
        assert_eq!(problem.faults.len(), faults.len(), "{problem:?}");
    };
    check(json!({ "cron": "61 * * * *" }), &[("/cron", "is not between 0 and 59 (read as five fields")]).await;
    check(json!({ "cron": "0 0 30 2 *" }), &[("/cron", "never due")]).await;
    check(json!({ "zone": "Europe/Pris" }), &[("/zone", "did you mean `Europe/Paris`")]).await;
    check(json!({ "end": "2020-01-01T00:00:00Z" }), &[("/end", "never run")]).await;
    check(json!({ "cron": "* * * * * *", "overlap": "replace" }), &[("/overlap", "cancel each other")]).await;
    let mut bad = jobs::command(&["/bin/true"], "1-{dy}");
    bad["name"] = json!("{nmae}");
    check(
        json!({ "job": bad, "jitter": "30h" }),
        &[
            ("/job/name", "`{nmae}` is not a placeholder"),
            ("/job/steps/0/frames", "did you mean `{day}`"),
            ("/jitter", "longer"),
        ],
    )
    .await;
    let backwards = jobs::command(&["/bin/true"], "20-{day}-5");
    check(json!({ "job": backwards }), &[("/job/steps/0/frames", "")]).await;
    assert!(farm.client.schedules(None).await.expect("listed").items.is_empty());
}

fn framewake(farm: &TestFarm, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(built("framewake"))
        .args(arguments)
        .env("FRAMEWAKE_URL", farm.url())
        .env("NO_COLOR", "1")
        .env("PATH", path())
        .current_dir(root())
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_keeps_schedules() {
    let farm = TestFarm::start(2).await;
    let good = |arguments: &[&str]| {
        let (code, out, err) = framewake(&farm, &[&["schedules"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}\n{out}\n{err}");
        out
    };
    // The sample, with its scene beside it: uploaded as with a job.
    let applied = good(&["apply", "samples/schedules"]);
    assert!(applied.contains("schedule nightly: created, at 02:30 every day (five fields"), "{applied}");
    assert!(good(&["apply", "samples/schedules"]).contains("schedule nightly: unchanged"));
    let folder = farm.folder().join("schedules");
    std::fs::create_dir_all(&folder).expect("writable");
    let text = std::fs::read_to_string(root().join("samples/schedules/nightly.yaml")).expect("the sample");
    let scene = root().join("samples/scenes/spheres.dat");
    let text = text.replace("../scenes/spheres.dat", &scene.display().to_string()).replace("jitter: 5m", "jitter: 10m");
    std::fs::write(folder.join("nightly.yaml"), &text).expect("writable");
    let other = "name: other\ncron: '@hourly'\njob: {name: o, steps: [{name: s, function: command, frames: 7, parameters: {program: /bin/true}}]}\n";
    std::fs::write(folder.join("other.yaml"), other).expect("writable");
    let applied = good(&["apply", &folder.display().to_string()]);
    assert!(applied.contains("nightly: changed") && applied.contains("other: created"), "{applied}");
    let (code, _, err) = framewake(&farm, &["schedules", "add", "samples/schedules/nightly.yaml"]);
    assert!(code != 0 && err.contains("there is a schedule `nightly` already"), "{code} {err}");

    let paused = good(&["pause", "nightly"]);
    assert!(paused.contains("nightly: paused"), "{paused}");
    let list = good(&["list"]);
    assert!(list.contains("paused") && list.contains("active"), "{list}");
    assert!(good(&["resume", "nightly"]).contains("nightly: active, next "));
    let next = good(&["next", "--cron", "30 2 * * *", "--zone", "Europe/Paris", "-n", "3"]);
    assert_eq!(next.lines().count(), 4, "{next}");
    assert!(next.contains("T02:30:00+"), "{next}");
    assert_eq!(good(&["next", "nightly"]).lines().count(), 11);
    let (code, _, err) = framewake(&farm, &["schedules", "next", "--cron", "61 * * * *"]);
    assert!(code == 2 && err.contains("is not between 0 and 59"), "{code} {err}");

    let made: Value = serde_json::from_str(&good(&["run", "nightly", "--json"])).expect("JSON");
    let id = made["id"].as_str().expect("an id").parse().expect("an id");
    let job = farm.over(id).await;
    assert_eq!((job.state, job.tasks.done), (JobState::Succeeded, 12), "{:?}", farm.failures(id).await);
    let names: BTreeSet<String> = farm.outputs(id).await.into_iter().map(|output| output.name).collect();
    assert_eq!(names.len(), 12, "{names:?}");
    let shown = good(&["show", "nightly"]);
    assert!(shown.contains(&id.to_string()) && shown.contains("run by hand"), "{shown}");
    assert!(good(&["runs", "nightly"]).contains("succeeded"));
    good(&["rm", "nightly"]);
    let (code, _, err) = framewake(&farm, &["schedules", "show", "nightly"]);
    assert!(code == 2 && err.contains("there is no schedule `nightly`"), "{code} {err}");
}
