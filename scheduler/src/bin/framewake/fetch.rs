//! `framewake fetch`: a job's outputs on this machine, whole and under their own names.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::retry;
use crate::upload::{bar, hash_file};
use crate::{find, text};
use anyhow::Context as _;
use framewake_proto::api::{OutputView, PAGE_SIZE_MAX};
use framewake_proto::client::{self, PartQuery};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::check_relative;
use futures::StreamExt as _;
use indicatif::{BinaryBytes, ProgressBar};
use std::cell::Cell;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// Outputs fetched at once.
const PARALLEL: usize = 6;
/// Errors that are printed one by one; the rest are counted.
const ERRORS_SHOWN: usize = 10;
/// Tries at one output whose bytes come out wrong: a broken partial file is the first one's excuse.
const TRIES: u32 = 2;
/// What a file is called while it is fetched.
const PART_SUFFIX: &str = ".framewake-part";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    job: String,
    /// Folder to put the outputs into; made if it is not there
    folder: PathBuf,
    /// Only outputs of this step
    #[arg(long)]
    step: Option<Name>,
}

/// What became of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetched {
    Now,
    /// It lay there already, whole.
    Before,
}

pub(crate) async fn run(context: &Context, args: Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let id = find::job(&context.client, &args.job).await?;
    let expected = expected(context, id, args.step.as_ref()).await?;
    let outputs = list(context, id, args.step).await?;
    tokio::fs::create_dir_all(&args.folder)
        .await
        .map_err(|error| BadInput::new(format!("can't make folder `{}`: {error}", args.folder.display())))?;
    let bar = bar(context, "fetching", outputs.iter().map(|output| output.size_bytes).sum());
    let fetching = futures::stream::iter(&outputs).map(async |output| {
        let result = fetch(context, id, output, &args.folder, &bar).await;
        (output, result)
    });
    let mut fetching = std::pin::pin!(fetching.buffer_unordered(PARALLEL));
    let (mut now, mut before, mut failed, mut gone, mut size_bytes) = (0u64, 0u64, 0usize, 0u64, 0u64);
    while let Some((output, result)) = fetching.next().await {
        match result {
            Ok(Fetched::Now) => {
                now += 1;
                size_bytes += output.size_bytes;
            }
            Ok(Fetched::Before) => before += 1,
            Err(error) if is_scheduler_gone(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                gone += u64::from(is_gone(&error));
                if failed <= ERRORS_SHOWN {
                    let words = text::clean_lines(&format!("{}: {error:#}", output.name));
                    bar.suspend(|| printer.note(words));
                }
            }
        }
    }
    bar.finish_and_clear();
    if failed > ERRORS_SHOWN {
        printer.note(format_args!("… and {} more", failed - ERRORS_SHOWN));
    }
    let missing = expected.saturating_sub(now + before);
    if printer.is_json() {
        let folder = args.folder.display().to_string();
        printer.json(&serde_json::json!({
            "job": id, "folder": folder, "fetched": now, "already_there": before, "missing": missing,
            "fetched_bytes": size_bytes,
        }))?;
    } else {
        let there = if before > 0 { format!(", {before} were there already") } else { String::new() };
        let fetched = text::count(now, "output");
        printer.line(format_args!(
            "{fetched} ({}) fetched to {}{there}",
            BinaryBytes(size_bytes),
            args.folder.display()
        ))?;
        if missing > 0 {
            say_missing(context, id, missing, gone).await?;
        }
    }
    Ok(if missing > 0 { Outcome::Failed } else { Outcome::Done })
}

fn is_scheduler_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<client::Error>().is_some_and(client::Error::is_passing))
}

/// The scheduler knows of it, and the store does not have it.
fn is_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(client::Error::Refused(problem)) if problem.status == 404))
}

async fn say_missing(context: &Context, id: JobId, missing: u64, gone: u64) -> anyhow::Result<()> {
    if gone > 0 {
        let (outputs, verb) = (text::count(gone, "output"), if gone == 1 { "is" } else { "are" });
        context.printer.note(format_args!("{outputs} {verb} no longer in the store, and can't be fetched"));
        context.printer.note("a job renders no frame twice that was done: submit it again to have them rendered again");
    }
    if missing == gone {
        return Ok(());
    }
    let missing = missing - gone;
    let job = context.client.job(id).await?;
    let then = if job.state.is_over() { "" } else { "; fetch again later for the rest" };
    let words = format!("{} missing: the job is {}{then}", text::count(missing, "output"), job.state);
    context.printer.note(words);
    Ok(())
}

/// How many outputs there are when all is done.
async fn expected(context: &Context, id: JobId, step: Option<&Name>) -> anyhow::Result<u64> {
    let spec = context.client.job_spec(id).await?;
    let view = context.client.job(id).await?;
    if let Some(wanted) = step
        && !spec.steps.iter().any(|step| step.name == *wanted)
    {
        let names: Vec<&str> = spec.steps.iter().map(|step| step.name.as_str()).collect();
        let error = BadInput::new(format!("the job has no step `{wanted}`"));
        return Err(error.hint(format!("the steps are: {}", names.join(", "))).into());
    }
    let with_output =
        spec.steps.iter().filter(|spec| spec.output.is_some() && step.is_none_or(|step| *step == spec.name));
    let tasks = with_output.filter_map(|spec| view.steps.iter().find(|view| view.name == spec.name));
    Ok(tasks.map(|view| u64::from(view.tasks.total)).sum())
}

