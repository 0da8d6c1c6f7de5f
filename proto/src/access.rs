//! Who may do what over REST: roles, tokens, who one is, and what is noted of changes.

use crate::duration::Span;
use crate::ids::Name;
use crate::notify::Secret;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// Most tokens of a farm.
pub const TOKENS_MAX: usize = 10_000;
/// What a token begins with, so that scanners of leaked secrets can know one.
pub const TOKEN_PREFIX: &str = "fw_";

/// What one may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything of its projects.
    Viewer,
    /// Submits and changes jobs.
    Artist,
    /// Looks after schedules and notifications; of all projects also after functions, machines, shares, budgets and prices.
    Operator,
    /// Makes and revokes tokens.
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Artist, Role::Operator, Role::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Artist => "artist",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no role: viewer, artist, operator or admin")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Role, RoleError> {
        let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError(text.chars().take(64).collect()))
    }
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAdd {
    /// Whose it is, or what it is for.
    pub name: Name,
    pub role: Role,
    /// The one project it is for; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// How long it is good for; without it, until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// The middle of the token: `fw_<id>_…`.
    pub id: String,
    pub name: Name,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    pub made_at: Timestamp,
    /// Name of the token that made it, or `local`.
    pub made_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// To within a few minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    pub token: TokenView,
    /// The token itself. Shown this once; what is stored is its digest.
    pub secret: Secret,
}

/// What logs a page in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub token: Secret,
}

/// A session of pages, without its cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    pub id: String,
    /// Whose it is, as the audit names them.
    pub name: Name,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// Id of the token that it stands for; without it, they logged in by the provider of identities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What they call themselves there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    pub begun_at: Timestamp,
    pub used_at: Timestamp,
    /// However much it is used.
    pub expires_at: Timestamp,
    /// The one that asks.
    pub own: bool,
}

/// A page was logged out here, and is to be logged out at the provider of identities too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedOut {
    /// Where its browser goes for that; the provider sends it back.
    pub go_on_at: String,
}

/// Who one is to the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoView {
    /// Whether tokens are asked for here.
    pub tokens: bool,
    /// The provider of identities by which people may log in to the pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_with: Option<String>,
    /// Nobody yet, where tokens are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Who {
    /// Of the token; `local` where everybody may do everything.
    pub name: String,
    pub role: Role,
    /// The one project it is for; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// Id of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A change that somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    pub seq: u64,
    pub at: Timestamp,
    /// Name of the token, or `local`.
    pub who: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Address that it came from.
    pub from: String,
    /// `job.cancel`, `schedule.put`, `token.revoke`, …
    pub action: String,
    /// Address of what was changed, under `/v1`.
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// What was there before and after, as far as it is short; JSON.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub before: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
    pub request_id: String,
}
