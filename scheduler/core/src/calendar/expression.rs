//! Cron expressions over wall-clock time. The `cron` crate walks the calendar; what it reads otherwise than cron does is
//! put right before: it knows no five fields, counts weekdays from Sunday as 1, and wants day of month *and* weekday
//! where both are given, while cron wants one *or* the other.

use chrono::{DateTime as Utc, TimeDelta};
use cron::Schedule;
use framewake_proto::ids::nearest;
use framewake_proto::schedule::CRON_LEN_MAX;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// Times of day that a reading names one by one.
const TIMES_NAMED_MAX: usize = 4;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpressionError {
    #[error("the cron expression is empty: write for example `30 2 * * *` for 02:30 every day")]
    Empty,
    #[error("the cron expression is longer than {CRON_LEN_MAX} bytes")]
    TooLong,
    #[error("{0} fields: cron has five (minute hour day month weekday), or six with the second first")]
    FieldCount(usize),
    #[error("the year is no field here: say `start` and `end` instead, and leave out the seventh field")]
    Year,
    #[error("`{name}` is not known: there are {}{hint}", NICKNAMES.map(|(name, _)| name).join(", "))]
    Nickname { name: String, hint: String },
    #[error("{field} `{text}`: {reason} (read as {order})")]
    Field { field: &'static str, text: String, reason: String, order: &'static str },
    #[error("`{0}` is never due: no month has such a day")]
    Never(String),
    #[error("`{0}` can't be walked")]
    Unreadable(String),
}

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const FIVE: &str = "five fields: minute hour day month weekday";
const SIX: &str = "six fields: second minute hour day month weekday";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// One of the six places of an expression.
struct Kind {
    name: &'static str,
    first: u8,
    last: u8,
    /// Of the first value on; an abbreviation is its first three letters.
    names: &'static [&'static str],
}

const KINDS: [Kind; 6] = [
    Kind { name: "second", first: 0, last: 59, names: &[] },
    Kind { name: "minute", first: 0, last: 59, names: &[] },
    Kind { name: "hour", first: 0, last: 23, names: &[] },
    Kind { name: "day", first: 1, last: 31, names: &[] },
    Kind { name: "month", first: 1, last: 12, names: &MONTHS },
    // 7 is Sunday too.
    Kind { name: "weekday", first: 0, last: 7, names: &WEEKDAYS },
];

#[derive(Debug, Clone)]
pub(super) struct Expression {
    /// What any of them names is due.
    schedules: Vec<Schedule>,
    every_hour: bool,
    reading: String,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Expression, ExpressionError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ExpressionError::Empty);
        }
        if text.len() > CRON_LEN_MAX {
            return Err(ExpressionError::TooLong);
        }
        let plain = if text.starts_with('@') { nickname(text)? } else { text };
        let words: Vec<&str> = plain.split_whitespace().collect();
        let (words, order) = match words.len() {
            5 => ([&["0"], words.as_slice()].concat(), FIVE),
            6 => (words, SIX),
            7 => return Err(ExpressionError::Year),
            count => return Err(ExpressionError::FieldCount(count)),
        };
        let mut fields = Vec::with_capacity(KINDS.len());
        for (kind, word) in KINDS.iter().zip(&words) {
            let values = kind.parse(word).map_err(|reason| ExpressionError::Field {
                field: kind.name,
                text: (*word).to_owned(),
                reason,
                order,
            })?;
            fields.push(values);
        }
        let weekdays: BTreeSet<u8> = fields[5].iter().map(|day| day % 7).collect();
        fields[5] = weekdays;
        // As in Vixie cron: a field that begins with a star restricts nothing by itself.
        let starred = |word: &str| word.starts_with(['*', '?']);
        let either_day = !starred(words[3]) && !starred(words[5]);
        let reading = Reading { fields: &fields, either_day };
        let expression = Expression {
            schedules: schedules(&fields, either_day).ok_or_else(|| ExpressionError::Unreadable(text.to_owned()))?,
            every_hour: fields[2].len() == 24,
            reading: format!("{} ({order})", reading.text()),
        };
        let any = expression.next(jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0), true);
        any.map(|_| expression).ok_or_else(|| ExpressionError::Never(text.to_owned()))
    }

    /// Whether every hour has a time of the pattern, so that it goes by what the clocks show.
    pub(super) fn every_hour(&self) -> bool {
        self.every_hour
    }

    pub(super) fn reading(&self) -> &str {
        &self.reading
    }

    /// The first time of the pattern after `after`, or at it.
    pub(super) fn next(&self, after: DateTime, or_at: bool) -> Option<DateTime> {
        let seconds = TimeZone::UTC.to_timestamp(after).ok()?.as_second();
        // A broken second is after its beginning, and no pattern names it.
        let at = or_at && after.subsec_nanosecond() == 0;
        let after = Utc::from_timestamp(seconds, 0)? - TimeDelta::seconds(i64::from(at));
        let next = self.schedules.iter().filter_map(|schedule| schedule.after(&after).next()).min()?;
        Some(TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(next.timestamp()).ok()?))
    }
}

