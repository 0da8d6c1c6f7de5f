//! Notifications as people and receivers see them.

use super::{Occasion, TargetSpec, Way};
use crate::api::{LateDeadline, TaskCounts};
use crate::budget::{Period, Standing};
use crate::ids::{JobId, Name};
use crate::job::AtLimit;
use crate::money::Money;
use crate::time::Timestamp;
use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A target and how it fares, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    pub name: Name,
    /// `webhook`, `slack`, `mail` or `nats`.
    pub way: String,
    /// Where it leads, without what is secret: `https://hooks.example/…`
    pub address: String,
    pub on: BTreeSet<Occasion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// Notifications that are to be delivered yet.
    pub waiting: u64,
    /// Those that were given up.
    pub dead: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// The last try that failed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

/// What storing a target changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetChange {
    Created,
    Changed,
    Unchanged,
}

impl TargetChange {
    pub fn as_str(self) -> &'static str {
        match self {
            TargetChange::Created => "created",
            TargetChange::Changed => "changed",
            TargetChange::Unchanged => "unchanged",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetStored {
    pub change: TargetChange,
    pub target: TargetView,
}

/// How a test of a target went: one try, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetTried {
    pub delivered: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A notification that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeadView {
    pub id: String,
    pub target: Name,
    pub notice: Notice,
    pub made_at: Timestamp,
    /// Since it was made or sent again.
    pub tries: u32,
    pub given_up_at: Timestamp,
    /// Why its last try failed.
    pub reason: String,
}

/// What somebody is told: `data` of the CloudEvent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "occasion", rename_all = "snake_case")]
pub enum Notice {
    Succeeded(JobNotice),
    Failed(JobNotice),
    FirstError(ErrorNotice),
    /// A run of a schedule had not begun, or was not over, by its deadline.
    Late {
        schedule: Name,
        project: Name,
        due: Timestamp,
        deadline: LateDeadline,
        /// None yet while the run waits for earlier ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
    },
    /// No job was made for a due time.
    Missed {
        schedule: Name,
        project: Name,
        due: Timestamp,
        reason: String,
    },
    Budget(BudgetNotice),
    /// Somebody tries the target.
    Test {
        target: Name,
    },
}

/// A job that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobNotice {
    pub job: JobId,
    pub name: String,
    pub project: Name,
    /// Of all its steps.
    #[serde(default)]
    pub tasks: TaskCounts,
    /// One of its frames that failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<NoticedFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoticedFailure {
    pub verdict: Verdict,
    pub message: String,
}

/// A budget that goes to its end, or is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetNotice {
    pub project: Name,
    /// Whose budget it is, if it is that of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// The job's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of a budget of the project: for a month, or for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// `2026-11`, of a budget for a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    /// `warned` or `used_up`.
    pub standing: Standing,
    pub spent: Money,
    pub limit: Money,
    pub at_limit: AtLimit,
}

/// A try at a frame that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorNotice {
    pub job: JobId,
    pub name: String,
    pub project: Name,
    pub step: Name,
    pub frame: i64,
    /// Attempt `17.2`, for `framewake logs`.
    pub attempt: String,
    pub verdict: Verdict,
    pub message: String,
    /// It will be tried again.
    pub again: bool,
}

impl Notice {
    /// `None` for a test.
    pub fn occasion(&self) -> Option<Occasion> {
        match self {
            Notice::Succeeded(_) => Some(Occasion::Succeeded),
            Notice::Failed(_) => Some(Occasion::Failed),
            Notice::FirstError(_) => Some(Occasion::FirstError),
            Notice::Late { .. } => Some(Occasion::Late),
            Notice::Missed { .. } => Some(Occasion::Missed),
            Notice::Budget(_) => Some(Occasion::Budget),
            Notice::Test { .. } => None,
        }
    }

    pub fn project(&self) -> Option<&Name> {
        match self {
            Notice::Succeeded(JobNotice { project, .. })
            | Notice::Failed(JobNotice { project, .. })
            | Notice::FirstError(ErrorNotice { project, .. })
            | Notice::Budget(BudgetNotice { project, .. })
            | Notice::Late { project, .. }
            | Notice::Missed { project, .. } => Some(project),
            Notice::Test { .. } => None,
        }
    }
}

impl TargetSpec {
    /// Where it leads, without what is secret. Whole paths of webhooks are often passwords.
    pub fn shown_address(&self, farm: &str) -> String {
        match &self.way {
            Way::Webhook { url, .. } | Way::Slack { url } => shown_url(url.reveal()),
            Way::Mail { to } => to.join(", "),
            Way::Nats {} => format!("{farm}.events.>"),
        }
    }
}

/// `https://hooks.example/…`: scheme and host.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let more = if path.len() > 1 { "/…" } else { path };
    format!("{scheme}://{host}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/B0/xyz", "https://hooks.example/…"),
            ("https://hooks.example:8443/", "https://hooks.example:8443/"),
            ("http://hooks.example?token=xyz", "http://hooks.example/…"),
            ("https://me:secret@hooks.example", "https://hooks.example"),
            ("nonsense", "…"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
