//! How many workers it takes to be done with jobs by their deadlines: those that are there take the most urgent tasks first,
//! and others are added as long as they come early enough for a task.

use std::collections::BTreeSet;

/// Part of a task that one may take longer than is known of it: it does not call a worker by itself.
const SLACK: f64 = 0.1;

/// Workers that are planned with at most: as many as a farm has.
const PLANNED_MAX: u64 = 100_000;

/// What is to be done by a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    /// Seconds until then; may have passed.
    pub left_s: f64,
    pub tasks: u64,
    /// What one takes, more than 0.
    pub task_s: f64,
}

/// What deadlines ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Workers that there should be: those that render for them if these are there, or else all that are there and the others.
    pub workers: u64,
    /// Which of them, by index, won't be met with as many as there may be.
    pub missed: BTreeSet<usize>,
}

/// `free_s`: for each worker that is there or starts, the seconds until it is free; less than 0: for so long it has been at the
/// task it has, which counts among those that are left. `start_s`: the seconds until one that is asked for now renders.
/// `most`: workers that there may be.
pub fn plan(mut dues: Vec<(usize, Due)>, mut free_s: Vec<f64>, start_s: f64, most: u64) -> Plan {
    dues.sort_by(|(_, one), (_, other)| one.left_s.total_cmp(&other.left_s));
    free_s.sort_by(f64::total_cmp);
    let (mut plan, mut used, there) = (Plan::default(), BTreeSet::new(), free_s.len());
    for (index, due) in dues {
        let mut tasks = due.tasks;
        for (at, free_s) in free_s.iter_mut().enumerate() {
            if tasks == 0 {
                break;
            }
            let takes = tasks_by(due, *free_s).min(tasks);
            if takes > 0 {
                tasks -= takes;
                *free_s += takes as f64 * due.task_s;
                used.insert(at);
            }
        }
        let each = tasks_by(due, start_s);
        while tasks > 0 && each > 0 && (free_s.len() as u64) < most.min(PLANNED_MAX) {
            let takes = each.min(tasks);
            tasks -= takes;
            free_s.push(start_s + takes as f64 * due.task_s);
        }
        if tasks > 0 {
            plan.missed.insert(index);
        }
    }
    plan.workers = if free_s.len() > there { free_s.len() as u64 } else { used.len() as u64 };
    plan
}

/// Tasks that a worker which is free then has done in time.
fn tasks_by(due: Due, free_s: f64) -> u64 {
    // Clamped to the range of u64.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let tasks = ((due.left_s - free_s) / due.task_s + SLACK).floor().clamp(0.0, u64::MAX as f64) as u64;
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workers(dues: &[Due], free_s: &[f64], most: u64) -> (u64, Vec<usize>) {
        let plan = plan(dues.iter().copied().enumerate().collect(), free_s.to_vec(), 200.0, most);
        (plan.workers, plan.missed.into_iter().collect())
    }

    fn due(left_s: f64, tasks: u64, task_s: f64) -> Due {
        Due { left_s, tasks, task_s }
    }

    #[test]
    fn as_many_come_as_are_done_in_time() {
        assert_eq!(workers(&[due(1200.0, 100, 100.0)], &[], 1000), (10, vec![]), "ten tasks each, after the start");
        assert_eq!(workers(&[due(1100.0, 100, 100.0)], &[], 1000), (12, vec![]), "nine each");
        assert_eq!(workers(&[due(1200.0, 3, 100.0)], &[], 1000), (1, vec![]));
        assert_eq!(workers(&[due(320.0, 3, 100.0)], &[], 1000), (3, vec![]), "one for each task, and no more");
    }

    #[test]
    fn those_that_are_there_count_by_when_they_are_free() {
        assert_eq!(workers(&[due(1000.0, 50, 100.0)], &[0.0; 5], 1000), (5, vec![]), "no start is waited for");
        assert_eq!(workers(&[due(1000.0, 50, 100.0)], &[-50.0, 0.0, 0.0, 0.0], 1000), (6, vec![]), "four do forty");
        // Half a task later, with all at half a task, nothing has changed.
        assert_eq!(workers(&[due(950.0, 50, 100.0)], &[-50.0; 5], 1000), (5, vec![]));
        // Those that start soon are no reason to start others.
        assert_eq!(workers(&[due(600.0, 10, 100.0)], &[100.0; 2], 1000), (2, vec![]));
    }

    #[test]
    fn who_comes_too_late_is_not_called_and_the_deadline_is_missed() {
        assert_eq!(workers(&[due(250.0, 10, 100.0)], &[], 1000), (0, vec![0]), "a start and a task take 300 s");
        assert_eq!(workers(&[due(250.0, 10, 100.0)], &[0.0; 4], 1000), (4, vec![0]), "they do what they can");
        assert_eq!(workers(&[due(-5.0, 10, 100.0)], &[0.0; 4], 1000), (0, vec![0]));
        assert_eq!(workers(&[due(1200.0, 100, 100.0)], &[], 7), (7, vec![0]), "so many there may not be");
    }

    #[test]
    fn the_more_urgent_one_is_served_first() {
        let (later, sooner) = (due(2200.0, 100, 100.0), due(1200.0, 50, 100.0));
        // Ten for both: five are done with the sooner in time and go on with the later.
        assert_eq!(workers(&[later, sooner], &[], 1000), (8, vec![]));
        assert_eq!(workers(&[later, sooner], &[], 6), (6, vec![0]), "the later one is missed");
    }

    proptest! {
        /// More work, a nearer deadline or a slower start never wants fewer, and never more than there are tasks or may be.
        #[test]
        fn a_deadline_wants_no_fewer_for_more_and_no_more_than_helps(
            left_s in 1.0f64..10_000.0, tasks in 1u64..500, task_s in 1.0f64..1000.0, start_s in 0.0f64..600.0,
            present in 0usize..50, most in 0u64..300,
        ) {
            let one = |left_s: f64, tasks: u64, start_s: f64| {
                plan(vec![(0, due(left_s, tasks, task_s))], vec![0.0; present], start_s, most)
            };
            let here = one(left_s, tasks, start_s);
            prop_assert!(here.workers <= tasks.min(most.max(present as u64)));
            prop_assert!(one(left_s, tasks + 1, start_s).workers >= here.workers);
            let (nearer, slower) = (one(left_s * 0.9, tasks, start_s), one(left_s, tasks, start_s + 10.0));
            prop_assert!(!nearer.missed.is_empty() || nearer.workers >= here.workers);
            prop_assert!(!slower.missed.is_empty() || slower.workers >= here.workers);
            // One fewer would not do, unless they are there anyway.
            if here.missed.is_empty() && here.workers > present as u64 {
                let fewer = plan(vec![(0, due(left_s, tasks, task_s))], vec![0.0; present], start_s, here.workers - 1);
                prop_assert!(!fewer.missed.is_empty());
            }
        }
    }
}
