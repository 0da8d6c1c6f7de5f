//! Whose silence counts, and from when.

use framewake_core::change::{Change, Outcome};
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{Event, RequestId};
use framewake_core::farm::{Applied, Farm};
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot};
use framewake_proto::ids::{FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(15);

struct World {
    farm: Farm,
    now: Timestamp,
}

impl World {
    fn apply(&mut self, event: Event) -> Applied {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        out
    }

    fn pass(&mut self, time: Duration) -> Applied {
        self.now = self.now.after(time);
        self.apply(Event::TimePassed)
    }
}

/// A farm with one job of one task, which a worker holds.
fn rendering() -> World {
    let settings = Settings { lease: LEASE, ..Settings::default() };
    let now = Timestamp(1_000_000);
    let mut world = World { farm: Farm::restore(settings, now, Snapshot::default()), now };
    world.apply(Event::PoolsSet { pools: vec![PoolRules::local(4)], unfit: BTreeMap::new() });
    world.apply(Event::ReportsDrained);
    let function: FunctionKey = "blender@1".parse().expect("a good key");
    world.apply(Event::FunctionAdded { key: function.clone(), rules: FunctionRules::without_gpu(1, 1) });
    let step = NewStep {
        function,
        tasks: 1,
        chunking: Chunking::Fixed { size: 1 },
        retries: Retries::default(),
        gpu_memory_bytes: 0,
        frame_limit: None,
        vram: framewake_core::gpus::Vram::default(),
        after: Vec::new(),
    };
    let job = NewJob {
        project: "film".parse().expect("a good name"),
        budget: None,
        deadline: None,
        priority: 50,
        steps: vec![step],
    };
    let applied = world.apply(Event::JobSubmitted { id: JobId(1u128.into()), job });
    let worker = applied.effects.iter().find_map(|effect| match effect {
        Effect::StartWorker { worker, .. } => Some(worker.clone()),
        _ => None,
    });
    let worker: WorkerId = worker.expect("demand starts a worker");
    let attempt = applied.effects.iter().find_map(|effect| match effect {
        Effect::PublishOrder { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let attempt = attempt.expect("work is offered");
    let claimed = world.apply(Event::AttemptClaimed { request: RequestId(1), worker, attempt });
    let granted = |effect: &Effect| matches!(effect, Effect::AnswerClaim { answer: ClaimAnswer::Granted { .. }, .. });
    assert!(claimed.effects.iter().any(granted), "{claimed:?}");
    world
}

fn lost(applied: &Applied) -> bool {
    let lost = |change: &Change| matches!(change, Change::AttemptEnded { outcome: Outcome::Lost { .. }, .. });
    applied.changes.iter().any(lost)
}

#[test]
fn a_silent_worker_is_lost_when_its_lease_is_over() {
    let mut world = rendering();
    assert!(!lost(&world.pass(LEASE / 2)));
    assert!(lost(&world.pass(LEASE)));
}

#[test]
fn silence_does_not_count_while_nothing_can_be_heard_and_counts_anew_afterwards() {
    let mut world = rendering();
    world.apply(Event::ReportsHeldUp);
    assert!(!lost(&world.pass(LEASE * 100)));
    assert!(!lost(&world.apply(Event::ReportsDrained)));
    assert!(!lost(&world.pass(LEASE / 2)), "it gets a whole lease to speak again");
    assert!(lost(&world.pass(LEASE)));
}
