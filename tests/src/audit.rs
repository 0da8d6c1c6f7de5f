//! Auditors that believe only the store and the API: each frame of each accepted job is there once, decodes, has the
//! hash on record, and nothing else is there.

mod bucket;
mod findings;

pub use bucket::Bucket;
pub use findings::Findings;

use crate::farm::TestFarm;
use framewake_proto::api::{
    AttemptView, EventView, Happening, JobState, JobView, OutputView, Page, TaskState, TaskView,
};
use framewake_proto::client::{self, Client, PartQuery};
use framewake_proto::ids::JobId;
use framewake_proto::objects::Digest;
use framewake_proto::verdict::Verdict;
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Jobs and objects looked at together.
const AT_ONCE: usize = 8;

/// What a job that was accepted must leave behind.
#[derive(Debug, Clone, Default)]
pub struct Promise {
    pub outputs: Vec<Promised>,
}

/// One output of a job.
#[derive(Debug, Clone)]
pub struct Promised {
    pub step: &'static str,
    pub frame: i64,
    /// Below the job's folder.
    pub name: String,
    /// Where it is known beforehand.
    pub digest: Option<Digest>,
}

impl Promise {
    /// One picture a frame, of a step named `render`.
    pub fn frames(frames: std::ops::RangeInclusive<u32>) -> Promise {
        let outputs = frames.map(|frame| Promised {
            step: "render",
            frame: frame.into(),
            name: format!("frames/{frame:04}.png"),
            digest: None,
        });
        Promise { outputs: outputs.collect() }
    }
}

/// Looks at everything: the bucket by its list and its objects, the jobs by the API.
pub async fn audit(client: &Client, bucket: &Bucket, accepted: &BTreeMap<JobId, Promise>) -> Findings {
    let mut findings = Findings::default();
    let mut stored = match bucket.list().await {
        Ok(stored) => stored,
        Err(error) => {
            findings.other(format!("the bucket can't be listed: {error}"));
            return findings;
        }
    };
    findings.objects = stored.len();
    let looks = stream::iter(accepted).map(|(id, promise)| look_at(client, *id, promise)).buffered(AT_ONCE);
    let mut wanted = Vec::new();
    for (job, found) in looks.collect::<Vec<_>>().await {
        match job {
            Ok(outputs) => wanted.extend(outputs),
            Err(error) => findings.other(format!("the API does not show a job: {error}")),
        }
        findings.merge(found);
    }
    let mut known = BTreeSet::new();
    let mut present = Vec::new();
    for (output, digest) in wanted {
        if !known.insert(output.key.clone()) {
            findings.double.push(format!("{}: two tasks have this one object", output.key));
        }
        match stored.remove(&output.key) {
            Some(size) => present.push((output, digest, size)),
            None => findings.lost.push(format!("{}: on record, and not in the bucket", output.key)),
        }
    }
    let checks = stream::iter(present).map(|(output, digest, size)| check_object(bucket, output, digest, size));
    for found in checks.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        findings.merge(found);
    }
    for (key, _) in stored {
        check_other(bucket, &key, accepted, &mut findings).await;
    }
    findings
}

type Recorded = Vec<(OutputView, Option<Digest>)>;

/// What the API says of one job, against its promise. Gives the outputs on record.
async fn look_at(client: &Client, id: JobId, promise: &Promise) -> (Result<Recorded, client::Error>, Findings) {
    let mut findings = Findings::default();
    let views = async {
        let view = client.job(id).await?;
        let outputs = pages(async |query| client.outputs(id, &query).await).await?;
        let tasks = pages(async |query| client.tasks(id, &query).await).await?;
        let attempts = pages(async |query| client.attempts(id, &query).await).await?;
        let mut stream = client.events(Some(id), None).await?;
        let mut events = Vec::new();
        // It ends by itself, since the job is over; one that is not would give events for ever.
        while view.state.is_over()
            && let Some(event) = stream.next().await?
        {
            events.push(event);
        }
        Ok((view, outputs, tasks, attempts, events))
    };
    match views.await {
        Ok((view, outputs, tasks, attempts, events)) => {
            check_counts(&view, promise, &tasks, &attempts, &events, &mut findings);
            let recorded = check_record(&view, promise, outputs, &mut findings);
            (Ok(recorded), findings)
        }
        Err(error) => (Err(error), findings),
    }
}

