//! Copies of the database: taken while the farm works, and put back in its place.
//!
//! A copy that is put back is a farm that has forgotten what happened since. Numbers that were given out since must
//! not be given out again, attempts that were under way are over, and what was rendered since is in the store: see
//! [`forget_since`].

use super::Error as StoreError;
use super::file::{DATABASE, Look, inspect, lock, open_to_read, wal_of};
use framewake_proto::time::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::fs::File;
use std::path::{Path, PathBuf};
use tracing::warn;

/// In `meta`: this file is a copy, and when it was made; gone once a scheduler has used it.
const COPIED_AT: &str = "copied_at";

/// Chunks of a restored farm are numbered from here times the milliseconds since 1970: above every number that was given
/// out before, as long as a farm makes fewer than a million chunks a second; and below 2^53 until the year 2248.
const CHUNKS_PER_MS_MAX: i64 = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no database in `{}`: name the data folder of the scheduler with --data", folder.display())]
    NoDatabase { folder: PathBuf },
    #[error("`{}` is there already: choose another name for the backup, or remove it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot copy the database to `{}` (is the disk full?)", to.display())]
    Copy {
        to: PathBuf,
        #[source]
        error: sqlx::Error,
    },
    #[error("cannot write `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

/// What became of a restore.
#[derive(Debug)]
pub struct Restored {
    /// Where the database lies that was there before.
    pub before: Option<PathBuf>,
    pub jobs: i64,
}

/// Copies the database of a data folder to a file that is not there yet, beside a scheduler that works or not. The file
/// has its name only once it is whole, verified and on disk.
pub async fn back_up(folder: &Path, to: &Path) -> Result<u64, Error> {
    let from = folder.join(DATABASE);
    if !from.is_file() {
        return Err(Error::NoDatabase { folder: folder.to_owned() });
    }
    if to.exists() {
        return Err(Error::Exists { path: to.to_owned() });
    }
    let partial = Partial::beside(to);
    copy(&from, &partial.0).await?;
    partial.take_name(to)?;
    std::fs::metadata(to).map(|file| file.len()).map_err(|error| Error::File { path: to.to_owned(), error })
}

/// Puts a copy in the place of a folder's database, which is moved aside, not removed.
pub async fn restore(from: &Path, folder: &Path) -> Result<Restored, Error> {
    let failed = |path: &Path, error| Error::File { path: path.to_owned(), error };
    inspect(from, Look::Full).await?;
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut lock = lock(folder)?;
    let database = folder.join(DATABASE);
    let partial = Partial::beside(&database);
    copy(from, &partial.0).await?;
    let jobs = count_jobs(&partial.0).await?;

    // A crash in between leaves a database without its WAL, and a lock that says so: the next start refuses it.
    let aside = folder.join(format!("framewake-before-{}.db", Timestamp::now().0));
    let (wal, index) = (wal_of(&database), folder.join(format!("{DATABASE}-shm")));
    let there = database.exists();
    if wal.exists() {
        lock.note(true).map_err(|error| failed(folder, error))?;
        std::fs::rename(&wal, wal_of(&aside)).map_err(|error| failed(&wal, error))?;
    }
    let _ = std::fs::remove_file(index); // Made anew from the WAL by whoever opens the database.
    if there {
        std::fs::hard_link(&database, &aside)
            .or_else(|_| std::fs::copy(&database, &aside).map(drop))
            .map_err(|error| failed(&aside, error))?;
    }
    std::fs::rename(&partial.0, &database).map_err(|error| failed(&database, error))?;
    sync(folder)?;
    lock.note(false).map_err(|error| failed(folder, error))?;
    Ok(Restored { before: there.then_some(aside), jobs })
}

