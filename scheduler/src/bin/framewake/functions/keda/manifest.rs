//! The `ScaledJob` by which KEDA starts the workers of one function, in pods like those of a pool.

use framewake_functions::Surroundings;
use framewake_functions::kubernetes::joining;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::FunctionKey;
use framewake_proto::pool::PoolSpec;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a worker waits for work, where its function does not say: as briefly as the farm's own do at least.
const LINGER_MIN: Duration = Duration::from_secs(10);

/// How the workers reach the farm, and KEDA the scheduler.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// `--keda-listen` of the scheduler, as KEDA reaches it: `framewake.render.svc:7701`.
    pub(super) scaler: String,
    /// By TLS.
    pub(super) tls: bool,
    /// Kubernetes secret whose `ca.crt` vouches for the scheduler; absent: KEDA trusts it anyway.
    pub(super) ca_secret: Option<String>,
    /// Absent: a secret tells it.
    pub(super) nats: Option<String>,
    pub(super) store: String,
    pub(super) farm: String,
}

/// The manifest, in YAML. KEDA starts as many as the farm needs, and `workers_max` at most.
///
/// What KEDA does by default would break renders: a change of the `ScaledJob` ends those that run (`rollout`), and other
/// strategies than `default` count workers again that are counted in the number already.
pub(super) fn scaled_job(
    key: &FunctionKey,
    spec: &FunctionSpec,
    pool: &PoolSpec,
    workers_max: u32,
    reached: &Reached,
) -> anyhow::Result<String> {
    let Reached { scaler, tls, ca_secret, nats, store, farm } = reached;
    let linger = spec.scaling.linger.map_or(LINGER_MIN, |linger| linger.0);
    let surroundings = Surroundings {
        nats: nats.clone().unwrap_or_default(),
        farm: farm.clone(),
        store: store.clone(),
        environment: BTreeMap::new(),
    };
    let job = joining(pool, &surroundings, key, spec, linger)?;
    let mut metadata = serde_json::to_value(&job.metadata)?;
    metadata["name"] = json!(format!("framewake-{}-{}", key.name.as_str().replace('_', "-"), key.version));
    let mut trigger = json!({
        "type": "external-push",
        "metadata": { "scalerAddress": scaler, "function": key.to_string() },
    });
    if *tls {
        trigger["metadata"]["enableTLS"] = json!("true");
    }
    if ca_secret.is_some() {
        trigger["authenticationRef"] = json!({ "name": metadata["name"] });
    }
    let scaled = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledJob",
        "metadata": metadata,
        "spec": {
            "pollingInterval": 5,
            "minReplicaCount": 0,
            "maxReplicaCount": workers_max,
            "successfulJobsHistoryLimit": 5,
            "failedJobsHistoryLimit": 20,
            "rollout": { "strategy": "gradual" },
            "scalingStrategy": { "strategy": "default" },
            "triggers": [trigger],
            "jobTargetRef": job.spec,
        },
    });
    let mut text = format!(
        "# Workers of {key}, as many as the farm needs. Other than by `framewake functions keda`, change nothing of\n\
         # `rollout` and `scalingStrategy`: KEDA's defaults end workers that render, or start too many.\n{}",
        yaml(&scaled)?
    );
    if let Some(secret) = ca_secret {
        // Where the other is: it looks for the name there.
        let mut metadata = metadata.clone();
        metadata.as_object_mut().and_then(|metadata| metadata.remove("labels"));
        let trust = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": metadata,
            "spec": { "secretTargetRef": [{ "parameter": "caCert", "name": secret, "key": "ca.crt" }] },
        });
        text.push_str("---\n");
        text.push_str(&yaml(&trust)?);
    }
    Ok(text)
}

/// For people too: addresses stay on one line.
fn yaml(manifest: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string_with_options(manifest, serde_saphyr::ser_options! { prefer_block_scalars: false })
}

#[cfg(test)]
mod tests {
    use super::super::{plain_pool, with};
    use super::*;

    fn paint(resources: &Value) -> FunctionSpec {
        serde_json::from_value(json!({
            "name": "paint", "image": "registry.example/paint:1", "resources": resources, "scaling": { "max": 5 },
            "driver": { "kind": "command", "command": ["paint", "{output}"] },
        }))
        .expect("a function")
    }

