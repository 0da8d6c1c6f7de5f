//! What somebody does on the pages who looks after a farm from day to day: schedules, a machine that was mended, what things cost,
//! what happens and who changed what, and why something failed. Each by buttons, with the effect that it has.

use fantoccini::key::Key;
use framewake_proto::api::{JobChange, JobState, PlaceState};
use framewake_proto::ids::Name;
use framewake_proto::schedule::ScheduleState;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::nvml::gpu;
use framewake_tests::parts::{built, path, root};
use framewake_tests::wait::until;
use serde_json::json;
use std::process::Command;

/// Changes on a page of the list.
const PAGE: usize = 50;

#[tokio::test]
async fn a_schedule_is_paused_resumed_and_run_now_and_its_dues_and_runs_are_seen() {
    let farm = TestFarm::start(1).await;
    let name: Name = "nightly".parse().expect("a name");
    let mut job = jobs::command(&["/bin/true"], "1");
    job["name"] = json!("night of {date}");
    // Each day at noon of the browser's zone, on the calendar each day but perhaps this one.
    let spec = json!({ "name": name, "cron": "0 12 * * *", "zone": "UTC", "job": job });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    let browser = Browser::start().await;
    browser.open(&format!("{}/schedules", farm.url())).await;
    browser.sees("The next four weeks").await;
    let due = farm.client.next_runs(&name, 200).await.expect("listed").times;
    let days = "return [...document.querySelectorAll('.calendar > li')].filter((day) => /12:00 nightly/.test(day.innerText)).length";
    let drawn = "return document.querySelectorAll('.calendar > li').length === 28
        && [...document.querySelectorAll('.calendar > li')].some((day) => /nightly/.test(day.innerText))";
    browser.wait("the calendar is drawn", drawn).await;
    // Of four weeks from Monday on at most six days are over, or seven on a Sunday evening.
    let count = browser.ask(days).await.as_u64().expect("a number");
    assert!((21..=28).contains(&count), "{count} days of {due:?}");
    let first = "const days = [...document.querySelectorAll('.calendar > li')];
        return days.findIndex((day) => /nightly/.test(day.innerText)) - days.findIndex((day) => day.classList.contains('today'))";
    assert!([json!(0), json!(1)].contains(&browser.ask(first).await), "it is due today or tomorrow");
    browser.press("nightly").await;
    browser.sees("Next runs of nightly").await;
    browser.sees("It was not due yet.").await;
    let told = "return [...document.querySelectorAll('main ol:not(.calendar) > li')].map((one) => one.textContent)";
    let local: Vec<&str> = due.iter().take(10).map(|time| time.local.as_str()).collect();
    assert_eq!(browser.texts(told).await[..10], local);

    browser.press_labeled("Pause nightly").await;
    browser.sees("nightly is paused.").await;
    assert_eq!(farm.client.schedule(&name).await.expect("known").state, ScheduleState::Paused);
    browser.wait("it is not due", "return !/nightly/.test(document.querySelector('.calendar').innerText)").await;
    // By hand it goes all the same, and what became of it is seen without a further look.
    browser.press_labeled("Run nightly").await;
    browser.sees("nightly runs now.").await;
    browser.sees("run by hand").await;
    let runs = farm.client.schedule_runs(&name, None).await.expect("listed").items;
    assert_eq!(runs.len(), 1);
    let made = runs[0].job.expect("it has a job");
    assert_eq!(farm.over(made).await.state, JobState::Succeeded);
    browser.wait("how it ended is seen", "return Boolean(document.querySelector('main table .state.succeeded'))").await;
    browser.press_labeled("Resume nightly").await;
    browser.sees("nightly goes on.").await;
    assert_eq!(farm.client.schedule(&name).await.expect("known").state, ScheduleState::Active);
    browser.wait("it is due again", drawn).await;
    browser.press("run 1").await;
    browser.wait("it leads to its job", &format!("return location.pathname === '/jobs/{made}'")).await;
    browser.sees("night of 20").await;
    browser.close().await;
}

