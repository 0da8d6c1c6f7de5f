//! What a renderer says and writes, read: its lines and what they mean, its bridge's messages, its outputs.
//! Everything here comes from a program that may be broken or hostile, and is bounded. Leaves out processes,
//! sockets and NATS, so that a fuzzer builds it in a minute.

pub mod bridge;
pub mod lines;
pub mod pictures;
pub mod rules;
pub mod verify;
