//! What the scheduler is told at its start: arguments, or the environment.

use crate::access::{HostName, Mode, OidcSettings, Origin};
use crate::engine::JOBS_MAX_DEFAULT;
use crate::metrics::Alias;
use crate::telemetry::LogFormat;
use crate::traces::TraceSettings;
use clap::Args;
use framewake_functions::kubernetes::lease::LeaseName;
use framewake_proto::duration::Span;
use framewake_proto::ids::Name;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings that `framewake-scheduler` and `framewake dev` share.
#[derive(Debug, Clone, Args)]
pub struct Shared {
    /// Folder of the database, logs and caches
    #[arg(long, env = "FRAMEWAKE_DATA", default_value = ".framewake")]
    pub data: PathBuf,
    /// Address of the REST interface
    #[arg(long, env = "FRAMEWAKE_LISTEN", default_value = "127.0.0.1:7700", value_parser = listen_address)]
    pub listen: SocketAddr,
    /// Who may use the REST interface and the pages
    #[arg(long, env = "FRAMEWAKE_ACCESS", value_enum, default_value_t)]
    pub access: Mode,
    /// Names beside `localhost` and IP addresses under which the farm is reached where nobody is asked for a token, as
    /// `farm.example`: a page of another site, whose name was made to lead here, is refused (DNS rebinding)
    #[arg(long, env = "FRAMEWAKE_NAMES", value_delimiter = ',')]
    pub names: Vec<HostName>,
    #[command(flatten)]
    pub oidc: OidcSettings,
    /// File with the scheduler's certificate and those of its authorities (PEM), for TLS at every address that it listens on;
    /// renewed, it is taken without a restart
    #[arg(long, env = "FRAMEWAKE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// File with the key of the certificate (PEM)
    #[arg(long, env = "FRAMEWAKE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Origins whose pages may ask with a token, as `https://tools.example`; none without it. Needs `--access tokens`
    #[arg(long, env = "FRAMEWAKE_CORS_ALLOW", value_delimiter = ',')]
    pub cors_allow: Vec<Origin>,
    /// Function files, or folders of them, to register at the start
    #[arg(long, env = "FRAMEWAKE_FUNCTIONS", value_delimiter = ',')]
    pub functions: Vec<PathBuf>,
    /// Pool files, or folders of them: where workers are started beside this machine, which is a pool of its own, `local`
    #[arg(long, env = "FRAMEWAKE_POOLS", value_delimiter = ',')]
    pub pools: Vec<PathBuf>,
    /// Workers that fit this machine at once; a function may take more than one slot [default: processors]
    #[arg(long, env = "FRAMEWAKE_SLOTS", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub slots: Option<u32>,
    /// Jobs that are not over; one more is refused. Each takes about half a kilobyte of memory
    #[arg(long, env = "FRAMEWAKE_JOBS_MAX", default_value_t = JOBS_MAX_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub jobs_max: u32,
    /// How long a machine or GPU that fails what others render gets no work, the first time; doubles with each further
    /// one, up to 8h; `0s`: never
    #[arg(long, env = "FRAMEWAKE_SET_ASIDE", default_value = "10m")]
    pub set_aside: Span,
    /// The worker program [default: framewake-worker beside this one]
    #[arg(long, env = "FRAMEWAKE_WORKER_BIN")]
    pub worker_bin: Option<PathBuf>,
    /// Beginnings of addresses that jobs may use as inputs, as `https://assets.example/` or `s3://bucket/`
    #[arg(long, env = "FRAMEWAKE_URLS_ALLOWED", value_delimiter = ',')]
    pub urls_allowed: Vec<String>,
    /// Networks within which webhooks may be called, as `10.0.0.0/8`; the Internet may be, this network may not
    #[arg(long, env = "FRAMEWAKE_NOTIFY_ALLOW", value_delimiter = ',')]
    pub notify_allow: Vec<ipnet::IpNet>,
    /// How long a notification is tried before it is given up; `0s`: once
    #[arg(long, env = "FRAMEWAKE_NOTIFY_FOR", default_value = "1d")]
    pub notify_for: Span,
    /// Mail server of notifications: `smtps://user:password@host`, or `smtp://host?tls=required` for STARTTLS
    #[arg(long, env = "FRAMEWAKE_SMTP", hide_env_values = true)]
    pub smtp: Option<String>,
    /// Address that notifications by mail come from
    #[arg(long, env = "FRAMEWAKE_SMTP_FROM")]
    pub smtp_from: Option<String>,
    /// Address for KEDA's questions (gRPC), as `0.0.0.0:7701`; without it they are not answered. It asks for no token:
    /// beyond loopback only with `--access tokens` or `open`
    #[arg(long, env = "FRAMEWAKE_KEDA_LISTEN", value_parser = listen_address)]
    pub keda_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub openfaas: crate::openfaas::Settings,
    #[command(flatten)]
    pub scans: crate::scan::ScanSettings,
    /// Names of others under which `/metrics` gives its figures too
    #[arg(long, env = "FRAMEWAKE_METRICS_ALIASES", value_delimiter = ',')]
    pub metrics_aliases: Vec<Alias>,
    #[command(flatten)]
    pub traces: TraceSettings,
    /// Log lines to keep, as in `RUST_LOG`
    #[arg(long, env = "RUST_LOG", default_value = "info,sqlx=warn,async_nats=warn,object_store=warn")]
    pub log: String,
    #[arg(long, env = "FRAMEWAKE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// The scheduler of Framewake: takes jobs, plans, and wakes workers.
#[derive(Debug, Clone, clap::Parser)]
#[command(version, name = "framewake-scheduler")]
pub struct Config {
    #[command(flatten)]
    pub shared: Shared,
    /// NATS with `JetStream`
    #[arg(long, env = "FRAMEWAKE_NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats: String,
    #[command(flatten)]
    pub credentials: crate::credentials::Settings,
    /// Where inputs and outputs lie: `file:///folder` or `s3://bucket/prefix`, with AWS_* in the environment
    #[arg(long, env = "FRAMEWAKE_STORE")]
    pub store: String,
    /// Make the bucket and its rules, if they are missing
    #[arg(long, env = "FRAMEWAKE_STORE_SETUP")]
    pub store_setup: bool,
    /// Prefix of this farm's subjects and streams on NATS
    #[arg(long, env = "FRAMEWAKE_FARM", default_value = "framewake")]
    pub farm: Name,
    /// Take the farm's streams on NATS over from another database, and empty them
    #[arg(long, env = "FRAMEWAKE_TAKE_STREAMS")]
    pub take_streams: bool,
    /// Way to the API server of Kubernetes, where pools or a lease need one [default: the service account of this pod]
    #[arg(long, env = "KUBECONFIG", value_delimiter = ':')]
    pub kubeconfig: Vec<PathBuf>,
    /// A Lease of Kubernetes, as NAMESPACE/NAME: of several schedulers that are told the same, the one that holds it acts,
    /// and the others wait
    #[arg(long, env = "FRAMEWAKE_LEADER_LEASE")]
    pub leader_lease: Option<LeaseName>,
    /// How long the lease may go unrenewed before another takes it (2s to 5m)
    #[arg(long, env = "FRAMEWAKE_LEASE_FOR", default_value = "15s", requires = "leader_lease")]
    pub lease_for: Span,
}

/// Everything on this machine: scheduler, nats-server, a folder as store, workers from zero.
#[derive(Debug, Clone, Args)]
pub struct DevConfig {
    #[command(flatten)]
    pub shared: Shared,
    /// The nats-server program [default: from PATH, or .venv/bin]
    #[arg(long, env = "FRAMEWAKE_NATS_SERVER")]
    pub nats_server: Option<PathBuf>,
    /// How long a worker's credential for NATS is good (2s to 7d); it is renewed when half is over
    #[arg(long, env = "FRAMEWAKE_CREDENTIALS_FOR", default_value = "1h", value_parser = crate::credentials::lasts)]
    pub credentials_for: Span,
    /// Another store than the folder DATA/store
    #[arg(long, env = "FRAMEWAKE_STORE")]
    pub store: Option<String>,
}

/// An address to listen on, or how one is written, with the port that was meant.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(7700);
        format!("write an IP address and a port, as 127.0.0.1:{port} for this machine alone")
    })
}
