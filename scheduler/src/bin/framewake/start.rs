//! `framewake workers show`: how a worker came, from the wish for one to its first frame.

use crate::Context;
use crate::failure::Outcome;
use crate::printer::Style;
use crate::text;
use framewake_proto::api::WorkerView;
use framewake_proto::start::{StartStep, WorkerStart};
use framewake_proto::time::Timestamp;
use std::time::Duration;

/// Bars that are narrower say nothing.
const BAR_MIN: usize = 20;
/// Wider ones are hard to follow from end to end.
const BAR_MAX: usize = 60;
/// What stands before a bar: name, time, and blanks.
const BEFORE_BAR: usize = 9 + 2 + 8 + 2;

pub(crate) async fn show(context: &Context, id: &str) -> anyhow::Result<Outcome> {
    let printer = &context.printer;
    let start = context.client.worker_start(id).await?;
    if printer.is_json() {
        printer.json(&start)?;
        return Ok(Outcome::Done);
    }
    let place = start.pool.as_ref().map_or(String::new(), |pool| format!(" in pool {pool}"));
    let title = format!("{} of {}{place}", start.worker, text::clean(&start.function));
    printer.line(format_args!("{}: {}", printer.paint(Style::Strong, &title), headline(&start)))?;
    let bar = printer.width().and_then(bar_width);
    for line in lines(&start.steps, bar) {
        printer.line(line)?;
    }
    if let Some(ended) = &start.ended {
        let at = ended.at.map_or(String::new(), |at| format!(" at {at}"));
        let reason = printer.paint(Style::Bad, &text::clean(&ended.reason));
        printer.line(format_args!("ended{at}: {}", if start.is_complete() { ended.reason.clone() } else { reason }))?;
    } else if let (false, Some(last)) = (start.is_complete(), start.steps.last()) {
        let since = text::duration(Timestamp::now().since(last.at));
        let why =
            if start.waits.is_empty() { String::new() } else { format!(", and waits: {}", text::clean(&start.waits)) };
        printer.line(format_args!("{} for {since}{why}", last.point.describe()))?;
    }
    Ok(Outcome::Done)
}

fn headline(start: &WorkerStart) -> String {
    let took = text::duration(Duration::from_millis(start.took_ms()));
    match start.steps.last() {
        None => "nothing is known of how it came".to_owned(),
        Some(_) if start.is_complete() => format!("its first frame was done after {took}"),
        Some(last) => format!("after {took} {}", last.point.describe()),
    }
}

/// Columns of the bars on a terminal of this width; `None`: it is too narrow for any.
fn bar_width(columns: usize) -> Option<usize> {
    columns.checked_sub(BEFORE_BAR + 1).filter(|width| *width >= BAR_MIN).map(|width| width.min(BAR_MAX))
}

/// A line for each phase: its name, what it took, and where it lies in the whole; without bars, what was true at its end.
fn lines(steps: &[StartStep], bar: Option<usize>) -> Vec<String> {
    let whole_ms: u64 = steps.iter().map(|step| step.took_ms).sum();
    let mut before_ms = 0;
    let phases = steps.iter().skip(1).map(|step| {
        let (name, took) = (step.point.as_str(), text::duration(Duration::from_millis(step.took_ms)));
        let drawn = match bar {
            None => step.point.describe().to_owned(),
            Some(width) => {
                let column = |ms: u64| usize::try_from(ms * width as u64 / whole_ms.max(1)).unwrap_or(width);
                let (from, to) = (column(before_ms), column(before_ms + step.took_ms));
                // What took any time is seen.
                let length = (to - from).max(1);
                format!("{}{}", " ".repeat(from.min(width - 1)), "━".repeat(length))
            }
        };
        before_ms += step.took_ms;
        format!("  {name:<9}{took:>8}  {drawn}")
    });
    phases.collect()
}

/// In a list: what a start took, or how far it is.
pub(crate) fn summary(worker: &WorkerView, now: Timestamp) -> String {
    match (worker.start_ms, worker.start.first(), worker.start.last()) {
        (Some(ms), ..) => text::duration(Duration::from_millis(ms)),
        (None, Some(first), Some(last)) => {
            format!("{}, {} so far", last.point.as_str(), text::duration(now.since(first.at)))
        }
        (None, ..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::start::StartPoint;

    fn steps() -> Vec<StartStep> {
        let steps =
            [(StartPoint::Wanted, 0), (StartPoint::Asked, 0), (StartPoint::Image, 900), (StartPoint::Process, 100)];
        let mut at = 5000;
        let step = |(point, took_ms): (StartPoint, u64)| {
            at += took_ms.cast_signed();
            StartStep { point, at: Timestamp(at), took_ms }
        };
        steps.into_iter().map(step).collect()
    }

    #[test]
    fn bars_lie_one_after_the_other_and_none_is_lost() {
        let drawn = lines(&steps(), Some(20));
        assert_eq!(
            drawn,
            [
                "  asked         0ms  ━",
                "  image        0.9s  ━━━━━━━━━━━━━━━━━━",
                "  process      0.1s                    ━━",
            ]
        );
    }

    #[test]
    fn without_room_for_bars_there_are_words() {
        let told = lines(&steps(), None);
        assert_eq!(told[1], "  image        0.9s  its image is there");
        assert!(told.iter().all(|line| line.is_ascii()), "{told:?}");
        assert_eq!([20, 41, 42, 80, 300].map(bar_width), [None, None, Some(20), Some(58), Some(BAR_MAX)]);
    }
}
