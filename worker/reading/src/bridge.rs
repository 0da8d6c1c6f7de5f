//! What a session's bridge tells the worker: one JSON object a line, cut out of bytes that come as they come.

use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{NOTE_MAX, clip};
use serde::Deserialize;
use std::path::PathBuf;

/// Largest message of a bridge.
pub const MESSAGE_SIZE_MAX: usize = 1024 * 1024;

/// Bridge -> worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Tell {
    Hello {
        /// `Blender 5.0.1`
        renderer: String,
    },
    Opened,
    Progress {
        permille: u32,
        #[serde(default)]
        note: String,
    },
    Rendered {
        path: PathBuf,
        #[serde(default)]
        device: String,
        #[serde(default)]
        memory_peak_bytes: u64,
    },
    Failed {
        message: String,
        #[serde(default)]
        verdict: Option<Verdict>,
    },
}

impl Tell {
    /// The message in few words, for one who expected another.
    pub fn describe(&self) -> String {
        match self {
            Tell::Hello { .. } => "hello".to_owned(),
            Tell::Opened => "opened".to_owned(),
            Tell::Progress { .. } => "progress".to_owned(),
            Tell::Rendered { .. } => "rendered".to_owned(),
            Tell::Failed { message, .. } => format!("failed: {}", clip(message, NOTE_MAX)),
        }
    }
}

/// Why a bridge is not understood; nothing it says later is.
#[derive(Debug, thiserror::Error)]
pub enum Nonsense {
    #[error("its message is longer than 1 MiB")]
    TooLong,
    #[error("it said nonsense: {0}")]
    Malformed(serde_json::Error),
}

/// The bytes of a bridge, cut into messages.
#[derive(Debug, Default)]
pub struct Messages {
    received: Vec<u8>,
}

impl Messages {
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next whole message. To be asked until there is none before more is pushed: that bounds what is kept.
    pub fn take(&mut self) -> Result<Option<Tell>, Nonsense> {
        let end = self.received.iter().take(MESSAGE_SIZE_MAX + 1).position(|byte| *byte == b'\n');
        let Some(end) = end else {
            return if self.received.len() > MESSAGE_SIZE_MAX { Err(Nonsense::TooLong) } else { Ok(None) };
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(Nonsense::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_the_bytes_are_cut() {
        let said = b"{\"is\":\"opened\"}\n{\"is\":\"progress\",\"permille\":7}\n";
        for at in 0..said.len() {
            let mut messages = Messages::default();
            let mut told = Vec::new();
            for piece in [&said[..at], &said[at..]] {
                messages.push(piece);
                while let Some(tell) = messages.take().expect("good") {
                    told.push(tell);
                }
            }
            assert_eq!(told, [Tell::Opened, Tell::Progress { permille: 7, note: String::new() }], "cut at {at}");
        }
    }

    #[test]
    fn a_message_without_end_is_given_up_at_its_bound() {
        let mut messages = Messages::default();
        messages.push(&vec![b' '; MESSAGE_SIZE_MAX]);
        assert!(matches!(messages.take(), Ok(None)));
        messages.push(b" \n");
        assert!(matches!(messages.take(), Err(Nonsense::TooLong)));
    }
}
