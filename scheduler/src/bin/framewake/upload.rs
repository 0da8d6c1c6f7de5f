//! Sends local files to the farm: each content once, from where an earlier try stopped.

use crate::Context;
use crate::failure::BadInput;
use crate::retry;
use anyhow::Context as _;
use bytes::Bytes;
use framewake_proto::api::InputView;
use framewake_proto::client::Error;
use framewake_proto::objects::Digest;
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Small enough to pass within the client's limits on a line of 1 Mbit/s, large enough to fill a fast one.
const PIECE_SIZE: usize = 4 * 1024 * 1024;
/// Files sent at once, so that many small ones don't wait for each other's answers.
const PARALLEL: usize = 4;
/// Answers without progress after which sending is given up.
const STUCK_MAX: u32 = 3;
/// The same once all has come and the scheduler moves it into its store, which waits more than a minute each time: an
/// hour is enough for the largest input.
const STORING_MAX: u32 = 40;

/// Hashes each file.
pub(crate) async fn hash(
    context: &Context,
    files: &BTreeMap<PathBuf, u64>,
) -> anyhow::Result<BTreeMap<PathBuf, Digest>> {
    let bar = bar(context, "hashing", files.values().sum());
    let mut digests = BTreeMap::new();
    for path in files.keys() {
        let (file, counter) = (path.clone(), bar.clone());
        let hashed = tokio::task::spawn_blocking(move || hash_file(&file, &counter)).await?;
        let digest = hashed.with_context(|| format!("can't read input `{}`", path.display()))?;
        digests.insert(path.clone(), digest);
    }
    bar.finish_and_clear();
    Ok(digests)
}

/// What of the files the farm does not have yet, each content once: where it lies and its size.
pub(crate) async fn missing(
    context: &Context,
    files: &BTreeMap<PathBuf, u64>,
    digests: &BTreeMap<PathBuf, Digest>,
) -> anyhow::Result<Vec<Missing>> {
    let contents: BTreeMap<Digest, &PathBuf> = digests.iter().map(|(path, digest)| (*digest, path)).collect();
    let asked = futures::stream::iter(contents).map(async |(digest, path)| {
        let view = retry::while_passing(&context.printer, async || context.client.input(digest).await).await?;
        let missing =
            Missing { digest, path: path.clone(), size_bytes: files[path], received_bytes: view.received_bytes };
        Ok::<_, anyhow::Error>((!view.complete).then_some(missing))
    });
    let answers: Vec<Option<Missing>> = asked.buffered(PARALLEL).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

/// A content that the farm lacks, or has a part of.
#[derive(Debug)]
pub(crate) struct Missing {
    digest: Digest,
    path: PathBuf,
    pub(crate) size_bytes: u64,
    received_bytes: u64,
}

/// Sends what is missing.
pub(crate) async fn send(context: &Context, missing: Vec<Missing>) -> anyhow::Result<()> {
    let bar = bar(context, "sending", missing.iter().map(|file| file.size_bytes).sum());
    let sent = futures::stream::iter(&missing).map(async |file| send_file(context, file, &bar).await);
    sent.buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    bar.finish_and_clear();
    Ok(())
}

async fn send_file(context: &Context, missing: &Missing, bar: &ProgressBar) -> anyhow::Result<()> {
    let Missing { digest, path, size_bytes, received_bytes } = missing;
    let file = std::fs::File::open(path).with_context(|| format!("can't read input `{}`", path.display()))?;
    let file = std::sync::Arc::new(file);
    let mut at = *received_bytes;
    bar.inc(at);
    let mut stuck = 0;
    loop {
        let piece = read_piece(&file, at, *size_bytes).await;
        let piece = piece.with_context(|| format!("can't read input `{}`", path.display()))?;
        let answer = retry::while_passing(&context.printer, async || {
            match context.client.send_input(*digest, at, *size_bytes, piece.clone()).await {
                // Someone else sends the same content, or an earlier piece arrived although its answer did not.
                Err(Error::Refused(problem)) if problem.status == 409 => context.client.input(*digest).await,
                answer => answer,
            }
        });
        let InputView { complete, received_bytes, .. } =
            answer.await.with_context(|| format!("can't send input `{}`", path.display()))?;
        bar.inc(if complete { size_bytes.saturating_sub(at) } else { received_bytes.saturating_sub(at) });
        if complete {
            return Ok(());
        }
        stuck = if received_bytes > at { 0 } else { stuck + 1 };
        if stuck >= if received_bytes == *size_bytes { STORING_MAX } else { STUCK_MAX } {
            anyhow::bail!("the farm does not take input `{}`: it stopped at byte {received_bytes}", path.display());
        }
        at = received_bytes;
    }
}

async fn read_piece(file: &std::sync::Arc<std::fs::File>, at: u64, size_bytes: u64) -> anyhow::Result<Bytes> {
    let left = usize::try_from(size_bytes.saturating_sub(at)).unwrap_or(usize::MAX);
    let mut piece = vec![0; left.min(PIECE_SIZE)];
    let file = file.clone();
    tokio::task::spawn_blocking(move || match file.read_exact_at(&mut piece, at) {
        Ok(()) => Ok(Bytes::from(piece)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(BadInput::new("it became shorter while it was being sent").hint("submit again when it is whole").into())
        }
        Err(error) => Err(error.into()),
    })
    .await?
}

/// SHA-256 of a file's bytes, each piece counted on `bar`.
pub(crate) fn hash_file(path: &Path, bar: &ProgressBar) -> std::io::Result<Digest> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest(hasher.finalize().into()));
        }
        hasher.update(&buffer[..count]);
        bar.inc(count as u64);
    }
}

/// A bar of bytes, where someone sees it.
pub(crate) fn bar(context: &Context, what: &'static str, size_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}")
        .expect("a good template");
    let bar = ProgressBar::with_draw_target(Some(size_bytes), context.printer.draw_target());
    bar.with_style(style).with_prefix(what)
}
