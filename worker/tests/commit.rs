//! Commits: once, verified, and counted when another attempt was first.

mod common;

use common::{Bench, bench};
use framewake_proto::ids::{AttemptId, ChunkId};
use framewake_proto::objects::Digest;
use framewake_proto::verdict::Verdict;
use framewake_worker::commit::Committer;
use framewake_worker::pictures::Keeper;
use framewake_worker::renderer::Output;
use framewake_worker::store::Store;
use image::{Rgb, RgbImage};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FIRST: AttemptId = AttemptId { chunk: ChunkId(7), number: 1 };
const KEY: &str = "jobs/p/j/frames/0007.png";

struct Desk {
    bench: Bench,
    committer: Committer,
    object: PathBuf,
}

fn desk() -> Desk {
    let function = json!({"name": "f", "driver": {"kind": "command", "command": ["true"]}});
    let mut bench = bench(&function, &json!({"output": "frames/{frame:04}.png", "verify": {"width": 8}}));
    let root = bench.folder.path().join("store");
    let url = format!("file://{}", root.display()).parse().expect("any text");
    let worker = "w1".parse().expect("a name");
    let store = Store::open(&url, &worker).expect("opens");
    let order = bench.step.order.clone();
    let step = std::mem::replace(&mut bench.step, framewake_worker::renderer::Step::new(order).expect("good"));
    let (step, pictures) = (Arc::new(step), Keeper::default());
    let committer = Committer { store, pictures, worker, step, gpu_asked: false, allow_cpu: false };
    Desk { bench, committer, object: root.join(KEY) }
}

impl Desk {
    fn output(&self, gray: u8) -> Output {
        let path = self.bench.work().join(format!("{gray}.png"));
        write_picture(&path, gray, 8);
        Output {
            path: Some(path),
            device: "CPU".into(),
            renderer: "Fake 1".into(),
            memory_peak_bytes: 5,
            gpu: None,
            elapsed: Duration::from_millis(12),
            said: String::new(),
        }
    }
}

fn write_picture(path: &Path, gray: u8, side: u32) {
    RgbImage::from_pixel(side, side, Rgb([gray; 3])).save(path).expect("writes");
}

#[tokio::test]
async fn an_output_is_stored_with_all_that_is_known_of_it() {
    let desk = desk();
    let done = desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect("commits");
    let bytes = std::fs::read(&desk.object).expect("is there");
    assert_eq!((done.key.as_str(), done.task, done.found), (KEY, 6, false));
    assert_eq!((done.width, done.height, done.size_bytes), (8, 8, bytes.len() as u64));
    assert_eq!((done.device.as_str(), done.renderer.as_str(), done.elapsed_ms), ("CPU", "Fake 1", 12));
    assert_eq!(done.sha256, Digest::of(&bytes).0);
}

#[tokio::test]
async fn whoever_is_first_counts_and_the_second_counts_that() {
    let desk = desk();
    let first = desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect("commits");
    let same = desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect("counts");
    assert!(same.found && same.sha256 == first.sha256 && same.device == "CPU");
    let other = desk.committer.commit(FIRST, 6, 7, desk.output(200)).await.expect("counts");
    assert!(other.found && other.sha256 == first.sha256 && other.device.is_empty());
    let found = desk.committer.count_existing(6, 7, &desk.bench.work().join("found")).await.expect("looks");
    assert_eq!(found.expect("is there").sha256, first.sha256);
}

#[tokio::test]
async fn an_object_that_is_there_and_bad_is_said_to_be() {
    let desk = desk();
    std::fs::create_dir_all(desk.object.parent().expect("has one")).expect("makes");
    std::fs::write(&desk.object, b"half a pict").expect("writes");
    let failure = desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect_err("refused");
    assert_eq!(failure.verdict, Verdict::OutputBad);
    assert!(failure.message.contains(KEY) && failure.message.contains("earlier attempt"), "{}", failure.message);
    assert_eq!(std::fs::read(&desk.object).expect("untouched"), b"half a pict");
}

#[tokio::test]
async fn an_output_that_does_not_verify_is_never_stored() {
    let desk = desk();
    let output = desk.output(9);
    write_picture(output.path.as_ref().expect("a path"), 9, 16);
    let failure = desk.committer.commit(FIRST, 6, 7, output).await.expect_err("refused");
    assert_eq!(failure.verdict, Verdict::OutputBad);
    assert_eq!(failure.message, "the output is 16x16 pixels, and a width of 8 was asked for");
    assert!(!desk.object.exists());
}

#[tokio::test]
async fn a_gpu_that_was_asked_for_must_have_been_used() {
    let mut desk = desk();
    desk.committer.gpu_asked = true;
    let failure = desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect_err("refused");
    assert_eq!(failure.verdict, Verdict::RetryElsewhere);
    let unnamed = Output { device: String::new(), ..desk.output(9) };
    let failure = desk.committer.commit(FIRST, 6, 7, unnamed).await.expect_err("not proved");
    assert_eq!(failure.verdict, Verdict::RetryElsewhere);
    let on_gpu = Output { device: "OPTIX: NVIDIA L40S".into(), ..desk.output(9) };
    desk.committer.commit(FIRST, 6, 7, on_gpu).await.expect("commits");
}

#[tokio::test]
async fn links_in_a_renderers_folder_lead_the_worker_nowhere() {
    let desk = desk();
    desk.committer.commit(FIRST, 6, 7, desk.output(9)).await.expect("commits");
    let kept = desk.bench.folder.path().join("kept");
    std::fs::write(&kept, "kept").expect("writes");
    // Where the worker will put the object that is there already.
    let second = desk.output(200);
    std::os::unix::fs::symlink(&kept, second.path.as_ref().expect("a path").with_extension("found")).expect("links");
    assert!(desk.committer.commit(FIRST, 6, 7, second).await.expect("counts").found);
    assert_eq!(std::fs::read_to_string(&kept).expect("reads"), "kept");
    // An output that is another's picture, by a link to it or to its folder.
    let theirs = desk.bench.folder.path().join("theirs");
    std::fs::create_dir(&theirs).expect("makes");
    write_picture(&theirs.join("1.png"), 9, 8);
    let work = desk.bench.work();
    std::os::unix::fs::symlink(&theirs, work.join("folder")).expect("links");
    std::os::unix::fs::symlink(theirs.join("1.png"), work.join("file.png")).expect("links");
    for path in ["folder/1.png", "file.png"] {
        let output = Output { path: Some(work.join(path)), ..desk.output(9) };
        let failure = desk.committer.commit(FIRST, 5, 6, output).await.expect_err("refused");
        assert_eq!((failure.verdict, failure.message.as_str()), (Verdict::OutputBad, "the renderer wrote no output"));
    }
    assert!(theirs.join("1.png").exists());
}