#[tokio::test]
async fn a_gpu_that_was_set_aside_is_brought_back_by_who_mended_it() {
    let well = gpu(0, "GPU-aa", 24, &[]);
    let farm = TestFarm::start_with_gpus(1, &well).await;
    let function = json!({
        "name": "gpu", "driver": { "kind": "command", "command": ["/bin/sh", "-c", "{script}"] },
        "parameters": { "script": { "type": "text" } }, "resources": { "gpus": 1 }, "scaling": { "max": 4, "linger": "1s" },
    });
    farm.client.add_function(&function).await.expect("a good function");
    let go = farm.folder().join("go");
    let script = format!("until test -e {}; do sleep 0.02; done", go.display());
    let job = json!({ "name": "on a GPU", "steps": [{ "name": "render", "function": "gpu", "frames": "1", "parameters": { "script": script }, "allow_cpu": true }] });
    let id = farm.submit(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/workers", farm.url())).await;
    browser.wait("it works", "return Boolean(document.querySelector('.state.busy'))").await;
    until(SOON, "its driver is heard of", async || {
        let shown = reqwest::get(format!("{}/metrics", farm.url())).await.ok()?.text().await.ok()?;
        shown.contains("uuid=\"GPU-aa\"").then_some(())
    })
    .await;
    farm.nvml().says(&(well.clone() + "xid 0 79\n"));
    browser.sees("set aside").await;
    browser.sees("Xid 79 (it has fallen off the bus)").await;
    let aside = farm.client.places(Some(PlaceState::SetAside), None).await.expect("listed").items;
    assert_eq!(aside.len(), 1, "{aside:?}");
    browser.open(&format!("{}/workers", farm.url())).await;
    farm.nvml().says(&well);
    std::fs::write(&go, "").expect("writable");
    browser.press("It is mended").await;
    browser.sees("gets work again.").await;
    // At once, where it stood.
    browser.wait("it is not set aside", "return !document.querySelector('.state.set_aside')").await;
    let aside = farm.client.places(Some(PlaceState::SetAside), None).await.expect("listed").items;
    assert_eq!(aside, []);
    assert_eq!(farm.over(id).await.state, JobState::Succeeded, "{:?}", farm.failures(id).await);
    browser.close().await;
}

#[tokio::test]
async fn what_was_paid_is_told_by_project_function_pool_day_cause_and_gpu() {
    let functions = tempfile::tempdir().expect("room for a folder");
    for name in ["command", "tachyon"] {
        let text = std::fs::read_to_string(root().join(format!("samples/functions/{name}.yaml"))).expect("a sample");
        // They leave soon: what was paid is known then.
        let text = text.replace("name: command", "name: any_program");
        let lines = text
            .lines()
            .map(|line| if line.starts_with("scaling:") { "scaling: { max: 2, linger: 300ms }" } else { line });
        std::fs::write(functions.path().join(format!("{name}.yaml")), lines.collect::<Vec<_>>().join("\n"))
            .expect("writable");
    }
    let farm = TestFarm::start_with(2, false, functions.path()).await;
    let mut priced = Command::new(built("framewake"));
    priced.args(["prices", "set", "any", "3600USD"]).env("FRAMEWAKE_URL", farm.url()).env("PATH", path());
    assert!(priced.output().expect("it runs").status.success());
    for (project, program, frames) in [("film_a", "sleep 0.2", "1-6"), ("ad-b", "sleep 0.1; exit 3", "1-2")] {
        let mut job = jobs::command(&["/bin/sh", "-c", program], frames);
        job["project"] = json!(project);
        (job["steps"][0]["function"], job["steps"][0]["retries"]) = (json!("any_program"), json!({ "attempts": 1 }));
        farm.over(farm.submit(&job).await).await;
    }
    farm.no_workers().await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    let today = browser.ask("return new Date().toISOString().slice(0, 10)").await;
    let today = today.as_str().expect("text");
    browser.open(&format!("{}/cost?from={today}&to={today}", farm.url())).await;
    let lines = "return [...document.querySelectorAll('.bars .line')].map((line) => line.firstChild.textContent)";
    for key in ["project", "function", "pool", "day", "cause", "gpu"] {
        browser.write("by", key).await;
        browser.wait("it is asked for", &format!("return location.search.includes('by={key}')")).await;
        let told = farm.rest(&format!("/costs?from={today}&to={today}&by={key}")).await;
        let mut rows = told["rows"].as_array().expect("a list").clone();
        rows.sort_by_key(|row| std::cmp::Reverse(row["time_us"].as_u64()));
        let wanted: Vec<String> = rows
            .iter()
            .map(|row| match (row[key].as_str().expect("text"), key) {
                ("", "pool") => {
                    "not known: workers that people started, and what was counted before pools were".to_owned()
                }
                ("", "gpu") => "none: workers without a GPU".to_owned(),
                ("", _) => "nobody: workers that did nothing".to_owned(),
                // Words for people; all else are names.
                (cause, "cause") => cause.replace('_', " "),
                (name, _) => name.to_owned(),
            })
            .collect();
        let same = format!("{} ", lines.replacen("return ", "return JSON.stringify(", 1));
        browser
            .wait(&format!("lines by {key} are {wanted:?}"), &format!("{same}) === JSON.stringify({})", json!(wanted)))
            .await;
        let said = browser.ask("return document.querySelector('main').innerText").await;
        assert!(said.as_str().is_some_and(|said| said.contains('$') && !said.contains("price unknown")), "{said}");
    }
    let by_project = farm
        .client
        .costs(today.parse().expect("a day"), today.parse().expect("a day"), None, "project")
        .await
        .expect("told");
    assert!(by_project.rows.iter().any(|row| row.project.as_deref() == Some("film_a")), "{by_project:?}");
    // Of one project alone, by what it went to.
    browser.write("by", "cause").await;
    browser.write("project", "ad-b").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    let told = farm.rest(&format!("/costs?from={today}&to={today}&by=cause&project=ad-b")).await;
    let causes = told["rows"].as_array().expect("a list").len();
    browser
        .wait(
            "its causes alone are left",
            &format!("return document.querySelectorAll('.bars .line').length === {causes}"),
        )
        .await;
    browser.sees("failed").await;
    browser.write("project", "nobody").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("No worker was paid on these days.").await;
    browser.close().await;
}

/// Lines of the feed, from above.
const FEED: &str = "[...document.querySelectorAll('.feed > li')].map((line) => line.innerText)";

#[tokio::test]
async fn events_are_chosen_by_kind_and_held_still_while_more_happen() {
    let farm = TestFarm::start(1).await;
    let failing = |name: &str, frames: &str| {
        let mut job = jobs::command(&["/bin/sh", "-c", "sleep 0.1; exit 3"], frames);
        job["name"] = json!(name);
        (job["steps"][0]["retries"], job["steps"][0]["chunking"]) =
            (json!({ "attempts": 1 }), json!({ "mode": "fixed", "size": 1 }));
        job
    };
    let first = farm.submit(&failing("first", "1-2")).await;
    assert_eq!(farm.over(first).await.state, JobState::Failed);
    let browser = Browser::start().await;
    browser.open(&format!("{}/events", farm.url())).await;
    let some = |words: &str| format!("return {FEED}.some((line) => line.includes('{words}'))");
    let none = |words: &str| format!("return {FEED}.length > 0 && !{FEED}.some((line) => line.includes('{words}'))");
    browser.wait("jobs are told", &some("is failed")).await;
    browser.wait("failures are told", &some("frame 2 of run failed")).await;
    assert_eq!(browser.ask(&none("began frames")).await, json!(true));
    for (kind, words) in [("attempts", "began frames"), ("steps", "step run is")] {
        browser.tick(kind).await;
        browser.wait(&format!("{kind} are told"), &some(words)).await;
        browser.tick(kind).await;
        browser.wait(&format!("{kind} are left out"), &none(words)).await;
    }
    browser.tick("failures").await;
    browser.wait("failures are left out", &none("frame 2 of run failed")).await;
    browser.tick("failures").await;
    browser.wait("failures are told", &some("frame 2 of run failed")).await;

    // What comes while it is held is not shown, for longer than it takes to be drawn; and then it is.
    browser.tick("hold still").await;
    let held = browser.ask(&format!("return {FEED}.length")).await;
    browser.ask("window.heard = []; new EventSource('/v1/events').addEventListener('task_failed', () => window.heard.push(performance.now()))").await;
    let second = farm.submit(&failing("second", "1-20")).await;
    browser
        .wait(
            "much more has happened",
            "return window.heard.length > 5 && window.heard.at(-1) - window.heard[0] > 1000",
        )
        .await;
    assert_eq!(browser.ask(&format!("return {FEED}.length")).await, held);
    // Of what is held one may still choose.
    browser.tick("failures").await;
    browser.wait("failures are left out", &none("of run failed")).await;
    browser.tick("failures").await;
    browser.wait("they are there, and no others", &format!("return {FEED}.length === {held}")).await;
    assert_eq!(farm.over(second).await.state, JobState::Failed);
    browser.tick("hold still").await;
    browser.wait("what came meanwhile is told", &some("frame 20 of run failed")).await;
    let latest =
        format!("return {FEED}.length > {held} && {FEED}[0].includes('second …{}')", &second.to_string()[20..]);
    browser.wait("the newest is above", &latest).await;
    browser.press("second").await;
    browser.wait("it leads to its job", &format!("return location.pathname === '/jobs/{second}'")).await;
    browser.close().await;
}

#[tokio::test]
async fn changes_are_searched_and_older_ones_are_reached() {
    let farm = TestFarm::start(0).await;
    let id = farm.submit(&jobs::command(&["/bin/true"], "1")).await;
    for priority in 1..=55 {
        farm.client.change_job(id, &JobChange { priority }).await.expect("it waits");
    }
    let browser = Browser::start().await;
    browser.open(&format!("{}/events", farm.url())).await;
    let rows = |count: usize| format!("return document.querySelectorAll('main tbody tr').length === {count}");
    browser.wait("the newest are shown", &rows(PAGE)).await;
    browser.write("What begins with", "job.change").await;
    browser.press("Search").await;
    browser.wait("the newest are shown", &rows(PAGE)).await;
    browser.press("Older").await;
    browser.wait("the oldest are shown", &rows(5)).await;
    // What is typed is not searched for before somebody says so, though the list is asked for again and again.
    let asked = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/v1/audit')).map((one) => one.name)";
    let before = browser.texts(asked).await.len();
    browser.write("What begins with", "job.submit").await;
    browser
        .wait(
            "it was asked again",
            &asked.replace("return ", &format!("return {before} < ")).replace(".map((one) => one.name)", ".length"),
        )
        .await;
    let addresses = browser.texts(asked).await;
    let last = addresses.last().expect("one at least");
    assert!(last.contains("action=job.change") && last.contains("cursor="), "{last}");
    browser.press("Search").await;
    browser.wait("the one is found", &rows(1)).await;
    browser.sees("job.submit").await;
    browser.write("Who", "nobody").await;
    browser.press("Search").await;
    browser.sees("No such change was made.").await;
    browser.write("Who", "local").await;
    browser.write("What begins with", "").await;
    browser.press("Search").await;
    browser.wait("all of hers are found", &rows(PAGE)).await;
    browser.press("Older").await;
    browser.wait("the oldest are shown", &rows(6)).await;
    browser.press("Newest").await;
    browser.wait("the newest are shown", &rows(PAGE)).await;
    browser.close().await;
}

#[tokio::test]
async fn an_error_of_the_last_hour_leads_to_the_frames_that_failed() {
    let farm = TestFarm::start(1).await;
    let mut job = jobs::command(&["/bin/sh", "-c", "echo 'Error: no camera <i>cam_7</i>' >&2; exit 3"], "5-6");
    (job["name"], job["steps"][0]["retries"]) = (json!("shot 070"), json!({ "attempts": 1 }));
    let id = farm.submit(&job).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let browser = Browser::start().await;
    browser.widen(1280).await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("Frames that failed for good in the last hour").await;
    let overview = farm.client.overview().await.expect("told");
    assert_eq!(overview.errors.iter().map(|error| (error.job, error.tasks)).collect::<Vec<_>>(), [(id, 2)]);
    browser.press("shot 070").await;
    browser.wait("it leads to its job", &format!("return location.pathname === '/jobs/{id}'")).await;
    browser.sees("Error: no camera <i>cam_7</i>").await;
    let seen = "const { top, bottom } = document.getElementById('failures').getBoundingClientRect(); return top < innerHeight && bottom > 0";
    browser.wait("the frames that failed are in sight", seen).await;
    browser.press_labeled("Log of frame 6").await;
    browser.sees("Log of attempt").await;
    let log = "return document.querySelector('pre.log').textContent.includes('no camera <i>cam_7</i>')";
    browser.wait("their log is open", log).await;
    browser.close().await;
}
