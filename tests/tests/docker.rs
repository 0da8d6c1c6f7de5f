//! Workers in containers of a real Docker engine, which is the test's own.

use framewake_proto::api::JobState;
use framewake_proto::client::{Action, PartQuery};
use framewake_proto::ids::JobId;
use framewake_proto::start::StartPoint;
use framewake_tests::docker::Engine;
use framewake_tests::farm::{LONG, SOON, TestFarm};
use framewake_tests::parts::{built, tool};
use framewake_tests::registry::Registry;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Most workers of the pool.
const MAX: usize = 3;

/// A farm over one engine.
struct Docked {
    farm: TestFarm,
    engine: Engine,
    folder: TempDir,
}

impl Docked {
    /// With these functions; `None` where no engine can run.
    async fn start(live_restore: bool, functions: &[Value], images: impl FnOnce(&Engine)) -> Option<Docked> {
        let folder = tempfile::Builder::new().prefix("framewake-").tempdir().expect("there is room for a folder");
        let engine = Engine::start(folder.path(), live_restore)?;
        images(&engine);
        let functions_at = folder.path().join("functions");
        for function in functions {
            write(&functions_at, function["name"].as_str().expect("named"), function);
        }
        let pools = folder.path().join("pools");
        let docker = |host: &str| {
            json!({
                "kind": "docker", "host": host, "network": "host",
                // The store is a folder of this user's; and renderers of these tests leave notes there.
                "user": "0:0", "environment": { "FRAMEWAKE_WRITABLE": "/cache" },
                "cache": folder.path().join("notes"),
            })
        };
        std::fs::create_dir_all(folder.path().join("notes")).expect("the test's folder is writable");
        write(&pools, "here", &json!({ "name": "here", "max": MAX, "provider": docker(&engine.host()) }));
        write(&pools, "gone", &json!({ "name": "gone", "max": 1, "provider": docker("unix:///nowhere/socket") }));
        let farm = TestFarm::start_over_pools(&functions_at, &pools).await;
        Some(Docked { farm, engine, folder })
    }

    /// Where each frame leaves a line, in a folder that workers find at `/cache`.
    fn notes(&self) -> PathBuf {
        self.folder.path().join("notes/frames")
    }

    /// How often a frame was rendered.
    fn rendered(&self) -> usize {
        std::fs::read_to_string(self.notes()).unwrap_or_default().lines().count()
    }

    /// Waits until so many frames were rendered since the test began.
    async fn until_rendered(&self, frames: usize) {
        until(LONG, "frames are rendered", || async { (self.rendered() >= frames).then_some(()) }).await;
    }

    async fn until_running(&self, containers: usize) -> Vec<String> {
        until(LONG, "containers run", || async {
            Some(self.engine.containers(false)).filter(|running| running.len() >= containers)
        })
        .await
    }

    async fn until_nothing_is_left(&self) {
        until(LONG, "all containers are gone", || async { self.engine.containers(true).is_empty().then_some(()) })
            .await;
    }

    async fn succeeded(&self, id: JobId) {
        let job = self.farm.over(id).await;
        assert_eq!(job.state, JobState::Succeeded, "{:#?}", self.farm.failures(id).await);
    }
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::create_dir_all(folder).expect("the test's folder is writable");
    // JSON is YAML.
    std::fs::write(folder.join(format!("{name}.yaml")), value.to_string()).expect("the test's folder is writable");
}

/// A function that runs a shell script for each frame.
fn script(name: &str, image: &str, resources: Value) -> Value {
    json!({
        "name": name, "image": image, "resources": resources,
        "driver": { "kind": "command", "command": ["sh", "-c", "{script}"] },
        "parameters": { "script": { "type": "text" } },
        "scaling": { "max": 8, "linger": "1s" },
    })
}

/// Frames of 0.2 s that leave a line each in `/cache/frames`.
fn frames(set: &str) -> Value {
    job("script", "sleep 0.2; echo x >>/cache/frames", set)
}

fn job(function: &str, script: &str, set: &str) -> Value {
    json!({
        "name": function,
        "steps": [{ "name": "run", "function": function, "frames": set, "parameters": { "script": script } }],
    })
}

