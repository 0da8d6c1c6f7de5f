//! What asks for workers, and what must not: a paused job, a wait that a clock made endless.

use framewake_core::change::Change;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{
    AttemptEnd, Event, GpuUse, GpuWord, Moments, Report, RequestId, TaskFailure, TaskResult, WorkerEnd,
};
use framewake_core::farm::{Applied, Farm, PlaceStanding};
use framewake_core::values::{
    FunctionRules, NewJob, NewStep, Place, PoolRules, Settings, Snapshot, StoredChunk, StoredChunkState, StoredJob,
    StoredPlace, StoredStep,
};
use framewake_proto::duration::Span;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Chunking, Retries};
use framewake_proto::start::StartPoint;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const START: Timestamp = Timestamp(1_700_000_000_000);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

fn id() -> JobId {
    JobId(1u128.into())
}

fn function() -> FunctionKey {
    "blender@1".parse().expect("a good key")
}

fn job(tasks: u32) -> NewJob {
    let retries = Retries { attempts: 3, backoff: Span(BACKOFF_MAX), backoff_max: Span(BACKOFF_MAX) };
    let chunking = Chunking::Fixed { size: 1 };
    let step = NewStep {
        function: function(),
        tasks,
        chunking,
        retries,
        gpu_memory_bytes: 0,
        frame_limit: None,
        vram: framewake_core::gpus::Vram::default(),
        after: Vec::new(),
    };
    NewJob {
        project: "film".parse().expect("a good name"),
        budget: None,
        deadline: None,
        priority: 50,
        steps: vec![step],
    }
}

fn apply(farm: &mut Farm, now: Timestamp, event: Event) -> Applied {
    let mut out = Applied::default();
    farm.apply(now, event, &mut out);
    out
}

fn farm() -> Farm {
    let rules = FunctionRules::without_gpu(4, 1);
    let snapshot = Snapshot { functions: vec![(function(), rules)], ..Snapshot::default() };
    let mut farm = Farm::restore(Settings::default(), START, snapshot);
    apply(&mut farm, START, local(4));
    apply(&mut farm, START, Event::ReportsDrained);
    farm
}

/// A farm with another function beside, which share so many slots.
fn farm_of_two(slots: u32) -> (Farm, FunctionKey) {
    let other: FunctionKey = "tachyon@1".parse().expect("a good key");
    let rules = FunctionRules::without_gpu(4, 1);
    let functions = vec![(function(), rules.clone()), (other.clone(), rules)];
    let mut farm = Farm::restore(Settings::default(), START, Snapshot { functions, ..Snapshot::default() });
    apply(&mut farm, START, local(slots));
    apply(&mut farm, START, Event::ReportsDrained);
    (farm, other)
}

/// No pool but the scheduler's own machine.
fn local(slots: u32) -> Event {
    Event::PoolsSet { pools: vec![PoolRules::local(slots)], unfit: BTreeMap::new() }
}

fn started(applied: &Applied) -> Vec<WorkerId> {
    let started = applied.effects.iter().filter_map(|effect| match effect {
        Effect::StartWorker { worker, .. } => Some(worker.clone()),
        _ => None,
    });
    started.collect()
}

fn urgent() -> NewJob {
    NewJob { budget: None, deadline: None, priority: 100, ..job(10) }
}

fn published(applied: &Applied) -> impl Iterator<Item = AttemptId> {
    applied.effects.iter().filter_map(|effect| match effect {
        Effect::PublishOrder { attempt, .. } => Some(*attempt),
        _ => None,
    })
}

fn offered(applied: &Applied) -> AttemptId {
    published(applied).next().expect("work is offered")
}

#[test]
fn a_paused_job_asks_for_no_workers_until_it_is_resumed() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(8) });
    let workers = started(&submitted);
    assert_eq!(workers.len(), 4);
    let paused = apply(&mut farm, START, Event::JobPaused { id: id() });
    assert!(started(&paused).is_empty());
    for worker in workers {
        // They find nothing to do and leave.
        let left = Event::WorkerExited { worker, end: WorkerEnd::Left };
        assert!(started(&apply(&mut farm, START, left)).is_empty(), "nobody is called to a job that is paused");
    }
    let resumed = apply(&mut farm, START, Event::JobResumed { id: id() });
    assert_eq!(started(&resumed).len(), 4);
}

