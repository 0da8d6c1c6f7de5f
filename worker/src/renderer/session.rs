//! The `session` driver: a renderer that stays loaded and takes orders from its bridge, one JSON
//! object a line, over a Unix socket of its own.

use super::monitor::{Limit, Monitor};
use super::process::{self, Event, Launch, Process};
use super::{Failure, GRACE, GRACE_CANCEL, Output, Rendered, Setup, Task, Watch};
use crate::rules::Progress;
use framewake_proto::chain::Chain;
use framewake_proto::function::{Bridge, Piece, pieces};
use framewake_proto::job::ParameterValue;
use framewake_proto::objects::Digest;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{NOTE_MAX, clip};
use framewake_reading::bridge::{MESSAGE_SIZE_MAX, Messages, Tell};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// Longest address of a Unix socket that every system takes.
const SOCKET_PATH_MAX: usize = 100;

/// Bytes taken from a bridge at once.
const RECEIVE_SIZE: usize = 16 * 1024;

/// Files of the Blender bridge; the first is the one to run.
const BLENDER: [(&str, &str); 2] =
    [("bridge.py", include_str!("bridges/blender.py")), ("run_times.py", include_str!("bridges/run_times.py"))];

/// Worker -> bridge.
#[derive(Debug, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Ask<'a> {
    Open { inputs: &'a Path, parameters: &'a BTreeMap<String, ParameterValue>, gpu: bool },
    Render { frame: i64, output: &'a Path },
}

/// What a scene was opened with; the same again needs no opening.
#[derive(Debug, Clone, PartialEq)]
struct Opened {
    inputs: Digest,
    parameters: BTreeMap<String, ParameterValue>,
}

/// At most one loaded renderer.
#[derive(Debug, Default)]
pub struct Session {
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    process: Process,
    link: Link,
    renderer: String,
    opened: Option<Opened>,
    folder: PathBuf,
}

/// Why a conversation with the bridge ended.
enum Broken {
    Stopped,
    Limit(Limit),
    Exited(ExitStatus),
    /// The bridge speaks nonsense or hung up.
    Lost(String),
}

impl Session {
    /// Renders one task, starting the renderer and opening the scene where that is needed.
    pub async fn render(
        &mut self,
        setup: &Setup,
        bridge: Bridge,
        command: &[String],
        task: &Task<'_>,
        watch: &Watch,
    ) -> Rendered {
        let mut monitor = Monitor::new(watch, &setup.rules, task.step.order.timeouts, task.task);
        if let Some(live) = &mut self.live {
            monitor.read(&live.process.read_ready());
            // To take it for the answer to the next question would put each later answer with the wrong frame.
            if let Err(why) = live.link.has_nothing_to_say() {
                watch.log.worker_says(&format!("the renderer is started again: {why}"));
                self.close().await;
            }
        }
        if self.live.is_none() {
            match Live::start(setup, bridge, command) {
                Ok((mut live, listener)) => match live.greet(&listener, &mut monitor, watch).await {
                    Ok(()) => self.live = Some(live),
                    Err(broken) => return live.bury(broken, &mut monitor).await,
                },
                Err(failure) => return Rendered::Failed(failure),
            }
        }
        let live = self.live.as_mut().expect("it was just started");
        match live.work(setup, task, &mut monitor, watch).await {
            Ok(rendered) => rendered,
            Err(broken) => {
                let live = self.live.take().expect("it was used just now");
                live.bury(broken, &mut monitor).await
            }
        }
    }

    /// Ends the renderer.
    pub async fn close(&mut self) {
        if let Some(live) = self.live.take() {
            live.close(GRACE).await;
        }
    }
}

