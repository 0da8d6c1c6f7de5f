//! `framewake top` in a terminal, with a real farm behind it.

use framewake_proto::api::JobState;
use framewake_proto::client::JobQuery;
use framewake_tests::farm::TestFarm;
use framewake_tests::jobs;
use framewake_tests::parts::built;
use framewake_tests::terminal::Terminal;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;

fn top(url: &str, columns: u16, rows: u16) -> Terminal {
    Terminal::framewake("top", url, columns, rows, &[])
}

fn named(name: &str, words: &[&str], frames: &str) -> Value {
    let mut job = jobs::command(words, frames);
    job["name"] = json!(name);
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn the_farm_is_watched_and_a_job_paused_resumed_and_canceled_by_keys() {
    let farm = TestFarm::start(1).await;
    let broken = farm.submit(&named("the broken one", &["/bin/sh", "-c", "echo no camera; exit 3"], "1-2")).await;
    assert_eq!(farm.over(broken).await.state, JobState::Failed);
    let long = farm.submit(&named("the long one 漢字 \u{202e}", &["/bin/sleep", "0.2"], "1-500")).await;
    let mut terminal = top(&farm.url(), 120, 40);
    terminal.sees("1 running, 0 queued").await;
    // Wide letters take their two columns, and nothing that a job is named turns the line around.
    terminal.sees("the long one 漢字 \\u{202e}").await;
    terminal.sees("the broken one").await;
    terminal.press("p");
    terminal.sees("is paused").await;
    assert_eq!(farm.client.job(long).await.expect("known").state, JobState::Paused);
    terminal.press("p");
    // Not only begun: what is pressed before its answer does nothing.
    terminal.sees("resume: the long one").await;
    terminal.press("-");
    terminal.sees("has priority 40 now").await;
    terminal.press("2");
    terminal.sees("command@1").await;
    terminal.sees("busy").await;
    terminal.press("3");
    terminal.sees("No worker has a GPU now.").await;
    terminal.press("4");
    terminal.sees("WHY NOT MORE").await;
    // What failed on the whole farm, whichever job is chosen: for good, and every try, with the way to its log.
    terminal.sees("2 failed").await;
    terminal.press("5");
    terminal.sees("2 frames").await;
    terminal.sees("run of the broken one").await;
    terminal.sees("2 tries").await;
    terminal.sees("the renderer exited with code 3").await;
    terminal.sees(&format!("framewake logs {broken} ")).await;
    // The other job, and what failed in it.
    terminal.press("1");
    terminal.press("\u{1b}[B");
    terminal.sees("frame 1 of run: the renderer exited with code 3").await;
    terminal.sees(&format!("framewake logs {broken} ")).await;
    terminal.press("\u{1b}[A");
    terminal.sees("waits: ").await;
    terminal.press("c");
    terminal.sees("What runs is stopped.").await;
    terminal.press("n");
    terminal.press("?");
    terminal.sees("raise or lower its priority").await;
    terminal.press(" ");
    assert!(!farm.client.job(long).await.expect("known").state.is_over(), "it was not confirmed");
    terminal.press("c");
    terminal.sees("What runs is stopped.").await;
    terminal.press("y");
    assert_eq!(farm.over(long).await.state, JobState::Canceled);
    terminal.sees("canceled").await;
    terminal.press("q");
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_and_where_it_is_read_is_told_on_small_screens_too() {
    let farm = TestFarm::start(1).await;
    let broken = farm.submit(&named("the broken one", &["/bin/sh", "-c", "echo no camera; exit 3"], "1-2")).await;
    assert_eq!(farm.over(broken).await.state, JobState::Failed);
    for (columns, rows) in [(80, 24), (60, 20)] {
        let mut terminal = top(&farm.url(), columns, rows);
        terminal.sees("0 running, 0 queued  ·  2 failed").await;
        terminal.sees("frame 1 of run: the renderer exited with code 3").await;
        terminal.sees(&format!("framewake logs {broken} ")).await;
        terminal.press("5");
        terminal.sees("2 frames").await;
        terminal.sees("run of the broken one").await;
        terminal.press("\u{1b}[6~");
        terminal.sees(&format!("framewake logs {broken} ")).await;
        terminal.press("q");
        assert_eq!(terminal.end().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_control_or_alt_does_nothing_to_a_job() {
    let farm = TestFarm::start(1).await;
    let first = farm.submit(&named("the first", &["/bin/sleep", "0.2"], "1-500")).await;
    farm.submit(&named("the second", &["/bin/sleep", "0.2"], "1-500")).await;
    let mut terminal = top(&farm.url(), 100, 30);
    terminal.sees("▶ the second").await;
    // Ctrl-R, Alt-p, Alt-r, Alt-c and a y; and the line beneath and above, as in a shell.
    terminal.press("\u{12}\u{1b}p\u{1b}r\u{1b}cy");
    terminal.press("\u{e}");
    terminal.sees("▶ the first").await;
    terminal.press("\u{10}");
    terminal.sees("▶ the second").await;
    terminal.press("j");
    terminal.sees("▶ the first").await;
    // An answer to a key that is one comes after all of those before it.
    terminal.press("-");
    terminal.sees("the first has priority 40 now").await;
    for job in farm.client.jobs(&JobQuery::default()).await.expect("a list").items {
        assert!(!job.state.is_over() && job.state != JobState::Paused, "{job:?}");
        assert_eq!(job.priority == 40, job.id == first);
    }
    terminal.press("\u{3}");
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn among_more_jobs_than_are_listed_one_is_found_by_its_name() {
    let farm = TestFarm::start(1).await;
    let wanted = farm.submit(&named("orbit of the moon", &["/bin/sleep", "0.2"], "1-500")).await;
    for number in 0..205 {
        farm.submit(&named(&format!("shot {number}"), &["/bin/sleep", "0.2"], "1-9")).await;
    }
    let mut terminal = top(&farm.url(), 80, 24);
    terminal.sees("and 6 more that are not over: framewake jobs").await;
    terminal.press("/shot 17");
    terminal.sees("find: shot 17").await;
    terminal.sees("▶ shot 17").await;
    terminal.press("\r");
    terminal.sees("found “shot 17”: ").await;
    terminal.press("\u{1b}");
    terminal.sees("↑↓ job").await;
    // The scheduler is asked for one that is not among them. Letters that are commands elsewhere are letters here.
    terminal.press("/it of the moon");
    terminal.sees("▶ orbit of the moon").await;
    terminal.press("cq");
    terminal.sees("None of the jobs here has “it of the mooncq”").await;
    terminal.press("\u{7f}\u{7f}\r");
    terminal.sees("found “it of the moon”: 1 of ").await;
    terminal.press("-");
    terminal.sees("orbit of the moon has priority 40 now").await;
    assert_eq!(farm.client.job(wanted).await.expect("known").priority, 40);
    terminal.press("q");
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_goes_away_is_said_and_found_again() {
    let mut farm = TestFarm::start(1).await;
    let terminal = top(&farm.url(), 60, 20);
    terminal.sees("No jobs yet.").await;
    assert!(terminal.is_taken());
    farm.kill_scheduler();
    terminal.sees("old figures, trying again").await;
    farm.restart_scheduler().await;
    farm.submit(&named("after the fall", &["/bin/true"], "1")).await;
    terminal.sees("after the fall").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_heard_while_the_scheduler_does_not_answer_an_action_and_one_leaves_at_once() {
    let mut farm = TestFarm::start(1).await;
    let long = farm.submit(&named("the long one", &["/bin/sleep", "0.2"], "1-500")).await;
    let mut terminal = top(&farm.url(), 120, 40);
    terminal.sees("1 running, 0 queued").await;
    terminal.press_unanswered(&mut farm, "p", "pause").await;
    terminal.press("3");
    terminal.sees("No worker has a GPU now.").await;
    // One at a time: this one is not done.
    terminal.press("-");
    terminal.press("4");
    terminal.sees("WHY NOT MORE").await;
    farm.scheduler().signal(Signal::CONT);
    terminal.sees("the long one is paused").await;
    assert_eq!(farm.client.job(long).await.expect("known").priority, 50);
    for leave in ["q", "\u{3}"] {
        // Whether the job goes on by now, the answer to the one before has told.
        terminal.press_unanswered(&mut farm, "p", "").await;
        assert_eq!(terminal.leave_unanswered(leave, "").await, 0);
        farm.scheduler().signal(Signal::CONT);
        terminal = top(&farm.url(), 120, 40);
        terminal.sees("the long one").await;
    }
}

#[tokio::test]
async fn without_a_terminal_or_a_scheduler_it_says_so() {
    let farm = TestFarm::start(1).await;
    let mut command = Command::new(built("framewake"));
    let output = command.arg("top").env("FRAMEWAKE_URL", farm.url()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("this is none") && said.contains("framewake jobs --json"), "{said}");
    let url = farm.url();
    drop(farm);
    let terminal = top(&url, 100, 30);
    terminal.sees("start one with: framewake dev").await;
    assert!(!terminal.is_taken(), "the screen was not taken for nothing");
    assert_eq!(terminal.end().await, 69);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_narrow_and_wide_windows_and_has_no_colors_where_none_are_wanted() {
    let farm = TestFarm::start(1).await;
    farm.submit(&named("漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", &["/bin/sleep", "0.2"], "1-500")).await;
    let mut command = Command::new("script");
    command.env("FRAMEWAKE_URL", farm.url()).env("TERM", "xterm-256color").env("LANG", "C.UTF-8").env("NO_COLOR", "1");
    let line = format!("exec '{}' top", built("framewake").display());
    let mut terminal = Terminal::start(&mut command, &line, 80, 24);
    terminal.sees("━").await;
    assert!(!terminal.is_colored());
    for (columns, rows, words) in [(40, 14, "? keys"), (200, 50, "PROJECT"), (80, 24, "running")] {
        terminal.resize(columns, rows);
        terminal.sees(words).await;
        terminal.sees("漢字").await;
        terminal.sees("/500").await;
    }
    terminal.press("q");
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_pressed_while_the_window_changes_is_heard() {
    let farm = TestFarm::start(1).await;
    let mut terminal = top(&farm.url(), 120, 40);
    terminal.sees("No jobs yet.").await;
    // Often, for the two to meet.
    for columns in (80..120).cycle().take(160) {
        terminal.resize(columns, 40);
        terminal.press("3");
        terminal.sees("No worker has a GPU now.").await;
        terminal.resize(columns + 1, 40);
        terminal.press("4");
        terminal.sees("WHY NOT MORE").await;
    }
}
