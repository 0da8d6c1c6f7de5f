//! What a project may cost, in a month or in all.

use crate::ids::Name;
use crate::job::{AtLimit, Budget};
use crate::money::Money;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most budgets of a farm: each has its own series in `/metrics`.
pub const BUDGETS_MAX: usize = 200;
/// Percent of a budget at which people are told that it goes to its end, unless it is set otherwise.
pub const WARN_DEFAULT: u32 = 80;

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Each month in UTC for itself.
    Month,
    /// All that was ever paid.
    Total,
}

impl Period {
    pub const ALL: [Period; 2] = [Period::Month, Period::Total];

    pub fn as_str(self) -> &'static str {
        match self {
            Period::Month => "month",
            Period::Total => "total",
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let found = Period::ALL.into_iter().find(|period| period.as_str() == text);
        found.ok_or_else(|| "not one of month, total".to_owned())
    }
}

/// A budget of a project, as in `PUT /v1/budgets/{project}/{period}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProjectBudget {
    /// More than 0.
    pub limit: Money,
    /// Percent of the limit at which people are told.
    #[serde(default = "warn_default")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 100))]
    pub warn_percent: u32,
    #[serde(default)]
    pub at_limit: AtLimit,
}

fn warn_default() -> u32 {
    WARN_DEFAULT
}

/// How far a budget is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    #[default]
    Fine,
    /// So much of it is gone that people are told.
    Warned,
    /// Another frame does not fit.
    UsedUp,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Fine => "fine",
            Standing::Warned => "warned",
            Standing::UsedUp => "used_up",
        }
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Standing, String> {
        let all = [Standing::Fine, Standing::Warned, Standing::UsedUp];
        all.into_iter().find(|standing| standing.as_str() == text).ok_or_else(|| "not a standing".to_owned())
    }
}

/// A budget of a project, and what of it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BudgetView {
    pub project: Name,
    pub period: Period,
    /// `2026-11`, of a budget for a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    #[serde(flatten)]
    pub budget: ProjectBudget,
    pub spent: Money,
    pub standing: Standing,
    /// No work of the project is given out.
    pub held: bool,
    /// What whoever set it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A budget for a job, or `null` for none; the body of `PUT /v1/jobs/{id}/budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JobBudgetChange {
    /// Without it the job goes on without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}
