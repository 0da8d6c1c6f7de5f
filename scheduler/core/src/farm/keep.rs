//! Workers that somebody wants with work or without: so many of a function stay, and come again when they are lost.

use super::{Applied, Farm};
use crate::change::Change;
use framewake_proto::ids::{FunctionKey, Name};
use framewake_proto::time::Timestamp;

impl Farm {
    pub(super) fn keep_workers(&mut self, now: Timestamp, name: Name, workers: u32, out: &mut Applied) {
        out.changes.push(Change::WorkersKept { function: name.clone(), workers });
        let newest = self.newest(&name);
        if workers == 0 {
            self.kept.remove(&name);
        } else {
            self.kept.insert(name, workers);
        }
        let Some(at) = newest else { return };
        self.touched.insert(at);
        // Whoever wants fewer means now, not after their linger; with work at hand they leave when it is done.
        let function = &self.functions[at];
        if function.tasks == 0 {
            let surplus = function.workers.present.saturating_sub(self.kept_of(at)) as usize;
            for id in function.idle.iter().rev().take(surplus).cloned().collect::<Vec<_>>() {
                self.ask_to_leave(now, id, out);
            }
        }
    }

    /// The newest version of a function.
    pub(super) fn newest(&self, name: &Name) -> Option<usize> {
        let first = FunctionKey { name: name.clone(), version: 0 };
        let last = FunctionKey { name: name.clone(), version: u32::MAX };
        self.function_index.range(first..=last).next_back().map(|(_, at)| *at)
    }

    /// How many workers of it are wanted, with work or without. Of an older version none: its workers leave.
    pub(super) fn kept_of(&self, at: usize) -> u32 {
        let function = &self.functions[at];
        let Some(kept) = self.kept.get(&function.key.name) else { return 0 };
        if self.newest(&function.key.name) == Some(at) { (*kept).min(function.rules.workers_max) } else { 0 }
    }
}