fn nickname(text: &str) -> Result<&'static str, ExpressionError> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, plain)) = NICKNAMES.iter().find(|(name, _)| *name == lower) {
        return Ok(plain);
    }
    let near = nearest(&lower, NICKNAMES.map(|(name, _)| name));
    let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Err(ExpressionError::Nickname { name: text.chars().take(32).collect(), hint })
}

fn schedules(fields: &[BTreeSet<u8>], either_day: bool) -> Option<Vec<Schedule>> {
    let list = |values: &BTreeSet<u8>, all: usize, add: u8| {
        let words: Vec<String> = values.iter().map(|value| (value + add).to_string()).collect();
        if values.len() == all { "*".to_owned() } else { words.join(",") }
    };
    let time = format!("{} {} {}", list(&fields[0], 60, 0), list(&fields[1], 60, 0), list(&fields[2], 24, 0));
    let (day, month) = (list(&fields[3], 31, 0), list(&fields[4], 12, 0));
    // The crate's Sunday is 1.
    let weekday = list(&fields[5], 7, 1);
    let texts = if either_day {
        vec![format!("{time} {day} {month} *"), format!("{time} * {month} {weekday}")]
    } else {
        vec![format!("{time} {day} {month} {weekday}")]
    };
    texts.iter().map(|text| text.parse().ok()).collect()
}

impl Kind {
    fn parse(&self, word: &str) -> Result<BTreeSet<u8>, String> {
        let mut values = BTreeSet::new();
        for item in word.split(',') {
            let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
            let (first, last) = match range.split_once('-') {
                _ if range == "*" || range == "?" => (self.first, if self.name == "weekday" { 6 } else { self.last }),
                Some((first, last)) => (self.value(first)?, self.value(last)?),
                None if step.is_some() => (self.value(range)?, self.last),
                None => (self.value(range)?, self.value(range)?),
            };
            if first > last {
                return Err(format!("`{range}` runs backwards: write it as two ranges with a comma"));
            }
            let step = match step.map(str::parse::<u8>) {
                None => 1,
                Some(Ok(step)) if step > 0 => step,
                Some(_) => return Err(format!("a step is a whole number from 1, as in `*/5`, not `{item}`")),
            };
            values.extend((first..=last).step_by(step.into()));
        }
        Ok(values)
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let lower = text.to_ascii_lowercase();
        let named = |name: &&str| name.to_ascii_lowercase() == lower || name[..3].to_ascii_lowercase() == lower;
        if let Some(at) = self.names.iter().position(named) {
            return Ok(self.first + u8::try_from(at).expect("at most twelve names"));
        }
        let number = if text.len() <= 3 { text.parse().ok() } else { None };
        number
            .filter(|number| {
                text.bytes().all(|byte| byte.is_ascii_digit()) && (self.first..=self.last).contains(number)
            })
            .ok_or_else(|| {
                let names = match self.names.first() {
                    Some(first) => format!(", or a name as `{}`", first[..3].to_ascii_lowercase()),
                    None => String::new(),
                };
                let text: String = text.chars().take(16).collect();
                format!("`{text}` is not between {} and {}{names}", self.first, self.last)
            })
    }
}

