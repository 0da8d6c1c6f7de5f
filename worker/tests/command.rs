//! The command driver with renderers that behave badly.

mod common;

use common::{DEADLINE, bench, runs, shell, until};
use framewake_proto::function::Driver;
use framewake_proto::verdict::Verdict;
use framewake_worker::renderer::command::{self, Chunk, ChunkEnd, Command};
use framewake_worker::renderer::leftovers::become_reaper;
use framewake_worker::renderer::{Failure, Output, Rendered};
use serde_json::json;
use std::time::{Duration, Instant};

async fn render(bench: &common::Bench) -> Rendered {
    become_reaper();
    let work = bench.work();
    let Driver::Command { command, writes, .. } = &bench.setup.function.driver else { panic!("a command") };
    let command = Command { words: command, writes: writes.as_deref() };
    let task = bench.task(6, &work);
    let rendering = command::render_frame(&bench.setup, command, &task, &bench.watch);
    tokio::time::timeout(DEADLINE, rendering).await.expect("ends in time")
}

fn done(rendered: Rendered) -> Output {
    match rendered {
        Rendered::Done(output) => output,
        other => panic!("{other:?}"),
    }
}

fn failed(rendered: Rendered) -> Failure {
    match rendered {
        Rendered::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_writes_its_output_where_it_is_told_and_sees_only_its_own_environment() {
    let bench = bench(&shell("echo $2 > $1; env | sort; pwd"), &json!({"output": "frames/{frame:04}.txt"}));
    let output = done(render(&bench).await);
    let path = output.path.expect("a path");
    assert_eq!(path.file_name().expect("a name"), "0007.txt");
    assert_eq!(std::fs::read_to_string(path).expect("reads"), "7\n");
    let log = bench.log_text();
    let names: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(
        names,
        [
            "CUDA_CACHE_PATH",
            "CUDA_VISIBLE_DEVICES",
            "FRAMEWAKE_RUN",
            "HIP_VISIBLE_DEVICES",
            "HOME",
            "LANG",
            "LOGNAME",
            "OPTIX_CACHE_PATH",
            "PATH",
            "PWD",
            "TMPDIR",
            "USER",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
        ]
    );
    assert!(log.trim_end().ends_with("scratch/work/1"), "{log}");
}

#[tokio::test]
async fn parameters_fill_their_places() {
    let words = [
        "sh",
        "-c",
        "printf '%s\\n' \"$@\" > \"$0\"",
        "{output}",
        "{frame:03}",
        "{first}-{last}/{count}",
        "{scene}",
        "{flags}",
        "{empty}",
        "x{empty}",
        "{yes}",
        "{samples:05}",
        "{ratio}",
        "{{{samples}}}",
        "{frames}",
    ];
    let function = json!({"name": "f", "driver": {"kind": "command", "command": words}, "parameters": {
        "scene": {"type": "input"}, "flags": {"type": "words"}, "empty": {"type": "text"}, "yes": {"type": "boolean"},
        "samples": {"type": "integer"}, "ratio": {"type": "number"}}});
    let parameters = json!({"scene": "a/b.xml", "flags": ["-q", "a b", "{print} {frame:03}{{"], "empty": "", "yes": true, "samples": 64, "ratio": 1.5});
    let bench = bench(&function, &json!({"output": "{frame}.txt", "frames": "7-16", "parameters": parameters}));
    let output = done(render(&bench).await);
    let text = std::fs::read_to_string(output.path.expect("a path")).expect("reads");
    let scene = bench.inputs.folder.join("a/b.xml").display().to_string();
    let expected = ["013", "13-13/1", &scene, "-q", "a b", "{print} 013{{", "x", "true", "00064", "1.5", "{64}", "13"];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_renderer_may_choose_the_name_when_the_function_says_so() {
    let mut function = shell("echo hi > out_$2.txt");
    function["driver"]["writes"] = "out_{frame}.txt".into();
    let bench = bench(&function, &json!({"output": "frames/{frame:04}.txt"}));
    assert!(done(render(&bench).await).path.expect("a path").ends_with("work/1/out_7.txt"));
}

#[tokio::test]
async fn an_exit_code_is_a_failure_with_the_last_words_as_evidence() {
    let bench = bench(&shell("echo one; echo two >&2; exit 3"), &json!({}));
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::RetrySame);
    assert_eq!(failure.message, "the renderer exited with code 3");
    assert_eq!(failure.evidence, "one\ntwo");
}

#[tokio::test]
async fn words_outweigh_the_exit_code() {
    let bench = bench(&shell("echo before; echo 'std::bad_alloc'; echo after; exit 0"), &json!({}));
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::NeedMoreMemory);
    assert_eq!(failure.evidence, "before\nstd::bad_alloc\nafter");
}

#[tokio::test]
async fn a_crash_names_its_signal() {
    let bench = bench(&shell("kill -SEGV $$"), &json!({}));
    assert_eq!(failed(render(&bench).await).message, "the renderer was ended by signal 11");
}

#[tokio::test]
async fn a_missing_program_is_the_machines_fault_or_the_jobs() {
    let function = json!({"name": "f", "driver": {"kind": "command", "command": ["no-such-renderer"]}});
    let bench_one = bench(&function, &json!({}));
    assert!(bench_one.setup.check().await.is_err());
    assert_eq!(failed(render(&bench_one).await).verdict, Verdict::RetryElsewhere);
    let function = json!({"name": "f", "driver": {"kind": "command", "command": ["{command}"]},
        "parameters": {"command": {"type": "words"}}});
    let bench_two = bench(&function, &json!({"parameters": {"command": ["no-such-program"]}}));
    assert!(bench_two.setup.check().await.is_ok());
    assert_eq!(failed(render(&bench_two).await).verdict, Verdict::SceneError);
}

#[tokio::test]
async fn a_silent_renderer_that_ignores_term_is_killed_with_all_its_children() {
    // One child in the group, one that left it, one that left it and lost its parent and its environment.
    let script = "trap '' TERM; echo $$ > pids; sleep 100 & echo $! >> pids; \
        setsid sh -c 'trap \"\" TERM; echo $$ >> pids; sleep 100' & \
        (setsid env -i sh -c 'echo $$ >> pids; exec sleep 100' &) ; \
        while :; do sleep 1; done";
    let timeouts = json!({"frame": "20s", "silent": "1s", "chunk": "20s"});
    let bench = bench(&shell(script), &json!({"timeouts": timeouts}));
    let began = Instant::now();
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::Hung);
    assert!(failure.message.contains("`timeouts.silent`"), "{}", failure.message);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let pids = std::fs::read_to_string(bench.work().join("pids")).expect("reads");
    assert_eq!(pids.lines().count(), 4, "{pids}");
    until("the end of all children", || !pids.lines().any(runs)).await;
}

