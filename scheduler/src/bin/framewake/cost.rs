//! `framewake cost`: what a job cost, or what was paid on some days; as a table, JSON, CSV, or FOCUS for other tools.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::find;
use crate::printer::table;
use framewake_proto::cost::{CostRow, CostsView, JobCostView, Paid};
use framewake_proto::ids::Name;
use framewake_proto::money::{Micros, Money};
use framewake_proto::price::{Market, PriceRow};
use framewake_proto::time::{Day, Timestamp};

/// Keys of a line for FOCUS: as fine as the farm remembers.
const FOCUS_KEYS: &str = "day,project,function,pool,gpu,cause,price";
/// Frames that `--csv` lists of a job.
const FRAMES_CSV: u32 = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A job: its id, the beginning of it, or `latest`; without it, days
    #[arg(conflicts_with_all = ["project", "month", "day", "by", "focus"])]
    job: Option<String>,
    /// Only this project
    #[arg(long)]
    project: Option<Name>,
    /// A whole month: `2026-11` [default: this month]
    #[arg(long, conflicts_with = "day")]
    month: Option<String>,
    /// A day in UTC: `2026-11-21`
    #[arg(long)]
    day: Option<Day>,
    /// Add up by day, project, function, pool, gpu, cause or price; several with commas between
    #[arg(long, default_value = "day")]
    by: String,
    /// Print CSV: the frames of a job, or the lines of the table
    #[arg(long)]
    csv: bool,
    /// Print CSV as FOCUS 1.2 has it, for tools that bring bills together
    #[arg(long, conflicts_with = "csv")]
    focus: bool,
    /// How many of a job's dearest frames are listed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    frames: u32,
    /// How many of a job's dearest chunks are listed
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    chunks: u32,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    if let Some(job) = &args.job {
        let job = find::job(&context.client, job).await?;
        let frames = if args.csv { FRAMES_CSV } else { args.frames };
        let view = context.client.job_cost(job, frames, args.chunks).await?;
        if printer.is_json() {
            printer.json(&view)?;
        } else if args.csv {
            printer.line("step,frame,elapsed_ms,cost")?;
            for frame in &view.frames {
                let cost = csv(&amounts(&frame.cost));
                printer.line(format!("{},{},{},{cost}", frame.step, frame.frame, frame.elapsed_ms))?;
            }
        } else {
            show_job(context, &view)?;
        }
        return Ok(Outcome::Done);
    }
    let (from, to) = days(&args)?;
    let by = if args.focus { FOCUS_KEYS } else { args.by.as_str() };
    let view = context.client.costs(from, to, args.project.as_ref(), by).await?;
    if printer.is_json() {
        printer.json(&view)?;
    } else if args.focus {
        show_focus(context, &view)?;
    } else if args.csv {
        show_csv(context, &view)?;
    } else {
        show_days(context, &view)?;
    }
    Ok(Outcome::Done)
}

fn days(args: &Args) -> Result<(Day, Day), BadInput> {
    if let Some(day) = args.day {
        return Ok((day, day));
    }
    let this_month = || Day::of(Timestamp::now()).to_string()[..7].to_owned();
    let month = args.month.clone().unwrap_or_else(this_month);
    let wrong = |_| BadInput::new(format!("`{month}` is not a month, as `2026-11`"));
    let first: Day = format!("{month}-01").parse().map_err(wrong)?;
    // The last of 28 to 31 that is a day of this month.
    let last = (28..=31).rev().find_map(|day| format!("{month}-{day}").parse().ok());
    Ok((first, last.unwrap_or(first)))
}

