//! `framewake notify`: who is told of what.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::{Style, table};
use crate::{pages, text};
use comfy_table::Cell;
use framewake_proto::ids::Name;
use framewake_proto::notify::{DeadView, Notice, Occasion, Secret, TargetSpec, TargetStored, TargetView, Way};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Largest file of a secret.
const SECRET_FILE_MAX: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List targets (the default)
    List,
    /// Add a target
    Add(Add),
    /// Show a target and how it fares
    Show { name: Name },
    /// Tell a target something now, and say how it went
    Test { name: Name },
    /// Remove a target, with everything that waits for it
    Rm { name: Name },
    /// List what could not be delivered and was given up, newest first
    Dead,
    /// Try again what was given up
    Resend {
        /// As `framewake notify dead` names them
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// Everything that was given up
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    name: Name,
    #[command(flatten)]
    way: WayArgs,
    /// File of the webhook's secret, `whsec_…`; `echo whsec_$(openssl rand -base64 32)` makes one
    #[arg(long, value_name = "FILE", requires = "webhook")]
    secret_file: Option<PathBuf>,
    /// What it is told of: succeeded, failed, `first_error`, late, missed; nothing: only what jobs ask for
    #[arg(long, value_delimiter = ',')]
    on: Vec<Occasion>,
    /// Only of this project
    #[arg(long)]
    project: Option<Name>,
    /// Put it in the place of the target of this name
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct WayArgs {
    /// Address that gets signed CloudEvents
    #[arg(long, value_name = "URL", requires = "secret_file")]
    webhook: Option<String>,
    /// File of the address that Slack, Mattermost and others give out for their channels
    #[arg(long, value_name = "FILE")]
    slack_file: Option<PathBuf>,
    /// Mail addresses
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    mail: Vec<String>,
    /// CloudEvents on NATS, on the subject `FARM.events.OCCASION.PROJECT`
    #[arg(long)]
    nats: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let client = &context.client;
    match args.command.unwrap_or(Command::List) {
        Command::List => print_list(context, &client.targets().await?)?,
        Command::Add(add) => {
            let replace = add.replace;
            let spec = target(add)?;
            let stored = if replace { client.put_target(&spec).await? } else { client.add_target(&spec).await? };
            say_stored(context, &stored)?;
        }
        Command::Show { name } => show(context, &client.target(&name).await?)?,
        Command::Test { name } => return test(context, &name).await,
        Command::Rm { name } => {
            client.remove_target(&name).await?;
            say(context, &format!("target {name} is removed"))?;
        }
        Command::Dead => print_dead(context).await?,
        Command::Resend { ids, all } => {
            let ids = if all { dead(context).await?.into_iter().map(|dead| dead.id).collect() } else { ids };
            for id in &ids {
                client.resend_notification(id).await?;
            }
            say(context, &format!("{} sent again", text::count(ids.len() as u64, "notification")))?;
        }
    }
    Ok(Outcome::Done)
}

fn target(add: Add) -> Result<TargetSpec, BadInput> {
    let way = match (add.way, add.secret_file) {
        (WayArgs { webhook: Some(url), .. }, Some(file)) => {
            Way::Webhook { url: Secret::new(url), secret: read_secret(&file)? }
        }
        (WayArgs { slack_file: Some(file), .. }, _) => Way::Slack { url: read_secret(&file)? },
        (WayArgs { nats: true, .. }, _) => Way::Nats {},
        (WayArgs { mail, .. }, _) => Way::Mail { to: mail },
    };
    let on: BTreeSet<Occasion> = add.on.into_iter().collect();
    Ok(TargetSpec { name: add.name, on, project: add.project, way })
}

/// From a file, because words on a command line can be read by everybody on the machine.
fn read_secret(file: &Path) -> Result<Secret, BadInput> {
    let cannot = |error: std::io::Error| BadInput::new(format!("can't read `{}`: {error}", file.display()));
    if std::fs::metadata(file).map_err(cannot)?.len() > SECRET_FILE_MAX {
        return Err(BadInput::new(format!(
            "`{}` is no secret: it has more than {SECRET_FILE_MAX} bytes",
            file.display()
        )));
    }
    std::fs::read_to_string(file).map(|text| Secret::new(text.trim())).map_err(cannot)
}

fn say(context: &Context, line: &str) -> anyhow::Result<()> {
    if !context.printer.is_json() {
        context.printer.line(line)?;
    }
    Ok(())
}

fn say_stored(context: &Context, stored: &TargetStored) -> anyhow::Result<()> {
    if context.printer.is_json() {
        context.printer.json(stored)?;
        return Ok(());
    }
    let TargetStored { change, target } = stored;
    let (way, address) = (text::clean(&target.way), text::clean(&target.address));
    context.printer.line(format_args!("target {}: {}, {way} {address}", target.name, change.as_str()))?;
    if target.on.is_empty() {
        context.printer.note("it is told only what jobs ask for by its name; --on names more");
    }
    Ok(())
}

fn occasions(on: &BTreeSet<Occasion>) -> String {
    on.iter().map(|occasion| occasion.as_str()).collect::<Vec<_>>().join(", ")
}

fn print_list(context: &Context, targets: &[TargetView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    let mut table = table(&["target", "way", "address", "on", "project", "waiting", "given up"], &["address", "on"]);
    for target in targets {
        if printer.is_json() {
            printer.json(target)?;
            continue;
        }
        table.add_row([
            Cell::new(&target.name),
            Cell::new(text::clean(&target.way)),
            Cell::new(text::clean(&target.address)),
            Cell::new(occasions(&target.on)),
            Cell::new(target.project.as_ref().map_or("any", Name::as_str)),
            Cell::new(target.waiting),
            printer.cell((target.dead > 0).then_some(Style::Bad), &target.dead.to_string()),
        ]);
    }
    if printer.is_json() {
        return Ok(());
    }
    if targets.is_empty() {
        printer.note("nobody is told anything: add a target with `framewake notify add`");
        return Ok(());
    }
    printer.table(&table)?;
    Ok(())
}

fn show(context: &Context, target: &TargetView) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(target)?;
        return Ok(());
    }
    let project = target.project.as_ref().map_or("any", Name::as_str);
    printer.line(format_args!(
        "target {}: {} {}",
        target.name,
        text::clean(&target.way),
        text::clean(&target.address)
    ))?;
    printer.line(format_args!("on {}, project {project}", occasions(&target.on)))?;
    printer.line(format_args!("{} waiting, {} given up", target.waiting, target.dead))?;
    if let Some(at) = target.delivered_at {
        printer.line(format_args!("last told {at}"))?;
    }
    if let Some(at) = target.failed_at {
        let failed = format!("last failed {at}: {}", text::clean(&target.failure));
        printer.line(printer.paint(Style::Bad, &failed))?;
    }
    Ok(())
}

