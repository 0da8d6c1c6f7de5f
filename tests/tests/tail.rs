//! `framewake tail` on a terminal, with a real farm behind it.

use framewake_proto::api::JobState;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::terminal::Terminal;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

fn tail(url: &str, columns: u16, rows: u16, environment: &[(&str, &str)]) -> Terminal {
    Terminal::framewake("tail", url, columns, rows, environment)
}

/// A job of which the third frame says something that a terminal would obey, and fails until a file is there.
fn stumbles(there: &Path, frames: &str, seconds: &str) -> Value {
    let script = format!(
        "sleep {seconds}; [ \"$1\" != 3 ] || [ -e {} ] || {{ printf 'Error: no camera 漢字 \\033[2J\\n'; exit 3; }}",
        there.display()
    );
    let mut job = jobs::command(&["/bin/sh", "-c", &script, "sh", "{frame}"], frames);
    job["name"] = json!("the long one 漢字 \u{202e}");
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_watched_and_its_failing_frame_read_and_acted_on_by_keys() {
    let farm = TestFarm::start(1).await;
    let id = farm.submit(&stumbles(&farm.folder().join("there"), "1-400", "0.1")).await;
    let mut terminal = tail(&farm.url(), 110, 34, &[]);
    terminal.sees("the long one 漢字 \\u{202e}").await;
    assert!(terminal.is_taken() && terminal.is_colored());
    terminal.sees("of 400 done").await;
    // What failed comes to the front, with its log, in which nothing is obeyed.
    terminal.sees("failed tries: 1").await;
    terminal.sees("run 3: the renderer exited with code 3 (retry_same), attempt ").await;
    terminal.sees("Error: no camera 漢字").await;
    terminal.sees("╳").await;
    terminal.sees(" left · ").await;
    terminal.press("1");
    terminal.sees(" % frame").await;
    terminal.press("p");
    terminal.sees("pause: it is paused").await;
    assert_eq!(farm.client.job(id).await.expect("known").state, JobState::Paused);
    terminal.press("p");
    terminal.sees("resume: it is").await;
    terminal.press("+");
    terminal.sees("it has priority 60 now").await;
    assert_eq!(farm.client.job(id).await.expect("known").priority, 60);
    terminal.press("?");
    terminal.sees("cancel it, after a question").await;
    terminal.press(" ");
    terminal.press("c");
    terminal.sees("What runs is stopped.").await;
    terminal.press("n");
    assert!(!farm.client.job(id).await.expect("known").state.is_over(), "it was not confirmed");
    terminal.press("c");
    terminal.sees("What runs is stopped.").await;
    terminal.press("y");
    assert_eq!(farm.over(id).await.state, JobState::Canceled);
    // Who pressed a key goes when they like.
    terminal.sees("It is over.").await;
    terminal.press("q");
    terminal.sees(&format!("job {id} canceled: ")).await;
    assert!(!terminal.is_taken(), "what was said stays");
    assert_eq!(terminal.end().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_long_line_is_read_by_a_key_and_keys_with_control_or_alt_do_nothing() {
    let farm = TestFarm::start(1).await;
    let script = "printf 'begins'; printf ' %0100d' 0; echo ' ends'; sleep 600";
    let id = farm.submit(&jobs::command(&["/bin/sh", "-c", script], "1")).await;
    let mut terminal = tail(&farm.url(), 80, 24, &[]);
    terminal.sees("begins 000").await;
    terminal.sees("…").await;
    assert!(!terminal.text().contains(" ends"), "{terminal:?}");
    // Ctrl-P, Ctrl-R, Alt-p, Alt-c and a y; a plain key after them is answered after them.
    terminal.press("\u{10}\u{12}\u{1b}p\u{1b}cy");
    terminal.press("w");
    terminal.sees(" ends").await;
    terminal.press("-");
    terminal.sees("it has priority 40 now").await;
    assert_eq!(farm.client.job(id).await.expect("known").state, JobState::Running);
    terminal.press("w");
    terminal.sees("…").await;
    terminal.press("\u{3}");
    terminal.sees("the job goes on").await;
    assert_eq!(terminal.end().await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_failed_frames_are_tried_again_from_the_screen_and_then_it_succeeds() {
    let farm = TestFarm::start(1).await;
    let there = farm.folder().join("there");
    let id = farm.submit(&stumbles(&there, "1-12", "0.1")).await;
    let mut terminal = tail(&farm.url(), 80, 24, &[]);
    terminal.sees("of 12 done").await;
    terminal.press("2");
    terminal.sees("It is over.").await;
    terminal.sees("for good").await;
    std::fs::write(&there, "").expect("the test's folder is writable");
    terminal.press("r");
    terminal.sees("retry: it is").await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    terminal.sees("12 of 12 done · 100 %").await;
    terminal.sees("It is over.").await;
    terminal.press("q");
    terminal.sees(&format!("job {id} succeeded")).await;
    assert_eq!(terminal.end().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_job_ended_is_told_though_the_scheduler_does_not_answer_any_more() {
    let mut farm = TestFarm::start(1).await;
    let id = farm.submit(&stumbles(&farm.folder().join("never"), "1-12", "0.1")).await;
    let mut terminal = tail(&farm.url(), 80, 24, &[]);
    terminal.sees("of 12 done").await;
    terminal.press("2");
    terminal.sees("It is over.").await;
    farm.scheduler().signal(Signal::STOP);
    let begin = Instant::now();
    terminal.press("q");
    terminal.sees(&format!("job {id} failed: ")).await;
    terminal.sees("the scheduler does not say now").await;
    assert_eq!(terminal.end().await, 1);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_presses_a_key_it_ends_with_its_job() {
    let farm = TestFarm::start(1).await;
    let id = farm.submit(&stumbles(&farm.folder().join("never"), "1-6", "0.2")).await;
    let terminal = tail(&farm.url(), 80, 24, &[]);
    terminal.sees("of 6 done").await;
    terminal.sees(&format!("render only these again with: framewake retry {id}")).await;
    assert!(!terminal.is_taken());
    assert_eq!(terminal.end().await, 1);
    // A job that is over needs no screen, nor does who wants lines.
    let over = tail(&farm.url(), 80, 24, &[]);
    over.sees("framewake frames").await;
    assert!(!over.is_taken());
    assert_eq!(over.end().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_the_window_whatever_is_done_to_it_and_has_no_colors_where_none_are_wanted() {
    let farm = TestFarm::start(1).await;
    farm.submit(&stumbles(&farm.folder().join("never"), "1-2000", "0.1")).await;
    let mut terminal = tail(&farm.url(), 80, 24, &[("NO_COLOR", "1")]);
    terminal.sees("failed tries: 1").await;
    terminal.sees("Error: no camera").await;
    assert!(!terminal.is_colored());
    for (columns, rows) in [(40, 12), (200, 50), (20, 6), (80, 24)] {
        terminal.resize(columns, rows);
        // On every screen: whose job, how far, and the keys in their line at the bottom.
        let fits = |text: &str| {
            let foot = text.lines().nth(usize::from(rows) - 1).unwrap_or_default();
            ["the long", "of 2000 done"].iter().all(|words| text.contains(words))
                && (foot.starts_with("? keys") || foot.starts_with("↑↓"))
        };
        let begin = std::time::Instant::now();
        while !fits(&terminal.text()) {
            assert!(begin.elapsed() < SOON, "{columns}×{rows}:\n{terminal:?}");
            tokio::task::yield_now().await;
        }
    }
    terminal.press("q");
    terminal.sees("the job goes on").await;
    assert_eq!(terminal.end().await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_heard_while_the_scheduler_does_not_answer_an_action_and_one_leaves_at_once() {
    let mut farm = TestFarm::start(1).await;
    let id = farm.submit(&stumbles(&farm.folder().join("there"), "1-400", "0.1")).await;
    let mut terminal = tail(&farm.url(), 100, 30, &[]);
    terminal.sees("of 400 done").await;
    terminal.press_unanswered(&mut farm, "p", "pause").await;
    terminal.press("?");
    terminal.sees("cancel it, after a question").await;
    terminal.press(" ");
    farm.scheduler().signal(Signal::CONT);
    terminal.sees("pause: it is paused").await;
    assert_eq!(farm.client.job(id).await.expect("known").state, JobState::Paused);
    terminal.press_unanswered(&mut farm, "+", "priority").await;
    assert_eq!(terminal.leave_unanswered("q", "priority").await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_goes_away_is_said_and_the_job_found_again() {
    let mut farm = TestFarm::start(1).await;
    farm.submit(&stumbles(&farm.folder().join("there"), "1-100", "0.2")).await;
    let mut terminal = tail(&farm.url(), 100, 30, &[]);
    terminal.sees("of 100 done").await;
    farm.kill_scheduler();
    terminal.sees("old figures:").await;
    farm.restart_scheduler().await;
    let begin = std::time::Instant::now();
    while terminal.text().contains("old figures:") {
        assert!(begin.elapsed() < SOON, "{terminal:?}");
        tokio::task::yield_now().await;
    }
    terminal.press("q");
    assert_eq!(terminal.end().await, 130);
}
