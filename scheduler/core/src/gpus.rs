//! Which GPUs there are, and which a worker or a task can do with.

use crate::values::Place;
use framewake_proto::driver::DriverVersion;
use framewake_proto::function::Resources;
use framewake_proto::ids::WorkerId;
use framewake_proto::pool::PoolGpu;
use std::collections::{BTreeMap, BTreeSet};

/// GPUs that are remembered: as many as places are.
const GPUS_MAX: usize = 20_000;
/// A task needs so much more memory than was measured: from frame to frame it varies.
const MARGIN_PERCENT: u64 = 15;
/// A GPU of 24 GiB has 22.5 of them for tasks: with at least so much of what its pool says, it is one of that pool's.
const TOLD_PERCENT: u64 = 85;

/// A GPU, as its driver describes it; what it did not tell is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    pub place: Place,
    pub uuid: String,
    pub model: String,
    pub driver: Option<DriverVersion>,
    pub memory_bytes: Option<u64>,
}

/// What each GPU of a worker must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuNeeds {
    pub memory_bytes: u64,
    /// Parts of names, of which one will do; empty: any model.
    pub models: Vec<String>,
    pub driver_min: Option<DriverVersion>,
}

impl From<&Resources> for GpuNeeds {
    fn from(resources: &Resources) -> GpuNeeds {
        GpuNeeds {
            memory_bytes: resources.gpu_memory.map_or(0, |size| size.0),
            models: resources.gpu_models.clone(),
            driver_min: resources.driver_min.clone(),
        }
    }
}

impl GpuNeeds {
    /// Why such a GPU will not do. What is not known of it is not held against it.
    fn refuses(&self, model: &str, driver: Option<&DriverVersion>, memory_bytes: Option<u64>) -> Option<&'static str> {
        if memory_bytes.is_some_and(|memory| memory < self.memory_bytes) {
            return Some("its GPU has too little memory for the task");
        }
        let named = |part: &String| model.to_lowercase().contains(&part.to_lowercase());
        if !self.models.is_empty() && !model.is_empty() && !self.models.iter().any(named) {
            return Some("its GPU is of another model than the task asks for");
        }
        if let (Some(least), Some(driver)) = (&self.driver_min, driver)
            && driver < least
        {
            return Some("the driver of its GPU is older than the task asks for");
        }
        None
    }
}

/// How the GPUs of the provider's machine are given to workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Handing {
    /// Not at all: workers take what they find.
    #[default]
    Own,
    /// They are being looked for: nobody who needs one starts yet.
    Awaited { why: String },
    /// One by one.
    Out(Vec<Gpu>),
}

/// All GPUs that were heard of.
#[derive(Debug, Default)]
pub(crate) struct Gpus {
    known: BTreeMap<Place, Gpu>,
    /// Models, in small letters, and memories that are among them.
    kinds: BTreeSet<(String, u64)>,
    /// Those of the provider's machine; `None`: workers take what they find.
    pub(crate) here: Option<BTreeSet<Place>>,
    /// Why they are not known yet.
    pub(crate) awaited: Option<String>,
    /// With workers that are not counted any more and whose process may live: their end is not told yet.
    pub(crate) kept: BTreeMap<WorkerId, Vec<Place>>,
}

impl Gpus {
    /// True when something new was heard.
    pub(crate) fn describe(&mut self, gpu: Gpu) -> bool {
        if self.known.get(&gpu.place) == Some(&gpu) {
            return false;
        }
        if self.known.len() >= GPUS_MAX && !self.known.contains_key(&gpu.place) {
            return false;
        }
        self.kinds.extend(gpu.memory_bytes.map(|memory| (gpu.model.to_lowercase(), memory)));
        self.known.insert(gpu.place.clone(), gpu);
        true
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Gpu> {
        self.known.get(place)
    }

    /// Whether any GPU that was heard of will do; with none that tells its memory, any may.
    pub(crate) fn can_any(&self, needs: &GpuNeeds) -> bool {
        self.known.is_empty() || self.known.values().any(|gpu| misfit(gpu, needs).is_none())
    }

    /// Why GPUs of a pool that says this of them will not do: by the memory of such as were heard of, else by what it says.
    pub(crate) fn misfit_in(&self, said: &PoolGpu, needs: &GpuNeeds) -> Option<&'static str> {
        let model = said.model.to_lowercase();
        let alike = |(of, memory): &&(String, u64)| {
            of.contains(&model) && *memory <= said.memory.0 && *memory >= said.memory.0 / 100 * TOLD_PERCENT
        };
        let heard = self.kinds.iter().filter(alike).map(|(_, memory)| *memory).max();
        needs.refuses(&said.model, said.driver.as_ref(), Some(heard.unwrap_or(said.memory.0)))
    }

