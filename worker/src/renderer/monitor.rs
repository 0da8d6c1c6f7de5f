//! Watches one render: its words, its progress, its time limits; and says in the end what became
//! of it.

use super::usage::{Usage, threads_of_all};
use super::{Failure, Watch};
use crate::gpu::{GpuUse, Meter};
use crate::lines::Line;
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

/// A renderer that works without a word is left alone this many times as long as an idle one: more than any that was
/// measured, and a busy loop ends by the limit of its frame at the latest.
const BUSY_FACTOR: u32 = 4;
/// It works when it uses more than this share of one processor: threads that only wait for each other use less.
const WORKING_SHARE: f64 = 0.01;
/// Less is no work, whatever the share: the system counts in steps of 10 ms.
const WORKING_MIN: Duration = Duration::from_millis(10);
/// How often it is looked at while it is silent: a small part of the limit, and seldom enough to cost nothing.
const LOOKS: u32 = 8;
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Processes that a renderer may have. Honest ones have some dozens: helpers, shells around them, a process for each core.
/// More is a bomb, which would take the machine from all others on it.
const PROCESSES_MAX: usize = 1000;
/// How often the machine's threads are counted.
const CROWD_LOOK: Duration = Duration::from_millis(100);

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
    quiet: Quiet,
    crowd: Crowd,
    recent: VecDeque<String>,
    found: Option<Found>,
    meter: Meter,
    pub(super) version: Option<String>,
    pub(super) device: Option<String>,
}

#[derive(Debug)]
struct Found {
    finding: Finding,
    lines: Vec<String>,
    after: usize,
}

/// When its processes are thought of next, and how many threads the machine had when they were no crowd.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    next: Instant,
    calm: Option<usize>,
}

/// What was measured since the renderer was heard last.
#[derive(Debug, Clone, Copy, Default)]
struct Quiet {
    /// Its processor time, when that was looked at first and last.
    first: Option<(Instant, Duration)>,
    last: Option<(Instant, Duration)>,
    /// The same when it was last seen to work, or first looked at.
    base: Option<(Instant, Duration)>,
    /// When it was last seen to work.
    worked: Option<Instant>,
}

/// A time limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Frame,
    /// Neither a word nor work.
    Silent(Measured),
    /// Work without a word.
    Busy(Measured),
    Chunk,
    /// So many processes. They are killed already: each moment they are more.
    Crowd(usize),
}

