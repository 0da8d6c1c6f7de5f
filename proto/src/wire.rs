//! The messages between scheduler and workers, generated from `messages/framewake.proto`.

#![allow(clippy::pedantic, missing_debug_implementations)] // Generated code.

include!(concat!(env!("OUT_DIR"), "/framewake.v1.rs"));

use crate::tasks::TaskSet;

/// Largest message, except for the answer to a claim (see [`STEP_SIZE_MAX`]).
pub const MESSAGE_SIZE_MAX: usize = 8 * 1024;
/// Most calls of the store that are signed together: enough for the frames of a chunk that are stored while nobody can be asked.
pub const STORE_CALLS_MAX: usize = 64;
/// Largest request for so many.
pub const SIGN_SIZE_MAX: usize = 128 * 1024;
/// Largest description of a step: what fits a NATS message with its default limit of 1 MiB.
pub const STEP_SIZE_MAX: usize = 768 * 1024;
/// Most task results in one report, so that it stays below [`MESSAGE_SIZE_MAX`].
pub const REPORT_TASKS_MAX: usize = 16;
/// Longest `message` of a failed task, in bytes.
pub const FAILURE_MESSAGE_MAX: usize = 512;
/// Longest `evidence` of a failed task, in bytes.
pub const EVIDENCE_MAX: usize = 4096;
/// Longest progress note, in bytes.
pub const NOTE_MAX: usize = 200;
/// Most bytes of log in one batch.
pub const LOG_BATCH_MAX: usize = 64 * 1024;
/// Longest description of a renderer's confinement, in bytes.
pub const CONFINEMENT_MAX: usize = 64;
/// Most GPUs of one worker, and samples of them in a heartbeat.
pub const GPUS_MAX: usize = 16;
/// Most bytes of log kept of one attempt: its beginning, and the last [`LOG_TAIL_MAX`] of what follows.
pub const LOG_SIZE_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes of the end of a log that is too long.
pub const LOG_TAIL_MAX: usize = 256 * 1024;

impl From<&TaskSet> for Vec<TaskRun> {
    fn from(tasks: &TaskSet) -> Vec<TaskRun> {
        tasks.runs().iter().map(|run| TaskRun { first: run.start, end: run.end }).collect()
    }
}

/// The set of tasks in some runs; runs that end before they begin are empty.
pub fn task_set(runs: &[TaskRun]) -> TaskSet {
    runs.iter().map(|run| run.first..run.end).collect()
}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends at a character.
pub fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The longest suffix of `text` of at most `bytes_max` bytes that begins at a character.
pub fn clip_front(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}
