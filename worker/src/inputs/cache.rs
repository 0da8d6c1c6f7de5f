//! Inputs by digest, kept on disk up to a size, shared by all workers of a machine.
//!
//! ```text
//! objects/<first two digits>/<sha256>   read-only; access time = last use; modified only by a fault
//! incoming/<pid>-<n>                    being fetched, locked by its worker
//! locks/<first two digits>              one fetch of a digest at a time
//! ```

use super::Error;
use crate::store::{self, Store};
use framewake_proto::objects::{Digest, input_key};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, FileTimes, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Modification time of every whole object. A renderer that wrote through its link changes it, and the
/// object is fetched anew. (2001-09-09)
fn whole_mark() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// How often a worker looks whether another one has finished to fetch.
const LOCK_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    size_max: u64,
}

impl Cache {
    /// Opens a cache folder, made if missing, and sweeps what lost workers left half-fetched.
    pub fn open(folder: &Path, size_max: u64) -> std::io::Result<Cache> {
        for part in ["objects", "incoming", "locks"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        for file in std::fs::read_dir(folder.join("incoming"))?.flatten() {
            let Ok(open) = File::open(file.path()) else { continue };
            if flock(&open, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _swept_by_another = std::fs::remove_file(file.path());
            }
        }
        Ok(Cache { folder: folder.to_owned(), size_max })
    }

    /// Puts the input `digest` at `to`, read-only, fetching it if it isn't cached.
    pub async fn place(&self, digest: Digest, name: &str, to: &Path, store: &Store) -> Result<(), Error> {
        let failed = |error| Error::File { name: name.to_owned(), error };
        let hex = digest.to_string();
        let object = self.folder.join("objects").join(&hex[..2]).join(&hex);
        {
            let _one_fetch = lock(&self.folder.join("locks").join(&hex[..2])).await.map_err(failed)?;
            if !is_whole(&object) {
                self.fetch(digest, name, &object, store).await?;
            }
            touch(&object).map_err(failed)?;
            link_or_copy(&object, to).await.map_err(failed)?;
        }
        let cache = self.clone();
        let evicted = tokio::task::spawn_blocking(move || cache.evict()).await.expect("evicting does not panic");
        if let Err(error) = evicted {
            tracing::warn!(%error, "cannot evict from the inputs cache");
        }
        Ok(())
    }

    async fn fetch(&self, digest: Digest, name: &str, object: &Path, store: &Store) -> Result<(), Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let failed = |error| Error::File { name: name.to_owned(), error };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let incoming = self.folder.join("incoming").join(format!("{}-{number}", std::process::id()));
        let held = File::create(&incoming).map_err(failed)?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        let fetched = match store.fetch(&input_key(&digest), &incoming, super::OBJECT_SIZE_MAX).await {
            Ok(content) if content.sha256 == digest => finish(&incoming, object).map_err(failed),
            Ok(content) => {
                let wrong = format!("its bytes have the digest {}", content.sha256);
                Err(failed(std::io::Error::new(ErrorKind::InvalidData, wrong)))
            }
            Err(store::Error::NotFound(_)) => Err(Error::Absent { name: name.to_owned(), digest }),
            Err(error) => Err(Error::Store { name: name.to_owned(), error }),
        };
        if fetched.is_err() {
            let _best_effort = std::fs::remove_file(&incoming);
        }
        fetched
    }

    /// Removes what was not used for longest until the rest fits.
    fn evict(&self) -> std::io::Result<()> {
        let mut objects = Vec::new();
        let mut total = 0;
        for folder in std::fs::read_dir(self.folder.join("objects"))?.flatten() {
            for object in std::fs::read_dir(folder.path())?.flatten() {
                // Another worker may evict at the same time.
                let Ok(meta) = object.metadata() else { continue };
                total += meta.len();
                objects.push((meta.accessed()?, meta.len(), object.path()));
            }
        }
        if total <= self.size_max {
            return Ok(());
        }
        objects.sort();
        for (_, size, path) in objects {
            if total <= self.size_max {
                break;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => total -= size,
            }
        }
        Ok(())
    }
}

