//! The object store: a local folder or an S3 bucket, opened by its address and tried out before it is trusted.

use crate::s3_admin;
use framewake_proto::chain::Chain;
use framewake_proto::objects::Digest;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// How long one operation is tried again before its caller hears of it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
const RETRIES_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the whole probe: it answers "is the store well", not "will it be".
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest answer of a store that is said on.
const SAID_LEN_MAX: usize = 500;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Folder(PathBuf),
    S3 {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not the address of a store: write `file:///absolute/folder` or `s3://bucket/prefix`")]
    Address(String),
    #[error("can't make the store's folder `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("can't open the store {address}")]
    Open {
        address: Address,
        #[source]
        error: object_store::Error,
    },
    #[error("the store {address} does not take objects: writing a small one failed")]
    Write {
        address: Address,
        #[source]
        error: Said,
    },
    #[error("there is no bucket for {address}: make it, or start once with --store-setup")]
    NoBucket { address: Address },
    #[error(
        "the store {address} refuses us: look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what they may do"
    )]
    Forbidden {
        address: Address,
        #[source]
        error: Said,
    },
    #[error("the store {address} does not give back what was written: reading a small object failed")]
    Read {
        address: Address,
        #[source]
        error: Said,
    },
    #[error("the store {address} gave back other bytes than were written")]
    Garbled { address: Address },
    #[error(
        "the store {address} overwrites objects although told not to (`If-None-Match: *`): frames would not be safe \
         in it; use a server that honors conditional puts"
    )]
    Unconditional { address: Address },
    #[error("the store {address} does not remove objects")]
    Remove {
        address: Address,
        #[source]
        error: Said,
    },
    #[error("the store {address} did not answer within {} s", PROBE_TIMEOUT.as_secs())]
    Silent { address: Address },
    #[error("can't set up the bucket of {address}")]
    SetUp {
        address: Address,
        #[source]
        error: s3_admin::Error,
    },
}

/// What a store answered, on one line and bounded: servers of S3 answer pages of XML.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(String);