fn show_job(context: &Context, view: &JobCostView) -> anyhow::Result<()> {
    let printer = &context.printer;
    printer.line(format!("job {}: {}", view.job, summary(&view.paid, view.efficiency_permille)))?;
    let mut causes = table(&["cause", "time", "cost"], &[]);
    for cause in &view.causes {
        causes.add_row([cause.cause.clone(), hours(cause.paid.time_us), amount(&cause.paid)]);
    }
    printer.table(&causes)?;
    let mut steps = table(&["step", "time", "cost"], &[]);
    for step in &view.steps {
        steps.add_row([step.step.to_string(), hours(step.paid.time_us), amount(&step.paid)]);
    }
    printer.table(&steps)?;
    let mut pools = table(&["pool", "time", "cost"], &[]);
    for pool in &view.pools {
        pools.add_row([pool_name(&pool.pool), hours(pool.paid.time_us), amount(&pool.paid)]);
    }
    printer.table(&pools)?;
    if !view.frames.is_empty() {
        printer.line(format!("the dearest of {} frames that are done:", view.frames_done))?;
        let mut frames = table(&["step", "frame", "rendering", "cost"], &[]);
        for frame in &view.frames {
            let cost = if frame.cost.is_empty() { "unknown".to_owned() } else { amounts(&frame.cost) };
            frames.add_row([frame.step.to_string(), frame.frame.to_string(), hours(frame.elapsed_ms * 1000), cost]);
        }
        printer.table(&frames)?;
    }
    if !view.chunks.is_empty() {
        printer.line("the dearest chunks:")?;
        let mut chunks = table(&["step", "chunk", "frames", "rendering", "cost"], &[]);
        for chunk in &view.chunks {
            let cost = if chunk.cost.is_empty() { "unknown".to_owned() } else { amounts(&chunk.cost) };
            let (number, frames) = (chunk.chunk.to_string(), chunk.frames.to_string());
            chunks.add_row([chunk.step.to_string(), number, frames, hours(chunk.elapsed_ms * 1000), cost]);
        }
        printer.table(&chunks)?;
    }
    let stored = &view.stored;
    let told = |price: Option<Money>| price.map_or("price unknown".to_owned(), |money| money.to_string());
    printer.line(format!(
        "outputs: {:.3} GB; storage, about, for a month: {}; fetching all once, about: {}",
        stored.size_bytes as f64 / 1e9,
        told(stored.storage_a_month),
        told(stored.egress)
    ))?;
    show_prices(context, &view.prices)
}

fn show_days(context: &Context, view: &CostsView) -> anyhow::Result<()> {
    let printer = &context.printer;
    printer.line(format!("{} to {}: {}", view.from, view.to, summary(&view.paid, view.efficiency_permille)))?;
    let Some(first) = view.rows.first() else { return Ok(()) };
    let mut head: Vec<&str> = keys(first).into_iter().map(|(key, _)| key).collect();
    head.extend(["time", "useful", "cost"]);
    let mut rows = table(&head, &[]);
    for row in &view.rows {
        let mut cells: Vec<String> = keys(row).into_iter().map(|(_, value)| value).collect();
        cells.extend([hours(row.paid.time_us), hours(row.useful_us), amount(&row.paid)]);
        rows.add_row(cells);
    }
    printer.table(&rows)?;
    show_prices(context, &view.prices)
}

fn show_prices(context: &Context, prices: &[PriceRow]) -> anyhow::Result<()> {
    for row in prices {
        let machine = if row.instance_type.is_empty() { &row.gpu } else { &row.instance_type };
        context.printer.line(format!(
            "price {}: {} {machine} {} {} {} an hour, as of {} ({})",
            row.id.unwrap_or_default(),
            row.provider,
            row.market,
            row.region,
            row.an_hour,
            row.as_of,
            if row.source.is_empty() { "no source" } else { &row.source }
        ))?;
    }
    Ok(())
}

fn show_csv(context: &Context, view: &CostsView) -> anyhow::Result<()> {
    let printer = &context.printer;
    let Some(first) = view.rows.first() else { return Ok(()) };
    let head: Vec<&str> = keys(first).into_iter().map(|(key, _)| key).collect();
    printer.line(format!("{},time_us,useful_us,unknown_us,cost", head.join(",")))?;
    for row in &view.rows {
        let cells: Vec<String> = keys(row).into_iter().map(|(_, value)| csv(&value)).collect();
        let Paid { time_us, unknown_us, cost } = &row.paid;
        let cost = csv(&amounts(cost));
        printer.line(format!("{},{time_us},{},{unknown_us},{cost}", cells.join(","), row.useful_us))?;
    }
    Ok(())
}

