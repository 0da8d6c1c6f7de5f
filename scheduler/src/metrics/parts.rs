//! The scheduler itself: whether engine, store, queue and REST interface keep up.

use super::make::Maker;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Seconds, from a tenth of a millisecond to the longest request.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const BATCH_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

#[derive(Debug)]
pub struct Parts {
    pub(crate) engine_batch_events: Histogram,
    pub(crate) engine_turn_seconds: Histogram,
    pub(crate) engine_inbox_events: IntGauge,
    pub(crate) store_commit_seconds: Histogram,
    /// By `file`: database, wal.
    pub(crate) store_bytes: IntGaugeVec,
    pub(crate) nats_connected: IntGauge,
    /// By `stream`: orders, reports.
    pub(crate) jetstream_messages: IntGaugeVec,
    /// By `route` (its pattern), `method` and `status`.
    pub(crate) request_seconds: HistogramVec,
    /// By `code` of the problem.
    pub(crate) problems: IntCounterVec,
    pub(crate) event_streams: IntGauge,
    pub(crate) upload_bytes: IntCounter,
    /// By `way` and `outcome`: `delivered`, `failed` (to be tried again), `given_up`, `left_out` (too many waited).
    pub(crate) notifications: IntCounterVec,
    trace_spans: IntCounterVec,
}

impl Parts {
    pub(super) fn new(make: &Maker) -> Parts {
        let build = make.gauges("framewake_build_info", "The running version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let notifications = make.counters(
            "framewake_notifications_total",
            "Tries at telling somebody, and notifications that were left out because too many waited.",
            &["way", "outcome"],
        );
        // A counter that is first seen at 1 has not risen, for Prometheus.
        for way in ["webhook", "slack", "mail", "nats", "callback"] {
            for outcome in ["delivered", "failed", "given_up", "left_out"] {
                notifications.with_label_values(&[way, outcome]);
            }
        }
        let trace_spans = make.counters(
            "framewake_trace_spans_total",
            "Spans of traces: those a collector took, those lost on their way, and those a bound leaves out.",
            &["outcome"],
        );
        for outcome in ["sent", "failed", "dropped", "left_out"] {
            trace_spans.with_label_values(&[outcome]);
        }
        Parts {
            engine_batch_events: make.histogram(
                "framewake_engine_batch_events",
                "Events applied and committed at once.",
                &BATCH_SIZES,
            ),
            engine_turn_seconds: make.histogram(
                "framewake_engine_turn_seconds",
                "One turn of the engine: receive, apply, commit, perform.",
                &SECONDS,
            ),
            engine_inbox_events: make.gauge("framewake_engine_inbox_events", "Events that wait for the engine."),
            store_commit_seconds: make.histogram(
                "framewake_store_commit_seconds",
                "One transaction, synced to disk.",
                &SECONDS,
            ),
            store_bytes: make.gauges("framewake_store_bytes", "Size of the database's files.", &["file"]),
            nats_connected: make.gauge("framewake_nats_connected", "1 while NATS is connected."),
            jetstream_messages: make.gauges(
                "framewake_jetstream_messages",
                "Orders that wait to be claimed and reports that wait to be counted, on their streams.",
                &["stream"],
            ),
            request_seconds: make.histograms(
                "framewake_request_seconds",
                "Time from a request's head to its answer's head.",
                &SECONDS,
                &["route", "method", "status"],
            ),
            problems: make.counters("framewake_problems_total", "Requests refused.", &["code"]),
            event_streams: make.gauge("framewake_event_streams", "Open streams of events and logs."),
            upload_bytes: make.counter("framewake_upload_bytes_total", "Bytes of inputs received."),
            notifications,
            trace_spans,
        }
    }

    /// `outcome`: `sent`; `failed` (the collector did not take them), `dropped` (too many waited for it), `left_out` (by a
    /// bound of ours).
    pub(crate) fn count_spans(&self, outcome: &str, spans: u64) {
        self.trace_spans.with_label_values(&[outcome]).inc_by(spans);
    }
}
