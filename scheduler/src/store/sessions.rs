//! Sessions of pages, as they are kept over a restart.

use super::read::{self, Reader};
use crate::access::{KeptSession, SESSION_FOR, SessionKey, TokenId};
use framewake_proto::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::time::Duration;

/// A new one. Those that are over go; which ones end for it, whoever begins it says.
pub(super) async fn begin(connection: &mut SqliteConnection, kept: &KeptSession) -> Result<(), sqlx::Error> {
    let KeptSession { key, token, person, begun_at, used_at, hint } = kept;
    let person = person.as_ref().map(|person| serde_json::to_string(person).expect("text can be written as JSON"));
    sqlx::query("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)")
        .bind(&key[..])
        .bind(token.to_string())
        .bind(person)
        .bind(begun_at.0)
        .bind(used_at.0)
        .bind(hint.as_deref())
        .execute(&mut *connection)
        .await?;
    let before = |time: Duration| begun_at.0 - i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    sqlx::query("DELETE FROM sessions WHERE begun_at <= ?").bind(before(SESSION_FOR)).execute(connection).await?;
    Ok(())
}

pub(super) async fn end(connection: &mut SqliteConnection, key: &SessionKey) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions WHERE sha256 = ?").bind(&key[..]).execute(connection).await.map(drop)
}

/// All of a token, or that of a person.
pub(super) async fn end_of(connection: &mut SqliteConnection, token: TokenId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions WHERE token = ?").bind(token.to_string()).execute(connection).await.map(drop)
}

pub(super) async fn used(
    connection: &mut SqliteConnection,
    used: &[(SessionKey, Timestamp)],
) -> Result<(), sqlx::Error> {
    for (key, at) in used {
        let text = "UPDATE sessions SET used_at = ? WHERE sha256 = ?";
        sqlx::query(text).bind(at.0).bind(&key[..]).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Reader {
    pub(crate) async fn sessions(&self) -> Result<Vec<KeptSession>, read::Error> {
        let text = "SELECT sha256, token, person, begun_at, used_at, hint FROM sessions ORDER BY begun_at";
        let rows = sqlx::query(text).fetch_all(&self.pool).await?;
        rows.iter().map(session).collect()
    }
}

fn session(row: &SqliteRow) -> Result<KeptSession, read::Error> {
    let (key, token): (&[u8], &str) = (row.try_get("sha256")?, row.try_get("token")?);
    let person: Option<&str> = row.try_get("person")?;
    let strange = |what| read::Error::Word { what, value: token.chars().take(64).collect() };
    Ok(KeptSession {
        key: key.try_into().map_err(|_| strange("a digest"))?,
        token: token.parse().map_err(|_| strange("the id of a session"))?,
        person: person.map(serde_json::from_str).transpose().map_err(|_| strange("a person"))?,
        begun_at: Timestamp(row.try_get("begun_at")?),
        used_at: Timestamp(row.try_get("used_at")?),
        hint: row.try_get("hint")?,
    })
}
