//! The kubelets of the cluster: what becomes of the containers of pods that have a node.

use super::Shared;
use super::controllers::{control, event};
use super::objects::Key;
use super::world::World;
use crate::parts::{Running, built, path};
use framewake_proto::time::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How often running processes are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Exit code of a container that `SIGTERM` ends.
const TERMINATED: i32 = 143;

/// What becomes of the containers of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Image {
    /// They run until the test says otherwise.
    #[default]
    Runs,
    /// They never get further than this: `ErrImagePull` and such.
    Waits { reason: &'static str, message: &'static str },
    /// The kubelet refuses the pod: `OutOfnvidia.com/gpu`.
    Rejected { reason: &'static str },
    /// An admission webhook, or a quota, refuses the pod.
    Denied { message: &'static str },
    /// Their process ends at once.
    Exits(Value),
}

/// What a container is.
#[derive(Debug, Clone)]
pub enum Workers {
    /// An entry in a list.
    Pretended,
    /// A process of the worker program, with the environment of the container; its volumes are folders in this one.
    Real(PathBuf),
}

/// How many GPUs of this name a pod has.
pub(super) fn gpus(pod: &Value, resource: &str) -> u64 {
    let limits = &pod["spec"]["containers"][0]["resources"]["limits"];
    limits[resource].as_str().and_then(|count| count.parse().ok()).unwrap_or(0)
}

pub(super) fn is_over(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
}

/// The container has ended.
pub(super) fn exited(pod: &mut Value, terminated: &Value) {
    pod["status"] = ended(pod, terminated);
}

fn ended(pod: &Value, terminated: &Value) -> Value {
    let mut status = pod["status"].clone();
    let mut terminated = terminated.clone();
    if terminated["startedAt"].is_null() {
        terminated["startedAt"] = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
    }
    terminated["finishedAt"] = json!(Timestamp::now());
    status["phase"] = json!(if terminated["exitCode"] == 0 { "Succeeded" } else { "Failed" });
    status["containerStatuses"] = container(&json!({ "terminated": terminated }));
    status
}

fn container(state: &Value) -> Value {
    json!([{ "name": "worker", "ready": false, "restartCount": 0, "image": "i", "imageID": "i", "state": state }])
}

/// Has containers run, whenever something changes.
pub(super) async fn run(shared: Arc<Shared>, nodes: Vec<u64>, workers: Workers) {
    let mut kubelet = Kubelet { workers, processes: BTreeMap::new(), told: BTreeSet::new() };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        shared.world.change(|objects| control(&shared, objects, &nodes));
        for pod in shared.world.list("pods", "", "").await {
            let node = pod["spec"]["nodeName"].as_str();
            if node.is_some_and(|node| shared.world.is_played(node)) {
                kubelet.act(&shared, &pod).await;
            }
        }
        match &shared.world {
            World::Own { changed, .. } => {
                let mut changed = changed.subscribe();
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = look.tick() => {}
                }
            }
            World::Elsewhere { .. } => drop(look.tick().await),
        }
    }
}

pub(super) fn pod_key(pod: &Value) -> Key {
    let of = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    ("pods".to_owned(), of("namespace"), of("name"))
}

/// What a kubelet makes of a pod.
enum Played {
    Nothing,
    /// Its image is there, and its container begins.
    Begins(Value),
    Status(Value),
    /// Its end is told, so it goes.
    Gone,
}

/// The processes of containers.
struct Kubelet {
    workers: Workers,
    processes: BTreeMap<Key, Running>,
    /// Containers that were told to end: a second time would be another word.
    told: BTreeSet<Key>,
}

