//! Inputs on their way in: piece by piece into a local file, and into the store once the digest is right.

use super::body::check_unpacked;
use super::border::store_away;
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, invalid};
use super::shares::PARTS;
use super::{App, jobs};
use crate::access::Caller;
use crate::objects::Objects;
use crate::store::AccessWrite;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use framewake_proto::api::{INPUT_SIZE_MAX, InputView, UPLOAD_PIECE_MAX};
use framewake_proto::ids::Name;
use framewake_proto::objects::{Digest, DigestError, input_key};
use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// A piece that stops arriving for this long is given up; what came of it stays.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a piece waits for another of the same input.
const SLOT_WAIT: Duration = Duration::from_secs(30);
/// How long the request with the last piece waits for the store; the next one waits on.
const STORE_WAIT: Duration = Duration::from_secs(90);
/// Bytes sent to the store at once: large enough that [`INPUT_SIZE_MAX`] needs fewer than S3's 10,000 parts.
const PART_SIZE: usize = 16 * 1024 * 1024;
/// Uploads begun and not finished.
pub(super) const UPLOADS_MAX: usize = 4096;
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// Bounds of what lies in the folder of uploads.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// All unfinished uploads together.
    pub size_bytes_max: u64,
    /// An upload without a new piece for this long is dropped.
    pub idle_max: Duration,
}

impl Default for UploadLimits {
    fn default() -> UploadLimits {
        UploadLimits { size_bytes_max: 256 * 1024 * 1024 * 1024, idle_max: Duration::from_hours(24) }
    }
}

/// Uploads that are not finished. Their only memory is the length of their files, so that a restart costs nothing.
#[derive(Debug)]
pub struct Uploads {
    folder: PathBuf,
    limits: UploadLimits,
    /// One writer an upload.
    busy: Mutex<HashMap<Upload, Arc<AsyncMutex<Slot>>>>,
}

/// Whose upload it is: a project that is seen by itself alone sends its own, and learns nothing of what others have sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Upload {
    digest: Digest,
    project: Option<Name>,
}

/// What goes on with one upload.
#[derive(Debug, Default)]
struct Slot {
    storing: Option<JoinHandle<Answer<()>>>,
}

impl Uploads {
    /// Opens the folder, made when it is missing.
    pub fn open(folder: PathBuf, limits: UploadLimits) -> std::io::Result<Uploads> {
        std::fs::create_dir_all(&folder)?;
        Ok(Uploads { folder, limits, busy: Mutex::default() })
    }

