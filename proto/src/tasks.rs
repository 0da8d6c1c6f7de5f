//! Sets of task numbers as sorted, disjoint runs: a million tasks are usually one run.

use std::fmt;
use std::ops::Range;

/// Task numbers of one step.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TaskSet {
    /// Sorted, disjoint, not touching, none empty.
    runs: Vec<Range<u32>>,
}

impl TaskSet {
    #[must_use]
    pub fn new() -> TaskSet {
        TaskSet::default()
    }

    #[must_use]
    pub fn from_run(run: Range<u32>) -> TaskSet {
        let mut set = TaskSet::new();
        set.insert_run(run);
        set
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many tasks are in the set.
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    pub fn runs(&self) -> &[Range<u32>] {
        &self.runs
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().cloned().flatten()
    }

    pub fn first(&self) -> Option<u32> {
        self.runs.first().map(|run| run.start)
    }

    pub fn contains(&self, task: u32) -> bool {
        let at = self.runs.partition_point(|run| run.end <= task);
        self.runs.get(at).is_some_and(|run| run.start <= task)
    }

    /// False when the task was there already.
    pub fn insert(&mut self, task: u32) -> bool {
        if self.contains(task) {
            return false;
        }
        self.insert_run(task..task + 1);
        true
    }

    pub fn insert_run(&mut self, run: Range<u32>) {
        if run.is_empty() {
            return;
        }
        // All runs that overlap or touch the new one melt into it.
        let from = self.runs.partition_point(|other| other.end < run.start);
        let to = self.runs.partition_point(|other| other.start <= run.end);
        let merged =
            if from < to { run.start.min(self.runs[from].start)..run.end.max(self.runs[to - 1].end) } else { run };
        self.runs.splice(from..to, [merged]);
    }

    pub fn insert_all(&mut self, other: &TaskSet) {
        for run in &other.runs {
            self.insert_run(run.clone());
        }
    }

    /// False when the task was not there.
    pub fn remove(&mut self, task: u32) -> bool {
        let at = self.runs.partition_point(|run| run.end <= task);
        let Some(run) = self.runs.get(at).filter(|run| run.start <= task).cloned() else {
            return false;
        };
        let parts = [run.start..task, task + 1..run.end];
        self.runs.splice(at..=at, parts.into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// Takes all tasks of a run out of the set.
    pub fn remove_run(&mut self, run: Range<u32>) {
        let from = self.runs.partition_point(|other| other.end <= run.start);
        let to = self.runs.partition_point(|other| other.start < run.end);
        if run.start >= run.end || from >= to {
            return;
        }
        let parts = [self.runs[from].start..run.start, run.end..self.runs[to - 1].end];
        self.runs.splice(from..to, parts.into_iter().filter(|part| part.start < part.end));
    }

    /// Takes up to `count` of the lowest tasks out of the set.
    #[must_use]
    pub fn take_first(&mut self, count: u32) -> TaskSet {
        let mut taken = TaskSet::new();
        let mut missing = count;
        let mut whole = 0;
        for run in &mut self.runs {
            let here = missing.min(run.end - run.start);
            if here == 0 {
                break;
            }
            taken.runs.push(run.start..run.start + here);
            run.start += here;
            missing -= here;
            if run.start == run.end {
                whole += 1;
            }
        }
        self.runs.drain(..whole);
        taken
    }
}

impl FromIterator<Range<u32>> for TaskSet {
    fn from_iter<I: IntoIterator<Item = Range<u32>>>(runs: I) -> TaskSet {
        let mut set = TaskSet::new();
        for run in runs {
            set.insert_run(run);
        }
        set
    }
}

impl fmt::Debug for TaskSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.runs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    enum Move {
        Insert(u32),
        InsertRun(u32, u32),
        Remove(u32),
        RemoveRun(u32, u32),
        Take(u32),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0u32..40).prop_map(Move::Insert),
            (0u32..40, 0u32..9).prop_map(|(first, len)| Move::InsertRun(first, len)),
            (0u32..40).prop_map(Move::Remove),
            (0u32..40, 0u32..9).prop_map(|(first, len)| Move::RemoveRun(first, len)),
            (0u32..9).prop_map(Move::Take),
        ];
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn a_task_set_behaves_as_a_plain_set(moves in moves()) {
            let mut ours = TaskSet::new();
            let mut plain = BTreeSet::new();
            for step in moves {
                match step {
                    Move::Insert(task) => prop_assert_eq!(ours.insert(task), plain.insert(task)),
                    Move::InsertRun(first, len) => {
                        ours.insert_run(first..first + len);
                        plain.extend(first..first + len);
                    }
                    Move::Remove(task) => prop_assert_eq!(ours.remove(task), plain.remove(&task)),
                    Move::RemoveRun(first, len) => {
                        ours.remove_run(first..first + len);
                        plain.retain(|task| !(first..first + len).contains(task));
                    }
                    Move::Take(count) => {
                        let taken: Vec<u32> = ours.take_first(count).iter().collect();
                        let expected: Vec<u32> = plain.iter().copied().take(count as usize).collect();
                        for task in &expected {
                            plain.remove(task);
                        }
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(ours.iter().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ours.len() as usize, plain.len());
                prop_assert!(ours.runs().windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", ours);
            }
        }
    }
}
