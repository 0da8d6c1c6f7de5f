//! `framewake logs`: what a renderer said, live or after the end.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::find;
use crate::text::{self, LogCleaner};
use framewake_proto::api::{AttemptOutcome, AttemptView, PAGE_SIZE_MAX};
use framewake_proto::client::{Client, PartQuery};
use framewake_proto::ids::{AttemptId, JobId};

/// Most pages of attempts that are searched for the newest.
const PAGES_MAX: u32 = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a job, the beginning of one, or `latest`
    job: String,
    /// As in `17.2`; without it, the newest attempt that has a log
    attempt: Option<AttemptId>,
    /// Go on until the attempt ends
    #[arg(long, short)]
    follow: bool,
    /// List the attempts instead
    #[arg(long, conflicts_with_all = ["attempt", "follow"])]
    list: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let id = find::job(&context.client, &args.job).await?;
    if args.list {
        return list(context, id).await;
    }
    let attempt = match args.attempt {
        Some(attempt) => attempt,
        None => newest(context, id).await?,
    };
    let mut log = context.client.log(id, attempt, args.follow).await?;
    let mut cleaner = LogCleaner::default();
    while let Some(piece) = log.next().await? {
        if printer.is_json() {
            let text = cleaner.clean(&piece);
            printer.json(&serde_json::json!({ "attempt": attempt.to_string(), "text": text }))?;
        } else if printer.is_terminal() {
            printer.raw(cleaner.clean(&piece).as_bytes())?;
        } else {
            printer.raw(&piece)?;
        }
    }
    Ok(Outcome::Done)
}

async fn newest(context: &Context, id: JobId) -> anyhow::Result<AttemptId> {
    let mut newest: Option<AttemptView> = None;
    each_attempt(&context.client, id, |attempt| {
        let better = newest.as_ref().is_none_or(|newest| newest.started_at < attempt.started_at);
        if (attempt.has_log || attempt.outcome == AttemptOutcome::Running) && better {
            newest = Some(attempt);
        }
        Ok(())
    })
    .await?;
    let newest = newest.ok_or_else(|| BadInput::new(format!("job {id} has no log yet: nothing was tried")))?;
    if context.printer.is_terminal() {
        context.printer.note(format_args!(
            "attempt {} of step {}, frames {}, on worker {}",
            text::clean(&newest.attempt),
            newest.step,
            text::clean(&newest.frames),
            newest.worker
        ));
    }
    Ok(newest.attempt.parse::<AttemptId>()?)
}

async fn list(context: &Context, id: JobId) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    each_attempt(&context.client, id, |attempt| {
        if printer.is_json() {
            printer.json(&attempt)?;
            return Ok(());
        }
        let took = attempt.ended_at.map_or("running".to_owned(), |at| text::duration(at.since(attempt.started_at)));
        let name = text::clean(&attempt.attempt);
        let AttemptView { step, worker, done, failed, .. } = &attempt;
        let frames = text::clean(&attempt.frames);
        let outcome = outcome_word(attempt.outcome);
        printer.line(format_args!(
            "{name:<8} {step:<12} {frames:<14} {outcome:<12} {done:>5} done {failed:>4} failed {took:>8}  {worker}"
        ))?;
        Ok(())
    })
    .await?;
    Ok(Outcome::Done)
}

fn outcome_word(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Running => "running",
        AttemptOutcome::Finished => "finished",
        AttemptOutcome::HandedBack => "handed back",
        AttemptOutcome::Canceled => "canceled",
        AttemptOutcome::LicenseWait => "license wait",
        AttemptOutcome::Lost => "lost",
    }
}

async fn each_attempt(
    client: &Client,
    id: JobId,
    mut each: impl FnMut(AttemptView) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = PartQuery { limit: Some(PAGE_SIZE_MAX), ..PartQuery::default() };
    for _ in 0..PAGES_MAX {
        let page = client.attempts(id, &query).await?;
        page.items.into_iter().try_for_each(&mut each)?;
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    Ok(())
}
