//! GPUs given to workers one by one, and tasks given only to workers whose GPU can hold them: whatever machine, jobs and
//! order of events.

use framewake_core::change::Change;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{
    AttemptEnd, Event, GpuUse, GpuWord, Moments, Report, RequestId, TaskFailure, TaskResult, WorkerEnd,
};
use framewake_core::farm::{Applied, Farm, Listener, PlaceStanding};
use framewake_core::gpus::{Gpu, Handing};
use framewake_core::values::{FunctionRules, NewJob, NewStep, Place, PoolRules, Settings, Snapshot};
use framewake_proto::duration::Span;
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const GIB: u64 = 1 << 30;
/// More than any of these farms needs to come to an end.
const TURNS_MAX: u32 = 20_000;

/// A worker as its machine knows it.
#[derive(Debug, Default)]
struct Worker {
    gpus: Vec<Place>,
    spoke: bool,
    leaving: bool,
    holds: Option<(AttemptId, JobId, u32)>,
}

struct World {
    farm: Farm,
    now: Timestamp,
    /// Memory of each GPU.
    gpus: BTreeMap<Place, u64>,
    workers: BTreeMap<WorkerId, Worker>,
    orders: Vec<AttemptId>,
    /// Memory that each task of a job takes.
    takes: BTreeMap<JobId, Vec<u64>>,
    done: BTreeSet<(JobId, u32)>,
    failed: BTreeMap<(JobId, u32), String>,
    /// Most memory on which a task of the job ran out.
    ran_out: BTreeMap<JobId, u64>,
    wrong: Vec<String>,
    request: u64,
}

fn function() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

fn gpu(number: usize, memory: u64) -> Gpu {
    let uuid = format!("GPU-{number}");
    let place = Place::new(&format!("node/{uuid}"));
    Gpu { place, uuid, model: "NVIDIA Test".to_owned(), driver: None, memory_bytes: Some(memory) }
}

