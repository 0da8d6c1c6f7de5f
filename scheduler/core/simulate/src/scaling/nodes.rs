//! The machines beneath all policies alike, each with one GPU: made for a pod that has none, and given back by whoever scales
//! the cluster. A pod that waits takes the first node there is, whichever was made for it, as the scheduler of Kubernetes does.

use super::{NODE_MS, POD_MS};
use std::collections::VecDeque;

/// The cluster-autoscaler's defaults (its FAQ, "What are the parameters to CA?"): `--scan-interval`.
const CA_SCAN_MS: i64 = 10_000;
/// `--scale-down-unneeded-time`: so long a node must have been unneeded. `--scale-down-utilization-threshold` 0.5 says of a node
/// with one GPU that it is needed as long as a pod has that GPU.
const CA_UNNEEDED_MS: i64 = 600_000;
/// `--scale-down-delay-after-add`: so long after a node was added none is given back.
const CA_AFTER_ADD_MS: i64 = 600_000;
/// `--max-empty-bulk-delete`: so many empty nodes are given back in one scan.
const CA_BULK_MAX: usize = 10;
/// Karpenter's `BATCH_IDLE_DURATION` (its settings page): it waits so long for more pods before it asks for nodes.
const KARPENTER_BATCH_MS: i64 = 1000;

/// Who makes nodes and gives empty ones back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePolicy {
    /// The cluster-autoscaler with its defaults.
    ClusterAutoscaler,
    /// Karpenter with `consolidationPolicy: WhenEmpty` and this `consolidateAfter`.
    Karpenter { empty_ms: i64 },
}

/// What the world has to plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The pod's worker speaks at that time.
    Up { pod: usize, at: i64 },
    /// The node is to be told of by then: [`Nodes::ready`].
    Ready { node: usize, at: i64 },
    /// [`Nodes::look`]
    Look { node: usize, at: i64 },
}

/// Where paid time of nodes goes, as far as nodes know it, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NodeTime {
    pub(super) all: i64,
    /// Until a pod could run.
    pub(super) start: i64,
    /// Until the pod's worker spoke.
    pub(super) pod: i64,
    /// Ready, and without a pod.
    pub(super) empty: i64,
}

#[derive(Debug)]
pub(super) struct Nodes {
    policy: NodePolicy,
    all: Vec<Node>,
    /// Empty ones that are ready, the last one that became so at the end.
    empty: Vec<usize>,
    /// Pods without a node.
    pending: VecDeque<usize>,
    /// Nodes that are being made.
    upcoming: usize,
    /// By pod.
    node_of: Vec<Option<usize>>,
    added_at: i64,
    /// When nodes were given back last, and how many.
    gave_back: (i64, usize),
    pub(super) paid: NodeTime,
}

#[derive(Debug)]
struct Node {
    since: i64,
    empty_since: Option<i64>,
}

impl Nodes {
    pub(super) fn new(policy: NodePolicy) -> Nodes {
        Nodes {
            policy,
            all: Vec::new(),
            empty: Vec::new(),
            pending: VecDeque::new(),
            upcoming: 0,
            node_of: Vec::new(),
            added_at: i64::MIN / 2,
            gave_back: (i64::MIN / 2, 0),
            paid: NodeTime::default(),
        }
    }

    /// A node for a pod, once.
    pub(super) fn take(&mut self, now: i64, pod: usize) -> Option<Next> {
        if self.node_of.len() <= pod {
            self.node_of.resize(pod + 1, None);
        }
        if let Some(node) = self.empty.pop() {
            self.paid.empty += now - self.all[node].empty_since.take().unwrap_or(now);
            return Some(self.bind(now, pod, node));
        }
        self.pending.push_back(pod);
        if self.pending.len() <= self.upcoming {
            return None;
        }
        let asked = match self.policy {
            NodePolicy::ClusterAutoscaler => next_scan(now),
            NodePolicy::Karpenter { .. } => now + KARPENTER_BATCH_MS,
        };
        self.upcoming += 1;
        self.added_at = asked;
        self.all.push(Node { since: asked, empty_since: None });
        Some(Next::Ready { node: self.all.len() - 1, at: asked + NODE_MS })
    }

    fn bind(&mut self, now: i64, pod: usize, node: usize) -> Next {
        self.node_of[pod] = Some(node);
        self.paid.pod += POD_MS;
        Next::Up { pod, at: now + POD_MS }
    }

    /// The node has been made.
    pub(super) fn ready(&mut self, now: i64, node: usize) -> Next {
        self.upcoming -= 1;
        self.paid.start += now - self.all[node].since;
        self.free(now, node)
    }

    /// The pod is gone.
    pub(super) fn leave(&mut self, now: i64, pod: usize) -> Option<Next> {
        self.pending.retain(|pending| *pending != pod);
        let node = self.node_of[pod].take()?;
        Some(self.free(now, node))
    }

