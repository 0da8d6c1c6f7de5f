//! What scanners said of images, and versions that wait for it or were kept out.

use super::{Error, Store};
use crate::engine::Candidate;
use framewake_proto::ids::FunctionKey;
use framewake_proto::scan::ScanView;
use framewake_proto::time::Timestamp;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;

/// What is written of it, in this order.
#[derive(Debug, Clone)]
pub(crate) enum ScanWrite {
    /// Not active: it waits, or was kept out.
    Kept(FunctionKey, Box<Candidate>, ScanView),
    /// Active; its text is among the functions.
    Passed(FunctionKey, Timestamp, ScanView),
    /// Active without a scan.
    Gone(FunctionKey),
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("text and numbers can be written as JSON")
}

pub(super) async fn write(connection: &mut SqliteConnection, writes: &[ScanWrite]) -> Result<(), sqlx::Error> {
    for write in writes {
        let (key, candidate, added_at, view) = match write {
            ScanWrite::Kept(key, candidate, view) => (key, Some(candidate), candidate.added_at, view),
            ScanWrite::Passed(key, added_at, view) => (key, None, *added_at, view),
            ScanWrite::Gone(key) => {
                let gone = sqlx::query("DELETE FROM scans WHERE name = ? AND version = ?");
                gone.bind(key.name.to_string()).bind(key.version).execute(&mut *connection).await?;
                continue;
            }
        };
        sqlx::query("INSERT OR REPLACE INTO scans VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(key.name.to_string())
            .bind(key.version)
            .bind(candidate.map(|candidate| json(&candidate.spec)))
            .bind(candidate.and_then(|candidate| candidate.deployed.as_ref()).map(json))
            .bind(added_at.0)
            .bind(candidate.is_some_and(|candidate| candidate.waits))
            .bind(json(view))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Store {
    /// Versions that are not active.
    pub(crate) async fn load_candidates(&mut self) -> Result<BTreeMap<FunctionKey, Candidate>, Error> {
        let read = |error| Error::Read { error };
        let rows =
            sqlx::query("SELECT name, version, spec, deployed, added_at, waits FROM scans WHERE spec IS NOT NULL");
        let mut candidates = BTreeMap::new();
        for row in rows.fetch_all(&mut self.writer).await.map_err(read)? {
            let (name, version): (String, u32) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
            let broken = |reason: String| Error::Row { row: format!("scan of {name}@{version}"), reason };
            let spec: String = row.try_get(2).map_err(read)?;
            let deployed: Option<String> = row.try_get(3).map_err(read)?;
            let deployed = deployed.map(|text| serde_json::from_str(&text)).transpose();
            let candidate = Candidate {
                spec: serde_json::from_str(&spec).map_err(|error| broken(error.to_string()))?,
                deployed: deployed.map_err(|error: serde_json::Error| broken(error.to_string()))?,
                added_at: Timestamp(row.try_get(4).map_err(read)?),
                waits: row.try_get(5).map_err(read)?,
            };
            let name = name.parse().map_err(|_| broken("no name".to_owned()))?;
            candidates.insert(FunctionKey { name, version }, candidate);
        }
        Ok(candidates)
    }
}
