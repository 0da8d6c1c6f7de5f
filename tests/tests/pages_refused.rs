//! What the web pages say when the scheduler, or a proxy before it, does not tell what they ask for: in a real browser, with a
//! real farm behind a proxy that refuses.

use framewake_proto::access::{Role, TokenAdd};
use framewake_tests::browser::Browser;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::proxy::rest::{DETAIL, HINT, Refusal, RestProxy};
use framewake_tests::tokens::ask_for_tokens;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::time::Duration;

const BUSY: Refusal = Refusal { status: 503, retry_after: Some(1), in_its_words: true };
/// Of a proxy that does not reach the scheduler.
const BAD_GATEWAY: Refusal = Refusal { status: 502, retry_after: None, in_its_words: false };
const CROWDED: Refusal = Refusal { status: 429, retry_after: Some(1), in_its_words: true };

/// A page with what it asks for, how that is refused, what would be stated without an answer, and what is told with one.
type Case<'a> = (&'a str, &'a [&'a str], Refusal, &'a [&'a str], &'a str);

const LIVE: &str = "return document.getElementById('link').textContent === 'live'";
const NOT_LIVE: &str = "return document.getElementById('link').textContent === 'not all of this is live'";
const NOTHING_REFUSED: &str = "return !document.querySelector('.refused, .old')";

async fn text(browser: &Browser) -> String {
    let text = browser.ask("return document.body.innerText").await;
    text.as_str().expect("text").to_owned()
}

#[tokio::test]
async fn what_is_not_told_is_said_in_its_place_and_nothing_is_stated_instead_until_it_is() {
    let farm = TestFarm::start(1).await;
    let view = farm.succeed(&jobs::command(&["/bin/echo", "good"], "1-3")).await;
    let job = format!("/v1/jobs/{}", view.id);
    let (cost, explain, map) = (format!("{job}/cost"), format!("{job}/explain"), format!("{job}/steps/"));
    let attempts = format!("{job}/attempts");
    let proxy = RestProxy::start(farm.port()).await;
    let browser = Browser::start().await;
    let job_page = format!("/jobs/{}", view.id);
    let refusals: [Case<'_>; 13] = [
        ("/", &["/v1/overview"], BUSY, &["Nothing runs", "Nothing waits", "Nothing failed"], "Nothing runs."),
        ("/", &["/v1/costs"], BUSY, &["No worker was paid today"], "Paid\n"),
        ("/", &["/v1/schedules"], CROWDED, &["No schedule is due"], "No schedule is due."),
        ("/jobs", &["/v1/jobs"], BUSY, &["No job yet"], &view.name),
        ("/workers", &["/v1/workers"], BAD_GATEWAY, &["No workers"], "No workers"),
        ("/workers", &["/v1/places"], BUSY, &["No machine"], "No machine is known yet."),
        ("/functions", &["/v1/functions"], CROWDED, &["No function"], "tachyon"),
        ("/schedules", &["/v1/schedules"], BAD_GATEWAY, &["no schedule"], "There is no schedule yet."),
        ("/cost", &["/v1/costs"], BUSY, &["No worker was paid"], "Useful"),
        (
            "/settings",
            &["/v1/projects", "/v1/paid-by", "/v1/notifications"],
            BUSY,
            &["No project yet", "No price", "Nobody is told"],
            "No price is set",
        ),
        ("/events", &["/v1/events", "/v1/audit"], CROWDED, &["Nothing of this kind", "No such change"], "is succeeded"),
        (&job_page, &[&cost, &explain, &map, &attempts], BUSY, &["Nothing was paid", "No attempt yet"], "Log"),
        (&job_page, &["/v1/jobs/"], BAD_GATEWAY, &["No output"], "3 of 3"),
    ];
    for (page, addresses, refusal, facts, told) in refusals {
        proxy.refuse(addresses, refusal);
        browser.open(&format!("{}{page}", proxy.url())).await;
        if refusal.in_its_words {
            browser.sees(DETAIL).await;
            browser.sees(HINT).await;
        } else {
            browser.sees("Something before the scheduler answers with status 502").await;
        }
        browser.wait("it does not call itself live", NOT_LIVE).await;
        let said = text(&browser).await;
        assert!(!facts.iter().any(|fact| said.contains(fact)) && !said.contains("<html>"), "{page}: {said}");
        assert_eq!(browser.broken_rules().await, json!([]), "{page}");
        proxy.pass_all();
        // By itself.
        browser.sees(told).await;
        browser.wait("nothing is refused any more", NOTHING_REFUSED).await;
        browser.wait("it is live", LIVE).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn old_figures_are_called_old_and_are_asked_for_again_when_the_scheduler_said() {
    let farm = TestFarm::start(1).await;
    let proxy = RestProxy::start(farm.port()).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", proxy.url())).await;
    browser.sees("Nothing runs.").await;
    browser.wait("it is live", LIVE).await;
    proxy.refuse(&["/v1/overview"], Refusal { status: 429, retry_after: Some(2), in_its_words: true });
    browser.sees("What stands below is old: it was told at ").await;
    browser.wait("it does not call itself live", NOT_LIVE).await;
    let asked = until(Duration::from_secs(20), "it is asked again", async || {
        let asked = proxy.refused_at("/v1/overview");
        (asked.len() >= 3).then_some(asked)
    })
    .await;
    // Not each 700 ms, as while it is answered.
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(1900)), "{asked:?}");
    let marked =
        "return document.querySelectorAll('.old').length > 0 && document.querySelectorAll('.refused').length === 1";
    assert_eq!(browser.ask(marked).await, Value::Bool(true));
    assert!(text(&browser).await.contains("Nothing runs."), "what was told is not taken away");
    proxy.pass_all();
    browser.wait("it is live", LIVE).await;
    assert_eq!(browser.ask(NOTHING_REFUSED).await, Value::Bool(true));
    // What can't be searched for is said where it would be found; that nothing was found is not.
    browser.open(&format!("{}/workers?function=Bad%20Name", farm.url())).await;
    browser.sees("Bad Name").await;
    browser.wait("it does not call itself live", NOT_LIVE).await;
    assert!(!text(&browser).await.contains("No such workers"));
    browser.write("Function", "tachyon").await;
    browser.press("Search").await;
    browser.sees("No such workers.").await;
    browser.wait("it is live", LIVE).await;
    browser.close().await;
}

