//! How a worker is, read from its Job and its pod: whether it waits and for what, runs, or how it ended.

use super::template::{CONTAINER, KUEUE};
use crate::{End, InstanceState, StartStep};
use framewake_proto::time::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// Longest reason that is passed on, in bytes: the API server's may name every node.
const REASON_MAX: usize = 600;

/// What the worker's own exit codes mean (`docs/own-dockerfile.md`).
const EXIT_TASKS_FAILED: i32 = 65;
const EXIT_UNAVAILABLE: i32 = 69;
const EXIT_TAKEN_AWAY: i32 = 75;
const EXIT_UNFIT: i32 = 78;

/// `note` is what events say beside: why a pod isn't made, what holds up one that is.
pub(super) fn state(job: Option<&Job>, pod: Option<&Pod>, note: &str) -> InstanceState {
    // Held back before it ran, it waits as if it had no pod: it will have another.
    let held = |pod: &Pod| pod.metadata.deletion_timestamp.is_some() && job.is_some_and(is_suspended) && !has_run(pod);
    if let Some(pod) = pod.filter(|pod| !held(pod)) {
        return of_pod(pod, job, note);
    }
    let Some(job) = job else {
        return ended_away("its Job was deleted by somebody else");
    };
    if let Some(end) = job_end(job) {
        return InstanceState::Ended(end);
    }
    if is_suspended(job) {
        return waiting(match queue(job) {
            Some(queue) => format!("suspended: the queue `{queue}` of Kueue has not admitted it yet"),
            None => "suspended: somebody holds its Job back".to_owned(),
        });
    }
    waiting(note.to_owned())
}

/// Why a worker that ran has no pod any more, though its Job is not over.
pub(super) fn taken_back(job: Option<&Job>) -> String {
    match job.filter(|job| is_suspended(job)).map(queue) {
        Some(Some(queue)) => format!("the queue `{queue}` of Kueue took its place back"),
        Some(None) => "somebody suspended its Job".to_owned(),
        None => "its pod was taken away".to_owned(),
    }
}

fn has_run(pod: &Pod) -> bool {
    let Some(state) = pod.status.as_ref().and_then(container_state) else { return false };
    state.running.is_some() || state.terminated.as_ref().is_some_and(|terminated| terminated.started_at.is_some())
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
}

/// The queue of Kueue that the Job is in.
fn queue(job: &Job) -> Option<&String> {
    job.metadata.labels.as_ref()?.get(KUEUE)
}

fn of_pod(pod: &Pod, job: Option<&Job>, note: &str) -> InstanceState {
    let default = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&default);
    let container = container_state(status);
    let ended = matches!(status.phase.as_deref(), Some("Failed"));
    if ended && pod.metadata.deletion_timestamp.is_some() && job.is_some_and(is_suspended) {
        return ended_away(&taken_back(job));
    }
    match status.phase.as_deref() {
        Some("Succeeded") => return InstanceState::Ended(End::Left),
        Some("Failed") => return InstanceState::Ended(pod_end(pod, status, container)),
        _ => {}
    }
    if let Some(terminated) = container.and_then(|state| state.terminated.as_ref()) {
        return InstanceState::Ended(if terminated.exit_code == 0 {
            End::Left
        } else {
            pod_end(pod, status, container)
        });
    }
    if container.is_some_and(|state| state.running.is_some()) {
        return InstanceState::Running;
    }
    // Kueue may take a Job back before its pod has run.
    if pod.metadata.deletion_timestamp.is_none()
        && let Some(end) = job.and_then(job_end)
    {
        return InstanceState::Ended(end);
    }
    waiting(pod_waits(status, container, note))
}

