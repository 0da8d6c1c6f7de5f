//! Workers that others start and that join the farm by themselves, as KEDA's: in pods like those of a pool, which no pool takes for
//! its own.

use super::{FARM, POOL, Template, WORKER, when_disrupted};
use crate::kubernetes::plain;
use crate::{Error, Surroundings};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::FunctionKey;
use framewake_proto::pool::{PoolSpec, ProviderSpec};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;

/// A Job of any of them, without a name; or why there can't be one.
///
/// Nobody asked for them one by one: each makes its own name, and has no invitation. Whoever makes Jobs of this keeps account of
/// those that ended, and so nothing here removes them.
pub fn joining(
    pool: &PoolSpec,
    surroundings: &Surroundings,
    function: &FunctionKey,
    spec: &FunctionSpec,
    linger: Duration,
) -> Result<Job, Error> {
    let ProviderSpec::Kubernetes(kubernetes) = &pool.provider else {
        return Err(plain(format!("the pool {} is not of kind kubernetes", pool.name)));
    };
    let Some(image) = &spec.image else {
        return Err(plain(format!("the function {function} names no image, and these workers are made of one")));
    };
    let template = Template::new(pool, kubernetes, surroundings)?;
    let mut labels = kubernetes.labels.clone();
    labels.retain(|key, _| ![FARM, POOL, WORKER].contains(&key.as_str()));
    labels.insert("app.kubernetes.io/name".to_owned(), "framewake-worker".to_owned());
    labels.extend(super::label_of(function));
    let pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(template.annotations(function)),
            ..ObjectMeta::default()
        }),
        spec: Some(template.pod(function, spec, linger, image, Vec::new())),
    };
    Ok(Job {
        metadata: ObjectMeta {
            namespace: kubernetes.namespace.clone(),
            labels: template.queue().map(|queue| [queue].into()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            // The Job is counted as a worker until it ends. Another pod in place of one whose machine was taken away is
            // another worker, with a name of its own.
            pod_failure_policy: Some(when_disrupted("Ignore")),
            template: pod,
            ..JobSpec::default()
        }),
        status: None,
    })
}
