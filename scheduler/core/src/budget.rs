//! What a job or a project may cost: what is spent, what open chunks will still take, and how much more fits.
//!
//! Amounts are kept as millionths times microseconds of an hour's price, so that nothing is rounded.

use crate::ledger::Spent;
use crate::price::Held;
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::job::{AtLimit, Budget};
use framewake_proto::money::{Micros, Money};
use framewake_proto::time::{Day, Month, Timestamp};
use std::collections::BTreeMap;

/// Microseconds of an hour.
const HOUR_US: i128 = 3_600_000_000;

/// A budget and what of it is gone.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) limit: Money,
    pub(crate) at_limit: AtLimit,
    pub(crate) warn_percent: u32,
    spent: i128,
    /// What people were told.
    pub(crate) told: Standing,
    /// Offers were taken back and tails given up.
    stopped: bool,
}

/// How many more tasks may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// As many as there are.
    Free,
    /// At most so many, at least 1.
    Tasks(u32),
    /// None while open chunks may take the rest.
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

/// The budgets of one project, and whether its work is given out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purse {
    books: BTreeMap<Period, (Month, Book)>,
    pub(crate) serving: Serving,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Serving {
    #[default]
    Open,
    /// Not while what is under way may take the rest.
    Later,
    /// Not until there is more money, or another month.
    Held,
}

impl Book {
    pub(crate) fn of_job(Budget { limit, at_limit }: Budget, spent: &[(Held, u64)]) -> Book {
        Book::new(ProjectBudget { limit, warn_percent: 100, at_limit }, spent)
    }

    /// The same; people were told what there is to tell.
    pub(crate) fn of_known_job(budget: Budget, spent: &[(Held, u64)]) -> Book {
        let mut book = Book::of_job(budget, spent);
        book.told = book.standing();
        book
    }

    fn new(budget: ProjectBudget, spent: &[(Held, u64)]) -> Book {
        let ProjectBudget { limit, warn_percent, at_limit } = budget;
        let mut book = Book { limit, at_limit, warn_percent, spent: 0, told: Standing::Fine, stopped: false };
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
        if held.currency == self.limit.currency {
            self.spent += cost(held, time_us);
        }
    }

    /// Whether it is used up with what is under way and not yet reported.
    pub(crate) fn is_used_up(&self, under_way: i128) -> bool {
        self.spent + under_way >= self.limit()
    }

    /// What is to be done about open chunks, the moment that it is used up with what is under way.
    pub(crate) fn stops(&mut self, under_way: i128) -> Option<AtLimit> {
        let is_used_up = self.is_used_up(under_way);
        let was_stopped = std::mem::replace(&mut self.stopped, is_used_up);
        (is_used_up && !was_stopped).then_some(self.at_limit)
    }

    /// By what is spent alone.
    pub(crate) fn standing(&self) -> Standing {
        if self.is_used_up(0) {
            Standing::UsedUp
        } else if self.spent * 100 >= self.limit() * i128::from(self.warn_percent) {
            Standing::Warned
        } else {
            Standing::Fine
        }
    }

    /// Whether it keeps anything from being given out.
    pub(crate) fn is_hard(&self) -> bool {
        self.at_limit != AtLimit::Warn
    }

