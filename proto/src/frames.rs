//! Frame sets: `1-240`, `1-240x2`, `10,20,30-40`, `-5-10`, `1-100x10,1-100`.
//!
//! ```text
//! set   = part *( "," part )
//! part  = frame [ "-" frame [ "x" step ] ]
//! frame = ["-"] digits          ; -1,000,000,000 to 1,000,000,000
//! step  = digits                ; from 1
//! ```
//! Spaces around parts are ignored. The order is kept and repeats are dropped, so `1-100x10,1-100`
//! renders every tenth frame first. Task number *i* of a step is the *i*-th frame of its set; it is
//! computed, never stored.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most frames in one set.
pub const FRAMES_MAX: u64 = 10_000_000;
/// Longest text of a set, in bytes.
pub const FRAMES_TEXT_MAX: usize = 16 * 1024;
/// Most runs in one set: more can't be written in [`FRAMES_TEXT_MAX`] bytes, so a worker could not be told.
const RUNS_MAX: usize = FRAMES_TEXT_MAX / 2;
/// Frame numbers lie within plus and minus this.
pub const FRAME_MAX: i64 = 1_000_000_000;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FramesError {
    #[error("the frame set is empty: write for example `1-240`")]
    Empty,
    #[error("the frame set is longer than {FRAMES_TEXT_MAX} bytes")]
    TooLong,
    #[error("`{0}` is not a frame or a range: write `7`, `1-240` or `1-240x2`")]
    Malformed(String),
    #[error("`{0}` runs backwards: write the lower frame first")]
    Backwards(String),
    #[error("`{0}` has a step of 0: the step is 1 or more")]
    ZeroStep(String),
    #[error("`{0}` has a frame outside -{FRAME_MAX} to {FRAME_MAX}")]
    OutOfRange(String),
    #[error("without its repeats the set falls into too many pieces: write each frame once, or a simpler range")]
    Scattered,
    #[error("the set has {0} frames, more than the {FRAMES_MAX} allowed in one step")]
    TooMany(u64),
}

/// `first`, `first + step`, … `count` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: i64,
    step: i64,
    count: u32,
}

impl Run {
    fn last(&self) -> i64 {
        self.first + self.step * (i64::from(self.count) - 1)
    }

    fn frames(self) -> impl Iterator<Item = i64> {
        (0..i64::from(self.count)).map(move |k| self.first + k * self.step)
    }

    /// The positions in this run of the frames that `other` has too, without looking at every frame.
    fn meetings(&self, other: &Run) -> impl Iterator<Item = usize> + use<> {
        let offset = other.first - self.first;
        let (divisor, inverse) = divisor_and_inverse(self.step, other.step);
        let period = other.step / divisor;
        // The solution of `self.first + self.step * at = other.first (mod other.step)`.
        let at = (offset / divisor % period * inverse).rem_euclid(period);
        let low = (offset + self.step - 1).div_euclid(self.step).max(0);
        let high = (other.last() - self.first).div_euclid(self.step).min(i64::from(self.count) - 1);
        let first = low + (at - low).rem_euclid(period);
        let end = if offset % divisor == 0 { high } else { -1 };
        let positions = (first..=end).step_by(usize::try_from(period).unwrap_or(usize::MAX));
        positions.map(|at| usize::try_from(at).expect("from 0"))
    }

    fn position(&self, frame: i64) -> Option<u32> {
        let offset = frame - self.first;
        let inside = frame >= self.first && frame <= self.last() && offset % self.step == 0;
        inside.then(|| u32::try_from(offset / self.step).expect("a run has at most FRAMES_MAX frames"))
    }
}

/// An ordered set of frames without repeats; never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct FrameSet {
    runs: Vec<Run>,
    /// `starts[k]`: the task number of the first frame of `runs[k]`.
    starts: Vec<u32>,
    len: u32,
}

impl FrameSet {
    /// The set of one task that is no frame (an encode, a simulation).
    #[must_use]
    pub fn single() -> FrameSet {
        FrameSet::from_runs(vec![Run { first: 1, step: 1, count: 1 }])
    }

    fn from_runs(runs: Vec<Run>) -> FrameSet {
        let mut starts = Vec::with_capacity(runs.len());
        let mut len = 0;
        for run in &runs {
            starts.push(len);
            len += run.count;
        }
        FrameSet { runs, starts, len }
    }

