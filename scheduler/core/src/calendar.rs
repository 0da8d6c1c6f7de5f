//! When something is due: a cron expression on the clocks of a zone.
//!
//! The rule over changes of the clocks. A pattern for certain hours (`30 2 * * *`) names times of day, and each is due
//! once a day: at the first instant at which the clocks show it or a later time. So a time that is skipped in spring is
//! due when the clocks have jumped, several such times are due once, and a time that comes twice in autumn is due the
//! first time. A pattern for every hour (`*/15 * * * *`) goes by what the clocks show, whenever they show it: a time
//! that comes twice is due twice, and one that is skipped is not due.

mod expression;
#[cfg(test)]
mod tests;

pub use expression::ExpressionError;

use expression::Expression;
use framewake_proto::ids::nearest;
use framewake_proto::time::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use std::time::Duration;

/// Most zone names in a hint.
const NEAREST_MAX: usize = 3;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{wrong}` is not a time zone{hint}")]
pub struct ZoneError {
    wrong: String,
    hint: String,
}

#[derive(Debug, Clone)]
pub struct Calendar {
    /// As it was written.
    text: String,
    expression: Expression,
    zone: TimeZone,
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Calendar) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}

impl Eq for Calendar {}

impl Calendar {
    pub fn new(cron: &str, zone: TimeZone) -> Result<Calendar, ExpressionError> {
        Ok(Calendar { text: cron.to_owned(), expression: Expression::parse(cron)?, zone })
    }

    /// How the expression was read, in words.
    pub fn reading(&self) -> String {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        format!("{}, on the clocks of {zone}", self.expression.reading())
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What the clocks show: `2026-03-29T03:00:00+02:00[Europe/Paris]`.
    pub fn local(&self, at: Timestamp) -> String {
        instant(at).map_or_else(|| at.to_string(), |at| at.to_zoned(self.zone.clone()).to_string())
    }

    /// The first due time after `after`; `None` when there is no other.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        // Whole seconds: what is due within the second that has begun was due at its beginning.
        let after = jiff::Timestamp::from_second(after.0.div_euclid(1000)).ok()?;
        let due = if self.expression.every_hour() { self.next_shown(after) } else { self.next_reached(after) }?;
        Some(Timestamp(due.as_millisecond()))
    }

    /// The first instant after `after` at which the clocks show a time of the pattern.
    fn next_shown(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut offset = self.zone.to_offset(after);
        let mut wall = self.expression.next(offset.to_datetime(after), false)?;
        let mut from = after;
        // From one change of the clocks to the next.
        loop {
            let change = self.zone.following(from).next().map(|change| change.timestamp());
            let due = offset.to_timestamp(wall).ok()?;
            match change {
                Some(change) if due >= change => {
                    from = change;
                    offset = self.zone.to_offset(change);
                    wall = self.expression.next(offset.to_datetime(change), true)?;
                }
                Some(_) | None => return Some(due),
            }
        }
    }

    /// The first instant after `after` at which the clocks reach a time of the pattern for the first time.
    fn next_reached(&self, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let mut wall = self.expression.next(self.zone.to_datetime(after), false)?;
        loop {
            let due = self.reached(wall)?;
            if due > after {
                return Some(due);
            }
            // In the second pass of an hour that comes twice: it was due in the first.
            wall = self.expression.next(wall, false)?;
        }
    }

    /// When the clocks first show `wall` or a later time.
    fn reached(&self, wall: DateTime) -> Option<jiff::Timestamp> {
        let at = |offset: Offset| offset.to_timestamp(wall).ok();
        match self.zone.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset),
            AmbiguousOffset::Fold { before, .. } => at(before),
            // Read with what comes after, the time lies before the jump.
            AmbiguousOffset::Gap { after, .. } => Some(self.zone.following(at(after)?).next()?.timestamp()),
        }
    }

    /// The newest due times after `after` and not after `until`, oldest first, at most `newest_max`; and whether there
    /// are older ones that were left out. Walks a bounded number of times, however long the span.
    pub(crate) fn between(&self, after: Timestamp, until: Timestamp, newest_max: usize) -> (Vec<Timestamp>, bool) {
        let due_after = |begin: i64| -> Vec<Timestamp> {
            let dues = std::iter::successors(self.next(Timestamp(begin)), |due| self.next(*due));
            dues.take_while(|due| *due <= until).take(2 * newest_max + 1).collect()
        };
        let mut found = due_after(after.0);
        let mut older = false;
        // The later the beginning, the fewer there are: halve until there are enough and not too many.
        let (mut many, mut few) = (after.0, until.0);
        while found.len() > 2 * newest_max || (older && found.len() < newest_max && few - many > 1) {
            older = true;
            let middle = many + (few - many) / 2;
            found = due_after(middle);
            if found.len() > 2 * newest_max {
                many = middle;
            } else {
                few = middle;
            }
        }
        older |= found.len() > newest_max;
        (found.split_off(found.len().saturating_sub(newest_max)), older)
    }
}

/// The zone of that name, from the tables that this program carries.
pub fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    let error = || ZoneError { wrong: name.chars().take(64).collect(), hint: hint(name) };
    TimeZone::get(name).map_err(|_| error()).and_then(|zone| match zone.iana_name() {
        Some(_) => Ok(zone),
        None if zone == TimeZone::UTC => Ok(zone),
        None => Err(error()),
    })
}

fn hint(wrong: &str) -> String {
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let lower = wrong.to_lowercase().replace(' ', "_");
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let mut near: Vec<&str> = known.iter().map(String::as_str).filter(|name| city(name) == city(&lower)).collect();
    near.extend(nearest(wrong, known.iter().map(String::as_str)));
    near.dedup();
    near.truncate(NEAREST_MAX);
    if near.is_empty() {
        return ": write an IANA name, as in `Europe/Paris`".to_owned();
    }
    format!("; did you mean `{}`?", near.join("` or `"))
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

/// The shortest time between due times, from a sample of the next ones after `after`.
pub(crate) fn shortest_interval(calendar: &Calendar, after: Timestamp, sample: usize) -> Option<Duration> {
    let mut last = calendar.next(after)?;
    let mut shortest = None;
    for _ in 0..sample {
        let Some(next) = calendar.next(last) else { break };
        let interval = next.since(last);
        shortest = Some(shortest.map_or(interval, |shortest: Duration| shortest.min(interval)));
        last = next;
    }
    shortest
}
