//! Failed tries that say the same, told once for all their frames.

use crate::text;
use crate::watch::failure_line;
use framewake_proto::api::{EventView, Happening, TaskView};
use framewake_proto::ids::Name;
use framewake_proto::verdict::Verdict;
use std::collections::BTreeMap;

/// Kinds of failures told between two summaries; the rest are counted.
const KINDS_MAX: usize = 10;
/// Ranges of frames written out; who has more reads `framewake frames --failed`.
const RANGES_MAX: usize = 8;

/// What failed since the last summary.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// With the frames that were not told yet.
    kinds: BTreeMap<Kind, Vec<i64>>,
    left_out: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    step: Name,
    again: bool,
    verdict: Verdict,
    message: String,
}

impl Failures {
    /// The words of a failed try, if none since the last summary said the same.
    pub(crate) fn hear(&mut self, event: &EventView) -> Option<String> {
        let Happening::TaskFailed { step, frame, verdict, message, again, .. } = &event.what else { return None };
        let kind = Kind { step: step.clone(), again: *again, verdict: *verdict, message: message.clone() };
        if let Some(frames) = self.kinds.get_mut(&kind) {
            frames.push(*frame);
            return None;
        }
        if self.kinds.len() >= KINDS_MAX {
            self.left_out += 1;
            return None;
        }
        self.kinds.insert(kind, Vec::new());
        failure_line(event)
    }

    /// A line for each kind of which more was heard than was told.
    pub(crate) fn sum_up(&mut self) -> Vec<String> {
        let kinds = std::mem::take(&mut self.kinds).into_iter().filter(|(_, frames)| !frames.is_empty());
        let mut lines: Vec<String> = kinds
            .map(|(Kind { step, again, verdict, message }, frames)| {
                let what = if again { "failed and will be tried again" } else { "failed for good" };
                format!("{step} {} {what}: {} ({verdict})", frames_words(frames), text::clean(&message))
            })
            .collect();
        if self.left_out > 0 {
            lines.push(format!("… and {} more tries failed", std::mem::take(&mut self.left_out)));
        }
        lines
    }
}

/// Tasks that failed for good, by step and reason in the order of their first; with how many there are.
pub(crate) fn grouped(tasks: Vec<TaskView>) -> Vec<(Name, String, u32)> {
    let mut groups: Vec<(Name, String, Vec<i64>)> = Vec::new();
    for task in tasks {
        let why =
            task.failure.map_or(String::new(), |why| format!(": {} ({})", text::clean(&why.message), why.verdict));
        match groups.iter_mut().find(|(step, said, _)| *step == task.step && *said == why) {
            Some((_, _, frames)) => frames.push(task.frame),
            None => groups.push((task.step, why, vec![task.frame])),
        }
    }
    let told = |(step, why, frames): (Name, String, Vec<i64>)| {
        let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        (step, format!("{}{why}", frames_words(frames)), count)
    };
    groups.into_iter().map(told).collect()
}

/// `frame 7`, `frames 1-12, 20`.
fn frames_words(mut frames: Vec<i64>) -> String {
    frames.sort_unstable();
    frames.dedup();
    let ranges = frames.chunk_by(|one, next| next - one == 1);
    let words = ranges.clone().take(RANGES_MAX).map(|range| match range {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    let mut words: Vec<String> = words.collect();
    if ranges.count() > RANGES_MAX {
        words.push("…".to_owned());
    }
    format!("frame{} {}", if frames.len() == 1 { "" } else { "s" }, words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failed(frame: i64, message: &str, again: bool) -> EventView {
        let event = json!({"job": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "at": "2026-01-01T00:00:00Z", "event": "task_failed",
            "step": "render", "frame": frame, "attempt": "17.2", "verdict": "scene_error", "message": message, "again": again});
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn what_says_the_same_is_told_once_and_summed_up_with_its_frames() {
        let mut failures = Failures::default();
        let first = failures.hear(&failed(1, "no camera", false)).expect("it is new");
        assert_eq!(first, "render frame 1 failed for good: no camera (scene_error, attempt 17.2)");
        assert!(failures.hear(&failed(9, "no camera", true)).is_some(), "another fate is another thing");
        for frame in [12, 3, 2, 4] {
            assert_eq!(failures.hear(&failed(frame, "no camera", false)), None);
        }
        assert_eq!(failures.sum_up(), ["render frames 2-4, 12 failed for good: no camera (scene_error)"]);
        assert!(failures.sum_up().is_empty() && failures.hear(&failed(13, "no camera", false)).is_some());
    }

    #[test]
    fn failures_of_many_kinds_are_counted_at_last() {
        let mut failures = Failures::default();
        let told = (0..50).filter(|at| failures.hear(&failed(*at, &format!("fault {at}"), false)).is_some()).count();
        assert_eq!((told, failures.sum_up()), (KINDS_MAX, vec!["… and 40 more tries failed".to_owned()]));
    }

    #[test]
    fn frames_are_named_as_ranges_and_not_without_end() {
        assert_eq!(frames_words(vec![7]), "frame 7");
        assert_eq!(frames_words(vec![3, -1, 1, 2, 0]), "frames -1-3");
        let odd = frames_words((0..100).map(|at| at * 2).collect());
        assert_eq!(odd, "frames 0, 2, 4, 6, 8, 10, 12, 14, …");
    }
}