/// Says in words what the fields mean.
struct Reading<'a> {
    fields: &'a [BTreeSet<u8>],
    either_day: bool,
}

impl Reading<'_> {
    fn text(&self) -> String {
        let [seconds, minutes, hours, ..] = self.fields else { return String::new() };
        let time = if hours.len() == 24 { every_hour(seconds, minutes) } else { at_hours(seconds, minutes, hours) };
        let mut text = time;
        let day = self.day();
        if !day.is_empty() {
            text = format!("{text} {day}");
        } else if hours.len() < 24 {
            text.push_str(" every day");
        }
        let months = &self.fields[4];
        if months.len() < 12 {
            let names = months.iter().map(|month| MONTHS[usize::from(*month) - 1]);
            text = format!("{text} in {}", names.collect::<Vec<_>>().join(", "));
        }
        text
    }

    fn day(&self) -> String {
        let (days, weekdays) = (&self.fields[3], &self.fields[5]);
        let of_month = format!("on {} of the month", numbers("day", days));
        let names: Vec<&str> = weekdays.iter().map(|day| WEEKDAYS[usize::from(*day)]).collect();
        let names = names.join(", ");
        match (days.len() < 31, weekdays.len() < 7) {
            (false, false) => String::new(),
            (true, false) => of_month,
            (false, true) => format!("on {names}"),
            (true, true) if self.either_day => format!("{of_month} or on {names}"),
            (true, true) => format!("{of_month} if it is {names}"),
        }
    }
}

fn every_hour(seconds: &BTreeSet<u8>, minutes: &BTreeSet<u8>) -> String {
    let on_the_minute = seconds.iter().eq(&[0]);
    match (step(seconds), step(minutes)) {
        (_, Some(1)) if on_the_minute => "every minute".to_owned(),
        (_, Some(step)) if on_the_minute => format!("every {step} minutes"),
        (Some(1), Some(1)) => "every second".to_owned(),
        (Some(step), Some(1)) => format!("every {step} seconds"),
        _ if on_the_minute => format!("at {} of every hour", numbers("minute", minutes)),
        _ => format!("at {} of {} of every hour", numbers("second", seconds), numbers("minute", minutes)),
    }
}

fn at_hours(seconds: &BTreeSet<u8>, minutes: &BTreeSet<u8>, hours: &BTreeSet<u8>) -> String {
    if seconds.len() * minutes.len() * hours.len() > TIMES_NAMED_MAX {
        let seconds =
            if seconds.iter().eq(&[0]) { String::new() } else { format!("{} of ", numbers("second", seconds)) };
        return format!("at {seconds}{} of {}", numbers("minute", minutes), numbers("hour", hours));
    }
    let mut times = Vec::new();
    for hour in hours {
        for minute in minutes {
            for second in seconds {
                let seconds = if *second == 0 { String::new() } else { format!(":{second:02}") };
                times.push(format!("{hour:02}:{minute:02}{seconds}"));
            }
        }
    }
    format!("at {}", times.join(", "))
}

/// 15 for 0, 15, 30, 45.
fn step(values: &BTreeSet<u8>) -> Option<u8> {
    let step = 60 / u8::try_from(values.len()).ok()?;
    let all = (0..60).step_by(usize::from(step).max(1));
    (values.len() > 1 && all.eq(values.iter().copied())).then_some(step)
}

/// `minute 5`, `minutes 5, 10`, `every minute`, `hours 8-17`.
fn numbers(what: &str, values: &BTreeSet<u8>) -> String {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return String::new() };
    if values.len() == 60 {
        return format!("every {what}");
    }
    if values.len() == 1 {
        return format!("{what} {first}");
    }
    if values.len() > 2 && usize::from(last - first) + 1 == values.len() {
        return format!("{what}s {first}-{last}");
    }
    let list: Vec<String> = values.iter().map(u8::to_string).collect();
    format!("{what}s {}", list.join(", "))
}
