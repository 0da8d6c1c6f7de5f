//! What the worker is told at its start, by flags or environment.

use crate::gpu::Probe;
use crate::queue;
use crate::renderer::confinement::Demand;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionKey, Name, WorkerId};
use framewake_proto::notify::Secret;
use framewake_proto::size::Size;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where wake-ups are listened to, as gateways expect it.
pub const LISTEN_DEFAULT: &str = "0.0.0.0:8080";
/// Most wake-ups that may wait at once.
const INFLIGHT_LIMIT: usize = 1000;
/// What a made-up id takes of the host's name; the process and the time come behind it.
const HOST_PART_MAX: usize = 24;

/// Renders what the farm orders, then leaves.
#[derive(Debug, Clone, Parser)]
#[command(name = "framewake-worker", version)]
pub struct Config {
    /// Ask the worker that runs here whether it is well, by its port, and end: exit code 0 or 1. Needs nothing else.
    #[arg(long)]
    pub healthcheck: bool,
    /// When it takes orders, and how many.
    #[arg(long, env = "FRAMEWAKE_MODE", value_enum, default_value = "pull")]
    pub mode: Mode,
    /// Address of NATS, with user and password where it needs them.
    #[arg(long, env = "FRAMEWAKE_NATS_URL", hide_env_values = true, default_value = "nats://127.0.0.1:4222")]
    pub nats_url: SecretUrl,
    /// File with the certificates of the authorities that NATS is trusted by (PEM) [default: those of the system].
    #[arg(long, env = "FRAMEWAKE_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// What it joins the farm with, where NATS lets nobody in without. By its variable, or in a file: others can read command lines.
    #[arg(long, env = "FRAMEWAKE_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<SecretText>,
    /// File with the join token.
    #[arg(long, env = "FRAMEWAKE_JOIN_TOKEN_FILE", conflicts_with = "join_token")]
    join_token_file: Option<PathBuf>,
    /// By which the farm knows the worker that it has asked for, where a join token is not of one worker alone.
    #[arg(long, env = "FRAMEWAKE_INVITATION", hide_env_values = true)]
    invitation: Option<SecretText>,
    /// Prefix of the farm's subjects.
    #[arg(long, env = "FRAMEWAKE_FARM", default_value = "framewake")]
    pub farm: Name,
    /// Object store: `file:///abs/folder` or `s3://bucket/prefix` (credentials from `AWS_*`).
    #[arg(long, env = "FRAMEWAKE_STORE", hide_env_values = true)]
    pub store: SecretUrl,
    /// Id of this worker, its own among all that run [default: made of the host name and the time].
    #[arg(long, env = "FRAMEWAKE_WORKER")]
    pub worker: Option<WorkerId>,
    /// The function it runs: `blender@1`.
    #[arg(long, env = "FRAMEWAKE_FUNCTION")]
    pub function: FunctionKey,
    /// Folder of its own for scratch files; made if missing, emptied at the end [default: `framewake-USER/ID` in `TMPDIR`,
    /// or in `/tmp`].
    #[arg(long, env = "FRAMEWAKE_SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// How long it has to leave when it is asked to (SIGTERM): what ends it then should wait a little longer. A frame that
    /// doesn't fit is handed back.
    #[arg(long, env = "FRAMEWAKE_GRACE", default_value = "30s", value_parser = seconds)]
    pub grace: Span,
    /// In mode `http`: where it listens to wake-ups.
    #[arg(long, env = "FRAMEWAKE_LISTEN", default_value = LISTEN_DEFAULT)]
    pub listen: SocketAddr,
    /// In mode `http`: how long a wake-up may take that doesn't say so itself (`X-Deadline`). What comes first of this and
    /// of the gateway's patience must be this.
    #[arg(long, env = "FRAMEWAKE_DRAIN_FOR", default_value = "55s", value_parser = seconds)]
    pub drain_for: Span,
    /// In mode `http`: how many wake-ups may wait for the same drain. One more is told to come later (429).
    #[arg(long, env = "FRAMEWAKE_MAX_INFLIGHT", default_value = "8", value_parser = inflight)]
    pub max_inflight: usize,
    /// Name of the machine, by which the farm sets it aside if it fails. In a container the name it has there is that of
    /// the container: give it the machine's [default: the host name].
    #[arg(long, env = "FRAMEWAKE_HOST")]
    pub host: Option<String>,
    /// Leave after this many milliseconds without work. At 0 it leaves as soon as no order waits.
    #[arg(long, env = "FRAMEWAKE_LINGER_MS", default_value_t = 10_000)]
    pub linger_ms: u64,
    /// Folder of the inputs cache, shared by the workers of a machine. Without it, in the scratch folder, or beside it
    /// where none is told.
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
    /// How GPUs are read: `nvml`, `none`, `program:FILE` (the `framewake-gpu` that the static worker starts by itself), or for
    /// tests `script:FILE`.
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

/// When a worker takes orders, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Until none comes for a while.
    Pull,
    /// One.
    Exec,
    /// Whenever a gateway wakes it.
    Http,
}

