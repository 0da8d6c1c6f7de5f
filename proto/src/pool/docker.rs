//! Containers of a Docker engine.

use crate::job::Fault;
use serde::{Deserialize, Serialize};

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
    /// Folder of the engine's machine for the inputs cache, shared by its workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

impl DockerPool {
    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        let known = ["unix://", "tcp://", "http://"].iter().any(|scheme| self.host.starts_with(scheme));
        if !known {
            faults.push(Fault::new(format!("{at}/host"), "must begin with `unix://` or `tcp://`"));
        }
    }
}

fn socket() -> String {
    "unix:///var/run/docker.sock".to_owned()
}

fn bridge() -> String {
    "bridge".to_owned()
}
