//! `framewake dev`, as a user runs it.

use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::{Client, PartQuery};
use framewake_proto::ids::JobId;
use framewake_tests::farm::{SOON, kill, processes, unique};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, free_port, path, root};
use framewake_tests::tight::Tight;
use framewake_tests::wait::{until, until_sync};
use rustix::process::Signal;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Dev {
    running: Running,
    data: PathBuf,
    url: String,
}

impl Dev {
    /// On a folder's data, at a port, until it is ready.
    fn start(folder: &Path, port: u16) -> Dev {
        let data = folder.join("data");
        let mut command = Command::new(built("framewake"));
        command.args(["dev", "--listen", &format!("127.0.0.1:{port}"), "--functions", "samples/functions"]);
        command.arg("--data").arg(&data).current_dir(root()).env("PATH", path());
        command.env("FRAMEWAKE_WRITABLE", folder);
        let running = Running::start("framewake dev", &mut command, &folder.join("dev.log"));
        let mut dev = Dev { running, data, url: format!("http://127.0.0.1:{port}") };
        until_sync(SOON, "dev is ready", || {
            dev.running.assert_alive();
            dev.running.log().contains("is ready on").then_some(())
        });
        dev
    }

    /// Processes that it started, by what is in their command line.
    fn processes(&self, word: &str) -> Vec<u32> {
        let data = self.data.display().to_string();
        let own = |line: &str| line.contains(&data) && line.contains(word);
        processes().into_iter().filter(|process| own(&process.line)).map(|process| process.pid).collect()
    }

    /// As Ctrl-C does.
    fn end(&mut self) {
        self.running.signal(Signal::INT);
        assert_eq!(self.running.wait(SOON), 0, "{}", self.running.log());
    }

    async fn over(&self, id: JobId) -> JobState {
        let client = Client::new(&self.url).expect("a good address");
        until(SOON, "the job is over", || async {
            client.job(id).await.ok().map(|job| job.state).filter(|state| state.is_over())
        })
        .await
    }
}

#[test]
fn dev_runs_a_job_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("there is room");
    let mut dev = Dev::start(folder.path(), free_port());
    let submit = Command::new(built("framewake"))
        .args(["submit", "samples/jobs/command.yaml", "--wait", "--url", &dev.url])
        .current_dir(root())
        .output()
        .expect("the program runs");
    assert!(submit.status.success(), "{}", String::from_utf8_lossy(&submit.stderr));
    // A machine without a GPU is no news, and its loader's words are nobody's.
    assert!(!dev.running.log().contains("libnvidia"), "{}", dev.running.log());
    dev.end();
    assert_eq!(dev.processes(""), [0; 0], "nats-server and workers are gone");
}

#[test]
fn dev_is_ready_where_little_of_the_disk_is_free() {
    let folder = tempfile::tempdir().expect("there is room");
    let Some(_tight) = Tight::mount(&folder.path().join("data"), "64m") else {
        eprintln!("LEFT OUT: this machine allows no mount, so there is no small disk");
        return;
    };
    Dev::start(folder.path(), free_port()).end();
}

#[tokio::test]
async fn a_worker_that_outlived_dev_and_its_nats_hands_in_what_it_rendered_and_leaves() {
    let folder = tempfile::tempdir().expect("there is room");
    let (port, go) = (free_port(), folder.path().join("go"));
    let mut dev = Dev::start(folder.path(), port);
    let client = Client::new(&dev.url).expect("a good address");
    let script = format!("touch {go}.begun; until test -e {go}; do sleep 0.05; done", go = go.display());
    let mut job = jobs::command(&["/bin/sh", "-c", &script], "1");
    job["steps"][0]["timeouts"] = json!({ "silent": "1m" });
    let id = client.submit(&job, &unique()).await.expect("accepted").id;
    until(SOON, "the frame is begun", || async { folder.path().join("go.begun").exists().then_some(()) }).await;

    dev.running.kill();
    for pid in dev.processes("nats.conf") {
        kill(pid);
    }
    let mut dev = Dev::start(folder.path(), port);
    std::fs::write(&go, "").expect("writable");
    assert_eq!(dev.over(id).await, JobState::Succeeded);
    let attempts = client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.outcome, attempt.done)).collect();
    assert_eq!(outcomes, [(AttemptOutcome::Finished, 1)], "it was rendered once");
    until(SOON, "the worker has left", || async { dev.processes("--worker").is_empty().then_some(()) }).await;
    dev.end();
}