async fn test(context: &Context, name: &Name) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let tried = context.client.test_target(name).await?;
    if printer.is_json() {
        printer.json(&tried)?;
    } else if tried.delivered {
        printer.line(format_args!("target {name} has taken a test"))?;
    } else {
        let failed = format!("target {name} was not told: {}", text::clean(&tried.reason));
        printer.line(printer.paint(Style::Bad, &failed))?;
    }
    Ok(if tried.delivered { Outcome::Done } else { Outcome::Failed })
}

async fn dead(context: &Context) -> anyhow::Result<Vec<DeadView>> {
    Ok(pages::all(async |cursor| context.client.dead_notifications(cursor).await).await?)
}

async fn print_dead(context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    let dead = dead(context).await?;
    let mut table = table(&["notification", "target", "about", "given up", "tries", "reason"], &["about", "reason"]);
    for dead in &dead {
        if printer.is_json() {
            printer.json(dead)?;
            continue;
        }
        table.add_row([
            Cell::new(text::clean(&dead.id)),
            Cell::new(&dead.target),
            Cell::new(text::clean(&about(&dead.notice))),
            Cell::new(dead.given_up_at),
            Cell::new(dead.tries),
            Cell::new(text::clean(&dead.reason)),
        ]);
    }
    if !printer.is_json() && !dead.is_empty() {
        printer.table(&table)?;
    }
    Ok(())
}

fn about(notice: &Notice) -> String {
    match notice {
        Notice::Succeeded(job) => format!("job {} succeeded", job.name),
        Notice::Failed(job) => format!("job {} failed", job.name),
        Notice::FirstError(error) => format!("first error of job {}", error.name),
        Notice::Late { schedule, .. } => format!("schedule {schedule} late"),
        Notice::Missed { schedule, .. } => format!("schedule {schedule} missed"),
        Notice::Budget(budget) => format!("budget of project {}", budget.project),
        Notice::Test { .. } => "test".to_owned(),
    }
}
