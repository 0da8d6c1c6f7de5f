//! A job file as its author wrote it: YAML or JSON, with what the command line changes in it. Which fields there
//! are is for the scheduler to say; here only the places that are changed are known.

use crate::failure::BadInput;
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::nearest;
use framewake_proto::job::JOB_SIZE_MAX;
use framewake_proto::yaml;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most characters of an error in a file, which quotes the lines around it.
const MESSAGE_CHARS_MAX: usize = 2000;

#[derive(Debug)]
pub(crate) struct JobFile {
    pub(crate) body: Value,
    /// Local paths in the file are relative to it.
    pub(crate) folder: PathBuf,
}

/// What the command line says in place of the file.
#[derive(Debug, clap::Args)]
pub(crate) struct Changes {
    /// Set a parameter: `--set render.samples=64`
    #[arg(long = "set", value_name = "STEP.PARAMETER=VALUE")]
    settings: Vec<Setting>,
    /// Other frames of a step, instead of the file's: `--frames render=1-10`; `--frames 1-10` where one step has frames
    #[arg(long, value_name = "[STEP=]FRAMES")]
    frames: Vec<Frames>,
    /// Project that it is of, instead of the file's
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
}

impl Changes {
    pub(crate) fn make(&self, body: &mut Value) -> Result<(), BadInput> {
        self.settings.iter().try_for_each(|setting| set(body, setting))?;
        self.frames.iter().try_for_each(|frames| set_frames(body, frames))?;
        if let Some(project) = &self.project {
            body["project"] = Value::from(project.as_str());
        }
        Ok(())
    }
}

/// `step=1-10` from the command line, or `1-10` of the step that has frames.
#[derive(Debug, Clone, PartialEq)]
struct Frames {
    step: Option<String>,
    frames: String,
}

impl std::str::FromStr for Frames {
    type Err = String;

    fn from_str(text: &str) -> Result<Frames, String> {
        let (step, frames) = text.split_once('=').map_or((None, text), |(step, frames)| (Some(step), frames));
        if step == Some("") {
            return Err("no step is named before the `=`: write --frames render=1-10".to_owned());
        }
        // A word with a typing error is said before a scene is hashed.
        frames.parse::<FrameSet>().map_err(|error| error.to_string())?;
        Ok(Frames { step: step.map(str::to_owned), frames: frames.to_owned() })
    }
}

/// `step.parameter=value` from the command line.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    step: String,
    parameter: String,
    value: Value,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let wrong = || format!("`{text}` is not a setting: write step.parameter=value, as in render.samples=64");
        let (place, value) = text.split_once('=').ok_or_else(wrong)?;
        let (step, parameter) = place.split_once('.').ok_or_else(wrong)?;
        if step.is_empty() || parameter.is_empty() {
            return Err(wrong());
        }
        // Read as in a file, so that `64` is a number and `[a, b]` a list; what is no YAML is plain text.
        let value = yaml::read(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        let value = if value.is_null() { Value::String(String::new()) } else { value };
        Ok(Setting { step: step.to_owned(), parameter: parameter.to_owned(), value })
    }
}

/// `key=value` of a label to filter by.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not a label: write key=value, as in shot=010")),
    }
}

/// Reads a job file, or stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<JobFile, BadInput> {
    let text = read_text(path)?;
    let name = shown(path);
    let mut body: Value = parse(&text, &name)?;
    restore_texts(&mut body, &text);
    if !body.is_object() {
        let hint = "it begins with `name:` and has `steps:`";
        return Err(BadInput::new(format!("{name} is not a job: the whole must be a mapping")).hint(hint));
    }
    let folder = if path == Path::new("-") { Path::new(".") } else { path.parent().unwrap_or(Path::new(".")) };
    Ok(JobFile { body, folder: folder.to_owned() })
}

