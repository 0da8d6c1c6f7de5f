//! Versions of GPU drivers: `550.54.14`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Most parts of a version.
const PARTS_MAX: usize = 6;

/// A driver's version, which compares part by part: 550.54 comes before 550.100.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion(Vec<u32>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the version of a driver: write numbers with points between, as `550.54.14`")]
pub struct DriverVersionError(String);

impl FromStr for DriverVersion {
    type Err = DriverVersionError;

    fn from_str(text: &str) -> Result<DriverVersion, DriverVersionError> {
        let malformed = || DriverVersionError(text.chars().take(64).collect());
        let part = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let parts: Option<Vec<u32>> = text.split('.').take(PARTS_MAX + 1).map(part).collect();
        parts.filter(|parts| parts.len() <= PARTS_MAX).map(DriverVersion).ok_or_else(malformed)
    }
}

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl Serialize for DriverVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DriverVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DriverVersion, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for DriverVersion {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9]+([.][0-9]+){0,5}$"))
            .description(Some("Numbers with points between: `550.54.14`"))
            .examples(["550.54.14"])
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for DriverVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<DriverVersion>().expect("a version");
        assert!(version("550.54") < version("550.54.14"));
        assert!(version("550.54.14") < version("550.100"));
        assert!(version("99") < version("535.104"));
        assert_eq!(version("570.86.15").to_string(), "570.86.15");
        for text in ["", "550.", "550.x", "+1", "1.2.3.4.5.6.7", "5000000000"] {
            assert!(text.parse::<DriverVersion>().is_err(), "{text}");
        }
    }
}
