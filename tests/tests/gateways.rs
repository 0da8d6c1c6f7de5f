//! Workers that gateways wake: real workers behind small gateways of the tests, one that brings up a replica for a request
//! and one that speaks `OpenFaaS`.

use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::{Action, Error, PartQuery};
use framewake_proto::ids::JobId;
use framewake_tests::farm::{LONG, SOON, TestFarm, unique};
use framewake_tests::gateway::{Behavior, Gateway};
use framewake_tests::parts::free_port;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Most workers of the pool, and most replicas.
const MAX: usize = 3;

/// A farm whose workers a gateway brings up.
struct Woken {
    farm: TestFarm,
    gateway: Gateway,
    folder: TempDir,
}

impl Woken {
    /// Behind a gateway that brings up a replica for a request.
    async fn over_http(longest_run: &str) -> Woken {
        Woken::start(
            longest_run,
            false,
            |gateway| json!({ "kind": "http", "url": format!("{}/function/{{function}}/{{version}}", gateway.url()) }),
        )
        .await
    }

    async fn start(longest_run: &str, s3: bool, provider: impl FnOnce(&Gateway) -> Value) -> Woken {
        let folder = tempfile::Builder::new().prefix("framewake-").tempdir().expect("there is room for a folder");
        let functions = folder.path().join("functions");
        write(
            &functions,
            "script",
            &json!({
                "name": "script", "image": "registry.example/script:1",
                "driver": { "kind": "command", "command": ["sh", "-c", "{script}", "sh", "{frame}"] },
                "parameters": { "script": { "type": "text" } },
                "scaling": { "max": 8, "linger": "3s" },
            }),
        );
        let mut gateway = None;
        let farm = TestFarm::start_over_pools_for(&functions, s3, async |farm| {
            // What its image, or whoever deployed the service, gives a replica.
            let environment = [
                ("FRAMEWAKE_NATS_URL", farm.nats.url()),
                ("FRAMEWAKE_STORE", farm.store_url()),
                ("FRAMEWAKE_MAX_INFLIGHT", "1".to_owned()),
                ("FRAMEWAKE_WRITABLE", folder.path().display().to_string()),
            ];
            let made = Gateway::start(MAX, folder.path(), &environment).await;
            let mut provider = provider(&made);
            provider["longest_run"] = json!(longest_run);
            let pools = folder.path().join("pools");
            write(&pools, "gateway", &json!({ "name": "gateway", "max": MAX, "provider": provider }));
            gateway = Some(made);
            pools
        })
        .await;
        Woken { farm, gateway: gateway.expect("made above"), folder }
    }

    /// A job whose frames do this, `$1` being their number, and then leave a line.
    fn job(&self, script: &str, frames: &str) -> Value {
        let notes = self.folder.path().join("notes").display().to_string();
        json!({
            "name": "script",
            "steps": [{
                "name": "run", "function": "script", "frames": frames,
                "parameters": { "script": format!("{script}; echo $1 >>{notes}") },
                "chunking": { "mode": "fixed", "size": 5 },
                // A frame that pays for what is not its fault fails.
                "retries": { "attempts": 1 },
            }],
        })
    }

