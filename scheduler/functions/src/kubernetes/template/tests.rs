#![allow(clippy::needless_pass_by_value)] // What a test is about is written where it is used.

use super::*;
use framewake_proto::function::FunctionSpec;
use framewake_proto::pool::ProviderSpec;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

fn pool(provider: Value, market: &str) -> PoolSpec {
    let mut provider = provider;
    provider["kind"] = json!("kubernetes");
    let pool = json!({ "name": "l4", "max": 8, "market": market, "provider": provider });
    serde_json::from_value(pool).expect("a pool")
}

fn surroundings(environment: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        nats: "nats://nats.render:4222".to_owned(),
        farm: "film".to_owned(),
        store: "s3://frames/film".to_owned(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

fn start(resources: &Value) -> Start {
    let function = json!({
        "name": "blender", "image": "registry.example/blender:5.0", "resources": resources,
        "driver": { "kind": "command", "per": "frame", "command": ["blender"] },
    });
    let spec: FunctionSpec = serde_json::from_value(function).expect("a function");
    Start {
        worker: "w1a2b-7".parse().expect("a good id"),
        function: "blender@3".parse().expect("a good key"),
        spec: Arc::new(spec),
        gpus: Vec::new(),
        linger: Duration::from_secs(30),
        join_token: None,
        invitation: Some(framewake_proto::notify::Secret::new("come")),
    }
}

fn template(pool: &PoolSpec, surroundings: &Surroundings) -> Result<Template, Error> {
    let ProviderSpec::Kubernetes(kubernetes) = &pool.provider else { unreachable!("of this kind") };
    Template::new(pool, kubernetes, surroundings)
}

fn job_of(provider: Value, market: &str, resources: &Value) -> Value {
    let template = template(&pool(provider, market), &surroundings(&[])).expect("a good pool");
    serde_json::to_value(template.job(&start(resources)).expect("it has an image")).expect("JSON")
}

/// The variable, as the container gets it.
fn variable<'a>(job: &'a Value, name: &str) -> Option<&'a Value> {
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    all.iter().find(|variable| variable["name"] == name)
}

#[test]
fn a_job_is_one_pod_that_nobody_restarts_moves_or_evicts() {
    let job = job_of(json!({}), "on-demand", &json!({ "gpus": 1 }));
    assert_eq!(job["apiVersion"], "batch/v1");
    assert_eq!(job["kind"], "Job");
    assert_eq!(job["metadata"]["name"], "w1a2b-7");
    for labels in [&job["metadata"]["labels"], &job["spec"]["template"]["metadata"]["labels"]] {
        assert_eq!(labels["framewake/farm"], "film");
        assert_eq!(labels["framewake/pool"], "l4");
        assert_eq!(labels["framewake/function"], "blender");
        assert_eq!(labels["framewake/worker"], "w1a2b-7");
    }
    assert_eq!(job["metadata"]["annotations"]["framewake/function"], "blender@3");
    let spec = &job["spec"];
    assert_eq!(spec["parallelism"], 1);
    assert_eq!(spec["completions"], 1);
    assert_eq!(spec["backoffLimit"], 0);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["ttlSecondsAfterFinished"], 3600);
    let rule = json!({ "action": "FailJob", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] });
    assert_eq!(spec["podFailurePolicy"]["rules"], json!([rule]));
    assert_eq!(spec["suspend"], Value::Null, "Kueue sets it, if it is there");
    assert_eq!(spec["activeDeadlineSeconds"], Value::Null, "no render is cut");
    let annotations = &spec["template"]["metadata"]["annotations"];
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    assert_eq!(annotations["karpenter.sh/do-not-disrupt"], "true");
    assert_eq!(annotations["framewake/function"], "blender@3");
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["terminationGracePeriodSeconds"], 125);
    assert_eq!(pod["affinity"], Value::Null, "it makes the cluster-autoscaler a thousand times slower");
}

#[test]
fn a_pod_runs_as_whoever_the_namespace_says_without_rights() {
    let pod = &job_of(json!({}), "on-demand", &json!({}))["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    let context = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    assert_eq!(pod["securityContext"], context, "no fixed user");
    let container = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true,
    });
    assert_eq!(pod["containers"][0]["securityContext"], container);
    for part in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "runtimeClassName"] {
        assert_eq!(pod[part], Value::Null, "{part}");
    }
}

