//! Jobs that many tests submit.

use framewake_proto::objects::Digest;
use serde_json::{Value, json};

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