fn is_whole(object: &Path) -> bool {
    // Not through a link: it could lead to other bytes with such a time.
    std::fs::symlink_metadata(object)
        .is_ok_and(|meta| meta.is_file() && meta.modified().is_ok_and(|modified| modified == whole_mark()))
}

/// Makes a fetched file an object: durable, read-only, marked whole.
#[allow(clippy::disallowed_methods)] // The time of a use is for files of other processes too: the machine's.
fn finish(incoming: &Path, object: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).open(incoming)?;
    file.set_permissions(Permissions::from_mode(0o444))?;
    // Before the mark: after a power cut a marked object must not be empty.
    file.sync_all()?;
    file.set_times(FileTimes::new().set_accessed(SystemTime::now()).set_modified(whole_mark()))?;
    if let Some(parent) = object.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::rename(incoming, object) {
        // A folder in its place would keep this input from every job.
        Err(error) if matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty) => {
            std::fs::remove_dir_all(object)?;
            std::fs::rename(incoming, object)
        }
        renamed => renamed,
    }
}

/// Notes a use.
#[allow(clippy::disallowed_methods)] // As in `finish`.
fn touch(object: &Path) -> std::io::Result<()> {
    let times = FileTimes::new().set_accessed(SystemTime::now()).set_modified(whole_mark());
    File::open(object)?.set_times(times)
}

async fn link_or_copy(object: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(object, to) {
        // Another file system, or one without links.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => tokio::fs::copy(object, to).await.map(|_| ()),
        linked => linked,
    }
}

