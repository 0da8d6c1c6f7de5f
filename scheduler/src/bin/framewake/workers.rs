//! `framewake workers`: who works, and on what.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::{Style, table};
use crate::text;
use comfy_table::Cell;
use framewake_proto::api::{WorkerState, WorkerView};
use framewake_proto::time::Timestamp;

pub(crate) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let mut workers: Vec<WorkerView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = context.client.workers(cursor.as_deref()).await?;
        workers.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if printer.is_json() {
        for worker in &workers {
            printer.json(worker)?;
        }
        return Ok(Outcome::Done);
    }
    if workers.is_empty() {
        printer.note("no workers: they start when there is work, and leave when there is none");
        return Ok(Outcome::Done);
    }
    let now = Timestamp::now();
    let mut table = table(
        &["worker", "function", "state", "for", "seen", "job", "attempt", "done", "host", "gpus"],
        &["host", "gpus"],
    );
    for worker in &workers {
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
            Cell::new(text::duration(now.since(worker.seen_at)) + " ago"),
            Cell::new(worker.job.map_or(String::new(), |job| job.to_string())),
            Cell::new(text::clean(worker.attempt.as_deref().unwrap_or_default())),
            Cell::new(if busy { format!("{}%", worker.permille / 10) } else { String::new() }),
            Cell::new(text::clean(&worker.host)),
            Cell::new(text::clean(&worker.gpus.join(", "))),
        ]);
    }
    printer.table(&table)?;
    Ok(Outcome::Done)
}
