//! What Framewake does in a second, beside a yardstick taken in the same run on the same machine:
//! machines differ, ratios less. `make bench` runs all; names of parts as arguments run only those.

#![allow(clippy::print_stdout)] // Its output is the report.

mod blender;
mod chunks;
mod crowd;
mod heartbeats;
mod idle;
mod metrics;
mod million;
mod pages;
mod pictures;
mod process;
mod signing;
mod submit;
mod tasks;
mod yardstick;

use framewake_tests::farm::TestFarm;

/// One line of the report.
pub(crate) fn report(what: &str, figure: &str, beside: &str) {
    println!("{what:<52} {figure:>22}   {beside}");
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    // In range: a share of a length.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = ((values.len() as f64 - 1.0) * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    report("what", "measured", "beside");
    if runs("submit") {
        submit::run().await;
    }
    if runs("chunks") {
        chunks::run().await;
    }
    if runs("tasks") {
        tasks::run().await;
    }
    if runs("idle") {
        idle::run().await;
    }
    if runs("crowd") {
        crowd::run().await;
    }
    if runs("heartbeats") {
        heartbeats::run().await;
    }
    if runs("metrics") {
        metrics::run().await;
    }
    if runs("pictures") {
        pictures::run();
    }
    if runs("pages") {
        pages::run().await;
    }
    if runs("viewer") {
        pages::viewer().await;
    }
    if runs("signing") {
        signing::run().await;
    }
    // Takes minutes: only when it is asked for.
    if wanted.iter().any(|name| name == "million") {
        million::run().await;
    }
    if runs("blender") {
        blender::run().await;
    }
}

/// A farm with functions of the bench's own.
pub(crate) async fn farm(slots: u32, functions: &[(&str, &str)]) -> (TestFarm, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    for (name, text) in functions {
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("writable");
    }
    (TestFarm::start_with(slots, false, folder.path()).await, folder)
}
