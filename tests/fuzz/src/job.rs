//! Job files: refused with every reason, or a job that workers can be told about.

use crate::template::check_name;
use framewake_core::values::NewJob;
use framewake_proto::frames::FrameSet;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionRef, JobId, Name};
use framewake_proto::job::{FAULTS_MAX, Fault, Job, JobSpec, Known, STEPS_MAX};
use framewake_proto::order::{OrderSource, StepOrder};
use framewake_proto::template::OutputTemplate;
use framewake_proto::yaml;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Frames of each step whose names are looked at.
const NAMES_MAX: usize = 100;

/// A job in YAML or JSON.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(value) = value(text) else { return };
    let Ok(spec) = JobSpec::deserialize(&value) else { return };
    let text = serde_json::to_string(&spec).expect("a job can be written as JSON");
    let again: JobSpec = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again, spec);
    match spec.check(&Samples) {
        Ok(job) => check_job(&spec, &job),
        Err(faults) => check_faults(&faults),
    }
}

/// JSON or YAML as the scheduler reads it.
pub(crate) fn value(text: &str) -> Option<Value> {
    if text.trim_start().starts_with('{') { serde_json::from_str(text).ok() } else { yaml::read(text).ok() }
}

fn check_faults(faults: &[Fault]) {
    assert!((1..=FAULTS_MAX + 1).contains(&faults.len()), "{} faults", faults.len());
    for fault in faults {
        assert!(super::function::points_somewhere(&fault.field) && !fault.reason.is_empty(), "{fault:?}");
    }
}

fn check_job(spec: &JobSpec, job: &Job) {
    assert!(job.steps.len() == spec.steps.len() && (1..=STEPS_MAX).contains(&job.steps.len()));
    let rules = NewJob::from(job);
    let mut names = HashMap::new();
    for (at, step) in job.steps.iter().enumerate() {
        assert!(rules.steps[at].tasks == step.frames.len() && !step.after.contains(&at));
        let order = StepOrder::new(JobId(1u128.into()), job, at);
        let text = serde_json::to_string(&order).expect("an order can be written as JSON");
        let told: StepOrder = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(told, order);
        let frames: FrameSet = told.frames.parse().expect("a worker understands the frames");
        assert_eq!(frames, step.frames);
        for input in &told.inputs {
            if !input.staged_as.is_empty() {
                framewake_proto::job::check_relative(&input.staged_as).expect("an input stays in its folder");
            }
            if let OrderSource::Outputs { frames, template } = &input.source {
                let frames: FrameSet = frames.parse().expect("a worker understands the frames");
                OutputTemplate::parse(template, frames.len()).expect("a worker understands the template");
            }
        }
        let Some(output) = &told.output else { continue };
        let template = OutputTemplate::parse(output, frames.len()).expect("a worker understands the template");
        for frame in frames.iter().take(NAMES_MAX) {
            let name = template.name(frame);
            check_name(&name, output);
            let other = names.insert(name, (at, frame));
            assert_eq!(other, None, "two tasks write one name: step {at}, frame {frame}");
        }
    }
}

/// A farm with the functions of the samples.
struct Samples;

impl Known for Samples {
    fn function(&self, wanted: &FunctionRef) -> Option<(u32, &FunctionSpec)> {
        let function = functions().iter().find(|function| function.name == wanted.name)?;
        wanted.version.is_none_or(|version| version == 1).then_some((1, function))
    }

    fn function_names(&self) -> Vec<&str> {
        functions().iter().map(|function| function.name.as_str()).collect()
    }

    fn url_allowed(&self, url: &str) -> Result<(), String> {
        if url.starts_with("https://") { Ok(()) } else { Err("only https".to_owned()) }
    }

    fn may_notify(&self, _target: &Name, _project: &Name) -> Result<(), String> {
        Ok(())
    }
}

fn functions() -> &'static [FunctionSpec] {
    static FUNCTIONS: OnceLock<Vec<FunctionSpec>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let texts = [
            include_str!("../../../samples/functions/blender.yaml"),
            include_str!("../../../samples/functions/command.yaml"),
            include_str!("../../../samples/functions/ffmpeg-encode.yaml"),
            include_str!("../../../samples/functions/povray.yaml"),
        ];
        texts.iter().map(|text| serde_saphyr::from_str(text).expect("a sample is good")).collect()
    })
}
