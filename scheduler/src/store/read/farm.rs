//! What belongs to the farm and not to one job: functions, projects, idempotency keys.

use super::{Error, Reader, name, page, word};
use framewake_proto::api::{Page, ProjectView};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, JobId};
use framewake_proto::scan::{Candidate, ScanView};
use framewake_proto::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A submission that was accepted under an idempotency key.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub body_sha256: Vec<u8>,
    pub job: JobId,
    pub tasks: u32,
}

/// Most versions that are not active and are told with one that is.
const CANDIDATES_MAX: i64 = 10;

/// A version as it is stored, active or not.
#[derive(Debug, Clone)]
pub struct StoredFunction {
    pub key: FunctionKey,
    pub spec: FunctionSpec,
    pub added_at: Timestamp,
    pub scan: Option<ScanView>,
}

impl Reader {
    /// In the order of names and versions, after `after`; only of one function, if given.
    pub async fn functions(
        &self,
        only: Option<&str>,
        after: Option<(&str, u32)>,
        limit: u32,
    ) -> Result<Page<StoredFunction>, Error> {
        let (after_name, after_version) = after.unwrap_or(("", 0));
        let rows = sqlx::query(
            "SELECT name, version, functions.spec, functions.added_at, view FROM functions LEFT JOIN scans USING (name, version)
             WHERE (name, version) > (?1, ?2) AND (?3 IS NULL OR name = ?3)
             UNION ALL
             SELECT name, version, spec, added_at, view FROM scans
             WHERE spec IS NOT NULL AND (name, version) > (?1, ?2) AND (?3 IS NULL OR name = ?3)
             ORDER BY name, version LIMIT ?4",
        )
        .bind(after_name)
        .bind(after_version)
        .bind(only)
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let functions = rows.iter().map(function).collect::<Result<Vec<_>, Error>>()?;
        Ok(page(functions, limit, |function| function.key.to_string(), |entry| entry))
    }

    /// The newest active version, or else the newest, or the one that is named.
    pub async fn function(&self, name: &str, version: Option<u32>) -> Result<Option<StoredFunction>, Error> {
        let row = sqlx::query(
            "SELECT name, version, functions.spec, functions.added_at, view, 1 AS active
             FROM functions LEFT JOIN scans USING (name, version) WHERE name = ?1 AND (?2 IS NULL OR version = ?2)
             UNION ALL
             SELECT name, version, spec, added_at, view, 0 FROM scans
             WHERE spec IS NOT NULL AND name = ?1 AND (?2 IS NULL OR version = ?2)
             ORDER BY active DESC, version DESC LIMIT 1",
        )
        .bind(name)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(function).transpose()
    }

    /// Versions after this one that are not active, newest first.
    pub async fn candidates(&self, key: &FunctionKey) -> Result<Vec<Candidate>, Error> {
        let rows = sqlx::query(
            "SELECT version, view FROM scans WHERE spec IS NOT NULL AND name = ? AND version > ? ORDER BY version DESC LIMIT ?",
        )
        .bind(key.name.as_str())
        .bind(key.version)
        .bind(CANDIDATES_MAX)
        .fetch_all(&self.pool)
        .await?;
        let candidate = |row: &SqliteRow| {
            let view = serde_json::from_str(row.try_get("view")?).map_err(|_| word("a scan", key.name.as_str()))?;
            Ok(Candidate { version: row.try_get("version")?, scan: view })
        };
        rows.iter().map(candidate).collect()
    }

    /// Projects with a weight or a job, by name, after `after`. A project that nobody weighed has weight 1.
    pub async fn projects(&self, after: Option<&str>, limit: u32) -> Result<Page<ProjectView>, Error> {
        // Steps from name to name along the index (project, seq): the number of jobs makes no difference.
        let rows = sqlx::query(
            "WITH RECURSIVE used (name) AS (
                 SELECT min(project) FROM jobs WHERE project > ?1
                 UNION ALL
                 SELECT (SELECT min(project) FROM jobs WHERE project > used.name) FROM used WHERE used.name IS NOT NULL
                 LIMIT ?2
             ),
             known (name) AS (
                 SELECT name FROM used WHERE name IS NOT NULL
                 UNION
                 SELECT name FROM projects WHERE name > ?1
             )
             SELECT known.name, coalesce(projects.weight, 1) AS weight
             FROM known LEFT JOIN projects ON projects.name = known.name ORDER BY known.name LIMIT ?2",
        )
        .bind(after.unwrap_or_default())
        .bind(super::fetch(limit))
        .fetch_all(&self.pool)
        .await?;
        let views = rows.iter().map(|row| Ok(ProjectView { name: name(row, "name")?, weight: row.try_get("weight")? }));
        let views = views.collect::<Result<Vec<_>, Error>>()?;
        Ok(page(views, limit, |view| view.name.to_string(), |view| view))
    }

    /// `None` when nobody weighed the project.
    pub async fn project_weight(&self, name: &str) -> Result<Option<u32>, Error> {
        let weight = sqlx::query_scalar("SELECT weight FROM projects WHERE name = ?");
        Ok(weight.bind(name).fetch_optional(&self.pool).await?)
    }

    /// What was accepted under this key.
    pub async fn accepted(&self, key: &str) -> Result<Option<Accepted>, Error> {
        let row = sqlx::query(
            "SELECT body_sha256, jobs.id, (SELECT sum(total) FROM steps WHERE job = jobs.seq) AS tasks
             FROM idempotency JOIN jobs ON jobs.seq = job WHERE key = ?",
        )
        .bind(key)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let id: &str = row.try_get("id")?;
            let job = id.parse().map_err(|_| word("the id of a job", id))?;
            Ok(Accepted { body_sha256: row.try_get("body_sha256")?, job, tasks: row.try_get("tasks")? })
        })
        .transpose()
    }
}

fn function(row: &SqliteRow) -> Result<StoredFunction, Error> {
    let key = FunctionKey { name: name(row, "name")?, version: row.try_get("version")? };
    let spec = serde_json::from_str(row.try_get("spec")?).map_err(|_| word("a function", &key.to_string()))?;
    let view: Option<&str> = row.try_get("view")?;
    let scan = view.map(|view| serde_json::from_str(view).map_err(|_| word("a scan", &key.to_string()))).transpose()?;
    Ok(StoredFunction { key, spec, added_at: Timestamp(row.try_get("added_at")?), scan })
}
