//! What the GPUs of a worker did while something was rendered.

use framewake_proto::wire::GpuSample;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

/// Fewer looks show nothing: a frame may have been rendered between two of them.
const LOOKS_MIN: u32 = 5;
/// Memory that comes and goes although nothing is rendered: what the driver itself takes.
const MEMORY_NOISE: u64 = 16 << 20;

/// Measures from when it was made.
#[derive(Debug, Default)]
pub struct Meter(Option<Arc<Mutex<Tally>>>);

/// What was measured; what the driver did not tell at each look is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuUse {
    /// How often the GPUs were looked at.
    pub looks: u32,
    /// Of all of them.
    pub energy_millijoules: Option<u64>,
    /// Most that was in use on any of them.
    pub vram_peak_bytes: Option<u64>,
    pub busy_permille: Option<u32>,
    pub busy_max_permille: Option<u32>,
    /// Whether one of them held more than when it was seen to hold least.
    pub vram_grew: Option<bool>,
}

impl GpuUse {
    /// Whether it is sure that nothing was rendered on them.
    pub fn was_idle(&self) -> bool {
        self.looks >= LOOKS_MIN && self.busy_max_permille == Some(0) && self.vram_grew == Some(false)
    }
}

/// Sums of the looks so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    looks: u32,
    gpus: BTreeMap<String, Sums>,
    /// One was busy since that was asked last.
    worked: bool,
}

#[derive(Debug)]
struct Sums {
    /// `None` once a look did not tell.
    busy: Option<Busy>,
    memory_peak: Option<u64>,
    memory_idle: Option<u64>,
    energy: Energy,
}

#[derive(Debug, Clone, Copy, Default)]
struct Busy {
    sum: u64,
    max: u32,
}

/// A counter of which the difference is wanted.
#[derive(Debug, Clone, Copy)]
enum Energy {
    NotYet,
    From {
        first: u64,
        last: u64,
    },
    /// It was not told, or went back because the driver was loaded anew.
    Unknown,
}

impl Meter {
    /// `last`: the look before, from where energy counts, so that from frame to frame none is counted twice or left out.
    /// `idle`: the least memory that was ever in use on each GPU.
    pub(super) fn begin(last: &[GpuSample], idle: &BTreeMap<String, u64>) -> Meter {
        let mut tally = Tally::default();
        for sample in last {
            let mut sums = Sums::new(idle.get(&sample.uuid).copied());
            sums.energy.add(sample.energy_millijoules);
            tally.gpus.insert(sample.uuid.clone(), sums);
        }
        Meter(Some(Arc::new(Mutex::new(tally))))
    }

    pub(super) fn tally(&self) -> Option<Weak<Mutex<Tally>>> {
        self.0.as_ref().map(Arc::downgrade)
    }

    /// What was measured so far; `None` without a look at a GPU.
    pub fn read(&self) -> Option<GpuUse> {
        self.0.as_ref()?.lock().expect("no code panics while it holds the lock").read()
    }

    /// Whether a GPU was seen at work since this was asked last.
    pub fn worked(&self) -> bool {
        let Some(tally) = &self.0 else { return false };
        std::mem::take(&mut tally.lock().expect("no code panics while it holds the lock").worked)
    }
}

impl Tally {
    pub(super) fn add(&mut self, samples: &[GpuSample]) {
        self.looks += 1;
        for sample in samples {
            let sums = self.gpus.entry(sample.uuid.clone()).or_insert_with(|| Sums::new(sample.memory_used_bytes));
            sums.add(sample, self.looks);
            self.worked |= sample.busy_percent.is_some_and(|busy| busy > 0);
        }
        for (uuid, sums) in &mut self.gpus {
            if !samples.iter().any(|sample| sample.uuid == *uuid) {
                sums.miss();
            }
        }
    }

    fn read(&self) -> Option<GpuUse> {
        if self.looks == 0 || self.gpus.is_empty() {
            return None;
        }
        let gpus = || self.gpus.values();
        let count = u64::try_from(self.gpus.len()).unwrap_or(u64::MAX);
        let busy: Option<Vec<Busy>> = gpus().map(|sums| sums.busy).collect();
        // Percent of so many looks at so many GPUs.
        let mean = |busy: &[Busy]| {
            let sum: u64 = busy.iter().map(|busy| busy.sum).sum();
            u32::try_from(sum * 10 / (u64::from(self.looks) * count)).unwrap_or(u32::MAX)
        };
        let grew = |sums: &Sums| Some(sums.memory_peak? > sums.memory_idle?.saturating_add(MEMORY_NOISE));
        let grew: Option<Vec<bool>> = gpus().map(grew).collect();
        Some(GpuUse {
            looks: self.looks,
            energy_millijoules: gpus().map(|sums| sums.energy.difference()).sum(),
            vram_peak_bytes: gpus().filter_map(|sums| sums.memory_peak).max(),
            busy_permille: busy.as_deref().map(mean),
            busy_max_permille: busy.as_ref().and_then(|busy| busy.iter().map(|busy| busy.max * 10).max()),
            vram_grew: grew.map(|grew| grew.contains(&true)),
        })
    }
}

