//! Of a job that failed some tasks are tried again: those, and nothing else.

use framewake_core::change::{Change, JobState, StepState};
use framewake_core::effect::Effect;
use framewake_core::event::{AttemptEnd, Event, GpuWord, Moments, Report, RequestId, TaskFailure};
use framewake_core::farm::{Applied, Farm};
use framewake_core::gpus::Vram;
use framewake_core::values::{FunctionRules, NewJob, NewStep, PoolRules, Settings, Snapshot, StoredJob, StoredStep};
use framewake_proto::ids::{FunctionKey, JobId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn function() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

fn apply(farm: &mut Farm, event: Event) -> Applied {
    let mut out = Applied::default();
    farm.apply(NOW, event, &mut out);
    out
}

fn step(tasks: u32, after: Vec<usize>) -> NewStep {
    let retries = Retries { attempts: 1, ..Retries::default() };
    let chunking = Chunking::Fixed { size: 10 };
    NewStep {
        function: function(),
        tasks,
        chunking,
        retries,
        gpu_memory_bytes: 0,
        frame_limit: None,
        vram: Vram::default(),
        after,
    }
}

fn set(tasks: &[u32]) -> TaskSet {
    tasks.iter().map(|task| *task..*task + 1).collect()
}

/// Two steps of which all tasks failed, and one that waits for the second.
fn failed_job() -> StoredJob {
    let steps = vec![step(6, vec![]), step(1, vec![]), step(1, vec![1])];
    let project = "film".parse().expect("a good name");
    let stored = |tasks: &[u32]| StoredStep { failed: set(tasks), ..StoredStep::default() };
    StoredJob {
        id: JobId(1u128.into()),
        job: NewJob { project, budget: None, deadline: None, priority: 50, steps },
        paused: false,
        restored: false,
        spent: Vec::new(),
        steps: vec![stored(&[0, 1, 2, 3, 4, 5]), stored(&[0]), stored(&[])],
    }
}

#[test]
fn tasks_that_are_named_are_tried_again_and_the_job_ends_without_the_others() {
    let functions = vec![(function(), FunctionRules::without_gpu(1, 1))];
    let mut farm = Farm::restore(Settings::default(), NOW, Snapshot { functions, ..Snapshot::default() });
    apply(&mut farm, Event::PoolsSet { pools: vec![PoolRules::local(1)], unfit: BTreeMap::new() });
    apply(&mut farm, Event::ReportsDrained);
    let only = Some((0, set(&[1, 4, 77])));
    let retried = apply(&mut farm, Event::JobRetried { job: Box::new(failed_job()), only });
    let reset: Vec<_> = retried
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::TasksReset { step, tasks, .. } => Some((*step, tasks.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(reset, [(0, set(&[1, 4]))]);
    let last = |step: usize| {
        retried.changes.iter().rev().find_map(|change| match change {
            Change::StepState { step: at, state, .. } if *at == step => Some(*state),
            _ => None,
        })
    };
    assert_eq!((last(0), last(1), last(2)), (Some(StepState::Running), None, Some(StepState::Canceled)));
    let worker = retried.effects.iter().find_map(|effect| match effect {
        Effect::StartWorker { worker, .. } => Some(worker.clone()),
        _ => None,
    });
    let worker = worker.expect("somebody is called");
    let attempt = retried.effects.iter().find_map(|effect| match effect {
        Effect::PublishOrder { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let attempt = attempt.expect("work is offered");
    let seen = Event::WorkerSeen {
        gpu: String::new(),
        request: RequestId(0),
        worker: worker.clone(),
        function: function(),
        holds: None,
        draining: false,
        places: Vec::new(),
        progress: None,
    };
    apply(&mut farm, seen);
    apply(&mut farm, Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt });
    let failure = |task| TaskFailure {
        task,
        verdict: Verdict::SceneError,
        message: String::new(),
        evidence: String::new(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    };
    let report = Report { failed: vec![failure(1), failure(4)], end: Some(AttemptEnd::Finished), ..Report::default() };
    let ended = apply(&mut farm, Event::AttemptReported { worker, attempt, report });
    let over = ended.changes.iter().any(|change| matches!(change, Change::JobState { state: JobState::Failed, .. }));
    assert!(over, "what waits for a step that failed before waits for nothing: {:?}", ended.changes);
}

#[test]
fn a_job_of_which_nothing_named_had_failed_stays_as_it_is() {
    let functions = vec![(function(), FunctionRules::without_gpu(1, 1))];
    let mut farm = Farm::restore(Settings::default(), NOW, Snapshot { functions, ..Snapshot::default() });
    apply(&mut farm, Event::PoolsSet { pools: vec![PoolRules::local(1)], unfit: BTreeMap::new() });
    apply(&mut farm, Event::ReportsDrained);
    let only = Some((2, set(&[0])));
    let retried = apply(&mut farm, Event::JobRetried { job: Box::new(failed_job()), only });
    assert_eq!(retried.changes, []);
    assert_eq!(farm.job_state(JobId(1u128.into())), None);
}