/// The worker and a shell.
fn make_image(engine: &Engine) {
    let programs = [built("framewake-worker"), tool("sh"), tool("sleep")];
    engine.make_image("farm", &programs, &["ENTRYPOINT [\"/usr/bin/framewake-worker\"]"]);
}

#[tokio::test]
async fn a_job_runs_in_containers_from_zero_and_back_whatever_is_killed_meanwhile() {
    let functions = [script("script", "farm", json!({ "memory": "256MiB", "cpu_millis": 500 }))];
    let Some(mut docked) = Docked::start(false, &functions, make_image).await else { return };
    assert!(docked.engine.containers(true).is_empty(), "zero before");

    // A container is killed.
    let id = docked.farm.submit(&frames("1-40")).await;
    let running = docked.until_running(2).await;
    let format = "{{.Name}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} \
                  {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.Privileged}} {{.NetworkSettings.Ports}}";
    let asked = docked.engine.docker(&["inspect", "-f", format, &running[0]]);
    assert!(asked.starts_with("/framewake-framewake-w"), "{asked}");
    assert!(asked.ends_with(" true [ALL] [no-new-privileges] 268435456 500000000 false map[]"), "{asked}");
    docked.until_rendered(4).await;
    docked.engine.docker(&["kill", &running[0]]);
    docked.succeeded(id).await;
    let once = docked.rendered();
    assert!((40..=41).contains(&once), "a killed container costs one frame at most, and {once} of 40 were rendered");
    docked.until_nothing_is_left().await;

    // The scheduler is killed, and finds its workers again.
    let id = docked.farm.submit(&frames("1-40")).await;
    docked.until_rendered(once + 4).await;
    let before = docked.until_running(1).await;
    docked.farm.kill_scheduler();
    docked.farm.restart_scheduler().await;
    docked.succeeded(id).await;
    assert_eq!(docked.rendered() - once, 40, "each frame once");
    let log = docked.farm.scheduler_log();
    for container in &before {
        let worker = docked.engine.docker(&["ps", "-a", "--no-trunc", "--filter", &format!("id={container}"), "-q"]);
        assert!(worker.is_empty() || worker == *container);
    }
    assert!(log.contains("is still there"), "it says whom it found");
    docked.until_nothing_is_left().await;

    // The engine is restarted, and its containers with it.
    let before = docked.rendered();
    let id = docked.farm.submit(&frames("1-40")).await;
    docked.until_rendered(before + 4).await;
    docked.engine.stop();
    let readiness = until(SOON, "the pool is said to be away", || async {
        let readiness = docked.farm.client.readiness().await.ok()?;
        readiness.parts.get("pool here").is_some_and(|trouble| !trouble.is_empty()).then_some(readiness)
    })
    .await;
    assert!(readiness.ready, "others may have other pools");
    docked.engine.restart();
    docked.succeeded(id).await;
    let rendered = docked.rendered() - before;
    assert!((40..=40 + MAX).contains(&rendered), "{rendered} of 40 were rendered: a frame for each container at most");
    docked.until_nothing_is_left().await;
}

