//! What was committed is what the next start finds: real rules, real SQLite, in a folder of the test's own.

mod copies;
mod costs;
mod damage;
mod plans;
mod released;
mod schedules;
mod tries;

use super::*;
use crate::engine::Submission;
use crate::function_table::{Accepted, FunctionTable};
use crate::traces::Root;
use framewake_core::change::{Change, JobState};
use framewake_core::coming::StoredStart;
use framewake_core::effect::{ClaimAnswer, Effect};
use framewake_core::event::{AttemptEnd, Event, GpuUse, GpuWord, Moments, Report, RequestId, TaskFailure, TaskResult};
use framewake_core::farm::{Applied, Farm};
use framewake_core::ledger::Account;
use framewake_core::schedule::ScheduleId;
use framewake_core::values::{
    LogSize, NewJob, Place, PoolRules, Settings, Snapshot, StoredJob, StoredPlace, StoredStarts, StoredStep, Timing,
};
use framewake_proto::api::{EventView, Happening};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, FunctionKey, Name, WorkerId};
use framewake_proto::job::JobSpec;
use framewake_proto::schedule::RunState;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;

/// The rules and the store beneath them, as the engine has them.
struct Books {
    folder: TempDir,
    store: Store,
    farm: Farm,
    functions: FunctionTable,
    jobs: JobCache,
    pending: Pending,
    now: Timestamp,
    seeds: u64,
}

/// What has been applied and not committed.
#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    submissions: Vec<Submission>,
    functions: Vec<(FunctionKey, FunctionSpec)>,
    schedules: Vec<ScheduleWrite>,
    roots: Vec<(JobId, Root)>,
}

/// Where workers of these tests are.
fn pools() -> Event {
    Event::PoolsSet { pools: vec![PoolRules::local(4)], unfit: BTreeMap::new() }
}

impl Books {
    async fn new() -> Books {
        let folder = tempfile::tempdir().expect("room for a folder");
        let store = Store::open(folder.path()).await.expect("a new folder is good");
        let now = Timestamp(1_700_000_000_000);
        let mut books = Books {
            folder,
            store,
            farm: Farm::restore(Settings::default(), now, Snapshot::default()),
            functions: FunctionTable::default(),
            jobs: JobCache::default(),
            pending: Pending::default(),
            now,
            seeds: 0,
        };
        books.apply(pools());
        books.apply(Event::ReportsDrained);
        let spec =
            json!({ "name": "any", "driver": { "kind": "command", "command": ["true"] }, "scaling": { "max": 4 } });
        let spec: FunctionSpec = serde_json::from_value(spec).expect("a good function");
        let key = FunctionKey { name: spec.name.clone(), version: 1 };
        books.apply(Event::FunctionAdded { key: key.clone(), rules: function_rules(&spec) });
        books.functions.insert(key.clone(), spec.clone());
        books.pending.functions.push((key, spec));
        books
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Applied::default();
        self.farm.apply(self.now, event, &mut out);
        self.pending.changes.extend(out.changes);
        out.effects
    }

    /// A job of two steps, the second after the first.
    fn submit(&mut self, tasks: u32, key: Option<&str>) -> (JobId, Vec<Effect>) {
        self.seeds += 1;
        let id = JobId((u128::from(self.seeds) + (1 << 80)).into());
        let spec: JobSpec = serde_json::from_value(json!({
            "name": "a job",
            "labels": { "shot": "7" },
            "steps": [
                { "name": "render", "function": "any@1", "frames": format!("1-{tasks}"), "chunking": { "mode": "fixed", "size": 3 },
                  "retries": { "attempts": 2, "backoff": "1s" } },
                { "name": "encode", "function": "any@1", "after": ["render"] },
            ],
        }))
        .expect("a good job");
        let job = spec.check(&Accepted(&self.functions)).expect("a good job");
        let new = NewJob::from(&job);
        self.jobs.insert(id, Arc::new(job.clone()));
        self.pending.submissions.push(Submission {
            id,
            by: "ana".to_owned(),
            spec,
            job,
            idempotency: key.map(|key| (key.to_owned(), [7; 32])),
            parent: None,
        });
        (id, self.apply(Event::JobSubmitted { id, job: new }))
    }

