//! Makes changes durable: one transaction for a batch, one statement for each kind of row.

use super::rows::{Rows, SEGMENT_BYTES, SEGMENT_TASKS, hex, tasks_text};
use super::{AccessWrite, Error, GatewayWrite, JobCache, Learned, NotifyWrite, ScanWrite, ScheduleWrite, Store};
use crate::credentials::Ended;
use crate::engine::Submission;
use crate::scene::SceneKey;
use crate::traces::Root;
use framewake_core::change::{Change, Counts, JobState, Outcome, Payer, StepState};
use framewake_core::schedule::ScheduleId;
use framewake_proto::api::EventView;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, JobId, WorkerId};
use framewake_proto::time::Timestamp;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events kept in all; the oldest go first.
pub(super) const EVENTS_KEPT_MAX: u64 = 1_000_000;
/// How often old rows are looked for, in commits.
pub(super) const PRUNE_EVERY: u64 = 64;
/// Most idempotency keys removed at a time: a batch submits at most 1024 jobs.
const KEYS_PRUNED_MAX: i64 = 2 * 1024 * 64;
/// Idempotency keys are remembered for this long.
const IDEMPOTENCY_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;
/// Evidence is kept for this many failed tasks of a job; of the others, verdict and message.
pub(super) const EVIDENCE_KEPT_MAX: u32 = 1000;

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    pub(crate) changes: &'a [Change],
    /// The full text of each job that the changes add.
    pub(crate) submissions: BTreeMap<JobId, &'a Submission>,
    pub(crate) functions: Vec<(FunctionKey, FunctionSpec)>,
    pub(crate) schedules: &'a [ScheduleWrite],
    /// What a task of each step took in the last run.
    pub(crate) runs_learned: BTreeMap<(ScheduleId, usize), f64>,
    pub(crate) notices: &'a [NotifyWrite],
    pub(crate) gateway: &'a [GatewayWrite],
    pub(crate) access: &'a [AccessWrite],
    pub(crate) scans: &'a [ScanWrite],
    pub(crate) ended: &'a [Ended],
    /// Where jobs of the batch, and those that go on, belong in traces.
    pub(crate) roots: &'a [(JobId, Root)],
    pub(crate) learned: BTreeMap<SceneKey, &'a Learned>,
    /// Beside those that follow from the changes.
    pub(crate) events: &'a [EventView],
    /// What confines the renderers of each worker, for the attempts that it begins.
    pub(crate) confinements: BTreeMap<&'a WorkerId, &'a str>,
    pub(crate) now: Timestamp,
}

impl Store {
    /// Writes the batch. Afterwards it is durable; on an error nothing of it is, and the store must not
    /// be used any more: what is in memory is ahead of the disk.
    pub(crate) async fn commit(&mut self, batch: Batch<'_>, jobs: &JobCache) -> Result<Vec<Arc<EventView>>, Error> {
        let mut rows = Rows::default();
        for (id, submission) in &batch.submissions {
            self.job_next += 1;
            self.seqs.insert(*id, self.job_next);
            rows.add_job(self.job_next, submission, batch.now);
        }
        for (key, spec) in &batch.functions {
            let spec = serde_json::to_string(spec).expect("a function can be written as JSON");
            rows.functions.push(json!([key.name, key.version, spec, batch.now.0]));
        }
        for change in batch.changes {
            self.add_change(change, &batch.confinements, &mut rows);
        }
        let mut events = super::happenings::happenings(batch.changes, jobs);
        events.extend_from_slice(batch.events);
        let events = self.number_events(events, &mut rows);
        rows.tries = super::tries::rows(batch.changes, jobs, &self.seqs);
        rows.done = rows.segments.iter().map(|key| done_row(*key, &self.segments[key])).collect();
        self.write(&rows, &batch).await.map_err(|error| Error::Write { error })?;
        for change in batch.changes {
            if let Change::JobState { id, state, .. } = change
                && state.is_over()
                && let Some(seq) = self.seqs.remove(id)
            {
                self.forget(seq);
            }
        }
        self.prune(batch.now).await.map_err(|error| Error::Write { error })?;
        Ok(events)
    }

    /// What is kept in memory of a job that is not over.
    fn forget(&mut self, seq: i64) {
        self.evidence_kept.remove(&seq);
        // Its segments alone, not a walk over those of all jobs.
        let keys: Vec<_> = self.segments.range((seq, 0, 0)..(seq + 1, 0, 0)).map(|(key, _)| *key).collect();
        for key in keys {
            self.segments.remove(&key);
        }
    }

