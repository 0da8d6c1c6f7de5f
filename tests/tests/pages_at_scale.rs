//! The web pages of a very large job and of a very large farm: what they hold and what they ask for is bounded, and they still show
//! what happens. How fast they are, `bench pages` tells.

use fantoccini::key::Key;
use framewake_proto::api::JobState;
use framewake_tests::browser::{Browser, Weight};
use framewake_tests::crowd::Crowd;
use framewake_tests::farm::{LONG, TestFarm};
use framewake_tests::noop::Workers;
use framewake_tests::wait::until;
use framewake_tests::{jobs, played};
use serde_json::Value;
use std::sync::atomic::Ordering;
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
/// Most memory that the process of a page has of its own.
const PAGE_BYTES_MAX: u64 = 200_000_000;
/// Updates of the overview that are counted.
const UPDATES: u32 = 8;
/// Most bytes that lists of outputs take for a walk to both ends of a reel.
const LISTS_BYTES_MAX: u64 = 1 << 20;
/// Pictures that are loaded before anybody asks for them, wherever one goes.
const AHEAD_MAX: u64 = 5;

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
    browser.go_to("Frames of step run").await;
    browser.type_keys(&Key::End.to_string()).await;
    let pointed =
        "return document.querySelector('[role=slider]').getAttribute('aria-valuetext').includes('frame 1,000,000')";
    browser.wait("the last frame is reached by keyboard", pointed).await;
    let weight = browser.weigh().await;
    assert_light("the job", &weight);
    assert!(weight.page_bytes < PAGE_BYTES_MAX, "{weight:?}");
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
    // It is looked at anew at least once a second; a machine that does other work beside may take three.
    let looks = "performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('/v1/overview'))";
    browser.ask(&format!("performance.setResourceTimingBufferSize(10000); window.before = {looks}.length")).await;
    browser.wait("some updates have come", &format!("return {looks}.length > window.before + {UPDATES}")).await;
    let updates = format!(
        "const ends = {looks}.slice(-{UPDATES}).map((entry) => entry.responseEnd); return ends.at(-1) - ends[0]"
    );
    let took_ms = browser.ask(&updates).await.as_f64().expect("a number");
    let most_ms = 3.0 * 1000.0 * f64::from(UPDATES - 1);
    assert!(took_ms < most_ms, "{UPDATES} updates in {took_ms} ms");
    // And what it shows is what is so: each of these is drawn without a reload.
    for more in [10_600, 10_700, 10_800] {
        crowd.grow_to(more).await;
        let drawn = format!("{},{}", more / 1000, more % 1000);
        browser.wait("those that came are counted", &figure("Workers", &drawn)).await;
    }
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

/// The number of the frame that is shown, once the picture is the one of that frame.
const FRAME: &str = "const shown = () => {
        const frame = Number(document.querySelector('.viewer [role=status]').textContent.split(' ')[1]?.replaceAll(',', ''));
        const canvas = document.querySelector('.stage canvas');
        if (!frame || !canvas) return null;
        const light = ((frame - 1) % 24 * 8 + 40) / 256;
        const color = 255 * (1.055 * light ** (1 / 2.4) - 0.055);
        const off = Math.abs(canvas.getContext('2d').getImageData(5, 5, 1, 1).data[0] - color);
        return off < 2 ? frame : -frame;
    };";

async fn goes_to(browser: &Browser, key: Key, frame: i64) {
    browser.go_to("Picture of run").await;
    browser.type_keys(&key.to_string()).await;
    browser
        .wait(
            &format!("{key:?} leads to frame {frame} and its picture"),
            &format!("{FRAME} return shown() === {frame}"),
        )
        .await;
}