#[tokio::test]
async fn who_may_not_see_it_is_told_so_in_its_place() {
    let mut farm = TestFarm::start(0).await;
    let first = ask_for_tokens(&mut farm, &[], &[]).await;
    let add = TokenAdd { name: "vera".parse().expect("a name"), role: Role::Viewer, project: None, lasts: None };
    let viewer = farm.client.add_token(&add).await.expect("made");
    let browser = Browser::start().await;
    browser.open(&format!("{}/events", farm.url())).await;
    browser.sees("This farm asks who you are.").await;
    browser.write("Token", first.reveal()).await;
    browser.press("Log in").await;
    browser.sees("token.add").await;
    browser.wait("it is live", LIVE).await;
    // In another window somebody else logs in, who may less.
    let other = format!(
        "const done = arguments[arguments.length - 1];
         fetch('/v1/session', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({{ token: '{}' }}) }})
           .then((answer) => done(answer.status));",
        viewer.secret.reveal()
    );
    assert_eq!(browser.ask_later(&other).await, json!(200));
    browser.press("Search").await;
    browser.wait("it does not call itself live", NOT_LIVE).await;
    let said = browser.ask("return document.querySelector('.refused').innerText").await;
    assert!(said.as_str().is_some_and(|said| said.contains("operator") && !said.contains("again by itself")), "{said}");
    let said = text(&browser).await;
    assert!(!said.contains("token.add") && !said.contains("No such change"), "{said}");
    assert_eq!(browser.broken_rules().await, json!([]));
    browser.close().await;
}

#[tokio::test]
async fn a_log_is_the_same_text_wherever_it_is_cut_in_pieces() {
    let farm = TestFarm::start(0).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    let whole = "one\r\n\u{1b}[31mred\u{1b}[0m\r\n\u{1b}]0;a title\u{7}50 %\r60 %\r\n\u{1b}]2;another\u{1b}\\\u{1b}(Bend\u{1b}7\n";
    let script = format!(
        "const done = arguments[arguments.length - 1];
         import('/web/log.js').then(({{ Plain }}) => {{
           const whole = {};
           const read = (...pieces) => {{ const lines = new Plain(); return pieces.map((piece) => lines.more(piece)).join(''); }};
           const texts = new Set([read(whole), read(...whole)]);
           for (let at = 0; at < whole.length; at += 1) texts.add(read(whole.slice(0, at), whole.slice(at)));
           // A title that never ends is not waited for.
           const endless = read('\\x1b]0;' + 'x'.repeat(5000)).length;
           done([[...texts], endless]);
         }});",
        Value::from(whole)
    );
    assert_eq!(browser.ask_later(&script).await, json!([["one\nred\n50 %\n60 %\nend\n"], 5002]));
    browser.close().await;
}
