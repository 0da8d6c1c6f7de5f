//! Everything that crosses a process border: ids, values, messages, names of subjects and keys,
//! REST bodies and the typed REST client. No I/O beyond that client.

pub mod budget;
pub mod chain;
pub mod cost;
pub mod driver;
pub mod duration;
pub mod estimate;
pub mod frames;
pub mod function;
pub mod ids;
pub mod job;
pub mod login;
pub mod money;
pub mod notify;
pub mod objects;
pub mod order;
pub mod pool;
pub mod price;
pub mod schedule;
pub mod size;
pub mod sse;
pub mod start;
pub mod tasks;
pub mod template;
pub mod time;
pub mod trace;
pub mod verdict;
pub mod worker_exit;
pub mod xid;

#[cfg(feature = "wire")]
pub mod permissions;
#[cfg(feature = "wire")]
pub mod sealed;
#[cfg(feature = "wire")]
pub mod subjects;
#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "yaml")]
pub mod yaml;

#[cfg(feature = "schema")]
pub mod access;
#[cfg(feature = "schema")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "schema")]
pub mod overview;
#[cfg(feature = "schema")]
pub mod scaling;
#[cfg(feature = "schema")]
pub mod scan;