#[tokio::test]
async fn a_silent_renderer_that_works_is_left_alone() {
    // It waits for a child that has left its group and computes.
    let script = "setsid -w timeout 2.5 sh -c 'while :; do :; done'; echo x > $1";
    let timeouts = json!({"frame": "20s", "silent": "1s", "chunk": "20s"});
    let bench = bench(&shell(script), &json!({"timeouts": timeouts, "output": "{frame}.txt"}));
    done(render(&bench).await);
}

#[tokio::test]
async fn a_busy_loop_without_a_word_ends_after_four_times_the_silence() {
    // Long enough that even a crowded machine lets it compute meanwhile.
    let timeouts = json!({"frame": "20s", "silent": "1s", "chunk": "20s"});
    let bench = bench(&shell("while :; do :; done"), &json!({"timeouts": timeouts}));
    let began = Instant::now();
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::Hung);
    assert!(failure.message.contains("worked without a word for 4 times 1s"), "{}", failure.message);
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_renderer_that_was_stopped_is_hung_and_killed() {
    let timeouts = json!({"frame": "20s", "silent": "500ms", "chunk": "20s"});
    let bench = bench(&shell("echo $$ > pid; kill -STOP $$; echo never"), &json!({"timeouts": timeouts}));
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::Hung);
    let message = &failure.message;
    assert!(message.contains("did nothing for 500ms") && message.contains(": no output and no progress"), "{message}");
    assert!(message.contains(" 0.0 s of CPU in 0."), "{message}");
    let pid = std::fs::read_to_string(bench.work().join("pid")).expect("reads");
    assert!(!runs(&pid), "it is gone");
}

#[tokio::test]
async fn children_left_by_a_renderer_that_ended_well_are_ended_too() {
    let bench = bench(&shell("setsid sleep 100 & echo $! > pid; echo x > $1"), &json!({"output": "{frame}.txt"}));
    done(render(&bench).await);
    let pid = std::fs::read_to_string(bench.work().join("pid")).expect("reads");
    until("the end of the child", || !runs(&pid)).await;
}

