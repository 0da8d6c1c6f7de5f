//! A whole farm on one machine: `framewake dev`.

use crate::config::{Config, DevConfig};
use crate::{serve, shutdown, telemetry};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tracing::info;

/// Longest wait for nats-server.
const NATS_START_MAX: Duration = Duration::from_secs(20);
const NATS_STOP_MAX: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C, then lets the workers leave and ends what it started.
///
/// # Errors
/// Says which part can't run, and what to do.
pub async fn run(config: DevConfig) -> Result<()> {
    telemetry::start(&config.shared.log, config.shared.log_format);
    let listen = config.shared.listen;
    if !listen.ip().is_loopback() {
        bail!(
            "`framewake dev` has no access control and listens on this machine only: use 127.0.0.1 instead of {listen}"
        );
    }
    let data = &config.shared.data;
    fs::create_dir_all(data).with_context(|| format!("the data folder `{}`", data.display()))?;
    let data = data.canonicalize().with_context(|| format!("the data folder `{}`", data.display()))?;
    // Looked at before nats-server is started: a second `dev` must leave the first one's alone.
    drop(crate::store::lock(&data)?);
    let mut nats = NatsServer::start(&data, config.nats_server.as_deref()).await?;
    let store = config.store.clone().unwrap_or_else(|| format!("file://{}/store", data.display()));
    let mut shared = config.shared.clone();
    shared.data.clone_from(&data);
    let scheduler = Config {
        shared,
        nats: nats.url.clone(),
        store: store.clone(),
        store_setup: store.starts_with("s3://"),
        farm: "framewake".parse().expect("a good name"),
    };
    let ready = |url: &str| announce(url, &store);
    let outcome = serve::run(scheduler, true, ready, shutdown::on_signal()).await;
    info!("stopping");
    nats.stop().await;
    outcome
}

#[allow(clippy::print_stdout)] // The one line that scripts wait for.
fn announce(url: &str, store: &str) {
    println!("framewake is ready on {url} (outputs in {store}); Ctrl-C stops it");
}

/// A nats-server of our own, or the one that an earlier run left behind.
struct NatsServer {
    url: String,
    pid: i32,
    child: Option<Child>,
    note: PathBuf,
}

impl NatsServer {
    async fn start(data: &Path, program: Option<&Path>) -> Result<NatsServer> {
        let note = data.join("nats.pid");
        if let Some((pid, port)) = left_behind(&note)
            && answers(port).await
        {
            info!("nats-server of an earlier run is still there (process {pid})");
            return Ok(NatsServer { url: url(port), pid, child: None, note });
        }
        let program = find(program)?;
        let port = free_port().context("no free port on this machine")?;
        let folder = data.join("nats");
        let config = data.join("nats.conf");
        // An acknowledged report may be lost with the power for this long; what is lost costs a check, not a render.
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: \"1s\" }}\n",
            folder.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write `{}`", config.display()))?;
        let log = fs::File::create(data.join("nats.log")).context("cannot write the log of nats-server")?;
        let mut child = Command::new(&program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            // Ctrl-C is for us; it must outlive the workers that leave.
            .process_group(0)
            .spawn()
            .with_context(|| format!("`{}` does not start", program.display()))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("nats-server ended at once")?;
        fs::write(&note, format!("{pid} {port}")).context("cannot write the note of nats-server")?;
        let began = tokio::time::Instant::now();
        while !answers(port).await {
            if let Some(status) = child.try_wait()? {
                bail!("nats-server ended at once, {status}: see `{}`", data.join("nats.log").display());
            }
            if began.elapsed() > NATS_START_MAX {
                bail!(
                    "nats-server does not answer after {} s: see `{}`",
                    NATS_START_MAX.as_secs(),
                    data.join("nats.log").display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(NatsServer { url: url(port), pid, child: Some(child), note })
    }

    async fn stop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = async {
            match &mut self.child {
                Some(child) => drop(child.wait().await),
                None => {
                    while is_nats(self.pid) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(NATS_STOP_MAX, ended).await;
        let _ = fs::remove_file(&self.note);
    }
}

fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

fn left_behind(note: &Path) -> Option<(i32, u16)> {
    let text = fs::read_to_string(note).ok()?;
    let (pid, port) = text.trim().split_once(' ')?;
    let (pid, port) = (pid.parse().ok()?, port.parse().ok()?);
    is_nats(pid).then_some((pid, port))
}

/// Whether the process is there and is a nats-server: pids come again.
fn is_nats(pid: i32) -> bool {
    let there = Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    there && fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("nats-server"))
}

/// A NATS server greets with `INFO`.
async fn answers(port: u16) -> bool {
    let greet = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.ok()?;
        (&hello == b"INFO ").then_some(())
    };
    tokio::time::timeout(Duration::from_millis(500), greet).await.ok().flatten().is_some()
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
