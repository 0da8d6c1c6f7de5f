//! The driver's own book of what it asked for and what was acknowledged.

use super::picture;
use super::site::Site;
use super::tally::Tally;
use crate::audit::{Promise, Promised, upload};
use crate::jobs;
use crate::parts::root;
use fastrand::Rng;
use framewake_proto::client::{Client, JobQuery};
use framewake_proto::ids::JobId;
use framewake_proto::objects::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Longest wait for the answer to a submission; past it, it is ambiguous.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// One in so many ambiguous submissions is never asked about again.
const ABANDONED_EVERY: usize = 5;
/// The label that carries a submission's key.
const LABEL: &str = "fire";

#[derive(Debug)]
enum Known {
    Acknowledged(JobId),
    /// Sent, and not answered.
    Ambiguous,
    /// Ambiguous for ever: whoever sent it went away.
    Abandoned,
}

#[derive(Debug)]
struct Entry {
    key: String,
    body: Value,
    promise: Promise,
    known: Known,
}

#[derive(Debug)]
pub(super) struct Book {
    entries: Vec<Entry>,
    ambiguous: usize,
    spheres: Digest,
    cube: Option<Digest>,
}

impl Book {
    pub(super) async fn open(site: &Site, blender: bool) -> Book {
        let client = &site.farm.client;
        let spheres = std::fs::read(root().join("samples/scenes/spheres.dat")).expect("a sample");
        let spheres = upload(client, &spheres).await;
        let cube = if blender {
            let file = site.farm.folder().join("cube.blend");
            jobs::make_blender_scene(&file);
            Some(upload(client, &std::fs::read(&file).expect("made above")).await)
        } else {
            None
        };
        Book { entries: Vec::new(), ambiguous: 0, spheres, cube }
    }

    /// Frames asked for so far.
    pub(super) fn frames(&self) -> u32 {
        let frames: usize = self.entries.iter().map(|entry| entry.promise.outputs.len()).sum();
        u32::try_from(frames).unwrap_or(u32::MAX)
    }

    pub(super) fn unresolved_frames(&self) -> u32 {
        let open = self.entries.iter().filter(|entry| matches!(entry.known, Known::Ambiguous));
        u32::try_from(open.map(|entry| entry.promise.outputs.len()).sum::<usize>()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_resolved(&self) -> bool {
        !self.entries.iter().any(|entry| matches!(entry.known, Known::Ambiguous))
    }

    pub(super) fn line(&self) -> String {
        format!("{} jobs sent, {} answers were lost", self.entries.len(), self.ambiguous)
    }

    /// Sends one more job.
    pub(super) async fn submit(&mut self, site: &Site, tally: &mut Tally, rng: &mut Rng) {
        let key = crate::farm::unique();
        let (mut body, promise) = self.job(rng);
        body["labels"] = json!({ LABEL: key });
        for step in body["steps"].as_array_mut().expect("steps") {
            // Killed renderers spend attempts, and here that is no scene's fault.
            step["retries"] = json!({ "attempts": 100, "backoff": "100ms", "backoff_max": "2s" });
        }
        self.entries.push(Entry { key, body, promise, known: Known::Ambiguous });
        let last = self.entries.len() - 1;
        self.send(last, site, tally).await;
        if matches!(self.entries[last].known, Known::Ambiguous) {
            self.ambiguous += 1;
            if self.ambiguous.is_multiple_of(ABANDONED_EVERY) {
                self.entries[last].known = Known::Abandoned;
            }
        }
    }

    /// Sends one ambiguous submission again, with its key.
    pub(super) async fn resolve(&mut self, site: &Site, tally: &mut Tally) {
        let open = self.entries.iter().position(|entry| matches!(entry.known, Known::Ambiguous));
        if let Some(at) = open {
            self.send(at, site, tally).await;
        }
    }

    async fn send(&mut self, at: usize, site: &Site, tally: &mut Tally) {
        let entry = &mut self.entries[at];
        match tokio::time::timeout(ANSWER_MAX, site.client.submit(&entry.body, &entry.key)).await {
            Ok(Ok(submitted)) => {
                tally.repeated += u32::from(submitted.repeated);
                entry.known = Known::Acknowledged(submitted.id);
            }
            Ok(Err(error)) if !error.is_passing() => {
                tally.refusals.push(framewake_proto::chain::Chain(&error).to_string());
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    fn job(&self, rng: &mut Rng) -> (Value, Promise) {
        match (rng.u32(0..10), self.cube) {
            (0, Some(cube)) => (jobs::blender(cube, "1-4"), Promise::frames(1..=4)),
            (0..=2, _) => {
                let last = rng.u32(20..60);
                let mut job = jobs::tachyon(self.spheres, &format!("1-{last}"));
                let encode = json!({
                    "name": "encode",
                    "function": "ffmpeg-encode",
                    "inputs": [{ "step": "render" }],
                    "output": "video.mp4",
                    "verify": { "frames": last, "width": 64, "height": 36 },
                });
                job["steps"].as_array_mut().expect("steps").push(encode);
                let mut promise = Promise::frames(1..=last);
                promise.outputs.push(Promised { step: "encode", frame: 1, name: "video.mp4".to_owned(), digest: None });
                (job, promise)
            }
            _ => {
                let last = rng.u32(100..400);
                let marker = rng.u64(0..1 << 32);
                let mut promise = Promise::frames(1..=last);
                for output in &mut promise.outputs {
                    output.digest = Some(picture::digest(marker, output.frame.unsigned_abs()));
                }
                let job = json!({ "name": "pictures", "steps": [{
                    "name": "render",
                    "function": "picture",
                    "frames": format!("1-{last}"),
                    "parameters": { "marker": marker },
                    "output": "frames/{frame:04}.png",
                }] });
                (job, promise)
            }
        }
    }

    /// Every job that the farm has, with its promise. What was acknowledged and is not there, what is there twice and
    /// what nobody sent is told to the tally.
    pub(super) async fn accepted(&self, client: &Client, tally: &mut Tally) -> BTreeMap<JobId, Promise> {
        let mut there: BTreeMap<String, Vec<JobId>> = BTreeMap::new();
        let mut query = JobQuery { limit: Some(framewake_proto::api::PAGE_SIZE_MAX), ..JobQuery::default() };
        loop {
            let page = client.jobs(&query).await.expect("the farm is well again");
            for job in page.items {
                there.entry(job.labels.get(LABEL).cloned().unwrap_or_default()).or_default().push(job.id);
            }
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        let mut accepted = BTreeMap::new();
        for entry in &self.entries {
            let jobs = there.remove(&entry.key).unwrap_or_default();
            match (&entry.known, jobs.as_slice()) {
                (Known::Acknowledged(id), [only]) if id == only => {}
                (Known::Abandoned, [] | [_]) => tally.abandoned.push(jobs.len()),
                (known, found) => {
                    tally.submissions.push(format!("{}: {known:?}, and the farm has {found:?}", entry.key));
                }
            }
            accepted.extend(jobs.into_iter().map(|id| (id, entry.promise.clone())));
        }
        for (key, jobs) in there {
            tally.submissions.push(format!("nobody sent {key:?}, and the farm has {jobs:?}"));
        }
        accepted
    }

    /// Why what is not over waits.
    pub(super) async fn explain(&self, site: &Site) -> String {
        let mut said = String::new();
        for entry in &self.entries {
            let Known::Acknowledged(id) = entry.known else { continue };
            match site.farm.client.explain(id).await {
                Ok(explanation) if explanation.state.is_over() => {}
                answer => write!(said, "\n    {id}: {answer:?}").expect("memory takes it"),
            }
        }
        said
    }
}
