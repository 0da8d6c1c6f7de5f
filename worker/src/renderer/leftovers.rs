//! Finds and ends what a renderer left behind: processes that changed their group or outlived their
//! parent. The worker is their reaper, so orphans become its children; each also carries the mark of
//! its run in its environment, by which the keeper finds them when the worker itself was killed.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

/// Environment variable with the mark of a run.
pub const RUN_VARIABLE: &str = "FRAMEWAKE_RUN";
/// How long leftovers may take to die; only a process stuck in the kernel needs longer.
const DEATH_MAX: Duration = Duration::from_secs(2);

static RUNS: AtomicU64 = AtomicU64::new(0);
/// Runs of this process and their first processes.
static LIVE: Mutex<BTreeMap<u64, Option<Pid>>> = Mutex::new(BTreeMap::new());
/// Told apart from every other worker of the machine, also after process ids were used again.
static WORKER_MARK: LazyLock<String> =
    LazyLock::new(|| format!("{}-{}", std::process::id(), framewake_proto::time::Timestamp::now().0));

/// Makes orphans of the renderer children of this process. Without it only the process group is ended.
pub fn become_reaper() {
    // The value only says "on".
    let on = rustix::process::getpid();
    if let Err(error) = rustix::process::set_child_subreaper(Some(on)) {
        tracing::warn!(%error, "cannot become the reaper of orphans: renderers that leave their process group may stay");
    }
}

/// The mark shared by all runs of this worker.
pub fn worker_mark() -> &'static str {
    &WORKER_MARK
}

/// One start of a renderer.
#[derive(Debug)]
pub struct Run {
    number: u64,
}

impl Run {
    pub(super) fn new() -> Run {
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        live().insert(number, None);
        Run { number }
    }

    pub(super) fn mark(&self) -> String {
        format!("{}.{}", worker_mark(), self.number)
    }

    pub(super) fn began(&self, first: Pid) {
        live().insert(self.number, Some(first));
    }

    /// Ends every adopted process of this run. The run's first process must have ended before.
    pub(super) async fn end_leftovers(&self) {
        live().remove(&self.number);
        let deadline = tokio::time::Instant::now() + DEATH_MAX;
        loop {
            let left = adopted();
            for pid in &left {
                let _gone_already = kill_process(*pid, Signal::KILL);
                let _other_times = waitpid(Some(*pid), WaitOptions::NOHANG);
            }
            // Children of the killed are adopted in their turn, so look again.
            if left.is_empty() || tokio::time::Instant::now() > deadline {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(Some(first)) = live().remove(&self.number) {
            // Dropped without `end_leftovers`: the group at least shall not outlive it.
            let _gone_already = kill_process_group(first, Signal::KILL);
        }
    }
}

fn live() -> std::sync::MutexGuard<'static, BTreeMap<u64, Option<Pid>>> {
    LIVE.lock().expect("no code panics while it holds the lock")
}

/// Children that this process did not start itself and that belong to no live run.
fn adopted() -> Vec<Pid> {
    let mut children = children();
    if children.is_empty() {
        return children;
    }
    let live: BTreeMap<u64, Option<Pid>> = live().clone();
    let spared = SPARED.lock().expect("no code panics while it holds the lock").clone();
    let starting = live.values().any(Option::is_none);
    children.retain(|pid| {
        let started_here = spared.contains(pid) || live.values().any(|first| *first == Some(*pid));
        let of_live_run = match run_of(*pid) {
            Some((worker, run)) => worker == worker_mark() && live.contains_key(&run),
            // It cleared its environment, or it is a renderer between fork and exec.
            None => starting,
        };
        !started_here && !of_live_run
    });
    children
}

/// Children that are no renderers.
static SPARED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Says that a child of this process is no renderer.
pub(crate) fn spare(pid: Pid) {
    SPARED.lock().expect("no code panics while it holds the lock").push(pid);
}

/// The worker's mark and run number in a process's environment.
fn run_of(pid: Pid) -> Option<(String, u64)> {
    let mark = mark_of(pid.as_raw_nonzero().get())?;
    let (worker, run) = mark.rsplit_once('.')?;
    Some((worker.to_owned(), run.parse().ok()?))
}

pub(super) fn mark_of(pid: i32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(RUN_VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok()
}

/// All children of this process, whichever of its threads started or adopted them.
fn children() -> Vec<Pid> {
    let mut children = Vec::new();
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return children };
    for thread in threads.flatten() {
        let Ok(list) = std::fs::read_to_string(thread.path().join("children")) else {
            // Kernels without that file, and threads that just ended.
            continue;
        };
        children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

/// Kills every process of the machine that carries the mark of a worker. For the keeper.
pub fn kill_marked(worker_mark: &str) -> usize {
    let prefix = format!("{worker_mark}.");
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut killed = 0;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if mark_of(pid).is_some_and(|mark| mark.starts_with(&prefix))
            && let Some(pid) = Pid::from_raw(pid)
        {
            killed += 1;
            // A renderer leads its group; helpers that cleared their environment go with it.
            let _not_a_leader = kill_process_group(pid, Signal::KILL);
            let _gone_already = kill_process(pid, Signal::KILL);
        }
    }
    killed
}
