//! The way of spans to the collector. The engine waits for nothing here: what the collector does not take in time is
//! dropped and counted.

use super::span::Span;
use super::{Error, TraceSettings};
use crate::metrics::Metrics;
use framewake_proto::wire::clip;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Spans on their way, of half a kilobyte each.
pub(crate) const WAITING_MAX: usize = 16 * 1024;
/// Spans of one request, about a quarter of a megabyte.
const TOGETHER_MAX: usize = 512;
/// How often spans are sent: a trace is seldom looked at sooner.
const SEND_EVERY: Duration = Duration::from_millis(500);
/// Longest time for one request with its repetitions.
const SEND_MAX: Duration = Duration::from_secs(15);
/// How long the scheduler's end waits for the last spans.
const END_MAX: Duration = Duration::from_secs(3);
/// How often a collector that takes nothing is said in the log.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);
/// Most of a collector's words that are passed on.
const REASON_MAX: usize = 300;

/// Where the engine puts spans.
#[derive(Debug)]
pub(crate) struct Outlet {
    spans: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

impl Outlet {
    pub(super) fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.metrics.parts.count_spans("dropped", 1);
        }
    }

    #[cfg(test)]
    pub(super) fn with_room(room: usize, metrics: &Arc<Metrics>) -> (Outlet, mpsc::Receiver<Span>) {
        let (spans, sent) = mpsc::channel(room);
        (Outlet { spans, metrics: metrics.clone() }, sent)
    }

    /// By a bound of ours.
    pub(super) fn left_out(&self, spans: u64) {
        self.metrics.parts.count_spans("left_out", spans);
    }
}

/// Takes spans to the collector.
pub(crate) struct Lane {
    spans: mpsc::Receiver<Span>,
    exporter: SpanExporter,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
    complained: Option<Instant>,
}

impl Lane {
    /// `None` where traces are off. Must be called inside the runtime.
    pub(crate) fn open(settings: &TraceSettings, metrics: &Arc<Metrics>) -> Result<Option<(Outlet, Lane)>, Error> {
        let Some(address) = settings.address()? else { return Ok(None) };
        // Another place than the operator's would get the headers, which are secrets.
        let client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(SEND_MAX).build()?;
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(address);
        let mut exporter = exporter.build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let service = Resource::builder_empty().with_service_name(settings.otel_service_name.clone());
        exporter.set_resource(&service.with_attribute(version).build());
        let (spans_in, spans) = mpsc::channel(WAITING_MAX);
        let scope = InstrumentationScope::builder("framewake").with_version(env!("CARGO_PKG_VERSION")).build();
        let outlet = Outlet { spans: spans_in, metrics: metrics.clone() };
        Ok(Some((outlet, Lane { spans, exporter, scope, metrics: metrics.clone(), complained: None })))
    }

    /// Runs until `stop`, and then for a moment, for what waits.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(END_MAX).await;
        };
        tokio::select! {
            () = self.send_all(&stop) => {}
            () = over => warn!("the collector of traces is too slow: the last spans are lost"),
        }
        self.metrics.parts.count_spans("dropped", self.spans.len() as u64);
    }

    async fn send_all(&mut self, stop: &CancellationToken) {
        let mut often = tokio::time::interval(SEND_EVERY);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = often.tick() => {}
                () = stop.cancelled() => {}
            }
            while !self.spans.is_empty() {
                self.send().await;
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    async fn send(&mut self) {
        let mut spans = Vec::new();
        let count = self.spans.recv_many(&mut spans, TOGETHER_MAX).await as u64;
        let spans = spans.into_iter().map(|span| span.into_data(&self.scope)).collect();
        let sent = tokio::time::timeout(SEND_MAX, self.exporter.export(spans)).await;
        let reason = match sent {
            Ok(Ok(())) => return self.metrics.parts.count_spans("sent", count),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", SEND_MAX.as_secs()),
        };
        self.metrics.parts.count_spans("failed", count);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            warn!(spans = count, "the collector does not take traces: {}", clip(&reason, REASON_MAX));
        }
    }
}
