//! `framewake prices`: the price table, and which of its rows are paid by.

use crate::failure::{BadInput, Outcome};
use crate::printer::table;
use crate::{Context, pages};
use anyhow::Context as _;
use framewake_proto::money::{Currency, Money};
use framewake_proto::price::{
    Defaults, Import, Market, PaidByChange, PaidByView, PaidFor, PriceRow, PricesAdd, PricesAdded, ROWS_MAX, read,
};
use framewake_proto::time::{Day, Timestamp};
use std::path::PathBuf;

/// Most rows that fit a choice and are shown.
const SHOWN_MAX: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what is paid by, and since when (the default)
    Used,
    /// List the rows of the price table
    List {
        /// Only of this model: `L4`
        #[arg(long)]
        gpu: Option<String>,
        #[arg(long)]
        provider: Option<String>,
    },
    /// Add the rows of a file to the price table
    Import {
        file: PathBuf,
        #[arg(long, default_value = "skypilot")]
        format: Format,
        /// Whose prices they are, where the file does not say
        #[arg(long, default_value = "")]
        provider: String,
        #[arg(long, default_value = "USD")]
        currency: Currency,
        /// The day of the prices, where the file does not say [default: today]
        #[arg(long)]
        as_of: Option<Day>,
        /// Where the figures are from [default: the file's name]
        #[arg(long)]
        source: Option<String>,
    },
    /// Set a price of your own: `prices set any 0.30USD`
    Set {
        /// `any`, `gpu:MODEL`, `pool:NAME`, `function:NAME`, `function:NAME+pool:NAME` (an hour of a worker), `storage` (a GB for
        /// a month) or `egress` (a GB)
        what: PaidFor,
        /// As `0.30USD`
        price: Money,
        /// From this day on [default: today]
        #[arg(long)]
        since: Option<Day>,
    },
    /// Pay by a row of the table: `prices use gpu:L4 --provider gcp --region us-central1 --market spot`
    Use {
        /// `any`, `gpu:MODEL`, `pool:NAME`, `function:NAME` or `function:NAME+pool:NAME`
        what: PaidFor,
        /// The model of the row, where `gpu:MODEL` does not say it
        #[arg(long)]
        gpu: Option<String>,
        #[arg(long)]
        provider: Option<String>,
        #[arg(long)]
        region: Option<String>,
        /// The machine
        #[arg(long)]
        instance: Option<String>,
        #[arg(long, default_value = "on-demand")]
        market: Market,
        /// From this day on [default: the day of the row]
        #[arg(long)]
        since: Option<Day>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Skypilot,
    KarpenterAws,
    KarpenterAzure,
    KarpenterGcp,
    Opencost,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    match args.command.unwrap_or(Command::Used) {
        Command::Used => show_used(context, &used(context).await?)?,
        Command::List { gpu, provider } => {
            show_rows(context, &rows(context, gpu.as_deref(), provider.as_deref()).await?)?;
        }
        Command::Import { file, format, provider, currency, as_of, source } => {
            let (format, named) = match format {
                Format::Skypilot => (Import::SkyPilot, ""),
                Format::KarpenterAws => (Import::Karpenter, "aws"),
                Format::KarpenterAzure => (Import::Karpenter, "azure"),
                Format::KarpenterGcp => (Import::KarpenterGcp, "gcp"),
                Format::Opencost => (Import::OpenCost, "opencost"),
            };
            let provider = if provider.is_empty() { named.to_owned() } else { provider };
            let text = std::fs::read_to_string(&file).with_context(|| format!("can't read `{}`", file.display()))?;
            let name = || file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let as_of = as_of.unwrap_or(Day::of(Timestamp::now()));
            let defaults = Defaults { provider, currency, as_of, source: source.unwrap_or_else(name) };
            let rows = read(format, &text, &defaults)
                .map_err(|error| BadInput::new(format!("`{}` was not taken: {error}", file.display())))?;
            let mut sum = PricesAdded::default();
            for rows in rows.chunks(ROWS_MAX) {
                let added = context.client.add_prices(&PricesAdd { rows: rows.to_vec() }).await?;
                sum.added += added.added;
                sum.known += added.known;
            }
            if context.printer.is_json() {
                context.printer.json(&sum)?;
            } else {
                context.printer.line(format!("{} prices are new, {} were known", sum.added, sum.known))?;
            }
        }
        Command::Set { what, price, since } => {
            let change = PaidByChange { price: None, own: Some(price), since };
            show_used(context, &[context.client.pay_by(&what, &change).await?])?;
        }
        Command::Use { what, gpu, provider, region, instance, market, since } => {
            let gpu = if let PaidFor::Gpu(model) = &what { Some(model.as_str()) } else { gpu.as_deref() };
            let mut fit = rows(context, gpu, provider.as_deref()).await?;
            fit.retain(|row| {
                let is = |wanted: &Option<String>, word: &str| wanted.as_ref().is_none_or(|wanted| wanted == word);
                row.market == market && is(&region, &row.region) && is(&instance, &row.instance_type)
            });
            let row = one(fit)?;
            let change = PaidByChange { price: row.id, own: None, since: since.or(Some(row.as_of)) };
            show_used(context, &[context.client.pay_by(&what, &change).await?])?;
        }
    }
    Ok(Outcome::Done)
}

