//! What harms the farm is found, told with its evidence, and kept apart: frames that kill, machines that fail.

use framewake_proto::api::{AttemptOutcome, JobState, PlaceState, PlaceView};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_proto::verdict::Verdict;
use framewake_tests::farm::{SOON, TestFarm, unique};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, path};
use framewake_tests::wait::until;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;

/// Standard output of a command that must succeed.
fn framewake(farm: &TestFarm, arguments: &[&str]) -> String {
    let mut command = Command::new(built("framewake"));
    command.args(arguments).env("FRAMEWAKE_URL", farm.url()).env("NO_COLOR", "1");
    let output = command.output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_kills_its_workers_is_quarantined_with_evidence_and_the_others_are_done() {
    let mut farm = TestFarm::start(2).await;
    // A confined renderer can't kill its worker; here it stands for whatever does.
    farm.restart_scheduler_with(&[("FRAMEWAKE_CONFINE", "off")]).await;
    let mut job = jobs::command(&["/bin/sh", "-c", "test {frame} -ne 5 || kill -9 $PPID; echo fine"], "1-8");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 4 });
    job["steps"][0]["retries"] = json!({ "attempts": 1 });
    let id = farm.submit(&job).await;
    let view = farm.over(id).await;
    assert_eq!((view.state, view.tasks.done, view.tasks.failed), (JobState::Failed, 7, 1), "{view:?}");
    let failed = farm.failures(id).await;
    let failure = failed[0].failure.as_ref().expect("it says why");
    assert_eq!((failed[0].frame, failure.verdict), (5, Verdict::Quarantined));
    assert!(failure.message.contains("6 workers were lost"), "{}", failure.message);
    let attempts = farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
    let lost: Vec<_> = attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Lost).collect();
    assert_eq!(lost.len(), 6, "{attempts:?}");
    let lines: Vec<&str> = failure.evidence.lines().collect();
    assert_eq!(lines.len(), 7, "{}", failure.evidence);
    for (attempt, line) in lost.iter().zip(&lines) {
        assert!(attempt.reason.contains("killed by signal 9"), "{attempt:?}");
        let (number, worker) = (&attempt.attempt, &attempt.worker);
        assert!(line.contains(&format!("attempt {number}: worker {worker} on ")), "{line}");
        assert!(line.contains("killed by signal 9") && !line.contains("unknown machine"), "{line}");
    }
    assert!(lines[6].contains(&format!("framewake logs {id} {}", lost[5].attempt)), "{}", lines[6]);
    let shown = framewake(&farm, &["frames", "latest", "--failed"]);
    assert!(shown.contains("quarantined") && shown.contains(lines[0]), "{shown}");
    // The only machine there is stays, whatever happens on it.
    let places = farm.client.places(None, None).await.expect("listed").items;
    assert!(places.iter().all(|place| place.state != PlaceState::SetAside), "{places:?}");
}

/// A farm whose workers are started by hand on two machines, of which `bad` fails everything unless it is mended.
struct Machines {
    farm: TestFarm,
    set_aside: &'static str,
    scheduler: Option<Running>,
    workers: u32,
}

impl Machines {
    async fn start(set_aside: &'static str) -> Machines {
        let mut farm = TestFarm::start(0).await;
        farm.kill_scheduler();
        let mut machines = Machines { farm, set_aside, scheduler: None, workers: 0 };
        machines.restart_scheduler().await;
        let script = format!("case $PWD in */bad/*) test -e {} || exit 3;; esac", machines.mended().display());
        let function =
            json!({ "name": "frail", "driver": { "kind": "command", "command": ["/bin/sh", "-c", script] } });
        machines.farm.client.add_function(&function).await.expect("a good function");
        machines
    }

    async fn restart_scheduler(&mut self) {
        self.scheduler = None;
        let mut command = self.farm.scheduler_command();
        command.args(["--set-aside", self.set_aside]);
        let log = self.farm.folder().join("scheduler.log");
        self.scheduler = Some(Running::start("framewake-scheduler", &mut command, &log));
        until(SOON, "it is ready", || async { self.farm.client.readiness().await.ok().filter(|ready| ready.ready) })
            .await;
    }

    /// Its presence mends the bad machine.
    fn mended(&self) -> PathBuf {
        self.farm.folder().join("mended")
    }

