//! What the chart has a pod run, run here: with the programs that its images hold, in the pod's order, on folders in the place
//! of its volumes.

use framewake_proto::client::Client;
use framewake_proto::notify::Secret;
use framewake_tests::chart::{Case, Rendered, containers, render};
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::kubernetes::Cluster;
use framewake_tests::parts::{Running, built, free_port, tool};
use framewake_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The words that a container of the scheduler's pod is started with, its volumes being these folders.
fn words(pod: &Value, container: &str, data: &Path, copy: &Path) -> Vec<String> {
    let container = containers(pod).find(|one| one["name"] == container).expect("it is in the pod");
    let words = container["args"].as_array().expect("words").iter();
    let place = |word: &str| match (word.strip_prefix("/data"), word.strip_prefix("/copy")) {
        (Some(rest), _) => format!("{}{rest}", data.display()),
        (_, Some(rest)) => format!("{}{rest}", copy.display()),
        _ => word.to_owned(),
    };
    words.map(|word| place(word.as_str().expect("text"))).collect()
}

#[tokio::test]
async fn a_new_pod_without_a_volume_goes_on_where_the_last_one_ended() {
    let mut farm = TestFarm::start(2).await;
    let (data, replica) = (farm.data(), farm.folder().join("replica"));
    let values = json!({
        "persistence": { "enabled": false },
        "replication": { "enabled": true, "url": format!("file://{}", replica.display()) },
    });
    let rendered = render(&[Case::new("without a volume", Some("bare"), values)]).remove(0);
    let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
    let begin = |data: &Path| {
        let copy = tempfile::tempdir().expect("room for a folder");
        for (program, container) in [(tool("litestream"), "fetch-copy"), (built("framewake-scheduler"), "restore")] {
            let output =
                Command::new(program).args(words(pod, container, data, copy.path())).output().expect("it runs");
            assert!(output.status.success(), "{container}: {}", String::from_utf8_lossy(&output.stderr));
        }
    };
    // The first pod of all: there is no copy, and it has to begin all the same.
    let first = tempfile::tempdir().expect("room for a folder");
    begin(first.path());
    assert!(std::fs::read_dir(first.path()).expect("it is there").next().is_none(), "it begins with nothing");
    // Each pod follows what the one before has left in the replica.
    let mut ids = Vec::new();
    for pods in 1..=2 {
        let mut command = Command::new(tool("litestream"));
        command.args(words(pod, "replicate", &data, Path::new("/none")));
        let mut replicate =
            Running::start("litestream", &mut command, &farm.folder().join(format!("litestream-{pods}.log")));
        let id = farm.submit(&jobs::command(&["/bin/true"], "1-20")).await;
        assert_eq!(farm.over(id).await.tasks.done, 20);
        ids.push(id);
        // A new copy, or the one of the pod before, which it goes on with.
        let begun = ["snapshot complete", "fetched latest L0 file from replica"];
        let has_begun = || begun.iter().any(|word| replicate.log().contains(word)).then_some(());
        until(SOON, "the copy has begun", || async { has_begun() }).await;
        // The pod is gone with its node. Kubernetes ends the scheduler first, then what accompanies it.
        farm.kill_scheduler();
        replicate.signal(Signal::TERM);
        replicate.wait(SOON);
        std::fs::rename(&data, farm.folder().join(format!("gone-{pods}"))).expect("it can be moved");
        begin(&data);
        farm.restart_scheduler().await;
        for id in &ids {
            let view =
                farm.client.job(*id).await.unwrap_or_else(|error| panic!("pod {pods} does not know a job: {error}"));
            assert_eq!(view.tasks.done, 20);
        }
    }
    // A container that starts again in the same pod keeps its database, which is newer than the copy.
    let later = farm.submit(&jobs::command(&["/bin/true"], "1-2")).await;
    farm.over(later).await;
    farm.kill_scheduler();
    begin(&data);
    farm.restart_scheduler().await;
    assert_eq!(farm.client.job(later).await.expect("what came since is there").tasks.done, 2);
}

/// What the secret of NATS has: of digits alone, which a configuration would take for a number.
const PASSWORD: &str = "0123456789";

/// The farm's own NATS as its pod runs it; its port, and that of its probes.
fn nats(rendered: &Rendered, folder: &Path) -> (Running, u16, u16) {
    let (port, probes) = (free_port(), free_port());
    let text = rendered.one("ConfigMap", "-nats")["data"]["nats.conf"].as_str().expect("text").to_owned();
    let text = text.replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"));
    let text = text.replace("0.0.0.0:8222", &format!("127.0.0.1:{probes}"));
    let file = folder.join("nats.conf");
    if text.contains("trusted.conf") {
        let mut keys = Command::new(built("framewake-scheduler"));
        keys.arg("nats-keys")
            .arg("--seed")
            .arg(folder.join("nats.seed"))
            .arg("--config")
            .arg(folder.join("trusted.conf"));
        assert!(keys.output().expect("it runs").status.success());
    }
    std::fs::write(&file, text.replace("/data", &folder.join("data").display().to_string())).expect("writable");
    let pod = &rendered.one("StatefulSet", "-nats")["spec"]["template"]["spec"];
    let words = words(pod, "nats", folder, folder).into_iter().map(|word| match word.as_str() {
        "/etc/nats/nats.conf" => file.display().to_string(),
        // As the kubelet puts variables in.
        "$(FRAMEWAKE_NATS_PASSWORD)" => PASSWORD.to_owned(),
        _ => word,
    });
    let mut command = Command::new(tool("nats-server"));
    command.args(words);
    (Running::start("nats-server", &mut command, &folder.join("nats.log")), port, probes)
}

