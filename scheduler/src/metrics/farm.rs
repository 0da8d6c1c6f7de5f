//! Work and workers: what waits, what is done, how long it takes, what fails. By function, never by job or worker.

use super::aliases::OpenFaas;
use super::exemplars::{Durations, Exemplars};
use super::make::Maker;
use super::names::{Names, OTHER};
use framewake_proto::budget::BudgetView;
use framewake_proto::ids::Name;
use framewake_proto::start::StartPoint;
use framewake_proto::time::Timestamp;
use framewake_proto::trace::TraceId;
use framewake_proto::verdict::Verdict;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Functions that are told apart. With histograms one takes about 12 KB of the page.
pub(super) const FUNCTIONS_MAX: usize = 50;
/// Functions in pools that are told apart where workers come: each takes ten histograms, about 20 KB of the page.
pub(super) const STARTS_MAX: usize = 50;
/// Seconds, from the fastest ray tracer's frame to a day.
const WORK_SECONDS: [f64; 17] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0];
/// Seconds, from a process on this machine to a node that must be bought first.
const START_SECONDS: [f64; 13] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

/// As the store names them.
const OUTCOMES: [&str; 5] = ["finished", "handed_back", "canceled", "license_wait", "lost"];

/// A function at one moment, all versions together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    pub wanted: u32,
    pub starting: u32,
    pub idle: u32,
    pub busy: u32,
    pub draining: u32,
    pub starts_failed: u32,
    pub tasks_waiting: u64,
    pub chunks_offered: u64,
    pub chunks_held: u64,
    pub oldest_waiting: Duration,
}

/// The farm at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loads {
    pub functions: BTreeMap<Name, Load>,
    /// By state.
    pub places: BTreeMap<&'static str, u64>,
    pub jobs: u64,
    pub budgets: Vec<BudgetView>,
}

/// An attempt that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) outcome: &'static str,
    /// Unknown for one that began before this scheduler.
    pub(crate) took: Option<Duration>,
    pub(crate) log_bytes: u64,
    pub(crate) log_left_out_bytes: u64,
    /// Tasks that failed in it.
    pub(crate) failed: u32,
}

/// The trace that a measurement is of, where its job is traced, and when it was made.
pub(super) type Of = Option<(TraceId, Timestamp)>;

#[derive(Debug)]
pub struct Farm {
    names: Arc<Names>,
    openfaas: Option<OpenFaas>,
    pub(crate) jobs_submitted: IntCounter,
    pub(crate) jobs_finished: IntCounterVec,
    jobs_open: IntGauge,
    tasks: IntCounterVec,
    frame_seconds: Durations,
    load_seconds: HistogramVec,
    output_bytes: IntCounterVec,
    cpu_fallbacks: IntCounterVec,
    attempts_started: IntCounterVec,
    attempts_ended: IntCounterVec,
    attempt_seconds: Durations,
    log_bytes: IntCounterVec,
    log_left_out_bytes: IntCounterVec,
    tasks_waiting: IntGaugeVec,
    oldest_waiting: IntGaugeVec,
    wait_seconds: Durations,
    chunks: IntGaugeVec,
    orders_published: IntCounterVec,
    workers_wanted: IntGaugeVec,
    workers: IntGaugeVec,
    workers_started: IntCounterVec,
    workers_ended: IntCounterVec,
    starts_failed: IntGaugeVec,
    /// Functions in pools that are told apart in it.
    starts: Names,
    cold_start_seconds: HistogramVec,
    heartbeats: IntCounterVec,
    places: IntGaugeVec,
    pub(crate) places_set_aside: IntCounter,
    pub(crate) schedules: IntGaugeVec,
    pub(crate) schedules_runs: IntCounterVec,
    pub(crate) schedules_late: IntCounterVec,
}

