//! What a restart finds.

use super::rows::{SEGMENT_BYTES, SEGMENT_TASKS, lost_from, tasks_from};
use super::{Error, Store};
use crate::function_table::{Accepted, FunctionTable};
use framewake_core::gpus::{GpuNeeds, Vram};
use framewake_core::price::Held;
use framewake_core::scale::keep::Window;
use framewake_core::values::{
    FunctionRules, NewJob, Place, ScalingRules, Snapshot, StoredChunk, StoredChunkState, StoredJob, StoredPlace,
    StoredStep, Timing,
};
use framewake_proto::api::JobState;
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{AttemptId, ChunkId, FunctionKey, JobId, WorkerId};
use framewake_proto::job::{Job, JobSpec};
use framewake_proto::tasks::TaskSet;
use framewake_proto::time::Timestamp;
use futures::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Everything that was durable.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Without its jobs: see [`Store::load_jobs`].
    pub(crate) snapshot: Snapshot,
    pub(crate) functions: FunctionTable,
}

/// What one job has: its number, its text, and what the store knows of its steps.
struct JobRow {
    seq: i64,
    id: JobId,
    state: String,
    spec: String,
    priority: u32,
}

impl Store {
    pub(crate) async fn load(&mut self, now: Timestamp) -> Result<Loaded, Error> {
        let functions = self.load_functions().await?;
        self.job_next = self.scalar("SELECT coalesce(max(seq), 0) FROM jobs").await?;
        let events = self.scalar("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'").await?;
        self.event_next = u64::try_from(events).unwrap_or(0);
        self.pruned_at = self.event_next;
        let snapshot = Snapshot {
            functions: functions.iter().map(|(key, spec)| (key, function_rules(spec))).collect(),
            projects: self.load_projects().await?,
            kept: self.load_kept().await?,
            chunks: self.load_chunks().await?,
            chunk_next: self.load_chunk_next().await?,
            places: self.load_places().await?,
            starts: self.load_starts().await?,
            learned_starts: self.load_learned_starts().await?,
            timings: self.load_learned_timings().await?,
            accounts: self.load_accounts().await?,
            prices: self.load_paid_by().await?,
            budgets: self.load_budgets(now).await?,
            jobs: Vec::new(),
        };
        Ok(Loaded { snapshot, functions })
    }

    /// Gives the jobs that are not over, one by one: a million of them at once would be gigabytes.
    pub(crate) async fn load_jobs(
        &mut self,
        functions: &FunctionTable,
        mut each: impl FnMut(StoredJob),
    ) -> Result<(), Error> {
        let restored = self.restored_jobs().await?;
        let mut steps = self.load_steps(None).await?;
        let mut spent = self.load_spent(None).await?;
        let text = "SELECT seq, id, state, spec, priority FROM jobs WHERE state IN ('queued', 'running', 'paused')";
        let mut rows = sqlx::query(text).fetch(&mut self.writer);
        while let Some(row) = rows.try_next().await.map_err(|error| Error::Read { error })? {
            let row = job_row(&row)?;
            let job = accepted(&row, functions)?;
            self.seqs.insert(row.id, row.seq);
            let spent = spent.remove(&row.seq).unwrap_or_default();
            each(stored_job(&row, &job, &mut steps, spent, row.seq <= restored));
        }
        Ok(())
    }

    /// Jobs as they were accepted, over or not.
    pub(crate) async fn jobs(
        &mut self,
        ids: &[JobId],
        functions: &FunctionTable,
    ) -> Result<Vec<(JobId, Arc<Job>)>, Error> {
        let found =
            sqlx::query("SELECT seq, id, state, spec, priority FROM jobs WHERE id IN (SELECT value FROM json_each(?))")
                .bind(serde_json::to_string(ids).expect("text"))
                .fetch_all(&mut self.writer)
                .await
                .map_err(|error| Error::Read { error })?;
        let jobs = found.iter().map(|row| {
            let row = job_row(row)?;
            Ok((row.id, Arc::new(accepted(&row, functions)?)))
        });
        jobs.collect()
    }