impl Live {
    fn start(setup: &Setup, bridge: Bridge, command: &[String]) -> Result<(Live, UnixListener), Failure> {
        let here = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(Verdict::RetryElsewhere, format!("cannot {what}: {error}"))
        };
        let folder = session_folder(setup).map_err(|error| here("make a folder for the session", &error))?;
        let files = match bridge {
            Bridge::Blender => BLENDER,
        };
        for (name, text) in files {
            std::fs::write(folder.join(name), text).map_err(|error| here("write the bridge", &error))?;
        }
        let script = folder.join(files[0].0);
        let socket = folder.join("s");
        let listener = UnixListener::bind(&socket).map_err(|error| here("listen for the bridge", &error))?;
        let mut words = command.iter().map(|word| fill(word, &script, &socket));
        let name = words.next().unwrap_or_default();
        let program =
            process::find_program(&name, &setup.path).map_err(|error| error.failure(Verdict::RetryElsewhere))?;
        let launch = Launch {
            program,
            arguments: words.map(Into::into).collect(),
            folder: folder.clone(),
            environment: setup.environment(),
        };
        let process = Process::start(&launch, &setup.confinement)
            .map_err(|error| Failure::new(Verdict::RetryElsewhere, Chain(&error).to_string()))?;
        let live = Live { process, link: Link::default(), renderer: String::new(), opened: None, folder };
        Ok((live, listener))
    }

    /// Waits until the bridge has connected and said which renderer it is.
    async fn greet(&mut self, listener: &UnixListener, monitor: &mut Monitor<'_>, watch: &Watch) -> Result<(), Broken> {
        let usage = self.process.usage();
        loop {
            tokio::select! {
                biased;
                () = watch.stop.cancelled() => return Err(Broken::Stopped),
                limit = monitor.limit(&usage) => return Err(Broken::Limit(limit)),
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(|error| Broken::Lost(error.to_string()))?;
                    self.link.stream = Some(stream);
                    break;
                }
                event = self.process.next() => match event {
                    Event::Output(lines) => monitor.read(&lines),
                    Event::Exited(status) => return Err(Broken::Exited(status)),
                }
            }
        }
        match self.next(monitor, watch).await? {
            Tell::Hello { renderer } => {
                watch.log.worker_says(&format!("{} is loaded", clip(&renderer, NOTE_MAX)));
                clip(&renderer, NOTE_MAX).clone_into(&mut self.renderer);
                Ok(())
            }
            other => Err(Broken::Lost(format!("it said `{}` before hello", other.describe()))),
        }
    }

    async fn work(
        &mut self,
        setup: &Setup,
        task: &Task<'_>,
        monitor: &mut Monitor<'_>,
        watch: &Watch,
    ) -> Result<Rendered, Broken> {
        let parameters = &task.step.order.parameters;
        let wanted = Opened { inputs: task.inputs.content, parameters: parameters.clone() };
        if self.opened.as_ref() != Some(&wanted) {
            self.opened = None;
            let gpu = setup.function.resources.gpus > 0;
            self.ask(&Ask::Open { inputs: &task.inputs.folder, parameters, gpu }).await?;
            match self.answer(monitor, watch).await? {
                Tell::Opened => self.opened = Some(wanted),
                Tell::Failed { message, verdict } => return Ok(failed(monitor, &message, verdict)),
                other => return Err(Broken::Lost(format!("it answered `open` with `{}`", other.describe()))),
            }
        }
        // Opening is load time, not the frame's.
        monitor.begin_frame(task.task);
        watch.begin();
        let extension = task.step.extension().unwrap_or_else(|| "png".to_owned());
        let output = task.work.join(format!("output.{extension}"));
        self.ask(&Ask::Render { frame: task.frame, output: &output }).await?;
        let told = self.answer(monitor, watch).await?;
        // What it printed before it answered is in the pipe already.
        monitor.read(&self.process.read_ready());
        match told {
            Tell::Rendered { path, device, memory_peak_bytes } => {
                if let Some(failure) = monitor.finding() {
                    return Ok(Rendered::Failed(failure));
                }
                if path != output {
                    // Perhaps the answer to an earlier question: who answers twice is not to be understood any more.
                    let path = path.display().to_string();
                    let message = format!("it wrote `{}`, which is not where it should", clip(&path, NOTE_MAX));
                    return Err(Broken::Lost(message));
                }
                Ok(Rendered::Done(Output {
                    path: task.step.output.is_some().then_some(output),
                    device: clip(&device, NOTE_MAX).to_owned(),
                    renderer: self.renderer.clone(),
                    memory_peak_bytes,
                    elapsed: monitor.elapsed(),
                    gpu: monitor.gpu_use(),
                    said: monitor.said(),
                }))
            }
            Tell::Failed { message, verdict } => Ok(failed(monitor, &message, verdict)),
            other => Err(Broken::Lost(format!("it answered `render` with `{}`", other.describe()))),
        }
    }

    async fn ask(&mut self, ask: &Ask<'_>) -> Result<(), Broken> {
        let mut text = serde_json::to_vec(ask).map_err(|error| Broken::Lost(error.to_string()))?;
        text.push(b'\n');
        self.link.send(&text).await.map_err(|error| Broken::Lost(error.to_string()))
    }

    /// The next message that is no progress.
    async fn answer(&mut self, monitor: &mut Monitor<'_>, watch: &Watch) -> Result<Tell, Broken> {
        loop {
            match self.next(monitor, watch).await? {
                Tell::Progress { permille, note } => {
                    monitor.hear();
                    monitor.tell(Progress { permille: permille.min(1000), note: clip(&note, NOTE_MAX).to_owned() });
                }
                told => return Ok(told),
            }
        }
    }

    async fn next(&mut self, monitor: &mut Monitor<'_>, watch: &Watch) -> Result<Tell, Broken> {
        let usage = self.process.usage();
        loop {
            if let Some(told) = self.link.messages.take().map_err(|nonsense| Broken::Lost(nonsense.to_string()))? {
                return Ok(told);
            }
            tokio::select! {
                biased;
                () = watch.stop.cancelled() => return Err(Broken::Stopped),
                limit = monitor.limit(&usage) => return Err(Broken::Limit(limit)),
                event = self.process.next() => match event {
                    Event::Output(lines) => monitor.read(&lines),
                    Event::Exited(status) => return Err(Broken::Exited(status)),
                },
                received = self.link.receive() => {
                    if let Err(why) = received {
                        // The end of the process says more than the end of its socket.
                        return Err(self.exit_or(why, monitor).await);
                    }
                }
            }
        }
    }

    async fn exit_or(&mut self, why: String, monitor: &mut Monitor<'_>) -> Broken {
        let soon = tokio::time::Instant::now() + GRACE;
        loop {
            match tokio::time::timeout_at(soon, self.process.next()).await {
                Ok(Event::Output(lines)) => monitor.read(&lines),
                Ok(Event::Exited(status)) => return Broken::Exited(status),
                Err(_) => return Broken::Lost(why),
            }
        }
    }

    /// Ends a session that is of no more use, and says what that means for its task.
    async fn bury(mut self, broken: Broken, monitor: &mut Monitor<'_>) -> Rendered {
        let grace = if matches!(broken, Broken::Stopped) { GRACE_CANCEL } else { GRACE };
        let lines = self.process.end(grace).await;
        monitor.read(&lines);
        let _best_effort = std::fs::remove_dir_all(&self.folder);
        match broken {
            Broken::Stopped => Rendered::Stopped,
            Broken::Limit(limit) => Rendered::Failed(monitor.hung(limit)),
            Broken::Exited(status) => Rendered::Failed(monitor.ended(status)),
            Broken::Lost(why) => Rendered::Failed(monitor.finding().unwrap_or_else(|| {
                monitor.failure(Verdict::RetrySame, &format!("the renderer's bridge was lost: {why}"))
            })),
        }
    }

    async fn close(mut self, grace: std::time::Duration) {
        // The bridge leaves when its socket closes; TERM is for one that doesn't.
        self.link.stream = None;
        self.process.end(grace).await;
        let _best_effort = std::fs::remove_dir_all(&self.folder);
    }
}