impl Farm {
    pub(super) fn new(make: &Maker, names: Arc<Names>, openfaas: Option<OpenFaas>, exemplars: &Exemplars) -> Farm {
        const FUNCTION: &[&str] = &["function"];
        let work = |name, help| make.histograms(name, help, &WORK_SECONDS, FUNCTION);
        let of_jobs = |name, help| Durations::new(make, exemplars, name, help, &WORK_SECONDS);
        let counts = |name, help| make.counters(name, help, FUNCTION);
        let states = |name, help| make.gauges(name, help, FUNCTION);
        let farm = Farm {
            names,
            openfaas,
            jobs_submitted: make.counter("framewake_jobs_submitted_total", "Jobs accepted, each once."),
            jobs_finished: make.counters("framewake_jobs_finished_total", "Jobs that are over.", &["state"]),
            jobs_open: make.gauge("framewake_jobs_open", "Jobs that are not over."),
            tasks: make.counters(
                "framewake_tasks_total",
                "Results of tries at tasks; a frame is a task.",
                &["function", "verdict"],
            ),
            frame_seconds: of_jobs("framewake_frame_seconds", "Time a task took, without its load."),
            load_seconds: work("framewake_load_seconds", "Time from a claim until its renderer was ready."),
            output_bytes: counts("framewake_output_bytes_total", "Bytes of committed outputs."),
            cpu_fallbacks: counts(
                "framewake_cpu_fallbacks_total",
                "Tries at tasks that asked for a GPU and were made without one.",
            ),
            attempts_started: counts("framewake_attempts_started_total", "Chunks claimed by workers."),
            attempts_ended: make.counters(
                "framewake_attempts_ended_total",
                "Attempts that ended.",
                &["function", "outcome"],
            ),
            attempt_seconds: of_jobs("framewake_attempt_seconds", "Time from a claim to the end of its attempt."),
            log_bytes: counts("framewake_log_bytes_total", "Bytes of renderers' logs that were kept."),
            log_left_out_bytes: counts(
                "framewake_log_left_out_bytes_total",
                "Bytes that renderers said and that were left out of logs that were too long.",
            ),
            tasks_waiting: states("framewake_tasks_waiting", "Tasks that may run and that no worker holds."),
            oldest_waiting: states(
                "framewake_oldest_waiting_seconds",
                "How long the first in line has waited; of the first of each project and priority, the longest.",
            ),
            wait_seconds: of_jobs("framewake_wait_seconds", "Time from a step being ready to its first claim."),
            chunks: make.gauges("framewake_chunks", "Chunks on offer, or held by workers.", &["function", "state"]),
            orders_published: counts("framewake_orders_published_total", "Orders published to JetStream."),
            workers_wanted: states("framewake_workers_wanted", "Workers there should be."),
            workers: make.gauges("framewake_workers", "Workers there are.", &["function", "state"]),
            workers_started: counts("framewake_workers_started_total", "Workers asked of the provider."),
            workers_ended: make.counters(
                "framewake_workers_ended_total",
                "Workers whose end the provider saw.",
                &["function", "end"],
            ),
            starts_failed: states("framewake_starts_failed", "Starts of workers that failed, in a row."),
            starts: Names::new(STARTS_MAX),
            cold_start_seconds: make.histograms(
                "framewake_cold_start_seconds",
                "A worker's way from being wanted to its first frame, phase by phase; each is named after the point that ends it.",
                &START_SECONDS,
                &["function", "pool", "phase"],
            ),
            heartbeats: counts("framewake_heartbeats_total", "Heartbeats heard."),
            places: make.gauges("framewake_places", "Machines and GPUs that workers name.", &["state"]),
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
        };
        for state in ["succeeded", "failed", "canceled"] {
            farm.jobs_finished.with_label_values(&[state]);
        }
        for outcome in ["submitted", "waiting", "skipped", "refused"] {
            farm.schedules_runs.with_label_values(&[outcome]);
        }
        for deadline in ["start", "finish"] {
            farm.schedules_late.with_label_values(&[deadline]);
        }
        farm
    }

    fn label(&self, function: &Name) -> Arc<str> {
        self.names.label(function.as_str())
    }

    /// `took` is unknown for a task whose output was found in the store.
    pub(crate) fn task_done(&self, function: &Name, took: Option<Duration>, size_bytes: u64, of: Of) {
        let label = self.label(function);
        self.tasks.with_label_values(&[&label, Verdict::Done.as_str()]).inc();
        self.output_bytes.with_label_values(&[&label]).inc_by(size_bytes);
        if let Some(took) = took {
            self.frame_seconds.observe(&label, took, of);
        }
    }

    pub(crate) fn task_failed(&self, function: &Name, verdict: Verdict, without_gpu: bool) {
        let label = self.label(function);
        self.tasks.with_label_values(&[&label, verdict.as_str()]).inc();
        self.cpu_fallbacks.with_label_values(&[&label]).inc_by(u64::from(without_gpu));
    }

    pub(crate) fn loaded(&self, function: &Name, took: Duration) {
        self.load_seconds.with_label_values(&[&self.label(function)]).observe(took.as_secs_f64());
    }

    pub(crate) fn step_began(&self, function: &Name, waited: Duration, of: Of) {
        self.wait_seconds.observe(&self.label(function), waited, of);
    }

    pub(crate) fn attempt_started(&self, function: &Name) {
        self.attempts_started.with_label_values(&[&self.label(function)]).inc();
        if let Some(openfaas) = &self.openfaas {
            openfaas.started(&self.label(function));
        }
    }

