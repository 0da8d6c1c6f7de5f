//! The `command` driver: one process for each frame, or one for all tasks of a chunk.

use super::monitor::Monitor;
use super::process::{self, Event, Launch, Process};
use super::words::{self, Values};
use super::{Failure, GRACE, GRACE_CANCEL, Output, Rendered, Setup, Step, Task, Watch};
use crate::inputs::Staged;
use framewake_proto::template::OutputTemplate;
use framewake_proto::verdict::Verdict;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often memory and finished files are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a renderer may take to exit after it said that it is done.
const EXIT_AFTER_DONE: Duration = Duration::from_secs(5);

/// A `command` driver's words, as its function has them.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    pub words: &'a [String],
    pub writes: Option<&'a str>,
}

/// All tasks of a chunk for one process.
#[derive(Debug)]
pub struct Chunk<'a> {
    pub step: &'a Step,
    pub inputs: &'a Staged,
    /// Task numbers with their frames, in their order.
    pub tasks: &'a [(u32, i64)],
    /// Folder of its own, which exists.
    pub work: &'a Path,
}

/// What came of a chunk's process. Tasks whose files appeared were sent on before.
#[derive(Debug)]
pub enum ChunkEnd {
    /// It ended well: every file should be there.
    Exited,
    /// All tasks that are still wanted were sent; the rest was given back.
    Enough,
    Failed(Failure),
    Stopped,
}

/// Renders one task in a process of its own.
pub async fn render_frame(setup: &Setup, command: Command<'_>, task: &Task<'_>, watch: &Watch) -> Rendered {
    let mut monitor = Monitor::new(watch, &setup.rules, task.step.order.timeouts, task.task);
    let files = Files::new(command, task.step, task.work, &[(task.task, task.frame)]);
    let mut run = match files.start(setup, command, task.step, task.inputs, &[task.frame], watch) {
        Ok(run) => run,
        Err(failure) => return Rendered::Failed(failure),
    };
    match run.watch_to_end(&mut monitor, watch, |_| false).await {
        Ended::Well | Ended::Enough => Rendered::Done(Output {
            path: task.step.output.is_some().then(|| files.paths[&task.task].clone()),
            ..run.output(&monitor)
        }),
        Ended::Failed(failure) => Rendered::Failed(failure),
        Ended::Stopped => Rendered::Stopped,
    }
}

/// Renders all tasks of a chunk in one process. A task whose file is finished is sent to `finished`
/// while the process goes on; `wanted` says whether a task was not given back meanwhile.
pub async fn render_chunk(
    setup: &Setup,
    command: Command<'_>,
    chunk: &Chunk<'_>,
    watch: &Watch,
    finished: &mpsc::UnboundedSender<(u32, Output)>,
    wanted: impl Fn(u32) -> bool,
) -> ChunkEnd {
    let first = chunk.tasks.first().map_or(0, |(task, _)| *task);
    let mut monitor = Monitor::new(watch, &setup.rules, chunk.step.order.timeouts, first);
    let files = Files::new(command, chunk.step, chunk.work, chunk.tasks);
    let frames: Vec<i64> = chunk.tasks.iter().map(|(_, frame)| *frame).collect();
    let mut run = match files.start(setup, command, chunk.step, chunk.inputs, &frames, watch) {
        Ok(run) => run,
        Err(failure) => return ChunkEnd::Failed(failure),
    };
    let has_output = chunk.step.output.is_some();
    let renderer = run.renderer.clone();
    let mut sent = 0;
    let mut size_before = None;
    let ended = run.watch_to_end(&mut monitor, watch, |monitor| {
        // A file is finished when the next one has appeared and it stopped growing.
        while has_output && sent + 1 < chunk.tasks.len() {
            let (task, _) = chunk.tasks[sent];
            let size = file_size(&files.paths[&task]);
            let next_there = chunk.tasks[sent + 1..].iter().any(|(next, _)| file_size(&files.paths[next]).is_some());
            if size.is_none() || !next_there || size_before.replace(size) != Some(size) {
                break;
            }
            size_before = None;
            let output = Output {
                path: Some(files.paths[&task].clone()),
                device: monitor.device.clone().unwrap_or_default(),
                renderer: with_version(&renderer, monitor),
                memory_peak_bytes: 0,
                elapsed: monitor.elapsed(),
                gpu: monitor.gpu_use(),
                said: monitor.said(),
            };
            sent += 1;
            monitor.begin_frame(chunk.tasks[sent].0);
            if finished.send((task, output)).is_err() {
                return true;
            }
        }
        // Not before the first was rendered: a chunk is never given back whole by this.
        sent > 0 && chunk.tasks[sent..].iter().all(|(task, _)| !wanted(*task))
    });
    match ended.await {
        Ended::Well => {
            let each = run.output(&monitor);
            for (task, _) in &chunk.tasks[sent..] {
                let path = has_output.then(|| files.paths[task].clone());
                let _receiver_gone = finished.send((*task, Output { path, ..each.clone() }));
            }
            ChunkEnd::Exited
        }
        Ended::Enough => ChunkEnd::Enough,
        Ended::Failed(failure) => ChunkEnd::Failed(failure),
        Ended::Stopped => ChunkEnd::Stopped,
    }
}

/// Where the outputs of a process's tasks will be.
struct Files {
    work: PathBuf,
    outputs: PathBuf,
    first: PathBuf,
    paths: BTreeMap<u32, PathBuf>,
}

