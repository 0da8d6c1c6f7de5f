//! Ids of spans: a digest of the trace and of what the span is about, so that they need not be remembered.

use framewake_proto::ids::AttemptId;
use framewake_proto::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use sha2::{Digest, Sha256};

/// Of a job that nobody traced before it was submitted.
pub(super) fn new_trace() -> TraceId {
    let trace = RandomIdGenerator::default().new_trace_id();
    TraceId(u128::from_be_bytes(trace.to_bytes()).max(1))
}

/// A job may be submitted under each span once, so what it hangs under tells it apart.
pub(super) fn job(trace: TraceId, parent: Option<SpanId>) -> SpanId {
    child(trace, parent.unwrap_or(SpanId(0)), "job", 0)
}

pub(super) fn step(trace: TraceId, job: SpanId, step: usize) -> SpanId {
    child(trace, job, "step", step as u64)
}

pub(super) fn attempt(trace: TraceId, step: SpanId, attempt: AttemptId) -> SpanId {
    child(trace, child(trace, step, "chunk", attempt.chunk.0), "attempt", attempt.number.into())
}

/// The span of this number and kind under another.
pub(super) fn child(trace: TraceId, parent: SpanId, what: &str, number: u64) -> SpanId {
    let mut digest = Sha256::new();
    digest.update(trace.0.to_be_bytes());
    digest.update(parent.0.to_be_bytes());
    digest.update(number.to_be_bytes());
    digest.update(what);
    let digest: [u8; 32] = digest.finalize().into();
    let (first, _) = digest.split_first_chunk().expect("it has 32 bytes");
    SpanId(u64::from_be_bytes(*first).max(1))
}
