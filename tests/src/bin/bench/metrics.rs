//! Ten thousand workers whose heartbeats bring samples of their GPUs, and a Prometheus that looks: what the page weighs,
//! how long it takes, and what following GPUs costs the scheduler beside the same heartbeats without samples.

use crate::process::{cpu_s, memory_mib};
use crate::{percentile, report};
use framewake_proto::ids::FunctionKey;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::{GpuSample, Heartbeat};
use framewake_tests::farm::TestFarm;
use prost::Message;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const WORKERS: usize = 10_000;
const CONNECTIONS: usize = 8;
/// As the scheduler asks for.
const EVERY: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(20);
/// More often than any Prometheus.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
const PAGE_BYTES_MAX: usize = 2_000_000;
const PAGE_MS_MAX: f64 = 200.0;
const MODELS: [&str; 4] = ["NVIDIA L40S", "NVIDIA H200", "NVIDIA RTX 6000 Ada Generation", "NVIDIA A10G"];

const FUNCTION: &str = "name: command\ndriver: { kind: command, command: ['true'] }\nscaling: { max: 10000 }\n";

pub(crate) async fn run() {
    let (mut farm, _functions) = crate::farm(0, &[("command", FUNCTION)]).await;
    let pid = farm.scheduler().pid();
    let plain = beat(&farm, pid, false).await;
    let sampled = beat(&farm, pid, true).await;
    let mut times = sampled.page_ms;
    let slowest = percentile(&mut times, 1.0);
    report(
        &format!("/metrics with {WORKERS} GPUs, a heartbeat each 2 s"),
        &format!("{:.2} MB", sampled.page_bytes as f64 / 1e6),
        &format!("bound {:.0} MB: {}", PAGE_BYTES_MAX as f64 / 1e6, kept(sampled.page_bytes <= PAGE_BYTES_MAX)),
    );
    report(
        "  time of a scrape, p50 / slowest",
        &format!("{:.0} / {slowest:.0} ms", percentile(&mut times, 0.5)),
        &format!("bound {PAGE_MS_MAX} ms: {}", kept(slowest <= PAGE_MS_MAX)),
    );
    report(
        "  scheduler",
        &format!("{:.0} % of a core", sampled.cpu * 100.0),
        &format!("{:.0} % without samples, {:.0} MiB", plain.cpu * 100.0, memory_mib(pid)),
    );
    report("  heartbeats answered", &sampled.answered.to_string(), &format!("{} without samples", plain.answered));
}

fn kept(kept: bool) -> &'static str {
    if kept { "kept" } else { "BROKEN" }
}

struct Measured {
    /// Of the scheduler, in cores.
    cpu: f64,
    page_bytes: usize,
    page_ms: Vec<f64>,
    answered: usize,
}

async fn beat(farm: &TestFarm, pid: u32, with_gpus: bool) -> Measured {
    let url = farm.nats.url();
    let (cpu, begin) = (cpu_s(pid), Instant::now());
    let mut beating = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = async_nats::connect(&url).await.expect("NATS is there");
        for at in 0..WORKERS / CONNECTIONS {
            let number = connection * (WORKERS / CONNECTIONS) + at;
            beating.spawn(keep_beating(client.clone(), number, with_gpus, begin));
        }
    }
    let page = format!("{}/metrics", farm.url());
    let (mut page_bytes, mut page_ms) = (0, Vec::new());
    let mut tick = tokio::time::interval(SCRAPE_EVERY);
    while begin.elapsed() < MEASURED {
        tick.tick().await;
        let one = Instant::now();
        let text = reqwest::get(&page).await.expect("answered").text().await.expect("text");
        page_ms.push(one.elapsed().as_secs_f64() * 1000.0);
        page_bytes = page_bytes.max(text.len());
    }
    let cpu = (cpu_s(pid) - cpu) / begin.elapsed().as_secs_f64();
    let answered = beating.join_all().await.into_iter().sum();
    Measured { cpu, page_bytes, page_ms, answered }
}

/// Beats until the measurement is over; how many were answered.
async fn keep_beating(client: async_nats::Client, number: usize, with_gpus: bool, begin: Instant) -> usize {
    let function: FunctionKey = "command@1".parse().expect("a key");
    let worker = format!("w-{number}").parse().expect("a good id");
    let subject = Subjects::new("framewake".parse().expect("good")).heartbeat(&function, &worker);
    let offset = EVERY * u32::try_from(number % 1000).unwrap_or(0) / 1000;
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + offset, EVERY);
    let mut answered = 0;
    let mut rng = fastrand::Rng::with_seed(number as u64);
    while begin.elapsed() < MEASURED {
        tick.tick().await;
        let sample = with_gpus.then(|| sample(number, begin.elapsed(), &mut rng));
        let heartbeat = Heartbeat {
            worker: format!("w-{number}"),
            function: function.name.to_string(),
            function_version: function.version,
            host: format!("node-{:04}.farm.example", number / 8),
            gpu_samples: sample.into_iter().collect(),
            ..Default::default()
        };
        answered += usize::from(client.request(subject.clone(), heartbeat.encode_to_vec().into()).await.is_ok());
    }
    answered
}

fn sample(number: usize, passed: Duration, rng: &mut fastrand::Rng) -> GpuSample {
    GpuSample {
        uuid: format!("GPU-{number:08x}-0000-4000-8000-0123456789ab"),
        model: MODELS[number % MODELS.len()].to_owned(),
        driver_version: "570.124.06".to_owned(),
        index: u32::try_from(number % 8).ok(),
        memory_total_bytes: Some(48 << 30),
        memory_used_bytes: Some(rng.u64(1 << 30..48 << 30)),
        busy_percent: Some(rng.u32(0..=100)),
        memory_busy_percent: Some(rng.u32(0..=100)),
        power_milliwatts: Some(rng.u32(60_000..350_000)),
        energy_millijoules: u64::try_from(passed.as_millis()).ok().map(|ms| ms * 300),
        temperature_celsius: Some(rng.u32(40..90)),
        sm_clock_mhz: Some(rng.u32(1200..2500)),
        memory_clock_mhz: Some(9001),
        throttle_reasons: Some(0x4),
        ..GpuSample::default()
    }
}