    fn number_events(&mut self, events: Vec<EventView>, rows: &mut Rows) -> Vec<Arc<EventView>> {
        let mut numbered = Vec::with_capacity(events.len());
        for mut event in events {
            let Some(job) = self.seqs.get(&event.job) else { continue };
            self.event_next += 1;
            event.seq = Some(self.event_next);
            let body = serde_json::to_string(&event.what).expect("an event can be written as JSON");
            rows.events.push(json!([self.event_next, job, event.at.0, body]));
            numbered.push(Arc::new(event));
        }
        numbered
    }

    fn add_change(&mut self, change: &Change, confinements: &BTreeMap<&WorkerId, &str>, rows: &mut Rows) {
        match change {
            Change::JobAdded { id, job, .. } => {
                let seq = self.seq(*id);
                for (at, step) in job.steps.iter().enumerate() {
                    rows.counts.insert((seq, at), Counts { total: step.tasks, ..Counts::default() });
                    rows.step_states.insert((seq, at), "blocked");
                }
            }
            Change::JobState { id, state, at } => {
                let finished = state.is_over().then_some(at.0);
                rows.job_states.insert(self.seq(*id), json!([self.seq(*id), job_state_name(*state), finished]));
            }
            Change::JobPriority { id, priority } => {
                rows.priorities.insert(self.seq(*id), *priority);
            }
            Change::JobBudget { job, budget } => drop(rows.job_budgets.insert(self.seq(*job), *budget)),
            Change::ProjectBudget { project, period, budget, month, told } => {
                rows.budgets.insert((project.clone(), *period), (*budget, *month, *told));
            }
            Change::BudgetTold { payer: Payer::Project { project, period, month }, standing, .. } => {
                rows.project_standings.insert((project.clone(), *period), (*month, *standing));
            }
            Change::ProjectWeight { project, weight } => {
                rows.projects.insert(project.to_string(), *weight);
            }
            Change::WorkersKept { function, workers } => {
                rows.kept.insert(function.to_string(), *workers);
            }
            Change::StepState { job, step, state, .. } => {
                rows.step_states.insert((self.seq(*job), *step), step_state_name(*state));
            }
            Change::StepCounts { job, step, counts } => {
                rows.counts.insert((self.seq(*job), *step), *counts);
            }
            Change::StepTiming { job, step, timing } => {
                rows.timings.insert((self.seq(*job), *step), *timing);
            }
            Change::StepVram { job, step, vram } => {
                rows.vrams.insert((self.seq(*job), *step), *vram);
            }
            Change::TaskDone { job, step, attempt, result, at } => {
                let seq = self.seq(*job);
                let segment = (seq, *step, result.task / SEGMENT_TASKS);
                let bits = self.segments.entry(segment).or_insert_with(|| Box::new([0; SEGMENT_BYTES]));
                let bit = result.task % SEGMENT_TASKS;
                bits[(bit / 8) as usize] |= 1 << (bit % 8);
                rows.segments.insert(segment);
                rows.add_result(seq, *step, *attempt, result, *at);
            }
            Change::TaskFailed { job, step, attempt, failure, for_good: true, at } => {
                let seq = self.seq(*job);
                let kept = self.evidence_kept.entry(seq).or_default();
                let evidence = if *kept < EVIDENCE_KEPT_MAX { failure.evidence.as_str() } else { "" };
                *kept += u32::from(!evidence.is_empty());
                rows.add_failure(seq, *step, *attempt, failure, evidence, *at);
            }
            // What people know of a job's budget is known from what is spent.
            Change::TaskFailed { for_good: false, .. } | Change::BudgetTold { payer: Payer::Job(_), .. } => {}
            Change::TasksReset { job, step, tasks } => {
                let seq = self.seq(*job);
                self.evidence_kept.remove(&seq);
                rows.reset_failures(seq, *step, tasks);
            }
            Change::AttemptStarted { job, step, attempt, worker, tasks, at } => {
                let confinement = confinements.get(worker).copied().unwrap_or_default();
                let (job, chunk, number) = (self.seq(*job), attempt.chunk.0, attempt.number);
                let tasks = tasks_text(tasks);
                rows.attempts.push(json!([
                    chunk,
                    number,
                    job,
                    step,
                    worker,
                    tasks,
                    "running",
                    0,
                    0,
                    0,
                    at.0,
                    null,
                    "",
                    0,
                    confinement
                ]));
            }
            Change::AttemptEnded { attempt, outcome, done, failed, log, at, .. } => {
                let (name, how) = (outcome_name(outcome), how_lost(outcome));
                let (kept, left_out) = (log.kept_bytes, log.left_out_bytes);
                rows.ends.push(json!([attempt.chunk.0, attempt.number, name, done, failed, kept, at.0, how, left_out]));
            }
            Change::ChunkStored(chunk) => rows.store_chunk(self.seq(chunk.job), chunk),
            Change::ChunkClosed { id } => rows.close_chunk(id.0),
            Change::ChunkNumbers { next } => rows.chunk_next = Some(*next),
            Change::Paid { account, spent } => {
                rows.spent.add(account, spent);
                rows.accounts.insert(account.worker.clone(), Some(account.clone()));
            }
            Change::AccountClosed { worker, .. } => drop(rows.accounts.insert(worker.clone(), None)),
            Change::WorkerStart { start, .. } => drop(rows.starts.insert(start.worker.clone(), start.clone())),
            Change::WorkerStartEnded { worker, at, reason } => rows.start_ends.push(json!([worker, at.0, reason])),
            Change::StartsLearned(learned) => {
                rows.learned_starts.insert((learned.function.clone(), learned.pool.clone()), learned.clone());
            }
            Change::TimingLearned(learned) => {
                rows.learned_timings.insert(learned.function.clone(), learned.timing);
            }
            Change::PlaceStored(stored) => rows.store_place(stored),
            Change::PlaceForgotten { place } => drop(rows.places.insert(place.clone(), None)),
        }
    }

