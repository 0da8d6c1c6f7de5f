//! What a scanner found in the image of a function's version, and whether the version may be used.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Most findings that are told of one image, the worst first; all are counted.
pub const FINDINGS_MAX: usize = 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody has said yet.
    Unknown,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 5] =
        [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Unknown => "unknown",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a version may be used, as far as its image is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    /// Its scan is to come, or goes on.
    Waiting,
    /// It is active.
    Passed,
    /// Too much was found: it is not active.
    Refused,
    /// The scanner did not say: it is not active.
    Failed,
}

impl ScanState {
    pub fn as_str(self) -> &'static str {
        match self {
            ScanState::Waiting => "waiting",
            ScanState::Passed => "passed",
            ScanState::Refused => "refused",
            ScanState::Failed => "failed",
        }
    }

    /// Whether jobs may use the version.
    pub fn is_active(self) -> bool {
        self == ScanState::Passed
    }
}

impl fmt::Display for ScanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that a scanner found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    pub severity: Severity,
    /// `CVE-2026-1234`, or the scanner's own name for it.
    pub id: String,
    /// Package and version, or the file that it is in.
    pub place: String,
    pub title: String,
}

/// How many of each severity were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FindingCounts {
    pub critical: u32,
    pub high: u32,
    pub medium: u32,
    pub low: u32,
    pub unknown: u32,
}

impl FindingCounts {
    pub fn add(&mut self, severity: Severity) {
        let count = match severity {
            Severity::Unknown => &mut self.unknown,
            Severity::Low => &mut self.low,
            Severity::Medium => &mut self.medium,
            Severity::High => &mut self.high,
            Severity::Critical => &mut self.critical,
        };
        *count = count.saturating_add(1);
    }

    pub fn of(&self, severity: Severity) -> u32 {
        match severity {
            Severity::Unknown => self.unknown,
            Severity::Low => self.low,
            Severity::Medium => self.medium,
            Severity::High => self.high,
            Severity::Critical => self.critical,
        }
    }

    /// This severity or a worse one.
    pub fn from(&self, least: Severity) -> u32 {
        let counted = Severity::ALL.into_iter().filter(|severity| *severity >= least);
        counted.fold(0, |sum, severity| sum.saturating_add(self.of(severity)))
    }
}

impl fmt::Display for FindingCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = Severity::ALL.into_iter().filter(|severity| self.of(*severity) > 0);
        let said = some.map(|severity| match severity {
            Severity::Unknown => format!("{} of unknown severity", self.unknown),
            Severity::Low | Severity::Medium | Severity::High | Severity::Critical => {
                format!("{} {severity}", self.of(severity))
            }
        });
        let said: Vec<String> = said.collect();
        if said.is_empty() { f.write_str("nothing found") } else { f.write_str(&said.join(", ")) }
    }
}

/// What became of the scan of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScanView {
    pub state: ScanState,
    /// When the image was handed to the scanner, or what it said was heard.
    pub at: Timestamp,
    pub found: FindingCounts,
    /// The worst, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<Finding>,
    /// Why the version is not active, and what to do; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl ScanView {
    pub fn waiting(at: Timestamp) -> ScanView {
        let reason = "its image is to be scanned first".to_owned();
        ScanView { state: ScanState::Waiting, at, found: FindingCounts::default(), worst: Vec::new(), reason }
    }
}

/// A newer version that is not active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    pub version: u32,
    pub scan: ScanView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_counted_by_severity_and_said_worst_first() {
        let mut found = FindingCounts::default();
        assert_eq!(found.to_string(), "nothing found");
        for severity in [Severity::Low, Severity::Critical, Severity::Low, Severity::Unknown] {
            found.add(severity);
        }
        assert_eq!(found.to_string(), "1 critical, 2 low, 1 of unknown severity");
        assert_eq!([Severity::Unknown, Severity::Low, Severity::High].map(|least| found.from(least)), [4, 3, 1]);
    }
}
