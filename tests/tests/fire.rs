//! Parts that die, in the middle of work: what is in the bucket afterwards is what an undisturbed farm leaves there.

use framewake_proto::api::JobState;
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_tests::audit::{Bucket, Findings, Promise, audit, files, upload};
use framewake_tests::farm::{LONG, SOON, Store, TestFarm};
use framewake_tests::fire::{Plan, picture, run};
use framewake_tests::jobs;
use framewake_tests::parts::built;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MARKER: u64 = 7;

/// Frames of the picture renderer, each frame one attempt only.
fn pictures(frames: u32) -> (Value, Promise) {
    let mut promise = Promise::frames(1..=frames);
    for output in &mut promise.outputs {
        output.digest = Some(picture::digest(MARKER, output.frame.unsigned_abs()));
    }
    let job = json!({ "name": "pictures", "steps": [{
        "name": "render",
        "function": "picture",
        "frames": format!("1-{frames}"),
        "parameters": { "marker": MARKER },
        "output": "frames/{frame:04}.png",
        "retries": { "attempts": 1 },
    }] });
    (job, promise)
}

async fn add_picture(farm: &TestFarm) {
    farm.client.add_function(&picture::function(&built("fire"))).await.expect("a good function");
}

async fn done(farm: &TestFarm, id: JobId, count: u32) {
    until(LONG, "tasks are done", || async { farm.client.job(id).await.ok().filter(|job| job.tasks.done >= count) })
        .await;
}

async fn look(farm: &TestFarm, id: JobId, promise: &Promise) -> Findings {
    audit(&farm.client, &Bucket::of(farm), &BTreeMap::from([(id, promise.clone())])).await
}

/// How often everything is killed in the middle of a job.
const KILLS: u32 = 10;

