//! The render watchdog as those who run it meet it: signals, exit codes, modes, wake-ups, and places without rights.
//!
//! Other watchdogs have faults that renders suffer from; each is shown here not to be there, or in the test that
//! `docs/own-dockerfile.md` names.

use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::JobId;
use framewake_proto::worker_exit::{HANDED_BACK, LEFT, TASK_FAILED};
use framewake_tests::farm::{SOON, TestFarm, processes};
use framewake_tests::jobs;
use framewake_tests::parts::{Running, built, free_port, path};
use framewake_tests::wait::until;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A farm that starts no workers itself: each test starts its own.
struct Watched {
    farm: TestFarm,
    workers: u32,
}

impl Watched {
    async fn start() -> Watched {
        Watched { farm: TestFarm::start(0).await, workers: 0 }
    }

    fn command(&mut self) -> Command {
        self.workers += 1;
        let mut command = Command::new(built("framewake-worker"));
        command
            .env("FRAMEWAKE_NATS_URL", self.farm.nats.url())
            .env("FRAMEWAKE_STORE", self.farm.store_url())
            .env("FRAMEWAKE_FUNCTION", "command@1")
            .env("FRAMEWAKE_WORKER", format!("w{}", self.workers))
            .env("FRAMEWAKE_SCRATCH", self.farm.folder().join(format!("scratch{}", self.workers)))
            .env("FRAMEWAKE_LINGER_MS", "300")
            // Renderers of these tests leave notes where the test reads them.
            .env("FRAMEWAKE_WRITABLE", self.farm.folder())
            .env("PATH", path());
        command
    }

    fn run(&mut self, arguments: &[&str]) -> Running {
        let mut command = self.command();
        command.args(arguments);
        self.run_command(&mut command)
    }

    fn run_command(&self, command: &mut Command) -> Running {
        Running::start("framewake-worker", command, &self.farm.folder().join(format!("worker{}.log", self.workers)))
    }

    /// A job of frames that are one chunk, each a run of `script`.
    async fn submit(&self, script: &str, frames: &str) -> JobId {
        let mut job = jobs::command(&["/bin/sh", "-c", script], frames);
        job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 100 });
        // A frame that pays for being handed back fails.
        job["steps"][0]["retries"] = json!({ "attempts": 1 });
        self.farm.submit(&job).await
    }

    fn notes(&self) -> PathBuf {
        self.farm.folder().join("notes")
    }

    /// What renderers wrote down so far, a word a line.
    fn noted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.notes()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until_noted(&self, note: &str) {
        until(SOON, &format!("a renderer notes `{note}`"), || async {
            self.noted().iter().any(|found| found == note).then_some(())
        })
        .await;
    }

    /// A frame that notes its beginning, whether it was asked to end, and its end after `pause`.
    fn frame(&self, pause: &str) -> String {
        let notes = self.notes().display().to_string();
        format!(
            "trap 'echo asked >> {notes}; exit 1' TERM; echo begin-{{frame}} >> {notes}; {pause}; echo end-{{frame}} >> {notes}"
        )
    }

    async fn outcomes(&self, id: JobId) -> Vec<AttemptOutcome> {
        let attempts = self.farm.client.attempts(id, &PartQuery::default()).await.expect("listed").items;
        attempts.iter().map(|attempt| attempt.outcome).collect()
    }

    /// The rest is done by a worker that comes later, and nothing was paid for.
    async fn is_finished_by_another(&mut self, id: JobId) {
        let mut next = self.run(&[]);
        let view = self.farm.over(id).await;
        assert_eq!(view.state, JobState::Succeeded, "{view:?}: {:?}", self.farm.failures(id).await);
        assert_eq!(next.wait(SOON), i32::from(LEFT), "{}", next.log());
    }
}

async fn get(port: u16, path: &str) -> u16 {
    reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.expect("it answers").status().as_u16()
}

/// A process whose command line has this word; renderers of the tests sleep for seconds that nobody else does.
fn runs(word: &str) -> bool {
    processes().iter().any(|process| process.line.split(' ').any(|found| found == word))
}

