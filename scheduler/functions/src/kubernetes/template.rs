//! The Job of a worker: made of its pool, its function and what every worker is told. Nothing in it opens anything alone, and nothing
//! in it changes while the worker runs.

pub(super) mod joining;

use super::{because, plain};
use crate::{Error, INVITATION, Start, Surroundings};
use framewake_proto::function::{FunctionSpec, Resources};
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::pool::PoolSpec;
use framewake_proto::pool::kubernetes::KubernetesPool;
use framewake_proto::size::Size;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource, LocalObjectReference,
    ObjectFieldSelector, PodResourceClaim, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceClaim,
    ResourceRequirements, SeccompProfile, SecretEnvSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Labels of Jobs and pods. The farm's and the pool's select ours among all others.
pub const FARM: &str = "framewake/farm";
pub const POOL: &str = "framewake/pool";
pub const WORKER: &str = "framewake/worker";
/// The function's name; its version is in the annotation of the same key, because labels can't have an `@`.
pub const FUNCTION: &str = "framewake/function";
/// By which Kueue holds a Job until its queue has room.
pub(super) const KUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The one container.
pub(super) const CONTAINER: &str = "worker";
/// Where the scratch volume is; scratch and cache are folders of it.
const SCRATCH: &str = "/scratch";
/// How much later than it was told a worker is made to leave: its last words are under way.
const GRACE_MARGIN_S: u64 = 5;
/// Names and beginnings of names of variables that are about the scheduler's own pod.
const NOT_PASSED_ON: [&str; 3] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_", "AWS_CONTAINER_"];
/// Renderers that know no other place write a little here.
const TMP_MAX: Size = Size(256 << 20);
/// Jobs that ended are removed as soon as the farm knows of it; where no scheduler runs, by Kubernetes, after this long.
const KEPT_S: i32 = 3600;

/// What the Jobs of a pool have in common.
#[derive(Debug)]
pub(super) struct Template {
    farm: Name,
    pool: Name,
    kubernetes: KubernetesPool,
    grace_s: i64,
    tolerations: Vec<Toleration>,
    volumes: Vec<Volume>,
    mounts: Vec<VolumeMount>,
    /// The same for all workers.
    environment: Vec<EnvVar>,
}

impl Template {
    pub(super) fn new(
        pool: &PoolSpec,
        kubernetes: &KubernetesPool,
        surroundings: &Surroundings,
    ) -> Result<Template, Error> {
        let farm: Name =
            surroundings.farm.parse().map_err(|error| because("the farm's name can't be a label", error))?;
        for (what, name) in [("farm", &farm), ("pool", &pool.name)] {
            if !name.as_str().ends_with(|c: char| c.is_ascii_alphanumeric()) {
                let why =
                    format!("the {what} `{name}` can't be a label of Kubernetes: it must end with a letter or digit");
                return Err(plain(why));
            }
        }
        let grace = kubernetes.grace(pool.market);
        Ok(Template {
            farm,
            pool: pool.name.clone(),
            grace_s: i64::try_from(grace.as_secs() + GRACE_MARGIN_S).unwrap_or(i64::MAX),
            tolerations: typed("tolerations", &kubernetes.tolerations)?,
            volumes: typed("volumes", &kubernetes.volumes)?,
            mounts: typed("volume_mounts", &kubernetes.volume_mounts)?,
            environment: environment(kubernetes, surroundings, grace)?,
            kubernetes: kubernetes.clone(),
        })
    }

    /// Selects the Jobs and pods of this pool.
    pub(super) fn selector(&self) -> String {
        format!("{FARM}={},{POOL}={}", self.farm, self.pool)
    }

    /// Whether these are the labels of a worker of this pool.
    pub(super) fn is_ours(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let told = |key| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        told(FARM) == Some(self.farm.as_str()) && told(POOL) == Some(self.pool.as_str())
    }

