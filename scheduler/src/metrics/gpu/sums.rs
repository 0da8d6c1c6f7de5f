//! Sums over GPUs, by function and model.

use super::super::make::Maker;
use super::super::names::{OTHER, lock};
use framewake_proto::wire::GpuSample;
use framewake_proto::xid::{Blame, blame};
use prometheus::{Counter, CounterVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pairs of function and model that are told apart; one takes about 4 KB of the page.
const KINDS_MAX: usize = 100;
/// No board takes more watts; a counter that says so is broken.
const POWER_MAX_W: f64 = 2000.0;
/// Errors between two samples beyond which the counter is broken.
const ECC_STEP_MAX: u64 = 1_000_000;
/// Xids have small numbers; others are somebody's invention.
const XID_MAX: u32 = 255;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// Sizes at which boards are sold, and between.
const MEMORY_GIB: [f64; 14] = [1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 48.0, 64.0, 80.0, 141.0];
const TEMPERATURES: [f64; 9] = [30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0];
/// Bits of nvmlClocksThrottleReasons that take speed away. The others (idle, clocks set by people or for a display) don't.
const THROTTLES: [(u64, &str); 5] = [
    (0x4, "power_cap"),
    (0x8, "hardware"),
    (0x20, "software_thermal"),
    (0x40, "hardware_thermal"),
    (0x80, "power_brake"),
];

/// By function and model.
type Kinds = HashMap<(Arc<str>, Arc<str>), Arc<Kind>>;

#[derive(Debug)]
pub(super) struct Sums {
    samples: IntCounterVec,
    seconds: CounterVec,
    busy_seconds: CounterVec,
    encoder_seconds: CounterVec,
    energy_joules: CounterVec,
    throttled_seconds: CounterVec,
    memory_peak_bytes: HistogramVec,
    temperature: HistogramVec,
    xids: IntCounterVec,
    ecc_errors: IntCounterVec,
    kinds: Mutex<Kinds>,
}

/// The metrics of one function on one model.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) function: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) memory_peak: Histogram,
    samples: IntCounter,
    seconds: Counter,
    busy_seconds: Counter,
    encoder_seconds: Counter,
    energy_joules: Counter,
    temperature: Histogram,
}

impl Sums {
    pub(super) fn new(make: &Maker) -> Sums {
        const KIND: &[&str] = &["function", "gpu"];
        let memory = MEMORY_GIB.map(|gib| gib * GIB);
        Sums {
            samples: make.counters("framewake_gpu_samples_total", "Samples of GPUs heard.", KIND),
            seconds: make.sums("framewake_gpu_seconds_total", "Time that GPUs were held by workers.", KIND),
            busy_seconds: make.sums("framewake_gpu_busy_seconds_total", "The part of it in which kernels ran.", KIND),
            encoder_seconds: make.sums(
                "framewake_gpu_encoder_seconds_total",
                "The part of it in which the encoder ran.",
                KIND,
            ),
            energy_joules: make.sums("framewake_gpu_energy_joules_total", "Energy that GPUs took.", KIND),
            throttled_seconds: make.sums(
                "framewake_gpu_throttled_seconds_total",
                "Time in which clocks were held down.",
                &["function", "gpu", "reason"],
            ),
            memory_peak_bytes: make.histograms(
                "framewake_gpu_memory_peak_bytes",
                "Most memory of a GPU in use during an attempt.",
                &memory,
                KIND,
            ),
            temperature: make.histograms(
                "framewake_gpu_sample_temperature_celsius",
                "Temperatures of GPUs, one a sample.",
                &TEMPERATURES,
                &["gpu"],
            ),
            xids: make.counters(
                "framewake_gpu_xids_total",
                "Xids that drivers told, by number and who is to blame.",
                &["gpu", "xid", "blame"],
            ),
            ecc_errors: make.counters("framewake_gpu_ecc_errors_total", "Memory errors.", &["gpu", "kind"]),
            kinds: Mutex::default(),
        }
    }

