//! What `OpenFaaS` clients deployed: which version of a function a name means for them, and what they sent.

use framewake_proto::ids::{FunctionKey, Name};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A function as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub function: FunctionKey,
    /// JSON, as it was sent.
    pub body: String,
    /// First deployed then.
    pub created_at: Timestamp,
}

/// Every name that was ever deployed. A name that was removed may be deployed again; one that is a function and is not
/// here belongs to others.
#[derive(Debug, Clone, Default)]
pub struct DeploymentTable(BTreeMap<Name, Option<Arc<Deployment>>>);

impl DeploymentTable {
    pub fn get(&self, name: &Name) -> Option<&Arc<Deployment>> {
        self.0.get(name)?.as_ref()
    }

    /// Whether the name is free for clients of `OpenFaaS`, although there may be a function of it: they made that one.
    pub fn was_deployed(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.0.values().flatten()
    }

    pub(crate) fn put(&mut self, deployment: Arc<Deployment>) {
        self.0.insert(deployment.function.name.clone(), Some(deployment));
    }

    /// Its name stays known.
    pub(crate) fn remove(&mut self, name: &Name) {
        self.0.insert(name.clone(), None);
    }
}
