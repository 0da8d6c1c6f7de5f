//! The last trace that fell into each bucket of the histograms of work, so that a graph leads to a job. Only of jobs that
//! are traced; as many as there are buckets.

use super::farm::Of;
use super::make::Maker;
use super::names::lock;
use framewake_proto::time::Timestamp;
use framewake_proto::trace::TraceId;
use prometheus::HistogramVec;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A measurement and the trace that it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exemplar {
    pub(super) trace: TraceId,
    pub(super) value: f64,
    pub(super) at: Timestamp,
}

/// By the series of the bucket, as it is printed. Bounded by the histograms' labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Exemplars(Arc<Mutex<HashMap<String, Exemplar>>>);

impl Exemplars {
    pub(super) fn all(&self) -> HashMap<String, Exemplar> {
        lock(&self.0).clone()
    }
}

/// Times by function.
#[derive(Debug)]
pub(super) struct Durations {
    name: &'static str,
    bounds: &'static [f64],
    histograms: HistogramVec,
    exemplars: Exemplars,
}

impl Durations {
    pub(super) fn new(
        make: &Maker,
        exemplars: &Exemplars,
        name: &'static str,
        help: &str,
        bounds: &'static [f64],
    ) -> Durations {
        let histograms = make.histograms(name, help, bounds, &["function"]);
        Durations { name, bounds, histograms, exemplars: exemplars.clone() }
    }

    pub(super) fn observe(&self, function: &str, took: Duration, of: Of) {
        let value = took.as_secs_f64();
        self.histograms.with_label_values(&[function]).observe(value);
        let Some((trace, at)) = of else { return };
        let bound = self.bounds.iter().find(|bound| value <= **bound);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), f64::to_string);
        let series = format!("{}_bucket{{function=\"{function}\",le=\"{bound}\"}}", self.name);
        lock(&self.exemplars.0).insert(series, Exemplar { trace, value, at });
    }
}