/// Job, steps, tasks, attempts and events say the same.
fn check_counts(
    view: &JobView,
    promise: &Promise,
    tasks: &[TaskView],
    attempts: &[AttemptView],
    events: &[EventView],
    findings: &mut Findings,
) {
    let promised = u32::try_from(promise.outputs.len()).unwrap_or(u32::MAX);
    let id = view.id;
    if view.state != JobState::Succeeded {
        findings.lost.push(format!("job {id} is {}, {:?}", view.state, view.tasks));
    }
    let steps: u32 = view.steps.iter().map(|step| step.tasks.done).sum();
    let by_attempts: u32 = attempts.iter().map(|attempt| attempt.done).sum();
    let listed = tasks.iter().filter(|task| task.state == TaskState::Done).count();
    let mut told = BTreeMap::new();
    for event in events {
        match &event.what {
            Happening::TasksDone { step, frames, .. } => {
                for frame in frames {
                    *told.entry((step.to_string(), *frame)).or_insert(0_u32) += 1;
                }
            }
            Happening::TaskFailed { step, frame, verdict, message, .. } => {
                let spends = !matches!(verdict, Verdict::Preempted | Verdict::LicenseWait | Verdict::Canceled);
                if spends {
                    findings.spent.push((event.at, format!("{id} {step} {frame}: {verdict}: {message}")));
                }
            }
            Happening::JobState { .. }
            | Happening::StepState { .. }
            | Happening::AttemptStarted { .. }
            | Happening::AttemptEnded { .. }
            | Happening::RunLate { .. }
            | Happening::Progress { .. } => {}
        }
    }
    for ((step, frame), times) in told.iter().filter(|(_, times)| **times > 1) {
        findings.double.push(format!("job {id}: frame {frame} of {step} was told done {times} times"));
    }
    let counts = [view.tasks.total, view.tasks.done, steps, by_attempts, u32::try_from(listed).unwrap_or(u32::MAX)];
    if counts.iter().any(|count| *count != promised) || told.len() != promise.outputs.len() {
        findings.other(format!(
            "job {id}: {promised} tasks promised; the job counts {} of {}, its steps {steps}, its attempts {by_attempts}, \
             its tasks {listed}, its events {}",
            view.tasks.done,
            view.tasks.total,
            told.len(),
        ));
    }
}

/// Each promised output is on record once, under its name.
fn check_record(view: &JobView, promise: &Promise, outputs: Vec<OutputView>, findings: &mut Findings) -> Recorded {
    let id = view.id;
    let mut recorded: BTreeMap<(String, i64), Vec<OutputView>> = BTreeMap::new();
    for output in outputs {
        recorded.entry((output.step.to_string(), output.frame)).or_default().push(output);
    }
    let mut found = Vec::new();
    for promised in &promise.outputs {
        let mut of_task = recorded.remove(&(promised.step.to_owned(), promised.frame)).unwrap_or_default();
        if of_task.len() > 1 {
            findings.double.push(format!("job {id}: {} is on record {} times", promised.name, of_task.len()));
        }
        let Some(output) = of_task.pop() else {
            findings.lost.push(format!("job {id}: {} is not on record", promised.name));
            continue;
        };
        let key = format!("jobs/{}/{id}/{}", view.project, promised.name);
        if output.key != key || output.name != promised.name {
            findings.other(format!("job {id}: {} is on record as {}", promised.name, output.key));
        }
        findings.frames += 1;
        findings.committed.push(output.at);
        found.push((output, promised.digest));
    }
    for (step, frame) in recorded.keys() {
        findings.extra.push(format!("job {id}: frame {frame} of {step} is on record and was never asked for"));
    }
    found
}

async fn check_object(bucket: &Bucket, output: OutputView, digest: Option<Digest>, size: u64) -> Findings {
    let mut findings = Findings::default();
    let key = &output.key;
    if size < output.size_bytes {
        findings.truncated.push(format!("{key}: {size} of {} bytes", output.size_bytes));
        return findings;
    }
    let bytes = match bucket.get(key).await {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.lost.push(format!("{key} can't be read: {error}"));
            return findings;
        }
    };
    let is = Digest::of(&bytes);
    if is != output.sha256 || digest.is_some_and(|digest| digest != is) {
        let known = digest.map_or_else(|| "not known".to_owned(), |digest| digest.to_string());
        findings.wrong.push(format!("{key}: is {is}, on record {}, beforehand {known}", output.sha256));
    }
    if let Err(reason) = decode(key, &bytes) {
        findings.truncated.push(format!("{key} does not decode: {reason}"));
    }
    findings
}

