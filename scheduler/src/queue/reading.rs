//! What workers send, as the rules understand it. A worker may be of another version, broken or hostile: what
//! it says is bounded here.

use framewake_core::event::{
    AttemptEnd, Event, GpuUse, GpuWord, Moments, Progress, Report, ReportedTime, TaskFailure, TaskResult,
};
use framewake_core::gpus::Gpu;
use framewake_core::values::{LogSize, Place};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, WorkerId};
use framewake_proto::verdict::Verdict;
use framewake_proto::wire;
use prost::Message as _;
use std::time::Duration;

/// Longest name of a machine (RFC 1035) and of a GPU.
pub(crate) const HOST_MAX: usize = 255;
pub(crate) const GPU_MAX: usize = 128;
/// Most bytes of anything: the largest number that a row of the store can hold.
const BYTES_MAX: u64 = i64::MAX.cast_unsigned();

/// News of an attempt, or why the message is none.
pub(crate) fn report(payload: &[u8]) -> Result<Event, String> {
    if payload.len() > 2 * wire::MESSAGE_SIZE_MAX {
        return Err(format!("it has {} bytes", payload.len()));
    }
    let report = wire::Report::decode(payload).map_err(|error| error.to_string())?;
    let end = match report.end() {
        wire::AttemptEnd::None => None,
        wire::AttemptEnd::Finished => Some(AttemptEnd::Finished),
        wire::AttemptEnd::HandedBack => Some(AttemptEnd::HandedBack),
        wire::AttemptEnd::Canceled => Some(AttemptEnd::Canceled),
        wire::AttemptEnd::LicenseWait => Some(AttemptEnd::LicenseWait),
    };
    let worker = report.worker.parse().map_err(|_| "it names an impossible worker".to_owned())?;
    let attempt = AttemptId { chunk: ChunkId(report.chunk), number: report.attempt };
    let spent = reported_time(&report);
    let done = report.done.into_iter().map(task_result).collect::<Result<_, _>>()?;
    let report = Report {
        spent,
        done,
        failed: report.failed.into_iter().map(task_failure).collect(),
        released: wire::task_set(&report.released),
        load_ms: report.load_ms,
        staged_ms: report.staged_ms,
        end,
        log: LogSize {
            kept_bytes: report.log_bytes.min(BYTES_MAX),
            left_out_bytes: report.log_left_out_bytes.min(BYTES_MAX),
        },
    };
    Ok(Event::AttemptReported { worker, attempt, report })
}

/// What its failures and uploads took.
fn reported_time(report: &wire::Report) -> ReportedTime {
    let mut spent = ReportedTime::default();
    for failed in &report.failed {
        let preempted = failed.verdict == Verdict::Preempted.as_str();
        *(if preempted { &mut spent.preempted_ms } else { &mut spent.failed_ms }) += u64::from(failed.elapsed_ms);
    }
    spent.upload_ms = report.done.iter().map(|done| u64::from(done.upload_ms)).sum();
    spent
}

fn task_result(done: wire::TaskDone) -> Result<TaskResult, String> {
    // A step without output has no digest.
    let sha256 = if done.sha256.is_empty() { vec![0; 32] } else { done.sha256 };
    Ok(TaskResult {
        task: done.task,
        key: done.key,
        sha256: sha256.try_into().map_err(|_| "a digest has the wrong length".to_owned())?,
        size_bytes: done.size_bytes.min(BYTES_MAX),
        width: done.width,
        height: done.height,
        device: wire::clip(&done.device, 200).to_owned(),
        renderer: wire::clip(&done.renderer, 200).to_owned(),
        elapsed_ms: done.elapsed_ms,
        found: done.found,
        memory_peak_bytes: done.memory_peak_bytes.min(BYTES_MAX),
        gpu: GpuUse {
            energy_millijoules: done.energy_millijoules.map(|energy| energy.min(BYTES_MAX)),
            vram_peak_bytes: done.vram_peak_bytes.map(|bytes| bytes.min(BYTES_MAX)),
            busy_permille: done.gpu_busy_permille.map(|busy| busy.min(1000)),
            busy_max_permille: done.gpu_busy_max_permille.map(|busy| busy.min(1000)),
        },
        moments: moments(done.moments),
    })
}

