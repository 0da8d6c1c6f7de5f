//! Where a secret of a pool lies: a pool's file is read by many, and holds none itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Largest file with a secret, in bytes: a token of a cloud has some KiB.
pub const SECRET_SIZE_MAX: u64 = 16 * 1024;

/// Read anew each time it is needed, so that one that is replaced is used at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// The text of a file, without space around it.
    File(PathBuf),
    /// The value of a variable in the scheduler's environment.
    Env(String),
}

impl Secret {
    /// What is wrong with where it is said to be.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Secret::File(path) => (!path.is_absolute()).then_some("must be the whole path of a file, from `/` on"),
            Secret::Env(name) => {
                (name.is_empty() || name.contains(['=', '\0'])).then_some("must be the name of a variable")
            }
        }
    }
}

/// Where it is, never what.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::File(path) => write!(f, "the file `{}`", path.display()),
            Secret::Env(name) => write!(f, "the variable `{name}`"),
        }
    }
}