/// What is known of the time since the renderer was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    silence: Duration,
    /// Processor time, and the time in which it was used; `None` where the system does not tell.
    cpu: Option<(Duration, Duration)>,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no output and no progress for {:.1} s, ", self.silence.as_secs_f64())?;
        match self.cpu {
            Some((used, time)) => write!(f, "{:.1} s of CPU in {:.1} s of it", used.as_secs_f64(), time.as_secs_f64()),
            None => f.write_str("and its use of the CPU can't be read here"),
        }
    }
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
            quiet: Quiet::default(),
            crowd: Crowd { next: now + CROWD_LOOK, calm: threads_of_all() },
            recent: VecDeque::new(),
            found: None,
            meter: watch.gpus.meter(),
            version: None,
            device: None,
        }
    }

    /// A new task begins in the same process.
    pub(super) fn begin_frame(&mut self, task: u32) {
        self.task = task;
        self.frame_began = Instant::now();
        self.meter = self.watch.gpus.meter();
        self.hear();
    }

    /// Waits until a limit is reached. Losing the future loses nothing.
    pub(super) async fn limit(&mut self, usage: &Usage) -> Limit {
        loop {
            let look = self.next_look();
            let times =
                [after(self.frame_began, self.timeouts.frame), self.watch.chunk_deadline, look, self.crowd.next];
            tokio::time::sleep_until(times.into_iter().min().expect("there are four")).await;
            let now = Instant::now();
            if let Some(processes) = self.is_crowd(now, usage) {
                usage.kill();
                return Limit::Crowd(processes);
            }
            if now >= times[0] {
                return Limit::Frame;
            }
            if now >= times[1] {
                return Limit::Chunk;
            }
            if now >= look
                && let Some(limit) = self.look(now, usage.cpu())
            {
                return limit;
            }
        }
    }

    /// How many processes it has, if they are too many. They are counted only when the machine has got many more threads.
    fn is_crowd(&mut self, now: Instant, usage: &Usage) -> Option<usize> {
        if now < self.crowd.next {
            return None;
        }
        self.crowd.next = now + CROWD_LOOK;
        let threads = threads_of_all()?;
        let calm = self.crowd.calm.get_or_insert(threads);
        if threads <= *calm + PROCESSES_MAX {
            *calm = (*calm).min(threads);
            return None;
        }
        let processes = usage.processes();
        if processes <= PROCESSES_MAX {
            *calm = threads;
            return None;
        }
        Some(processes)
    }

    fn next_look(&self) -> Instant {
        let silent = self.timeouts.silent.0;
        let pause = (silent / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        let last = self.quiet.last.map_or(self.heard, |(at, _)| at);
        // The last look is when the time is over.
        let over = self.quiet.worked.unwrap_or(self.heard) + silent;
        (last + pause).min(over.max(last + LOOK_MIN))
    }

    /// Looks at a renderer that says nothing: whether it works, and whether it has been silent for too long.
    fn look(&mut self, now: Instant, cpu: Option<Duration>) -> Option<Limit> {
        let silent = self.timeouts.silent.0;
        let quiet = &mut self.quiet;
        if self.meter.worked() {
            // It may wait for its GPU without using the processor.
            quiet.worked = Some(now);
        }
        if let Some(cpu) = cpu {
            let (at, before) = *quiet.base.get_or_insert((now, cpu));
            if cpu.abs_diff(before) > WORKING_MIN + (now - at).mul_f64(WORKING_SHARE) {
                quiet.worked = Some(now);
                quiet.base = Some((now, cpu));
            }
            quiet.first.get_or_insert((now, cpu));
            quiet.last = Some((now, cpu));
        } else {
            // Nothing is known of its work, so its silence alone decides.
            quiet.last = Some((now, Duration::ZERO));
        }
        if now >= quiet.worked.unwrap_or(self.heard) + silent {
            return Some(Limit::Silent(self.measured(now)));
        }
        (now >= self.heard + silent * BUSY_FACTOR).then(|| Limit::Busy(self.measured(now)))
    }

    fn measured(&self, now: Instant) -> Measured {
        let looks = self.quiet.first.zip(self.quiet.last);
        let cpu = looks.map(|((begin, before), (end, after))| (after.abs_diff(before), end - begin));
        Measured { silence: now - self.heard, cpu }
    }

    /// The renderer gave a sign of life that is no line.
    pub(super) fn hear(&mut self) {
        self.heard = Instant::now();
        self.quiet = Quiet::default();
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

    /// The renderer's last words.
    pub(super) fn said(&self) -> String {
        self.recent.iter().cloned().collect::<Vec<String>>().join("\n")
    }

    /// A failure with the lines that show it.
    pub(super) fn failure(&self, verdict: Verdict, message: &str) -> Failure {
        let lines = self.found.as_ref().map_or_else(|| self.said(), |found| found.lines.join("\n"));
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
            Limit::Silent(measured) => {
                format!("the renderer did nothing for {silent} (`timeouts.silent`): {measured}; it was killed")
            }
            Limit::Busy(measured) => format!(
                "the renderer worked without a word for {BUSY_FACTOR} times {silent} (`timeouts.silent`): {measured}; \
                 it was killed"
            ),
            Limit::Chunk => format!("the chunk took longer than {chunk} (`timeouts.chunk`); the renderer was killed"),
            Limit::Crowd(processes) => {
                let message = format!(
                    "the renderer started processes without end: it had {processes}, more than the {PROCESSES_MAX} \
                     allowed; all were killed"
                );
                return self.failure(Verdict::SceneError, &message);
            }
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

    /// What the GPUs did since the task began.
    pub(super) fn gpu_use(&self) -> Option<GpuUse> {
        self.meter.read()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.frame_began.elapsed()
    }
}

fn after(start: Instant, span: Span) -> Instant {
    // A year at most, by `SPAN_MAX`; an `Instant` holds that.
    start + span.0
}
