//! The object store as a worker uses it: fetch whole objects, create objects that are never
//! overwritten. Passing faults are retried here, with bounds.

mod local;
mod signed;

pub(crate) use signed::Signatures;

use crate::config::SecretUrl;
use crate::trust;
use crate::verify::OutputFile;
use bytes::Bytes;
use framewake_proto::ids::{AttemptId, WorkerId};
use framewake_proto::objects::Digest;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{STORE_CALLS_MAX, StoreCall};
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut, S3CopyIfNotExists};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, WriteMultipart,
};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Larger outputs go to their staging key first, in parts.
pub const SINGLE_PUT_MAX: u64 = 64 * 1024 * 1024;
const PART_SIZE: usize = 16 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;
/// Tries of an operation that the store refuses or this disk fails, and the wait before the second; it doubles.
const TRIES_MAX: u32 = 7;
/// How long a store may be away. What is rendered waits for it on this disk, two frames at most, and rendering with
/// it; past this the task is given back without blame.
const AWAY_MAX: Duration = Duration::from_mins(10);
const RETRY_WAIT: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`{0}` is not a store: write `file:///abs/folder` or `s3://bucket/prefix`")]
    Malformed(SecretUrl),
    #[error("cannot open store `{url}`")]
    Open {
        url: SecretUrl,
        #[source]
        error: object_store::Error,
    },
    #[error("cannot make store folder `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("object `{0}` is not in the store")]
    NotFound(String),
    #[error("object `{key}` is larger than the {size_max} bytes allowed")]
    TooLarge { key: String, size_max: u64 },
    #[error("object `{key}` came with {got} of its {size_bytes} bytes")]
    CutOff { key: String, got: u64, size_bytes: u64 },
    #[error("the store failed at object `{key}`")]
    Store {
        key: String,
        #[source]
        error: object_store::Error,
    },
    #[error("`{}` was written to while it was stored: the renderer was not through with it", .0.display())]
    Changed(PathBuf),
    #[error("cannot read or write `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
}

impl Error {
    /// Whether the same call may work later.
    fn passes(&self) -> bool {
        match self {
            Error::NotFound(_) | Error::TooLarge { .. } | Error::Changed(_) => false,
            Error::CutOff { .. } | Error::File { .. } => true,
            Error::Store { error, .. } => !matches!(
                error,
                object_store::Error::InvalidPath { .. }
                    | object_store::Error::NotSupported { .. }
                    | object_store::Error::NotImplemented { .. }
                    | object_store::Error::UnknownConfigurationKey { .. }
            ),
        }
    }

    /// Whether the store can't be reached or is not well, as opposed to one that answers and refuses.
    fn is_away(&self) -> bool {
        match self {
            Error::NotFound(_) | Error::TooLarge { .. } | Error::Changed(_) | Error::File { .. } => false,
            Error::CutOff { .. } => true,
            Error::Store { error, .. } => {
                let refused = matches!(
                    error,
                    object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
                );
                self.passes() && !refused
            }
        }
    }

    /// What a task fails with. A store that is away says nothing about the task, and spends no attempt.
    pub fn verdict(&self) -> Verdict {
        match self {
            Error::Changed(_) => Verdict::OutputBad,
            error if error.is_away() => Verdict::Preempted,
            _ => Verdict::RetrySame,
        }
    }
}

/// What was fetched or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    pub size_bytes: u64,
    pub sha256: Digest,
}

/// Whether an object was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// With this content.
    Now(Content),
    /// Another attempt was there before; this is what we would have stored.
    Existed(Content),
}

#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// With a `/` at its end, unless empty.
    prefix: String,
    local: Option<Arc<local::LocalStaging>>,
    /// Where this worker has no credentials.
    signatures: Option<Signatures>,
}

