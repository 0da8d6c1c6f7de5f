//! A whole farm on one machine: `framewake dev`.

use crate::access::ListenError;
use crate::config::{Config, DevConfig};
use crate::credentials::{Issuer, Settings, server};
use crate::{serve, shutdown, telemetry};
use anyhow::{Context, Result, bail};
use framewake_functions::kubernetes::lease::Timing;
use framewake_proto::duration::Span;
use framewake_proto::ids::Name;
use framewake_proto::subjects::Subjects;
use rustix::process::{Pid, Signal, kill_process};
use std::convert::Infallible;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tracing::{info, warn};

/// Longest wait for nats-server.
const NATS_START_MAX: Duration = Duration::from_secs(20);
/// Pause between two tries to start it again.
const NATS_AGAIN: Duration = Duration::from_secs(1);
const NATS_STOP_MAX: Duration = Duration::from_secs(5);
/// Longest greeting of a server that is listened to; it has less than a kilobyte.
const GREETING_MAX: u64 = 16 * 1024;

/// Runs until Ctrl-C, then lets the workers leave and ends what it started.
///
/// # Errors
/// Says which part can't run, and what to do.
pub async fn run(config: DevConfig) -> Result<()> {
    telemetry::start(&config.shared.log, config.shared.log_format);
    let listen = config.shared.listen;
    config.shared.access.check_dev(listen)?;
    config.shared.access.check_origins(&config.shared.cors_allow)?;
    if let Some(keda) = config.shared.keda_listen {
        config.shared.access.check_dev(keda).map_err(ListenError::of_keda)?;
    }
    let data = &config.shared.data;
    fs::create_dir_all(data).with_context(|| format!("the data folder `{}`", data.display()))?;
    let data = data.canonicalize().with_context(|| format!("the data folder `{}`", data.display()))?;
    // Looked at before nats-server is started: a second `dev` must leave the first one's alone.
    drop(crate::store::lock(&data)?);
    let mut nats = NatsServer::start(&data, config.nats_server.as_deref()).await?;
    let store = config.store.clone().unwrap_or_else(|| format!("file://{}/store", data.display()));
    let seed = nats.seed();
    let mut shared = config.shared.clone();
    shared.data.clone_from(&data);
    let scheduler = Config {
        shared,
        nats: nats.url.clone(),
        credentials: Settings { nats_seed: Some(seed), credentials_for: config.credentials_for, nats_ca: None },
        store: store.clone(),
        store_setup: store.starts_with("s3://"),
        farm: farm(),
        // The nats-server is this folder's own.
        take_streams: true,
        kubeconfig: Vec::new(),
        leader_lease: None,
        lease_for: Span(Timing::of(Duration::ZERO).lease),
    };
    let ready = |url: &str| announce(url, &store);
    let stop = shutdown::on_signal();
    let outcome = tokio::select! {
        outcome = Box::pin(serve::run(scheduler, true, ready, stop.clone())) => outcome,
        never = nats.keep() => match never {},
    };
    nats.stop().await;
    info!("stopped");
    outcome
}

fn farm() -> Name {
    "framewake".parse().expect("a good name")
}

#[allow(clippy::print_stdout)] // The one line that scripts wait for.
fn announce(url: &str, store: &str) {
    println!("framewake is ready on {url} (outputs in {store}); Ctrl-C stops it");
}

/// A nats-server of our own, or the one that an earlier run left behind.
struct NatsServer {
    data: PathBuf,
    program: PathBuf,
    port: u16,
    url: String,
    pid: i32,
    child: Option<Child>,
}

impl NatsServer {
    async fn start(data: &Path, program: Option<&Path>) -> Result<NatsServer> {
        let noted = noted(data);
        let left = noted.filter(|(pid, _)| is_ours(*pid, data));
        // The same as before, if it is still to be had: workers of an earlier run look for it there.
        let port = match noted {
            Some((_, port)) if left.is_some() || is_free(port) => port,
            _ => free_port().context("no free port on this machine")?,
        };
        let (data, program) = (data.to_owned(), find(program)?);
        let mut server =
            NatsServer { data, program, port, url: format!("nats://127.0.0.1:{port}"), pid: 0, child: None };
        match left {
            Some((pid, _)) if server.has_whole_keys() && lets_nobody_in(port).await => {
                info!("nats-server of an earlier run is still there (process {pid})");
                server.pid = pid;
            }
            Some((pid, _)) => {
                // It trusts everybody, or other keys than ours.
                server.pid = pid;
                server.stop().await;
                server.spawn().await?;
            }
            None => server.spawn().await?,
        }
        Ok(server)
    }

    /// Of the account that the server trusts.
    fn seed(&self) -> PathBuf {
        self.data.join("nats.seed")
    }

    fn trusted(&self) -> PathBuf {
        self.data.join("nats-trusted.conf")
    }

