//! `framewake budgets` and `budget`: what projects and jobs may cost.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::{Style, table};
use crate::{find, job, pages, retry};
use framewake_proto::budget::{BudgetView, JobBudgetChange, Period, ProjectBudget, Standing, WARN_DEFAULT};
use framewake_proto::ids::Name;
use framewake_proto::job::{AtLimit, Budget};
use framewake_proto::money::Money;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List budgets and what of them is gone (the default)
    List,
    /// Set what a project may cost: `budgets set film --month 500EUR`
    Set {
        project: Name,
        /// In each month, in UTC: `500EUR`
        #[arg(long, required_unless_present = "total")]
        month: Option<Money>,
        /// In all, what was paid before included
        #[arg(long)]
        total: Option<Money>,
        /// Say so when that much of it is gone
        #[arg(long, default_value_t = Percent(WARN_DEFAULT))]
        warn: Percent,
        /// When another frame does not fit: only say so, hold the project after the frames at hand, or finish the chunks at hand
        #[arg(long, default_value = "hold")]
        over: Over,
    },
    /// Let a project go on without its budgets, or without one of them
    Rm {
        project: Name,
        /// Only that for each month
        #[arg(long)]
        month: bool,
        /// Only that in all
        #[arg(long, conflicts_with = "month")]
        total: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    /// Id of a job that is not over, the beginning of one, or `latest`
    job: String,
    /// What it may cost, as `10USD`, with what is spent already; or `none`
    limit: String,
    /// When another frame does not fit: only say so, hold the job after the frames at hand, or finish the chunks at hand
    #[arg(long, default_value = "hold")]
    over: Over,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Over {
    Warn,
    Hold,
    Finish,
}

impl From<Over> for AtLimit {
    fn from(over: Over) -> AtLimit {
        match over {
            Over::Warn => AtLimit::Warn,
            Over::Hold => AtLimit::Hold,
            Over::Finish => AtLimit::Finish,
        }
    }
}

/// `80%`
#[derive(Debug, Clone, Copy)]
struct Percent(u32);

impl std::str::FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Percent, String> {
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| (1..=100).contains(percent));
        number.map(Percent).ok_or_else(|| format!("`{text}` is not 1% to 100%"))
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    match args.command.unwrap_or(Command::List) {
        Command::List => show(context, &all(context).await?)?,
        Command::Set { project, month, total, warn, over } => {
            let mut set = Vec::new();
            for (period, limit) in [(Period::Month, month), (Period::Total, total)] {
                if let Some(limit) = limit {
                    let budget = ProjectBudget { limit, warn_percent: warn.0, at_limit: over.into() };
                    set.push(context.client.put_budget(&project, period, &budget).await?);
                }
            }
            show(context, &set)?;
        }
        Command::Rm { project, month, total } => {
            let known = all(context).await?;
            let wanted = |view: &&BudgetView| match view.period {
                Period::Month => !total,
                Period::Total => !month,
            };
            let gone: Vec<&BudgetView> = known.iter().filter(|view| view.project == project).filter(wanted).collect();
            if gone.is_empty() {
                return Err(BadInput::new(format!("project {project} has no such budget"))
                    .hint("`framewake budgets` lists them")
                    .into());
            }
            for view in gone {
                context.client.remove_budget(&project, view.period).await?;
            }
        }
    }
    Ok(Outcome::Done)
}

pub(crate) async fn of_job(context: &Context, args: JobArgs) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    let limit: Option<Money> = match args.limit.as_str() {
        "none" => None,
        text => Some(text.parse().map_err(|error| BadInput::new(format!("{error}")))?),
    };
    let budget = limit.map(|limit| Budget { limit, at_limit: args.over.into() });
    let change = JobBudgetChange { budget };
    let view = retry::while_passing(&context.printer, async || context.client.budget_job(id, &change).await).await?;
    job::say(context, &view)?;
    Ok(Outcome::Done)
}

async fn all(context: &Context) -> anyhow::Result<Vec<BudgetView>> {
    Ok(pages::all(async |cursor| context.client.budgets(cursor).await).await?)
}

fn show(context: &Context, views: &[BudgetView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        return Ok(views.iter().try_for_each(|view| printer.json(view))?);
    }
    if views.is_empty() {
        printer.line("no project has a budget; `framewake budgets set PROJECT --month 500EUR` sets one")?;
        return Ok(());
    }
    let mut rows = table(&["project", "for", "spent", "of", "warns at", "when used up", "now"], &[]);
    for view in views {
        let (style, now) = match (view.held, view.standing) {
            (true, _) => (Style::Bad, "held"),
            (false, Standing::UsedUp) => (Style::Bad, "used up"),
            (false, Standing::Warned) => (Style::Warn, "warned"),
            (false, Standing::Fine) => (Style::Good, "fine"),
        };
        let over = match view.budget.at_limit {
            AtLimit::Warn => "warn",
            AtLimit::Hold => "hold",
            AtLimit::Finish => "finish",
        };
        let period = view.month.clone().unwrap_or_else(|| view.period.to_string());
        rows.add_row(vec![
            printer.cell(None, view.project.as_str()),
            printer.cell(None, &period),
            printer.cell(None, &view.spent.to_string()),
            printer.cell(None, &view.budget.limit.to_string()),
            printer.cell(None, &format!("{}%", view.budget.warn_percent)),
            printer.cell(None, over),
            printer.cell(Some(style), now),
        ]);
    }
    printer.table(&rows)?;
    for view in views {
        for warning in &view.warnings {
            printer.note(format_args!("project {}, {}: {warning}", view.project, view.period));
        }
    }
    Ok(())
}