    /// How many frames, at least 1.
    #[allow(clippy::len_without_is_empty)] // A set is never empty.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The frame of task number `task`.
    pub fn get(&self, task: u32) -> Option<i64> {
        if task >= self.len {
            return None;
        }
        let at = self.starts.partition_point(|start| *start <= task) - 1;
        let run = &self.runs[at];
        Some(run.first + run.step * i64::from(task - self.starts[at]))
    }

    /// The task number of `frame`. Time grows with the number of runs in the set.
    pub fn position(&self, frame: i64) -> Option<u32> {
        let mut runs = self.runs.iter().zip(&self.starts);
        runs.find_map(|(run, start)| run.position(frame).map(|at| start + at))
    }

    /// All frames in the order of their task numbers.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.runs.iter().flat_map(|run| run.frames())
    }

    /// How many arithmetic progressions the set is made of.
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Whether no frame is in both. Time grows with the product of the numbers of runs, not with the frames.
    pub fn is_disjoint(&self, other: &FrameSet) -> bool {
        self.runs.iter().all(|run| other.runs.iter().all(|of| run.meetings(of).next().is_none()))
    }

    /// Lowest and highest frame.
    pub fn span(&self) -> (i64, i64) {
        let low = self.runs.iter().map(|run| run.first).min().unwrap_or(0);
        let high = self.runs.iter().map(Run::last).max().unwrap_or(0);
        (low, high)
    }
}

impl FromStr for FrameSet {
    type Err = FramesError;

    fn from_str(text: &str) -> Result<FrameSet, FramesError> {
        if text.trim().is_empty() {
            return Err(FramesError::Empty);
        }
        if text.len() > FRAMES_TEXT_MAX {
            return Err(FramesError::TooLong);
        }
        let parts = text.split(',').map(parse_part).collect::<Result<Vec<Part>, FramesError>>()?;
        let total = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.count()));
        // Counted with repeats, so that the work of dropping them is bounded too.
        if total > FRAMES_MAX {
            return Err(FramesError::TooMany(total));
        }
        let parts: Vec<Run> = parts.into_iter().map(Part::run).collect();
        let set = drop_repeats(&parts).map(FrameSet::from_runs).ok_or(FramesError::Scattered)?;
        // Orders carry the set as text.
        if set.run_count() > parts.len() && set.to_string().len() > FRAMES_TEXT_MAX {
            return Err(FramesError::Scattered);
        }
        Ok(set)
    }
}

/// A part as written, before it is known to be small enough for a [`Run`].
struct Part {
    first: i64,
    last: i64,
    step: i64,
}

impl Part {
    fn count(&self) -> u64 {
        u64::try_from((self.last - self.first) / self.step + 1).expect("first <= last and step >= 1")
    }

    fn run(self) -> Run {
        let count = u32::try_from(self.count()).expect("checked against FRAMES_MAX");
        // A single frame has one way to be written.
        Run { first: self.first, step: if count == 1 { 1 } else { self.step }, count }
    }
}

fn parse_part(text: &str) -> Result<Part, FramesError> {
    let text = text.trim();
    let quoted = || text.chars().take(64).collect::<String>();
    let (first, rest) = parse_frame(text).ok_or_else(|| FramesError::Malformed(quoted()))?;
    let has_last = rest.starts_with('-');
    let (last, rest) = match rest.strip_prefix('-') {
        None => (first, rest),
        Some(rest) => parse_frame(rest).ok_or_else(|| FramesError::Malformed(quoted()))?,
    };
    let step = match rest.strip_prefix('x') {
        Some(digits) if has_last && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            // A step beyond every frame is the same as one that skips all but the first.
            digits.parse().unwrap_or(2 * FRAME_MAX + 1)
        }
        None if rest.is_empty() => 1,
        _ => return Err(FramesError::Malformed(quoted())),
    };
    if first.abs() > FRAME_MAX || last.abs() > FRAME_MAX {
        return Err(FramesError::OutOfRange(quoted()));
    }
    if step == 0 {
        return Err(FramesError::ZeroStep(quoted()));
    }
    if last < first {
        return Err(FramesError::Backwards(quoted()));
    }
    Ok(Part { first, last, step: step.min(2 * FRAME_MAX + 1) })
}

