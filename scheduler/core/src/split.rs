//! How many tasks the next chunk of a step gets.

use crate::values::Timing;
use framewake_proto::job::{CHUNK_TASKS_MAX, Chunking};

/// A chunk's load time should be at most this share of it.
const LOAD_SHARE: f64 = 0.2;
/// Shortest time counted for a task: clocks of workers tick in milliseconds.
const TASK_S_MIN: f64 = 0.0005;

/// `waiting`: tasks not given out yet. `workers`: how many there are or will be to share them.
///
/// Small at first (one task until one was measured), towards the target length once it is known what
/// a task takes, and small again at the end: never more than half of an even share of what is left,
/// so that the last chunks end together (guided self-scheduling, Polychronopoulos and Kuck 1987).
pub(crate) fn chunk_size(chunking: Chunking, timing: Timing, waiting: u32, workers: u32) -> u32 {
    let size = match chunking {
        Chunking::Fixed { size } => return size.min(waiting).max(1),
        Chunking::Auto { target } => match timing.task_s {
            None => 1,
            Some(measured_s) => {
                let length_s = target.0.as_secs_f64().max(timing.load_s.unwrap_or(0.0) / LOAD_SHARE);
                let tasks = (length_s / measured_s.max(TASK_S_MIN)).min(f64::from(CHUNK_TASKS_MAX));
                // In range by the line above.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let size = tasks as u32;
                size
            }
        },
    };
    let share = waiting.div_ceil(2 * workers.max(1));
    size.min(share).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::duration::Span;
    use std::time::Duration;

    fn auto(target_s: u64) -> Chunking {
        Chunking::Auto { target: Span(Duration::from_secs(target_s)) }
    }

    fn measured(load_s: f64, task_s: f64) -> Timing {
        Timing { load_s: Some(load_s), task_s: Some(task_s) }
    }

    #[test]
    fn chunks_are_small_at_first() {
        assert_eq!(chunk_size(auto(30), Timing::default(), 1000, 2), 1);
    }

    #[test]
    fn chunks_grow_towards_the_target_length() {
        assert_eq!(chunk_size(auto(30), measured(0.0, 3.0), 1000, 2), 10);
        assert_eq!(chunk_size(auto(30), measured(0.0, 60.0), 1000, 2), 1);
    }

    #[test]
    fn a_long_load_makes_chunks_longer_than_the_target() {
        assert_eq!(chunk_size(auto(30), measured(20.0, 2.0), 1000, 2), 50);
    }

    #[test]
    fn chunks_shrink_at_the_end_and_never_to_nothing() {
        assert_eq!(chunk_size(auto(30), measured(0.0, 1.0), 20, 4), 3);
        assert_eq!(chunk_size(auto(30), measured(0.0, 1.0), 3, 4), 1);
    }

    #[test]
    fn chunks_are_bounded() {
        assert_eq!(chunk_size(auto(86_400), measured(0.0, 0.0), 10_000_000, 1), CHUNK_TASKS_MAX);
        assert_eq!(chunk_size(Chunking::Fixed { size: 7 }, measured(0.0, 1.0), 5, 100), 5);
    }
}
