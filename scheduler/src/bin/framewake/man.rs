//! `framewake man`: manual pages, a page for each command, made of the same words as its help.

use crate::failure::Outcome;
use crate::{Cli, Context};
use anyhow::Context as _;
use clap::{CommandFactory as _, Subcommand as _};
use framewake_scheduler::config::Config;
use framewake_scheduler::errands::Errand;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder that the pages are written into, as `~/.local/share/man/man1`
    folder: PathBuf,
}

pub(crate) fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let folder = args.folder.display();
    for program in [Cli::command(), Errand::augment_subcommands(Config::command())] {
        clap_mangen::generate_to(program, &args.folder)
            .with_context(|| format!("can't write manual pages into `{folder}`: is it a folder?"))?;
    }
    context.printer.note(format_args!("read one with `man {folder}/framewake-submit.1`"));
    Ok(Outcome::Done)
}