    fn worker(&mut self, host: &str) -> Running {
        self.workers += 1;
        let name = format!("{host}{}", self.workers);
        let folder = self.farm.folder();
        let mut command = Command::new(built("framewake-worker"));
        command
            .env("FRAMEWAKE_NATS_URL", self.farm.nats.url())
            .env("FRAMEWAKE_STORE", self.farm.store_url())
            .env("FRAMEWAKE_WORKER", &name)
            .env("FRAMEWAKE_FUNCTION", "frail@1")
            .env("FRAMEWAKE_HOST", host)
            .env("FRAMEWAKE_SCRATCH", folder.join(host).join(&name))
            .env("FRAMEWAKE_LINGER_MS", "600000")
            .env("PATH", path());
        Running::start(&name, &mut command, &folder.join(format!("{name}.log")))
    }

    async fn submit(&self, frames: &str) -> JobId {
        let retries = json!({ "attempts": 50, "backoff": "50ms", "backoff_max": "50ms" });
        let job = json!({ "name": unique(), "steps": [{
            "name": "run", "function": "frail", "frames": frames, "retries": retries,
            "chunking": { "mode": "fixed", "size": 1 },
        }] });
        self.farm.submit(&job).await
    }

    async fn place(&self, name: &str) -> Option<PlaceView> {
        let places = self.farm.client.places(None, None).await.expect("listed").items;
        places.into_iter().find(|place| place.name == name)
    }

    async fn until_bad_is(&self, state: PlaceState) -> PlaceView {
        until(SOON, &format!("the bad machine is {}", state.as_str()), || async {
            self.place("bad").await.filter(|place| place.state == state)
        })
        .await
    }

    /// Three jobs, on which the bad machine fails until it is set aside.
    async fn break_down(&mut self) -> (Running, PlaceView) {
        let good = self.worker("good");
        let mut bad = self.worker("bad");
        let ids = [self.submit("1-30").await, self.submit("1-30").await, self.submit("1-30").await];
        let aside = self.until_bad_is(PlaceState::SetAside).await;
        assert_eq!(bad.wait(SOON), 0, "its worker leaves");
        for id in ids {
            assert_eq!(self.farm.over(id).await.state, JobState::Succeeded, "others do its work");
        }
        assert_eq!(self.place("good").await.map(|place| place.state), Some(PlaceState::Good));
        (good, aside)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_fails_what_others_render_is_set_aside_and_comes_back_by_itself() {
    let mut machines = Machines::start("6s").await;
    let (good, aside) = machines.break_down().await;
    assert!(aside.reason.contains("failed here") && aside.reason.contains("retry_same"), "{aside:?}");
    assert_eq!(aside.times, 1, "{aside:?}");
    let metrics = reqwest::get(format!("{}/metrics", machines.farm.url())).await.expect("answered");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("framewake_places_set_aside_total 1"), "{metrics}");
    // Nobody works there meanwhile.
    drop(good);
    let id = machines.submit("1-3").await;
    let mut new = machines.worker("bad");
    assert_eq!(new.wait(SOON), 0, "a worker that comes up there leaves");
    let trial = machines.until_bad_is(PlaceState::OnTrial).await;
    assert!(trial.since >= aside.until, "{trial:?} after {aside:?}");
    std::fs::write(machines.mended(), "").expect("writable");
    let _new = machines.worker("bad");
    assert_eq!(machines.farm.over(id).await.state, JobState::Succeeded);
    machines.until_bad_is(PlaceState::Good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_stays_aside_over_a_restart_until_somebody_brings_it_back() {
    let mut machines = Machines::start("10m").await;
    let (good, aside) = machines.break_down().await;
    machines.restart_scheduler().await;
    let after = machines.place("bad").await.expect("it is known");
    assert_eq!((after.state, after.until, &after.reason), (PlaceState::SetAside, aside.until, &aside.reason));
    let shown = framewake(&machines.farm, &["workers"]);
    let line = shown.lines().find(|line| line.trim_start().starts_with("bad ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains("set aside"), "{line}");
    drop(good);
    std::fs::write(machines.mended(), "").expect("writable");
    let id = machines.submit("1-3").await;
    let explained = framewake(&machines.farm, &["explain", "latest"]);
    assert!(explained.contains("framewake workers restore bad"), "{explained}");
    framewake(&machines.farm, &["workers", "restore", "bad"]);
    let _new = machines.worker("bad");
    assert_eq!(machines.farm.over(id).await.state, JobState::Succeeded);
    let place = machines.place("bad").await.expect("a worker is there");
    assert_eq!((place.state, place.times), (PlaceState::Good, 0));
}
