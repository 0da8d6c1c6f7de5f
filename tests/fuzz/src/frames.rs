//! The frame grammar, held against a second reading of its definition.

use framewake_proto::frames::{FRAMES_MAX, FRAMES_TEXT_MAX, FrameSet};
use std::collections::HashSet;

/// Sets up to this size are compared frame by frame.
const COMPARED_MAX: usize = 5000;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = text.parse::<FrameSet>();
    if let Some(expected) = expand(text)
        && text.len() <= FRAMES_TEXT_MAX
    {
        let set = parsed.as_ref().unwrap_or_else(|error| panic!("{text:?} is a set: {error}"));
        assert_eq!(set.iter().collect::<Vec<_>>(), expected, "{text:?}");
        for (task, frame) in (0..).zip(&expected) {
            assert_eq!(set.get(task), Some(*frame), "{text:?}");
            assert_eq!(set.position(*frame), Some(task), "{text:?}");
        }
    }
    let set = match parsed {
        Ok(set) => set,
        Err(error) => return assert!(error.to_string().len() < 500, "an error quotes a bounded part"),
    };
    assert!((1..=FRAMES_MAX).contains(&u64::from(set.len())), "{text:?}");
    let (low, high) = set.span();
    for task in [0, set.len() / 2, set.len() - 1] {
        let frame = set.get(task).expect("a task of the set has a frame");
        assert!((low..=high).contains(&frame), "{text:?}");
        assert_eq!(set.position(frame), Some(task), "{text:?}");
    }
    assert_eq!(set.get(set.len()), None, "{text:?}");
    // A worker is told the set in these words.
    let printed = set.to_string();
    let again: FrameSet = printed.parse().unwrap_or_else(|error| panic!("{text:?} prints as {printed:?}: {error}"));
    assert_eq!(again, set, "{text:?} prints as {printed:?}");
}

/// The frames of a small set by the definition alone; `None` when it is no set, or not small.
fn expand(text: &str) -> Option<Vec<i64>> {
    let (mut seen, mut frames, mut counted) = (HashSet::new(), Vec::new(), 0);
    for part in text.split(',') {
        let part = part.trim();
        let (range, step) = match part.split_once('x') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        // The first dash that is no sign divides.
        let dash = range.char_indices().skip(1).find(|(_, c)| *c == '-').map(|(at, _)| at);
        let (first, last) = match dash {
            Some(at) => (&range[..at], &range[at + 1..]),
            None => (range, range),
        };
        let (first, last) = (number(first)?, number(last)?);
        let step = match step {
            None => 1,
            Some(step) if dash.is_some() => digits(step)?,
            Some(_) => return None,
        };
        if step == 0 || first > last {
            return None;
        }
        let mut frame = first;
        while frame <= last {
            counted += 1;
            if counted > COMPARED_MAX {
                return None;
            }
            if seen.insert(frame) {
                frames.push(frame);
            }
            frame += step;
        }
    }
    Some(frames)
}

fn number(text: &str) -> Option<i64> {
    let number = match text.strip_prefix('-') {
        Some(rest) => -digits(rest)?,
        None => digits(text)?,
    };
    (number.abs() <= 1_000_000_000).then_some(number)
}

fn digits(text: &str) -> Option<i64> {
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Steps beyond every frame are all the same.
    good.then(|| text.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40))
}
