//! Somebody in the place of a worker: a program that the farm starts as one, and that hands over what a worker is given.

use async_nats::{Auth, Client, ConnectError, ConnectOptions, Event};
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::sealed::Opener;
use framewake_proto::subjects::Subjects;
use framewake_proto::wire::{Credential, Join, JoinAnswer};
use prost::Message;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

use crate::farm::SOON;
use crate::parts::built;
use crate::wait::until;

/// How long an answer is waited for that should not come.
const PATIENCE: Duration = Duration::from_millis(700);

/// A worker program that is what it should be, but for this function: there it leaves all that it was given in `loot`, and waits.
pub fn plant(folder: &Path, function: &str) -> PathBuf {
    plant_if(folder, function, "true")
}

/// The same once this command says so; until then it is what it should be there, too.
pub fn plant_if(folder: &Path, function: &str, condition: &str) -> PathBuf {
    let (program, loot) = (folder.join("worker.sh"), folder.join("loot"));
    std::fs::create_dir_all(&loot).expect("the test's folder is writable");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*'--function {function}@'*) if {condition}; then\n  note={loot}/$$\n  tr '\\0' '\\n' < /proc/$$/environ > $note.new\n  \
         echo \"ARGUMENTS=$*\" >> $note.new\n  mv $note.new $note\n  exec sleep 600\nfi;;\nesac\nexec {worker} \"$@\"\n",
        loot = loot.display(),
        worker = built("framewake-worker").display(),
    );
    std::fs::write(&program, script).expect("the test's folder is writable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
    program
}

/// What one such process was given.
#[derive(Debug, Clone)]
pub struct Loot {
    pub pid: u32,
    pub environment: BTreeMap<String, String>,
    pub worker: WorkerId,
    pub function: FunctionKey,
}

impl Loot {
    /// Waits until a process has left it that is not among those known.
    pub async fn find(folder: &Path, known: &[u32]) -> Loot {
        let folder = folder.join("loot");
        until(SOON, "the farm has started what is no worker", || async {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let pid = pids.filter(|pid| !known.contains(pid)).min()?;
            Some(Loot::read(pid, &folder.join(pid.to_string())))
        })
        .await
    }

    fn read(pid: u32, file: &Path) -> Loot {
        let text = std::fs::read_to_string(file).expect("it is there whole");
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let environment: BTreeMap<String, String> =
            lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let words: Vec<&str> = environment["ARGUMENTS"].split(' ').collect();
        let told = |name: &str| {
            let at = words.iter().position(|word| *word == name).expect("it is told");
            words[at + 1]
        };
        let (worker, function) = (told("--worker").parse(), told("--function").parse());
        Loot { pid, worker: worker.expect("a good id"), function: function.expect("a good key"), environment }
    }

    pub fn token(&self) -> &str {
        &self.environment["FRAMEWAKE_JOIN_TOKEN"]
    }

    fn invitation(&self) -> String {
        self.environment.get("FRAMEWAKE_INVITATION").cloned().unwrap_or_default()
    }

    /// The same, with something else in its environment.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Loot {
        let mut loot = self.clone();
        loot.environment.insert(name.to_owned(), value.to_owned());
        loot
    }
}

/// A connection with somebody's credential, and what the server refuses on it.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    refused: mpsc::UnboundedReceiver<String>,
}

impl Session {
    pub async fn open(url: &str, jwt: &str, inbox: &str) -> Result<Session, ConnectError> {
        let jwt = jwt.to_owned();
        let (said, refused) = mpsc::unbounded_channel();
        let options = ConnectOptions::with_auth_callback(move |_| {
            let jwt = jwt.clone();
            async move {
                let mut auth = Auth::new();
                auth.jwt = Some(jwt);
                Ok(auth)
            }
        });
        let options = options.custom_inbox_prefix(inbox).request_timeout(Some(PATIENCE)).event_callback(move |event| {
            let said = said.clone();
            async move {
                let text = match event {
                    Event::ServerError(error) => error.to_string(),
                    Event::Disconnected => "disconnected".to_owned(),
                    _ => return,
                };
                let _the_test_is_over = said.send(text);
            }
        });
        Ok(Session { client: options.connect(url).await?, refused })
    }

    /// The answer, if one comes.
    pub async fn ask<A: Message + Default>(&self, subject: String, body: &impl Message) -> Option<A> {
        let answer = self.client.request(subject, body.encode_to_vec().into()).await.ok()?;
        Some(A::decode(answer.payload).expect("an answer"))
    }

    /// The server lets nothing through to this subject, and says so.
    pub async fn may_not_publish(&mut self, subject: &str, body: &[u8]) {
        self.client.publish(subject.to_owned(), body.to_vec().into()).await.expect("it is on its way");
        self.hears(&format!("publish to \"{subject}\"")).await;
    }

    /// Nothing is heard of what goes there.
    pub async fn may_not_hear(&mut self, subject: &str) {
        let _none = self.client.subscribe(subject.to_owned()).await.expect("it is on its way");
        self.hears(&format!("subscription to \"{subject}\"")).await;
    }

    /// Waits for these words of the server.
    pub async fn hears(&mut self, words: &str) {
        self.client.flush().await.ok();
        let heard = async {
            while let Some(said) = self.refused.recv().await {
                if said.to_lowercase().contains(&words.to_lowercase()) {
                    return;
                }
            }
            panic!("the connection is closed");
        };
        tokio::time::timeout(SOON, heard).await.unwrap_or_else(|_| panic!("the server does not say: {words}"));
    }
}

/// What the scheduler says to somebody with a join token.
pub async fn join(
    url: &str,
    subjects: &Subjects,
    loot: &Loot,
    opener: &Opener,
    former: &str,
) -> Result<Credential, String> {
    let session =
        Session::open(url, loot.token(), &subjects.joining_inbox()).await.map_err(|error| error.to_string())?;
    let join = Join { key: opener.key().to_vec(), former: former.to_owned(), invitation: loot.invitation() };
    let asked: Option<JoinAnswer> = session.ask(subjects.join(&loot.function, &loot.worker), &join).await;
    let answer = asked.ok_or("no answer")?;
    if !answer.refused.is_empty() {
        return Err(answer.refused);
    }
    let opened = opener.open(&answer.credential).map_err(|error| error.to_string())?;
    Credential::decode(&*opened).map_err(|error| error.to_string())
}