    async fn commit(&mut self) -> Result<Vec<Arc<EventView>>, Error> {
        let pending = std::mem::take(&mut self.pending);
        let batch = Batch {
            changes: &pending.changes,
            submissions: pending.submissions.iter().map(|submission| (submission.id, submission)).collect(),
            functions: pending.functions,
            runs_learned: BTreeMap::new(),
            schedules: &pending.schedules,
            notices: &[],
            gateway: &[],
            access: &[],
            scans: &[],
            ended: &[],
            roots: &pending.roots,
            learned: BTreeMap::new(),
            events: &[],
            confinements: BTreeMap::new(),
            now: self.now,
        };
        self.store.commit(batch, &self.jobs).await
    }

    /// Ends the store as a crash would, and starts anew from what it kept.
    async fn restart(self) -> (Books, Snapshot, Vec<AttemptId>) {
        let Books { folder, store, now, seeds, .. } = self;
        drop(store);
        let mut store = Store::open(folder.path()).await.expect("what was written can be opened");
        let (snapshot, functions, jobs) = load_all(&mut store).await;
        let farm = Farm::restore(Settings::default(), now, snapshot.clone());
        let pending = Pending::default();
        let mut books = Books { folder, store, farm, functions, jobs, pending, now, seeds };
        books.apply(pools());
        let offered = orders(&books.apply(Event::ReportsDrained));
        (books, snapshot, offered)
    }
}

/// Everything that a start reads.
async fn load_all(store: &mut Store) -> (Snapshot, FunctionTable, JobCache) {
    let Loaded { mut snapshot, functions } = store.load(Timestamp(0)).await.expect("what was written can be read");
    let keep = |job| snapshot.jobs.push(job);
    store.load_jobs(&functions, keep).await.expect("what was written can be read");
    let ids: Vec<JobId> = snapshot.jobs.iter().map(|job| job.id).collect();
    let mut jobs = JobCache::default();
    for (id, job) in store.jobs(&ids, &functions).await.expect("what was written can be read") {
        jobs.insert(id, job);
    }
    (snapshot, functions, jobs)
}

fn orders(effects: &[Effect]) -> Vec<AttemptId> {
    let orders = effects.iter().filter_map(|effect| match effect {
        Effect::PublishOrder { attempt, .. } => Some(*attempt),
        _ => None,
    });
    orders.collect()
}

fn granted(effects: &[Effect]) -> Option<TaskSet> {
    effects.iter().find_map(|effect| match effect {
        Effect::AnswerClaim { answer: ClaimAnswer::Granted { tasks, .. }, .. } => Some(tasks.clone()),
        _ => None,
    })
}

fn result(task: u32) -> TaskResult {
    TaskResult {
        task,
        key: format!("jobs/default/x/{task}.png"),
        sha256: [u8::try_from(task % 251).expect("small"); 32],
        size_bytes: u64::from(task) + 1,
        width: 64,
        height: 36,
        device: "CPU".to_owned(),
        renderer: "test 1.0".to_owned(),
        elapsed_ms: 17 + task,
        found: false,
        memory_peak_bytes: 1 << 40,
        gpu: GpuUse::default(),
        moments: Moments::default(),
    }
}

fn failure(task: u32, verdict: Verdict) -> TaskFailure {
    TaskFailure {
        task,
        verdict,
        message: "it \"broke\"\n".to_owned(),
        evidence: format!("line of task {task}"),
        gpu: GpuWord::Nothing,
        moments: Moments::default(),
    }
}

/// What the store should remember, told change by change.
#[derive(Default)]
struct Model {
    jobs: BTreeMap<JobId, ModelJob>,
    weights: BTreeMap<framewake_proto::ids::Name, u32>,
    chunks: BTreeMap<u64, framewake_core::values::StoredChunk>,
    places: BTreeMap<Place, StoredPlace>,
    accounts: BTreeMap<WorkerId, Account>,
    starts: BTreeMap<WorkerId, StoredStart>,
    learned_starts: BTreeMap<(FunctionKey, Name), StoredStarts>,
    /// Paid time in each pool: in all, and of jobs.
    time_us: BTreeMap<String, (i64, i64)>,
    chunk_next: u64,
}

