//! Changes gathered into rows, the last word on each: a batch touches every row at most once.

use super::ledger::SpentTime;
use crate::engine::Submission;
use framewake_core::change::Counts;
use framewake_core::coming::StoredStart;
use framewake_core::event::{TaskFailure, TaskResult};
use framewake_core::gpus::Vram;
use framewake_core::ledger::Account;
use framewake_core::values::{Loss, Place, StoredChunk, StoredChunkState, StoredPlace, StoredStarts, Timing};
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, Name, WorkerId};
use framewake_proto::job::Budget;
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::{Month, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Tasks of one row of `done_tasks`.
pub(crate) const SEGMENT_TASKS: u32 = 4096;
/// Bytes of one row of `done_tasks`.
pub(crate) const SEGMENT_BYTES: usize = 512;

/// `jobs.seq` and the index of the step.
type StepKey = (i64, usize);

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) chunk_next: Option<u64>,
    pub(crate) functions: Vec<Value>,
    pub(crate) projects: BTreeMap<String, u32>,
    /// Workers kept; 0: the row goes.
    pub(crate) kept: BTreeMap<String, u32>,
    pub(crate) jobs: Vec<Value>,
    pub(crate) steps: Vec<Value>,
    pub(crate) idempotency: Vec<Value>,
    pub(crate) job_states: BTreeMap<i64, Value>,
    /// Jobs that have another budget, or none.
    pub(crate) job_budgets: BTreeMap<i64, Option<Budget>>,
    /// `None`: the row goes.
    pub(crate) budgets: BTreeMap<(Name, Period), (Option<ProjectBudget>, Month, Standing)>,
    pub(crate) project_standings: BTreeMap<(Name, Period), (Month, Standing)>,
    pub(crate) priorities: BTreeMap<i64, u32>,
    pub(crate) step_states: BTreeMap<StepKey, &'static str>,
    pub(crate) counts: BTreeMap<StepKey, Counts>,
    pub(crate) vrams: BTreeMap<StepKey, Vram>,
    pub(crate) timings: BTreeMap<StepKey, Timing>,
    /// Segments with tasks that are newly done, and their rows.
    pub(crate) segments: BTreeSet<(i64, usize, u32)>,
    pub(crate) done: Vec<Value>,
    pub(crate) results: Vec<Value>,
    pub(crate) resets: BTreeMap<StepKey, TaskSet>,
    pub(crate) failures: BTreeMap<(i64, usize, u32), Value>,
    /// `None`: the row goes.
    pub(crate) chunks: BTreeMap<u64, Option<Value>>,
    pub(crate) attempts: Vec<Value>,
    pub(crate) ends: Vec<Value>,
    pub(crate) tries: Vec<Value>,
    pub(crate) events: Vec<Value>,
    /// `None`: the row goes.
    pub(crate) accounts: BTreeMap<WorkerId, Option<Account>>,
    pub(crate) spent: SpentTime,
    pub(crate) starts: BTreeMap<WorkerId, StoredStart>,
    /// Ends of workers that were not heard of since a restart.
    pub(crate) start_ends: Vec<Value>,
    pub(crate) learned_starts: BTreeMap<(FunctionKey, Name), StoredStarts>,
    pub(crate) learned_timings: BTreeMap<FunctionKey, Timing>,
    /// `None`: the row goes.
    pub(crate) places: BTreeMap<Place, Option<Value>>,
}

impl Rows {
    pub(crate) fn add_job(&mut self, seq: i64, submission: &Submission, now: Timestamp) {
        let Submission { id, by, spec, job, idempotency, parent: _ } = submission;
        let labels = serde_json::to_string(&job.labels).expect("labels are text");
        let text = serde_json::to_string(spec).expect("a job can be written as JSON");
        let (name, project, priority) = (&job.name, &job.project, job.priority);
        self.jobs.push(json!([seq, id, name, project, priority, "queued", labels, text, now.0, by]));
        for (at, step) in job.steps.iter().enumerate() {
            self.steps.push(json!([seq, at, step.name, "blocked", step.frames.len(), 0, 0, 0]));
        }
        if let Some((key, digest)) = idempotency {
            self.idempotency.push(json!([key, hex(digest), seq, now.0]));
        }
    }

