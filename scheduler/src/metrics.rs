//! What a scheduler counts, for Prometheus. Label values come from enums, from route patterns, and from bounded lists of
//! names (`names`), so that their number is bounded; jobs and workers are never among them.
//!
//! `docs/monitoring.md` says what each is for; a test holds names here, there, in the dashboards and in the rules
//! against each other.

mod aliases;
mod cost;
mod exemplars;
pub mod farm;
mod gpu;
mod make;
mod names;
mod open;
mod parts;
mod process;
mod text;

pub use aliases::Alias;
pub use cost::Cost;
pub use farm::Farm;
pub use gpu::Gpus;
pub use parts::Parts;

use aliases::OpenFaas;
use exemplars::Exemplars;
use farm::FUNCTIONS_MAX;
use framewake_proto::time::Timestamp;
use make::Maker;
use names::Names;
use prometheus::{Encoder, Registry, TextEncoder};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every metric of the scheduler, registered once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Kept only of jobs that are traced.
    exemplars: Exemplars,
    /// Set where traces are on.
    has_exemplars: AtomicBool,
    pub farm: Farm,
    pub gpus: Gpus,
    pub parts: Parts,
    pub cost: Cost,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(&[], "")
    }
}

impl Metrics {
    /// With the names of others that are asked for; `namespace` is that of `OpenFaaS`' clients.
    pub fn new(aliases: &[Alias], namespace: &str) -> Metrics {
        let registry = Registry::new();
        let exemplars = Exemplars::default();
        let make = Maker { registry: &registry };
        let functions = Arc::new(Names::new(FUNCTIONS_MAX));
        let openfaas = aliases.contains(&Alias::OpenFaas).then(|| OpenFaas::new(&make, namespace));
        Metrics {
            farm: Farm::new(&make, Arc::clone(&functions), openfaas, &exemplars),
            cost: Cost::new(&make, Arc::clone(&functions)),
            gpus: Gpus::new(&make, functions, aliases.contains(&Alias::Dcgm)),
            parts: Parts::new(&make),
            registry,
            exemplars,
            has_exemplars: AtomicBool::new(false),
        }
    }

    /// Traces are on.
    pub(crate) fn with_exemplars(&self) {
        self.has_exemplars.store(true, Ordering::Relaxed);
    }

    /// The same page as `OpenMetrics`, with the traces behind it; `None` where there are none.
    pub fn open_text(&self, now: Timestamp) -> Option<String> {
        self.has_exemplars.load(Ordering::Relaxed).then(|| open::written(&self.text(now), &self.exemplars.all()))
    }

    /// The text that `GET /metrics` answers.
    pub fn text(&self, now: Timestamp) -> String {
        let mut text = String::new();
        // First: GPUs that are forgotten now leave their last figures in the sums.
        self.gpus.write(now, &mut text);
        process::write(&mut text);
        let mut bytes = text.into_bytes();
        TextEncoder::new().encode(&self.registry.gather(), &mut bytes).expect("a vector takes every byte");
        String::from_utf8(bytes).expect("the format is text")
    }
}

#[cfg(test)]
mod tests {
    use super::farm::STARTS_MAX;
    use super::*;
    use framewake_proto::start::StartPoint;
    use std::time::Duration;

    #[test]
    fn metrics_are_printed_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.farm.jobs_submitted.inc();
        for _ in 0..3 {
            metrics.farm.task_done(&"blender".parse().expect("a name"), Some(Duration::from_secs(2)), 10, None);
        }
        let text = metrics.text(Timestamp(0));
        assert!(text.contains("framewake_jobs_submitted_total 1\n"), "{text}");
        assert!(text.contains("framewake_tasks_total{function=\"blender\",verdict=\"done\"} 3\n"), "{text}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
        assert!(!text.contains("gateway_"), "names of others only when they are asked for");
    }

    #[test]
    fn functions_past_the_bound_share_one_label() {
        let metrics = Metrics::new(&[Alias::OpenFaas], "openfaas-fn");
        for at in 0..2 * FUNCTIONS_MAX {
            let function = format!("f{at}").parse().expect("a name");
            metrics.farm.attempt_started(&function);
            metrics.farm.step_began(&function, Duration::ZERO, None);
        }
        let text = metrics.text(Timestamp(0));
        let series = text.lines().filter(|line| line.starts_with("framewake_attempts_started_total{")).count();
        assert_eq!(series, FUNCTIONS_MAX + 1);
        assert!(text.contains(&format!("framewake_attempts_started_total{{function=\"other\"}} {FUNCTIONS_MAX}\n")));
        assert!(text.contains(&format!(
            "gateway_function_invocation_started{{function_name=\"other.openfaas-fn\"}} {FUNCTIONS_MAX}"
        )));
    }

    #[test]
    fn functions_in_pools_past_the_bound_share_one_pool() {
        let metrics = Metrics::default();
        let (function, took) = ("blender".parse().expect("a name"), [(StartPoint::Image, Duration::from_secs(40))]);
        for at in 0..2 * STARTS_MAX {
            metrics.farm.worker_came(&function, &format!("pool-{at}").parse().expect("a name"), &took);
        }
        let text = metrics.text(Timestamp(0));
        let series = text.lines().filter(|line| line.starts_with("framewake_cold_start_seconds_count{"));
        assert_eq!(series.count(), STARTS_MAX + 1);
        let other = "{function=\"blender\",phase=\"image\",pool=\"other\"}";
        assert!(text.contains(&format!("framewake_cold_start_seconds_count{other} {STARTS_MAX}\n")), "{text}");
    }
}