    /// Drops uploads that nobody went on with. To be called now and then.
    pub fn expire(&self, now: SystemTime) {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            let touched = file.metadata().and_then(|meta| meta.modified());
            let idle = touched.ok().and_then(|touched| now.duration_since(touched).ok());
            if idle.is_some_and(|idle| idle > self.limits.idle_max) && std::fs::remove_file(file.path()).is_ok() {
                info!(
                    "an unfinished upload was dropped: nobody sent a piece for {} h",
                    self.limits.idle_max.as_secs() / 3600
                );
            }
        }
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.try_lock().is_ok_and(|slot| slot.storing.as_ref().is_some_and(|task| !task.is_finished()))
        });
    }

    fn file(&self, upload: &Upload) -> PathBuf {
        self.folder.join(match &upload.project {
            Some(project) => format!("{}.{project}", upload.digest),
            None => upload.digest.to_string(),
        })
    }

    fn slot(&self, upload: &Upload) -> Arc<AsyncMutex<Slot>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(upload.clone()).or_default().clone()
    }

    async fn received(&self, upload: &Upload) -> std::io::Result<u64> {
        match tokio::fs::metadata(self.file(upload)).await {
            Ok(meta) => Ok(meta.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Refuses `more` bytes of an upload that would not fit.
    fn check_room(&self, upload: &Upload, more: u64) -> Answer<()> {
        let own = self.file(upload);
        let (mut all, mut ours) = (Room::default(), Room::default());
        for file in std::fs::read_dir(&self.folder).map_err(|error| Refusal::internal(&error))?.flatten() {
            let (path, name) = (file.path(), file.file_name());
            let Ok(meta) = file.metadata() else { continue };
            let project = name.to_str().and_then(|name| name.split_once('.')).map(|(_, project)| project);
            // One that was begun has its place.
            let counted = usize::from(path != own);
            all.add(counted, meta.len());
            if project == upload.project.as_ref().map(Name::as_str) {
                ours.add(counted, meta.len());
            }
        }
        let full =
            |detail: &str| Err(Refusal::new(Code::StorageFull, detail).hint("wait until other uploads are finished"));
        // A project can't keep the others from sending anything.
        if upload.project.is_some() && ours.files >= UPLOADS_MAX / PARTS {
            return full("too many unfinished uploads of this project");
        }
        if upload.project.is_some() && ours.bytes.saturating_add(more) > self.limits.size_bytes_max / PARTS as u64 {
            return full("the unfinished uploads of this project take all the room they may");
        }
        if all.files >= UPLOADS_MAX {
            return full("too many unfinished uploads");
        }
        if all.bytes.saturating_add(more) > self.limits.size_bytes_max {
            return full("the unfinished uploads take all the room they may");
        }
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| Refusal::internal(&error))?;
        // The database lies on the same disk as a rule, and must never find it full because of an upload.
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < more.saturating_add(DISK_RESERVE) {
            return full("the scheduler's disk is full");
        }
        Ok(())
    }
}

/// What uploads take.
#[derive(Debug, Default)]
struct Room {
    files: usize,
    bytes: u64,
}

impl Room {
    fn add(&mut self, files: usize, bytes: u64) {
        self.files += files;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Room on the disk that uploads leave to others.
const DISK_RESERVE: u64 = 512 * 1024 * 1024;

/// Say how much of an input is there
#[utoipa::path(get, path = "/v1/inputs/{digest}", tag = "inputs", params(("digest" = Digest, Path)),
    responses((status = 200, body = InputView), Problems))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(digest): Path<String>,
) -> Answer<Json<InputView>> {
    let upload = Upload { digest: read_digest(&digest)?, project: caller.project };
    Ok(Json(view(&app, &upload).await?))
}

/// Send a piece of an input
///
/// Pieces of at most 16 MiB, in order. The one that ends at `size` completes the input: it is hashed, and kept only if
/// its digest is that of the address.
#[utoipa::path(patch, path = "/v1/inputs/{digest}", tag = "inputs",
    params(
        ("digest" = Digest, Path),
        ("offset" = u64, Query, description = "Where the piece begins: `received_bytes` of the last answer"),
        ("size" = u64, Query, description = "Of the whole input"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = InputView), Problems))]