#[tokio::test]
async fn a_signal_lets_a_frame_that_fits_be_finished_and_the_renderer_hears_nothing_of_it() {
    let mut watched = Watched::start().await;
    let id = watched.submit(&watched.frame("sleep 1.5"), "1-3").await;
    let port = free_port();
    let mut worker = watched.run(&["--grace", "60", "--metrics", &format!("127.0.0.1:{port}")]);
    watched.until_noted("begin-1").await;
    assert_eq!(get(port, "/_/ready").await, 200);
    worker.signal(Signal::TERM);
    until(SOON, "it is not ready", || async { (get(port, "/_/ready").await == 503).then_some(()) }).await;
    assert!(!watched.noted().contains(&"end-1".to_owned()), "at once, not when the frame is done");
    assert_eq!(get(port, "/_/health").await, 200);
    assert_eq!(worker.wait(SOON), i32::from(HANDED_BACK), "{}", worker.log());
    assert_eq!(watched.noted(), ["begin-1", "end-1"], "the frame at hand and no other, undisturbed");
    assert_eq!(watched.outcomes(id).await, [AttemptOutcome::HandedBack]);
    watched.is_finished_by_another(id).await;
}

#[tokio::test]
async fn a_frame_that_is_known_not_to_fit_is_handed_back_at_once() {
    let mut watched = Watched::start().await;
    let id = watched.submit(&watched.frame("sleep 3"), "1-3").await;
    let mut worker = watched.run(&["--grace", "2"]);
    watched.until_noted("begin-2").await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(SOON), i32::from(HANDED_BACK), "{}", worker.log());
    assert!(worker.log().contains("the frame at hand needs about"), "{}", worker.log());
    assert!(!watched.noted().contains(&"end-2".to_owned()), "{:?}", watched.noted());
    watched.is_finished_by_another(id).await;
    assert_eq!(watched.noted().iter().filter(|note| *note == "begin-1").count(), 1, "what was done stays done");
}

#[tokio::test]
async fn a_frame_that_nobody_can_judge_goes_on_until_the_time_is_up_and_takes_its_children_along() {
    const GRACE: Duration = Duration::from_secs(4);
    let mut watched = Watched::start().await;
    // Its grandchild flees from the group, holds the pipe and hears no TERM.
    let once = watched.farm.folder().join("once");
    let pause =
        format!("if mkdir {}; then setsid sh -c 'trap \"\" TERM; sleep 86401' & sleep 86402; fi", once.display());
    let id = watched.submit(&watched.frame(&pause), "1").await;
    let mut worker = watched.run(&["--grace", "4s"]);
    until(SOON, "the grandchild runs", || async { (runs("86401") && runs("86402")).then_some(()) }).await;
    let told = Instant::now();
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(SOON), i32::from(HANDED_BACK), "{}", worker.log());
    let took = told.elapsed();
    assert!(took > GRACE / 2 && took < GRACE + Duration::from_secs(2), "{took:?}");
    assert!(!runs("86401") && !runs("86402"), "nothing is left behind");
    watched.is_finished_by_another(id).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_renderers_group_and_hands_back_at_once() {
    let mut watched = Watched::start().await;
    let once = watched.farm.folder().join("once");
    let pause = format!("if mkdir {}; then (trap '' TERM; sleep 86403) & sleep 86404; fi", once.display());
    let id = watched.submit(&watched.frame(&pause), "1-2").await;
    let mut worker = watched.run(&["--grace", "1h"]);
    until(SOON, "the renderer runs", || async { (runs("86403") && runs("86404")).then_some(()) }).await;
    worker.signal(Signal::TERM);
    until(SOON, "it has heard the first", || async { worker.log().contains("told to leave").then_some(()) }).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(Duration::from_secs(10)), i32::from(HANDED_BACK), "{}", worker.log());
    assert!(!runs("86403") && !runs("86404"), "nothing is left behind");
    assert_eq!(watched.outcomes(id).await, [AttemptOutcome::HandedBack]);
    watched.is_finished_by_another(id).await;
}

#[tokio::test]
async fn a_chunk_in_one_process_is_left_after_the_frame_at_hand() {
    let mut watched = Watched::start().await;
    let script =
        "for frame in $(echo $1 | tr , ' '); do echo begin-$frame >> $3; sleep 0.7; echo x > $2/$frame.txt; done";
    let notes = watched.notes().display().to_string();
    let function = json!({ "name": "together", "driver": { "kind": "command", "per": "chunk", "command":
        ["/bin/sh", "-c", script, "sh", "{frames}", "{outputs}", notes] } });
    watched.farm.client.add_function(&function).await.expect("a good function");
    let job = json!({ "name": "together", "steps": [{ "name": "run", "function": "together", "frames": "1-20",
        "output": "{frame}.txt", "chunking": { "mode": "fixed", "size": 100 }, "retries": { "attempts": 1 } }] });
    let id = watched.farm.submit(&job).await;
    let mut command = watched.command();
    command.env("FRAMEWAKE_FUNCTION", "together@1").args(["--grace", "60"]);
    let mut worker = watched.run_command(&mut command);
    watched.until_noted("begin-3").await;
    worker.signal(Signal::TERM);
    let code = worker.wait(SOON);
    let view = watched.farm.client.job(id).await.expect("there");
    assert!((2..=8).contains(&view.tasks.done), "it left after few: {view:?}\n{}", worker.log());
    assert!(!watched.noted().contains(&"begin-12".to_owned()), "{:?}", watched.noted());
    assert!([LEFT, HANDED_BACK].map(i32::from).contains(&code), "exit code {code}: {}", worker.log());
}

