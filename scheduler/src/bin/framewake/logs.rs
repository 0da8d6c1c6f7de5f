//! `framewake logs`: what a renderer said, live or after the end.

use crate::Context;
use crate::failure::{BadInput, Outcome};
use crate::find;
use crate::follow::LOST_MAX;
use crate::printer::Printer;
use crate::retry::Pauses;
use crate::text::{self, LogCleaner};
use bytes::Buf;
use framewake_proto::api::{AttemptOutcome, AttemptView, PAGE_SIZE_MAX};
use framewake_proto::client::{Client, Download, Error, PartQuery};
use framewake_proto::ids::{AttemptId, JobId};
use tokio::time::Instant;

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
    let mut shown = Shown { printer, attempt, cleaner: LogCleaner::default(), bytes: 0 };
    if args.follow {
        follow(context, id, &mut shown).await?;
    } else {
        shown.all_of(context.client.log(id, attempt, false).await?).await?;
    }
    Ok(Outcome::Done)
}

/// What was printed of a log.
struct Shown<'a> {
    printer: &'a Printer,
    attempt: AttemptId,
    cleaner: LogCleaner,
    bytes: u64,
}

impl Shown<'_> {
    /// Prints what comes after what was printed already; the download begins at the log's first byte.
    async fn all_of(&mut self, mut log: Download) -> anyhow::Result<()> {
        let mut known = self.bytes;
        while let Some(mut piece) = log.next().await? {
            let skipped = known.min(piece.len() as u64);
            known -= skipped;
            piece.advance(usize::try_from(skipped).expect("no more than the piece is long"));
            if !piece.is_empty() {
                self.print(&piece)?;
            }
        }
        Ok(())
    }

    fn print(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.bytes += piece.len() as u64;
        // Also into a pipe: what `grep` finds ends on a terminal as a rule.
        let text = self.cleaner.clean(piece);
        if self.printer.is_json() {
            self.printer.json(&serde_json::json!({ "attempt": self.attempt.to_string(), "text": text }))?;
        } else {
            self.printer.raw(text.as_bytes())?;
        }
        Ok(())
    }
}

/// Goes on until the attempt ends, through restarts of the scheduler.
async fn follow(context: &Context, id: JobId, shown: &mut Shown<'_>) -> anyhow::Result<()> {
    let mut pauses = Pauses::default();
    let mut lost_since = None;
    loop {
        let bytes = shown.bytes;
        let error = match follow_once(context, id, shown).await {
            Ok(true) => return Ok(()),
            // It stopped in good order, and the attempt goes on without it.
            Ok(false) => None,
            Err(error) if error.downcast_ref::<Error>().is_some_and(Error::is_passing) => Some(error),
            Err(error) => return Err(error),
        };
        if shown.bytes > bytes {
            (pauses, lost_since) = (Pauses::default(), None);
        }
        if lost_since.get_or_insert_with(Instant::now).elapsed() > LOST_MAX {
            return Err(error.unwrap_or_else(|| anyhow::anyhow!("the scheduler ends the log again and again")));
        }
        // A connection that comes back at once is not worth a word.
        if let (Some(error), 1) = (&error, pauses.taken()) {
            context.printer.note(format_args!("{error}; trying again"));
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

/// One connection; whether the attempt is over.
async fn follow_once(context: &Context, id: JobId, shown: &mut Shown<'_>) -> anyhow::Result<bool> {
    shown.all_of(context.client.log(id, shown.attempt, true).await?).await?;
    let mut over = true;
    each_attempt(&context.client, id, |attempt| {
        over &= attempt.attempt != shown.attempt.to_string() || attempt.outcome != AttemptOutcome::Running;
        Ok(())
    })
    .await?;
    Ok(over)
}

async fn newest(context: &Context, id: JobId) -> anyhow::Result<AttemptId> {
    let mut newest: Option<AttemptView> = None;
    each_attempt(&context.client, id, |attempt| {
        let better = newest.as_ref().is_none_or(|newest| newest.started_at < attempt.started_at);
        // Of the last two nobody counted what they said.
        let may_have_log =
            matches!(attempt.outcome, AttemptOutcome::Running | AttemptOutcome::Lost | AttemptOutcome::Canceled);
        if (attempt.has_log || may_have_log) && better {
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
        let reason = if attempt.reason.is_empty() { String::new() } else { format!(": {}", text::clean(&attempt.reason)) };
        let frames = text::clean(&attempt.frames);
        let outcome = outcome_word(attempt.outcome);
        let confinement = match text::clean(&attempt.confinement) {
            unsaid if unsaid.is_empty() => String::new(),
            said => format!(" (confined by {said})"),
        };
        printer.line(format_args!(
            "{name:<8} {step:<12} {frames:<14} {outcome:<12} {done:>5} done {failed:>4} failed {took:>8}  {worker}{confinement}{reason}"
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
