//! What a worker counts, and how it stands: for its port, for its answers to wake-ups and for its exit code.

use framewake_proto::ids::{FunctionKey, WorkerId};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What a worker counts. Handles are the same figures.
#[derive(Debug, Clone, Default)]
pub struct Figures(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ready: AtomicBool,
    leaving: AtomicBool,
    working: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    given_back: AtomicU64,
    done_ms: AtomicU64,
    attempts: AtomicU64,
    answered_at: Mutex<Option<Instant>>,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub attempts: u64,
    pub done: u64,
    pub failed: u64,
    /// Tasks that were not rendered and go to another worker.
    pub given_back: u64,
}

impl Sums {
    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: Sums) -> Sums {
        Sums {
            attempts: self.attempts - before.attempts,
            done: self.done - before.done,
            failed: self.failed - before.failed,
            given_back: self.given_back - before.given_back,
        }
    }
}

impl Figures {
    /// Whether it takes orders.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// It was asked to go: it is not ready from now on, whatever it still finishes.
    pub fn set_leaving(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
    }

    pub fn begin_attempt(&self) {
        self.0.working.store(true, Ordering::Relaxed);
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end_attempt(&self) {
        self.0.working.store(false, Ordering::Relaxed);
    }

    pub fn done(&self, elapsed_ms: u32) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
        self.0.done_ms.fetch_add(elapsed_ms.into(), Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn given_back(&self, tasks: u64) {
        self.0.given_back.fetch_add(tasks, Ordering::Relaxed);
    }

    /// The scheduler answered a heartbeat.
    pub fn answered(&self) {
        *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed) && !self.is_leaving()
    }

    pub fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Relaxed)
    }

    pub fn sums(&self) -> Sums {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Sums {
            attempts: count(&self.0.attempts),
            done: count(&self.0.done),
            failed: count(&self.0.failed),
            given_back: count(&self.0.given_back),
        }
    }

    /// As Prometheus reads it.
    pub fn text(&self, worker: &WorkerId, function: &FunctionKey) -> String {
        let sums = self.sums();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, String)]| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        // Ids and names have no letters that would have to be escaped.
        let version = env!("CARGO_PKG_VERSION");
        let who = format!("{{worker=\"{worker}\",function=\"{}\",version=\"{version}\"}}", function.name);
        family("framewake_worker_info", "gauge", "Who this is.", &[(&who, "1".to_owned())]);
        let tasks = [
            ("{result=\"done\"}", sums.done.to_string()),
            ("{result=\"failed\"}", sums.failed.to_string()),
            ("{result=\"given_back\"}", sums.given_back.to_string()),
        ];
        family("framewake_worker_tasks_total", "counter", "Tries at tasks.", &tasks);
        let seconds = self.0.done_ms.load(Ordering::Relaxed) as f64 / 1000.0;
        let one = |value: String| [("", value)];
        family("framewake_worker_task_seconds_total", "counter", "Time of tasks done.", &one(seconds.to_string()));
        family("framewake_worker_attempts_total", "counter", "Chunks worked on.", &one(sums.attempts.to_string()));
        let flag = |set: bool| one(u8::from(set).to_string());
        family("framewake_worker_ready", "gauge", "1 while it takes orders.", &flag(self.is_ready()));
        let working = self.0.working.load(Ordering::Relaxed);
        family("framewake_worker_working", "gauge", "1 while it holds a chunk.", &flag(working));
        let answered_at = *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = answered_at {
            let age = at.elapsed().as_secs_f64().to_string();
            family("framewake_worker_heartbeat_age_seconds", "gauge", "Since a heartbeat was answered.", &one(age));
        }
        text
    }
}
