//! A farm that does a bit of everything, so that there is something to see: fast frames, slow ones on GPUs, failures, a
//! schedule, a worker that dies.

use super::{Prometheus, Span};
use crate::audit::upload;
use crate::farm::{LONG, SOON, TestFarm, kill};
use crate::jobs;
use crate::nvml::{StubNvml, gpu};
use crate::parts::root;
use crate::wait::until;
use framewake_proto::time::Timestamp;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Renders on a GPU, as far as anybody can see.
pub const ON_GPU: &str = "name: glow\ndriver: { kind: command, command: [/bin/sleep, '{seconds}'] }\n\
    parameters: { seconds: { type: number, default: 0.4 } }\nresources: { gpus: 1 }\nscaling: { max: 1, linger: 5s }\n";
/// How often the GPUs change what they do.
const GPU_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Watched {
    pub farm: TestFarm,
    pub prometheus: Prometheus,
    began_s: f64,
    gpus: JoinHandle<()>,
    _functions: TempDir,
}

impl Watched {
    pub async fn start() -> Watched {
        let functions = tempfile::tempdir().expect("room for a folder");
        for name in ["tachyon", "command"] {
            let file = format!("{name}.yaml");
            let sample = root().join("samples/functions").join(&file);
            std::fs::copy(sample, functions.path().join(file)).expect("a sample function");
        }
        std::fs::write(functions.path().join("glow.yaml"), ON_GPU).expect("writable");
        let mut farm = TestFarm::start_with(3, false, functions.path()).await;
        let stub = StubNvml::build(farm.folder());
        let environment = stub.environment();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        farm.restart_scheduler_with(&environment).await;
        for (what, an_hour) in [("any", "0.30 USD"), ("function:glow", "0.90 USD")] {
            let paid = reqwest::Client::new().put(format!("{}/v1/paid-by/{what}", farm.url()));
            let answer = paid.json(&json!({ "own": an_hour })).send().await.expect("answered");
            assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        }
        let budget = reqwest::Client::new().put(format!("{}/v1/budgets/default/month", farm.url()));
        let answer = budget.json(&json!({ "limit": "1000USD" })).send().await.expect("answered");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        let prometheus = Prometheus::start(farm.folder(), &format!("127.0.0.1:{}", farm.port())).await;
        let gpus = tokio::spawn(glow(stub));
        Watched { farm, prometheus, began_s: now_s(), gpus, _functions: functions }
    }

    /// Works for about so long, and until all that was asked for is done; how many fast frames there were.
    pub async fn work(&self, long: Duration) -> u32 {
        let farm = &self.farm;
        let scene = upload(&farm.client, &read("samples/scenes/spheres.dat")).await;
        let schedule = json!({ "name": "tick", "cron": "*/2 * * * * *", "job": jobs::command(&["/bin/true"], "1") });
        farm.client.add_schedule(&schedule).await.expect("a good schedule");
        let glowing = json!({ "name": "glow", "steps": [{
            "name": "render", "function": "glow", "frames": format!("1-{}", long.as_millis() / 600),
            "allow_cpu": true, "chunking": { "mode": "fixed", "size": 4 },
        }] });
        // Nobody named a device: not accepted as made on a GPU.
        let refused = json!({ "name": "no GPU", "priority": 90, "steps": [{
            "name": "render", "function": "glow", "frames": "1", "retries": { "attempts": 1 },
        }] });
        let begin = tokio::time::Instant::now();
        let mut jobs = vec![farm.submit(&glowing).await, farm.submit(&refused).await];
        let mut killed = false;
        let (mut rounds, mut fast) = (0, 0);
        while rounds < 2 || begin.elapsed() < long.mul_f64(0.8) {
            rounds += 1;
            let frames = 40 + 20 * (rounds % 4);
            fast += frames;
            jobs.push(farm.submit(&jobs::tachyon(scene, &format!("1-{frames}"))).await);
            let failing = farm.submit(&jobs::command(&["/bin/sh", "-c", "exit 3"], "1-2")).await;
            let slow = farm.submit(&jobs::command(&["/bin/sleep", "1"], "1-2")).await;
            if !std::mem::replace(&mut killed, true) {
                self.kill_a_worker().await;
            }
            jobs.push(slow);
            // Somebody asks for what is not there.
            let lost = reqwest::get(format!("{}/v1/nothing", farm.url())).await.expect("answered");
            assert_eq!(lost.status(), reqwest::StatusCode::NOT_FOUND);
            farm.over(failing).await;
            farm.over(slow).await;
        }
        for job in jobs {
            until(LONG, "the job is over", || async {
                farm.client.job(job).await.ok().filter(|job| job.state.is_over())
            })
            .await;
        }
        fast
    }

    /// One that holds something.
    async fn kill_a_worker(&self) {
        until(SOON, "a worker is at work", || async {
            let page = self.farm.client.workers(None).await.ok()?;
            page.items.iter().any(|worker| worker.attempt.is_some()).then_some(())
        })
        .await;
        if let Some(pid) = self.farm.worker_pids().first() {
            kill(*pid);
        }
    }

    /// From the first look of Prometheus until now.
    pub fn span(&self) -> Span {
        Span { begin_s: self.began_s, end_s: now_s() }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gpus.abort();
    }
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(root().join(path)).expect("a sample")
}

fn now_s() -> f64 {
    Timestamp::now().0 as f64 / 1000.0
}

/// Two GPUs that warm up, are held back by their power now and then, and have small troubles.
async fn glow(stub: StubNvml) {
    let mut tick = tokio::time::interval(GPU_EVERY);
    let mut energy = [5_000_000u64, 9_000_000];
    for round in 0u64.. {
        let mut says = String::new();
        for (number, energy) in (0u32..).zip(&mut energy) {
            let wave = (round + 7 * u64::from(number)) % 40;
            let busy = 30 + 3 * wave.min(40 - wave);
            let power = 60_000 + 2500 * busy;
            *energy += power / 4;
            let properties = [
                ("memory_used", (4 + wave / 4) << 30),
                ("busy", busy),
                ("encoder", wave % 9),
                ("power", power),
                ("energy", *energy),
                ("temperature", 48 + wave.min(40 - wave)),
                ("clock", 2500 - 10 * busy),
                ("memory_clock", 9001),
                (
                    "throttle",
                    if wave > 15 {
                        0x4
                    } else if wave > 12 {
                        0x20
                    } else {
                        0
                    },
                ),
                ("ecc_corrected", round / 20),
            ];
            says += &gpu(number, &format!("GPU-{number}e1d0000-0000-4000-8000-00000000000{number}"), 24, &properties);
        }
        if round > 8 {
            // The application's fault, not the GPU's.
            says += "xid 0 31\n";
        }
        stub.says(&says);
        tick.tick().await;
    }
}
