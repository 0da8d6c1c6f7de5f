//! Runs a function's renderer: as one process for each frame or chunk, or as a session that stays
//! loaded.

pub mod command;
pub mod confinement;
pub mod keeper;
pub mod leftovers;
mod monitor;
pub mod process;
pub mod session;
mod usage;
pub mod words;

use crate::gpu::{GpuUse, Gpus};
use crate::inputs::Staged;
use crate::logs::AttemptLog;
use crate::rules::{Progress, Rules};
use confinement::Confinement;
use framewake_proto::frames::FrameSet;
use framewake_proto::function::{Bridge, Driver, FunctionSpec, ParameterKind};
use framewake_proto::order::StepOrder;
use framewake_proto::template::OutputTemplate;
use framewake_proto::verdict::Verdict;
use process::{Event, Launch, Process};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{SetOnce, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a renderer may take to end itself after TERM.
pub const GRACE: Duration = Duration::from_secs(2);
/// The same when the job was canceled: a stop shall be done within 2 s in all.
pub const GRACE_CANCEL: Duration = Duration::from_millis(500);

/// How long [`Setup::check`] waits for a program's answer: a worker that has said hello and is silent is soon taken for lost.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// Where renderers and their libraries keep what they like to find again, in [`Folders::home`].
const HOME_FOLDERS: [(&str, &str); 6] = [
    ("XDG_CACHE_HOME", ".cache"),
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
    ("CUDA_CACHE_PATH", ".cache/cuda"),
    // Its default is one folder for all in /var/tmp.
    ("OPTIX_CACHE_PATH", ".cache/optix"),
];

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub verdict: Verdict,
    pub message: String,
    /// Log lines that show it.
    pub evidence: String,
}

impl Failure {
    pub fn new(verdict: Verdict, message: impl Into<String>) -> Failure {
        Failure { verdict, message: message.into(), evidence: String::new() }
    }
}

/// One step, read from its order.
#[derive(Debug)]
pub struct Step {
    pub order: StepOrder,
    pub frames: FrameSet,
    pub output: Option<OutputTemplate>,
}

#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("the order of step `{0}` has bad frames")]
    Frames(String, #[source] framewake_proto::frames::FramesError),
    #[error("the order of step `{0}` has a bad output template")]
    Output(String, #[source] framewake_proto::template::TemplateError),
}

impl Step {
    pub fn new(order: StepOrder) -> Result<Step, StepError> {
        let name = || order.step_name.to_string();
        let frames: FrameSet = order.frames.parse().map_err(|error| StepError::Frames(name(), error))?;
        let output = order.output.as_deref().map(|text| OutputTemplate::parse(text, frames.len()));
        let output = output.transpose().map_err(|error| StepError::Output(name(), error))?;
        Ok(Step { order, frames, output })
    }

    /// Extension of the outputs, as the template writes it.
    pub fn extension(&self) -> Option<String> {
        let name = self.output.as_ref()?.name(0);
        name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
    }
}

/// Folders of one worker, in its scratch folder.
#[derive(Debug, Clone)]
pub struct Folders {
    scratch: PathBuf,
    /// Locked: a second worker in the same folder would take the files from under the first.
    _lock: Arc<File>,
    /// `HOME` of the renderers: caches of compiled kernels survive from task to task.
    pub home: PathBuf,
    pub temporary: PathBuf,
    /// A folder in here for each process.
    pub work: PathBuf,
    pub inputs: PathBuf,
}

impl Folders {
    /// Makes the folders in `scratch`, without what an earlier worker left there.
    pub fn make(scratch: &Path) -> std::io::Result<Folders> {
        std::fs::create_dir_all(scratch)?;
        let scratch = scratch.canonicalize()?;
        let lock = File::open(&scratch)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(std::io::Error::other("another worker uses it"));
        }
        let folders = Folders {
            _lock: Arc::new(lock),
            home: scratch.join("home"),
            temporary: scratch.join("tmp"),
            work: scratch.join("work"),
            inputs: scratch.join("inputs"),
            scratch,
        };
        for folder in folders.all() {
            match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => std::fs::create_dir_all(folder)?,
            }
        }
        for (_, folder) in HOME_FOLDERS {
            std::fs::create_dir_all(folders.home.join(folder))?;
        }
        Ok(folders)
    }

    /// Where renderers may write.
    pub fn writable(&self) -> [PathBuf; 3] {
        [self.home.clone(), self.temporary.clone(), self.work.clone()]
    }

    /// Removes everything a renderer wrote. Best effort: the worker is leaving.
    pub fn remove(&self) {
        for folder in self.all() {
            let _best_effort = std::fs::remove_dir_all(folder);
        }
        let _still_holds_the_cache = std::fs::remove_dir(&self.scratch);
    }

    fn all(&self) -> [&PathBuf; 4] {
        [&self.home, &self.temporary, &self.work, &self.inputs]
    }
}

