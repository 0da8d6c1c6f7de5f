//! `framewake jobs`: the list of jobs.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::job::state_style;
use crate::printer::table;
use crate::{job_file, text};
use clap::ValueEnum;
use comfy_table::Cell;
use framewake_proto::api::{JobState, JobView, PAGE_SIZE_MAX};
use framewake_proto::client::JobQuery;
use framewake_proto::ids::Name;
use framewake_proto::time::Timestamp;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only jobs in one of these states: `--state queued,running`
    #[arg(long = "state", value_delimiter = ',')]
    states: Vec<State>,
    /// Only jobs of this project
    #[arg(long)]
    project: Option<Name>,
    /// Only jobs with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = job_file::label)]
    labels: Vec<(String, String)>,
    /// Only jobs with this in their name
    #[arg(long)]
    name: Option<String>,
    /// Only jobs that they submitted: the name of a token or of a person, or `schedule nightly`
    #[arg(long, value_name = "NAME", conflicts_with = "mine")]
    by: Option<String>,
    /// Only jobs that were submitted under your own name, which is that of your token
    #[arg(long)]
    mine: bool,
    /// Most jobs to list
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Canceled,
}

impl From<State> for JobState {
    fn from(state: State) -> JobState {
        match state {
            State::Queued => JobState::Queued,
            State::Running => JobState::Running,
            State::Paused => JobState::Paused,
            State::Succeeded => JobState::Succeeded,
            State::Failed => JobState::Failed,
            State::Canceled => JobState::Canceled,
        }
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let mut left = args.limit;
    let by = match (args.mine, args.by) {
        (true, _) => {
            let who = context.client.who().await?.who;
            Some(who.ok_or_else(|| BadInput::new("nobody is logged in").hint("framewake login"))?.name)
        }
        (false, by) => by,
    };
    let mut query = JobQuery {
        states: args.states.into_iter().map(JobState::from).collect(),
        project: args.project,
        labels: args.labels,
        name: args.name,
        by,
        ..JobQuery::default()
    };
    let mut jobs: Vec<JobView> = Vec::new();
    while left > 0 {
        query.limit = Some(left.min(PAGE_SIZE_MAX));
        let page = context.client.jobs(&query).await?;
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        jobs.extend(page.items);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    if printer.is_json() {
        for job in &jobs {
            printer.json(job)?;
        }
        return Ok(Outcome::Done);
    }
    if jobs.is_empty() {
        printer.note("no jobs");
        return Ok(Outcome::Done);
    }
    let now = Timestamp::now();
    let mut table =
        table(&["id", "name", "project", "state", "done", "failed", "priority", "age", "by"], &["name", "by"]);
    for job in &jobs {
        table.add_row([
            Cell::new(job.id),
            Cell::new(text::shorten(&text::clean(&job.name), 40)),
            Cell::new(&job.project),
            printer.cell(state_style(job.state), job.state.as_str()),
            Cell::new(format_args!("{}/{}", job.tasks.done, job.tasks.total)),
            Cell::new(if job.tasks.failed > 0 { job.tasks.failed.to_string() } else { String::new() }),
            Cell::new(job.priority),
            Cell::new(text::duration(now.since(job.submitted_at))),
            Cell::new(text::shorten(&text::clean(job.submitted_by.as_deref().unwrap_or_default()), 40)),
        ]);
    }
    printer.table(&table)?;
    if query.cursor.is_some() {
        printer.note(format_args!("… there are more than these {}: see --limit", jobs.len()));
    }
    Ok(Outcome::Done)
}
