//! What was done to the farm, what it did, and whether that is what was promised.

use super::faults::Fault;
use crate::audit::Findings;
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Most unexcused failures that are printed.
const SHOWN_MAX: usize = 12;

#[derive(Debug)]
pub(super) struct Tally {
    seed: u64,
    begin: Instant,
    /// Tasks done and not over, as seen last.
    pub(super) done: u32,
    pub(super) outstanding: u32,
    /// Schedulers that ended by themselves, and were started again.
    pub(super) restarts: u32,
    /// Submissions that a second sending found accepted.
    pub(super) repeated: u32,
    /// Of the submissions that were never asked about again: 1 for one that was accepted.
    pub(super) abandoned: Vec<usize>,
    /// Refused although they are good.
    pub(super) refusals: Vec<String>,
    /// Submissions that are not there as they should be.
    pub(super) submissions: Vec<String>,
    /// Where nothing went on.
    pub(super) stuck: Vec<String>,
    pub(super) requests_broken: u64,
    counts: BTreeMap<Fault, u32>,
    recoveries: BTreeMap<Fault, Vec<Duration>>,
    /// Times within which failed tasks are no wonder.
    excused: Vec<(Timestamp, Timestamp)>,
}

impl Tally {
    pub(super) fn new(seed: u64) -> Tally {
        Tally {
            seed,
            begin: Instant::now(),
            done: 0,
            outstanding: 0,
            restarts: 0,
            repeated: 0,
            abandoned: Vec::new(),
            refusals: Vec::new(),
            submissions: Vec::new(),
            stuck: Vec::new(),
            requests_broken: 0,
            counts: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            excused: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.begin = Instant::now();
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    pub(super) fn window(&mut self, fault: Fault, from: Timestamp, to: Timestamp) {
        if fault.excuses_failures() {
            self.excused.push((from, to));
        }
    }

    pub(super) fn recovered(&mut self, faults: &[Fault], after: Duration) {
        for fault in faults {
            self.recoveries.entry(*fault).or_default().push(after);
        }
    }

    pub(super) fn line(&self) -> String {
        let faults: u32 = self.counts.values().sum();
        format!("{faults} faults, {} frames done, {} to do", self.done, self.outstanding)
    }

    pub(super) fn close(self, findings: Findings) -> Outcome {
        let excused = |at: &Timestamp| self.excused.iter().any(|(from, to)| from <= at && at <= to);
        let spent: Vec<String> =
            findings.spent.iter().filter(|(at, _)| !excused(at)).map(|(_, text)| text.clone()).collect();
        let mut committed = findings.committed.clone();
        committed.sort();
        let gap = committed.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0);
        Outcome {
            elapsed: self.begin.elapsed(),
            gap_max: Duration::from_millis(gap.unsigned_abs()),
            spent_by_infrastructure: spent,
            findings,
            tally: self,
        }
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    elapsed: Duration,
    gap_max: Duration,
    spent_by_infrastructure: Vec<String>,
    findings: Findings,
    tally: Tally,
}

impl Outcome {
    pub fn is_clean(&self) -> bool {
        let tally = &self.tally;
        let wrong = [&tally.refusals, &tally.submissions, &tally.stuck, &self.spent_by_infrastructure];
        self.findings.is_clean() && wrong.iter().all(|found| found.is_empty())
    }

    pub fn faults(&self) -> u32 {
        self.tally.counts.values().sum()
    }

    pub fn frames(&self) -> usize {
        self.findings.frames
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        writeln!(f, "{:<20} {:>6} {:>22} {:>10}", "fault", "times", "next frame: median s", "longest")?;
        for (fault, count) in &tally.counts {
            let mut recoveries = tally.recoveries.get(fault).cloned().unwrap_or_default();
            recoveries.sort();
            let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
            let longest = recoveries.last().copied().unwrap_or_default();
            writeln!(f, "{fault:<20} {count:>6} {:>22.1} {:>10.1}", median.as_secs_f64(), longest.as_secs_f64())?;
        }
        writeln!(f, "requests to the store broken: {}", tally.requests_broken)?;
        writeln!(f, "schedulers that ended by themselves with a reason, and were started again: {}", tally.restarts)?;
        let kept: usize = tally.abandoned.iter().sum();
        writeln!(
            f,
            "submissions without an answer: {} found accepted by their key, {} never asked about again ({kept} accepted)",
            tally.repeated,
            tally.abandoned.len(),
        )?;
        let hours = self.elapsed.as_secs_f64() / 3600.0;
        writeln!(
            f,
            "{} frames in {:.1} min, {:.0} frames/h, longest time without a frame {:.1} s",
            self.findings.frames,
            hours * 60.0,
            self.findings.frames as f64 / hours,
            self.gap_max.as_secs_f64(),
        )?;
        let excused = self.findings.spent.len() - self.spent_by_infrastructure.len();
        writeln!(
            f,
            "attempts spent: {excused} by killed renderers and full disks, {} by infrastructure",
            self.spent_by_infrastructure.len()
        )?;
        for (what, found) in [
            ("attempt spent", &self.spent_by_infrastructure),
            ("refused", &tally.refusals),
            ("submission", &tally.submissions),
            ("stuck", &tally.stuck),
        ] {
            for text in found.iter().take(SHOWN_MAX) {
                writeln!(f, "  {what}: {text}")?;
            }
        }
        writeln!(f, "{}", self.findings)?;
        let verdict = if self.is_clean() { "clean" } else { "NOT clean" };
        write!(f, "seed {}: {verdict} (FIRE_SEED={} does the same again)", tally.seed, tally.seed)
    }
}
