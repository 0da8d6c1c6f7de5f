//! Blender kept loaded against Blender started for each frame.

use crate::report;
use framewake_tests::audit::upload;
use framewake_tests::farm::TestFarm;
use framewake_tests::parts::{root, tool};
use serde_json::{Value, json};
use std::time::Instant;

const FRAMES: u32 = 12;

/// One process a frame, as farms that start `blender -b` for each frame do.
const ONCE: &str = "import bpy, sys\n\
    scene, out, frame = sys.argv[1], sys.argv[2], int(sys.argv[3])\n\
    bpy.ops.wm.open_mainfile(filepath=scene)\n\
    s = bpy.context.scene\n\
    s.frame_set(frame)\n\
    s.render.filepath = out\n\
    s.render.image_settings.file_format = 'PNG'\n\
    bpy.ops.render.render(write_still=True)\n";

pub(crate) async fn run() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let once = folder.path().join("once.py");
    std::fs::write(&once, ONCE).expect("writable");
    let python = tool("python3");
    let each = format!(
        "name: blender-each\ndriver: {{ kind: command, command: ['{}', '{}', '{{scene}}', '{{output}}', '{{frame}}'] }}\n\
         rules: blender\nparameters: {{ scene: {{ type: input }} }}\n",
        python.display(),
        once.display()
    );
    let session = std::fs::read_to_string(root().join("samples/functions/blender.yaml")).expect("a sample");
    let (farm, _functions) = crate::farm(1, &[("blender", &session), ("blender-each", &each)]).await;
    let scene = folder.path().join("scene.blend");
    let made = std::process::Command::new(&python)
        .arg(root().join("samples/scenes/make_castle.py"))
        .arg(&scene)
        .output()
        .expect("Python runs");
    assert!(made.status.success(), "the scene can't be made: {}", String::from_utf8_lossy(&made.stderr));
    let digest = upload(&farm.client, &std::fs::read(&scene).expect("made above")).await;
    let kept = render(&farm, "blender", &json!(digest)).await;
    let started = render(&farm, "blender-each", &json!(digest)).await;
    report(
        &format!("Blender session, {FRAMES} frames on one worker"),
        &format!("{:.2} s a frame", kept / f64::from(FRAMES)),
        &format!("one process a frame: {:.2} s ({:.1}x)", started / f64::from(FRAMES), started / kept),
    );
}

async fn render(farm: &TestFarm, function: &str, scene: &Value) -> f64 {
    let job = json!({ "name": function, "steps": [{
        "name": "render",
        "function": function,
        "frames": format!("1-{FRAMES}"),
        "inputs": [{ "digest": scene, "as": "scene.blend" }],
        "parameters": { "scene": "scene.blend" },
        "output": "{frame:04}.png",
        "chunking": { "mode": "fixed", "size": FRAMES },
    }] });
    let begin = Instant::now();
    farm.succeed(&job).await;
    begin.elapsed().as_secs_f64()
}
