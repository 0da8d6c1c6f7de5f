//! Which steps are of one scene: the same function, inputs and parameters, whatever the frames. What was measured of one is
//! true of the next.

use framewake_proto::ids::Name;
use framewake_proto::job::{Job, ParameterValue, Source, Step};
use framewake_proto::objects::Digest;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// What the database can hold.
const PIXELS_MAX: u64 = i64::MAX.unsigned_abs();

/// A digest of what is rendered, and at how many pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SceneKey {
    /// Of everything but the size of the image.
    pub look: [u8; 32],
    /// 0 where the parameters don't say.
    pub pixels: u64,
}

impl SceneKey {
    /// All versions of a function have the same scenes: a new one seldom changes how long frames take.
    pub fn of(job: &Job, at: usize) -> SceneKey {
        SceneKey::find(job, at, &mut vec![None; job.steps.len()])
    }

    /// Each step once: of steps that take from all before them there are ways without number.
    fn find(job: &Job, at: usize, found: &mut Vec<Option<SceneKey>>) -> SceneKey {
        if let Some(key) = found[at] {
            return key;
        }
        let mut digest = Sha256::new();
        let step = &job.steps[at];
        add(&mut digest, step.function.name.as_str());
        let mut inputs: Vec<String> = step
            .inputs
            .iter()
            .map(|input| {
                let source = match &input.source {
                    Source::Digest(digest) => digest.to_string(),
                    Source::Url(url) => url.clone(),
                    // What another step makes is of its scene and its frames.
                    Source::Step(before) => {
                        format!("{} {}", SceneKey::find(job, *before, found), job.steps[*before].frames)
                    }
                };
                format!("{} {source}", input.staged_as)
            })
            .collect();
        inputs.sort_unstable();
        for input in &inputs {
            add(&mut digest, input);
        }
        for (name, value) in step.parameters.iter().filter(|(name, _)| !is_size(step, name)) {
            add(&mut digest, name);
            add(&mut digest, &serde_json::to_string(value).expect("a parameter can be written as JSON"));
        }
        let extension = step.output.as_ref().map(ToString::to_string).unwrap_or_default();
        add(&mut digest, extension.rsplit('.').next().unwrap_or_default());
        let side = |name| match step.parameters.get(name) {
            Some(ParameterValue::Integer(pixels)) => u64::try_from(*pixels).unwrap_or(0),
            _ => 0,
        };
        let key = SceneKey {
            look: digest.finalize().into(),
            pixels: side("width").saturating_mul(side("height")).min(PIXELS_MAX),
        };
        found[at] = Some(key);
        key
    }

    /// What is measured of a function, whatever it renders.
    pub fn of_function(function: &Name) -> SceneKey {
        let mut digest = Sha256::new();
        add(&mut digest, "function");
        add(&mut digest, function.as_str());
        SceneKey { look: digest.finalize().into(), pixels: 0 }
    }
}

/// Whether it says how large the image is; only where both sides are said.
fn is_size(step: &Step, name: &str) -> bool {
    let is_whole = |name| matches!(step.parameters.get(name), Some(ParameterValue::Integer(_)));
    matches!(name, "width" | "height") && is_whole("width") && is_whole("height")
}

/// Each part ends, so that no two lists of parts give the same bytes.
fn add(digest: &mut Sha256, part: &str) {
    digest.update(part.len().to_le_bytes());
    digest.update(part.as_bytes());
}

impl fmt::Display for SceneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Digest(self.look), self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function_table::{Accepted, FunctionTable};
    use framewake_proto::ids::FunctionKey;
    use framewake_proto::job::JobSpec;
    use serde_json::{Value, json};

    fn key(change: impl FnOnce(&mut Value), step: usize) -> SceneKey {
        let mut functions = FunctionTable::default();
        let parameters = json!({
            "scene": { "type": "input" }, "samples": { "type": "integer", "default": 64 },
            "width": { "type": "integer", "default": 320 }, "height": { "type": "integer", "default": 180 },
        });
        for (version, name, parameters) in
            [(1, "paint", &parameters), (2, "paint", &parameters), (1, "join", &json!({}))]
        {
            let spec = json!({ "name": name, "driver": { "kind": "command", "command": ["paint"] }, "parameters": parameters });
            let name = name.parse().expect("a name");
            functions.insert(FunctionKey { name, version }, serde_json::from_value(spec).expect("a function"));
        }
        let mut job = json!({ "name": "orbit", "steps": [
            { "name": "render", "function": "paint", "frames": "1-10", "output": "a/{frame:04}.png",
              "inputs": [{ "digest": "00".repeat(32), "as": "a.pov" }, { "digest": "11".repeat(32), "as": "b.png" }],
              "parameters": { "scene": "a.pov" } },
            { "name": "join", "function": "join", "inputs": [{ "step": "render" }], "output": "a.mp4" },
        ]});
        change(&mut job);
        let spec: JobSpec = serde_json::from_value(job).expect("a job file");
        SceneKey::of(&spec.check(&Accepted(&functions)).expect("a good job"), step)
    }

    #[test]
    fn frames_names_and_versions_make_no_other_scene_and_what_is_rendered_does() {
        let same = key(|_| {}, 0);
        let set =
            |path: &'static str, value: Value| key(move |job| *job.pointer_mut(path).expect("it is there") = value, 0);
        assert_eq!(same.pixels, 320 * 180);
        for (path, value) in [
            ("/name", json!("other")),
            ("/steps/0/frames", json!("5-500x5")),
            ("/steps/0/output", json!("b/{frame:05}.png")),
            ("/steps/0/function", json!("paint@1")),
            (
                "/steps/0/inputs",
                json!([{ "digest": "11".repeat(32), "as": "b.png" }, { "digest": "00".repeat(32), "as": "a.pov" }]),
            ),
            ("/steps/0/parameters", json!({ "scene": "a.pov", "samples": 64 })),
        ] {
            assert_eq!(set(path, value.clone()), same, "{path} {value}");
        }
        for (path, value) in [
            ("/steps/0/output", json!("a/{frame:04}.exr")),
            ("/steps/0/inputs/0/digest", json!("22".repeat(32))),
            ("/steps/0/parameters", json!({ "scene": "a.pov", "samples": 65 })),
        ] {
            assert_ne!(set(path, value.clone()).look, same.look, "{path} {value}");
        }
        let large = set("/steps/0/parameters", json!({ "scene": "a.pov", "width": 640, "height": 360 }));
        assert_eq!((large.look, large.pixels), (same.look, 4 * same.pixels));
        assert_ne!(SceneKey::of_function(&"paint".parse().expect("a name")).look, same.look);
    }

    #[test]
    fn what_a_step_makes_of_another_is_of_its_frames_too() {
        let same = key(|_| {}, 1);
        assert_eq!(key(|job| job["name"] = json!("other"), 1), same);
        assert_ne!(key(|job| job["steps"][0]["frames"] = json!("1-11"), 1), same);
        assert_ne!(key(|job| job["steps"][0]["inputs"][0]["digest"] = json!("22".repeat(32)), 1), same);
    }
}