/// The newest of rows that differ by their day alone.
fn one(mut fit: Vec<PriceRow>) -> Result<PriceRow, BadInput> {
    fit.sort_by_key(|row| std::cmp::Reverse(row.as_of));
    let Some(first) = fit.first().cloned() else {
        return Err(BadInput::new(
            "no row of the price table fits: see `framewake prices list`, or set a price of your own",
        ));
    };
    let same = |row: &PriceRow| {
        (&row.provider, &row.instance_type, &row.region) == (&first.provider, &first.instance_type, &first.region)
    };
    if fit.iter().all(same) {
        return Ok(first);
    }
    let told: Vec<String> = fit.iter().take(SHOWN_MAX).map(line).collect();
    Err(BadInput::new(format!("several rows fit; name --provider, --region or --instance:\n{}", told.join("\n"))))
}

fn line(row: &PriceRow) -> String {
    let PriceRow { provider, instance_type, gpu, gpu_count, market, region, an_hour, as_of, .. } = row;
    format!("{provider} {instance_type} {gpu_count}x{gpu} {market} {region}: {an_hour} an hour as of {as_of}")
}

async fn rows(context: &Context, gpu: Option<&str>, provider: Option<&str>) -> anyhow::Result<Vec<PriceRow>> {
    Ok(pages::all(async |cursor| context.client.prices(gpu, provider, cursor).await).await?)
}

async fn used(context: &Context) -> anyhow::Result<Vec<PaidByView>> {
    Ok(pages::all(async |cursor| context.client.paid_by(cursor).await).await?)
}

fn show_rows(context: &Context, rows: &[PriceRow]) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        return Ok(rows.iter().try_for_each(|row| printer.json(row))?);
    }
    let head = ["price", "provider", "machine", "gpus", "gpu", "market", "region", "an hour", "as of", "source"];
    let mut table = table(&head, &["source"]);
    for row in rows {
        let PriceRow { provider, instance_type, gpu, gpu_count, market, region, an_hour, as_of, source, id } = row;
        table.add_row([
            id.unwrap_or_default().to_string(),
            provider.clone(),
            instance_type.clone(),
            gpu_count.to_string(),
            gpu.clone(),
            market.to_string(),
            region.clone(),
            an_hour.to_string(),
            as_of.to_string(),
            source.clone(),
        ]);
    }
    Ok(printer.table(&table)?)
}

fn show_used(context: &Context, used: &[PaidByView]) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        return Ok(used.iter().try_for_each(|view| printer.json(view))?);
    }
    if used.is_empty() {
        printer.line(
            "no price is known: times are counted, and what they cost is not; `framewake prices set any 0.30USD`",
        )?;
        return Ok(());
    }
    let mut table = table(&["for", "since", "price", "provider", "machine", "market", "region", "as of"], &[]);
    for view in used {
        let row = &view.price;
        table.add_row([
            view.paid_for.clone(),
            view.since.to_string(),
            row.an_hour.to_string(),
            row.provider.clone(),
            row.instance_type.clone(),
            row.market.to_string(),
            row.region.clone(),
            row.as_of.to_string(),
        ]);
    }
    Ok(printer.table(&table)?)
}
