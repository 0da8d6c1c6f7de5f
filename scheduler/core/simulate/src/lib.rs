//! A hostile world around the rules, on a fake clock, from a seed: workers, a provider, a queue, a store
//! and people, which repeat, reorder, delay, drop and lie; a scheduler that is killed between any two steps.
//! An auditor that shares no code with the rules holds every change and every effect against books of its
//! own. See `docs/simulation.md`.

pub mod budgets;
pub mod fault;
pub mod invariant;
pub mod plant;
pub mod run;
pub mod scale;
pub mod scaling;

mod auditor;
mod bits;
mod chance;
mod disk;
mod objects;
mod shape;
mod trace;
mod world;

pub use shape::Setting;