/// Waits for a lock file. Polls, so that a canceled attempt can stop waiting.
async fn lock(path: &Path) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => tokio::time::sleep(LOCK_LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
        cache: Cache,
    }

    fn bench(size_max: u64) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}", folder.path().join("store").display()).parse().expect("any text");
        let store = Store::open(&url, &"w".parse().expect("a name")).expect("opens");
        let cache = Cache::open(&folder.path().join("cache"), size_max).expect("opens");
        Bench { folder, store, cache }
    }

    impl Bench {
        fn put(&self, bytes: &[u8]) -> Digest {
            let digest = Digest::of(bytes);
            let path = self.folder.path().join("store").join(input_key(&digest));
            std::fs::create_dir_all(path.parent().expect("has one")).expect("makes");
            std::fs::write(path, bytes).expect("writes");
            digest
        }

        async fn place(&self, digest: Digest, to: &str) -> Result<Vec<u8>, Error> {
            let to = self.folder.path().join(to);
            self.cache.place(digest, "scene", &to, &self.store).await?;
            Ok(std::fs::read(to).expect("reads"))
        }

        fn cached(&self) -> usize {
            let folders = std::fs::read_dir(self.folder.path().join("cache/objects")).expect("a folder").flatten();
            folders.map(|folder| std::fs::read_dir(folder.path()).expect("a folder").count()).sum()
        }
    }

    #[tokio::test]
    async fn an_input_is_fetched_once_and_then_served_from_the_cache() {
        let bench = bench(1000);
        let digest = bench.put(b"scene");
        assert_eq!(bench.place(digest, "a").await.expect("places"), b"scene");
        std::fs::remove_dir_all(bench.folder.path().join("store")).expect("removes");
        assert_eq!(bench.place(digest, "b").await.expect("places"), b"scene");
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first_and_links_outlive_it() {
        let bench = bench(10);
        let (one, two, three) = (bench.put(b"1111"), bench.put(b"2222"), bench.put(b"3333"));
        bench.place(one, "one").await.expect("places");
        bench.place(two, "two").await.expect("places");
        bench.place(one, "one-again").await.expect("places");
        bench.place(three, "three").await.expect("places");
        assert_eq!(bench.cached(), 2);
        std::fs::remove_dir_all(bench.folder.path().join("store")).expect("removes");
        assert_eq!(bench.place(one, "one-more").await.expect("cached"), b"1111");
        assert!(matches!(bench.place(two, "two-more").await, Err(Error::Absent { .. })));
        assert_eq!(std::fs::read(bench.folder.path().join("two")).expect("still there"), b"2222");
    }

    #[tokio::test]
    async fn a_cache_of_size_zero_still_serves() {
        let bench = bench(0);
        let digest = bench.put(b"scene");
        assert_eq!(bench.place(digest, "a").await.expect("places"), b"scene");
        assert_eq!(bench.cached(), 0);
    }

    #[tokio::test]
    async fn an_object_that_a_renderer_wrote_to_is_fetched_anew() {
        let bench = bench(1000);
        let digest = bench.put(b"scene");
        bench.place(digest, "a").await.expect("places");
        let staged = bench.folder.path().join("a");
        std::fs::set_permissions(&staged, Permissions::from_mode(0o644)).expect("may");
        std::fs::write(&staged, b"SCENE").expect("writes through the link");
        assert_eq!(bench.place(digest, "b").await.expect("places"), b"scene");
    }

    #[tokio::test]
    async fn what_takes_an_objects_place_is_not_taken_for_it() {
        let bench = bench(1000);
        let digest = bench.put(b"scene");
        bench.place(digest, "a").await.expect("places");
        let hex = digest.to_string();
        let object = bench.folder.path().join("cache/objects").join(&hex[..2]).join(&hex);
        // Other bytes, with the very time that marks whole objects.
        let other = bench.folder.path().join("other");
        std::fs::write(&other, b"other").expect("writes");
        let times = FileTimes::new().set_modified(whole_mark());
        File::options().write(true).open(&other).expect("opens").set_times(times).expect("may");
        std::fs::remove_file(&object).expect("removes");
        std::os::unix::fs::symlink(&other, &object).expect("links");
        assert_eq!(bench.place(digest, "b").await.expect("places"), b"scene");
        std::fs::remove_file(&object).expect("removes");
        std::fs::create_dir_all(object.join("folder")).expect("makes");
        assert_eq!(bench.place(digest, "c").await.expect("places"), b"scene");
        assert_eq!(std::fs::read(&other).expect("reads"), b"other");
    }

    #[tokio::test]
    async fn bytes_that_do_not_match_their_digest_are_refused_and_not_kept() {
        let bench = bench(1000);
        let digest = Digest::of(b"scene");
        let path = bench.folder.path().join("store").join(input_key(&digest));
        std::fs::create_dir_all(path.parent().expect("has one")).expect("makes");
        std::fs::write(path, b"other").expect("writes");
        let error = bench.place(digest, "a").await.expect_err("refused");
        assert!(matches!(&error, Error::File { error, .. } if error.kind() == ErrorKind::InvalidData));
        assert_eq!(bench.cached(), 0);
        assert_eq!(std::fs::read_dir(bench.folder.path().join("cache/incoming")).expect("a folder").count(), 0);
    }

    #[tokio::test]
    async fn many_workers_ask_at_once_and_one_fetches() {
        let bench = std::sync::Arc::new(bench(1000));
        let digest = bench.put(b"scene");
        let asks = (0..16).map(|number| {
            let bench = bench.clone();
            tokio::spawn(async move { bench.place(digest, &format!("to{number}")).await })
        });
        for ask in asks.collect::<Vec<_>>() {
            assert_eq!(ask.await.expect("ends").expect("places"), b"scene");
        }
        assert_eq!(bench.cached(), 1);
    }

    #[test]
    fn half_fetched_files_of_lost_workers_are_swept_and_those_of_living_ones_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        Cache::open(folder.path(), 0).expect("opens");
        let (lost, held) = (folder.path().join("incoming/1-1"), folder.path().join("incoming/2-1"));
        std::fs::write(&lost, b"ha").expect("writes");
        let holder = File::create(&held).expect("makes");
        flock(&holder, FlockOperation::LockExclusive).expect("locks");
        Cache::open(folder.path(), 0).expect("opens");
        assert!(!lost.exists() && held.exists());
    }
}
