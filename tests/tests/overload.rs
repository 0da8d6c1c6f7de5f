//! More than there is room for: each bound has its answer, and leases don't notice.

use framewake_proto::api::{AttemptOutcome, AttemptView};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_proto::wire::LOG_SIZE_MAX;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::wait::until;
use futures::StreamExt;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Longest that a small request may take beside everything else, on a machine that other tests use too.
const STILL_QUICK: Duration = Duration::from_secs(5);
/// Most memory of a worker whose renderer floods it.
const WORKER_MIB_MAX: u64 = 200;

/// The attempts of a job that is over, once they are over too: a job ends with its last task, an attempt with its log.
async fn attempts(farm: &TestFarm, id: JobId) -> Vec<AttemptView> {
    until(SOON, "all attempts are over", async || {
        let listed = farm.client.attempts(id, &PartQuery::default()).await.expect("attempts can be listed").items;
        listed.iter().all(|attempt| attempt.outcome != AttemptOutcome::Running).then_some(listed)
    })
    .await
}

/// Most memory that a process had so far.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test]
async fn renderers_that_flood_their_logs_hurt_nobody_and_hear_what_was_left_out() {
    let farm = TestFarm::start(3).await;
    let flood = "head -c 60000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo this is why it ended";
    let floods = [
        farm.submit(&jobs::command(&["/bin/sh", "-c", flood], "1")).await,
        farm.submit(&jobs::command(&["/bin/sh", "-c", flood], "1")).await,
    ];
    let begin = Instant::now();
    farm.succeed(&jobs::command(&["/bin/true"], "1-20")).await;
    let beside = begin.elapsed();
    for id in floods {
        let view = farm.over(id).await;
        assert_eq!(view.tasks.done, 1, "{view:?}");
    }
    let peak = farm.worker_pids().into_iter().map(peak_mib).max().unwrap_or(0);
    assert!(peak < WORKER_MIB_MAX, "a flooded worker took {peak} MiB");
    assert!(beside < SOON, "the job beside the floods took {beside:?}");
    for id in floods {
        let attempts = attempts(&farm, id).await;
        assert_eq!(attempts.len(), 1, "nothing was lost and tried again: {attempts:#?}");
        let left_out = attempts[0].log_left_out_bytes;
        assert!(left_out > 40_000_000, "{left_out}");
        let number = attempts[0].attempt.parse().expect("an attempt's number");
        let mut log = Vec::new();
        let mut download = farm.client.log(id, number, false).await.expect("there is a log");
        while let Some(piece) = download.next().await.expect("it is whole") {
            log.extend_from_slice(&piece);
        }
        assert!(log.len() as u64 <= LOG_SIZE_MAX, "{} bytes", log.len());
        let log = String::from_utf8(log).expect("text");
        let said = format!("({} MB) left out …", left_out / 1_000_000);
        let (beginning, end) = log.split_once(&said).unwrap_or_else(|| panic!("{said} is not in the log"));
        assert!(
            beginning.len() > 15_000_000 && end.contains("this is why it ended"),
            "the beginning and the end are kept"
        );
        assert!(!log.contains("lost on their way"), "nothing is missing between");
    }
}

#[tokio::test]
async fn clients_that_ask_too_much_are_told_so_and_the_farm_goes_on() {
    let farm = TestFarm::start(2).await;
    // Enough frames for the lists to be long, and for work to go on all the while.
    let mut job = jobs::command(&["/bin/true"], "1-300");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 2 });
    let id = farm.submit(&job).await;
    let over = Arc::new(AtomicBool::new(false));
    // From an address of their own: what they fill is the share of one client, and the farm's own questions come from another.
    let theirs = IpAddr::from([127, 0, 0, 2]);
    let http = reqwest::Client::builder().no_proxy().local_address(theirs).build().expect("a client");
    let mut greedy = JoinSet::new();
    for _ in 0..300 {
        let (http, over, url) = (http.clone(), over.clone(), farm.url());
        greedy.spawn(async move {
            let mut crowded = 0;
            while !over.load(Ordering::Relaxed) {
                let asked = http.get(format!("{url}/v1/jobs/{id}/attempts?limit=1000")).send().await;
                let Ok(answer) = asked else { continue };
                let status = answer.status().as_u16();
                assert!(matches!(status, 200 | 429 | 503), "{status}");
                if status == 200 {
                    let _ = answer.bytes().await;
                } else {
                    assert!(answer.headers().contains_key("retry-after"));
                    let problem: serde_json::Value = answer.json().await.expect("a problem");
                    assert!(
                        problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:framewake:")),
                        "{problem}"
                    );
                    crowded += 1;
                    tokio::task::yield_now().await;
                }
            }
            crowded
        });
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begin = Instant::now();
        farm.submit(&jobs::command(&["/bin/true"], "1")).await;
        let healthy = http.get(format!("{}/healthz", farm.url())).send().await.expect("an answer");
        assert_eq!(healthy.status().as_u16(), 200);
        farm.client.job(id).await.expect("another client has room to look");
        slowest = slowest.max(begin.elapsed());
    }
    let view = farm.over(id).await;
    over.store(true, Ordering::Relaxed);
    let crowded: u64 = greedy.join_all().await.into_iter().sum();
    assert_eq!(view.tasks.done, 300, "{view:?}");
    assert!(crowded > 0, "300 lists at once are more than one client may have");
    assert!(slowest < STILL_QUICK, "a submission and a look beside them took {slowest:?}");
    let lost: Vec<_> =
        attempts(&farm, id).await.into_iter().filter(|attempt| attempt.outcome == AttemptOutcome::Lost).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[tokio::test]
async fn a_thousand_followers_of_one_job_all_hear_its_end() {
    let farm = TestFarm::start(2).await;
    let mut job = jobs::command(&["/bin/true"], "1-40");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut followers = JoinSet::new();
    for _ in 0..1000 {
        let (http, url) = (http.clone(), format!("{}/v1/jobs/{id}/events", farm.url()));
        followers.spawn(async move {
            // So many at once are more than one client may open: those that are told so come back.
            let answer = until(SOON, "there is room", || async {
                let answer = http.get(&url).send().await.expect("an answer");
                assert!(matches!(answer.status().as_u16(), 200 | 429), "{answer:?}");
                answer.status().is_success().then_some(answer)
            });
            let mut stream = answer.await.bytes_stream();
            let mut text = String::new();
            while let Some(piece) = stream.next().await {
                text.push_str(&String::from_utf8_lossy(&piece.expect("a piece")));
            }
            let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "an event came twice or out of order");
            (ids.len(), text.contains("\"succeeded\""))
        });
    }
    farm.over(id).await;
    let heard = tokio::time::timeout(SOON, followers.join_all()).await.expect("streams end with the job");
    let (most, _) = heard.iter().max().copied().expect("a thousand");
    assert!(heard.iter().all(|(events, end)| *end && *events == most), "all hear the same, and the end");
}
