//! What somebody has in hand stays as it is while a page changes by itself: what they press, mark, type, choose and read.

use framewake_proto::api::JobState;
use framewake_proto::client::Action;
use framewake_proto::ids::JobId;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::tokens::ask_for_tokens;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;

/// A job that runs, and goes on, frame after frame.
async fn going_on(farm: &TestFarm, name: &str) -> JobId {
    let mut job = jobs::command(&["/bin/sleep", "0.2"], "1-5000");
    job["name"] = json!(name);
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    farm.submit(&job).await
}

/// Presses for so long that the page, which is drawn anew once a second as long as something happens, would have been.
async fn press_for_long(browser: &Browser, element: &str) {
    browser.hold_down(element).await;
    browser.ask("window.pressed = performance.now()").await;
    browser.wait("three seconds", "return performance.now() > window.pressed + 3000").await;
    browser.let_go().await;
}

#[tokio::test]
async fn a_press_arrives_however_long_it_takes_and_whatever_comes_meanwhile() {
    let farm = TestFarm::start(1).await;
    let id = going_on(&farm, "goes on").await;
    let browser = Browser::start().await;
    let running = format!("document.querySelector('[aria-label=Jobs] a[href=\"/jobs/{id}\"]')");
    browser.open(&format!("{}/jobs", farm.url())).await;
    let there = format!("return Boolean({running})");
    browser.wait("the job is listed", &there).await;
    press_for_long(&browser, &running).await;
    let followed = format!("return location.pathname === '/jobs/{id}'");
    browser.wait("the link was followed", &followed).await;

    // The press leaves a field in which something was typed, which is searched for by that.
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.wait("the job is listed", &there).await;
    browser.write("Name", "goes").await;
    browser.hold_down(&running).await;
    let answered = "return performance.getEntriesByName(`${location.origin}/v1/jobs?name=goes&limit=50`).some((one) => one.responseEnd > 0)";
    browser.wait("it is searched for", answered).await;
    browser.let_go().await;
    browser.wait("the link was followed", &followed).await;

    let pause = "[...document.querySelectorAll('main button')].find((one) => one.innerText === 'Pause')";
    browser.wait("it can be paused", &format!("return Boolean({pause})")).await;
    press_for_long(&browser, pause).await;
    browser.wait("it is paused", "return document.querySelector('.lead').innerText.includes('paused')").await;
    assert_eq!(farm.client.job(id).await.expect("known").state, JobState::Paused);
    browser.close().await;
}