fn task_failure(failed: wire::TaskFailed) -> TaskFailure {
    TaskFailure {
        task: failed.task,
        // A verdict of a newer worker that this scheduler does not know is a failure like any other.
        verdict: failed.verdict.parse().unwrap_or(Verdict::RetrySame),
        message: wire::clip(&failed.message, wire::FAILURE_MESSAGE_MAX).to_owned(),
        evidence: wire::clip_front(&failed.evidence, wire::EVIDENCE_MAX).to_owned(),
        gpu: match (failed.gpu_fault, failed.xid) {
            (Some(fault), _) => {
                let (uuid, reason) = broke(&fault);
                GpuWord::Broke { uuid, reason }
            }
            (None, 0) => GpuWord::Nothing,
            (None, xid) => GpuWord::Xid(xid),
        },
        moments: moments(failed.moments),
    }
}

fn moments(told: Option<wire::TaskMoments>) -> Moments {
    let wire::TaskMoments { began_ms, rendered_ms, uploading_ms, ended_ms } = told.unwrap_or_default();
    Moments { began_ms, rendered_ms, uploading_ms, ended_ms }
}

/// What its GPUs are, as far as their driver tells.
pub(crate) fn gpus(heartbeat: &wire::Heartbeat) -> Vec<Gpu> {
    let places = places(heartbeat);
    let samples = heartbeat.gpu_samples.iter().take(wire::GPUS_MAX);
    let known = |sample: &wire::GpuSample| {
        let place = places.iter().find(|place| place.is_gpu(wire::clip(sample.uuid.trim(), GPU_MAX)))?;
        Some(described(place.clone(), sample))
    };
    samples.filter_map(known).collect()
}

/// A GPU as its driver describes it.
pub(crate) fn described(place: Place, sample: &wire::GpuSample) -> Gpu {
    Gpu {
        place,
        uuid: wire::clip(sample.uuid.trim(), GPU_MAX).to_owned(),
        model: wire::clip(sample.model.trim(), GPU_MAX).to_owned(),
        driver: sample.driver_version.parse().ok(),
        memory_bytes: sample.memory_total_bytes,
    }
}

fn broke(fault: &wire::GpuFault) -> (String, String) {
    let reason = wire::clip(&fault.reason, wire::FAILURE_MESSAGE_MAX).to_owned();
    (wire::clip(fault.uuid.trim(), GPU_MAX).to_owned(), reason)
}

/// Those of its places that the worker says are broken.
pub(crate) fn broken(heartbeat: &wire::Heartbeat) -> Vec<(Place, String)> {
    let places = places(heartbeat);
    let faults = heartbeat.gpu_faults.iter().take(wire::GPUS_MAX).map(broke);
    let known =
        |(uuid, reason): (String, String)| Some((places.iter().find(|place| place.is_gpu(&uuid))?.clone(), reason));
    faults.filter_map(known).collect()
}

/// The worker and function of a heartbeat, if its names are names.
pub(crate) fn who(heartbeat: &wire::Heartbeat) -> Option<(WorkerId, FunctionKey)> {
    let function = FunctionKey { name: heartbeat.function.parse().ok()?, version: heartbeat.function_version };
    Some((heartbeat.worker.parse().ok()?, function))
}

/// Where a worker runs: its GPUs, or its machine if it names none.
pub(crate) fn places(heartbeat: &wire::Heartbeat) -> Vec<Place> {
    let host = wire::clip(heartbeat.host.trim(), HOST_MAX);
    if host.is_empty() {
        return Vec::new();
    }
    let gpus = heartbeat.gpus.iter().map(|gpu| gpu.trim()).filter(|gpu| !gpu.is_empty()).take(wire::GPUS_MAX);
    let gpus: Vec<Place> = gpus.map(|gpu| Place::new(&format!("{host}/{}", wire::clip(gpu, GPU_MAX)))).collect();
    if gpus.is_empty() { vec![Place::new(host)] } else { gpus }
}

/// Model of its first GPU; empty if it names none.
pub(crate) fn gpu(heartbeat: &wire::Heartbeat) -> String {
    let model = heartbeat.gpu_samples.first().map_or("", |sample| sample.model.trim());
    wire::clip(model, GPU_MAX).to_owned()
}

/// For how long it has run, and how long it took from its start to NATS.
pub(crate) fn beginning(heartbeat: &wire::Heartbeat) -> (Option<Duration>, Option<Duration>) {
    let (age, connected) = (heartbeat.age_ms, heartbeat.connected_ms);
    (age.map(Duration::from_millis), connected.map(Duration::from_millis))
}

pub(crate) fn progress(heartbeat: &wire::Heartbeat) -> Option<Progress> {
    let progress = heartbeat.progress.as_ref()?;
    let note = wire::clip(&progress.note, wire::NOTE_MAX).to_owned();
    Some(Progress { permille: progress.permille.min(1000), note })
}
