//! A job as sent ([`JobSpec`]) and as accepted ([`Job`]): [`JobSpec::check`] turns one into the other
//! or names everything that is wrong, all at once.

mod check;

pub use check::check_relative;
pub(crate) use check::escape;

use crate::duration::Span;
use crate::frames::FrameSet;
use crate::function::FunctionSpec;
use crate::ids::{FunctionKey, FunctionRef, Name};
use crate::money::Money;
use crate::notify::NotifySpec;
use crate::objects::Digest;
use crate::size::Size;
use crate::template::OutputTemplate;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

pub const STEPS_MAX: usize = 64;
pub const INPUTS_MAX: usize = 4096;
pub const LABELS_MAX: usize = 32;
pub const JOB_NAME_LEN_MAX: usize = 200;
pub const TEXT_LEN_MAX: usize = 4096;
pub const PRIORITY_MAX: u32 = 100;
pub const PRIORITY_DEFAULT: u32 = 50;
/// Attempts a task may spend before it fails for good.
pub const ATTEMPTS_MAX: u32 = 100;
/// Largest fixed chunk.
pub const CHUNK_TASKS_MAX: u32 = 10_000;
/// Longest relative path of an input or output, in bytes.
pub const PATH_LEN_MAX: usize = 512;
/// Longest part of such a path: file systems take 255 bytes, and stores and writers add marks of their own.
pub const PART_LEN_MAX: usize = 200;
/// Most faults that are named at once.
pub const FAULTS_MAX: usize = 100;
/// The project of jobs that name none.
pub const DEFAULT_PROJECT: &str = "default";
/// Largest job file or body, in bytes.
pub const JOB_SIZE_MAX: usize = 1024 * 1024;

/// A render request, as in a job file and in `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// For people; need not be unique.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 200))]
    pub name: String,
    /// Who pays.
    #[serde(default = "default_project")]
    pub project: Name,
    /// 0 (last) to 100 (first) among the jobs of its project.
    #[serde(default = "default_priority")]
    #[cfg_attr(feature = "schema", schema(minimum = 0, maximum = 100))]
    pub priority: u32,
    /// What it may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// By then it should be done: as many workers are called as that takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Words of your own to filter by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who is told what becomes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(max_items = 16))]
    pub notify: Vec<NotifySpec>,
    #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 64))]
    pub steps: Vec<StepSpec>,
}

/// What a job may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// More than 0.
    pub limit: Money,
    #[serde(default)]
    pub at_limit: AtLimit,
}

/// What is done when a budget has no room for another frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// Say so, and go on.
    Warn,
    /// Finish the frames at hand and pause the job.
    #[default]
    Hold,
    /// Finish the chunks at hand and pause the job.
    Finish,
}

/// One kind of work in a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    pub name: Name,
    /// `blender`, or one version of it: `blender@3`.
    pub function: String,
    /// `1-240`, `1-240x2`, `10,20,30-40`; without it the step is a single task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(max_items = 4096))]
    pub inputs: Vec<InputSpec>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Name of each output: `frames/{frame:04}.png`. Functions whose command names `{output}`, and sessions, need it; a step of
    /// another function may leave it out, and is done when its command says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(default)]
    pub chunking: Chunking,
    #[serde(default)]
    pub retries: Retries,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub verify: Verify,
    /// Accept outputs made on the CPU although the function asks for a GPU.
    #[serde(default)]
    pub allow_cpu: bool,
    /// Least memory of the GPU that its tasks need, where that is more than the function asks for: `12GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Size>,
    /// Steps that must be done before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
}

/// A file the step needs: exactly one of `path`, `digest`, `url` and `step`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// A file beside the job file, or a folder of files. `framewake submit` uploads what the farm lacks and sends digests instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// SHA-256 of an uploaded file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// `https://…` or `s3://bucket/key`, where the farm's allow-list has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A step of this job: all its outputs, under their own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
    /// Where the step finds it, relative to its inputs; without it, the file's own name.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub staged_as: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ParameterValue {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    Words(Vec<String>),
}

