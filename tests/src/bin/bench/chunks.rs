//! Chunks through the whole path, with nothing rendered.

use crate::process::cpu_s;
use crate::{report, yardstick};
use framewake_proto::ids::FunctionKey;
use framewake_tests::farm::{LONG, TestFarm};
use framewake_tests::jobs;
use framewake_tests::noop::Workers;
use framewake_tests::wait::until;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const WORKERS: usize = 32;

/// No worker of it is ever started by the farm: the bench brings its own.
const FOREIGN: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    resources: { slots: 1 }\nscaling: { max: 64 }\n\
    parameters: { program: { type: text }, words: { type: words, default: [] } }\n";

pub(crate) async fn run() {
    let (mut farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let function = FunctionKey { name: "command".parse().expect("good"), version: 1 };
    let alone = yardstick::jetstream_messages(&farm.nats.url(), WORKERS).await;
    let workers = Workers::start(&farm.nats.url(), &function, WORKERS).await;
    let (rate, _) = through(&mut farm, &workers, 1000, 1000).await;
    report("warm-up: chunks end to end", &format!("{rate:.0}/s"), "");
    let (rate, _) = through(&mut farm, &workers, 20_000, 20_000).await;
    report(
        &format!("chunks end to end, no-op frames, {WORKERS} workers"),
        &format!("{rate:.0}/s"),
        &format!("raw JetStream publish + pull: {alone:.0}/s ({:.2}x)", rate / alone),
    );
    for tasks in [1000u32, 10_000, 100_000, 1_000_000] {
        let (_, cpu) = through(&mut farm, &workers, tasks, 1000).await;
        report(
            &format!("scheduler CPU a chunk, job of {tasks} tasks"),
            &format!("{:.3} ms", cpu * 1000.0),
            "target flat, < 0.2 ms",
        );
    }
}

/// Runs the first `chunks` chunks of one task of a job of `tasks`; chunks a second, and CPU seconds of the scheduler a chunk.
async fn through(farm: &mut TestFarm, workers: &Workers, tasks: u32, chunks: u64) -> (f64, f64) {
    let mut job = jobs::command(&["/bin/true"], &format!("1-{tasks}"));
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let pid = farm.scheduler().pid();
    let (from, cpu, begin) = (workers.chunks.load(Ordering::Relaxed), cpu_s(pid), Instant::now());
    let id = farm.submit(&job).await;
    until(LONG, "the chunks are through", || async {
        (workers.chunks.load(Ordering::Relaxed) >= from + chunks).then_some(())
    })
    .await;
    let (time, cpu) = (begin.elapsed(), cpu_s(pid) - cpu);
    let done = workers.chunks.load(Ordering::Relaxed) - from;
    if u64::from(tasks) > chunks {
        let _ = farm.client.act(id, framewake_proto::client::Action::Cancel).await;
        // What was claimed before the cancel trickles out.
        tokio::time::timeout(Duration::from_secs(5), farm.over(id)).await.expect("canceled");
    } else {
        farm.over(id).await;
    }
    (done as f64 / time.as_secs_f64(), cpu / done as f64)
}
