//! What became of a task. Decided by rules on what the renderer said and wrote, never by its exit
//! code alone.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The output is verified and committed.
    Done,
    /// A passing fault: the same worker may try again.
    RetrySame,
    /// This machine can't: a fault of its GPU, driver or installation.
    RetryElsewhere,
    NeedMoreVram,
    NeedMoreMemory,
    /// No license to be had now. Spends no attempt.
    LicenseWait,
    /// The machine was taken away. Spends no attempt.
    Preempted,
    /// Idle and silent past its limit, or longer than its limit.
    Hung,
    /// The scene or the command is wrong: trying again can't help.
    SceneError,
    /// The renderer said yes and the output says no.
    OutputBad,
    Canceled,
    /// It killed its worker, alone, several times.
    Quarantined,
}

impl Verdict {
    pub const ALL: [Verdict; 12] = [
        Verdict::Done,
        Verdict::RetrySame,
        Verdict::RetryElsewhere,
        Verdict::NeedMoreVram,
        Verdict::NeedMoreMemory,
        Verdict::LicenseWait,
        Verdict::Preempted,
        Verdict::Hung,
        Verdict::SceneError,
        Verdict::OutputBad,
        Verdict::Canceled,
        Verdict::Quarantined,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::RetrySame => "retry_same",
            Verdict::RetryElsewhere => "retry_elsewhere",
            Verdict::NeedMoreVram => "need_more_vram",
            Verdict::NeedMoreMemory => "need_more_memory",
            Verdict::LicenseWait => "license_wait",
            Verdict::Preempted => "preempted",
            Verdict::Hung => "hung",
            Verdict::SceneError => "scene_error",
            Verdict::OutputBad => "output_bad",
            Verdict::Canceled => "canceled",
            Verdict::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the message of a failure begins whose task asked for a GPU and was made without: the scheduler counts these.
pub const CPU_FALLBACK: &str = "a GPU was asked for and the output was made on";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a verdict")]
pub struct VerdictError(String);

impl FromStr for Verdict {
    type Err = VerdictError;

    fn from_str(text: &str) -> Result<Verdict, VerdictError> {
        let found = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == text);
        found.ok_or_else(|| VerdictError(text.chars().take(32).collect()))
    }
}
