//! What a farm pays and how long people wait, by how it scales: ours with its own rules, and others with theirs, on the same
//! nodes and the same jobs.

mod keda;
mod nodes;
mod ours;
mod report;
mod trace;

pub use keda::{GRACE_DEFAULT_MS, Keda};
pub use nodes::NodePolicy;
pub use report::{NAMES, Played, csv, play_all, svg, tables, with_figures};
pub use trace::{Trace, jobs};

use framewake_proto::time::Timestamp;
use std::ops::RangeInclusive;

/// Seeds that the rules may be looked at and changed with.
pub const SEEDS_TO_LOOK: RangeInclusive<u64> = 1..=10;
/// Seeds of the report, which nothing is changed for.
pub const SEEDS_TO_REPORT: RangeInclusive<u64> = 101..=130;
/// From asking for a node to a pod that could run on it: "3-4 minutes" is what the FAQ of the cluster-autoscaler says of GCE.
const NODE_MS: i64 = 190_000;
/// From a pod on a node that has the image to a worker that speaks.
const POD_MS: i64 = 10_000;
/// How long a renderer loads before the first frame of a job.
const LOAD_MS: i64 = 1000;
/// GPUs that there may be at once: the night, and twice what a busy hour wants.
const GPUS_MAX: u32 = 64;
/// The first midnight of a trace.
const MIDNIGHT: Timestamp = Timestamp(1_767_571_200_000);
const DAY_MS: i64 = 86_400_000;

/// What came of one policy on one trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub paid: Paid,
    /// For each task, from the submission of its job until it was being rendered.
    pub waits_ms: Vec<i64>,
    /// For each job, from its submission until it was done.
    pub done_ms: Vec<i64>,
    /// For each nightly run: until its first frame was begun, and until its last was done.
    pub nights: Vec<(i64, i64)>,
    pub nodes: u64,
    /// Renders that were ended before they were done, because fewer workers were wanted.
    pub ended: u64,
}

/// Where the time of all nodes went, from asking for each until it was given back, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paid {
    pub all_ms: i64,
    /// Rendering frames that count.
    pub useful_ms: i64,
    /// Rendering frames that were cut off, and are rendered again.
    pub redone_ms: i64,
    /// Loading scenes.
    pub load_ms: i64,
    /// Making nodes.
    pub node_ms: i64,
    /// Starting pods.
    pub pod_ms: i64,
    /// Nodes without a pod.
    pub empty_ms: i64,
}

impl Paid {
    /// Workers that wait for work.
    pub fn idle_ms(&self) -> i64 {
        let Paid { all_ms, useful_ms, redone_ms, load_ms, node_ms, pod_ms, empty_ms } = *self;
        all_ms - useful_ms - redone_ms - load_ms - node_ms - pod_ms - empty_ms
    }
}

impl Outcome {
    /// Percent of what is paid that renders.
    pub fn useful_percent(&self) -> f64 {
        100.0 * self.paid.useful_ms as f64 / self.paid.all_ms.max(1) as f64
    }

    /// Minutes from its due time until the slowest nightly run was done.
    pub fn night_min(&self) -> Option<f64> {
        self.nights.iter().map(|(_, done)| done).max().map(|done| *done as f64 / 60_000.0)
    }

    fn add_nodes(&mut self, nodes: &nodes::Nodes) {
        let nodes::NodeTime { all, start, pod, empty } = nodes.paid;
        self.paid = Paid { all_ms: all, node_ms: start, pod_ms: pod, empty_ms: empty, ..self.paid };
        self.nodes = nodes.made();
    }
}

/// So many percent of these are no longer, in seconds.
pub fn quantile_s(all_ms: &[i64], percent: usize) -> f64 {
    let mut sorted = all_ms.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |ms| *ms as f64 / 1000.0)
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
