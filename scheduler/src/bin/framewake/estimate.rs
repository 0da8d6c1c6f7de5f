//! `framewake estimate`: how long a job will take and what it will cost, before it is submitted.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::table;
use crate::{follow, job_file, local_inputs, retry, submit, text};
use framewake_proto::api::{AttemptOutcome, JobState};
use framewake_proto::client::{Error, PartQuery};
use framewake_proto::estimate::{EstimateView, MoneyRange, MsRange, OptionEstimate};
use framewake_proto::frames::FrameSet;
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::PRIORITY_MAX;
use framewake_proto::money::{Micros, Money};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Most frames of a probe: beyond them it is a job.
const PROBE_MAX: u32 = 100;
/// Attempts of a probe that are looked at: each frame is a chunk at most.
const ATTEMPTS_MAX: u32 = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job file in YAML or JSON; `-` reads it from stdin
    file: PathBuf,
    /// Worker counts to tell of, with commas between [default: 1, 4, 16 and as many as the functions allow]
    #[arg(long, value_name = "N,…")]
    workers: Option<String>,
    /// First render so many frames, spread over the range: a small job of its own, before all others of its project
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(1..=i64::from(PROBE_MAX)))]
    probe: Option<u32>,
    #[command(flatten)]
    changes: job_file::Changes,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let job_file::JobFile { mut body, folder } = job_file::read(&args.file)?;
    args.changes.make(&mut body)?;
    let inputs = submit::find_inputs(context, &mut body, &folder).await?;
    let digests = submit::hash_inputs(context, &inputs).await?;
    local_inputs::replace(&mut body, &inputs, &digests);
    let ask = async || context.client.estimate(&body, args.workers.as_deref()).await;
    // What is wrong with the job is said before anything is rendered.
    let mut view = retry::while_passing(printer, ask).await?;
    if let Some(frames) = args.probe {
        let probe = probe(&body, frames)?;
        let key = format!("probe-{:032x}", fastrand::u128(..));
        let send = async || context.client.submit(&probe, &key).await;
        let submitted = match retry::while_passing(printer, send).await {
            Err(Error::Refused(problem)) if inputs.are_all_of(&problem.faults) => {
                submit::send_inputs(context, &inputs, &digests).await?;
                retry::while_passing(printer, send).await?
            }
            answer => answer?,
        };
        printer.note(format_args!("probing: job {} renders {}", submitted.id, text::count(submitted.tasks, "frame")));
        match wait(context, submitted.id).await? {
            Outcome::Done => {}
            other => return Ok(other),
        }
        wait_for_figures(context, submitted.id).await?;
        view = retry::while_passing(printer, ask).await?;
    }
    if printer.is_json() {
        printer.json(&view)?;
    } else {
        show(context, &view, args.probe.is_some())?;
    }
    Ok(Outcome::Done)
}

/// Until the probe is over; in silence where one JSON object is the answer.
async fn wait(context: &Context, id: JobId) -> anyhow::Result<Outcome> {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    if !context.printer.is_json() {
        return follow::run(context, id).await;
    }
    loop {
        let job = retry::while_passing(&context.printer, async || context.client.job(id).await).await?;
        match job.state {
            JobState::Queued | JobState::Running | JobState::Paused => tokio::time::sleep(LOOK_EVERY).await,
            JobState::Succeeded => return Ok(Outcome::Done),
            JobState::Failed => return Ok(Outcome::Failed),
            JobState::Canceled => return Ok(Outcome::Canceled),
        }
    }
}

