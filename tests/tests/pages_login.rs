//! Logging in to the pages by the provider's button in a real browser: there, back, over a restart, and out at both.
//!
//! The pages are at `localhost` and the provider at 127.0.0.1: to a browser these are two sites, so that what cookies may do
//! between sites is tried too.

use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::{built, free_port};
use framewake_tests::provider::Provider;
use framewake_tests::tokens::made_here;
use serde_json::{Value, json};
use std::process::Command;

#[tokio::test]
async fn somebody_logs_in_by_the_button_stays_over_a_restart_and_logs_out_at_both() {
    let provider = Provider::start(free_port()).await;
    let mut farm = TestFarm::start(1).await;
    let mut film = jobs::command(&["/bin/true"], "1-2");
    (film["project"], film["name"]) = (json!("film"), json!("of film"));
    farm.succeed(&film).await;
    let url = format!("http://localhost:{}", farm.port());
    provider.asks_people();
    provider.lets_out_to(&format!("{url}/"));
    farm.arguments = provider.arguments(&farm, &url, "lighting=artist:film");
    farm.restart_scheduler().await;
    let browser = Browser::start().await;
    browser.open(&format!("{url}/jobs")).await;
    browser.sees("This farm asks who you are.").await;
    browser.wait("the button is there", "return Boolean(document.querySelector('main a.button'))").await;
    assert_eq!(browser.broken_rules().await, json!([]), "the page with the button");
    browser.press("Log in with 127.0.0.1").await;
    browser.sees("Who are you?").await;
    browser.press("I am Jane").await;
    // On the page that was wanted, as who she is.
    browser.sees("of film").await;
    let place = "return [location.origin, location.pathname, location.search].join(' ')";
    assert_eq!(browser.ask(place).await, Value::from(format!("{url} /jobs ")));
    let greeting =
        "return Boolean(document.getElementById('who').innerText.match(/oidc-jane-doe-[0-9a-f]{8} · artist of film/))";
    browser.wait("it greets her", greeting).await;
    assert_eq!(browser.ask("return document.cookie").await, json!(""), "scripts read no cookie");
    // The scheduler starts again, and nobody has to log in.
    farm.restart_scheduler().await;
    browser.open(&format!("{url}/jobs")).await;
    browser.sees("of film").await;
    browser.wait("it greets her still", greeting).await;
    // Out here, and at the provider, which asks again who she is.
    browser.press_in("header", "Log out").await;
    let back =
        format!("return location.href === '{url}/' && document.body.innerText.includes('This farm asks who you are.')");
    browser.wait("the provider sends her back", &back).await;
    assert_eq!(provider.ended(), 1);
    browser.press("Log in with 127.0.0.1").await;
    browser.sees("Who are you?").await;
    // Who may not come in is told so, and is not led in a circle.
    provider.says(json!({ "sub": "3", "preferred_username": "guest", "groups": ["guests"] }));
    browser.press("I am Jane").await;
    browser.sees("You are in no group that may come in").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_is_told_when_its_session_is_taken_back_or_ended_in_another_window() {
    let provider = Provider::start(free_port()).await;
    let mut farm = TestFarm::start(1).await;
    let url = format!("http://localhost:{}", farm.port());
    let first = made_here(&farm, &[]);
    farm.arguments = provider.arguments(&farm, &url, "lighting=admin");
    farm.restart_scheduler().await;
    let typed = |arguments: &[&str]| {
        let mut command = Command::new(built("framewake"));
        command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("FRAMEWAKE_TOKEN", first.reveal());
        let output = command.env("HOME", farm.folder()).env_remove("XDG_CONFIG_HOME").output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let browser = Browser::start().await;
    let log_in = async || {
        browser.open(&format!("{url}/events")).await;
        browser.press("Log in with 127.0.0.1").await;
        browser.wait("she is in", "return document.getElementById('who').innerText.includes('oidc-jane-doe')").await;
        browser
            .wait("it follows the farm", "return !document.body.innerText.includes('This farm asks who you are.')")
            .await;
    };
    log_in().await;
    // In the place of another window: what a stream shows ends with the session.
    browser.ask_later("fetch('/v1/session', { method: 'DELETE' }).then((answer) => arguments[arguments.length - 1](answer.status))").await;
    browser.sees("Your session is over").await;
    // Taken back from a terminal, by its id.
    log_in().await;
    let listed: Value = serde_json::from_str(&typed(&["sessions", "--json"])).expect("one session");
    let id = listed["id"].as_str().expect("an id");
    assert_eq!((&listed["called"], listed.get("token")), (&json!("Jane.Doe"), None), "{listed}");
    assert!(typed(&["sessions"]).contains(id));
    typed(&["sessions", "end", id]);
    browser.sees("Your session is over").await;
    farm.restart_scheduler().await;
    browser.open(&format!("{url}/events")).await;
    browser.sees("This farm asks who you are.").await;
    browser.close().await;
}
