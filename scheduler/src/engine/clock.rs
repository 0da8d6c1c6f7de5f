//! The engine's time: the wall clock at its start, carried on by a clock that never jumps, so that
//! setting the machine's clock ends no lease.

use framewake_proto::time::Timestamp;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    wall: Timestamp,
    steady: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { wall: Timestamp::now(), steady: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall.after(self.steady.elapsed())
    }

    /// How long until `at`; a millisecond at least, the clock's own grain.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now()).max(Duration::from_millis(1))
    }
}
