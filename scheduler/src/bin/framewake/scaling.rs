//! `framewake functions explain`: why a function has the workers it has.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::{Style, table};
use crate::text;
use comfy_table::Cell;
use framewake_proto::scaling::{ScalingExplained, WorkerComing};
use framewake_proto::time::Timestamp;
use std::time::Duration;

pub(crate) async fn explain(context: &Context, name: &str) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let scaling = context.client.function_scaling(name).await?;
    if printer.is_json() {
        printer.json(&scaling)?;
        return Ok(Outcome::Done);
    }
    let title = format!("{}: {} wanted", scaling.function, scaling.wanted);
    printer.line(format_args!(
        "{}, because: {}",
        printer.paint(Style::Strong, &title),
        text::clean(&scaling.because)
    ))?;
    let ScalingExplained { starting, idle, busy, leaving, .. } = &scaling;
    printer.line(format_args!("workers: {starting} starting, {busy} busy, {idle} idle, {leaving} leaving"))?;
    for line in inputs(&scaling) {
        printer.line(format_args!("  {line}"))?;
    }
    let mut pools = table(
        &["pool", "slots taken", "workers", "an hour", "start p50", "p95", "of", "passed over because"],
        &["passed over because"],
    );
    for pool in &scaling.pools {
        pools.add_row([
            Cell::new(&pool.pool),
            Cell::new(format!("{} of {}", pool.slots_taken, pool.slots)),
            Cell::new(pool.workers),
            Cell::new(pool.price.map_or("unknown".to_owned(), |price| price.to_string())),
            Cell::new(pool.start_p50_s.map_or(String::new(), seconds)),
            Cell::new(pool.start_p95_s.map_or(String::new(), seconds)),
            Cell::new(pool.starts_known),
            Cell::new(text::clean(&pool.passed_over)),
        ]);
    }
    printer.line("")?;
    printer.table(&pools)?;
    for pool in scaling.pools.iter().filter(|pool| !pool.phases.is_empty()) {
        let phases = pool.phases.iter().map(|phase| format!("{} {}", phase.point.as_str(), seconds(phase.p50_s)));
        let cost =
            pool.start_cost.map_or(String::new(), |cost| format!("; it costs {cost} until its renderer is ready"));
        printer.line(format_args!("a start in {}: {}{cost}", pool.pool, phases.collect::<Vec<_>>().join(", ")))?;
    }
    for unfit in &scaling.unfit {
        printer.line(format_args!("pool {} can't be used: {}", unfit.pool, text::clean(&unfit.reason)))?;
    }
    let now = Timestamp::now();
    for WorkerComing { worker, pool, asked_at, step, waits } in &scaling.coming {
        let place = pool.as_ref().map_or(String::new(), |pool| format!(" in {pool}"));
        let why = if waits.is_empty() { String::new() } else { format!(", and waits: {}", text::clean(waits)) };
        let since = text::duration(now.since(*asked_at));
        printer.line(format_args!("worker {worker}{place} was asked for {since} ago: {}{why}", text::clean(step)))?;
    }
    for window in &scaling.windows {
        let open = match (window.open_until, window.next_change) {
            (Some(until), _) => format!("open until {until}"),
            (None, Some(next)) => format!("opens {next}"),
            (None, None) => "never opens again".to_owned(),
        };
        printer.line(format_args!("keeps {} workers: {}; {open}", window.workers, text::clean(&window.reading)))?;
    }
    for run in &scaling.runs {
        let (workers, schedule) = (run.workers, &run.schedule);
        printer.line(format_args!(
            "calls {workers} workers at {} for the run of schedule {schedule} due {}",
            run.called_at, run.due
        ))?;
    }
    Ok(Outcome::Done)
}

/// What the decision was made of, a line each.
fn inputs(scaling: &ScalingExplained) -> Vec<String> {
    let work = scaling.work_s.map(|work_s| format!(", {} of rendering", seconds(work_s)));
    let mut lines = vec![format!("work: {}{}", text::count(scaling.tasks, "task"), work.unwrap_or_default())];
    let times = [
        ("a task takes", "a task", scaling.task_s),
        ("loading takes", "loading", scaling.load_s),
        ("a new worker renders after", "the start of a worker", scaling.start_s),
    ];
    let known: Vec<String> =
        times.iter().filter_map(|(what, _, time)| time.map(|time| format!("{what} {}", seconds(time)))).collect();
    let unknown: Vec<&str> = times.iter().filter(|(.., time)| time.is_none()).map(|(_, what, _)| *what).collect();
    if !known.is_empty() {
        lines.push(known.join("; "));
    }
    if !unknown.is_empty() {
        lines.push(format!("not measured yet, for nothing was rendered: the time of {}", unknown.join(", of ")));
    }
    let waiting = scaling.waiting.map_or("by default".to_owned(), |waiting| format!("{waiting} an hour"));
    let optimum = scaling.optimum.map(|workers| format!("; together they cost least with {workers:.1} workers"));
    lines.push(format!(
        "waiting is worth {:.1} times a worker ({waiting}){}",
        scaling.waiting_worth,
        optimum.unwrap_or_default()
    ));
    lines.push(format!("limits: {} by the function, {} by its pools", scaling.limit, scaling.capacity));
    lines.extend(scaling.paid_for.map(|workers| format!("budgets pay for {workers} workers")));
    if scaling.kept > 0 {
        lines.push(format!("{} workers are kept or called early", scaling.kept));
    }
    lines.push(format!("a worker leaves after {} without work", seconds(scaling.linger_s)));
    lines
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| format!("{seconds:.0}s"), text::duration)
}
