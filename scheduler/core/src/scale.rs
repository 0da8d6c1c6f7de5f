//! How many workers a function should have, and how long one that has nothing to do should wait for work.
//!
//! Both weigh what a worker costs against what waiting costs. With the work W and the paid start C of a worker in seconds, n
//! workers are done after C + W/n and cost n·C more than the work itself; if waiting is worth v times what a worker costs, the
//! sum is least at n = √(v·W/C). A worker that waits for work longer than its own start costs has cost more than a new one
//! would: so it waits no longer than C, or C·(1 + v/n) where the start is waited for too (ski rental: never more than twice
//! what a prophet would pay).

pub mod cold;
pub mod deadline;
pub mod gaps;
pub mod keep;
pub mod usual;

use std::fmt;
use std::time::Duration;

/// What waiting is worth where the function does not say: a person's hour against a GPU's.
pub const WORTH: f64 = 100.0;
/// What a worker waits for work at least: jobs that follow each other by hand find it.
pub const LINGER_MIN: Duration = Duration::from_secs(10);
/// And at most, unless the function says what waiting is worth: keeping a GPU for longer is money that somebody must want to
/// spend.
pub const LINGER_UNASKED_MAX: Duration = Duration::from_mins(1);
/// At most, whatever waiting is worth: past it a forgotten worker costs real money.
pub const LINGER_MAX: Duration = Duration::from_hours(1);

/// What is to be done for one function, and what doing it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Tasks neither done nor failed, of steps that may run.
    pub tasks: u64,
    /// Seconds of rendering that these are, as far as measured.
    pub work_s: Option<f64>,
    /// Seconds until a new worker renders: its start and the load of its renderer, once measured.
    pub start_s: Option<f64>,
    /// What an hour of waiting is worth, in hours of a worker.
    pub worth: f64,
    /// What the function may have at once.
    pub workers_max: u32,
    /// What all its pools can hold.
    pub capacity: u32,
    /// Workers that the budgets of its jobs pay for; `None`: not all have one.
    pub paid_for: Option<u32>,
    /// Workers that it takes to meet the deadlines of its jobs; 0: none has one.
    pub urgent: u32,
    /// Workers that are to be there whatever is to be done.
    pub kept: u32,
    /// Workers for runs of schedules that are about to begin, beside those that are at other work.
    pub early: u32,
}

impl Default for Demand {
    fn default() -> Demand {
        Demand {
            tasks: 0,
            work_s: None,
            start_s: None,
            worth: WORTH,
            workers_max: u32::MAX,
            capacity: u32::MAX,
            paid_for: None,
            urgent: 0,
            kept: 0,
            early: 0,
        }
    }
}

/// How many workers are wanted, and what decided it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    pub wanted: u32,
    pub by: By,
    /// Where what waiting costs and what workers cost are least together; `None`: not everything was measured.
    pub optimum: Option<f64>,
}

/// What decided how many workers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nothing is to be done.
    NoWork,
    /// One for each task.
    Tasks,
    /// More would come when the work is done.
    Start,
    /// More would cost more than the waiting they save.
    Worth,
    /// So many are done with its jobs by their deadlines.
    Deadline,
    /// The function's own limit.
    Limit,
    /// The budgets of its jobs.
    Budget,
    /// What its pools can hold.
    Pools,
    /// Workers that are kept or called before they are needed.
    Kept,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            By::NoWork => "nothing is to be done",
            By::Tasks => "one for each task",
            By::Start => "more would come when the work is done",
            By::Worth => "more would cost more than the waiting they save",
            By::Deadline => "the deadlines of its jobs",
            By::Limit => "`scaling.max` of the function",
            By::Budget => "what the budgets of its jobs pay for",
            By::Pools => "what its pools can hold",
            By::Kept => "workers that are kept, or called before they are needed",
        })
    }
}

