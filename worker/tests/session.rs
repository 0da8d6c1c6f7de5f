//! The session driver and the Blender bridge, with a stand-in for Blender's module.

mod common;

use common::{Bench, DEADLINE, bench, runs, until};
use framewake_proto::function::Driver;
use framewake_proto::verdict::Verdict;
use framewake_worker::renderer::leftovers::become_reaper;
use framewake_worker::renderer::session::Session;
use framewake_worker::renderer::{Failure, Output, Rendered};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn blender(scene: &Value, timeouts: &Value) -> Bench {
    let bpy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_bpy");
    let mut bench = bench(
        &json!({
            "name": "blender", "rules": "blender",
            "driver": {"kind": "session", "bridge": "blender", "command": ["python3", "{bridge}", "--socket", "{socket}"]},
            "parameters": {"scene": {"type": "input"}, "denoise": {"type": "boolean"}},
            "environment": {"PYTHONPATH": bpy, "PYTHONDONTWRITEBYTECODE": "1"},
        }),
        &json!({
            "parameters": {"scene": "scene.blend", "denoise": true}, "output": "{frame:04}.png", "timeouts": timeouts,
        }),
    );
    bench.input("scene.blend", &scene.to_string());
    let picture = bench.folder.path().join("picture.png");
    RgbImage::from_pixel(8, 8, Rgb([9, 9, 9])).save(&picture).expect("writes");
    bench.setup.function.environment.insert("FAKE_IMAGE".into(), picture.display().to_string());
    bench
}

fn patient() -> Value {
    json!({"frame": "20s", "silent": "20s", "chunk": "20s"})
}

async fn render(bench: &Bench, session: &mut Session, task: u32) -> Rendered {
    become_reaper();
    let work = bench.work();
    let task = bench.task(task, &work);
    let Driver::Session { bridge, command } = &bench.setup.function.driver else { panic!("a session") };
    let rendering = session.render(&bench.setup, *bridge, command, &task, &bench.watch);
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

/// Process ids that the stand-in said while it rendered.
fn pids(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.starts_with("RENDERING")).filter_map(|line| line.rsplit(' ').next()).collect()
}

#[tokio::test]
async fn a_scene_is_opened_once_and_rendered_frame_after_frame_in_one_process() {
    let bench = blender(&json!({}), &patient());
    let mut session = Session::default();
    for task in 0..3 {
        let output = done(render(&bench, &mut session, task).await);
        assert_eq!(output.renderer, "Blender 4.5.0 stand-in");
        assert_eq!(output.device, "CPU: llvmpipe (stand-in)");
        assert!(output.memory_peak_bytes > 0);
        assert!(output.path.expect("a path").exists());
    }
    let progress = bench.progress.borrow().clone().expect("progress");
    assert_eq!(progress.1.permille, 125);
    session.close().await;
    let log = bench.log_text();
    assert_eq!(log.matches("OPENED").count(), 1, "{log}");
    let pids = pids(&log);
    assert!(pids.len() == 3 && pids.iter().all(|pid| *pid == pids[0]), "{log}");
    assert!(!runs(pids[0]));
}

#[tokio::test]
async fn a_changed_parameter_opens_the_scene_again_in_the_same_process() {
    let mut bench = blender(&json!({}), &patient());
    let mut session = Session::default();
    done(render(&bench, &mut session, 0).await);
    bench.step.order.parameters.insert("denoise".into(), framewake_proto::job::ParameterValue::Boolean(false));
    done(render(&bench, &mut session, 1).await);
    session.close().await;
    let log = bench.log_text();
    assert_eq!(log.matches("OPENED").count(), 2, "{log}");
    assert_eq!(pids(&log)[0], pids(&log)[1]);
}

#[tokio::test]
async fn what_is_wrong_with_a_scene_is_told_and_the_session_lives_on() {
    let bench = blender(&json!({"camera": false}), &patient());
    let mut session = Session::default();
    let failure = failed(render(&bench, &mut session, 0).await);
    assert_eq!(failure.verdict, Verdict::SceneError);
    assert!(failure.message.starts_with("the scene has no camera"), "{}", failure.message);
    bench.input("scene.blend", "BLENDER cut off");
    let failure = failed(render(&bench, &mut session, 0).await);
    assert_eq!(failure.verdict, Verdict::SceneError);
    let why =
        "Blender cannot read the scene `scene.blend`: Error: Missing DNA block; hint: a newer Blender than 4.5.0 ";
    assert!(failure.message.starts_with(why), "{}", failure.message);
    bench.input("scene.blend", "{}");
    done(render(&bench, &mut session, 0).await);
    assert_eq!(bench.log_text().matches("is loaded").count(), 1);
}

