//! How many processes a renderer has, and how much processor time they have used: what tells a bomb, and work from a hang.
//! The use of its GPUs, which counts as work too, is the driver's to tell: see [`crate::gpu`].

use super::leftovers;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeSet;
use std::time::Duration;

/// Knows the processes of one run of a renderer.
#[derive(Debug, Clone)]
pub(super) struct Usage {
    /// Leads the group.
    first: i32,
    /// In the environment of all that it started.
    mark: String,
}

/// What /proc/PID/stat tells of a process (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// Its own, and that of its children that ended.
    ticks: u64,
}

impl Usage {
    pub(super) fn new(first: Pid, mark: String) -> Usage {
        Usage { first: first.as_raw_nonzero().get(), mark }
    }

    /// Processor time used so far. It shrinks when a process ends whose parent has ended before. `None` where the
    /// system does not tell.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let members = self.members();
        if members.is_empty() {
            return None;
        }
        let ticks: u64 = members.iter().map(|stat| stat.ticks).sum();
        Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Processes that there are now.
    pub(super) fn processes(&self) -> usize {
        self.members().len()
    }

    /// Ends them at once; those that are started meanwhile die with their group, or are looked for when the run ends.
    pub(super) fn kill(&self) {
        for pid in std::iter::once(self.first).filter_map(Pid::from_raw) {
            let _gone_already = kill_process_group(pid, Signal::KILL);
        }
        for stat in self.members() {
            let _gone_already = Pid::from_raw(stat.pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }

    fn members(&self) -> Vec<Stat> {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let stats: Vec<Stat> = pids.filter_map(read).collect();
        let ours = i32::try_from(std::process::id()).unwrap_or(0);
        let adopted =
            |stat: &Stat| stat.parent == ours && leftovers::mark_of(stat.pid).is_some_and(|mark| mark == self.mark);
        let members = members(&stats, self.first, adopted);
        stats.into_iter().filter(|stat| members.contains(&stat.pid)).collect()
    }
}

/// Threads of the whole machine: one number that is read in microseconds, where counting a renderer's processes takes
/// milliseconds. `None` where the system does not tell.
pub(super) fn threads_of_all() -> Option<usize> {
    // "0.20 0.18 0.12 1/80 11206" (proc(5)): the number behind the `/`.
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// The group and session that `first` leads, what was adopted, and all their descendants.
fn members(stats: &[Stat], first: i32, adopted: impl Fn(&Stat) -> bool) -> BTreeSet<i32> {
    let leads = |stat: &Stat| stat.pid == first || stat.group == first || stat.session == first;
    let mut members: BTreeSet<i32> =
        stats.iter().filter(|stat| leads(stat) || adopted(stat)).map(|stat| stat.pid).collect();
    loop {
        let before = members.len();
        let children: Vec<i32> =
            stats.iter().filter(|stat| members.contains(&stat.parent)).map(|stat| stat.pid).collect();
        members.extend(children);
        if members.len() == before {
            return members;
        }
    }
}

fn read(pid: i32) -> Option<Stat> {
    parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: i32, text: &str) -> Option<Stat> {
    // The name of the program stands before, in parentheses, and may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        ticks: ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let text = "7 (a) b (c\n) 1 2 3) S 4 5 6 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 999 0 0";
        let expected = Stat { pid: 7, parent: 4, group: 5, session: 6, ticks: 124 };
        assert_eq!(parse(7, text), Some(expected));
        assert_eq!(parse(7, "7 (gone) S 4"), None);
    }

    #[test]
    fn children_that_left_the_group_belong_to_the_run_and_strangers_do_not() {
        let stat = |pid, parent, group| Stat { pid, parent, group, session: group, ticks: 1 };
        let stats = [
            stat(10, 1, 10),
            stat(11, 10, 10),
            // A daemon of it, and that one's child.
            stat(12, 11, 12),
            stat(13, 12, 13),
            stat(14, 1, 14),
            // Adopted by the worker.
            stat(15, 1, 15),
        ];
        let members = members(&stats, 10, |stat| stat.pid == 15);
        assert_eq!(members, BTreeSet::from([10, 11, 12, 13, 15]));
    }
}