impl Store {
    /// Opens the store for one worker. Takes no look at a remote store: faults show at first use.
    pub fn open(url: &SecretUrl, worker: &WorkerId) -> Result<Store, OpenError> {
        let parsed = reqwest::Url::parse(url.expose()).map_err(|_| OpenError::Malformed(url.clone()))?;
        match parsed.scheme() {
            "file" => {
                let root = parsed.to_file_path().map_err(|()| OpenError::Malformed(url.clone()))?;
                std::fs::create_dir_all(&root).map_err(|error| OpenError::Folder { path: root.clone(), error })?;
                let open = |error| OpenError::Open { url: url.clone(), error };
                let objects = Arc::new(LocalFileSystem::new_with_prefix(&root).map_err(open)?.with_fsync(true));
                let local = Some(Arc::new(local::LocalStaging::new(&root, worker)));
                Ok(Store { objects, prefix: String::new(), local, signatures: None })
            }
            "s3" => {
                let bucket = parsed.host_str().ok_or_else(|| OpenError::Malformed(url.clone()))?;
                let objects = s3(bucket).map_err(|error| OpenError::Open { url: url.clone(), error })?;
                let prefix = parsed.path().trim_matches('/');
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                Ok(Store { objects, prefix, local: None, signatures: None })
            }
            _ => Err(OpenError::Malformed(url.clone())),
        }
    }

    /// The farm's store, with calls that the scheduler signs.
    pub(crate) fn signed(signatures: Signatures) -> Store {
        let objects = s3_signed(signatures.clone(), "");
        Store { objects, prefix: String::new(), local: None, signatures: Some(signatures) }
    }

    /// What is called from now on is for this attempt, and these outputs are likely to be stored.
    pub(crate) async fn begin(&self, attempt: AttemptId, outputs: impl Iterator<Item = String>) {
        let Some(signatures) = &self.signatures else { return };
        let create =
            |key| StoreCall { method: "PUT".to_owned(), key, if_none_match: "*".to_owned(), ..StoreCall::default() };
        signatures.begin(attempt, outputs.take(STORE_CALLS_MAX).map(create).collect()).await;
    }

    /// Another bucket, of which the job names an object.
    pub(crate) fn bucket(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
        match &self.signatures {
            Some(signatures) => Ok(s3_signed(signatures.clone(), bucket)),
            None => s3(bucket),
        }
    }

    fn key(&self, key: &str) -> Result<Key, Error> {
        Key::parse(format!("{}{key}", self.prefix))
            .map_err(|error| Error::Store { key: key.to_owned(), error: error.into() })
    }

