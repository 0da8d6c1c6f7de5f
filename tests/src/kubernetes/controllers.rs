//! The controllers and the scheduler of a cluster that is here: a pod for each Job, a node for each pod, and an end for both.

use super::nodes::{Image, gpus, is_over, pod_key};
use super::objects::{Key, Objects};
use super::{GPU, Shared, api};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};

/// Makes of the objects what a control plane would.
pub(super) fn control(shared: &Shared, objects: &mut Objects, nodes: &[u64]) {
    for job in objects.list("jobs.batch", "", "", "") {
        of_job(shared, objects, &job);
    }
    for pod in objects.list("pods", "", "", "") {
        of_pod(objects, &pod, nodes);
    }
}

/// The Job controller, with a backoff limit of 0.
fn of_job(shared: &Shared, objects: &mut Objects, job: &Value) {
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = job["metadata"]["namespace"].as_str().unwrap_or_default();
    let key = ("jobs.batch".to_owned(), namespace.to_owned(), name.to_owned());
    if !job["status"]["conditions"].is_null() {
        return;
    }
    let pods = objects.list("pods", namespace, &format!("batch.kubernetes.io/job-name={name}"), "");
    if job["spec"]["suspend"] == true {
        for pod in pods {
            objects.modify(&pod_key(&pod), |pod| {
                if pod["metadata"]["deletionTimestamp"].is_null() {
                    pod["metadata"]["deletionTimestamp"] = json!(Timestamp::now());
                }
            });
        }
        // Resumed, it has another.
        objects.modify(&key, |job| {
            if job["status"]["podMade"] == true {
                job["status"]["podMade"] = json!(false);
            }
        });
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
                format!("Pod {namespace}/{name}-pod has condition DisruptionTarget matching FailJob rule at index 0");
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
        _ => api::quota("pods", &key.1, &name, &format!("requests.{GPU}"), wanted, objects)
            .err()
            .map(|refusal| refusal.message),
    };
    match refused {
        None => {
            let _ = objects.create("pods", &key.1, pod);
            objects.modify(key, |job| job["status"]["podMade"] = json!(true));
        }
        Some(why) => {
            let _ = objects.create(
                "events",
                &key.1,
                event("Job", key, "Warning", "FailedCreate", &format!("Error creating: {why}")),
            );
        }
    }
}

/// Told once for each object and reason.
pub(super) fn event(kind: &str, of: &Key, severity: &str, reason: &str, message: &str) -> Value {
    let (_, namespace, name) = of;
    json!({
        "metadata": { "name": format!("{name}.{}", reason.to_lowercase()) }, "type": severity, "reason": reason, "message": message,
        "involvedObject": { "kind": kind, "name": name, "namespace": namespace }, "lastTimestamp": Timestamp::now(),
    })
}

/// The garbage collector and the scheduler.
fn of_pod(objects: &mut Objects, pod: &Value, nodes: &[u64]) {
    let key = pod_key(pod);
    let owner = &pod["metadata"]["ownerReferences"][0];
    let named = owner["name"].as_str().unwrap_or_default();
    let owned = objects.get(&("jobs.batch".to_owned(), key.1.clone(), named.to_owned()));
    let orphan = owned.is_none_or(|job| job["metadata"]["uid"] != owner["uid"]);
    let placed = !pod["spec"]["nodeName"].is_null();
    if orphan && pod["metadata"]["deletionTimestamp"].is_null() {
        let grace = pod["spec"]["terminationGracePeriodSeconds"].clone();
        objects.modify(&key, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!(Timestamp::now());
            pod["metadata"]["deletionGracePeriodSeconds"] = grace.clone();
        });
    } else if !placed && !pod["metadata"]["deletionTimestamp"].is_null() {
        let _ = objects.delete(&key);
    } else if !placed && !is_over(pod) {
        place(objects, pod, &key, nodes);
    }
}

/// A node with GPUs enough that are free.
fn place(objects: &mut Objects, pod: &Value, key: &Key, nodes: &[u64]) {
    let wanted = gpus(pod, GPU);
    let pods = objects.list("pods", "", "", "");
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