    /// A job that is over, made ready to go on: its number and done tasks are known again.
    pub(crate) async fn revive(
        &mut self,
        id: JobId,
        functions: &FunctionTable,
    ) -> Result<Option<(StoredJob, Arc<Job>)>, Error> {
        let found = sqlx::query("SELECT seq, id, state, spec, priority FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })?;
        let Some(row) = found else { return Ok(None) };
        let row = job_row(&row)?;
        let job = Arc::new(accepted(&row, functions)?);
        self.seqs.insert(id, row.seq);
        let mut steps = self.load_steps(Some(row.seq)).await?;
        let restored = self.restored_jobs().await?;
        let spent = self.load_spent(Some(row.seq)).await?.remove(&row.seq).unwrap_or_default();
        let stored = stored_job(&row, &job, &mut steps, spent, row.seq <= restored);
        Ok(Some((stored, job)))
    }

    /// The state of any job.
    pub(crate) async fn job_state(&mut self, id: JobId) -> Result<Option<JobState>, Error> {
        let found: Option<(String,)> = sqlx::query_as("SELECT state FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })?;
        found
            .map(|(text,)| serde_json::from_value(text.clone().into()).map_err(|_| unreadable("jobs", &text)))
            .transpose()
    }

    /// Whether this worker had this attempt at the job.
    pub(crate) async fn has_had(&mut self, worker: &WorkerId, job: JobId, attempt: AttemptId) -> Result<bool, Error> {
        let Ok(chunk) = i64::try_from(attempt.chunk.0) else { return Ok(false) };
        let text = "SELECT 1 FROM attempts JOIN jobs ON jobs.seq = attempts.job \
                    WHERE chunk = ? AND attempt = ? AND jobs.id = ? AND worker = ?";
        let found = sqlx::query(text)
            .bind(chunk)
            .bind(attempt.number)
            .bind(job.to_string())
            .bind(worker.as_str())
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })?;
        Ok(found.is_some())
    }

