//! That pages say what is so now: how long something takes yet and how long ago it was, what failed and why, what is due next, what
//! was paid; and that they listen only while somebody looks.

use framewake_proto::api::{JobChange, JobState};
use framewake_proto::client::Action;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::root;
use framewake_tests::wait::until_ok;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;

/// What stands beside this word among the figures of a job; null: the word is not there.
fn figure(word: &str) -> String {
    format!(
        "([...document.querySelectorAll('.figures dt')].find((one) => one.innerText === '{word}')?.nextElementSibling.innerText ?? null)"
    )
}

/// Nobody looks at the page any more, or somebody does again, as far as the page is told.
async fn look(browser: &Browser, at_it: bool) {
    let hidden = "Object.defineProperty(document, 'hidden', { configurable: true, value: true })";
    let told = if at_it { "delete document.hidden" } else { hidden };
    browser.ask(&format!("{told}; document.dispatchEvent(new Event('visibilitychange'))")).await;
}

#[tokio::test]
async fn the_time_left_is_told_from_the_pace_and_not_while_a_job_is_paused() {
    let farm = TestFarm::start(1).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    // Nothing in the first ten seconds; then the pace of the last two minutes, and not what was before or before a rest.
    let played = "const done = arguments[arguments.length - 1];
        import('/web/pace.js').then(({ Pace }) => {
            const pace = new Pace();
            const told = [];
            const at = (second, count) => {
                pace.see(second * 1000, count);
                const left = pace.left(second * 1000, 100 - count);
                told.push(left && left.map(Math.round));
            };
            at(0, 0); at(5, 5); at(20, 20);
            for (let second = 30; second <= 300; second += 30) pace.see(second * 1000, 20 + second / 30);
            at(330, 31);
            pace.forget();
            at(1000, 31); at(1020, 51);
            done(told);
        });";
    let told = browser.ask_later(played).await;
    // 80 at one a second; 69 at one in 30 s; 49 at one a second.
    assert_eq!(told, json!([null, null, [64, 104], [1656, 2691], null, [39, 64]]));

    let mut job = jobs::command(&["/bin/sleep", "0.3"], "1-600");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    let left = figure("Left");
    browser.wait("the time left is told", &format!("return / – /.test({left})")).await;
    browser.press("Pause").await;
    browser.wait("none is told while it is paused", &format!("return {left} === null")).await;
    assert_eq!(farm.client.job(id).await.expect("known").state, JobState::Paused);
    browser.press("Resume").await;
    browser.wait("it is told again", &format!("return {left} !== null")).await;
    farm.client.act(id, Action::Cancel).await.expect("it runs");
    browser.wait("none is told when it is over", &format!("return {left} === null")).await;
    browser.close().await;
}

