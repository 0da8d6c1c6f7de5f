use super::trail::{FAILURES_TRACED_MAX, FRAMES_TRACED_MAX, has_traced};
use super::*;
use crate::function_table::{Accepted, FunctionTable};
use crate::metrics::Metrics;
use crate::store::JobCache;
use framewake_core::change::{Change, JobState, Outcome, StepState};
use framewake_core::event::{GpuUse, GpuWord, Moments, TaskFailure, TaskResult};
use framewake_core::values::LogSize;
use framewake_proto::ids::{ChunkId, FunctionKey, WorkerId};
use framewake_proto::job::JobSpec;
use framewake_proto::tasks::TaskSet;
use framewake_proto::verdict::Verdict;
use span::Span;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const ID: JobId = JobId(ulid::Ulid(1 << 80));
const TRACE: TraceId = TraceId(0xabc);

/// A traced job of so many frames in one step.
struct World {
    traces: Traces,
    jobs: JobCache,
    spans: mpsc::Receiver<Span>,
    metrics: Arc<Metrics>,
}

fn world(frames: u32, room: usize) -> World {
    let metrics = Arc::new(Metrics::default());
    let (outlet, spans) = Outlet::with_room(room, &metrics);
    let mut functions = FunctionTable::default();
    let driver = serde_json::json!({ "kind": "command", "command": ["render"] });
    let spec = serde_json::from_value(serde_json::json!({ "name": "any", "driver": driver })).expect("a function");
    functions.insert(FunctionKey { name: "any".parse().expect("a name"), version: 1 }, spec);
    let steps = serde_json::json!([{ "name": "render", "function": "any@1", "frames": format!("1-{frames}") }]);
    let spec: JobSpec = serde_json::from_value(serde_json::json!({ "name": "job", "steps": steps })).expect("a job");
    let mut jobs = JobCache::default();
    jobs.insert(ID, Arc::new(spec.check(&Accepted(&functions)).expect("a good job")));
    let mut traces = Traces { sampler: Sampler::AlwaysOn, outlet, jobs: HashMap::new(), attempts: HashMap::new() };
    let parent = TraceParent { trace: TRACE, span: SpanId(7), sampled: true };
    traces.begin(ID, Some(parent), Timestamp(0)).expect("it is sampled");
    World { traces, jobs, spans, metrics }
}

fn worker() -> WorkerId {
    "w".parse().expect("an id")
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { chunk: ChunkId(9), number }
}

impl World {
    fn follow(&mut self, changes: &[Change]) {
        self.traces.follow(changes, &self.jobs, |_| "GPU-aa".to_owned());
    }

    fn got(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }

