//! The keeper ends the renderers of a worker that was killed.

mod common;

use common::{runs, until};
use std::io::Write;
use std::process::{Command, Stdio};

#[tokio::test]
async fn renderers_end_when_the_keepers_input_closes_and_others_do_not() {
    let start =
        |mark: &str| Command::new("setsid").args(["sleep", "100"]).env("FRAMEWAKE_RUN", mark).spawn().expect("starts");
    let (mut ours, mut others) = (start("4242-17.3"), start("4242-171.3"));
    let (our_pid, other_pid) = (ours.id().to_string(), others.id().to_string());
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_framewake-worker"))
        .args(["keep-renderers-of", "4242-17"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = keeper.stdin.take().expect("piped");
    input.write_all(b"x").expect("writes");
    assert!(runs(&our_pid));
    drop(input);
    until("the end of the renderer", || ours.try_wait().expect("waits").is_some()).await;
    assert!(keeper.wait().expect("ends").success());
    assert!(runs(&other_pid));
    others.kill().expect("kills");
    others.wait().expect("ends");
}

#[test]
fn a_worker_without_its_settings_says_which() {
    let output = Command::new(env!("CARGO_BIN_EXE_framewake-worker")).env_clear().output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--store"), "{said}");
}