/// What is the same for all tasks of an attempt, and how the renderer is watched.
#[derive(Debug)]
pub struct Watch {
    pub log: AttemptLog,
    pub progress: watch::Sender<Option<(u32, Progress)>>,
    /// The attempt is to end now.
    pub stop: CancellationToken,
    pub chunk_deadline: Instant,
    pub gpus: Gpus,
    /// When the renderer was first ready to render.
    began: SetOnce<Instant>,
}

impl Watch {
    pub fn new(
        log: AttemptLog,
        progress: watch::Sender<Option<(u32, Progress)>>,
        stop: CancellationToken,
        chunk_deadline: Instant,
        gpus: Gpus,
    ) -> Watch {
        Watch { log, progress, stop, chunk_deadline, gpus, began: SetOnce::new() }
    }

    /// The renderer begins to render; what was before is load time.
    fn begin(&self) {
        let _only_the_first_counts = self.began.set(Instant::now());
    }

    pub fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }

    /// Comes back once the renderer is ready to render, with the time when it was.
    pub async fn until_began(&self) -> Instant {
        *self.began.wait().await
    }
}

/// One task to render.
#[derive(Debug)]
pub struct Task<'a> {
    pub step: &'a Step,
    pub inputs: &'a Staged,
    pub task: u32,
    pub frame: i64,
    /// Folder of its own, which exists.
    pub work: &'a Path,
}

/// What came of a task.
#[derive(Debug)]
pub enum Rendered {
    Done(Output),
    Failed(Failure),
    /// The stop came first.
    Stopped,
}

/// A file that the renderer says is the output. Not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `None` for a step without output.
    pub path: Option<PathBuf>,
    pub device: String,
    pub renderer: String,
    pub memory_peak_bytes: u64,
    pub elapsed: Duration,
    /// What its GPUs did, by their driver; `None` where that is not known.
    pub gpu: Option<GpuUse>,
    /// Its last words, which may tell why there is no file.
    pub said: String,
}

/// What a renderer needs beside the task.
#[derive(Debug)]
pub struct Setup {
    pub function: FunctionSpec,
    pub rules: Rules,
    pub folders: Folders,
    /// `PATH` of renderers, and where programs are looked for.
    pub path: String,
    pub confinement: Confinement,
    /// Names of the GPUs that renderers see; empty: all that are there.
    pub gpus: Vec<String>,
}

impl Setup {
    pub fn new(
        function: FunctionSpec,
        folders: Folders,
        path: String,
        confinement: Confinement,
    ) -> Result<Setup, crate::rules::Error> {
        let rules = Rules::new(function.name.as_str(), &function.rules, &function.extra_rules)?;
        let path = function.environment.get("PATH").cloned().unwrap_or(path);
        Ok(Setup { function, rules, folders, path, gpus: Vec::new(), confinement })
    }

