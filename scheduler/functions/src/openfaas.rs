//! Workers as functions of a foreign `OpenFaaS`: deployed with the first that is wanted, scaled up for each more, woken by
//! a call each, and removed when nobody works there. So its installation goes back to nothing, also where it can't scale to
//! zero by itself.
//!
//! It is never scaled down while anybody works: a gateway can't be told which replica to keep.

mod gateway;

#[cfg(test)]
mod tests;

pub use crate::wakeups::OpenError;
use crate::wakeups::{self, Wakeups, read_secret};
use crate::{Error, Instance, InstanceState, Provider, Start, StartError, Surroundings};
use async_trait::async_trait;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::pool::openfaas::{NAME_LEN_MAX, OpenfaasPool};
use gateway::{Deployed, Failure, Gateway};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

const LABEL_FARM: &str = "framewake.farm";
const LABEL_POOL: &str = "framewake.pool";
/// A worker that was asked for and could not be woken is asked for again within this; later nobody wants it any more.
const ASKED_AGAIN: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct OpenfaasProvider {
    pool: Name,
    max: u32,
    spec: OpenfaasPool,
    surroundings: Surroundings,
    gateway: Gateway,
    wakeups: Wakeups,
    /// Asked for, and not woken for want of a replica.
    waiting: BTreeMap<WorkerId, (FunctionKey, Instant)>,
}

impl OpenfaasProvider {
    /// The gateway need not be there yet; its password must. `notes` is a folder for this pool alone.
    pub fn open(
        pool: Name,
        max: u32,
        spec: OpenfaasPool,
        surroundings: Surroundings,
        notes: PathBuf,
    ) -> Result<OpenfaasProvider, OpenError> {
        let surroundings = Surroundings {
            nats: spec.nats.clone().unwrap_or(surroundings.nats),
            store: spec.store.clone().unwrap_or(surroundings.store),
            environment: surroundings.environment.into_iter().chain(spec.environment.clone()).collect(),
            farm: surroundings.farm,
        };
        if surroundings.store.starts_with("file://") {
            let reason = "functions of OpenFaaS share no folder: give the scheduler a store that they can reach \
                          (--store s3://…), or name one as `store` of the pool";
            return Err(OpenError::Unreachable(reason.to_owned()));
        }
        read_secret(&spec.password)?;
        let gateway = Gateway::new(&spec, wakeups::client(spec.longest_run.0)?);
        let wakeups = Wakeups::open(spec.longest_run.0, notes)?;
        Ok(OpenfaasProvider { pool, max, spec, surroundings, gateway, wakeups, waiting: BTreeMap::new() })
    }

    /// What it is called there; it has room for workers of one version only.
    fn name_of(&self, function: &FunctionKey) -> String {
        format!("{}-{}-{}-v{}", self.surroundings.farm, self.pool, function.name, function.version)
    }

    fn is_ours(&self, deployed: &Deployed) -> bool {
        let label = |name: &str| deployed.labels.get(name).map(String::as_str);
        label(LABEL_FARM) == Some(&self.surroundings.farm) && label(LABEL_POOL) == Some(self.pool.as_str())
    }

