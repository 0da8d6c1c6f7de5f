//! The log of one attempt, as it comes: its last lines, with nothing in them that a terminal would obey.

use crate::failure;
use crate::text::LogCleaner;
use bytes::Bytes;
use framewake_proto::client::{Client, Error};
use framewake_proto::ids::{AttemptId, JobId};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Lines that are kept: more than anybody scrolls back; `framewake logs` has all.
const LINES_KEPT_MAX: usize = 5000;
/// Letters of a line that are kept: a renderer may print megabytes without an end of line.
const LINE_CHARS_MAX: usize = 2000;
/// Pieces on their way: a log that comes faster than it is drawn waits in its connection.
const PIECES_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Log {
    /// Which attempt it is of.
    pub(super) attempt: Option<String>,
    /// The last is the one that is being written.
    pub(super) lines: VecDeque<String>,
    /// Why nothing more comes.
    pub(super) broken: Option<String>,
    cleaner: LogCleaner,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    task: JoinHandle<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    /// Begins to read the log of this attempt, unless it is read already. Without one, what was read last stays.
    pub(super) fn read(&mut self, client: &Client, job: JobId, attempt: Option<&str>) {
        let Some(attempt) = attempt.filter(|attempt| self.attempt.as_deref() != Some(attempt)) else { return };
        *self = Log { attempt: Some(attempt.to_owned()), ..Log::default() };
        let Ok(id) = attempt.parse::<AttemptId>() else { return };
        let (send, pieces) = mpsc::channel(PIECES_MAX);
        let client = client.clone();
        let task = tokio::spawn(async move {
            let result = async {
                let mut log = client.log(job, id, true).await?;
                while let Some(piece) = log.next().await? {
                    if send.send(Ok(piece)).await.is_err() {
                        break; // Nobody reads it any more.
                    }
                }
                Ok(())
            };
            if let Err(error) = result.await {
                let _ = send.send(Err(error)).await;
            }
        });
        self.reading = Some(Reading { pieces, task });
    }

    /// The next time it is read from its beginning.
    pub(super) fn forget(&mut self) {
        *self = Log::default();
    }

    /// Takes in what comes next; waits for ever once all of it is there.
    pub(super) async fn more(&mut self) {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        match reading.pieces.recv().await {
            Some(Ok(piece)) => {
                let text = self.cleaner.clean(&piece);
                self.add(&text);
            }
            Some(Err(error)) => {
                self.broken = Some(failure::message(&error.into()));
                self.reading = None;
            }
            None => self.reading = None,
        }
    }

    fn add(&mut self, text: &str) {
        for (at, part) in text.split('\n').enumerate() {
            if at > 0 || self.lines.is_empty() {
                self.lines.push_back(String::new());
            }
            let last = self.lines.back_mut().expect("one was pushed");
            let room = LINE_CHARS_MAX.saturating_sub(last.chars().count());
            last.extend(part.chars().take(room));
        }
        while self.lines.len() > LINES_KEPT_MAX {
            self.lines.pop_front();
        }
    }

    /// Whether more may come.
    pub(super) fn is_read(&self) -> bool {
        self.reading.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_and_both_bounds_hold() {
        let mut log = Log::default();
        for piece in ["Fra:1 be", "gins\nFra:1 e", "nds\n"] {
            log.add(piece);
        }
        assert_eq!(log.lines, ["Fra:1 begins", "Fra:1 ends", ""]);
        log.add(&"x".repeat(10 * LINE_CHARS_MAX));
        log.add("y");
        assert_eq!(log.lines[2].len(), LINE_CHARS_MAX);
        log.add(&"\nline".repeat(2 * LINES_KEPT_MAX));
        assert_eq!((log.lines.len(), log.lines[0].as_str()), (LINES_KEPT_MAX, "line"));
    }
}
