//! Keys in the object store, built here only.
//!
//! ```text
//! inputs/<first two digits>/<sha256>          content-addressed, shared by all jobs
//! jobs/<project>/<job>/<name from template>   outputs
//! pictures/<job>/<sha256>.thumbnail.jpg       a smaller picture of the output with these bytes
//! logs/<job>/<chunk>.<attempt>.log            one attempt's log, bounded
//! staging/<worker>/<chunk>.<attempt>.<task>   large outputs on their way to their final name
//! ```

use crate::ids::{AttemptId, JobId, Name, WorkerId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 of an object's bytes. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a SHA-256 digest: write its 64 hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError(text.chars().take(80).collect()))?;
        Ok(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Digest {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9a-fA-F]{64}$"))
            .description(Some("SHA-256, 64 hexadecimal digits"))
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Digest {}

pub fn input_key(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("inputs/{}/{hex}", &hex[..2])
}

/// The folder of a job's outputs, with a `/` at its end.
pub fn job_prefix(project: &Name, job: JobId) -> String {
    format!("jobs/{project}/{job}/")
}

/// A smaller picture of an output, for people; whoever verified the output made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// A small JPEG.
    Thumbnail,
    /// Light, to be shown with any exposure: a PNG of which the fourth channel is the exponent of the other three.
    Preview,
}

impl Picture {
    pub const ALL: [Picture; 2] = [Picture::Thumbnail, Picture::Preview];

    pub fn as_str(self) -> &'static str {
        match self {
            Picture::Thumbnail => "thumbnail",
            Picture::Preview => "preview",
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Picture::Thumbnail => "image/jpeg",
            Picture::Preview => "image/png",
        }
    }

    /// Largest file, whatever it shows.
    pub fn size_max(self) -> u64 {
        match self {
            Picture::Thumbnail => 128 * 1024,
            Picture::Preview => 8 * 1024 * 1024,
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no `{0}` of an output, only its `thumbnail` and its `preview`")]
pub struct PictureError(String);

impl FromStr for Picture {
    type Err = PictureError;

    fn from_str(text: &str) -> Result<Picture, PictureError> {
        let found = Picture::ALL.into_iter().find(|picture| picture.as_str() == text);
        found.ok_or_else(|| PictureError(text.chars().take(32).collect()))
    }
}

/// The folder of the pictures of a job's outputs, with a `/` at its end.
pub fn picture_prefix(job: JobId) -> String {
    format!("pictures/{job}/")
}

/// Where a picture of an output with these bytes is: of the same bytes it is the same, whoever makes it and how often.
pub fn picture_key(job: JobId, output: &Digest, picture: Picture) -> String {
    let name = match picture {
        Picture::Thumbnail => "thumbnail.jpg",
        Picture::Preview => "preview.png",
    };
    format!("{}{output}.{name}", picture_prefix(job))
}

pub fn log_key(job: JobId, attempt: AttemptId) -> String {
    format!("logs/{job}/{attempt}.log")
}

pub fn staging_key(worker: &WorkerId, attempt: AttemptId, task: u32) -> String {
    format!("staging/{worker}/{attempt}.{task}")
}
