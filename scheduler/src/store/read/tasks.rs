//! Tasks, computed: the frame set says which there are, a bitmap which are done. No list of them is ever made whole.

use super::outputs::gpu;
use super::{Error, JobKey, Reader, attempt, named};
use framewake_proto::api::{FailureView, GpuView, Page, StepState, TaskState, TaskView};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::HashMap;

/// Tasks in one row of `done_tasks`.
pub(super) const SEGMENT_TASKS: u32 = 4096;
/// Tasks looked at with one round of questions.
const WINDOW_TASKS: u32 = 64 * SEGMENT_TASKS;

/// What is known of a window of one step's tasks.
pub(super) struct Window {
    /// Bits of segments.
    pub(super) done: HashMap<u32, Vec<u8>>,
    pub(super) failed: TaskSet,
    /// Held by workers. Tasks that are only offered count as waiting here: offers are not stored.
    pub(super) open: TaskSet,
    canceled: bool,
}

impl Window {
    fn state(&self, task: u32) -> TaskState {
        if self.is_done(task) {
            TaskState::Done
        } else if self.failed.contains(task) {
            TaskState::Failed
        } else if self.canceled {
            TaskState::Canceled
        } else if self.open.contains(task) {
            TaskState::Open
        } else {
            TaskState::Waiting
        }
    }

