//! A whole farm over a cluster: a scheduler whose pool is Kubernetes, workers that are started as containers of pods, and what
//! happens to both when one of the parts goes away. Containers are processes; the API server is the tests' own or a real one.

use framewake_proto::api::{JobState, JobView};
use framewake_proto::client::Client;
use framewake_tests::farm::{LONG, SOON, TestFarm};
use framewake_tests::jobs;
use framewake_tests::kubernetes::{Cluster, NAMESPACE, Workers};
use framewake_tests::parts::{Running, free_port};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// GPUs of the cluster, and most workers of its pool.
const GPUS: usize = 8;

/// A cluster, and the files by which a scheduler finds it.
struct Site {
    cluster: Cluster,
    folder: TempDir,
    kubeconfig: PathBuf,
}

impl Site {
    async fn new() -> Site {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let cluster = Cluster::start_with(&[GPUS as u64], Workers::Real(folder.path().join("nodes"))).await;
        let kubeconfig = cluster.kubeconfig(folder.path());
        cluster.allow(GPUS);
        let provider =
            json!({ "kind": "kubernetes", "ephemeral_storage": "1GiB", "node_selector": cluster.node_selector() });
        let pool = json!({
            "name": "l4", "max": GPUS, "starts_a_minute": 6000,
            "gpu": { "model": "NVIDIA L4", "memory": "24GiB", "count": GPUS }, "provider": provider,
        });
        let function = json!({
            "name": "command", "image": "registry.example/command:1",
            "driver": { "kind": "command", "command": ["{program}", "{words}"] },
            "parameters": {
                "program": { "type": "text", "description": "the program" },
                "words": { "type": "words", "default": [], "description": "its arguments" },
            },
            "resources": { "gpus": 1 }, "scaling": { "max": 40, "linger": "1s" },
        });
        for (name, file) in [("pools", &pool), ("functions", &function)] {
            std::fs::create_dir_all(folder.path().join(name)).expect("the test's folder is writable");
            // JSON is YAML.
            let path = folder.path().join(name).join("only.yaml");
            std::fs::write(path, file.to_string()).expect("the test's folder is writable");
        }
        Site { cluster, folder, kubeconfig }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn farm(&self) -> TestFarm {
        let mut farm = TestFarm::start_with(0, false, Path::new(&self.path("functions"))).await;
        let kubeconfig = self.kubeconfig.display().to_string();
        farm.restart_scheduler_with(&[("FRAMEWAKE_POOLS", &self.path("pools")), ("KUBECONFIG", &kubeconfig)]).await;
        farm
    }
}

/// Forty frames, on machines whose GPUs are numbers.
fn forty(script: &str) -> Value {
    let mut job = jobs::command(&["/bin/sh", "-c", script], "1-40");
    job["steps"][0]["allow_cpu"] = json!(true);
    job
}

async fn reached(farm: &TestFarm, id: framewake_proto::ids::JobId, done: u32) {
    let job = until(LONG, &format!("{done} frames are done"), || async {
        farm.client.job(id).await.ok().filter(|job| job.tasks.done >= done || job.state.is_over())
    })
    .await;
    assert!(job.tasks.done >= done, "{job:?}: {:#?}", farm.failures(id).await);
}

/// Everything was committed once, within the limit. That nobody who renders is deleted by us, the cluster itself says at its end.
fn sound(site: &Site, job: &JobView, frames: u32) {
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    assert_eq!(job.tasks.done, frames);
    let peak = site.cluster.peak_jobs();
    assert!((1..=GPUS).contains(&peak), "{peak} Jobs at once");
}

async fn empty(site: &Site) {
    until(SOON, "the cluster is empty again", || async { site.cluster.jobs().is_empty().then_some(()) }).await;
}

// The API server answers also while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demand_of_forty_takes_eight_gpus_and_a_scheduler_killed_in_the_middle_adopts_them_all() {
    let site = Site::new().await;
    let mut farm = site.farm().await;
    assert_eq!(site.cluster.jobs(), Vec::<Value>::new(), "nothing waits, nothing runs");
    let begin = Instant::now();
    let id = farm.submit(&forty("sleep 0.5")).await;
    reached(&farm, id, 4).await;
    eprintln!("four frames {:?} after the submission", begin.elapsed());
    farm.kill_scheduler();
    let before: Vec<String> = workers(&site.cluster);
    farm.spawn_scheduler();
    let job = farm.over(id).await;
    sound(&site, &job, 40);
    let made = site.cluster.calls_of("create", "jobs.batch").len();
    eprintln!("{} workers before the kill, {made} Jobs in all, done {:?}", before.len(), begin.elapsed());
    assert!(!before.is_empty());
    empty(&site).await;
    farm.no_workers().await;
}