#[tokio::test]
async fn mode_exec_works_on_one_chunk_and_its_exit_code_tells_how_that_went() {
    let mut watched = Watched::start().await;
    let mut idle = watched.run(&["--mode", "exec"]);
    assert_eq!(idle.wait(SOON), i32::from(LEFT), "{}", idle.log());
    let mut job = jobs::command(&["/bin/true"], "1-4");
    job["steps"][0]["chunking"] = json!({ "mode": "fixed", "size": 2 });
    let id = watched.farm.submit(&job).await;
    let mut one = watched.run(&["--mode", "exec", "--linger-ms", "20000"]);
    assert_eq!(one.wait(SOON), i32::from(LEFT), "{}", one.log());
    until(SOON, "its chunk is counted", || async {
        watched.farm.client.job(id).await.ok().filter(|job| job.tasks.done == 2)
    })
    .await;
    assert_eq!(watched.run(&["--mode", "exec", "--linger-ms", "20000"]).wait(SOON), i32::from(LEFT));
    assert_eq!(watched.farm.over(id).await.state, JobState::Succeeded);
    let bad = watched.submit("exit 3", "1").await;
    let mut failing = watched.run(&["--mode", "exec", "--linger-ms", "20000"]);
    assert_eq!(failing.wait(SOON), i32::from(TASK_FAILED), "{}", failing.log());
    assert_eq!(watched.farm.over(bad).await.state, JobState::Failed);
}

/// A worker that waits for wake-ups, and its port.
async fn sleeper(watched: &mut Watched, arguments: &[&str]) -> (Running, u16) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let mut words = vec!["--mode", "http", "--listen", &listen];
    words.extend(arguments);
    let mut worker = watched.run(&words);
    until(SOON, "it listens", || {
        worker.assert_alive();
        async move { reqwest::get(format!("http://127.0.0.1:{port}/_/ready")).await.ok() }
    })
    .await;
    (worker, port)
}

async fn wake(port: u16, deadline: &str) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/function/command"));
    let answer = request.header("X-Deadline", deadline).body("whatever").send().await.expect("it answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn healthcheck(port: u16) -> i32 {
    let mut command = Command::new(built("framewake-worker"));
    command.arg("--healthcheck").env("FRAMEWAKE_MODE", "http").env("FRAMEWAKE_LISTEN", format!("0.0.0.0:{port}"));
    command.status().expect("it runs").code().expect("it ends by itself")
}

#[tokio::test]
async fn a_wake_up_drains_what_waits_and_tells_the_truth_after_it() {
    let mut watched = Watched::start().await;
    let (mut worker, port) = sleeper(&mut watched, &[]).await;
    assert_eq!(healthcheck(port), 0);
    let (status, summary) = wake(port, "60").await;
    assert_eq!((status, &summary["attempts"], &summary["why"]), (200, &json!(0), &json!("idle")), "{summary}");
    // The renderer's death is the frame's failure, not the watchdog's; and the answer comes after it.
    let good = watched.submit("echo fine", "1-3").await;
    let bad = watched.submit("kill -9 $$", "1").await;
    let (status, summary) = wake(port, "60").await;
    assert_eq!(status, 200, "{summary}");
    assert_eq!((&summary["tasks_done"], &summary["tasks_failed"]), (&json!(3), &json!(1)), "{summary}");
    assert_eq!(summary["handed_back"], json!(false), "{summary}");
    assert_eq!(watched.farm.over(good).await.state, JobState::Succeeded);
    assert_eq!(watched.farm.over(bad).await.state, JobState::Failed);
    worker.assert_alive();
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(SOON), i32::from(LEFT), "{}", worker.log());
    assert_eq!(healthcheck(port), 1);
}

