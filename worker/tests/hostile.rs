//! Renderers that attack: what the kernel's layers refuse them. Each test asks the kernel itself what it has, so that a
//! layer that is lost fails a test, and a kernel without it does not.
#![cfg(target_os = "linux")]

mod common;

use common::{Bench, DEADLINE, bench, shell};
use framewake_proto::function::Driver;
use framewake_proto::verdict::Verdict;
use framewake_worker::renderer::Rendered;
use framewake_worker::renderer::command::{self, Command};
use framewake_worker::renderer::confinement::{Confinement, Demand, Error};
use framewake_worker::renderer::leftovers::become_reaper;
use serde_json::json;

/// `CHOWN`, `DAC_OVERRIDE`, `DAC_READ_SEARCH`, `FOWNER`, `FSETID` (capabilities(7)).
const RIGHTS_OVER_FILES: u64 = 0b1_1111;

/// A renderer that runs `script` with all the confinement there is.
fn confined(script: &str) -> Bench {
    let mut bench = bench(&shell(script), &json!({"output": "{frame}.txt"}));
    bench.setup.confinement =
        Confinement::probe(Demand::Auto, &bench.setup.folders.writable()).expect("its folders are there");
    bench
}

/// The version of Landlock that renderers are held by; 0 for none.
fn landlock(bench: &Bench) -> u32 {
    let held = bench.setup.confinement.held();
    let version = held.split(", ").find_map(|layer| layer.strip_prefix("Landlock "));
    let version = version.map_or(0, |version| version.parse().expect("a number"));
    assert_eq!(version > 0, bench.setup.confinement.missing().split_whitespace().all(|word| word != "Landlock"));
    version
}

/// What the script wrote into its output.
async fn output(bench: &Bench) -> String {
    become_reaper();
    let work = bench.work();
    let Driver::Command { command, writes, .. } = &bench.setup.function.driver else { panic!("a command") };
    let command = Command { words: command, writes: writes.as_deref() };
    let task = bench.task(6, &work);
    let rendering = command::render_frame(&bench.setup, command, &task, &bench.watch);
    match tokio::time::timeout(DEADLINE, rendering).await.expect("ends in time") {
        Rendered::Done(output) => std::fs::read_to_string(output.path.expect("a path")).expect("reads"),
        other => panic!("{other:?}\n{}", bench.log_text()),
    }
}

#[tokio::test]
async fn a_renderer_writes_its_own_folders_and_no_others() {
    let outside = tempfile::tempdir().expect("a folder");
    let kept = outside.path().join("kept");
    std::fs::write(&kept, "kept").expect("writes");
    let bench = confined(&format!(
        "cd {}; echo > new; echo > kept; rm -f kept; ln kept $HOME/kept; mkdir folder; mv kept $TMPDIR/kept;
         echo > $HOME/own && mv $HOME/own $TMPDIR/own && echo > /dev/null && echo own > $1",
        outside.path().display()
    ));
    if landlock(&bench) == 0 {
        return;
    }
    assert_eq!(output(&bench).await, "own\n");
    let names: Vec<_> = std::fs::read_dir(outside.path()).expect("lists").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(std::fs::read_to_string(&kept).expect("reads"), "kept");
}

#[tokio::test]
async fn a_program_that_is_asked_for_a_module_writes_its_own_folders_and_no_others() {
    let mut bench = confined("exit 0");
    let python =
        json!({"kind": "session", "bridge": "blender", "command": ["python3", "{bridge}", "--socket", "{socket}"]});
    bench.setup.function.driver = serde_json::from_value(python).expect("a driver");
    if landlock(&bench) == 0 {
        return;
    }
    let outside = tempfile::tempdir().expect("a folder");
    let words = "import os, pathlib\npathlib.Path(os.environ['HOME'], 'own').write_text('own')\n\
                 pathlib.Path(__file__).with_name('new').write_text('new')\n";
    std::fs::write(outside.path().join("sitecustomize.py"), words).expect("writes");
    bench.setup.function.environment.insert("PYTHONPATH".into(), outside.path().display().to_string());
    let _whatever_it_finds = bench.setup.check().await;
    assert!(bench.setup.folders.home.join("own").exists(), "it was asked");
    assert!(!outside.path().join("new").exists(), "and wrote elsewhere");
}

#[tokio::test]
async fn a_renderer_neither_signals_the_worker_nor_reads_its_memory() {
    // In the worker's place: this process, which would not survive the signal.
    let bench = confined(
        "kill -9 $PPID; echo survived > $1; cat /proc/$PPID/mem >> $1; cat /proc/$PPID/environ >> $1; echo end >> $1",
    );
    if landlock(&bench) < 6 {
        return;
    }
    assert_eq!(output(&bench).await, "survived\nend\n");
}

#[tokio::test]
async fn a_renderer_gains_no_rights_and_gets_no_system_calls_for_attacks() {
    let bench = confined(
        "grep -E '^(CapEff|CapPrm|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status > $1;
         unshare -Ur mount -t tmpfs x /mnt >> $1 2>&1 && echo mounted >> $1; true",
    );
    let text = output(&bench).await;
    assert!(text.contains("NoNewPrivs:\t1\nSeccomp:\t2\n") && !text.contains("mounted"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("Cap")) {
        let (name, bits) = line.split_once(":\t").expect("a name and bits");
        let bits = u64::from_str_radix(bits, 16).expect("a hexadecimal number");
        assert_eq!(bits & !RIGHTS_OVER_FILES, 0, "{name} of {text}");
    }
}

#[tokio::test]
async fn a_renderer_that_starts_processes_without_end_is_ended_with_all_of_them() {
    // Not as fast as a real bomb, which the tests beside it would feel.
    let mark = format!("{}.5", 31_000_000 + std::process::id());
    let bench = confined(&format!("n=0; while test $n -lt 2000; do n=$((n + 1)); sleep {mark} & done; wait"));
    become_reaper();
    let work = bench.work();
    let Driver::Command { command, writes, .. } = &bench.setup.function.driver else { panic!("a command") };
    let command = Command { words: command, writes: writes.as_deref() };
    let task = bench.task(6, &work);
    let rendering = command::render_frame(&bench.setup, command, &task, &bench.watch);
    match tokio::time::timeout(DEADLINE, rendering).await.expect("ends in time") {
        Rendered::Failed(failure) => {
            assert_eq!(failure.verdict, Verdict::SceneError);
            assert!(failure.message.contains("more than the 1000 allowed"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    let is_left = |line: Vec<u8>| String::from_utf8_lossy(&line).contains(&mark);
    let processes = std::fs::read_dir("/proc").expect("lists").flatten();
    let left = processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| is_left(line.clone()));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_worker_that_demands_layers_refuses_a_folder_that_is_not_there() {
    let error = Confinement::probe(Demand::Require, &["/no/such/folder".into()]).expect_err("is not there");
    assert!(matches!(error, Error::Folder { .. }), "{error}");
    let nothing = Confinement::probe(Demand::Off, &[]).expect("nothing to fail");
    assert_eq!((nothing.held(), nothing.missing()), ("none".to_owned(), String::new()));
}
