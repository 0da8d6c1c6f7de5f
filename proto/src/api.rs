//! Bodies of the REST interface under `/v1`.

use crate::ids::{JobId, Name};
use crate::job::{Fault, JobSpec};
use crate::objects::Digest;
use crate::start::StartStep;
use crate::time::Timestamp;
use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::ToSchema;

/// Largest page, and the default one.
pub const PAGE_SIZE_MAX: u32 = 1000;
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// Largest piece of an upload.
pub const UPLOAD_PIECE_MAX: usize = 16 * 1024 * 1024;
/// Largest input.
pub const INPUT_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_MAX: usize = 200;

/// A problem (RFC 9457) as every refusal is answered, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:framewake:<code>`: one of a short, stable list.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Each field that is wrong, all at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Also in the `x-request-id` header and in the scheduler's log.
    #[serde(default)]
    pub request_id: String,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted; nothing has begun.
    Queued,
    Running,
    /// No new orders; what runs is finished.
    Paused,
    Succeeded,
    /// Finished, with tasks that failed for good.
    Failed,
    Canceled,
}

impl JobState {
    /// Whether the job is over.
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Canceled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Canceled => "canceled",
        }
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Waits for other steps.
    Blocked,
    Ready,
    Running,
    Succeeded,
    Failed,
    Canceled,
}

/// Tasks by what became of them; they add up to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    pub total: u32,
    /// Not given to a worker yet, and will be.
    pub waiting: u32,
    /// In chunks that workers hold or are offered.
    pub open: u32,
    pub done: u32,
    /// Failed for good.
    pub failed: u32,
    /// Neither done nor failed when their step or job was canceled: nobody will work on them.
    #[serde(default)]
    pub canceled: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    pub id: JobId,
    pub name: String,
    pub project: Name,
    pub priority: u32,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub state: JobState,
    pub tasks: TaskCounts,
    pub steps: Vec<StepView>,
    pub submitted_at: Timestamp,
    /// The name of the token or of the person, or `schedule nightly`, or `openfaas resize` of a call through its gateway; absent for
    /// jobs of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub name: Name,
    /// `blender@3`
    pub function: String,
    /// The frame set, repeats dropped.
    pub frames: String,
    pub state: StepState,
    pub tasks: TaskCounts,
    pub after: Vec<Name>,
    /// Attempts that run now.
    #[serde(default)]
    pub running_attempts: u32,
    /// Measured: seconds to load, and seconds a task; absent until the first is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_s: Option<f64>,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    pub id: JobId,
    /// Total tasks of all steps.
    pub tasks: u32,
    /// The same submission was accepted before, under the same `Idempotency-Key`.
    pub repeated: bool,
}

/// A change of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobChange {
    #[schema(minimum = 0, maximum = 100)]
    pub priority: u32,
}

/// A project's weight: its share of the workers, relative to the other projects that want some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectChange {
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: u32,
}

/// Which of the failed tasks of a job are tried again, in `POST /v1/jobs/{id}/retry`. Without a body: all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRetry {
    /// Name of the step.
    pub step: Name,
    /// `7`, `3,7-9`: those of them that failed.
    pub frames: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    pub name: Name,
    pub weight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    Waiting,
    /// Offered to or held by a worker.
    Open,
    Done,
    Failed,
    Canceled,
}

/// All tasks of a step in columns, each for as many tasks as it takes; task number `i` of `total` is in column
/// `i * columns / total`, rounded down. Every list has one entry a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepMap {
    pub total: u32,
    /// Tasks of the column; the other counts are of these.
    pub size: Vec<u32>,
    pub done: Vec<u32>,
    pub failed: Vec<u32>,
    /// Held by workers.
    pub open: Vec<u32>,
    /// Milliseconds that done tasks took, on average and at most; absent where none is done.
    pub mean_ms: Vec<Option<u32>>,
    pub max_ms: Vec<Option<u32>>,
    /// Times are those of one task in each column, because the step is large.
    pub sampled: bool,
}