pub(super) async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(digest): Path<String>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<InputView>> {
    let query = query.only(&["offset", "size"])?;
    check_unpacked(&headers)?;
    let upload = Upload { digest: read_digest(&digest)?, project: caller.project };
    let digest = upload.digest;
    let needed = |name: &str| invalid(format!("`{name}` is missing"));
    let offset: u64 = query.parsed("offset", "a number of bytes")?.ok_or_else(|| needed("offset"))?;
    let size: u64 = query.parsed("size", "a number of bytes")?.ok_or_else(|| needed("size"))?;
    if size > INPUT_SIZE_MAX {
        return Err(Refusal::new(Code::TooLarge, format!("an input may have {INPUT_SIZE_MAX} bytes, not {size}")));
    }
    if offset > size {
        return Err(invalid(format!("`offset` {offset} is past `size` {size}")));
    }
    check_length(&headers, size - offset)?;
    let busy = || Refusal::new(Code::Busy, "another client sends the same input");
    let slot = app.uploads.slot(&upload);
    // Another client sends the same bytes: its pieces serve both.
    let mut slot = tokio::time::timeout(SLOT_WAIT, slot.lock_owned()).await.map_err(|_| busy())?;
    let stored = view(&app, &upload).await?;
    if stored.complete {
        discard(body).await;
        return Ok(Json(stored));
    }
    let received = stored.received_bytes;
    if received > size {
        discard(body).await;
        drop_file(&app, &upload).await;
        let detail = format!("{received} bytes had come of an input of {size}; they are dropped");
        return Err(wrong_offset(detail, 0));
    }
    if offset != received {
        discard(body).await;
        let detail = format!("the next piece must begin at byte {received}, not {offset}");
        return Err(wrong_offset(detail, received));
    }
    let received = if received < size { append(&app, &upload, received, size, body).await? } else { received };
    if received < size {
        return Ok(Json(InputView { digest, complete: false, received_bytes: received }));
    }
    let (uploads, objects) = (app.uploads.file(&upload), app.objects.clone());
    // In a task of its own: whether this client waits makes no difference to the next one.
    let storing = slot.storing.get_or_insert_with(|| tokio::spawn(store(uploads, objects, digest, size)));
    let Ok(ended) = tokio::time::timeout(STORE_WAIT, storing).await else {
        return Ok(Json(InputView { digest, complete: false, received_bytes: received }));
    };
    slot.storing = None;
    ended.map_err(|panic| Refusal::internal(&panic))??;
    app.inputs.add(digest);
    if let Some(project) = upload.project {
        let sent = app.handle.write_access(vec![AccessWrite::InputSent(project, digest)]).await;
        sent.map_err(|error| jobs::refused(&error, None))?;
    }
    Ok(Json(InputView { digest, complete: true, received_bytes: size }))
}

fn read_digest(text: &str) -> Answer<Digest> {
    text.parse().map_err(|error: DigestError| Refusal::not_found(error.to_string()))
}

fn check_length(headers: &HeaderMap, left: u64) -> Answer<()> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > UPLOAD_PIECE_MAX as u64) {
        return Err(too_large());
    }
    if length.is_some_and(|length| length > left) {
        return Err(invalid(format!("the piece is longer than the {left} bytes that are left")));
    }
    Ok(())
}

fn too_large() -> Refusal {
    Refusal::new(Code::TooLarge, format!("a piece may have {UPLOAD_PIECE_MAX} bytes"))
        .header(axum::http::header::CONNECTION, HeaderValue::from_static("close"))
}

fn wrong_offset(detail: String, offset: u64) -> Refusal {
    Refusal::new(Code::WrongOffset, detail).header(UPLOAD_OFFSET, HeaderValue::from(offset))
}

async fn view(app: &App, upload: &Upload) -> Answer<InputView> {
    let digest = upload.digest;
    let shown = match &upload.project {
        Some(project) => app.reader.has_sent(project, &digest).await?,
        None => true,
    };
    if shown && let Some(size) = app.objects.size(&input_key(&digest)).await.map_err(|error| store_away(&error))? {
        return Ok(InputView { digest, complete: true, received_bytes: size });
    }
    let received_bytes = app.uploads.received(upload).await.map_err(|error| Refusal::internal(&error))?;
    Ok(InputView { digest, complete: false, received_bytes })
}

/// Reads a piece to nowhere: an answer to a client that still sends would get lost with its connection.
async fn discard(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut left = UPLOAD_PIECE_MAX;
    while let Ok(Some(Ok(piece))) = tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            return;
        }
    }
}

/// Appends a piece as it arrives. What came before the connection broke stays: the client asks and goes on from there.
async fn append(app: &App, upload: &Upload, received: u64, size: u64, body: Body) -> Answer<u64> {
    app.uploads.check_room(upload, size - received)?;
    let file = OpenOptions::new().create(true).append(true).open(app.uploads.file(upload)).await;
    let file = file.map_err(|error| disk(&error))?;
    let mut writer = tokio::io::BufWriter::with_capacity(1024 * 1024, file);
    let mut pieces = body.into_data_stream();
    let mut at = received;
    let outcome = loop {
        let piece = match tokio::time::timeout(SILENCE_MAX, pieces.next()).await {
            Err(_) => break Err(Refusal::new(Code::Timeout, format!("no byte came for {} s", SILENCE_MAX.as_secs()))),
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => break Err(Refusal::malformed("the connection ended before the piece did")),
            Ok(Some(Ok(piece))) => piece,
        };
        let end = at + piece.len() as u64;
        if end > size {
            break Err(invalid(format!("the piece goes past the {size} bytes of the input")));
        }
        if end - received > UPLOAD_PIECE_MAX as u64 {
            break Err(too_large());
        }
        if let Err(error) = writer.write_all(&piece).await {
            break Err(disk(&error));
        }
        at = end;
    };
    let flushed = writer.flush().await;
    app.metrics.parts.upload_bytes.inc_by(at - received);
    outcome?;
    flushed.map_err(|error| disk(&error))?;
    Ok(at)
}