    pub(super) fn is_done(&self, task: u32) -> bool {
        let bit = task % SEGMENT_TASKS;
        let byte = self.done.get(&(task / SEGMENT_TASKS)).and_then(|bits| bits.get((bit / 8) as usize));
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

impl Reader {
    /// In the order of steps and task numbers, from `(step, task)` on; only of `step`, if given.
    pub async fn tasks(
        &self,
        job: &JobKey,
        step: Option<usize>,
        state: Option<TaskState>,
        from: (usize, u32),
        limit: u32,
    ) -> Result<Page<TaskView>, Error> {
        let steps = step.map_or(0..job.outline.steps.len(), |step| step..step + 1);
        let mut found: Vec<(usize, u32, TaskState)> = Vec::new();
        let wanted = limit as usize + 1;
        for at in steps.filter(|at| *at >= from.0) {
            let mut next = if at == from.0 { from.1 } else { 0 };
            let total = job.outline.steps[at].frames.len();
            while next < total && found.len() < wanted {
                let end = total.min((next / SEGMENT_TASKS * SEGMENT_TASKS).saturating_add(WINDOW_TASKS));
                let window = self.window(job.seq, at, next, end).await?;
                let states = (next..end).map(|task| (at, task, window.state(task)));
                let matching = states.filter(|(_, _, is)| state.is_none_or(|state| state == *is));
                found.extend(matching.take(wanted - found.len()));
                next = end;
            }
        }
        let next = (found.len() == wanted).then(|| found.pop()).flatten();
        let next = next.map(|(step, task, _)| format!("{step}.{task}"));
        let mut failures = self.failures(job, &found).await?;
        let mut gpus = self.gpus(job, &found).await?;
        let items = found.into_iter().map(|(at, task, state)| {
            let step = &job.outline.steps[at];
            TaskView {
                step: step.name.clone(),
                task,
                frame: step.frames.get(task).expect("a task below the length of its frame set"),
                state,
                failure: failures.remove(&(at, task)),
                gpu: gpus.remove(&(at, task)),
            }
        });
        Ok(Page { items: items.collect(), next })
    }

    pub(super) async fn window(&self, job: i64, step: usize, first: u32, end: u32) -> Result<Window, Error> {
        let at = i64::try_from(step).expect("a job has at most STEPS_MAX steps");
        let mut connection = self.pool.begin().await?;
        let state: String = sqlx::query_scalar("SELECT state FROM steps WHERE job = ? AND step = ?")
            .bind(job)
            .bind(at)
            .fetch_one(&mut *connection)
            .await?;
        let done = sqlx::query_as::<_, (u32, Vec<u8>)>(
            "SELECT segment, bits FROM done_tasks WHERE job = ? AND step = ? AND segment BETWEEN ? AND ?",
        )
        .bind(job)
        .bind(at)
        .bind(first / SEGMENT_TASKS)
        .bind(end / SEGMENT_TASKS)
        .fetch_all(&mut *connection)
        .await?;
        let failed: Vec<u32> = sqlx::query_scalar(
            "SELECT task FROM failures WHERE job = ? AND step = ? AND task >= ? AND task < ? ORDER BY task",
        )
        .bind(job)
        .bind(at)
        .bind(first)
        .bind(end)
        .fetch_all(&mut *connection)
        .await?;
        // A held chunk is bounded by the number of workers, not of tasks.
        let held: Vec<String> =
            sqlx::query_scalar("SELECT tasks FROM chunks WHERE job = ? AND step = ? AND worker IS NOT NULL")
                .bind(job)
                .bind(at)
                .fetch_all(&mut *connection)
                .await?;
        let mut open = TaskSet::new();
        for (first, end) in held.iter().flat_map(|runs| runs_of(runs)) {
            open.insert_run(first..end);
        }
        let canceled = named::<StepState>("the state of a step", &state)? == StepState::Canceled;
        Ok(Window {
            done: done.into_iter().collect(),
            failed: failed.into_iter().map(|task| task..task + 1).collect(),
            open,
            canceled,
        })
    }

    async fn failures(
        &self,
        job: &JobKey,
        found: &[(usize, u32, TaskState)],
    ) -> Result<HashMap<(usize, u32), FailureView>, Error> {
        let rows = self.rows_of(FAILURES_OF_SOME, job, found, TaskState::Failed).await?;
        rows.iter().map(|row| Ok((place(row)?, failure(row)?))).collect()
    }

    async fn gpus(
        &self,
        job: &JobKey,
        found: &[(usize, u32, TaskState)],
    ) -> Result<HashMap<(usize, u32), GpuView>, Error> {
        let mut gpus = HashMap::new();
        for row in self.rows_of(GPUS_OF_SOME, job, found, TaskState::Done).await? {
            gpus.extend(gpu(&row)?.map(|gpu| Ok::<_, Error>((place(&row)?, gpu))).transpose()?);
        }
        Ok(gpus)
    }

    /// What `text` finds of those tasks that are in this state.
    async fn rows_of(
        &self,
        text: &'static str,
        job: &JobKey,
        found: &[(usize, u32, TaskState)],
        wanted: TaskState,
    ) -> Result<Vec<SqliteRow>, Error> {
        let tasks = found.iter().filter(|(_, _, state)| *state == wanted).map(|(at, task, _)| (*at, *task));
        let tasks: Vec<(usize, u32)> = tasks.collect();
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = serde_json::to_string(&tasks).expect("numbers are JSON");
        Ok(sqlx::query(text).bind(job.seq).bind(tasks).fetch_all(&self.pool).await?)
    }
}

/// In the order in which they stand: what is wanted, then each by its key.
pub(in crate::store) const FAILURES_OF_SOME: &str = "SELECT failures.* FROM json_each(?2) AS wanted
     CROSS JOIN failures ON job = ?1 AND step = wanted.value ->> 0 AND task = wanted.value ->> 1";
pub(in crate::store) const GPUS_OF_SOME: &str = "SELECT results.* FROM json_each(?2) AS wanted
     CROSS JOIN results ON job = ?1 AND step = wanted.value ->> 0 AND task = wanted.value ->> 1
     WHERE coalesce(energy_mj, vram_peak, gpu_busy, gpu_busy_max) IS NOT NULL";

/// Step and task.
fn place(row: &SqliteRow) -> Result<(usize, u32), Error> {
    Ok((row.try_get::<u32, _>("step")? as usize, row.try_get("task")?))
}

fn failure(row: &SqliteRow) -> Result<FailureView, Error> {
    Ok(FailureView {
        verdict: named("a verdict", row.try_get("verdict")?)?,
        message: row.try_get("message")?,
        evidence: row.try_get("evidence")?,
        attempt: attempt(row)?,
        at: Timestamp(row.try_get("at")?),
    })
}

/// Runs of tasks as the store writes them: `[[first, end], …]`.
pub(super) fn runs_of(text: &str) -> Vec<(u32, u32)> {
    serde_json::from_str(text).unwrap_or_default()
}
