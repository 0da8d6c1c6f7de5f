//! The farm at a glance, for whoever looks at all of it: bounded, however large the farm is.

use crate::api::{JobState, TaskCounts, WorkerView};
use crate::ids::{JobId, Name};
use crate::time::Timestamp;
use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverviewView {
    /// When it was so.
    pub at: Timestamp,
    pub running: JobsGlance,
    pub queued: JobsGlance,
    pub paused: JobsGlance,
    /// Jobs with tasks that wait, and why.
    pub waiting: Vec<WaitingJob>,
    pub workers: WorkerCounts,
    /// Functions that have workers or want some, those with most first.
    pub functions: Vec<FunctionGlance>,
    /// How many there are beside these.
    pub functions_left_out: u32,
    /// Workers on their way, those that have been for longest first.
    pub starting: Vec<WorkerView>,
    /// GPUs that workers have, by model.
    pub gpus: Vec<GpuGlance>,
    /// What failed for good in the last hour and was not tried again since, the newest first.
    pub errors: Vec<ErrorGlance>,
    /// Whether more failed than was looked at.
    pub errors_more: bool,
    /// Every try that failed in the last hour, those too after which another was made, by function and cause: those first of which
    /// the last is the newest.
    pub tries: Vec<TriesGlance>,
    /// Whether there are more causes than these.
    pub tries_more: bool,
}

/// Jobs in one state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct JobsGlance {
    pub count: u32,
    /// Whether there are more than were counted.
    pub more: bool,
    pub newest: Vec<JobGlance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobGlance {
    pub id: JobId,
    pub name: String,
    pub project: Name,
    pub state: JobState,
    pub tasks: TaskCounts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingJob {
    pub id: JobId,
    pub name: String,
    /// Tasks that wait.
    pub tasks: u32,
    /// In words, one sentence each.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct WorkerCounts {
    pub starting: u32,
    pub idle: u32,
    pub busy: u32,
    pub draining: u32,
}

impl WorkerCounts {
    pub fn all(&self) -> u32 {
        self.starting + self.idle + self.busy + self.draining
    }
}

/// Workers of a version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionGlance {
    /// `blender@3`
    pub function: String,
    pub wanted: u32,
    /// Why so many, one sentence each.
    pub reasons: Vec<String>,
    pub pools: Vec<PoolGlance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolGlance {
    /// Absent for workers that people started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    pub workers: WorkerCounts,
}

/// GPUs of one model. What no driver told is absent, never 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct GpuGlance {
    pub model: String,
    pub count: u32,
    /// Those whose worker is on a chunk.
    pub working: u32,
    /// Part of the time in which kernels run, 0 to 100: the mean of those that tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_milliwatts: Option<u64>,
}

/// Tasks of a step that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorGlance {
    pub job: JobId,
    pub job_name: String,
    pub step: String,
    pub verdict: Verdict,
    /// What the last of them said.
    pub message: String,
    pub tasks: u32,
    /// When the last of them failed.
    pub at: Timestamp,
}

/// Tries at tasks of a function that failed for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriesGlance {
    /// `blender@3`
    pub function: String,
    /// Absent: the worker was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    pub tries: u32,
    /// Of the last of them, and so are those below.
    pub job: JobId,
    pub job_name: String,
    pub step: String,
    /// `17.2`, whose log may tell more.
    pub attempt: String,
    pub message: String,
    pub at: Timestamp,
}
