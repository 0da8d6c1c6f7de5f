//! `framewake frames`: each frame of a job, and why it failed.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::Style;
use crate::{find, text};
use clap::ValueEnum;
use framewake_proto::api::{GpuView, PAGE_SIZE_MAX, TaskState, TaskView};
use framewake_proto::client::PartQuery;
use framewake_proto::ids::Name;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    job: String,
    /// Only frames of this step
    #[arg(long)]
    step: Option<Name>,
    /// Only frames in this state
    #[arg(long)]
    state: Option<State>,
    /// Only frames that failed for good, with the renderer's words that show why
    #[arg(long, conflicts_with = "state")]
    failed: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Waiting,
    Open,
    Done,
    Failed,
    Canceled,
}

impl From<State> for TaskState {
    fn from(state: State) -> TaskState {
        match state {
            State::Waiting => TaskState::Waiting,
            State::Open => TaskState::Open,
            State::Done => TaskState::Done,
            State::Failed => TaskState::Failed,
            State::Canceled => TaskState::Canceled,
        }
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let id = find::job(&context.client, &args.job).await?;
    let state = if args.failed { Some(TaskState::Failed) } else { args.state.map(TaskState::from) };
    let mut query = PartQuery { step: args.step, state, limit: Some(PAGE_SIZE_MAX), ..PartQuery::default() };
    let mut listed = 0;
    loop {
        let page = context.client.tasks(id, &query).await?;
        listed += page.items.len();
        for task in &page.items {
            if context.printer.is_json() {
                context.printer.json(task)?;
            } else {
                say(context, task, args.failed)?;
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    if listed == 0 && !context.printer.is_json() {
        context.printer.note(if args.failed { "no frame failed for good" } else { "no such frames" });
    }
    Ok(Outcome::Done)
}

fn say(context: &Context, task: &TaskView, with_evidence: bool) -> anyhow::Result<()> {
    let printer = &context.printer;
    let (word, style) = match task.state {
        TaskState::Waiting => ("waiting", Style::Weak),
        TaskState::Open => ("open", Style::Busy),
        TaskState::Done => ("done", Style::Good),
        TaskState::Failed => ("failed", Style::Bad),
        TaskState::Canceled => ("canceled", Style::Weak),
    };
    let state = printer.paint(style, word);
    let head = format!("{:<12} {:>8} {state}", task.step, task.frame);
    let Some(failure) = &task.failure else {
        match &task.gpu {
            Some(gpu) => printer.line(format_args!("{head}: {}", gpu_words(gpu)))?,
            None => printer.line(head)?,
        }
        return Ok(());
    };
    let attempt = text::clean(&failure.attempt);
    printer.line(format_args!("{head}: {} ({}, attempt {attempt})", text::clean(&failure.message), failure.verdict))?;
    if with_evidence {
        for line in failure.evidence.lines() {
            printer.line(format_args!("    {} {}", printer.paint(Style::Weak, "|"), text::clean(line)))?;
        }
    }
    Ok(())
}

/// What is known of it: `GPU 87 % busy, 5.2 GiB, 1234 J`.
fn gpu_words(gpu: &GpuView) -> String {
    let busy = gpu.busy_permille.map(|busy| format!("{} % busy", (busy + 5) / 10));
    let memory = gpu.vram_peak_bytes.map(|bytes| indicatif::BinaryBytes(bytes).to_string());
    let energy = gpu.energy_millijoules.map(|energy| format!("{:.1} J", energy as f64 / 1000.0));
    let known: Vec<String> = [busy, memory, energy].into_iter().flatten().collect();
    format!("GPU {}", known.join(", "))
}
