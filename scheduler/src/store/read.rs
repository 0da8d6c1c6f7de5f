//! What people ask of the store: read-only, on connections of its own, so that a slow list never holds up a commit.

mod attempts;
mod callbacks;
mod costs;
mod events;
mod farm;
mod glance;
mod jobs;
pub(super) mod map;
mod notifications;
mod outline;
mod outputs;
mod schedules;
pub(super) mod tasks;

pub(crate) use callbacks::DueCallback;
pub use costs::{DayTime, Elapsed, JobTime, PriceRows};
pub use events::StoredEvent;
pub use farm::{Accepted, StoredFunction};
pub use jobs::JobFilter;
pub use notifications::{DueNotice, TargetState};
pub use outline::{Outline, StepOutline};
pub use outputs::StoredOutput;

use framewake_proto::api::{JobState, Page};
use framewake_proto::ids::{JobId, Name};
use outline::Outlines;
use sqlx::Row;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use std::path::Path;
use std::time::Duration;

/// Connections for reading.
const READERS: u32 = 4;
/// How long a request waits for a connection before the answer is "busy".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't read the store")]
    Query(#[from] sqlx::Error),
    #[error("the store has {what} of job {job} in a form that this version can't read")]
    Strange {
        what: &'static str,
        job: JobId,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store has `{value}` where this version expects {what}")]
    Word { what: &'static str, value: String },
}

/// Reads the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) pool: SqlitePool,
    file: std::sync::Arc<Path>,
    outlines: std::sync::Arc<Outlines>,
}

/// A job's short name in the store, its state and what never changes of it.
#[derive(Debug, Clone)]
pub struct JobKey {
    pub seq: i64,
    pub id: JobId,
    pub state: JobState,
    pub outline: std::sync::Arc<Outline>,
}

impl Reader {
    /// Opens the database file for reading; the writer has made it and its tables.
    pub async fn open(file: &Path) -> Result<Reader, Error> {
        let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(ACQUIRE_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Reader { pool, file: file.into(), outlines: std::sync::Arc::default() })
    }

    /// The database's files with their sizes in bytes.
    pub fn files(&self) -> [(&'static str, u64); 2] {
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        let mut wal = self.file.as_os_str().to_owned();
        wal.push("-wal");
        [("database", size(&self.file)), ("wal", size(Path::new(&wal)))]
    }

    /// `None` when there is no such job.
    pub async fn job_key(&self, id: JobId) -> Result<Option<JobKey>, Error> {
        // The text of the job is read only when its outline is not at hand.
        let row = sqlx::query("SELECT seq, state, project FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let seq = row.try_get("seq")?;
        let state = job_state(row.try_get("state")?)?;
        let outline = if let Some(outline) = self.outlines.get(seq) {
            outline
        } else {
            let spec: String =
                sqlx::query_scalar("SELECT spec FROM jobs WHERE seq = ?").bind(seq).fetch_one(&self.pool).await?;
            self.outlines.make(seq, id, &spec)?
        };
        Ok(Some(JobKey { seq, id, state, outline }))
    }
}

/// Cuts a list that was read with one entry too many to a page. `cursor` names the place of the last entry kept.
fn page<T, R>(mut rows: Vec<R>, limit: u32, cursor: impl Fn(&R) -> String, view: impl FnMut(R) -> T) -> Page<T> {
    let limit = limit as usize;
    let next = (rows.len() > limit).then(|| cursor(&rows[limit - 1]));
    rows.truncate(limit);
    Page { items: rows.into_iter().map(view).collect(), next }
}

/// One more than a page, so that the last page is known to be the last.
fn fetch(limit: u32) -> i64 {
    i64::from(limit) + 1
}

fn job_state(text: &str) -> Result<JobState, Error> {
    use JobState as S;
    let all = [S::Queued, S::Running, S::Paused, S::Succeeded, S::Failed, S::Canceled];
    all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| word("the state of a job", text))
}

/// A word of the store by its name in the interface: both spell it alike.
fn named<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| word(what, text))
}

fn word(what: &'static str, text: &str) -> Error {
    Error::Word { what, value: text.chars().take(64).collect() }
}

fn name(row: &SqliteRow, column: &str) -> Result<Name, Error> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| word("a name", text))
}

/// `17.2`
fn attempt(row: &SqliteRow) -> Result<String, Error> {
    let (chunk, number): (i64, i64) = (row.try_get("chunk")?, row.try_get("attempt")?);
    Ok(format!("{chunk}.{number}"))
}
