//! The controllers and kubelets of the cluster: a pod for each Job, a node for each pod, and what becomes of its container.

use super::objects::{Key, Objects};
use super::{GPU, NAMESPACE, Shared, api};
use crate::parts::{Running, built, path};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How often running processes are looked at.
const LOOK: Duration = Duration::from_millis(20);

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
    let mut terminated = terminated.clone();
    terminated["startedAt"] = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
    terminated["finishedAt"] = json!(Timestamp::now());
    pod["status"]["phase"] = json!(if terminated["exitCode"] == 0 { "Succeeded" } else { "Failed" });
    pod["status"]["containerStatuses"] = container(&json!({ "terminated": terminated }));
}

fn container(state: &Value) -> Value {
    json!([{ "name": "worker", "ready": false, "restartCount": 0, "image": "i", "imageID": "i", "state": state }])
}

/// Makes of the objects what a cluster would, whenever they change.
pub(super) async fn run(shared: Arc<Shared>, nodes: Vec<u64>, workers: Workers) {
    let mut changed = shared.changed.subscribe();
    let mut kubelet = Kubelet { workers, processes: BTreeMap::new() };
    let mut look = tokio::time::interval(LOOK);
    loop {
        shared.change(|objects| {
            for job in objects.list("jobs.batch", NAMESPACE, "", "") {
                of_job(&shared, objects, &job);
            }
            for pod in objects.list("pods", NAMESPACE, "", "") {
                of_pod(&shared, objects, &pod, &nodes, &mut kubelet);
            }
        });
        tokio::select! {
            _ = changed.changed() => {}
            _ = look.tick() => {}
        }
    }
}

/// The Job controller, with a backoff limit of 0.
fn of_job(shared: &Shared, objects: &mut Objects, job: &Value) {
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    let key = ("jobs.batch".to_owned(), NAMESPACE.to_owned(), name.to_owned());
    if !job["status"]["conditions"].is_null() {
        return;
    }
    let pods = objects.list("pods", NAMESPACE, &format!("batch.kubernetes.io/job-name={name}"), "");
    if job["spec"]["suspend"] == true {
        for pod in pods {
            objects.modify(&pod_key(&pod), |pod| pod["metadata"]["deletionTimestamp"] = json!(Timestamp::now()));
        }
        return;
    }
    let Some(pod) = pods.first() else {
        // A pod that is gone has failed: its node took it along.
        if job["status"]["podMade"] == true {
            objects.modify(&key, |job| {
                finish(job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
            });
        } else {
            make_pod(shared, objects, job, &key);
        }
        return;
    };
    let disrupted = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "DisruptionTarget");
    match pod["status"]["phase"].as_str() {
        Some("Succeeded") => {
            objects.modify(&key, |job| finish(job, "Complete", "CompletionsReached", ""));
        }
        Some("Failed") if disrupted => {
            let why =
                format!("Pod {NAMESPACE}/{name}-pod has condition DisruptionTarget matching FailJob rule at index 0");
            objects.modify(&key, |job| finish(job, "Failed", "PodFailurePolicy", &why));
        }
        Some("Failed") => {
            let why = "Job has reached the specified backoff limit";
            objects.modify(&key, |job| finish(job, "Failed", "BackoffLimitExceeded", why));
        }
        _ => {}
    }
}

fn finish(job: &mut Value, kind: &str, reason: &str, message: &str) {
    job["status"]["conditions"] = json!([{ "type": kind, "status": "True", "reason": reason, "message": message }]);
}

