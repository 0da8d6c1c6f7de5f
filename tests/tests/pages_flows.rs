//! What somebody does with jobs on the pages: finds them, moves many at once, reads a log, tries frames again, takes outputs and job
//! files with them. Each by buttons, with the effect that it has.

use fantoccini::key::Key;
use framewake_proto::api::{AttemptOutcome, JobState, JobView};
use framewake_proto::client::{Action, JobQuery, PartQuery};
use framewake_proto::ids::JobId;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm, kill};
use framewake_tests::jobs;
use framewake_tests::parts::{built, path};
use framewake_tests::wait::{until, until_ok};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Jobs on a page of the list.
const PAGE: usize = 50;

/// Adds to a file what a renderer reads on.
fn append(file: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(file).expect("it is there");
    file.write_all(text.as_bytes()).expect("the test's folder is writable");
}

#[tokio::test]
async fn a_log_is_plain_text_searched_and_kept_to_its_end_while_it_grows() {
    let farm = TestFarm::start(1).await;
    let said = farm.folder().join("said");
    let lines: Vec<String> = (1..=300).map(|line| format!("line {line}\n")).collect();
    let colored = "\u{1b}[31mTexture\u{1b}[0m <b>wood</b> &amp; \u{1b}]0;a title\u{7}more\nno texture: <img src=x onerror='window.struck = true'>\n";
    std::fs::write(&said, format!("{}{colored}", lines.concat())).expect("writable");
    let id = farm.submit(&jobs::command(&["/usr/bin/tail", "-n", "+1", "-f", &said.display().to_string()], "1")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.press("Log").await;
    browser.sees("no texture: <img").await;
    let plain = "Texture <b>wood</b> &amp; more\nno texture: <img src=x onerror='window.struck = true'>\n";
    let whole = browser.ask("return document.querySelector('pre.log').textContent").await;
    assert!(whole.as_str().is_some_and(|text| text.ends_with(&format!("line 300\n{plain}"))), "{whole}");
    let struck = "return window.struck ?? document.querySelectorAll('pre.log :is(b, img)').length";
    assert_eq!(browser.ask(struck).await, json!(0));

    // Every line with the word, whatever its case, and those that come meanwhile.
    let found = |lines: &[&str]| {
        format!("return document.querySelector('pre.log').textContent.trimEnd() === {}", json!(lines.join("\n")))
    };
    let mut lines: Vec<&str> = plain.trim_end().lines().collect();
    browser.write("Search the log", "TEXTURE").await;
    browser.wait("the lines with it are left", &found(&lines)).await;
    browser.sees("2 lines").await;
    append(&said, "nothing\na third texture\n");
    lines.push("a third texture");
    browser.wait("one more has it", &found(&lines)).await;
    browser.sees("3 lines").await;
    let marked = "return [...document.querySelectorAll('pre.log mark')].map((one) => one.textContent)";
    assert_eq!(browser.texts(marked).await, ["Texture", "texture", "texture"]);
    browser.write("Search the log", "").await;
    browser
        .wait("all are there again", "return document.querySelector('pre.log').textContent.includes('line 299')")
        .await;
    assert_eq!(browser.ask(marked).await, json!([]));

    let at_end = "const log = document.querySelector('pre.log');
        return log.scrollHeight > log.clientHeight + 500 && log.scrollTop + log.clientHeight > log.scrollHeight - 3";
    let says = |words: &str| format!("return document.querySelector('pre.log').textContent.includes('{words}')");
    append(&said, &"and on\n".repeat(50));
    append(&said, "followed\n");
    browser.wait("it goes on", &says("followed")).await;
    browser.wait("its end is seen", at_end).await;
    // Whoever reads what was said before is left there.
    browser.tick("keep to the end").await;
    browser.ask("document.querySelector('pre.log').scrollTop = 40").await;
    append(&said, "left alone\n");
    browser.wait("it goes on", &says("left alone")).await;
    browser.ask_later("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))").await;
    assert_eq!(browser.ask("return document.querySelector('pre.log').scrollTop").await, json!(40));
    browser.tick("keep to the end").await;
    browser.wait("its end is seen", at_end).await;

    farm.client.act(id, Action::Cancel).await.expect("it runs still");
    assert_eq!(farm.over(id).await.state, JobState::Canceled);
    // Also of what was canceled, which may be why.
    browser.press("Close").await;
    browser.press("Log").await;
    browser.wait("it is read again", &says("left alone")).await;
    let log = until_ok(SOON, "the worker has said that it stopped", async || {
        let log = reqwest::get(format!("{}/v1/jobs/{id}/attempts/1.1/log", farm.url())).await.expect("answered");
        let log = log.text().await.expect("text");
        if log.ends_with("stopped: the job was canceled\n") { Ok(log) } else { Err(log) }
    })
    .await;
    assert!(log.contains("<b>wood</b> &amp; ") && log.contains("left alone\n"), "{log:?}");
    let downloads = farm.folder().join("downloads");
    browser.download_into(&downloads).await;
    browser.press("Download").await;
    arrives(&downloads.join("1.1.log"), log.as_bytes()).await;
    browser.close().await;
}

#[tokio::test]
async fn what_an_attempt_said_before_its_worker_was_lost_is_read_on_the_page() {
    let farm = TestFarm::start(1).await;
    let go = farm.folder().join("go");
    let script = format!(
        "test ! -e {0} || exit 0; echo half of it is there; until test -e {0}; do sleep 0.02; done",
        go.display()
    );
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    until(SOON, "it is heard", async || {
        let log =
            reqwest::get(format!("{}/v1/jobs/{id}/attempts/1.1/log", farm.url())).await.ok()?.text().await.ok()?;
        log.contains("half of it is there").then_some(())
    })
    .await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.sees("running").await;
    farm.worker_pids().into_iter().for_each(kill);
    until(SOON, "it is lost", async || {
        let attempts = farm.client.attempts(id, &PartQuery::default()).await.ok()?.items;
        attempts.iter().any(|one| one.attempt == "1.1" && one.outcome == AttemptOutcome::Lost).then_some(())
    })
    .await;
    std::fs::write(&go, "").expect("writable");
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    // Not while the page still takes it for running.
    browser.wait("the page knows", "return Boolean(document.querySelector('td .state.lost'))").await;
    browser.press_labeled("Log of attempt 1.1").await;
    browser.sees("Log of attempt 1.1").await;
    let log = "return document.querySelector('pre.log').textContent.includes('half of it is there')";
    browser.wait("what it said is there", log).await;
    browser.close().await;
}

/// Waits until a file has these bytes, which the browser writes.
async fn arrives(file: &Path, bytes: &[u8]) {
    until(SOON, &format!("{} is downloaded", file.display()), async || {
        (std::fs::read(file).ok()? == bytes).then_some(())
    })
    .await;
}

/// Names of the jobs that the list shows, from above.
const NAMES: &str = "[...document.querySelectorAll('main tbody tr td:nth-child(2) a')].map((one) => one.textContent)";

/// Waits until the list shows these jobs.
async fn lists(browser: &Browser, names: &[String]) {
    let script = format!("return {NAMES}");
    until_ok(SOON, &format!("the list has {names:?}"), async || {
        let shown = browser.ask(&script).await;
        if shown == json!(names) { Ok(()) } else { Err(shown) }
    })
    .await;
}

async fn jobs_of(farm: &TestFarm) -> Vec<JobView> {
    farm.client.jobs(&JobQuery { limit: Some(1000), ..JobQuery::default() }).await.expect("listed").items
}

async fn named(farm: &TestFarm, name: &str) -> JobView {
    jobs_of(farm).await.into_iter().find(|job| job.name == name).expect("it is there")
}

/// A farm with a failed job, one that was canceled, and 55 that wait behind one another, in this order.
async fn crowded() -> TestFarm {
    let farm = TestFarm::start(1).await;
    let mut failing = jobs::command(&["/bin/false"], "1-2");
    (failing["name"], failing["project"]) = (json!("shot 900"), json!("film"));
    failing["steps"][0]["retries"] = json!({ "attempts": 1 });
    let failed = farm.submit(&failing).await;
    assert_eq!(farm.over(failed).await.state, JobState::Failed);
    for number in [800].into_iter().chain(1..=55) {
        let mut job = jobs::command(&["/bin/sleep", "600"], "1-2");
        (job["name"], job["priority"]) = (json!(format!("shot {number:03}")), json!(number % 100));
        job["project"] = json!(if number % 2 == 0 { "ad" } else { "film" });
        job["labels"] = json!({ "turn": (number % 5).to_string() });
        let id = farm.submit(&job).await;
        if number == 800 {
            farm.client.act(id, Action::Cancel).await.expect("it is not over");
            farm.over(id).await;
        }
    }
    // Which one is first is the farm's to say; none of the others begins after it.
    until(SOON, "one of them runs", async || {
        jobs_of(&farm).await.iter().any(|job| job.state == JobState::Running).then_some(())
    })
    .await;
    farm
}

#[tokio::test]
async fn many_jobs_are_searched_sorted_and_turned_by_the_page() {
    let farm = crowded().await;
    let shots = |numbers: &mut dyn Iterator<Item = u32>| numbers.map(|n| format!("shot {n:03}")).collect::<Vec<_>>();
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs", farm.url())).await;
    let newest = shots(&mut (6..=55).rev());
    assert_eq!(newest.len(), PAGE);
    lists(&browser, &newest).await;
    browser.press("Next page").await;
    let oldest = shots(&mut (1..=5).rev().chain([800, 900]));
    lists(&browser, &oldest).await;
    // A place that can be kept and sent.
    let here = browser.ask("return location.href").await;
    browser.open(here.as_str().expect("text")).await;
    lists(&browser, &oldest).await;
    // Loaded anew in its place, the browser still knows what one came by; from elsewhere by its address nobody does.
    browser.press("First page").await;
    lists(&browser, &newest).await;
    browser.press("Next page").await;
    lists(&browser, &oldest).await;
    browser.ask("location.reload(); return null").await;
    browser.press("Previous page").await;
    lists(&browser, &newest).await;
    browser.open(here.as_str().expect("text")).await;
    lists(&browser, &oldest).await;
    assert_eq!(browser.ask("return document.body.innerText.includes('Previous page')").await, false);
    // Of the page that is shown; the farm gives them by their age.
    browser.press("Priority").await;
    lists(&browser, &shots(&mut [800, 1, 2, 3, 4, 5, 900].into_iter())).await;
    browser.sees("The 7 shown are sorted by priority.").await;
    browser.press("Priority ▴").await;
    lists(&browser, &shots(&mut [900, 5, 4, 3, 2, 1, 800].into_iter())).await;
    browser.press("Job").await;
    lists(&browser, &shots(&mut [1, 2, 3, 4, 5, 800, 900].into_iter())).await;
    browser.press("First page").await;
    lists(&browser, &shots(&mut (6..=55))).await;

    browser.open(&format!("{}/jobs", farm.url())).await;
    lists(&browser, &newest).await;
    browser.write("Name", "t 05").await;
    browser.press("Search").await;
    lists(&browser, &shots(&mut (50..=55).rev())).await;
    browser.write("Project", "film").await;
    browser.press("Search").await;
    lists(&browser, &shots(&mut [55, 53, 51].into_iter())).await;
    browser.write("Label", "turn=1").await;
    browser.press("Search").await;
    lists(&browser, &shots(&mut [51].into_iter())).await;
    let here = browser.ask("return location.href").await;
    browser.open(here.as_str().expect("text")).await;
    lists(&browser, &shots(&mut [51].into_iter())).await;
    browser.write("Project", "nobody").await;
    browser.press("Search").await;
    browser.sees("No such jobs.").await;
    for field in ["Name", "Project", "Label"] {
        browser.write(field, "").await;
    }
    // Whoever submitted one leads to all of theirs.
    browser.open(&format!("{}/jobs?by=schedule+nightly", farm.url())).await;
    browser.sees("No such jobs.").await;
    browser.write("Submitted by", "local").await;
    lists(&browser, &newest).await;
    browser.press("shot 055").await;
    browser.press("local").await;
    lists(&browser, &newest).await;
    assert_eq!(browser.ask("return document.querySelector('[name=by]').value").await, "local");
    // A choice needs no button.
    browser.write("State", "failed").await;
    lists(&browser, &shots(&mut [900].into_iter())).await;
    let waiting = jobs_of(&farm).await.into_iter().rev().filter(|job| job.state == JobState::Queued);
    let waiting: Vec<String> = waiting.map(|job| job.name).collect();
    browser.write("State", "queued").await;
    lists(&browser, &waiting.iter().rev().take(PAGE).cloned().collect::<Vec<_>>()).await;
    browser.write("Order", "oldest").await;
    lists(&browser, &waiting[..PAGE]).await;
    browser.press("Next page").await;
    lists(&browser, &waiting[PAGE..]).await;
    // They end or begin while one looks at their page: the way back stays.
    for job in jobs_of(&farm).await.iter().filter(|job| waiting[PAGE..].contains(&job.name)) {
        farm.client.act(job.id, Action::Cancel).await.expect("it waits");
    }
    browser.sees("No more jobs").await;
    browser.press("First page").await;
    lists(&browser, &waiting[..PAGE]).await;
    browser.close().await;
}

/// Ticks these jobs.
async fn choose(browser: &Browser, names: &[&str]) {
    for name in names {
        browser.press_labeled(&format!("Choose {name}")).await;
    }
    browser.sees(&format!("{} chosen", names.len())).await;
}

#[tokio::test]
async fn many_jobs_are_moved_at_once_and_those_that_are_refused_are_named_with_why() {
    let farm = crowded().await;
    let states = async |names: &[&str]| {
        let jobs = jobs_of(&farm).await;
        let of = |name: &&str| jobs.iter().find(|job| job.name == *name).expect("it is there").state;
        names.iter().map(of).collect::<Vec<_>>()
    };
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs?order=oldest", farm.url())).await;
    let four = ["shot 900", "shot 800", "shot 010", "shot 011"];
    choose(&browser, &four).await;
    browser.press("Pause").await;
    browser.sees("Pause: 2 of 4 jobs").await;
    browser.sees("shot 900: ").await;
    browser.sees("is failed: it can't be paused").await;
    browser.sees("shot 800: ").await;
    browser.sees("is canceled: it can't be paused").await;
    browser.sees("only a job that is not over can be paused").await;
    let paused = [JobState::Failed, JobState::Canceled, JobState::Paused, JobState::Paused];
    assert_eq!(states(&four).await, paused);
    let shown = "return document.querySelectorAll('.state.paused').length === 2";
    browser.wait("the list shows it", shown).await;
    choose(&browser, &four[2..]).await;
    browser.press("Resume").await;
    browser.sees("Resume: 2 of 2 jobs").await;
    assert_eq!(states(&four[2..]).await, [JobState::Queued; 2]);
    browser.wait("the list shows it", "return document.querySelectorAll('.state.paused').length === 0").await;

    choose(&browser, &four[2..]).await;
    browser.press("Priority …").await;
    browser.sees("Priority of 2 jobs within their projects").await;
    browser.write("Priority of 2 jobs within their projects, 0 to 100", "93").await;
    browser.press("Set it").await;
    browser.sees("Priority: 2 of 2 jobs").await;
    for name in &four[2..] {
        assert_eq!(named(&farm, name).await.priority, 93);
    }
    let shown =
        "return [...document.querySelectorAll('td.number')].filter((one) => one.textContent === '93').length === 2";
    browser.wait("the list shows it", shown).await;

    choose(&browser, &["shot 900", "shot 800"]).await;
    browser.press("Retry failed").await;
    browser.sees("Retry failed: 1 of 2 jobs").await;
    browser.sees("is canceled: it can't be retried").await;
    let again = named(&farm, "shot 900").await;
    assert!(!again.state.is_over() && again.tasks.failed == 0, "{again:?}");

    browser.write("Name", "shot 04").await;
    browser.press("Search").await;
    let ten: Vec<String> = (40..=49).map(|number| format!("shot {number:03}")).collect();
    lists(&browser, &ten).await;
    browser.tick("choose all that are shown").await;
    browser.sees("10 chosen").await;
    browser.press("Cancel").await;
    browser.sees("Cancel 10 jobs?").await;
    browser.press("Leave it").await;
    browser.wait("the question is gone", "return !document.querySelector('dialog')").await;
    assert!(jobs_of(&farm).await.iter().all(|job| job.state != JobState::Canceled || job.name == "shot 800"));
    browser.press("Cancel").await;
    browser.press("Cancel them").await;
    browser.sees("Cancel: 10 of 10 jobs").await;
    let canceled = jobs_of(&farm).await.into_iter().filter(|job| job.state == JobState::Canceled);
    let canceled: Vec<String> = canceled.map(|job| job.name).filter(|name| name != "shot 800").collect();
    assert_eq!(canceled, ten.iter().rev().cloned().collect::<Vec<_>>());
    browser.wait("the list shows it", "return document.querySelectorAll('.state.canceled').length === 10").await;
    browser.close().await;
}

#[tokio::test]
async fn a_frame_that_takes_longer_than_the_next_ones_comes_into_its_place_among_the_pictures() {
    let farm = TestFarm::start(2).await;
    let go = farm.folder().join("go");
    let script = format!("test $1 != 3 || until test -e {}; do sleep 0.02; done; echo frame $1 > $2", go.display());
    let words = ["/bin/sh", "-c", &script, "sh", "{frame}", "{output}"];
    let mut job = jobs::command_with_output(&words, "1-30", "out/{frame:03}.txt");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    let pictures = |last: u32, third: u32| {
        format!(
            "const all = [...document.querySelectorAll('.thumb')].map((one) => one.getAttribute('aria-label'));
             return all.length === 24 && all.at(-1) === 'Frame {last}' && all[2] === 'Frame {third}'"
        )
    };
    browser.wait("those after it are there", &pictures(25, 4)).await;
    browser.sees("29 of 30").await;
    std::fs::write(&go, "").expect("writable");
    browser.wait("it is there", &pictures(24, 3)).await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    browser.close().await;
}

#[tokio::test]
async fn as_many_failed_frames_are_listed_as_somebody_wants_to_choose_from() {
    let farm = TestFarm::start(1).await;
    let mut failing = jobs::command(&["/bin/false"], "1-30");
    failing["steps"][0]["retries"] = json!({ "attempts": 1 });
    let id = farm.submit(&failing).await;
    assert_eq!(farm.over(id).await.tasks.failed, 30);
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.sees("The first 20 of 30.").await;
    browser.press("Show more").await;
    browser.press_labeled("Choose frame 30 of run").await;
    browser.sees("Retry these 1").await;
    assert_eq!(browser.ask("return document.body.innerText.includes('The first 20')").await, false);
    browser.close().await;
}

/// 60 frames, each with an output, of which the first three fail until a file of theirs is there.
fn sixty(farm: &TestFarm) -> Value {
    let mended = farm.folder().join("mended");
    let script = format!(
        "test $1 -gt 3 || test -e {}$1 || {{ echo no license for frame $1; exit 3; }}; echo frame $1 > $2",
        mended.display()
    );
    let words = ["/bin/sh", "-c", &script, "sh", "{frame}", "{output}"];
    let mut job = jobs::command_with_output(&words, "1-60", "out/{frame:03}.txt");
    job["name"] = json!("night: #1 'yes' \"no\" é");
    job["labels"] = json!({ "on": "no", "version": "1.10", "none": "null" });
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    job
}

async fn failed_frames(farm: &TestFarm, id: JobId) -> Vec<i64> {
    farm.failures(id).await.iter().map(|task| task.frame).collect()
}

#[tokio::test]
async fn frames_are_tried_again_from_the_list_of_failures_and_from_the_strip() {
    let farm = TestFarm::start(2).await;
    let id = farm.submit(&sixty(&farm)).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    // While it runs, and not only of what was there when it was opened.
    browser.press("Outputs, to download").await;
    browser.sees("57 of 60").await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    browser.sees("out/004.txt").await;
    let failures = "return document.querySelectorAll('#failures tbody tr').length === ";
    browser.wait("three are listed", &format!("{failures} 3")).await;
    for frame in [2, 3] {
        std::fs::write(farm.folder().join(format!("mended{frame}")), "").expect("writable");
        browser.press_labeled(&format!("Choose frame {frame} of run")).await;
    }
    browser.press("Retry these 2").await;
    browser.sees("2 frames are tried again.").await;
    browser.wait("one is left", &format!("{failures} 1")).await;
    until(SOON, "those that were chosen are done, and no other", async || {
        let view = farm.client.job(id).await.ok()?;
        (view.tasks.done == 59 && view.state == JobState::Failed).then_some(())
    })
    .await;
    assert_eq!(failed_frames(&farm, id).await, [1]);
    let tried = farm.rest(&format!("/jobs/{id}/attempts?limit=200")).await;
    assert_eq!(tried["items"].as_array().map(Vec::len), Some(62), "the third was not tried again");
    browser.sees("59 of 60").await;

    browser.go_to("Frames of step run").await;
    browser.type_keys(&Key::Home.to_string()).await;
    browser.sees("Frame 1: failed").await;
    browser.press("Log of the last attempt").await;
    browser.sees("no license for frame 1").await;
    std::fs::write(farm.folder().join("mended1"), "").expect("writable");
    browser.press("Retry this frame").await;
    browser.sees("Frame 1 is tried again.").await;
    assert_eq!(farm.over(id).await.tasks.done, 60);
    // What was said of it is not left there.
    browser.sees("Frame 1: done").await;
    browser.sees("60 of 60").await;
    browser.wait("nothing failed", "return document.querySelector('#failures').hidden").await;
    browser.close().await;
}

#[tokio::test]
async fn attempts_and_outputs_are_turned_by_the_page_and_outputs_and_job_file_are_taken_along() {
    let farm = TestFarm::start(2).await;
    let job = sixty(&farm);
    let id = farm.submit(&job).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    let told = farm.rest(&format!("/jobs/{id}/attempts?order=newest&limit=200")).await;
    let attempts: Vec<&str> =
        told["items"].as_array().expect("a list").iter().map(|one| one["attempt"].as_str().expect("an id")).collect();
    assert_eq!(attempts.len(), 60);
    assert_eq!(told["items"][59]["outcome"], "finished");
    let are = |caption: &str, wanted: &[&str]| {
        format!(
            "const table = [...document.querySelectorAll('table')].find((one) => one.caption.textContent === '{caption}');
             const told = [...(table?.querySelectorAll('tbody tr') ?? [])].map((row) => row.cells[0].innerText.trim());
             return JSON.stringify(told) === JSON.stringify({})",
            json!(wanted)
        )
    };
    browser.wait("the newest are shown", &are("Attempts", &attempts[..25])).await;
    browser.press("Older attempts").await;
    browser.wait("older ones are shown", &are("Attempts", &attempts[25..50])).await;
    browser.press("Older attempts").await;
    browser.wait("the oldest are shown", &are("Attempts", &attempts[50..])).await;
    browser.press_labeled(&format!("Log of attempt {}", attempts[59])).await;
    browser.sees(&format!("Log of attempt {}", attempts[59])).await;
    browser.press("Newest attempts").await;
    browser.wait("the newest are shown", &are("Attempts", &attempts[..25])).await;

    browser.press("Outputs, to download").await;
    let outputs: Vec<String> = (4..=60).map(|frame| format!("out/{frame:03}.txt")).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    browser.wait("the first are shown", &are("Outputs", &outputs[..25])).await;
    browser.press("Next").await;
    browser.wait("the next are shown", &are("Outputs", &outputs[25..50])).await;
    browser.press("Next").await;
    browser.wait("the last are shown", &are("Outputs", &outputs[50..])).await;
    let downloads = farm.folder().join("downloads");
    browser.download_into(&downloads).await;
    browser.press("out/060.txt").await;
    arrives(&downloads.join("060.txt"), b"frame 60\n").await;
    browser.press("Before").await;
    browser.wait("those before are shown", &are("Outputs", &outputs[25..50])).await;
    browser.press("Before").await;
    browser.wait("the first are shown", &are("Outputs", &outputs[..25])).await;

    // The job as it was accepted, to the letter, also where a name looks like something else.
    browser.press("Job file, as it was accepted").await;
    browser.sees("version: \"1.10\"").await;
    let shown = browser.ask("return document.querySelector('pre[aria-label=\"Job file\"]').textContent").await;
    let spec = farm.rest(&format!("/jobs/{id}/spec")).await;
    let read: Value = serde_saphyr::from_str(shown.as_str().expect("text")).expect("YAML");
    assert_eq!(read, spec);
    assert_eq!((&spec["name"], &spec["labels"]), (&job["name"], &job["labels"]));
    browser.press("Copy as YAML").await;
    browser.sees("Copied.").await;
    assert_eq!(browser.copied().await, shown.as_str().expect("text"));
    browser.close().await;
}

/// The job that the program makes of what was copied: its file as REST tells it.
async fn submitted(farm: &TestFarm, command: &mut Command) -> Value {
    command.env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1").env("PATH", path()).current_dir(farm.folder());
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let newest = jobs_of(farm).await.into_iter().next().expect("there is one");
    farm.rest(&format!("/jobs/{}/spec", newest.id)).await
}

#[tokio::test]
async fn what_the_form_copies_makes_the_same_job_as_its_button() {
    let farm = TestFarm::start(1).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/submit?function=command", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.write("Name", "yes: #1 'two' $HOME `id`").await;
    browser.write("Project", "film").await;
    browser.write("Priority", "61").await;
    browser.write("Frames", "1-3").await;
    browser.write("Outputs", "").await;
    browser.write("program", "/bin/echo").await;
    browser.write("words", "1.10,null,- x,{frame}").await;
    browser.press("Copy as YAML").await;
    browser.sees("Copied.").await;
    let file = farm.folder().join("job.yaml");
    std::fs::write(&file, browser.copied().await).expect("writable");
    // Where the browser keeps its clipboard from pages: from another machine without HTTPS.
    browser.ask("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })").await;
    browser.press("Copy as command line").await;
    browser.ask("delete navigator.clipboard").await;
    let begins = async || {
        let copied = browser.copied().await;
        copied.starts_with("framewake submit - --wait").then_some(copied)
    };
    let typed = until(SOON, "the command is copied", begins).await;
    browser.press("Submit").await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    let by_form = jobs_of(&farm).await;
    assert_eq!(by_form.len(), 1);
    let by_form = farm.rest(&format!("/jobs/{}/spec", by_form[0].id)).await;
    assert_eq!(by_form["steps"][0]["parameters"]["words"], json!(["1.10", "null", "- x", "{frame}"]));
    let by_file = submitted(&farm, Command::new(built("framewake")).args(["submit", "job.yaml", "--wait"])).await;
    assert_eq!(by_file, by_form);
    let typed = typed.replacen("framewake ", "exec \"$0\" ", 1);
    let by_command = submitted(&farm, Command::new("sh").args(["-c", &typed]).arg(built("framewake"))).await;
    assert_eq!(by_command, by_form);
    assert_eq!(jobs_of(&farm).await.len(), 3);
    browser.close().await;
}