#[tokio::test]
async fn what_is_marked_stays_marked_and_what_is_half_typed_is_not_asked_for() {
    let farm = TestFarm::start(1).await;
    going_on(&farm, "goes on").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/workers", farm.url())).await;
    let there = "return Boolean(document.querySelector('[aria-label=Workers] tbody .mono'))";
    browser.wait("a worker is listed", there).await;
    browser.ask("window.row = document.querySelector('[aria-label=Workers] tbody tr'); getSelection().selectAllChildren(row.querySelector('.mono'))").await;
    let marked = browser.ask("return String(getSelection())").await;
    assert!(marked.as_str().is_some_and(|id| !id.is_empty()), "{marked}");
    browser.ask("document.querySelector('input[name=pool]').value = 'half ty'").await;
    browser.wait("the list is drawn anew", "return !window.row.isConnected").await;
    assert_eq!(browser.ask("return String(getSelection())").await, marked);
    browser.wait("it lists all the same", there).await;

    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.sees("goes on").await;
    browser.ask("document.querySelector('input[name=name]').value = 'zzz'").await;
    going_on(&farm, "came later").await;
    browser.sees("came later").await;
    browser.sees("goes on").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_holds_still_while_somebody_wants_it_to() {
    let farm = TestFarm::start(1).await;
    let id = going_on(&farm, "goes on").await;
    let browser = Browser::start().await;
    for (page, changes) in [
        ("/".to_owned(), "document.querySelector('main').innerText"),
        (format!("/jobs/{id}"), "document.querySelector('.figures').innerText"),
    ] {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.sees("goes on").await;
        let remember = format!("window.was = {changes}");
        browser.ask(&remember).await;
        browser.wait("it changes by itself", &format!("return {changes} !== window.was")).await;
        browser.press_in("header", "Hold still").await;
        browser.wait("it says so", "return document.getElementById('link').innerText === 'held still'").await;
        assert_eq!(browser.broken_rules().await, json!([]));
        // What was asked for before comes yet; nothing after it.
        let quiet = "const last = performance.getEntriesByType('resource').reduce((most, one) => Math.max(most, one.responseEnd), 0);
            return performance.now() - last > 2500";
        browser.wait("nothing is asked for", quiet).await;
        browser.ask(&remember).await;
        let done = farm.client.job(id).await.expect("known").tasks.done;
        until(SOON, "frames are done", async || {
            (farm.client.job(id).await.expect("known").tasks.done > done + 2).then_some(())
        })
        .await;
        assert_eq!(browser.ask(&format!("return {changes} === window.was")).await, json!(true), "{page} changed");
        browser.press_in("header", "Hold still").await;
        browser.wait("it goes on", &format!("return {changes} !== window.was")).await;
        browser.wait("and says so", "return document.getElementById('link').innerText === 'live'").await;
    }
    farm.client.act(id, Action::Cancel).await.expect("it runs");
    browser.close().await;
}

#[tokio::test]
async fn on_a_sharp_phone_nothing_sticks_out_and_the_chart_stands_below_its_frames() {
    let farm = TestFarm::start(1).await;
    let view = farm.succeed(&jobs::command(&["/bin/echo", "good"], "1-12")).await;
    let browser = Browser::start().await;
    browser.be_a_sharp_phone().await;
    for page in
        ["/".to_owned(), "/jobs".to_owned(), "/workers".to_owned(), "/cost".to_owned(), format!("/jobs/{}", view.id)]
    {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.wait("it is drawn", "return Boolean(document.querySelector('main .card'))").await;
        assert_eq!(browser.too_wide().await, json!([]), "{page}");
    }
    let drawn = "return Boolean(document.querySelector('.times:not([hidden])'))";
    browser.wait("the times are drawn", drawn).await;
    assert_eq!(browser.too_wide().await, json!([]), "with its chart");
    let same = "const [strip, times] = ['.strip canvas', '.times'].map((one) => document.querySelector(one));
        const [above, below] = [strip, times].map((one) => one.getBoundingClientRect());
        return [above.left === below.left, above.right === below.right, strip.width === times.width, strip.width === Math.round(3 * above.width), below.right < innerWidth]";
    assert_eq!(browser.ask(same).await, json!([true, true, true, true, true]));
    // Times are told where one points at them, and a tap chooses.
    browser.hold_down("document.querySelector('.times')").await;
    browser.let_go().await;
    browser
        .wait("a frame is chosen", "return Number(document.querySelector('.strip').getAttribute('aria-valuenow')) > 3")
        .await;
    browser.close().await;
}

#[tokio::test]
async fn who_is_not_logged_in_finds_the_form_wherever_they_go() {
    let mut farm = TestFarm::start(0).await;
    let token = ask_for_tokens(&mut farm, &[], &[]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs?name=tree", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    assert_eq!(
        browser.ask("return document.querySelectorAll('#nav a').length").await,
        0,
        "ways to what nobody may see"
    );
    // Back and forth, as one does.
    browser.ask("history.pushState(null, '', '/workers'); history.back()").await;
    browser.wait("one is back", "return location.pathname === '/jobs'").await;
    browser.press_in("header", "Framewake").await;
    browser.wait("it is another address", "return location.pathname === '/'").await;
    browser.ask("history.back()").await;
    browser.wait("one is back again", "return location.pathname === '/jobs'").await;
    browser.sees("This farm asks who you are.").await;
    browser.write("Token", token.reveal()).await;
    browser.press("Log in").await;
    browser.sees("No such jobs.").await;
    assert_eq!(browser.ask("return location.search").await, "?name=tree");
    browser.close().await;
}

#[tokio::test]
async fn a_log_that_is_read_goes_on_after_the_scheduler_was_away_and_stays_marked() {
    let mut farm = TestFarm::start(1).await;
    let said = farm.folder().join("said");
    std::fs::write(&said, "line 1\n").expect("writable");
    let script = format!("tail -n +1 -f {}", said.display());
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", &script], "1")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.press("Log").await;
    let reads = |text: &str| format!("return document.querySelector('pre.log').textContent === {}", Value::from(text));
    browser.wait("the log is read", &reads("line 1\n")).await;
    browser.ask("getSelection().selectAllChildren(document.querySelector('pre.log'))").await;
    let mut more = OpenOptions::new().append(true).open(&said).expect("it is there");
    more.write_all(b"line 2\n").expect("writable");
    browser.wait("it goes on", &reads("line 1\nline 2\n")).await;
    assert!(browser.ask("return String(getSelection())").await.as_str().is_some_and(|text| text.starts_with("line 1")));
    farm.kill_scheduler();
    browser.sees("the connection broke: it is read again by itself").await;
    more.write_all(b"line 3\n").expect("writable");
    farm.restart_scheduler().await;
    browser.wait("it goes on by itself", &reads("line 1\nline 2\nline 3\n")).await;
    // One that stops in an orderly way ends what it sends, and the attempt goes on.
    farm.restart_scheduler().await;
    more.write_all(b"line 4\n").expect("writable");
    browser.wait("it goes on again", &reads("line 1\nline 2\nline 3\nline 4\n")).await;
    farm.client.act(id, Action::Cancel).await.expect("it runs");
    browser.close().await;
}

#[tokio::test]
async fn what_was_filled_in_stays_when_another_function_is_chosen() {
    let farm = TestFarm::start(0).await;
    let browser = Browser::start().await;
    let scene = farm.folder().join("scene.pov");
    std::fs::write(&scene, "sphere { 0, 1 }").expect("writable");
    browser.open(&format!("{}/submit?function=povray", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.write("Project", "film").await;
    let field = |name: &str| {
        format!(
            "return [...document.querySelectorAll('main label')].find((one) => one.innerText.startsWith('{name}')).control.value"
        )
    };
    browser.write("Frames", "3-7").await;
    browser.write("Files", &scene.display().to_string()).await;
    browser.sees("scene.pov (15 B)").await;
    browser.write("Function", "blender").await;
    browser.wait("it is another form", "return document.body.innerText.includes('function: blender')").await;
    assert_eq!(browser.ask(&field("Project")).await, "film");
    assert_eq!(browser.ask(&field("Frames")).await, "3-7");
    browser.sees("scene.pov (15 B)").await;
    browser.sees("path: scene.pov").await;
    browser.close().await;
}

#[tokio::test]
async fn durations_are_told_to_the_second_up_to_an_hour() {
    let farm = TestFarm::start(0).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    let told = "const done = arguments[arguments.length - 1];
        import('/web/lib.js').then(({ seconds }) => done([0.25, 3.21, 45.4, 59.9, 60, 89, 91, 149, 3599, 3600, 7290, 200000].map(seconds)));";
    assert_eq!(
        browser.ask_later(told).await,
        json!([
            "250 ms",
            "3.2 s",
            "45 s",
            "1 min 0 s",
            "1 min 0 s",
            "1 min 29 s",
            "1 min 31 s",
            "2 min 29 s",
            "59 min 59 s",
            "1 h 0 min",
            "2 h 2 min",
            "2 d 7 h"
        ])
    );
    browser.close().await;
}
