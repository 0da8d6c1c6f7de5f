//! What clients of `OpenFaaS` ask for: functions deployed and removed, workers kept, calls whose answer is sent.

use super::batch::Batch;
use super::scans::Added;
use super::{Engine, Message, Refused, Submission};
use crate::deployment_table::{Deployment, DeploymentTable};
use crate::store::{AuditRow, Callback, GatewayWrite, StoredGateway, TriedCallback};
use framewake_core::event::Event;
use framewake_proto::api::Submitted;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, Name};
use framewake_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tracing::info;

/// Most answers that wait to be sent, of calls that are over or not: receivers that are away must not fill the disk.
pub(crate) const CALLBACKS_MAX: u64 = 100_000;

/// What is deployed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deploy {
    /// There must be none of its name.
    New,
    /// There must be one.
    Update,
}

/// What a deployment is beside the version of its function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    /// JSON, as it was sent.
    body: String,
    kept: u32,
    created_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Deployments {
    table: DeploymentTable,
    out: watch::Sender<Arc<DeploymentTable>>,
    callbacks_waiting: u64,
}

impl Deployments {
    pub(super) fn new(stored: StoredGateway) -> (Deployments, watch::Receiver<Arc<DeploymentTable>>) {
        let StoredGateway { table, callbacks_waiting } = stored;
        let (out, seen) = watch::channel(Arc::new(table.clone()));
        (Deployments { table, out, callbacks_waiting }, seen)
    }
}

impl Engine {
    /// A version of the function, the name for it, and its workers, all or nothing.
    pub(super) fn deploy(
        &mut self,
        spec: FunctionSpec,
        body: String,
        kept: u32,
        how: Deploy,
        batch: &mut Batch,
    ) -> Result<Added, Refused> {
        let name = spec.name.clone();
        let known = self.deployments.table.get(&name).cloned();
        match (&known, how) {
            (Some(_), Deploy::New) => return Err(Refused::Deployed(name)),
            (None, _) if self.is_of_others(&name) => return Err(Refused::OfOthers(name)),
            (None, Deploy::Update) => return Err(Refused::NotDeployed(name)),
            (Some(_), Deploy::Update) | (None, Deploy::New) => {}
        }
        let added = self.add_function(spec, batch)?;
        let created_at = known.map_or(batch.now, |known| known.created_at);
        let deployed = Deployed { body, kept, created_at };
        if added.active {
            self.deploy_no_other(&added.key.name, batch);
            self.put_deployment(added.key.clone(), deployed, batch);
        } else {
            self.deploy_later(&added.key, deployed, batch);
        }
        Ok(added)
    }

    /// Whether the function of this name was added by others than clients of `OpenFaaS`.
    pub(super) fn is_of_others(&self, name: &Name) -> bool {
        self.functions.newest(name).is_some() && !self.deployments.table.was_deployed(name)
    }

    pub(super) fn put_deployment(&mut self, function: FunctionKey, deployed: Deployed, batch: &mut Batch) {
        info!(function = %function, "function {function} is deployed");
        let Deployed { body, kept, created_at } = deployed;
        let name = function.name.clone();
        let deployment = Arc::new(Deployment { function, body, created_at });
        self.deployments.table.put(deployment.clone());
        batch.gateway.push(GatewayWrite::Put(deployment));
        self.apply(Event::WorkersKept { function: name, workers: kept }, batch);
    }

    /// Its versions stay, for the jobs that were rendered by them.
    pub(super) fn undeploy(&mut self, name: &Name, batch: &mut Batch) -> Result<(), Refused> {
        let waited = self.deploy_no_more(name, batch);
        if self.deployments.table.get(name).is_none() {
            if waited {
                return Ok(());
            }
            return Err(if self.is_of_others(name) {
                Refused::OfOthers(name.clone())
            } else {
                Refused::NotDeployed(name.clone())
            });
        }
        info!("deployment {name} is removed");
        self.deployments.table.remove(name);
        batch.gateway.push(GatewayWrite::Remove(name.clone()));
        self.apply(Event::WorkersKept { function: name.clone(), workers: 0 }, batch);
        Ok(())
    }

    pub(super) fn keep_workers(&mut self, name: Name, workers: u32, batch: &mut Batch) -> Result<(), Refused> {
        if self.functions.newest(&name).is_none() {
            return Err(Refused::NotDeployed(name));
        }
        self.apply(Event::WorkersKept { function: name, workers }, batch);
        Ok(())
    }

    /// What is known beforehand of a change that a client of `OpenFaaS` asks for. What it sent may hold secrets of its renderer.
    pub(super) fn note_deployment(&self, message: &Message, row: &mut AuditRow) {
        let (name, after) = match message {
            Message::Deploy { spec, kept, .. } => (&spec.name, json!({ "image": spec.image, "kept": kept })),
            Message::Undeploy(name, _) => (name, Value::Null),
            Message::KeepWorkers(name, kept, _) => (name, json!({ "kept": kept })),
            _ => return,
        };
        row.subject = format!("/system/function/{name}");
        let deployed = self.deployments.table.get(name).map(|deployed| deployed.function.to_string());
        row.before = deployed.map_or(String::new(), |function| json!({ "function": function }).to_string());
        row.after = if after.is_null() { String::new() } else { after.to_string() };
    }

    /// A job whose caller is told what became of it.
    pub(super) fn call(
        &mut self,
        submission: Submission,
        callback: Callback,
        batch: &mut Batch,
    ) -> Result<Submitted, Refused> {
        if self.deployments.callbacks_waiting >= CALLBACKS_MAX {
            return Err(Refused::TooManyCallbacks);
        }
        let submitted = self.submit(submission, batch)?;
        self.deployments.callbacks_waiting += 1;
        batch.gateway.push(GatewayWrite::Callback(submitted.id, callback));
        Ok(submitted)
    }

    pub(super) fn note_callbacks(&mut self, tries: Vec<TriedCallback>, batch: &mut Batch) {
        for tried in tries {
            if tried.again.is_none() {
                self.deployments.callbacks_waiting = self.deployments.callbacks_waiting.saturating_sub(1);
            }
            batch.gateway.push(GatewayWrite::Tried(tried));
        }
    }

    /// Once it is durable.
    pub(super) fn show_deployments(&self, batch: &Batch) {
        let changed = |write: &GatewayWrite| matches!(write, GatewayWrite::Put(_) | GatewayWrite::Remove(_));
        if batch.gateway.iter().any(changed) {
            self.deployments.out.send_replace(Arc::new(self.deployments.table.clone()));
        }
    }
}
