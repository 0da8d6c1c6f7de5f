//! A function whose workers others start, as KEDA does, on a farm that has a pool of its own.

use framewake_proto::api::JobState;
use framewake_tests::chart::{Case, hold, render};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::parts::{Running, built, path};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn paint(resources: &Value, scaling: &Value) -> Value {
    json!({
        "name": "paint", "image": "registry.example/paint:1", "resources": resources, "scaling": scaling,
        "driver": { "kind": "command", "command": ["/bin/sh", "-c", "echo {frame}"] },
    })
}

/// A folder with the function's file.
fn functions(folder: &Path, scaling: &Value) -> PathBuf {
    std::fs::write(folder.join("paint.yaml"), paint(&json!({}), scaling).to_string()).expect("writable");
    folder.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_others_start_render_beside_a_pool_that_starts_none_of_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let functions = functions(folder.path(), &json!({ "max": 5, "external": true }));
    let farm = TestFarm::start_with(2, false, &functions).await;
    let id = farm
        .submit(&json!({ "name": "walls", "steps": [{
            "name": "paint", "function": "paint", "frames": "1-3", "chunking": { "mode": "fixed", "size": 1 },
        }] }))
        .await;
    let workers = until(SOON, "it is told how many are needed", || async {
        farm.client.function("paint").await.ok().map(|function| function.workers).filter(|workers| workers.needed > 0)
    })
    .await;
    // Whoever starts some is asked for them in the same instant.
    assert_eq!((workers.needed, workers.starting, workers.started_total), (3, 0, 0));
    let explained = farm.client.explain(id).await.expect("it is not over");
    let told = "no worker yet: those of `paint@1` are started by others (scaling.external), and 3 are needed";
    assert!(explained.steps[0].reasons.iter().any(|reason| reason.contains(told)), "{explained:?}");

    let mut command = Command::new(built("framewake-worker"));
    command
        .env("FRAMEWAKE_NATS_URL", farm.nats.url())
        .env("FRAMEWAKE_STORE", farm.store_url())
        .env("FRAMEWAKE_FUNCTION", "paint@1")
        .env("FRAMEWAKE_SCRATCH", folder.path().join("scratch"))
        .env("FRAMEWAKE_LINGER_MS", "300")
        .env("PATH", path());
    let mut worker = Running::start("framewake-worker", &mut command, &folder.path().join("worker.log"));
    assert_eq!(farm.over(id).await.state, JobState::Succeeded, "{}", worker.log());
    assert_eq!(worker.wait(SOON), 0, "it leaves when nothing is left: {}", worker.log());
    let workers = farm.client.function("paint").await.expect("it is there").workers;
    assert_eq!((workers.needed, workers.started_total), (0, 0), "the farm started none");
}