struct ModelJob {
    job: NewJob,
    state: JobState,
    steps: Vec<StoredStep>,
}

impl Model {
    fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            match change.clone() {
                Change::JobAdded { id, job, .. } => {
                    let steps = vec![StoredStep::default(); job.steps.len()];
                    self.jobs.insert(id, ModelJob { job, state: JobState::Queued, steps });
                }
                Change::JobState { id, state, .. } => self.job(id).state = state,
                Change::JobPriority { id, priority } => self.job(id).job.priority = priority,
                Change::JobBudget { job, budget } => self.job(job).job.budget = budget,
                Change::ProjectWeight { project, weight } => drop(self.weights.insert(project, weight)),
                Change::StepTiming { job, step, timing } => self.job(job).steps[step].timing = timing,
                Change::StepVram { job, step, vram } => self.job(job).steps[step].vram = vram,
                Change::TaskDone { job, step, result, .. } => {
                    assert!(self.job(job).steps[step].done.insert(result.task), "a task is done once");
                }
                Change::TaskFailed { job, step, failure, for_good: true, .. } => {
                    self.job(job).steps[step].failed.insert(failure.task);
                }
                Change::TasksReset { job, step, tasks } => {
                    tasks.runs().iter().for_each(|run| self.job(job).steps[step].failed.remove_run(run.clone()));
                }
                Change::ChunkStored(chunk) => drop(self.chunks.insert(chunk.id.0, chunk)),
                Change::ChunkClosed { id } => drop(self.chunks.remove(&id.0)),
                Change::ChunkNumbers { next } => self.chunk_next = next,
                Change::TaskFailed { for_good: false, .. }
                | Change::WorkersKept { .. }
                | Change::StepState { .. }
                | Change::StepCounts { .. }
                | Change::ProjectBudget { .. }
                | Change::BudgetTold { .. }
                | Change::AttemptStarted { .. }
                | Change::TimingLearned(_)
                | Change::AttemptEnded { .. } => {}
                Change::Paid { account, spent } => {
                    for piece in spent {
                        let pool = account.pool.as_ref().map_or_else(String::new, ToString::to_string);
                        let (all, of_jobs) = self.time_us.entry(pool).or_default();
                        *all += piece.time_us().cast_signed();
                        *of_jobs += if piece.work.is_some() { piece.time_us().cast_signed() } else { 0 };
                    }
                    self.accounts.insert(account.worker.clone(), account);
                }
                Change::AccountClosed { worker, .. } => drop(self.accounts.remove(&worker)),
                Change::WorkerStart { start, .. } if start.ended.is_some() => drop(self.starts.remove(&start.worker)),
                Change::WorkerStart { start, .. } => drop(self.starts.insert(start.worker.clone(), start)),
                Change::WorkerStartEnded { worker, .. } => drop(self.starts.remove(&worker)),
                Change::StartsLearned(learned) => {
                    self.learned_starts.insert((learned.function.clone(), learned.pool.clone()), learned);
                }
                Change::PlaceStored(place) => drop(self.places.insert(place.place.clone(), place)),
                Change::PlaceForgotten { place } => drop(self.places.remove(&place)),
            }
        }
    }

    fn job(&mut self, id: JobId) -> &mut ModelJob {
        self.jobs.get_mut(&id).expect("changes are about jobs that were added")
    }

    fn stored(&self, id: JobId) -> StoredJob {
        let ModelJob { job, state, steps } = &self.jobs[&id];
        StoredJob {
            id,
            job: job.clone(),
            paused: *state == JobState::Paused,
            restored: false,
            spent: Vec::new(),
            steps: steps.clone(),
        }
    }

    fn check(&self, found: &Snapshot) {
        let open = self.jobs.iter().filter(|(_, job)| !job.state.is_over()).map(|(id, _)| self.stored(*id));
        assert_eq!(sorted(found.jobs.clone()), sorted(open.collect()));
        let mut chunks = found.chunks.clone();
        chunks.sort_by_key(|chunk| chunk.id);
        assert_eq!(chunks, self.chunks.values().cloned().collect::<Vec<_>>());
        assert_eq!(found.accounts, self.accounts.values().cloned().collect::<Vec<_>>());
        let points = |start: &StoredStart| (start.worker.clone(), start.timeline.points().collect::<Vec<_>>());
        let (kept, told) = (found.starts.iter().map(points), self.starts.values().map(points));
        assert_eq!(kept.collect::<BTreeMap<_, _>>(), told.collect::<BTreeMap<_, _>>());
        assert_eq!(found.learned_starts, self.learned_starts.values().cloned().collect::<Vec<_>>());
        assert_eq!(found.places, self.places.values().cloned().collect::<Vec<_>>());
        assert_eq!(found.projects.iter().cloned().collect::<BTreeMap<_, _>>(), self.weights);
        assert_eq!(found.chunk_next, self.chunk_next.max(1));
        assert_eq!(found.functions.len(), 1);
    }
}