    /// Frames that were rendered, as often as they were.
    fn rendered(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.folder.path().join("notes")).unwrap_or_default();
        let mut frames: Vec<u32> = text.lines().map(|line| line.parse().expect("a frame")).collect();
        frames.sort_unstable();
        frames
    }

    async fn until_rendered(&self, frames: usize) {
        until(LONG, "frames are rendered", || async { (self.rendered().len() >= frames).then_some(()) }).await;
    }

    /// Waits for the job's end; the farm never has more workers than the pool allows.
    async fn succeeded(&self, id: JobId) {
        let job = until(LONG, "the job is over", || async {
            let workers = self.farm.client.workers(None).await.ok()?.items.len();
            assert!(workers <= MAX, "{workers} workers, and {MAX} are allowed");
            self.farm.client.job(id).await.ok().filter(|job| job.state.is_over())
        })
        .await;
        assert_eq!(job.state, JobState::Succeeded, "{:#?}", self.farm.failures(id).await);
    }

    async fn until_explained(&self, id: JobId, words: &str) {
        until(SOON, &format!("it is explained: {words}"), || async {
            let explanation = self.farm.client.explain(id).await.ok()?;
            let mut reasons = explanation.steps.iter().flat_map(|step| &step.reasons);
            reasons.any(|said| said.contains(words)).then_some(())
        })
        .await;
    }

    async fn until_away(&self, words: &str) {
        until(SOON, &format!("the pool is said to be away: {words}"), || async {
            let readiness = self.farm.client.readiness().await.ok()?;
            readiness.parts.get("pool gateway").filter(|trouble| trouble.contains(words)).map(|_| ())
        })
        .await;
    }
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::create_dir_all(folder).expect("the test's folder is writable");
    // JSON is YAML.
    std::fs::write(folder.join(format!("{name}.yaml")), value.to_string()).expect("the test's folder is writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_behind_a_gateway_come_from_zero_outlive_their_scheduler_and_go_back() {
    let mut woken = Woken::over_http("2m").await;
    assert_eq!(woken.gateway.replicas(), 0, "zero before");
    let id = woken.farm.submit(&woken.job("sleep 0.2", "1-60")).await;
    woken.until_rendered(10).await;
    let (calls, started) = (woken.gateway.calls(), woken.gateway.started());
    assert!((2..=MAX).contains(&started), "{started} replicas");
    // Its requests end with it; those who were woken go on, and are counted again.
    woken.farm.kill_scheduler();
    woken.farm.restart_scheduler().await;
    woken.succeeded(id).await;
    assert_eq!(woken.rendered(), (1..=60).collect::<Vec<_>>(), "each frame once");
    assert_eq!(woken.gateway.calls(), calls, "nobody is woken in the place of a worker that lives");
    woken.farm.no_workers().await;
    // From zero again: the gateway kept its replicas.
    let id = woken.farm.submit(&woken.job("sleep 0.1", "61-66")).await;
    woken.succeeded(id).await;
    assert_eq!(woken.gateway.started(), started);
    woken.farm.no_workers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_full_or_slow_is_told_and_costs_no_attempt() {
    let woken = Woken::over_http("2m").await;
    woken.gateway.behave(Behavior::Status(429));
    let id = woken.farm.submit(&woken.job("true", "1-10")).await;
    woken.until_explained(id, "the gateway answered 429 Too Many Requests: so I was told").await;
    assert!(woken.gateway.calls() <= 2 * MAX + 1, "it is asked again ever more seldom: {}", woken.gateway.calls());
    woken.gateway.behave(Behavior::Slow(Duration::from_secs(2)));
    woken.succeeded(id).await;
    assert_eq!(woken.rendered(), (1..=10).collect::<Vec<_>>());
    woken.farm.no_workers().await;

    woken.gateway.behave(Behavior::Status(401));
    let id = woken.farm.submit(&woken.job("true", "11")).await;
    woken.until_explained(id, "401 Unauthorized: so I was told; hint: the pool's secret").await;
    woken.farm.client.act(id, Action::Cancel).await.expect("it is canceled");

    // A pool of its own, so that what was learned above does not count.
    let mut woken =
        Woken::start("2m", false, |_| json!({ "kind": "http", "url": format!("http://127.0.0.1:{}/x", free_port()) }))
            .await;
    let id = woken.farm.submit(&woken.job("true", "1")).await;
    woken.until_explained(id, "the gateway can't be reached").await;
    woken.until_away("the gateway can't be reached").await;
    assert!(woken.farm.client.readiness().await.expect("it answers").ready, "others may have other pools");
    woken.farm.scheduler().assert_alive();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cut_costs_nothing_and_a_killed_replica_the_frame_it_was_on() {
    let woken = Woken::over_http("2m").await;
    let id = woken.farm.submit(&woken.job("sleep 0.2", "1-60")).await;
    woken.until_rendered(6).await;
    let started = woken.gateway.started();
    woken.gateway.cut();
    woken.until_rendered(20).await;
    assert_eq!(woken.gateway.started(), started, "those whose calls were cut still count");
    woken.succeeded(id).await;
    assert_eq!(woken.rendered(), (1..=60).collect::<Vec<_>>(), "each frame once");
    woken.farm.no_workers().await;

    // Those who said good-bye have made room, although no call told of their end.
    let began = Instant::now();
    let id = woken.farm.submit(&woken.job("sleep 0.2", "61-120")).await;
    woken.until_rendered(66).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    woken.gateway.kill_a_busy_one();
    woken.succeeded(id).await;
    let rendered = woken.rendered();
    assert!(rendered.len() <= 121, "{} renders of 120 frames", rendered.len());
    let attempts = woken.farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    let lost = attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Lost).count();
    assert_eq!(lost, 1, "{attempts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_takes_longer_than_the_gateway_waits_is_refused_or_fails_with_the_way_out() {
    let woken = Woken::over_http("12s").await;
    // Who says how long frames take is told at once.
    let mut job = woken.job("true", "1-3");
    job["steps"][0]["timeouts"] = json!({ "frame": "20s" });
    match woken.farm.client.submit(&job, &unique()).await {
        Err(Error::Refused(problem)) => {
            let faults = &problem.faults;
            assert_eq!(faults[0].field, "/steps/0/timeouts/frame", "{faults:?}");
            let reason = &faults[0].reason;
            assert!(reason.contains("pool gateway: its workers may run for 12s, and a frame for 20s"), "{reason}");
            assert!(reason.contains("--pools"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(woken.gateway.calls(), 0, "nothing was stored");

    let id = woken.farm.submit(&woken.job("[ $1 != 2 ] || sleep 60", "1-8")).await;
    let view = woken.farm.over(id).await;
    assert_eq!(view.state, JobState::Failed);
    let failures = woken.farm.failures(id).await;
    assert_eq!(failures.len(), 1, "{failures:#?}");
    let said = format!("{:?}", failures[0]);
    assert!(said.contains("the frame was not done in the ") && said.contains("`longest_run`"), "{said}");
    assert_eq!(woken.rendered(), [1, 3, 4, 5, 6, 7, 8], "the others are done, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_a_foreign_openfaas_are_deployed_scaled_woken_and_removed() {
    let provider = |gateway: &Gateway, password: &Path| {
        std::fs::write(password, "hunter2\n").expect("the test's folder is writable");
        json!({ "kind": "openfaas", "gateway": gateway.url(), "password": { "file": password } })
    };
    let secrets = tempfile::tempdir().expect("there is room for a folder");
    let password = secrets.path().join("password");
    let mut woken = Woken::start("2m", true, |gateway| provider(gateway, &password)).await;
    assert_eq!(woken.gateway.functions(), Vec::<String>::new(), "zero before");
    let id = woken.farm.submit(&woken.job("sleep 0.3", "1-40")).await;
    woken.until_rendered(8).await;
    assert_eq!(woken.gateway.functions(), ["framewake-gateway-script-v1"]);
    assert!((2..=MAX).contains(&woken.gateway.replicas()), "{}", woken.gateway.replicas());
    woken.farm.kill_scheduler();
    woken.farm.restart_scheduler().await;
    woken.succeeded(id).await;
    assert_eq!(woken.rendered(), (1..=40).collect::<Vec<_>>(), "each frame once, also by those who were adopted");

    woken.farm.no_workers().await;
    // One that is killed is brought up again by whoever runs the gateway, or by the next that is wanted.
    let id = woken.farm.submit(&woken.job("sleep 0.3", "41-80")).await;
    woken.until_rendered(46).await;
    woken.gateway.kill_a_busy_one();
    woken.succeeded(id).await;
    assert!(woken.rendered().len() <= 81, "{}", woken.rendered().len());
    woken.farm.no_workers().await;
    until(SOON, "the function is removed", || async { woken.gateway.functions().is_empty().then_some(()) }).await;
    assert_eq!(woken.gateway.replicas(), 0, "and zero after");

    // A password that is changed is said to be wrong until the file has the new one.
    std::fs::write(&password, "hunter3").expect("the test's folder is writable");
    woken.until_away("401 Unauthorized: invalid credentials; hint: the pool's secret").await;
    std::fs::write(&password, "hunter2").expect("the test's folder is writable");
    let id = woken.farm.submit(&woken.job("true", "81-85")).await;
    woken.succeeded(id).await;
}
