//! The scheduler.
//!
//! ```text
//! serve ─► rest, openfaas, engine, queue, functions, notify
//! rest ──► engine::Handle, store::read, objects
//! openfaas ► rest, notify
//! keda ──► engine::Handle
//! queue ─► credentials, engine::Handle
//! engine ► the rules (framewake-core), store
//! notify ► engine::Handle, store::read, queue
//! access ◄ rest, store
//! ```

pub mod access;
pub mod config;
pub mod credentials;
pub mod deployment_table;
pub mod dev;
pub mod engine;
pub mod errands;
pub mod function_table;
pub mod functions;
pub mod keda;
pub mod metrics;
pub mod notify;
pub mod objects;
pub mod openfaas;
pub mod queue;
pub mod rest;
pub mod s3_admin;
pub mod scan;
pub mod scene;
pub mod serve;
pub mod shutdown;
pub mod signing;
pub mod standby;
pub mod store;
pub mod target_table;
pub mod telemetry;
pub mod traces;
mod web;
