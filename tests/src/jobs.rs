//! Jobs that many tests submit.

use crate::parts::tool;
use framewake_proto::objects::Digest;
use serde_json::{Value, json};
use std::path::Path;

/// Frames of the two-millisecond ray tracer. Needs `scene` uploaded (see [`crate::audit::upload`]).
pub fn tachyon(scene: Digest, frames: &str) -> Value {
    json!({
        "name": "spheres",
        "steps": [{
            "name": "render",
            "function": "tachyon",
            "frames": frames,
            "inputs": [{ "digest": scene, "as": "scene.dat" }],
            "parameters": { "scene": "scene.dat", "width": 64, "height": 36 },
            "output": "frames/{frame:04}.png",
        }],
    })
}

/// A program run once a task, without output.
pub fn command(words: &[&str], frames: &str) -> Value {
    json!({
        "name": "command",
        "steps": [{
            "name": "run",
            "function": "command",
            "frames": frames,
            "parameters": { "program": words[0], "words": words[1..] },
        }],
    })
}

/// A program run once a task, with an output.
pub fn command_with_output(words: &[&str], frames: &str, output: &str) -> Value {
    let mut job = command(words, frames);
    job["steps"][0]["output"] = json!(output);
    job
}

/// A turning cube of two samples a pixel, as `file`.
pub fn make_blender_scene(file: &Path) {
    let output = std::process::Command::new(tool("python3")).args(["-c", CUBE]).arg(file).output();
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Frames of that scene. Needs it uploaded (see [`crate::audit::upload`]).
pub fn blender(scene: Digest, frames: &str) -> Value {
    json!({
        "name": "cube",
        "steps": [{
            "name": "render",
            "function": "blender",
            "frames": frames,
            "inputs": [{ "digest": scene, "as": "scene.blend" }],
            "parameters": { "scene": "scene.blend" },
            "output": "frames/{frame:04}.png",
        }],
    })
}

const CUBE: &str = "
import bpy, sys
scene = bpy.context.scene
scene.render.engine = 'CYCLES'
scene.cycles.samples = 2
scene.cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y = 64, 36
cube = bpy.data.objects['Cube']
for frame, turn in ((1, 0.0), (4, 1.5)):
    cube.rotation_euler.z = turn
    cube.keyframe_insert('rotation_euler', frame=frame)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
";