/// One task: task number `task` renders `frame`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    pub step: Name,
    pub task: u32,
    pub frame: i64,
    pub state: TaskState,
    /// Why it failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// What GPUs did for it, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuView>,
}

/// What the GPUs of its worker did for a task, by their driver. What it did not tell is absent, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct GpuView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_millijoules: Option<u64>,
    /// Most memory in use on any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_peak_bytes: Option<u64>,
    /// Mean and most of what the driver calls their use, 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_permille: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_max_permille: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    pub verdict: Verdict,
    pub message: String,
    /// The log lines that show it.
    pub evidence: String,
    /// Attempt `17.2`, for `framewake logs`.
    pub attempt: String,
    pub at: Timestamp,
}

/// A verified, committed output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputView {
    pub step: Name,
    pub task: u32,
    pub frame: i64,
    /// Relative to the job's folder, as the template names it.
    pub name: String,
    /// In the object store.
    pub key: String,
    pub sha256: Digest,
    pub size_bytes: u64,
    /// Pixels; 0 where the output is no picture.
    pub width: u32,
    pub height: u32,
    pub device: String,
    pub renderer: String,
    pub attempt: String,
    pub elapsed_ms: u32,
    pub memory_peak_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuView>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Running,
    Finished,
    /// Given back undone: the worker was told to leave.
    HandedBack,
    Canceled,
    LicenseWait,
    /// The worker went silent or died.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// `17.2`: chunk 17, second try.
    pub attempt: String,
    pub step: Name,
    pub worker: Name,
    /// First and last frame given, for people; tasks may have been given back since.
    pub frames: String,
    pub outcome: AttemptOutcome,
    pub done: u32,
    pub failed: u32,
    /// What the tasks that it finished were rendered on; empty until there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Of the tasks that failed in it for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How the worker was lost, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub has_log: bool,
    /// What the renderer said and the log does not have, because it was full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_left_out_bytes: u64,
    /// What confined its renderer: `no_new_privs, Landlock 6, seccomp`, or `none`; empty when its worker did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub confinement: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Asked for; has not spoken yet.
    Starting,
    Idle,
    Busy,
    /// Finishes and leaves.
    Draining,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    pub id: Name,
    pub function: String,
    /// Where it was started; absent for one that people started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    pub state: WorkerState,
    pub host: String,
    pub gpus: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    pub since: Timestamp,
    pub seen_at: Timestamp,
    /// Within the task that runs now, 0 to 1000.
    pub permille: u32,
    pub note: String,
    /// How it came so far; empty once it has its first frame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<StartStep>,
    /// From the wish for it to its first frame, once it has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    /// Why it does not come further, as its place tells; empty: all goes as it should.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waits: String,
}

/// How a machine or GPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    #[default]
    Good,
    /// It fails what it should not, and goes on because nobody else can do the work.
    Suspect,
    /// It fails what others render: it gets no work for a while.
    SetAside,
    /// It is back from being set aside; its first task decides.
    OnTrial,
}

impl PlaceState {
    pub fn as_str(self) -> &'static str {
        match self {
            PlaceState::Good => "good",
            PlaceState::Suspect => "suspect",
            PlaceState::SetAside => "set_aside",
            PlaceState::OnTrial => "on_trial",
        }
    }
}

impl FromStr for PlaceState {
    type Err = serde::de::value::Error;

    fn from_str(text: &str) -> Result<PlaceState, Self::Err> {
        PlaceState::deserialize(serde::de::IntoDeserializer::into_deserializer(text))
    }
}

