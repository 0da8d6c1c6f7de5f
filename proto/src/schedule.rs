//! A schedule as sent ([`ScheduleSpec`]): when jobs are made by themselves, and from what. When it is due is the
//! calendar's business, in the rules.

mod template;
#[cfg(feature = "schema")]
mod views;

pub use template::{Values, fill};
#[cfg(feature = "schema")]
pub use views::*;

use crate::duration::Span;
use crate::ids::Name;
use crate::job::{Fault, JobSpec};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most schedules of a farm: each is held in memory and looked at when it is due.
pub const SCHEDULES_MAX: usize = 1000;
/// Longest cron expression, in bytes.
pub const CRON_LEN_MAX: usize = 200;
/// Most missed runs that are made up for: a night of them at once is a job storm, not a catch-up.
pub const CATCH_UP_MAX: u32 = 100;
/// Shortest time between two due times where a run replaces the one before: less would cancel everything, always.
pub const REPLACE_INTERVAL_MIN: Duration = Duration::from_mins(1);
/// Longest jitter: more would no longer be the time that was asked for.
pub const JITTER_MAX: Duration = Duration::from_hours(24);
/// Most due times of one dry run.
pub const UPCOMING_MAX: u32 = 1000;
pub const UPCOMING_DEFAULT: u32 = 10;

/// A schedule, as in a schedule file and in `POST /v1/schedules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    pub name: Name,
    /// Five fields (minute hour day month weekday), six (second first), or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`, `@yearly`.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 200))]
    pub cron: String,
    /// IANA time zone: `Europe/Paris`.
    #[serde(default = "utc")]
    pub zone: String,
    /// What happens when a run is due while an earlier one goes on.
    #[serde(default)]
    pub overlap: Overlap,
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Each run is delayed by up to this long, always the same for one due time.
    #[serde(default = "zero")]
    pub jitter: Span,
    /// Nothing is due before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Nothing is due at or after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    #[serde(default)]
    pub deadline: Deadline,
    /// What each run submits; its texts may hold placeholders as `{date}` and `{run}`.
    pub job: JobSpec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The new run is left out.
    #[default]
    Skip,
    /// The new run waits for the earlier ones to end.
    Queue,
    /// The earlier runs are canceled.
    Replace,
    /// Both go on.
    Allow,
}

/// What becomes of runs that were due while the scheduler was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CatchUp {
    pub missed: Missed,
    /// With `all`: at most this many, the newest.
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    /// What was due longer ago is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    None,
    /// The newest one.
    #[default]
    Latest,
    /// All, up to `runs`.
    All,
}

/// When a run counts as late, from its due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Deadline {
    /// By then a worker has begun with its first frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Span>,
    /// By then its job is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<Span>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn zero() -> Span {
    Span(Duration::ZERO)
}

impl ScheduleSpec {
    /// What is wrong with the spans and dates; expression and zone are the calendar's, the job is checked as it is
    /// filled in.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, reason: String| faults.push(Fault::new(field, reason));
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end <= start
        {
            fault("/end", format!("{end} is not after the start, {start}"));
        }
        match (self.catch_up.missed, self.catch_up.runs) {
            (Missed::All, None) => {
                fault("/catch_up/runs", format!("`all` needs a bound: say how many, 1 to {CATCH_UP_MAX}"));
            }
            (Missed::All, Some(runs)) if runs == 0 || runs > CATCH_UP_MAX => {
                fault("/catch_up/runs", format!("{runs} is not between 1 and {CATCH_UP_MAX}"));
            }
            (Missed::None | Missed::Latest, Some(_)) => {
                fault("/catch_up/runs", "only `missed: all` has a number of runs".to_owned());
            }
            (Missed::None | Missed::Latest, None) | (Missed::All, Some(_)) => {}
        }
        if self.jitter.0 > JITTER_MAX {
            fault("/jitter", format!("{} is longer than the {} allowed", self.jitter, Span(JITTER_MAX)));
        }
        let Deadline { start, finish } = self.deadline;
        for (name, span) in [("start", start), ("finish", finish)] {
            if span.is_some_and(|span| span.0.is_zero()) {
                fault(&format!("/deadline/{name}"), "must be longer than 0".to_owned());
            }
        }
        if let (Some(start), Some(finish)) = (start, finish)
            && finish < start
        {
            fault("/deadline/finish", format!("{finish} comes before the deadline of the start, {start}"));
        }
        if self.job.deadline.is_some() {
            fault("/job/deadline", "each run has its own: `deadline.finish` says how long after it is due".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(change: &[(&str, serde_json::Value)]) -> Vec<String> {
        let job = json!({ "name": "a", "steps": [] });
        let mut body = json!({ "name": "n", "cron": "@daily", "job": job });
        for (field, value) in change {
            body[field] = value.clone();
        }
        let spec: ScheduleSpec = serde_json::from_value(body).expect("it can be read");
        spec.faults().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn contradictions_are_named_all_at_once() {
        assert!(faults(&[]).is_empty());
        let found = faults(&[
            ("start", json!("2026-02-01T00:00:00Z")),
            ("end", json!("2026-01-01T00:00:00Z")),
            ("catch_up", json!({ "missed": "all" })),
            ("jitter", json!("25h")),
            ("deadline", json!({ "start": "2h", "finish": "1h" })),
        ]);
        assert_eq!(found, ["/end", "/catch_up/runs", "/jitter", "/deadline/finish"]);
        assert_eq!(faults(&[("catch_up", json!({ "missed": "all", "runs": 101 }))]), ["/catch_up/runs"]);
        assert_eq!(faults(&[("catch_up", json!({ "missed": "latest", "runs": 1 }))]), ["/catch_up/runs"]);
        assert_eq!(faults(&[("deadline", json!({ "start": "0s" }))]), ["/deadline/start"]);
        let dated = json!({ "name": "a", "deadline": "2026-01-01T00:00:00Z", "steps": [] });
        assert_eq!(faults(&[("job", dated)]), ["/job/deadline"]);
    }
}
