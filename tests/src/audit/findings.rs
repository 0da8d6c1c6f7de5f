//! What an audit found.

use framewake_proto::time::Timestamp;
use std::fmt;

/// Most findings of one kind that are printed.
const SHOWN_MAX: usize = 12;

#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Outputs on record.
    pub frames: usize,
    /// Objects in the bucket, of every kind.
    pub objects: usize,
    /// Objects that killed processes may leave, in the folders that are documented for it.
    pub temporary: usize,
    /// When each output was recorded.
    pub committed: Vec<Timestamp>,
    pub lost: Vec<String>,
    pub double: Vec<String>,
    /// Cut off, or not to be decoded.
    pub truncated: Vec<String>,
    /// Whole, and not what is on record.
    pub wrong: Vec<String>,
    pub extra: Vec<String>,
    /// Counts that differ, and what could not be looked at.
    pub others: Vec<String>,
    /// Failures that spent an attempt of a task. Whether they should have is for the caller, who knows what was done.
    pub spent: Vec<(Timestamp, String)>,
}

impl Findings {
    pub(super) fn other(&mut self, text: String) {
        self.others.push(text);
    }

    pub fn merge(&mut self, other: Findings) {
        self.frames += other.frames;
        self.objects += other.objects;
        self.temporary += other.temporary;
        self.committed.extend(other.committed);
        self.lost.extend(other.lost);
        self.double.extend(other.double);
        self.truncated.extend(other.truncated);
        self.wrong.extend(other.wrong);
        self.extra.extend(other.extra);
        self.others.extend(other.others);
        self.spent.extend(other.spent);
    }

    /// Nothing lost, double, cut off, wrong, extra or miscounted.
    pub fn is_clean(&self) -> bool {
        let kinds = [&self.lost, &self.double, &self.truncated, &self.wrong, &self.extra, &self.others];
        kinds.iter().all(|found| found.is_empty())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { lost, double, truncated, wrong, extra, others, .. } = self;
        write!(
            f,
            "{} frames on record, {} objects ({} temporary): {} lost, {} double, {} truncated, {} wrong, {} extra, {} others",
            self.frames,
            self.objects,
            self.temporary,
            lost.len(),
            double.len(),
            truncated.len(),
            wrong.len(),
            extra.len(),
            others.len(),
        )?;
        for found in [lost, double, truncated, wrong, extra, others] {
            for text in found.iter().take(SHOWN_MAX) {
                write!(f, "\n  {text}")?;
            }
        }
        Ok(())
    }
}