/// One worker of two is asked to leave, so that another function gets its turn: its slot must not go to the function that it
/// came from.
#[test]
fn a_slot_that_was_made_free_goes_to_the_function_that_it_was_made_free_for() {
    let (mut farm, other) = farm_of_two(2);
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(10) });
    let (workers, attempts) = (started(&submitted), published(&submitted).collect::<Vec<_>>());
    assert_eq!(workers.len(), 2);
    for (request, (worker, attempt)) in workers.iter().zip(attempts).enumerate() {
        let request = RequestId(request as u64);
        apply(&mut farm, START, Event::AttemptClaimed { request, worker: worker.clone(), attempt });
    }
    let second = NewJob { steps: vec![NewStep { function: other.clone(), ..job(10).steps.remove(0) }], ..job(10) };
    let asked = apply(&mut farm, START, Event::JobSubmitted { id: JobId(2u128.into()), job: second });
    let leaving = asked.effects.iter().find_map(|effect| match effect {
        Effect::PushControl { worker, control } if control.drain => Some(worker.clone()),
        _ => None,
    });
    let left = Event::WorkerExited { worker: leaving.expect("one is asked to leave"), end: WorkerEnd::Left };
    let next = apply(&mut farm, START, left);
    let functions: Vec<&FunctionKey> = next
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::StartWorker { function, .. } => Some(function),
            _ => None,
        })
        .collect();
    assert_eq!(functions, [&other]);
}

/// A worker that was asked to leave may not have heard it. What it claims is not offered to it again and again, at the pace of its
/// claims, and it is asked once more.
#[test]
fn what_a_leaving_worker_claims_waits_a_moment_for_another() {
    let (mut farm, other) = farm_of_two(1);
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt };
    apply(&mut farm, START, claimed);
    let report = Report { done: vec![done()], end: Some(AttemptEnd::Finished), ..Report::default() };
    apply(&mut farm, START, Event::AttemptReported { worker: worker.clone(), attempt, report });
    let second = NewJob { steps: vec![NewStep { function: other, ..job(1).steps.remove(0) }], ..job(1) };
    let asked = apply(&mut farm, START, Event::JobSubmitted { id: JobId(2u128.into()), job: second });
    assert!(is_told_to_leave(&asked, &worker), "{:?}", asked.effects);
    let third = apply(&mut farm, START, Event::JobSubmitted { id: JobId(3u128.into()), job: job(1) });
    let order = offered(&third);
    let claimed = Event::AttemptClaimed { request: RequestId(2), worker: worker.clone(), attempt: order };
    let refused = apply(&mut farm, START, claimed);
    assert_eq!(published(&refused).count(), 0, "{:?}", refused.effects);
    assert!(is_told_to_leave(&refused, &worker), "{:?}", refused.effects);
    let later = apply(&mut farm, START.after(Duration::from_millis(200)), Event::TimePassed);
    assert_eq!(published(&later).map(|attempt| attempt.chunk).collect::<Vec<_>>(), [order.chunk]);
}

