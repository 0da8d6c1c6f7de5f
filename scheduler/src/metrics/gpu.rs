//! GPUs, from the samples that workers send with their heartbeats. What is summed stays when a worker of a few seconds
//! has left; what each GPU does at this moment is shown of so many, and forgotten when nobody speaks of it.

mod shown;
mod sums;
#[cfg(test)]
mod tests;

use super::make::Maker;
use super::names::{Names, lock};
use framewake_core::price::gpu_model;
use framewake_proto::api::GpuState;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::overview::GpuGlance;
use framewake_proto::time::Timestamp;
use framewake_proto::wire::{GPUS_MAX, GpuSample, Heartbeat, clip};
use prometheus::IntCounter;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sums::{Kind, Sums};

/// Models that are told apart.
pub(super) const MODELS_MAX: usize = 32;
/// GPUs that are followed: what is summed needs the sample before. One takes about half a kilobyte.
const FOLLOWED_MAX: usize = 20_000;
/// GPUs that are shown one by one, of about 850 bytes each on a page of at most 2 MB.
const SHOWN_MAX: usize = 1500;
/// Of these, those that are shown under DCGM's names too, which take 1,400 bytes more.
const SHOWN_DCGM_MAX: usize = 400;
/// Two leases: by then its worker is lost, or has another GPU.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// What lies between two samples further apart is not known.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest id of a GPU, and name of its machine, in a label.
const ID_MAX: usize = 64;

#[derive(Debug)]
pub struct Gpus {
    functions: Arc<Names>,
    models: Names,
    sums: Sums,
    dropped: IntCounter,
    dcgm: bool,
    followed: Mutex<Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    gpus: HashMap<Box<str>, Gpu>,
    shown: usize,
}

/// A GPU as it was told last.
#[derive(Debug)]
struct Gpu {
    seen_at: Timestamp,
    kind: Arc<Kind>,
    host: Box<str>,
    sample: GpuSample,
    /// What its worker held, 0 for nothing.
    attempt: (u64, u32),
    /// While it held that.
    memory_peak: u64,
    /// The last Xid that each worker on it was told.
    xids: Vec<(WorkerId, u32)>,
    shown: bool,
}

impl Gpus {
    pub(super) fn new(make: &Maker, functions: Arc<Names>, dcgm: bool) -> Gpus {
        Gpus {
            functions,
            models: Names::new(MODELS_MAX),
            sums: Sums::new(make),
            dropped: make.counter(
                "framewake_gpu_samples_dropped_total",
                "Samples of GPUs that could not be followed because there are too many.",
            ),
            dcgm,
            followed: Mutex::default(),
        }
    }

    /// Takes in what a worker says of its GPUs.
    pub(crate) fn observe(&self, worker: &WorkerId, function: &FunctionKey, heartbeat: &Heartbeat, now: Timestamp) {
        if heartbeat.gpu_samples.is_empty() {
            return;
        }
        let function = self.functions.label(function.name.as_str());
        let attempt = (heartbeat.chunk, heartbeat.attempt);
        let host = clip(heartbeat.host.trim(), ID_MAX);
        let mut followed = lock(&self.followed);
        for told in heartbeat.gpu_samples.iter().take(GPUS_MAX).filter(|sample| !sample.uuid.is_empty()) {
            let id = clip(&told.uuid, ID_MAX);
            let kind = self.sums.kind(&function, &self.models.label(gpu_model(&told.model)));
            // Kept is what is bounded.
            let driver_version = clip(&told.driver_version, ID_MAX).to_owned();
            let model = clip(&told.model, ID_MAX).to_owned();
            let sample = GpuSample { uuid: String::new(), model, driver_version, ..*told };
            followed.forget_if_full(now);
            let full = followed.gpus.len() >= FOLLOWED_MAX;
            match followed.gpus.get_mut(id) {
                Some(gpu) => gpu.next(&self.sums, worker, kind, attempt, sample, now),
                None if full => self.dropped.inc(),
                None => {
                    let shown = followed.shown < SHOWN_MAX;
                    followed.shown += usize::from(shown);
                    let gpu = Gpu::first(&self.sums, worker, kind, host, attempt, sample, now, shown);
                    followed.gpus.insert(id.into(), gpu);
                }
            }
        }
    }

    /// At most so many of the GPUs that are there, by id, from the first past `after`.
    pub(crate) fn list(&self, after: Option<&str>, limit: usize, now: Timestamp) -> Vec<GpuState> {
        let mut followed = lock(&self.followed);
        followed.forget(now);
        let past = |id: &str| after.is_none_or(|after| id > after);
        let mut gpus: Vec<(&str, &Gpu)> =
            followed.gpus.iter().map(|(id, gpu)| (id.as_ref(), gpu)).filter(|(id, _)| past(id)).collect();
        gpus.sort_unstable_by_key(|(id, _)| *id);
        gpus.truncate(limit);
        gpus.into_iter().map(|(id, gpu)| gpu.state(id)).collect()
    }