    /// Size of an object, if it is there.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        let location = self.key(key)?;
        let mut patience = Patience::new();
        loop {
            let error = match self.objects.head(&location).await {
                Ok(meta) => return Ok(Some(meta.size)),
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => Error::Store { key: key.to_owned(), error },
            };
            if !patience.allows(&error).await {
                return Err(error);
            }
        }
    }

    /// Writes an object into the file `to`, which is replaced.
    pub async fn fetch(&self, key: &str, to: &Path, size_max: u64) -> Result<Content, Error> {
        fetch(&*self.objects, &self.key(key)?, key, to, size_max).await
    }

    /// Stores the file `from` as `key`, unless there is an object already. The object appears whole or
    /// not at all, whenever this process dies; a file that is written to meanwhile is not stored.
    pub async fn create(&self, key: &str, from: &Arc<OutputFile>, staging_key: &str) -> Result<Created, Error> {
        let location = self.key(key)?;
        let mut patience = Patience::new();
        loop {
            match self.create_once(key, &location, from, staging_key).await {
                Err(error) if patience.allows(&error).await => {}
                done => return done,
            }
        }
    }

    /// Stores a few bytes as `key`, unless there is an object already. Tries once: it is for what can be done without.
    pub async fn put_small(&self, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(&self.key(key)?, bytes.into(), options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(Error::Store { key: key.to_owned(), error }),
        }
    }

    async fn create_once(
        &self,
        key: &str,
        location: &Key,
        from: &Arc<OutputFile>,
        staging_key: &str,
    ) -> Result<Created, Error> {
        if let Some(local) = &self.local {
            return local.create(key, from, staging_key).await;
        }
        if from.size_bytes() <= SINGLE_PUT_MAX {
            self.put(key, location, from).await
        } else {
            self.put_large(key, location, from, staging_key).await
        }
    }

    async fn put(&self, key: &str, location: &Key, from: &OutputFile) -> Result<Created, Error> {
        let mut bytes = Vec::new();
        let file = open(from)?;
        file.take(from.size_bytes()).read_to_end(&mut bytes).await.map_err(|error| file_error(from.path(), error))?;
        check_unchanged(from)?;
        let bytes = Bytes::from(bytes);
        let content = Content { size_bytes: bytes.len() as u64, sha256: Digest::of(&bytes) };
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(location, bytes.into(), options).await {
            Ok(_) => Ok(Created::Now(content)),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Existed(content))
            }
            Err(error) => Err(Error::Store { key: key.to_owned(), error }),
        }
    }

    async fn put_large(
        &self,
        key: &str,
        location: &Key,
        from: &OutputFile,
        staging_key: &str,
    ) -> Result<Created, Error> {
        let staging = self.key(staging_key)?;
        let failed = |error| Error::Store { key: key.to_owned(), error };
        let upload = self.objects.put_multipart(&staging).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_SIZE);
        let content = match self.send_parts(from, &mut upload).await {
            Ok(content) => {
                upload.finish().await.map_err(failed)?;
                content
            }
            Err(Part::Store(error)) => {
                let _best_effort = upload.abort().await;
                return Err(failed(error));
            }
            Err(Part::Read(error)) => {
                let _best_effort = upload.abort().await;
                return Err(error);
            }
        };
        let created = match self.objects.copy_if_not_exists(&staging, location).await {
            Ok(()) => Ok(Created::Now(content)),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Existed(content))
            }
            Err(error) => Err(failed(error)),
        };
        // What stays behind is removed by the store's lifecycle rule for `staging/`.
        if let Err(error) = self.objects.delete(&staging).await {
            tracing::debug!(%error, key = staging_key, "staging object not deleted");
        }
        created
    }

    async fn send_parts(&self, from: &OutputFile, upload: &mut WriteMultipart) -> Result<Content, Part> {
        let mut file = open(from).map_err(Part::Read)?.take(from.size_bytes());
        let mut buffer = vec![0; 1024 * 1024];
        let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
        loop {
            let count = file.read(&mut buffer).await;
            let count = count.map_err(|error| Part::Read(file_error(from.path(), error)))?;
            if count == 0 {
                check_unchanged(from).map_err(Part::Read)?;
                return Ok(Content { size_bytes, sha256: Digest(hasher.finalize().into()) });
            }
            hasher.update(&buffer[..count]);
            size_bytes += count as u64;
            upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(Part::Store)?;
            upload.write(&buffer[..count]);
        }
    }
}

enum Part {
    Read(Error),
    Store(object_store::Error),
}

fn open(from: &OutputFile) -> Result<tokio::fs::File, Error> {
    from.from_start().map(tokio::fs::File::from_std).map_err(|error| file_error(from.path(), error))
}

/// To be asked when all is read and nothing is visible yet.
fn check_unchanged(from: &OutputFile) -> Result<(), Error> {
    let unchanged = from.is_unchanged().map_err(|error| file_error(from.path(), error))?;
    if unchanged { Ok(()) } else { Err(Error::Changed(from.path().to_owned())) }
}

/// Makes an ordinary file, or empties the one that is there. What a renderer may have left there instead, a link to
/// another place or a fifo, is neither written through nor waited for.
pub(crate) fn create_plain(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = std::fs::File::options().write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() > 1 {
        return Err(std::io::Error::other("something else lies there"));
    }
    file.set_len(0)?;
    Ok(file)
}

/// A bucket whose calls the scheduler signs; the farm's, if `bucket` is empty.
fn s3_signed(signatures: Signatures, bucket: &str) -> Arc<dyn ObjectStore> {
    let connector = signed::Connector { signatures, bucket: bucket.to_owned() };
    let store = configured(AmazonS3Builder::new())
        .with_endpoint(signed::ENDPOINT)
        .with_region("none")
        .with_skip_signature(true)
        .with_http_connector(connector)
        .with_bucket_name(signed::BUCKET)
        .build();
    Arc::new(store.expect("all that it needs is told"))
}

