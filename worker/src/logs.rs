//! The log of one attempt: what the renderer said and what the worker did, bounded, cut into
//! batches for the stream of logs.

use crate::renderer::lines::Line;
use framewake_proto::wire::{LOG_BATCH_MAX, LOG_SIZE_MAX, LogBatch};
use std::sync::{Arc, Mutex};

/// Room kept at the end for the sentence that says how much was dropped.
const LAST_WORDS: u64 = 256;

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
    dropped_bytes: u64,
    /// The last line is one that the next overwrites.
    overwritten: Option<String>,
    closed: bool,
}

impl AttemptLog {
    /// Adds what the renderer said. Of lines that overwrite each other only the last stays.
    pub fn renderer_said(&self, lines: &[Line]) {
        let mut inner = self.lock();
        for line in lines {
            if line.overwritten {
                inner.overwritten = Some(line.text.clone());
            } else {
                inner.settle();
                inner.add(&line.text);
            }
        }
    }

    /// Adds a sentence of the worker, told apart from the renderer's words.
    pub fn worker_says(&self, sentence: &str) {
        let mut inner = self.lock();
        inner.settle();
        inner.add(&format!("[framewake] {sentence}"));
    }

    /// No more will come; says what was dropped.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.settle();
        if !inner.closed && inner.dropped_bytes > 0 {
            let words = format!(
                "[framewake] the log is full: {} more bytes were dropped (an attempt keeps {} MiB)\n",
                inner.dropped_bytes,
                LOG_SIZE_MAX >> 20
            );
            inner.waiting.extend_from_slice(words.as_bytes());
        }
        inner.closed = true;
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

    /// All bytes so far, published or not.
    pub fn size_bytes(&self) -> u64 {
        let inner = self.lock();
        inner.offset + inner.waiting.len() as u64
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
        let room = (LOG_SIZE_MAX - LAST_WORDS).saturating_sub(self.offset + self.waiting.len() as u64);
        // Once something was dropped nothing follows, so that the log has no hole in its middle.
        if self.dropped_bytes > 0 || size > room || self.closed {
            self.dropped_bytes += size;
            return;
        }
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
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
    fn a_full_log_says_how_much_it_dropped() {
        let log = AttemptLog::default();
        let wide = line(&"x".repeat(15_999), false);
        for _ in 0..2000 {
            log.renderer_said(std::slice::from_ref(&wide));
        }
        log.close();
        assert!(log.size_bytes() <= LOG_SIZE_MAX);
        let kept = (LOG_SIZE_MAX - LAST_WORDS) / 16_000;
        let dropped = (2000 - kept) * 16_000;
        let text = whole(&log);
        assert!(
            text.ends_with(&format!("the log is full: {dropped} more bytes were dropped (an attempt keeps 16 MiB)\n"))
        );
    }
}