impl Kubelet {
    async fn act(&mut self, shared: &Shared, pod: &Value) {
        let key = pod_key(pod);
        let image = shared.image(pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default());
        let status = match self.play(&key, pod, &image) {
            Played::Nothing => return,
            Played::Gone => {
                let _ = shared.world.delete(&key).await;
                return;
            }
            Played::Begins(status) => {
                let pulled = event("Pod", &key, "Normal", "Pulled", "Successfully pulled image");
                let _ = shared.world.create("events", &key.1, pulled).await;
                status
            }
            Played::Status(status) => status,
        };
        // A test may have told of the pod's end meanwhile: that stays.
        let set = |pod: &mut Value| {
            if !is_over(pod) {
                pod["status"] = status.clone();
            }
        };
        shared.world.modify(&key, set).await;
    }

    fn play(&mut self, key: &Key, pod: &Value, image: &Image) -> Played {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return match self.end(key) {
                None => Played::Nothing,
                Some(_) if is_over(pod) => Played::Gone,
                Some(code) => Played::Status(ended(pod, &json!({ "exitCode": code, "reason": "Error" }))),
            };
        }
        if is_over(pod) {
            return Played::Nothing;
        }
        let mut status = pod["status"].clone();
        match image {
            _ if !state["running"].is_null() => match self.exit_code(key) {
                Some(code) => Played::Status(ended(pod, &json!({ "exitCode": code }))),
                None => Played::Nothing,
            },
            Image::Waits { reason, message } => {
                if state["waiting"]["reason"] == *reason {
                    return Played::Nothing;
                }
                status["containerStatuses"] =
                    container(&json!({ "waiting": { "reason": reason, "message": message } }));
                Played::Status(status)
            }
            Image::Rejected { reason } => {
                status["phase"] = json!("Failed");
                status["reason"] = json!(reason);
                status["message"] = json!("Pod was rejected: requested number of devices unavailable");
                Played::Status(status)
            }
            Image::Exits(terminated) => {
                let mut terminated = terminated.clone();
                terminated["startedAt"] = json!(Timestamp::now());
                Played::Begins(ended(pod, &terminated))
            }
            Image::Runs | Image::Denied { .. } => {
                self.start(key, pod);
                status["phase"] = json!("Running");
                status["containerStatuses"] = container(&json!({ "running": { "startedAt": Timestamp::now() } }));
                Played::Begins(status)
            }
        }
    }

    fn start(&mut self, key: &Key, pod: &Value) {
        let Workers::Real(folder) = &self.workers else { return };
        let volumes = folder.join(&key.2);
        std::fs::create_dir_all(volumes.join("scratch")).expect("the test's folder is writable");
        let mut command = Command::new(built("framewake-worker"));
        command.env_clear().env("PATH", path()).env("FRAMEWAKE_WRITABLE", std::env::temp_dir());
        for variable in pod["spec"]["containers"][0]["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap_or_default();
            let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
            let value = match field {
                Some("spec.nodeName") => pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned(),
                _ => variable["value"].as_str().unwrap_or_default().to_owned(),
            };
            // Where the volumes of the container are.
            let value = value
                .strip_prefix("/scratch")
                .map_or(value.clone(), |rest| format!("{}/scratch{rest}", volumes.display()));
            command.env(name, value);
        }
        let log = volumes.join("log");
        self.processes.insert(key.clone(), Running::start("a worker in a pod", &mut command, &log));
    }

    /// Of a process that has ended.
    fn exit_code(&mut self, key: &Key) -> Option<i32> {
        let process = self.processes.get_mut(key)?;
        if !process.ended() {
            return None;
        }
        let code = process.wait(LOOK);
        self.processes.remove(key);
        Some(code)
    }

    /// Ends the container of a pod that is deleted: its exit code, once it has.
    fn end(&mut self, key: &Key) -> Option<i32> {
        if !self.processes.contains_key(key) {
            return Some(TERMINATED);
        }
        let code = self.exit_code(key);
        if let Some(process) = self.processes.get(key).filter(|_| code.is_none() && self.told.insert(key.clone())) {
            process.signal(Signal::TERM);
        }
        code
    }
}
