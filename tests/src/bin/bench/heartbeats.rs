//! Ten thousand workers that hold work and say so: what it costs the scheduler, and whether it still answers others.

use crate::process::{cpu_s, memory_mib};
use crate::{percentile, report};
use async_nats::jetstream::{self, consumer::PullConsumer};
use framewake_proto::api::AttemptOutcome;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::{FunctionKey, JobId};
use framewake_proto::subjects::Subjects;
use framewake_proto::wire;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use futures::StreamExt;
use prost::Message;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const WORKERS: usize = 10_000;
const CONNECTIONS: usize = 8;
/// As the scheduler asks for.
const EVERY: Duration = Duration::from_secs(2);
/// Longer than a lease: one that was not renewed would be lost.
const MEASURED: Duration = Duration::from_secs(30);

const FOREIGN: &str = "name: command\ndriver: { kind: command, command: ['{program}', '{words}'] }\n\
    scaling: { max: 10000 }\nparameters: { program: { type: text }, words: { type: words, default: [] } }\n";

pub(crate) async fn run() {
    let (mut farm, _functions) = crate::farm(0, &[("command", FOREIGN)]).await;
    let pid = farm.scheduler().pid();
    let mut job = jobs::command(&["/bin/true"], &format!("1-{}", 2 * WORKERS));
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let id = farm.submit(&job).await;
    let url = farm.nats.url();
    let mut starting = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let url = url.clone();
        starting.spawn(async move { hold_work(&url, connection).await });
    }
    let holders = starting.join_all().await;
    let held: usize = holders.iter().map(|(_, beats)| beats.len()).sum();
    let (cpu, begin) = (cpu_s(pid), Instant::now());
    let mut beating = JoinSet::new();
    for (client, beats) in holders {
        for (at, beat) in beats.into_iter().enumerate() {
            beating.spawn(keep_beating(client.clone(), beat, EVERY * u32::try_from(at % 1000).unwrap_or(0) / 1000));
        }
    }
    let mut submits = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while begin.elapsed() < MEASURED {
        tick.tick().await;
        let one = Instant::now();
        farm.submit(&jobs::command(&["/bin/true"], "1")).await;
        submits.push(one.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = (cpu_s(pid) - cpu) / begin.elapsed().as_secs_f64();
    let mut answers: Vec<f64> = beating.join_all().await.into_iter().flatten().collect();
    report(
        &format!("{held} workers with work, a heartbeat each 2 s"),
        &format!("{:.0} % of a core", cpu * 100.0),
        &format!("scheduler, {:.0} MiB", memory_mib(pid)),
    );
    report(
        "  a heartbeat's answer, p50 / p99",
        &format!("{:.1} / {:.1} ms", percentile(&mut answers, 0.5), percentile(&mut answers, 0.99)),
        "lease 15 s",
    );
    report(
        "  submits beside it, p50 / p99",
        &format!("{:.1} / {:.1} ms", percentile(&mut submits, 0.5), percentile(&mut submits, 0.99)),
        "",
    );
    report("  leases lost", &lost(&farm, id).await.to_string(), "must be 0");
}

/// One connection's share of the workers, each of which claims one chunk.
async fn hold_work(url: &str, connection: usize) -> (async_nats::Client, Vec<wire::Heartbeat>) {
    let subjects = Subjects::new("framewake".parse().expect("good"));
    let function: FunctionKey = "command@1".parse().expect("a key");
    let client = async_nats::connect(url).await.expect("NATS is there");
    let mut beats = Vec::new();
    for at in 0..WORKERS / CONNECTIONS {
        let beat = wire::Heartbeat {
            worker: format!("w-{connection}-{at}"),
            function: function.name.to_string(),
            function_version: function.version,
            host: format!("host-{connection}-{at}"),
            ..Default::default()
        };
        let worker = beat.worker.parse().expect("a good id");
        let _ = client.request(subjects.heartbeat(&function, &worker), beat.encode_to_vec().into()).await;
        beats.push(beat);
    }
    let stream = jetstream::new(client.clone()).get_stream(subjects.orders_stream()).await.expect("made");
    let consumer: PullConsumer = stream.get_consumer(&subjects.orders_consumer(&function)).await.expect("made");
    for beat in &mut beats {
        let worker = beat.worker.parse().expect("a good id");
        while beat.chunk == 0 {
            let batch = consumer.batch().max_messages(1).expires(Duration::from_secs(5)).messages().await;
            let Ok(mut batch) = batch else { continue };
            let Some(Ok(message)) = batch.next().await else { continue };
            let wire::Order { chunk, attempt, .. } = wire::Order::decode(&*message.payload).expect("an order");
            let claim =
                wire::Claim { worker: beat.worker.clone(), chunk, attempt, want_step: false, ..Default::default() };
            let answer = client.request(subjects.claim(&function, &worker), claim.encode_to_vec().into()).await;
            let _ = message.ack().await;
            let granted = answer.is_ok_and(|answer| {
                wire::ClaimAnswer::decode(answer.payload).is_ok_and(|answer| answer.refused.is_empty())
            });
            if granted {
                (beat.chunk, beat.attempt) = (chunk, attempt);
            }
            // Claiming takes a while: those who hold something must be heard meanwhile.
            let _ = client.request(subjects.heartbeat(&function, &worker), beat.encode_to_vec().into()).await;
        }
    }
    (client, beats)
}

fn subject_of(beat: &wire::Heartbeat) -> String {
    let function = FunctionKey { name: beat.function.parse().expect("a good name"), version: beat.function_version };
    let subjects = Subjects::new("framewake".parse().expect("good"));
    subjects.heartbeat(&function, &beat.worker.parse().expect("a good id"))
}

/// Beats until the measurement is over; how long each answer took, in milliseconds.
async fn keep_beating(client: async_nats::Client, beat: wire::Heartbeat, offset: Duration) -> Vec<f64> {
    let subject = subject_of(&beat);
    let (body, begin) = (beat.encode_to_vec(), Instant::now());
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + offset, EVERY);
    let mut times = Vec::new();
    while begin.elapsed() < MEASURED {
        tick.tick().await;
        let one = Instant::now();
        if client.request(subject.clone(), body.clone().into()).await.is_ok() {
            times.push(one.elapsed().as_secs_f64() * 1000.0);
        }
    }
    times
}

async fn lost(farm: &TestFarm, id: JobId) -> usize {
    let mut query = PartQuery { limit: Some(1000), ..PartQuery::default() };
    let mut lost = 0;
    loop {
        let page = farm.client.attempts(id, &query).await.expect("attempts can be listed");
        lost += page.items.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Lost).count();
        query.cursor = page.next;
        if query.cursor.is_none() {
            return lost;
        }
    }
}