impl Demand {
    /// No work, no workers, unless some are kept.
    pub fn decide(&self) -> Decision {
        let mut decision = Decision { wanted: 0, by: By::NoWork, optimum: None };
        if self.tasks > 0 {
            decision = Decision { wanted: u32::try_from(self.tasks).unwrap_or(u32::MAX), by: By::Tasks, optimum: None };
            let mut cap = |most: u32, by: By| {
                if most < decision.wanted {
                    (decision.wanted, decision.by) = (most, by);
                }
            };
            if let (Some(work_s), Some(start_s)) = (self.work_s, self.start_s.filter(|start_s| *start_s > 0.0)) {
                let optimum = (self.worth * work_s / start_s).sqrt();
                cap(whole(work_s / start_s), By::Start);
                cap(whole(optimum), By::Worth);
                decision.optimum = Some(optimum);
            }
            // Who must be done in time pays for it; but never for more than there are tasks.
            let urgent = u64::from(self.urgent).min(self.tasks);
            if let Ok(urgent) = u32::try_from(urgent)
                && urgent > decision.wanted
            {
                (decision.wanted, decision.by) = (urgent, By::Deadline);
            }
            let mut cap = |most: u32, by: By| {
                if most < decision.wanted {
                    (decision.wanted, decision.by) = (most, by);
                }
            };
            if let Some(paid_for) = self.paid_for {
                cap(paid_for.max(1), By::Budget);
            }
        }
        let ready = self.kept.max(decision.wanted.saturating_add(self.early));
        if ready > decision.wanted {
            (decision.wanted, decision.by) = (ready, By::Kept);
        }
        for (most, by) in [(self.workers_max, By::Limit), (self.capacity, By::Pools)] {
            if most < decision.wanted {
                (decision.wanted, decision.by) = (most, by);
            }
        }
        decision
    }
}

/// At least one worker, and a whole number of them.
fn whole(workers: f64) -> u32 {
    // Clamped to the range of u32.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let workers = workers.ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
    workers
}

/// How long a worker without work is worth more than a new one: its start, and the waiting for it, which all `workers` that
/// start together share.
pub fn worth_keeping(start: Duration, worth: f64, workers: u32) -> Duration {
    start.mul_f64(1.0 + worth / f64::from(workers.max(1)))
}