    /// Fails when the renderer surely can't run here.
    pub async fn check(&self) -> Result<(), process::Error> {
        let (Driver::Session { command, .. } | Driver::Command { command, .. }) = &self.function.driver;
        let program = command.first().map_or("", String::as_str);
        if words::has_placeholders(program) {
            // The job says which program; it is looked for then.
            return Ok(());
        }
        let program = process::find_program(program, &self.path)?;
        match &self.function.driver {
            Driver::Session { bridge: Bridge::Blender, command } => self.check_module(program, command, "bpy").await,
            Driver::Command { .. } => Ok(()),
        }
    }

    /// Fails when the program is a Python that surely lacks the module: found out here it costs no task an attempt. Looked for
    /// and not loaded, which takes seconds.
    async fn check_module(
        &self,
        program: PathBuf,
        command: &[String],
        module: &'static str,
    ) -> Result<(), process::Error> {
        /// No other end of Python's.
        const LACKS: i32 = 91;
        let is_python = program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"python"));
        let Some(bridge) = command.iter().position(|word| word == "{bridge}").filter(|_| is_python) else {
            return Ok(());
        };
        let script = format!("import importlib.util as u; raise SystemExit(0 if u.find_spec('{module}') else {LACKS})");
        let launch = Launch {
            arguments: command[1..bridge].iter().map(OsString::from).chain(["-c".into(), script.into()]).collect(),
            folder: self.folders.temporary.clone(),
            environment: self.environment(),
            program,
        };
        // Whatever else is wrong with it, the renderer will say: one that does not start, or answers otherwise, or too late, lacks nothing.
        let mut python = match Process::start(&launch, &self.confinement) {
            Err(process::Error::Start { .. }) => return Ok(()),
            started => started?,
        };
        let answered = async {
            loop {
                if let Event::Exited(status) = python.next().await {
                    break status;
                }
            }
        };
        let status = tokio::time::timeout(CHECK_MAX, answered).await;
        python.end(Duration::ZERO).await;
        match status {
            Ok(status) if status.code() == Some(LACKS) => {
                Err(process::Error::NoModule { program: launch.program, module })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The whole environment of a renderer: nothing of the worker's own.
    fn environment(&self) -> BTreeMap<String, OsString> {
        let mut environment: BTreeMap<String, OsString> = BTreeMap::from([
            ("PATH".to_owned(), self.path.clone().into()),
            ("LANG".to_owned(), "C.UTF-8".into()),
            ("HOME".to_owned(), self.folders.home.clone().into()),
            ("TMPDIR".to_owned(), self.folders.temporary.clone().into()),
        ]);
        // A user without a name (a container gives any number) has neither these nor a home, and who asks the system for
        // them fails: Python's `getpass`, CUDA's and OptiX' caches.
        for name in ["USER", "LOGNAME"] {
            environment.insert(name.to_owned(), "framewake".into());
        }
        for (name, folder) in HOME_FOLDERS {
            environment.insert(name.to_owned(), self.folders.home.join(folder).into());
        }
        environment.insert("XDG_RUNTIME_DIR".to_owned(), self.folders.temporary.clone().into());
        if self.function.resources.gpus == 0 {
            // Who did not ask for a GPU gets none, so that "CPU" is known and not guessed.
            for name in ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
                environment.insert(name.to_owned(), OsString::new());
            }
        } else if !self.gpus.is_empty() {
            // By name: numbers are given anew when a GPU goes away, and differ between CUDA and the driver.
            for name in ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"] {
                environment.insert(name.to_owned(), self.gpus.join(",").into());
            }
        }
        for (name, value) in &self.function.environment {
            environment.insert(name.clone(), value.into());
        }
        environment
    }

    /// Whether a parameter is the name of an input.
    fn is_input(&self, parameter: &str) -> bool {
        self.function.parameters.get(parameter).is_some_and(|spec| spec.kind == ParameterKind::Input)
    }
}

/// Whether a device a renderer named is no GPU.
pub fn is_cpu(device: &str) -> bool {
    device.trim_start().to_ascii_uppercase().starts_with("CPU")
}
