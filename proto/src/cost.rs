//! What work took and costs, as the interface tells it. Times are whole microseconds, amounts exact.

use crate::ids::{JobId, Name};
use crate::money::Money;
use crate::price::PriceRow;
use crate::time::Day;
use serde::{Deserialize, Serialize};

/// Paid time and what it costs, an amount for each currency. Amounts of the parts of a whole add up to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Paid {
    pub time_us: u64,
    pub cost: Vec<Money>,
    /// Time whose price is not known: it is in no amount.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CauseCost {
    /// `cold_start`, `load`, `useful`, `upload`, `idle`, `failed` or `preempted`.
    pub cause: String,
    #[serde(flatten)]
    pub paid: Paid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StepCost {
    pub step: Name,
    #[serde(flatten)]
    pub paid: Paid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PoolCost {
    /// Empty where it is not known: of workers that people started, and of what was counted before pools were.
    pub pool: String,
    #[serde(flatten)]
    pub paid: Paid,
}

/// A frame with its share of everything that was paid for its step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FrameCost {
    pub step: Name,
    pub frame: i64,
    /// Rendering alone.
    pub elapsed_ms: u64,
    pub cost: Vec<Money>,
}

/// A chunk, by its frames that are done; together they cost what their step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChunkCost {
    pub step: Name,
    pub chunk: u64,
    pub frames: u64,
    /// Rendering alone.
    pub elapsed_ms: u64,
    pub cost: Vec<Money>,
}

/// What the outputs cost beside the workers, as far as their prices are known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StoredCost {
    pub size_bytes: u64,
    /// An estimate: all outputs for a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_a_month: Option<Money>,
    /// An estimate: all outputs fetched once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Money>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobCostView {
    pub job: JobId,
    #[serde(flatten)]
    pub paid: Paid,
    /// Useful of paid time, 0 to 1000.
    pub efficiency_permille: u32,
    pub causes: Vec<CauseCost>,
    pub steps: Vec<StepCost>,
    pub pools: Vec<PoolCost>,
    /// The dearest first, as many as were asked for.
    pub frames: Vec<FrameCost>,
    pub frames_done: u64,
    /// The dearest first, as many as were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<ChunkCost>,
    pub stored: StoredCost,
    /// The rows that were paid by.
    pub prices: Vec<PriceRow>,
}

/// One line of a list of costs: what its keys say, summed over all others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CostRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Day>,
    /// Empty for workers that did nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Empty where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The model of the workers' GPU, empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Number of the row that was paid by, 0 for unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<u32>,
    #[serde(flatten)]
    pub paid: Paid,
    pub useful_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CostsView {
    pub from: Day,
    /// The last day, included.
    pub to: Day,
    #[serde(flatten)]
    pub paid: Paid,
    pub efficiency_permille: u32,
    pub rows: Vec<CostRow>,
    pub prices: Vec<PriceRow>,
}

// serde asks for a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