#[test]
fn gpus_are_named_as_the_pool_names_them() {
    let needs = json!({ "gpus": 2, "cpu_millis": 4000, "memory": "16GiB" });
    let limits = |provider: Value| {
        job_of(provider, "on-demand", &needs)["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
    };
    for name in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared", "amd.com/gpu", "gpu.intel.com/xe"]
    {
        let resources = limits(json!({ "gpu_resource": name, "ephemeral_storage": "10GiB" }));
        let expected =
            json!({ name: "2", "cpu": "4000m", "memory": "17179869184", "ephemeral-storage": "10737418240" });
        assert_eq!(resources["limits"], expected);
        let requests = json!({ "cpu": "4000m", "memory": "17179869184", "ephemeral-storage": "10737418240" });
        assert_eq!(resources["requests"], requests);
    }
    let default = limits(json!({}));
    assert_eq!(default["limits"]["nvidia.com/gpu"], "2");

    let claimed = job_of(json!({ "resource_claim_template": "one-l4" }), "on-demand", &needs);
    let pod = &claimed["spec"]["template"]["spec"];
    assert_eq!(pod["resourceClaims"], json!([{ "name": "gpu", "resourceClaimTemplateName": "one-l4" }]));
    assert_eq!(pod["containers"][0]["resources"]["claims"], json!([{ "name": "gpu" }]));
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], Value::Null);

    let none = job_of(json!({ "resource_claim_template": "one-l4" }), "on-demand", &json!({ "gpus": 0 }));
    let pod = &none["spec"]["template"]["spec"];
    assert_eq!(pod["resourceClaims"], Value::Null);
    assert_eq!(pod["tolerations"], Value::Null, "a worker without GPUs stays off the machines that have some");
}

#[test]
fn a_pod_goes_where_the_pool_says_with_what_the_pool_says() {
    let provider = json!({
        "node_selector": { "cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true" },
        "tolerations": [{ "key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule" }],
        "runtime_class": "nvidia", "service_account": "renderer", "image_pull_secrets": ["registry"], "queue": "gpu",
        "priority_class": "render", "ephemeral_storage": "50GiB", "environment_from": ["store", "nats"],
        "volumes": [{ "name": "assets", "persistentVolumeClaim": { "claimName": "assets", "readOnly": true } }],
        "volume_mounts": [{ "name": "assets", "mountPath": "/assets", "readOnly": true }],
        "labels": { "team": "film", "framewake/worker": "stolen" },
        "annotations": { "note": "x", "karpenter.sh/do-not-disrupt": "false" },
    });
    let job = job_of(provider, "spot", &json!({ "gpus": 1 }));
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "gpu");
    let template = &job["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], Value::Null, "the Job is what is queued");
    assert_eq!(template["metadata"]["labels"]["team"], "film");
    assert_eq!(template["metadata"]["labels"]["framewake/worker"], "w1a2b-7", "ours can't be taken");
    assert_eq!(template["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"], "true", "safety has no off switch");
    assert_eq!(template["metadata"]["annotations"]["note"], "x");
    let pod = &template["spec"];
    assert_eq!(pod["nodeSelector"]["cloud.google.com/gke-accelerator"], "nvidia-l4");
    let nvidia = json!({ "key": "nvidia.com/gpu", "operator": "Exists" });
    assert_eq!(pod["tolerations"][0]["key"], "cloud.google.com/gke-spot");
    assert_eq!(pod["tolerations"][1], nvidia);
    assert_eq!(pod["runtimeClassName"], "nvidia");
    assert_eq!(pod["serviceAccountName"], "renderer");
    assert_eq!(pod["priorityClassName"], "render");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(pod["terminationGracePeriodSeconds"], 30, "spot machines give no more");
    let volumes = json!([
        { "name": "scratch", "emptyDir": { "sizeLimit": "53687091200" } },
        { "name": "tmp", "emptyDir": { "sizeLimit": "268435456" } },
        { "name": "assets", "persistentVolumeClaim": { "claimName": "assets", "readOnly": true } },
    ]);
    assert_eq!(pod["volumes"], volumes);
    let container = &pod["containers"][0];
    let mounts = json!([
        { "name": "scratch", "mountPath": "/scratch" }, { "name": "tmp", "mountPath": "/tmp" },
        { "name": "assets", "mountPath": "/assets", "readOnly": true },
    ]);
    assert_eq!(container["volumeMounts"], mounts);
    let secret = |name: &str| json!({ "secretRef": { "name": name, "optional": false } });
    assert_eq!(container["envFrom"], json!([secret("store"), secret("nats")]));
    assert_eq!(container["image"], "registry.example/blender:5.0");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
    assert_eq!(container["command"], Value::Null, "the image says how it begins");
}

