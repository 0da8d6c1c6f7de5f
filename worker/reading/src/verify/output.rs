//! The file that a renderer left as its output: opened once, so that what is verified is what is stored.

use super::{Bad, OUTPUT_SIZE_MAX};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An ordinary file, open for reading.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    found: State,
}

/// What tells that a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct State {
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl OutputFile {
    /// Opens what lies at `path`, which has no links in it. Waits for nothing: a fifo would wait for its writer.
    pub fn open(path: &Path) -> Result<OutputFile, Bad> {
        let file = match open_plain(path) {
            Ok(file) => file,
            // Not there, a link that could lead out of the scratch folder, or a socket.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Err(Bad::Missing),
            Err(error) => return Err(Bad::Read(error.into())),
        };
        // What was opened, not what the name means a moment later.
        let meta = file.metadata().map_err(Bad::Read)?;
        if !meta.is_file() {
            return Err(Bad::Missing);
        }
        match meta.len() {
            0 => Err(Bad::Empty),
            size_bytes if size_bytes > OUTPUT_SIZE_MAX => Err(Bad::TooLong(size_bytes)),
            _ => Ok(OutputFile { path: path.to_owned(), file, found: State::of(&meta) }),
        }
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn size_bytes(&self) -> u64 {
        self.found.size_bytes
    }

    /// To be read from its first byte; one reader at a time.
    pub fn from_start(&self) -> std::io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Whether nobody wrote to it since it was opened, as far as the clock of its file system tells.
    pub fn is_unchanged(&self) -> std::io::Result<bool> {
        Ok(State::of(&self.file.metadata()?) == self.found)
    }
}

fn open_plain(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let cwd = rustix::fs::CWD;
    match rustix::fs::openat2(cwd, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Kernels before 5.6, and sandboxes that do not know it: links are refused at the end of the path only.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        opened => opened,
    }
    .map(File::from)
}

impl State {
    fn of(meta: &Metadata) -> State {
        State {
            size_bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}