/// `framewake functions keda paint` with these words, and this on its standard input.
fn keda(farm: &TestFarm, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(built("framewake"))
        .args([
            "functions",
            "keda",
            "paint",
            "--scaler",
            "farm-framewake.render.svc:7701",
            "--store",
            "s3://frames/farm",
        ])
        .args(words)
        .envs([("FRAMEWAKE_URL", farm.url().as_str()), ("NO_COLOR", "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Who refuses its options reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keda_starts_is_as_the_pool_of_the_chart_and_kubernetes_takes_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let functions = functions(folder.path(), &json!({ "max": 12, "external": true }));
    let farm = TestFarm::start_with(2, false, &functions).await;
    let values =
        json!({ "imagePullSecrets": ["registry"], "nats": { "keysSecret": "keys", "existingSecret": "join" } });
    let rendered = render(&[Case::new("gke", Some("gke"), values)]).remove(0);
    let files = rendered.pool_files();
    let (_, l4) = files.iter().find(|(file, _)| file == "l4.yaml").expect("the preset has it");
    let (_, spot) = files.iter().find(|(file, _)| file == "l4-spot.yaml").expect("the preset has it");
    let gpu = json!({ "gpus": 1, "gpu_memory": "20GiB" });
    let second = paint(&gpu, &json!({ "max": 12, "external": true }));
    farm.client.add_function(&second).await.expect("no pool has to have its GPU");

    let words = ["--pool", "-", "--nats", "nats://nats:4222", "--secret", "store", "--label", "team=film"];
    let output = keda(&farm, &words, l4);
    let (text, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && notes.is_empty(), "{notes}");
    let (objects, faults) = hold(&text);
    assert!(faults.is_empty(), "{faults:?}\n{text}");
    let [scaled] = objects.as_slice() else { panic!("one: {objects:?}") };
    assert_eq!(scaled["metadata"], json!({ "name": "framewake-paint-2", "namespace": "render" }));
    assert_eq!(scaled["spec"]["maxReplicaCount"], 8, "the pool's, which is less");
    let template = &scaled["spec"]["jobTargetRef"]["template"];
    let labels = &template["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/component"]), (&json!("film"), &json!("worker")));
    assert!(labels["framewake/pool"].is_null() && labels["framewake/farm"].is_null(), "no pool's own: {labels}");
    let pod = &template["spec"];
    assert_eq!(pod["nodeSelector"]["cloud.google.com/gke-accelerator"], "nvidia-l4");
    assert_eq!(pod["tolerations"][0]["key"], "nvidia.com/gpu");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert!(pod["serviceAccountName"].is_string(), "the workers' own: {pod}");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert!(container["resources"]["limits"]["ephemeral-storage"].is_string());
    let from = container["envFrom"].as_array().expect("secrets").iter();
    let from: Vec<&str> = from.filter_map(|secret| secret["secretRef"]["name"].as_str()).collect();
    assert_eq!(from, ["join", "store"], "the pool's, then the command's");

    let encrypted = keda(&farm, &[&words[..], &["--tls", "--ca-secret", "farm-tls"]].concat(), spot);
    let (objects, faults) = hold(&String::from_utf8_lossy(&encrypted.stdout));
    assert!(faults.is_empty() && objects.len() == 2, "{faults:?}: {objects:?}");
    assert_eq!(objects[0]["spec"]["maxReplicaCount"], 12, "the function's, which is less");
    assert_eq!(objects[1]["metadata"], scaled["metadata"]);

    let plain = keda(&farm, &["--nats", "nats://nats:4222"], "");
    assert!(hold(&String::from_utf8_lossy(&plain.stdout)).1.is_empty(), "{plain:?}");

    let cpu = files.iter().find(|(file, _)| file == "cpu.yaml").expect("the preset has it").1.as_str();
    let here = "name: here\nmax: 2\nprovider: { kind: local }\n";
    let gpu = "gpu: { model: NVIDIA L4, memory: 24GiB }\n";
    let bad = format!("name: k\nmax: 2\nprovider: {{ kind: kubernetes, runtime_class: NVIDIA }}\n{gpu}");
    let silent = format!("name: k\nmax: 2\nprovider: {{ kind: kubernetes }}\n{gpu}");
    for (words, input, said) in [
        (&words[..], cpu, "it has no GPUs"),
        (&words[..], here, "not of kind kubernetes"),
        (&words[..], "", "stdin is empty"),
        (&words[..], &bad, "runtime_class"),
        (&["--pool", "-"][..], &silent, "--nats"),
        (&["--nats", "nats://a:hunter2@nats:4222"][..], "", "would stand in every Job"),
        (&["--pool", "-", "--gpu-resource", "amd.com/gpu"][..], l4, "cannot be used with"),
    ] {
        let refused = keda(&farm, words, input);
        let notes = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{said}: {refused:?}");
        assert!(notes.contains(said) && !notes.contains("hunter2"), "{said}: {notes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_have_workers_started_twice_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let farm = TestFarm::start_with(2, false, &functions(folder.path(), &json!({ "max": 5 }))).await;
    let output = keda(&farm, &["--nats", "nats://nats:4222"], "");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{notes}");
    assert!(notes.contains("starts workers of paint@1 too, in local") && notes.contains("external: true"), "{notes}");
}
