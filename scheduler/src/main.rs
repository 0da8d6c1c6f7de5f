//! The scheduler as a program of its own.

use clap::{CommandFactory, FromArgMatches, Subcommand};
use framewake_proto::chain::Chain;
use framewake_scheduler::config::Config;
use framewake_scheduler::errands::{self, Errand};
use framewake_scheduler::{serve, shutdown, standby, telemetry};
use std::process::ExitCode;

/// Exit code of a scheduler that could not renew its lease.
const EXIT_LEASE_LOST: i32 = 75;

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody installed one before");
    let matches = Errand::augment_subcommands(Config::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .get_matches();
    if matches.subcommand_name().is_some() {
        telemetry::start("warn", telemetry::LogFormat::Text);
        let errand = Errand::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        return match errands::run(errand).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {}", Chain(&*error));
                ExitCode::FAILURE
            }
        };
    }
    let config = Config::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    telemetry::start(&config.shared.log, config.shared.log_format);
    match act(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Acts when its turn comes, where there are several.
async fn act(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signal();
    let held = standby::wait(&config, &stop, end_at_once).await?;
    if stop.is_cancelled() {
        return Ok(());
    }
    // On the heap: it holds every part of the scheduler.
    let outcome = Box::pin(serve::run(config, false, |_| {}, stop)).await;
    if let Some(held) = held {
        held.give_back().await;
    }
    outcome
}

#[allow(clippy::disallowed_methods)] // Another may act in a moment: nothing here may, not even to close what is open.
fn end_at_once(why: &str) {
    tracing::error!("{why}: ending at once, before another scheduler acts");
    std::process::exit(EXIT_LEASE_LOST);
}