    /// Jobs that were submitted under these keys, each with the digest of its body.
    pub(crate) async fn repeated(&mut self, keys: &[&str]) -> Result<HashMap<String, (JobId, Vec<u8>)>, Error> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let found: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT key, jobs.id, body_sha256 FROM idempotency JOIN jobs ON jobs.seq = idempotency.job
             WHERE key IN (SELECT value FROM json_each(?))",
        )
        .bind(serde_json::to_string(keys).expect("text"))
        .fetch_all(&mut self.writer)
        .await
        .map_err(|error| Error::Read { error })?;
        let parsed = found.into_iter().map(|(key, id, digest)| {
            let id = id.parse().map_err(|_| unreadable("idempotency", &id))?;
            Ok((key, (id, digest)))
        });
        parsed.collect()
    }

    async fn load_functions(&mut self) -> Result<FunctionTable, Error> {
        let mut table = FunctionTable::default();
        for row in self.rows("SELECT name, version, spec FROM functions").await? {
            let (name, version, text): (String, u32, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
            let spec: FunctionSpec = serde_json::from_str(&text)
                .map_err(|error| Error::Row { row: format!("function {name}@{version}"), reason: error.to_string() })?;
            table.insert(FunctionKey { name: spec.name.clone(), version }, spec);
        }
        Ok(table)
    }

    async fn load_projects(&mut self) -> Result<Vec<(framewake_proto::ids::Name, u32)>, Error> {
        let rows = self.rows("SELECT name, weight FROM projects").await?;
        rows.iter()
            .map(|row| {
                let name: String = get(row, 0)?;
                Ok((name.parse().map_err(|_| unreadable("projects", &name))?, get(row, 1)?))
            })
            .collect()
    }

    async fn load_kept(&mut self) -> Result<Vec<(framewake_proto::ids::Name, u32)>, Error> {
        let rows = self.rows("SELECT function, workers FROM kept_workers").await?;
        rows.iter()
            .map(|row| {
                let name: String = get(row, 0)?;
                Ok((name.parse().map_err(|_| unreadable("kept_workers", &name))?, get(row, 1)?))
            })
            .collect()
    }

    async fn load_places(&mut self) -> Result<Vec<StoredPlace>, Error> {
        let rows = self.rows("SELECT name, since, until, times, reason, proven_at FROM places").await?;
        let places = rows.iter().map(|row| {
            Ok(StoredPlace {
                place: Place::new(&get::<String>(row, 0)?),
                since: Timestamp(get(row, 1)?),
                until: Timestamp(get(row, 2)?),
                times: get(row, 3)?,
                reason: get(row, 4)?,
                proven_at: get::<Option<i64>>(row, 5)?.map(Timestamp),
            })
        });
        places.collect()
    }

    /// The last job that came from a backup; none has the number 0.
    async fn restored_jobs(&mut self) -> Result<i64, Error> {
        self.scalar("SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM meta WHERE key = 'restored_jobs'").await
    }

    async fn load_chunk_next(&mut self) -> Result<u64, Error> {
        let text: Option<(String,)> = sqlx::query_as("SELECT value FROM meta WHERE key = 'chunk_next'")
            .fetch_optional(&mut self.writer)
            .await
            .map_err(|error| Error::Read { error })?;
        text.map_or(Ok(1), |(text,)| text.parse().map_err(|_| unreadable("meta", &text)))
    }

    /// Done and failed tasks and timing of the steps of one job, or of all that are not over; fills `segments`.
    async fn load_steps(&mut self, only: Option<i64>) -> Result<HashMap<(i64, usize), StoredStep>, Error> {
        const OPEN: &str = "job IN (SELECT seq FROM jobs WHERE state IN ('queued', 'running', 'paused'))";
        const VRAM: &str = "vram_floor, vram_peak, vram_enough";
        let filter = only.map_or(OPEN.to_owned(), |seq| format!("job = {seq}"));
        let mut steps: HashMap<(i64, usize), StoredStep> = HashMap::new();
        // Those that were measured: of a million queued jobs, few.
        let measured = format!("{filter} AND (load_s IS NOT NULL OR task_s IS NOT NULL OR vram_floor + vram_peak > 0)");
        for row in self.rows_of(format!("SELECT job, step, load_s, task_s, {VRAM} FROM steps WHERE {measured}")).await?
        {
            let step = steps.entry(step_key(&row)?).or_default();
            step.timing = Timing { load_s: get(&row, 2)?, task_s: get(&row, 3)? };
            let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
            step.vram = Vram {
                floor: bytes(get(&row, 4)?),
                peak: bytes(get(&row, 5)?),
                enough: get::<Option<i64>>(&row, 6)?.map(bytes),
            };
        }
        for row in self.rows_of(format!("SELECT job, step, segment, bits FROM done_tasks WHERE {filter}")).await? {
            let (job, at) = step_key(&row)?;
            let (segment, bits): (u32, Vec<u8>) = (get(&row, 2)?, get(&row, 3)?);
            let bits: Box<[u8; SEGMENT_BYTES]> = bits
                .into_boxed_slice()
                .try_into()
                .map_err(|_| unreadable("done_tasks", &format!("{job}/{at}/{segment}")))?;
            let step = steps.entry((job, at)).or_default();
            insert_bits(&mut step.done, segment * SEGMENT_TASKS, bits.as_slice());
            self.segments.insert((job, at, segment), bits);
        }
        for row in self.rows_of(format!("SELECT job, step, task, evidence <> '' FROM failures WHERE {filter}")).await? {
            let (job, at) = step_key(&row)?;
            steps.entry((job, at)).or_default().failed.insert(get(&row, 2)?);
            *self.evidence_kept.entry(job).or_default() += u32::from(get::<bool>(&row, 3)?);
        }
        Ok(steps)
    }

    async fn load_chunks(&mut self) -> Result<Vec<StoredChunk>, Error> {
        let rows = self
            .rows(
                "SELECT chunks.id, jobs.id, step, tasks, attempt, spent, losses, worker, avoid, since, done, failed, lost
                 FROM chunks JOIN jobs ON jobs.seq = chunks.job",
            )
            .await?;
        rows.iter().map(chunk_row).collect()
    }

    pub(super) async fn scalar(&mut self, text: &'static str) -> Result<i64, Error> {
        let (value,): (i64,) =
            sqlx::query_as(text).fetch_one(&mut self.writer).await.map_err(|error| Error::Read { error })?;
        Ok(value)
    }

    pub(super) async fn rows(&mut self, text: &'static str) -> Result<Vec<SqliteRow>, Error> {
        sqlx::query(text).fetch_all(&mut self.writer).await.map_err(|error| Error::Read { error })
    }

    /// For texts made of literals and numbers of this file.
    pub(super) async fn rows_of(&mut self, text: String) -> Result<Vec<SqliteRow>, Error> {
        sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&mut self.writer).await.map_err(|error| Error::Read { error })
    }
}

/// What the rules need to know of a function.
pub(crate) fn function_rules(spec: &FunctionSpec) -> FunctionRules {
    FunctionRules {
        workers_max: spec.scaling.max,
        slots: spec.resources.slots,
        gpus: spec.resources.gpus,
        gpu_needs: GpuNeeds::from(&spec.resources),
        unfit: BTreeMap::new(),
        scaling: ScalingRules {
            linger: spec.scaling.linger.map(|linger| linger.0),
            waiting: spec.scaling.waiting,
            keep: Window::all(spec),
            external: spec.scaling.external,
        },
    }
}