/// Names under which others know these settings; they count where Framewake's own are not set. Those of of-watchdog are for
/// mode `http`.
const ALIASES: [(&str, &str); 4] = [
    ("TERMINATION_GRACE_S", "grace"),
    ("exec_timeout", "drain_for"),
    ("max_inflight", "max_inflight"),
    ("port", "listen"),
];

/// Whole seconds, or a number with a unit.
fn seconds(text: &str) -> Result<Span, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if plain { format!("{text}s") } else { text.to_owned() };
    text.parse::<Span>().map_err(|error| error.to_string())
}

fn inflight(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=INFLIGHT_LIMIT).contains(number));
    number.ok_or_else(|| format!("`{text}` is no number from 1 to {INFLIGHT_LIMIT}"))
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// From the arguments and the environment.
    #[allow(clippy::disallowed_methods)] // This is where the environment is read.
    pub fn read() -> Result<Config, clap::Error> {
        Config::read_from(std::env::args_os(), |name| std::env::var(name).ok())
    }

    fn read_from(
        arguments: impl IntoIterator<Item = std::ffi::OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, clap::Error> {
        let command = Config::command();
        let matches = command.clone().try_get_matches_from(arguments)?;
        let mut config = Config::from_arg_matches(&matches)?;
        for (name, setting) in ALIASES {
            let counts = setting == "grace" || config.mode == Mode::Http;
            let is_set = matches.value_source(setting) != Some(ValueSource::DefaultValue);
            let Some(text) = variable(name).filter(|text| counts && !is_set && !text.is_empty()) else { continue };
            let taken = match setting {
                "grace" => seconds(&text).map(|time| config.grace = time),
                "drain_for" => seconds(&text).map(|time| config.drain_for = time),
                "max_inflight" => inflight(&text).map(|number| config.max_inflight = number),
                _ => text.parse().map(|port| config.listen.set_port(port)).map_err(|error| format!("{error}")),
            };
            taken.map_err(|why| {
                command.clone().error(ErrorKind::ValueValidation, format!("`{name}={text}` in the environment: {why}"))
            })?;
        }
        Ok(config)
    }

    /// The join token, from where it was told; an empty one is none.
    pub(crate) fn join_token(&self) -> Result<Option<Secret>, queue::Error> {
        let text = match (&self.join_token, &self.join_token_file) {
            (Some(token), _) => token.0.clone(),
            (None, None) => return Ok(None),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|error| queue::Error::JoinToken { path: path.clone(), error })?
            }
        };
        Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new))
    }

    /// As this worker, which was invited so.
    #[must_use]
    pub(crate) fn invited(&self, invitation: Option<String>) -> Config {
        let mut config = self.clone();
        config.invitation = invitation.map(SecretText).or(config.invitation);
        config
    }

    /// Empty where it has none.
    pub(crate) fn invitation(&self) -> String {
        self.invitation.as_ref().map(|invitation| invitation.0.clone()).unwrap_or_default()
    }

    /// The id it was given; else one that no other has.
    pub fn worker_id(&self) -> WorkerId {
        self.worker.clone().unwrap_or_else(|| {
            let host: String = self.host().to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
            let host = if host.is_empty() { "worker" } else { &host[..host.len().min(HOST_PART_MAX)] };
            // Containers of one node have its name, the same process number, and may begin in the same millisecond.
            let (process, now) = (std::process::id(), framewake_proto::time::Timestamp::now().0);
            let id = format!("{host}-{process}-{now}-{:08x}", fastrand::u32(..));
            id.parse().expect("letters, digits and hyphens, and not too many")
        })
    }

    /// Where a worker of this id has its scratch files.
    pub fn scratch_folder(&self, worker: &WorkerId) -> PathBuf {
        self.scratch.clone().unwrap_or_else(|| self.default_folder().join(worker.as_str()))
    }

    /// The folder of all workers of this user that were told none.
    pub fn default_folder(&self) -> PathBuf {
        std::env::temp_dir().join(format!("framewake-{}", rustix::process::geteuid().as_raw()))
    }

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

    pub fn cache_folder(&self, worker: &WorkerId) -> PathBuf {
        // Where none is told, it outlives the worker, as one that is told.
        let own = || self.scratch.as_ref().map_or_else(|| self.default_folder(), |_| self.scratch_folder(worker));
        self.cache.clone().unwrap_or_else(|| own().join("cache"))
    }
}

