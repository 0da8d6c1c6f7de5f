//! The log of one attempt: what the renderer said and what the worker did, bounded, cut into
//! batches for the stream of logs.
//!
//! A log keeps its beginning and, once it is full, the newest of what follows: a failure is explained at the end. What
//! is left out between the two is counted, and said where it is missing.

use crate::lines::Line;
use framewake_proto::wire::{LOG_BATCH_MAX, LOG_SIZE_MAX, LOG_TAIL_MAX, LogBatch};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Room kept for the sentences that say that and how much is left out.
const LAST_WORDS: u64 = 512;
/// Where a log's beginning ends.
const BEGINNING_MAX: u64 = LOG_SIZE_MAX - LOG_TAIL_MAX as u64 - LAST_WORDS;

/// Begins what the worker says.
const WORKER_SAYS: &str = "[framewake]";

/// A shared handle on the log of one attempt.
#[derive(Debug, Clone, Default)]
pub struct AttemptLog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Taken already: bytes before `waiting`.
    offset: u64,
    waiting: Vec<u8>,
    /// The beginning is full; what comes goes to the tail.
    full: bool,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: LeftOut,
    /// The last line is one that the next overwrites.
    overwritten: Option<String>,
    closed: bool,
}

/// What a log does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    pub lines: u64,
    pub bytes: u64,
}

impl AttemptLog {
    /// Adds what the renderer said. Of lines that overwrite each other only the last stays.
    pub fn renderer_said(&self, lines: &[Line]) {
        let mut inner = self.lock();
        for line in lines {
            if line.overwritten {
                inner.overwritten = Some(as_renderers(&line.text).into_owned());
            } else {
                inner.settle();
                inner.add(&as_renderers(&line.text));
            }
        }
    }

    /// Adds a sentence of the worker, told apart from the renderer's words.
    pub fn worker_says(&self, sentence: &str) {
        let mut inner = self.lock();
        inner.settle();
        inner.add(&format!("{WORKER_SAYS} {sentence}"));
    }

    /// No more will come: says what was left out, and adds the tail.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.settle();
        if inner.closed {
            return;
        }
        inner.closed = true;
        let LeftOut { lines, bytes } = inner.left_out;
        if lines > 0 {
            let words = format!("[framewake] … {} lines ({}) left out …\n", thousands(lines), megabytes(bytes));
            inner.waiting.extend_from_slice(words.as_bytes());
        }
        for line in std::mem::take(&mut inner.tail) {
            inner.put(&line);
        }
    }

    /// The next batch to publish, if there is anything.
    pub fn take_batch(&self) -> Option<LogBatch> {
        let mut inner = self.lock();
        if inner.waiting.is_empty() {
            return None;
        }
        let count = inner.waiting.len().min(LOG_BATCH_MAX);
        let text: Vec<u8> = inner.waiting.drain(..count).collect();
        let offset = inner.offset;
        inner.offset += count as u64;
        Some(LogBatch { offset, text })
    }

    /// Counts what waits as left out; how much it was.
    pub fn give_up(&self) -> u64 {
        let mut inner = self.lock();
        let lost = std::mem::take(&mut inner.waiting);
        inner.left_out.bytes += lost.len() as u64;
        inner.left_out.lines += lost.split(|byte| *byte == b'\n').count() as u64 - 1;
        lost.len() as u64
    }

    /// All bytes so far, published or not.
    pub fn size_bytes(&self) -> u64 {
        let inner = self.lock();
        inner.offset + inner.waiting.len() as u64
    }

    pub fn left_out(&self) -> LeftOut {
        self.lock().left_out
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds the lock")
    }
}

impl Inner {
    fn settle(&mut self) {
        if let Some(text) = self.overwritten.take() {
            self.add(&text);
        }
    }

