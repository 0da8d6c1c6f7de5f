//! The web pages of a very large job and of a very large farm: what they hold and what they ask for is bounded, and they still show
//! what happens. How fast they are, `bench pages` tells.

use framewake_proto::api::JobState;
use framewake_tests::browser::{Browser, Weight};
use framewake_tests::crowd::Crowd;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use serde_json::Value;
use std::time::Duration;

/// Most elements of a page, whatever it is about: a browser gets slow past some ten thousand.
const ELEMENTS_MAX: u64 = 3000;
/// Most memory that the scripts of a page hold.
const HEAP_MAX: u64 = 50 << 20;
/// Most bytes that a page takes to open, its scripts included.
const OPENED_BYTES_MAX: u64 = 400 << 10;
/// How often workers are heard of: some times in a lease.
const BEAT: Duration = Duration::from_secs(4);
/// Most bytes of one look at the whole farm.
const LOOK_BYTES_MAX: u64 = 32 << 10;

fn assert_light(page: &str, weight: &Weight) {
    assert!(weight.elements < ELEMENTS_MAX, "{page}: {weight:?}");
    assert!(weight.heap_bytes < HEAP_MAX, "{page}: {weight:?}");
    assert!(weight.wire_bytes < OPENED_BYTES_MAX, "{page}: {weight:?}");
}

#[tokio::test]
async fn a_job_of_a_million_frames_opens_like_any_other() {
    let farm = TestFarm::start(1).await;
    let job = jobs::command(&["/bin/true"], "1-1000000");
    let id = farm.submit(&job).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.sees("of 1,000,000").await;
    let drawn = "return Boolean(document.querySelector('.strip canvas')?.width > 300)";
    browser.wait("the strip of frames is drawn", drawn).await;
    let pointed = "const strip = document.querySelector('[role=slider]'); strip.focus();
                   strip.dispatchEvent(new KeyboardEvent('keydown', { key: 'End', bubbles: true }));
                   return strip.getAttribute('aria-valuetext').includes('frame 1,000,000')";
    browser.wait("the last frame is reached by keyboard", pointed).await;
    assert_light("the job", &browser.weigh().await);
    browser.press("Cancel").await;
    browser.press("Cancel it").await;
    browser.sees("canceled").await;
    assert_eq!(farm.over(id).await.state, JobState::Canceled);
    browser.close().await;
}

/// Whether a figure of the overview has this value.
fn figure(name: &str, value: &str) -> String {
    format!(
        "return [...document.querySelectorAll('.figures div')]
            .some((one) => one.firstChild.textContent === '{name}' && one.lastChild.textContent === '{value}')"
    )
}

#[tokio::test]
async fn ten_thousand_workers_are_seen_at_a_glance_and_so_is_what_changes() {
    let farm = TestFarm::start(0).await;
    let crowd = Crowd::start(&farm.nats.url(), 10_000, BEAT).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    browser.wait("all are counted", &figure("Workers", "10,000")).await;
    // More than the function may have: the farm asks them to leave, which is told too.
    browser.sees("draining").await;
    // GPUs by model, not one by one.
    browser.sees("L40S").await;
    browser.ask("window.same = true").await;
    crowd.grow_to(10_500).await;
    browser.wait("those that came are counted", &figure("Workers", "10,500")).await;
    farm.submit(&jobs::command(&["/bin/true"], "1-100000")).await;
    browser.wait("the job is seen, and why it waits", "return document.body.innerText.includes('command: ')").await;
    assert_eq!(browser.ask("return window.same").await, Value::Bool(true), "the page was not loaded again");
    assert_light("the overview", &browser.weigh().await);
    let largest = "return Math.max(...performance.getEntriesByType('resource')
        .filter((entry) => entry.name.endsWith('/v1/overview')).map((entry) => entry.transferSize))";
    let largest = browser.ask(largest).await.as_u64().expect("a number");
    assert!((1000..LOOK_BYTES_MAX).contains(&largest), "{largest} bytes a look");
    browser.open(&format!("{}/workers", farm.url())).await;
    browser.sees("played-00000").await;
    browser.sees("More").await;
    assert_light("the list of workers", &browser.weigh().await);
    browser.close().await;
}