    pub(crate) fn attempt_ended(&self, function: &Name, ended: Ended, of: Of) {
        let label = self.label(function);
        self.attempts_ended.with_label_values(&[&label, ended.outcome]).inc();
        self.log_bytes.with_label_values(&[&label]).inc_by(ended.log_bytes);
        self.log_left_out_bytes.with_label_values(&[&label]).inc_by(ended.log_left_out_bytes);
        if let Some(took) = ended.took {
            self.attempt_seconds.observe(&label, took, of);
        }
        if let Some(openfaas) = &self.openfaas {
            openfaas.ended(&label, &ended);
        }
    }

    pub(crate) fn order_published(&self, function: &Name) {
        self.orders_published.with_label_values(&[&self.label(function)]).inc();
    }

    pub(crate) fn worker_started(&self, function: &Name, pool: &Name) {
        let label = self.label(function);
        self.workers_started.with_label_values(&[&label]).inc();
        // What is first seen at 1 has not risen, for Prometheus.
        for phase in &StartPoint::ALL[1..] {
            self.cold_start_seconds.with_label_values(&[&label, self.pool_label(function, pool), phase.as_str()]);
        }
    }

    fn pool_label<'a>(&self, function: &Name, pool: &'a Name) -> &'a str {
        let known = self.starts.label(&format!("{function}/{pool}"));
        if known.as_ref() == OTHER { OTHER } else { pool.as_str() }
    }

    pub(crate) fn worker_ended(&self, function: &Name, failed: bool) {
        let end = if failed { "failed" } else { "left" };
        self.workers_ended.with_label_values(&[self.label(function).as_ref(), end]).inc();
    }

    /// Phases of a worker's way that are known for good.
    pub(crate) fn worker_came(&self, function: &Name, pool: &Name, phases: &[(StartPoint, Duration)]) {
        let (label, pool) = (self.label(function), self.pool_label(function, pool));
        for (phase, took) in phases {
            let labels = [label.as_ref(), pool, phase.as_str()];
            self.cold_start_seconds.with_label_values(&labels).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn heartbeat(&self, function: &Name) {
        self.heartbeats.with_label_values(&[&self.label(function)]).inc();
    }

    /// A counter that is first seen at 1 has not risen, for Prometheus: whoever waits for it would miss it.
    fn begin_at_zero(&self, label: &str) {
        for verdict in Verdict::ALL {
            self.tasks.with_label_values(&[label, verdict.as_str()]);
        }
        for outcome in OUTCOMES {
            self.attempts_ended.with_label_values(&[label, outcome]);
        }
        self.cpu_fallbacks.with_label_values(&[label]);
    }

    /// What is true at this moment and no sum of what happened.
    pub(crate) fn set_loads(&self, loads: &Loads) {
        let mut by_label: BTreeMap<Arc<str>, Load> = BTreeMap::new();
        for (function, load) in &loads.functions {
            by_label.entry(self.label(function)).or_default().add(load);
        }
        for (label, load) in &by_label {
            let label = label.as_ref();
            self.begin_at_zero(label);
            let set = |gauges: &IntGaugeVec, labels: &[&str], count: u64| {
                gauges.with_label_values(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            };
            set(&self.workers_wanted, &[label], load.wanted.into());
            let workers =
                [("starting", load.starting), ("idle", load.idle), ("busy", load.busy), ("draining", load.draining)];
            for (state, count) in workers {
                set(&self.workers, &[label, state], count.into());
            }
            set(&self.starts_failed, &[label], load.starts_failed.into());
            set(&self.tasks_waiting, &[label], load.tasks_waiting);
            set(&self.chunks, &[label, "offered"], load.chunks_offered);
            set(&self.chunks, &[label, "held"], load.chunks_held);
            set(&self.oldest_waiting, &[label], load.oldest_waiting.as_secs());
            if let Some(openfaas) = &self.openfaas {
                openfaas.set_load(label, load);
            }
        }
        for (state, count) in &loads.places {
            self.places.with_label_values(&[state]).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.jobs_open.set(i64::try_from(loads.jobs).unwrap_or(i64::MAX));
    }
}

impl Load {
    /// Another version, or another function of the same label.
    pub(crate) fn add(&mut self, other: &Load) {
        self.wanted += other.wanted;
        self.starting += other.starting;
        self.idle += other.idle;
        self.busy += other.busy;
        self.draining += other.draining;
        self.starts_failed = self.starts_failed.max(other.starts_failed);
        self.tasks_waiting += other.tasks_waiting;
        self.chunks_offered += other.chunks_offered;
        self.chunks_held += other.chunks_held;
        self.oldest_waiting = self.oldest_waiting.max(other.oldest_waiting);
    }
}
