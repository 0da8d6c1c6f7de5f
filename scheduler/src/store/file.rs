//! The database as a file: whether it may be opened, who uses it, and whether it ended well. Nothing here alters it.

use super::{Error, MIGRATIONS, cannot_open};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

pub(crate) const DATABASE: &str = "framewake.db";

/// "FWke": in the file's header, so that it can be told from the databases of other programs.
pub(super) const APPLICATION_ID: u32 = 0x4657_6b65;

/// Largest database that is looked through before a start: 430 MiB take a second, and ten million results 2 GiB.
const CHECKED_FIRST_MAX: u64 = 256 * 1024 * 1024;

/// Of a SQLite file: its first bytes, and of its header what is read here.
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The first four bytes of a WAL, for either order of bytes of its checksums.
const WAL_MAGICS: [u32; 2] = [0x377f_0682, 0x377f_0683];

/// Written into the lock while the database is open: after a crash its WAL must be there.
const OPEN: &str = "open";

/// How well a database is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// `quick_check`, and not even that where it would hold up a start.
    Start,
    /// `quick_check`, however long it takes.
    Quick,
    /// `integrity_check`, which also compares indexes with their tables: several times as long.
    Full,
}

/// The data folder is ours while this is held, even if the process is killed: the system lets go of it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Who held it last did not close the database.
    pub(crate) left_open: bool,
}

/// Takes the folder, or says who has it.
pub(crate) fn lock(folder: &Path) -> Result<Lock, Error> {
    let failed = |error| Error::Folder { path: folder.to_owned(), error };
    let path = folder.join("lock");
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let taken = file.try_lock();
    let mut text = String::new();
    let _ = (&mut file).take(64).read_to_string(&mut text);
    let mut words = text.split_whitespace();
    let pid = words.next().unwrap_or("unknown").to_owned();
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: folder.to_owned(), pid }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let mut lock = Lock { file, left_open: words.next() == Some(OPEN) };
    lock.note(lock.left_open).map_err(failed)?;
    Ok(lock)
}

impl Lock {
    /// Notes whether the database is open.
    pub(super) fn note(&mut self, open: bool) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}{}{}", std::process::id(), if open { " " } else { "" }, if open { OPEN } else { "" })
    }
}

/// The file beside a database that has what was committed last.
pub(crate) fn wal_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

pub(super) fn is_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_FIRST_MAX)
}

/// Looks at a database that a scheduler is about to use. Nothing is there before the first start.
pub(super) async fn inspect_ours(path: &Path, left_open: bool) -> Result<(), Error> {
    let damaged = |found: &str| Err(Error::Damaged { path: path.to_owned(), found: found.to_owned() });
    let size = std::fs::metadata(path).map(|file| file.len()).ok();
    let wal = std::fs::metadata(wal_of(path)).map(|file| file.len()).ok();
    match (size, wal) {
        (None, Some(_)) => return damaged("the file itself is missing, although its `-wal` is there"),
        (Some(0), _) if left_open || wal.is_some_and(|bytes| bytes > 0) => return damaged("it is empty"),
        (None | Some(0), _) => return Ok(()), // A new farm, or one whose first start was cut off.
        (Some(_), None) if left_open => return Err(Error::WalMissing { path: path.to_owned() }),
        (Some(_), _) => {}
    }
    inspect(path, Look::Start).await
}

/// Whether the file is a whole database of this program, of a version that it knows.
pub(crate) async fn inspect(path: &Path, look: Look) -> Result<(), Error> {
    inspect_header(path)?;
    let mut reader = open_to_read(path).await?;
    let version: i64 = one(&mut reader, path, "PRAGMA user_version").await?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    let tables: i64 =
        one(&mut reader, path, "SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'jobs')").await?;
    if version == 0 || tables != 2 {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    if version > MIGRATIONS.len() {
        return Err(Error::TooNew { path: path.to_owned(), found: version });
    }
    if look != Look::Start || !is_large(path) {
        check(&mut reader, path, look).await?;
    }
    Ok(())
}

/// What SQLite itself would not mind, or only later.
fn inspect_header(path: &Path) -> Result<(), Error> {
    let damaged = |found: String| Err(Error::Damaged { path: path.to_owned(), found });
    let unreadable = |error| Error::Unreadable { path: path.to_owned(), error };
    let mut header = [0; HEADER_BYTES];
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size < HEADER_BYTES as u64 {
        return damaged(format!("it is cut off after {size} bytes"));
    }
    file.read_exact(&mut header).map_err(unreadable)?;
    if !header.starts_with(MAGIC) {
        return damaged("it is not a SQLite database".to_owned());
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if ![0, APPLICATION_ID].contains(&number(68)) {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    let mut first = [0; 4];
    if let Ok(mut wal) = File::open(wal_of(path))
        && wal.metadata().is_ok_and(|wal| wal.len() > 0)
    {
        // SQLite takes such a WAL for an empty one, and what was committed last would be gone without a word.
        let read = wal.read_exact(&mut first);
        if read.is_err() || !WAL_MAGICS.contains(&u32::from_be_bytes(first)) {
            return damaged("its `-wal` is not a WAL".to_owned());
        }
        return Ok(());
    }
    // Without a WAL the header knows how long the file is.
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65536,
        bytes => bytes,
    };
    let (pages, known) = (u64::from(number(28)), number(24) == number(92));
    if known && page * pages > size {
        return damaged(format!("it is cut off: {size} bytes of {}", page * pages));
    }
    Ok(())
}

pub(crate) async fn open_to_read(path: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.connect().await.map_err(|error| cannot_open(path, error))
}

pub(super) async fn check(reader: &mut SqliteConnection, path: &Path, look: Look) -> Result<(), Error> {
    let text = match look {
        Look::Start | Look::Quick => "PRAGMA quick_check(1)",
        Look::Full => "PRAGMA integrity_check(1)",
    };
    let found: String = one(reader, path, text).await?;
    if found == "ok" { Ok(()) } else { Err(Error::Damaged { path: path.to_owned(), found }) }
}

pub(super) async fn one<T>(reader: &mut SqliteConnection, path: &Path, text: &'static str) -> Result<T, Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    sqlx::query_scalar(text).fetch_one(reader).await.map_err(|error| cannot_open(path, error))
}