async fn list(context: &Context, id: JobId, step: Option<Name>) -> anyhow::Result<Vec<OutputView>> {
    let mut outputs = Vec::new();
    let mut query = PartQuery { step, limit: Some(PAGE_SIZE_MAX), ..PartQuery::default() };
    loop {
        let page = context.client.outputs(id, &query).await?;
        outputs.extend(page.items);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    // A step without an output template has results, but no objects.
    outputs.retain(|output| !output.key.is_empty());
    Ok(outputs)
}

async fn fetch(
    context: &Context,
    id: JobId,
    output: &OutputView,
    folder: &Path,
    bar: &ProgressBar,
) -> anyhow::Result<Fetched> {
    let file = place(folder, &output.name)?;
    if is_whole(&file, output).await? {
        bar.inc(output.size_bytes);
        return Ok(Fetched::Before);
    }
    if let Some(parent) = file.parent() {
        tokio::fs::create_dir_all(parent).await.with_context(|| format!("can't make folder `{}`", parent.display()))?;
    }
    let part = part_of(&file);
    for _ in 0..TRIES {
        let counted = Cell::new(0);
        let downloaded = retry::while_passing(&context.printer, async || {
            download(context, id, output, &part, &|at| bar.inc(at.saturating_sub(counted.replace(at)))).await
        });
        downloaded.await?.with_context(|| format!("can't write `{}`", part.display()))?;
        if is_whole(&part, output).await? {
            tokio::fs::rename(&part, &file).await.with_context(|| format!("can't name `{}`", file.display()))?;
            return Ok(Fetched::Now);
        }
        tokio::fs::remove_file(&part).await.with_context(|| format!("can't remove `{}`", part.display()))?;
        bar.dec(counted.get());
    }
    anyhow::bail!("its bytes are not those that were committed (sha256 {})", output.sha256)
}

/// Brings the partial file to the output's size, from where it stopped, and tells how far it is. The outer error
/// is the scheduler's, the inner one this machine's.
async fn download(
    context: &Context,
    id: JobId,
    output: &OutputView,
    part: &Path,
    progress: &impl Fn(u64),
) -> Result<io::Result<()>, client::Error> {
    let received = tokio::fs::metadata(part).await.map_or(0, |metadata| metadata.len());
    // A part that is longer than the whole belongs to something else.
    let mut at = if received <= output.size_bytes { received } else { 0 };
    progress(at);
    if at == output.size_bytes && at > 0 {
        return Ok(Ok(()));
    }
    let mut download = context.client.output(id, &output.step, output.task, at).await?;
    at = download.starts_at();
    let mut file = match open_part(part, at).await {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    while let Some(piece) = download.next().await? {
        at += piece.len() as u64;
        // More than was committed can't be right; the hash will say so.
        if at > output.size_bytes {
            break;
        }
        if let Err(error) = file.write_all(&piece).await {
            return Ok(Err(error));
        }
        progress(at);
    }
    Ok(file.flush().await)
}

/// Opens the partial file to go on at `at`.
async fn open_part(part: &Path, at: u64) -> io::Result<File> {
    let mut file = File::options().create(true).write(true).truncate(false).open(part).await?;
    file.set_len(at).await?;
    file.seek(SeekFrom::Start(at)).await?;
    Ok(file)
}

/// Where an output goes; names that would leave the folder are refused, whoever sends them.
fn place(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    check_relative(name).map_err(anyhow::Error::msg)?;
    Ok(folder.join(name))
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(PART_SUFFIX);
    file.with_file_name(name)
}

/// Whether a file has the right size and the right bytes.
async fn is_whole(file: &Path, output: &OutputView) -> anyhow::Result<bool> {
    match tokio::fs::metadata(file).await {
        Ok(metadata) if metadata.is_dir() => anyhow::bail!("a folder lies at `{}`", file.display()),
        Ok(metadata) if metadata.len() == output.size_bytes => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("can't look at `{}`", file.display())),
    }
    let path = file.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash_file(&path, &ProgressBar::hidden())).await?;
    Ok(hashed.with_context(|| format!("can't read `{}`", file.display()))? == output.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let folder = Path::new("/renders");
        assert_eq!(place(folder, "frames/0001.png").expect("inside"), Path::new("/renders/frames/0001.png"));
        for name in ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\\b", "a\nb"] {
            place(folder, name).expect_err(name);
        }
    }

    #[test]
    fn the_partial_file_lies_beside_its_final_name() {
        assert_eq!(part_of(Path::new("/r/a/1.png")), Path::new("/r/a/.1.png.framewake-part"));
    }
}
