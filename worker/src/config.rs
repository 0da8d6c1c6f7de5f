//! What the worker is told at its start, by flags or environment.

use crate::gpu::Probe;
use crate::renderer::confinement::Demand;
use clap::Parser;
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::size::Size;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Renders what the farm orders, then leaves.
#[derive(Debug, Parser)]
#[command(name = "framewake-worker", version)]
pub struct Config {
    /// Address of NATS, with user and password where it needs them.
    #[arg(long, env = "FRAMEWAKE_NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats_url: SecretUrl,
    /// Prefix of the farm's subjects.
    #[arg(long, env = "FRAMEWAKE_FARM", default_value = "framewake")]
    pub farm: Name,
    /// Object store: `file:///abs/folder` or `s3://bucket/prefix` (credentials from `AWS_*`).
    #[arg(long, env = "FRAMEWAKE_STORE", hide_env_values = true)]
    pub store: SecretUrl,
    /// Id of this worker, its own among all that run.
    #[arg(long, env = "FRAMEWAKE_WORKER")]
    pub worker: WorkerId,
    /// The function it runs: `blender@1`.
    #[arg(long, env = "FRAMEWAKE_FUNCTION")]
    pub function: FunctionKey,
    /// Folder of its own for scratch files; made if missing, emptied at the end.
    #[arg(long, env = "FRAMEWAKE_SCRATCH")]
    pub scratch: PathBuf,
    /// Name of the machine, by which the farm sets it aside if it fails. In a container the name it has there is that of
    /// the container: give it the machine's [default: the host name].
    #[arg(long, env = "FRAMEWAKE_HOST")]
    pub host: Option<String>,
    /// Leave after this many milliseconds without work. At 0 it leaves as soon as no order waits.
    #[arg(long, env = "FRAMEWAKE_LINGER_MS", default_value_t = 10_000)]
    pub linger_ms: u64,
    /// Folder of the inputs cache, shared by the workers of a machine. Without it, in the scratch folder.
    #[arg(long, env = "FRAMEWAKE_CACHE")]
    pub cache: Option<PathBuf>,
    /// Most bytes the inputs cache keeps: `10GiB`. At 0 it keeps nothing beyond the order at hand.
    #[arg(long, env = "FRAMEWAKE_CACHE_SIZE", default_value = "10GiB")]
    pub cache_size: Size,
    /// Largest input fetched from a URL.
    #[arg(long, env = "FRAMEWAKE_URL_INPUT_SIZE", default_value = "64GiB")]
    pub url_input_size: Size,
    /// How long results that nobody takes are told again and again while NATS is away; then the worker leaves. They lie in
    /// the store, so that whoever gets the task next counts them and renders nothing.
    #[arg(long, env = "FRAMEWAKE_KEEP_REPORTS", default_value = "1h")]
    pub keep_reports: Span,
    /// How far renderers are confined: to writing their own folders, to signals among themselves, without system calls
    /// that only attacks need.
    #[arg(long, env = "FRAMEWAKE_CONFINE", value_enum, default_value = "auto")]
    pub confine: Demand,
    /// Folders that renderers may write beside their scratch folder, as a cache of textures that all share; separated by
    /// `:`.
    #[arg(long, env = "FRAMEWAKE_WRITABLE", value_delimiter = ':')]
    pub writable: Vec<PathBuf>,
    /// The GPUs of this worker as their driver names them (`GPU-5c9a…`), with commas between [default: all that are there].
    #[arg(long, env = "FRAMEWAKE_GPUS", value_delimiter = ',')]
    pub gpus: Vec<String>,
    /// How GPUs are read: `nvml`, `none`, or for tests `script:FILE`.
    #[arg(long, env = "FRAMEWAKE_GPU_PROBE", default_value = "nvml")]
    pub gpu_probe: Probe,
    /// Address of a port of its own with `/metrics`, `/_/health` and `/_/ready`; port 0: any that is free. Without it there
    /// is none: the farm hears of the worker over NATS.
    #[arg(long, env = "FRAMEWAKE_METRICS")]
    pub metrics: Option<SocketAddr>,
    /// Folder in which dcgm-exporter looks for the job of each GPU (its `DCGM_HPC_JOB_MAPPING_DIR`).
    #[arg(long, env = "FRAMEWAKE_DCGM_JOB_MAPPING")]
    pub dcgm_job_mapping: Option<PathBuf>,
    /// How the worker's own log looks.
    #[arg(long, env = "FRAMEWAKE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// How often GPUs are looked at, in milliseconds (20 to 60000). Seldom: short frames have no measurement.
    #[arg(long, env = "FRAMEWAKE_GPU_LOOK_MS", default_value_t = 1000)]
    pub gpu_look_ms: u64,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    pub fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    /// How often GPUs are looked at.
    pub fn gpu_look(&self) -> Duration {
        Duration::from_millis(self.gpu_look_ms.clamp(20, 60_000))
    }

    /// The machine's name, as given or as the system has it.
    pub fn host(&self) -> String {
        let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(system)
    }

    pub fn cache_folder(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.scratch.join("cache"))
    }
}

/// A URL that may hold a password: never printed whole.
#[derive(Clone)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its secrets, for the client that connects to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<SecretUrl, Self::Err> {
        Ok(SecretUrl(text.to_owned()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Several servers may be listed; each may carry a password before its last `@`.
        for (at, part) in self.0.split(',').enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (scheme, rest) = part.split_once("://").map_or(("", part), |(scheme, rest)| (scheme, rest));
            let colon = if scheme.is_empty() { "" } else { "://" };
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let host = host.split('?').next().unwrap_or_default();
            write!(f, "{comma}{scheme}{colon}{host}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_without_its_password() {
        for (url, printed) in [
            ("nats://user:p@ss@host:4222", "nats://host:4222"),
            ("nats://a:b@one:1,nats://c:d@two:2", "nats://one:1,nats://two:2"),
            ("s3://bucket/prefix?token=abc", "s3://bucket/prefix"),
            ("127.0.0.1:4222", "127.0.0.1:4222"),
        ] {
            let url: SecretUrl = url.parse().expect("any text");
            assert_eq!(url.to_string(), printed);
            assert_eq!(format!("{url:?}"), printed);
        }
    }
}