/// Whom a chunk avoids is not forgotten because somebody who leaves claimed it in between.
#[test]
fn what_a_leaving_worker_gives_back_still_avoids_where_it_failed() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(4) });
    let (workers, order) = (started(&submitted), offered(&submitted));
    let [failing, leaving, ..] = &workers[..] else { panic!("one for each task: {workers:?}") };
    let claim = |farm: &mut Farm, now, worker: &WorkerId, attempt| {
        apply(farm, now, Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt })
    };
    let reason = |applied: &Applied| {
        applied.effects.iter().find_map(|effect| match effect {
            Effect::AnswerClaim { answer: ClaimAnswer::Refused { reason }, .. } => Some(*reason),
            _ => None,
        })
    };
    claim(&mut farm, START, failing, order);
    let report = Report {
        failed: vec![failure(0, Verdict::RetryElsewhere)],
        end: Some(AttemptEnd::Finished),
        ..Report::default()
    };
    apply(&mut farm, START, Event::AttemptReported { worker: failing.clone(), attempt: order, report });
    // What failed is a chunk of its own now.
    let first: Vec<ChunkId> = published(&submitted).map(|order| order.chunk).collect();
    let anew = |applied: &Applied| published(applied).find(|order| !first.contains(&order.chunk)).expect("offered");
    let mut now = START.after(BACKOFF_MAX * 6 / 5);
    let second = anew(&apply(&mut farm, now, Event::TimePassed));
    apply(&mut farm, now, seen(leaving, true));
    assert!(reason(&claim(&mut farm, now, leaving, second)).is_some_and(|reason| reason.contains("leaving")));
    now = now.after(Duration::from_millis(200));
    let third = anew(&apply(&mut farm, now, Event::TimePassed));
    let refused = reason(&claim(&mut farm, now, failing, third));
    assert!(refused.is_some_and(|reason| reason.contains("failed on this worker")), "{refused:?}");
}

fn done() -> TaskResult {
    TaskResult {
        task: 0,
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
        gpu: GpuUse::default(),
        moments: Moments::default(),
    }
}

fn failure(task: u32, verdict: Verdict) -> TaskFailure {
    TaskFailure {
        task,
        verdict,
        message: String::new(),
        evidence: String::new(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    }
}

/// It waits for orders, and says so.
fn idle(worker: &WorkerId) -> Event {
    seen(worker, false)
}

fn seen(worker: &WorkerId, draining: bool) -> Event {
    Event::WorkerSeen {
        request: RequestId(1),
        worker: worker.clone(),
        function: function(),
        holds: None,
        draining,
        places: Vec::new(),
        gpu: String::new(),
        progress: None,
    }
}

fn is_told_to_leave(applied: &Applied, who: &WorkerId) -> bool {
    let push =
        |effect: &Effect| matches!(effect, Effect::PushControl { worker, control } if worker == who && control.drain);
    applied.effects.iter().any(push)
}

/// The last task of an attempt may be told before its end. Killed in between, the farm comes back with what is stored: of what is done,
/// nothing may be open in it, or it is done once more, which no store takes.
#[test]
fn what_is_stored_of_an_attempt_that_has_done_all_and_not_ended_is_not_open() {
    let mut farm = farm();
    let pairs = NewStep { chunking: Chunking::Fixed { size: 2 }, ..job(4).steps.remove(0) };
    let submitted = Event::JobSubmitted { id: id(), job: NewJob { steps: vec![pairs], ..job(4) } };
    let submitted = apply(&mut farm, START, submitted);
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt };
    let mut stored = Vec::new();
    let mut keep = |applied: Applied| {
        stored.extend(applied.changes.into_iter().filter_map(|change| match change {
            Change::ChunkStored(chunk) if chunk.id == attempt.chunk => Some(chunk.tasks),
            _ => None,
        }));
    };
    keep(apply(&mut farm, START, claimed));
    for task in 0..2 {
        let report = Report { done: vec![TaskResult { task, ..done() }], ..Report::default() };
        keep(apply(&mut farm, START, Event::AttemptReported { worker: worker.clone(), attempt, report }));
    }
    assert_eq!(stored.iter().map(TaskSet::len).collect::<Vec<_>>(), [2, 1, 0]);
}

/// The last worker of one function becomes idle where another function waits for its slot: it is asked to leave at once, not when it
/// is heard of next.
#[test]
fn who_becomes_idle_makes_room_at_once_for_who_waits() {
    let (mut farm, other) = farm_of_two(1);
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt };
    apply(&mut farm, START, claimed);
    let second = NewJob { steps: vec![NewStep { function: other, ..job(1).steps.remove(0) }], ..job(1) };
    let asked = apply(&mut farm, START, Event::JobSubmitted { id: JobId(2u128.into()), job: second });
    assert!(!is_told_to_leave(&asked, &worker), "it is at work");
    let report = Report { done: vec![done()], end: Some(AttemptEnd::Finished), ..Report::default() };
    let ended = apply(&mut farm, START, Event::AttemptReported { worker: worker.clone(), attempt, report });
    assert!(is_told_to_leave(&ended, &worker), "{:?}", ended.effects);
}

