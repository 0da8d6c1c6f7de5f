//! The scheduler as a program of its own.

use clap::Parser;
use framewake_proto::chain::Chain;
use framewake_scheduler::config::Config;
use framewake_scheduler::{serve, shutdown, telemetry};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody installed one before");
    let config = Config::parse();
    telemetry::start(&config.shared.log, config.shared.log_format);
    match serve::run(config, false, |_| {}, shutdown::on_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}