/// How long a worker waits for work before it leaves, where the function does not fix it. `worth`: if the function says what
/// waiting is worth.
pub fn linger(start: Option<Duration>, worth: Option<f64>, workers: u32) -> Duration {
    let Some(start) = start else { return LINGER_MIN };
    let (worth, most) = worth.map_or((0.0, LINGER_UNASKED_MAX), |worth| (worth, LINGER_MAX));
    worth_keeping(start, worth, workers).clamp(LINGER_MIN, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: f64 = 3600.0;

    fn wanted(demand: Demand) -> (u32, By) {
        let decision = demand.decide();
        (decision.wanted, decision.by)
    }

    #[test]
    fn no_demand_wants_no_workers() {
        assert_eq!(wanted(Demand::default()), (0, By::NoWork));
    }

    #[test]
    fn unmeasured_demand_wants_a_worker_for_each_task_up_to_the_limit() {
        let demand = Demand { tasks: 3, workers_max: 100, ..Demand::default() };
        assert_eq!(wanted(demand), (3, By::Tasks));
        assert_eq!(wanted(Demand { workers_max: 2, ..demand }), (2, By::Limit));
        assert_eq!(wanted(Demand { capacity: 1, ..demand }), (1, By::Pools));
    }

    #[test]
    fn work_that_is_shorter_than_a_start_calls_one_worker() {
        let demand = Demand { tasks: 100, work_s: Some(1.0), start_s: Some(5.0), ..Demand::default() };
        assert_eq!(wanted(demand), (1, By::Start));
    }

    #[test]
    fn long_work_calls_as_many_as_allowed() {
        let demand = Demand { tasks: 100, work_s: Some(6000.0), start_s: Some(5.0), ..Demand::default() };
        assert_eq!(wanted(demand), (100, By::Tasks));
    }

    /// The examples of the formula's derivation: 100 hours of work, 200 s to start, a worker at 0.71 an hour.
    #[test]
    fn workers_are_bought_as_long_as_the_waiting_they_save_is_worth_more() {
        let check = |an_hour: f64, workers: u32| {
            let (work_s, worth) = (Some(100.0 * HOUR), an_hour / 0.71);
            let demand = Demand { tasks: 100_000, work_s, start_s: Some(200.0), worth, ..Demand::default() };
            assert_eq!(wanted(demand), (workers, By::Worth));
        };
        check(10.0, 160);
        check(50.0, 357);
        check(0.0, 1);
    }

    #[test]
    fn kept_workers_are_there_without_work_and_within_the_limits() {
        let demand = Demand { kept: 4, ..Demand::default() };
        assert_eq!(wanted(demand), (4, By::Kept));
        assert_eq!(wanted(Demand { tasks: 7, ..demand }), (7, By::Tasks));
        assert_eq!(wanted(Demand { workers_max: 3, ..demand }), (3, By::Limit));
        assert_eq!(wanted(Demand { capacity: 0, ..demand }), (0, By::Pools));
    }

    #[test]
    fn a_deadline_calls_more_than_is_worth_it_and_no_more_than_there_are_tasks_money_and_room() {
        let short = Demand { tasks: 100, work_s: Some(1000.0), start_s: Some(200.0), ..Demand::default() };
        assert_eq!(wanted(short), (5, By::Start));
        assert_eq!(wanted(Demand { urgent: 3, ..short }), (5, By::Start));
        assert_eq!(wanted(Demand { urgent: 20, ..short }), (20, By::Deadline));
        assert_eq!(wanted(Demand { urgent: 2000, ..short }), (100, By::Deadline));
        assert_eq!(wanted(Demand { urgent: 20, paid_for: Some(8), ..short }), (8, By::Budget));
        assert_eq!(wanted(Demand { urgent: 20, workers_max: 7, ..short }), (7, By::Limit));
        assert_eq!(wanted(Demand { urgent: 20, tasks: 0, ..short }), (0, By::NoWork));
    }

    #[test]
    fn a_run_that_is_about_to_begin_has_workers_of_its_own() {
        let demand = Demand { tasks: 7, early: 40, ..Demand::default() };
        assert_eq!(wanted(demand), (47, By::Kept));
        assert_eq!(wanted(Demand { kept: 50, ..demand }), (50, By::Kept), "those that are kept do for both");
        assert_eq!(wanted(Demand { capacity: 45, ..demand }), (45, By::Pools));
    }

    #[test]
    fn a_budget_calls_no_more_than_it_pays_for_and_one_at_least() {
        let demand = Demand { tasks: 50, paid_for: Some(3), ..Demand::default() };
        assert_eq!(wanted(demand), (3, By::Budget));
        assert_eq!(wanted(Demand { paid_for: Some(0), ..demand }), (1, By::Budget));
    }

    #[test]
    fn a_worker_waits_as_long_as_its_own_start_takes() {
        let s = Duration::from_secs;
        assert_eq!(linger(None, None, 1), LINGER_MIN);
        assert_eq!(linger(Some(s(1)), None, 1), LINGER_MIN);
        assert_eq!(linger(Some(s(40)), None, 1), s(40));
        assert_eq!(linger(Some(s(200)), None, 8), LINGER_UNASKED_MAX);
        // Ten times what a worker costs, shared by the four that start together.
        assert_eq!(linger(Some(s(200)), Some(10.0), 4), s(700));
        assert_eq!(linger(Some(s(200)), Some(1000.0), 1), LINGER_MAX);
        assert_eq!(linger(Some(s(200)), Some(0.0), 1), s(200));
    }

    proptest! {
        /// Neither fewer nor more workers cost less, waiting included.
        #[test]
        fn the_optimum_is_one(work_s in 1.0f64..1e6, start_s in 1.0f64..1e3, worth in 0.1f64..1e3) {
            let demand = Demand { tasks: u64::MAX, work_s: Some(work_s), start_s: Some(start_s), worth, ..Demand::default() };
            let optimum = demand.decide().optimum.expect("all is measured");
            let cost = |workers: f64| worth * (start_s + work_s / workers) + workers * start_s;
            prop_assert!(cost(optimum) <= cost(optimum * 1.01) + 1e-9 && cost(optimum) <= cost(optimum * 0.99) + 1e-9);
        }

        /// No gap costs more than twice what a prophet pays, who keeps the worker or lets it go.
        #[test]
        fn waiting_for_work_costs_at_most_twice_what_a_prophet_pays(start_s in 10u64..3600, gap_s in 0u64..10_000) {
            let start = Duration::from_secs(start_s);
            let keep = worth_keeping(start, 0.0, 1).as_secs_f64();
            let (gap, start) = (Duration::from_secs(gap_s).as_secs_f64(), start.as_secs_f64());
            let paid = if gap <= keep { gap } else { keep + start };
            prop_assert!(paid <= 2.0 * gap.min(start) + 1e-9);
        }

        /// More tasks, longer ones, more that is urgent, kept or paid for: never fewer workers. And never more than there are
        /// tasks for or that are kept, nor than the function, its pools and its budgets allow; one at least, if any is allowed.
        #[test]
        fn more_to_do_never_wants_fewer_workers_and_limits_hold(demand in demands(), more in 1u32..100) {
            let wanted = |demand: Demand| demand.decide().wanted;
            let (here, many) = (wanted(demand), u64::from(more));
            let task_s = demand.work_s.map(|work_s| work_s / demand.tasks.max(1) as f64);
            let (tasks, longer_s) = (demand.tasks + many, demand.work_s.map(|work_s| work_s + f64::from(more)));
            let work_s = task_s.map(|task_s| tasks as f64 * task_s);
            let bigger = [
                Demand { tasks, work_s, ..demand },
                Demand { work_s: longer_s, ..demand },
                Demand { urgent: demand.urgent + more, ..demand },
                Demand { kept: demand.kept + more, ..demand },
                Demand { early: demand.early + more, ..demand },
                Demand { workers_max: demand.workers_max + more, ..demand },
                Demand { capacity: demand.capacity + more, ..demand },
                Demand { paid_for: demand.paid_for.map(|paid_for| paid_for + more), ..demand },
                Demand { worth: demand.worth + f64::from(more), ..demand },
            ];
            for bigger in bigger {
                prop_assert!(wanted(bigger) >= here, "{bigger:?} wants {} and {demand:?} {here}", wanted(bigger));
            }
            prop_assert!(here <= demand.workers_max && here <= demand.capacity);
            let asked = demand.kept.max(demand.early.saturating_add(u32::try_from(demand.tasks).unwrap_or(u32::MAX)));
            prop_assert!(here <= asked);
            if let Some(paid_for) = demand.paid_for {
                prop_assert!(here <= demand.kept.max(demand.early.saturating_add(paid_for.max(1))));
            }
            if demand.tasks > 0 && demand.workers_max > 0 && demand.capacity > 0 {
                prop_assert!(here >= 1);
            }
        }
    }

    prop_compose! {
        fn demands()(
            tasks in 0u64..1000,
            task_s in proptest::option::of(0.01f64..1e4),
            start_s in proptest::option::of(0.01f64..1e3),
            worth in 0.0f64..1e3,
            workers_max in 0u32..500,
            capacity in 0u32..500,
            paid_for in proptest::option::of(0u32..500),
            urgent in 0u32..500,
            (kept, early) in (0u32..50, 0u32..50),
        ) -> Demand {
            let work_s = task_s.map(|task_s| tasks as f64 * task_s);
            Demand { tasks, work_s, start_s, worth, workers_max, capacity, paid_for, urgent, kept, early }
        }
    }
}
