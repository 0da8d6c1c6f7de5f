//! `framewake job` and `framewake explain`: one job, and why it waits.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::{Style, table};
use crate::{find, text};
use comfy_table::Cell;
use framewake_proto::api::{Explanation, JobState, JobView, StepState, TaskCounts};
use framewake_proto::ids::Name;
use framewake_proto::time::Timestamp;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    #[arg(required = true)]
    job: Option<String>,
    /// Say why its tasks wait
    #[arg(long)]
    explain: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say why a job's tasks wait
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// Id of a job, the beginning of one, or `latest`
    pub(crate) job: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let job = match (args.command, args.job) {
        (Some(Command::Explain(args)), _) => return explain(context, &args.job).await,
        (None, Some(job)) if args.explain => return explain(context, &job).await,
        (None, Some(job)) => job,
        (None, None) => return Err(BadInput::new("which job?").hint("framewake job latest").into()),
    };
    let id = find::job(&context.client, &job).await?;
    let view = context.client.job(id).await?;
    if context.printer.is_json() {
        context.printer.json(&view)?;
    } else {
        show(context, &view)?;
    }
    Ok(Outcome::Done)
}

fn show(context: &Context, job: &JobView) -> anyhow::Result<()> {
    let printer = &context.printer;
    say(context, job)?;
    let by = job.submitted_by.as_ref().map_or(String::new(), |by| format!(" by {}", text::clean(by)));
    let JobView { project, priority, submitted_at, .. } = job;
    printer.line(format_args!("project {project}, priority {priority}, submitted {submitted_at}{by}"))?;
    if !job.labels.is_empty() {
        let labels: Vec<String> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        printer.line(format_args!("labels {}", text::clean(&labels.join(" "))))?;
    }
    let line = match job.finished_at {
        Some(at) => format!("finished {at}, after {}", text::duration(at.since(job.submitted_at))),
        None => format!("age {}", text::duration(Timestamp::now().since(job.submitted_at))),
    };
    printer.line(line)?;
    printer.line("")?;
    let mut table = table(
        &["step", "function", "state", "frames", "done", "open", "failed", "a frame", "to load", "after"],
        &["frames", "after"],
    );
    let time = |seconds: Option<f64>| {
        let time = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
        time.map_or(String::new(), text::duration)
    };
    for step in &job.steps {
        let after: Vec<&str> = step.after.iter().map(Name::as_str).collect();
        table.add_row([
            Cell::new(&step.name),
            Cell::new(text::clean(&step.function)),
            printer.cell(step_style(step.state), step_word(step.state)),
            Cell::new(text::shorten(&text::clean(&step.frames), 40)),
            Cell::new(format_args!("{}/{}", step.tasks.done, step.tasks.total)),
            Cell::new(step.tasks.open),
            Cell::new(step.tasks.failed),
            Cell::new(time(step.task_s)),
            Cell::new(time(step.load_s)),
            Cell::new(after.join(", ")),
        ]);
    }
    printer.table(&table)?;
    if job.tasks.failed > 0 {
        printer.note(format_args!("see why frames failed with: framewake frames {} --failed", job.id));
    }
    Ok(())
}

/// A job in one line.
pub(crate) fn say(context: &Context, job: &JobView) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(job)?;
        return Ok(());
    }
    let state = match state_style(job.state) {
        Some(style) => printer.paint(style, job.state.as_str()),
        None => job.state.as_str().to_owned(),
    };
    let name = printer.paint(Style::Strong, &text::clean(&job.name));
    printer.line(format_args!("job {} {name}: {state}, {}", job.id, counts(job.tasks)))?;
    Ok(())
}

pub(crate) fn counts(tasks: TaskCounts) -> String {
    let failed = if tasks.failed > 0 { format!(", {} failed", tasks.failed) } else { String::new() };
    format!("{} of {} done{failed}", tasks.done, text::count(tasks.total, "task"))
}

pub(crate) async fn explain(context: &Context, job: &str) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let id = find::job(&context.client, job).await?;
    let Explanation { job, state, steps } = {
        let explanation = context.client.explain(id).await?;
        if printer.is_json() {
            printer.json(&explanation)?;
            return Ok(Outcome::Done);
        }
        explanation
    };
    printer.line(format_args!("job {job}: {state}"))?;
    for step in steps {
        printer.line(format_args!("{}: {}", printer.paint(Style::Strong, step.step.as_str()), counts(step.tasks)))?;
        if step.reasons.is_empty() {
            let done = step.tasks.done == step.tasks.total;
            printer.line(if done { "  all done" } else { "  nothing waits" })?;
        }
        for reason in &step.reasons {
            printer.line(format_args!("  - {}", text::clean(reason)))?;
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn state_style(state: JobState) -> Option<Style> {
    match state {
        JobState::Queued => None,
        JobState::Running => Some(Style::Busy),
        JobState::Paused => Some(Style::Warn),
        JobState::Succeeded => Some(Style::Good),
        JobState::Failed => Some(Style::Bad),
        JobState::Canceled => Some(Style::Weak),
    }
}

fn step_style(state: StepState) -> Option<Style> {
    match state {
        StepState::Blocked | StepState::Canceled => Some(Style::Weak),
        StepState::Ready => None,
        StepState::Running => Some(Style::Busy),
        StepState::Succeeded => Some(Style::Good),
        StepState::Failed => Some(Style::Bad),
    }
}

pub(crate) fn step_word(state: StepState) -> &'static str {
    match state {
        StepState::Blocked => "blocked",
        StepState::Ready => "ready",
        StepState::Running => "running",
        StepState::Succeeded => "succeeded",
        StepState::Failed => "failed",
        StepState::Canceled => "canceled",
    }
}
