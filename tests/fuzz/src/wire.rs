//! Messages on NATS. Those of workers are given to the rules as the scheduler does it; those of the scheduler
//! are read as a worker reads them.

use crate::reading;
use framewake_core::change::Change;
use framewake_core::effect::Effect;
use framewake_core::event::{Event, RequestId};
use framewake_core::farm::{Applied, Farm};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot};
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::order::StepOrder;
use framewake_proto::time::Timestamp;
use framewake_proto::wire::{self, MESSAGE_SIZE_MAX, task_set};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const TASKS: u32 = 100;
const MESSAGES_MAX: usize = 64;

/// Any number of messages: a byte for the kind, two for the length, the bytes.
pub fn check(mut data: &[u8]) {
    let mut world = World::new();
    for _ in 0..MESSAGES_MAX {
        let [kind, low, high, rest @ ..] = data else { return };
        let size = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (message, rest) = rest.split_at(size);
        world.deliver(*kind, message);
        data = rest;
    }
}

/// A farm with one job, whose orders are published.
struct World {
    farm: Farm,
    now: Timestamp,
    done: BTreeSet<u32>,
}

impl World {
    fn new() -> World {
        let now = Timestamp(1_000_000);
        let function: FunctionKey = "noop@1".parse().expect("a good key");
        let rules = FunctionRules::without_gpu(4, 1);
        let snapshot = Snapshot { functions: vec![(function.clone(), rules)], ..Snapshot::default() };
        let mut world = World { farm: Farm::restore(Settings::default(), now, snapshot), now, done: BTreeSet::new() };
        world.apply(Event::PoolsSet { pools: vec![PoolRules::local(4)], unfit: BTreeMap::new() });
        world.apply(Event::ReportsDrained);
        let step = NewStep {
            function,
            tasks: TASKS,
            chunking: Chunking::Fixed { size: 10 },
            retries: Retries::default(),
            gpu_memory_bytes: 0,
            frame_limit: None,
            vram: framewake_core::gpus::Vram::default(),
            after: Vec::new(),
        };
        let job = NewJob {
            project: "default".parse().expect("a good name"),
            budget: None,
            deadline: None,
            priority: 50,
            steps: vec![step],
        };
        world.apply(Event::JobSubmitted { id: JobId(1u128.into()), job });
        world
    }

    fn deliver(&mut self, kind: u8, message: &[u8]) {
        match kind % 8 {
            0 => {
                if let Ok(event) = reading::report(message) {
                    self.apply(event);
                }
            }
            1 => {
                let Some(claim) = decode::<wire::Claim>(message) else { return };
                let Ok(worker) = claim.worker.parse::<WorkerId>() else { return };
                let attempt = AttemptId { chunk: ChunkId(claim.chunk), number: claim.attempt };
                self.apply(Event::AttemptClaimed { request: RequestId(1), worker, attempt });
            }
            2 => {
                let Some(heartbeat) = decode::<wire::Heartbeat>(message) else { return };
                let Some((worker, function)) = reading::who(&heartbeat) else { return };
                let (places, progress) = (reading::places(&heartbeat), reading::progress(&heartbeat));
                let holds = (heartbeat.chunk > 0)
                    .then_some(AttemptId { chunk: ChunkId(heartbeat.chunk), number: heartbeat.attempt });
                let draining = heartbeat.draining;
                self.apply(Event::GpusDescribed { gpus: reading::gpus(&heartbeat) });
                for (place, reason) in reading::broken(&heartbeat) {
                    assert!(places.contains(&place), "a worker breaks no GPU but its own");
                    self.apply(Event::PlaceBroke { place, reason });
                }
                let request = RequestId(2);
                let gpu = reading::gpu(&heartbeat);
                let (age, connected) = reading::beginning(&heartbeat);
                let began = Event::WorkerBegan { worker: worker.clone(), age, connected };
                self.apply(Event::WorkerSeen { request, worker, function, holds, draining, places, gpu, progress });
                self.apply(began);
            }
            3 => {
                // Time goes on, by as many seconds as the message has bytes.
                self.now = self.now.after(Duration::from_secs(message.len() as u64));
                self.apply(Event::TimePassed);
            }
            4 => {
                let Some(answer) = decode::<wire::ClaimAnswer>(message) else { return };
                let tasks = task_set(&answer.tasks);
                assert!(tasks.runs().windows(2).all(|pair| pair[0].end < pair[1].start), "{tasks:?}");
                if let Ok(order) = serde_json::from_slice::<StepOrder>(&answer.step) {
                    // What a worker reads of it; the rest is text to it.
                    let _refused_or_good = order.frames.parse::<FrameSet>();
                }
            }
            5 => {
                decode::<wire::Control>(message);
                decode::<wire::Order>(message);
            }
            6 => {
                decode::<wire::Hello>(message);
                decode::<wire::HelloAnswer>(message);
            }
            _ => {
                decode::<wire::LogBatch>(message);
            }
        }
    }

    fn apply(&mut self, event: Event) {
        let mut applied = Applied::default();
        self.farm.apply(self.now, event, &mut applied);
        for change in applied.changes {
            match change {
                Change::TaskDone { result, .. } => {
                    assert!(result.task < TASKS && self.done.insert(result.task), "task {} twice", result.task);
                    // Rows of the store hold numbers of 63 bits.
                    let numbers = [result.size_bytes, result.memory_peak_bytes];
                    assert!(numbers.iter().all(|number| i64::try_from(*number).is_ok()));
                    assert!(result.key.len() + result.device.len() <= 2 * MESSAGE_SIZE_MAX);
                }
                Change::TaskFailed { failure, .. } => {
                    assert!(failure.task < TASKS && !self.done.contains(&failure.task));
                    assert!(failure.message.len() <= wire::FAILURE_MESSAGE_MAX);
                    assert!(failure.evidence.len() <= wire::EVIDENCE_MAX);
                }
                Change::AttemptEnded { log, .. } => {
                    assert!([log.kept_bytes, log.left_out_bytes].iter().all(|bytes| i64::try_from(*bytes).is_ok()));
                }
                _ => {}
            }
        }
        let orders = applied.effects.iter().filter(|effect| matches!(effect, Effect::PublishOrder { .. })).count();
        assert!(orders <= TASKS as usize, "{orders} orders for {TASKS} tasks");
    }
}

/// A message is bounded, and means the same when it is written again.
fn decode<T: Message + Default + PartialEq + std::fmt::Debug>(message: &[u8]) -> Option<T> {
    if message.len() > MESSAGE_SIZE_MAX {
        return None;
    }
    let read = T::decode(message).ok()?;
    let again = T::decode(&*read.encode_to_vec()).expect("what was written can be read");
    assert_eq!(again, read);
    Some(read)
}
