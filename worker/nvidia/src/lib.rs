//! GPUs as NVIDIA's driver tells of them: read in the worker's own process, or by the program `framewake-gpu` for a worker
//! that is one static file and so can't load the driver's library.

mod nvml;

pub use nvml::Reader;

use framewake_proto::wire::GpuSample;
use serde::{Deserialize, Serialize};

/// The library can't be loaded, or does not answer.
#[derive(Debug, thiserror::Error)]
#[error("NVIDIA's library can't be used")]
pub struct Error(#[source] nvml_wrapper::error::NvmlError);

/// One look at the GPUs; a line of what the program says.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub samples: Vec<GpuSample>,
    /// UUID and number of each Xid since the last look.
    pub xids: Vec<(String, u32)>,
    /// By the driver's word they are there and can't be spoken to any more.
    pub lost: Vec<String>,
}
