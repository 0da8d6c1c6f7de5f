//! The web pages without a mouse: everything that is done often, from logging in to logging out, by keys alone.

use fantoccini::key::Key;
use framewake_proto::access::{Role, TokenAdd};
use framewake_proto::api::JobState;
use framewake_proto::client::JobQuery;
use framewake_proto::ids::JobId;
use framewake_tests::browser::{Browser, PHONE};
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::tokens::ask_for_tokens;
use serde_json::json;

/// Goes to the page of a form for a program, fills it in and sends it.
async fn submit(browser: &Browser, name: &str, frames: &str, program: &str, words: &str) {
    browser.press_by_keys("Submit").await;
    browser.tab_to("Function").await;
    browser.type_keys("command").await;
    // What stands in a field is chosen when one comes to it by Tab.
    browser.tab_to("Name").await;
    browser.type_keys(name).await;
    browser.tab_to("Frames").await;
    browser.type_keys(frames).await;
    browser.tab_to("Outputs").await;
    browser.type_keys(&Key::Delete.to_string()).await;
    browser.tab_to("program").await;
    browser.type_keys(program).await;
    browser.tab_to("words").await;
    browser.type_keys(words).await;
    browser.sees("what it takes").await;
    // The one at the end of the form, not the way to this page.
    browser.tab_to("Submit").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    browser.sees(name).await;
}