/// What an attempt tells is known when it has ended, a moment after its last frame is done.
async fn wait_for_figures(context: &Context, id: JobId) -> anyhow::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    /// A worker that dies between the two says no more.
    const WAIT_MAX: Duration = Duration::from_secs(5);
    let query = PartQuery { limit: Some(ATTEMPTS_MAX), ..PartQuery::default() };
    let since = Instant::now();
    while since.elapsed() < WAIT_MAX {
        let ask = async || context.client.attempts(id, &query).await;
        let attempts = retry::while_passing(&context.printer, ask).await?;
        if attempts.items.iter().all(|attempt| attempt.outcome != AttemptOutcome::Running) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The job with a few frames of each step that waits for no other.
fn probe(body: &Value, frames: u32) -> Result<Value, BadInput> {
    let mut probe = body.clone();
    let steps = probe["steps"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let waits = |step: &Value| {
        let after = step["after"].as_array().is_some_and(|after| !after.is_empty());
        after || step["inputs"].as_array().is_some_and(|inputs| inputs.iter().any(|input| input.get("step").is_some()))
    };
    let mut kept: Vec<Value> = steps.into_iter().filter(|step| !waits(step)).collect();
    for step in &mut kept {
        let set = step["frames"].as_str().and_then(|text| text.parse::<FrameSet>().ok());
        if let Some(set) = set {
            step["frames"] = Value::String(spread(&set, frames));
        }
    }
    let name = format!("probe of {}", probe["name"].as_str().unwrap_or_default());
    probe["name"] = json!(name.chars().take(100).collect::<String>());
    probe["priority"] = json!(PRIORITY_MAX);
    probe["steps"] = Value::Array(kept);
    // Nobody wants to hear of a few frames.
    if let Some(map) = probe.as_object_mut() {
        map.remove("notify");
    }
    if probe["steps"].as_array().is_some_and(Vec::is_empty) {
        return Err(BadInput::new("no step of the job can be probed: each waits for another"));
    }
    Ok(probe)
}

/// The first, the last, and evenly between.
fn spread(set: &FrameSet, frames: u32) -> String {
    let last = set.len().saturating_sub(1);
    let count = frames.min(set.len()).max(1);
    let place = |at: u32| {
        let place = u64::from(last) * u64::from(at) / u64::from(count.saturating_sub(1).max(1));
        u32::try_from(place).unwrap_or(last)
    };
    // A single one from the middle.
    let places = (0..count).map(|at| if count == 1 { last / 2 } else { place(at) });
    let frames = places.filter_map(|at| set.get(at)).map(|frame| frame.to_string());
    frames.collect::<Vec<_>>().join(",")
}

fn show(context: &Context, view: &EstimateView, probed: bool) -> anyhow::Result<()> {
    let printer = &context.printer;
    for step in &view.steps {
        let what = format!("step {} ({} of {})", step.step, text::count(step.tasks, "task"), step.function);
        let Some(basis) = &step.basis else {
            printer.line(format_args!("{what}: nothing is known: no frame of this scene was rendered here yet"))?;
            continue;
        };
        let runs = if basis.runs == 0 { String::new() } else { format!(" in {}", text::count(basis.runs, "run")) };
        let scaled = if basis.scaled { ", of another size, brought to this one by its pixels" } else { "" };
        let seen = text::count(basis.tasks, "task");
        let each = time(basis.task_ms);
        printer.line(format_args!("{what}: {each} a task, from {seen}{runs}, last at {}{scaled}", basis.last_at))?;
    }
    if view.unknown_steps.len() == view.steps.len() {
        let hint = if probed { "" } else { ": `framewake estimate FILE --probe 3` renders a few frames and tells" };
        printer.line(format_args!("how long it takes and what it costs is not known{hint}"))?;
        return Ok(());
    }
    let by_pool = view.options.iter().any(|option| option.pool.is_some());
    let priced = view.options.iter().any(|option| !option.cost.is_empty());
    let head = ["pool", "workers", "time", "cost"];
    let columns = usize::from(!by_pool)..if priced { 4 } else { 3 };
    let mut rows = table(&head[columns.clone()], &[]);
    for option in &view.options {
        let pool = option.pool.as_ref().map_or("any", Name::as_str).to_owned();
        let cells = [pool, option.workers.to_string(), time(option.time_ms), cost(option)];
        rows.add_row(cells.into_iter().take(columns.end).skip(columns.start));
    }
    printer.table(&rows)?;
    if !priced {
        let set = "`framewake prices set any 0.30USD` says what an hour of a worker costs";
        printer.line(format_args!("what it costs is not known, for no price is set: {set}"))?;
    } else if view.options.iter().any(|option| !option.unknown_prices.is_empty()) {
        printer.line("`framewake prices set` gives a price to what has none")?;
    }
    // Of each pool once, whatever the number of workers.
    let mut pools: Vec<&OptionEstimate> = view.options.iter().filter(|option| option.pool.is_some()).collect();
    pools.dedup_by_key(|option| &option.pool);
    for option in pools {
        for note in notes(option) {
            printer.line(format_args!("pool {}: {note}", option.pool.as_ref().map_or("", Name::as_str)))?;
        }
    }
    if let Some(outputs) = &view.outputs {
        let (low, high) = (outputs.low_bytes as f64 / 1e9, outputs.high_bytes as f64 / 1e9);
        let told = |what, price: &MoneyRange| format!("; {what}, about: {}", money(price));
        let storage = outputs.storage_a_month.as_ref().map(|price| told("storage for a month", price));
        let egress = outputs.egress.as_ref().map(|price| told("fetching all once", price));
        let prices = [storage, egress].into_iter().flatten().collect::<String>();
        printer.line(format_args!("outputs: {low:.3}–{high:.3} GB{prices}"))?;
    }
    if !view.unknown_steps.is_empty() {
        let names: Vec<&str> = view.unknown_steps.iter().map(Name::as_str).collect();
        printer.line(format_args!("without what is not known: step {}", names.join(", ")))?;
    }
    Ok(())
}

/// What is to be known of a pool's figures.
fn notes(option: &OptionEstimate) -> Vec<String> {
    let named = |steps: &[Name]| steps.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let mut notes = Vec::new();
    if option.start_unknown {
        notes.push("no worker was started there yet: a start may take as long as the pool allows".to_owned());
    }
    if !option.other_gpu.is_empty() {
        notes.push(format!("it has another GPU than the one that was measured: step {}", named(&option.other_gpu)));
    }
    if !option.elsewhere.is_empty() {
        notes.push(format!("step {} can't run there, and is told as if it were anywhere", named(&option.elsewhere)));
    }
    notes
}

fn cost(option: &OptionEstimate) -> String {
    let mut parts: Vec<String> = option.cost.iter().map(money).collect();
    if !option.unknown_prices.is_empty() {
        let names: Vec<&str> = option.unknown_prices.iter().map(Name::as_str).collect();
        parts.push(format!("{} of unknown price", names.join(", ")));
    }
    parts.join(" + ")
}

/// `0.31–0.38 USD`, in cents, or finer where there are none.
fn money(MoneyRange { low, high }: &MoneyRange) -> String {
    let step = if high.micros >= 100_000 { 10_000 } else { 100 };
    let amount = |money: &Money, up: bool| {
        let micros = money.micros - money.micros % step + if up && money.micros % step > 0 { step } else { 0 };
        Micros(i128::from(micros)).to_string()
    };
    format!("{}–{} {}", amount(low, false), amount(high, true), high.currency)
}

/// `12m 03s–15m 10s`
fn time(MsRange { low, high }: MsRange) -> String {
    let told = |ms: u64| text::duration(Duration::from_millis(ms));
    format!("{}–{}", told(low), told(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_frames_of_the_whole_range_and_waits_for_nothing() {
        let check = |frames: &str, count: u32, expected: &str| {
            assert_eq!(spread(&frames.parse().expect("frames"), count), expected, "{count} of {frames}");
        };
        check("1-240", 3, "1,120,240");
        check("1-240", 1, "120");
        check("10,20,30-40x5", 9, "10,20,30,35,40");
        check("7", 5, "7");
        let job = json!({ "name": "orbit", "notify": [], "priority": 3, "steps": [
            { "name": "render", "frames": "1-9" },
            { "name": "encode", "inputs": [{ "step": "render" }] },
            { "name": "tell", "after": ["encode"] },
        ] });
        assert_eq!(
            probe(&job, 2).expect("a probe"),
            json!({ "name": "probe of orbit", "priority": 100, "steps": [{ "name": "render", "frames": "1,9" }] })
        );
        assert!(probe(&json!({ "steps": [{ "after": ["x"] }] }), 2).is_err());
    }

    #[test]
    fn ranges_are_told_in_cents_and_never_narrower_than_they_are() {
        let told = |low: &str, high: &str| {
            money(&MoneyRange { low: low.parse().expect("money"), high: high.parse().expect("money") })
        };
        assert_eq!(told("0.31499USD", "0.3701USD"), "0.31–0.38 USD");
        assert_eq!(told("0.000123USD", "0.00456USD"), "0.0001–0.0046 USD");
        assert_eq!(time(MsRange { low: 720_000, high: 900_000 }), "12m 00s–15m 00s");
    }
}
