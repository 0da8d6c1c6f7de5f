//! The local files that a job names as inputs, by themselves or by their folder: found and checked all at once, before
//! anything is sent, and replaced by their digests when they are.

use crate::failure::BadInput;
use framewake_proto::api::INPUT_SIZE_MAX;
use framewake_proto::job::{Fault, INPUTS_MAX};
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

/// Finds the files that `path` inputs name, relative to `folder`, or says everything that is wrong with them. A folder among
/// them becomes its files, each an input of its own.
pub(crate) fn find(body: &mut Value, folder: &Path) -> Result<LocalInputs, BadInput> {
    let mut found = LocalInputs::default();
    let mut faults = open_folders(body, folder);
    for (step, input, given) in local_paths(body) {
        let path = folder.join(given);
        if path.is_dir() {
            continue; // It could not be opened, which is said already.
        }
        match check(&path) {
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

/// The job as if all files that it names were there, for who asks what else is wrong with it.
pub(crate) fn stand_in(body: &Value) -> Value {
    let mut whole = body.clone();
    for (step, input, given) in local_paths(body) {
        let at = format!("/steps/{step}/inputs/{input}");
        let object = whole.pointer_mut(&at).and_then(Value::as_object_mut).expect("the input was found there");
        object.remove("path");
        object.insert("digest".to_owned(), Value::String(Digest::of(b"").to_string()));
        object.entry("as").or_insert_with(|| Value::String(own_name(given)));
    }
    whole
}

/// Whether a fault that the farm finds in the [`stand_in`] comes of the stand-in alone: it is about an input that is known not to be
/// of use, or about a file in a folder that is one.
pub(crate) fn is_of_stand_in(body: &Value, known: &[Fault], fault: &Fault) -> bool {
    let below = |at: &str| fault.field.starts_with(&format!("{at}/"));
    known.iter().filter_map(|known| known.field.strip_suffix("/path")).any(|input| {
        let step = input.rsplitn(3, '/').last().unwrap_or_default();
        let text = |name: &str| body.pointer(&format!("{input}/{name}")).and_then(Value::as_str);
        let place = text("as").map_or_else(|| own_name(text("path").unwrap_or_default()), str::to_owned);
        let named = body.pointer(&fault.field).and_then(Value::as_str);
        let inside = named.is_some_and(|named| named.starts_with(&format!("{}/", place.trim_end_matches('/'))));
        below(input) || (below(&format!("{step}/parameters")) && inside)
    })
}

fn own_name(given: &str) -> String {
    Path::new(given).file_name().unwrap_or_else(|| given.as_ref()).to_string_lossy().into_owned()
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

/// Puts the files of each folder in its place; what is wrong with those that stay.
fn open_folders(body: &mut Value, folder: &Path) -> Vec<Fault> {
    let named = local_paths(body).filter(|(_, _, given)| folder.join(given).is_dir());
    let named: Vec<(usize, usize, String)> =
        named.map(|(step, input, given)| (step, input, given.to_owned())).collect();
    let mut faults = Vec::new();
    for (step, input, given) in named {
        let at = format!("/steps/{step}/inputs");
        let inputs = body.pointer_mut(&at).and_then(Value::as_array_mut).expect("the folder was found there");
        match files_below(&folder.join(&given), INPUTS_MAX).and_then(|files| each(&inputs[input], &given, &files)) {
            // The first takes the folder's place and the others come last, so that faults are told of inputs as the author counts.
            Ok(mut files) => {
                inputs[input] = files.remove(0);
                inputs.append(&mut files);
            }
            Err(reason) => faults.push(Fault::new(format!("{at}/{input}/path"), format!("`{given}` {reason}"))),
        }
    }
    faults
}

/// The input of a folder, once for each of its files, under the folder's name if it says no other.
fn each(input: &Value, given: &str, files: &[String]) -> Result<Vec<Value>, String> {
    let place = match input.get("as") {
        Some(Value::String(place)) => place.trim_end_matches('/').to_owned(),
        Some(_) => return Err("has an `as` that is no text: write it in quotes".to_owned()),
        // `.` has no name: its files lie beside each other as they do there.
        None => Path::new(given).file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let one = |file: &String| {
        let mut one = input.clone();
        one["path"] = Value::from(format!("{}/{file}", given.trim_end_matches('/')));
        one["as"] = Value::from(if place.is_empty() { file.clone() } else { format!("{place}/{file}") });
        one
    };
    Ok(files.iter().map(one).collect())
}

/// The files of a folder and of the folders in it, from there, in the order of their names; without hidden ones, which are
/// of editors and file managers. So many at most.
fn files_below(top: &Path, max: usize) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error: std::io::Error| format!("can't be read: {error}");
        for entry in top.join(&folder).read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(format!("has a file whose name is not UTF-8: {}", entry.path().display()));
            };
            if name.starts_with('.') {
                continue;
            }
            let below = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(below);
            } else if entry.path().is_dir() {
                return Err(format!("has a link to a folder, `{below}`: name that folder as an input of its own"));
            } else {
                files.push(below);
            }
            if files.len() > max {
                return Err(format!("has more than the {max} files that a step may have"));
            }
        }
    }
    if files.is_empty() {
        return Err("is a folder without files".to_owned());
    }
    files.sort_unstable();
    Ok(files)
}