    fn deployment(&self, start: &Start, name: &str) -> Value {
        let mut environment = BTreeMap::from([
            ("FRAMEWAKE_MODE", "http".to_owned()),
            // Another wake-up goes to another replica.
            ("FRAMEWAKE_MAX_INFLIGHT", "1".to_owned()),
            ("FRAMEWAKE_FUNCTION", start.function.to_string()),
            ("FRAMEWAKE_NATS_URL", self.surroundings.nats.clone()),
            ("FRAMEWAKE_FARM", self.surroundings.farm.clone()),
            ("FRAMEWAKE_STORE", self.surroundings.store.clone()),
        ]);
        environment.extend(self.surroundings.environment.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let labels = json!({
            LABEL_FARM: self.surroundings.farm,
            LABEL_POOL: self.pool,
            // The gateway's own scaling would choose its victims among those that work.
            "com.openfaas.scale.factor": "0",
            "com.openfaas.scale.zero": "false",
            "com.openfaas.scale.min": "1",
            "com.openfaas.scale.max": self.max.to_string(),
        });
        let needs = &start.spec.resources;
        let mut amounts = json!({});
        if let Some(millis) = needs.cpu_millis {
            amounts["cpu"] = json!(format!("{millis}m"));
        }
        if let Some(memory) = needs.memory {
            amounts["memory"] = json!(memory.0.to_string());
        }
        let mut deployment = json!({
            "service": name,
            "image": start.spec.image,
            "envVars": environment,
            "labels": labels,
            "constraints": self.spec.constraints,
            "secrets": self.spec.secrets,
            "limits": amounts,
            "requests": amounts,
            "readOnlyRootFilesystem": true,
        });
        if let Some(namespace) = &self.spec.namespace {
            deployment["namespace"] = json!(namespace);
        }
        deployment
    }

    /// Whether a replica waits for this worker; else why not yet.
    async fn prepare(&mut self, start: &Start, name: &str) -> Result<(), Failure> {
        let Some(deployed) = self.gateway.status(name).await? else {
            self.gateway.deploy(&self.deployment(start, name)).await?;
            info!(pool = %self.pool, "function {name} is deployed on the gateway of pool {}", self.pool);
            return Err(Failure::NotYet(format!("function `{name}` was deployed there, and no replica is up yet")));
        };
        let open = self.wakeups.awake(&start.function);
        let waiting = self.waiting.values().filter(|(function, _)| *function == start.function).count();
        let wanted = u64::try_from(open + waiting).unwrap_or(u64::MAX).min(u64::from(self.max));
        if deployed.replicas < wanted {
            self.gateway.scale(name, wanted).await?;
        }
        let up = deployed.available_replicas;
        if up > open as u64 {
            return Ok(());
        }
        let of = if open == 0 { "no replica is up yet".to_owned() } else { format!("all {up} replicas are busy") };
        Err(Failure::NotYet(format!("{of}; function `{name}` is to have {wanted}")))
    }

    /// Removes functions at which nobody works and nobody is to.
    async fn remove_idle(&mut self, deployed: &[Deployed], instances: &[Instance]) -> Result<(), Failure> {
        self.waiting.retain(|_, (_, asked_at)| asked_at.elapsed() < ASKED_AGAIN);
        let live = instances.iter().filter(|instance| !matches!(instance.state, InstanceState::Ended(_)));
        let live = live.map(|instance| &instance.function);
        let needed: BTreeSet<String> = live
            .chain(self.waiting.values().map(|(function, _)| function))
            .map(|function| self.name_of(function))
            .collect();
        for deployed in deployed.iter().filter(|deployed| self.is_ours(deployed) && !needed.contains(&deployed.name)) {
            self.gateway.remove(&deployed.name).await?;
            info!(pool = %self.pool, "function {} is removed from the gateway of pool {}", deployed.name, self.pool);
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for OpenfaasProvider {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        let name = self.name_of(&start.function);
        if name.len() > NAME_LEN_MAX {
            return Err(StartError::Refused(format!(
                "the gateway has no room for the name `{name}`: {} characters, and {NAME_LEN_MAX} are allowed; hint: \
                 a shorter name of the function or of the pool",
                name.len()
            )));
        }
        self.waiting.insert(start.worker.clone(), (start.function.clone(), Instant::now()));
        match self.prepare(start, &name).await {
            Ok(()) => {}
            Err(Failure::NotYet(reason)) => return Err(StartError::Full(reason)),
            Err(failure @ Failure::Answered { .. }) => return Err(StartError::Refused(failure.to_string())),
            Err(failure) => return Err(StartError::Away(failure.into_error())),
        }
        let request = match self.gateway.call(&name) {
            Ok(request) => request,
            Err(failure) => return Err(StartError::Refused(Chain(&failure.into_error()).to_string())),
        };
        let woken = self.wakeups.wake(start, request).await;
        if woken.is_ok() {
            self.waiting.remove(&start.worker);
        }
        woken
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        self.waiting.remove(worker);
        self.wakeups.stop(worker);
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        let deployed = self.gateway.functions().await.map_err(Failure::into_error)?;
        let instances = self.wakeups.instances();
        if let Err(failure) = self.remove_idle(&deployed, &instances).await {
            // It is listed again, and tried again.
            let error = failure.into_error();
            warn!(pool = %self.pool, "an idle function of pool {} can't be removed yet: {}", self.pool, Chain(&error));
        }
        Ok(instances)
    }

    async fn changed(&mut self) {
        self.wakeups.changed().await;
    }

    fn left(&mut self, worker: &WorkerId) {
        self.wakeups.left(worker);
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        self.wakeups.forget(worker);
        Ok(())
    }
}