    /// The pod, which has a node and did not speak, is gone: what it had of that is no start.
    pub(super) fn leave_before_up(&mut self, now: i64, pod: usize, up_at: i64) -> Option<Next> {
        self.paid.pod -= up_at - now;
        self.leave(now, pod)
    }

    fn free(&mut self, now: i64, node: usize) -> Next {
        if let Some(pod) = self.pending.pop_front() {
            return self.bind(now, pod, node);
        }
        self.all[node].empty_since = Some(now);
        self.empty.push(node);
        Next::Look { node, at: self.gone_at(now) }
    }

    fn gone_at(&self, empty_since: i64) -> i64 {
        match self.policy {
            NodePolicy::ClusterAutoscaler => {
                next_scan((next_scan(empty_since) + CA_UNNEEDED_MS).max(self.added_at + CA_AFTER_ADD_MS))
            }
            NodePolicy::Karpenter { empty_ms } => empty_since + empty_ms,
        }
    }

    /// Gives the node back if it is time; else it is to be looked at again.
    pub(super) fn look(&mut self, now: i64, node: usize) -> Option<Next> {
        let empty_since = self.all[node].empty_since?;
        let gone_at = self.gone_at(empty_since);
        if now < gone_at {
            return Some(Next::Look { node, at: gone_at });
        }
        if self.policy == NodePolicy::ClusterAutoscaler {
            let before = if self.gave_back.0 == now { self.gave_back.1 } else { 0 };
            if before == CA_BULK_MAX {
                return Some(Next::Look { node, at: now + CA_SCAN_MS });
            }
            self.gave_back = (now, before + 1);
        }
        self.all[node].empty_since = None;
        self.empty.retain(|empty| *empty != node);
        self.paid.empty += now - empty_since;
        self.paid.all += now - self.all[node].since;
        None
    }

    pub(super) fn made(&self) -> u64 {
        self.all.len() as u64
    }
}

fn next_scan(at: i64) -> i64 {
    (at + CA_SCAN_MS - 1).div_euclid(CA_SCAN_MS) * CA_SCAN_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_pod_that_waits_takes_the_first_node_there_is() {
        let mut nodes = Nodes::new(NodePolicy::ClusterAutoscaler);
        let ready = 5000 + 5000 + NODE_MS;
        assert_eq!(nodes.take(5000, 0), Some(Next::Ready { node: 0, at: ready }), "asked for at the next scan");
        assert_eq!(nodes.ready(ready, 0), Next::Up { pod: 0, at: ready + POD_MS });
        assert_eq!(nodes.take(300_000, 1), Some(Next::Ready { node: 1, at: 300_000 + NODE_MS }));
        // The first pod goes before the second node is made: the second pod is not made to wait for its own.
        assert_eq!(nodes.leave(310_000, 0), Some(Next::Up { pod: 1, at: 310_000 + POD_MS }));
        // And a third that comes meanwhile gets what is being made.
        assert_eq!(nodes.take(320_000, 2), None);
        assert_eq!(nodes.ready(490_000, 1), Next::Up { pod: 2, at: 490_000 + POD_MS });
    }

    #[test]
    fn an_empty_node_is_given_back_as_its_policy_says() {
        let given_back = |policy: NodePolicy| {
            let mut nodes = Nodes::new(policy);
            let Some(Next::Ready { node, at }) = nodes.take(0, 0) else { panic!("a node is made") };
            nodes.ready(at, node);
            let mut next = nodes.leave(30 * MINUTE + 1, 0);
            while let Some(Next::Look { node, at }) = next {
                next = nodes.look(at, node);
                if next.is_none() {
                    return at;
                }
            }
            panic!("it is given back")
        };
        assert_eq!(given_back(NodePolicy::ClusterAutoscaler), 40 * MINUTE + CA_SCAN_MS);
        assert_eq!(given_back(NodePolicy::Karpenter { empty_ms: 30_000 }), 30 * MINUTE + 30_001);
    }

    #[test]
    fn a_pod_that_is_ended_before_it_has_a_node_leaves_the_node_to_come_and_go() {
        let mut nodes = Nodes::new(NodePolicy::Karpenter { empty_ms: 30_000 });
        let Some(Next::Ready { node, at }) = nodes.take(0, 0) else { panic!("a node is made") };
        assert_eq!(nodes.leave(1000, 0), None);
        let Next::Look { at: gone, .. } = nodes.ready(at, node) else { panic!("it stands empty") };
        assert_eq!(nodes.look(gone, node), None);
        let NodeTime { all, start, pod, empty } = nodes.paid;
        assert_eq!((all, start, pod, empty), (NODE_MS + 30_000, NODE_MS, 0, 30_000));
    }
}