    /// `committed`: what open chunks will take. `any_open`: whether there are any.
    pub(crate) fn room(&self, committed: i128, any_open: bool, forecast: Forecast) -> Room {
        if !self.is_hard() {
            return Room::Free;
        }
        let full = if any_open { Room::Later } else { Room::None };
        // A price that is not known, or in another currency, can't be held against the budget.
        let Some(held) = forecast.held.filter(|held| held.currency == self.limit.currency) else { return full };
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

    /// Seconds of a worker that are left; `None`: its price is not known, or the job goes on whatever it costs.
    pub(crate) fn left_s(&self, held: Option<Held>) -> Option<f64> {
        let held = held.filter(|held| held.currency == self.limit.currency && held.micros_an_hour > 0)?;
        let left = (self.limit() - self.spent).max(0);
        (self.at_limit != AtLimit::Warn).then(|| left as f64 / held.micros_an_hour as f64 / 1e6)
    }

    fn limit(&self) -> i128 {
        i128::from(self.limit.micros) * HOUR_US
    }

    pub(crate) fn spent(&self) -> Money {
        let micros = i64::try_from(self.spent / HOUR_US).unwrap_or(i64::MAX);
        Money { micros, currency: self.limit.currency }
    }

    /// What is gone of it, for people.
    pub(crate) fn told(&self) -> String {
        let Money { micros, currency } = self.limit;
        format!("{} of {} {currency} is spent", Micros(self.spent / HOUR_US), Micros(i128::from(micros)))
    }

    pub(crate) fn knows_price(&self, forecast: Forecast) -> bool {
        forecast.held.is_some_and(|held| held.currency == self.limit.currency)
    }
}

impl Purse {
    /// `spent`: in this month, or in all. What people know of it already.
    pub(crate) fn set(
        &mut self,
        now: Timestamp,
        period: Period,
        budget: Option<(ProjectBudget, &[(Held, u64)])>,
    ) -> Standing {
        let before = self.books.remove(&period).map_or(Standing::Fine, |(_, book)| book.told);
        let Some((budget, spent)) = budget else { return Standing::Fine };
        let mut book = Book::new(budget, spent);
        book.told = before.min(book.standing());
        let told = book.told;
        self.books.insert(period, (month(now), book));
        told
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    pub(crate) fn books(&self) -> impl Iterator<Item = (Period, Month, &Book)> {
        self.books.iter().map(|(period, (month, book))| (*period, *month, book))
    }

    pub(crate) fn book_mut(&mut self, period: Period) -> Option<&mut Book> {
        self.books.get_mut(&period).map(|(_, book)| book)
    }

    pub(crate) fn add(&mut self, spent: &Spent) {
        let of = Month::of(Day(spent.day()));
        for (period, (month, book)) in &mut self.books {
            if *period == Period::Month && of > *month {
                turn(book, month, of);
            }
            if *period == Period::Total || of == *month {
                book.add(spent);
            }
        }
    }

    /// A new month begins with nothing spent.
    pub(crate) fn turn_month(&mut self, now: Timestamp) {
        for (period, (month, book)) in &mut self.books {
            if *period == Period::Month && self::month(now) > *month {
                turn(book, month, self::month(now));
            }
        }
    }

    /// The least room that any of the budgets leaves.
    pub(crate) fn room(&self, committed: i128, any_open: bool, forecast: Forecast) -> Room {
        self.books().map(|(_, _, book)| book.room(committed, any_open, forecast)).fold(Room::Free, Room::least)
    }

    pub(crate) fn knows_price(&self, forecast: Forecast) -> bool {
        self.books().all(|(_, _, book)| !book.is_hard() || book.knows_price(forecast))
    }

    /// What is to be done about open chunks, the moment that one of the hard budgets is used up with what is under way.
    pub(crate) fn stops(&mut self, under_way: i128) -> Option<AtLimit> {
        let hard = self.books.values_mut().map(|(_, book)| book).filter(|book| book.is_hard());
        // Where one may finish what another would hold, it is held.
        hard.filter_map(|book| book.stops(under_way)).min_by_key(|at_limit| *at_limit != AtLimit::Hold)
    }

    /// A hard budget of which nothing is left.
    pub(crate) fn used_up(&self, under_way: i128) -> Option<&Book> {
        self.books().map(|(_, _, book)| book).find(|book| book.is_hard() && book.is_used_up(under_way))
    }
}

impl Room {
    #[must_use]
    pub(crate) fn least(self, other: Room) -> Room {
        match (self, other) {
            (Room::None, _) | (_, Room::None) => Room::None,
            (Room::Later, _) | (_, Room::Later) => Room::Later,
            (Room::Tasks(a), Room::Tasks(b)) => Room::Tasks(a.min(b)),
            (Room::Tasks(tasks), Room::Free) | (Room::Free, Room::Tasks(tasks)) => Room::Tasks(tasks),
            (Room::Free, Room::Free) => Room::Free,
        }
    }
}

fn turn(book: &mut Book, month: &mut Month, to: Month) {
    *month = to;
    book.spent = 0;
    book.told = Standing::Fine;
    book.stopped = false;
}

/// The month that a moment is of.
pub(crate) fn month(now: Timestamp) -> Month {
    Month::of(Day::of(now))
}

pub(crate) fn cost(held: Held, time_us: u64) -> i128 {
    i128::from(held.micros_an_hour) * i128::from(time_us)
}

/// A forecast in whole microseconds, rounded up; a century at most.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Kept within what fits.
pub(crate) fn time_us(seconds: f64) -> u64 {
    (seconds.clamp(0.0, 3.2e9) * 1e6).ceil() as u64
}
