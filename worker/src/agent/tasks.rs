//! Which tasks of an attempt are still to be done, shared by who renders and who obeys the scheduler.

use framewake_proto::tasks::TaskSet;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The tasks of one attempt that are not rendered yet.
#[derive(Debug)]
pub(super) struct Tasks {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    unbegun: BTreeSet<u32>,
    begun: BTreeSet<u32>,
}

impl Tasks {
    pub(super) fn new(tasks: &TaskSet) -> Tasks {
        Tasks { inner: Mutex::new(Inner { unbegun: tasks.iter().collect(), begun: BTreeSet::new() }) }
    }

    /// Takes the next task to render.
    pub(super) fn begin_next(&self) -> Option<u32> {
        let mut inner = self.lock();
        let task = inner.unbegun.pop_first()?;
        inner.begun.insert(task);
        Some(task)
    }

    /// Every task that is not begun, without beginning it.
    pub(super) fn unbegun(&self) -> Vec<u32> {
        self.lock().unbegun.iter().copied().collect()
    }

    /// The task at hand, or the first of those that one process has.
    pub(super) fn first_begun(&self) -> Option<u32> {
        self.lock().begun.first().copied()
    }

    /// Begins one task out of the unbegun ones; false when it was given back meanwhile.
    pub(super) fn begin(&self, task: u32) -> bool {
        let mut inner = self.lock();
        let held = inner.unbegun.remove(&task);
        if held {
            inner.begun.insert(task);
        }
        held
    }

    /// Whether a task is still ours.
    pub(super) fn holds(&self, task: u32) -> bool {
        let inner = self.lock();
        inner.unbegun.contains(&task) || inner.begun.contains(&task)
    }

    /// The renderer is through with a task.
    pub(super) fn end(&self, task: u32) {
        let mut inner = self.lock();
        inner.begun.remove(&task);
        inner.unbegun.remove(&task);
    }

    /// Gives back unbegun tasks from the end until at most `count` are left, those begun included.
    pub(super) fn keep(&self, count: u32) -> TaskSet {
        let mut inner = self.lock();
        let mut released = TaskSet::new();
        while inner.unbegun.len() + inner.begun.len() > count as usize {
            let Some(task) = inner.unbegun.pop_last() else { break };
            released.insert(task);
        }
        released
    }

    /// Gives back what comes after the task at hand, which is the first that is not begun: those begun before it are
    /// rendered and on their way.
    pub(super) fn keep_at_hand(&self) -> TaskSet {
        let mut inner = self.lock();
        let kept = inner.unbegun.pop_first();
        let mut released = TaskSet::new();
        for task in std::mem::take(&mut inner.unbegun) {
            released.insert(task);
        }
        inner.unbegun.extend(kept);
        released
    }

    /// How many are not done.
    pub(super) fn held(&self) -> u64 {
        let inner = self.lock();
        (inner.unbegun.len() + inner.begun.len()) as u64
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_given_back_from_the_end_and_never_the_one_at_hand() {
        let tasks = Tasks::new(&TaskSet::from_run(10..20));
        assert_eq!(tasks.begin_next(), Some(10));
        assert_eq!(tasks.keep(4), TaskSet::from_run(14..20));
        assert!(tasks.keep(4).is_empty());
        assert_eq!(tasks.keep(1), TaskSet::from_run(11..14));
        assert!(tasks.keep(0).is_empty());
        assert!(tasks.holds(10));
        tasks.end(10);
        assert_eq!(tasks.begin_next(), None);
    }

    #[test]
    fn what_comes_after_the_task_at_hand_is_given_back() {
        let tasks = Tasks::new(&TaskSet::from_run(0..5));
        assert!(tasks.begin(0) && tasks.begin(1));
        tasks.end(0);
        // 1 is on its way, 2 is at hand.
        assert_eq!(tasks.keep_at_hand(), TaskSet::from_run(3..5));
        assert!(tasks.keep_at_hand().is_empty());
        assert_eq!((tasks.held(), tasks.unbegun()), (2, vec![2]));
    }
}