    pub(super) fn kind(&self, function: &Arc<str>, model: &Arc<str>) -> Arc<Kind> {
        let mut kinds = lock(&self.kinds);
        let asked = (Arc::clone(function), Arc::clone(model));
        if let Some(kind) = kinds.get(&asked) {
            return Arc::clone(kind);
        }
        let full = kinds.len() >= KINDS_MAX;
        let (function, model) = if full { (OTHER.into(), OTHER.into()) } else { asked };
        let made = || Arc::new(self.make_kind(&function, &model));
        Arc::clone(kinds.entry((Arc::clone(&function), Arc::clone(&model))).or_insert_with(made))
    }

    fn make_kind(&self, function: &Arc<str>, model: &Arc<str>) -> Kind {
        let labels = [function.as_ref(), model.as_ref()];
        Kind {
            function: Arc::clone(function),
            model: Arc::clone(model),
            memory_peak: self.memory_peak_bytes.with_label_values(&labels),
            samples: self.samples.with_label_values(&labels),
            seconds: self.seconds.with_label_values(&labels),
            busy_seconds: self.busy_seconds.with_label_values(&labels),
            encoder_seconds: self.encoder_seconds.with_label_values(&labels),
            energy_joules: self.energy_joules.with_label_values(&labels),
            temperature: self.temperature.with_label_values(&[model.as_ref()]),
        }
    }

    /// What happened between two samples of a GPU.
    pub(super) fn between(&self, kind: &Kind, before: &GpuSample, after: &GpuSample, passed: Duration) {
        let seconds = passed.as_secs_f64();
        let share = |percent: Option<u32>| f64::from(percent.unwrap_or(0).min(100)) / 100.0;
        kind.seconds.inc_by(seconds);
        kind.busy_seconds.inc_by(seconds * share(after.busy_percent));
        kind.encoder_seconds.inc_by(seconds * share(after.encoder_percent));
        kind.energy_joules.inc_by(energy_joules(before, after, seconds));
        let reasons = after.throttle_reasons.unwrap_or(0);
        for (_, reason) in THROTTLES.iter().filter(|(bit, _)| reasons & bit != 0) {
            let labels = [kind.function.as_ref(), kind.model.as_ref(), reason];
            self.throttled_seconds.with_label_values(&labels).inc_by(seconds);
        }
        let errors = [
            ("corrected", before.ecc_corrected, after.ecc_corrected),
            ("uncorrected", before.ecc_uncorrected, after.ecc_uncorrected),
        ];
        for (name, before, after) in errors {
            let more = before.zip(after).map_or(0, |(before, after)| risen(before, after));
            if (1..=ECC_STEP_MAX).contains(&more) {
                self.ecc_errors.with_label_values(&[kind.model.as_ref(), name]).inc_by(more);
            }
        }
    }

    pub(super) fn xid(&self, kind: &Kind, xid: u32) {
        let number = if xid <= XID_MAX { xid.to_string() } else { OTHER.to_owned() };
        let blame = match blame(xid) {
            Blame::Application => "application",
            Blame::Hardware => "hardware",
            Blame::Unclear => "unclear",
        };
        self.xids.with_label_values(&[kind.model.as_ref(), number.as_str(), blame]).inc();
    }
}

impl Kind {
    /// What counts by one sample alone.
    pub(super) fn at(&self, sample: &GpuSample) {
        self.samples.inc();
        if let Some(celsius) = sample.temperature_celsius {
            self.temperature.observe(celsius.into());
        }
    }
}

/// How far a counter rose that begins anew with its driver.
fn risen(before: u64, after: u64) -> u64 {
    if after >= before { after - before } else { after }
}

/// By the counter, or by the power of the moment where there is no counter, or one that can't be.
fn energy_joules(before: &GpuSample, after: &GpuSample, seconds: f64) -> f64 {
    let most = POWER_MAX_W * seconds;
    let counted = before.energy_millijoules.zip(after.energy_millijoules);
    let counted = counted.map(|(before, after)| risen(before, after) as f64 / 1000.0).filter(|joules| *joules <= most);
    let by_power = || f64::from(after.power_milliwatts.unwrap_or(0)) / 1000.0 * seconds;
    counted.unwrap_or_else(by_power).min(most)
}
