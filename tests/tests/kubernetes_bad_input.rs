//! What somebody reads whose functions, pools or cluster are wrong: over REST, and from `framewake explain`. The cluster says
//! what containerd, registries and API servers say.

use framewake_proto::client::Action;
use framewake_proto::ids::JobId;
use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::kubernetes::{Cluster, GPU, Harm, Image, NAMESPACE, Refusal};
use framewake_tests::parts::{Running, built, free_port, root};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// GPUs of each machine of the pool.
const GPUS: u64 = 8;

struct Site {
    cluster: Cluster,
    folder: TempDir,
    farm: TestFarm,
}

impl Site {
    /// With functions of these names, each of an image of its name.
    async fn new(functions: &[&str]) -> Site {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let cluster = Cluster::start(&[GPUS]).await;
        let provider =
            json!({ "kind": "kubernetes", "ephemeral_storage": "64MiB", "node_selector": cluster.node_selector() });
        let gpu = json!({ "model": "NVIDIA L4", "memory": "24GiB", "count": GPUS });
        let pool = json!({ "name": "l4", "max": 8, "starts_a_minute": 6000, "gpu": gpu, "provider": provider });
        write(&folder, "pools", "l4", &pool);
        for name in functions {
            write(&folder, "functions", name, &function(name, &json!({ "gpus": 1 })));
        }
        std::fs::create_dir_all(folder.path().join("functions")).expect("the test's folder is writable");
        let mut farm = TestFarm::start_with(0, false, &folder.path().join("functions")).await;
        let kubeconfig = cluster.kubeconfig(folder.path()).display().to_string();
        let pools = folder.path().join("pools").display().to_string();
        farm.restart_scheduler_with(&[("FRAMEWAKE_POOLS", &pools), ("KUBECONFIG", &kubeconfig)]).await;
        Site { cluster, folder, farm }
    }

    async fn submit(&self, function: &str) -> JobId {
        let step = json!({ "name": "run", "function": function, "frames": "1" });
        self.farm.submit(&json!({ "name": function, "steps": [step] })).await
    }

    /// The job says so, to programs and to people.
    async fn explains(&self, id: JobId, words: &str) {
        let begin = std::time::Instant::now();
        until(SOON * 2, "the job is explained", || async {
            let explanation = self.farm.client.explain(id).await.ok()?;
            let reasons: Vec<String> = explanation.steps.into_iter().flat_map(|step| step.reasons).collect();
            assert!(begin.elapsed() < SOON, "no `{words}`: {reasons:?}\n{}", self.farm.scheduler_log());
            reasons.iter().any(|said| said.contains(words)).then_some(())
        })
        .await;
        let (code, said) = self.cli(&["explain", &id.to_string()]);
        assert!(code == 0 && said.contains(words), "no `{words}` in what people read: {said}");
    }