#[test]
fn a_worker_is_told_all_it_needs_and_the_node_is_its_host() {
    let job = job_of(json!({ "grace": "3m" }), "spot", &json!({}));
    let told = |name: &str| variable(&job, name).and_then(|variable| variable["value"].as_str()).map(str::to_owned);
    for (name, value) in [
        ("FRAMEWAKE_WORKER", "w1a2b-7"),
        ("FRAMEWAKE_INVITATION", "come"),
        ("FRAMEWAKE_FUNCTION", "blender@3"),
        ("FRAMEWAKE_LINGER_MS", "30000"),
        ("FRAMEWAKE_NATS_URL", "nats://nats.render:4222"),
        ("FRAMEWAKE_FARM", "film"),
        ("FRAMEWAKE_STORE", "s3://frames/film"),
        ("FRAMEWAKE_SCRATCH", "/scratch/work"),
        ("FRAMEWAKE_CACHE", "/scratch/cache"),
        ("TERMINATION_GRACE_S", "180"),
    ] {
        assert_eq!(told(name).as_deref(), Some(value), "{name}");
    }
    let host = variable(&job, "FRAMEWAKE_HOST").expect("it is told");
    assert_eq!(host["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    assert_eq!(job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 185, "a little more than it is told");
}

#[test]
fn nothing_secret_stands_in_a_job() {
    let secrets = [("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", "eu-west-1")];
    let error = template(&pool(json!({}), "spot"), &surroundings(&secrets)).expect_err("nowhere else to take it from");
    assert!(error.what.contains("AWS_SECRET_ACCESS_KEY") && error.what.contains("environment_from"), "{error}");
    assert!(!error.what.contains("hunter2") && !error.what.contains("AWS_REGION"), "{error}");

    // The identity of the scheduler's pod is no use to another: workers have one of their own, or none.
    let own = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/scheduler")];
    let job = template(&pool(json!({}), "spot"), &surroundings(&own)).expect("nothing secret").job(&start(&json!({})));
    assert!(!serde_json::to_string(&job.expect("it has an image")).expect("JSON").contains("AWS_"));

    let mut surroundings = surroundings(&secrets);
    surroundings.nats = "nats://farm:hunter2@nats.render:4222".to_owned();
    let from = pool(json!({ "environment_from": ["store"] }), "spot");
    let job =
        template(&from, &surroundings).expect("a Secret has it").job(&start(&json!({}))).expect("it has an image");
    let text = serde_json::to_string(&job).expect("JSON");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("eu-west-1"), "{text}");
}

#[test]
fn what_kubernetes_would_drop_without_a_word_is_refused() {
    let refused = |provider: Value| template(&pool(provider, "spot"), &surroundings(&[])).expect_err("wrong").what;
    let error = refused(json!({ "tolerations": [{ "key": "a", "operater": "Exists" }] }));
    assert!(error.contains("tolerations/0") && error.contains("`operater`"), "{error}");
    let error = refused(
        json!({ "volumes": [{ "name": "a" }, { "name": "b", "nfs": { "server": "x", "path": "/", "ro": true } }] }),
    );
    assert!(error.contains("volumes/1") && error.contains("`nfs.ro`"), "{error}");
    let error = refused(json!({ "volume_mounts": [{ "name": "a" }, "x"] }));
    assert!(error.contains("volume_mounts/"), "{error}");
    let mut pool = pool(json!({}), "spot");
    pool.name = "l4_".parse().expect("a name of ours");
    assert!(template(&pool, &surroundings(&[])).expect_err("no label").what.contains("label"));
}

#[test]
fn a_function_without_an_image_is_refused_with_its_name() {
    let template = template(&pool(json!({}), "spot"), &surroundings(&[])).expect("a good pool");
    let mut start = start(&json!({}));
    Arc::make_mut(&mut start.spec).image = None;
    assert_eq!(template.job(&start).expect_err("nothing to run"), "the function blender@3 names no image");
}

#[test]
fn a_found_job_tells_whose_it_is() {
    let template = template(&pool(json!({}), "spot"), &surroundings(&[])).expect("a good pool");
    let start = start(&json!({}));
    let job = template.job(&start).expect("it has an image");
    assert_eq!(owner(&job.metadata), Some((start.worker, start.function)));
    let pod = job.spec.and_then(|spec| spec.template.metadata).expect("a pod has labels");
    assert_eq!(owner(&pod).map(|(worker, _)| worker.to_string()).as_deref(), Some("w1a2b-7"));
    assert!(template.is_ours(pod.labels.as_ref()));
    assert!(!template.is_ours(None));
    assert_eq!(owner(&ObjectMeta::default()), None);
}

#[test]
fn a_pod_of_whoever_joins_by_itself_is_as_the_pool_s_and_never_taken_for_one() {
    let stolen = json!({ "framewake/farm": "film", "framewake/pool": "l4", "framewake/worker": "w1", "team": "film" });
    let pool = pool(
        json!({
            "labels": stolen, "queue": "gpu", "namespace": "gpus", "environment_from": ["nats"],
            "node_selector": { "a": "b" },
        }),
        "spot",
    );
    let start = start(&json!({ "gpus": 1 }));
    let template = template(&pool, &surroundings(&[])).expect("a good pool");
    let joins = |nats: &str| {
        let surroundings = Surroundings { nats: nats.to_owned(), ..surroundings(&[]) };
        joining::joining(&pool, &surroundings, &start.function, &start.spec, Duration::from_secs(9)).expect("a Job")
    };
    let job = joins("nats://nats.render:4222");
    let pod = job.spec.as_ref().and_then(|spec| spec.template.metadata.clone()).expect("a pod has labels");
    for metadata in [&job.metadata, &pod] {
        assert!(!template.is_ours(metadata.labels.as_ref()), "{metadata:?}");
        assert_eq!(owner(metadata), None);
    }
    let its = serde_json::to_value(template.job(&start).expect("it has an image")).expect("JSON");
    let job = serde_json::to_value(&job).expect("JSON");
    assert_eq!(job["metadata"]["labels"], json!({ "kueue.x-k8s.io/queue-name": "gpu" }));
    assert_eq!(job["metadata"]["namespace"], "gpus");
    let pod = |job: &Value| job["spec"]["template"].clone();
    assert_eq!(pod(&job)["metadata"]["labels"]["team"], "film");
    assert_eq!(pod(&job)["metadata"]["annotations"], pod(&its)["metadata"]["annotations"]);
    let without_environment = |job: &Value| {
        let mut pod = pod(job)["spec"].clone();
        pod["containers"][0]["env"] = Value::Null;
        pod
    };
    assert_eq!(without_environment(&job), without_environment(&its), "the same pod but for what it is told");
    for name in ["FRAMEWAKE_WORKER", "FRAMEWAKE_INVITATION"] {
        assert!(variable(&its, name).is_some() && variable(&job, name).is_none(), "{name}");
    }
    for (name, value) in [
        ("FRAMEWAKE_FUNCTION", "blender@3"),
        ("FRAMEWAKE_LINGER_MS", "9000"),
        ("FRAMEWAKE_NATS_URL", "nats://nats.render:4222"),
        ("TERMINATION_GRACE_S", "25"),
    ] {
        assert_eq!(variable(&job, name).expect(name)["value"], value, "{name}");
    }
    assert_eq!(job["spec"]["backoffLimit"], 0);
    assert_eq!(job["spec"]["podFailurePolicy"]["rules"][0]["action"], "Ignore");
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], Value::Null, "who makes them keeps account of them");
    let silent = serde_json::to_value(joins("")).expect("JSON");
    assert!(variable(&silent, "FRAMEWAKE_NATS_URL").is_none(), "a Secret has it");

    let elsewhere: PoolSpec =
        serde_json::from_value(json!({ "name": "here", "max": 2, "provider": { "kind": "local" } })).expect("a pool");
    let refused = |pool: &PoolSpec, nats: &str| {
        let surroundings = Surroundings { nats: nats.to_owned(), ..surroundings(&[]) };
        joining::joining(pool, &surroundings, &start.function, &start.spec, Duration::ZERO).expect_err("refused").what
    };
    assert!(refused(&elsewhere, "nats://n:4222").contains("not of kind kubernetes"));
    let bare = serde_json::from_value(json!({ "name": "k", "max": 2, "provider": { "kind": "kubernetes" } }));
    let secret = refused(&bare.expect("a pool"), "nats://farm:hunter2@n:4222");
    assert!(secret.contains("FRAMEWAKE_NATS_URL would stand in every Job") && !secret.contains("hunter2"), "{secret}");
}
