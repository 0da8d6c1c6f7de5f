//! The web pages in a real browser: a job of a million frames, and an overview of ten thousand workers.

use crate::process::{cpu_s, memory_mib};
use crate::{percentile, report};
use framewake_proto::ids::FunctionKey;
use framewake_tests::browser::{Browser, Weight};
use framewake_tests::crowd::Crowd;
use framewake_tests::farm::LONG;
use framewake_tests::jobs;
use framewake_tests::noop::Workers;
use framewake_tests::played;
use framewake_tests::wait::until;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const FRAMES: u32 = 1_000_000;
/// Frames of a chunk; so many chunks are done before anybody looks.
const CHUNK: u32 = 1000;
const CHUNKS_DONE: u64 = 300;
const OPENED: usize = 7;
/// Sides of the light that the viewer shows, which is that of previews.
const SIDES: [u32; 2] = [1280, 720];
/// How long it may take until every frame has an output: the scheduler of a development build takes some ten thousand a second.
const FILLED_WITHIN: Duration = Duration::from_mins(10);
/// Frames that are gone through each way, turns from one end to the other, and pages of thumbnails.
const TURNS: usize = 50;
const ENDS: usize = 5;
const PAGES: u32 = 20;
const WORKERS: usize = 10_000;
/// As the scheduler asks of workers.
const BEAT: Duration = Duration::from_secs(2);
/// How long a page is watched while the farm is at work.
const WATCHED: Duration = Duration::from_secs(20);
/// Changes of which it is measured when they are seen.
const CHANGES: usize = 10;

const FOREIGN: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 10000 }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";

const MIB: f64 = 1024.0 * 1024.0;
/// The strip of frames and the counts are there: milliseconds since the address was entered.
const CONTENT: &str = "return document.querySelector('.strip canvas')?.width > 300
    && document.body.innerText.includes('of 1,000,000') ? performance.now() : null";
const PAINT: &str = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";

pub(crate) async fn run() {
    million_frames().await;
    ten_thousand_workers().await;
}

