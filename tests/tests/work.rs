//! Jobs that work: from submission to verified outputs and back to zero workers.

use framewake_proto::api::{JobState, StepState};
use framewake_proto::client::PartQuery;
use framewake_proto::objects::Digest;
use framewake_proto::verdict::Verdict;
use framewake_tests::audit::{audit_folder, frame_names, upload};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::parts::{root, tool};
use framewake_tests::wait::until;
use serde_json::json;
use std::collections::BTreeSet;

async fn tachyon_scene(farm: &TestFarm) -> Digest {
    let scene = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
    upload(&farm.client, &scene).await
}

#[tokio::test]
async fn a_job_renders_from_zero_workers_and_leaves_none() {
    let farm = TestFarm::start(2).await;
    assert!(farm.worker_pids().is_empty(), "an idle farm has no workers");
    let scene = tachyon_scene(&farm).await;
    let view = farm.succeed(&jobs::tachyon(scene, "1-40")).await;
    assert_eq!((view.tasks.total, view.tasks.done, view.tasks.failed), (40, 40, 0));
    audit_folder(&farm, view.id, &frame_names(1..=40)).await;
    for output in farm.outputs(view.id).await {
        assert_eq!((output.width, output.height), (64, 36), "{output:?}");
        assert!(output.size_bytes > 0 && !output.renderer.is_empty() && !output.attempt.is_empty(), "{output:?}");
    }
    farm.no_workers().await;
}

#[tokio::test]
async fn a_later_step_waits_for_the_earlier_one_and_gets_its_outputs() {
    let farm = TestFarm::start(2).await;
    let scene = tachyon_scene(&farm).await;
    let mut job = jobs::tachyon(scene, "1-12");
    let encode = json!({
        "name": "encode",
        "function": "ffmpeg-encode",
        "inputs": [{ "step": "render" }],
        "output": "video.mp4",
        "verify": { "frames": 12, "width": 64, "height": 36 },
    });
    job["steps"].as_array_mut().expect("steps").push(encode);
    let view = farm.succeed(&job).await;
    assert!(view.steps.iter().all(|step| step.state == StepState::Succeeded), "{view:?}");
    let mut expected = frame_names(1..=12);
    expected.insert("video.mp4".to_owned());
    audit_folder(&farm, view.id, &expected).await;
    let attempts = farm.client.attempts(view.id, &PartQuery::default()).await.expect("listed").items;
    let rendered = attempts
        .iter()
        .filter(|attempt| attempt.step.as_str() == "render")
        .filter_map(|attempt| attempt.ended_at)
        .max();
    let encoding =
        attempts.iter().filter(|attempt| attempt.step.as_str() == "encode").map(|attempt| attempt.started_at).min();
    assert!(encoding >= rendered, "{attempts:?}");
}

#[tokio::test]
async fn a_pattern_of_the_encoder_that_fits_no_frame_is_said_with_what_to_compare() {
    let farm = TestFarm::start(1).await;
    let scene = tachyon_scene(&farm).await;
    let mut job = jobs::tachyon(scene, "1");
    let encode = json!({
        "name": "encode",
        "function": "ffmpeg-encode",
        "inputs": [{ "step": "render" }],
        "parameters": { "frames_glob": "stills/*.png" },
        "output": "video.mp4",
    });
    job["steps"].as_array_mut().expect("steps").push(encode);
    let id = farm.submit(&job).await;
    assert_eq!(farm.over(id).await.state, JobState::Failed);
    let failure = farm.failures(id).await[0].failure.clone().expect("it says why");
    assert_eq!(failure.verdict, Verdict::SceneError, "{failure:?}");
    let said = "/stills/*.png`; hint: compare the pattern in the command, or the step's `frames_glob`, with";
    assert!(failure.message.starts_with("no input matches `") && failure.message.contains(said), "{failure:?}");
}