fn failed(monitor: &Monitor<'_>, message: &str, verdict: Option<Verdict>) -> Rendered {
    Rendered::Failed(match (verdict, monitor.finding()) {
        (Some(verdict), _) => monitor.failure(verdict, message),
        (None, Some(failure)) => failure,
        (None, None) => monitor.failure(Verdict::RetrySame, message),
    })
}

fn fill(word: &str, script: &Path, socket: &Path) -> String {
    let value = |piece| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Placeholder("bridge") => script.display().to_string(),
        Piece::Placeholder("socket") => socket.display().to_string(),
        // Checked when the function was added.
        Piece::Placeholder(other) => format!("{{{other}}}"),
    };
    pieces(word).map(value).collect()
}

/// A folder for the socket and the script: in the scratch folder, or where the address is short enough.
fn session_folder(setup: &Setup) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let mut folder = setup.folders.work.join("session");
    if folder.as_os_str().len() + 2 > SOCKET_PATH_MAX {
        folder = std::env::temp_dir().join(format!("framewake-{}", super::leftovers::worker_mark()));
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?,
    }
    Ok(folder)
}

/// The socket to the bridge, cut into messages.
#[derive(Debug, Default)]
struct Link {
    stream: Option<UnixStream>,
    messages: Messages,
}

impl Link {
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Some(stream) => stream.write_all(bytes).await,
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether the bridge is as silent as it should be when it was asked nothing; how far its work is it may say.
    fn has_nothing_to_say(&mut self) -> Result<(), String> {
        // A message at most: whatever is beyond is read when something is asked.
        for _ in 0..MESSAGE_SIZE_MAX / RECEIVE_SIZE {
            while let Some(told) = self.messages.take().map_err(|nonsense| nonsense.to_string())? {
                if !matches!(told, Tell::Progress { .. }) {
                    return Err(format!("its bridge said `{}` without being asked", told.describe()));
                }
            }
            if !self.read_ready()? {
                return Ok(());
            }
        }
        Err("its bridge does not stop talking".to_owned())
    }

    /// Waits for more bytes. Losing the future loses nothing.
    async fn receive(&mut self) -> Result<(), String> {
        let stream = self.stream.as_ref().ok_or("it is not connected")?;
        stream.readable().await.map_err(|error| error.to_string())?;
        self.read_ready().map(|_| ())
    }

    /// Takes what has come; whether there was anything.
    fn read_ready(&mut self) -> Result<bool, String> {
        let stream = self.stream.as_ref().ok_or("it is not connected")?;
        let mut buffer = [0; RECEIVE_SIZE];
        match stream.try_read(&mut buffer) {
            Ok(0) => Err("it hung up".to_owned()),
            Ok(count) => {
                self.messages.push(&buffer[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }
}
