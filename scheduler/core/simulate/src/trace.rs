//! The last things that happened, in plain words.

use crate::invariant::About;
use std::collections::VecDeque;

/// Lines kept while a run is traced; a run of a small world has a few thousand.
const LINES_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<(i64, About, String)>,
}

impl Trace {
    pub(crate) fn say(&mut self, at_ms: i64, about: About, text: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((at_ms, about, text));
    }

    /// The last `count` lines that touch this, or the world as a whole.
    pub(crate) fn about(&self, about: &About, count: usize) -> Vec<String> {
        let touches = |line: &About| {
            let whole = *line == About::default();
            let chunk = line.chunk.is_some() && line.chunk == about.chunk;
            let worker = line.worker.is_some() && line.worker == about.worker;
            // A job has many lines: those of its chunks only if no chunk is known.
            let job = line.job.is_some() && line.job == about.job && (about.chunk.is_none() || line.chunk.is_none());
            whole || chunk || worker || job || *about == About::default()
        };
        let mut lines: Vec<String> = self
            .lines
            .iter()
            .rev()
            .filter(|(_, line, _)| touches(line))
            .take(count)
            .map(|(at, _, text)| format!("{:>9.3} s  {text}", *at as f64 / 1000.0))
            .collect();
        lines.reverse();
        lines
    }
}