impl World {
    fn new(memories: &[u64], slots: u32, each: u32) -> World {
        let now = Timestamp(1_000_000);
        let mut world = World {
            farm: Farm::restore(Settings::default(), now, Snapshot::default()),
            now,
            gpus: BTreeMap::new(),
            workers: BTreeMap::new(),
            orders: Vec::new(),
            takes: BTreeMap::new(),
            done: BTreeSet::new(),
            failed: BTreeMap::new(),
            ran_out: BTreeMap::new(),
            wrong: Vec::new(),
            request: 0,
        };
        world.apply(Event::PoolsSet { pools: vec![PoolRules::local(slots)], unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let rules = FunctionRules { gpus: each, ..FunctionRules::without_gpu(8, 1) };
        world.apply(Event::FunctionAdded { key: function(), rules });
        world.apply(Event::GpusHanded(Handing::Awaited { why: "being looked for".to_owned() }));
        let gpus: Vec<Gpu> = memories.iter().enumerate().map(|(number, memory)| gpu(number, *memory)).collect();
        world.gpus = gpus.iter().map(|gpu| (gpu.place.clone(), gpu.memory_bytes.unwrap_or(0))).collect();
        world.apply(Event::GpusHanded(Handing::Out(gpus)));
        world
    }

    fn submit(&mut self, takes: Vec<u64>, declared: u64) -> JobId {
        let id = JobId((self.takes.len() as u128 + 1).into());
        let second = Span(Duration::from_secs(1));
        let step = NewStep {
            function: function(),
            tasks: u32::try_from(takes.len()).expect("few"),
            chunking: Chunking::Fixed { size: 1 },
            // One try: nothing here may spend it.
            retries: Retries { attempts: 1, backoff: second, backoff_max: second },
            gpu_memory_bytes: declared,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        self.takes.insert(id, takes);
        let job = NewJob {
            project: "film".parse().expect("a good name"),
            budget: None,
            deadline: None,
            priority: 50,
            steps: vec![step],
        };
        self.apply(Event::JobSubmitted { id, job });
        id
    }

    fn apply(&mut self, event: Event) {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        for change in out.changes {
            match change {
                Change::TaskDone { job, result, .. } => drop(self.done.insert((job, result.task))),
                Change::TaskFailed { job, failure, for_good: true, .. } => {
                    self.failed.insert((job, failure.task), failure.message);
                }
                _ => {} // Of no interest here.
            }
        }
        for effect in out.effects {
            match effect {
                Effect::PublishOrder { attempt, .. } => self.orders.push(attempt),
                Effect::StartWorker { worker, gpus, .. } => self.start(worker, gpus),
                Effect::PushControl { worker, control } if control.drain => {
                    if let Some(worker) = self.workers.get_mut(&worker) {
                        worker.leaving = true;
                    }
                }
                _ => {} // Of no interest here.
            }
        }
    }

    fn start(&mut self, id: WorkerId, gpus: Vec<Place>) {
        if let Some(twice) = gpus.iter().find(|gpu| self.workers.values().any(|worker| worker.gpus.contains(gpu))) {
            self.wrong.push(format!("{id} was given {twice}, which another worker has"));
        }
        if gpus.is_empty() {
            self.wrong.push(format!("{id} was given no GPU"));
        }
        self.workers.insert(id, Worker { gpus, ..Worker::default() });
    }

    fn memory(&self, worker: &WorkerId) -> u64 {
        self.workers[worker].gpus.iter().map(|gpu| self.gpus[gpu]).min().unwrap_or(0)
    }

    fn is_over(&self) -> bool {
        let tasks: usize = self.takes.values().map(Vec::len).sum();
        self.done.len() + self.failed.len() == tasks
    }

    /// One worker does what comes next for it.
    fn turn(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        if !worker.spoke {
            let places = worker.gpus.clone();
            self.request += 1;
            let request = RequestId(self.request);
            let (holds, draining, progress) = (None, false, None);
            let (worker, function) = (id.clone(), function());
            self.apply(Event::WorkerSeen {
                request,
                worker,
                function,
                holds,
                draining,
                places,
                gpu: String::new(),
                progress,
            });
            self.workers.get_mut(id).expect("it lives").spoke = true;
        } else if let Some((attempt, job, task)) = worker.holds {
            self.report(id, attempt, job, task);
        } else if worker.leaving {
            self.apply(Event::WorkerLeft { worker: id.clone() });
            self.workers.remove(id);
            self.apply(Event::WorkerExited { worker: id.clone(), end: WorkerEnd::Left });
        } else if !self.orders.is_empty() {
            let attempt = self.orders.remove(0);
            self.claim(id, attempt);
        }
    }

    fn claim(&mut self, id: &WorkerId, attempt: AttemptId) {
        self.request += 1;
        let mut out = Applied::default();
        let request = RequestId(self.request);
        self.farm.apply(self.now, Event::AttemptClaimed { request, worker: id.clone(), attempt }, &mut out);
        for effect in out.effects {
            match effect {
                Effect::AnswerClaim { answer: ClaimAnswer::Granted { job, tasks, .. }, .. } => {
                    let memory = self.memory(id);
                    if self.ran_out.get(&job).is_some_and(|least| memory <= *least) {
                        self.wrong.push(format!("{job} ran out of {memory} bytes before"));
                    }
                    let task = tasks.first().expect("a chunk has a task");
                    self.workers.get_mut(id).expect("it lives").holds = Some((attempt, job, task));
                }
                Effect::PublishOrder { attempt, .. } => self.orders.push(attempt),
                Effect::StartWorker { worker, gpus, .. } => self.start(worker, gpus),
                Effect::PushControl { worker, control } if control.drain => {
                    if let Some(worker) = self.workers.get_mut(&worker) {
                        worker.leaving = true;
                    }
                }
                _ => {} // Of no interest here.
            }
        }
    }

    fn report(&mut self, id: &WorkerId, attempt: AttemptId, job: JobId, task: u32) {
        let (takes, memory) = (self.takes[&job][task as usize], self.memory(id));
        let mut report = Report { end: Some(AttemptEnd::Finished), ..Report::default() };
        if takes > memory {
            let verdict = Verdict::NeedMoreVram;
            let message = "CUDA: out of memory".to_owned();
            report.failed.push(TaskFailure {
                task,
                verdict,
                message,
                evidence: String::new(),
                gpu: GpuWord::Nothing,
                moments: Moments::default(),
            });
            let larger = self.gpus.values().any(|other| *other > memory);
            if larger {
                let least = self.ran_out.entry(job).or_default();
                *least = memory.max(*least);
            }
        } else {
            report.done.push(done(task, takes));
        }
        self.workers.get_mut(id).expect("it lives").holds = None;
        self.apply(Event::AttemptReported { worker: id.clone(), attempt, report });
    }

    /// Until every task is over. `dice` says who is next.
    fn run(&mut self, mut dice: impl FnMut(usize) -> usize) {
        for _ in 0..TURNS_MAX {
            if self.is_over() {
                return;
            }
            let ids: Vec<WorkerId> = self.workers.keys().cloned().collect();
            if let Some(id) = ids.get(dice(ids.len() + 1)) {
                self.turn(&id.clone());
            } else {
                self.now = self.now.after(Duration::from_millis(100));
                self.apply(Event::TimePassed);
            }
        }
        self.wrong.push(format!(
            "{} done, {} failed, and nothing more comes of it",
            self.done.len(),
            self.failed.len()
        ));
    }
}

fn done(task: u32, takes: u64) -> TaskResult {
    TaskResult {
        task,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 0,
        width: 0,
        height: 0,
        device: String::new(),
        renderer: String::new(),
        elapsed_ms: 1000,
        found: false,
        memory_peak_bytes: 0,
        gpu: GpuUse { vram_peak_bytes: Some(takes), ..GpuUse::default() },
        moments: Moments::default(),
    }
}

/// A small generator, so that a failing case is the same again.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |sides| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides as u64).expect("small")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_task_ends_on_the_first_gpu_that_holds_it_or_with_a_reason(
        memories in prop::collection::vec(1u64..6, 1..5),
        jobs in prop::collection::vec((prop::collection::vec(1u64..7, 1..5), 0u64..4), 1..4),
        slots in 1u32..5,
        seed in any::<u64>(),
    ) {
        let memories: Vec<u64> = memories.iter().map(|size| size * 8 * GIB).collect();
        let largest = memories.iter().copied().max().expect("one at least");
        let mut world = World::new(&memories, slots, 1);
        for (takes, declared) in jobs {
            // What no GPU has waits for ever, with its reason: another test's.
            let declared = (declared * 8 * GIB).min(largest);
            world.submit(takes.iter().map(|size| size * 8 * GIB).collect(), declared);
        }
        world.run(dice(seed));
        prop_assert!(world.wrong.is_empty(), "{:?}", world.wrong);
        for (job, takes) in &world.takes {
            for (task, takes) in (0..).zip(takes) {
                let failed = world.failed.get(&(*job, task));
                prop_assert_eq!(failed.is_none(), *takes <= largest, "{}", takes / GIB);
                prop_assert!(failed.is_none_or(|why| why.contains("no GPU of this farm has more memory")), "{:?}", failed);
            }
        }
    }
}

#[test]
fn books_that_find_nothing_would_be_no_books() {
    let mut world = World::new(&[8 * GIB], 2, 1);
    world.submit(vec![GIB], 0);
    let (id, gpus) =
        world.workers.iter().map(|(id, worker)| (id.clone(), worker.gpus.clone())).next().expect("started");
    assert!(world.wrong.is_empty());
    world.start("twin".parse().expect("a good id"), gpus);
    assert!(world.wrong[0].contains("which another worker has"), "{:?} {id}", world.wrong);
}

#[test]
fn no_more_workers_start_than_there_are_gpus_and_people_are_told() {
    let mut world = World::new(&[8 * GIB, 8 * GIB, 8 * GIB], 8, 2);
    let job = world.submit(vec![GIB; 20], 0);
    assert_eq!(world.workers.len(), 1, "two GPUs each");
    let id = world.workers.keys().next().expect("there").clone();
    assert_eq!(world.workers[&id].gpus.len(), 2);
    // One breaks, and the worker leaves.
    world.turn(&id);
    let broken = world.workers[&id].gpus[0].clone();
    world.apply(Event::PlaceBroke { place: broken.clone(), reason: "it fell off".to_owned() });
    assert!(world.workers[&id].leaving);
    world.turn(&id);
    let standing = world.farm.places(world.now).find(|status| *status.place == broken).expect("known").standing;
    assert!(matches!(standing, PlaceStanding::Aside { .. }), "{standing:?}");
    // The GPU that is left and the one that was never used do.
    assert_eq!(world.workers.len(), 1);
    let id = world.workers.keys().next().expect("there").clone();
    assert!(!world.workers[&id].gpus.contains(&broken));
    world.turn(&id);
    let last = world.workers[&id].gpus[0].clone();
    world.apply(Event::PlaceBroke { place: last, reason: "it fell off too".to_owned() });
    world.turn(&id);
    world.now = world.now.after(Duration::from_secs(2));
    world.apply(Event::TimePassed);
    assert!(world.workers.is_empty());
    let reasons = world.farm.explain(world.now, job, &Listener::default()).expect("not over").concat().join("\n");
    assert!(reasons.contains("of the 3 here 0 are taken, 2 set aside and 1 free"), "{reasons}");
}

#[test]
fn what_no_gpu_can_hold_waits_with_its_reason_until_one_comes() {
    let mut world = World::new(&[8 * GIB], 4, 1);
    let job = world.submit(vec![GIB], 12 * GIB);
    assert!(world.workers.is_empty() && world.orders.is_empty());
    let reasons = world.farm.explain(world.now, job, &Listener::default()).expect("not over").concat().join("\n");
    assert!(reasons.contains("no GPU fits: a task needs one with 12GiB, and the largest"), "{reasons}");
    assert!(reasons.contains("has 8GiB"), "{reasons}");
    let larger = gpu(1, 16 * GIB);
    world.gpus.insert(larger.place.clone(), 16 * GIB);
    world.apply(Event::GpusHanded(Handing::Out(vec![gpu(0, 8 * GIB), larger.clone()])));
    assert_eq!(world.workers.values().next().expect("started").gpus, [larger.place]);
}

#[test]
fn nobody_with_a_gpu_starts_while_they_are_looked_for() {
    let mut world = World::new(&[8 * GIB], 4, 1);
    world.apply(Event::GpusHanded(Handing::Awaited { why: "the driver hangs".to_owned() }));
    let job = world.submit(vec![GIB], 0);
    assert!(world.workers.is_empty());
    let reasons = world.farm.explain(world.now, job, &Listener::default()).expect("not over").concat().join("\n");
    assert!(reasons.contains("GPUs: the driver hangs"), "{reasons}");
}

#[test]
fn a_worker_found_alive_keeps_its_gpu() {
    let mut world = World::new(&[8 * GIB, 8 * GIB], 4, 1);
    let held = Place::new("node/GPU-0");
    let found = Event::WorkerFound {
        worker: "w1".parse().expect("a good id"),
        function: function(),
        pool: PoolRules::local(1).name,
        gpus: vec![held.clone()],
    };
    world.apply(found);
    world.submit(vec![GIB; 5], 0);
    let given: Vec<&Place> = world.workers.values().flat_map(|worker| &worker.gpus).collect();
    assert_eq!(given, [&Place::new("node/GPU-1")]);
}