/// An order can be lost with a worker that leaves as it comes: who waits for one does not wait until NATS finds out.
#[test]
fn an_order_that_nobody_claims_is_soon_published_anew_for_who_waits() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let (worker, lost) = (started(&submitted).remove(0), offered(&submitted));
    let soon = START.after(Duration::from_secs(1));
    apply(&mut farm, soon, idle(&worker));
    let anew = apply(&mut farm, START.after(Duration::from_secs(5)), Event::TimePassed);
    let orders: Vec<AttemptId> = published(&anew).collect();
    assert_eq!(orders.iter().map(|order| order.chunk).collect::<Vec<_>>(), [lost.chunk]);
    let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt: lost };
    let stale = apply(&mut farm, START.after(Duration::from_secs(6)), claimed);
    let answer = stale.effects.iter().find_map(|effect| match effect {
        Effect::AnswerClaim { answer, .. } => Some(answer),
        _ => None,
    });
    assert!(matches!(answer, Some(ClaimAnswer::Refused { .. })), "the lost one, should it come after all: {answer:?}");
}

/// Between two chunks every worker is idle for a moment: an order that lies behind others is not lost by that, and keeps its place.
#[test]
fn an_order_is_not_published_anew_for_who_is_idle_for_a_moment() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let worker = started(&submitted).remove(0);
    apply(&mut farm, START.after(Duration::from_millis(4500)), idle(&worker));
    let later = apply(&mut farm, START.after(Duration::from_secs(5)), Event::TimePassed);
    assert_eq!(published(&later).count(), 0, "{:?}", later.effects);
}

#[test]
fn a_task_that_ends_while_its_job_is_paused_is_counted_once() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(2) });
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    apply(&mut farm, START, Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt });
    apply(&mut farm, START, Event::JobPaused { id: id() });
    let failed = vec![failure(0, Verdict::SceneError), failure(1, Verdict::SceneError)];
    let report = Report { failed, end: Some(AttemptEnd::Finished), ..Report::default() };
    apply(&mut farm, START, Event::AttemptReported { worker, attempt, report });
    apply(&mut farm, START, Event::JobResumed { id: id() });
    let wanted: Vec<u32> = farm.scaling(START).map(|(_, status)| status.wanted).collect();
    assert_eq!(wanted, [1], "one task is left");
}

#[test]
fn a_clock_that_was_set_back_makes_no_wait_longer() {
    let mut farm = farm();
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    let claimed = Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt };
    let claimed = apply(&mut farm, START, claimed);
    let granted = |effect: &Effect| matches!(effect, Effect::AnswerClaim { answer: ClaimAnswer::Granted { .. }, .. });
    assert!(claimed.effects.iter().any(granted), "{claimed:?}");
    let failure = TaskFailure {
        task: 0,
        verdict: Verdict::RetrySame,
        message: String::new(),
        evidence: String::new(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    };
    let report = Report { failed: vec![failure], end: Some(AttemptEnd::Finished), ..Report::default() };
    let failed = apply(&mut farm, START, Event::AttemptReported { worker, attempt, report });
    let chunks: Vec<StoredChunk> = failed
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::ChunkStored(chunk) if !chunk.tasks.is_empty() => Some(chunk.clone()),
            _ => None,
        })
        .collect();
    // The machine comes back, and its clock is a day slow.
    let slow = Timestamp(START.0 - 86_400_000);
    let stored = StoredJob {
        id: id(),
        job: job(1),
        paused: false,
        restored: false,
        spent: Vec::new(),
        steps: vec![StoredStep::default()],
    };
    let rules = FunctionRules::without_gpu(4, 1);
    let chunks = chunks.into_iter().filter(|chunk| chunk.id != attempt.chunk).collect();
    let snapshot = Snapshot {
        functions: vec![(function(), rules)],
        jobs: vec![stored],
        chunks,
        chunk_next: 10_000,
        ..Snapshot::default()
    };
    let mut farm = Farm::restore(Settings::default(), slow, snapshot);
    apply(&mut farm, slow, local(4));
    apply(&mut farm, slow, Event::ReportsDrained);
    let later = apply(&mut farm, slow.after(BACKOFF_MAX * 2), Event::TimePassed);
    offered(&later);
}

