//! The provider behind a keeper, as in a scheduler, with real processes, which only pretend to be workers.

use super::*;
use crate::keeper::{self, Keeper, News, Pace};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::Name;
use process::began;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(20);

/// A data folder and a shell script as the worker program.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(script: &str) -> Place {
        let folder = tempfile::tempdir().expect("room for a folder");
        let program = folder.path().join("worker");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        Place { folder }
    }

    fn config(&self) -> LocalConfig {
        LocalConfig {
            data: self.folder.path().to_owned(),
            worker: self.folder.path().join("worker"),
            max: 1,
            surroundings: Surroundings {
                nats: "nats://127.0.0.1:1".to_owned(),
                farm: "test".to_owned(),
                store: "file:///nowhere".to_owned(),
                environment: BTreeMap::new(),
            },
        }
    }

    fn worker_folder(&self) -> PathBuf {
        self.folder.path().join("workers").join("w1")
    }

    /// The worker's process, if it runs.
    fn process(&self) -> Option<Process> {
        process::running(&self.folder.path().join("workers")).remove(&w1()).map(|found| found.process)
    }

    /// Runs a provider as a scheduler would.
    fn run(&self, end_workers: bool) -> Running {
        let provider = LocalProvider::new(self.config()).expect("the folder is good");
        let (news_in, news) = mpsc::channel(100);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let pool = "local".parse().expect("a good name");
        let keeper = Keeper::new(pool, Box::new(provider), Pace::default(), news_in);
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(commands_out, end_workers, stop.clone()));
        Running { news, commands, stop, task }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            process.signal(Signal::KILL);
        }
    }
}

struct Running {
    news: mpsc::Receiver<(Name, News)>,
    commands: mpsc::UnboundedSender<keeper::Command>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(&self) {
        let start = Start {
            worker: w1(),
            function: any(),
            spec: Arc::new(spec()),
            gpus: Vec::new(),
            linger: Duration::from_millis(1500),
            join_token: None,
            invitation: None,
        };
        self.tell(keeper::Command::Start(start));
    }

    fn tell(&self, command: keeper::Command) {
        self.commands.send(command).expect("the keeper runs");
    }

    /// The next news that is not about how far a start has come.
    async fn next(&mut self) -> News {
        loop {
            let news = tokio::time::timeout(SOON, self.news.recv()).await.expect("news");
            let (_, news) = news.expect("the keeper runs");
            if !matches!(news, News::Taken { .. } | News::Stepped { .. } | News::Looked) {
                return news;
            }
        }
    }

    /// Takes the end of the worker in, as the farm does.
    async fn end(&mut self) -> End {
        match self.next().await {
            News::Ended { worker, end } => {
                assert_eq!(worker, w1());
                self.tell(keeper::Command::Forget(worker));
                end
            }
            other => panic!("not the end of a worker: {other:?}"),
        }
    }

    async fn looked(&mut self) {
        let news = tokio::time::timeout(SOON, self.news.recv()).await.expect("news");
        assert_eq!(news.map(|(_, news)| news), Some(News::Looked));
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("it ends").expect("without a panic");
    }
}

fn w1() -> WorkerId {
    "w1".parse().expect("a good id")
}

fn any() -> FunctionKey {
    "any@3".parse().expect("a good key")
}

