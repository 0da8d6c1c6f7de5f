//! The web pages of who looks after a farm, without a mouse: schedules, functions, machines, cost, events and settings, by Tab and
//! the keys of what one stands on, alone.

use fantoccini::key::Key;
use framewake_proto::api::PlaceState;
use framewake_proto::client::{Client, JobQuery};
use framewake_proto::notify::Secret;
use framewake_tests::browser::Browser;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::nvml::gpu;
use framewake_tests::parts::free_port;
use framewake_tests::receiver::{Answer, Receiver};
use framewake_tests::tokens::ask_for_tokens;
use framewake_tests::wait::until;
use serde_json::{Value, json};

async fn press(browser: &Browser, key: Key) {
    browser.type_keys(&key.to_string()).await;
}

/// Goes to a field and writes into it, in the place of what is there.
async fn fill_in(browser: &Browser, label: &str, text: &str) {
    browser.tab_to(label).await;
    browser.type_keys(text).await;
}

/// Waits until one stands on this, wherever it was drawn.
async fn stands(browser: &Browser, name: &str) {
    until(SOON, &format!("one stands on {name}"), async || (browser.stands_on().await == name).then_some(())).await;
}

#[tokio::test]
async fn a_schedule_is_looked_at_paused_resumed_and_run_by_keys_alone() {
    let farm = TestFarm::start(1).await;
    let job = jobs::command(&["/bin/true"], "1-2");
    let schedule = json!({ "name": "nightly", "cron": "0 2 * * *", "zone": "UTC", "job": job });
    farm.client.add_schedule(&schedule).await.expect("a good schedule");
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.press_by_keys("Schedules").await;
    browser.sees("The next four weeks").await;
    browser.press_by_keys("Pause nightly").await;
    browser.sees("nightly is paused.").await;
    // What is there instead of it is where one stands.
    stands(&browser, "Resume nightly").await;
    press(&browser, Key::Enter).await;
    browser.sees("nightly goes on.").await;
    stands(&browser, "Pause nightly").await;
    browser.press_by_keys("Run nightly").await;
    browser.sees("nightly runs now.").await;
    let made = until(SOON, "its job is made", async || {
        farm.client.jobs(&JobQuery::default()).await.expect("a list").items.first().map(|job| job.id)
    })
    .await;
    browser.tab_back_to("nightly").await;
    press(&browser, Key::Enter).await;
    browser.sees("Next runs of nightly").await;
    browser.press_by_keys("run 1").await;
    browser.wait("the page of its job opens", &format!("return location.pathname === '/jobs/{made}'")).await;
    browser.close().await;
}

#[tokio::test]
async fn a_function_is_unfolded_and_stays_so_while_the_page_is_drawn_anew() {
    let farm = TestFarm::start(1).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.press_by_keys("Functions").await;
    browser.sees("tachyon").await;
    browser.tab_to("Submit a job of tachyon").await;
    for (summary, says) in [("Why so many workers", "Frames to go"), ("Parameters and versions", "must be set")] {
        browser.tab_to(summary).await;
        press(&browser, Key::Enter).await;
        browser.sees(says).await;
        browser.ask("window.before = document.activeElement").await;
        browser.wait("it is drawn anew", "return !window.before.isConnected").await;
        let open = "const at = document.activeElement;
            return at.matches('details[open] > summary') && at.closest('section').innerText.startsWith('tachyon@')";
        assert_eq!(browser.ask(open).await, true, "{summary}");
        press(&browser, Key::Enter).await;
        browser.wait("it is folded", "return !document.activeElement.parentElement.open").await;
    }
    browser.tab_back_to("Submit a job of tachyon").await;
    press(&browser, Key::Enter).await;
    browser.wait("its form opens", "return document.querySelector('select')?.value === 'tachyon'").await;
    browser.close().await;
}

#[tokio::test]
async fn a_machine_is_brought_back_and_workers_are_found_by_keys_alone() {
    let well = gpu(0, "GPU-aa", 24, &[]);
    let farm = TestFarm::start_with_gpus(1, &well).await;
    let function = json!({
        "name": "gpu", "driver": { "kind": "command", "command": ["/bin/sleep", "600"] }, "resources": { "gpus": 1 },
    });
    farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "breaks", "steps": [{ "name": "render", "function": "gpu", "frames": "1" }] });
    farm.submit(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/workers", farm.url())).await;
    browser.sees("busy").await;
    browser.tab_to("State").await;
    browser.type_keys(&Key::Down.to_string().repeat(2)).await;
    browser.sees("No such workers.").await;
    press(&browser, Key::Down).await;
    fill_in(&browser, "Function", "gpu").await;
    press(&browser, Key::Enter).await;
    browser.wait("it is found", "return location.search === '?state=busy&function=gpu'").await;
    browser.wait("it is found", "return document.querySelector('tbody')?.innerText.includes('gpu')").await;
    farm.nvml().says(&format!("{well}lost 0\n"));
    let place = async || farm.client.places(None, None).await.expect("a list").items.into_iter().next();
    let aside =
        until(SOON, "it is set aside", async || place().await.filter(|place| place.state == PlaceState::SetAside))
            .await;
    browser.sees("set aside").await;
    browser.tab_to(&format!("It is mended: {}", aside.name)).await;
    farm.nvml().says(&well);
    press(&browser, Key::Enter).await;
    browser.sees(&format!("{} gets work again.", aside.name)).await;
    // One that is well is not listed once nobody works there.
    let after = place().await;
    assert!(after.as_ref().is_none_or(|place| place.state != PlaceState::SetAside), "{after:?}");
    browser.wait("the button is gone", "return !document.querySelector('[aria-label^=\"It is mended\"]')").await;
    assert_ne!(browser.stands_on().await, "", "one stands somewhere still");
    browser.close().await;
}