/// Farms of before [`what_is_stored_of_an_attempt_that_has_done_all_and_not_ended_is_not_open`] could not start any more.
#[test]
fn what_is_done_is_not_done_again_where_the_store_has_it_in_a_chunk_too() {
    let worker: WorkerId = "w1".parse().expect("a good name");
    let chunk = StoredChunk {
        id: ChunkId(7),
        job: id(),
        step: 0,
        tasks: TaskSet::from_run(0..1),
        attempt: 1,
        spent: 0,
        losses: 0,
        lost: Vec::new(),
        state: StoredChunkState::Leased { worker: worker.clone(), since: START, done: 1, failed: 0 },
    };
    let done_before = StoredStep { done: TaskSet::from_run(0..1), ..StoredStep::default() };
    let stored = StoredJob {
        id: id(),
        job: job(2),
        paused: false,
        restored: false,
        spent: Vec::new(),
        steps: vec![done_before],
    };
    let snapshot = Snapshot {
        functions: vec![(function(), FunctionRules::without_gpu(4, 1))],
        jobs: vec![stored],
        chunk_next: 10_000,
        ..Snapshot::default()
    };
    // Nor what is tried again in another chunk, which waits.
    let waits = StoredChunkState::Waiting { until: START, avoid: None };
    let anew =
        StoredChunk { id: ChunkId(9), tasks: TaskSet::from_run(1..2), attempt: 0, state: waits, ..chunk.clone() };
    let chunk = StoredChunk { tasks: TaskSet::from_run(0..2), ..chunk };
    let snapshot = Snapshot { chunks: vec![chunk, anew], ..snapshot };
    let mut farm = Farm::restore(Settings::default(), START, snapshot);
    let begun = apply(&mut farm, START, local(4));
    let attempt: AttemptId = "7.1".parse().expect("a good attempt");
    let again = Report { done: vec![done()], end: Some(AttemptEnd::Finished), ..Report::default() };
    let told = apply(&mut farm, START, Event::AttemptReported { worker, attempt, report: again });
    assert!(!told.changes.iter().any(|change| matches!(change, Change::TaskDone { .. })), "{:?}", told.changes);
    let goes_on = apply(&mut farm, START, Event::ReportsDrained);
    let orders = published(&begun).chain(published(&told)).chain(published(&goes_on));
    assert_eq!(orders.map(|order| order.chunk.0).collect::<Vec<_>>(), [9], "the other task is offered, once");
}

#[test]
fn a_clock_that_was_set_back_sets_nobody_aside_for_longer() {
    const ASIDE: Duration = Duration::from_mins(10);
    let place = Place::new("node1");
    let aside = StoredPlace {
        place,
        since: START,
        until: START.after(ASIDE),
        times: 1,
        reason: "it failed".to_owned(),
        proven_at: None,
    };
    let slow = Timestamp(START.0 - 86_400_000);
    let snapshot = Snapshot { places: vec![aside], ..Snapshot::default() };
    let mut farm = Farm::restore(Settings::default(), slow, snapshot);
    let is_aside =
        |farm: &Farm, now| farm.places(now).any(|status| matches!(status.standing, PlaceStanding::Aside { .. }));
    apply(&mut farm, slow, Event::ReportsDrained);
    assert!(is_aside(&farm, slow));
    let later = slow.after(ASIDE);
    apply(&mut farm, later, Event::TimePassed);
    assert!(!is_aside(&farm, later));
}

