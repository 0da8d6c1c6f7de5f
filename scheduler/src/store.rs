//! The truth of the farm, in SQLite: one writer, which the engine owns. Views read on connections of their own.

mod access;
pub mod backup;
mod budgets;
mod ended;
pub(crate) mod file;
pub(crate) mod gateway;
pub(crate) mod happenings;
mod job_cache;
mod ledger;
mod load;
pub mod measured;
mod notifications;
mod prices;
pub mod read;
mod rows;
mod scans;
mod schedules;
mod sessions;
mod starts;
#[cfg(test)]
mod tests;
mod traces;
mod tries;
mod write;

pub(crate) use access::{AccessWrite, AuditRow, Share, add_token_beside};
pub(crate) use file::lock;
pub(crate) use gateway::{Callback, GatewayWrite, StoredGateway, TriedCallback};
pub(crate) use job_cache::JobCache;
pub(crate) use load::{Loaded, function_rules};
pub(crate) use measured::Learned;
pub(crate) use notifications::{NoticeRow, NotifyWrite, StoredNotices, Tried};
pub(crate) use scans::ScanWrite;
pub(crate) use schedules::{RunRow, ScheduleWrite};
#[cfg(test)]
pub(crate) use traces::HeldAttempt;
pub(crate) use traces::StoredTraces;
pub(crate) use write::{Batch, job_state_name, outcome_name, step_state_name};

use file::{APPLICATION_ID, DATABASE, Lock, Look, inspect_ours, is_large};
use framewake_proto::ids::JobId;
use framewake_proto::time::Timestamp;
use rows::SEGMENT_BYTES;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The schema, one file a version, in order.
const MIGRATIONS: [&str; 22] = [
    include_str!("store/migrations/0001_start.sql"),
    include_str!("store/migrations/0002_places.sql"),
    include_str!("store/migrations/0005_log_left_out.sql"),
    include_str!("store/migrations/0006_schedules.sql"),
    include_str!("store/migrations/0007_confinement.sql"),
    include_str!("store/migrations/0008_gpus.sql"),
    include_str!("store/migrations/0009_cost.sql"),
    include_str!("store/migrations/0010_notifications.sql"),
    include_str!("store/migrations/0012_traces.sql"),
    include_str!("store/migrations/0014_openfaas.sql"),
    include_str!("store/migrations/0011_measured.sql"),
    include_str!("store/migrations/0016_access.sql"),
    include_str!("store/migrations/0015_cost_by_pool.sql"),
    include_str!("store/migrations/0013_starts.sql"),
    include_str!("store/migrations/0019_failures_by_age.sql"),
    include_str!("store/migrations/0020_scans.sql"),
    include_str!("store/migrations/0021_sessions.sql"),
    include_str!("store/migrations/0023_failed_tries.sql"),
    include_str!("store/migrations/0022_ended_workers.sql"),
    include_str!("store/migrations/0024_audit_shares.sql"),
    include_str!("store/migrations/0025_chunks_by_job.sql"),
    include_str!("store/migrations/0026_submitted_by.sql"),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data folder `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the data folder `{}` is used by another scheduler (process {pid}): stop it, or choose another folder with --data", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("cannot open the database `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        error: sqlx::Error,
    },
    #[error("cannot read the database `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the database `{}` is damaged ({found}): nothing in it was changed; put a backup in its place with `framewake-scheduler restore`", path.display())]
    Damaged { path: PathBuf, found: String },
    #[error("`{}-wal` is missing, which has what was committed last: the scheduler before was killed; put it back, or a backup in its place with `framewake-scheduler restore`; if another program has merged it into the database, remove the file `lock`", path.display())]
    WalMissing { path: PathBuf },
    #[error("`{}` is a database of another program: choose another folder with --data", path.display())]
    Foreign { path: PathBuf },
    #[error("the database `{}` is of schema {found}, newer than the {} this program knows: use the program that wrote it, or a newer one", path.display(), MIGRATIONS.len())]
    TooNew { path: PathBuf, found: usize },
    #[error("cannot read the database")]
    Read {
        #[source]
        error: sqlx::Error,
    },
    #[error("cannot write to the database (is the disk full?)")]
    Write {
        #[source]
        error: sqlx::Error,
    },
    #[error("row {row} of the database can't be understood: {reason}")]
    Row { row: String, reason: String },
}