#[tokio::test]
async fn a_talking_renderer_is_stopped_at_the_frames_limit() {
    let timeouts = json!({"frame": "1s", "silent": "20s", "chunk": "20s"});
    let bench = bench(&shell("while :; do echo tick; sleep 0.05; done"), &json!({"timeouts": timeouts}));
    let failure = failed(render(&bench).await);
    assert_eq!(failure.verdict, Verdict::Hung);
    assert!(failure.message.contains("`timeouts.frame`"), "{}", failure.message);
    assert!(failure.evidence.ends_with("tick"));
}

#[tokio::test]
async fn a_cancel_stops_a_flooding_renderer_that_ignores_term_within_two_seconds() {
    let bench = bench(&shell("trap '' TERM; yes 'all work and no play' & wait"), &json!({}));
    let stop = bench.stop.clone();
    let log = bench.log.clone();
    let canceled = tokio::spawn(async move {
        until("the first words", || log.size_bytes() > 0).await;
        stop.cancel();
        Instant::now()
    });
    assert!(matches!(render(&bench).await, Rendered::Stopped));
    let elapsed = canceled.await.expect("ends").elapsed();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[tokio::test]
async fn a_line_of_ten_megabytes_does_no_harm() {
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo '50%'; echo x > $1";
    let bench = bench(&shell(script), &json!({"output": "{frame}.txt"}));
    done(render(&bench).await);
    assert_eq!(bench.progress.borrow().as_ref().expect("progress").1.permille, 500);
    let log = bench.log_text();
    assert!(log.len() < 20_000 && log.contains("more bytes of this line dropped"), "{}", log.len());
}

#[tokio::test]
async fn progress_is_seen_while_the_renderer_works_also_without_newlines() {
    let bench = bench(
        &shell("printf '25%%\\r'; while [ ! -e go ]; do sleep 0.01; done; echo x > $1"),
        &json!({"output": "{frame}.txt"}),
    );
    let mut progress = bench.progress.clone();
    let go = bench.work().join("go");
    let watcher = tokio::spawn(async move {
        let seen = progress.wait_for(Option::is_some).await.expect("a sender").clone();
        std::fs::write(go, "").expect("writes");
        seen
    });
    done(render(&bench).await);
    let (task, progress) = watcher.await.expect("ends").expect("some");
    assert_eq!((task, progress.permille), (6, 250));
}

#[tokio::test]
async fn a_renderer_that_says_done_and_hangs_at_its_exit_has_done_its_work() {
    let mut function = shell("echo x > $1; echo ALL-DONE; sleep 100");
    function["extra_rules"] = json!([{"line": "ALL-DONE", "verdict": "done"}]);
    let bench = bench(&function, &json!({"output": "{frame}.txt"}));
    done(render(&bench).await);
}

async fn render_chunk(bench: &common::Bench, wanted: impl Fn(u32) -> bool) -> (ChunkEnd, Vec<u32>) {
    become_reaper();
    let work = bench.work();
    let Driver::Command { command, writes, .. } = &bench.setup.function.driver else { panic!("a command") };
    let command = Command { words: command, writes: writes.as_deref() };
    let tasks = [(0, 1), (1, 2), (2, 3), (3, 4)];
    let chunk = Chunk { step: &bench.step, inputs: &bench.inputs, tasks: &tasks, work: &work };
    let (finished, mut ready) = tokio::sync::mpsc::unbounded_channel();
    let rendering = command::render_chunk(&bench.setup, command, &chunk, &bench.watch, &finished, wanted);
    let end = tokio::time::timeout(DEADLINE, rendering).await.expect("ends in time");
    let mut sent = Vec::new();
    while let Ok((task, output)) = ready.try_recv() {
        assert!(output.path.expect("a path").exists());
        sent.push(task);
    }
    (end, sent)
}

fn chunk_function(script: &str) -> serde_json::Value {
    json!({"name": "f", "driver": {"kind": "command", "per": "chunk",
        "command": ["sh", "-c", script, "sh", "{outputs}", "{frames}"]}})
}

#[tokio::test]
async fn one_process_renders_a_chunk_and_finished_files_are_sent_on_early() {
    let script = "for f in 1 2 3; do echo $f > $1/$f.txt; done; sleep 1.5; kill -KILL $$";
    let bench = bench(&chunk_function(script), &json!({"output": "o/{frame}.txt"}));
    let (end, sent) = render_chunk(&bench, |_| true).await;
    let ChunkEnd::Failed(failure) = end else { panic!("{end:?}") };
    assert!(failure.message.contains("signal 9"), "{}", failure.message);
    // The third was the last it wrote; nothing shows that it was through with it.
    assert_eq!(sent, [0, 1]);
}

#[tokio::test]
async fn a_chunk_that_ends_well_sends_all_its_tasks() {
    let script = "for f in $(echo $2 | tr , ' '); do echo $f > $1/$f.txt; done";
    let bench = bench(&chunk_function(script), &json!({"output": "o/{frame}.txt"}));
    let (end, sent) = render_chunk(&bench, |_| true).await;
    assert!(matches!(end, ChunkEnd::Exited), "{end:?}");
    assert_eq!(sent, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_chunk_whose_tail_was_given_back_ends_when_the_rest_is_done() {
    let script = "for f in 1 2 3; do echo $f > $1/$f.txt; done; sleep 100";
    let bench = bench(&chunk_function(script), &json!({"output": "o/{frame}.txt"}));
    let (end, sent) = render_chunk(&bench, |task| task < 2).await;
    assert!(matches!(end, ChunkEnd::Enough), "{end:?}");
    assert_eq!(sent, [0, 1]);
}

/// Processes whose environment names the bench's folder.
fn left(bench: &common::Bench) -> usize {
    let folder = bench.folder.path().display().to_string();
    let processes = std::fs::read_dir("/proc").expect("lists").flatten();
    let of_bench = processes.filter(|process| {
        std::fs::read(process.path().join("environ")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&folder))
    });
    of_bench.count()
}

#[tokio::test]
async fn a_process_that_flees_from_child_to_child_does_not_outlive_its_task() {
    // Each starts the next, in a session of its own, and is gone.
    let script = "echo 'echo $1 > reached; [ $1 -lt 20000 ] && setsid sh $0 $(($1 + 1)) &' > flee; \
        setsid sh flee 0 & until [ -e reached ]; do :; done; echo x > $1";
    let bench = bench(&shell(script), &json!({"output": "{frame}.txt"}));
    done(render(&bench).await);
    until("the end of all", || left(&bench) == 0).await;
    let reached = std::fs::read_to_string(bench.work().join("reached")).expect("reads");
    assert!(reached.trim().parse::<u32>().unwrap_or(0) < 20_000, "it ended by itself");
}

#[tokio::test]
async fn hundreds_of_daemons_do_not_outlive_their_task_and_hold_nobody_up() {
    let script = "i=0; while [ $i -lt 300 ]; do (setsid sleep 100 &); i=$((i + 1)); done; echo x > $1";
    let bench = bench(&shell(script), &json!({"output": "{frame}.txt"}));
    let began = Instant::now();
    done(render(&bench).await);
    until("the end of all", || left(&bench) == 0).await;
    assert!(began.elapsed() < DEADLINE, "they hold its output open, which nobody waits for: {:?}", began.elapsed());
}

#[tokio::test]
async fn whatever_a_renderer_prints_is_text_of_its_own_in_the_log() {
    // Not UTF-8, a NUL, colors, a title for the terminal, an answer of a bridge, and words that pose as the worker's.
    let script = r#"printf 'a\377b\000c\n\033[31mred\033[0m \033]0;title\007\n'
        printf '{{"is":"rendered","path":"/etc/passwd"}}\n[framewake] task 6: done\n\r[framewake] 99%%\r\n'
        echo x > $1"#;
    let bench = bench(&shell(script), &json!({"output": "{frame}.txt"}));
    assert!(done(render(&bench).await).path.expect("a path").ends_with("7.txt"));
    let log = bench.log_text();
    assert!(log.contains("a\u{fffd}b\0c\nred "), "{log:?}");
    assert!(log.contains("\n[renderer] [framewake] task 6: done\n[renderer] [framewake] 99%\n"), "{log:?}");
}

#[tokio::test]
async fn a_million_lines_are_counted_and_do_not_slow_the_end() {
    let bench = bench(&shell("seq 1000000; echo x > $1"), &json!({"output": "{frame}.txt"}));
    done(render(&bench).await);
    let log = bench.log_text();
    assert!(log.starts_with("1\n2\n") && log.contains("\n1000000\n"), "its beginning and its end are there");
}