#[test]
fn a_large_farm_keeps_few_orders_ahead_of_busy_workers() {
    const WORKERS: u32 = 5000;
    let rules = FunctionRules::without_gpu(WORKERS, 1);
    let snapshot = Snapshot { functions: vec![(function(), rules)], ..Snapshot::default() };
    let mut farm = Farm::restore(Settings::default(), START, snapshot);
    apply(&mut farm, START, local(WORKERS));
    apply(&mut farm, START, Event::ReportsDrained);
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1_000_000) });
    let workers = started(&submitted);
    let mut orders: VecDeque<AttemptId> = published(&submitted).collect();
    assert_eq!(orders.len(), 6000, "one for each that is free, and a thousand");
    for worker in workers {
        let attempt = orders.pop_front().expect("nobody waits for an order");
        let claimed = apply(&mut farm, START, Event::AttemptClaimed { request: RequestId(1), worker, attempt });
        orders.extend(published(&claimed));
    }
    assert_eq!(orders.len(), 1000, "all are busy");
    let other = apply(&mut farm, START, Event::JobSubmitted { id: JobId(2u128.into()), job: urgent() });
    assert_eq!(published(&other).count(), 1000, "what is taken back for a job that comes first");
}

#[test]
fn what_waits_and_how_long_is_told_for_each_function() {
    let mut farm = farm();
    let later = START.after(Duration::from_secs(40));
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(10) });
    let (worker, attempt) = (started(&submitted).remove(0), offered(&submitted));
    let load = farm.loads(later).next().expect("one function");
    assert_eq!((load.wanted, load.starting, load.idle, load.busy), (4, 4, 0, 0));
    assert_eq!((load.tasks_waiting, load.chunks_offered, load.chunks_held), (10, 8, 0));
    assert_eq!(load.oldest_waiting, Duration::from_secs(40));
    apply(&mut farm, later, Event::AttemptClaimed { request: RequestId(1), worker, attempt });
    let load = farm.loads(later).next().expect("one function");
    assert_eq!((load.starting, load.idle, load.busy, load.chunks_held), (3, 0, 1, 1));
    assert_eq!(load.tasks_waiting, 9, "one is held");
    // What is paused waits for nobody, and begins anew.
    apply(&mut farm, later, Event::JobPaused { id: id() });
    assert_eq!(farm.loads(later).next().expect("one function").oldest_waiting, Duration::ZERO);
    apply(&mut farm, later, Event::JobResumed { id: id() });
    let load = farm.loads(later.after(Duration::from_secs(5))).next().expect("one function");
    assert_eq!(load.oldest_waiting, Duration::from_secs(5));
}

#[test]
fn a_worker_that_waited_for_a_slot_says_how_long() {
    let rules = FunctionRules::without_gpu(4, 1);
    let other: FunctionKey = "encode@1".parse().expect("a good key");
    let functions = vec![(function(), rules.clone()), (other.clone(), rules)];
    let mut farm = Farm::restore(Settings::default(), START, Snapshot { functions, ..Snapshot::default() });
    apply(&mut farm, START, local(1));
    apply(&mut farm, START, Event::ReportsDrained);
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: id(), job: job(1) });
    let first = started(&submitted).remove(0);
    let mut second = job(1);
    second.steps[0].function = other;
    let submitted = apply(&mut farm, START, Event::JobSubmitted { id: JobId(2u128.into()), job: second });
    assert!(started(&submitted).is_empty(), "the only slot is taken");
    apply(&mut farm, START, Event::JobCanceled { id: id() });
    let later = START.after(Duration::from_secs(7));
    let exited = Event::WorkerExited { worker: first, end: WorkerEnd::Left };
    let second = started(&apply(&mut farm, later, exited)).remove(0);
    let start = farm.start_of(&second).expect("it was asked for");
    assert_eq!(start.timeline.phases().collect::<Vec<_>>(), [(StartPoint::Asked, Duration::from_secs(7))]);
}
