//! What the service account of the scheduler must be allowed, and nothing more: a Role in the namespace of the workers,
//! and one where the lease is. No `ClusterRole`. The chart's Roles say the same, and a test holds both against what is
//! really called.

/// Verbs on one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Empty: the core group.
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
}

/// In each namespace where workers are started.
pub const WORKERS: &[Right] = &[
    Right { group: "batch", resource: "jobs", verbs: &["create", "delete", "get", "list", "watch"] },
    Right { group: "", resource: "pods", verbs: &["list", "watch"] },
    // Why a pod isn't made, and when its image was there. Without it only these two are missing.
    Right { group: "", resource: "events", verbs: &["list"] },
];

/// In the namespace of the lease, where there is one (`--leader-lease`).
pub const LEASE: &[Right] =
    &[Right { group: "coordination.k8s.io", resource: "leases", verbs: &["create", "get", "update"] }];
