//! Jobs and their steps.

use super::outline::Outline;
use super::{Error, Reader, job_state, name, named, word};
use framewake_proto::api::{JobState, JobView, Page, StepView, TaskCounts};
use framewake_proto::ids::JobId;
use framewake_proto::job::JobSpec;
use framewake_proto::time::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};
use std::collections::{BTreeMap, HashMap};

/// Past this many bytes of job texts a page ends early: 1000 jobs of a megabyte each are no answer.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

const COLUMNS: &str =
    "SELECT seq, id, name, project, priority, state, labels, spec, submitted_at, submitted_by, finished_at FROM jobs";

/// Which jobs to list; all of it must hold.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// One of these; any when empty.
    pub states: Vec<JobState>,
    pub project: Option<String>,
    pub labels: Vec<(String, String)>,
    /// Part of the name.
    pub name: Option<String>,
    /// Who submitted it.
    pub by: Option<String>,
    /// From the oldest on, instead of from the newest.
    pub oldest_first: bool,
}

impl Reader {
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, Error> {
        let row = QueryBuilder::new(COLUMNS)
            .push(" WHERE id = ")
            .push_bind(id.to_string())
            .build()
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut views = self.views(vec![row]).await?;
        Ok(views.pop())
    }

    /// The job as it was accepted.
    pub async fn job_spec(&self, id: JobId) -> Result<Option<JobSpec>, Error> {
        let text: Option<String> = sqlx::query_scalar("SELECT spec FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        let spec = text.map(|text| serde_json::from_str(&text)).transpose();
        spec.map_err(|cause| Error::Strange { what: "the text", job: id, cause: cause.into() })
    }

    /// Newest first, if not asked otherwise; `last` is the place of the last job of the page before.
    pub async fn jobs(&self, filter: &JobFilter, last: Option<i64>, limit: u32) -> Result<Page<JobView>, Error> {
        // One question a state, because each is a run of the index (state, seq), and `IN` is not.
        let mut rows = Vec::new();
        if filter.states.is_empty() {
            rows = self.job_rows(filter, None, last, limit).await?;
        }
        for state in &filter.states {
            rows.extend(self.job_rows(filter, Some(*state), last, limit).await?);
        }
        let mut seqs = rows
            .into_iter()
            .map(|row| Ok((row.try_get("seq")?, row)))
            .collect::<Result<Vec<(i64, SqliteRow)>, Error>>()?;
        seqs.sort_unstable_by_key(|(seq, _)| if filter.oldest_first { *seq } else { -*seq });
        let mut size_bytes = 0;
        let mut kept = 0;
        for (_, row) in seqs.iter().take(limit as usize) {
            size_bytes += row.try_get::<&str, _>("spec")?.len();
            if kept > 0 && size_bytes > PAGE_BYTES_MAX {
                break;
            }
            kept += 1;
        }
        let next = (seqs.len() > kept).then(|| seqs[kept - 1].0.to_string());
        seqs.truncate(kept);
        let items = self.views(seqs.into_iter().map(|(_, row)| row).collect()).await?;
        Ok(Page { items, next })
    }

    async fn job_rows(
        &self,
        filter: &JobFilter,
        state: Option<JobState>,
        last: Option<i64>,
        limit: u32,
    ) -> Result<Vec<SqliteRow>, Error> {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(COLUMNS);
        if filter.oldest_first {
            query.push(" WHERE seq > ").push_bind(last.unwrap_or(i64::MIN));
        } else {
            query.push(" WHERE seq < ").push_bind(last.unwrap_or(i64::MAX));
        }
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(project) = &filter.project {
            query.push(" AND project = ").push_bind(project);
        }
        if let Some(name) = &filter.name {
            query.push(" AND instr(name, ").push_bind(name).push(") > 0");
        }
        if let Some(by) = &filter.by {
            query.push(" AND submitted_by = ").push_bind(by);
        }
        for (key, value) in &filter.labels {
            query.push(" AND EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ").push_bind(key);
            query.push(" AND label.value = ").push_bind(value).push(")");
        }
        query.push(if filter.oldest_first { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " });
        query.push_bind(super::fetch(limit));
        Ok(query.build().fetch_all(&self.pool).await?)
    }

    async fn views(&self, rows: Vec<SqliteRow>) -> Result<Vec<JobView>, Error> {
        let seqs = rows.iter().map(|row| row.try_get("seq")).collect::<Result<Vec<i64>, _>>()?;
        let steps = sqlx::query(
            // Of a canceled step nothing is open either, as each of its tasks is told: what a worker still holds is thrown away.
            "SELECT job, step, name, state, total, iif(state = 'canceled', 0, open) AS open, done, failed,
                    iif(state = 'canceled', total - done - failed, 0) AS canceled, load_s, task_s,
                    (SELECT count(*) FROM chunks
                     WHERE chunks.job = steps.job AND chunks.step = steps.step AND worker IS NOT NULL) AS running
             FROM steps WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, step",
        )
        .bind(serde_json::to_string(&seqs).expect("numbers are JSON"))
        .fetch_all(&self.pool)
        .await?;
        let mut steps_of: HashMap<i64, Vec<SqliteRow>> = HashMap::new();
        for row in steps {
            steps_of.entry(row.try_get("job")?).or_default().push(row);
        }
        rows.iter()
            .zip(seqs)
            .map(|(row, seq)| {
                let id: &str = row.try_get("id")?;
                let id: JobId = id.parse().map_err(|_| word("the id of a job", id))?;
                let outline = match self.outlines.get(seq) {
                    Some(outline) => outline,
                    None => self.outlines.make(seq, id, row.try_get("spec")?)?,
                };
                job_view(id, row, &outline, &steps_of.remove(&seq).unwrap_or_default())
            })
            .collect()
    }
}

fn job_view(id: JobId, row: &SqliteRow, outline: &Outline, steps: &[SqliteRow]) -> Result<JobView, Error> {
    let steps = steps.iter().zip(&outline.steps).map(|(row, outline)| {
        Ok(StepView {
            name: outline.name.clone(),
            function: outline.function.clone(),
            frames: outline.frames.to_string(),
            state: named("the state of a step", row.try_get("state")?)?,
            tasks: counts(row)?,
            after: outline.after.clone(),
            running_attempts: row.try_get("running")?,
            load_s: row.try_get("load_s")?,
            task_s: row.try_get("task_s")?,
        })
    });
    let steps = steps.collect::<Result<Vec<StepView>, Error>>()?;
    let mut tasks = TaskCounts::default();
    for step in &steps {
        tasks.total += step.tasks.total;
        tasks.waiting += step.tasks.waiting;
        tasks.open += step.tasks.open;
        tasks.done += step.tasks.done;
        tasks.failed += step.tasks.failed;
        tasks.canceled += step.tasks.canceled;
    }
    let labels: BTreeMap<String, String> = serde_json::from_str(row.try_get("labels")?)
        .map_err(|cause| Error::Strange { what: "the labels", job: id, cause: cause.into() })?;
    Ok(JobView {
        id,
        name: row.try_get("name")?,
        project: name(row, "project")?,
        priority: row.try_get("priority")?,
        labels,
        state: job_state(row.try_get("state")?)?,
        tasks,
        steps,
        submitted_at: Timestamp(row.try_get("submitted_at")?),
        submitted_by: row.try_get("submitted_by")?,
        finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(Timestamp),
    })
}

pub(super) fn counts(row: &SqliteRow) -> Result<TaskCounts, Error> {
    let (total, open): (u32, u32) = (row.try_get("total")?, row.try_get("open")?);
    let (done, failed): (u32, u32) = (row.try_get("done")?, row.try_get("failed")?);
    let canceled: u32 = row.try_get("canceled")?;
    let waiting = total.saturating_sub(open).saturating_sub(done).saturating_sub(failed).saturating_sub(canceled);
    Ok(TaskCounts { total, waiting, open, done, failed, canceled })
}
