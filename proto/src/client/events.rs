//! A job's events over one connection. When it ends, ask for a new one from [`Events::last_seq`].

use super::{ANSWER_SIZE_MAX, Error};
use crate::api::EventView;
use crate::sse::{Message, Parser};
use reqwest::Response;
use std::collections::VecDeque;

/// The events this version understands; others come from a newer scheduler and are passed over.
const KNOWN: [&str; 8] = [
    "job_state",
    "step_state",
    "attempt_started",
    "tasks_done",
    "task_failed",
    "attempt_ended",
    "run_late",
    "progress",
];

#[derive(Debug)]
pub struct Events {
    response: Response,
    url: String,
    parser: Parser,
    ready: VecDeque<Message>,
    last_seq: Option<u64>,
}

impl Events {
    pub(super) fn new(response: Response, url: String, after: Option<u64>) -> Events {
        Events { response, url, parser: Parser::default(), ready: VecDeque::new(), last_seq: after }
    }

    /// The number of the last event that [`Events::next`] gave.
    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// The next event; `None` when the scheduler ends the stream. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<EventView>, Error> {
        loop {
            while let Some(message) = self.ready.pop_front() {
                if !KNOWN.contains(&message.event.as_str()) {
                    continue;
                }
                let event: EventView = serde_json::from_str(&message.data)
                    .map_err(|error| Error::Misunderstood { url: self.url.clone(), error })?;
                self.last_seq = event.seq.or(self.last_seq);
                return Ok(Some(event));
            }
            let piece = self.response.chunk().await.map_err(|error| Error::lost(&self.url, error))?;
            let Some(piece) = piece else { return Ok(None) };
            self.parser
                .push(&piece, &mut self.ready)
                .map_err(|_| Error::TooLarge { url: self.url.clone(), size_bytes_max: ANSWER_SIZE_MAX })?;
        }
    }
}