/// By id; times are compared to the nanosecond, for they travel as decimal numbers.
fn sorted(mut jobs: Vec<StoredJob>) -> Vec<StoredJob> {
    jobs.sort_by_key(|job| job.id);
    // What was paid is checked as a whole.
    for job in &mut jobs {
        job.spent.clear();
    }
    for step in jobs.iter_mut().flat_map(|job| &mut job.steps) {
        let round = |seconds: f64| (seconds * 1e9).round() / 1e9;
        step.timing = Timing { load_s: step.timing.load_s.map(round), task_s: step.timing.task_s.map(round) };
    }
    jobs
}

/// Anything that can happen to a farm, in an order that `dice` choose.
struct Fate {
    dice: fastrand::Rng,
    orders: Vec<AttemptId>,
    held: Vec<(WorkerId, AttemptId, TaskSet)>,
    jobs: Vec<JobId>,
    requests: u64,
}

impl Fate {
    fn strike(&mut self, books: &mut Books) {
        books.now = books.now.after(Duration::from_millis(self.dice.u64(0..400)));
        // Few jobs at a time, so that they come to an end.
        self.jobs.retain(|id| books.farm.job_state(*id).is_some());
        let effects = match self.dice.u32(0..60) {
            0..=5 if self.jobs.len() < 4 => {
                let (id, effects) = books.submit(self.dice.u32(1..20), None);
                self.jobs.push(id);
                effects
            }
            0..=25 => self.claim(books),
            26..=54 => self.report(books),
            55 | 56 => self.command(books),
            57 => {
                books.now = books.now.after(Duration::from_secs(20));
                books.apply(Event::TimePassed)
            }
            _ => {
                let project = ["default", "film"][self.dice.usize(0..2)].parse().expect("a good name");
                books.apply(Event::ProjectWeighed { project, weight: self.dice.u32(1..10) })
            }
        };
        self.orders.extend(orders(&effects));
    }

    fn claim(&mut self, books: &mut Books) -> Vec<Effect> {
        if self.orders.is_empty() {
            return Vec::new();
        }
        let attempt = self.orders.swap_remove(self.dice.usize(0..self.orders.len()));
        let worker: WorkerId = format!("w{}", self.dice.u32(0..4)).parse().expect("a good id");
        self.requests += 1;
        let request = RequestId(self.requests);
        books.apply(Event::WorkerSeen {
            gpu: String::new(),
            request,
            worker: worker.clone(),
            function: FunctionKey { name: "any".parse().expect("a good name"), version: 1 },
            holds: None,
            draining: false,
            places: vec![Place::new(worker.as_str())],
            progress: None,
        });
        let effects = books.apply(Event::AttemptClaimed { request, worker: worker.clone(), attempt });
        if let Some(tasks) = granted(&effects) {
            self.held.push((worker, attempt, tasks));
        }
        effects
    }