    fn counted(&self, outcome: &str) -> u64 {
        let text = self.metrics.text(Timestamp(0));
        let series = format!("framewake_trace_spans_total{{outcome=\"{outcome}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&series)).expect("it is counted");
        count.parse().expect("a number")
    }
}

fn started(number: u32, tasks: std::ops::Range<u32>, at: i64) -> Change {
    let (tasks, at) = (TaskSet::from_run(tasks), Timestamp(at));
    Change::AttemptStarted { job: ID, step: 0, attempt: attempt(number), worker: worker(), tasks, at }
}

fn done(number: u32, task: u32, moments: Moments, at: i64) -> Change {
    let result = TaskResult {
        task,
        key: String::new(),
        sha256: [0; 32],
        size_bytes: 1,
        width: 0,
        height: 0,
        device: "CPU".to_owned(),
        renderer: String::new(),
        elapsed_ms: 1,
        found: false,
        memory_peak_bytes: 0,
        gpu: GpuUse::default(),
        moments,
    };
    Change::TaskDone { job: ID, step: 0, attempt: attempt(number), result, at: Timestamp(at) }
}

fn failed(number: u32, task: u32, at: i64) -> Change {
    let failure = TaskFailure {
        task,
        verdict: Verdict::RetrySame,
        message: "what the renderer says, with a token".to_owned(),
        evidence: "the same".to_owned(),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    };
    Change::TaskFailed { job: ID, step: 0, attempt: attempt(number), failure, for_good: false, at: Timestamp(at) }
}

fn ended(number: u32, outcome: Outcome, at: i64) -> Change {
    let (log, at) = (LogSize { kept_bytes: 0, left_out_bytes: 0 }, Timestamp(at));
    Change::AttemptEnded { job: ID, step: 0, attempt: attempt(number), outcome, done: 1, failed: 0, log, at }
}

fn shown(spans: &[Span]) -> Vec<(&'static str, i64, i64)> {
    spans.iter().map(|span| (span.name, span.start.0, span.end.0)).collect()
}

#[test]
fn a_workers_moments_are_counted_from_its_claim_and_never_leave_the_attempt() {
    let mut world = world(3, 100);
    let moments = |began, rendered, uploading, ended| Moments {
        began_ms: Some(began),
        rendered_ms: Some(rendered),
        uploading_ms: Some(uploading),
        ended_ms: Some(ended),
    };
    world.follow(&[started(1, 0..3, 1000), done(1, 0, moments(10, 40, 45, 60), 1100)]);
    assert_eq!(shown(&world.got()), [("frame", 1010, 1060), ("render", 1010, 1040), ("upload", 1045, 1060)]);
    // One that lies.
    let liar = moments(u32::MAX, 0, u32::MAX, 5);
    world.follow(&[done(1, 1, liar, 1200)]);
    for span in world.got() {
        assert!((1000..=1200).contains(&span.start.0) && (1000..=1200).contains(&span.end.0), "{span:?}");
    }
    // One that says nothing.
    world.follow(&[done(1, 2, Moments::default(), 1300), ended(1, Outcome::Finished, 1300)]);
    assert_eq!(shown(&world.got()), [("frame", 1300, 1300), ("attempt", 1000, 1300)]);
}

#[test]
fn a_scheduler_that_comes_back_finds_the_same_parents() {
    let mut before = world(3, 100);
    before.follow(&[started(1, 0..3, 1000), done(1, 0, Moments::default(), 1100)]);
    let frame = before.got().remove(0);
    let root = before.traces.jobs[&ID].root;
    let mut after = world(3, 100);
    let held = crate::store::HeldAttempt {
        attempt: attempt(1),
        worker: worker(),
        tasks: TaskSet::from_run(0..3),
        since: Timestamp(1000),
    };
    after.traces.restore(StoredTraces { jobs: vec![(ID, root)], held: vec![held] });
    let over = Change::JobState { id: ID, state: JobState::Succeeded, at: Timestamp(2000) };
    let step = Change::StepState { job: ID, step: 0, state: StepState::Succeeded, at: Timestamp(2000) };
    after.follow(&[ended(1, Outcome::Finished, 2000), over, step]);
    let spans = after.got();
    assert_eq!(shown(&spans), [("attempt", 1000, 2000), ("step", 0, 2000), ("job", 0, 2000)]);
    assert_eq!(frame.parent, Some(spans[0].id));
    assert_eq!((spans[0].parent, spans[1].parent), (Some(spans[1].id), Some(spans[2].id)));
    assert_eq!(spans[2].parent, Some(SpanId(7)));
    assert!(after.traces.jobs.is_empty() && after.traces.attempts.is_empty());
    // It goes on by hand: below what it was, with an id of its own.
    let again = after.traces.begin_again(ID, root, Timestamp(5000)).expect("there is room");
    assert_eq!((again.trace, again.parent), (TRACE, Some(spans[2].id)));
    assert_ne!(again.span(), spans[2].id);
}

#[test]
fn a_trace_of_a_million_frames_is_bounded_and_says_what_it_leaves_out() {
    let frames = 1_000_000;
    let mut world = world(frames, 3 * FRAMES_TRACED_MAX as usize + 2 * FAILURES_TRACED_MAX as usize);
    let moments = Moments { began_ms: Some(1), rendered_ms: Some(2), uploading_ms: Some(2), ended_ms: Some(3) };
    for chunk in 0..100 {
        let tasks = chunk * 10_000..(chunk + 1) * 10_000;
        let mut changes = vec![started(chunk + 1, tasks.clone(), 0)];
        changes.extend(tasks.map(|task| done(chunk + 1, task, moments, 10)));
        world.follow(&changes);
    }
    let spans = world.got();
    let traced: Vec<u32> = (0..frames).step_by(200).collect();
    assert_eq!(spans.len(), 3 * traced.len());
    let left_out = u64::from(frames) - traced.len() as u64;
    // Failures are looked for, but not without end.
    let failures: Vec<Change> =
        (0..frames).filter(|task| task % 200 != 0).take(5000).map(|task| failed(1, task, 10)).collect();
    world.follow(&failures);
    let spans = world.got();
    assert_eq!(spans.len(), FAILURES_TRACED_MAX as usize);
    assert!(!format!("{spans:?}").contains("token"), "what renderers say stays here");
    let left_out = left_out + 5000 - u64::from(FAILURES_TRACED_MAX);
    world.follow(&[Change::JobState { id: ID, state: JobState::Failed, at: Timestamp(99) }]);
    let job = world.got().remove(0);
    let says = |key: &str| job.attributes.iter().find(|of| of.key.as_str() == key).map(|of| of.value.to_string());
    assert_eq!(says("framewake.spans_left_out"), Some(left_out.to_string()));
    assert_eq!(says("framewake.frames_traced_every").as_deref(), Some("200"));
    assert_eq!((world.counted("left_out"), world.counted("dropped")), (left_out, 0));
}

#[test]
fn attempts_have_spans_if_one_of_their_frames_has() {
    let has = |tasks: std::ops::Range<u32>| has_traced(&TaskSet::from_run(tasks), 200);
    assert!(has(0..1) && has(150..201) && has(400..401));
    assert!(!has(1..200) && !has(201..400) && !has(u32::MAX - 1..u32::MAX));
}

#[test]
fn a_queue_that_is_full_takes_no_time_and_what_is_dropped_is_counted() {
    let mut world = world(1000, 4);
    let changes: Vec<Change> = (0..1000).map(|task| done(1, task, Moments::default(), 10)).collect();
    let began = Instant::now();
    world.follow(&changes);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((world.got().len(), world.counted("dropped")), (4, 996));
}

#[test]
fn jobs_past_the_bound_are_not_traced() {
    let mut world = world(1, 4);
    for number in 0..2 * JOBS_TRACED_MAX as u128 {
        world.traces.begin(JobId(ulid::Ulid(number)), None, Timestamp(0));
    }
    assert_eq!(world.traces.jobs.len(), JOBS_TRACED_MAX);
    assert_eq!(world.counted("left_out"), JOBS_TRACED_MAX as u64 + 1);
    let order = world.traces.order(ID, 0, attempt(1)).expect("it is traced");
    assert_eq!((order.trace, order.sampled), (TRACE, true));
    assert_eq!(world.traces.order(JobId(ulid::Ulid(u128::MAX)), 0, attempt(1)), None);
}