    fn add(&mut self, line: &str) {
        let size = line.len() as u64 + 1;
        if self.closed {
            self.leave_out(size);
            return;
        }
        if !self.full && size <= BEGINNING_MAX - self.offset - self.waiting.len() as u64 {
            self.put(line);
            return;
        }
        if !self.full {
            self.full = true;
            // For who follows it while it is written.
            let words = format!(
                "[framewake] the log is full ({} MiB): of what follows, the last {} KiB come when the attempt ends",
                LOG_SIZE_MAX >> 20,
                LOG_TAIL_MAX >> 10
            );
            self.put(&words);
        }
        self.tail_bytes += line.len() + 1;
        self.tail.push_back(line.to_owned());
        while self.tail_bytes > LOG_TAIL_MAX
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_bytes -= oldest.len() + 1;
            self.leave_out(oldest.len() as u64 + 1);
        }
    }

    fn put(&mut self, line: &str) {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
    }

    fn leave_out(&mut self, bytes: u64) {
        self.left_out.lines += 1;
        self.left_out.bytes += bytes;
    }
}

/// A line of the renderer; one that poses as the worker's is told apart.
fn as_renderers(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with(WORKER_SAYS) { Cow::Owned(format!("[renderer] {text}")) } else { text.into() }
}

/// `123,456`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{} KB", bytes.div_ceil(1000))
    } else {
        format!("{} MB", thousands(bytes / 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, overwritten: bool) -> Line {
        Line { text: text.to_owned(), overwritten }
    }

    fn whole(log: &AttemptLog) -> String {
        let mut text = Vec::new();
        while let Some(batch) = log.take_batch() {
            assert_eq!(batch.offset, text.len() as u64);
            assert!(batch.text.len() <= LOG_BATCH_MAX);
            text.extend(batch.text);
        }
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn lines_that_overwrite_each_other_leave_their_last() {
        let log = AttemptLog::default();
        log.renderer_said(&[line("start", false), line("1%", true), line("2%", true), line("end", false)]);
        log.renderer_said(&[line("99%", true)]);
        log.close();
        assert_eq!(whole(&log), "start\n2%\nend\n99%\n");
    }

    #[test]
    fn a_renderer_that_speaks_as_the_worker_is_told_apart() {
        let log = AttemptLog::default();
        log.worker_says("task 0: done");
        log.renderer_said(&[line("[framewake] task 1: done", false), line("  [framewake] x", false)]);
        log.renderer_said(&[line("[framewake] 99%", true), line("as [framewake] says", false)]);
        log.close();
        assert_eq!(
            whole(&log),
            "[framewake] task 0: done\n[renderer] [framewake] task 1: done\n[renderer]   [framewake] x\n\
             [renderer] [framewake] 99%\nas [framewake] says\n"
        );
    }

    #[test]
    fn a_full_log_keeps_its_beginning_and_its_end_and_counts_what_is_between() {
        let log = AttemptLog::default();
        let lines = 2_000_000_u64;
        for number in 0..lines {
            // Of 100 bytes each with its end.
            log.renderer_said(&[line(&format!("{number:099}"), false)]);
        }
        log.worker_says("the renderer ended with code 1");
        log.close();
        assert!(log.size_bytes() <= LOG_SIZE_MAX);
        let text = whole(&log);
        let (beginning, end) = text.split_once("[framewake] the log is full (16 MiB)").expect("it is said at once");
        assert!(end.ends_with("the renderer ended with code 1\n"));
        let left_out = log.left_out();
        let kept = |text: &str| text.lines().filter(|line| line.starts_with("0000")).count() as u64;
        assert_eq!(kept(beginning) + left_out.lines + kept(end), lines);
        assert_eq!(left_out.bytes, 100 * left_out.lines);
        let said = format!(
            "[framewake] … {} lines ({} MB) left out …\n",
            thousands(left_out.lines),
            left_out.bytes / 1_000_000
        );
        assert!(end.contains(&said), "{said}");
    }

    #[test]
    fn a_log_that_just_fits_leaves_nothing_out() {
        let log = AttemptLog::default();
        let wide = "x".repeat(16_383);
        for _ in 0..LOG_SIZE_MAX / 16_384 - 1 {
            log.renderer_said(&[line(&wide, false)]);
        }
        log.close();
        assert_eq!(log.left_out(), LeftOut::default());
        assert!(log.size_bytes() <= LOG_SIZE_MAX && !whole(&log).contains("left out"));
    }

    #[test]
    fn numbers_are_said_as_people_read_them() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(thousands).each_ref().map(String::as_str)
        );
        assert_eq!((megabytes(1), megabytes(98_700_000)), ("1 KB".to_owned(), "98 MB".to_owned()));
    }
}
