//! The truth of the farm, in SQLite: one writer, which the engine owns. Views read on connections of their own.

pub(crate) mod happenings;
mod job_cache;
mod load;
pub mod read;
mod rows;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use job_cache::JobCache;
pub(crate) use load::{Loaded, function_rules};
pub(crate) use write::{Batch, job_state_name, outcome_name};

use framewake_proto::ids::JobId;
use rows::SEGMENT_BYTES;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The schema, one file a version, in order.
const MIGRATIONS: [&str; 2] =
    [include_str!("store/migrations/0001_start.sql"), include_str!("store/migrations/0002_places.sql")];

/// Largest database that is looked through before a start: 430 MiB take a second, and ten million results 2 GiB.
const CHECKED_FIRST_MAX: u64 = 256 * 1024 * 1024;

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
    #[error("the database `{}` is damaged ({found}): put a backup in its place", path.display())]
    Damaged { path: PathBuf, found: String },
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
    /// Held while the folder is ours.
    _lock: File,
}

impl Store {
    /// Opens or makes the database in `folder`, which no other scheduler may use at the same time.
    pub async fn open(folder: &Path) -> Result<Store, Error> {
        std::fs::create_dir_all(folder).map_err(|error| Error::Folder { path: folder.to_owned(), error })?;
        let lock = lock(folder)?;
        let path = folder.join("framewake.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer of 201 must survive a power cut; group commit pays for it.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(64);
        let mut writer = options.connect().await.map_err(|error| cannot_open(&path, error))?;
        if !is_large(&path) {
            check(&mut writer, &path).await?;
        }
        migrate(&mut writer, &path).await?;
        Ok(Store {
            writer,
            seqs: HashMap::new(),
            job_next: 0,
            event_next: 0,
            commits: 0,
            pruned_at: 0,
            evidence_kept: HashMap::new(),
            segments: BTreeMap::new(),
            _lock: lock,
        })
    }
}

/// Looks through a database that is too large to be looked through before each start, while it is in use.
pub(crate) async fn check_large(folder: PathBuf) -> Result<(), Error> {
    let path = folder.join("framewake.db");
    if is_large(&path) { check_beside(&path).await } else { Ok(()) }
}

async fn check_beside(path: &Path) -> Result<(), Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut reader = options.connect().await.map_err(|error| cannot_open(path, error))?;
    check(&mut reader, path).await
}

fn is_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_FIRST_MAX)
}

pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let failed = |error| Error::Folder { path: folder.to_owned(), error };
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(32).read_to_string(&mut pid);
            return Err(Error::InUse { path: folder.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(file)
}

async fn check(writer: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let found = sqlx::query_as("PRAGMA quick_check(1)").fetch_one(writer).await;
    let (found,): (String,) = found.map_err(|error| cannot_open(path, error))?;
    if found == "ok" { Ok(()) } else { Err(Error::Damaged { path: path.to_owned(), found }) }
}

fn cannot_open(path: &Path, error: sqlx::Error) -> Error {
    // SQLITE_CORRUPT and SQLITE_NOTADB.
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.is_some_and(|code| code == "11" || code == "26") {
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
    Ok(())
}