/// Opens a bucket with the credentials and the endpoint of the environment.
pub(crate) fn s3(bucket: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut store = AmazonS3Builder::new();
    // As `from_env` does, which begins with options of its own.
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            store = store.with_config(key, value);
        }
    }
    Ok(Arc::new(configured(store).with_bucket_name(bucket).build()?))
}

fn configured(store: AmazonS3Builder) -> AmazonS3Builder {
    // Our own loop retries too; the two together stay below a minute.
    let retry = RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() };
    store
        .with_client_options(trust::store(ClientOptions::new()))
        .with_allow_http(true)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_retry(retry)
}

/// Writes an object of any store into a file, hashing it on its way.
pub(crate) async fn fetch(
    objects: &dyn ObjectStore,
    location: &Key,
    key: &str,
    to: &Path,
    size_max: u64,
) -> Result<Content, Error> {
    let mut patience = Patience::new();
    loop {
        match fetch_once(objects, location, key, to, size_max).await {
            Err(error) if patience.allows(&error).await => {}
            done => return done,
        }
    }
}

async fn fetch_once(
    objects: &dyn ObjectStore,
    location: &Key,
    key: &str,
    to: &Path,
    size_max: u64,
) -> Result<Content, Error> {
    let found = objects.get(location).await.map_err(|error| match error {
        object_store::Error::NotFound { .. } => Error::NotFound(key.to_owned()),
        error => Error::Store { key: key.to_owned(), error },
    })?;
    let size_bytes = found.meta.size;
    if size_bytes > size_max {
        return Err(Error::TooLarge { key: key.to_owned(), size_max });
    }
    let content = match found.payload {
        // Copying in one go is many times faster than the stream of a local file.
        GetResultPayload::File(source, _) => local::copy_hashed(source, to).await?,
        GetResultPayload::Stream(mut stream) => {
            let file = create_plain(to).map_err(|error| file_error(to, error))?;
            let mut file = tokio::fs::File::from_std(file);
            let (mut hasher, mut got) = (Sha256::new(), 0);
            let failed = |error| Error::Store { key: key.to_owned(), error };
            while let Some(piece) = stream.try_next().await.map_err(failed)? {
                hasher.update(&piece);
                got += piece.len() as u64;
                file.write_all(&piece).await.map_err(|error| file_error(to, error))?;
            }
            file.flush().await.map_err(|error| file_error(to, error))?;
            Content { size_bytes: got, sha256: Digest(hasher.finalize().into()) }
        }
    };
    if content.size_bytes != size_bytes {
        return Err(Error::CutOff { key: key.to_owned(), got: content.size_bytes, size_bytes });
    }
    Ok(content)
}

pub(crate) fn file_error(path: &Path, error: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), error }
}

/// Decides whether a failed operation is tried again, and waits before.
#[derive(Debug)]
pub(crate) struct Patience {
    tries: u32,
    wait: Duration,
    away_until: Instant,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience { tries: 0, wait: RETRY_WAIT, away_until: Instant::now() + AWAY_MAX }
    }

    /// Whether to try again, now that the wait is over.
    pub(crate) async fn allows(&mut self, error: &Error) -> bool {
        self.tries += 1;
        let enough = if error.is_away() { Instant::now() >= self.away_until } else { self.tries >= TRIES_MAX };
        if !error.passes() || enough {
            return false;
        }
        let number = self.tries;
        tracing::warn!(error = %framewake_proto::chain::Chain(error), number, "the store failed; trying again");
        tokio::time::sleep(self.wait.mul_f64(0.75 + 0.5 * jitter())).await;
        self.wait = (self.wait * 2).min(RETRY_WAIT_MAX);
        true
    }
}

/// 0 to 1: enough to spread the retries of many workers.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0_u8) % 1024) as f64 / 1024.0
}

#[cfg(test)]
mod tests;
