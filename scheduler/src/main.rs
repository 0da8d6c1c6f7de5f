//! The scheduler as a program of its own.

use clap::{CommandFactory, FromArgMatches, Subcommand};
use framewake_proto::chain::Chain;
use framewake_scheduler::config::Config;
use framewake_scheduler::errands::{self, Errand};
use framewake_scheduler::{serve, shutdown, telemetry};
use std::process::ExitCode;

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
    // On the heap: it holds every part of the scheduler.
    match Box::pin(serve::run(config, false, |_| {}, shutdown::on_signal())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}