impl Sums {
    fn new(memory_idle: Option<u64>) -> Sums {
        Sums { busy: Some(Busy::default()), memory_peak: None, memory_idle, energy: Energy::NotYet }
    }

    fn add(&mut self, sample: &GpuSample, look: u32) {
        let add = |busy: Busy, percent: u32| Busy { sum: busy.sum + u64::from(percent), max: busy.max.max(percent) };
        self.busy = self.busy.zip(sample.busy_percent).map(|(busy, percent)| add(busy, percent));
        self.memory_peak = self.memory_peak.max(sample.memory_used_bytes);
        if sample.memory_used_bytes.is_none() || (look == 1 && self.memory_idle.is_none()) {
            self.memory_idle = None;
        }
        self.energy.add(sample.energy_millijoules);
    }

    /// A look did not find it: what it did meanwhile is not known.
    fn miss(&mut self) {
        self.busy = None;
        self.memory_idle = None;
        self.energy = Energy::Unknown;
    }
}

impl Energy {
    fn add(&mut self, counter: Option<u64>) {
        *self = match (*self, counter) {
            (Energy::NotYet, Some(counter)) => Energy::From { first: counter, last: counter },
            (Energy::From { first, last }, Some(counter)) if counter >= last => Energy::From { first, last: counter },
            _ => Energy::Unknown,
        }
    }

    fn difference(self) -> Option<u64> {
        match self {
            Energy::From { first, last } => Some(last - first),
            Energy::NotYet | Energy::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(busy: u32, used: u64, energy: Option<u64>) -> GpuSample {
        GpuSample {
            uuid: "GPU-1".to_owned(),
            busy_percent: Some(busy),
            memory_used_bytes: Some(used),
            energy_millijoules: energy,
            ..GpuSample::default()
        }
    }

    fn measure(last: &[GpuSample], looks: &[GpuSample]) -> Option<GpuUse> {
        let idle = BTreeMap::from([("GPU-1".to_owned(), 100)]);
        let meter = Meter::begin(last, &idle);
        for look in looks {
            let tally = meter.tally().expect("it measures").upgrade().expect("it lives");
            tally.lock().expect("free").add(std::slice::from_ref(look));
        }
        meter.read()
    }

    #[test]
    fn mean_and_peaks_are_of_the_looks_and_energy_counts_from_the_look_before() {
        let looks = [sample(50, 900 << 20, Some(1500)), sample(100, 800 << 20, Some(1700))];
        let used = measure(&[sample(7, 1, Some(1000))], &looks).expect("measured");
        assert_eq!(used.energy_millijoules, Some(700));
        assert_eq!((used.vram_peak_bytes, used.vram_grew), (Some(900 << 20), Some(true)));
        assert_eq!((used.busy_permille, used.busy_max_permille, used.looks), (Some(750), Some(1000), 2));
    }

    #[test]
    fn a_counter_that_begins_anew_or_vanishes_is_unknown_and_never_negative() {
        for counters in [[Some(900), Some(950)], [Some(1100), Some(20)], [None, Some(1200)], [Some(1100), None]] {
            let looks = counters.map(|counter| sample(1, 1, counter));
            let used = measure(&[sample(1, 1, Some(1000))], &looks).expect("measured");
            assert_eq!(used.energy_millijoules, None, "{counters:?}");
        }
        assert_eq!(measure(&[sample(1, 1, Some(1000))], &[]), None);
    }

    #[test]
    fn a_gpu_was_idle_only_if_enough_looks_say_so_and_each_tells_all() {
        let idle = |looks: &[GpuSample]| measure(&[sample(0, 100, None)], looks).expect("measured").was_idle();
        let nothing = sample(0, 100 + MEMORY_NOISE, None);
        assert!(idle(&vec![nothing.clone(); LOOKS_MIN as usize]));
        assert!(!idle(&vec![nothing.clone(); LOOKS_MIN as usize - 1]));
        let but = |odd: GpuSample| {
            let mut looks = vec![nothing.clone(); LOOKS_MIN as usize];
            looks[2] = odd;
            idle(&looks)
        };
        assert!(!but(sample(1, 100, None)), "it was busy once");
        assert!(!but(sample(0, 101 + MEMORY_NOISE, None)), "it held something");
        assert!(!but(GpuSample { busy_percent: None, ..nothing.clone() }), "its driver was silent");
        assert!(!but(GpuSample { memory_used_bytes: None, ..nothing.clone() }), "its driver was silent");
        assert!(!but(GpuSample { uuid: "GPU-2".to_owned(), ..nothing.clone() }), "it was not found");
    }
}
