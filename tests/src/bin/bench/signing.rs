//! What it costs that workers have no credentials of the store: the same tiny frames on S3, stored with credentials of the worker's own
//! and by addresses that the scheduler signs.

use crate::report;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::root;
use std::time::Instant;

const FRAMES: u32 = 200;
/// One after the other, so that a machine that is busy for a while is so for both.
const ROUNDS: usize = 4;

pub(crate) async fn run() {
    let functions = root().join("samples/functions");
    let own = TestFarm::start_on_s3(1).await;
    let signed = TestFarm::start_guarded(1, true, &functions, |_| ()).await;
    let (mut with_own, mut with_signed) = (0.0, 0.0);
    for round in 0..=ROUNDS {
        let (one, other) = (frames(&own).await, frames(&signed).await);
        // The first has the start of a worker in it.
        if round > 0 {
            with_own += one;
            with_signed += other;
        }
    }
    let each = |seconds: f64| f64::from(FRAMES) * ROUNDS as f64 / seconds;
    report("frames on S3, credentials of the worker's own", &format!("{:.0} /s", each(with_own)), "");
    let ratio = each(with_signed) / each(with_own);
    report(
        "frames on S3, signed by the scheduler",
        &format!("{:.0} /s", each(with_signed)),
        &format!("{ratio:.2} of it"),
    );
}

/// Seconds for some frames whose renderer does next to nothing.
async fn frames(farm: &TestFarm) -> f64 {
    let words = ["/bin/sh", "-c", "echo frame > \"$1\"", "sh", "{output}"];
    let begin = Instant::now();
    farm.succeed(&jobs::command_with_output(&words, &format!("1-{FRAMES}"), "{frame}.txt")).await;
    begin.elapsed().as_secs_f64()
}
