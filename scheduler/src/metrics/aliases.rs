//! The same figures under names that dashboards of others ask for.

use super::farm::{Ended, Load};
use super::make::Maker;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

/// Whose names are offered besides our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Alias {
    /// `DCGM_FI_DEV_…` of NVIDIA's dcgm-exporter, for each GPU.
    Dcgm,
    /// `gateway_…` of `OpenFaaS`, for each function: an attempt is an invocation.
    #[value(name = "openfaas")]
    OpenFaas,
}

/// Seconds of an invocation; fewer than of our own histogram, because each comes with five codes.
const SECONDS: [f64; 9] = [0.1, 1.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0];

#[derive(Debug)]
pub(super) struct OpenFaas {
    /// Functions are named with it, as the gateway does: `blender.openfaas-fn`.
    namespace: String,
    invocations: IntCounterVec,
    started: IntCounterVec,
    seconds: HistogramVec,
    wanted: IntGaugeVec,
    ready: IntGaugeVec,
}

impl OpenFaas {
    pub(super) fn new(make: &Maker, namespace: &str) -> OpenFaas {
        let (function, coded) = (&["function_name"], &["function_name", "code"]);
        OpenFaas {
            namespace: namespace.to_owned(),
            invocations: make.counters("gateway_function_invocation_total", "Attempts that ended.", coded),
            started: make.counters("gateway_function_invocation_started", "Attempts that began.", function),
            seconds: make.histograms("gateway_functions_seconds", "Time of an attempt.", &SECONDS, coded),
            wanted: make.gauges("gateway_service_count", "Workers wanted.", function),
            ready: make.gauges("gateway_service_ready_count", "Workers there are.", function),
        }
    }

    pub(super) fn started(&self, function: &str) {
        self.started.with_label_values(&[&self.name(function)]).inc();
    }

    pub(super) fn ended(&self, function: &str, ended: &Ended) {
        let (name, code) = (self.name(function), code(ended));
        self.invocations.with_label_values(&[&name, code]).inc();
        if let Some(took) = ended.took {
            self.seconds.with_label_values(&[&name, code]).observe(took.as_secs_f64());
        }
    }

    pub(super) fn set_load(&self, function: &str, load: &Load) {
        let name = self.name(function);
        self.wanted.with_label_values(&[&name]).set(load.wanted.into());
        self.ready.with_label_values(&[&name]).set(i64::from(load.idle) + i64::from(load.busy));
    }

    fn name(&self, function: &str) -> String {
        format!("{function}.{}", self.namespace)
    }
}

/// The status that a gateway would have answered.
fn code(ended: &Ended) -> &'static str {
    match (ended.outcome, ended.failed) {
        ("finished", 0) => "200",
        ("finished", _) => "500",
        ("canceled", _) => "499",
        // Handed back, waiting for a license, lost with its worker: it comes again.
        _ => "503",
    }
}
