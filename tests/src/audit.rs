//! An auditor that believes only the store and the API.

use crate::farm::TestFarm;
use framewake_proto::client::Client;
use framewake_proto::ids::JobId;
use framewake_proto::objects::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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