#[tokio::test]
async fn frames_are_rendered_in_the_order_that_was_asked_for() {
    let farm = TestFarm::start(1).await;
    let mut job = jobs::command(&["/bin/true"], "1-30x10,1-5");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let view = farm.succeed(&job).await;
    let mut attempts = farm.client.attempts(view.id, &PartQuery::default()).await.expect("listed").items;
    attempts.sort_by_key(|attempt| (attempt.started_at, attempt.attempt.len(), attempt.attempt.clone()));
    let frames: Vec<&str> = attempts.iter().map(|attempt| attempt.frames.as_str()).collect();
    assert_eq!(frames, ["1", "11", "21", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn povray_and_mitsuba_render_and_are_verified() {
    let farm = TestFarm::start(2).await;
    for (name, file, width, height) in [("povray", "orbit.pov", 96, 54), ("mitsuba", "orbit.xml", 64, 36)] {
        let scene = std::fs::read(root().join("samples/scenes").join(file)).expect("a sample");
        let scene = upload(&farm.client, &scene).await;
        let job = json!({ "name": name, "steps": [{
            "name": "render",
            "function": name,
            "frames": "1-3",
            "inputs": [{ "digest": scene, "as": file }],
            "parameters": { "scene": file, "width": width, "height": height },
            "output": if name == "povray" { "{frame:04}.png" } else { "{frame:04}.exr" },
            "verify": { "width": width, "height": height },
        }] });
        let view = farm.succeed(&job).await;
        let digests: BTreeSet<Digest> = farm.outputs(view.id).await.iter().map(|output| output.sha256).collect();
        assert_eq!(digests.len(), 3, "the animation of {name} moves");
    }
}

#[tokio::test]
async fn blender_frames_are_the_ones_that_blender_alone_renders() {
    let farm = TestFarm::start(1).await;
    let scene = farm.folder().join("scene.blend");
    let python = tool("python3");
    let run = |program: &str, rest: &[&str]| {
        let output =
            std::process::Command::new(&python).arg("-c").arg(program).args(rest).output().expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let path = scene.display().to_string();
    jobs::make_blender_scene(&scene);
    let direct = farm.folder().join("direct");
    run(DIRECT, &[&path, &direct.display().to_string()]);

    let digest = upload(&farm.client, &std::fs::read(&scene).expect("made above")).await;
    let job = json!({ "name": "cube", "steps": [{
        "name": "render",
        "function": "blender",
        "frames": "1-4",
        "inputs": [{ "digest": digest, "as": "scene.blend" }],
        "parameters": { "scene": "scene.blend" },
        "output": "{frame:04}.png",
    }] });
    let view = farm.succeed(&job).await;
    // Another job on the same scene, at once, finds the renderer loaded.
    let again = farm.succeed(&job).await;
    let step = &again.steps[0];
    assert!(step.load_s.expect("measured") < 1.0, "the session was not reused: {step:?}");
    for output in farm.outputs(view.id).await {
        assert!(output.renderer.to_lowercase().contains("blender"), "{output:?}");
        assert_eq!(output.device, "CPU", "{output:?}");
        let stored = farm.store_folder().join(&output.key);
        let direct = direct.join(format!("{:04}.png", output.frame));
        assert_eq!(pixels(&stored), pixels(&direct), "frame {}", output.frame);
    }
}

/// The bridge runs under the program too, here Debian's, which is years older than the module.
#[tokio::test]
async fn the_blender_program_renders_as_the_module_does() {
    let farm = TestFarm::start(1).await;
    let scene = farm.folder().join("scene.blend");
    let made = std::process::Command::new("blender")
        .args([
            "-b",
            "--factory-startup",
            "-noaudio",
            "--python-exit-code",
            "1",
            "--python-expr",
            SCENE_IN_PROGRAM,
            "--",
        ])
        .arg(&scene)
        .output()
        .expect("blender is installed by `make setup`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let digest = upload(&farm.client, &std::fs::read(&scene).expect("made above")).await;
    let job = json!({ "name": "cube", "steps": [{
        "name": "render",
        "function": "blender-app",
        "frames": "1-2",
        "inputs": [{ "digest": digest, "as": "scene.blend" }],
        "parameters": { "scene": "scene.blend" },
        "output": "{frame:04}.png",
        "verify": { "width": 64, "height": 36 },
    }] });
    let view = farm.succeed(&job).await;
    assert_eq!(farm.outputs(view.id).await.len(), 2);
}

const SCENE_IN_PROGRAM: &str = "
import bpy, sys
scene = bpy.context.scene
scene.render.engine = 'CYCLES'
scene.cycles.samples = 2
scene.cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y = 64, 36
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
";

const DIRECT: &str = "
import bpy, sys
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
scene = bpy.context.scene
scene.render.image_settings.file_format = 'PNG'
for frame in range(1, 5):
    scene.frame_set(frame)
    scene.render.filepath = f'{sys.argv[2]}/{frame:04}.png'
    bpy.ops.render.render(write_still=True)
";

/// Compressed bytes differ with the time of day that Blender writes into a PNG; pixels must not.
fn pixels(file: &std::path::Path) -> Vec<u8> {
    let program = "import sys, hashlib, bpy\nimage = bpy.data.images.load(sys.argv[1])\n\
        print(hashlib.sha256(b''.join(int(p * 65535).to_bytes(2) for p in image.pixels)).hexdigest())";
    let output =
        std::process::Command::new(tool("python3")).args(["-c", program]).arg(file).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn the_same_job_renders_into_an_s3_server() {
    let farm = TestFarm::start_on_s3(2).await;
    let scene = tachyon_scene(&farm).await;
    let view = farm.succeed(&jobs::tachyon(scene, "1-10")).await;
    assert_eq!(view.state, JobState::Succeeded);
    for output in farm.outputs(view.id).await {
        let mut download = farm.client.output(view.id, &output.step, output.task, 0).await.expect("readable");
        let mut bytes = Vec::new();
        while let Some(piece) = download.next().await.expect("it comes whole") {
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(Digest::of(&bytes), output.sha256, "{}", output.name);
    }
}

#[tokio::test]
async fn the_same_blender_job_gives_the_same_objects_in_a_folder_and_in_an_s3_server() {
    let made = tempfile::tempdir().expect("there is room");
    let scene = made.path().join("scene.blend");
    jobs::make_blender_scene(&scene);
    let scene = std::fs::read(&scene).expect("made above");
    let mut digests = Vec::new();
    for farm in [TestFarm::start(1).await, TestFarm::start_on_s3(1).await] {
        let digest = upload(&farm.client, &scene).await;
        let job = json!({ "name": "cube", "steps": [{
            "name": "render",
            "function": "blender",
            "frames": "1-2",
            "inputs": [{ "digest": digest, "as": "scene.blend" }],
            "parameters": { "scene": "scene.blend" },
            "output": "{frame:04}.png",
        }] });
        let view = farm.succeed(&job).await;
        let outputs = farm.outputs(view.id).await;
        digests.push(outputs.iter().map(|output| (output.name.clone(), output.sha256)).collect::<Vec<_>>());
    }
    assert_eq!(digests[0].len(), 2);
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn a_large_output_gets_its_name_in_an_s3_server_once_and_whole() {
    let farm = TestFarm::start_on_s3(1).await;
    // More than one part of a multipart upload.
    let script = "head -c 80000000 /dev/zero > \"$1\"";
    let function = json!({
        "name": "large",
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", script, "sh", "{output}"] },
    });
    farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "large", "steps": [{ "name": "write", "function": "large", "output": "large.bin" }] });
    let view = farm.succeed(&job).await;
    let output = farm.outputs(view.id).await.remove(0);
    assert_eq!(output.size_bytes, 80_000_000);
    let mut download = farm.client.output(view.id, &output.step, 0, 0).await.expect("readable");
    let mut size = 0;
    while let Some(piece) = download.next().await.expect("it comes whole") {
        size += piece.len();
    }
    assert_eq!(size, 80_000_000);
}

#[tokio::test]
async fn idle_workers_take_over_the_tail_of_a_busy_one() {
    let farm = TestFarm::start(3).await;
    let mut job = jobs::command(&["/bin/sh", "-c", "sleep 0.4"], "1-18");
    // One chunk of everything: without sharing one worker would hold it alone.
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 18 });
    let view = farm.succeed(&job).await;
    let attempts = farm.client.attempts(view.id, &PartQuery::default()).await.expect("listed").items;
    let workers: BTreeSet<_> =
        attempts.iter().filter(|attempt| attempt.done > 0).map(|attempt| &attempt.worker).collect();
    assert!(workers.len() >= 2, "one worker did it all: {attempts:?}");
}

#[tokio::test]
async fn a_higher_priority_and_a_heavier_project_come_first() {
    let farm = TestFarm::start(1).await;
    let mut low = jobs::command(&["/bin/sh", "-c", "sleep 0.1"], "1-60");
    low["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 1 });
    let mut high = low.clone();
    high["priority"] = json!(90);
    high["steps"][0]["frames"] = json!("1-5");
    let low = farm.submit(&low).await;
    until(SOON, "the first job runs", || async { farm.client.job(low).await.ok().filter(|job| job.tasks.done >= 3) })
        .await;
    let high = farm.submit(&high).await;
    farm.over(high).await;
    let at_least = farm.client.job(low).await.expect("there").tasks;
    assert!(at_least.done < 30, "the important job waited for the other: {at_least:?}");
    farm.client.act(low, framewake_proto::client::Action::Cancel).await.expect("canceled");
}