#[tokio::test]
async fn pictures_of_a_million_frames_are_walked_and_played_in_bounded_memory() {
    let farm = TestFarm::start(0).await;
    let id = farm.submit(&played::job(1_000_000, 1000)).await;
    let sides = [320, 180];
    played::keep_pictures(&farm, id, sides);
    let function = "command@1".parse().expect("a key");
    let workers = Workers::start_with(&farm.nats.url(), &function, 4, played::results(id, sides)).await;
    let chunks = &workers.chunks;
    until(LONG, "some thousands are done", async || (chunks.load(Ordering::Relaxed) >= 4).then_some(())).await;
    drop(workers);
    farm.client.act(id, framewake_proto::client::Action::Cancel).await.expect("it goes on still");
    farm.over(id).await;
    let url = format!("{}/v1/jobs/{id}/outputs?order=last&limit=2", farm.url());
    let last: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
    let [last, before] = [0, 1].map(|at| last["items"][at]["frame"].as_i64().expect("a frame"));
    assert!(last > before && last >= 1000, "{last} {before}");

    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    browser.wait("the first picture is shown", "return Boolean(document.querySelector('.stage canvas'))").await;
    browser.ask("performance.setResourceTimingBufferSize(10000)").await;
    for frame in 2..=4 {
        goes_to(&browser, Key::Right, frame).await;
    }
    goes_to(&browser, Key::Left, 3).await;
    goes_to(&browser, Key::End, last).await;
    goes_to(&browser, Key::Left, before).await;
    goes_to(&browser, Key::Home, 1).await;
    // Each thumbnail is the one of its frame.
    let thumbs = "const all = [...document.querySelectorAll('.thumb')];
        if (all.length !== 24 || !all.every((one) => one.querySelector('img')?.naturalWidth)) return false;
        const canvas = document.createElement('canvas');
        const brush = canvas.getContext('2d');
        return all.every((one) => {
            brush.drawImage(one.querySelector('img'), 0, 0);
            const level = (Number(one.innerText.trim().replaceAll(',', '')) - 1) % 24 * 8 + 40;
            return Math.abs(brush.getImageData(5, 5, 1, 1).data[0] - level) < 4;
        })";
    browser.wait("a page of thumbnails is there, each of its frame", thumbs).await;
    // Every frame in its turn, each with its picture.
    let watch = format!(
        "{FRAME} window.turns = [];
         new MutationObserver(() => window.turns.push(shown())).observe(
             document.querySelector('.viewer [role=status]'), {{ childList: true, characterData: true, subtree: true }})"
    );
    browser.ask(&watch).await;
    browser.write("Pictures a second", "60").await;
    browser.press("Play").await;
    browser.wait("some are played", "return window.turns.length >= 60").await;
    browser.press("Pause").await;
    let turns = browser.ask("return window.turns").await;
    let turns: Vec<i64> =
        turns.as_array().expect("a list").iter().map(|frame| frame.as_i64().expect("a frame")).collect();
    let wanted: Vec<i64> = (2..).take(turns.len()).collect();
    assert_eq!(turns, wanted, "a frame was passed over, or had the picture of another (negative)");

    let sum = |of: &str, what: &str| {
        format!(
            "return performance.getEntriesByType('resource').filter((entry) => entry.name.includes('{of}'))
                .reduce((sum, entry) => sum + {what}, 0)"
        )
    };
    let lists = browser.ask(&sum("/outputs?", "entry.transferSize")).await.as_u64().expect("a number");
    assert!(lists < LISTS_BYTES_MAX, "{lists} bytes of lists");
    let previews = browser.ask(&sum("/preview", "1")).await.as_u64().expect("a number");
    // Seven ways were gone before it was played.
    let most = turns.len() as u64 + 8 * (AHEAD_MAX + 1);
    assert!((turns.len() as u64..most).contains(&previews), "{previews} previews for {} turns", turns.len());
    let weight = browser.weigh().await;
    assert!(weight.page_bytes < PAGE_BYTES_MAX && weight.elements < ELEMENTS_MAX, "{weight:?}");
    browser.close().await;
}