#[tokio::test]
async fn cost_and_events_are_asked_for_by_keys_alone() {
    let farm = TestFarm::start(1).await;
    let mut job = jobs::command(&["/bin/true"], "1-2");
    (job["project"], job["name"]) = (json!("film"), json!("paid"));
    farm.succeed(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.press_by_keys("Cost").await;
    browser.sees("film").await;
    browser.tab_to("From").await;
    browser.type_keys("01022026").await;
    browser.wait("it is asked from that day on", "return location.search.includes('from=2026-01-02')").await;
    browser.tab_to("by").await;
    browser.type_keys("cause").await;
    browser.wait("it is told by cause", "return location.search.includes('by=cause')").await;
    fill_in(&browser, "project", "nobody").await;
    press(&browser, Key::Enter).await;
    browser.sees("No worker was paid on these days.").await;
    assert_eq!(browser.stands_on().await, "project");

    browser.press_by_keys("Events").await;
    browser.sees("is succeeded").await;
    let begun = "return document.querySelector('.feed').innerText.includes(' began frames ')";
    assert_eq!(browser.ask(begun).await, false);
    browser.tab_to("attempts").await;
    browser.type_keys(" ").await;
    browser.wait("attempts are shown too", begun).await;
    fill_in(&browser, "What begins with", "job.submit").await;
    press(&browser, Key::Enter).await;
    browser.wait("a change is found", "return document.querySelectorAll('tbody tr').length === 1").await;
    browser.type_keys(&Key::Escape.to_string()).await;
    browser.type_keys("nothing.").await;
    browser.press_by_keys("Search").await;
    browser.sees("No such change was made.").await;
    browser.tab_to("hold still").await;
    browser.type_keys(" ").await;
    browser.wait("it is ticked", "return document.activeElement.checked").await;
    browser.close().await;
}

#[tokio::test]
async fn tokens_and_notifications_are_made_tried_and_taken_back_by_keys_alone() {
    let mut farm = TestFarm::start(1).await;
    let allowed = [("FRAMEWAKE_NOTIFY_ALLOW", "127.0.0.1/32"), ("FRAMEWAKE_NOTIFY_FOR", "1s")];
    let token = ask_for_tokens(&mut farm, &[], &allowed).await;
    let receiver = Receiver::start(free_port(), |_| Answer::Status(200)).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/settings", farm.url())).await;
    browser.wait("the field is ready", "return document.activeElement.name === 'token'").await;
    browser.type_keys("fw_wrong").await;
    browser.press_by_keys("Log in").await;
    browser.sees("opens nothing here").await;
    // One is back in the field, to write another.
    stands(&browser, "Token").await;
    browser.type_keys(token.reveal()).await;
    press(&browser, Key::Enter).await;
    browser.sees("Make a token").await;

    // The first of these names is the one of the tokens.
    browser.tab_to("Log out").await;
    fill_in(&browser, "Name", "vera").await;
    fill_in(&browser, "Role", "artist").await;
    fill_in(&browser, "Lasts", "30d").await;
    browser.press_by_keys("Make a token").await;
    browser.sees("It is shown this once").await;
    browser.tab_to("Token of vera").await;
    let secret = browser.ask("return document.activeElement.value").await;
    let secret = Secret::new(secret.as_str().expect("text").to_owned());
    let vera = Client::with_token(&farm.url(), Some(&secret)).expect("a good address");
    vera.jobs(&JobQuery::default()).await.expect("it opens the farm");
    browser.press_by_keys("Done").await;
    browser.wait("it is shown no more", "return !document.querySelector('[aria-label=\"Token of vera\"]')").await;
    assert_eq!(browser.stands_on().await, "Make a token", "one stands before what is gone");
    browser.tab_back_to("Revoke vera").await;
    press(&browser, Key::Enter).await;
    browser.sees("Revoke the token of vera?").await;
    press(&browser, Key::Tab).await;
    press(&browser, Key::Enter).await;
    browser.wait("the question is gone", "return !document.querySelector('dialog')").await;
    assert_eq!(browser.stands_on().await, "Revoke vera", "it was left, and one is back where one was asked");
    vera.jobs(&JobQuery::default()).await.expect("it was not revoked");
    press(&browser, Key::Enter).await;
    browser.sees("Revoke the token of vera?").await;
    press(&browser, Key::Enter).await;
    browser.sees("The token of vera opens nothing any more.").await;
    vera.jobs(&JobQuery::default()).await.expect_err("it is revoked");
    browser.wait("it is gone", "return !document.querySelector('[aria-label=\"Revoke vera\"]')").await;
    assert_eq!(browser.stands_on().await, "Revoke first", "one stands on what is in its place");

    browser.tab_to("Set a price").await;
    fill_in(&browser, "Name", "artists").await;
    fill_in(&browser, "By", "a signed").await;
    fill_in(&browser, "Address", &receiver.url()).await;
    fill_in(&browser, "Secret", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").await;
    browser.press_by_keys("Add").await;
    browser.sees("artists is told from now on.").await;
    browser.tab_back_to("Test artists").await;
    press(&browser, Key::Enter).await;
    browser.sees("artists was told.").await;
    assert_eq!(receiver.got().len(), 1, "the key did what the button says");
    assert_eq!(browser.stands_on().await, "Test artists");
    browser.press_by_keys("Remove artists").await;
    browser.sees("Remove artists, with everything").await;
    press(&browser, Key::Enter).await;
    browser.sees("Nobody is told of anything yet.").await;
    assert_eq!(farm.client.targets().await.expect("a list").len(), 0);
    assert_ne!(browser.stands_on().await, "", "one stands somewhere still");
    assert_eq!(browser.broken_rules().await, Value::Array(Vec::new()));
    browser.close().await;
}
