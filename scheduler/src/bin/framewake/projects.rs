//! `framewake projects`: who shares the farm, and how.

use crate::failure::Outcome;
use crate::printer::table;
use crate::{Context, pages};
use framewake_proto::api::{ProjectChange, ProjectView};
use framewake_proto::ids::Name;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List projects (the default)
    List,
    /// Set a project's share of the farm
    Set {
        name: Name,
        /// 1 to 1000, relative to the other projects that have work
        #[arg(long)]
        weight: u32,
    },
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let projects = match args.command.unwrap_or(Command::List) {
        Command::List => list(context).await?,
        Command::Set { name, weight } => vec![context.client.change_project(&name, &ProjectChange { weight }).await?],
    };
    let printer = &context.printer;
    if printer.is_json() {
        for project in &projects {
            printer.json(project)?;
        }
        return Ok(Outcome::Done);
    }
    let mut table = table(&["project", "weight"], &[]);
    for project in &projects {
        table.add_row([project.name.to_string(), project.weight.to_string()]);
    }
    printer.table(&table)?;
    Ok(Outcome::Done)
}

async fn list(context: &Context) -> anyhow::Result<Vec<ProjectView>> {
    Ok(pages::all(async |cursor| context.client.projects(cursor).await).await?)
}