fn disk(error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Refusal::new(Code::StorageFull, "the scheduler's disk is full")
        }
        _ => Refusal::internal(error),
    }
}

async fn drop_file(app: &App, upload: &Upload) {
    if let Err(error) = tokio::fs::remove_file(app.uploads.file(upload)).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!("an upload's file can't be removed: {error}");
    }
}

/// Hashes a whole upload on its way into the store; it appears there only if the digest is right.
async fn store(path: PathBuf, objects: Objects, digest: Digest, size: u64) -> Answer<()> {
    let is_right = if size <= PART_SIZE as u64 {
        store_small(&path, &objects, digest).await?
    } else {
        store_large(&path, &objects, digest).await?
    };
    if !is_right {
        let _ = tokio::fs::remove_file(&path).await;
        let detail = format!("the {size} bytes that came are not those of {digest}; they are dropped");
        let hint = "the file changed while it was sent: hash and send it again";
        return Err(Refusal::new(Code::WrongDigest, detail).hint(hint));
    }
    info!(size_bytes = size, "input {digest} stored");
    // Left behind, it would only take room until it expires.
    let _ = tokio::fs::remove_file(&path).await;
    Ok(())
}

async fn store_small(path: &std::path::Path, objects: &Objects, digest: Digest) -> Answer<bool> {
    // A size of 0 leaves no file.
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(disk(&error)),
    };
    if Digest::of(&bytes) != digest {
        return Ok(false);
    }
    objects.put(&input_key(&digest), bytes.into()).await.map_err(|error| store_away(&error))?;
    Ok(true)
}

async fn store_large(path: &std::path::Path, objects: &Objects, digest: Digest) -> Answer<bool> {
    let mut file = File::open(path).await.map_err(|error| disk(&error))?;
    let key = Key::from(input_key(&digest));
    let mut upload = objects.store().put_multipart(&key).await.map_err(|error| store_away(&error))?;
    let sent = send_parts(&mut file, upload.as_mut()).await;
    let finished = match sent {
        Ok(found) if found == digest => upload.complete().await.map(|_| true).map_err(|error| store_away(&error)),
        Ok(_) => Ok(false),
        Err(refusal) => Err(refusal),
    };
    if !matches!(finished, Ok(true))
        && let Err(error) = upload.abort().await
    {
        warn!("parts of an upload stay in the store until its rules remove them: {error}");
    }
    finished
}

async fn send_parts(file: &mut File, upload: &mut dyn MultipartUpload) -> Answer<Digest> {
    let mut hasher = Sha256::new();
    let mut sending: Option<object_store::UploadPart> = None;
    loop {
        let mut part = Vec::with_capacity(PART_SIZE);
        let filled = (&mut *file).take(PART_SIZE as u64).read_to_end(&mut part).await;
        filled.map_err(|error| disk(&error))?;
        // One part is sent while the next is read: two in memory.
        if let Some(sent) = sending.take() {
            sent.await.map_err(|error| store_away(&error))?;
        }
        if part.is_empty() {
            return Ok(Digest(hasher.finalize().into()));
        }
        let (fed, bytes) = tokio::task::spawn_blocking(move || {
            hasher.update(&part);
            (hasher, part)
        })
        .await
        .map_err(|error| Refusal::internal(&error))?;
        hasher = fed;
        sending = Some(upload.put_part(bytes.into()));
    }
}