#[tokio::test]
async fn files_of_a_scene_that_are_not_there_are_named_with_what_helps() {
    let missing = async |image: &str| {
        let bench = blender(&json!({ "images": [image] }), &patient());
        let failure = failed(render(&bench, &mut Session::default(), 0).await);
        assert_eq!(failure.verdict, Verdict::SceneError);
        failure.message
    };
    let beside = missing("//textures/wood.png").await;
    let words = "image `textures/wood.png`; hint: pack them into the .blend file or add them to the inputs of the step";
    assert!(beside.ends_with(words), "{beside}");
    // As an input alone it would lie elsewhere.
    let elsewhere = missing("/studio/wood.png").await;
    assert!(elsewhere.contains("image `/studio/wood.png`; hint: `/studio/wood.png` is a place of"), "{elsewhere}");
    assert!(elsewhere.contains("File > External Data > Make Paths Relative"), "{elsewhere}");
}

#[tokio::test]
async fn a_failed_frame_leaves_the_session_for_the_next() {
    let bench = blender(&json!({"fail": 1}), &patient());
    let mut session = Session::default();
    let failure = failed(render(&bench, &mut session, 0).await);
    assert_eq!(failure.verdict, Verdict::RetrySame);
    assert_eq!(failure.message, "Blender did not render frame 1: Error: something is wrong");
    done(render(&bench, &mut session, 1).await);
}

#[tokio::test]
async fn words_of_the_renderer_outweigh_its_success() {
    let bench = blender(&json!({"say": "System is out of GPU memory"}), &patient());
    let failure = failed(render(&bench, &mut Session::default(), 0).await);
    assert_eq!(failure.verdict, Verdict::NeedMoreVram);
    assert!(failure.evidence.contains("out of GPU memory"));
}

#[tokio::test]
async fn a_renderer_that_dies_fails_its_frame_and_is_started_again() {
    let bench = blender(&json!({"die": 2}), &patient());
    let mut session = Session::default();
    done(render(&bench, &mut session, 0).await);
    assert_eq!(failed(render(&bench, &mut session, 1).await).message, "the renderer was ended by signal 11");
    done(render(&bench, &mut session, 2).await);
    let log = bench.log_text();
    assert_ne!(pids(&log)[0], pids(&log)[2]);
}

#[tokio::test]
async fn a_hung_renderer_is_killed_with_its_children_and_started_again() {
    let timeouts = json!({"frame": "20s", "silent": "1s", "chunk": "20s"});
    let bench = blender(&json!({"hang": 2, "child": true}), &timeouts);
    let mut session = Session::default();
    done(render(&bench, &mut session, 0).await);
    assert_eq!(failed(render(&bench, &mut session, 1).await).verdict, Verdict::Hung);
    done(render(&bench, &mut session, 2).await);
    session.close().await;
    let log = bench.log_text();
    until("the end of all", || !pids(&log).iter().any(|pid| runs(pid))).await;
    let children = std::fs::read_dir("/proc").expect("reads").flatten().filter(|process| {
        std::fs::read(process.path().join("environ"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&bench.folder.path().display().to_string()))
    });
    assert_eq!(children.count(), 0);
}