fn spec() -> FunctionSpec {
    let spec = serde_json::json!({ "name": "any", "driver": { "kind": "command", "command": ["true"] } });
    serde_json::from_value(spec).expect("a good function")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !condition() {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[test]
fn a_scheduler_that_starts_nobody_here_needs_no_program() {
    let place = Place::new("exit 0");
    let nowhere = || LocalConfig { worker: "/nowhere/worker".into(), ..place.config() };
    let error = LocalProvider::new(nowhere()).expect_err("nobody could be started");
    assert!(error.to_string().contains("`/nowhere/worker` is missing"), "{error}");
    LocalProvider::new(LocalConfig { max: 0, ..nowhere() }).expect("nobody will be");
}

#[tokio::test]
async fn a_worker_is_told_what_it_needs_and_its_folder_goes_with_it() {
    let place =
        Place::new("env | grep ^FRAMEWAKE_ | sort > ../../../told; echo \"$*\" >> ../../../told; pwd >> ../../../told");
    let mut running = place.run(false);
    running.start();
    assert_eq!(running.end().await, End::Left);
    let data = place.folder.path().display();
    let told = fs::read_to_string(place.folder.path().join("told")).expect("it wrote it");
    // Among what it inherits.
    for expected in [
        &format!("FRAMEWAKE_CACHE={data}/cache"),
        "FRAMEWAKE_FARM=test",
        "FRAMEWAKE_LINGER_MS=1500",
        "FRAMEWAKE_NATS_URL=nats://127.0.0.1:1",
        "FRAMEWAKE_STORE=file:///nowhere",
        &format!("--worker w1 --function any@3 --scratch {data}/workers/w1/scratch"),
        &format!("{data}/workers/w1/scratch"),
    ] {
        assert!(told.lines().any(|line| line == expected), "{expected} is not in\n{told}");
    }
    until("its folder is gone", || !place.worker_folder().exists()).await;
}

#[tokio::test]
async fn the_end_of_a_worker_is_told_with_its_last_words_and_its_status() {
    let place = Place::new("echo starting; echo 'framewake-worker: blender is not installed' >&2; echo; exit 78");
    let mut running = place.run(false);
    running.start();
    let reason = "framewake-worker: blender is not installed (exit code 78)".to_owned();
    assert_eq!(running.end().await, End::Failed { reason });
    let place = Place::new("kill -KILL $$");
    let mut running = place.run(false);
    running.start();
    assert_eq!(
        running.end().await,
        End::Failed { reason: "killed by signal 9 (by hand, or because memory ran out)".to_owned() }
    );
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_told_like_any_end() {
    let place = Place::new("");
    fs::set_permissions(place.folder.path().join("worker"), fs::Permissions::from_mode(0o644)).expect("ours");
    let mut running = place.run(false);
    running.start();
    let End::Failed { reason } = running.end().await else { panic!("it did not start") };
    assert!(reason.contains("does not start: Permission denied"), "{reason}");
}

#[tokio::test]
async fn a_worker_asked_for_twice_is_started_once() {
    let place = Place::new("echo x >> ../../../started; while :; do sleep 0.1; done");
    let mut running = place.run(false);
    running.start();
    running.start();
    until("it runs", || place.process().is_some()).await;
    until("it has begun", || place.folder.path().join("started").exists()).await;
    let only = place.process().expect("there").pid;
    running.start();
    // The keeper works in order: this one is known to be ended, so the three before it are dealt with.
    running.tell(keeper::Command::Stop(w1()));
    assert!(matches!(running.end().await, End::Failed { .. }));
    assert!(began(only).is_none());
    assert_eq!(fs::read_to_string(place.folder.path().join("started")).expect("there"), "x\n");
}

#[tokio::test]
async fn a_new_scheduler_finds_the_worker_of_the_last_one_and_hears_of_its_end() {
    let place = Place::new("while :; do sleep 0.1; done");
    let mut first = place.run(false);
    first.looked().await;
    first.start();
    until("it runs", || place.process().is_some()).await;
    first.stop().await;
    let process = place.process().expect("it runs");
    assert!(process.is_alive(), "a scheduler that stops leaves its workers alone");
    let mut second = place.run(false);
    assert_eq!(second.next().await, News::Found { worker: w1(), function: any(), gpus: Vec::new() });
    second.start();
    process.signal(Signal::KILL);
    assert_eq!(second.end().await, End::Left);
    until("its folder is gone", || !place.worker_folder().exists()).await;
}

#[tokio::test]
async fn the_end_of_a_worker_that_died_unseen_is_told_and_workers_of_other_farms_are_left_alone() {
    let place = Place::new("while :; do sleep 0.1; done");
    let other = Place::new("while :; do sleep 0.1; done");
    let others = other.run(false);
    others.start();
    until("it runs", || other.process().is_some()).await;
    // What one that died unseen left: of the same name, with its scratch elsewhere.
    fs::create_dir_all(place.worker_folder().join("scratch")).expect("writable");
    fs::write(place.worker_folder().join(FUNCTION), any().to_string()).expect("writable");
    let mut running = place.run(true);
    running.looked().await;
    // Nobody is declared dead before what he last reported is counted.
    assert!(running.news.try_recv().is_err());
    running.tell(keeper::Command::Drained);
    assert_eq!(running.end().await, End::Failed { reason: ENDED_BEFORE.to_owned() });
    until("what the dead left is swept", || !place.worker_folder().exists()).await;
    running.stop().await;
    assert!(other.process().is_some_and(Process::is_alive));
    others.stop().await;
}

#[tokio::test]
async fn a_child_of_a_worker_is_not_taken_for_the_worker() {
    // A subshell has the command line of its shell; it outlives the worker.
    let place = Place::new("(while :; do sleep 0.1; done) & echo $! > ../../../child");
    let mut running = place.run(false);
    running.start();
    assert_eq!(running.end().await, End::Left);
    let child: i32 =
        fs::read_to_string(place.folder.path().join("child")).expect("there").trim().parse().expect("a pid");
    assert_eq!(place.process(), None);
    let child = Process { pid: child, began: began(child).expect("it runs") };
    child.signal(Signal::KILL);
    running.stop().await;
}

#[tokio::test]
async fn workers_that_do_not_leave_are_made_to_when_dev_ends() {
    let place =
        Place::new("trap 'echo asked >> ../../../asked' TERM; echo > ../../../ready; while :; do sleep 0.1; done");
    let running = place.run(true);
    running.start();
    until("it listens", || place.folder.path().join("ready").exists()).await;
    let process = place.process().expect("it runs");
    running.stop().await;
    assert!(!process.is_alive());
    assert_eq!(fs::read_to_string(place.folder.path().join("asked")).expect("it was asked"), "asked\nasked\n");
}
