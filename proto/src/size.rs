//! Sizes as people write them: `512MiB`, `12GiB`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A number of bytes with an optional unit: `512MiB`, `10GiB`, `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u32); 6] = [("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a size: write a whole number and a unit, as `512MiB` or `10GiB`")]
pub struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let malformed = || SizeError(text.chars().take(64).collect());
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        number.checked_mul(1 << shift).map(Size).ok_or_else(malformed)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |shift: u32| self.0 >= 1 << shift && self.0.trailing_zeros() >= shift;
        let (name, shift) = UNITS.iter().rev().find(|(_, shift)| whole(*shift)).unwrap_or(&UNITS[1]);
        write!(f, "{}{name}", self.0 >> shift)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Size {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9]+(B|KiB|MiB|GiB|TiB)?$"))
            .description(Some("A whole number and a unit: `512MiB`, `12GiB`"))
            .examples(["12GiB"])
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Size {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_known_unit() {
        assert_eq!("10GiB".parse(), Ok(Size(10 << 30)));
        assert_eq!("0".parse(), Ok(Size(0)));
        for text in ["", "GiB", "1.5GiB", "10GB", "99999999999TiB", "-1GiB", "12 GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for text in ["12GiB", "1536MiB", "1TiB", "7B", "0B"] {
            assert_eq!(text.parse::<Size>().expect("good").to_string(), text);
        }
    }
}
