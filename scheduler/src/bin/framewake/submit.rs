//! `framewake submit`: a job file and its local inputs, sent to the farm.

use crate::Context;
use crate::failure::Outcome;
use crate::{follow, job_file, local_inputs, retry, text, upload};
use framewake_proto::api::Submitted;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job file in YAML or JSON; `-` reads it from stdin
    file: PathBuf,
    /// Watch the job until it is over; the exit code tells how it ended
    #[arg(long)]
    wait: bool,
    /// The same key and file again is the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Set a parameter: `--set render.samples=64`
    #[arg(long = "set", value_name = "STEP.PARAMETER=VALUE")]
    settings: Vec<job_file::Setting>,
    /// 0 (last) to 100 (first), instead of the file's
    #[arg(long)]
    priority: Option<u32>,
    /// Name of the job, instead of the file's
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let job_file::JobFile { mut body, folder } = job_file::read(&args.file)?;
    if let Some(priority) = args.priority {
        body["priority"] = Value::from(priority);
    }
    if let Some(name) = args.name {
        body["name"] = Value::String(name);
    }
    for setting in &args.settings {
        job_file::set(&mut body, setting)?;
    }
    let inputs = local_inputs::find(&body, &folder)?;
    send_inputs(context, &mut body, &inputs).await?;
    // A fresh key, so that a submission whose answer is lost can be sent again without a second job.
    let key = args.idempotency_key.unwrap_or_else(|| format!("cli-{:032x}", fastrand::u128(..)));
    let submitted = retry::while_passing(printer, async || context.client.submit(&body, &key).await).await?;
    say(context, &submitted, args.wait)?;
    if args.wait { follow::run(context, submitted.id).await } else { Ok(Outcome::Done) }
}

async fn send_inputs(context: &Context, body: &mut Value, inputs: &local_inputs::LocalInputs) -> anyhow::Result<()> {
    if inputs.files.is_empty() {
        return Ok(());
    }
    // Nobody should wait for gigabytes to be hashed to hear that there is no scheduler.
    context.client.readiness().await?;
    let digests = upload::hash(context, &inputs.files).await?;
    let missing = upload::missing(context, &inputs.files, &digests).await?;
    local_inputs::replace(body, inputs, &digests);
    if missing.is_empty() {
        return Ok(());
    }
    let size_bytes: u64 = missing.iter().map(|file| file.size_bytes).sum();
    let files = text::count(missing.len() as u64, "file");
    upload::send(context, missing).await?;
    if !context.printer.is_json() {
        context.printer.note(format_args!("sent {files}, {}", indicatif::BinaryBytes(size_bytes)));
    }
    Ok(())
}

fn say(context: &Context, submitted: &Submitted, wait: bool) -> anyhow::Result<()> {
    let printer = &context.printer;
    if printer.is_json() {
        printer.json(submitted)?;
        return Ok(());
    }
    let repeated = if submitted.repeated { " (submitted before)" } else { "" };
    printer.line(format_args!("job {}: {}{repeated}", submitted.id, text::count(submitted.tasks, "task")))?;
    if !wait && printer.is_terminal() {
        printer.note(format_args!("watch it with: framewake tail {}", submitted.id));
    }
    Ok(())
}
