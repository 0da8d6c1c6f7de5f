//! `framewake schedules`: jobs that are made by themselves.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::{Style, table};
use crate::{job_file, local_inputs, retry, submit, text};
use anyhow::Context as _;
use comfy_table::Cell;
use framewake_proto::client::Error;
use framewake_proto::ids::Name;
use framewake_proto::schedule::{RunView, ScheduleStored, ScheduleView, UPCOMING_MAX, Upcoming};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs that `show` prints.
const RUNS_SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List schedules (the default)
    List,
    /// Add schedules from their files
    Add {
        /// Schedule files in YAML or JSON
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make the farm's schedules those of a folder's files: adds what is new, changes what differs, removes nothing
    Apply {
        /// Folder of schedule files
        folder: PathBuf,
    },
    /// Show a schedule and its newest runs
    Show { name: Name },
    /// List what became of a schedule's due times, newest first
    Runs { name: Name },
    /// Make nothing until it is resumed
    Pause { name: Name },
    /// Go on; what was due in the meantime is not made up for
    Resume { name: Name },
    /// Make a job of the schedule now
    Run { name: Name },
    /// Say when a schedule is due, or an expression that is not stored: `next --cron '30 2 * * *' --zone Europe/Paris`
    Next {
        #[arg(required_unless_present = "cron", conflicts_with = "cron")]
        name: Option<Name>,
        #[arg(long)]
        cron: Option<String>,
        /// IANA time zone
        #[arg(long, default_value = "UTC", requires = "cron")]
        zone: String,
        /// How many
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(UPCOMING_MAX)))]
        count: u32,
    },
    /// Remove a schedule and its history; its jobs go on
    Rm { name: Name },
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let client = &context.client;
    match args.command.unwrap_or(Command::List) {
        Command::List => print_list(context).await?,
        Command::Add { files } => store_all(context, &files, true).await?,
        Command::Apply { folder } => store_all(context, &schedule_files(&folder)?, false).await?,
        Command::Show { name } => show(context, &name).await?,
        Command::Runs { name } => print_runs(context, &name).await?,
        Command::Pause { name } => say_state(context, &client.pause_schedule(&name).await?)?,
        Command::Resume { name } => say_state(context, &client.resume_schedule(&name).await?)?,
        Command::Run { name } => run_now(context, &name).await?,
        Command::Next { name: Some(name), count, .. } => say_next(context, &client.next_runs(&name, count).await?)?,
        Command::Next { name: None, cron, zone, count } => {
            say_next(context, &client.calendar(&cron.unwrap_or_default(), &zone, count).await?)?;
        }
        Command::Rm { name } => {
            client.remove_schedule(&name).await?;
            if !context.printer.is_json() {
                context.printer.line(format_args!("schedule {name} is removed"))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn schedule_files(folder: &Path) -> Result<Vec<PathBuf>, BadInput> {
    let cannot = |error: std::io::Error| BadInput::new(format!("can't read `{}`: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(BadInput::new(format!("`{}` has no .yaml, .yml or .json files", folder.display())));
    }
    Ok(files)
}

async fn store_all(context: &Context, files: &[PathBuf], only_new: bool) -> anyhow::Result<()> {
    // All are read before one is stored.
    let mut read = Vec::new();
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    for file in files {
        let job_file::JobFile { body, folder } = job_file::read_schedule(file)?;
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(other) = names.insert(name.clone(), file) {
            let message = format!("`{}` and `{}` both name their schedule `{name}`", other.display(), file.display());
            return Err(BadInput::new(message).into());
        }
        read.push((file, name, body, folder));
    }
    for (file, name, body, folder) in read {
        let stored = store(context, &name, body, &folder, only_new).await;
        let stored = stored.with_context(|| format!("can't store {}", job_file::shown(file)))?;
        say_stored(context, &stored)?;
    }
    Ok(())
}

async fn store(
    context: &Context,
    name: &str,
    mut body: Value,
    folder: &Path,
    only_new: bool,
) -> anyhow::Result<ScheduleStored> {
    let mut job = body.get("job").cloned().unwrap_or_default();
    let inputs = local_inputs::find(&mut job, folder)?;
    let digests = submit::hash_inputs(context, &inputs).await?;
    local_inputs::replace(&mut job, &inputs, &digests);
    if body.get("job").is_some() {
        body["job"] = job;
    }
    let send = async || {
        // Without a name there is no address; the scheduler says what is missing.
        let new = only_new || name.is_empty();
        if new { context.client.add_schedule(&body).await } else { context.client.put_schedule(name, &body).await }
    };
    // As with a job: all that is wrong is heard before anything large is sent.
    match retry::while_passing(&context.printer, send).await {
        Err(Error::Refused(problem)) if inputs.are_all_of(&problem.faults) => {
            submit::send_inputs(context, &inputs, &digests).await?;
            Ok(retry::while_passing(&context.printer, send).await?)
        }
        answer => Ok(answer?),
    }
}

fn say_stored(context: &Context, stored: &ScheduleStored) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(stored)?;
        return Ok(());
    }
    let ScheduleStored { change, schedule } = stored;
    printer.line(format_args!(
        "schedule {}: {}, {}",
        schedule.name,
        change.as_str(),
        text::clean(&schedule.reading)
    ))?;
    if let Some(next) = schedule.next {
        printer.line(format_args!("  next {next}"))?;
    }
    Ok(())
}

fn say_state(context: &Context, schedule: &ScheduleView) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(schedule)?;
        return Ok(());
    }
    let next = schedule.next.map_or(String::new(), |next| format!(", next {next}"));
    printer.line(format_args!("schedule {}: {}{next}", schedule.name, schedule.state.as_str()))?;
    Ok(())
}

