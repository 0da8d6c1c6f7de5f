//! Which step of a function is served next: the project furthest below its share first, then the
//! job with the highest priority, then the oldest.
//!
//! Projects share by weight and priority orders the jobs *within* a project; if priority ruled over
//! all projects, everybody would ask for 100.

use framewake_proto::ids::JobId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A step that has tasks to give out. Lower ranks are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) priority: Reverse<u32>,
    /// Sorts by the time of submission.
    pub(crate) job: JobId,
    pub(crate) step: usize,
}

/// Index of a project in the farm.
pub(crate) type Project = usize;

#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    ready: BTreeMap<Project, BTreeSet<Rank>>,
    /// Chunks offered to or held by workers.
    open: BTreeMap<Project, u32>,
}

impl Queue {
    pub(crate) fn insert(&mut self, project: Project, rank: Rank) {
        self.ready.entry(project).or_default().insert(rank);
    }

    pub(crate) fn remove(&mut self, project: Project, rank: Rank) {
        if let Some(steps) = self.ready.get_mut(&project) {
            steps.remove(&rank);
            if steps.is_empty() {
                self.ready.remove(&project);
            }
        }
    }

    pub(crate) fn opened(&mut self, project: Project) {
        *self.open.entry(project).or_default() += 1;
    }

    pub(crate) fn closed(&mut self, project: Project) {
        if let Some(open) = self.open.get_mut(&project) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&project);
            }
        }
    }

    /// The step to be served next. Projects of weight 0 are not served.
    pub(crate) fn next(&self, weight: impl Fn(Project) -> u32) -> Option<Rank> {
        // The chunk a project would get next, measured in its weight: 3 open of weight 2 stand behind 1 of weight 1.
        let filled = |project: &Project| {
            let open = u64::from(self.open.get(project).copied().unwrap_or(0));
            // Cross-multiplied shares would need pairs; thousandths are exact enough for weights up to 1000.
            (open + 1) * 1_000_000 / u64::from(weight(*project).max(1))
        };
        let served = self.ready.iter().filter(|(project, _)| weight(**project) > 0);
        let (_, steps) = served.min_by_key(|(project, steps)| (filled(project), steps.first().copied()))?;
        steps.first().copied()
    }

    /// The first in line of each project and priority.
    pub(crate) fn heads(&self) -> impl Iterator<Item = Rank> {
        self.ready.values().flat_map(|steps| {
            let mut next = steps.first().copied();
            std::iter::from_fn(move || {
                let head = next?;
                let last = Rank { job: JobId(u128::MAX.into()), step: usize::MAX, ..head };
                next = steps.range((Bound::Excluded(last), Bound::Unbounded)).next().copied();
                Some(head)
            })
        })
    }

    /// How many projects have something to give out.
    pub(crate) fn projects_waiting(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::ids::JobId;

    fn rank(priority: u32, job: u128) -> Rank {
        Rank { priority: Reverse(priority), job: JobId(job.into()), step: 0 }
    }

    #[test]
    fn priority_then_age_orders_the_jobs_of_a_project() {
        let mut queue = Queue::default();
        for (priority, job) in [(50, 1), (50, 2), (90, 3)] {
            queue.insert(0, rank(priority, job));
        }
        assert_eq!(queue.next(|_| 1), Some(rank(90, 3)));
        queue.remove(0, rank(90, 3));
        assert_eq!(queue.next(|_| 1), Some(rank(50, 1)));
    }

    #[test]
    fn projects_are_served_by_weight_whatever_their_priorities() {
        let mut queue = Queue::default();
        queue.insert(0, rank(100, 1));
        queue.insert(1, rank(0, 2));
        let mut served = [0; 2];
        for _ in 0..40 {
            let next = queue.next(|project| [1, 3][project]).expect("both wait");
            let project = usize::from(next == rank(0, 2));
            queue.opened(project);
            served[project] += 1;
        }
        assert_eq!(served, [10, 30]);
    }

    #[test]
    fn the_heads_are_the_first_of_each_project_and_priority() {
        let mut queue = Queue::default();
        for (project, priority, job) in [(0, 50, 1), (0, 50, 2), (0, 90, 3), (0, 90, 4), (1, 0, 5)] {
            queue.insert(project, rank(priority, job));
        }
        assert_eq!(queue.heads().collect::<Vec<_>>(), [rank(90, 3), rank(50, 1), rank(0, 5)]);
    }
}
