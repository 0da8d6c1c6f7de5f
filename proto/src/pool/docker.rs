//! Containers of a Docker engine.

use crate::function::GPUS_MAX;
use crate::job::Fault;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most GPUs that a pool can name: eight machines of sixteen.
pub const GPUS_NAMED_MAX: usize = 8 * GPUS_MAX as usize;
/// Most variables that a pool can set.
pub const VARIABLES_MAX: usize = 64;

/// How workers of a pool are started as containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerPool {
    /// Address of the engine: `unix:///var/run/docker.sock`, or `tcp://host:2376` with the certificates of `certificates`.
    #[serde(default = "socket")]
    pub host: String,
    /// Folder with `ca.pem`, `cert.pem` and `key.pem`, for an engine on another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
    /// The network of the containers; they need NATS and the store, and nothing else.
    #[serde(default = "bridge")]
    pub network: String,
    /// Address of NATS as containers reach it. Default: the scheduler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<String>,
    /// Address of the store as containers reach it; a folder is mounted at the same path. Default: the scheduler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Environment of the workers, beside what all are told: `AWS_ENDPOINT_URL`, for instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Whom workers run as: `1000:1000`. Default: whom their image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where scratch files lie.
    #[serde(default)]
    pub scratch: Scratch,
    /// Most that scratch in memory may take; counts to the memory of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_size: Option<Size>,
    /// Folder of the engine's machine for the inputs cache, shared by its workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// GPUs of the engine's machine that workers get, one or more each, as `nvidia-smi -L` names them: `GPU-5c9a…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// File with logins of registries, as `docker login` writes it (`config.json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}

/// Where scratch files of a container lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scratch {
    /// Fast, and writable by anybody.
    #[default]
    Memory,
    /// A volume that goes with its container; whoever runs there must be allowed to write `/scratch` of the image.
    Disk,
}

impl DockerPool {
    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, reason: &str| faults.push(Fault::new(format!("{at}/{field}"), reason));
        if !["unix://", "tcp://", "http://"].iter().any(|scheme| self.host.starts_with(scheme)) {
            fault("host", "must begin with `unix://` or `tcp://`");
        }
        if self.network.is_empty() || self.network.contains(char::is_whitespace) {
            fault("network", "must be the name of a network");
        }
        if self.nats.as_ref().is_some_and(|nats| !nats.contains("://")) {
            fault("nats", "must be an address, as `nats://10.0.0.1:4222`");
        }
        if self.store.as_ref().is_some_and(|store| !store.starts_with("file:///") && !store.starts_with("s3://")) {
            fault("store", "must be `file:///folder` or `s3://bucket/prefix`");
        }
        if self.environment.len() > VARIABLES_MAX {
            fault("environment", &format!("has more than the {VARIABLES_MAX} variables allowed"));
        }
        if self.environment.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            fault("environment", "has a name that is empty or has a `=`");
        }
        if self.scratch_size.is_some_and(|size| size.0 == 0) {
            fault("scratch_size", "must be more than 0");
        }
        if self.scratch_size.is_some() && self.scratch == Scratch::Disk {
            fault("scratch_size", "bounds scratch in memory only: on disk the engine sets the bound");
        }
        if self.cache.as_ref().is_some_and(|cache| !cache.starts_with('/')) {
            fault("cache", "must be the whole path of a folder, from `/` on");
        }
        if self.gpus.len() > GPUS_NAMED_MAX {
            fault("gpus", &format!("names more than {GPUS_NAMED_MAX} GPUs"));
        }
        let different: BTreeSet<&String> = self.gpus.iter().collect();
        if different.len() < self.gpus.len() || self.gpus.iter().any(|gpu| gpu.is_empty() || gpu.contains(',')) {
            fault("gpus", "must name different GPUs, each by its name");
        }
    }
}

fn socket() -> String {
    "unix:///var/run/docker.sock".to_owned()
}

fn bridge() -> String {
    "bridge".to_owned()
}
