//! What a worker is told about the step its tasks belong to.

use crate::ids::{FunctionKey, JobId, Name};
use crate::job::{Job, ParameterValue, Source, Timeouts, Verify};
use crate::objects::{Digest, job_prefix};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One step as a worker needs it; travels as JSON in the answer to a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOrder {
    pub job: JobId,
    /// Index of the step in its job.
    pub step: u32,
    pub step_name: Name,
    /// `blender@3`
    pub function: String,
    /// The frame set; task number *i* is its *i*-th frame.
    pub frames: String,
    pub inputs: Vec<OrderInput>,
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Key prefix of the job's outputs, with a `/` at its end.
    pub prefix: String,
    pub output: Option<String>,
    pub timeouts: Timeouts,
    pub verify: Verify,
    pub allow_cpu: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderInput {
    /// Relative path in the inputs folder; the folder itself for a step's outputs (may be empty).
    pub staged_as: String,
    pub source: OrderSource,
    /// How many bytes of an address must stay as they are, wherever it leads to: those of the beginning that the operator allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSource {
    Digest(Digest),
    Url(String),
    /// Every output of an earlier step: `prefix` + the template's name of each frame.
    Outputs {
        frames: String,
        template: String,
    },
}

impl StepOrder {
    /// The order for step `at` of a good job.
    #[must_use]
    pub fn new(id: JobId, job: &Job, at: usize) -> StepOrder {
        let step = &job.steps[at];
        let inputs = step.inputs.iter().filter_map(|input| {
            let source = match &input.source {
                Source::Digest(digest) => OrderSource::Digest(*digest),
                Source::Url(url) => OrderSource::Url(url.clone()),
                // A step without outputs has nothing to stage; it is still waited for.
                Source::Step(other) => {
                    let other = &job.steps[*other];
                    let template = other.output.as_ref()?.to_string();
                    OrderSource::Outputs { frames: other.frames.to_string(), template }
                }
            };
            Some(OrderInput { staged_as: input.staged_as.clone(), source, within: None })
        });
        StepOrder {
            job: id,
            step: u32::try_from(at).expect("a job has at most STEPS_MAX steps"),
            step_name: step.name.clone(),
            function: FunctionKey::to_string(&step.function),
            frames: step.frames.to_string(),
            inputs: inputs.collect(),
            parameters: step.parameters.clone(),
            prefix: job_prefix(&job.project, id),
            output: step.output.as_ref().map(ToString::to_string),
            timeouts: step.timeouts,
            verify: step.verify,
            allow_cpu: step.allow_cpu,
        }
    }

    /// With addresses that lead nowhere but where these beginnings allow. One that none of them allows any more leads nowhere else.
    #[must_use]
    pub fn within(mut self, beginnings: &[String]) -> StepOrder {
        for input in &mut self.inputs {
            let OrderSource::Url(url) = &input.source else { continue };
            let fitting = beginnings.iter().filter(|beginning| url.starts_with(beginning.as_str()));
            input.within = Some(fitting.map(String::len).min().unwrap_or(url.len()));
        }
        self
    }
}