async fn print_list(context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    let mut schedules = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = context.client.schedules(cursor.as_deref()).await?;
        schedules.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut table = table(&["schedule", "state", "next", "runs", "jobs", "late", "when"], &["when"]);
    for schedule in &schedules {
        if printer.is_json() {
            printer.json(schedule)?;
            continue;
        }
        table.add_row([
            Cell::new(&schedule.name),
            Cell::new(schedule.state.as_str()),
            Cell::new(schedule.next.map_or(String::new(), |next| next.to_string())),
            Cell::new(schedule.runs),
            Cell::new(schedule.jobs.len()),
            printer.cell((schedule.late > 0).then_some(Style::Bad), &schedule.late.to_string()),
            Cell::new(text::clean(&schedule.reading)),
        ]);
    }
    if printer.is_json() {
        return Ok(());
    }
    if schedules.is_empty() {
        printer.note("no schedules: add one with `framewake schedules add FILE`");
        return Ok(());
    }
    printer.table(&table)?;
    Ok(())
}

async fn show(context: &Context, name: &Name) -> anyhow::Result<()> {
    let printer = &context.printer;
    let schedule = context.client.schedule(name).await?;
    if printer.is_json() {
        printer.json(&schedule)?;
        return Ok(());
    }
    say_state(context, &schedule)?;
    printer.line(format_args!("{}: {}", text::clean(&schedule.spec.cron), text::clean(&schedule.reading)))?;
    if schedule.waiting > 0 {
        printer.line(format_args!("{} waiting", text::count(schedule.waiting, "run")))?;
    }
    if schedule.late > 0 {
        let late = format!("{} late", text::count(schedule.late, "run"));
        printer.line(printer.paint(Style::Bad, &late))?;
    }
    let runs = context.client.schedule_runs(name, None).await?.items;
    printer.line("")?;
    say_runs(context, &runs[..runs.len().min(RUNS_SHOWN)])
}

async fn print_runs(context: &Context, name: &Name) -> anyhow::Result<()> {
    let mut cursor: Option<String> = None;
    let mut runs = Vec::new();
    loop {
        let page = context.client.schedule_runs(name, cursor.as_deref()).await?;
        runs.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return say_runs(context, &runs);
        }
    }
}

fn say_runs(context: &Context, runs: &[RunView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    let mut table = table(&["due", "run", "state", "job", "job state", "remark"], &["remark"]);
    for run in runs {
        if printer.is_json() {
            printer.json(run)?;
            continue;
        }
        let mut remarks = Vec::new();
        if run.late_start.is_some() {
            remarks.push("missed its deadline to start");
        }
        if run.late_finish.is_some() {
            remarks.push("missed its deadline to finish");
        }
        let reason = text::clean(&run.reason);
        if !reason.is_empty() {
            remarks.push(&reason);
        }
        table.add_row([
            Cell::new(run.due),
            Cell::new(run.number.map_or(String::new(), |number| number.to_string())),
            Cell::new(run.state.as_str()),
            Cell::new(run.job.map_or(String::new(), |job| job.to_string())),
            Cell::new(run.job_state.map_or("", framewake_proto::api::JobState::as_str)),
            Cell::new(remarks.join("; ")),
        ]);
    }
    if !printer.is_json() {
        printer.table(&table)?;
    }
    Ok(())
}

async fn run_now(context: &Context, name: &Name) -> anyhow::Result<()> {
    let printer = &context.printer;
    let key = format!("cli-{:032x}", fastrand::u128(..));
    let made = retry::while_passing(printer, async || context.client.run_schedule(name, &key).await).await?;
    if printer.is_json() {
        printer.json(&made)?;
    } else {
        printer.line(format_args!("job {} of schedule {name}", made.id))?;
    }
    Ok(())
}

fn say_next(context: &Context, upcoming: &Upcoming) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(upcoming)?;
        return Ok(());
    }
    printer.line(text::clean(&upcoming.reading))?;
    for time in &upcoming.times {
        printer.line(format_args!("{}  {}", time.due, time.local))?;
    }
    if upcoming.times.is_empty() {
        printer.note("never again");
    }
    Ok(())
}
