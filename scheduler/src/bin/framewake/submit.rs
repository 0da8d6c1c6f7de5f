//! `framewake submit`: a job file and its local inputs, sent to the farm.

use crate::Context;
use crate::failure::Outcome;
use crate::local_inputs::LocalInputs;
use crate::{follow, job_file, local_inputs, retry, text, upload};
use framewake_proto::api::Submitted;
use framewake_proto::client::Error;
use framewake_proto::objects::Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    #[command(flatten)]
    changes: job_file::Changes,
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
    args.changes.make(&mut body)?;
    let inputs = find_inputs(context, &mut body, &folder).await?;
    let digests = hash_inputs(context, &inputs).await?;
    local_inputs::replace(&mut body, &inputs, &digests);
    // A fresh key, so that a submission whose answer is lost can be sent again without a second job.
    let fresh_key = format!("cli-{:032x}", fastrand::u128(..));
    let key = args.idempotency_key.as_ref().unwrap_or(&fresh_key);
    let submit = async || context.client.submit(&body, key).await;
    // Nobody should send gigabytes to hear of a typing error, so the job goes first: should all be well with it but
    // inputs that the farm does not have, it goes again after them.
    let submitted = match retry::while_passing(printer, submit).await {
        Err(Error::Refused(problem)) if inputs.are_all_of(&problem.faults) => {
            send_inputs(context, &inputs, &digests).await?;
            retry::while_passing(printer, submit).await?
        }
        answer => answer?,
    };
    let repeated = args.idempotency_key.is_some() && submitted.repeated;
    say(context, &Submitted { repeated, ..submitted }, args.wait)?;
    if args.wait { follow::run(context, submitted.id).await } else { Ok(Outcome::Done) }
}

/// The job's local files. Where some can't be used, the farm is asked what else is wrong with the job, so that all is said at
/// once; nothing is stored by that.
pub(crate) async fn find_inputs(context: &Context, body: &mut Value, folder: &Path) -> anyhow::Result<LocalInputs> {
    let mut bad = match local_inputs::find(body, folder) {
        Ok(inputs) => return Ok(inputs),
        Err(bad) => bad,
    };
    // A farm that is away, or says nothing of faults, keeps nobody from hearing of those that are known.
    if let Err(Error::Refused(problem)) = context.client.estimate(&local_inputs::stand_in(body), None).await {
        let mut others = problem.faults;
        others.retain(|fault| !local_inputs::is_of_stand_in(body, &bad.faults, fault));
        if !others.is_empty() {
            bad.faults.append(&mut others);
            bad.message = format!("{} fields are wrong", bad.faults.len());
        }
    }
    Err(bad.into())
}

pub(crate) async fn hash_inputs(context: &Context, inputs: &LocalInputs) -> anyhow::Result<BTreeMap<PathBuf, Digest>> {
    if inputs.files.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Nor should anybody wait for gigabytes to be hashed to hear that there is no scheduler.
    context.client.readiness().await?;
    upload::hash(context, &inputs.files).await
}

pub(crate) async fn send_inputs(
    context: &Context,
    inputs: &LocalInputs,
    digests: &BTreeMap<PathBuf, Digest>,
) -> anyhow::Result<()> {
    let missing = upload::missing(context, &inputs.files, digests).await?;
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