    /// The most memory of one of those models.
    pub(crate) fn memory_max(&self, needs: &GpuNeeds) -> Option<u64> {
        let any = GpuNeeds { memory_bytes: 0, ..needs.clone() };
        self.known.values().filter(|gpu| misfit(gpu, &any).is_none()).filter_map(|gpu| gpu.memory_bytes).max()
    }
}

/// Why this GPU will not do. What its driver did not tell is not held against it.
pub(crate) fn misfit(gpu: &Gpu, needs: &GpuNeeds) -> Option<&'static str> {
    needs.refuses(&gpu.model, gpu.driver.as_ref(), gpu.memory_bytes)
}

/// What is known of the GPU memory that the tasks of a step take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vram {
    /// A task ran out of memory on a GPU that had one byte less; 0 before.
    pub floor: u64,
    /// The most that was measured; 0 before.
    pub peak: u64,
    /// The least memory of a GPU on which a task was done.
    pub enough: Option<u64>,
}

impl Vram {
    /// A task was done on a GPU with `memory` bytes, of which it took `peak`. True when that changes something.
    pub(crate) fn done(&mut self, peak: Option<u64>, memory: Option<u64>) -> bool {
        let before = *self;
        self.peak = self.peak.max(peak.unwrap_or(0));
        self.enough = match (self.enough, memory) {
            (Some(enough), Some(memory)) => Some(enough.min(memory)),
            (enough, memory) => enough.or(memory),
        };
        before != *self
    }

    /// What both tell together.
    #[must_use]
    pub fn with(&self, other: Vram) -> Vram {
        Vram {
            floor: self.floor.max(other.floor),
            peak: self.peak.max(other.peak),
            enough: self.enough.into_iter().chain(other.enough).min(),
        }
    }

    /// A task ran out of memory on a GPU with so many bytes.
    pub(crate) fn ran_out(&mut self, memory: u64) {
        self.floor = self.floor.max(memory.saturating_add(1));
    }

    /// The least memory of a GPU that gets such a task. What did for one is never said to be too little, unless another
    /// ran out of it.
    pub(crate) fn needed(&self) -> u64 {
        let measured = self.peak.saturating_add(self.peak / 100 * MARGIN_PERCENT);
        self.floor.max(self.enough.map_or(measured, |enough| measured.min(enough)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn gpu(model: &str, gib: Option<u64>, driver: &str) -> Gpu {
        Gpu {
            place: Place::new("node/GPU-1"),
            uuid: "GPU-1".to_owned(),
            model: model.to_owned(),
            driver: driver.parse().ok(),
            memory_bytes: gib.map(|gib| gib * GIB),
        }
    }

    #[test]
    fn a_gpu_must_have_what_is_asked_for_as_far_as_it_is_known() {
        let check = |gpu: &Gpu, gib: u64, models: &[&str], driver: &str, fits: bool| {
            let models = models.iter().map(ToString::to_string).collect();
            let needs = GpuNeeds { memory_bytes: gib * GIB, models, driver_min: driver.parse().ok() };
            assert_eq!(misfit(gpu, &needs).is_none(), fits, "{gpu:?} {needs:?}");
        };
        let l4 = gpu("NVIDIA L4", Some(24), "550.54.14");
        check(&l4, 24, &[], "", true);
        check(&l4, 25, &[], "", false);
        check(&l4, 0, &["l40s", "L4"], "", true);
        check(&l4, 0, &["A10"], "", false);
        check(&l4, 0, &[], "550.54", true);
        check(&l4, 0, &[], "550.54.14", true);
        check(&l4, 0, &[], "550.100", false);
        check(&gpu("", None, ""), 99, &["A10"], "999", true);
    }

    proptest! {
        #[test]
        fn what_is_needed_is_above_where_it_ran_out_and_not_above_what_did(
            outs in prop::collection::vec(1u64..100, 0..5),
            dones in prop::collection::vec((1u64..100, 1u64..100), 0..5),
        ) {
            let mut vram = Vram::default();
            for (peak, memory) in &dones {
                vram.done(Some(*peak.min(memory) * GIB), Some(*memory * GIB));
            }
            for memory in &outs {
                vram.ran_out(*memory * GIB);
            }
            let needed = vram.needed();
            for memory in &outs {
                prop_assert!(needed > *memory * GIB);
            }
            if let (Some(least), true) = (dones.iter().map(|(_, memory)| memory * GIB).min(), outs.is_empty()) {
                prop_assert!(needed <= least);
            }
            let peak = dones.iter().map(|(peak, memory)| *peak.min(memory) * GIB).max().unwrap_or(0);
            if dones.len() == 1 {
                prop_assert!(needed >= peak, "less than was measured");
            }
        }
    }
}