fn make_pod(shared: &Shared, objects: &mut Objects, job: &Value, key: &Key) {
    let name = format!("{}-pod", key.2);
    let template = &job["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!(name);
    metadata["labels"]["batch.kubernetes.io/job-name"] = json!(key.2);
    metadata["ownerReferences"] =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": key.2, "uid": job["metadata"]["uid"] }]);
    let pod = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": template["spec"], "status": { "phase": "Pending" } });
    let image = shared.image(template["spec"]["containers"][0]["image"].as_str().unwrap_or_default());
    let wanted = gpus(&pod, GPU);
    let refused = match image {
        Image::Denied { message } => Some(message.to_owned()),
        _ => api::quota("pods", NAMESPACE, &name, &format!("requests.{GPU}"), wanted, objects)
            .err()
            .map(|refusal| refusal.message),
    };
    match refused {
        None => {
            let _ = objects.create("pods", NAMESPACE, pod);
            objects.modify(key, |job| job["status"]["podMade"] = json!(true));
        }
        Some(why) => event(objects, "Job", &key.2, "Warning", "FailedCreate", &format!("Error creating: {why}")),
    }
}

/// Told once for each object and reason.
fn event(objects: &mut Objects, kind: &str, name: &str, severity: &str, reason: &str, message: &str) {
    let event = json!({
        "metadata": { "name": format!("{name}.{}", reason.to_lowercase()) }, "type": severity, "reason": reason, "message": message,
        "involvedObject": { "kind": kind, "name": name, "namespace": NAMESPACE }, "lastTimestamp": Timestamp::now(),
    });
    let _ = objects.create("events", NAMESPACE, event);
}

/// The garbage collector, the scheduler and the kubelet of a pod.
fn of_pod(shared: &Shared, objects: &mut Objects, pod: &Value, nodes: &[u64], kubelet: &mut Kubelet) {
    let key = pod_key(pod);
    let owner = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
    let owned = objects.get(&("jobs.batch".to_owned(), NAMESPACE.to_owned(), owner.to_owned()));
    let orphan = owned.is_none_or(|job| job["metadata"]["uid"] != pod["metadata"]["ownerReferences"][0]["uid"]);
    if orphan || !pod["metadata"]["deletionTimestamp"].is_null() {
        if kubelet.ended(&key, pod) {
            let _ = objects.delete(&key);
        } else if pod["metadata"]["deletionTimestamp"].is_null() {
            let grace = pod["spec"]["terminationGracePeriodSeconds"].clone();
            objects.modify(&key, |pod| {
                pod["metadata"]["deletionTimestamp"] = json!(Timestamp::now());
                pod["metadata"]["deletionGracePeriodSeconds"] = grace;
            });
        }
        return;
    }
    if is_over(pod) {
        return;
    }
    if pod["spec"]["nodeName"].is_null() {
        place(objects, pod, &key, nodes);
        return;
    }
    let image = shared.image(pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default());
    let state = &pod["status"]["containerStatuses"][0]["state"];
    match image {
        _ if !state["running"].is_null() => {
            if let Some(code) = kubelet.exit_code(&key) {
                objects.modify(&key, |pod| exited(pod, &json!({ "exitCode": code })));
            }
        }
        Image::Waits { reason, message } => {
            let waiting = container(&json!({ "waiting": { "reason": reason, "message": message } }));
            objects.modify(&key, |pod| pod["status"]["containerStatuses"] = waiting);
        }
        Image::Rejected { reason } => {
            objects.modify(&key, |pod| {
                pod["status"]["phase"] = json!("Failed");
                pod["status"]["reason"] = json!(reason);
                pod["status"]["message"] = json!("Pod was rejected: requested number of devices unavailable");
            });
        }
        Image::Runs | Image::Exits(_) | Image::Denied { .. } => {
            kubelet.start(&key, pod);
            event(objects, "Pod", &key.2, "Normal", "Pulled", "Successfully pulled image");
            objects.modify(&key, |pod| {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["containerStatuses"] =
                    container(&json!({ "running": { "startedAt": Timestamp::now() } }));
                if let Image::Exits(terminated) = &image {
                    exited(pod, terminated);
                }
            });
        }
    }
}

/// A node with GPUs enough that are free.
fn place(objects: &mut Objects, pod: &Value, key: &Key, nodes: &[u64]) {
    let wanted = gpus(pod, GPU);
    let pods = objects.list("pods", NAMESPACE, "", "");
    let used = |node: &str| -> u64 {
        let there = pods.iter().filter(|pod| pod["spec"]["nodeName"] == node && !is_over(pod));
        there.map(|pod| gpus(pod, GPU)).sum()
    };
    let found = (0..nodes.len()).find(|at| used(&format!("node-{at}")) + wanted <= nodes[*at]);
    let (status, reason, message) = if found.is_some() {
        ("True", "", String::new())
    } else {
        let count = nodes.len();
        ("False", "Unschedulable", format!("0/{count} nodes are available: {count} Insufficient {GPU}."))
    };
    objects.modify(key, |pod| {
        if let Some(at) = found {
            pod["spec"]["nodeName"] = json!(format!("node-{at}"));
        }
        // As it was, if nothing is new: an answer that says the same is no change.
        if pod["status"]["conditions"][0]["status"] != status {
            let at = Timestamp::now();
            let condition = json!({ "type": "PodScheduled", "status": status, "reason": reason, "message": message, "lastTransitionTime": at });
            pod["status"]["conditions"] = json!([condition]);
        }
    });
}

fn pod_key(pod: &Value) -> Key {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    ("pods".to_owned(), NAMESPACE.to_owned(), name.to_owned())
}

/// The processes of containers.
struct Kubelet {
    workers: Workers,
    processes: BTreeMap<Key, Running>,
}

impl Kubelet {
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

    /// Ends the container of a pod that is deleted; whether it has ended.
    fn ended(&mut self, key: &Key, pod: &Value) -> bool {
        let Some(process) = self.processes.get_mut(key) else { return true };
        if process.ended() {
            self.processes.remove(key);
            return true;
        }
        if pod["metadata"]["deletionTimestamp"].is_null() {
            process.signal(rustix::process::Signal::TERM);
        }
        false
    }
}
