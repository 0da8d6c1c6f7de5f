//! Tokens, what was changed by whom, and who sent which input.

use super::file::DATABASE;
use super::read::{self, Reader};
use super::{Error, Store, sessions, writable};
use crate::access::{KeptSession, SessionKey, Token, TokenId};
use framewake_proto::access::{AuditView, TOKENS_MAX};
use framewake_proto::api::Page;
use framewake_proto::ids::{JobId, Name};
use framewake_proto::objects::Digest;
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{ConnectOptions, Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Changes kept of each share; the oldest go first. At 300 bytes each as a rule, 150 MB of all.
pub(crate) const AUDIT_KEPT_MAX: i64 = 100_000;
/// How often old ones are looked for, in changes.
const PRUNED_EVERY: i64 = 256;

/// What is written of access, in this order.
#[derive(Debug, Clone)]
pub(crate) enum AccessWrite {
    TokenMade(Token),
    /// It and its sessions, or that of a person.
    TokenRevoked(TokenId),
    TokensUsed(Vec<(TokenId, Timestamp)>),
    SessionBegun(KeptSession),
    SessionEnded(SessionKey),
    SessionsUsed(Vec<(SessionKey, Timestamp)>),
    Changed(Box<AuditRow>),
    /// What is there after a change that was noted, once it could be looked at: in the newest note of this request by the same
    /// token. Clients name their requests, so a name alone may be another's.
    Told {
        request: String,
        who: String,
        token: String,
        action: &'static str,
        subject: Option<String>,
        project: Option<Name>,
        after: String,
    },
    InputSent(Name, Digest),
}

/// Which notes a note may push out. Changes that one may make as often as one likes must not push out the notes of what only others
/// may do, and logging in needs no right at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Share {
    /// What needs an operator, and what the farm finds by itself.
    #[default]
    Operators = 0,
    Submissions = 1,
    Logins = 2,
    /// What artists do to jobs that are there.
    Artists = 3,
    Admins = 4,
}

impl Share {
    const ALL: [Share; 5] = [Share::Operators, Share::Submissions, Share::Logins, Share::Artists, Share::Admins];
}

/// A change that somebody made, as it is noted.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditRow {
    pub(crate) share: Share,
    pub(crate) at: Timestamp,
    pub(crate) who: String,
    pub(crate) token: String,
    pub(crate) peer: String,
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) project: Option<Name>,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) request: String,
    pub(crate) noted: Noted,
}

/// Whether the row was written: what a request asked for may have been there before, and then nothing was changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted(Arc<AtomicBool>);

