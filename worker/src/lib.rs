//! The render watchdog: pulls orders, renders, verifies, commits, reports, and leaves by itself.
//! The program is a thin `main` around this library; tests use the parts directly.

pub mod agent;
pub mod commit;
pub mod config;
pub mod figures;
pub mod gpu;
pub mod healthcheck;
pub mod inputs;
pub mod job_mapping;
pub mod logs;
pub mod modes;
pub mod pictures;
pub mod port;
pub mod queue;
pub mod renderer;
pub mod store;
pub mod trust;
pub mod wakeups;

pub use framewake_reading::{lines, rules, verify};
