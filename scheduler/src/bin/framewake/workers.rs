//! `framewake workers`: who works, on what, and which machines are set aside.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::{Style, table};
use crate::{pages, start, text};
use comfy_table::Cell;
use framewake_proto::api::{PlaceState, PlaceView, WorkerState, WorkerView};
use framewake_proto::time::Timestamp;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how a worker came, from the wish for one to its first frame
    Show {
        /// As `framewake workers` or `framewake job` name it
        id: String,
    },
    /// List the machines and GPUs that workers run on, and those that are set aside
    Places,
    /// Bring a machine or GPU back that was set aside: it is mended
    Restore {
        /// As `framewake workers places` names it
        place: String,
    },
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    match &args.command {
        None => list(context).await,
        Some(Command::Show { id }) => start::show(context, id).await,
        Some(Command::Places) => {
            let places = all_places(context, None).await?;
            if context.printer.is_json() {
                for place in &places {
                    context.printer.json(place)?;
                }
            } else if places.is_empty() {
                context.printer.note("no places: they are known once workers have spoken");
            } else {
                show_places(context, &places)?;
            }
            Ok(Outcome::Done)
        }
        Some(Command::Restore { place }) => {
            let place = context.client.restore_place(place).await?;
            if context.printer.is_json() {
                context.printer.json(&place)?;
            } else {
                show_places(context, &[place])?;
            }
            Ok(Outcome::Done)
        }
    }
}

async fn all_places(context: &Context, state: Option<PlaceState>) -> anyhow::Result<Vec<PlaceView>> {
    Ok(pages::all(async |cursor| context.client.places(state, cursor).await).await?)
}

fn show_places(context: &Context, places: &[PlaceView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    let now = Timestamp::now();
    let mut table = table(&["place", "state", "for", "until", "times", "workers", "why"], &["why"]);
    for place in places {
        let (word, style) = match place.state {
            PlaceState::Good => ("good", Style::Good),
            PlaceState::Suspect => ("suspect", Style::Warn),
            PlaceState::SetAside => ("set aside", Style::Bad),
            PlaceState::OnTrial => ("on trial", Style::Warn),
        };
        table.add_row([
            Cell::new(text::clean(&place.name)),
            printer.cell(Some(style), word),
            Cell::new(place.since.map_or(String::new(), |since| text::duration(now.since(since)))),
            Cell::new(place.until.map_or(String::new(), |until| until.to_string())),
            Cell::new(place.times),
            Cell::new(place.workers),
            Cell::new(text::clean(&place.reason)),
        ]);
    }
    printer.table(&table)?;
    Ok(())
}

/// The workers, and beneath them the places that need a look.
async fn list(context: &Context) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let workers = pages::all(async |cursor| context.client.workers(cursor).await).await?;
    if printer.is_json() {
        for worker in &workers {
            printer.json(worker)?;
        }
        return Ok(Outcome::Done);
    }
    if workers.is_empty() {
        printer.note("no workers: they start when there is work, and leave when there is none");
    } else {
        show_workers(context, &workers)?;
    }
    let mut places = Vec::new();
    for state in [PlaceState::SetAside, PlaceState::OnTrial, PlaceState::Suspect] {
        places.extend(all_places(context, Some(state)).await?);
    }
    if !places.is_empty() {
        printer.line("")?;
        show_places(context, &places)?;
        if places.iter().any(|place| place.state == PlaceState::SetAside) {
            printer.note("bring one back that is mended with: framewake workers restore PLACE");
        }
    }
    Ok(Outcome::Done)
}

fn show_workers(context: &Context, workers: &[WorkerView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    let now = Timestamp::now();
    let mut table = table(
        &["worker", "function", "state", "for", "start", "seen", "job", "attempt", "done", "host", "gpus"],
        &["host", "gpus"],
    );
    for worker in workers {
        let (word, style) = match worker.state {
            WorkerState::Starting => ("starting", Style::Warn),
            WorkerState::Idle => ("idle", Style::Weak),
            WorkerState::Busy => ("busy", Style::Busy),
            WorkerState::Draining => ("draining", Style::Warn),
        };
        let busy = worker.attempt.is_some();
        table.add_row([
            Cell::new(&worker.id),
            Cell::new(text::clean(&worker.function)),
            printer.cell(Some(style), word),
            Cell::new(text::duration(now.since(worker.since))),
            Cell::new(start::summary(worker, now)),
            Cell::new(text::duration(now.since(worker.seen_at)) + " ago"),
            Cell::new(worker.job.map_or(String::new(), |job| job.to_string())),
            Cell::new(text::clean(worker.attempt.as_deref().unwrap_or_default())),
            Cell::new(if busy { format!("{}%", worker.permille / 10) } else { String::new() }),
            Cell::new(text::clean(&worker.host)),
            Cell::new(text::clean(&worker.gpus.join(", "))),
        ]);
    }
    printer.table(&table)?;
    Ok(())
}
