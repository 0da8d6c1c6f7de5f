//! Jobs of Kubernetes.

use crate::duration::Span;
use crate::job::Fault;
use crate::price::Market;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Least disk of a worker: below, not even its inputs fit.
const EPHEMERAL_STORAGE_MIN: Size = Size(64 << 20);
/// Longest time that a worker may take to leave.
const GRACE_MAX: Duration = Duration::from_hours(1);

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
    /// How long a worker may take to finish its frame when its machine is drained [default: 2m; 25s where machines may be
    /// taken away, for many clouds give no more than half a minute].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// Name of a `PriorityClass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
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
    /// How long a worker may take to leave.
    pub fn grace(&self, market: Market) -> Duration {
        let default = match market {
            Market::OnDemand => Duration::from_mins(2),
            Market::Spot => Duration::from_secs(25),
        };
        self.grace.map_or(default, |grace| grace.0)
    }

    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        let mut wrong = |field: &str, why: String| faults.push(Fault::new(format!("{at}/{field}"), why));
        let mut keys = vec![("gpu_resource", &self.gpu_resource)];
        keys.extend(self.node_selector.keys().map(|key| ("node_selector", key)));
        keys.extend(self.labels.keys().map(|key| ("labels", key)));
        keys.extend(self.annotations.keys().map(|key| ("annotations", key)));
        for (field, key) in keys.into_iter().filter(|(_, key)| !is_key(key)) {
            wrong(field, format!("`{key}` is no name as Kubernetes has them: `nvidia.com/gpu`"));
        }
        let values = self.node_selector.iter().map(|entry| ("node_selector", entry));
        for (field, (key, value)) in values.chain(self.labels.iter().map(|entry| ("labels", entry))) {
            if !is_label(value) {
                wrong(
                    field,
                    format!(
                        "`{value}` of `{key}` is no value of a label: at most 63 letters, digits, `-`, `_` and `.`"
                    ),
                );
            }
        }
        let mut names = vec![];
        names.extend(self.namespace.iter().map(|name| ("namespace", name)));
        names.extend(self.runtime_class.iter().map(|name| ("runtime_class", name)));
        names.extend(self.priority_class.iter().map(|name| ("priority_class", name)));
        names.extend(self.service_account.iter().map(|name| ("service_account", name)));
        names.extend(self.queue.iter().map(|name| ("queue", name)));
        names.extend(self.resource_claim_template.iter().map(|name| ("resource_claim_template", name)));
        names.extend(self.image_pull_secrets.iter().map(|name| ("image_pull_secrets", name)));
        names.extend(self.environment_from.iter().map(|name| ("environment_from", name)));
        for (field, name) in names.into_iter().filter(|(_, name)| !is_name(name)) {
            wrong(field, format!("`{name}` is no name of an object: lower-case letters, digits, `-` and `.`"));
        }
        if self.ephemeral_storage < EPHEMERAL_STORAGE_MIN {
            wrong("ephemeral_storage", format!("must be at least {EPHEMERAL_STORAGE_MIN}"));
        }
        if self.grace.is_some_and(|grace| grace.0 < Duration::from_secs(1) || grace.0 > GRACE_MAX) {
            wrong("grace", format!("must be 1s to {}s", GRACE_MAX.as_secs()));
        }
    }
}

/// The name of an object (RFC 1123).
fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let within = text.chars().all(|c| letter(c) || c == '-' || c == '.');
    text.len() <= 253 && within && text.starts_with(letter) && text.ends_with(letter)
}

/// The value of a label; may be empty.
fn is_label(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let within = text.chars().all(|c| ends(c) || ['-', '_', '.'].contains(&c));
    text.is_empty() || (text.len() <= 63 && within && text.starts_with(ends) && text.ends_with(ends))
}

/// The key of a label, an annotation or a resource: a name, with a domain before it or not.
fn is_key(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    domain.is_none_or(is_name) && !name.is_empty() && is_label(name)
}

fn nvidia() -> String {
    "nvidia.com/gpu".to_owned()
}

fn ephemeral_storage() -> Size {
    Size(20 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(pool: Value) -> Vec<String> {
        let pool: KubernetesPool = serde_json::from_value(pool).expect("the right fields");
        let mut faults = Vec::new();
        pool.faults("/provider", &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_an_api_server_would_refuse_is_found_before_it_is_asked() {
        let good = json!({
            "namespace": "render", "gpu_resource": "nvidia.com/mig-1g.10gb", "runtime_class": "nvidia", "grace": "90s",
            "node_selector": { "cloud.google.com/gke-accelerator": "nvidia-l4", "spot": "" },
            "labels": { "team": "Film_2" }, "environment_from": ["store.credentials"], "queue": "gpu",
        });
        assert_eq!(faults(good), Vec::<String>::new());
        assert_eq!(faults(json!({})), Vec::<String>::new());
        let bad = json!({
            "namespace": "Render", "gpu_resource": "", "runtime_class": "nvidia_", "grace": "2h", "ephemeral_storage": "1MiB",
            "node_selector": { "a b": "x", "c": "-x" }, "annotations": { "/x": "" }, "environment_from": [""],
        });
        let fields = [
            "gpu_resource",
            "node_selector",
            "annotations",
            "node_selector",
            "namespace",
            "runtime_class",
            "environment_from",
            "ephemeral_storage",
            "grace",
        ];
        assert_eq!(faults(bad), fields.map(|field| format!("/provider/{field}")));
    }
}
