//! Processes of this machine, told apart from later ones with the same number.

use framewake_proto::ids::{FunctionKey, WorkerId};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group, test_kill_process};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Ticks since boot, from /proc: another process with this pid began at another time.
    pub(super) began: u64,
}

/// A worker that an earlier scheduler started.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) function: FunctionKey,
    pub(super) gpus: Vec<String>,
    pub(super) process: Process,
}

impl Process {
    /// Of a child that was just started.
    pub(super) fn of(pid: Option<u32>) -> Process {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        Process { pid, began: began(pid).unwrap_or(0) }
    }

    pub(super) fn is_alive(self) -> bool {
        let there = Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid).is_ok());
        there && began(self.pid) == Some(self.began)
    }

    /// Killed is the whole group: a worker that is made to leave takes its renderer along.
    pub(super) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) else { return };
        if signal == Signal::KILL {
            let _ = kill_process_group(pid, signal);
        }
        let _ = kill_process(pid, signal);
    }
}

/// The workers that run with their scratch in `folder`. A worker leads its group, so that its children are not
/// taken for it.
pub(super) fn running(folder: &Path) -> HashMap<WorkerId, Found> {
    let mut found = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<&str> =
            line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        let told = |option: &str| words.iter().skip_while(|word| **word != option).nth(1).copied();
        let Some(id) = told("--worker").and_then(|id| id.parse::<WorkerId>().ok()) else { continue };
        let Some(function) = told("--function").and_then(|key| key.parse().ok()) else { continue };
        let ours = told("--scratch").is_some_and(|scratch| Path::new(scratch) == scratch_of(folder, &id));
        let leads = |pid| getpgid(Some(pid)).is_ok_and(|group| group == pid);
        if ours
            && Pid::from_raw(pid).is_some_and(leads)
            && let Some(began) = began(pid)
        {
            let gpus = told("--gpus").map_or_else(Vec::new, |gpus| gpus.split(',').map(str::to_owned).collect());
            found.insert(id, Found { function, gpus, process: Process { pid, began } });
        }
    }
    found
}

pub(super) fn scratch_of(folder: &Path, worker: &WorkerId) -> PathBuf {
    folder.join(worker.as_str()).join("scratch")
}

/// Field 22 of /proc/PID/stat (proc(5)); `None` for a process that is gone or a zombie.
pub(super) fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
