//! Workers that are to be there at certain times, whatever is to be done: windows of a calendar.

use crate::calendar::{self, Calendar};
use framewake_proto::function::{FunctionSpec, Keep};
use framewake_proto::job::Fault;
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// A window: from each time that is due, so many workers for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub workers: u32,
    pub calendar: Calendar,
    pub length: Duration,
}

impl Window {
    fn new(keep: &Keep) -> Result<Window, (&'static str, String)> {
        let zone = calendar::zone(&keep.zone).map_err(|error| ("zone", error.to_string()))?;
        let calendar = Calendar::new(&keep.from, zone).map_err(|error| ("from", error.to_string()))?;
        Ok(Window { workers: keep.workers, calendar, length: keep.length.0 })
    }

    /// The windows of a function that was checked before.
    pub fn all(function: &FunctionSpec) -> Vec<Window> {
        function.scaling.keep.iter().filter_map(|keep| Window::new(keep).ok()).collect()
    }

    /// What is wrong with the calendars of a function's windows.
    pub fn faults(function: &FunctionSpec) -> Vec<Fault> {
        let faulty = function.scaling.keep.iter().enumerate().filter_map(|(at, keep)| {
            let (field, reason) = Window::new(keep).err()?;
            Some(Fault::new(format!("/scaling/keep/{at}/{field}"), reason))
        });
        faulty.collect()
    }

    /// Until when it is open, if it is.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        // The first that began within the last `length` is open now, and a later one keeps it open for longer.
        let begun = self.calendar.next(Timestamp(now.0 - ms(self.length)))?;
        (begun <= now).then(|| begun.after(self.length))
    }

    /// When it opens or closes next.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let opens = self.calendar.next(now);
        self.open_until(now).into_iter().chain(opens).min()
    }
}

fn ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Workers that the windows ask for now; of several that are open, the most.
pub fn kept(windows: &[Window], now: Timestamp) -> u32 {
    let open = windows.iter().filter(|window| window.open_until(now).is_some());
    open.map(|window| window.workers).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(workers: u32, from: &str, hours: u64, zone: &str) -> Window {
        let zone = calendar::zone(zone).expect("a good zone");
        let calendar = Calendar::new(from, zone).expect("a good expression");
        Window { workers, calendar, length: Duration::from_hours(hours) }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
    }

    #[test]
    fn a_window_is_open_from_its_time_for_its_length() {
        let office = [window(4, "0 8 * * 1-5", 10, "Europe/Paris")];
        // A Monday in winter: Paris is an hour ahead.
        assert_eq!(kept(&office, at("2026-01-05T06:59:59Z")), 0);
        assert_eq!(kept(&office, at("2026-01-05T07:00:00Z")), 4);
        assert_eq!(kept(&office, at("2026-01-05T16:59:59Z")), 4);
        assert_eq!(kept(&office, at("2026-01-05T17:00:00Z")), 0);
        // In summer it is two, and on Sundays nobody works.
        assert_eq!(kept(&office, at("2026-07-06T06:00:00Z")), 4);
        assert_eq!(kept(&office, at("2026-07-05T10:00:00Z")), 0);
        let next = office[0].next_change(at("2026-01-05T07:00:00Z"));
        assert_eq!(next, Some(at("2026-01-05T17:00:00Z")));
        assert_eq!(office[0].next_change(at("2026-01-09T17:00:00Z")), Some(at("2026-01-12T07:00:00Z")));
    }

    #[test]
    fn of_several_windows_the_one_with_the_most_workers_counts() {
        let windows = [window(1, "0 0 * * *", 24, "UTC"), window(8, "0 22 * * *", 2, "UTC")];
        assert_eq!(kept(&windows, at("2026-01-05T12:00:00Z")), 1);
        assert_eq!(kept(&windows, at("2026-01-05T22:30:00Z")), 8);
        assert_eq!(kept(&windows, at("2026-01-06T00:00:00Z")), 1, "open without a gap");
    }

    #[test]
    fn a_window_that_can_t_be_read_is_told_by_its_field() {
        let check = |from: &str, zone: &str, field: Option<&str>| {
            let (from, zone) = (from.to_owned(), zone.to_owned());
            let keep =
                Keep { workers: 1, from, length: framewake_proto::duration::Span(Duration::from_hours(1)), zone };
            assert_eq!(Window::new(&keep).err().map(|(field, _)| field), field);
        };
        check("0 8 * * 1-5", "UTC", None);
        check("at noon", "UTC", Some("from"));
        check("0 8 * * *", "Paris", Some("zone"));
    }
}