    fn has_keys(&self) -> bool {
        self.seed().exists() && self.trusted().exists()
    }

    /// Not those of a version that could take nothing back.
    fn has_whole_keys(&self) -> bool {
        let subjects = Subjects::new(farm());
        self.has_keys() && Issuer::open(&self.seed(), subjects).is_ok_and(|issuer| issuer.can_take_back())
    }

    /// Makes those that are missing: workers of an earlier run are let in with what the ones before have signed.
    fn make_keys(&self) -> Result<()> {
        if self.has_whole_keys() {
            return Ok(());
        }
        let keys = if self.has_keys() { server::Keys::renew(&self.seed())? } else { server::Keys::make() };
        for half in [self.seed(), self.trusted()] {
            match fs::remove_file(&half) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove `{}`", half.display()));
                }
                _ => {}
            }
        }
        keys.write(&self.seed(), &self.trusted())
    }

    async fn spawn(&mut self) -> Result<()> {
        self.make_keys()?;
        let (port, folder, log) = (self.port, self.data.join("nats"), self.data.join("nats.log"));
        // An acknowledged report may be lost with the power for this long; what is lost costs a check, not a render.
        // Of itself it promises its streams no more than three quarters of what is free now, and refuses those that reserve more.
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: \"1s\", max_file_store: 6GiB }}\ninclude ./nats-trusted.conf\n",
            folder.display()
        );
        let config = config_file(&self.data);
        fs::write(&config, text).with_context(|| format!("cannot write `{}`", config.display()))?;
        let said = fs::File::create(&log).context("cannot write the log of nats-server")?;
        let mut child = Command::new(&self.program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(said.try_clone().context("cannot share a log")?)
            .stderr(said)
            // Ctrl-C is for us; it must outlive the workers that leave.
            .process_group(0)
            .spawn()
            .with_context(|| format!("`{}` does not start", self.program.display()))?;
        self.pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("nats-server ended at once")?;
        let note = note(&self.data);
        fs::write(&note, format!("{} {port}", self.pid))
            .with_context(|| format!("cannot write `{}`", note.display()))?;
        let began = tokio::time::Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !answers(port).await {
            if let Some(status) = child.try_wait()? {
                bail!("nats-server ended at once, {status}: see `{}`", log.display());
            }
            if began.elapsed() > NATS_START_MAX {
                bail!("nats-server does not answer after {} s: see `{}`", NATS_START_MAX.as_secs(), log.display());
            }
            look.tick().await;
        }
        self.child = Some(child);
        Ok(())
    }

    /// Starts it again whenever it ends, on the same port: scheduler and workers connect again by themselves.
    async fn keep(&mut self) -> Infallible {
        loop {
            self.ended().await;
            warn!("nats-server has ended and is started again");
            while let Err(error) = self.spawn().await {
                warn!("{error:#}");
                tokio::time::sleep(NATS_AGAIN).await;
            }
        }
    }

    async fn ended(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
            return;
        }
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while is_ours(self.pid, &self.data) {
            look.tick().await;
        }
    }

    async fn stop(&mut self) {
        // Not to be hit: another process that has its number by now.
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| is_ours(self.pid, &self.data)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(NATS_STOP_MAX, self.ended()).await.is_err() {
            warn!("nats-server (process {}) does not end", self.pid);
            return;
        }
        let _ = fs::remove_file(note(&self.data));
    }
}

fn note(data: &Path) -> PathBuf {
    data.join("nats.pid")
}

fn config_file(data: &Path) -> PathBuf {
    data.join("nats.conf")
}

/// Process and port of the nats-server of an earlier run.
fn noted(data: &Path) -> Option<(i32, u16)> {
    let text = fs::read_to_string(note(data)).ok()?;
    let (pid, port) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, port.parse().ok()?))
}

/// Whether the process is there and runs on our configuration: numbers of processes come again.
fn is_ours(pid: i32, data: &Path) -> bool {
    let config = config_file(data);
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_bytes())
}

/// A NATS server greets with `INFO`.
async fn answers(port: u16) -> bool {
    greeting(port).await.is_some()
}

/// Whether the server there wants to know who comes.
async fn lets_nobody_in(port: u16) -> bool {
    greeting(port).await.is_some_and(|text| text.contains("\"auth_required\":true"))
}

async fn greeting(port: u16) -> Option<String> {
    let greet = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut line = String::new();
        BufReader::new(stream).take(GREETING_MAX).read_line(&mut line).await.ok()?;
        line.starts_with("INFO ").then_some(line)
    };
    tokio::time::timeout(Duration::from_millis(500), greet).await.ok().flatten()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[allow(clippy::disallowed_methods)] // PATH is not a setting of ours.
fn find(program: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = program {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from(".venv/bin")]);
    let found = folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    found.context("nats-server is missing: `make setup` installs it into .venv, or name one with --nats-server")
}