impl Files {
    fn new(command: Command<'_>, step: &Step, work: &Path, tasks: &[(u32, i64)]) -> Files {
        let outputs = work.join("outputs");
        // Checked when the function was added; without it the default name stands.
        let writes = command.writes.and_then(|text| OutputTemplate::parse(text, 1).ok());
        let path = |frame| match &writes {
            Some(writes) => work.join(writes.name(frame)),
            None => outputs.join(file_name(step, frame)),
        };
        let paths: BTreeMap<u32, PathBuf> = tasks.iter().map(|(task, frame)| (*task, path(*frame))).collect();
        let first = tasks.first().map_or_else(PathBuf::new, |(_, frame)| outputs.join(file_name(step, *frame)));
        Files { work: work.to_owned(), outputs, first, paths }
    }

    fn start(
        &self,
        setup: &Setup,
        command: Command<'_>,
        step: &Step,
        staged: &Staged,
        frames: &[i64],
        watch: &Watch,
    ) -> Result<Run, Failure> {
        // Folders that `writes` names are the renderer's to find, as `outputs` is.
        for folder in self.paths.values().filter_map(|path| path.parent()).chain([self.outputs.as_path()]) {
            std::fs::create_dir_all(folder).map_err(|error| {
                Failure::new(Verdict::RetryElsewhere, format!("cannot make the scratch folder: {error}"))
            })?;
        }
        let values = Values {
            frames,
            output: self.first.clone(),
            outputs: &self.outputs,
            scratch: &self.work,
            inputs: &staged.folder,
        };
        let words = words::fill(command.words, setup, step, staged, &values)
            .map_err(|error| Failure::new(Verdict::SceneError, error.to_string()))?;
        let from_job = command.words.first().is_some_and(|word| words::has_placeholders(word));
        let program = process::find_program(&words[0], &setup.path).map_err(|error| {
            // Which program it is came from the job, so the job can be wrong.
            let verdict = if from_job { Verdict::SceneError } else { Verdict::RetryElsewhere };
            error.failure(verdict)
        })?;
        let launch = Launch {
            program,
            arguments: words[1..].iter().map(Into::into).collect(),
            folder: self.work.clone(),
            environment: setup.environment(),
        };
        watch.begin();
        let process = Process::start(&launch, &setup.confinement).map_err(|error| {
            Failure::new(Verdict::RetryElsewhere, framewake_proto::chain::Chain(&error).to_string())
        })?;
        let renderer = launch.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Run { process, renderer, memory_peak_bytes: 0 })
    }
}

/// The last part of the output's name; any for a step without output.
fn file_name(step: &Step, frame: i64) -> String {
    let name = step.output.as_ref().map_or_else(|| "output".to_owned(), |template| template.name(frame));
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

fn file_size(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len())
}

/// The renderer with its version, where a rule has read it.
fn with_version(renderer: &str, monitor: &Monitor<'_>) -> String {
    monitor.version.as_deref().map_or_else(|| renderer.to_owned(), |version| format!("{renderer} {version}"))
}

struct Run {
    process: Process,
    renderer: String,
    memory_peak_bytes: u64,
}

enum Ended {
    Well,
    Enough,
    Failed(Failure),
    Stopped,
}

impl Run {
    /// Watches the process to its end and beyond: nothing it started is left. `look` is asked now and
    /// then whether the process may be ended, its work done.
    async fn watch_to_end(
        &mut self,
        monitor: &mut Monitor<'_>,
        watch: &Watch,
        mut look: impl FnMut(&mut Monitor<'_>) -> bool,
    ) -> Ended {
        let mut next_look = Instant::now() + LOOK;
        let mut done_by = None;
        let usage = self.process.usage();
        loop {
            let event = tokio::select! {
                biased;
                () = watch.stop.cancelled() => {
                    self.end(monitor, GRACE_CANCEL).await;
                    return Ended::Stopped;
                }
                limit = monitor.limit(&usage) => {
                    self.end(monitor, GRACE).await;
                    return Ended::Failed(monitor.hung(limit));
                }
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK;
                    self.memory_peak_bytes =
                        self.memory_peak_bytes.max(self.process.memory_peak_bytes().unwrap_or(0));
                    if look(monitor) {
                        self.end(monitor, GRACE).await;
                        return Ended::Enough;
                    }
                    if done_by.is_some_and(|by| Instant::now() > by) {
                        self.end(monitor, GRACE).await;
                        return Ended::Well;
                    }
                    continue;
                }
                event = self.process.next() => event,
            };
            match event {
                Event::Output(lines) => {
                    monitor.read(&lines);
                    if done_by.is_none() && monitor.is_said_done() {
                        done_by = Some(Instant::now() + EXIT_AFTER_DONE);
                    }
                }
                Event::Exited(status) => {
                    self.end(monitor, GRACE).await;
                    return match monitor.finding() {
                        Some(failure) => Ended::Failed(failure),
                        None if status.success() || monitor.is_said_done() => Ended::Well,
                        None => Ended::Failed(monitor.ended(status)),
                    };
                }
            }
        }
    }

    async fn end(&mut self, monitor: &mut Monitor<'_>, grace: Duration) {
        let lines = self.process.end(grace).await;
        monitor.read(&lines);
    }

    /// What is known of any output of this process.
    fn output(&self, monitor: &Monitor<'_>) -> Output {
        Output {
            path: None,
            device: monitor.device.clone().unwrap_or_default(),
            renderer: with_version(&self.renderer, monitor),
            memory_peak_bytes: self.memory_peak_bytes,
            elapsed: monitor.elapsed(),
            gpu: monitor.gpu_use(),
            said: monitor.said(),
        }
    }
}
