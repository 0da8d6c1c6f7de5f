//! The first token, made on the machine itself: whoever may read the database needs none to prove it.

use super::token::{Token, make, name_fault};
use crate::store::{self, Store};
use anyhow::{Result, bail, ensure};
use framewake_proto::access::{Role, TOKENS_MAX};
use framewake_proto::duration::Span;
use framewake_proto::ids::Name;
use framewake_proto::notify::Secret;
use framewake_proto::time::Timestamp;
use std::path::Path;

/// Who made it, as lists say.
const MADE_BY: &str = "this machine";

/// Stores a token, whether a scheduler runs or not; one that runs finds it when it is used first.
pub(crate) async fn add_token(
    folder: &Path,
    name: Name,
    role: Role,
    project: Option<Name>,
    lasts: Option<Span>,
    now: Timestamp,
) -> Result<Secret> {
    if let Some(fault) = name_fault(&name) {
        bail!(fault);
    }
    let (id, secret, sha256) = make();
    let expires_at =
        lasts.map(|Span(lasts)| Timestamp(now.0.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX))));
    let made_by = MADE_BY.to_owned();
    let token = Token { id, sha256, name, role, project, made_at: now, made_by, expires_at, used_at: None };
    let there = match Store::open(folder).await {
        Ok(mut store) => store.add_token(&token).await?,
        // The scheduler has the folder: SQLite lets others write between its changes.
        Err(store::Error::InUse { .. }) => store::add_token_beside(folder, &token).await?,
        Err(error) => return Err(error.into()),
    };
    ensure!(there, "there are {TOKENS_MAX} tokens, the most there may be: revoke one with `framewake tokens revoke`");
    Ok(secret)
}