fn job_row(row: &SqliteRow) -> Result<JobRow, Error> {
    let id: String = get(row, 1)?;
    Ok(JobRow {
        seq: get(row, 0)?,
        id: id.parse().map_err(|_| unreadable("jobs", &id))?,
        state: get(row, 2)?,
        spec: get(row, 3)?,
        priority: get(row, 4)?,
    })
}

fn accepted(row: &JobRow, functions: &FunctionTable) -> Result<Job, Error> {
    let broken = |reason: String| Error::Row { row: format!("job {}", row.id), reason };
    let spec: JobSpec = serde_json::from_str(&row.spec).map_err(|error| broken(error.to_string()))?;
    let mut job = spec.check(&Accepted(functions)).map_err(|faults| broken(format!("{faults:?}")))?;
    job.priority = row.priority;
    Ok(job)
}

fn stored_job(
    row: &JobRow,
    job: &Job,
    steps: &mut HashMap<(i64, usize), StoredStep>,
    spent: Vec<(Held, u64)>,
    restored: bool,
) -> StoredJob {
    let count = job.steps.len();
    let steps = (0..count).map(|at| steps.remove(&(row.seq, at)).unwrap_or_default());
    let (paused, steps) = (row.state == "paused", steps.collect());
    StoredJob { id: row.id, job: NewJob::from(job), paused, restored, spent, steps }
}

fn chunk_row(row: &SqliteRow) -> Result<StoredChunk, Error> {
    let id: i64 = get(row, 0)?;
    let (job, tasks): (String, String) = (get(row, 1)?, get(row, 3)?);
    let broken = || unreadable("chunks", &id.to_string());
    let worker: Option<String> = get(row, 7)?;
    let avoid: Option<String> = get(row, 8)?;
    let since = Timestamp(get(row, 9)?);
    let name = |text: String| text.parse::<WorkerId>().map_err(|_| broken());
    let state = match worker {
        Some(worker) => {
            StoredChunkState::Leased { worker: name(worker)?, since, done: get(row, 10)?, failed: get(row, 11)? }
        }
        None => StoredChunkState::Waiting { until: since, avoid: avoid.map(name).transpose()? },
    };
    let step: i64 = get(row, 2)?;
    Ok(StoredChunk {
        id: ChunkId(u64::try_from(id).map_err(|_| broken())?),
        job: job.parse().map_err(|_| broken())?,
        step: usize::try_from(step).map_err(|_| broken())?,
        tasks: tasks_from(&tasks).ok_or_else(broken)?,
        attempt: get(row, 4)?,
        spent: get(row, 5)?,
        losses: get(row, 6)?,
        lost: lost_from(&get::<String>(row, 12)?).ok_or_else(broken)?,
        state,
    })
}

/// Adds the tasks whose bits are set. Whole runs at once: a million done tasks are one run.
fn insert_bits(tasks: &mut TaskSet, first: u32, bits: &[u8]) {
    let set = |task: u32| bits[(task / 8) as usize] & (1 << (task % 8)) != 0;
    let mut begin = None;
    for task in 0..SEGMENT_TASKS {
        match (set(task), begin) {
            (true, None) => begin = Some(task),
            (false, Some(start)) => {
                tasks.insert_run(first + start..first + task);
                begin = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if let Some(start) = begin {
        tasks.insert_run(first + start..first + SEGMENT_TASKS);
    }
}

fn step_key(row: &SqliteRow) -> Result<(i64, usize), Error> {
    let step: i64 = get(row, 1)?;
    Ok((get(row, 0)?, usize::try_from(step).map_err(|_| unreadable("steps", &step.to_string()))?))
}

pub(super) fn get<'r, T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    row: &'r SqliteRow,
    at: usize,
) -> Result<T, Error> {
    row.try_get(at).map_err(|error| Error::Read { error })
}

pub(super) fn unreadable(table: &str, what: &str) -> Error {
    Error::Row { row: format!("{what} of {table}"), reason: "it was not written by this program".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_runs() {
        let mut bits = [0; SEGMENT_BYTES];
        bits[0] = 0b1110_0110;
        bits[1] = 0b0000_0001;
        bits[SEGMENT_BYTES - 1] = 0b1000_0000;
        let mut tasks = TaskSet::new();
        insert_bits(&mut tasks, SEGMENT_TASKS, &bits);
        let expected: BTreeMap<u32, u32> = [(4097, 4099), (4101, 4105), (8191, 8192)].into();
        assert_eq!(tasks.runs().iter().map(|run| (run.start, run.end)).collect::<BTreeMap<_, _>>(), expected);
    }
}
