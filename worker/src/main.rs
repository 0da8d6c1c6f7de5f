//! The program `framewake-worker`: settings, signals, exit codes.

use framewake_proto::chain::Chain;
use framewake_proto::worker_exit;
use framewake_worker::config::{Config, LogFormat};
use framewake_worker::gpu::{self, LIST_GPUS_ARGUMENT, Probe};
use framewake_worker::healthcheck::{self, HEALTHCHECK_ARGUMENT};
use framewake_worker::modes::{self, Signals};
use framewake_worker::renderer::confinement::{Confinement, Demand};
use framewake_worker::renderer::keeper::{KEEPER_ARGUMENT, Keeper, keep};
use framewake_worker::renderer::leftovers::become_reaper;
use std::process::ExitCode;
use tokio::time::Instant;

/// Before there is anything to confine, and without the settings of a worker.
const PROBE_ARGUMENT: &str = "confinement";

fn main() -> ExitCode {
    let began = Instant::now();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(KEEPER_ARGUMENT) => {
            keep(&arguments.next().unwrap_or_default());
            return ExitCode::SUCCESS;
        }
        Some(PROBE_ARGUMENT) => return probe(),
        Some(LIST_GPUS_ARGUMENT) => return list_gpus(),
        _ => {}
    }
    if std::env::args().any(|argument| argument == HEALTHCHECK_ARGUMENT) {
        return healthcheck();
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing installed another provider before main began");
    let config = match Config::read() {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    start_log(config.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One for the render, one for heartbeats and reports; decoding has threads of its own.
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(run(config, began));
            // Nothing that still blocks (a slow disk, a name look-up) may hold the exit.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            ExitCode::from(worker_exit::FAILED)
        }
    }
}

/// How renderers would be confined here, for `framewake doctor`: what holds; then, if something is missing, what and why.
fn probe() -> ExitCode {
    use std::io::Write;
    let confinement = Confinement::probe(Demand::Auto, &[]).expect("no folder that could be missing was named");
    match writeln!(std::io::stdout(), "{}\n{}", confinement.held(), confinement.missing()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(worker_exit::FAILED),
    }
}

/// Says on standard output which GPUs this machine has. For the local provider, which so hears it from a process that it
/// can give up when the driver hangs.
fn list_gpus() -> ExitCode {
    use std::io::Write;
    #[allow(clippy::disallowed_methods)] // The one setting that this needs.
    let probe = std::env::var("FRAMEWAKE_GPU_PROBE").unwrap_or_else(|_| "nvml".to_owned());
    let listed = probe.parse::<Probe>().map_err(|error| error.to_string()).and_then(|probe| {
        let gpus = gpu::list(&probe).map_err(|error| Chain(&error).to_string())?;
        serde_json::to_string(&gpus).map_err(|error| error.to_string())
    });
    match listed.and_then(|text| writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::from(worker_exit::UNAVAILABLE)
        }
    }
}

/// Whether the worker of this container is well: exit code 0 or 1.
fn healthcheck() -> ExitCode {
    match healthcheck::check(std::env::args()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&Chain(&error).to_string());
            ExitCode::from(worker_exit::FAILED)
        }
    }
}

async fn run(config: Config, began: Instant) -> ExitCode {
    become_reaper();
    // The renderers' user may be ours: what is in our environment and memory is not for them.
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Nor is a crash to fill the disk with gigabytes of a scene, for us or for renderers, which inherit this.
    let _refused_nowhere = rustix::process::setrlimit(rustix::process::Resource::Core, no_core);
    let _not_everywhere = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _keeper = match std::env::current_exe().and_then(|program| Keeper::start(&program)) {
        Ok(keeper) => Some(keeper),
        Err(error) => {
            tracing::warn!(%error, "no keeper: renderers may outlive a worker that is killed");
            None
        }
    };
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("cannot listen to signals: {error}"));
            return ExitCode::from(worker_exit::FAILED);
        }
    };
    #[allow(clippy::disallowed_methods)] // Not a setting of ours.
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    match Box::pin(modes::run(config, path, signals, began)).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&Chain(&error).to_string());
            ExitCode::from(modes::exit_code_of(&error))
        }
    }
}

fn start_log(format: LogFormat) {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("FRAMEWAKE_LOG").unwrap_or_else(|_| "info,async_nats=warn".into());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Otherwise a line that the full disk refuses makes another one, whose failure ends the process.
    let subscriber = subscriber.log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

/// The last line of standard error is what the provider shows people.
fn complain(why: &str) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stderr(), "framewake-worker: {why}");
}
