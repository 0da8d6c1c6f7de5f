//! `framewake functions`: the renderers of the farm.

mod image;
mod keda;
mod make;
mod scan;

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::printer::{Style, table};
use crate::{job_file, pages, retry, scaling, text};
use anyhow::Context as _;
use comfy_table::Cell;
use framewake_proto::api::FunctionView;
use framewake_proto::client::Client;
use framewake_proto::function::{Driver, FunctionSpec, ParameterKind, ParameterSpec};
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List functions (the default)
    List {
        /// Old versions too
        #[arg(long)]
        all: bool,
    },
    /// Make a folder to begin a function with: a Dockerfile, a function file and a sample job
    New(make::Args),
    /// Build a function's image with docker or podman, and write it into its file
    Build(image::BuildArgs),
    /// Push a function's image, and write its digest into its file
    Push(image::PushArgs),
    /// Add functions, or new versions of them, from their files
    Add {
        /// Function files in YAML or JSON, or folders: of a function's own folder its `function.yaml`, of others all `.yaml` files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the `ScaledJob` by which KEDA starts the workers of a function
    Keda(keda::Args),
    /// Say why a function has the workers it has
    Explain {
        /// `blender`, or one version of it: `blender@3`
        name: String,
    },
    /// Show a function: what jobs may set, and who works for it
    Show {
        /// `blender`, or one version of it: `blender@3`
        name: String,
    },
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    match args.command.unwrap_or(Command::List { all: false }) {
        Command::List { all } => print_list(context, all).await,
        Command::New(args) => make::run(context, &args),
        Command::Build(args) => image::build(context, &args),
        Command::Push(args) => image::push(context, &args),
        Command::Add { files } => add(context, &files).await,
        Command::Keda(args) => keda::run(context, &args).await,
        Command::Show { name } => show(context, &name).await,
        Command::Explain { name } => scaling::explain(context, &name).await,
    }
}

pub(crate) async fn list(client: &Client) -> anyhow::Result<Vec<FunctionView>> {
    Ok(pages::all(async |cursor| client.functions(cursor).await).await?)
}

async fn print_list(context: &Context, all: bool) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let functions = list(&context.client).await?;
    let mut table = table(
        &["function", "version", "program", "gpus", "workers", "most", "description"],
        &["program", "description"],
    );
    for function in functions.iter().filter(|function| all || function.newest || !function.is_active()) {
        if printer.is_json() {
            printer.json(function)?;
            continue;
        }
        table.add_row([
            Cell::new(&function.name),
            Cell::new(function.version),
            Cell::new(text::shorten(&text::clean(program(&function.spec)), 30)),
            Cell::new(function.spec.resources.gpus),
            Cell::new(function.workers.present),
            Cell::new(function.spec.scaling.max),
            Cell::new(match &function.scan {
                Some(scan) if !scan.state.is_active() => format!("not active: its scan is {}", scan.state),
                Some(_) | None => text::clean(&function.spec.description).into_owned(),
            }),
        ]);
    }
    if printer.is_json() {
        return Ok(Outcome::Done);
    }
    if functions.is_empty() {
        printer.note("no functions: add one with `framewake functions add FILE`");
        return Ok(Outcome::Done);
    }
    printer.table(&table)?;
    Ok(Outcome::Done)
}

async fn add(context: &Context, files: &[PathBuf]) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    // All are read before one is added.
    let mut bodies = Vec::new();
    for file in function_files(files)? {
        let text = job_file::read_text(&file)?;
        let body = job_file::parse::<Value>(&text, &job_file::shown(&file))?;
        bodies.push((file, body));
    }
    let mut outcome = Outcome::Done;
    for (file, body) in bodies {
        let added = retry::while_passing(printer, async || context.client.add_function(&body).await).await;
        let added = added.with_context(|| format!("can't add {}", job_file::shown(&file)))?;
        let added = scan::wait(context, added).await?;
        if printer.is_json() {
            printer.json(&added)?;
        } else {
            printer.line(format_args!("function {}@{}", added.name, added.version))?;
            scan::print(printer, &added)?;
        }
        if !added.is_active() {
            outcome = Outcome::Failed;
        }
    }
    Ok(outcome)
}

/// The files themselves, and those of folders in the order of their names, as `--functions` of a farm takes them; but beside a
/// `function.yaml` lie other things, as sample jobs.
fn function_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let own = path.join("function.yaml");
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        if own.is_file() {
            files.push(own);
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("can't read folder `{}`", path.display()))?;
        let is_yaml = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_yaml).collect();
        if found.is_empty() {
            let error = BadInput::new(format!("there is no function file in `{}`", path.display()));
            return Err(error.hint("their names end in `.yaml` or `.yml`").into());
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

async fn show(context: &Context, name: &str) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let function = context.client.function(name).await?;
    if printer.is_json() {
        printer.json(&function)?;
        return Ok(Outcome::Done);
    }
    let spec = &function.spec;
    let title = format!("{}@{}", function.name, function.version);
    printer.line(format_args!("{} {}", printer.paint(Style::Strong, &title), text::clean(&spec.description)))?;
    let (kind, words) = match &spec.driver {
        Driver::Session { command, .. } => ("session", command),
        Driver::Command { command, .. } => ("command", command),
    };
    printer.line(format_args!("{kind}: {}", text::clean(&words.join(" "))))?;
    printer.line(format_args!("gpus: {}, workers: at most {}", spec.resources.gpus, spec.scaling.max))?;
    let workers = &function.workers;
    printer.line(format_args!(
        "workers: {} wanted, {} starting, {} here",
        workers.wanted, workers.starting, workers.present
    ))?;
    for reason in &workers.reasons {
        printer.line(format_args!("  - {}", text::clean(reason)))?;
    }
    scan::print(printer, &function)?;
    if !spec.parameters.is_empty() {
        printer.line("")?;
        let mut table = table(&["parameter", "type", "default", "description"], &["type", "default", "description"]);
        for (name, parameter) in &spec.parameters {
            table.add_row([
                Cell::new(text::clean(name)),
                Cell::new(kind_words(parameter)),
                Cell::new(default_words(parameter)),
                Cell::new(text::clean(&parameter.description)),
            ]);
        }
        printer.table(&table)?;
    }
    Ok(Outcome::Done)
}

pub(crate) fn program(spec: &FunctionSpec) -> &str {
    let (Driver::Session { command, .. } | Driver::Command { command, .. }) = &spec.driver;
    command.first().map_or("", String::as_str)
}

fn kind_words(parameter: &ParameterSpec) -> String {
    let kind = match parameter.kind {
        ParameterKind::Text if !parameter.choices.is_empty() => {
            return text::clean(&parameter.choices.join("|")).into();
        }
        ParameterKind::Text => "text",
        ParameterKind::Integer => "integer",
        ParameterKind::Number => "number",
        ParameterKind::Boolean => "boolean",
        ParameterKind::Input => "input",
        ParameterKind::Words => "words",
    };
    match (parameter.minimum, parameter.maximum) {
        (Some(minimum), Some(maximum)) => format!("{kind} {minimum} to {maximum}"),
        (Some(minimum), None) => format!("{kind} from {minimum}"),
        (None, Some(maximum)) => format!("{kind} up to {maximum}"),
        (None, None) => kind.to_owned(),
    }
}

fn default_words(parameter: &ParameterSpec) -> String {
    let value = parameter.default.as_ref().and_then(|value| serde_json::to_string(value).ok());
    value.map_or("must be set".to_owned(), |value| text::clean(&value).into_owned())
}