/// The writer. Not shared: whoever holds it owns the truth.
#[derive(Debug)]
pub struct Store {
    writer: SqliteConnection,
    /// Number of each job that is not over.
    seqs: HashMap<JobId, i64>,
    job_next: i64,
    event_next: u64,
    commits: u64,
    /// `event_next` when events were last pruned.
    pruned_at: u64,
    /// Failures with evidence, of jobs that are not over.
    evidence_kept: HashMap<i64, u32>,
    /// Done tasks of jobs that are not over.
    segments: BTreeMap<(i64, usize, u32), Box<[u8; SEGMENT_BYTES]>>,
    /// Whose database it is, whichever copy of it.
    farm: String,
    /// Held while the folder is ours.
    lock: Lock,
}

impl Store {
    /// Opens or makes the database in `folder`, which no other scheduler may use at the same time.
    pub async fn open(folder: &Path) -> Result<Store, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::Folder { path: folder.to_owned(), error })?;
        let mut lock = lock(folder)?;
        let path = folder.join(DATABASE);
        inspect_ours(&path, lock.left_open).await?;
        let mut writer =
            writable(&path).create_if_missing(true).connect().await.map_err(|error| cannot_open(&path, error))?;
        migrate(&mut writer, &path).await?;
        backup::forget_since(&mut writer, Timestamp::now()).await.map_err(|error| Error::Write { error })?;
        let farm = farm_id(&mut writer, &path).await?;
        // Its name is durable too, and what is committed from now on is in the WAL.
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        let noted = synced.and_then(|()| lock.note(true));
        noted.map_err(|error| Error::Folder { path: folder.to_owned(), error })?;
        Ok(Store {
            writer,
            seqs: HashMap::new(),
            job_next: 0,
            event_next: 0,
            commits: 0,
            pruned_at: 0,
            evidence_kept: HashMap::new(),
            segments: BTreeMap::new(),
            farm,
            lock,
        })
    }

    /// The id of the farm: made with the database, and the same in all its copies.
    pub(crate) fn farm(&self) -> &str {
        &self.farm
    }

    /// Merges the WAL into the database: what is left behind is one file.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let merged = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.writer).await;
        merged.map(drop).map_err(|error| Error::Write { error })
    }
}

impl Drop for Store {
    /// SQLite removes the WAL when its last connection ends, and that is no loss.
    fn drop(&mut self) {
        let _ = self.lock.note(false);
    }
}

async fn farm_id(writer: &mut SqliteConnection, path: &Path) -> Result<String, Error> {
    sqlx::query("INSERT INTO meta VALUES ('farm', ?) ON CONFLICT DO NOTHING")
        .bind(ulid::Ulid::generate().to_string())
        .execute(&mut *writer)
        .await
        .map_err(|error| Error::Write { error })?;
    file::one(writer, path, "SELECT value FROM meta WHERE key = 'farm'").await
}

/// How the database is opened for writing, everywhere.
fn writable(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An answer of 201 must survive a power cut; group commit pays for it.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(64)
}

/// Looks through a database that is too large to be looked through before each start, while it is in use.
pub(crate) async fn check_large(folder: PathBuf) -> Result<(), Error> {
    let path = folder.join(DATABASE);
    if is_large(&path) { check_beside(&path).await } else { Ok(()) }
}

async fn check_beside(path: &Path) -> Result<(), Error> {
    let mut reader = file::open_to_read(path).await?;
    file::check(&mut reader, path, Look::Quick).await
}

fn cannot_open(path: &Path, error: sqlx::Error) -> Error {
    // SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_IOERR_SHORT_READ; the upper bytes of a code only refine it.
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
    if matches!(code & 0xff, 11 | 26) || code == 522 {
        return Error::Damaged { path: path.to_owned(), found: error.to_string() };
    }
    Error::Open { path: path.to_owned(), error }
}

/// Brings the schema up to this program's version; `PRAGMA user_version` counts the files applied.
async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let open = |error| cannot_open(path, error);
    let (version,): (i64,) = sqlx::query_as("PRAGMA user_version").fetch_one(&mut *writer).await.map_err(open)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(Error::TooNew { path: path.to_owned(), found: version });
    }
    for (at, text) in MIGRATIONS.iter().enumerate().skip(version) {
        let all = format!("BEGIN IMMEDIATE; {text}; PRAGMA user_version = {}; COMMIT;", at + 1);
        // The text is a file of this program.
        sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(&mut *writer).await.map_err(open)?;
    }
    let named: i64 = file::one(writer, path, "PRAGMA application_id").await?;
    if named != i64::from(APPLICATION_ID) {
        let name = format!("PRAGMA application_id = {APPLICATION_ID}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(name)).execute(&mut *writer).await.map_err(open)?;
    }
    Ok(())
}
