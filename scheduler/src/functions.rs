//! Where workers are started. So far: processes of this machine.

pub mod local;