    /// The job's number in other tables.
    fn seq(&self, id: JobId) -> i64 {
        *self.seqs.get(&id).expect("changes are about jobs that were added and are not over")
    }

    async fn write(&mut self, rows: &Rows, batch: &Batch<'_>) -> Result<(), sqlx::Error> {
        let connection = &mut self.writer;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let written = async {
            write_all(connection, rows).await?;
            super::schedules::write(connection, batch.schedules, &self.seqs).await?;
            super::starts::write_runs(connection, &batch.runs_learned).await?;
            super::traces::write(connection, batch.roots, &self.seqs).await?;
            super::measured::write(connection, &batch.learned, batch.now).await?;
            super::notifications::write(connection, batch.notices, &self.seqs).await?;
            super::gateway::write(connection, batch.gateway, &self.seqs).await?;
            super::scans::write(connection, batch.scans).await?;
            super::ended::write(connection, batch.ended).await?;
            super::access::write(connection, batch.access).await
        };
        let written = written.await;
        if let Err(error) = written {
            let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
            return Err(error);
        }
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        Ok(())
    }

    /// Removes what is too old, a bounded piece at a time so that no commit waits long for it. A piece is more
    /// than can have come since the last.
    async fn prune(&mut self, now: Timestamp) -> Result<(), sqlx::Error> {
        self.commits += 1;
        if !self.commits.is_multiple_of(PRUNE_EVERY) {
            return Ok(());
        }
        let oldest = i64::try_from(self.event_next.saturating_sub(EVENTS_KEPT_MAX)).unwrap_or(i64::MAX);
        sqlx::query("DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= ? ORDER BY seq LIMIT ?)")
            .bind(oldest)
            .bind(self.event_next.saturating_sub(self.pruned_at).saturating_mul(2).cast_signed())
            .execute(&mut self.writer)
            .await?;
        self.pruned_at = self.event_next;
        sqlx::query(
            "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ? ORDER BY at LIMIT ?)",
        )
        .bind(now.0 - IDEMPOTENCY_KEPT_MS)
        .bind(KEYS_PRUNED_MAX)
        .execute(&mut self.writer)
        .await?;
        super::tries::prune(&mut self.writer, now).await
    }
}