    fn report(&mut self, books: &mut Books) -> Vec<Effect> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let at = self.dice.usize(0..self.held.len());
        let (worker, attempt, mut tasks) = self.held.swap_remove(at);
        let mut report = Report {
            load_ms: Some(self.dice.u32(1..5000)),
            log: LogSize { kept_bytes: 10, left_out_bytes: 0 },
            ..Report::default()
        };
        for task in tasks.take_first(self.dice.u32(0..4)).iter() {
            match self.dice.u32(0..5) {
                0 => report.failed.push(failure(task, Verdict::SceneError)),
                1 => report.failed.push(failure(task, Verdict::RetrySame)),
                _ => report.done.push(result(task)),
            }
        }
        if tasks.is_empty() || self.dice.u32(0..4) == 0 {
            report.end = Some(if tasks.is_empty() { AttemptEnd::Finished } else { AttemptEnd::HandedBack });
        } else {
            self.held.push((worker.clone(), attempt, tasks));
        }
        books.apply(Event::AttemptReported { worker, attempt, report })
    }

    fn command(&mut self, books: &mut Books) -> Vec<Effect> {
        let Some(id) = self.dice.choice(&self.jobs).copied() else { return Vec::new() };
        if books.farm.job_state(id).is_none() {
            return Vec::new();
        }
        let event = match self.dice.u32(0..5) {
            0 => Event::JobCanceled { id },
            1 => Event::JobPaused { id },
            2 | 3 => Event::JobResumed { id },
            _ => Event::JobPrioritized { id, priority: self.dice.u32(0..101) },
        };
        books.apply(event)
    }
}

#[tokio::test]
async fn a_restart_finds_what_was_committed_whatever_happened() {
    for seed in 0..6 {
        let mut fate =
            Fate { dice: fastrand::Rng::with_seed(seed), orders: vec![], held: vec![], jobs: vec![], requests: 0 };
        let mut books = Books::new().await;
        let mut model = Model::default();
        let mut retried = 0;
        for _ in 0..400 {
            for _ in 0..fate.dice.u32(1..8) {
                fate.strike(&mut books);
            }
            model.follow(&books.pending.changes);
            books.commit().await.expect("there is room");
            match fate.dice.u32(0..25) {
                0 => {
                    let snapshot;
                    (books, snapshot, fate.orders) = books.restart().await;
                    model.check(&snapshot);
                    assert_eq!(costs::time_by_pool(&mut books.store).await, model.time_us);
                }
                1 => {
                    let failed = model.jobs.iter().find(|(_, job)| job.state == JobState::Failed).map(|(id, _)| *id);
                    let Some(id) = failed else { continue };
                    let (stored, job) = books.store.revive(id, &books.functions).await.expect("read").expect("there");
                    assert_eq!(sorted(vec![stored.clone()]), sorted(vec![model.stored(id)]));
                    books.jobs.insert(id, job);
                    let effects = books.apply(Event::JobRetried { job: Box::new(stored), only: None });
                    fate.orders.extend(orders(&effects));
                    fate.jobs.push(id);
                    retried += 1;
                }
                _ => {}
            }
        }
        let count = |state| model.jobs.values().filter(|job| job.state == state).count();
        let ends = [JobState::Succeeded, JobState::Failed, JobState::Canceled].map(count);
        assert!(ends[1] + retried > 0 && ends[2] > 0, "seed {seed} went through little: {ends:?}, {retried} retried");
    }
}

