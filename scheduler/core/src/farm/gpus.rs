//! GPUs are given to workers one by one, and tasks only to workers whose GPU can hold them.

use super::{Applied, Farm};
use crate::change::Change;
use crate::gpus::{Gpu, GpuNeeds, Handing, Vram, misfit};
use crate::health::Standing;
use crate::pool::Pool;
use crate::values::{Place, PoolRules};
use framewake_proto::ids::{JobId, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeSet;

/// Steps that are looked at to find one that a GPU can do with.
const STEPS_TRIED_MAX: usize = 64;

impl Farm {
    /// The provider says how it gives GPUs to workers.
    pub(super) fn hand_out_gpus(&mut self, now: Timestamp, handing: Handing) {
        (self.gpus.here, self.gpus.awaited) = match handing {
            Handing::Own => (None, None),
            Handing::Awaited { why } => (self.gpus.here.take(), Some(why)),
            Handing::Out(gpus) => {
                let here = gpus.iter().map(|gpu| gpu.place.clone()).collect();
                self.describe_gpus(now, gpus);
                (Some(here), None)
            }
        };
        self.touched.extend(0..self.functions.len());
    }

    /// Drivers tell of GPUs; what waited for such a one may go on.
    pub(super) fn describe_gpus(&mut self, now: Timestamp, gpus: Vec<Gpu>) {
        let mut news = false;
        for gpu in gpus {
            news |= self.gpus.describe(gpu);
        }
        if news {
            self.place_again(now);
        }
    }

    /// What waited for a GPU that can hold it may go on.
    pub(super) fn place_again(&mut self, now: Timestamp) {
        for (job, step) in std::mem::take(&mut self.unplaceable) {
            self.enqueue(now, job, step);
        }
    }

    /// What a step's tasks need of the GPU of their worker.
    pub(super) fn needs_of(&self, job: JobId, at: usize) -> Option<GpuNeeds> {
        let step = self.step(job, at)?;
        let function = &self.functions[step.function].rules;
        if function.gpus == 0 {
            return None;
        }
        let memory_bytes = function.gpu_needs.memory_bytes.max(step.gpu_memory_bytes).max(step.vram.needed());
        Some(GpuNeeds { memory_bytes, ..function.gpu_needs.clone() })
    }

    /// Whether some GPU that was heard of, or that a pool says it has, can do with the step.
    pub(super) fn is_placeable(&self, job: JobId, at: usize) -> bool {
        let Some(needs) = self.needs_of(job, at) else { return true };
        let promises =
            |pool: &Pool| pool.rules.gpu_said.as_ref().is_some_and(|said| self.gpus.misfit_in(said, &needs).is_none());
        self.gpus.can_any(&needs) || self.step(job, at).is_some_and(|step| self.fit_pools(step.function).any(promises))
    }

    /// Why the worker can't take a task of this step.
    pub(super) fn misfit(&self, worker: &WorkerId, job: JobId, at: usize) -> Option<&'static str> {
        let pool = self.workers.get(worker).and_then(|worker| self.pools.get(worker.pool.as_ref()?));
        if pool.is_some_and(|pool| self.outlasts(pool, job, at)) {
            return Some("a task may take longer than workers may run there");
        }
        let needs = self.needs_of(job, at)?;
        self.gpus_of(worker).into_iter().find_map(|gpu| misfit(gpu, &needs))
    }

    fn outlasts(&self, pool: &Pool, job: JobId, at: usize) -> bool {
        let limit = self.step(job, at).and_then(|step| step.frame_limit);
        limit.zip(pool.rules.longest_run).is_some_and(|(limit, longest)| limit > longest)
    }

    /// Why workers of the function would find nothing in this pool that they could do, though something waits.
    pub(super) fn useless(&self, pool: &Pool, function: usize) -> Option<&'static str> {
        let PoolRules { gpu_said, longest_run, .. } = &pool.rules;
        if longest_run.is_none() && gpu_said.is_none() {
            return None;
        }
        let mut waiting = self.steps_next(function);
        let unplaceable = self
            .unplaceable
            .iter()
            .filter(|(job, at)| self.step(*job, *at).is_some_and(|step| step.function == function && step.left() > 0));
        waiting.extend(unplaceable.take(STEPS_TRIED_MAX));
        let mut why = None;
        for (job, at) in waiting {
            let here = if self.outlasts(pool, job, at) {
                Some("a task may take longer than workers may run there")
            } else {
                let needs = self.needs_of(job, at);
                gpu_said.as_ref().zip(needs).and_then(|(said, needs)| self.gpus.misfit_in(said, &needs))
            };
            // One that can be done is use enough.
            why = Some(here?);
        }
        why
    }

    /// A worker leaves that found nothing it could do: the next one of its pool would do no better, and others are tried
    /// first. On this machine each is given a GPU that will do.
    pub(super) fn note_useless(&mut self, now: Timestamp, id: &WorkerId, function: usize, reason: &str) {
        let Some(worker) = self.workers.get(id).filter(|worker| !worker.has_worked) else { return };
        let pool = worker.pool.clone().filter(|pool| self.pools.get(pool).is_some_and(|pool| !pool.rules.here));
        self.start_failed(now, function, pool.as_ref(), format!("a worker was of no use for what waits: {reason}"));
    }

    /// Those of its GPUs that are known.
    pub(super) fn gpus_of(&self, worker: &WorkerId) -> Vec<&Gpu> {
        let Some(worker) = self.workers.get(worker) else { return Vec::new() };
        let places = if worker.places.is_empty() { &worker.gpus } else { &worker.places };
        places.iter().filter_map(|place| self.gpus.get(place)).collect()
    }

    /// The least memory of its GPUs, if each tells.
    pub(super) fn gpu_memory_of(&self, worker: &WorkerId) -> Option<u64> {
        let gpus = self.gpus_of(worker);
        gpus.iter().map(|gpu| gpu.memory_bytes).collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    /// Whether the worker could take anything that waits for its function now.
    pub(super) fn is_of_use(&self, worker: &WorkerId, function: usize) -> bool {
        self.steps_next(function).into_iter().any(|(job, at)| self.misfit(worker, job, at).is_none())
    }

    /// Steps whose tasks are given out next.
    fn steps_next(&self, function: usize) -> BTreeSet<(JobId, usize)> {
        let function = &self.functions[function];
        let offered = function.offered.iter().take(STEPS_TRIED_MAX).filter_map(|id| self.chunks.get(id));
        let offered = offered.map(|chunk| (chunk.job, chunk.step));
        offered.chain(function.queue.heads().take(STEPS_TRIED_MAX).map(|rank| (rank.job, rank.step))).collect()
    }

    /// How many workers of the function the provider's GPUs can hold at once; `None`: as many as there are slots.
    pub(super) fn gpus_fit(&self, function: usize) -> Option<u32> {
        let rules = &self.functions[function].rules;
        let here = self.gpus.here.as_ref().filter(|_| rules.gpus > 0)?;
        let good = here.iter().filter(|place| self.gpu_does(place, &rules.gpu_needs)).count();
        Some(u32::try_from(good).unwrap_or(u32::MAX) / rules.gpus)
    }

    fn gpu_does(&self, place: &Place, needs: &GpuNeeds) -> bool {
        let aside = matches!(self.health.standing(place), Standing::Aside { .. });
        !aside && self.gpus.get(place).is_none_or(|gpu| misfit(gpu, needs).is_none())
    }

    /// GPUs of the provider that no worker has.
    fn free_gpus(&self) -> Vec<&Gpu> {
        let held: BTreeSet<&Place> =
            self.workers.values().flat_map(|worker| worker.gpus.iter().chain(&worker.places)).collect();
        let kept: BTreeSet<&Place> = self.gpus.kept.values().flatten().collect();
        let here = self.gpus.here.iter().flatten().filter(|place| !held.contains(place) && !kept.contains(place));
        let mut free: Vec<&Gpu> = here.filter_map(|place| self.gpus.get(place)).collect();
        // The smallest that will do leaves the large ones for what needs them.
        free.sort_by_key(|gpu| (gpu.memory_bytes, &gpu.place));
        free
    }

    /// GPUs for one more worker of the function: none for one that needs none or finds its own, `None` when too few that
    /// would be of use are free.
    pub(super) fn gpus_for_worker(&self, function: usize) -> Option<Vec<Place>> {
        let rules = &self.functions[function].rules;
        if rules.gpus == 0 {
            return Some(Vec::new());
        }
        if self.gpus.awaited.is_some() {
            return None;
        }
        if self.gpus.here.is_none() {
            return Some(Vec::new());
        }
        let free = self.free_gpus();
        self.steps_next(function).into_iter().find_map(|(job, at)| {
            let needs = self.needs_of(job, at)?;
            let good: Vec<Place> = free
                .iter()
                .filter(|gpu| self.gpu_does(&gpu.place, &needs))
                .map(|gpu| gpu.place.clone())
                .take(rules.gpus as usize)
                .collect();
            (good.len() == rules.gpus as usize).then_some(good)
        })
    }

    /// A new step begins with what jobs of its scene took before, unless that keeps it from every GPU: then it is tried
    /// as if nothing was known.
    pub(super) fn keep_vram(&mut self, job: JobId, at: usize, out: &mut Applied) {
        if self.step(job, at).is_none_or(|step| step.vram == Vram::default()) {
            return;
        }
        let placeable = self.is_placeable(job, at);
        let Some(step) = self.step_mut(job, at) else { return };
        if placeable {
            out.changes.push(Change::StepVram { job, step: at, vram: step.vram });
        } else {
            step.vram = Vram::default();
        }
    }

    /// A task ran out of GPU memory: from now on its step gets larger GPUs, if there are any.
    pub(super) fn escalate(&mut self, worker: &WorkerId, job: JobId, at: usize, out: &mut Applied) -> Escalation {
        let Some(memory) = self.gpu_memory_of(worker) else { return Escalation::Unknown };
        let Some(step) = self.step_mut(job, at) else { return Escalation::Unknown };
        let before = step.vram;
        step.vram.ran_out(memory);
        if self.is_placeable(job, at) {
            let vram = self.step(job, at).map_or(before, |step| step.vram);
            out.changes.push(Change::StepVram { job, step: at, vram });
            return Escalation::Larger;
        }
        // Other tasks of the step may take less: they get their try on the largest.
        if let Some(step) = self.step_mut(job, at) {
            step.vram = before;
        }
        Escalation::Largest { memory }
    }

    /// A task was done: what it took is the measure for the others.
    pub(super) fn learn_vram(
        &mut self,
        worker: &WorkerId,
        peak: Option<u64>,
        job: JobId,
        at: usize,
        out: &mut Applied,
    ) {
        let memory = self.gpu_memory_of(worker);
        let Some(step) = self.step_mut(job, at) else { return };
        if step.vram.done(peak, memory) {
            out.changes.push(Change::StepVram { job, step: at, vram: step.vram });
        }
    }

    /// Why no worker can be given a GPU, for people.
    pub(super) fn gpu_reason(&self, function: usize) -> Option<String> {
        let rules = &self.functions[function].rules;
        if rules.gpus == 0 {
            return None;
        }
        if let Some(why) = &self.gpus.awaited {
            return Some(format!("GPUs: {why}"));
        }
        let here = self.gpus.here.as_ref()?;
        if self.gpus_for_worker(function).is_some() {
            return None;
        }
        let aside = here.iter().filter(|place| matches!(self.health.standing(place), Standing::Aside { .. })).count();
        let free = self.free_gpus().iter().filter(|gpu| self.gpu_does(&gpu.place, &GpuNeeds::default())).count();
        let held = here.len() - aside.min(here.len()) - free.min(here.len());
        Some(format!(
            "GPUs: a worker of `{}` takes {}; of the {} here {held} are taken, {aside} set aside and {free} free, of which \
             too few will do",
            self.functions[function].key,
            rules.gpus,
            here.len(),
        ))
    }

    /// Why a step fits no GPU, for people.
    pub(super) fn misfit_reason(&self, job: JobId, at: usize) -> Option<String> {
        let needs = self.needs_of(job, at).filter(|_| !self.is_placeable(job, at))?;
        let largest =
            self.gpus.memory_max(&needs).map_or("none of the GPUs is of that model or driver".to_owned(), |max| {
                format!("the largest that was heard of has {}", framewake_proto::size::Size(max))
            });
        let memory = framewake_proto::size::Size(needs.memory_bytes);
        Some(format!("no GPU fits: a task needs one with {memory}, and {largest}"))
    }
}

/// What comes of a task that ran out of GPU memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escalation {
    /// There is a larger GPU.
    Larger,
    /// There is none: this was the memory of the largest.
    Largest { memory: u64 },
    /// The memory of its GPU is not known.
    Unknown,
}