/// One statement for each kind of row, whatever their number: the text stays the same, so SQLite
/// compiles it once, and the rows come as one JSON argument.
async fn write_all(connection: &mut SqliteConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let c = connection;
    if let Some(next) = rows.chunk_next {
        sqlx::query("INSERT INTO meta VALUES ('chunk_next', ?) ON CONFLICT DO UPDATE SET value = excluded.value")
            .bind(next.to_string())
            .execute(&mut *c)
            .await?;
    }
    insert(c, "functions", 4, "", &rows.functions).await?;
    let projects: Vec<Value> = rows.projects.iter().map(|(name, weight)| json!([name, weight])).collect();
    insert(c, "projects", 2, "WHERE true ON CONFLICT DO UPDATE SET weight = excluded.weight", &projects).await?;
    let kept: Vec<Value> = rows.kept.iter().map(|(name, workers)| json!([name, workers])).collect();
    insert(c, "kept_workers", 2, "WHERE true ON CONFLICT DO UPDATE SET workers = excluded.workers", &kept).await?;
    if !kept.is_empty() {
        sqlx::query("DELETE FROM kept_workers WHERE workers = 0").execute(&mut *c).await?;
    }
    insert(
        c,
        "jobs (seq, id, name, project, priority, state, labels, spec, submitted_at, submitted_by)",
        10,
        "",
        &rows.jobs,
    )
    .await?;
    insert(c, "steps (job, step, name, state, total, open, done, failed)", 8, "", &rows.steps).await?;
    each(
        c,
        "INSERT INTO idempotency SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3 FROM json_each(?)",
        &rows.idempotency,
    )
    .await?;
    let states: Vec<Value> = rows.job_states.values().cloned().collect();
    each(c, "UPDATE jobs SET state = r.value ->> 1, finished_at = r.value ->> 2 FROM json_each(?) r WHERE jobs.seq = r.value ->> 0", &states)
        .await?;
    let priorities: Vec<Value> = rows.priorities.iter().map(|(seq, priority)| json!([seq, priority])).collect();
    each(c, "UPDATE jobs SET priority = r.value ->> 1 FROM json_each(?) r WHERE jobs.seq = r.value ->> 0", &priorities)
        .await?;
    super::budgets::write(c, rows).await?;
    let states: Vec<Value> = rows.step_states.iter().map(|((job, step), state)| json!([job, step, state])).collect();
    each(
        c,
        "UPDATE steps SET state = r.value ->> 2 FROM json_each(?) r WHERE steps.job = r.value ->> 0 AND steps.step = r.value ->> 1",
        &states,
    )
    .await?;
    let counts: Vec<Value> =
        rows.counts.iter().map(|((job, step), n)| json!([job, step, n.open, n.done, n.failed])).collect();
    each(
        c,
        "UPDATE steps SET open = r.value ->> 2, done = r.value ->> 3, failed = r.value ->> 4 FROM json_each(?) r
         WHERE steps.job = r.value ->> 0 AND steps.step = r.value ->> 1",
        &counts,
    )
    .await?;
    let timings: Vec<Value> =
        rows.timings.iter().map(|((job, step), t)| json!([job, step, t.load_s, t.task_s])).collect();
    each(
        c,
        "UPDATE steps SET load_s = r.value ->> 2, task_s = r.value ->> 3 FROM json_each(?) r
         WHERE steps.job = r.value ->> 0 AND steps.step = r.value ->> 1",
        &timings,
    )
    .await?;
    let vrams: Vec<Value> =
        rows.vrams.iter().map(|((job, step), v)| json!([job, step, v.floor, v.peak, v.enough])).collect();
    each(
        c,
        "UPDATE steps SET vram_floor = r.value ->> 2, vram_peak = r.value ->> 3, vram_enough = r.value ->> 4
         FROM json_each(?) r WHERE steps.job = r.value ->> 0 AND steps.step = r.value ->> 1",
        &vrams,
    )
    .await?;
    each(
        c,
        "INSERT INTO done_tasks SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3) FROM json_each(?)
         WHERE true ON CONFLICT DO UPDATE SET bits = excluded.bits",
        &rows.done,
    )
    .await?;
    // A task that is recorded twice breaks the primary key, and with it the batch: invariant 1 is the store's too.
    each(
        c,
        "INSERT INTO results (job, step, task, key, sha256, size_bytes, width, height, device, renderer, chunk, attempt,
         elapsed_ms, memory_peak, at, energy_mj, vram_peak, gpu_busy, gpu_busy_max)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6, value ->> 7,
         value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, value ->> 15,
         value ->> 16, value ->> 17, value ->> 18 FROM json_each(?)",
        &rows.results,
    )
    .await?;
    let resets = rows
        .resets
        .iter()
        .flat_map(|((job, step), tasks)| tasks.runs().iter().map(move |run| json!([job, step, run.start, run.end])));
    each(
        c,
        "DELETE FROM failures WHERE (job, step, task) IN (
             SELECT job, step, task FROM json_each(?) CROSS JOIN failures
             ON job = value ->> 0 AND step = value ->> 1 AND task >= value ->> 2 AND task < value ->> 3)",
        &resets.collect::<Vec<Value>>(),
    )
    .await?;
    let failures: Vec<Value> = rows.failures.values().cloned().collect();
    insert(c, "failures", 9, "", &failures).await?;
    let closed: Vec<Value> = rows.chunks.iter().filter(|(_, row)| row.is_none()).map(|(id, _)| json!(id)).collect();
    each(c, "DELETE FROM chunks WHERE id IN (SELECT value FROM json_each(?))", &closed).await?;
    let stored: Vec<Value> = rows.chunks.values().flatten().cloned().collect();
    insert(
        c,
        "chunks",
        13,
        "WHERE true ON CONFLICT DO UPDATE SET tasks = excluded.tasks, attempt = excluded.attempt, spent = excluded.spent,
         losses = excluded.losses, worker = excluded.worker, avoid = excluded.avoid, since = excluded.since, done = excluded.done, failed = excluded.failed,
         lost = excluded.lost",
        &stored,
    )
    .await?;
    insert(c, "attempts", 15, "", &rows.attempts).await?;
    each(
        c,
        "UPDATE attempts SET outcome = r.value ->> 2, done = r.value ->> 3, failed = r.value ->> 4, log_bytes = r.value ->> 5,
         ended_at = r.value ->> 6, reason = r.value ->> 7, log_left_out_bytes = r.value ->> 8 FROM json_each(?) r
         WHERE attempts.chunk = r.value ->> 0 AND attempts.attempt = r.value ->> 1",
        &rows.ends,
    )
    .await?;
    let forgotten: Vec<Value> =
        rows.places.iter().filter(|(_, row)| row.is_none()).map(|(place, _)| json!(place.as_str())).collect();
    each(c, "DELETE FROM places WHERE name IN (SELECT value FROM json_each(?))", &forgotten).await?;
    let places: Vec<Value> = rows.places.values().flatten().cloned().collect();
    insert(
        c,
        "places",
        6,
        "WHERE true ON CONFLICT DO UPDATE SET since = excluded.since, until = excluded.until, times = excluded.times,
         reason = excluded.reason, proven_at = excluded.proven_at",
        &places,
    )
    .await?;
    super::tries::write(c, &rows.tries).await?;
    super::ledger::write(c, rows).await?;
    super::starts::write(c, rows).await?;
    insert(c, "events", 4, "", &rows.events).await
}