#[allow(clippy::disallowed_methods)] // Not a setting of the product.
fn seed() -> Option<u64> {
    std::env::var("FIRE_SEED").ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_farm_under_random_faults_loses_nothing() {
    let seed = seed().unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("seed {seed}");
    let plan = Plan { seed, duration: Duration::from_secs(10), frames: 300, long: false };
    let outcome = run(&plan, |line| eprintln!("{line}")).await;
    assert!(outcome.is_clean(), "{outcome}");
    assert!(outcome.faults() >= 3, "hardly anything was done to it: {outcome}");
    eprintln!("{outcome}");
}

#[tokio::test]
async fn the_auditor_sees_what_is_missing_cut_off_extra_or_swapped() {
    let farm = TestFarm::start(2).await;
    add_picture(&farm).await;
    let (job, promise) = pictures(6);
    let view = farm.succeed(&job).await;
    let bucket = Bucket::of(&farm);
    let key = |frame: u32| format!("jobs/{}/{}/frames/{frame:04}.png", view.project, view.id);
    let clean = look(&farm, view.id, &promise).await;
    assert!(clean.is_clean() && clean.frames == 6 && clean.spent.is_empty(), "{clean}");
    let objects = [bucket.get(&key(1)).await, bucket.get(&key(2)).await].map(|object| object.expect("it is there"));

    bucket.delete(&key(1)).await.expect("writable");
    assert_eq!(look(&farm, view.id, &promise).await.lost.len(), 1, "a missing object");
    bucket.put(&key(1), objects[0].slice(..objects[0].len() / 2)).await.expect("writable");
    assert_eq!(look(&farm, view.id, &promise).await.truncated.len(), 1, "an object cut off");
    bucket.put(&key(1), objects[1].clone()).await.expect("writable");
    bucket.put(&key(2), objects[0].clone()).await.expect("writable");
    assert_eq!(look(&farm, view.id, &promise).await.wrong.len(), 2, "two objects swapped");
    bucket.put(&key(1), objects[0].clone()).await.expect("writable");
    bucket.put(&key(2), objects[1].clone()).await.expect("writable");
    for extra in [key(7), format!("{}.part", key(3)), "jobs/default/nobody/0001.png".to_owned()] {
        bucket.put(&extra, objects[0].clone()).await.expect("writable");
        assert_eq!(look(&farm, view.id, &promise).await.extra, [format!("{extra}: nobody asked for it")]);
        bucket.delete(&extra).await.expect("writable");
    }
    // A book that says otherwise than the farm: a frame more, a frame less, another picture.
    let mut more = promise.clone();
    more.outputs.extend(Promise::frames(7..=7).outputs);
    assert!(!look(&farm, view.id, &more).await.lost.is_empty(), "a frame that was promised and is not there");
    let mut less = promise.clone();
    less.outputs.pop();
    assert!(!look(&farm, view.id, &less).await.extra.is_empty(), "a frame that nobody asked for");
    let mut other = promise.clone();
    other.outputs[0].digest = Some(picture::digest(MARKER + 1, 1));
    assert_eq!(look(&farm, view.id, &other).await.wrong.len(), 1, "a picture of another job");
    assert!(look(&farm, view.id, &promise).await.is_clean(), "all is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_everything_at_once_gives_the_hashes_of_an_undisturbed_blender_job() {
    let frames = KILLS * 4 + 4;
    let mut farm = TestFarm::start_on_s3(1).await;
    let scene = farm.folder().join("cube.blend");
    jobs::make_blender_scene(&scene);
    let scene = upload(&farm.client, &std::fs::read(&scene).expect("made above")).await;
    let job = jobs::blender(scene, &format!("1-{frames}"));
    let calm = farm.succeed(&job).await.id;
    let hashes = async |farm: &TestFarm, id| -> BTreeMap<String, String> {
        farm.outputs(id).await.iter().map(|output| (output.name.clone(), output.sha256.to_string())).collect()
    };
    let id = farm.submit(&job).await;
    for kill in 0..KILLS {
        done(&farm, id, kill * 4 + 1).await;
        let view = farm.client.job(id).await.expect("it is there");
        assert!(!view.state.is_over(), "kill {kill} came too late: {view:?}");
        farm.kill_everything();
        farm.start_everything().await;
    }
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, frames), "{view:?}");
    assert_eq!(hashes(&farm, id).await, hashes(&farm, calm).await);
    let promise = Promise::frames(1..=frames);
    let accepted = BTreeMap::from([(calm, promise.clone()), (id, promise)]);
    let findings = audit(&farm.client, &Bucket::of(&farm), &accepted).await;
    assert!(findings.is_clean() && findings.spent.is_empty(), "{findings}\n{:?}", findings.spent);
}

#[tokio::test]
async fn deleting_the_jetstream_folder_in_the_middle_of_a_job_loses_nothing() {
    let mut farm = TestFarm::start(2).await;
    add_picture(&farm).await;
    let (job, promise) = pictures(400);
    let id = farm.submit(&job).await;
    for count in [10, 100] {
        done(&farm, id, count).await;
        farm.nats.kill();
        farm.nats.wipe();
        farm.nats.restart();
    }
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let findings = look(&farm, id, &promise).await;
    assert!(findings.is_clean() && findings.spent.is_empty(), "{findings}\n{:?}", findings.spent);
}

#[tokio::test]
async fn a_worker_of_a_farm_that_does_not_come_back_leaves_and_its_frames_are_found_later() {
    let mut farm = TestFarm::start(1).await;
    farm.restart_scheduler_with(&[("FRAMEWAKE_KEEP_REPORTS", "1s")]).await;
    add_picture(&farm).await;
    let (mut job, promise) = pictures(100);
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 100 });
    let id = farm.submit(&job).await;
    done(&farm, id, 1).await;
    farm.kill_scheduler();
    farm.nats.kill();
    until(SOON, "the worker has left", || async { farm.worker_pids().is_empty().then_some(()) }).await;
    let bucket = Bucket::of(&farm);
    let stored = bucket.list().await.expect("a folder");
    assert_eq!(stored.keys().filter(|key| key.starts_with("jobs/")).count(), 100, "it finished first");
    farm.nats.restart();
    farm.restart_scheduler().await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let findings = look(&farm, id, &promise).await;
    assert!(findings.is_clean() && findings.spent.is_empty(), "{findings}\n{:?}", findings.spent);
}

