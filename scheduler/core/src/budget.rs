//! What a job may cost: what is spent, what its open chunks will still take, and how much more fits.
//!
//! Amounts are kept as millionths times microseconds of an hour's price, so that nothing is rounded.

use crate::ledger::Spent;
use crate::price::Held;
use framewake_proto::job::{AtLimit, Budget};
use framewake_proto::money::{Micros, Money};

/// Microseconds of an hour.
const HOUR_US: i128 = 3_600_000_000;

/// A job's budget and what of it is gone.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    budget: Budget,
    spent: i128,
}

/// How many more tasks may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// As many as there are.
    Free,
    /// At most so many, at least 1.
    Tasks(u32),
    /// None while its open chunks may take the rest.
    Later,
    None,
}

/// What a worker of the job costs, and how long things take as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forecast {
    pub(crate) held: Option<Held>,
    /// Until a worker renders: its start and its load.
    pub(crate) before_s: f64,
    pub(crate) task_s: Option<f64>,
}

impl Book {
    pub(crate) fn new(budget: Budget, spent: &[(Held, u64)]) -> Book {
        let mut book = Book { budget, spent: 0 };
        for (held, time_us) in spent {
            book.spend(*held, *time_us);
        }
        book
    }

    pub(crate) fn add(&mut self, spent: &Spent) {
        if let Some(held) = spent.price {
            self.spend(held, spent.time_us());
        }
    }

    fn spend(&mut self, held: Held, time_us: u64) {
        if held.currency == self.budget.limit.currency {
            self.spent += cost(held, time_us);
        }
    }

    pub(crate) fn at_limit(&self) -> AtLimit {
        self.budget.at_limit
    }

    /// Whether it is used up with what is under way and not yet reported.
    pub(crate) fn is_used_up(&self, under_way: i128) -> bool {
        self.spent + under_way >= self.limit()
    }

    /// `committed`: what open chunks will take. `any_open`: whether there are any.
    pub(crate) fn room(&self, committed: i128, any_open: bool, forecast: Forecast) -> Room {
        if self.budget.at_limit == AtLimit::Warn {
            return Room::Free;
        }
        let full = if any_open { Room::Later } else { Room::None };
        // A price that is not known, or in another currency, can't be held against the budget.
        let Some(held) = forecast.held.filter(|held| held.currency == self.budget.limit.currency) else { return full };
        let left = self.limit() - self.spent - committed - cost(held, time_us(forecast.before_s));
        let Some(task_s) = forecast.task_s else {
            // Nothing was measured: one task tells.
            return if left > 0 { Room::Tasks(1) } else { full };
        };
        let each = cost(held, time_us(task_s)).max(1);
        match u32::try_from(left.max(0) / each) {
            Ok(0) => full,
            Ok(tasks) => Room::Tasks(tasks),
            Err(_) => Room::Free,
        }
    }

    fn limit(&self) -> i128 {
        i128::from(self.budget.limit.micros) * HOUR_US
    }

    /// What is gone of it, for people.
    pub(crate) fn told(&self) -> String {
        let Money { micros, currency } = self.budget.limit;
        format!("{} of {} {currency} is spent", Micros(self.spent / HOUR_US), Micros(i128::from(micros)))
    }

    pub(crate) fn knows_price(&self, forecast: Forecast) -> bool {
        forecast.held.is_some_and(|held| held.currency == self.budget.limit.currency)
    }
}

pub(crate) fn cost(held: Held, time_us: u64) -> i128 {
    i128::from(held.micros_an_hour) * i128::from(time_us)
}

/// A forecast in whole microseconds, rounded up; a century at most.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Kept within what fits.
pub(crate) fn time_us(seconds: f64) -> u64 {
    (seconds.clamp(0.0, 3.2e9) * 1e6).ceil() as u64
}