fn done_row((job, step, segment): (i64, usize, u32), bits: &[u8; SEGMENT_BYTES]) -> Value {
    json!([job, step, segment, hex(bits)])
}

/// Inserts rows given as JSON arrays of `columns` values, in the order of the table's columns.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    table: &str,
    columns: usize,
    conflict: &str,
    rows: &[Value],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let values: Vec<String> = (0..columns).map(|at| format!("value ->> {at}")).collect();
    let text = format!("INSERT INTO {table} SELECT {} FROM json_each(?) {conflict}", values.join(", "));
    // The text is made of literals of this file.
    sqlx::query(AssertSqlSafe(text)).bind(json_text(rows)).execute(connection).await?;
    Ok(())
}

pub(super) async fn each(
    connection: &mut SqliteConnection,
    text: &'static str,
    rows: &[Value],
) -> Result<(), sqlx::Error> {
    if !rows.is_empty() {
        sqlx::query(text).bind(json_text(rows)).execute(connection).await?;
    }
    Ok(())
}

fn json_text(rows: &[Value]) -> String {
    serde_json::to_string(rows).expect("rows are plain JSON")
}

pub(crate) fn job_state_name(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Canceled => "canceled",
    }
}

pub(crate) fn step_state_name(state: StepState) -> &'static str {
    match state {
        StepState::Blocked => "blocked",
        StepState::Ready => "ready",
        StepState::Running => "running",
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Canceled => "canceled",
    }
}

/// How the worker of an attempt was lost, in words; empty for other ends.
pub(super) fn how_lost(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Lost { how } => how,
        Outcome::Finished | Outcome::HandedBack | Outcome::Canceled | Outcome::LicenseWait => "",
    }
}

pub(crate) fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::HandedBack => "handed_back",
        Outcome::Canceled => "canceled",
        Outcome::LicenseWait => "license_wait",
        Outcome::Lost { .. } => "lost",
    }
}
