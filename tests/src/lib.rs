//! The real parts that system tests run against: scheduler, workers, nats-server, S3 server,
//! renderers; each started on free ports with a folder of its own, and ended with the test.

pub mod audit;
pub mod browser;
pub mod chart;
pub mod crowd;
pub mod docker;
pub mod farm;
pub mod fire;
pub mod focus;
pub mod gateway;
pub mod jobs;
pub mod kubernetes;
pub mod monitoring;
pub mod noop;
pub mod nvml;
pub mod parts;
pub mod played;
pub mod provider;
pub mod proxy;
pub mod receiver;
pub mod registry;
pub mod robbed;
pub mod spans;
pub mod terminal;
pub mod thief;
pub mod tight;
pub mod tls;
pub mod tokens;
pub mod wait;
