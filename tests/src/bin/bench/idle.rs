//! What a farm with nothing to do costs.

use crate::process::{cpu_s, memory_mib};
use crate::report;
use framewake_tests::farm::TestFarm;
use framewake_tests::parts::built;
use std::time::Duration;

const WATCHED: Duration = Duration::from_secs(20);

pub(crate) async fn run() {
    let mut farm = TestFarm::start(2).await;
    let pid = farm.scheduler().pid();
    let before = cpu_s(pid);
    tokio::time::sleep(WATCHED).await; // What is measured is doing nothing for this long.
    let share = (cpu_s(pid) - before) / WATCHED.as_secs_f64() * 100.0;
    report("idle scheduler: CPU", &format!("{share:.2} % of a core"), "target < 1 %");
    report("idle scheduler: memory", &format!("{:.0} MiB", memory_mib(pid)), "target < 40 MB");
    report("idle farm: workers", &farm.worker_pids().len().to_string(), "target 0");
    let size = std::fs::metadata(built("framewake-worker")).map_or(0, |file| file.len());
    report("worker binary", &format!("{:.1} MB", size as f64 / 1e6), "target < 20 MB");
}