#[tokio::test]
async fn nats_of_the_chart_runs_is_found_well_by_its_probes_and_wants_its_password() {
    let secret = json!({ "nats": { "existingSecret": "nats" } });
    let cases = [
        Case::new("open", Some("bare"), json!({ "nats": { "open": true } })),
        Case::new("closed", Some("bare"), secret),
    ];
    for rendered in render(&cases) {
        let folder = tempfile::tempdir().expect("room for a folder");
        let (running, port, probes) = nats(&rendered, folder.path());
        let pod = &rendered.one("StatefulSet", "-nats")["spec"]["template"]["spec"];
        let nats = containers(pod).next().expect("a container");
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let path = nats[probe]["httpGet"]["path"].as_str().expect("a path");
            let url = format!("http://127.0.0.1:{probes}{path}");
            until(SOON, &format!("{probe} is content: {}", running.log()), || async {
                reqwest::get(&url).await.ok().filter(|answer| answer.status().is_success())
            })
            .await;
        }
        let connects = async |password: &str| {
            let options =
                async_nats::ConnectOptions::with_user_and_password("framewake".to_owned(), password.to_owned());
            options.connect(format!("nats://127.0.0.1:{port}")).await.is_ok()
        };
        assert!(connects(PASSWORD).await, "{}: {}", rendered.name, running.log());
        assert_eq!(connects("123456789").await, rendered.name == "open", "{}", rendered.name);
    }
}

/// The scheduler as its container runs it: its environment, with folders and ports of this machine in it.
fn scheduler(rendered: &Rendered, folder: &Path, port: u16, nats: u16, more: &[(&str, &str)]) -> Running {
    let mut command = Command::new(built("framewake-scheduler"));
    let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
    let container = containers(pod).next().expect("a container");
    for variable in container["env"].as_array().expect("variables") {
        let (name, value) = (variable["name"].as_str().expect("a name"), variable["value"].as_str().expect("a value"));
        let here = |name: &str| folder.join(name).display().to_string();
        let value = match name {
            "FRAMEWAKE_DATA" => here("scheduler"),
            "FRAMEWAKE_NATS_SEED_FILE" => here("nats.seed"),
            "FRAMEWAKE_LISTEN" => value.replace("0.0.0.0:7700", &format!("127.0.0.1:{port}")),
            "FRAMEWAKE_STORE" => format!("file://{}", here("store")),
            "FRAMEWAKE_POOLS" => here("pools"),
            "FRAMEWAKE_FUNCTIONS" => here("functions"),
            _ => value.to_owned(),
        };
        command.env(name, value);
    }
    for kind in ["pools", "functions"] {
        let files = rendered.one("ConfigMap", &format!("-{kind}"))["data"].as_object().cloned().unwrap_or_default();
        std::fs::create_dir_all(folder.join(kind)).expect("made");
        for (file, text) in files {
            std::fs::write(folder.join(kind).join(file), text.as_str().expect("text")).expect("written");
        }
    }
    command.env("FRAMEWAKE_NATS_URL", format!("nats://framewake:{PASSWORD}@127.0.0.1:{nats}"));
    command.envs(more.iter().copied());
    Running::start("framewake-scheduler", &mut command, &folder.join("scheduler.log"))
}

/// Who has the first token, made in the scheduler's pod as the notes of the release say.
fn client(url: &str, folder: &Path) -> Client {
    let mut command = Command::new(built("framewake-scheduler"));
    let output = command.arg("token").env("FRAMEWAKE_DATA", folder.join("scheduler")).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = Secret::new(String::from_utf8(output.stdout).expect("text").trim());
    Client::with_token(url, Some(&token)).expect("a good address")
}

