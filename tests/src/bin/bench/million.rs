//! A farm with very many jobs of one frame that wait: memory, and whether anything is slower at the end than at the begin.
//! `MILLION_JOBS` says how many instead of a million.

use crate::process::memory_mib;
use crate::{percentile, report};
use framewake_proto::api::JobState;
use framewake_proto::client::{Action, Client, JobQuery};
use framewake_proto::ids::{FunctionKey, JobId};
use framewake_tests::farm::{LONG, TestFarm, unique};
use framewake_tests::jobs;
use framewake_tests::noop::Workers;
use framewake_tests::wait::until;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::task::JoinSet;

const CLIENTS: usize = 48;
const JOBS_DEFAULT: usize = 1_000_000;
/// Jobs a slice: the first is compared with the last.
const SLICES: usize = 10;
const WORKERS: usize = 32;
const CHUNKS: u64 = 10_000;
const CANCELED: usize = 5_000;

/// No worker of it is ever started by the farm: the bench brings its own.
const FOREIGN: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 64 }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";

#[allow(clippy::disallowed_methods)] // A switch of this part alone.
pub(crate) async fn run() {
    let jobs = std::env::var("MILLION_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(JOBS_DEFAULT);
    let (mut farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let pid = farm.scheduler().pid();
    let empty = memory_mib(pid);
    let mut ids = Vec::new();
    let mut first = 0.0;
    for slice in 0..SLICES {
        let (more, rate) = submit(&farm, jobs / SLICES).await;
        ids = more;
        if slice == 0 {
            first = rate;
        }
        if slice + 1 == SLICES {
            report(
                &format!("submits, behind {jobs} jobs"),
                &format!("{rate:.0}/s"),
                &format!("the first {first:.0}/s"),
            );
        }
    }
    report(
        &format!("memory, {jobs} queued jobs of one frame"),
        &format!("{:.0} MiB", memory_mib(pid)),
        &format!("empty {empty:.0} MiB; target < 500 MB"),
    );
    list(&farm).await;
    let function = FunctionKey { name: "command".parse().expect("good"), version: 1 };
    let workers = Workers::start(&farm.nats.url(), &function, WORKERS).await;
    let begin = Instant::now();
    until(LONG, "the chunks are through", || async {
        (workers.chunks.load(Ordering::Relaxed) >= CHUNKS).then_some(())
    })
    .await;
    report(
        &format!("chunks end to end, {WORKERS} no-op workers, at that depth"),
        &format!("{:.0}/s", CHUNKS as f64 / begin.elapsed().as_secs_f64()),
        "one job a chunk; see the part `chunks` for one job",
    );
    drop(workers);
    farm.kill_scheduler();
    let begin = Instant::now();
    farm.restart_scheduler().await;
    report("restart at that depth", &format!("{:.2} s", begin.elapsed().as_secs_f64()), "target < 10 s");
    let pid = farm.scheduler().pid();
    report("  memory after it", &format!("{:.0} MiB", memory_mib(pid)), "");
    cancel(&farm, ids).await;
}

async fn submit(farm: &TestFarm, count: usize) -> (Vec<JobId>, f64) {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = farm.url();
        tasks.spawn(async move {
            let client = Client::new(&url).expect("a good address");
            let job = jobs::command(&["/bin/true"], "1");
            let mut ids = Vec::with_capacity(count / CLIENTS);
            for _ in 0..count / CLIENTS {
                ids.push(client.submit(&job, &unique()).await.expect("accepted").id);
            }
            ids
        });
    }
    let ids: Vec<JobId> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = ids.len() as f64 / begin.elapsed().as_secs_f64();
    (ids, rate)
}

/// Pages of the list, from the newest on.
async fn list(farm: &TestFarm) {
    let mut query = JobQuery { states: vec![JobState::Queued], limit: Some(100), ..JobQuery::default() };
    let mut times = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        let page = farm.client.jobs(&query).await.expect("listed");
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        query.cursor = page.next;
    }
    report(
        "a page of 100 queued jobs, p50 / p99",
        &format!("{:.1} / {:.1} ms", percentile(&mut times, 0.5), percentile(&mut times, 0.99)),
        "",
    );
}

async fn cancel(farm: &TestFarm, ids: Vec<JobId>) {
    let ids: Vec<JobId> = ids.into_iter().take(CANCELED).collect();
    let (begin, count) = (Instant::now(), ids.len());
    let mut tasks = JoinSet::new();
    for part in ids.chunks(count.div_ceil(CLIENTS)) {
        let (url, part) = (farm.url(), part.to_vec());
        tasks.spawn(async move {
            let client = Client::new(&url).expect("a good address");
            for id in part {
                client.act(id, Action::Cancel).await.expect("canceled");
            }
        });
    }
    tasks.join_all().await;
    report("cancels at that depth", &format!("{:.0}/s", count as f64 / begin.elapsed().as_secs_f64()), "");
}
