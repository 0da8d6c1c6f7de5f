//! Names and numbers of things.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use ulid::Ulid;

/// Longest name of a project, step, function or worker, in bytes.
pub const NAME_LEN_MAX: usize = 63;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    #[error("name `{0}…` is longer than {NAME_LEN_MAX} bytes")]
    TooLong(String),
    #[error("`{0}` is not a name: use lower-case letters, digits, `-` and `_`, and begin with a letter or digit")]
    Malformed(String),
}

/// A name that is safe in subjects, keys, paths and labels: `[a-z0-9][a-z0-9_-]*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong(text.chars().take(16).collect()));
        }
        let head = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = text.starts_with(head) && text.chars().all(|c| head(c) || c == '-' || c == '_');
        if good { Ok(Name(text.to_owned())) } else { Err(NameError::Malformed(text.to_owned())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Name {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[a-z0-9][a-z0-9_-]{0,62}$"))
            .description(Some("Lower-case letters, digits, `-` and `_`; begins with a letter or digit"))
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Name {}

/// A job: a ULID, so that ids sort by the time of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Ulid);

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a job id: an id has 26 letters and digits, as `framewake jobs` prints them")]
pub struct JobIdError(String);

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<JobId, JobIdError> {
        Ulid::from_str(text).map(JobId).map_err(|_| JobIdError(text.chars().take(64).collect()))
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for JobId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9A-HJKMNP-TV-Z]{26}$"))
            .description(Some("ULID of a job"))
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for JobId {}

/// One version of a function. Versions are numbered from 1 and never change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionKey {
    pub name: Name,
    pub version: u32,
}

impl fmt::Display for FunctionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// What a job asks for: `blender` (the newest version at submit) or `blender@3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRef {
    pub name: Name,
    pub version: Option<u32>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FunctionRefError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("`{0}` is not a version of a function: versions are whole numbers from 1, as in `blender@3`")]
    Version(String),
}

impl FromStr for FunctionRef {
    type Err = FunctionRefError;

    fn from_str(text: &str) -> Result<FunctionRef, FunctionRefError> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(FunctionRef { name: text.parse()?, version: None });
        };
        let name = name.parse()?;
        match version.parse() {
            Ok(number) if number > 0 => Ok(FunctionRef { name, version: Some(number) }),
            _ => Err(FunctionRefError::Version(version.chars().take(32).collect())),
        }
    }
}

impl FromStr for FunctionKey {
    type Err = FunctionRefError;

    fn from_str(text: &str) -> Result<FunctionKey, FunctionRefError> {
        let FunctionRef { name, version } = text.parse()?;
        let version = version.ok_or_else(|| FunctionRefError::Version(String::new()))?;
        Ok(FunctionKey { name, version })
    }
}

/// A chunk. Never used twice in the life of a farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u64);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One try at one chunk: the fencing token. Written `17.2`: chunk 17, second try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub chunk: ChunkId,
    /// From 1, rising.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.chunk, self.number)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an attempt: write chunk and number, as in `17.2`")]
pub struct AttemptIdError(String);

impl FromStr for AttemptId {
    type Err = AttemptIdError;

    fn from_str(text: &str) -> Result<AttemptId, AttemptIdError> {
        let malformed = || AttemptIdError(text.chars().take(64).collect());
        let (chunk, number) = text.split_once('.').ok_or_else(malformed)?;
        Ok(AttemptId {
            chunk: ChunkId(chunk.parse().map_err(|_| malformed())?),
            number: number.parse().map_err(|_| malformed())?,
        })
    }
}

/// One running instance of a function.
pub type WorkerId = Name;

/// The known name nearest to a mistyped one, if it is near enough to be worth a hint.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        // A distance is never less than the difference in length; finding it takes the product of both.
        .filter(|name| wrong.chars().count().abs_diff(name.chars().count()) <= distance_max(name))
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= distance_max(name))
        .min()
        .map(|(_, name)| name)
}

fn distance_max(name: &str) -> usize {
    1 + name.len() / 4
}