    /// The Job of a worker, or why there can't be one.
    pub(super) fn job(&self, start: &Start) -> Result<Job, String> {
        let Some(image) = &start.spec.image else {
            return Err(format!("the function {} names no image", start.function));
        };
        let mut told = vec![variable("FRAMEWAKE_WORKER", start.worker.to_string())];
        told.extend(start.invitation.iter().map(|invitation| variable(INVITATION, invitation.reveal().to_owned())));
        let pod = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(self.labels(start)),
                annotations: Some(self.annotations(&start.function)),
                ..ObjectMeta::default()
            }),
            spec: Some(self.pod(&start.function, &start.spec, start.linger, image, told)),
        };
        let mut labels = self.labels(start);
        labels.extend(self.queue());
        Ok(Job {
            metadata: ObjectMeta {
                name: Some(start.worker.to_string()),
                labels: Some(labels),
                annotations: Some([(FUNCTION.to_owned(), start.function.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec {
                parallelism: Some(1),
                completions: Some(1),
                backoff_limit: Some(0),
                // Never a second GPU while the first is still held.
                pod_replacement_policy: Some("Failed".to_owned()),
                // Whether there should be another is the farm's to say: it may want none, or one elsewhere. With `Ignore`, Kubernetes
                // would start a second process under the name of one that the farm knows has ended. And the rule leaves the
                // reason with the Job, where it outlives a pod that went with its machine.
                pod_failure_policy: Some(when_disrupted("FailJob")),
                ttl_seconds_after_finished: Some(KEPT_S),
                template: pod,
                ..JobSpec::default()
            }),
            status: None,
        })
    }

    /// By which Kueue finds the Job, if the pool has a queue.
    fn queue(&self) -> Option<(String, String)> {
        self.kubernetes.queue.clone().map(|queue| (KUEUE.to_owned(), queue))
    }

    fn labels(&self, start: &Start) -> BTreeMap<String, String> {
        let mut labels = self.kubernetes.labels.clone();
        labels.extend(
            [
                ("app.kubernetes.io/name", "framewake-worker"),
                ("app.kubernetes.io/managed-by", "framewake"),
                (FARM, self.farm.as_str()),
                (POOL, self.pool.as_str()),
                (WORKER, start.worker.as_str()),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        labels.extend(label_of(&start.function));
        labels
    }

    fn annotations(&self, function: &FunctionKey) -> BTreeMap<String, String> {
        let mut annotations = self.kubernetes.annotations.clone();
        annotations.extend(
            [
                (FUNCTION, function.to_string().as_str()),
                // Nobody empties the machine under a frame to save another one: workers leave by themselves.
                ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
                ("karpenter.sh/do-not-disrupt", "true"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        annotations
    }

    /// `told`: what this worker alone is told, beside its function.
    fn pod(
        &self,
        function: &FunctionKey,
        spec: &FunctionSpec,
        linger: Duration,
        image: &str,
        told: Vec<EnvVar>,
    ) -> PodSpec {
        let kubernetes = &self.kubernetes;
        let gpus = spec.resources.gpus;
        let claim = kubernetes.resource_claim_template.as_ref().filter(|_| gpus > 0);
        let mut environment = told;
        environment.push(variable("FRAMEWAKE_FUNCTION", function.to_string()));
        environment.push(variable("FRAMEWAKE_LINGER_MS", linger.as_millis().to_string()));
        environment.extend(self.environment.iter().cloned());
        let scratch = empty_dir("scratch", kubernetes.ephemeral_storage);
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(self.grace_s),
            node_selector: Some(kubernetes.node_selector.clone()).filter(|all| !all.is_empty()),
            tolerations: Some(self.tolerations(gpus)).filter(|all| !all.is_empty()),
            runtime_class_name: kubernetes.runtime_class.clone(),
            priority_class_name: kubernetes.priority_class.clone(),
            service_account_name: kubernetes.service_account.clone(),
            automount_service_account_token: Some(false),
            // Services of the namespace would otherwise become variables that nobody asked for.
            enable_service_links: Some(false),
            image_pull_secrets: Some(kubernetes.image_pull_secrets.iter().map(|name| pull_secret(name)).collect()),
            resource_claims: claim.map(|template| {
                vec![PodResourceClaim {
                    name: "gpu".to_owned(),
                    resource_claim_template_name: Some(template.clone()),
                    ..PodResourceClaim::default()
                }]
            }),
            // No user id: where the namespace gives one (OpenShift), any other would be refused.
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            volumes: Some([vec![scratch, empty_dir("tmp", TMP_MAX)], self.volumes.clone()].concat()),
            containers: vec![self.container(&spec.resources, image, environment)],
            ..PodSpec::default()
        }
    }

    fn container(&self, needs: &Resources, image: &str, environment: Vec<EnvVar>) -> Container {
        let secret = |name: &String| EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: name.clone(), optional: Some(false) }),
            ..EnvFromSource::default()
        };
        let mounts = vec![mount("scratch", SCRATCH), mount("tmp", "/tmp")];
        Container {
            name: CONTAINER.to_owned(),
            image: Some(image.to_owned()),
            // Images are of some GiB, and versions of functions never change.
            image_pull_policy: Some("IfNotPresent".to_owned()),
            env: Some(environment),
            env_from: Some(self.kubernetes.environment_from.iter().map(secret).collect()),
            resources: Some(self.resources(needs)),
            volume_mounts: Some([mounts, self.mounts.clone()].concat()),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
                read_only_root_filesystem: Some(true),
                ..SecurityContext::default()
            }),
            // So that its last words outlive the pod, without the right to read logs.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    fn resources(&self, needs: &Resources) -> ResourceRequirements {
        let mut both = BTreeMap::new();
        if let Some(millis) = needs.cpu_millis {
            both.insert("cpu".to_owned(), Quantity(format!("{millis}m")));
        }
        if let Some(memory) = needs.memory {
            both.insert("memory".to_owned(), bytes(memory));
        }
        both.insert("ephemeral-storage".to_owned(), bytes(self.kubernetes.ephemeral_storage));
        let mut limits = both.clone();
        let mut claims = None;
        if needs.gpus > 0 {
            if self.kubernetes.resource_claim_template.is_some() {
                claims = Some(vec![ResourceClaim { name: "gpu".to_owned(), request: None }]);
            } else {
                // As a limit only: GPUs are never promised twice, so their request is the limit.
                limits.insert(self.kubernetes.gpu_resource.clone(), Quantity(needs.gpus.to_string()));
            }
        }
        ResourceRequirements { claims, limits: Some(limits), requests: Some(both) }
    }

    /// Those of the pool, and the one that machines with NVIDIA's GPUs are kept free by, for a worker that has some.
    fn tolerations(&self, gpus: u32) -> Vec<Toleration> {
        const TAINT: &str = "nvidia.com/gpu";
        let mut tolerations = self.tolerations.clone();
        let there = tolerations.iter().any(|toleration| toleration.key.as_deref().is_none_or(|key| key == TAINT));
        if gpus > 0 && self.kubernetes.gpu_resource.starts_with("nvidia.com/") && !there {
            tolerations.push(Toleration {
                key: Some(TAINT.to_owned()),
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            });
        }
        tolerations
    }
}

/// What becomes of a Job whose worker's machine is taken away.
fn when_disrupted(action: &str) -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: action.to_owned(),
            on_exit_codes: None,
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                status: "True".to_owned(),
                type_: "DisruptionTarget".to_owned(),
            }]),
        }],
    }
}