/// What a pod waits for that doesn't run yet; empty while all goes as it should.
fn pod_waits(status: &PodStatus, container: Option<&ContainerState>, note: &str) -> String {
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|scheduled| scheduled.status == "False") {
        let message = scheduled.message.as_deref().unwrap_or("no node fits");
        let reason = match scheduled.reason.as_deref() {
            Some("SchedulingGated") => format!("held back by a scheduling gate: {message}"),
            _ => unschedulable(message),
        };
        return if note.is_empty() { reason } else { format!("{reason}; {note}") };
    }
    let Some(waiting) = container.and_then(|state| state.waiting.as_ref()) else { return note.to_owned() };
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref() {
        None | Some("ContainerCreating" | "PodInitializing") => note.to_owned(),
        Some(reason) if message.is_empty() => reason.to_owned(),
        Some(reason) => format!("{}{reason}: {message}", remedy(message)),
    }
}

/// Words of runtimes and registries, and what to do about it; before their message, which may be long.
const REMEDIES: [(&[&str], &str); 4] = [
    (
        &[
            "401 Unauthorized",
            "403 Forbidden",
            "authorization failed",
            "no basic auth",
            "access denied",
            "insufficient_scope",
        ],
        "its registry wants a login (name a Secret with one in `image_pull_secrets` of the pool): ",
    ),
    (&["no match for platform", "no matching manifest"], "its image is not made for the machines of this pool: "),
    (&["exec format error"], "its image is made for another kind of processor than its machine has: "),
    (
        &["framewake-worker: no such file", "framewake-worker\": executable file not found"],
        "its image lacks framewake-worker: ",
    ),
];

fn remedy(message: &str) -> &'static str {
    let said = |words: &&[&str]| words.iter().any(|word| message.contains(word));
    REMEDIES.iter().find(|(words, _)| said(words)).map_or("", |(_, remedy)| remedy)
}

/// `0/5 nodes are available: 5 Insufficient nvidia.com/gpu.`: first what is missing.
fn unschedulable(message: &str) -> String {
    let mut missing: Vec<&str> = message
        .split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([' ', ',']).next())
        .map(|name| name.trim_end_matches('.'))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        format!("Unschedulable: {message}")
    } else {
        format!("Unschedulable: no node with {} free ({message})", missing.join(" and "))
    }
}

/// How a pod ended that did not end well.
fn pod_end(pod: &Pod, status: &PodStatus, container: Option<&ContainerState>) -> End {
    if let Some(disrupted) = condition(status, "DisruptionTarget").filter(|disrupted| disrupted.status == "True") {
        return taken_away(&disruption(disrupted));
    }
    let message = status.message.as_deref().unwrap_or_default();
    match status.reason.as_deref() {
        // Of older kubelets, which set no condition.
        Some(reason @ ("NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" | "Preempting")) => {
            return taken_away(&with(reason, message));
        }
        // Evicted, without being a target: it took more of the node's disk than it asked for.
        Some(reason) => return failed(&with(reason, message)),
        None => {}
    }
    let deleted = pod.metadata.deletion_timestamp.is_some();
    match container.and_then(|state| state.terminated.as_ref()) {
        Some(terminated) => exit_end(terminated, deleted),
        None if deleted => taken_away("its pod was deleted before it ran"),
        None => failed("its pod failed, and Kubernetes does not say why"),
    }
}

fn exit_end(terminated: &ContainerStateTerminated, deleted: bool) -> End {
    let code = terminated.exit_code;
    let message = terminated.message.as_deref().unwrap_or_default();
    let last = message.lines().rev().find(|line| !line.trim().is_empty()).map_or("", str::trim);
    let words = |what: &str| format!("{}{}", remedy(last), with(what, last));
    match (terminated.reason.as_deref(), code) {
        (_, 0 | EXIT_TASKS_FAILED) => End::Left,
        (Some("OOMKilled"), _) => failed("OOMKilled: it took more memory than its function asks for"),
        // The runtime could not start it: no watchdog in the image, or one of another architecture.
        (Some(reason @ ("StartError" | "ContainerCannotRun")), _) => {
            failed(&format!("{}{}", remedy(message), with(reason, message)))
        }
        (_, EXIT_TAKEN_AWAY) => taken_away("it had to go before its work was done, and handed back the rest"),
        (_, 143 | 137) if deleted => taken_away("its pod was deleted"),
        (_, EXIT_UNAVAILABLE) => failed(&words("NATS or the scheduler was not there, or refused it (exit code 69)")),
        (_, EXIT_UNFIT) => failed(&words("its function can't run there (exit code 78)")),
        (_, code @ 129..=192) => failed(&words(&format!("killed by signal {}", code - 128))),
        _ => failed(&words(&format!("exit code {code}"))),
    }
}