#[tokio::test]
async fn a_place_that_is_set_aside_is_found_again_as_it_was_last() {
    let mut books = Books::new().await;
    let place = |times: u32, proven_at: Option<i64>| StoredPlace {
        place: Place::new("node 7's \"GPU\""),
        since: Timestamp(1),
        until: Timestamp(2),
        times,
        reason: "it's\nbroken".to_owned(),
        proven_at: proven_at.map(Timestamp),
    };
    for stored in [place(1, None), place(2, Some(3))] {
        books.pending.changes.push(Change::PlaceStored(stored.clone()));
        books.commit().await.expect("there is room");
        let snapshot;
        (books, snapshot, _) = books.restart().await;
        assert_eq!(snapshot.places, [stored]);
    }
    books.pending.changes.push(Change::PlaceForgotten { place: place(2, None).place });
    books.commit().await.expect("there is room");
    assert_eq!(books.restart().await.1.places, []);
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all_when_the_disk_is_full() {
    let mut books = Books::new().await;
    let (first, _) = books.submit(3, Some("key 1"));
    books.commit().await.expect("there is room");
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&mut books.store.writer).await.expect("open");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 2)))
        .execute(&mut books.store.writer)
        .await
        .expect("open");
    for at in 0..200 {
        books.submit(1000, Some(&format!("key of the full disk {at}")));
    }
    let error = books.commit().await.expect_err("there is no room");
    assert!(framewake_proto::chain::Chain(&error).to_string().contains("full"), "{error:?}");
    let (mut books, snapshot, _) = books.restart().await;
    assert_eq!(snapshot.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [first]);
    assert!(books.store.repeated(&["key of the full disk 0"]).await.expect("readable").is_empty());
}

#[tokio::test]
async fn an_idempotency_key_is_remembered_with_its_job_and_body() {
    let mut books = Books::new().await;
    let (id, _) = books.submit(1, Some("it's a \"key\" \u{1f511}"));
    books.submit(1, None);
    books.commit().await.expect("there is room");
    let (mut books, ..) = books.restart().await;
    let found = books.store.repeated(&["it's a \"key\" \u{1f511}", "another"]).await.expect("readable");
    assert_eq!(found, HashMap::from([("it's a \"key\" \u{1f511}".to_owned(), (id, vec![7; 32]))]));
}

#[tokio::test]
async fn events_go_on_counting_after_a_restart_and_name_frames() {
    let mut books = Books::new().await;
    let (id, effects) = books.submit(3, None);
    let attempt = orders(&effects)[0];
    let worker: WorkerId = "w1".parse().expect("a good id");
    books.apply(Event::AttemptClaimed { request: RequestId(1), worker: worker.clone(), attempt });
    let before = books.commit().await.expect("there is room");
    let (mut books, ..) = books.restart().await;
    let report = Report { done: (0..3).map(result).collect(), end: Some(AttemptEnd::Finished), ..Report::default() };
    books.apply(Event::AttemptReported { worker, attempt, report });
    let after = books.commit().await.expect("there is room");
    let last = before.last().and_then(|event| event.seq).expect("numbered");
    let numbers: Vec<u64> = after.iter().filter_map(|event| event.seq).collect();
    assert_eq!(numbers, (last + 1..=last + after.len() as u64).collect::<Vec<_>>());
    let done: Vec<_> = after
        .iter()
        .filter_map(|event| match &event.what {
            Happening::TasksDone { frames, tasks, .. } => Some((event.job, frames.clone(), tasks.done)),
            _ => None,
        })
        .collect();
    assert_eq!(done, [(id, vec![1, 2, 3], 3)], "one event for what one batch finished");
}

#[tokio::test]
async fn evidence_is_kept_for_late_frames_too_and_is_bounded() {
    let mut books = Books::new().await;
    let (_, effects) = books.submit(20_000, None);
    let mut open: Vec<AttemptId> = orders(&effects);
    let worker: WorkerId = "w1".parse().expect("a good id");
    let mut request = 0;
    let mut failed = 0;
    // The first 15,000 are done; then everything fails.
    while failed < 1500 {
        let attempt = open.remove(0);
        request += 1;
        let effects =
            books.apply(Event::AttemptClaimed { request: RequestId(request), worker: worker.clone(), attempt });
        open.extend(orders(&effects));
        let Some(tasks) = granted(&effects) else { continue };
        let mut report = Report { end: Some(AttemptEnd::Finished), ..Report::default() };
        for task in tasks.iter() {
            if task < 15_000 {
                report.done.push(result(task));
            } else {
                report.failed.push(failure(task, Verdict::SceneError));
                failed += 1;
            }
        }
        open.extend(orders(&books.apply(Event::AttemptReported { worker: worker.clone(), attempt, report })));
    }
    books.commit().await.expect("there is room");
    let counted = "SELECT count(*), sum(evidence <> '') FROM failures WHERE task >= 15000";
    let (all, with): (i64, i64) = sqlx::query_as(counted).fetch_one(&mut books.store.writer).await.expect("readable");
    assert_eq!((all, with), (i64::from(failed), i64::from(write::EVIDENCE_KEPT_MAX)));
}

