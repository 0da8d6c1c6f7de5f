//! Backup and restore, as an operator does them: on the programs of this workspace, beside a farm that works.

use framewake_proto::api::JobState;
use framewake_tests::audit::{audit_folder, files};
use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::parts::built;
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the scheduler's program with words of its own.
fn errand(words: &[&str], data: &Path) -> Output {
    let mut command = Command::new(built("framewake-scheduler"));
    command.args(words).arg("--data").arg(data).output().expect("it runs")
}

fn said(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(text).expect("it speaks text")
}

fn succeed(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// A job of frames that each note the start of their renderer, and take a moment.
async fn noting_job(farm: &TestFarm, starts: &Path, frames: &str) -> Value {
    let script = "echo $1 >> $2; sleep 0.05; echo frame $1 > $3";
    let function = json!({
        "name": "noting",
        "driver": { "kind": "command",
            "command": ["/bin/sh", "-c", script, "sh", "{frame}", starts.display().to_string(), "{output}"] },
    });
    farm.client.add_function(&function).await.expect("a good function");
    json!({ "name": "noting", "steps": [{
        "name": "run", "function": "noting", "frames": frames, "output": "{frame:03}.txt",
        "chunking": { "mode": "fixed", "size": 4 },
    }] })
}

fn started(starts: &Path) -> Vec<String> {
    std::fs::read_to_string(starts).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn names(frames: std::ops::RangeInclusive<u32>) -> BTreeSet<String> {
    frames.map(|frame| format!("{frame:03}.txt")).collect()
}

#[tokio::test]
async fn yesterdays_backup_makes_a_farm_that_knows_what_was_rendered_since() {
    let mut farm = TestFarm::start(2).await;
    let (starts, backup) = (farm.folder().join("starts"), farm.folder().join("yesterday.db"));
    let job = noting_job(&farm, &starts, "1-40").await;
    let key = unique();
    let id = farm.client.submit(&job, &key).await.expect("accepted").id;
    until(SOON, "some are done", || async { farm.client.job(id).await.ok().filter(|job| job.tasks.done >= 6) }).await;
    let output = errand(&["backup", "--to", &backup.display().to_string()], &farm.data());
    succeed(&output);
    assert!(said(&output).contains("verified"), "{}", said(&output));

    // Since: the rest of the job, and another one.
    let view = farm.over(id).await;
    assert_eq!(view.state, JobState::Succeeded);
    let lost = farm.submit(&noting_job(&farm, &starts, "50-52").await).await;
    assert_eq!(farm.over(lost).await.state, JobState::Succeeded);
    let (before, mut objects) = (started(&starts), files(&farm.store_folder()));
    // Logs may still be on their way when their job is over.
    objects.retain(|name, _| !name.starts_with("logs/"));
    assert_eq!(before.len(), 43, "each frame once");

    let output = errand(&["restore", "--from", &backup.display().to_string()], &farm.data());
    assert!(!output.status.success() && said(&output).contains("used by another scheduler"), "{}", said(&output));
    farm.kill_scheduler();
    succeed(&errand(&["restore", "--from", &backup.display().to_string()], &farm.data()));
    let beginning = std::time::Instant::now();
    farm.restart_scheduler().await;
    let again = farm.client.submit(&job, &key).await.expect("its key is known");
    assert_eq!(again.id, id, "a submission of before the backup is known");
    let view = farm.over(id).await;
    eprintln!("the restored job was over {:?} after the start", beginning.elapsed());
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 40));
    assert_eq!(started(&starts), before, "nothing was rendered again");
    audit_folder(&farm, id, &names(1..=40)).await;
    for (name, digest) in &objects {
        assert_eq!(files(&farm.store_folder()).get(name), Some(digest), "`{name}` is as it was");
    }
    assert!(farm.client.job(lost).await.is_err(), "what was submitted since is not known");
    // The farm works on.
    farm.succeed(&noting_job(&farm, &starts, "60-63").await).await;
    let log = farm.scheduler_log();
    assert!(log.contains("the farm was restored from a copy of"), "{log}");
    succeed(&errand(&["check"], &farm.data()));
}

#[tokio::test]
async fn a_restore_in_the_middle_of_a_job_goes_on_beside_workers_of_the_time_since() {
    let mut farm = TestFarm::start(2).await;
    let (starts, backup) = (farm.folder().join("starts"), farm.folder().join("backup.db"));
    let job = noting_job(&farm, &starts, "1-80").await;
    let id = farm.submit(&job).await;
    let done = async |count: u32| {
        until(SOON, "some are done", || async { farm.client.job(id).await.ok().filter(|job| job.tasks.done >= count) })
            .await
    };
    done(4).await;
    succeed(&errand(&["backup", "--to", &backup.display().to_string()], &farm.data()));
    done(30).await;
    // Workers live on, and finish what they hold, while the database of before takes the place of the newer.
    farm.kill_scheduler();
    succeed(&errand(&["restore", "--from", &backup.display().to_string()], &farm.data()));
    farm.restart_scheduler().await;
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 80));
    audit_folder(&farm, id, &names(1..=80)).await;
    // At most what a worker was on when it was told that its attempt is over.
    let starts = started(&starts).len();
    assert!((80..=82).contains(&starts), "{starts} starts for 80 frames");
}

#[tokio::test]
async fn errands_refuse_what_they_can_not_do_and_say_why() {
    let folder = tempfile::tempdir().expect("room for a folder");
    let to = folder.path().join("b.db").display().to_string();
    for words in [vec!["backup", "--to", &to], vec!["check"]] {
        let output = errand(&words, folder.path());
        assert!(!output.status.success() && said(&output).contains("there is no database in"), "{}", said(&output));
    }
    std::fs::write(folder.path().join("b.db"), "a letter").expect("writable");
    let output = errand(&["restore", "--from", &to], folder.path());
    assert!(!output.status.success() && said(&output).contains("damaged"), "{}", said(&output));
}

#[tokio::test]
async fn a_machine_with_an_empty_disk_takes_the_copy_and_another_keeps_what_it_has() {
    let mut farm = TestFarm::start(1).await;
    let id = farm.submit(&noting_job(&farm, &farm.folder().join("starts"), "1-2").await).await;
    farm.over(id).await;
    farm.kill_scheduler();
    let copy = farm.folder().join("copy.db").display().to_string();
    let words = ["restore", "--from", &copy, "--if-needed"];
    let fresh = tempfile::tempdir().expect("room for a folder");
    // The first start of all: no copy yet.
    let output = errand(&words, fresh.path());
    succeed(&output);
    assert!(said(&output).contains("begins with an empty database"), "{}", said(&output));
    assert!(!fresh.path().join("framewake.db").exists());
    succeed(&errand(&["backup", "--to", &copy], &farm.data()));
    // A database that is there is newer than any copy.
    let before = std::fs::read(farm.data().join("framewake.db")).expect("it is there");
    let output = errand(&words, &farm.data());
    succeed(&output);
    assert!(said(&output).contains("has a database: it stays"), "{}", said(&output));
    assert!(std::fs::read(farm.data().join("framewake.db")).expect("it is there") == before, "it was not touched");
    // A new machine.
    let output = errand(&words, fresh.path());
    succeed(&output);
    assert!(said(&output).contains("with 1 jobs"), "{}", said(&output));
    succeed(&errand(&["check"], fresh.path()));
}