#[tokio::test]
async fn a_wake_up_ends_before_the_gateway_cuts_it_and_begins_no_frame_that_does_not_fit() {
    let mut watched = Watched::start().await;
    let (mut worker, port) = sleeper(&mut watched, &[]).await;
    let id = watched.submit(&watched.frame("sleep 1.5"), "1-100").await;
    let began = Instant::now();
    let (status, summary) = wake(port, "9s").await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(
        (status, &summary["draining"], &summary["handed_back"]),
        (200, &json!(false), &json!(true)),
        "{summary}"
    );
    let done = summary["tasks_done"].as_u64().expect("a count");
    assert!(done >= 1 && summary["tasks_given_back"] == json!(100 - done), "{summary}");
    let notes = watched.noted();
    assert!(!notes.contains(&"asked".to_owned()), "no frame was cut: {notes:?}");
    assert_eq!(notes.iter().filter(|note| note.starts_with("begin")).count() as u64, done, "{notes:?}");
    // The answer may come before its last report is counted.
    until(SOON, "the attempt is handed back", || async {
        (watched.outcomes(id).await == [AttemptOutcome::HandedBack]).then_some(())
    })
    .await;
    // A signal while it drains: no one else is let in, and the frame is finished.
    let waking = tokio::spawn(async move { wake(port, "600").await });
    watched.until_noted(&format!("begin-{}", done + 2)).await;
    worker.signal(Signal::TERM);
    until(SOON, "it lets nobody in", || async { (get(port, "/_/ready").await == 503).then_some(()) }).await;
    assert_eq!(wake(port, "60").await.0, 503);
    let (status, summary) = waking.await.expect("no panic");
    assert_eq!((status, &summary["why"], &summary["handed_back"]), (200, &json!("drained"), &json!(true)), "{summary}");
    assert_eq!(worker.wait(SOON), i32::from(HANDED_BACK), "{}", worker.log());
    assert!(!watched.noted().contains(&"asked".to_owned()), "{:?}", watched.noted());
}

/// As `OpenShift` runs containers: a user that nobody knows, no rights, nothing to write but two folders.
#[tokio::test]
async fn it_works_as_any_user_without_rights_on_a_read_only_root() {
    const USER: &str = "1000660000";
    let mut watched = Watched::start().await;
    let folder = watched.farm.folder().to_owned();
    let (temporary, store) = (folder.join("temporary"), watched.farm.store_folder());
    std::fs::create_dir_all(&temporary).expect("writable");
    let enter = format!(
        "chmod 755 {folder} && chown -R {USER} {temporary} {store} && for kept in {temporary} {store}; do mount --bind $kept $kept; done
         mount -o remount,bind,ro / && exec setpriv --reuid {USER} --regid 0 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"",
        folder = folder.display(), temporary = temporary.display(), store = store.display(),
    );
    let enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &enter, "sh"];
    let tried =
        Command::new(enter[0]).args(&enter[1..]).args(["sh", "-c", "! touch /framewake-test 2>/dev/null"]).output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: this place does not let a test make its root read-only ({tried:?})");
        return;
    }
    let script = "set -e; test $(id -u) = 1000660000; test $USER = framewake; test $LOGNAME = framewake; ! touch /x; \
        for folder in $HOME $TMPDIR $XDG_CACHE_HOME $XDG_CONFIG_HOME $CUDA_CACHE_PATH $OPTIX_CACHE_PATH; do touch $folder/a; done; \
        grep CapEff /proc/self/status > $0";
    let job = jobs::command_with_output(&["/bin/sh", "-c", script, "{output}"], "1-2", "{frame}.txt");
    let id = watched.farm.submit(&job).await;
    let plain = watched.command();
    let mut command = Command::new(enter[0]);
    command.args(&enter[1..]).arg(plain.get_program());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // It finds places of its own.
    command.env_remove("FRAMEWAKE_SCRATCH").env_remove("FRAMEWAKE_WORKER").env_remove("FRAMEWAKE_WRITABLE");
    command.env("TMPDIR", &temporary);
    let mut worker = watched.run_command(&mut command);
    let view = watched.farm.over(id).await;
    assert_eq!(view.state, JobState::Succeeded, "{:?}\n{}", watched.farm.failures(id).await, worker.log());
    assert_eq!(worker.wait(SOON), i32::from(LEFT), "{}", worker.log());
    let outputs = watched.farm.outputs(id).await;
    let rights = std::fs::read_to_string(store.join(&outputs[0].key)).expect("stored");
    assert_eq!(rights.trim().rsplit('\t').next(), Some("0000000000000000"));
    let left = std::fs::read_dir(temporary.join("framewake-1000660000")).expect("made by the worker").flatten();
    assert_eq!(left.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["cache"], "only the cache stays");
}