/// An object that is no output on record.
async fn check_other(bucket: &Bucket, key: &str, accepted: &BTreeMap<JobId, Promise>, findings: &mut Findings) {
    let (folder, rest) = key.split_once('/').unwrap_or((key, ""));
    match folder {
        "inputs" => match bucket.get(key).await {
            Ok(bytes) if rest.ends_with(&Digest::of(&bytes).to_string()) => {}
            Ok(_) => findings.wrong.push(format!("{key}: an input that is not what its name says")),
            Err(error) => findings.lost.push(format!("{key} can't be read: {error}")),
        },
        "logs" | "pictures" => {
            let job = rest.split('/').next().and_then(|job| job.parse().ok());
            if job.is_none_or(|job: JobId| !accepted.contains_key(&job)) {
                findings.extra.push(format!("{key}: a log or a picture of no accepted job"));
            }
        }
        // What killed processes leave there is removed by the bucket's lifecycle rule, or costs a few bytes.
        "staging" | "probe" => findings.temporary += 1,
        _ => findings.extra.push(format!("{key}: nobody asked for it")),
    }
}

/// Whether it is a whole picture or video.
fn decode(key: &str, bytes: &[u8]) -> Result<(), String> {
    let extension = Path::new(key).extension().unwrap_or_default();
    if extension == "png" {
        let format = image::ImageFormat::Png;
        return image::load_from_memory_with_format(bytes, format).map(drop).map_err(|error| error.to_string());
    }
    if extension != "mp4" {
        return Ok(());
    }
    // An MP4 is a row of boxes, each with its length; all of them together are the file.
    let mut rest = bytes;
    let mut kinds = Vec::new();
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length < 8 || length > rest.len() {
            return Err(format!("a box of {length} bytes where {} are left", rest.len()));
        }
        kinds.push(String::from_utf8_lossy(&head[4..]).into_owned());
        rest = &rest[length..];
    }
    let whole = ["ftyp", "moov", "mdat"].iter().all(|kind| kinds.iter().any(|found| found == kind));
    if whole && rest.is_empty() { Ok(()) } else { Err(format!("boxes {kinds:?} and {} bytes", rest.len())) }
}

/// All items of a list, over all pages.
async fn pages<T>(page: impl AsyncFn(PartQuery) -> Result<Page<T>, client::Error>) -> Result<Vec<T>, client::Error> {
    let mut items = Vec::new();
    let mut query = PartQuery { limit: Some(framewake_proto::api::PAGE_SIZE_MAX), ..PartQuery::default() };
    loop {
        let next = page(query.clone()).await?;
        items.extend(next.items);
        query.cursor = next.next;
        if query.cursor.is_none() {
            return Ok(items);
        }
    }
}

/// Uploads a file as an input.
pub async fn upload(client: &Client, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let size = bytes.len() as u64;
    let view = client.send_input(digest, 0, size, bytes.to_vec().into()).await.expect("an input can be sent");
    assert!(view.complete, "one piece is all of it");
    digest
}

/// Every file under `folder` by its relative path, with its digest. Temporary files count too.
pub fn files(folder: &Path) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let name = path.strip_prefix(folder).expect("below it").to_string_lossy().into_owned();
                found.insert(name, Digest::of(&bytes));
            }
        }
    }
    found
}

/// Each task's output is in the local store once, with the hash on record, and nothing else is there.
/// Gives the digests by name.
pub async fn audit_folder(farm: &TestFarm, id: JobId, expected: &BTreeSet<String>) -> BTreeMap<String, Digest> {
    let outputs = farm.outputs(id).await;
    let recorded: BTreeMap<String, Digest> =
        outputs.iter().map(|output| (output.name.clone(), output.sha256)).collect();
    assert_eq!(recorded.len(), outputs.len(), "no output is recorded twice");
    assert_eq!(&recorded.keys().cloned().collect::<BTreeSet<_>>(), expected, "the outputs on record");
    let project = farm.client.job(id).await.expect("the job is there").project;
    let stored = files(&farm.store_folder().join(format!("jobs/{project}/{id}")));
    assert_eq!(stored, recorded, "the store and the record agree");
    recorded
}

/// `frames/0001.png` … for a range.
pub fn frame_names(frames: std::ops::RangeInclusive<u32>) -> BTreeSet<String> {
    frames.map(|frame| format!("frames/{frame:04}.png")).collect()
}