#[tokio::test]
async fn somebody_logs_in_submits_retries_cancels_and_leaves_by_keys_alone() {
    let mut farm = TestFarm::start(1).await;
    let token = ask_for_tokens(&mut farm, &[], &[]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    // One stands in the only field.
    browser.wait("the field is ready", "return document.activeElement.name === 'token'").await;
    browser.type_keys("fw_wrong").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("opens nothing here").await;
    browser.type_keys(token.reveal()).await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("Nothing runs.").await;

    submit(&browser, "fails by keys", "1-3", "/bin/false", "").await;
    browser.sees("Frames that failed").await;
    browser.tab_to("Choose frame 2 of render").await;
    browser.type_keys(" ").await;
    browser.press_by_keys("Retry these 1").await;
    browser.sees("Frame 2 is tried again.").await;
    browser.wait("it has failed once more", "return /failed/.test(document.querySelector('.lead').innerText)").await;
    browser.press_by_keys("Retry failed").await;
    browser.sees("The failed frames are tried again.").await;
    browser.wait("it has failed once more", "return /failed/.test(document.querySelector('.lead').innerText)").await;
    browser.press_by_keys("Log of frame 1").await;
    browser.sees("Log of attempt").await;

    submit(&browser, "runs by keys", "1-9", "/bin/sleep", "600").await;
    browser.sees("running").await;
    browser.press_by_keys("Priority …").await;
    browser.type_keys("71").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("priority 71").await;
    browser.press_by_keys("Pause").await;
    browser.sees("nothing new begins").await;
    browser.press_by_keys("Resume").await;
    browser.sees("The job goes on.").await;
    // Whoever leaves the question has done nothing.
    browser.press_by_keys("Cancel").await;
    browser.wait("it is asked", "return Boolean(document.querySelector('dialog[open]'))").await;
    browser.type_keys(&Key::Escape.to_string()).await;
    browser.wait("the question is gone", "return !document.querySelector('dialog')").await;
    let jobs = farm.client.jobs(&JobQuery::default()).await.expect("a list").items;
    assert!(!jobs[0].state.is_over(), "{jobs:?}");
    browser.press_by_keys("Cancel").await;
    browser.wait("it is asked", "return Boolean(document.querySelector('dialog[open]'))").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("canceled").await;

    // The frames of a strip, and jobs in a list.
    browser.tab_to("Frames of step render").await;
    browser.type_keys(&Key::End.to_string()).await;
    browser.sees("Frame 9:").await;
    browser.press_by_keys("Jobs").await;
    browser.tab_to("Choose fails by keys").await;
    browser.type_keys(" ").await;
    browser.sees("1 chosen").await;
    browser.press_by_keys("Log out").await;
    browser.sees("You are logged out.").await;

    // Somebody who may less is offered less.
    let add = TokenAdd { name: "vera".parse().expect("a name"), role: Role::Viewer, project: None, lasts: None };
    let viewer = farm.client.add_token(&add).await.expect("made");
    browser.wait("the field is ready", "return document.activeElement.name === 'token'").await;
    browser.type_keys(viewer.secret.reveal()).await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("vera · viewer").await;
    browser.press_by_keys("Settings").await;
    browser.sees("what workers cost is unknown").await;
    let text = browser.ask("return document.body.innerText").await;
    let text = text.as_str().expect("text");
    assert!(
        !["Tokens", "Submit", "Set a budget", "Notifications", "false"].iter().any(|word| text.contains(word)),
        "{text}"
    );
    browser.close().await;
}

/// Submits jobs that sleep, and waits until the list has them.
async fn sleepers(farm: &TestFarm, names: &[&str]) -> Vec<JobId> {
    let mut ids = Vec::new();
    for name in names {
        let mut job = jobs::command(&["/bin/sleep", "600"], "1-2");
        job["name"] = json!(name);
        ids.push(farm.submit(&job).await);
    }
    ids
}

async fn states(farm: &TestFarm, ids: &[JobId]) -> Vec<JobState> {
    let mut states = Vec::new();
    for id in ids {
        states.push(farm.client.job(*id).await.expect("it is there").state);
    }
    states
}

#[tokio::test]
async fn several_jobs_are_found_chosen_paused_and_canceled_by_keys_alone() {
    let farm = TestFarm::start(1).await;
    let ids = sleepers(&farm, &["first", "second", "third"]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.sees("third").await;
    let choose = async || {
        for name in ["Choose second", "Choose first"] {
            browser.tab_to(name).await;
            browser.type_keys(" ").await;
        }
        browser.sees("2 chosen").await;
    };
    choose().await;
    browser.tab_back_to("Pause").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("Pause: 2 of 2 jobs").await;
    let states_now = states(&farm, &ids).await;
    assert!(states_now[..2].iter().all(|state| *state == JobState::Paused), "{states_now:?}");
    assert_ne!(states_now[2], JobState::Paused);
    // With what was done the buttons are gone, and one stands in the same part of the page.
    browser.wait("the buttons are gone", "return !document.body.innerText.includes('2 chosen')").await;
    assert_eq!(browser.stands_on().await, "Search");
    choose().await;
    browser.tab_back_to("Cancel").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("Cancel 2 jobs? What runs is stopped.").await;
    browser.type_keys(&Key::Escape.to_string()).await;
    browser.wait("the question is gone", "return !document.querySelector('dialog')").await;
    assert_eq!(browser.stands_on().await, "Cancel", "one is back where one was asked");
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("Cancel 2 jobs? What runs is stopped.").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.sees("Cancel: 2 of 2 jobs").await;
    let states_now = states(&farm, &ids).await;
    assert!(states_now[..2].iter().all(|state| *state == JobState::Canceled), "{states_now:?}");
    assert!(!states_now[2].is_over(), "{states_now:?}");
    browser.wait("the buttons are gone", "return !document.body.innerText.includes('2 chosen')").await;
    assert_eq!(browser.stands_on().await, "Search");
    // By name, by state, and in another order.
    browser.tab_back_to("Name").await;
    browser.type_keys("ir").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.wait("two have it in their name", "return document.querySelectorAll('tbody tr').length === 2").await;
    browser.tab_to("State").await;
    browser.type_keys("canceled").await;
    browser.wait("one of these is canceled", "return document.querySelectorAll('tbody tr').length === 1").await;
    browser.tab_to("first").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.wait("its page opens", &format!("return location.pathname === '/jobs/{}'", ids[0])).await;
    browser.close().await;
}

#[tokio::test]
async fn files_are_handed_over_renamed_and_left_out_by_keys_alone() {
    let farm = TestFarm::start(1).await;
    for name in ["said.txt", "unwanted.txt"] {
        std::fs::write(farm.folder().join(name), "what stands in it").expect("writable");
    }
    let file = |name: &str| farm.folder().join(name).to_str().expect("UTF-8").to_owned();
    let browser = Browser::start().await;
    browser.open(&format!("{}/submit?function=command", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.tab_to("Frames").await;
    browser.type_keys("1").await;
    browser.tab_to("Outputs").await;
    browser.type_keys("{frame}.txt").await;
    browser.tab_to("Files").await;
    for name in ["said.txt", "unwanted.txt"] {
        browser.hand_over(&file(name)).await;
    }
    browser.tab_to("Where the step finds said.txt").await;
    browser.type_keys("read.txt").await;
    // Left out, and not from the first one on.
    browser.press_by_keys("Leave out unwanted.txt").await;
    browser.wait("it is gone", "return !document.querySelector('[aria-label=\"Leave out unwanted.txt\"]')").await;
    assert_eq!(browser.stands_on().await, "Leave out said.txt");
    browser.tab_to("program").await;
    browser.type_keys("/bin/cp").await;
    browser.tab_to("words").await;
    browser.type_keys("{inputs}/read.txt,{output}").await;
    browser.sees("what it takes").await;
    browser.tab_to("Submit").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.wait("the page of the job opens", "return location.pathname.startsWith('/jobs/')").await;
    browser.sees("succeeded").await;
    browser.press_by_keys("Outputs, to download").await;
    browser.sees("1.txt").await;
    browser.tab_to("1.txt").await;
    let address = browser.ask("return document.activeElement.href").await;
    let text = reqwest::get(address.as_str().expect("an address")).await.expect("an answer").text().await;
    assert_eq!(text.expect("text"), "what stands in it");
    browser.close().await;
}

#[tokio::test]
async fn one_skips_to_the_content_without_losing_what_was_filled_in_and_moves_what_is_too_wide() {
    let farm = TestFarm::start(1).await;
    sleepers(&farm, &["of some width"]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/submit?function=command", farm.url())).await;
    browser.sees("The same as a file").await;
    browser.tab_to("Skip to content").await;
    browser.tab_to("Name").await;
    browser.type_keys("half done").await;
    browser.tab_back_to("Skip to content").await;
    browser.type_keys(&Key::Enter.to_string()).await;
    browser.wait("one stands on the content", "return document.activeElement.matches('main')").await;
    browser.type_keys(&Key::Tab.to_string()).await;
    assert_eq!(browser.stands_on().await, "Function", "the ways to other pages are passed over");
    let name =
        "return [...document.querySelectorAll('label')].find((one) => one.innerText.startsWith('Name')).control.value";
    assert_eq!(browser.ask(name).await, "half done");

    // A table on a phone is moved by arrow keys, and stays where it was moved to when it is drawn anew.
    browser.widen(PHONE).await;
    browser.open(&format!("{}/jobs", farm.url())).await;
    browser.sees("of some width").await;
    // The way to this page has the same name.
    for _ in 0..2 {
        browser.tab_to("Jobs").await;
    }
    browser.type_keys(&Key::Right.to_string().repeat(3)).await;
    browser.wait("it is moved", "return document.activeElement.scrollLeft > 20").await;
    browser.ask("window.row = document.querySelector('tbody tr')").await;
    sleepers(&farm, &["another"]).await;
    browser.wait("it is drawn anew", "return !window.row.isConnected").await;
    assert_eq!(browser.ask("return document.activeElement.scrollLeft > 20").await, true, "it was pushed back");
    assert_eq!(browser.stands_on().await, "Jobs");
    browser.close().await;
}