/// What all workers of a pool are told. What is secret must come from a Secret: who may read Jobs could read it here.
fn environment(
    kubernetes: &KubernetesPool,
    surroundings: &Surroundings,
    grace: Duration,
) -> Result<Vec<EnvVar>, Error> {
    let Surroundings { nats, farm, store, environment } = surroundings;
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    // Half of the disk for inputs, the rest for outputs and what renderers leave.
    values.insert("FRAMEWAKE_CACHE_SIZE", (kubernetes.ephemeral_storage.0 / 2).to_string());
    let foreign = |name: &str| NOT_PASSED_ON.iter().any(|beginning| name.starts_with(beginning));
    let passed_on = environment.iter().filter(|(name, _)| !foreign(name));
    values.extend(passed_on.map(|(name, value)| (name.as_str(), value.clone())));
    values.extend(Some(("FRAMEWAKE_NATS_URL", nats.clone())).filter(|_| !nats.is_empty()));
    values.extend([
        ("FRAMEWAKE_FARM", farm.clone()),
        ("FRAMEWAKE_STORE", store.clone()),
        ("FRAMEWAKE_SCRATCH", format!("{SCRATCH}/work")),
        ("FRAMEWAKE_CACHE", format!("{SCRATCH}/cache")),
        ("TERMINATION_GRACE_S", grace.as_secs().to_string()),
    ]);
    let secret: Vec<&str> =
        values.iter().filter(|(name, value)| is_secret(name, value)).map(|(name, _)| *name).collect();
    if !secret.is_empty() && kubernetes.environment_from.is_empty() {
        let names = secret.join(", ");
        let why =
            format!("{names} would stand in every Job: put it into a Secret, and its name into `environment_from`");
        return Err(plain(why));
    }
    for name in secret {
        values.remove(name);
    }
    let mut variables: Vec<EnvVar> = values.into_iter().map(|(name, value)| variable(name, value)).collect();
    variables.push(EnvVar {
        name: "FRAMEWAKE_HOST".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: "spec.nodeName".to_owned() }),
            ..EnvVarSource::default()
        }),
    });
    Ok(variables)
}

