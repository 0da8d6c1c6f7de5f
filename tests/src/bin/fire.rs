//! A farm under random faults, for as long as `FIRE_MINUTES` and `FIRE_FRAMES` say; `FIRE_SEED` does a run again.
//! As `fire picture MARKER FRAME FILE` it is the renderer of that farm.

#![allow(clippy::print_stdout)] // Its output is the report.

use framewake_tests::fire::{Plan, picture, run};
use std::process::ExitCode;
use std::time::Duration;

const MINUTES_DEFAULT: f64 = 30.0;
const FRAMES_DEFAULT: u32 = 20_000;

#[allow(clippy::disallowed_methods)] // This program's settings.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [what, marker, frame, file] = words.as_slice()
        && what == "picture"
    {
        let number = |text: &str| text.parse().expect("a number");
        std::fs::write(file, picture::picture(number(marker), number(frame))).expect("the output is writable");
        return ExitCode::SUCCESS;
    }
    let plan = Plan {
        seed: setting("FIRE_SEED", fastrand::u64(..1_000_000)),
        duration: Duration::from_secs_f64(setting("FIRE_MINUTES", MINUTES_DEFAULT) * 60.0),
        frames: setting("FIRE_FRAMES", FRAMES_DEFAULT),
        long: true,
    };
    println!("seed {}, {} s, {} frames", plan.seed, plan.duration.as_secs(), plan.frames);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let outcome = runtime.expect("threads can be had").block_on(run(&plan, |line| println!("{line}")));
    println!("{outcome}");
    if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
