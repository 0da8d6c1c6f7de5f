//! The REST interface under `/v1`.

pub mod body;
pub mod faults;
pub mod problem;
pub mod schema;
