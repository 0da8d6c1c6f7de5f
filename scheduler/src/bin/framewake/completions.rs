//! `framewake completions`: what a shell needs to complete our words.

use crate::failure::Outcome;
use crate::{Cli, Context};
use clap::CommandFactory as _;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `framewake completions bash > ~/.local/share/bash-completion/completions/framewake`
    shell: clap_complete::Shell,
}

pub(crate) fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "framewake", &mut script);
    context.printer.raw(&script)?;
    Ok(Outcome::Done)
}
