//! The rules of Framewake: which tasks are given to whom, what a report means, who is tried again,
//! how many workers there should be.
//!
//! [`farm::Farm`] is a plain value with `apply(now, event) -> Applied { changes, effects }`. There is
//! no clock here, no I/O, no async and no randomness, so that the same rules run in production, under
//! property tests and in a simulator. Time comes in as `now`, the world as an [`event::Event`]; what
//! must be durable goes out as [`change::Change`]s, what must be done as [`effect::Effect`]s.

pub mod calendar;
pub mod change;
pub mod coming;
pub mod cost;
pub mod effect;
pub mod estimate;
pub mod event;
pub mod farm;
pub mod gpus;
pub mod ledger;
pub mod price;
pub mod scale;
pub mod schedule;
pub mod values;

mod budget;
mod chunk;
mod health;
mod loss;
mod pool;
mod rank;
mod retry;
mod split;
mod timers;