    /// Runs `framewake`: exit code and what it said.
    fn cli(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(built("framewake"));
        command.args(arguments).env("FRAMEWAKE_URL", self.farm.url()).env("NO_COLOR", "1").current_dir(root());
        let output = command.output().expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn write(folder: &TempDir, kind: &str, name: &str, file: &Value) {
    let folder = folder.path().join(kind);
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    // JSON is YAML.
    std::fs::write(folder.join(format!("{name}.yaml")), file.to_string()).expect("the test's folder is writable");
}

fn function(name: &str, resources: &Value) -> Value {
    json!({
        "name": name, "image": name, "resources": resources,
        "driver": { "kind": "command", "command": ["/bin/true"] }, "scaling": { "max": 1 },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_an_image_is_said_with_what_to_do() {
    let exits = |terminated: Value| Image::Exits(terminated);
    let cases = [
        (
            "absent",
            Image::Waits {
                reason: "ErrImagePull",
                message: "failed to pull and unpack image \"registry.example/absent:1\": failed to resolve reference: registry.example/absent:1: not found",
            },
            "registry.example/absent:1: not found",
        ),
        (
            "private",
            Image::Waits {
                reason: "ErrImagePull",
                message: "failed to pull image \"registry.example/private:1\": failed to authorize: failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized",
            },
            "its registry wants a login (name a Secret with one in `image_pull_secrets` of the pool)",
        ),
        (
            "other-platform",
            Image::Waits { reason: "ErrImagePull", message: "no match for platform in manifest: not found" },
            "its image is not made for the machines of this pool",
        ),
        (
            "other-processor",
            exits(
                json!({ "exitCode": 255, "reason": "Error", "message": "exec /usr/bin/framewake-worker: exec format error\n" }),
            ),
            "its image is made for another kind of processor than its machine has",
        ),
        (
            "no-watchdog",
            exits(json!({
                "exitCode": 128, "reason": "StartError",
                "message": "failed to create containerd task: exec: \"/usr/bin/framewake-worker\": executable file not found in $PATH",
            })),
            "its image lacks framewake-worker",
        ),
        (
            "another-program",
            exits(json!({ "exitCode": 0, "reason": "Completed" })),
            "does its image start framewake-worker?",
        ),
        (
            "as-root",
            Image::Waits {
                reason: "CreateContainerConfigError",
                message: "container has runAsNonRoot and image will run as root",
            },
            "image will run as root",
        ),
    ];
    let names: Vec<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let site = Site::new(&names).await;
    for (name, image, words) in cases {
        site.cluster.image(name, image);
        let id = site.submit(name).await;
        site.explains(id, words).await;
        site.farm.client.act(id, Action::Cancel).await.expect("it is canceled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_machine_has_is_refused_before_anything_waits() {
    let site = Site::new(&[]).await;
    let refused = [
        (json!({ "gpus": 9 }), "a worker needs 9 GPUs, and a machine has 8"),
        (json!({ "gpus": 1, "gpu_memory": "500GiB" }), "a worker needs GPUs of 500GiB, and these have 24GiB"),
        (json!({ "gpus": 1, "gpu_models": ["Voodoo 2"] }), "its GPUs are NVIDIA L4, and the function wants Voodoo 2"),
        (json!({ "gpus": -1 }), "gpus"),
        (json!({ "gpus": 1, "memory": "-4GiB" }), "memory"),
        (json!({ "gpus": 1, "cpu_millis": -5 }), "cpu_millis"),
    ];
    let check = |file: &Value, words: &str| {
        let path = site.path("bad.yaml");
        std::fs::write(&path, file.to_string()).expect("the test's folder is writable");
        let (code, said) = site.cli(&["functions", "add", &path.display().to_string()]);
        assert!(code != 0 && said.contains(words), "no `{words}` in what people read ({code}): {said}");
    };
    for (resources, words) in refused {
        check(&function("bad", &resources), words);
    }
    for (max, words) in [(json!(-1), "max"), (json!(0), "max"), (json!(1_000_000_000), "max")] {
        let mut file = function("bad", &json!({}));
        file["scaling"]["max"] = max;
        check(&file, words);
    }
    assert!(site.farm.client.functions(None).await.expect("listed").items.is_empty(), "nothing was stored");
    assert!(site.cluster.jobs().is_empty());
}

/// A scheduler over these pools: it ends, and says why.
fn refused(site: &Site, name: &str, pools: &str, kubeconfig: &str) -> String {
    let data = site.path(name);
    std::fs::create_dir_all(&data).expect("the test's folder is writable");
    let mut command = site.farm.scheduler_command_in(&data, &format!("127.0.0.1:{}", free_port()));
    command.env("FRAMEWAKE_POOLS", site.path(pools)).env("KUBECONFIG", kubeconfig);
    let mut running = Running::start(name, &mut command, &site.path(&format!("{name}.log")));
    assert_ne!(running.wait(SOON), 0, "{}", running.log());
    running.log()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_can_never_start_a_worker_ends_and_says_why() {
    let site = Site::new(&[]).await;
    let said = refused(&site, "no-file", "pools", "/nowhere/kubeconfig");
    assert!(said.contains("pool l4") && said.contains("the kubeconfig `/nowhere/kubeconfig` cannot be used"), "{said}");
    let broken = site.path("broken");
    std::fs::write(&broken, "clusters: 7").expect("the test's folder is writable");
    let said = refused(&site, "no-kubeconfig", "pools", &broken.display().to_string());
    assert!(said.contains("broken` cannot be used"), "{said}");
    let kubeconfig = site.path("kubeconfig").display().to_string();
    for (name, change, words) in [
        ("none", json!({ "max": 0 }), "max"),
        ("negative", json!({ "max": -3 }), "max"),
        ("absurd", json!({ "max": 1_000_000_000 }), "max"),
        ("no-gpus", json!({ "gpu": { "model": "NVIDIA L4", "memory": "24GiB", "count": 99 } }), "count"),
        ("no-time", json!({ "provider": { "kind": "kubernetes", "grace": "0s" } }), "grace"),
        ("no-room", json!({ "provider": { "kind": "kubernetes", "ephemeral_storage": "1MiB" } }), "ephemeral_storage"),
        ("no-namespace", json!({ "provider": { "kind": "kubernetes", "namespace": "Not One" } }), "namespace"),
    ] {
        let mut pool = json!({ "name": "l4", "max": 8, "provider": { "kind": "kubernetes" } });
        for (key, value) in change.as_object().expect("an object") {
            pool[key] = value.clone();
        }
        let pools = format!("pools-{name}");
        write(&site.folder, &pools, "l4", &pool);
        let said = refused(&site, name, &pools, &kubeconfig);
        assert!(said.contains("l4.yaml") && said.contains(words), "{name}: no `{words}` in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_named_with_its_verb_and_its_namespace() {
    let site = Site::new(&["render"]).await;
    let forbid = |verb: &'static str, resource: &'static str| {
        let user = "system:serviceaccount:render:framewake";
        let what =
            format!("{resource} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group");
        site.cluster.harm(verb, resource, 100_000, Harm::Refused(Refusal::new(403, "Forbidden", what), None));
    };
    forbid("create", "jobs.batch");
    let id = site.submit("render").await;
    site.explains(id, &format!("the service account may not `create jobs.batch` in namespace `{NAMESPACE}`")).await;
    site.farm.client.act(id, Action::Cancel).await.expect("it is canceled");
    site.cluster.heal();
    // And one that is taken away while it works.
    forbid("list", "pods");
    forbid("watch", "pods");
    site.cluster.cut_watches();
    let id = site.submit("render").await;
    let words = format!("pods` in namespace `{NAMESPACE}`: give it the Role of the chart");
    site.explains(id, &words).await;
    let readiness = || async { site.farm.client.readiness().await.ok() };
    until(SOON, "programs are told", || async {
        readiness().await?.parts.values().any(|part| part.contains(&words)).then_some(())
    })
    .await;
    let doctor = site.cli(&["doctor"]).1;
    assert!(doctor.contains("l4") && doctor.contains(&words), "{doctor}");
    site.cluster.heal();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_and_a_cluster_without_room_are_told_apart() {
    let site = Site::new(&["render"]).await;
    site.cluster.quota(&json!({ format!("requests.{GPU}"): "0" })).await;
    let id = site.submit("render").await;
    site.explains(id, &format!("requests.{GPU}=1")).await;
    site.explains(id, "exceeded quota: gpus").await;
    site.farm.client.act(id, Action::Cancel).await.expect("it is canceled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_is_the_reason_until_it_is_back() {
    let mut site = Site::new(&["render"]).await;
    site.cluster.down().await;
    let id = site.submit("render").await;
    site.explains(id, "the API server does not answer").await;
    until(SOON, "programs are told", || async {
        let readiness = site.farm.client.readiness().await.ok()?;
        readiness.parts.values().any(|part| part.contains("the API server does not answer")).then_some(())
    })
    .await;
    let doctor = site.cli(&["doctor"]).1;
    assert!(doctor.contains("the API server does not answer"), "{doctor}");
    site.cluster.up().await;
    let begin = std::time::Instant::now();
    until(SOON * 2, "a worker is made", || async { (!site.cluster.jobs().is_empty()).then_some(()) }).await;
    eprintln!("a worker is asked for {:?} after the API server is back", begin.elapsed());
    assert_eq!(site.cluster.jobs().len(), 1);
}
