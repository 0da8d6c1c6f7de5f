//! What clients of `OpenFaaS` deployed, and answers that are to be sent to them.

use super::{Error, Store};
use crate::deployment_table::{Deployment, DeploymentTable};
use framewake_proto::ids::{FunctionKey, JobId, Name};
use framewake_proto::time::Timestamp;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;
use std::sync::Arc;

/// What is written of it, in this order.
#[derive(Debug, Clone)]
pub(crate) enum GatewayWrite {
    Put(Arc<Deployment>),
    Remove(Name),
    /// To be sent once the job is over.
    Callback(JobId, Callback),
    Tried(TriedCallback),
}

/// Where the answer to a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Callback {
    /// Id of the call.
    pub(crate) call: String,
    pub(crate) function: Name,
    pub(crate) url: String,
    pub(crate) began_at: Timestamp,
}

/// A callback that was tried.
#[derive(Debug, Clone)]
pub(crate) struct TriedCallback {
    /// `jobs.seq`
    pub(crate) job: i64,
    /// So many tries, and the next one then; `None`: it is done with.
    pub(crate) again: Option<(u32, Timestamp)>,
}

/// What a start finds.
#[derive(Debug, Default)]
pub(crate) struct StoredGateway {
    pub(crate) table: DeploymentTable,
    pub(crate) callbacks_waiting: u64,
}

pub(super) async fn write(
    connection: &mut SqliteConnection,
    writes: &[GatewayWrite],
    seqs: &HashMap<JobId, i64>,
) -> Result<(), sqlx::Error> {
    for write in writes {
        let query = match write {
            GatewayWrite::Put(deployment) => sqlx::query(
                "INSERT INTO deployments VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET version = excluded.version, body = excluded.body, created_at = excluded.created_at",
            )
            .bind(deployment.function.name.to_string())
            .bind(deployment.function.version)
            .bind(deployment.body.clone())
            .bind(deployment.created_at.0),
            GatewayWrite::Remove(name) => {
                sqlx::query("UPDATE deployments SET body = NULL WHERE function = ?").bind(name.to_string())
            }
            GatewayWrite::Callback(job, callback) => {
                let Some(seq) = seqs.get(job) else { continue };
                sqlx::query("INSERT INTO callbacks VALUES (?, ?, ?, ?, ?, 0, 0)")
                    .bind(*seq)
                    .bind(callback.call.clone())
                    .bind(callback.function.to_string())
                    .bind(callback.url.clone())
                    .bind(callback.began_at.0)
            }
            GatewayWrite::Tried(TriedCallback { job, again: None }) => {
                sqlx::query("DELETE FROM callbacks WHERE job = ?").bind(*job)
            }
            GatewayWrite::Tried(TriedCallback { job, again: Some((tries, due_at)) }) => {
                sqlx::query("UPDATE callbacks SET tries = ?, due_at = ? WHERE job = ?")
                    .bind(*tries)
                    .bind(due_at.0)
                    .bind(*job)
            }
        };
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    pub(crate) async fn load_gateway(&mut self) -> Result<StoredGateway, Error> {
        let read = |error| Error::Read { error };
        let mut stored = StoredGateway::default();
        let rows = sqlx::query("SELECT function, version, body, created_at FROM deployments");
        for row in rows.fetch_all(&mut self.writer).await.map_err(read)? {
            let text: String = row.try_get(0).map_err(read)?;
            let broken = |_| Error::Row { row: format!("deployment {text}"), reason: "no name".to_owned() };
            let name: Name = text.parse().map_err(broken)?;
            let function = FunctionKey { name: name.clone(), version: row.try_get(1).map_err(read)? };
            match row.try_get::<Option<String>, _>(2).map_err(read)? {
                None => stored.table.remove(&name),
                Some(body) => {
                    let created_at = Timestamp(row.try_get(3).map_err(read)?);
                    stored.table.put(Arc::new(Deployment { function, body, created_at }));
                }
            }
        }
        let waiting = self.scalar("SELECT count(*) FROM callbacks").await?;
        stored.callbacks_waiting = u64::try_from(waiting).unwrap_or(0);
        Ok(stored)
    }
}
