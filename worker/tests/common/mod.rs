//! What the tests of renderers share: a function, a step, a scratch folder, a watch.

#![allow(dead_code)] // Each test program uses its own part.

use framewake_proto::function::FunctionSpec;
use framewake_proto::objects::Digest;
use framewake_proto::order::StepOrder;
use framewake_worker::gpu::Gpus;
use framewake_worker::inputs::Staged;
use framewake_worker::logs::AttemptLog;
use framewake_worker::renderer::confinement::Confinement;
use framewake_worker::renderer::{Folders, Setup, Step, Task, Watch};
use framewake_worker::rules::Progress;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// No wait of a test lasts longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) setup: Setup,
    pub(crate) step: Step,
    pub(crate) inputs: Staged,
    pub(crate) stop: CancellationToken,
    pub(crate) log: AttemptLog,
    pub(crate) progress: watch::Receiver<Option<(u32, Progress)>>,
    pub(crate) watch: Watch,
}

/// A bench for a function and a step; both may leave out what has defaults.
pub(crate) fn bench(function: &Value, step: &Value) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let function: FunctionSpec = serde_json::from_value(function.clone()).expect("a function");
    assert_eq!(function.faults(), [], "the test's function is good");
    let mut order = json!({
        "job": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "step": 0, "step_name": "render", "function": "f@1", "frames": "1-10",
        "inputs": [], "parameters": {}, "prefix": "jobs/p/j/", "output": null,
        "timeouts": {"frame": "20s", "silent": "20s", "chunk": "20s"}, "verify": {}, "allow_cpu": false,
    });
    order.as_object_mut().expect("an object").extend(step.as_object().expect("an object").clone());
    let order: StepOrder = serde_json::from_value(order).expect("an order");
    let step = Step::new(order).expect("a good step");
    #[allow(clippy::disallowed_methods)] // The tests' own PATH, for the renderers they start.
    let path = std::env::var("PATH").expect("PATH is set");
    let folders = Folders::make(&folder.path().join("scratch")).expect("makes folders");
    let inputs = Staged { folder: folder.path().join("inputs"), content: Digest::of(b"inputs") };
    std::fs::create_dir_all(&inputs.folder).expect("makes");
    // Most tests' renderers leave notes beside their scratch folder; `hostile.rs` is about the rest.
    let setup = Setup::new(function, folders, path, Confinement::default()).expect("good rules");
    let (log, halt) = (AttemptLog::default(), CancellationToken::new());
    let (progress, seen) = watch::channel(None);
    let chunk = tokio::time::Instant::now() + step.order.timeouts.chunk.0;
    let watch = Watch::new(log.clone(), progress, halt.clone(), chunk, Gpus::none());
    Bench { folder, setup, step, inputs, stop: halt, log, progress: seen, watch }
}

impl Bench {
    pub(crate) fn input(&self, name: &str, text: &str) -> PathBuf {
        let path = self.inputs.folder.join(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    pub(crate) fn work(&self) -> PathBuf {
        let work = self.setup.folders.work.join("1");
        std::fs::create_dir_all(&work).expect("makes");
        work
    }

    pub(crate) fn task<'a>(&'a self, task: u32, work: &'a Path) -> Task<'a> {
        Task { step: &self.step, inputs: &self.inputs, task, frame: self.step.frames.get(task).expect("a frame"), work }
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.close();
        let mut text = Vec::new();
        while let Some(batch) = self.log.take_batch() {
            text.extend(batch.text);
        }
        String::from_utf8(text).expect("UTF-8")
    }
}

/// A function that runs `script` with `sh`.
pub(crate) fn shell(script: &str) -> Value {
    json!({"name": "f", "driver": {"kind": "command", "command": ["sh", "-c", script, "sh", "{output}", "{frame}"]}})
}

/// Waits for something to become true.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process runs; a dead one that nobody has buried yet does not.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