    fn read(text: &str) -> Value {
        framewake_proto::yaml::read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn reached() -> Reached {
        Reached {
            scaler: "framewake.render.svc:7701".to_owned(),
            tls: false,
            ca_secret: None,
            nats: Some("nats://nats.render.svc:4222".to_owned()),
            store: "s3://frames/farm".to_owned(),
            farm: "framewake".to_owned(),
        }
    }

    #[test]
    fn the_manifest_keeps_keda_from_ending_renders() {
        let key = "paint@3".parse().expect("a key");
        let spec = paint(&json!({ "gpus": 1, "memory": "8GiB", "cpu_millis": 2000 }));
        let labels = [("team".to_owned(), "render".to_owned()), ("a/b".to_owned(), "1".to_owned())];
        let pool = with(plain_pool(None), &["store".to_owned(), "more".to_owned()], &labels).expect("a good pool");
        let made = |spec: &FunctionSpec, reached: &Reached| scaled_job(&key, spec, &pool, 5, reached);
        let text = made(&spec, &reached()).expect("it has an image");
        let manifest = read(&text);
        let spec_of = &manifest["spec"];
        assert_eq!(
            (&manifest["kind"], &manifest["metadata"]["name"]),
            (&json!("ScaledJob"), &json!("framewake-paint-3"))
        );
        assert_eq!(
            (&spec_of["rollout"]["strategy"], &spec_of["scalingStrategy"]["strategy"]),
            (&json!("gradual"), &json!("default"))
        );
        assert_eq!((&spec_of["minReplicaCount"], &spec_of["maxReplicaCount"]), (&json!(0), &json!(5)));
        assert_eq!(
            spec_of["triggers"],
            json!([{ "type": "external-push", "metadata": { "scalerAddress": "framewake.render.svc:7701", "function": "paint@3" } }])
        );
        let container = &spec_of["jobTargetRef"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.example/paint:1");
        let secret = |name: &str| json!({ "secretRef": { "name": name, "optional": false } });
        assert_eq!(container["envFrom"], json!([secret("store"), secret("more")]));
        let labels = &spec_of["jobTargetRef"]["template"]["metadata"]["labels"];
        assert_eq!((&labels["team"], &labels["a/b"]), (&json!("render"), &json!("1")));
        let limits = &container["resources"]["limits"];
        assert_eq!(
            (&limits["nvidia.com/gpu"], &limits["cpu"], &limits["memory"]),
            (&json!("1"), &json!("2000m"), &json!("8589934592"))
        );
        assert!(text.contains("nats://nats.render.svc:4222") && text.starts_with("# Workers of paint@3,"), "{text}");
        assert!(text.contains("\n      - metadata:\n") || text.contains("\n  - metadata:\n"), "a line each: {text}");

        let encrypted = Reached { tls: true, ca_secret: Some("farm-tls".to_owned()), ..reached() };
        let text = made(&spec, &encrypted).expect("it has an image");
        let (job, trust) = text.split_once("---\n").expect("two manifests");
        let [job, trust] = [job, trust].map(read);
        assert_eq!(
            job["spec"]["triggers"],
            json!([{
                "type": "external-push",
                "metadata": { "scalerAddress": "framewake.render.svc:7701", "function": "paint@3", "enableTLS": "true" },
                "authenticationRef": { "name": "framewake-paint-3" },
            }])
        );
        assert_eq!(
            (&trust["kind"], &trust["metadata"]["name"]),
            (&json!("TriggerAuthentication"), &json!("framewake-paint-3"))
        );
        let authority = json!([{ "parameter": "caCert", "name": "farm-tls", "key": "ca.crt" }]);
        assert_eq!(trust["spec"]["secretTargetRef"], authority);

        let text = made(&spec, &Reached { nats: None, ..reached() }).expect("it has an image");
        assert!(!text.contains("NATS_URL"), "{text}");
        let without = FunctionSpec { image: None, ..spec };
        assert!(made(&without, &reached()).expect_err("refused").to_string().contains("image"));
    }
}