impl From<object_store::Error> for Said {
    fn from(error: object_store::Error) -> Said {
        let text = Chain(&error).to_string();
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.truncate(line.floor_char_boundary(SAID_LEN_MAX));
        Said(line)
    }
}

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    address: Address,
    store: Arc<dyn ObjectStore>,
    /// The whole bucket, where it is one.
    s3: Option<AmazonS3>,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        let wrong = || Error::Address(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix("file://") {
            // `file://folder` names a host, and `%20` would be a space to some and three characters to others.
            let good = path.starts_with('/') && path.len() > 1 && !path.contains('%') && !path.contains('\0');
            return good.then(|| Address::Folder(PathBuf::from(path))).ok_or_else(wrong);
        }
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(letters) {
            return Err(wrong());
        }
        let prefix = prefix.trim_matches('/');
        Path::parse(prefix).map_err(|_| wrong())?;
        Ok(Address::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Folder(path) => write!(f, "file://{}", path.display()),
            Address::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Address::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Objects {
    /// Opens the store; a folder is made when it is missing. Credentials of S3 come from the `AWS_*` environment.
    pub fn open(address: &Address) -> Result<Objects, Error> {
        match address {
            Address::Folder(path) => {
                std::fs::create_dir_all(path).map_err(|error| Error::Folder { path: path.clone(), error })?;
                let folder = LocalFileSystem::new_with_prefix(path)
                    .map_err(|error| Error::Open { address: address.clone(), error })?;
                // What was answered as stored survives a power cut.
                Ok(Objects { address: address.clone(), store: Arc::new(folder.with_fsync(true)), s3: None })
            }
            Address::S3 { bucket, prefix } => {
                let plain = s3_admin::endpoint().is_some_and(|url| url.starts_with("http://"));
                Objects::open_s3(AmazonS3Builder::from_env(), bucket, prefix, plain)
            }
        }
    }

    fn open_s3(builder: AmazonS3Builder, bucket: &str, prefix: &str, plain_http: bool) -> Result<Objects, Error> {
        let address = Address::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        let options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_allow_http(plain_http);
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let built = builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry).build();
        let s3 = built.map_err(|error| Error::Open { address: address.clone(), error })?;
        let whole = s3.clone();
        let store: Arc<dyn ObjectStore> =
            if prefix.is_empty() { Arc::new(whole) } else { Arc::new(PrefixStore::new(whole, prefix)) };
        Ok(Objects { address, store, s3: Some(s3) })
    }

    /// Makes the bucket and its rules. A folder needs none.
    pub async fn set_up(&self) -> Result<(), Error> {
        match &self.address {
            Address::Folder(_) => Ok(()),
            Address::S3 { bucket, prefix } => s3_admin::set_up(bucket, prefix)
                .await
                .map_err(|error| Error::SetUp { address: self.address.clone(), error }),
        }
    }

    /// Whether the store takes objects, gives them back and refuses to overwrite them.
    pub async fn probe(&self) -> Result<(), Error> {
        let silent = || Error::Silent { address: self.address.clone() };
        tokio::time::timeout(PROBE_TIMEOUT, self.try_out()).await.map_err(|_| silent())?
    }

    async fn try_out(&self) -> Result<(), Error> {
        let address = || self.address.clone();
        let written = Ulid::generate().to_string();
        let key = Path::from(format!("probe/{written}"));
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = |text: &str| PutPayload::from(text.as_bytes().to_vec());
        let first = self.store.put_opts(&key, payload(&written), create()).await;
        first.map_err(|error| self.unwritable(error))?;
        let again = self.store.put_opts(&key, payload("overwritten"), create()).await;
        let read = async { self.store.get(&key).await?.bytes().await }.await;
        let removed = self.store.delete(&key).await;
        if again.is_ok() {
            return Err(Error::Unconditional { address: address() });
        }
        let read = read.map_err(|error| Error::Read { address: address(), error: error.into() })?;
        if read != written.as_bytes() {
            return Err(Error::Garbled { address: address() });
        }
        removed.map_err(|error| Error::Remove { address: address(), error: error.into() })
    }

    fn unwritable(&self, error: object_store::Error) -> Error {
        use object_store::Error as Store;
        let address = self.address.clone();
        match (&self.address, error) {
            (Address::S3 { .. }, Store::NotFound { .. }) => Error::NoBucket { address },
            (Address::S3 { .. }, error @ (Store::PermissionDenied { .. } | Store::Unauthenticated { .. })) => {
                Error::Forbidden { address, error: error.into() }
            }
            (Address::S3 { .. } | Address::Folder(_), error) => Error::Write { address, error: error.into() },
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The bucket, to sign calls of it; its name and the farm's prefix in it. `None` for a folder.
    pub(crate) fn s3(&self) -> Option<(&AmazonS3, &str, &str)> {
        match (&self.s3, &self.address) {
            (Some(s3), Address::S3 { bucket, prefix }) => Some((s3, bucket, prefix)),
            _ => None,
        }
    }

    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The size of an object; `None` when there is none.
    pub async fn size(&self, key: &str) -> object_store::Result<Option<u64>> {
        match self.store.head(&Path::parse(key)?).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `None` when there is no such object.
    pub async fn get(&self, key: &str, range: Option<std::ops::Range<u64>>) -> object_store::Result<Option<GetResult>> {
        match self.store.get_opts(&Path::parse(key)?, GetOptions::new().with_range(range)).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts small bytes, replacing what is there.
    pub async fn put(&self, key: &str, bytes: bytes::Bytes) -> object_store::Result<()> {
        self.store.put(&Path::parse(key)?, PutPayload::from(bytes)).await.map(|_| ())
    }

    /// SHA-256 of a stored object's bytes.
    pub async fn digest(&self, key: &str) -> object_store::Result<Option<Digest>> {
        use sha2::{Digest as _, Sha256};
        let Some(found) = self.get(key, None).await? else { return Ok(None) };
        let mut hasher = Sha256::new();
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
        }
        Ok(Some(Digest(hasher.finalize().into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<String> {
        text.parse::<Address>().ok().map(|address| address.to_string())
    }

    #[test]
    fn addresses_of_stores_are_folders_and_buckets() {
        assert_eq!(address("file:///var/frames").as_deref(), Some("file:///var/frames"));
        assert_eq!(address("s3://frames").as_deref(), Some("s3://frames"));
        assert_eq!(address("s3://frames/farm/a/").as_deref(), Some("s3://frames/farm/a"));
        for text in [
            "",
            "frames",
            "/var/frames",
            "file://frames",
            "file:///",
            "file:///a%20b",
            "s3://",
            "s3://a",
            "s3://Frames",
            "s3://frames//a//b",
            "http://frames",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    fn objects(folder: &std::path::Path) -> Objects {
        Objects::open(&Address::Folder(folder.to_owned())).expect("a folder")
    }

    #[tokio::test]
    async fn a_folder_that_is_well_passes_the_probe_and_keeps_nothing_of_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = objects(&folder.path().join("made/on/demand"));
        store.probe().await.expect("well");
        assert_eq!(store.store().list(None).try_collect::<Vec<_>>().await.expect("listed"), []);
    }

    #[tokio::test]
    async fn a_folder_that_takes_no_files_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A file in the place of the folder stops root too, which a mode does not.
        std::fs::write(folder.path().join("probe"), "in the way").expect("written");
        let error = objects(folder.path()).probe().await.expect_err("refused");
        assert!(matches!(error, Error::Write { .. }), "{error:?}");
        let text = Chain(&error).to_string();
        assert!(text.starts_with("the store file:///") && text.contains("does not take objects"), "{text}");
    }

    /// An S3 server that answers each put as told, and is otherwise a server of one object.
    async fn s3(put: fn(&axum::http::HeaderMap) -> (axum::http::StatusCode, &'static str)) -> Objects {
        use axum::http::{HeaderMap, Method, StatusCode};
        let kept = Arc::new(std::sync::Mutex::new(bytes::Bytes::new()));
        let answer = async move |method: Method, headers: HeaderMap, body: bytes::Bytes| {
            let mut kept = kept.lock().expect("no test panics while it holds it");
            match method {
                Method::PUT => {
                    let (status, text) = put(&headers);
                    if status.is_success() {
                        *kept = body;
                    }
                    (status, [("etag", "\"1\"")], bytes::Bytes::from(text))
                }
                Method::GET => {
                    let modified = [("etag", "\"1\"")];
                    (StatusCode::OK, modified, kept.clone())
                }
                _ => (StatusCode::NO_CONTENT, [("etag", "\"1\"")], bytes::Bytes::new()),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
        let builder = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_region("us-east-1")
            .with_access_key_id("key")
            .with_secret_access_key("secret");
        Objects::open_s3(builder, "frames", "farm", true).expect("an open store")
    }

    #[tokio::test]
    async fn a_server_that_overwrites_although_told_not_to_is_refused() {
        use axum::http::StatusCode;
        let error = s3(|_| (StatusCode::OK, "")).await.probe().await.expect_err("refused");
        assert!(matches!(error, Error::Unconditional { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_refused_with_what_to_do() {
        use axum::http::StatusCode;
        let forbidden = s3(|_| (StatusCode::FORBIDDEN, "<Error>\n<Code>SignatureDoesNotMatch</Code>\n</Error>")).await;
        let error = forbidden.probe().await.expect_err("refused");
        let text = Chain(&error).to_string();
        assert!(text.contains("AWS_SECRET_ACCESS_KEY") && text.contains("SignatureDoesNotMatch"), "{text}");
        assert!(!text.contains('\n') && text.len() < 1000, "{text}");
        let none = s3(|_| (StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code></Error>")).await;
        let error = none.probe().await.expect_err("refused");
        assert!(error.to_string().contains("--store-setup"), "{error}");
    }
}
