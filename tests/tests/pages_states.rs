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
            &[
                "framewake tokens add",
                "Nobody has to log in here",
                "framewake projects set",
                "framewake prices set",
                "framewake notify add",
            ],
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

/// Texts beside each other in a row between which there is hardly room.
const GAPS: &str = "
    const textOf = (cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect();
    };
    const cells = [...document.querySelectorAll('main tr > *')].filter((cell) => cell.checkVisibility() && cell.textContent.trim());
    return cells.filter((cell) => cell.nextElementSibling?.textContent.trim())
        .filter((cell) => textOf(cell.nextElementSibling).left - textOf(cell).right < (cell.matches('.number') ? 20 : 9))
        .map((cell) => cell.textContent + ' | ' + cell.nextElementSibling.textContent);";

#[tokio::test]
async fn columns_cards_and_words_keep_apart_and_what_is_code_is_written_so() {
    let mut farm = TestFarm::start(1).await;
    let mut failing = jobs::command(&["/bin/sh", "-c", "echo no such texture; exit 3"], "1-2");
    failing["steps"][0]["retries"] = json!({ "attempts": 1 });
    let bad = farm.submit(&failing).await;
    farm.over(bad).await;
    let browser = Browser::start().await;
    browser.widen(1280).await;
    for (page, words) in [
        ("/".to_owned(), "Every try that failed, by cause"),
        ("/jobs".to_owned(), "Submitted"),
        (format!("/jobs/{bad}"), "Took"),
    ] {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.sees(words).await;
        assert_eq!(browser.ask(GAPS).await, json!([]), "{page}");
    }
    // A heading is not glued to the card below it, nor a button.
    let apart = "const card = document.querySelector('main .card').getBoundingClientRect().top;
        return [...document.querySelectorAll('main h1, main .row:has(h1) .button')].every((one) => card - one.getBoundingClientRect().bottom >= 12)";
    for page in ["/jobs", "/submit"] {
        browser.open(&format!("{}{page}", farm.url())).await;
        browser.wait("it is drawn", "return Boolean(document.querySelector('main .card'))").await;
        browser.wait("they are apart", apart).await;
    }
    browser.open(&format!("{}/api#jobs_submit", farm.url())).await;
    browser.sees("idempotency-key").await;
    browser.ask("document.querySelectorAll('main details').forEach((one) => { one.open = true; })").await;
    browser.wait("all of it is open", "return document.querySelectorAll('main code').length > 100").await;
    let raw = "return [...document.querySelectorAll('main p, main td, main summary')].map((one) => one.innerText).filter((text) => text.includes('`'))";
    assert_eq!(browser.ask(raw).await, json!([]));
    // A field for a token is as wide as a token.
    ask_for_tokens(&mut farm, &[], &[]).await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    let wide = browser.ask("return document.querySelector('input[name=token]').offsetWidth").await;
    assert!(wide.as_u64().is_some_and(|wide| (300..600).contains(&wide)), "{wide}");
    browser.close().await;
}