#[tokio::test]
async fn a_worker_finishes_while_scheduler_and_nats_are_away_and_hands_in_later() {
    let mut farm = TestFarm::start(1).await;
    add_picture(&farm).await;
    let (mut job, promise) = pictures(200);
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 200 });
    let id = farm.submit(&job).await;
    done(&farm, id, 1).await;
    farm.kill_scheduler();
    farm.nats.kill();
    let bucket = Bucket::of(&farm);
    until(SOON, "the worker has finished what it holds", || async {
        let stored = bucket.list().await.ok()?;
        (stored.keys().filter(|key| key.starts_with("jobs/")).count() == 200).then_some(())
    })
    .await;
    farm.nats.restart();
    farm.restart_scheduler().await;
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let findings = look(&farm, id, &promise).await;
    assert!(findings.is_clean() && findings.spent.is_empty(), "{findings}\n{:?}", findings.spent);
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    assert_eq!(attempts.iter().map(|attempt| attempt.done).collect::<Vec<_>>(), [200], "by one attempt");
}

#[tokio::test]
async fn frames_wait_for_a_store_that_is_away_and_spend_no_attempt() {
    let mut farm = TestFarm::start_on_s3(1).await;
    add_picture(&farm).await;
    let (job, promise) = pictures(300);
    let id = farm.submit(&job).await;
    done(&farm, id, 1).await;
    let Store::S3(s3) = &mut farm.store else { unreachable!("started on it") };
    s3.kill();
    // As often as a worker tries what a store refuses for good.
    until(LONG, "the worker has tried for long", || async {
        let folders = std::fs::read_dir(farm.data().join("workers")).ok()?.flatten();
        let logs = folders.filter_map(|folder| std::fs::read_to_string(folder.path().join("log")).ok());
        logs.into_iter().any(|log| log.contains("number=8") || log.contains("\"number\":8")).then_some(())
    })
    .await;
    // Two commits under way, and the frame that waits for its turn.
    let held = files(&farm.data().join("workers")).into_keys().filter(|file| file.contains(".png")).count();
    assert!((1..=3).contains(&held), "the worker holds {held} frames");
    let Store::S3(s3) = &mut farm.store else { unreachable!("started on it") };
    s3.restart();
    assert_eq!(farm.over(id).await.state, JobState::Succeeded);
    let findings = look(&farm, id, &promise).await;
    assert!(findings.is_clean() && findings.spent.is_empty(), "{findings}\n{:?}", findings.spent);
}

#[tokio::test]
async fn a_log_on_a_full_disk_does_not_end_a_worker() {
    // A NATS that hangs up: each try to reach it is a line of the log.
    let nats = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let folder = tempfile::tempdir().expect("there is room");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = tokio::process::Command::new(built("framewake-worker"));
    command.args(["--worker", "w1", "--function", "picture@1", "--scratch"]).arg(folder.path().join("scratch"));
    command.arg("--store").arg(format!("file://{}", folder.path().join("store").display()));
    command.arg("--nats-url").arg(format!("nats://{}", nats.local_addr().expect("it listens")));
    let mut worker = command.stderr(full).kill_on_drop(true).spawn().expect("the worker starts");
    for _ in 0..3 {
        let (connection, _) =
            tokio::time::timeout(SOON, nats.accept()).await.expect("it tries again").expect("it came");
        drop(connection);
    }
    let pid = worker.id().expect("it lives after two lines that nobody could write");
    framewake_tests::farm::signal(pid, rustix::process::Signal::TERM);
    let status = tokio::time::timeout(SOON, worker.wait()).await.expect("it leaves").expect("our child");
    assert!(status.success(), "{status}");
}