// The API server answers also while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_holds_up_no_render() {
    let mut site = Site::new().await;
    let farm = site.farm().await;
    let id = farm.submit(&forty("sleep 0.3")).await;
    reached(&farm, id, 4).await;
    site.cluster.down().await;
    let done = farm.client.job(id).await.expect("it answers").tasks.done;
    reached(&farm, id, done + 8).await;
    site.cluster.up().await;
    let job = farm.over(id).await;
    sound(&site, &job, 40);
    empty(&site).await;
}

// The API server answers also while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_kueue_takes_its_place_from_costs_no_attempt_and_is_replaced_once() {
    let site = Site::new().await;
    let farm = site.farm().await;
    let mut job = forty("sleep 0.5");
    // One that was spent would fail its frame.
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    let id = farm.submit(&job).await;
    reached(&farm, id, 4).await;
    let taken = until(SOON, "a worker runs", || async {
        let pods = site.cluster.pods();
        let running = pods.iter().find(|pod| pod["status"]["phase"] == "Running")?;
        Some(running["metadata"]["labels"]["framewake/worker"].as_str()?.to_owned())
    })
    .await;
    let made = site.cluster.calls_of("create", "jobs.batch").len();
    site.cluster.with_job(&taken, |job| {
        job["spec"]["suspend"] = json!(true);
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = json!("gpu");
    });
    until(SOON, "it is forgotten", || async { (!workers(&site.cluster).contains(&taken)).then_some(()) }).await;
    let job = farm.over(id).await;
    sound(&site, &job, 40);
    let more = site.cluster.calls_of("create", "jobs.batch").len() - made;
    eprintln!("{more} made in the place of the one that was taken");
    assert!(more <= 1, "{more} for one");
    let said = farm.scheduler_log();
    // In time for its frame it leaves well, else it hands back what it had.
    let ends = [format!("worker {taken} has left"), format!("worker {taken} was taken away")];
    assert!(ends.iter().any(|end| said.contains(end)), "{said}");
}

fn workers(cluster: &Cluster) -> Vec<String> {
    cluster.jobs().iter().filter_map(|job| Some(job["metadata"]["name"].as_str()?.to_owned())).collect()
}

/// One of two schedulers on one data folder.
fn replica(farm: &TestFarm, site: &Site, name: &str, port: u16) -> Running {
    let mut command = farm.scheduler_command_in(&farm.data(), &format!("127.0.0.1:{port}"));
    command.args(["--leader-lease", &format!("{NAMESPACE}/framewake"), "--lease-for", "2s"]);
    command.arg("--kubeconfig").arg(&site.kubeconfig).args(["--pools", &site.path("pools")]);
    Running::start(name, &mut command, &site.folder.path().join(format!("{name}.log")))
}

fn client(port: u16) -> Client {
    Client::new(&format!("http://127.0.0.1:{port}")).expect("a good address")
}

async fn acts(port: u16) -> Duration {
    let begin = Instant::now();
    let client = client(port);
    until(SOON, "it acts", || async { client.readiness().await.ok().filter(|readiness| readiness.ready) }).await;
    begin.elapsed()
}

// The API server answers also while the test waits for a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_schedulers_one_acts_and_the_other_follows_it() {
    let mut site = Site::new().await;
    let mut farm = TestFarm::start_with(0, false, Path::new(&site.path("functions"))).await;
    farm.kill_scheduler();
    let (one, two) = (free_port(), free_port());
    let mut first = replica(&farm, &site, "first", one);
    acts(one).await;
    let mut second = replica(&farm, &site, "second", two);
    let standby = until(SOON, "the second answers", || async { client(two).readiness().await.ok() }).await;
    assert!(!standby.ready && standby.parts["lease"].contains("standby"), "{standby:?}");
    let lives = reqwest::get(format!("http://127.0.0.1:{two}/healthz")).await.expect("it answers");
    assert!(lives.status().is_success(), "it lives: nobody should restart it");
    first.assert_alive();

    // kill -9: followed when the lease ran out.
    first.kill();
    eprintln!("the second acts {:?} after the first was killed", acts(two).await);
    let mut first = replica(&farm, &site, "first", one);
    until(SOON, "the first waits", || async {
        client(one).readiness().await.ok().filter(|readiness| !readiness.ready)
    })
    .await;

    // Told to stop: followed at once.
    second.signal(rustix::process::Signal::TERM);
    assert_eq!(second.wait(SOON), 0, "{}", second.log());
    eprintln!("the first acts {:?} after the second has stopped", acts(one).await);

    // Cut off: it ends by itself, hard.
    let begin = Instant::now();
    site.cluster.down().await;
    assert_eq!(first.wait(SOON), 75, "{}", first.log());
    eprintln!("it ended {:?} after it was cut off", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert!(first.log().contains("could not be renewed in time"), "{}", first.log());
}
