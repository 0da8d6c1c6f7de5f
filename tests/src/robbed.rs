//! A farm whose worker of one function is none (`thief`), beside a real one that works for another project and must come to no harm.

use crate::farm::{SOON, TestFarm, kill};
use crate::parts::built;
use crate::thief::{Loot, Session, join, plant};
use crate::wait::until;
use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::{FunctionKey, JobId, WorkerId};
use framewake_proto::sealed::Opener;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::Credential;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn subjects() -> Subjects {
    Subjects::new("framewake".parse().expect("a good name"))
}

/// Functions, of which `theirs` is rendered by real workers, `hostile` by what is none, and `shared` by both.
pub fn functions(folder: &Path) -> PathBuf {
    let functions = folder.join("functions");
    std::fs::create_dir_all(&functions).expect("the test's folder is writable");
    for (name, max) in [("theirs", 1), ("hostile", 1), ("shared", 2)] {
        let text = format!(
            "name: {name}\ndriver: {{ kind: command, command: [\"{{program}}\", \"{{words}}\"] }}\nscaling: {{ max: {max}, linger: 5s }}\n\
             parameters:\n  program: {{ type: text }}\n  words: {{ type: words, default: [] }}\n"
        );
        std::fs::write(functions.join(format!("{name}.yaml")), text).expect("the test's folder is writable");
    }
    functions
}

pub fn job(function: &str, project: &str, script: &str, frames: &str) -> Value {
    json!({
        "name": function,
        "project": project,
        "steps": [{
            "name": "run",
            "function": function,
            "frames": frames,
            "parameters": { "program": "/bin/sh", "words": ["-c", script] },
        }],
    })
}

/// A farm with a job of theirs, whose first frame is begun and waits, and one whose worker is ours.
#[derive(Debug)]
pub struct Robbed {
    pub farm: TestFarm,
    pub loot: Loot,
    pub theirs: JobId,
    pub ours: JobId,
    pub victim: WorkerId,
    pub victims: FunctionKey,
    pub go: PathBuf,
    pub folder: tempfile::TempDir,
}

impl Robbed {
    pub async fn start(arguments: &[&str]) -> Robbed {
        Robbed::start_with(arguments, |_| {}).await
    }

    /// Where the scheduler has only the seed that it signs with, and can take nothing back.
    pub async fn start_with_one_seed() -> Robbed {
        let cut = |farm: &mut TestFarm| {
            let file = farm.folder().join("nats.seed");
            let text = std::fs::read_to_string(&file).expect("made before");
            std::fs::write(&file, text.lines().next().expect("a seed")).expect("the test's folder is writable");
        };
        Robbed::start_with(&[], cut).await
    }

    async fn start_with(arguments: &[&str], prepare: impl FnOnce(&mut TestFarm)) -> Robbed {
        let folder = tempfile::tempdir().expect("there is room");
        let (program, functions) = (plant(folder.path(), "hostile"), functions(folder.path()));
        let farm = TestFarm::start_guarded(2, false, &functions, |farm| {
            farm.worker = Some(program);
            farm.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
            prepare(farm);
        })
        .await;
        let go = folder.path().join("go");
        let wait = format!("echo begun; until test -e {go}; do sleep 0.05; done; echo through", go = go.display());
        let mut long = job("theirs", "theirs", &wait, "1-40");
        long["steps"][0]["timeouts"] = json!({ "silent": "2m" });
        let theirs = farm.submit(&long).await;
        let ours = farm.submit(&job("hostile", "ours", "true", "1-3")).await;
        let loot = Loot::find(folder.path(), &[]).await;
        let victim = until(SOON, "their worker is at work", || async {
            let attempts = farm.client.attempts(theirs, &PartQuery::default()).await.ok()?;
            attempts.items.first().map(|attempt| attempt.worker.clone())
        })
        .await;
        let victims = "theirs@1".parse().expect("a good key");
        Robbed { farm, loot, theirs, ours, victim, victims, go, folder }
    }

    pub fn url(&self) -> String {
        self.farm.nats.url()
    }

    /// A credential, as a worker gets one.
    pub async fn join(&self) -> Credential {
        let joined = join(&self.url(), &subjects(), &self.loot, &Opener::make(), "").await;
        joined.expect("the first to come is let in")
    }

    pub async fn session(&self, credential: &Credential) -> Session {
        let inbox = subjects().inbox(&self.loot.worker);
        Session::open(&self.url(), &credential.jwt, &inbox).await.expect("it is let in")
    }

    /// The job that it tried to harm ends as if nobody had, by the worker that had it.
    pub async fn unharmed(self) {
        std::fs::write(&self.go, "").expect("writable");
        let view = self.farm.over(self.theirs).await;
        assert_eq!((view.state, view.tasks.done), (JobState::Succeeded, 40), "{}", self.farm.scheduler_log());
        let attempts = until(SOON, "the last word of its work is heard", || async {
            let attempts = self.farm.client.attempts(self.theirs, &PartQuery::default()).await.ok()?.items;
            attempts.iter().all(|attempt| attempt.outcome != AttemptOutcome::Running).then_some(attempts)
        })
        .await;
        for attempt in &attempts {
            assert_eq!((&attempt.worker, attempt.outcome), (&self.victim, AttemptOutcome::Finished), "{attempts:?}");
        }
        kill(self.loot.pid);
    }
}

/// As `framewake-scheduler` prints one.
pub fn join_token(seed: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(built("framewake-scheduler"));
    let output = command.arg("join-token").arg("--nats-seed").arg(seed).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