/// The end of a Job, where its pod is gone already.
fn job_end(job: &Job) -> Option<End> {
    let conditions = job.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let met = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    if met("Complete").is_some() || met("SuccessCriteriaMet").is_some() {
        return Some(End::Left);
    }
    let JobCondition { reason, message, .. } = met("Failed").or_else(|| met("FailureTarget"))?;
    let (reason, message) = (reason.as_deref().unwrap_or("Failed"), message.as_deref().unwrap_or_default());
    // By the rule of the template.
    if reason == "PodFailurePolicy" && message.contains("DisruptionTarget") {
        return Some(taken_away("its machine was taken away, and its pod with it"));
    }
    Some(failed(&with(reason, message)))
}

/// Who pushed a pod out, in words.
fn disruption(condition: &PodCondition) -> String {
    let what = match condition.reason.as_deref().unwrap_or_default() {
        "PreemptionByScheduler" => "pushed out by a pod of higher priority",
        "DeletionByTaintManager" => "its node was tainted, or does not answer",
        "EvictionByEvictionAPI" => "evicted, as when its node is drained",
        "DeletionByPodGC" => "its node is gone",
        "TerminationByKubelet" => "its node shuts down or is short of something",
        other => return with(other, condition.message.as_deref().unwrap_or_default()),
    };
    with(what, condition.message.as_deref().unwrap_or_default())
}

/// When a worker came how far. `image_at` is from events.
pub(super) fn steps(
    job: Option<&Job>,
    pod: Option<&Pod>,
    image_at: Option<Timestamp>,
) -> BTreeMap<StartStep, Timestamp> {
    let mut steps = BTreeMap::new();
    let mut came = |step, at: Option<&Time>| {
        if let Some(at) = at {
            steps.insert(step, Timestamp(at.0.as_millisecond()));
        }
    };
    let made = job.map(|job| &job.metadata).or(pod.map(|pod| &pod.metadata));
    came(StartStep::Created, made.and_then(|metadata| metadata.creation_timestamp.as_ref()));
    if let Some(status) = pod.and_then(|pod| pod.status.as_ref()) {
        let scheduled = condition(status, "PodScheduled").filter(|scheduled| scheduled.status == "True");
        came(StartStep::Scheduled, scheduled.and_then(|scheduled| scheduled.last_transition_time.as_ref()));
        if let Some(state) = container_state(status) {
            let ran = state.terminated.as_ref().and_then(|terminated| terminated.started_at.as_ref());
            came(
                StartStep::ProcessStarted,
                state.running.as_ref().and_then(|running| running.started_at.as_ref()).or(ran),
            );
        }
    }
    if let Some(at) = image_at {
        steps.insert(StartStep::ImageReady, at);
    }
    steps
}

fn container_state(status: &PodStatus) -> Option<&ContainerState> {
    let all = status.container_statuses.as_deref().unwrap_or_default();
    all.iter().find(|container| container.name == CONTAINER).and_then(|container| container.state.as_ref())
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.as_deref().unwrap_or_default().iter().find(|condition| condition.type_ == kind)
}

fn waiting(reason: String) -> InstanceState {
    InstanceState::Waiting { reason: cut(reason) }
}

fn ended_away(reason: &str) -> InstanceState {
    InstanceState::Ended(taken_away(reason))
}

fn taken_away(reason: &str) -> End {
    End::TakenAway { reason: cut(reason.to_owned()) }
}

fn failed(reason: &str) -> End {
    End::Failed { reason: cut(reason.to_owned()) }
}

fn with(what: &str, message: &str) -> String {
    if message.is_empty() { what.to_owned() } else { format!("{what}: {message}") }
}

fn cut(mut text: String) -> String {
    if text.len() > REASON_MAX {
        text.truncate(text.floor_char_boundary(REASON_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