/// Where workers run: a machine, or a GPU of it where workers name theirs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PlaceView {
    /// `node7`, or `node7/GPU-5c9a…`.
    pub name: String,
    pub state: PlaceState,
    /// Workers there that are not leaving.
    pub workers: u32,
    /// How often it was set aside lately; each time lasts twice as long.
    pub times: u32,
    /// Why it is not simply good.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// In this state since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Set aside until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A GPU as its worker told last, by its driver. What it did not tell is absent, never 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuState {
    /// `GPU-5c9a…`, or `MIG-…` of a part of one.
    pub uuid: String,
    pub model: String,
    pub host: String,
    pub driver: String,
    /// Name of the function whose worker has it.
    pub function: String,
    /// Whether that worker is on a chunk.
    pub working: bool,
    /// Part of the time in which kernels run, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_milliwatts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<u32>,
    pub seen_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionView {
    pub name: Name,
    pub version: u32,
    pub newest: bool,
    pub spec: crate::function::FunctionSpec,
    pub workers: ScalingView,
    pub added_at: Timestamp,
    /// What was found in its image, where images are scanned. A version is active unless this says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<crate::scan::ScanView>,
    /// Newer versions that are not active; told of one function that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<crate::scan::Candidate>,
}

impl FunctionView {
    /// Whether jobs may use it.
    pub fn is_active(&self) -> bool {
        self.scan.as_ref().is_none_or(|scan| scan.state.is_active())
    }
}

/// How many workers there are and should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ScalingView {
    pub wanted: u32,
    /// As many as would be wanted if there were room for any number: what others who start workers go by.
    #[serde(default)]
    pub needed: u32,
    pub starting: u32,
    pub present: u32,
    /// Workers started since the scheduler began.
    pub started_total: u64,
    /// In words, one sentence each.
    pub reasons: Vec<String>,
}

/// Why a job's tasks wait, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub job: JobId,
    pub state: JobState,
    pub steps: Vec<StepExplanation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepExplanation {
    pub step: Name,
    pub tasks: TaskCounts,
    /// One sentence for each thing it waits for; empty when nothing waits.
    pub reasons: Vec<String>,
}

/// Whether an input is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputView {
    pub digest: Digest,
    /// All of it is stored.
    pub complete: bool,
    /// Send the next piece from here.
    pub received_bytes: u64,
}

/// One event of a job, as in `GET /v1/jobs/{id}/events` (server-sent events, `id:` is `seq`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Rising; give it back as `Last-Event-ID` to go on from there. Absent on `progress`, which is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    pub job: JobId,
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: Happening,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    JobState {
        state: JobState,
    },
    StepState {
        step: Name,
        state: StepState,
    },
    /// A worker began an attempt.
    AttemptStarted {
        step: Name,
        attempt: String,
        worker: Name,
        frames: String,
    },
    /// Tasks verified and committed; counts are the step's, after this event.
    TasksDone {
        step: Name,
        frames: Vec<i64>,
        tasks: TaskCounts,
    },
    /// A try at a task failed; `again` when it will be tried once more.
    TaskFailed {
        step: Name,
        frame: i64,
        attempt: String,
        verdict: Verdict,
        message: String,
        again: bool,
    },
    AttemptEnded {
        step: Name,
        attempt: String,
        outcome: AttemptOutcome,
        /// How the worker was lost, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A run of a schedule had not begun, or was not over, by its deadline.
    RunLate {
        schedule: Name,
        due: Timestamp,
        deadline: LateDeadline,
    },
    /// Not kept: where a worker is within a task.
    Progress {
        step: Name,
        attempt: String,
        frame: i64,
        permille: u32,
        note: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LateDeadline {
    Start,
    Finish,
}

impl LateDeadline {
    pub fn as_str(self) -> &'static str {
        match self {
            LateDeadline::Start => "start",
            LateDeadline::Finish => "finish",
        }
    }
}

/// A stored job, as `GET /v1/jobs/{id}/spec` gives it back.
pub type StoredJob = JobSpec;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    /// Each part and what is wrong with it; empty text when it is well.
    pub parts: BTreeMap<String, String>,
    pub version: String,
    /// Where outputs lie: a folder or an `s3://` address, for people.
    pub store: String,
}
