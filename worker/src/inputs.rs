//! Puts the inputs of a step into a folder of its own, and keeps that folder while the worker stays
//! with inputs of the same content.

mod cache;

pub use cache::Cache;

use crate::renderer::Failure;
use crate::store::{self, Store};
use crate::trust;
use framewake_proto::chain::Chain;
use framewake_proto::frames::FrameSet;
use framewake_proto::objects::Digest;
use framewake_proto::order::{OrderInput, OrderSource, StepOrder};
use framewake_proto::template::OutputTemplate;
use framewake_proto::verdict::Verdict;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use reqwest::header::LOCATION;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Outputs of an earlier step that are fetched at the same time.
const FETCHES_AT_ONCE: usize = 8;
/// Largest input or output fetched by key: what the scheduler accepts.
const OBJECT_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
const REDIRECTS_MAX: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("input `{name}` ({digest}) is not in the store; hint: submit the job again, which uploads it")]
    Absent { name: String, digest: Digest },
    #[error("output `{0}` of an earlier step is not in the store")]
    OutputAbsent(String),
    #[error("input `{name}`: `{url}` is not a URL this worker can fetch")]
    Url { name: String, url: String },
    #[error("input `{name}`: `{url}` was answered with {status}")]
    Refused { name: String, url: String, status: u16 },
    #[error("input `{name}`: `{url}` leads {why}")]
    Led { name: String, url: String, why: &'static str },
    #[error("input `{name}` is larger than the {size_max} bytes allowed")]
    TooLarge { name: String, size_max: u64 },
    #[error("cannot fetch input `{name}` from `{url}`")]
    Http {
        name: String,
        url: String,
        #[source]
        error: reqwest::Error,
    },
    #[error("cannot fetch input `{name}`")]
    Store {
        name: String,
        #[source]
        error: store::Error,
    },
    #[error("cannot stage input `{name}` in the scratch folder")]
    File {
        name: String,
        #[source]
        error: std::io::Error,
    },
}

impl Error {
    /// What the tasks that need the input fail with.
    pub fn failure(&self) -> Failure {
        let verdict = match self {
            // Missing for everyone: no other worker will find it.
            Error::Absent { .. }
            | Error::OutputAbsent(_)
            | Error::Url { .. }
            | Error::Led { .. }
            | Error::TooLarge { .. } => Verdict::SceneError,
            Error::Refused { status, .. } if (300..500).contains(status) && *status != 429 => Verdict::SceneError,
            Error::Refused { .. } | Error::Http { .. } => Verdict::RetrySame,
            Error::Store { error, .. } => error.verdict(),
            // Two inputs want the same place; elsewhere they would too.
            Error::File { error, .. } if is_in_the_way(error.kind()) => Verdict::SceneError,
            // The disk of this machine.
            Error::File { .. } => Verdict::RetryElsewhere,
        };
        Failure { verdict, message: Chain(self).to_string(), evidence: String::new() }
    }
}

/// A folder with all inputs of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    pub folder: PathBuf,
    /// Equal for equal content: a renderer that has a scene of this folder open may keep it.
    pub content: Digest,
}

#[derive(Debug)]
pub struct Inputs {
    store: Store,
    cache: Cache,
    /// Holds the staged folder and nothing else.
    folder: PathBuf,
    url_size_max: u64,
    http: reqwest::Client,
    current: Option<Staged>,
}

impl Inputs {
    pub fn new(store: Store, cache: Cache, folder: PathBuf, url_size_max: u64) -> Inputs {
        Inputs { store, cache, folder, url_size_max, http: http_client(), current: None }
    }

