//! Why a function has the workers it has, as `/v1/functions/{name}/scaling` tells it.

use crate::ids::Name;
use crate::money::Money;
use crate::start::StartPoint;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The decision how many workers a function has, and everything that went into it. Seconds that are absent were not
/// measured yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScalingExplained {
    pub function: String,
    pub wanted: u32,
    /// What decided it, in words.
    pub because: String,
    pub starting: u32,
    pub idle: u32,
    pub busy: u32,
    pub leaving: u32,
    /// Tasks neither done nor failed that may run, and the seconds of rendering that they are.
    pub tasks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_s: Option<f64>,
    /// Means over all jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_s: Option<f64>,
    /// From asking for a worker until it renders, in the pool that is tried first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_s: Option<f64>,
    /// What an hour of waiting is worth, in hours of a worker.
    pub waiting_worth: f64,
    /// The same as the function says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Money>,
    /// Workers at which waiting and workers cost least together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimum: Option<f64>,
    /// Workers that the budgets of its jobs pay for, if all have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_for: Option<u32>,
    pub kept: u32,
    /// The function's own limit, and what its pools can hold.
    pub limit: u32,
    pub capacity: u32,
    /// How long a worker that starts now waits for work before it leaves.
    pub linger_s: f64,
    /// In the order in which they are tried.
    pub pools: Vec<PoolScaling>,
    /// Pools that it can't use.
    pub unfit: Vec<PoolUnfit>,
    /// Workers on their way, at most 100.
    pub coming: Vec<WorkerComing>,
    pub windows: Vec<KeepWindow>,
    /// Runs of schedules for which workers are called before they are due.
    pub runs: Vec<RunAhead>,
}

/// A pool as a function sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolScaling {
    pub pool: Name,
    pub slots: u32,
    pub slots_taken: u32,
    /// Of this function.
    pub workers: u32,
    /// What an hour of a worker costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// From asking for a worker to its first words: half took no longer, and 19 of 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_p50_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_p95_s: Option<f64>,
    /// Of so many starts.
    pub starts_known: u32,
    /// Their mean and how much they differ from it (standard deviation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_mean_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deviation_s: Option<f64>,
    /// How long a start may take.
    pub start_within_s: f64,
    /// Most starts in a minute; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_a_minute: Option<u32>,
    /// Model of its GPUs; empty: none, or not known.
    pub gpu: String,
    /// Workers of the function that it can hold.
    pub workers_max: u32,
    /// What each phase from being wanted to the first frame took, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseTook>,
    /// What a start costs by these and the price, until its renderer is ready; its wait for an order is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_cost: Option<Money>,
    /// Why it is passed over now; empty: it is not.
    pub passed_over: String,
}

/// A phase of the starts of workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseTook {
    /// The point that ends it.
    pub point: StartPoint,
    /// Half of them took no longer.
    pub p50_s: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolUnfit {
    pub pool: Name,
    pub reason: String,
}

/// A worker on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerComing {
    pub worker: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    pub asked_at: Timestamp,
    /// How far it came, as its place says.
    pub step: String,
    /// Why it is not there yet; empty: all goes as it should.
    pub waits: String,
}

/// A window in which workers are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeepWindow {
    pub workers: u32,
    /// Its calendar in words.
    pub reading: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_change: Option<Timestamp>,
}

/// A run of a schedule for which workers are called before it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunAhead {
    pub schedule: Name,
    pub due: Timestamp,
    /// When they are called.
    pub called_at: Timestamp,
    pub workers: u32,
}
