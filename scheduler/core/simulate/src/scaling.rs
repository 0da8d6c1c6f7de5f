//! What a farm pays and how long people wait, by how it scales: ours with its own rules, and others with theirs, on the same
//! nodes and the same jobs.

mod keda;
mod nodes;
mod ours;
mod report;
mod trace;

pub use keda::Keda;
pub use nodes::NodePolicy;
pub use report::{Row, rows, svg, table, with_figures};
pub use trace::{Trace, jobs};

use framewake_proto::time::Timestamp;

/// The seed of the report.
pub const SEED: u64 = 1;
/// From asking for a node to a pod that could run on it.
const NODE_MS: i64 = 190_000;
/// From a pod on a node that has the image to a worker that speaks.
const POD_MS: i64 = 10_000;
/// How long a renderer loads before the first frame of a job.
const LOAD_MS: i64 = 1000;
/// GPUs that there may be at once: more than any trace asks for, so that no policy is held back by it.
const GPUS_MAX: u32 = 64;
/// The first midnight of a trace.
const MIDNIGHT: Timestamp = Timestamp(1_767_571_200_000);
const DAY_MS: i64 = 86_400_000;

/// What came of one policy on one trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Rendering frames, in milliseconds of a GPU.
    pub useful_ms: i64,
    /// From asking for each node until it was given back.
    pub paid_ms: i64,
    /// For each task, from the submission of its job until it was being rendered.
    pub waits_ms: Vec<i64>,
    /// For each nightly run: until its first frame was begun, and until its last was done.
    pub nights: Vec<(i64, i64)>,
    pub nodes: u64,
    /// Renders that were ended before they were done, because fewer workers were wanted.
    pub ended: u64,
}

impl Outcome {
    /// Percent of what is paid that renders.
    pub fn useful_percent(&self) -> f64 {
        100.0 * self.useful_ms as f64 / self.paid_ms.max(1) as f64
    }

    /// Of all tasks, so many percent waited no longer, in seconds.
    pub fn wait_s(&self, percent: usize) -> f64 {
        let mut sorted = self.waits_ms.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(0.0, |ms| *ms as f64 / 1000.0)
    }

    /// Minutes from the due time until a nightly run was done, on average.
    pub fn night_min(&self) -> Option<f64> {
        let sum: i64 = self.nights.iter().map(|(_, done)| done).sum();
        (!self.nights.is_empty()).then(|| sum as f64 / self.nights.len() as f64 / 60_000.0)
    }
}

/// Who decides how many workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Ours {
        /// What an hour of waiting is worth, in cents; a GPU costs 71 an hour.
        waiting: Option<u32>,
    },
    Keda(Keda),
}

/// Plays a trace under a policy.
pub fn play(policy: Policy, nodes: NodePolicy, trace: Trace, seed: u64) -> Outcome {
    let jobs = jobs(trace, seed);
    match policy {
        Policy::Ours { waiting } => ours::play(&jobs, nodes, waiting),
        Policy::Keda(keda) => keda::play(&jobs, nodes, keda),
    }
}
