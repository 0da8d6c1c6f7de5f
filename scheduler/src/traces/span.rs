//! A span as we make it, and as OpenTelemetry's exporter takes it.

use framewake_proto::time::Timestamp;
use framewake_proto::trace::{SpanId, TraceId};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::time::{Duration, SystemTime};

#[derive(Debug)]
pub(crate) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    /// Names the kind of thing: what it is of stands in the attributes.
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) attributes: Vec<KeyValue>,
    /// In a word; what renderers say stays here.
    pub(super) failed: Option<&'static str>,
}

impl Span {
    #[must_use]
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Span {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    pub(super) fn into_data(self, scope: &InstrumentationScope) -> SpanData {
        let id = |span: SpanId| opentelemetry::trace::SpanId::from_bytes(span.0.to_be_bytes());
        let trace = opentelemetry::trace::TraceId::from_bytes(self.trace.0.to_be_bytes());
        SpanData {
            span_context: SpanContext::new(trace, id(self.id), TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: id(self.parent.unwrap_or(SpanId(0))),
            parent_span_is_remote: self.kind == SpanKind::Server,
            span_kind: self.kind,
            name: self.name.into(),
            start_time: system(self.start),
            end_time: system(self.end.max(self.start)),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: scope.clone(),
        }
    }
}

fn system(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}