#[tokio::test]
async fn a_cancel_ends_a_hung_session_within_two_seconds() {
    let bench = blender(&json!({"hang": 1}), &patient());
    let (halt, mut progress) = (bench.stop.clone(), bench.progress.clone());
    let canceled = tokio::spawn(async move {
        progress.wait_for(Option::is_some).await.expect("a sender");
        halt.cancel();
        Instant::now()
    });
    assert!(matches!(render(&bench, &mut Session::default(), 0).await, Rendered::Stopped));
    let elapsed = canceled.await.expect("ends").elapsed();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[tokio::test]
async fn a_machine_without_blender_says_so() {
    let mut bench = blender(&json!({}), &patient());
    let python = json!({"kind": "session", "bridge": "blender",
        "command": ["python3", "-I", "-S", "{bridge}", "--socket", "{socket}"]});
    assert!(bench.setup.check().await.is_ok(), "the stand-in is there");
    bench.setup.function.driver = serde_json::from_value(python).expect("a driver");
    let refused = bench.setup.check().await.expect_err("before any frame").to_string();
    assert!(refused.starts_with("`bpy` is not installed for `/") && refused.contains("export PATH="), "{refused}");
    let failure = failed(render(&bench, &mut Session::default(), 0).await);
    assert_eq!(failure.verdict, Verdict::RetryElsewhere);
    assert!(
        failure.message.contains("not installed") && failure.message.contains("export PATH="),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_python_that_never_answers_is_ended_and_keeps_no_worker_from_its_work() {
    let mut bench = blender(&json!({}), &patient());
    let hangs = bench.folder.path().join("hangs");
    std::fs::create_dir(&hangs).expect("writes");
    let words = "import os, pathlib, signal\npathlib.Path(__file__).with_name('pid').write_text(str(os.getpid()))\nsignal.pause()\n";
    std::fs::write(hangs.join("sitecustomize.py"), words).expect("writes");
    bench.setup.function.environment.insert("PYTHONPATH".into(), hangs.display().to_string());
    let checked = tokio::time::timeout(DEADLINE, bench.setup.check()).await.expect("an answer in time");
    assert!(checked.is_ok(), "what is wrong with it, its first frame says: {checked:?}");
    let pid = std::fs::read_to_string(hangs.join("pid")).expect("it hung");
    assert!(!runs(&pid), "it is still there");
}

/// A session whose bridge is `words` of Python, after it has said hello: `ask` is what it is asked.
fn hostile(words: &str) -> Bench {
    let script = format!(
        "import json, os, socket, sys\n\
         link = socket.socket(socket.AF_UNIX)\n\
         link.connect(sys.argv[2])\n\
         def say(*told):\n    link.sendall(''.join(json.dumps(words) + '\\n' for words in told).encode())\n\
         say({{'is': 'hello', 'renderer': 'x'}})\n\
         print('RENDERING', os.getpid(), flush=True)\n\
         for line in link.makefile():\n    ask = json.loads(line)\n    {}\n",
        words.replace('\n', "\n    ")
    );
    // Its braces are no placeholders.
    let script = script.replace('{', "{{").replace('}', "}}");
    let command = ["python3", "-c", &script, "{bridge}", "{socket}"];
    let function = json!({"name": "f", "driver": {"kind": "session", "bridge": "blender", "command": command}});
    bench(&function, &json!({"output": "{frame}.txt", "timeouts": patient()}))
}

#[tokio::test]
async fn a_bridge_that_answers_twice_never_gives_one_frame_for_another() {
    let bench = hostile(
        "if ask['do'] == 'open': say({'is': 'opened'})\n\
         else:\n    open(ask['output'], 'w').write(str(ask['frame']))\n    done = {'is': 'rendered', 'path': ask['output']}\n    say(done, done)",
    );
    let mut session = Session::default();
    for task in 0..3 {
        let path = done(render(&bench, &mut session, task).await).path.expect("a path");
        assert_eq!(std::fs::read_to_string(&path).expect("it was rendered"), (task + 1).to_string());
        std::fs::remove_file(path).expect("removes");
    }
    session.close().await;
    let log = bench.log_text();
    assert_eq!(log.matches("started again: its bridge said `rendered` without being asked").count(), 2, "{log}");
}

#[tokio::test]
async fn bridges_that_talk_nonsense_or_out_of_turn_fail_their_try_and_are_ended() {
    let cases = [
        ("say({'is': 'rendered', 'path': '/etc/passwd'})", "it answered `open` with `rendered`"),
        ("say({'is': 'hello', 'renderer': 'y'})", "it answered `open` with `hello`"),
        ("say({'is': 'opened'}, {'is': 'opened'})", "it answered `render` with `opened`"),
        (
            "say({'is': 'opened'}, {'is': 'rendered', 'path': '/etc/passwd'})",
            "it wrote `/etc/passwd`, which is not where it should",
        ),
        ("link.sendall(b'[' * 10000 + b'\\n')", "it said nonsense"),
        ("link.sendall(b'{\"is\": ' * 10000 + b'\\n')", "it said nonsense"),
        ("say({'is': 'progress', 'permille': -1})", "it said nonsense"),
        ("say({'is': 'opened', 'note': 'x' * 2_000_000})", "longer than 1 MiB"),
        ("say({'is': 'failed', 'message': 'x' * 500_000})", "xxx"),
        ("link.close(); os._exit(0)", "exited with code 0"),
    ];
    for (words, expected) in cases {
        let bench = hostile(words);
        let mut session = Session::default();
        let failure = failed(render(&bench, &mut session, 0).await);
        assert_eq!(failure.verdict, Verdict::RetrySame, "{words}: {}", failure.message);
        assert!(failure.message.contains(expected), "{words}: {}", failure.message);
        assert!(failure.message.len() < 5000 && failure.evidence.len() < 50_000, "{words}");
        session.close().await;
        assert!(!runs(pids(&bench.log_text())[0]), "{words}");
    }
}
