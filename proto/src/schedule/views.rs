//! Schedules as people see them.

use super::ScheduleSpec;
use crate::api::JobState;
use crate::ids::{JobId, Name};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleState {
    Active,
    Paused,
    /// Nothing will be due any more.
    Over,
}

impl ScheduleState {
    pub fn as_str(self) -> &'static str {
        match self {
            ScheduleState::Active => "active",
            ScheduleState::Paused => "paused",
            ScheduleState::Over => "over",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    pub name: Name,
    pub spec: ScheduleSpec,
    /// How the expression was read, in words.
    pub reading: String,
    pub state: ScheduleState,
    /// When the next run is due, without its jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Number of the newest run.
    pub runs: u64,
    /// Jobs of its runs that are not over.
    pub jobs: Vec<JobId>,
    /// Runs that wait for others to end.
    pub waiting: u32,
    /// Runs not over that missed a deadline.
    pub late: u32,
}

/// What storing a schedule changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleChange {
    Created,
    Changed,
    Unchanged,
}

impl ScheduleChange {
    pub fn as_str(self) -> &'static str {
        match self {
            ScheduleChange::Created => "created",
            ScheduleChange::Changed => "changed",
            ScheduleChange::Unchanged => "unchanged",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleStored {
    pub change: ScheduleChange,
    pub schedule: ScheduleView,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for earlier runs to end.
    Waiting,
    /// Its job was submitted.
    Submitted,
    /// No job was made: see the reason.
    Skipped,
}

impl RunState {
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Waiting => "waiting",
            RunState::Submitted => "submitted",
            RunState::Skipped => "skipped",
        }
    }
}

/// One due time of a schedule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    pub due: Timestamp,
    pub state: RunState,
    /// From 1; runs that were skipped have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_state: Option<JobState>,
    /// Why it was skipped, or why it is not an ordinary run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub decided_at: Timestamp,
    /// It had not started by its deadline; noticed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_start: Option<Timestamp>,
    /// It was not over by its deadline; noticed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_finish: Option<Timestamp>,
}

/// The next due times of an expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upcoming {
    /// How the expression was read, in words.
    pub reading: String,
    pub times: Vec<UpcomingTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpcomingTime {
    pub due: Timestamp,
    /// The same on the clocks of its zone: `2026-03-29T03:00:00+02:00[Europe/Paris]`.
    pub local: String,
}