    pub(crate) fn add_result(&mut self, job: i64, step: usize, attempt: AttemptId, result: &TaskResult, at: Timestamp) {
        self.results.push(json!([
            job,
            step,
            result.task,
            result.key,
            hex(&result.sha256),
            result.size_bytes,
            result.width,
            result.height,
            result.device,
            result.renderer,
            attempt.chunk.0,
            attempt.number,
            result.elapsed_ms,
            result.memory_peak_bytes,
            at.0,
            result.gpu.energy_millijoules,
            result.gpu.vram_peak_bytes,
            result.gpu.busy_permille,
            result.gpu.busy_max_permille
        ]));
    }

    pub(crate) fn add_failure(
        &mut self,
        job: i64,
        step: usize,
        attempt: AttemptId,
        failure: &TaskFailure,
        evidence: &str,
        at: Timestamp,
    ) {
        let (verdict, message) = (failure.verdict.as_str(), &failure.message);
        let row = json!([job, step, failure.task, verdict, message, evidence, attempt.chunk.0, attempt.number, at.0]);
        self.failures.insert((job, step, failure.task), row);
    }

    pub(crate) fn reset_failures(&mut self, job: i64, step: usize, tasks: &TaskSet) {
        self.failures.retain(|(other, at, task), _| (*other, *at) != (job, step) || !tasks.contains(*task));
        self.resets.entry((job, step)).or_default().insert_all(tasks);
    }

    pub(crate) fn store_chunk(&mut self, job: i64, chunk: &StoredChunk) {
        let (worker, avoid, since, done, failed) = match &chunk.state {
            StoredChunkState::Waiting { until, avoid } => (None, avoid.as_ref(), until, 0, 0),
            StoredChunkState::Leased { worker, since, done, failed } => (Some(worker), None, since, *done, *failed),
        };
        let tasks = tasks_text(&chunk.tasks);
        let (id, step) = (chunk.id.0, chunk.step);
        let row = json!([
            id,
            job,
            step,
            tasks,
            chunk.attempt,
            chunk.spent,
            chunk.losses,
            worker,
            avoid,
            since.0,
            done,
            failed,
            lost_text(&chunk.lost)
        ]);
        self.chunks.insert(id, Some(row));
    }

    pub(crate) fn store_place(&mut self, stored: &StoredPlace) {
        let StoredPlace { place, since, until, times, reason, proven_at } = stored;
        let row = json!([place.as_str(), since.0, until.0, times, reason, proven_at.map(|at| at.0)]);
        self.places.insert(place.clone(), Some(row));
    }

    pub(crate) fn close_chunk(&mut self, id: u64) {
        self.chunks.insert(id, None);
    }
}

/// A worker that was lost, as a chunk's row has it.
#[derive(Debug, Serialize, Deserialize)]
struct LossRow {
    attempt: (u64, u32),
    worker: WorkerId,
    places: Vec<String>,
    at: i64,
    how: String,
}

fn lost_text(lost: &[Loss]) -> String {
    let rows = lost.iter().map(|loss| LossRow {
        attempt: (loss.attempt.chunk.0, loss.attempt.number),
        worker: loss.worker.clone(),
        places: loss.places.iter().map(Place::to_string).collect(),
        at: loss.at.0,
        how: loss.how.clone(),
    });
    serde_json::to_string(&rows.collect::<Vec<_>>()).expect("numbers and text")
}

/// The other way round.
pub(crate) fn lost_from(text: &str) -> Option<Vec<Loss>> {
    let rows: Vec<LossRow> = serde_json::from_str(text).ok()?;
    let losses = rows.into_iter().map(|row| Loss {
        attempt: AttemptId { chunk: ChunkId(row.attempt.0), number: row.attempt.1 },
        worker: row.worker,
        places: row.places.iter().map(|place| Place::new(place)).collect(),
        at: Timestamp(row.at),
        how: row.how,
    });
    Some(losses.collect())
}

/// JSON `[[first, end], …]`.
pub(super) fn tasks_text(tasks: &TaskSet) -> String {
    let runs: Vec<[u32; 2]> = tasks.runs().iter().map(|run| [run.start, run.end]).collect();
    serde_json::to_string(&runs).expect("numbers")
}

/// The other way round.
pub(crate) fn tasks_from(text: &str) -> Option<TaskSet> {
    let runs: Vec<[u32; 2]> = serde_json::from_str(text).ok()?;
    Some(runs.into_iter().map(|[first, end]| first..end).collect())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes every letter");
    }
    text
}