    /// The folder with the inputs of `order`, staged now unless it is there. Dropping the future leaves
    /// nothing that a later call would mistake for whole.
    pub async fn stage(&mut self, order: &StepOrder) -> Result<Staged, Error> {
        let content = content_of(order);
        if let Some(current) = self.current.as_ref().filter(|current| current.content == content) {
            return Ok(current.clone());
        }
        self.current = None;
        let failed = |error| Error::File { name: String::new(), error };
        match tokio::fs::remove_dir_all(&self.folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let staged = Staged { folder: self.folder.join(&content.to_string()[..16]), content };
        tokio::fs::create_dir_all(&staged.folder).await.map_err(failed)?;
        for input in &order.inputs {
            self.stage_one(order, input, &staged.folder).await?;
        }
        self.current = Some(staged.clone());
        Ok(staged)
    }

    async fn stage_one(&self, order: &StepOrder, input: &OrderInput, folder: &Path) -> Result<(), Error> {
        let to = folder.join(&input.staged_as);
        match &input.source {
            OrderSource::Digest(digest) => {
                make_parent(&to, &input.staged_as).await?;
                self.cache.place(*digest, &input.staged_as, &to, &self.store).await
            }
            OrderSource::Url(url) => {
                make_parent(&to, &input.staged_as).await?;
                self.fetch_url(url, input.within, &input.staged_as, &to).await
            }
            OrderSource::Outputs { frames, template } => self.fetch_outputs(order, frames, template, &to).await,
        }
    }

    /// Outputs keep their names from the template, below `folder`.
    async fn fetch_outputs(&self, order: &StepOrder, frames: &str, template: &str, folder: &Path) -> Result<(), Error> {
        let frames: FrameSet = frames.parse().expect("the scheduler checked the frames of the earlier step");
        let template = OutputTemplate::parse(template, frames.len())
            .expect("the scheduler checked the template of the earlier step");
        futures::stream::iter(frames.iter().map(|frame| template.name(frame)))
            .map(|name| async move {
                let to = folder.join(&name);
                make_parent(&to, &name).await?;
                // Another input of that name is a link into the cache, which must not be written through.
                let _usually_absent = tokio::fs::remove_file(&to).await;
                match self.store.fetch(&format!("{}{name}", order.prefix), &to, OBJECT_SIZE_MAX).await {
                    Ok(_) => Ok(()),
                    Err(store::Error::NotFound(_)) => Err(Error::OutputAbsent(name)),
                    Err(error) => Err(Error::Store { name, error }),
                }
            })
            .buffer_unordered(FETCHES_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn fetch_url(&self, url: &str, within: Option<usize>, name: &str, to: &Path) -> Result<(), Error> {
        let wrong = || Error::Url { name: name.to_owned(), url: shown(url) };
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        match parsed.scheme() {
            "s3" => {
                let bucket = parsed.host_str().ok_or_else(wrong)?;
                let key = object_store::path::Path::from_url_path(parsed.path()).map_err(|_| wrong())?;
                let failed = |error| Error::Store { name: name.to_owned(), error };
                let objects: Arc<dyn ObjectStore> = self
                    .store
                    .bucket(bucket)
                    .map_err(|error| failed(store::Error::Store { key: key.to_string(), error }))?;
                match store::fetch(&*objects, &key, &shown(url), to, self.url_size_max).await {
                    Ok(_) => Ok(()),
                    Err(store::Error::NotFound(_)) => {
                        Err(Error::Refused { name: name.to_owned(), url: shown(url), status: 404 })
                    }
                    Err(store::Error::TooLarge { size_max, .. }) => {
                        Err(Error::TooLarge { name: name.to_owned(), size_max })
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            "http" | "https" => {
                let beginning = within.and_then(|bytes| reqwest::Url::parse(url.get(..bytes)?).ok());
                let beginning = beginning.unwrap_or_else(|| parsed.join("/").expect("http addresses have a path"));
                self.fetch_http(&Source { url: parsed, beginning }, name, to).await
            }
            _ => Err(wrong()),
        }
    }

    async fn fetch_http(&self, source: &Source, name: &str, to: &Path) -> Result<(), Error> {
        const TRIES_MAX: u32 = 4;
        let mut wait = Duration::from_millis(500);
        for number in 1.. {
            match self.fetch_http_once(source, name, to).await {
                Err(error) if number < TRIES_MAX && error.failure().verdict == Verdict::RetrySame => {
                    tracing::warn!(error = %Chain(&error), number, "fetching an input failed; trying again");
                }
                done => return done,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the loop returns at its last try")
    }

    /// The answer of an address, or of where it leads.
    async fn answer_of(&self, source: &Source, name: &str) -> Result<reqwest::Response, Error> {
        let shown = shown(source.url.as_str());
        let failed = |error| http_error(name, &shown, error);
        let led = |why| Error::Led { name: name.to_owned(), url: shown.clone(), why };
        let mut url = source.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.http.get(url.clone()).send().await.map_err(failed)?;
            let next = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(next) = next else { return Ok(response) };
            let next = next.to_str().ok().and_then(|next| url.join(next).ok());
            url = next.ok_or_else(|| led("to what is no address"))?;
            source.allows(&url).map_err(led)?;
        }
        Err(led("on and on"))
    }

    async fn fetch_http_once(&self, source: &Source, name: &str, to: &Path) -> Result<(), Error> {
        let shown = shown(source.url.as_str());
        let failed = |error| http_error(name, &shown, error);
        let file_failed = |error| Error::File { name: name.to_owned(), error };
        let response = self.answer_of(source, name).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Error::Refused { name: name.to_owned(), url: shown.clone(), status: status.as_u16() });
        }
        let too_large = || Error::TooLarge { name: name.to_owned(), size_max: self.url_size_max };
        if response.content_length().is_some_and(|length| length > self.url_size_max) {
            return Err(too_large());
        }
        let mut file = tokio::fs::File::from_std(store::create_plain(to).map_err(file_failed)?);
        let mut got = 0;
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            got += piece.len() as u64;
            if got > self.url_size_max {
                return Err(too_large());
            }
            file.write_all(&piece).await.map_err(file_failed)?;
        }
        file.flush().await.map_err(file_failed)
    }
}

fn http_error(name: &str, shown: &str, error: reqwest::Error) -> Error {
    // It would print the whole URL, signature and all.
    Error::Http { name: name.to_owned(), url: shown.to_owned(), error: error.without_url() }
}

/// An address, and what it must begin with wherever it leads.
struct Source {
    url: reqwest::Url,
    beginning: reqwest::Url,
}

impl Source {
    /// The scheduler allowed this beginning and no other: neither another service of its host, nor a way that others can read.
    fn allows(&self, next: &reqwest::Url) -> Result<(), &'static str> {
        if next.origin() != self.url.origin() {
            return Err("to another host, port or scheme");
        }
        // Dots that were written so that they are none for us may be some for the server.
        let dots = next.path().contains("..") || next.path().to_ascii_lowercase().contains("%2e");
        if dots || !next.path().starts_with(self.beginning.path()) {
            return Err("out of the part of its host that this farm fetches from (`--urls-allowed`)");
        }
        Ok(())
    }
}

/// A file lies where a folder should be, or the other way round.
fn is_in_the_way(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists)
}

/// Equal for orders whose inputs are surely the same bytes.
fn content_of(order: &StepOrder) -> Digest {
    let by_digest = order.inputs.iter().all(|input| matches!(input.source, OrderSource::Digest(_)));
    // What a URL or an earlier step gives may differ from job to job.
    let owner = if by_digest { String::new() } else { format!("{}.{}", order.job, order.step) };
    let inputs = serde_json::to_vec(&(&order.inputs, owner)).expect("inputs are plain values");
    Digest::of(&inputs)
}

async fn make_parent(path: &Path, name: &str) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(parent).await.map_err(|error| Error::File { name: name.to_owned(), error })
}

/// A URL without what may be secret in it.
fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://{rest}"),
        None => plain.to_owned(),
    }
}

fn http_client() -> reqwest::Client {
    trust::http(reqwest::Client::builder())
        // Followed by hand: how far depends on the address.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_mins(1))
        .build()
        .expect("these settings are valid and the TLS provider is installed")
}