/// By its name, or because it is an address with a password.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let named = ["SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY", "CREDENTIAL", "PRIVATE"];
    let authority = value.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    named.iter().any(|part| name.contains(part)) || authority.contains('@')
}

/// What operators write as in a pod. A field that Kubernetes does not know would be lost without a word.
fn typed<T: DeserializeOwned + Serialize>(field: &str, values: &[Value]) -> Result<Vec<T>, Error> {
    let read = |(at, value): (usize, &Value)| {
        let what = || format!("{field}/{at} of the pool is not as in a pod");
        let read: T = serde_json::from_value(value.clone()).map_err(|error| because(what(), error))?;
        let kept = serde_json::to_value(&read).map_err(|error| because(what(), error))?;
        match lost(value, &kept) {
            Some(lost) => Err(plain(format!("{}: Kubernetes knows no field `{lost}` there", what()))),
            None => Ok(read),
        }
    };
    values.iter().enumerate().map(read).collect()
}

/// A field of `value` that `kept` has not.
fn lost(value: &Value, kept: &Value) -> Option<String> {
    match (value, kept) {
        (Value::Object(value), Value::Object(kept)) => value.iter().find_map(|(name, value)| match kept.get(name) {
            Some(kept) => lost(value, kept).map(|rest| format!("{name}.{rest}")),
            None => (!value.is_null()).then(|| name.clone()),
        }),
        (Value::Array(value), Value::Array(kept)) => value.iter().zip(kept).find_map(|(value, kept)| lost(value, kept)),
        _ => None,
    }
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

/// The function's name, where it can be a label.
fn label_of(function: &FunctionKey) -> Option<(String, String)> {
    let name = function.name.as_str();
    let is_label = name.ends_with(|c: char| c.is_ascii_alphanumeric());
    is_label.then(|| (FUNCTION.to_owned(), name.to_owned()))
}

fn empty_dir(name: &str, size: Size) -> Volume {
    let source = EmptyDirVolumeSource { medium: None, size_limit: Some(bytes(size)) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn bytes(size: Size) -> Quantity {
    Quantity(size.0.to_string())
}

fn pull_secret(name: &str) -> LocalObjectReference {
    LocalObjectReference { name: name.to_owned() }
}

/// Whose Job or pod this is, by its labels and annotations.
pub(super) fn owner(metadata: &ObjectMeta) -> Option<(WorkerId, FunctionKey)> {
    let worker = metadata.labels.as_ref()?.get(WORKER)?.parse().ok()?;
    let function = metadata.annotations.as_ref()?.get(FUNCTION)?.parse().ok()?;
    Some((worker, function))
}

#[cfg(test)]
mod tests;