impl Noted {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) async fn write(connection: &mut SqliteConnection, writes: &[AccessWrite]) -> Result<(), sqlx::Error> {
    let mut changes: Vec<Value> = Vec::new();
    for write in writes {
        match write {
            AccessWrite::TokenMade(token) => drop(insert(connection, token).await?),
            AccessWrite::TokenRevoked(id) => {
                sqlx::query("DELETE FROM tokens WHERE id = ?").bind(id.to_string()).execute(&mut *connection).await?;
                sessions::end_of(connection, *id).await?;
            }
            AccessWrite::SessionBegun(kept) => sessions::begin(connection, kept).await?,
            AccessWrite::SessionEnded(key) => sessions::end(connection, key).await?,
            AccessWrite::SessionsUsed(used) => sessions::used(connection, used).await?,
            AccessWrite::TokensUsed(used) => {
                for (id, at) in used {
                    let text = "UPDATE tokens SET used_at = ? WHERE id = ?";
                    sqlx::query(text).bind(at.0).bind(id.to_string()).execute(&mut *connection).await?;
                }
            }
            AccessWrite::Changed(row) => {
                let AuditRow {
                    share,
                    at,
                    who,
                    token,
                    peer,
                    action,
                    subject,
                    project,
                    before,
                    after,
                    request,
                    noted: _,
                } = &**row;
                changes.push(json!([
                    *share as i64,
                    at.0,
                    who,
                    token,
                    peer,
                    action,
                    subject,
                    project,
                    before,
                    after,
                    request
                ]));
            }
            AccessWrite::Told { request, who, token, action, subject, project, after } => {
                // One of the last: no index is worth it.
                sqlx::query(
                    "UPDATE audit SET after = ?, subject = coalesce(?, subject), project = coalesce(?, project)
                     WHERE seq = (SELECT seq FROM audit WHERE request = ? AND who = ? AND token = ? AND action = ?
                     ORDER BY seq DESC LIMIT 1)",
                )
                .bind(after)
                .bind(subject)
                .bind(project.as_ref().map(Name::as_str))
                .bind(request)
                .bind(who)
                .bind(token)
                .bind(action)
                .execute(&mut *connection)
                .await?;
            }
            AccessWrite::InputSent(project, digest) => {
                let text = "INSERT INTO input_owners VALUES (?, ?) ON CONFLICT DO NOTHING";
                sqlx::query(text).bind(project.to_string()).bind(&digest.0[..]).execute(&mut *connection).await?;
            }
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    super::write::each(
        connection,
        "INSERT INTO audit (share, at, who, token, peer, action, subject, project, before, after, request)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
         value ->> 8, value ->> 9, value ->> 10 FROM json_each(?)",
        &changes,
    )
    .await?;
    let newest: i64 = sqlx::query_scalar("SELECT max(seq) FROM audit").fetch_one(&mut *connection).await?;
    if newest % PRUNED_EVERY < i64::try_from(changes.len()).unwrap_or(PRUNED_EVERY) {
        prune(connection, AUDIT_KEPT_MAX).await?;
    }
    Ok(())
}

async fn prune(connection: &mut SqliteConnection, kept: i64) -> Result<(), sqlx::Error> {
    for share in Share::ALL {
        sqlx::query(
            "DELETE FROM audit WHERE share = ?1
             AND seq <= (SELECT seq FROM audit WHERE share = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
        )
        .bind(share as i64)
        .bind(kept)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// False where there are too many.
async fn insert(connection: &mut SqliteConnection, token: &Token) -> Result<bool, sqlx::Error> {
    let Token { id, sha256, name, role, project, made_at, made_by, expires_at, used_at } = token;
    let done =
        sqlx::query("INSERT INTO tokens SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM tokens) < ?")
            .bind(id.to_string())
            .bind(&sha256[..])
            .bind(name.to_string())
            .bind(role.as_str())
            .bind(project.as_ref().map(Name::as_str))
            .bind(made_at.0)
            .bind(made_by)
            .bind(expires_at.map(|at| at.0))
            .bind(used_at.map(|at| at.0))
            .bind(i64::try_from(TOKENS_MAX).unwrap_or(i64::MAX))
            .execute(connection)
            .await?;
    Ok(done.rows_affected() == 1)
}

impl Store {
    /// What follows until [`Store::end`] is one transaction.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.writer).await.map_err(|error| Error::Write { error })?;
        Ok(())
    }

    /// Ends it, with these beside it.
    pub(crate) async fn end(&mut self, writes: &[AccessWrite]) -> Result<(), Error> {
        let written = async {
            write(&mut self.writer, writes).await?;
            sqlx::query("COMMIT").execute(&mut self.writer).await
        };
        written.await.map(drop).map_err(|error| Error::Write { error })
    }

    pub(crate) async fn add_token(&mut self, token: &Token) -> Result<bool, Error> {
        let there = insert(&mut self.writer, token).await.map_err(|error| Error::Write { error })?;
        self.settle().await?;
        Ok(there)
    }
}

/// The same, where a scheduler has the database open.
pub(crate) async fn add_token_beside(folder: &Path, token: &Token) -> Result<bool, Error> {
    let path = folder.join(DATABASE);
    let mut writer = writable(&path).connect().await.map_err(|error| super::cannot_open(&path, error))?;
    let there = insert(&mut writer, token).await.map_err(|error| Error::Write { error })?;
    writer.close().await.map_err(|error| Error::Write { error })?;
    Ok(there)
}

impl Reader {
    pub(crate) async fn tokens(&self) -> Result<Vec<Token>, read::Error> {
        let text = "SELECT id, sha256, name, role, project, made_at, made_by, expires_at, used_at FROM tokens";
        let rows = sqlx::query(text).fetch_all(&self.pool).await?;
        rows.iter().map(token).collect()
    }

    /// The project of a job; `None`: there is no such job.
    pub(crate) async fn project_of(&self, job: JobId) -> Result<Option<Name>, read::Error> {
        let text = sqlx::query_scalar::<_, String>("SELECT project FROM jobs WHERE id = ?");
        let project = text.bind(job.to_string()).fetch_optional(&self.pool).await?;
        project.map(|project| project.parse().map_err(|_| strange("a name", &project))).transpose()
    }

    /// Whether this project has sent the input itself.
    pub(crate) async fn has_sent(&self, project: &Name, digest: &Digest) -> Result<bool, read::Error> {
        let text = "SELECT count(*) FROM input_owners WHERE project = ? AND sha256 = ?";
        let found: i64 =
            sqlx::query_scalar(text).bind(project.as_str()).bind(&digest.0[..]).fetch_one(&self.pool).await?;
        Ok(found > 0)
    }

    /// Changes, newest first; only of one project, of one name, of actions that begin so.
    pub(crate) async fn audit(
        &self,
        project: Option<&Name>,
        who: Option<&str>,
        action: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<AuditView>, read::Error> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT seq, at, who, token, peer, action, subject, project, before, after, request FROM audit WHERE seq < ",
        );
        query.push_bind(before.unwrap_or(i64::MAX));
        if let Some(project) = project {
            query.push(" AND project = ").push_bind(project.as_str());
        }
        if let Some(who) = who {
            query.push(" AND who = ").push_bind(who);
        }
        if let Some(action) = action {
            query.push(" AND substr(action, 1, length(").push_bind(action);
            query.push(")) = ").push_bind(action);
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = query.build().fetch_all(&self.pool).await?;
        let mut items = rows.iter().map(change).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last: &AuditView| last.seq.to_string());
        Ok(Page { items, next })
    }
}

fn token(row: &SqliteRow) -> Result<Token, read::Error> {
    let (id, role): (&str, &str) = (row.try_get("id")?, row.try_get("role")?);
    let at = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp));
    let sha256: &[u8] = row.try_get("sha256")?;
    let name: &str = row.try_get("name")?;
    Ok(Token {
        id: id.parse().map_err(|_| strange("the id of a token", id))?,
        sha256: sha256.try_into().map_err(|_| strange("a digest", id))?,
        name: name.parse().map_err(|_| strange("a name", name))?,
        role: role.parse().map_err(|_| strange("a role", role))?,
        project: project(row)?,
        made_at: Timestamp(row.try_get("made_at")?),
        made_by: row.try_get("made_by")?,
        expires_at: at("expires_at")?,
        used_at: at("used_at")?,
    })
}

fn change(row: &SqliteRow) -> Result<AuditView, read::Error> {
    Ok(AuditView {
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        at: Timestamp(row.try_get("at")?),
        who: row.try_get("who")?,
        token: row.try_get("token")?,
        from: row.try_get("peer")?,
        action: row.try_get("action")?,
        subject: row.try_get("subject")?,
        project: project(row)?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
        request_id: row.try_get("request")?,
    })
}

fn project(row: &SqliteRow) -> Result<Option<Name>, read::Error> {
    let text: Option<&str> = row.try_get("project")?;
    text.map(|text| text.parse().map_err(|_| strange("a name", text))).transpose()
}

fn strange(what: &'static str, value: &str) -> read::Error {
    read::Error::Word { what, value: value.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notes_push_out_those_of_their_own_share_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path()).await.expect("a new store");
        for flooded in Share::ALL {
            sqlx::query("DELETE FROM audit").execute(&mut store.writer).await.expect("empty");
            let row = |share, action| AccessWrite::Changed(Box::new(AuditRow { share, action, ..AuditRow::default() }));
            let mut writes: Vec<AccessWrite> = Share::ALL.map(|share| row(share, "before")).into();
            writes.extend((0..50).map(|_| row(flooded, "flood")));
            write(&mut store.writer, &writes).await.expect("written");
            prune(&mut store.writer, 10).await.expect("pruned");
            let kept: Vec<(String, i64)> =
                sqlx::query_as("SELECT action, count(*) FROM audit GROUP BY action ORDER BY action")
                    .fetch_all(&mut store.writer)
                    .await
                    .expect("read");
            assert_eq!(kept, [("before".to_owned(), 4), ("flood".to_owned(), 10)], "{flooded:?}");
        }
    }
}
