//! The Helm chart as Helm renders it, without a cluster: cases in, objects out.

use crate::parts::{root, tool};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One file of values for each platform.
pub const PRESETS: [&str; 5] = ["aks", "bare", "eks", "gke", "openshift"];

/// Values on top of a preset, or of none.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: &'static str,
    pub preset: Option<&'static str>,
    pub values: Value,
}

/// What came of it.
#[derive(Debug)]
pub struct Rendered {
    pub name: &'static str,
    pub objects: Vec<Value>,
    pub notes: String,
    /// What `helm lint --strict` says.
    pub lint: Vec<String>,
    /// What an API server would refuse.
    pub faults: Vec<String>,
}

impl Case {
    /// With the values that everybody has to set: where the store is, and by what NATS knows the workers, or that it is open.
    pub fn new(name: &'static str, preset: Option<&'static str>, mut values: Value) -> Case {
        let is_told = |name: &str| values["nats"].get(name).is_some();
        if values.get("nats").is_none() {
            values["nats"] = json!({ "keysSecret": "nats-keys", "existingSecret": "join" });
        } else if !is_told("keysSecret") && !is_told("open") {
            values["nats"]["open"] = json!(true);
        }
        if values.get("store").is_none() {
            values["store"] = json!({});
        }
        if values["store"].get("url").is_none() {
            values["store"]["url"] = json!("s3://frames/farm");
        }
        Case { name, preset, values }
    }
}

/// Every preset, the chart as it is, with all its parts, with NATS and database elsewhere, with two schedulers, with an ingress.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = PRESETS.iter().map(|preset| Case::new(preset, Some(preset), json!({}))).collect();
    cases.push(Case::new("plain", None, json!({})));
    cases.push(Case::new("everything", Some("gke"), everything()));
    let elsewhere = json!({
        "nats": { "enabled": false, "url": "nats://nats.messaging:4333" },
        "persistence": { "enabled": false },
        "replication": { "enabled": true, "url": "s3://backups/farm", "existingSecret": "backups" },
        "route": { "enabled": true },
    });
    cases.push(Case::new("elsewhere", Some("openshift"), elsewhere));
    let guarded = json!({
        "store": { "existingSecret": "store" },
        "nats": { "existingSecret": "join", "keysSecret": "nats-keys" },
        "keda": { "enabled": true, "namespace": "scaling" },
    });
    let encrypted = json!({
        "tls": { "existingSecret": "farm-tls" },
        "openfaas": { "enabled": true, "existingSecret": "openfaas" },
        "keda": { "enabled": true },
        "route": { "enabled": true },
        "monitoring": { "serviceMonitor": { "enabled": true, "tokenSecret": "prometheus" } },
    });
    cases.push(Case::new("encrypted", Some("openshift"), encrypted));
    cases.push(Case::new("guarded", Some("eks"), guarded));
    let two = json!({ "scheduler": { "replicas": 2 }, "persistence": { "accessMode": "ReadWriteMany" } });
    cases.push(Case::new("two schedulers", Some("bare"), two));
    let ingress = json!({ "ingress": { "enabled": true, "host": "farm.example" } });
    for (name, preset) in [("bare with ingress", "bare"), ("aks with ingress", "aks"), ("eks with ingress", "eks")] {
        cases.push(Case::new(name, Some(preset), ingress.clone()));
    }
    cases
}

fn everything() -> Value {
    json!({
        "access": "open",
        "names": ["render.example"],
        "image": { "repository": "registry.example/framewake/scheduler", "digest": format!("sha256:{}", "ab".repeat(32)) },
        "imagePullSecrets": ["registry"],
        "store": { "setup": true, "endpoint": "http://seaweedfs.storage:8333", "existingSecret": "store" },
        "nats": { "existingSecret": "nats", "persistence": { "enabled": true, "storageClass": "fast" } },
        "scheduler": {
            "environment": { "FRAMEWAKE_JOBS_MAX": "5000" }, "environmentFrom": ["more"], "priorityClassName": "farm",
            "nodeSelector": { "kubernetes.io/arch": "amd64" }, "tolerations": [{ "key": "infra", "operator": "Exists" }],
            "affinity": { "nodeAffinity": {} }, "annotations": { "a": "1" }, "labels": { "team": "render" },
        },
        "persistence": { "storageClass": "fast", "accessMode": "ReadWriteOncePod" },
        "replication": { "enabled": true, "url": "s3://backups/farm?region=eu-central-1" },
        "pools": {
            "mig": {
                "description": "A slice of an H100", "max": 7, "order": 9, "market": "spot", "start_within": "20m",
                "starts_a_minute": 60, "gpu": { "model": "NVIDIA H100", "memory": "10GiB", "driver": "550.54" },
                "provider": {
                    "namespace": "gpus", "gpu_resource": "nvidia.com/mig-1g.10gb", "runtime_class": "nvidia",
                    "ephemeral_storage": "50GiB", "queue": "renders", "grace": "90s", "priority_class": "renders", "labels": { "team": "render" },
                    "annotations": { "note": "a" }, "image_pull_secrets": ["other"], "environment_from": ["license"],
                    "volumes": [{ "name": "cache", "emptyDir": {} }],
                    "volume_mounts": [{ "name": "cache", "mountPath": "/cache" }],
                },
            },
        },
        "functions": { "sleeper": {
            "image": "registry.example/sleeper:1", "driver": { "kind": "command", "command": ["/bin/sleep", "1"] },
        } },
        "openfaas": { "enabled": true, "existingSecret": "openfaas", "callbacks": true },
        "keda": { "enabled": true, "namespace": "scaling" },
        "preload": { "pools": ["l4", "mig"] },
        "service": { "annotations": { "b": "2" } },
        "ingress": { "enabled": true, "host": "farm.example", "tlsSecret": "farm-tls" },
        "networkPolicy": { "from": [{ "namespaceSelector": {} }], "workerPorts": [27000] },
        "podDisruptionBudget": { "scheduler": true, "nats": true, "workers": true },
        "monitoring": {
            "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
            "rules": { "enabled": true, "labels": { "release": "prometheus" } },
            "dashboards": { "enabled": true, "annotations": { "grafana_folder": "Rendering" } },
        },
        "smtp": { "existingSecret": "mail", "from": "farm@studio.example" },
        "serviceAccounts": {
            "scheduler": { "annotations": { "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/scheduler" } },
            "workers": { "annotations": { "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/workers" } },
        },
    })
}

