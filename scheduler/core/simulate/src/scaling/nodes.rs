//! The machines beneath all policies alike: made when a pod has none, and given back by the autoscaler of the cluster.

use super::{NODE_MS, POD_MS};

/// The autoscaler of a cluster gives an empty node back after this, and not sooner than this after any node was added.
const CA_UNNEEDED_MS: i64 = 600_000;
const CA_AFTER_ADD_MS: i64 = 600_000;
/// `consolidateAfter` as we recommend it: long enough for a pod that follows at once.
const KARPENTER_MS: i64 = 30_000;

/// Who gives empty nodes back, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePolicy {
    /// The cluster-autoscaler with its defaults.
    ClusterAutoscaler,
    /// Karpenter with `consolidationPolicy: WhenEmpty` and `consolidateAfter: 30s`.
    Karpenter,
}

#[derive(Debug)]
pub(super) struct Nodes {
    policy: NodePolicy,
    all: Vec<Node>,
    /// Empty ones, the last one that became so at the end.
    empty: Vec<usize>,
    added_at: i64,
    pub(super) paid_ms: i64,
}

#[derive(Debug)]
struct Node {
    since: i64,
    empty_since: Option<i64>,
}

impl Nodes {
    pub(super) fn new(policy: NodePolicy) -> Nodes {
        Nodes { policy, all: Vec::new(), empty: Vec::new(), added_at: i64::MIN / 2, paid_ms: 0 }
    }

    /// A node for a pod, and when the pod's worker speaks.
    pub(super) fn take(&mut self, now: i64) -> (usize, i64) {
        if let Some(node) = self.empty.pop() {
            self.all[node].empty_since = None;
            return (node, now + POD_MS);
        }
        self.all.push(Node { since: now, empty_since: None });
        self.added_at = now;
        (self.all.len() - 1, now + NODE_MS + POD_MS)
    }

    /// The pod is gone. When the node is to be looked at.
    pub(super) fn leave(&mut self, now: i64, node: usize) -> i64 {
        self.all[node].empty_since = Some(now);
        self.empty.push(node);
        self.gone_at(now)
    }

    fn gone_at(&self, empty_since: i64) -> i64 {
        match self.policy {
            NodePolicy::ClusterAutoscaler => (empty_since + CA_UNNEEDED_MS).max(self.added_at + CA_AFTER_ADD_MS),
            NodePolicy::Karpenter => empty_since + KARPENTER_MS,
        }
    }

    /// Gives the node back if it is time; else when it is to be looked at again.
    pub(super) fn look(&mut self, now: i64, node: usize) -> Option<i64> {
        let gone_at = self.gone_at(self.all[node].empty_since?);
        if now < gone_at {
            return Some(gone_at);
        }
        self.all[node].empty_since = None;
        self.empty.retain(|empty| *empty != node);
        self.paid_ms += now - self.all[node].since;
        None
    }

    pub(super) fn made(&self) -> u64 {
        self.all.len() as u64
    }
}
