//! Jobs of Kubernetes.

use crate::job::Fault;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How workers of a pool are started as Jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesPool {
    /// Default: the scheduler's own, or that of the kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the resource that a GPU of this pool is: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`, `amd.com/gpu`, `gpu.intel.com/xe`.
    #[serde(default = "nvidia")]
    pub gpu_resource: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Scratch and cache on the node's disk.
    #[serde(default = "ephemeral_storage")]
    pub ephemeral_storage: Size,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<serde_json::Value>,
    /// Name of a `ResourceClaimTemplate` that brings the GPU, in place of `gpu_resource`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_claim_template: Option<String>,
    /// Name of a Kueue `LocalQueue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of the pods, beside ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Secrets whose keys become the environment of workers, as credentials of NATS and the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_from: Vec<String>,
}

impl KubernetesPool {
    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        if self.gpu_resource.is_empty() {
            faults.push(Fault::new(format!("{at}/gpu_resource"), "is empty"));
        }
        if self.ephemeral_storage.0 == 0 {
            faults.push(Fault::new(format!("{at}/ephemeral_storage"), "must be more than 0"));
        }
    }
}

fn nvidia() -> String {
    "nvidia.com/gpu".to_owned()
}

fn ephemeral_storage() -> Size {
    Size(20 << 30)
}