pub fn folder() -> PathBuf {
    root().join("charts/framewake")
}

/// Renders each case; all must be accepted. What an API server would say is not asked: see [`check`].
pub fn render(cases: &[Case]) -> Vec<Rendered> {
    rendered(cases, false)
}

/// Renders each case, lints it and holds it against the schemas of Kubernetes, which takes seconds.
pub fn check(cases: &[Case]) -> Vec<Rendered> {
    rendered(cases, true)
}

fn rendered(cases: &[Case], check: bool) -> Vec<Rendered> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|said| said.as_str().unwrap_or_default().to_owned()).collect()
    };
    let answers = carry_out(cases, check);
    let rendered = cases.iter().zip(answers).map(|(case, answer)| {
        assert!(answer.get("error").is_none(), "{}: {}", case.name, answer["error"]);
        Rendered {
            name: case.name,
            objects: answer["objects"].as_array().cloned().unwrap_or_default(),
            notes: answer["notes"].as_str().unwrap_or_default().to_owned(),
            lint: strings(&answer["lint"]),
            faults: strings(&answer["faults"]),
        }
    });
    rendered.collect()
}

/// What Helm says to values that it refuses; of those that it takes, nothing.
pub fn refusals(cases: &[Case]) -> Vec<String> {
    let said = |answer: Value| answer["error"].as_str().unwrap_or_default().to_owned();
    carry_out(cases, false).into_iter().map(said).collect()
}

/// Manifests that the chart did not make, each as an object, and what an API server would refuse of them.
pub fn hold(manifests: &str) -> (Vec<Value>, Vec<String>) {
    let answer = ask(&[json!({ "manifests": manifests })]).remove(0);
    let faults = answer["faults"].as_array().into_iter().flatten().map(Value::to_string).collect();
    (answer["objects"].as_array().cloned().unwrap_or_default(), faults)
}

fn carry_out(cases: &[Case], check: bool) -> Vec<Value> {
    let asked: Vec<Value> =
        cases.iter().map(|case| json!({ "preset": case.preset, "values": case.values, "check": check })).collect();
    ask(&asked)
}

fn ask(asked: &[Value]) -> Vec<Value> {
    let mut command = Command::new(tool("python3"));
    command
        .arg(root().join("tests/chart/render.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(json!(asked).to_string().as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "tests/chart/render.py: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("an answer for each case")
}

impl Rendered {
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one object of this kind whose name ends so.
    pub fn one(&self, kind: &str, end: &str) -> &Value {
        let mut found = self.of_kind(kind).into_iter().filter(|object| name(object).ends_with(end));
        let one = found.next().unwrap_or_else(|| panic!("{}: no {kind} …{end}", self.name));
        assert!(found.next().is_none(), "{}: several {kind} …{end}", self.name);
        one
    }

    /// Templates of pods, each with the name of what makes them.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        let makers = self.objects.iter().filter(|object| object["spec"]["template"]["spec"].is_object());
        let mut pods: Vec<_> =
            makers.map(|maker| (name(maker).to_owned(), &maker["spec"]["template"]["spec"])).collect();
        pods.extend(self.of_kind("Pod").into_iter().map(|pod| (name(pod).to_owned(), &pod["spec"])));
        pods
    }

    /// The pool files, each with its name.
    pub fn pool_files(&self) -> Vec<(String, String)> {
        let files = self.one("ConfigMap", "-pools")["data"].as_object().cloned().unwrap_or_default();
        files.into_iter().map(|(file, text)| (file, text.as_str().unwrap_or_default().to_owned())).collect()
    }
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// All containers of a pod, also those that run before.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|list| pod[list].as_array().into_iter().flatten())
}
