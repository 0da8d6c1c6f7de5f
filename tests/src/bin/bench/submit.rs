//! Durable submissions a second, and big jobs.

use crate::process::{cpu_s, memory_mib};
use crate::{percentile, report, yardstick};
use framewake_proto::client::Client;
use framewake_tests::farm::unique;
use framewake_tests::jobs;
use std::time::Instant;
use tokio::task::JoinSet;

const CLIENTS: usize = 48;
const EACH: usize = 250;

/// A function whose workers are never started: the jobs stay queued.
const PARKED: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\nresources: { slots: 64 }\n\
    parameters: { program: { type: text }, words: { type: words, default: [] } }\n";

pub(crate) async fn run() {
    let (mut farm, _functions) = crate::farm(1, &[("command", PARKED)]).await;
    let alone = yardstick::sqlite_transactions().await;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = farm.url();
        tasks.spawn(async move {
            let client = Client::new(&url).expect("a good address");
            let job = jobs::command(&["/bin/true"], "1");
            let mut times = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let begin = Instant::now();
                client.submit(&job, &unique()).await.expect("accepted");
                times.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
    }
    let mut times: Vec<f64> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    report(
        &format!("durable submits, {CLIENTS} clients"),
        &format!("{rate:.0}/s"),
        &format!("raw SQLite, one row a transaction: {alone:.0}/s ({:.1}x)", rate / alone),
    );
    report(
        "  p50 / p99",
        &format!("{:.1} / {:.1} ms", percentile(&mut times, 0.5), percentile(&mut times, 0.99)),
        "target p99 < 20 ms",
    );

    let million = jobs::command(&["/bin/true"], "1-1000000");
    let begin = Instant::now();
    farm.submit(&million).await;
    report(
        "submit a job of 1,000,000 frames",
        &format!("{:.1} ms", begin.elapsed().as_secs_f64() * 1000.0),
        "target < 100 ms",
    );
    for _ in 0..9 {
        farm.submit(&million).await;
    }
    let pid = farm.scheduler().pid();
    report("memory, 10,000,000 frames outstanding", &format!("{:.0} MiB", memory_mib(pid)), "target < 500 MB");
    report("  scheduler CPU so far", &format!("{:.2} s", cpu_s(pid)), "");
    farm.kill_scheduler();
    let begin = Instant::now();
    farm.restart_scheduler().await;
    let jobs = CLIENTS * EACH + 10;
    report(
        &format!("restart, {jobs} jobs, 10,000,000 frames open"),
        &format!("{:.2} s", begin.elapsed().as_secs_f64()),
        "target < 5 s",
    );
}
