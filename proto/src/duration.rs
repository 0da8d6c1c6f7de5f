//! Durations as people write them: `500ms`, `30s`, `10m`, `2h`, `1d`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration with its unit, in job and function files. Whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Longest span accepted anywhere: a year; more is a typing error.
pub const SPAN_MAX: Duration = Duration::from_hours(365 * 24);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpanError {
    #[error("`{0}` is not a duration: write a whole number and a unit, as `500ms`, `30s`, `10m`, `2h` or `1d`")]
    Malformed(String),
    #[error("`{0}` is longer than the 365d allowed")]
    TooLong(String),
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Span, SpanError> {
        let malformed = || SpanError::Malformed(text.chars().take(64).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let span = Duration::from_millis(number.saturating_mul(*unit_ms));
        if span > SPAN_MAX {
            return Err(SpanError::TooLong(text.chars().take(64).collect()));
        }
        Ok(Span(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (name, unit_ms) =
            UNITS.iter().rev().find(|(_, unit_ms)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms)).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", ms / unit_ms)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Span {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9]+(ms|s|m|h|d)$"))
            .description(Some("A whole number and a unit: `500ms`, `30s`, `10m`, `2h`, `1d`"))
            .examples(["30s"])
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Span {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print_with_the_largest_whole_unit() {
        for (text, ms, printed) in
            [("500ms", 500, "500ms"), ("90s", 90_000, "90s"), ("120m", 7_200_000, "2h"), ("0s", 0, "0ms")]
        {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.0, Duration::from_millis(ms), "{text}");
            assert_eq!(span.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn spans_without_unit_sign_or_sense_are_refused() {
        for text in ["", "10", "s", "-5s", "1.5h", "10 s", "5y", "99999999999999999999s"] {
            assert!(matches!(text.parse::<Span>(), Err(SpanError::Malformed(_))), "{text}");
        }
        assert!(matches!("366d".parse::<Span>(), Err(SpanError::TooLong(_))));
    }
}