/// Reads text of a bounded size, from stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, BadInput> {
    let name = shown(path);
    let cannot = |error: std::io::Error| BadInput::new(format!("can't read {name}: {error}"));
    let mut bytes = Vec::new();
    let limit = JOB_SIZE_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(cannot)?;
    }
    if bytes.len() > JOB_SIZE_MAX {
        return Err(BadInput::new(format!("{name} is larger than the {JOB_SIZE_MAX} bytes allowed")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        BadInput::new(format!("{name} is not UTF-8 text: byte {at} is wrong")).hint("is it the job file, or a scene?")
    })
}

/// Reads YAML or JSON; errors say where.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, BadInput> {
    // JSON's own parser says better what is wrong with JSON.
    let result = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        yaml::read(text).map_err(|error| error.to_string())
    };
    result.map_err(|error| {
        let error: String = error.trim_start_matches("error: ").chars().take(MESSAGE_CHARS_MAX).collect();
        BadInput::new(format!("{name} can't be read: {error}"))
    })
}

/// Reads a schedule file; its job is a job file's.
pub(crate) fn read_schedule(path: &Path) -> Result<JobFile, BadInput> {
    #[derive(Deserialize)]
    struct Scheduled {
        job: Texts,
    }
    let text = read_text(path)?;
    let name = shown(path);
    let mut body: Value = parse(&text, &name)?;
    if !body.is_object() {
        let hint = "it begins with `name:` and has `cron:` and `job:`";
        return Err(BadInput::new(format!("{name} is not a schedule: the whole must be a mapping")).hint(hint));
    }
    if let (Some(job), Ok(Scheduled { job: texts })) = (body.get_mut("job"), serde_saphyr::from_str(&text)) {
        put_texts(job, texts);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(JobFile { body, folder: folder.to_owned() })
}

/// The places of a job file where a number stands for its text.
#[derive(Deserialize)]
struct Texts {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    steps: Vec<StepTexts>,
}

#[derive(Deserialize)]
struct StepTexts {
    frames: Option<String>,
}

/// Texts that look like numbers (`frames: 7`, `shot: 010`), kept as they were written.
fn restore_texts(body: &mut Value, text: &str) {
    // What does not fit these types is left as it is, for the scheduler to refuse.
    if let Ok(texts) = serde_saphyr::from_str::<Texts>(text) {
        put_texts(body, texts);
    }
}

fn put_texts(body: &mut Value, texts: Texts) {
    if let Some(labels) = body.get_mut("labels").and_then(Value::as_object_mut) {
        for (key, value) in texts.labels {
            if labels.get(&key).is_some_and(is_plain) {
                labels.insert(key, Value::String(value));
            }
        }
    }
    for (step, texts) in steps(body).zip(texts.steps) {
        if let (Some(frames), Some(text)) = (step.get_mut("frames"), texts.frames)
            && is_plain(frames)
        {
            *frames = Value::String(text);
        }
    }
}

fn is_plain(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

/// Gives a step other frames than it has. One without frames is a single task, which no frames could be of. A step that takes
/// them and asks for as many in its video asks for as many as there are now.
fn set_frames(body: &mut Value, frames: &Frames) -> Result<(), BadInput> {
    let count = |text: &str| text.parse::<FrameSet>().ok().map(|set| set.len());
    let step = match &frames.step {
        Some(name) => step(body, name)?,
        None => only_step_with_frames(body, &frames.frames)?,
    };
    let Some(old) = step.get_mut("frames") else {
        let name = name_of(step).unwrap_or_default();
        return Err(BadInput::new(format!("step `{name}` has no frames in the job, so it can't have others")));
    };
    let before = old.as_str().and_then(count);
    *old = Value::from(frames.frames.as_str());
    let (name, now) = (name_of(step), count(&frames.frames));
    for step in steps(body) {
        let inputs = step.get("inputs").and_then(Value::as_array);
        let takes = inputs.is_some_and(|all| all.iter().any(|input| input["step"].as_str() == name.as_deref()));
        if let (true, Some(before), Some(now)) = (takes && name.is_some(), before, now)
            && let Some(wanted) = step.get_mut("verify").and_then(|verify| verify.get_mut("frames"))
            && *wanted == before
        {
            *wanted = Value::from(now);
        }
    }
    Ok(())
}

fn only_step_with_frames<'a>(body: &'a mut Value, frames: &str) -> Result<&'a mut Map<String, Value>, BadInput> {
    let has_frames = |step: &&mut Map<String, Value>| step.contains_key("frames");
    let names: Vec<String> = steps(body).filter(has_frames).map(|step| name_of(step).unwrap_or_default()).collect();
    if names.len() > 1 {
        let refusal = BadInput::new(format!("several steps of the job have frames: {}", names.join(", ")));
        return Err(refusal.hint(format!("say which: --frames {}={frames}", names[0])));
    }
    steps(body).find(has_frames).ok_or_else(|| BadInput::new("no step of the job has frames"))
}