/// A leading, possibly negative number and what follows it. Too large saturates beyond `FRAME_MAX`.
fn parse_frame(text: &str) -> Option<(i64, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let number: i64 = digits[..end].parse().unwrap_or(FRAME_MAX + 1);
    Some((sign * number, &digits[end..]))
}

/// The greatest common divisor of two steps, and the number that `a / divisor` has for its inverse modulo `b / divisor`.
fn divisor_and_inverse(a: i64, b: i64) -> (i64, i64) {
    let (mut rest, mut divisor) = (b, a);
    let (mut next, mut inverse) = (0, 1);
    while rest != 0 {
        let times = divisor / rest;
        (divisor, rest) = (rest, divisor - times * rest);
        (inverse, next) = (next, inverse - times * next);
    }
    (divisor, inverse.rem_euclid(b / divisor))
}

/// `None` when too many runs would be left.
fn drop_repeats(parts: &[Run]) -> Option<Vec<Run>> {
    let mut kept: Vec<Run> = Vec::with_capacity(parts.len());
    // Disjoint spans of what is kept so far: a part outside all of them has no repeats.
    let mut spans: BTreeMap<i64, i64> = BTreeMap::new();
    for part in parts {
        let overlaps = spans.range(..=part.last()).next_back().is_some_and(|(_, high)| *high >= part.first);
        if overlaps {
            let seen: Vec<Run> =
                kept.iter().filter(|run| run.first <= part.last() && run.last() >= part.first).copied().collect();
            push_unseen(&mut kept, &seen, *part);
            if kept.len() > RUNS_MAX {
                return None;
            }
        } else {
            kept.push(*part);
        }
        merge_span(&mut spans, part.first, part.last());
    }
    Some(kept)
}

fn merge_span(spans: &mut BTreeMap<i64, i64>, mut low: i64, mut high: i64) {
    while let Some((&other_low, &other_high)) = spans.range(..=high).next_back() {
        if other_high < low {
            break;
        }
        spans.remove(&other_low);
        low = low.min(other_low);
        high = high.max(other_high);
    }
    spans.insert(low, high);
}

/// Appends the frames of `part` that `seen` lacks, as few runs as a greedy pass finds.
fn push_unseen(kept: &mut Vec<Run>, seen: &[Run], part: Run) {
    // One bit a frame of the part: at most FRAMES_MAX bits.
    let mut taken = vec![false; part.count as usize];
    for run in seen {
        // What was kept has no repeats, so that each frame of the part is marked once.
        for at in part.meetings(run) {
            taken[at] = true;
        }
    }
    let from = kept.len();
    for (_, frame) in part.frames().enumerate().filter(|(at, _)| !taken[*at]) {
        let open = kept.len() > from;
        match kept.last_mut() {
            Some(run) if open && run.count == 1 => {
                run.step = frame - run.first;
                run.count = 2;
            }
            Some(run) if open && run.last() + run.step == frame => run.count += 1,
            _ => kept.push(Run { first: frame, step: 1, count: 1 }),
        }
    }
}

