//! States of the web pages that a farm at work does not show: nothing there yet, a question, a secret that is shown once, a fault, a
//! page that is none. By the rules of accessibility, and on a phone too.

use framewake_tests::browser::{Browser, PHONE};
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::tokens::ask_for_tokens;
use serde_json::{Value, json};

/// What is on the page now holds the rules and fits, as wide and as colored as it is looked at.
async fn is_good(browser: &Browser, what: &str) {
    for (theme, width) in [("light", 1280), ("dark", PHONE)] {
        browser.widen(width).await;
        browser.ask(&format!("document.documentElement.dataset.theme = '{theme}'")).await;
        assert_eq!(browser.broken_rules().await, json!([]), "{what}, {theme}, {width} pixels wide");
        assert_eq!(browser.too_wide().await, json!([]), "{what} is wider than {width} pixels");
    }
    browser.widen(1280).await;
}

#[tokio::test]
async fn a_farm_with_nothing_yet_says_on_each_page_what_to_do_first() {
    let functions = tempfile::TempDir::new().expect("there is room for a folder");
    let farm = TestFarm::start_with(0, false, functions.path()).await;
    let browser = Browser::start().await;
    let pages: [(&str, &[&str]); 10] = [
        (
            "/",
            &[
                "No function is registered yet.",
                "framewake functions add",
                "Submit a job here",
                "Nothing waits.",
                "Nothing failed",
                "No schedule is due.",
            ],
        ),
        ("/jobs", &["No job yet. Submit the first one here", "framewake submit"]),
        ("/submit", &["there is nothing that could render", "framewake functions add"]),
        ("/workers", &["A submitted job wakes some.", "framewake submit", "No machine is known yet."]),
        ("/functions", &["No function is registered yet.", "framewake functions add"]),
        ("/schedules", &["There is no schedule yet.", "framewake schedules add"]),
        ("/cost", &["No worker was paid on these days.", "submit a job"]),
        ("/events", &["Submit a job and it will", "framewake submit", "No such change was made.", "framewake audit"]),
        (
            "/settings",
            &["framewake tokens add", "framewake projects set", "framewake prices set", "framewake notify add"],
        ),
        ("/api", &["Every address of this scheduler"]),
    ];
    for (page, words) in pages {
        browser.open(&format!("{}{page}", farm.url())).await;
        for words in words {
            browser.sees(words).await;
        }
        is_good(&browser, page).await;
    }
    // A way to a page that is none, as in a link of an older version.
    let lost = "const way = document.createElement('a'); way.href = '/nowhere'; way.innerText = 'An old link'; document.querySelector('main').append(way)";
    browser.ask(lost).await;
    browser.press("An old link").await;
    browser.sees("There is no such page").await;
    is_good(&browser, "no such page").await;
    browser.press("Overview").await;
    browser.sees("The farm as it is now.").await;
    browser.close().await;
}

#[tokio::test]
async fn a_question_a_secret_and_a_fault_hold_the_rules_too() {
    let mut farm = TestFarm::start(1).await;
    let first = ask_for_tokens(&mut farm, &[], &[]).await;
    let long = farm.submit(&jobs::command(&["/bin/sleep", "600"], "1-9")).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/settings", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    browser.write("Token", first.reveal()).await;
    browser.press("Log in").await;
    browser.sees("Make a token").await;
    browser.write_under("Tokens", "Name", "jane").await;
    browser.press("Make a token").await;
    browser.sees("It is shown this once: copy it now.").await;
    is_good(&browser, "a token that is shown").await;
    browser.write_under("Tokens", "Name", "not a name").await;
    browser.press("Make a token").await;
    browser.wait("it is refused", "return Boolean(document.querySelector('main [role=alert] .fault'))").await;
    is_good(&browser, "what is wrong with a form").await;
    browser.open(&format!("{}/jobs/{long}", farm.url())).await;
    for (name, asks) in [("Cancel", "What runs is stopped."), ("Priority …", "Priority within the project")] {
        browser.press(name).await;
        browser.sees(asks).await;
        is_good(&browser, asks).await;
        browser.press("Leave it").await;
        browser.wait("it is left", "return !document.querySelector('dialog')").await;
    }
    browser.open(&format!("{}/jobs/{}", farm.url(), "01M7YBHVZ6VMB2M2E9ZN8GY9D6")).await;
    browser.sees("This page can't be shown").await;
    is_good(&browser, "a job that is none").await;
    browser.open(&format!("{}/workers?function=Bad%20Name", farm.url())).await;
    browser.sees("Bad Name").await;
    is_good(&browser, "what can't be searched for").await;
    assert_eq!(browser.ask("return Boolean(document.querySelector('.refused'))").await, Value::Bool(true));
    browser.close().await;
}