    /// All of them, by model: as many models as are told apart.
    pub(crate) fn by_model(&self, now: Timestamp) -> Vec<GpuGlance> {
        let mut followed = lock(&self.followed);
        followed.forget(now);
        let mut models: BTreeMap<Arc<str>, (GpuGlance, u32, u32)> = BTreeMap::new();
        for gpu in followed.gpus.values() {
            let (glance, busy_sum, busy_told) = models.entry(gpu.kind.model.clone()).or_default();
            glance.count += 1;
            glance.working += u32::from(gpu.attempt.0 != 0);
            if let Some(percent) = gpu.sample.busy_percent {
                *busy_sum += percent.min(100);
                *busy_told += 1;
            }
            add(&mut glance.memory_used_bytes, gpu.sample.memory_used_bytes);
            add(&mut glance.memory_total_bytes, gpu.sample.memory_total_bytes);
            add(&mut glance.power_milliwatts, gpu.sample.power_milliwatts.map(u64::from));
        }
        let glances = models.into_iter().map(|(model, (glance, busy_sum, busy_told))| GpuGlance {
            model: model.to_string(),
            busy_percent: busy_sum.checked_div(busy_told),
            ..glance
        });
        glances.collect()
    }

    /// Writes the GPUs that are there, one by one.
    pub(super) fn write(&self, now: Timestamp, out: &mut String) {
        let mut followed = lock(&self.followed);
        followed.forget(now);
        let mut gpus: Vec<(&str, &Gpu)> = followed.gpus.iter().map(|(id, gpu)| (id.as_ref(), gpu)).collect();
        gpus.sort_unstable_by_key(|(id, _)| *id);
        let hidden = gpus.iter().filter(|(_, gpu)| !gpu.shown).count();
        shown::write_counts(gpus.len(), hidden, out);
        gpus.retain(|(_, gpu)| gpu.shown);
        shown::write_each(&gpus, out);
        if self.dcgm {
            gpus.truncate(SHOWN_DCGM_MAX);
            shown::write_dcgm(&gpus, out);
        }
    }
}

fn add(sum: &mut Option<u64>, told: Option<u64>) {
    if let Some(told) = told {
        *sum = Some(sum.unwrap_or(0).saturating_add(told));
    }
}

impl Followed {
    /// Where there is room, forgetting waits until somebody looks.
    fn forget_if_full(&mut self, now: Timestamp) {
        if self.gpus.len() >= FOLLOWED_MAX {
            self.forget(now);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.gpus.retain(|_, gpu| {
            let stays = now.since(gpu.seen_at) < FORGOTTEN_AFTER;
            if !stays {
                gpu.end_attempt();
            }
            stays
        });
        // Those that had no room move up, so that a full farm is shown as far as it goes.
        self.shown = self.gpus.values().filter(|gpu| gpu.shown).count();
        for gpu in self.gpus.values_mut().filter(|gpu| !gpu.shown).take(SHOWN_MAX - self.shown) {
            gpu.shown = true;
            self.shown += 1;
        }
    }
}

impl Gpu {
    #[allow(clippy::too_many_arguments)] // They are what is known of it.
    fn first(
        sums: &Sums,
        worker: &WorkerId,
        kind: Arc<Kind>,
        host: &str,
        attempt: (u64, u32),
        sample: GpuSample,
        now: Timestamp,
        shown: bool,
    ) -> Gpu {
        let mut gpu = Gpu {
            seen_at: now,
            kind,
            host: host.into(),
            attempt,
            memory_peak: sample.memory_used_bytes.unwrap_or(0),
            sample,
            xids: Vec::new(),
            shown,
        };
        gpu.count_moment(sums, worker);
        gpu
    }

    fn next(
        &mut self,
        sums: &Sums,
        worker: &WorkerId,
        kind: Arc<Kind>,
        attempt: (u64, u32),
        sample: GpuSample,
        now: Timestamp,
    ) {
        if attempt != self.attempt {
            self.end_attempt();
            self.attempt = attempt;
        }
        let passed = now.since(self.seen_at);
        if passed <= SILENCE_MAX {
            sums.between(&kind, &self.sample, &sample, passed);
        }
        self.memory_peak = self.memory_peak.max(sample.memory_used_bytes.unwrap_or(0));
        (self.seen_at, self.kind, self.sample) = (now, kind, sample);
        self.count_moment(sums, worker);
    }

    fn state(&self, uuid: &str) -> GpuState {
        let sample = &self.sample;
        GpuState {
            uuid: uuid.to_owned(),
            model: sample.model.clone(),
            host: self.host.to_string(),
            driver: sample.driver_version.clone(),
            function: self.kind.function.to_string(),
            working: self.attempt.0 != 0,
            busy_percent: sample.busy_percent.map(|percent| percent.min(100)),
            memory_used_bytes: sample.memory_used_bytes,
            memory_total_bytes: sample.memory_total_bytes,
            power_milliwatts: sample.power_milliwatts,
            temperature_celsius: sample.temperature_celsius,
            seen_at: self.seen_at,
        }
    }

    /// What counts by the sample alone.
    fn count_moment(&mut self, sums: &Sums, worker: &WorkerId) {
        self.kind.at(&self.sample);
        let xid = self.sample.xid.unwrap_or(0);
        let known = self.xids.iter_mut().find(|(of, _)| of == worker);
        let before = known.as_ref().map_or(0, |(_, before)| *before);
        if xid == before {
            return;
        }
        if xid != 0 {
            sums.xid(&self.kind, xid);
        }
        if let Some((_, last)) = known {
            *last = xid;
            return;
        }
        // More than a GPU's share of workers: the first of them is long gone.
        if self.xids.len() >= GPUS_MAX {
            self.xids.remove(0);
        }
        self.xids.push((worker.clone(), xid));
    }

    /// The peak belongs to the attempt that is over.
    fn end_attempt(&mut self) {
        if self.attempt.0 != 0 && self.memory_peak > 0 {
            self.kind.memory_peak.observe(self.memory_peak as f64);
        }
        self.memory_peak = 0;
    }
}