/// A whole copy of a database, marked as one, on disk.
async fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    inspect(from, Look::Start).await?;
    let failed = |error| Error::Copy { to: to.to_owned(), error };
    let mut reader = open_to_read(from).await?;
    let name = to.to_str().ok_or_else(|| Error::File {
        path: to.to_owned(),
        error: std::io::Error::other("the name of a backup must be text"),
    })?;
    // Reads one state of the database however long it takes; commits go on beside it.
    sqlx::query("VACUUM INTO ?").bind(name).execute(&mut reader).await.map_err(failed)?;
    // Not a WAL: a backup is one file, which can be read in a folder that can't be written.
    let mut copy = SqliteConnectOptions::new().filename(to).connect().await.map_err(failed)?;
    sqlx::query("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(COPIED_AT)
        .bind(Timestamp::now().0.to_string())
        .execute(&mut copy)
        .await
        .map_err(failed)?;
    copy.close().await.map_err(failed)?;
    inspect(to, Look::Quick).await?;
    sync(to)
}

async fn count_jobs(path: &Path) -> Result<i64, Error> {
    let mut reader = open_to_read(path).await?;
    Ok(super::file::one(&mut reader, path, "SELECT count(*) FROM jobs").await?)
}

fn sync(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::File { path: path.to_owned(), error })
}

/// A copy that is not whole yet; removed with whatever SQLite put beside it, unless it gets its name.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path) -> Partial {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Partial(path.with_file_name(format!(".{name}.{}.partial", std::process::id())))
    }

    fn take_name(&self, to: &Path) -> Result<(), Error> {
        match renameat_with(CWD, &self.0, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists { path: to.to_owned() }),
            // A file system that can't look and rename in one step.
            Err(_) => std::fs::rename(&self.0, to).map_err(|error| Error::File { path: to.to_owned(), error })?,
        }
        sync(to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        for suffix in ["-wal", "-shm", "-journal"] {
            let mut name = self.0.as_os_str().to_owned();
            name.push(suffix);
            let _ = std::fs::remove_file(PathBuf::from(name));
        }
    }
}

/// If the database is a copy, makes of it a farm that may go on in a world that is ahead of it; in one transaction,
/// before anything else is done with it.
pub(super) async fn forget_since(writer: &mut SqliteConnection, now: Timestamp) -> Result<(), sqlx::Error> {
    let copied: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?").bind(COPIED_AT).fetch_optional(&mut *writer).await?;
    let Some(copied) = copied else { return Ok(()) };
    let first = now.0.saturating_mul(CHUNKS_PER_MS_MAX);
    let mut all = writer.begin().await?;
    // Attempts of the time since may live still, and report. No chunk of theirs is known here any more. Those that
    // are tried again have an attempt behind them: whoever takes them looks into the store first.
    sqlx::query(
        "UPDATE chunks SET id = ?1 + n, attempt = max(attempt, 1), worker = NULL, avoid = NULL, since = ?2, done = 0, failed = 0
         FROM (SELECT id AS old, row_number() OVER (ORDER BY id) AS n FROM chunks) WHERE id = old",
    )
    .bind(first)
    .bind(now.0)
    .execute(&mut *all)
    .await?;
    sqlx::query("UPDATE attempts SET outcome = 'lost', ended_at = ? WHERE outcome = 'running'")
        .bind(now.0)
        .execute(&mut *all)
        .await?;
    sqlx::query(
        "INSERT INTO meta SELECT 'chunk_next', max(?1 + 1 + (SELECT count(*) FROM chunks),
             coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'chunk_next'), 0))
         ON CONFLICT DO UPDATE SET value = excluded.value",
    )
    .bind(first)
    .execute(&mut *all)
    .await?;
    sqlx::query(
        // They may have outputs in the store that nothing here knows of.
        "INSERT INTO meta SELECT 'restored_jobs', coalesce(max(seq), 0) FROM jobs WHERE true
         ON CONFLICT DO UPDATE SET value = excluded.value",
    )
    .execute(&mut *all)
    .await?;
    // Whoever logged out since is not logged in again.
    sqlx::query("DELETE FROM sessions").execute(&mut *all).await?;
    sqlx::query("DELETE FROM meta WHERE key = ?").bind(COPIED_AT).execute(&mut *all).await?;
    all.commit().await?;
    warn!(
        "the farm was restored from a copy of {}: what was submitted since is not known here, and outputs that were made \
         since are looked for before anything is rendered",
        copied.parse().map_or(copied, |at| Timestamp(at).to_string())
    );
    Ok(())
}