/// Never printed.
#[derive(Clone)]
struct SecretText(String);

impl FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<SecretText, Self::Err> {
        Ok(SecretText(text.to_owned()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
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

    fn read(words: &str, environment: &[(&str, &str)]) -> Result<Config, clap::Error> {
        let words = format!("framewake-worker --store file:///s --function f@1 {words}");
        Config::read_from(words.split_whitespace().map(Into::into), |name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn settings_of_others_count_where_ours_are_not_set() {
        let theirs = [("exec_timeout", "9m"), ("max_inflight", "3"), ("port", "9090"), ("fprocess", "blender")];
        let config = read("--mode http", &theirs).expect("good");
        assert_eq!(config.drain_for, "540s".parse().expect("a span"));
        assert_eq!((config.max_inflight, config.listen.port()), (3, 9090));
        let config = read("--mode http --drain-for 60 --listen 127.0.0.1:81", &theirs).expect("good");
        assert_eq!(config.drain_for, "60s".parse().expect("a span"));
        assert_eq!((config.max_inflight, config.listen.port()), (3, 81));
        let config = read("", &[("exec_timeout", "nonsense"), ("TERMINATION_GRACE_S", "90")]).expect("not looked at");
        assert_eq!((config.mode, config.max_inflight), (Mode::Pull, 8));
        assert_eq!(config.grace, "90s".parse().expect("a span"));
        for bad in [("exec_timeout", "1h30m"), ("max_inflight", "0"), ("port", "99999")] {
            let error = read("--mode http", &[bad]).expect_err(bad.0).to_string();
            assert!(error.contains(bad.0) && error.contains(bad.1), "{error}");
        }
    }

    #[test]
    fn who_is_told_no_name_and_no_folder_has_its_own() {
        let config = read("--host Node.Example_7", &[]).expect("good");
        let worker = config.worker_id();
        assert!(worker.as_str().starts_with("nodeexample7-"), "{worker}");
        // Within one millisecond, as in containers that begin together.
        let others: std::collections::BTreeSet<_> = (0..200).map(|_| config.worker_id()).collect();
        assert_eq!(others.len(), 200);
        let long = read(&format!("--host {}", "n".repeat(200)), &[]).expect("good");
        assert!(long.worker_id().as_str().len() <= framewake_proto::ids::NAME_LEN_MAX);
        assert!(read("--host ...", &[]).expect("good").worker_id().as_str().starts_with("worker-"));
        let scratch = config.scratch_folder(&worker);
        assert!(scratch.starts_with(std::env::temp_dir()) && scratch.ends_with(worker.as_str()), "{scratch:?}");
        assert_eq!(config.cache_folder(&worker), config.default_folder().join("cache"));
        let told = read("--scratch /s", &[]).expect("good");
        assert_eq!(told.cache_folder(&worker), PathBuf::from("/s/cache"));
    }

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
