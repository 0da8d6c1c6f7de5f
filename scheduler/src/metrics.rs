//! What a scheduler counts, for Prometheus. Label values come from enums and route patterns only, so that their
//! number is bounded.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Seconds, from a tenth of a millisecond to the longest request.
const SECONDS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const BATCH_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Every metric of the scheduler, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Jobs accepted, each once.
    pub jobs_submitted: IntCounter,
    /// By `state`: succeeded, failed, canceled.
    pub jobs_finished: IntCounterVec,
    /// Results of tries at tasks, by `verdict`.
    pub tasks: IntCounterVec,
    pub attempts_started: IntCounter,
    /// By `outcome`.
    pub attempts_ended: IntCounterVec,
    pub orders_published: IntCounter,
    pub workers_started: IntCounter,
    /// Times a place was set aside.
    pub places_set_aside: IntCounter,
    /// By `state`.
    pub schedules: IntGaugeVec,
    /// Due times of schedules, by `outcome`: submitted, waiting, skipped, refused.
    pub schedules_runs: IntCounterVec,
    /// Runs that missed a deadline, by `deadline`: start, finish.
    pub schedules_late: IntCounterVec,
    /// By `state`.
    pub workers: IntGaugeVec,
    /// Events the engine took at once.
    pub engine_batch_events: Histogram,
    /// Events that wait for the engine.
    pub engine_inbox_events: IntGauge,
    /// One transaction of the store, synced to disk.
    pub store_commit_seconds: Histogram,
    /// 1 while NATS is connected.
    pub nats_connected: IntGauge,
    /// By `route` (its pattern), `method` and `status`.
    pub request_seconds: HistogramVec,
    /// Requests refused, by `code` of the problem.
    pub problems: IntCounterVec,
    pub event_streams: IntGauge,
    pub upload_bytes: IntCounter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let build = make.gauges("framewake_build_info", "The running version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Metrics {
            jobs_submitted: make.counter("framewake_jobs_submitted_total", "Jobs accepted."),
            jobs_finished: make.counters("framewake_jobs_finished_total", "Jobs that are over.", &["state"]),
            tasks: make.counters("framewake_tasks_total", "Results of tries at tasks.", &["verdict"]),
            attempts_started: make.counter("framewake_attempts_started_total", "Chunks claimed by workers."),
            attempts_ended: make.counters("framewake_attempts_ended_total", "Attempts that ended.", &["outcome"]),
            orders_published: make.counter("framewake_orders_published_total", "Orders published to JetStream."),
            workers_started: make.counter("framewake_workers_started_total", "Workers asked of the provider."),
            places_set_aside: make.counter(
                "framewake_places_set_aside_total",
                "Times a machine or GPU was set aside because it fails what others render.",
            ),
            schedules: make.gauges("framewake_schedules", "Schedules there are.", &["state"]),
            schedules_runs: make.counters(
                "framewake_schedules_runs_total",
                "Due times of schedules, and runs by hand.",
                &["outcome"],
            ),
            schedules_late: make.counters(
                "framewake_schedules_late_total",
                "Runs of schedules that missed a deadline.",
                &["deadline"],
            ),
            workers: make.gauges("framewake_workers", "Workers there are.", &["state"]),
            engine_batch_events: make.histogram(
                "framewake_engine_batch_events",
                "Events applied and committed at once.",
                &BATCH_SIZES,
            ),
            engine_inbox_events: make.gauge("framewake_engine_inbox_events", "Events that wait for the engine."),
            store_commit_seconds: make.histogram(
                "framewake_store_commit_seconds",
                "One transaction, synced to disk.",
                &SECONDS,
            ),
            nats_connected: make.gauge("framewake_nats_connected", "1 while NATS is connected."),
            request_seconds: make.histograms(
                "framewake_request_seconds",
                "Time from a request's head to its answer's head.",
                &SECONDS,
                &["route", "method", "status"],
            ),
            problems: make.counters("framewake_problems_total", "Requests refused.", &["code"]),
            event_streams: make.gauge("framewake_event_streams", "Open streams of events and logs."),
            upload_bytes: make.counter("framewake_upload_bytes_total", "Bytes of inputs received."),
            registry,
        }
    }

    /// The text that `GET /metrics` answers.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a vector takes every byte");
        String::from_utf8(text).expect("the format is text")
    }
}

/// Makes metrics of one registry. Names and labels are literals above, so a clash shows in the first test.
struct Maker<'a> {
    registry: &'a Registry,
}

const REGISTERED_ONCE: &str = "every name is valid and registered once";

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let metric = IntCounter::new(name, help).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let metric = IntGauge::new(name, help).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(options).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels).expect(REGISTERED_ONCE);
        self.registry.register(Box::new(metric.clone())).expect(REGISTERED_ONCE);
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_printed_as_prometheus_reads_them() {
        let metrics = Metrics::new();
        metrics.jobs_submitted.inc();
        metrics.tasks.with_label_values(&["done"]).inc_by(3);
        let text = metrics.text();
        assert!(text.contains("framewake_jobs_submitted_total 1\n"), "{text}");
        assert!(text.contains("framewake_tasks_total{verdict=\"done\"} 3\n"), "{text}");
    }
}
