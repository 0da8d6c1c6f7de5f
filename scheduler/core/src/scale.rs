//! How many workers a function should have.

pub mod cold;

/// What is to be done for one function, and what doing it takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Demand {
    /// Tasks neither done nor failed, of steps that may run.
    pub(crate) tasks: u64,
    /// Seconds a task, once measured.
    pub(crate) task_s: Option<f64>,
    /// Seconds until a new worker renders: its start and the load of its renderer, once measured.
    pub(crate) start_s: Option<f64>,
}

/// No demand, no workers. Otherwise one a task, but no more than have work for longer than their own
/// start takes: a worker that would come to a laid table is not called.
pub(crate) fn wanted_workers(demand: Demand, workers_max: u32) -> u32 {
    if demand.tasks == 0 {
        return 0;
    }
    let by_tasks = u32::try_from(demand.tasks).unwrap_or(u32::MAX);
    let by_time = match (demand.task_s, demand.start_s) {
        (Some(task_s), Some(start_s)) if start_s > 0.0 => {
            let workers = (demand.tasks as f64 * task_s / start_s).ceil().clamp(1.0, f64::from(u32::MAX));
            // Clamped to the range of u32 above.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let workers = workers as u32;
            workers
        }
        _ => u32::MAX,
    };
    by_tasks.min(by_time).min(workers_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_demand_wants_no_workers() {
        assert_eq!(wanted_workers(Demand::default(), 100), 0);
    }

    #[test]
    fn unmeasured_demand_wants_a_worker_for_each_task_up_to_the_limit() {
        let demand = Demand { tasks: 3, ..Demand::default() };
        assert_eq!(wanted_workers(demand, 100), 3);
        assert_eq!(wanted_workers(demand, 2), 2);
    }

    #[test]
    fn work_that_is_shorter_than_a_start_calls_one_worker() {
        let demand = Demand { tasks: 100, task_s: Some(0.01), start_s: Some(5.0) };
        assert_eq!(wanted_workers(demand, 100), 1);
    }

    #[test]
    fn long_work_calls_as_many_as_allowed() {
        let demand = Demand { tasks: 100, task_s: Some(60.0), start_s: Some(5.0) };
        assert_eq!(wanted_workers(demand, 100), 100);
    }
}
