//! Where workers are started. So far: processes of this machine.

pub(crate) mod gpus;
pub mod local;