#[tokio::test]
async fn events_and_keys_that_are_too_old_go_a_piece_at_a_time() {
    let mut books = Books::new().await;
    let (id, _) = books.submit(5, Some("old key"));
    books.commit().await.expect("there is room");
    // As after a long life.
    let kept = i64::try_from(write::EVENTS_KEPT_MAX).expect("small");
    sqlx::raw_sql(
        "INSERT INTO events WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT 1000 + i, 1, 0, '{}' FROM n",
    )
    .execute(&mut books.store.writer)
    .await
    .expect("writable");
    books.store.event_next = u64::try_from(kept + 2900).expect("small");
    books.store.pruned_at = books.store.event_next - 100;
    books.now = books.now.after(Duration::from_hours(24 * 8));
    let count = async |books: &mut Books| {
        let (count,): (i64,) =
            sqlx::query_as("SELECT count(*) FROM events").fetch_one(&mut books.store.writer).await.expect("readable");
        count
    };
    let before = count(&mut books).await;
    for turn in 0..write::PRUNE_EVERY {
        books.apply(Event::JobPrioritized { id, priority: u32::try_from(turn % 100).expect("small") });
        books.commit().await.expect("there is room");
    }
    assert_eq!(before - count(&mut books).await, 200, "twice what came since the last time, not all 1900");
    assert!(books.store.repeated(&["old key"]).await.expect("readable").is_empty());
}

#[tokio::test]
async fn ten_million_tasks_are_read_in_a_moment() {
    let mut books = Books::new().await;
    books.submit(10_000_000, None);
    books.commit().await.expect("there is room");
    // All done but the first of each segment.
    let bits = format!("fe{}", "ff".repeat(SEGMENT_BYTES - 1));
    let segments = 10_000_000 / 4096;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "INSERT INTO done_tasks WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {})
         SELECT 1, 0, i, unhex('{bits}') FROM n",
        segments - 1
    )))
    .execute(&mut books.store.writer)
    .await
    .expect("writable");
    let begin = std::time::Instant::now();
    let (_, snapshot, _) = books.restart().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    assert_eq!(snapshot.jobs[0].steps[0].done.len(), segments * 4095);
}

#[tokio::test]
async fn a_second_scheduler_on_a_folder_is_refused_and_told_by_whom() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let first = Store::open(folder.path()).await.expect("a new folder is good");
    let said = Store::open(folder.path()).await.expect_err("it is used").to_string();
    assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
    drop(first);
    Store::open(folder.path()).await.expect("it is free again");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let mut books = Books::new().await;
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut books.store.writer).await.expect("writable");
    let Books { folder, store, .. } = books;
    drop(store);
    let said = Store::open(folder.path()).await.expect_err("it is too new").to_string();
    assert!(said.contains("schema 99, newer than"), "{said}");
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let mut books = Books::new().await;
    for _ in 0..50 {
        books.submit(1000, None);
    }
    books.commit().await.expect("there is room");
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut books.store.writer).await.expect("writable");
    let Books { folder, store, .. } = books;
    drop(store);
    let path = folder.path().join("framewake.db");
    let mut bytes = std::fs::read(&path).expect("readable");
    // All but the head and the first page.
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).expect("writable");
    let error = check_beside(&path).await.expect_err("it is damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let error = Store::open(folder.path()).await.expect_err("it is damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("is damaged") && said.contains("put a backup in its place"), "{said}");
}