async fn million_frames() {
    let (farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let mut job = jobs::command(&["/bin/true"], &format!("1-{FRAMES}"));
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": CHUNK });
    let id = farm.submit(&job).await;
    let function = FunctionKey { name: "command".parse().expect("good"), version: 1 };
    let workers = Workers::start(&farm.nats.url(), &function, 4).await;
    let chunks = &workers.chunks;
    until(LONG, "a part of the frames is done", || async {
        (chunks.load(Ordering::Relaxed) >= CHUNKS_DONE).then_some(())
    })
    .await;
    drop(workers);
    let browser = Browser::start().await;
    let url = format!("{}/jobs/{id}", farm.url());
    let (mut paints, mut contents, mut first) = (Vec::new(), Vec::new(), None);
    for _ in 0..OPENED {
        browser.open(&url).await;
        let content = number(&browser, "the page has its content", CONTENT).await;
        let paint = number(&browser, "the page is painted", PAINT).await;
        if first.is_none() {
            first = Some((paint, content, browser.weigh().await));
        } else {
            paints.push(paint);
            contents.push(content);
        }
    }
    let (paint, content, weight) = first.expect("it was opened");
    report(
        "a job of 1,000,000 frames, opened for the first time",
        &format!("{content:.0} ms"),
        &format!("first paint {paint:.0} ms; target < 1 s"),
    );
    report(
        &format!("  opened again {} times, p50 / slowest", OPENED - 1),
        &format!("{:.0} / {:.0} ms", percentile(&mut contents, 0.5), percentile(&mut contents, 1.0)),
        &format!("first paint p50 {:.0} ms", percentile(&mut paints, 0.5)),
    );
    report("  over the wire, the first time", &format!("{:.0} KiB", kib(weight.wire_bytes)), &requests(&weight));
    browser.close().await;
    // A browser that was at no other page: what it has left it keeps for a while.
    let browser = Browser::start().await;
    browser.open(&url).await;
    number(&browser, "the page has its content", CONTENT).await;
    let _workers = Workers::start(&farm.nats.url(), &function, 2).await;
    let seen =
        watch(&browser, "[...document.querySelectorAll('main .card')].find((card) => card.querySelector('.figures'))")
            .await;
    let weight = browser.weigh().await;
    report_weight(&format!("after {} s at work: the page's process", WATCHED.as_secs()), &weight);
    seen.say("  drawn anew", "");
    browser.close().await;
}

/// The viewer of a job of a million frames, every one of which has an output.
pub(crate) async fn viewer() {
    let (farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let id = farm.submit(&played::job(FRAMES, CHUNK)).await;
    played::keep_pictures(&farm, id, SIDES);
    let function = FunctionKey { name: "command".parse().expect("good"), version: 1 };
    let workers = Workers::start_with(&farm.nats.url(), &function, 8, played::results(id, SIDES)).await;
    until(FILLED_WITHIN, "every frame has an output", || async {
        farm.client.job(id).await.ok().filter(|job| job.state.is_over())
    })
    .await;
    drop(workers);
    let browser = Browser::start().await;
    browser.open(&format!("{}/jobs/{id}", farm.url())).await;
    let content = number(&browser, "the first picture is shown", &shown(1)).await;
    let opened = browser.weigh().await;
    report(
        "the viewer of 1,000,000 outputs: the first picture, with the page",
        &format!("{content:.0} ms"),
        &format!("{:.0} KiB, {}", kib(opened.wire_bytes), requests(&opened)),
    );
    browser.ask(VIEWED).await;
    let mut last = 1;
    let mut ways = [("next", "ArrowRight", 1_i64), ("previous", "ArrowLeft", -1)].map(|way| (way, Vec::new()));
    for ((_, key, by), times) in &mut ways {
        for _ in 0..TURNS {
            last += *by;
            times.push(turned(&browser, key, last).await);
        }
    }
    for ((name, ..), times) in &mut ways {
        let (half, most) = (percentile(times, 0.5), percentile(times, 1.0));
        report(&format!("  {name}, p50 / slowest of {TURNS}"), &format!("{half:.0} / {most:.0} ms"), "");
    }
    let mut ends = Vec::new();
    for _ in 0..ENDS {
        ends.push(turned(&browser, "End", i64::from(FRAMES)).await);
        ends.push(turned(&browser, "ArrowLeft", i64::from(FRAMES) - 1).await);
        ends.push(turned(&browser, "Home", 1).await);
    }
    report(
        "  to the last, the one before, the first, p50 / slowest",
        &format!("{:.0} / {:.0} ms", percentile(&mut ends, 0.5), percentile(&mut ends, 1.0)),
        "",
    );
    let before = browser.ask(SENT).await.as_f64().unwrap_or(0.0);
    for page in 0..PAGES {
        let first = 1 + (page + 1) * 24;
        browser.press("Later frames").await;
        let there = format!(
            "const all = [...document.querySelectorAll('.thumb img')];
             return all.length === 24 && all.every((one) => one.complete && one.naturalWidth)
                 && document.querySelector('.thumbs').innerText.trim().startsWith(Number({first}).toLocaleString('en')) ? 1 : null"
        );
        number(&browser, "a page of thumbnails is there", &there).await;
    }
    let bytes = browser.ask(SENT).await.as_f64().unwrap_or(0.0) - before;
    report(
        &format!("  {PAGES} pages of 24 thumbnails"),
        &format!("{:.0} KiB a page", bytes / 1024.0 / f64::from(PAGES)),
        "",
    );
    let before = browser.ask(SENT).await.as_f64().unwrap_or(0.0);
    browser.ask("document.querySelector('.viewer input[aria-label=\"Pictures a second\"]').value = 24").await;
    browser.ask("window.seen = []").await;
    let begin = Instant::now();
    press(&browser, " ").await;
    let mut tick = tokio::time::interval(WATCHED);
    tick.tick().await;
    tick.tick().await;
    press(&browser, " ").await;
    let seconds = begin.elapsed().as_secs_f64();
    let frames: Vec<f64> = browser
        .ask("return window.seen")
        .await
        .as_array()
        .map(|seen| seen.iter().filter_map(serde_json::Value::as_f64).collect())
        .unwrap_or_default();
    let played: Vec<f64> = frames.iter().copied().filter(|frame| *frame >= 1.0).collect();
    let skipped = played.windows(2).filter(|pair| (pair[1] - pair[0]).abs() > 1.0).count();
    let bytes = browser.ask(SENT).await.as_f64().unwrap_or(0.0) - before;
    report(
        &format!("  flip-book of {}×{} for {} s, asked for 24 a second", SIDES[0], SIDES[1], WATCHED.as_secs()),
        &format!("{:.1}/s", played.len() as f64 / seconds),
        &format!("{skipped} skipped; {:.0} KiB/s", bytes / 1024.0 / seconds),
    );
    let weight = browser.weigh().await;
    report_weight("the page's process after all that", &weight);
    browser.collect().await;
    let weight = browser.weigh().await;
    report_weight("once what it no longer needs is collected", &weight);
    browser.close().await;
}

fn report_weight(of: &str, weight: &Weight) {
    report(
        &format!("  {of}"),
        &format!("{:.0} MiB", weight.page_bytes as f64 / MIB),
        &format!(
            "target < 200 MB; with what it shares {:.0} MiB; scripts {:.1} MiB, {} elements, whole browser {:.0} MiB",
            weight.renderer_bytes as f64 / MIB,
            weight.heap_bytes as f64 / MIB,
            weight.elements,
            weight.browser_bytes as f64 / MIB
        ),
    );
}

/// Milliseconds since the page was opened, once this frame is shown.
fn shown(frame: i64) -> String {
    format!(
        "const said = document.querySelector('.viewer [role=status]')?.textContent ?? '';
         return document.querySelector('.stage canvas') && said.startsWith(`frame ${{Number({frame}).toLocaleString('en')}} `)
             ? performance.now() : null"
    )
}

/// Writes down which frames are shown one after the other, and when.
const VIEWED: &str = "performance.setResourceTimingBufferSize(100000); window.seen = []; window.at = 0;
    new MutationObserver(() => {
        window.at = performance.now();
        window.seen.push(Number(document.querySelector('.viewer [role=status]').textContent.split(' ')[1].replaceAll(',', '')));
    }).observe(document.querySelector('.viewer [role=status]'), { childList: true, characterData: true, subtree: true })";
/// Bytes that came over the wire.
const SENT: &str =
    "return performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)";

async fn press(browser: &Browser, key: &str) {
    let script = format!(
        "window.pressed = performance.now();
         document.querySelector('.stage').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"
    );
    browser.ask(&script).await;
}

/// How long it took from a key to the frame that it leads to.
async fn turned(browser: &Browser, key: &str, frame: i64) -> f64 {
    press(browser, key).await;
    number(browser, "the frame is shown", &shown(frame)).await;
    browser.ask("return window.at - window.pressed").await.as_f64().unwrap_or(0.0)
}

async fn ten_thousand_workers() {
    let (mut farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let pid = farm.scheduler().pid();
    let _crowd = Crowd::start(&farm.nats.url(), WORKERS, BEAT).await;
    let without = cpu(pid).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", farm.url())).await;
    let shown = "return [...document.querySelectorAll('.figures div')].some((one) => one.innerText.includes('10,000'))
        ? performance.now() : null";
    let content = number(&browser, "ten thousand workers are shown", shown).await;
    let weight = browser.weigh().await;
    report(
        "an overview of 10,000 workers, opened",
        &format!("{content:.0} ms"),
        &format!("{:.0} KiB, {}", kib(weight.wire_bytes), requests(&weight)),
    );
    let begin = (cpu_s(pid), Instant::now());
    let seen = watch(&browser, "document.querySelector('main .card')").await;
    let with = (cpu_s(pid) - begin.0) / begin.1.elapsed().as_secs_f64();
    seen.say("  updates", "target: at least 1 a second");
    let weight = browser.weigh().await;
    report_weight("the page's process", &weight);
    report(
        "  scheduler, with the page open",
        &format!("{:.0} % of a core", with * 100.0),
        &format!("without {:.0} %; {:.0} MiB; 5,000 heartbeats a second", without * 100.0, memory_mib(pid)),
    );
    let mut times = Vec::new();
    for at in 0..CHANGES {
        let begin = Instant::now();
        let mut job = jobs::command(&["/bin/true"], "1");
        job["name"] = json!(format!("change {at}"));
        farm.submit(&job).await;
        let said = format!("return document.body.innerText.includes('change {at}') ? 1 : null");
        number(&browser, "the change is shown", &said).await;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    report(
        "  a job that is submitted is seen after, p50 / slowest",
        &format!("{:.0} / {:.0} ms", percentile(&mut times, 0.5), percentile(&mut times, 1.0)),
        "",
    );
    browser.close().await;
}

/// Share of a core over a while.
async fn cpu(pid: u32) -> f64 {
    let mut tick = tokio::time::interval(WATCHED / 2);
    tick.tick().await;
    let (before, begin) = (cpu_s(pid), Instant::now());
    tick.tick().await;
    (cpu_s(pid) - before) / begin.elapsed().as_secs_f64()
}

/// What a script gives, once it gives a number.
async fn number(browser: &Browser, what: &str, script: &str) -> f64 {
    until(LONG, what, || async { browser.ask(script).await.as_f64() }).await
}

/// What was seen of a part of a page while it was watched.
struct Seen {
    times_ms: Vec<f64>,
    bytes: f64,
    seconds: f64,
}

impl Seen {
    fn say(&self, what: &str, beside: &str) {
        let mut gaps: Vec<f64> = self.times_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let rate = self.times_ms.len() as f64 / self.seconds;
        let a_second = self.bytes / 1024.0 / self.seconds;
        report(
            what,
            &format!("{rate:.2}/s"),
            &format!("longest pause {:.0} ms; {a_second:.1} KiB/s; {beside}", percentile(&mut gaps, 1.0)),
        );
    }
}

/// When it was drawn anew, and what came over the wire for it.
async fn watch(browser: &Browser, element: &str) -> Seen {
    let begin = format!(
        "performance.setResourceTimingBufferSize(100000); performance.clearResourceTimings(); window.drawn = [];
         new MutationObserver(() => window.drawn.push(performance.now())).observe({element}, {{ childList: true }})"
    );
    browser.ask(&begin).await;
    let mut tick = tokio::time::interval(WATCHED);
    tick.tick().await;
    let start = Instant::now();
    tick.tick().await;
    let told = browser
        .ask("return [window.drawn, performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.transferSize, 0)]")
        .await;
    let times = told[0].as_array().map(|times| times.iter().filter_map(serde_json::Value::as_f64).collect());
    Seen {
        times_ms: times.unwrap_or_default(),
        bytes: told[1].as_f64().unwrap_or(0.0),
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn requests(weight: &Weight) -> String {
    format!("{} requests", weight.requests)
}
