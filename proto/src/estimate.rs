//! What a job will take, told before it is submitted: ranges in which nine of ten runs end.

use crate::ids::Name;
use crate::money::Money;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most worker counts of one question.
pub const WORKER_COUNTS_MAX: usize = 16;

/// The answer to `POST /v1/estimates`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EstimateView {
    pub tasks: u32,
    pub steps: Vec<StepEstimate>,
    /// The whole job, without the steps of which nothing is known.
    pub options: Vec<OptionEstimate>,
    /// Steps of which nothing is known: they are in no range.
    pub unknown_steps: Vec<Name>,
    /// Of all outputs, as far as they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputsEstimate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StepEstimate {
    pub step: Name,
    /// `name@version`
    pub function: String,
    pub tasks: u32,
    /// What is known; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

/// What an estimate is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Basis {
    /// Tasks of this scene that were measured; old ones fade.
    pub tasks: u64,
    /// Runs of it that were finished.
    pub runs: u64,
    pub last_at: Timestamp,
    /// It was measured at another size of the image, and brought to this one by the number of pixels.
    pub scaled: bool,
    /// Rendering one task, the mean of this step.
    pub task_ms: MsRange,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MsRange {
    pub low: u64,
    pub high: u64,
}

/// A way to run the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OptionEstimate {
    /// Where its workers are; absent: wherever they may be, from the best case of all pools to the worst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// At most so many at once for each step.
    pub workers: u32,
    /// Steps that can't run in the pool; they are where they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Name>,
    /// Steps that were measured on another GPU than the pool has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_gpu: Vec<Name>,
    /// No worker was started there yet: a start may take as long as the pool allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_unknown: bool,
    /// From its first worker being free to begin to its last frame.
    pub time_ms: MsRange,
    /// Each currency for itself; empty where no price is known.
    pub cost: Vec<MoneyRange>,
    /// Steps whose price is not known: they are in no amount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_prices: Vec<Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MoneyRange {
    pub low: Money,
    pub high: Money,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutputsEstimate {
    pub low_bytes: u64,
    pub high_bytes: u64,
    /// All of them for a month, where the price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_a_month: Option<MoneyRange>,
    /// All of them fetched once, where the price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<MoneyRange>,
}