fn name_of(step: &Map<String, Value>) -> Option<String> {
    step.get("name").and_then(Value::as_str).map(str::to_owned)
}

fn step<'a>(body: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>, BadInput> {
    let names: Vec<String> = steps(body).filter_map(|step| name_of(step)).collect();
    steps(body).find(|step| name_of(step).as_deref() == Some(name)).ok_or_else(|| {
        let near = nearest(name, names.iter().map(String::as_str));
        let hint = near
            .map_or_else(|| format!("the steps are: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
        BadInput::new(format!("the job has no step `{name}`")).hint(hint)
    })
}

/// The steps that are mappings, as all of them should be.
fn steps(body: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let steps = body.get_mut("steps").and_then(Value::as_array_mut);
    steps.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Puts a parameter's value into a step.
fn set(body: &mut Value, setting: &Setting) -> Result<(), BadInput> {
    let step = step(body, &setting.step)?;
    let parameters = step.entry("parameters").or_insert_with(|| Value::Object(Map::new()));
    let parameters = parameters
        .as_object_mut()
        .ok_or_else(|| BadInput::new(format!("`parameters` of step `{}` is not a mapping", setting.step)))?;
    parameters.insert(setting.parameter.clone(), setting.value.clone());
    Ok(())
}

pub(crate) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { format!("`{}`", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(text: &str) -> Value {
        let mut body = parse(text, "test").expect(text);
        restore_texts(&mut body, text);
        body
    }

    #[test]
    fn texts_that_look_like_numbers_stay_as_written() {
        let yaml = "name: a\nlabels: {shot: 010, final: yes, take: true}\nsteps:\n\
            - {name: r, frames: 7, parameters: {samples: 16}}\n- {name: e}\n";
        assert_eq!(
            job(yaml),
            json!({
                "name": "a",
                "labels": {"shot": "010", "final": "yes", "take": "true"},
                "steps": [{"name": "r", "frames": "7", "parameters": {"samples": 16}}, {"name": "e"}],
            })
        );
        assert_eq!(job(r#"{"steps": [{"frames": 7}]}"#), json!({"steps": [{"frames": "7"}]}));
    }

    #[test]
    fn errors_say_where() {
        let message = |text| parse::<Value>(text, "`a.yaml`").expect_err(text).message;
        assert!(
            message("name: a\nsteps:\n  - name: [b\n").contains("line 3")
                || message("name: a\nsteps:\n  - name: [b\n").contains("line 4")
        );
        assert!(message("{\n \"name\": nope }").contains("line 2 column"));
        assert!(message("name: a\nname: b\n").contains("line 2"), "{}", message("name: a\nname: b\n"));
    }

    #[test]
    fn settings_are_read_as_in_a_file() {
        for (text, value) in [
            ("render.samples=64", json!(64)),
            ("render.samples=0.5", json!(0.5)),
            ("render.samples=true", json!(true)),
            ("render.samples=[a, b]", json!(["a", "b"])),
            ("render.samples=plain = text", json!("plain = text")),
            ("render.samples=\"64\"", json!("64")),
            ("render.samples=", json!("")),
            ("render.samples=[a", json!("[a")),
        ] {
            let setting: Setting = text.parse().expect(text);
            assert_eq!(
                (setting.step.as_str(), setting.parameter.as_str(), setting.value),
                ("render", "samples", value)
            );
        }
        for text in ["samples=64", "render.samples", ".a=1", "a.=1", ""] {
            text.parse::<Setting>().expect_err(text);
        }
    }

    #[test]
    fn a_setting_goes_into_its_step() {
        let mut body = json!({"steps": [{"name": "render"}, {"name": "encode", "parameters": {"crf": 1}}]});
        set(&mut body, &"encode.crf=20".parse().expect("good")).expect("set");
        set(&mut body, &"render.samples=4".parse().expect("good")).expect("set");
        assert_eq!(
            body,
            json!({"steps": [
                {"name": "render", "parameters": {"samples": 4}},
                {"name": "encode", "parameters": {"crf": 20}},
            ]})
        );
        let error = set(&mut body, &"rendr.samples=4".parse().expect("good")).expect_err("no such step");
        assert_eq!(error.hint.as_deref(), Some("did you mean `render`?"));
    }

    #[test]
    fn frames_go_into_the_step_that_has_them_or_is_named() {
        let one = json!({"steps": [{"name": "render", "frames": "1-240"}, {"name": "encode"}]});
        let two = json!({"steps": [{"name": "left", "frames": "1-9"}, {"name": "right", "frames": "1-9"}]});
        let changed = |body: &Value, text: &str| {
            let mut body = body.clone();
            set_frames(&mut body, &text.parse().expect("frames")).map(|()| body)
        };
        for text in ["1-3", "render=1-3"] {
            let body = changed(&one, text).expect("changed");
            assert_eq!(body, json!({"steps": [{"name": "render", "frames": "1-3"}, {"name": "encode"}]}), "{text}");
        }
        assert_eq!(changed(&two, "right=7").expect("changed")["steps"][1]["frames"], "7");
        // Of a step that takes them; not of one that asks for another number, or takes others.
        let encode = |step: &str, frames: u32| json!({"inputs": [{"step": step}], "verify": {"frames": frames}});
        let video = json!({"steps": [
            {"name": "left", "frames": "1-9"}, {"name": "right", "frames": "1-9"},
            encode("left", 9), encode("left", 18), encode("right", 9),
        ]});
        let wanted = changed(&video, "left=1-3").expect("changed");
        let wanted: Vec<&Value> = (2..5).map(|step| &wanted["steps"][step]["verify"]["frames"]).collect();
        assert_eq!(wanted, [&json!(3), &json!(18), &json!(9)]);
        let refused = |body: &Value, text: &str| {
            let BadInput { message, hint, .. } = changed(body, text).expect_err(text);
            format!("{message}; {}", hint.unwrap_or_default())
        };
        assert!(refused(&two, "1-3").contains("left, right; say which: --frames left=1-3"));
        assert!(refused(&one, "rendr=1-3").contains("no step `rendr`; did you mean `render`?"));
        assert!(refused(&one, "encode=1-3").contains("step `encode` has no frames"));
        assert!(refused(&json!({"steps": [{"name": "a"}]}), "1-3").contains("no step of the job has frames"));
        for text in ["1-", "render=", "=1-3", "render=1-3=5", ""] {
            text.parse::<Frames>().expect_err(text);
        }
    }

    #[test]
    fn labels_are_key_and_value() {
        assert_eq!(label("shot=010=x"), Ok(("shot".to_owned(), "010=x".to_owned())));
        assert!(label("shot").is_err() && label("=x").is_err());
    }
}