#[tokio::test]
async fn how_long_ago_something_was_goes_on_though_nothing_happens() {
    let farm = TestFarm::start(1).await;
    let view = farm.succeed(&jobs::command(&["/bin/echo", "good"], "1-3")).await;
    let browser = Browser::start().await;
    for (page, place) in [(format!("/jobs/{}", view.id), ".lead time"), ("/events".to_owned(), ".feed time")] {
        browser.open(&format!("{}{page}", farm.url())).await;
        // A time that is drawn anew is looked at anew: it must grow older where it stands.
        let older = format!(
            "const times = [...document.querySelectorAll('{place}')];
             for (const one of times) one.said ??= one.textContent;
             return times.length > 0 && times.every((one) => one.textContent !== one.said)"
        );
        browser.wait("what was then is longer ago", &older).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn why_a_job_failed_is_seen_first_and_that_it_made_nothing() {
    let farm = TestFarm::start(1).await;
    let go = farm.folder().join("go");
    let script = format!(
        "until test -e {}; do sleep 0.02; done; echo 'Error: no camera <i>cam_7</i>' >&2; exit 3",
        go.display()
    );
    let mut failing = jobs::command_with_output(&["/bin/sh", "-c", &script, "{output}"], "1-2", "out/{frame}.txt");
    failing["steps"][0]["retries"] = json!({ "attempts": 1 });
    let bad = farm.submit(&failing).await;
    let browser = Browser::start().await;
    browser.widen(1280).await;
    browser.open(&format!("{}/jobs/{bad}", farm.url())).await;
    browser.sees("No output yet.").await;
    std::fs::write(&go, "").expect("writable");
    assert_eq!(farm.over(bad).await.state, JobState::Failed);
    // As it ends, and when it is opened afterwards.
    for opened in [false, true] {
        if opened {
            browser.open(&format!("{}/jobs/{bad}", farm.url())).await;
        }
        browser.sees("This step made no output.").await;
        browser.sees("and 1 more: ").await;
        let first = "scrollTo(0, 0);
            const why = document.querySelector('.why');
            return why.innerText.includes('no camera <i>cam_7</i>') && why.getBoundingClientRect().bottom < innerHeight / 2";
        assert_eq!(browser.ask(first).await, json!(true), "why is at the head of the page");
        assert!(!browser.ask("return document.body.innerText").await.to_string().contains("No output yet."));
    }
    assert_eq!(browser.broken_rules().await, json!([]));
    browser.press("Log of this frame").await;
    browser.sees("Log of attempt").await;
    browser.press_under("Attempts and logs", "Close").await;
    browser.press_in(".why", "All frames that failed").await;
    let seen = "const { top, bottom } = document.getElementById('failures').getBoundingClientRect(); return top < innerHeight && bottom > 0";
    browser.wait("the frames that failed are in sight", seen).await;
    // Tried again it has not failed.
    std::fs::remove_file(&go).expect("it is there");
    browser.press("Retry failed").await;
    browser.wait("it has not failed", "return !document.querySelector('.why')").await;
    std::fs::write(&go, "").expect("writable");
    let good = farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    browser.open(&format!("{}/jobs/{}", farm.url(), good.id)).await;
    browser.sees("This step made no output.").await;
    browser.press("Outputs, to download").await;
    browser.sees("This job made no output.").await;
    assert_eq!(browser.ask("return document.querySelector('.why')").await, Value::Null);
    browser.close().await;
}

/// Streams that the scheduler has open.
async fn streams(farm: &TestFarm, count: u32) {
    until_ok(SOON, &format!("{count} streams are open"), async || {
        let shown = reqwest::get(format!("{}/metrics", farm.url())).await.expect("answered");
        let shown = shown.text().await.expect("text");
        let line = shown.lines().find(|line| line.starts_with("framewake_event_streams ")).expect("it is counted");
        if line.ends_with(&format!(" {count}")) { Ok(()) } else { Err(line.to_owned()) }
    })
    .await;
}

#[tokio::test]
async fn a_page_that_nobody_looks_at_keeps_no_connection_and_is_up_to_date_when_somebody_does() {
    let farm = TestFarm::start(1).await;
    let said = farm.folder().join("said");
    std::fs::write(&said, "line 1\n").expect("writable");
    let script = format!("tail -n +1 -f {}", said.display());
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    let browser = Browser::start().await;

    browser.open(&format!("{}/events", farm.url())).await;
    browser.sees("is running").await;
    streams(&farm, 1).await;
    look(&browser, false).await;
    streams(&farm, 0).await;
    farm.client.act(id, Action::Pause).await.expect("it runs");
    look(&browser, true).await;
    browser.sees("is paused").await;
    // Each once, though what was before is told again.
    let lines = "return [...document.querySelectorAll('.feed > li')].filter((line) => line.innerText.includes('is running')).length";
    assert_eq!(browser.ask(lines).await, json!(1));

    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.wait("it is paused", "return Boolean(document.querySelector('tbody .state.paused'))").await;
    streams(&farm, 1).await;
    look(&browser, false).await;
    streams(&farm, 0).await;
    farm.client.act(id, Action::Resume).await.expect("it is paused");
    look(&browser, true).await;
    browser.wait("it runs", "return Boolean(document.querySelector('tbody .state.running'))").await;

    // A log that is followed is a second one.
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.press("Log").await;
    browser.wait("the log is read", "return document.querySelector('pre.log').textContent === 'line 1\\n'").await;
    streams(&farm, 2).await;
    look(&browser, false).await;
    streams(&farm, 0).await;
    let mut more = OpenOptions::new().append(true).open(&said).expect("it is there");
    more.write_all(b"line 2\n").expect("writable");
    farm.client.change_job(id, &JobChange { priority: 77 }).await.expect("it runs");
    look(&browser, true).await;
    browser
        .wait("the log goes on", "return document.querySelector('pre.log').textContent === 'line 1\\nline 2\\n'")
        .await;
    browser.sees("priority 77").await;
    streams(&farm, 2).await;
    farm.client.act(id, Action::Cancel).await.expect("it runs");
    browser.sees("canceled").await;
    streams(&farm, 0).await;
    browser.close().await;
}

#[tokio::test]
async fn what_was_paid_is_told_anew_by_itself_for_what_was_asked_for() {
    let functions = tempfile::tempdir().expect("room for a folder");
    let text = std::fs::read_to_string(root().join("samples/functions/command.yaml")).expect("a sample");
    let lines =
        text.lines().map(|line| if line.starts_with("scaling:") { "scaling: { max: 2, linger: 300ms }" } else { line });
    std::fs::write(functions.path().join("command.yaml"), lines.collect::<Vec<_>>().join("\n")).expect("writable");
    let farm = TestFarm::start_with(1, false, functions.path()).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/cost", farm.url())).await;
    browser.sees("No worker was paid on these days.").await;
    browser.ask("document.querySelector('input[name=project]').value = 'nob'").await;
    farm.succeed(&jobs::command(&["/bin/true"], "1")).await;
    farm.no_workers().await;
    let told = "return document.querySelectorAll('.bars .line').length > 0";
    browser.wait("it is told, of all projects", told).await;
    assert_eq!(browser.ask("return new URLSearchParams(location.search).get('project')").await, Value::Null);
    assert_eq!(browser.ask("return document.querySelector('input[name=project]').value").await, json!("nob"));
    browser.close().await;
}

#[tokio::test]
async fn what_is_due_next_is_told_of_many_schedules_and_in_whose_time() {
    let farm = TestFarm::start(0).await;
    let job = jobs::command(&["/bin/true"], "1");
    for number in 0..=100 {
        let spec = json!({ "name": format!("a{number:03}"), "cron": "0 12 1 1 *", "zone": "UTC", "job": job });
        farm.client.add_schedule(&spec).await.expect("a good schedule");
    }
    let spec = json!({ "name": "last_by_name", "cron": "30 12 * * *", "zone": "UTC", "job": job });
    farm.client.add_schedule(&spec).await.expect("a good schedule");
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    let first = "const rows = [...document.querySelectorAll('[aria-label=\"Schedules by next due time\"] tbody tr')];
        return rows.length === 6 && rows[0].innerText.startsWith('last_by_name')";
    browser.wait("the next is the first", first).await;
    // By the page each once, the one that is due next first.
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = reqwest::get(format!("{}/v1/schedules?order=due&limit=40{cursor}", farm.url())).await;
        let page: Value = answer.expect("answered").json().await.expect("JSON");
        let items = page["items"].as_array().expect("a list");
        names.extend(items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let wanted: Vec<String> =
        ["last_by_name".to_owned()].into_iter().chain((0..=100).map(|number| format!("a{number:03}"))).collect();
    assert_eq!(names, wanted);

    // A browser elsewhere says so, and draws days and times of there.
    browser.live_in("Asia/Tokyo").await;
    browser.open(&format!("{}/schedules", farm.url())).await;
    browser.sees("days and times of Asia/Tokyo, the zone of this browser").await;
    browser.sees("21:30 last_by_name").await;
    browser.sees("The 20 of 102 schedules that are due first are drawn.").await;
    browser.close().await;
}