#[tokio::test]
async fn the_pods_of_the_chart_make_a_farm_that_renders() {
    let function =
        json!({ "image": "registry.example/any:1", "driver": { "kind": "command", "command": ["/bin/true"] } });
    let keys = json!({ "existingSecret": "nats", "keysSecret": "keys" });
    let values = json!({ "nats": keys, "functions": { "nothing": function } });
    let rendered = render(&[Case::new("a farm", None, values)]).remove(0);
    let folder = tempfile::tempdir().expect("room for a folder");
    let port = free_port();
    let (nats, nats_port, _) = nats(&rendered, folder.path());
    assert!(async_nats::connect(format!("nats://127.0.0.1:{nats_port}")).await.is_err(), "nobody is let in without");
    // There is no cluster: workers of this machine stand for those of pools.
    let running = scheduler(&rendered, folder.path(), port, nats_port, &[("FRAMEWAKE_SLOTS", "1")]);
    let url = format!("http://127.0.0.1:{port}");
    let pod = &rendered.one("Deployment", "farm-framewake")["spec"]["template"]["spec"];
    let container = containers(pod).next().expect("a container");
    assert_eq!(container["envFrom"], json!([{ "secretRef": { "name": "nats" } }]));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
        until(SOON, &format!("{probe} is content"), || async {
            reqwest::get(format!("{url}{path}")).await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }
    // What `helm test` runs, as soon as all parts are there.
    let doctor = &rendered.one("Pod", "-doctor")["spec"]["containers"][0];
    assert_eq!(doctor["env"][0]["value"], "http://farm-framewake:7700");
    let words: Vec<&str> = doctor["command"].as_array().expect("words").iter().filter_map(Value::as_str).collect();
    let well = || async {
        let mut command = Command::new(built(words[0]));
        let output = command.args(&words[1..]).env("FRAMEWAKE_URL", &url).output().expect("it runs");
        output.status.success().then_some(())
    };
    until(SOON, "the doctor finds nothing wrong", well).await;
    let job = json!({ "name": "nothing", "steps": [{ "name": "run", "function": "nothing", "frames": "1-3" }] });
    let nobody = Client::new(&url).expect("a good address");
    let refused = nobody.submit(&job, "once").await.expect_err("whoever asks needs a token").to_string();
    assert!(refused.contains("asks who you are"), "{refused}");
    let client = client(&url, folder.path());
    let id = client.submit(&job, "once").await.unwrap_or_else(|error| panic!("{error}\n{}", running.log())).id;
    let over = || async { client.job(id).await.ok().filter(|job| job.tasks.done == 3) };
    until(SOON, "workers reach NATS with its password, and work", over).await;
    drop(nats);
}

#[tokio::test]
async fn a_job_of_a_preset_becomes_jobs_of_kubernetes_that_the_policies_of_the_chart_know() {
    let cluster = Cluster::start(&[8]).await;
    let function = json!({
        "image": "registry.example/any:1", "driver": { "kind": "command", "command": ["/bin/true"] }, "resources": { "gpus": 1 },
    });
    let values = json!({
        "store": { "existingSecret": "store" }, "nats": { "existingSecret": "nats" }, "functions": { "nothing": function },
    });
    let rendered = render(&[Case::new("a farm", Some("gke"), values)]).remove(0);
    let folder = tempfile::tempdir().expect("room for a folder");
    let (_nats, nats_port, _) = nats(&rendered, folder.path());
    let port = free_port();
    let kubeconfig = cluster.kubeconfig(folder.path()).display().to_string();
    let secrets = [("AWS_ACCESS_KEY_ID", "key-in-a-secret"), ("AWS_SECRET_ACCESS_KEY", "word-in-a-secret")];
    // What EKS puts into the pod of an account with a role; another pod has another.
    let role =
        [("AWS_ROLE_ARN", "arn:of-the-scheduler"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token-of-this-pod")];
    let more = [&[("KUBECONFIG", kubeconfig.as_str())][..], &secrets, &role].concat();
    let running = scheduler(&rendered, folder.path(), port, nats_port, &more);
    let url = format!("http://127.0.0.1:{port}");
    until(SOON, "it answers", || async { reqwest::get(format!("{url}/healthz")).await.ok() }).await;
    let client = client(&url, folder.path());
    let job = json!({ "name": "nothing", "steps": [{ "name": "run", "function": "nothing", "frames": "1-3" }] });
    client.submit(&job, "once").await.unwrap_or_else(|error| panic!("{error}\n{}", running.log()));
    let made = until(SOON, "a Job is made", || async { cluster.jobs().into_iter().next() }).await;
    let (template, said) = (&made["spec"]["template"], made.to_string());
    let pod = &template["spec"];
    // The first pool that has GPUs is the spot one.
    let selector = json!({ "cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true" });
    assert_eq!(pod["nodeSelector"], selector, "{made}");
    assert!(
        said.contains("\"key\":\"cloud.google.com/gke-spot\"") && said.contains("\"key\":\"nvidia.com/gpu\""),
        "{made}"
    );
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1", "{made}");
    assert_eq!(pod["serviceAccountName"], "farm-framewake-workers", "{made}");
    assert_eq!(pod["automountServiceAccountToken"], false, "{made}");
    // Secrets are named, and what is in them is nowhere.
    let sources = json!([{ "secretRef": { "name": "store", "optional": false } }, { "secretRef": { "name": "nats", "optional": false } }]);
    assert_eq!(pod["containers"][0]["envFrom"], sources, "{made}");
    for secret in ["in-a-secret", PASSWORD, "arn:of-the-scheduler", "token-of-this-pod"] {
        assert!(!said.contains(secret), "`{secret}` stands in the Job: {made}");
    }
    assert!(said.contains("AWS_REGION"), "what is no secret is told: {made}");
    // The network policies and budgets select it.
    let policy = rendered.one("NetworkPolicy", "-workers");
    let selected = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
    assert!(!selected.is_empty());
    for (label, value) in selected {
        assert_eq!(template["metadata"]["labels"][label], *value, "{made}");
    }
}