/// The `FinOps` Open Cost and Usage Specification, version 1.2: a line for each day, project, function, pool, GPU,
/// cause and price. Time whose price is unknown has no line: FOCUS has no word for it, and 0 would be wrong.
fn show_focus(context: &Context, view: &CostsView) -> anyhow::Result<()> {
    let head = "BilledCost,EffectiveCost,ListCost,ContractedCost,BillingAccountId,BillingAccountName,BillingCurrency,\
                BillingPeriodStart,BillingPeriodEnd,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ChargeClass,\
                ChargeFrequency,ChargeDescription,ServiceCategory,ServiceName,ProviderName,PublisherName,\
                InvoiceIssuerName,SubAccountId,RegionId,SkuId,SkuPriceId,ListUnitPrice,ContractedUnitPrice,\
                PricingCategory,PricingQuantity,PricingUnit,ConsumedQuantity,ConsumedUnit,Tags,x_Cause,x_Function,x_Gpu,x_Pool";
    context.printer.line(head)?;
    for row in &view.rows {
        let Some(price) = view.prices.iter().find(|price| price.id == row.price) else { continue };
        let Some(day) = row.day else { continue };
        let month = &day.to_string()[..7];
        let month_start: Day = format!("{month}-01").parse().unwrap_or(day);
        let month_end = (28..=31).rev().find_map(|last| format!("{month}-{last}").parse::<Day>().ok()).unwrap_or(day);
        let cost = row.paid.cost.iter().map(|money| i128::from(money.micros)).sum();
        let cost = Micros(cost).to_string();
        let hours = format!("{:.9}", row.paid.time_us as f64 / 3.6e9);
        let word = |value: &Option<String>| value.clone().unwrap_or_default();
        let (project, cause, function) = (word(&row.project), word(&row.cause), word(&row.function));
        let (gpu, pool) = (word(&row.gpu), word(&row.pool));
        let start = |day: Day| format!("{day}T00:00:00Z");
        let unit_price = Micros(price.micros_a_worker().into()).to_string();
        let tags = format!("{{\"project\":\"{project}\",\"function\":\"{function}\"}}");
        let fields = [
            cost.clone(),
            cost.clone(),
            cost.clone(),
            cost,
            // A farm is billed for by itself.
            context.client.url().to_owned(),
            String::new(),
            price.an_hour.currency.to_string(),
            start(month_start),
            start(Day(month_end.0 + 1)),
            start(day),
            start(Day(day.0 + 1)),
            "Usage".to_owned(),
            // No line corrects an earlier month.
            String::new(),
            "Usage-Based".to_owned(),
            format!("{cause} of {function}"),
            "Compute".to_owned(),
            "Rendering".to_owned(),
            price.provider.clone(),
            price.provider.clone(),
            price.provider.clone(),
            project,
            price.region.clone(),
            [&price.instance_type, &price.gpu]
                .into_iter()
                .find(|name| !name.is_empty())
                .map_or("worker", String::as_str)
                .to_owned(),
            price.id.unwrap_or_default().to_string(),
            unit_price.clone(),
            unit_price,
            if price.market == Market::Spot { "Dynamic" } else { "Standard" }.to_owned(),
            hours.clone(),
            "Hours".to_owned(),
            hours,
            "Hours".to_owned(),
            tags,
            cause,
            function,
            gpu,
            pool,
        ];
        context.printer.line(fields.map(|field| csv(&field)).join(","))?;
    }
    Ok(())
}

/// What the row is about, by name.
fn keys(row: &CostRow) -> Vec<(&'static str, String)> {
    let words = [
        ("day", row.day.map(|day| day.to_string())),
        ("project", row.project.clone()),
        ("function", row.function.clone()),
        ("pool", row.pool.as_deref().map(pool_name)),
        ("gpu", row.gpu.clone()),
        ("cause", row.cause.clone()),
        ("price", row.price.map(|price| if price == 0 { "unknown".to_owned() } else { price.to_string() })),
    ];
    let none = |value: String| if value.is_empty() { "-".to_owned() } else { value };
    words.into_iter().filter_map(|(key, value)| Some((key, none(value?)))).collect()
}

fn pool_name(pool: &str) -> String {
    if pool.is_empty() { "unknown".to_owned() } else { pool.to_owned() }
}

fn summary(paid: &Paid, efficiency_permille: u32) -> String {
    let (whole, part) = (efficiency_permille / 10, efficiency_permille % 10);
    format!("{} paid, of which {whole}.{part} % useful; {}", hours(paid.time_us), amount(paid))
}

/// An unknown price is said, never shown as 0.
fn amount(paid: &Paid) -> String {
    match (paid.cost.is_empty(), paid.unknown_us) {
        (true, 0) => "-".to_owned(),
        (true, _) => "price unknown".to_owned(),
        (false, 0) => amounts(&paid.cost),
        (false, unknown_us) => format!("{} and {} of unknown price", amounts(&paid.cost), hours(unknown_us)),
    }
}

fn amounts(cost: &[Money]) -> String {
    cost.iter().map(Money::to_string).collect::<Vec<_>>().join(" + ")
}

/// `1:02:03.004`
fn hours(time_us: u64) -> String {
    let ms = time_us / 1000;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours}:{minutes:02}:{seconds:02}.{:03}", ms % 1000)
}

/// A field; one that a spreadsheet would take for a formula is led by a quote.
fn csv(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']) && field.len() > 1;
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}
