//! The `ScaledJob` by which KEDA starts the workers of one function.

use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::FunctionKey;
use serde_json::Value;
use std::fmt::Write as _;

/// How long a worker waits for work, where its function does not say.
const LINGER_MIN_MS: u128 = 10_000;

/// How the workers reach the farm, and KEDA the scheduler.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// `--keda-listen` of the scheduler, as KEDA reaches it: `framewake.render.svc:7701`.
    pub(super) scaler: String,
    /// Absent: a secret tells it.
    pub(super) nats: Option<String>,
    pub(super) store: String,
    pub(super) farm: String,
    /// Kubernetes secrets with the credentials of the store and of NATS, for the environment of the workers.
    pub(super) secrets: Vec<String>,
    /// Resource of the nodes that a GPU is: `nvidia.com/gpu`.
    pub(super) gpu_resource: String,
    /// Of the pods: what network policies and budgets select them by.
    pub(super) labels: Vec<(String, String)>,
}

/// The manifest, in YAML.
///
/// What KEDA does by default would break renders: a change of the `ScaledJob` ends those that run (`rollout`), and other
/// strategies than `default` count workers again that are counted in the number already.
pub(super) fn scaled_job(key: &FunctionKey, spec: &FunctionSpec, reached: &Reached) -> Result<String, String> {
    let Some(image) = &spec.image else {
        return Err(format!("function {key} names no image, and workers that KEDA starts are made of one"));
    };
    let Reached { scaler, nats, store, farm, secrets, gpu_resource, labels } = reached;
    let name = format!("framewake-{}-{}", key.name.as_str().replace('_', "-"), key.version);
    // Where the function leaves the choice to the farm, KEDA's workers wait as briefly as the farm's do at least.
    let linger_ms = spec.scaling.linger.map_or(LINGER_MIN_MS, |linger| linger.0.as_millis());
    let text = |text: &str| Value::from(text).to_string();
    let mut labeled = String::new();
    for (at, (key, value)) in labels.iter().enumerate() {
        let head = if at == 0 { "        labels:\n" } else { "" };
        writeln!(labeled, "{head}          {}: {}", text(key), text(value)).expect("a string takes all");
    }
    let mut manifest = format!(
        "# Workers of {key}, as many as the farm needs. Other than by `framewake functions keda`, change nothing of
# `rollout` and `scalingStrategy`: KEDA's defaults end workers that render, or start too many.
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata:
  name: {name}
spec:
  pollingInterval: 5
  minReplicaCount: 0
  maxReplicaCount: {max}
  successfulJobsHistoryLimit: 5
  failedJobsHistoryLimit: 20
  rollout:
    strategy: gradual
  scalingStrategy:
    strategy: default
  triggers:
    - type: external-push
      metadata:
        scalerAddress: {scaler}
        function: {key}
  jobTargetRef:
    backoffLimit: 0
    podFailurePolicy:
      rules:
        - action: Ignore
          onPodConditions:
            - type: DisruptionTarget
    template:
      metadata:
{labeled}        annotations:
          cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\"
          karpenter.sh/do-not-disrupt: \"true\"
      spec:
        restartPolicy: Never
        terminationGracePeriodSeconds: 120
        automountServiceAccountToken: false
        containers:
          - name: worker
            image: {image}
            env:
              - name: FRAMEWAKE_FUNCTION
                value: {function}
              - name: FRAMEWAKE_STORE
                value: {store}
              - name: FRAMEWAKE_FARM
                value: {farm}
              - name: FRAMEWAKE_LINGER_MS
                value: \"{linger_ms}\"
              - name: FRAMEWAKE_GRACE
                value: 110s
",
        max = spec.scaling.max,
        scaler = text(scaler),
        image = text(image),
        function = text(&key.to_string()),
        store = text(store),
        farm = text(farm),
    );
    if let Some(nats) = nats {
        let nats = text(nats);
        writeln!(manifest, "              - name: FRAMEWAKE_NATS_URL\n                value: {nats}")
            .expect("a string takes all");
    }
    for (at, secret) in secrets.iter().enumerate() {
        let head = if at == 0 { "            envFrom:\n" } else { "" };
        let secret = text(secret);
        writeln!(manifest, "{head}              - secretRef:\n                  name: {secret}")
            .expect("a string takes all");
    }
    manifest.push_str(&resources(spec, gpu_resource));
    Ok(manifest)
}

/// What a worker is given; nothing where the function does not say.
fn resources(spec: &FunctionSpec, gpu_resource: &str) -> String {
    let needs = &spec.resources;
    let mut limits = Vec::new();
    if needs.gpus > 0 {
        limits.push((gpu_resource.to_owned(), needs.gpus.to_string()));
    }
    if let Some(millis) = needs.cpu_millis {
        limits.push(("cpu".to_owned(), format!("{millis}m")));
    }
    if let Some(memory) = needs.memory {
        limits.push(("memory".to_owned(), memory.0.to_string()));
    }
    if limits.is_empty() {
        return String::new();
    }
    let mut text = "            resources:\n              limits:\n".to_owned();
    for (name, amount) in limits {
        writeln!(text, "                {}: {}", Value::from(name), Value::from(amount)).expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paint(resources: &Value) -> FunctionSpec {
        serde_json::from_value(json!({
            "name": "paint", "image": "registry.example/paint:1", "resources": resources, "scaling": { "max": 5 },
            "driver": { "kind": "command", "command": ["paint", "{output}"] },
        }))
        .expect("a function")
    }

    #[test]
    fn the_manifest_keeps_keda_from_ending_renders() {
        let reached = Reached {
            scaler: "framewake.render.svc:7701".to_owned(),
            nats: Some("nats://nats.render.svc:4222".to_owned()),
            store: "s3://frames/farm".to_owned(),
            farm: "framewake".to_owned(),
            secrets: vec!["store".to_owned(), "more".to_owned()],
            gpu_resource: "nvidia.com/gpu".to_owned(),
            labels: vec![("team".to_owned(), "render".to_owned()), ("a/b".to_owned(), "1".to_owned())],
        };
        let key = "paint@3".parse().expect("a key");
        let spec = paint(&json!({ "gpus": 1, "memory": "8GiB", "cpu_millis": 2000 }));
        let text = scaled_job(&key, &spec, &reached).expect("it has an image");
        let manifest: Value = framewake_proto::yaml::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
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
        assert_eq!(
            container["envFrom"],
            json!([{ "secretRef": { "name": "store" } }, { "secretRef": { "name": "more" } }])
        );
        assert_eq!(spec_of["jobTargetRef"]["template"]["metadata"]["labels"], json!({ "team": "render", "a/b": "1" }));
        assert!(text.contains("nats://nats.render.svc:4222"));
        let nowhere = Reached { nats: None, secrets: vec!["nats".to_owned()], labels: Vec::new(), ..reached };
        let text = scaled_job(&key, &spec, &nowhere).expect("it has an image");
        let bare: Value = framewake_proto::yaml::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(!text.contains("NATS_URL") && bare["spec"]["jobTargetRef"]["template"]["metadata"]["labels"].is_null());
        assert_eq!(
            container["resources"]["limits"],
            json!({ "nvidia.com/gpu": "1", "cpu": "2000m", "memory": "8589934592" })
        );
        let without = FunctionSpec { image: None, ..spec };
        assert!(scaled_job(&key, &without, &nowhere).expect_err("refused").contains("image"));
    }
}
