#![allow(clippy::needless_pass_by_value)] // What a test is about is written where it is used.

use super::*;
use serde_json::{Value, json};

/// A pod with this status.
fn pod(status: Value) -> Pod {
    let pod = json!({
        "metadata": { "name": "w1-abcde", "creationTimestamp": "2026-11-21T10:00:01Z" },
        "spec": { "nodeName": "node-1", "containers": [] }, "status": status,
    });
    serde_json::from_value(pod).expect("a pod")
}

fn job(more: Value) -> Job {
    let mut job = json!({
        "metadata": { "name": "w1", "creationTimestamp": "2026-11-21T10:00:00Z" },
        "spec": { "template": { "spec": { "containers": [] } } },
    });
    for (key, value) in more.as_object().expect("an object") {
        for (name, value) in value.as_object().expect("an object") {
            job[key][name] = value.clone();
        }
    }
    serde_json::from_value(job).expect("a Job")
}

/// The state of the worker's container, in a pod of this phase.
fn container(phase: &str, state: Value) -> Value {
    json!({
        "phase": phase,
        "containerStatuses": [{ "name": "worker", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state }],
    })
}

fn exited(more: Value) -> Value {
    let mut terminated = json!({ "exitCode": 1, "startedAt": "2026-11-21T10:00:20Z" });
    for (key, value) in more.as_object().expect("an object") {
        terminated[key] = value.clone();
    }
    container("Failed", json!({ "terminated": terminated }))
}