impl fmt::Display for FrameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, run) in self.runs.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match (run.count, run.step) {
                (1, _) => write!(f, "{}", run.first)?,
                (_, 1) => write!(f, "{}-{}", run.first, run.last())?,
                (_, step) => write!(f, "{}-{}x{step}", run.first, run.last())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FrameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn check(text: &str, expected: &[i64]) {
        let set: FrameSet = text.parse().expect(text);
        assert_eq!(set.iter().collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(set.len() as usize, expected.len(), "{text}");
        for (task, frame) in expected.iter().enumerate() {
            let task = u32::try_from(task).expect("small");
            assert_eq!(set.get(task), Some(*frame), "{text}");
            assert_eq!(set.position(*frame), Some(task), "{text}");
        }
        assert_eq!(set.get(set.len()), None, "{text}");
    }

    #[test]
    fn frame_sets_keep_their_order_and_drop_repeats() {
        check("7", &[7]);
        check("1-5", &[1, 2, 3, 4, 5]);
        check("1-10x3", &[1, 4, 7, 10]);
        check(" 10 , 20,30-32 ", &[10, 20, 30, 31, 32]);
        check("-3--1", &[-3, -2, -1]);
        check("-2-2x2", &[-2, 0, 2]);
        check("1-10x5,1-6", &[1, 6, 2, 3, 4, 5]);
        check("5,5,5", &[5]);
        check("1-3,1-3", &[1, 2, 3]);
        check("1-4x9999999999999999999999", &[1]);
    }

    #[test]
    fn malformed_frame_sets_say_what_is_wrong() {
        for text in ["1-", "-", "a", "1..5", "1-5x", "1x", "1x2", "x2", "1,,2", "1-5x-1", "1-2-3", "١"] {
            assert!(matches!(text.parse::<FrameSet>(), Err(FramesError::Malformed(_))), "{text}");
        }
        assert_eq!(" ".parse::<FrameSet>(), Err(FramesError::Empty));
        assert_eq!("5-1".parse::<FrameSet>(), Err(FramesError::Backwards("5-1".into())));
        assert_eq!("5-1x0".parse::<FrameSet>(), Err(FramesError::ZeroStep("5-1x0".into())));
        assert_eq!("1-2000000000".parse::<FrameSet>(), Err(FramesError::OutOfRange("1-2000000000".into())));
        assert_eq!("1-20000000".parse::<FrameSet>(), Err(FramesError::TooMany(20_000_000)));
        assert!(matches!("-1000000000-1000000000".parse::<FrameSet>(), Err(FramesError::TooMany(_))));
        let at_limit = format!("1-{FRAMES_MAX}");
        assert_eq!(at_limit.parse::<FrameSet>().map(|set| u64::from(set.len())), Ok(FRAMES_MAX));
        assert_eq!("1,".repeat(FRAMES_TEXT_MAX).parse::<FrameSet>(), Err(FramesError::TooLong));
    }

    /// Took half a minute when every frame was compared with every run.
    #[test]
    fn many_interleaved_runs_are_read_in_no_time() {
        let parts: Vec<String> = (1..=900).map(|first| format!("{first}-9000000x900")).collect();
        let set: FrameSet = parts.join(",").parse().expect("valid");
        assert_eq!((set.len(), set.run_count()), (9_000_000, 900));
    }

    #[test]
    fn a_set_that_no_worker_could_be_told_is_refused() {
        // Three of six, then what is left of each second one: short to write, long without its repeats.
        assert_eq!("1-3000000x3,1-3000000x2,1-3000000".parse::<FrameSet>(), Err(FramesError::Scattered));
    }

    #[test]
    fn every_other_frame_after_the_others_is_one_run() {
        let set: FrameSet = "1-1000000x2,1-1000000".parse().expect("valid");
        assert_eq!(set.runs.len(), 2, "1,3,5… and 2,4,6…");
        assert_eq!(set.len(), 1_000_000);
    }

    proptest! {
        #[test]
        fn a_set_lists_what_its_parts_list_without_repeats(
            parts in prop::collection::vec((-60i64..60, 0i64..50, 1i64..9), 1..7)
        ) {
            let text: Vec<String> = parts.iter().map(|(first, len, step)| format!("{first}-{}x{step}", first + len)).collect();
            let set: FrameSet = text.join(",").parse().expect("valid");
            let mut seen = HashSet::new();
            let expected: Vec<i64> = parts
                .iter()
                .flat_map(|(first, len, step)| (*first..=first + len).step_by(usize::try_from(*step).expect("positive")))
                .filter(|frame| seen.insert(*frame))
                .collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected.clone());
            for (task, frame) in expected.iter().enumerate() {
                prop_assert_eq!(set.get(u32::try_from(task).expect("small")), Some(*frame));
            }
            let again: FrameSet = set.to_string().parse().expect("a set prints what it parses");
            prop_assert_eq!(again.iter().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn runs_meet_where_both_have_a_frame(
            a in (-60i64..60, 1i64..30, 1u32..20), b in (-60i64..60, 1i64..30, 1u32..20)
        ) {
            let [a, b] = [a, b].map(|(first, step, count)| Run { first, step, count });
            let expected: Vec<usize> =
                a.frames().enumerate().filter(|(_, frame)| b.position(*frame).is_some()).map(|(at, _)| at).collect();
            prop_assert_eq!(a.meetings(&b).collect::<Vec<_>>(), expected.clone());
            let [a, b] = [a, b].map(|run| FrameSet::from_runs(vec![run]));
            prop_assert_eq!(a.is_disjoint(&b), expected.is_empty());
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[-0-9x, ]{0,20}") {
            let _ = text.parse::<FrameSet>();
        }
    }
}