fn check(path: &Path) -> Result<(PathBuf, u64), String> {
    // The real path, so that one file under two names is sent once.
    let real = path.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    let metadata = real.metadata().map_err(|error| format!("can't be read: {error}"))?;
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
        let inputs = find(&mut body, folder.path()).expect("all are there");
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
    fn a_folder_becomes_its_files_and_what_stands_behind_it_stays_where_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["textures/wood.png", "textures/stone/wall.png", "textures/.DS_Store", "scene.blend"] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, name).expect("a file");
        }
        let check = |input: Value, places: &[&str]| {
            let mut body = job(&json!([input, {"path": "scene.blend"}]));
            let inputs = find(&mut body, folder.path()).expect("all are there");
            let digests = inputs.files.keys().map(|file| (file.clone(), Digest::of(b"x"))).collect();
            replace(&mut body, &inputs, &digests);
            let found = body["steps"][1]["inputs"].as_array().expect("a list").clone();
            assert_eq!(found.iter().map(|input| input["as"].as_str().expect("text")).collect::<Vec<_>>(), places);
            assert!(found.iter().all(|input| input.get("path").is_none() && input["digest"].is_string()), "{found:?}");
        };
        check(json!({"path": "textures/"}), &["textures/stone/wall.png", "scene.blend", "textures/wood.png"]);
        check(json!({"path": "textures", "as": "maps/"}), &["maps/stone/wall.png", "scene.blend", "maps/wood.png"]);
        check(json!({"path": "textures/."}), &["textures/stone/wall.png", "scene.blend", "textures/wood.png"]);
        check(json!({"path": "."}), &["scene.blend", "scene.blend", "textures/stone/wall.png", "textures/wood.png"]);
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["empty", "linked", "named"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        std::fs::write(folder.path().join("named/wood.png"), "").expect("a file");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("linked/back")).expect("a link");
        let mut body = job(&json!([
            {"path": "scene.blend"}, {"path": "empty"}, {"path": "linked"}, {"path": "named", "as": 7},
            {"path": "a", "url": "https://b"}, 7,
        ]));
        let error = find(&mut body, folder.path()).expect_err("four are wrong");
        let mut said: Vec<String> =
            error.faults.iter().map(|fault| format!("{} {}", fault.field, fault.reason)).collect();
        said.sort_unstable();
        let expected = [
            "/steps/1/inputs/0/path `scene.blend` is not there",
            "/steps/1/inputs/1/path `empty` is a folder without files",
            "/steps/1/inputs/2/path `linked` has a link to a folder, `back`: name that folder as an input of its own",
            "/steps/1/inputs/3/path `named` has an `as` that is no text: write it in quotes",
        ];
        assert_eq!(said, expected);
        std::fs::write(folder.path().join("named/stone.png"), "").expect("a file");
        assert_eq!(files_below(&folder.path().join("named"), 2).expect("two"), ["stone.png", "wood.png"]);
        let error = files_below(&folder.path().join("named"), 1).expect_err("one too many");
        assert_eq!(error, "has more than the 1 files that a step may have");
    }

    #[test]
    fn any_shape_of_file_is_taken() {
        for body in [json!(null), json!({"steps": 7}), json!({"steps": [1, {"inputs": {}}, {"inputs": [{"path": 7}]}]})]
        {
            let mut body = body;
            assert!(find(&mut body, Path::new(".")).expect("nothing to find").files.is_empty());
        }
    }
}
