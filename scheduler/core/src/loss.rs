//! How workers were lost, in words: the evidence of a task that is quarantined.

use crate::retry::LOSSES_MAX;
use crate::values::{Loss, Place};
use framewake_proto::ids::JobId;

/// Most that is kept of how a worker was lost; [`LOSSES_MAX`] of them fit [`EVIDENCE_MAX`].
const HOW_MAX: usize = 400;
/// Longest name of a place in evidence.
const PLACE_MAX: usize = 100;
/// As long as a failure's message and evidence may be that come from a worker.
const MESSAGE_MAX: usize = 512;
const EVIDENCE_MAX: usize = 4096;

/// Words of the provider or of a worker, bounded.
pub(crate) fn words(how: &str) -> String {
    clip(how, HOW_MAX).to_owned()
}

/// Keeps the newest: as many as a quarantine needs.
pub(crate) fn keep(lost: &mut Vec<Loss>, loss: Loss) {
    lost.push(loss);
    let surplus = lost.len().saturating_sub(LOSSES_MAX as usize);
    lost.drain(..surplus);
}

/// The failure of a task that was quarantined, in a sentence.
pub(crate) fn message(lost: &[Loss]) -> String {
    let last = lost.last().map_or("", |loss| &loss.how);
    let text = format!(
        "{LOSSES_MAX} workers were lost while they worked on it, the last times on nothing else; in the end {last}"
    );
    clip(&text, MESSAGE_MAX).to_owned()
}

/// What happened each time, and where more is to be read.
pub(crate) fn evidence(job: JobId, lost: &[Loss]) -> String {
    let mut lines: Vec<String> = lost.iter().map(line).collect();
    if let Some(last) = lost.last() {
        lines.push(format!("what its renderer said: framewake logs {job} {}", last.attempt));
    }
    clip(&lines.join("\n"), EVIDENCE_MAX).to_owned()
}

fn line(loss: &Loss) -> String {
    let Loss { attempt, worker, places, at, how } = loss;
    let places: Vec<&str> = places.iter().map(Place::as_str).collect();
    let place = if places.is_empty() { "an unknown machine".to_owned() } else { places.join(", ") };
    format!("{at} attempt {attempt}: worker {worker} on {}: {how}", clip(&place, PLACE_MAX))
}

fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::ids::{AttemptId, ChunkId};
    use framewake_proto::time::Timestamp;

    fn loss(number: u32, how: &str) -> Loss {
        Loss {
            attempt: AttemptId { chunk: ChunkId(u64::MAX), number },
            worker: "w1".parse().expect("a good id"),
            places: vec![Place::new(&"é".repeat(1000)); 3],
            at: Timestamp(0),
            how: words(how),
        }
    }

    #[test]
    fn evidence_of_the_longest_losses_fits_and_names_the_logs() {
        let mut lost = Vec::new();
        for number in 0..100 {
            keep(&mut lost, loss(number, &"ü".repeat(10_000)));
        }
        assert_eq!(lost.len(), LOSSES_MAX as usize);
        let text = evidence(JobId(7u128.into()), &lost);
        assert!(text.len() <= EVIDENCE_MAX, "{} bytes", text.len());
        assert!(text.ends_with(".99"), "it ends with the newest attempt, whose log is named: {text}");
        assert!(message(&lost).len() <= MESSAGE_MAX);
    }
}
