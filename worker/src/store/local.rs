//! Objects in a local folder, created by a hard link, so that they appear whole or not at all.
//!
//! The copy is made in `staging/<worker>/`, which the worker keeps locked while it lives. What a
//! killed worker left there is swept by the next one that finds the lock free.

use super::{Content, Created, Error, check_unchanged, create_plain, file_error};
use crate::verify::OutputFile;
use framewake_proto::ids::WorkerId;
use framewake_proto::objects::Digest;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub(super) struct LocalStaging {
    root: PathBuf,
    folder: PathBuf,
    /// The open, locked folder, once it was needed.
    lock: Mutex<Option<File>>,
}

impl LocalStaging {
    pub(super) fn new(root: &Path, worker: &WorkerId) -> LocalStaging {
        sweep(&root.join("staging"));
        let folder = root.join("staging").join(worker.as_str());
        LocalStaging { root: root.to_owned(), folder, lock: Mutex::new(None) }
    }

    pub(super) async fn create(
        self: &Arc<Self>,
        key: &str,
        from: &Arc<OutputFile>,
        staging_key: &str,
    ) -> Result<Created, Error> {
        let (this, key, from, staging) = (self.clone(), key.to_owned(), from.clone(), self.root.join(staging_key));
        tokio::task::spawn_blocking(move || this.create_now(&key, &from, &staging))
            .await
            .expect("creating an object does not panic")
    }

    fn create_now(&self, key: &str, from: &OutputFile, staging: &Path) -> Result<Created, Error> {
        let target = self.root.join(key);
        self.lock_folder().map_err(|error| file_error(&self.folder, error))?;
        let source = from.from_start().map_err(|error| file_error(from.path(), error))?.take(from.size_bytes());
        let copied = copy_synced(source, staging).map_err(|error| file_error(staging, error));
        let copied = copied.and_then(|content| check_unchanged(from).map(|()| content));
        let linked = copied.map(|content| (content, link(staging, &target, &self.root)));
        let _best_effort = std::fs::remove_file(staging);
        let (content, linked) = linked?;
        match linked {
            Ok(()) => Ok(Created::Now(content)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Existed(content)),
            Err(error) => Err(file_error(&target, error)),
        }
    }

    /// Makes and locks this worker's staging folder. A sweep may remove it between the two.
    fn lock_folder(&self) -> std::io::Result<()> {
        let mut lock = self.lock.lock().expect("no code panics while it holds the lock");
        if lock.is_some() && self.folder.is_dir() {
            return Ok(());
        }
        loop {
            std::fs::create_dir_all(&self.folder)?;
            let folder = match File::open(&self.folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            flock(&folder, FlockOperation::LockExclusive)?;
            if self.folder.is_dir() {
                *lock = Some(folder);
                return Ok(());
            }
        }
    }
}

impl Drop for LocalStaging {
    fn drop(&mut self) {
        // Only when empty: a commit of another handle may be under way.
        let _not_empty_or_gone = std::fs::remove_dir(&self.folder);
    }
}

/// Removes staging folders that no living worker holds.
fn sweep(staging: &Path) {
    let Ok(workers) = std::fs::read_dir(staging) else { return };
    for worker in workers.flatten() {
        let Ok(folder) = File::open(worker.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            match std::fs::remove_dir_all(worker.path()) {
                Ok(()) => tracing::info!(worker = ?worker.file_name(), "removed what a lost worker left in staging"),
                Err(error) => tracing::warn!(%error, worker = ?worker.file_name(), "cannot sweep staging"),
            }
        }
    }
}

/// Links `staging` as `target`, durably. Fails when `target` exists.
fn link(staging: &Path, target: &Path, root: &Path) -> std::io::Result<()> {
    let parent = target.parent().unwrap_or(root);
    match std::fs::hard_link(staging, target) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(parent)?;
            std::fs::hard_link(staging, target)?;
            for made in parent.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
                File::open(made)?.sync_all()?;
            }
        }
        linked => linked?,
    }
    File::open(parent)?.sync_all()
}

/// Copies and hashes, without a promise that it survives a power cut.
pub(super) async fn copy_hashed(source: File, to: &Path) -> Result<Content, Error> {
    let target = to.to_owned();
    tokio::task::spawn_blocking(move || copy(source, &target).map(|(content, _)| content))
        .await
        .expect("copying does not panic")
        .map_err(|error| file_error(to, error))
}

fn copy_synced(source: impl Read, to: &Path) -> std::io::Result<Content> {
    let (content, file) = copy(source, to)?;
    file.sync_all()?;
    Ok(content)
}

fn copy(mut source: impl Read, to: &Path) -> std::io::Result<(Content, File)> {
    let mut file = create_plain(to)?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok((Content { size_bytes, sha256: Digest(hasher.finalize().into()) }, file));
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        size_bytes += count as u64;
    }
}
