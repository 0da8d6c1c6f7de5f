//! Watches one render: its words, its progress, its time limits; and says in the end what became
//! of it.

use super::lines::Line;
use super::{Failure, Watch};
use crate::rules::{Finding, Progress, Rules};
use framewake_proto::duration::Span;
use framewake_proto::job::Timeouts;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{EVIDENCE_MAX, FAILURE_MESSAGE_MAX, clip, clip_front};
use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::time::Instant;

/// Lines before and after a finding that are its evidence.
const LINES_BEFORE: usize = 12;
const LINES_AFTER: usize = 6;
/// Longest line in evidence.
const EVIDENCE_LINE_MAX: usize = 400;

#[derive(Debug)]
pub(super) struct Monitor<'a> {
    watch: &'a Watch,
    rules: &'a Rules,
    timeouts: Timeouts,
    task: u32,
    frame_began: Instant,
    heard: Instant,
    recent: VecDeque<String>,
    found: Option<Found>,
    pub(super) version: Option<String>,
    pub(super) device: Option<String>,
}

#[derive(Debug)]
struct Found {
    finding: Finding,
    lines: Vec<String>,
    after: usize,
}

/// A time limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Frame,
    Silent,
    Chunk,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(watch: &'a Watch, rules: &'a Rules, timeouts: Timeouts, task: u32) -> Monitor<'a> {
        let now = Instant::now();
        Monitor {
            watch,
            rules,
            timeouts,
            task,
            frame_began: now,
            heard: now,
            recent: VecDeque::new(),
            found: None,
            version: None,
            device: None,
        }
    }

    /// A new task begins in the same process.
    pub(super) fn begin_frame(&mut self, task: u32) {
        self.task = task;
        self.frame_began = Instant::now();
        self.heard = self.frame_began;
    }

    /// The next time limit, and which.
    pub(super) fn deadline(&self) -> (Instant, Limit) {
        let limits = [
            (after(self.frame_began, self.timeouts.frame), Limit::Frame),
            (after(self.heard, self.timeouts.silent), Limit::Silent),
            (self.watch.chunk_deadline, Limit::Chunk),
        ];
        limits.into_iter().min_by_key(|(at, _)| *at).expect("there are three")
    }

    /// The renderer gave a sign of life that is no line.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
    }

    pub(super) fn read(&mut self, lines: &[Line]) {
        self.hear();
        self.watch.log.renderer_said(lines);
        let mut progress = None;
        for line in lines {
            let meaning = self.rules.read(&line.text);
            progress = meaning.progress.or(progress);
            self.version = self.version.take().or(meaning.version);
            self.device = meaning.device.or(self.device.take());
            self.keep(line);
            if let Some(finding) = meaning.finding {
                self.find(finding);
            }
        }
        if let Some(progress) = progress {
            self.tell(progress);
        }
    }

    pub(super) fn tell(&self, progress: Progress) {
        self.watch.progress.send_replace(Some((self.task, progress)));
    }

    fn keep(&mut self, line: &Line) {
        let text = clip(&line.text, EVIDENCE_LINE_MAX).trim_end().to_owned();
        if text.is_empty() {
            return;
        }
        if let Some(found) = self.found.as_mut().filter(|found| found.after > 0) {
            found.after -= 1;
            found.lines.push(text.clone());
        }
        self.recent.push_back(text);
        if self.recent.len() > LINES_BEFORE {
            self.recent.pop_front();
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.found.as_ref().is_none_or(|found| finding.rank < found.finding.rank) {
            self.found = Some(Found { finding, lines: self.recent.iter().cloned().collect(), after: LINES_AFTER });
        }
    }

    /// What the rules made of the renderer's words, if anything bad.
    pub(super) fn finding(&self) -> Option<Failure> {
        let found = self.found.as_ref().filter(|found| found.finding.verdict != Verdict::Done)?;
        Some(self.failure(found.finding.verdict, &found.finding.message))
    }

    /// The rules know that the renderer is done, whatever its exit code.
    pub(super) fn is_said_done(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.finding.verdict == Verdict::Done)
    }

    /// A failure with the lines that show it.
    pub(super) fn failure(&self, verdict: Verdict, message: &str) -> Failure {
        let lines = self.found.as_ref().map_or_else(
            || self.recent.iter().cloned().collect::<Vec<String>>().join("\n"),
            |found| found.lines.join("\n"),
        );
        Failure {
            verdict,
            message: clip(message, FAILURE_MESSAGE_MAX).to_owned(),
            evidence: clip_front(&lines, EVIDENCE_MAX).to_owned(),
        }
    }

    pub(super) fn hung(&self, limit: Limit) -> Failure {
        let Timeouts { frame, silent, chunk } = self.timeouts;
        let message = match limit {
            Limit::Frame => format!("the task took longer than {frame} (`timeouts.frame`); the renderer was killed"),
            Limit::Silent => format!(
                "the renderer said nothing and made no progress for {silent} (`timeouts.silent`); it was killed"
            ),
            Limit::Chunk => format!("the chunk took longer than {chunk} (`timeouts.chunk`); the renderer was killed"),
        };
        // What it said before is the evidence; a rule's verdict would hide that it hung.
        Failure { verdict: Verdict::Hung, ..self.failure(Verdict::Hung, &message) }
    }

    /// What the end of the process means when nothing better is known.
    pub(super) fn ended(&self, status: ExitStatus) -> Failure {
        if let Some(failure) = self.finding() {
            return failure;
        }
        if let Some(signal) = status.signal() {
            let hint = if signal == 9 { " (the system kills so when memory runs out)" } else { "" };
            return self.failure(Verdict::RetrySame, &format!("the renderer was ended by signal {signal}{hint}"));
        }
        let code = status.code().unwrap_or(-1);
        self.failure(Verdict::RetrySame, &format!("the renderer exited with code {code}"))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.frame_began.elapsed()
    }
}

fn after(start: Instant, span: Span) -> Instant {
    // A year at most, by `SPAN_MAX`; an `Instant` holds that.
    start + span.0
}