fn waits(status: Value) -> String {
    match state(Some(&job(json!({}))), Some(&pod(status)), "") {
        InstanceState::Waiting { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn ended(pod: &Pod) -> End {
    match state(Some(&job(json!({}))), Some(pod), "") {
        InstanceState::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

fn check_taken(pod: &Pod, words: &str) {
    let end = ended(pod);
    assert!(matches!(&end, End::TakenAway { reason } if reason.contains(words)), "{words}: {end:?}");
}

fn check_failed(status: Value, words: &str) {
    let end = ended(&pod(status));
    assert!(matches!(&end, End::Failed { reason } if reason.contains(words)), "{words}: {end:?}");
}

fn conditioned(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!([{ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-21T10:00:05Z" }])
}

#[test]
fn a_worker_that_is_not_there_says_why() {
    let unscheduled = |message: &str| json!({ "phase": "Pending", "conditions": conditioned("PodScheduled", "False", "Unschedulable", message) });
    let reason = waits(unscheduled(
        "0/5 nodes are available: 2 Insufficient cpu, 5 Insufficient nvidia.com/gpu. preemption: 0/5 …",
    ));
    assert!(reason.starts_with("Unschedulable: no node with cpu and nvidia.com/gpu free (0/5 nodes"), "{reason}");
    let reason = waits(unscheduled("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."));
    assert!(reason.starts_with("Unschedulable: 0/1 nodes are available: 1 node(s) didn't match"), "{reason}");
    let gated = conditioned("PodScheduled", "False", "SchedulingGated", "kueue.x-k8s.io/admission");
    assert!(waits(json!({ "phase": "Pending", "conditions": gated })).contains("gate"));

    let waiting = |reason: &str, message: &str| {
        container("Pending", json!({ "waiting": { "reason": reason, "message": message } }))
    };
    assert_eq!(waits(waiting("ContainerCreating", "")), "");
    for reason in
        ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "RunContainerError"]
    {
        assert_eq!(
            waits(waiting(reason, "secret \"store\" not found")),
            format!("{reason}: secret \"store\" not found")
        );
    }
    assert_eq!(waits(waiting("ErrImagePull", "")), "ErrImagePull");
    assert_eq!(waits(json!({ "phase": "Pending" })), "");
}

#[test]
fn events_say_what_the_objects_do_not() {
    let quota = "quota: pods \"w1-x\" is forbidden: exceeded quota: gpus";
    let no_pod = state(Some(&job(json!({}))), None, quota);
    assert_eq!(no_pod, InstanceState::Waiting { reason: quota.to_owned() });
    let unscheduled =
        pod(json!({ "phase": "Pending", "conditions": conditioned("PodScheduled", "False", "Unschedulable", "none") }));
    let both = state(None, Some(&unscheduled), "no machine can be made for it: max node group size reached");
    assert!(
        matches!(both, InstanceState::Waiting { reason } if reason.starts_with("Unschedulable: none; no machine can"))
    );
}

#[test]
fn a_suspended_job_waits_for_its_queue() {
    let held = job(json!({
        "spec": { "suspend": true }, "metadata": { "labels": { "kueue.x-k8s.io/queue-name": "gpu" } },
        "status": { "conditions": [{ "type": "Suspended", "status": "True" }] },
    }));
    let InstanceState::Waiting { reason } = state(Some(&held), None, "") else { panic!("it waits") };
    assert!(reason.contains("`gpu`") && reason.contains("Kueue"), "{reason}");
}

#[test]
fn a_worker_that_runs_runs_whatever_becomes_of_its_job() {
    let running = pod(container("Running", json!({ "running": { "startedAt": "2026-11-21T10:00:20Z" } })));
    assert_eq!(state(Some(&job(json!({}))), Some(&running), ""), InstanceState::Running);
    assert_eq!(state(None, Some(&running), ""), InstanceState::Running, "its Job was deleted: it finishes its frame");
    let failed =
        job(json!({ "status": { "conditions": [{ "type": "FailureTarget", "status": "True", "reason": "x" }] } }));
    assert_eq!(state(Some(&failed), Some(&running), ""), InstanceState::Running);
}

#[test]
fn exit_codes_are_what_workers_mean_by_them() {
    let left = pod(container("Running", json!({ "terminated": { "exitCode": 0 } })));
    assert_eq!(ended(&left), End::Left, "the phase comes later");
    assert_eq!(ended(&pod(json!({ "phase": "Succeeded" }))), End::Left);
    check_failed(
        exited(json!({ "message": "starting\nerror: the scene is gone\n" })),
        "exit code 1: error: the scene is gone",
    );
    assert_eq!(ended(&pod(exited(json!({ "exitCode": 65 })))), End::Left, "its tasks failed, and the farm knows");
    check_failed(exited(json!({ "exitCode": 69 })), "69");
    check_failed(
        exited(json!({ "exitCode": 78, "message": "--store is missing" })),
        "can't run there (exit code 78): --store",
    );
    check_taken(&pod(exited(json!({ "exitCode": 75 }))), "handed back the rest");
    check_failed(exited(json!({ "exitCode": 137 })), "signal 9");
    check_failed(exited(json!({ "exitCode": 139 })), "signal 11");
    check_failed(exited(json!({ "exitCode": 137, "reason": "OOMKilled" })), "OOMKilled: it took more memory");
    let missing =
        json!({ "exitCode": 128, "reason": "StartError", "message": "exec: \"framewake-worker\": not found" });
    check_failed(exited(missing), "StartError: exec: \"framewake-worker\"");
}

#[test]
fn what_the_place_took_away_is_no_failure_of_the_worker() {
    for (reason, words) in [
        ("PreemptionByScheduler", "higher priority"),
        ("DeletionByTaintManager", "tainted"),
        ("EvictionByEvictionAPI", "drained"),
        ("DeletionByPodGC", "its node is gone"),
        ("TerminationByKubelet", "shuts down or is short"),
        ("Somebody", "Somebody: told"),
    ] {
        let mut status = exited(json!({ "exitCode": 143 }));
        status["conditions"] = conditioned("DisruptionTarget", "True", reason, "told");
        check_taken(&pod(status), words);
    }
    let mut deleted = pod(exited(json!({ "exitCode": 137 })));
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    check_taken(&deleted, "deleted");
    check_taken(&pod(json!({ "phase": "Failed", "reason": "NodeLost", "message": "node-1" })), "NodeLost: node-1");
    // The pod went with its machine: its Job tells.
    let message = "Pod render/w1-x has condition DisruptionTarget matching FailJob rule at index 0";
    let condition = json!({ "type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": message });
    let failed = job(json!({ "status": { "conditions": [condition] } }));
    assert!(matches!(state(Some(&failed), None, ""), InstanceState::Ended(End::TakenAway { .. })));
    assert!(
        matches!(state(None, None, ""), InstanceState::Ended(End::TakenAway { reason }) if reason.contains("deleted"))
    );
}

#[test]
fn what_a_pod_did_to_itself_is() {
    let why = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"20Gi\".";
    check_failed(json!({ "phase": "Failed", "reason": "Evicted", "message": why }), "Evicted: Usage of EmptyDir");
    let why = "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu";
    check_failed(
        json!({ "phase": "Failed", "reason": "OutOfnvidia.com/gpu", "message": why }),
        "OutOfnvidia.com/gpu: Pod was",
    );
    check_failed(
        json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError", "message": why }),
        "UnexpectedAdmissionError",
    );
    let condition = json!({ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached it" });
    let failed = job(json!({ "status": { "conditions": [condition] } }));
    let end = state(Some(&failed), None, "");
    assert!(matches!(end, InstanceState::Ended(End::Failed { reason }) if reason.contains("BackoffLimitExceeded")));
    let complete = job(json!({ "status": { "conditions": [{ "type": "Complete", "status": "True" }] } }));
    assert_eq!(state(Some(&complete), None, ""), InstanceState::Ended(End::Left));
}

#[test]
fn a_start_has_the_times_that_the_place_tells() {
    let mut status = container("Running", json!({ "running": { "startedAt": "2026-11-21T10:00:20Z" } }));
    status["conditions"] = conditioned("PodScheduled", "True", "", "");
    let second = |s: i64| Timestamp(1_795_255_200_000 + s * 1000);
    let told = steps(Some(&job(json!({}))), Some(&pod(status)), Some(second(18)));
    let expected = [
        (StartStep::Created, second(0)),
        (StartStep::Scheduled, second(5)),
        (StartStep::ImageReady, second(18)),
        (StartStep::ProcessStarted, second(20)),
    ];
    assert_eq!(told, expected.into());
    assert_eq!(steps(None, None, None), BTreeMap::new());
}

#[test]
fn a_long_reason_is_cut_between_letters() {
    let reason =
        waits(container("Pending", json!({ "waiting": { "reason": "ErrImagePull", "message": "ä".repeat(2000) } })));
    assert!(reason.len() <= REASON_MAX + '…'.len_utf8() && reason.ends_with('…'), "{}", reason.len());
}

#[test]
fn what_is_wrong_with_an_image_says_what_to_do_about_it() {
    let pulling = |message: &str| {
        waits(container("Pending", json!({ "waiting": { "reason": "ErrImagePull", "message": message } })))
    };
    let login = "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized";
    let said = pulling(login);
    assert!(said.starts_with("its registry wants a login (name a Secret") && said.contains("401"), "{said}");
    let said = pulling("no match for platform in manifest: not found");
    assert!(said.starts_with("its image is not made for the machines of this pool: ErrImagePull"), "{said}");
    assert_eq!(pulling("not found"), "ErrImagePull: not found");
    for (exit, words) in [
        (
            json!({ "exitCode": 255, "message": "exec /usr/bin/framewake-worker: exec format error\n" }),
            "another kind of processor",
        ),
        (
            json!({ "exitCode": 128, "reason": "StartError", "message": "exec: \"/usr/bin/framewake-worker\": executable file not found in $PATH" }),
            "its image lacks framewake-worker: StartError",
        ),
    ] {
        let end = ended(&pod(exited(exit)));
        assert!(matches!(&end, End::Failed { reason } if reason.contains(words)), "{words}: {end:?}");
    }
}

#[test]
fn a_job_that_kueue_holds_waits_before_it_ran_and_has_ended_after() {
    let held =
        job(json!({ "spec": { "suspend": true }, "metadata": { "labels": { "kueue.x-k8s.io/queue-name": "gpu" } } }));
    let deleted = |status: Value| -> Pod {
        let mut pod = pod(status);
        pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
        pod
    };
    let never_ran =
        container("Failed", json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown" } }));
    let found = state(Some(&held), Some(&deleted(never_ran)), "");
    assert!(
        matches!(&found, InstanceState::Waiting { reason } if reason.contains("has not admitted it yet")),
        "{found:?}"
    );
    let handed_back = deleted(exited(json!({ "exitCode": 75 })));
    let found = state(Some(&held), Some(&handed_back), "");
    let told = |end: &End| matches!(end, End::TakenAway { reason } if reason == "the queue `gpu` of Kueue took its place back");
    assert!(matches!(&found, InstanceState::Ended(end) if told(end)), "{found:?}");
    // One that was done in the same moment was done.
    let done = container("Succeeded", json!({ "terminated": { "exitCode": 0, "startedAt": "2026-11-21T10:00:20Z" } }));
    assert_eq!(state(Some(&held), Some(&deleted(done)), ""), InstanceState::Ended(End::Left));
}