impl ParameterValue {
    pub fn describe(&self) -> &'static str {
        match self {
            ParameterValue::Boolean(_) => "true or false",
            ParameterValue::Integer(_) => "a whole number",
            ParameterValue::Number(_) => "a number",
            ParameterValue::Text(_) => "text",
            ParameterValue::Words(_) => "a list of words",
        }
    }
}

/// How many tasks a worker is given at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Chunking {
    /// As many as take about `target`, from what was measured; fewer at the start and at the end.
    Auto {
        #[serde(default = "default_target")]
        target: Span,
    },
    Fixed {
        #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 10000))]
        size: u32,
    },
}

impl Default for Chunking {
    fn default() -> Chunking {
        Chunking::Auto { target: default_target() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// Tries a task may spend; what the farm itself breaks is not counted.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 100))]
    pub attempts: u32,
    /// Wait before the second try; doubles with each further one.
    pub backoff: Span,
    pub backoff_max: Span,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { attempts: 3, backoff: Span(Duration::from_secs(1)), backoff_max: Span(Duration::from_mins(5)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Longest time of one task.
    pub frame: Span,
    /// Longest time in which the renderer says nothing, makes no progress and does not compute.
    pub silent: Span,
    /// Longest time of one chunk, loading included.
    pub chunk: Span,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            frame: Span(Duration::from_hours(1)),
            silent: Span(Duration::from_mins(15)),
            chunk: Span(Duration::from_hours(6)),
        }
    }
}

impl Timeouts {
    /// The longest time of a task, as its author says it. Who leaves it as it is says nothing of how long tasks take.
    pub fn frame_said(&self) -> Option<Span> {
        Some(self.frame).filter(|frame| *frame != Timeouts::default().frame)
    }
}

/// What an output must be, beyond being whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Frames of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// An image in which every pixel is black, or as dark as dithering leaves black: at most 2 of 255.
    pub black: Policy,
    /// NaN or infinite pixels.
    pub nan: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The task fails with `output_bad`.
    #[default]
    Refuse,
    Allow,
}

fn default_project() -> Name {
    DEFAULT_PROJECT.parse().expect("a good name")
}

fn default_priority() -> u32 {
    PRIORITY_DEFAULT
}

fn default_target() -> Span {
    Span(Duration::from_secs(30))
}

/// Something wrong with a field of a body or file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Fault {
    /// JSON Pointer (RFC 6901) to the field: `/steps/0/frames`.
    pub field: String,
    pub reason: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault { field: field.into(), reason: reason.into() }
    }
}

/// A job that is known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: String,
    pub project: Name,
    pub priority: u32,
    pub budget: Option<Budget>,
    pub deadline: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    pub notify: Vec<NotifySpec>,
    /// In the order of the file; never empty.
    pub steps: Vec<Step>,
}

/// A step that is known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: Name,
    pub function: FunctionKey,
    pub frames: FrameSet,
    pub inputs: Vec<Input>,
    /// Complete: defaults of the function filled in.
    pub parameters: BTreeMap<String, ParameterValue>,
    pub output: Option<OutputTemplate>,
    pub chunking: Chunking,
    pub retries: Retries,
    pub timeouts: Timeouts,
    pub verify: Verify,
    pub allow_cpu: bool,
    /// 0: as the function asks for.
    pub gpu_memory_bytes: u64,
    /// Indexes of the steps that come before, those of `inputs` included. Without cycles.
    pub after: Vec<usize>,
}

/// A good input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Relative path in the step's inputs folder; for a step's outputs, the folder they lie in (may be empty).
    pub staged_as: String,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Digest(Digest),
    Url(String),
    /// Index of a step of this job.
    Step(usize),
}

/// What a job is checked against.
pub trait Known {
    /// The version that `wanted` means now, and its text.
    fn function(&self, wanted: &FunctionRef) -> Option<(u32, &FunctionSpec)>;
    fn function_names(&self) -> Vec<&str>;
    /// Whether workers may fetch this URL.
    fn url_allowed(&self, url: &str) -> Result<(), String>;
    /// Whether jobs of this project may have this target told.
    fn may_notify(&self, target: &Name, project: &Name) -> Result<(), String>;
    /// Whether the job was accepted before: then it is read as it is, also where one like it would be refused now.
    fn was_accepted(&self) -> bool {
        false
    }
}
