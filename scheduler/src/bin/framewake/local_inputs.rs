//! The local files that a job names as inputs: found and checked all at once, before anything is sent, and
//! replaced by their digests when they are.

use crate::failure::BadInput;
use framewake_proto::api::INPUT_SIZE_MAX;
use framewake_proto::job::Fault;
use framewake_proto::objects::Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The local files of a job, and where it names them.
#[derive(Debug, Default)]
pub(crate) struct LocalInputs {
    uses: Vec<Use>,
    /// Size of each file. A file that is named twice is here once.
    pub(crate) files: BTreeMap<PathBuf, u64>,
}

#[derive(Debug)]
struct Use {
    step: usize,
    input: usize,
    file: PathBuf,
}

impl LocalInputs {
    /// Whether faults are about nothing but these files, which the farm lacks.
    pub(crate) fn are_all_of(&self, faults: &[Fault]) -> bool {
        let own = |fault: &Fault| {
            self.uses.iter().any(|place| fault.field == format!("/steps/{}/inputs/{}/digest", place.step, place.input))
        };
        !faults.is_empty() && faults.iter().all(own)
    }
}

/// Finds the files that `path` inputs name, relative to `folder`, or says everything that is wrong with them.
pub(crate) fn find(body: &Value, folder: &Path) -> Result<LocalInputs, BadInput> {
    let mut found = LocalInputs::default();
    let mut faults = Vec::new();
    for (step, input, given) in local_paths(body) {
        match check(&folder.join(given)) {
            Ok((file, size_bytes)) => {
                found.files.insert(file.clone(), size_bytes);
                found.uses.push(Use { step, input, file });
            }
            Err(reason) => {
                faults.push(Fault::new(format!("/steps/{step}/inputs/{input}/path"), format!("`{given}` {reason}")));
            }
        }
    }
    if faults.is_empty() {
        return Ok(found);
    }
    let message = if faults.len() == 1 { "a local input can't be used" } else { "local inputs can't be used" };
    let hint = format!("paths are relative to the job file's folder: {}", shown(folder));
    Err(BadInput { message: message.to_owned(), faults, hint: Some(hint) })
}

/// Puts digests in the place of paths.
pub(crate) fn replace(body: &mut Value, inputs: &LocalInputs, digests: &BTreeMap<PathBuf, Digest>) {
    for place in &inputs.uses {
        let digest = digests.get(&place.file).expect("every file found was hashed");
        let input = body
            .pointer_mut(&format!("/steps/{}/inputs/{}", place.step, place.input))
            .and_then(Value::as_object_mut)
            .expect("the input was found there");
        let given = input.remove("path");
        input.insert("digest".to_owned(), Value::String(digest.to_string()));
        let name = given.as_ref().and_then(Value::as_str).and_then(|given| Path::new(given).file_name());
        if let Some(name) = name
            && !input.contains_key("as")
        {
            input.insert("as".to_owned(), Value::String(name.to_string_lossy().into_owned()));
        }
    }
}

/// Step, input and text of each `path`. Inputs that also name something else are left for the scheduler to refuse.
fn local_paths(body: &Value) -> impl Iterator<Item = (usize, usize, &str)> {
    let steps = body.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    steps.iter().enumerate().flat_map(move |(step, value)| {
        let inputs = value.get("inputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        inputs.iter().enumerate().filter_map(move |(input, value)| {
            let sole = ["digest", "url", "step"].iter().all(|other| value.get(other).is_none());
            value.get("path").and_then(Value::as_str).filter(|_| sole).map(|path| (step, input, path))
        })
    })
}

fn check(path: &Path) -> Result<(PathBuf, u64), String> {
    // The real path, so that one file under two names is sent once.
    let real = path.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    let metadata = real.metadata().map_err(|error| format!("can't be read: {error}"))?;
    if metadata.is_dir() {
        return Err("is a folder: name each of its files as an input of its own, with `as` to keep the folder's \
            name, or pack them into one file"
            .to_owned());
    }
    if !metadata.is_file() {
        return Err("is not an ordinary file".to_owned());
    }
    if metadata.len() > INPUT_SIZE_MAX {
        return Err(format!("has {} bytes, more than the {INPUT_SIZE_MAX} allowed", metadata.len()));
    }
    // Opening tells what the permissions are worth.
    std::fs::File::open(&real).map_err(|error| format!("can't be read: {error}"))?;
    Ok((real, metadata.len()))
}

fn shown(folder: &Path) -> String {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(inputs: &Value) -> Value {
        json!({"steps": [{"name": "a"}, {"name": "b", "inputs": inputs}]})
    }

    #[test]
    fn paths_become_digests_under_the_files_own_name() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("scenes")).expect("a folder");
        for name in ["scenes/box.pov", "wood.png"] {
            std::fs::write(folder.path().join(name), name).expect("a file");
        }
        let mut body = job(&json!([
            {"path": "scenes/box.pov"},
            {"path": "./scenes/../wood.png", "as": "textures/wood.png"},
            {"path": folder.path().join("wood.png")},
            {"step": "a"},
        ]));
        let inputs = find(&body, folder.path()).expect("all are there");
        assert_eq!(inputs.files.values().copied().collect::<Vec<_>>(), [14, 8], "one file named twice is one file");
        let fault = |at: usize| Fault::new(format!("/steps/1/inputs/{at}/digest"), "is not uploaded");
        assert!(inputs.are_all_of(&[fault(0), fault(2)]));
        assert!(!inputs.are_all_of(&[fault(0), fault(3)]) && !inputs.are_all_of(&[]));
        let digests = inputs.files.keys().map(|file| (file.clone(), Digest::of(b"x"))).collect();
        replace(&mut body, &inputs, &digests);
        let digest = Digest::of(b"x").to_string();
        assert_eq!(
            body,
            job(&json!([
                {"digest": digest, "as": "box.pov"},
                {"digest": digest, "as": "textures/wood.png"},
                {"digest": digest, "as": "wood.png"},
                {"step": "a"},
            ]))
        );
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("textures")).expect("a folder");
        let body = job(&json!([{"path": "scene.blend"}, {"path": "textures"}, {"path": "a", "url": "https://b"}, 7]));
        let error = find(&body, folder.path()).expect_err("two are wrong");
        let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["/steps/1/inputs/0/path", "/steps/1/inputs/1/path"]);
        assert_eq!(error.faults[0].reason, "`scene.blend` is not there");
        assert!(error.faults[1].reason.contains("folder"));
    }

    #[test]
    fn any_shape_of_file_is_taken() {
        for body in [json!(null), json!({"steps": 7}), json!({"steps": [1, {"inputs": {}}, {"inputs": [{"path": 7}]}]})]
        {
            assert!(find(&body, Path::new(".")).expect("nothing to find").files.is_empty());
        }
    }
}
