//! The web pages without a mouse: everything that is done often, from logging in to logging out, by keys alone.

use fantoccini::key::Key;
use framewake_proto::access::{Role, TokenAdd};
use framewake_proto::client::JobQuery;
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::tokens::ask_for_tokens;

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
