//! Workers that are kept with work or without.

use framewake_core::change::Change;
use framewake_core::effect::{Control, Effect};
use framewake_core::event::{Event, RequestId, WorkerEnd};
use framewake_core::farm::{Applied, Farm};
use framewake_core::values::{FunctionRules, PoolRules, Settings, Snapshot};
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;

const START: Timestamp = Timestamp(1_700_000_000_000);

fn version(number: u32) -> FunctionKey {
    FunctionKey { name: name(), version: number }
}

fn name() -> Name {
    "blender".parse().expect("a good name")
}

fn apply(farm: &mut Farm, event: Event) -> Applied {
    let mut out = Applied::default();
    farm.apply(START, event, &mut out);
    out
}

fn farm(kept: Vec<(Name, u32)>) -> Farm {
    let functions = vec![(version(1), FunctionRules::without_gpu(4, 1))];
    let mut farm = Farm::restore(Settings::default(), START, Snapshot { functions, kept, ..Snapshot::default() });
    apply(&mut farm, Event::PoolsSet { pools: vec![PoolRules::local(8)], unfit: BTreeMap::new() });
    farm
}

fn keep(farm: &mut Farm, workers: u32) -> Applied {
    apply(farm, Event::WorkersKept { function: name(), workers })
}

fn started(applied: &Applied) -> Vec<(WorkerId, FunctionKey)> {
    let started = applied.effects.iter().filter_map(|effect| match effect {
        Effect::StartWorker { worker, function, .. } => Some((worker.clone(), function.clone())),
        _ => None,
    });
    started.collect()
}

/// What it is told when it speaks.
fn speaks(farm: &mut Farm, worker: &WorkerId, function: &FunctionKey) -> Control {
    let seen = Event::WorkerSeen {
        request: RequestId(1),
        worker: worker.clone(),
        function: function.clone(),
        holds: None,
        draining: false,
        places: Vec::new(),
        gpu: String::new(),
        progress: None,
    };
    let answered = apply(farm, seen).effects.into_iter().find_map(|effect| match effect {
        Effect::AnswerHeartbeat { control, .. } => Some(control),
        _ => None,
    });
    answered.expect("it is answered")
}

fn told_to_leave(applied: &Applied) -> Vec<WorkerId> {
    let told = applied.effects.iter().filter_map(|effect| match effect {
        Effect::PushControl { worker, control } if control.drain => Some(worker.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn kept_workers_come_without_work_stay_come_again_and_leave_when_nobody_keeps_them() {
    let mut farm = farm(Vec::new());
    apply(&mut farm, Event::ReportsDrained);
    let kept = keep(&mut farm, 2);
    assert!(kept.changes.contains(&Change::WorkersKept { function: name(), workers: 2 }), "{:?}", kept.changes);
    let workers = started(&kept);
    assert_eq!(workers.len(), 2);
    for (worker, function) in &workers {
        assert!(speaks(&mut farm, worker, function).stay);
    }
    // Somebody starts a third: it stays as long as any does without work.
    let third: WorkerId = "z-by-hand".parse().expect("a good name");
    assert!(!speaks(&mut farm, &third, &version(1)).stay);
    let lost = Event::WorkerExited { worker: workers[0].0.clone(), end: WorkerEnd::Left };
    assert!(started(&apply(&mut farm, lost)).is_empty(), "the third is in its place");
    assert!(speaks(&mut farm, &third, &version(1)).stay);
    let lost = Event::WorkerExited { worker: third, end: WorkerEnd::Left };
    let again = started(&apply(&mut farm, lost));
    assert_eq!(again.len(), 1);
    assert!(speaks(&mut farm, &again[0].0, &version(1)).stay);

    let mut left = told_to_leave(&keep(&mut farm, 0));
    left.sort();
    let mut expected = vec![workers[1].0.clone(), again[0].0.clone()];
    expected.sort();
    assert_eq!(left, expected);
    assert!(!speaks(&mut farm, &workers[1].0, &version(1)).stay);
}

#[test]
fn never_more_are_kept_than_a_function_may_have() {
    let mut farm = farm(Vec::new());
    apply(&mut farm, Event::ReportsDrained);
    assert_eq!(started(&keep(&mut farm, 9)).len(), 4);
}

#[test]
fn a_new_version_is_kept_in_the_place_of_the_old_one() {
    let mut farm = farm(Vec::new());
    apply(&mut farm, Event::ReportsDrained);
    let old = started(&keep(&mut farm, 1));
    assert!(speaks(&mut farm, &old[0].0, &version(1)).stay);
    let rules = FunctionRules::without_gpu(4, 1);
    let new = started(&apply(&mut farm, Event::FunctionAdded { key: version(2), rules }));
    assert_eq!(new.iter().map(|(_, function)| function.clone()).collect::<Vec<_>>(), [version(2)]);
    assert!(!speaks(&mut farm, &old[0].0, &version(1)).stay, "it leaves when it has waited long enough");
    assert!(speaks(&mut farm, &new[0].0, &version(2)).stay);
}

#[test]
fn what_is_kept_is_remembered_over_a_restart() {
    let mut farm = farm(vec![(name(), 3)]);
    assert_eq!(started(&apply(&mut farm, Event::ReportsDrained)).len(), 3);
}
