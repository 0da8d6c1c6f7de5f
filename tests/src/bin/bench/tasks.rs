//! Real processes on real workers: how fast, how idle between chunks, how long until the first.

use crate::{percentile, report};
use framewake_proto::api::AttemptView;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

const COMMAND: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 8, linger: 10s }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";
/// The same, and its workers leave at once.
const HASTY: &str = "name: hasty\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 1, linger: 1ms }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";

pub(crate) async fn run() {
    let (farm, _functions) = crate::farm(8, &[("command", COMMAND), ("hasty", HASTY)]).await;
    let spawns = spawn_rate();
    let begin = Instant::now();
    farm.succeed(&jobs::command(&["/bin/true"], "1-10000")).await;
    let rate = 10_000.0 / begin.elapsed().as_secs_f64();
    report(
        "10,000 × /bin/true on 8 workers, from zero",
        &format!("{rate:.0}/s"),
        &format!(
            "one process spawning in a loop: {spawns:.0}/s ({:.2}x); HyperQueue was measured at 1,566/s on such a machine",
            rate / spawns
        ),
    );

    let mut job = jobs::command(&["/bin/true"], "1-400");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    farm.over(id).await;
    let mut gaps = gaps_ms(&attempts(&farm, id).await);
    report(
        "idle gap between two chunks of a warm worker, p50",
        &format!("{:.1} ms", percentile(&mut gaps, 0.5)),
        &format!("p90 {:.1} ms; target p50 < 10 ms", percentile(&mut gaps, 0.9)),
    );

    let mut warm = Vec::new();
    for _ in 0..30 {
        warm.push(until_first_ms(&farm, "command").await);
    }
    report(
        "submit → first frame starts, warm worker, p50",
        &format!("{:.1} ms", percentile(&mut warm, 0.5)),
        "target < 15 ms",
    );
    let mut cold = Vec::new();
    for _ in 0..10 {
        farm.no_workers().await;
        cold.push(until_first_ms(&farm, "hasty").await);
    }
    report(
        "submit → first frame starts, from zero, p50",
        &format!("{:.1} ms", percentile(&mut cold, 0.5)),
        "target < 100 ms",
    );
}

/// From the scheduler's own clock: submission to the first attempt.
async fn until_first_ms(farm: &TestFarm, function: &str) -> f64 {
    let mut job = jobs::command(&["/bin/true"], "1");
    job["steps"][0]["function"] = json!(function);
    let view = farm.succeed(&job).await;
    let first = attempts(farm, view.id).await.into_iter().map(|attempt| attempt.started_at).min().expect("it ran");
    first.since(view.submitted_at).as_secs_f64() * 1000.0
}

async fn attempts(farm: &TestFarm, id: JobId) -> Vec<AttemptView> {
    let mut all = Vec::new();
    let mut query = PartQuery::default();
    loop {
        let page = farm.client.attempts(id, &query).await.expect("attempts can be listed");
        all.extend(page.items);
        query.cursor = page.next;
        if query.cursor.is_none() {
            return all;
        }
    }
}

fn gaps_ms(attempts: &[AttemptView]) -> Vec<f64> {
    let mut by_worker: BTreeMap<_, Vec<&AttemptView>> = BTreeMap::new();
    for attempt in attempts {
        by_worker.entry(&attempt.worker).or_default().push(attempt);
    }
    let mut gaps = Vec::new();
    for list in by_worker.values_mut() {
        list.sort_by_key(|attempt| attempt.started_at);
        for pair in list.windows(2) {
            if let Some(ended) = pair[0].ended_at {
                gaps.push(pair[1].started_at.since(ended).as_secs_f64() * 1000.0);
            }
        }
    }
    gaps
}

/// `/bin/true` started and waited for, one after the other, by one thread.
fn spawn_rate() -> f64 {
    let begin = Instant::now();
    for _ in 0..1000 {
        let _ = std::process::Command::new("/bin/true").status();
    }
    1000.0 / begin.elapsed().as_secs_f64()
}
