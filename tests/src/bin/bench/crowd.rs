//! Submitting, listing, following and asking for metrics, all at once and as fast as it goes, while a job renders: the
//! frames go on, and no lease is lost.

use crate::process::{cpu_s, memory_mib};
use crate::report;
use framewake_proto::api::AttemptOutcome;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_tests::farm::{LONG, TestFarm};
use framewake_tests::jobs;
use framewake_tests::wait::until;
use futures::StreamExt;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const WORKERS: u32 = 2;
const FRAMES: u32 = 2000;
const EACH: usize = 50;
const READERS: [usize; 2] = [1000, 5000];

const COMMAND: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 8, linger: 10s }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";

#[derive(Debug, Default)]
struct Heard {
    answers: AtomicU64,
    crowded: AtomicU64,
    events: AtomicU64,
}

pub(crate) async fn run() {
    let (mut farm, _functions) = crate::farm(WORKERS, &[("command", COMMAND)]).await;
    farm.succeed(&frames()).await;
    let (_, calm) = render(&farm).await;
    let (over, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Heard::default()));
    let mut crowd = JoinSet::new();
    for what in ["/v1/jobs?limit=1000", "/v1/workers", "/metrics", "/v1/jobs", "/v1/events"] {
        for _ in 0..EACH {
            let (url, over, heard) = (farm.url(), over.clone(), heard.clone());
            let submits = what == "/v1/jobs";
            crowd.spawn(async move { hammer(&format!("{url}{what}"), submits, &over, &heard).await });
        }
    }
    let (id, crowded) = render(&farm).await;
    over.store(true, Ordering::Relaxed);
    crowd.abort_all();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    report(
        &format!("frames beside {} clients that ask all they can", 5 * EACH),
        &format!("{crowded:.0}/s"),
        &format!("calm {calm:.0}/s ({:.2}x); all on the same processors", crowded / calm),
    );
    report(
        "  answers, of which 429 or 503; events",
        &format!("{}, {}; {}", count(&heard.answers), count(&heard.crowded), count(&heard.events)),
        "",
    );
    report("  leases lost", &lost(&farm, id).await.to_string(), "must be 0");
    for readers in READERS {
        follow(&mut farm, readers).await;
    }
}

fn frames() -> Value {
    let mut job = jobs::command(&["/bin/true"], &format!("1-{FRAMES}"));
    job["priority"] = json!(100);
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 10 });
    job
}

async fn render(farm: &TestFarm) -> (JobId, f64) {
    let begin = Instant::now();
    let id = farm.succeed(&frames()).await.id;
    (id, f64::from(FRAMES) / begin.elapsed().as_secs_f64())
}

async fn hammer(url: &str, submits: bool, over: &AtomicBool, heard: &Heard) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut parked = jobs::command(&["/bin/true"], "1");
    parked["priority"] = json!(0);
    while !over.load(Ordering::Relaxed) {
        let request = if submits { http.post(url).json(&parked) } else { http.get(url) };
        let Ok(answer) = request.send().await else { continue };
        heard.answers.fetch_add(1, Ordering::Relaxed);
        if matches!(answer.status().as_u16(), 429 | 503) {
            heard.crowded.fetch_add(1, Ordering::Relaxed);
        }
        let mut body = answer.bytes_stream();
        while let Some(Ok(piece)) = body.next().await {
            let events = piece.windows(4).filter(|four| four == b"id: ").count();
            heard.events.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

async fn lost(farm: &TestFarm, id: JobId) -> usize {
    let query = PartQuery { limit: Some(1000), ..PartQuery::default() };
    let page = farm.client.attempts(id, &query).await.expect("attempts can be listed");
    page.items.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Lost).count()
}

/// So many readers of one job's events while it renders.
async fn follow(farm: &mut TestFarm, readers: usize) {
    let pid = farm.scheduler().pid();
    let (memory, cpu) = (memory_mib(pid), cpu_s(pid));
    let id = farm.submit(&frames()).await;
    let url = format!("{}/v1/jobs/{id}/events", farm.url());
    // One client may have half of the streams: these are four.
    let clients = [1, 2, 3, 4].map(|last| {
        let from = IpAddr::from([127, 0, 0, last]);
        reqwest::Client::builder().no_proxy().local_address(from).build().expect("a client")
    });
    let begin = Instant::now();
    let mut following = JoinSet::new();
    for at in 0..readers {
        let (http, url) = (clients[at % clients.len()].clone(), url.clone());
        following.spawn(async move {
            // Who opens too many at once is told so, and comes back.
            let opened = until(LONG, "there is room for the stream", || async {
                http.get(&url).send().await.ok()?.error_for_status().ok()
            });
            let mut body = opened.await.bytes_stream();
            let mut events = 0;
            while let Some(piece) = body.next().await {
                events += piece.ok()?.windows(4).filter(|four| four == b"id: ").count();
            }
            Some(events)
        });
    }
    let rendered = farm.over(id).await;
    let grown = memory_mib(pid) - memory;
    let heard = tokio::time::timeout(Duration::from_mins(2), following.join_all()).await.unwrap_or_default();
    let whole = heard.iter().flatten().count();
    let events: usize = heard.iter().flatten().sum();
    report(
        &format!("{readers} readers of one job's events"),
        &format!("{:.0} events/s", events as f64 / begin.elapsed().as_secs_f64()),
        &format!(
            "{whole} heard the end; {} frames done; {grown:.0} MiB more; {:.1} s of CPU",
            rendered.tasks.done,
            cpu_s(pid) - cpu
        ),
    );
}