#[tokio::test]
async fn an_engine_that_restores_its_containers_interrupts_no_frame() {
    let functions = [script("script", "farm", json!({}))];
    let Some(mut docked) = Docked::start(true, &functions, make_image).await else { return };
    let id = docked.farm.submit(&frames("1-40")).await;
    docked.until_rendered(4).await;
    let running = docked.engine.containers(false);
    docked.engine.stop();
    let before = docked.rendered();
    docked.until_rendered(before + 2).await;
    docked.engine.restart();
    for container in running {
        let known = docked.engine.docker(&["ps", "-a", "-q", "--no-trunc", "--filter", &format!("id={container}")]);
        assert!(known.is_empty() || known == container);
    }
    docked.succeeded(id).await;
    assert_eq!(docked.rendered(), 40, "each frame once");
    docked.until_nothing_is_left().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_an_image_is_said_where_people_look() {
    let registry = Registry::start();
    let foreign_pool = |mut function: Value| {
        function["scaling"]["pools"] = json!(["gone"]);
        function
    };
    let image = |name: &str| script(name, &registry.image(name), json!({}));
    let functions = [
        image("absent"),
        image("private"),
        image("foreign"),
        image("slow"),
        script("other-machine", "foreign-here", json!({})),
        script("no-program", "empty", json!({})),
        script("no-worker", "shell", json!({})),
        script("lost-worker", "lost", json!({})),
        script("too-many-processors", "farm", json!({ "cpu_millis": 1_024_000 })),
        script("too-little-memory", "eater", json!({ "memory": "64MiB" })),
        foreign_pool(script("no-engine", "farm", json!({}))),
    ];
    let images = |engine: &Engine| {
        make_image(engine);
        engine.make_image("empty", &[], &[]);
        engine.make_image("lost", &[], &["ENTRYPOINT [\"/usr/bin/framewake-worker\"]"]);
        engine.make_image("shell", &[tool("sh")], &["CMD [\"/usr/bin/sh\", \"-c\", \"exit 0\"]"]);
        engine.make_image("eater", &[tool("tail")], &["ENTRYPOINT [\"/usr/bin/tail\", \"/dev/zero\"]"]);
        engine.make_foreign_image("foreign-here");
    };
    let Some(docked) = Docked::start(false, &functions, images).await else { return };
    let expected = BTreeMap::from([
        ("absent", "there is no such image"),
        ("private", "its registry wants a login: name a file with one as `credentials` of the pool"),
        ("foreign", "it is not made for the machine of this pool"),
        ("slow", "/slow:1`: "),
        ("other-machine", "is made for arm64, and the machine of this pool is amd64"),
        ("no-program", "starts no framewake-worker"),
        ("no-worker", "its image starts `/usr/bin/sh -c exit 0`, which ended at once"),
        ("lost-worker", "starts no framewake-worker"),
        ("too-many-processors", "CPUs"),
        ("too-little-memory", "out of memory: it took more than 64MiB"),
        ("no-engine", "the Docker engine at unix:///nowhere/socket does not answer"),
    ]);
    // One after the other: the pool has room for a few.
    for (function, reason) in expected {
        let id = docked.farm.submit(&job(function, "true", "1")).await;
        until(SOON, &format!("{function} is explained: {reason}"), || async {
            let explanation = docked.farm.client.explain(id).await.ok()?;
            let mut reasons = explanation.steps.iter().flat_map(|step| &step.reasons);
            reasons.any(|said| said.contains(reason)).then_some(())
        })
        .await;
        if function == "slow" {
            registry.go_on();
        }
        docked.farm.client.act(id, Action::Cancel).await.expect("it is canceled");
    }
}

#[tokio::test]
async fn how_a_worker_came_tells_of_its_image_which_was_fetched_first() {
    let registry = Registry::start();
    let functions = [script("script", &registry.image("good"), json!({}))];
    let taken = tempfile::tempdir().expect("there is room for a folder");
    let images = |engine: &Engine| {
        make_image(engine);
        registry.take(engine, "farm", taken.path());
    };
    let Some(docked) = Docked::start(false, &functions, images).await else { return };
    let id = docked.farm.submit(&job("script", "true", "1")).await;
    docked.succeeded(id).await;
    let attempts = docked.farm.client.attempts(id, &PartQuery::default()).await.expect("a list");
    let start = docked.farm.client.worker_start(attempts.items[0].worker.as_str()).await.expect("it is told");
    let points: Vec<StartPoint> = start.steps.iter().map(|step| step.point).collect();
    let expected: Vec<StartPoint> =
        StartPoint::ALL.into_iter().filter(|point| *point != StartPoint::Scheduled).collect();
    assert_eq!(points, expected, "a Docker engine chooses no machine");
    let image = start.steps.iter().find(|step| step.point == StartPoint::Image).expect("just seen");
    assert!(image.took_ms > 0 && image.took_ms < start.took_ms(), "{start:?}");
    let (first, last) = (start.steps[0], start.steps[start.steps.len() - 1]);
    assert_eq!(u128::from(start.took_ms()), last.at.since(first.at).as_millis());
    // In the metrics too, though its place is only looked at now and then.
    let counted = "framewake_cold_start_seconds_count{function=\"script\",phase=\"image\",pool=\"here\"} 1\n";
    until(SOON, "the phase is counted", || async {
        let page = reqwest::get(format!("{}/metrics", docked.farm.url())).await.ok()?.text().await.ok()?;
        page.contains(counted).then_some(())
    })
    .await;
}
