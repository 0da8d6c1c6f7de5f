//! Where every paid moment of every worker goes: to exactly one cause.
//!
//! A worker has an account from when it is asked for until it is gone. `until` says how far its time is accounted for;
//! whatever is learned of it moves `until` on and gives the time passed over to causes. Time is given out nowhere
//! else, so the causes of a worker add up to its paid time by construction. Who leaves a worker idle pays for it:
//! idle time is of the work before it, and the time before the first work is of that.

mod under_way;

use crate::change::{Change, Outcome};
use crate::price::{Held, Prices};
use framewake_proto::ids::{AttemptId, FunctionKey, JobId, Name, WorkerId};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
pub(crate) use under_way::UnderWay;

const DAY_MS: i64 = 86_400_000;
/// Most days that one span is cut into. A longer one comes of a clock that was set; it is of the day it ends in.
const DAYS_MAX: i64 = 400;

/// What paid time went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// From asking for a worker to its first words.
    ColdStart,
    /// From a claim until the renderer is ready: inputs, start, scene.
    Load,
    /// Rendering frames that count.
    Useful,
    /// Verifying and storing outputs while nothing else is done.
    Upload,
    /// Nothing to do, or waiting for a license.
    Idle,
    /// Rendering what failed or was canceled.
    Failed,
    /// Rendering what was lost with its worker, or given up because it had to leave.
    Preempted,
}

impl Cause {
    pub const ALL: [Cause; 7] =
        [Cause::ColdStart, Cause::Load, Cause::Useful, Cause::Upload, Cause::Idle, Cause::Failed, Cause::Preempted];

    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ColdStart => "cold_start",
            Cause::Load => "load",
            Cause::Useful => "useful",
            Cause::Upload => "upload",
            Cause::Idle => "idle",
            Cause::Failed => "failed",
            Cause::Preempted => "preempted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The work that time is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    pub job: JobId,
    pub step: usize,
    pub project: Name,
}

/// How far the time of one worker is accounted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub worker: WorkerId,
    pub function: Arc<FunctionKey>,
    /// Model of its GPU, as it says; empty for none and until it has said so.
    pub gpu: Arc<str>,
    /// Where it was started; `None`: by a person, or its place has not told of it yet.
    pub pool: Option<Name>,
    pub opened_at: Timestamp,
    pub until: Timestamp,
    pub doing: Doing,
    /// What it is working on, or did last.
    pub work: Option<Arc<Work>>,
}

/// What a worker has been doing since `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has not claimed anything yet.
    Starting {
        spoke_at: Option<Timestamp>,
    },
    Idle,
    /// `upload_ms`: told to have gone into uploads, and not given out yet.
    Working {
        attempt: AttemptId,
        upload_ms: u64,
    },
    /// It fell silent over its work.
    Silent,
}

/// Some time of a worker and its one cause; within one UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub from: Timestamp,
    pub until: Timestamp,
    pub cause: Cause,
    pub work: Option<Arc<Work>>,
    /// `None`: unknown, which is not 0.
    pub price: Option<Held>,
}

impl Spent {
    pub fn time_us(&self) -> u64 {
        u64::try_from(self.until.0 - self.from.0).unwrap_or(0) * 1000
    }

    /// Days since 1970.
    pub fn day(&self) -> i64 {
        // The end of a day is the beginning of the next.
        (self.until.0 - 1).div_euclid(DAY_MS)
    }
}

/// What a report says of the time it took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worked {
    pub load_ms: u64,
    pub useful_ms: u64,
    pub failed_ms: u64,
    pub preempted_ms: u64,
    pub upload_ms: u64,
}

/// An attempt whose last reports are still on their way, although its worker has claimed the next one: claims and reports come
/// by different ways, and a claim is often the quicker. Known until a restart only: what is told of it then waits for the
/// reports of the next one, of the same work.
#[derive(Debug, Clone, Copy)]
struct Late {
    attempt: AttemptId,
    upload_ms: u64,
    /// When the next one was claimed.
    end: Timestamp,
}

/// The accounts of all workers that are there.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<WorkerId, Account>,
    late: BTreeMap<WorkerId, Late>,
    pub(crate) prices: Prices,
    pub(crate) under_way: UnderWay,
    /// Not yet handed over; of these, the first so many were counted against budgets.
    changes: Vec<Change>,
    counted: usize,
}

impl Ledger {
    /// `now` may be before what was accounted for: the clock was set back. That time is not counted twice.
    pub(crate) fn restore(now: Timestamp, accounts: Vec<Account>, prices: Prices) -> Ledger {
        let mut ledger = Ledger { prices, ..Ledger::default() };
        for mut account in accounts {
            if account.until > now {
                account.until = now;
                account.opened_at = account.opened_at.min(now);
                if let Doing::Starting { spoke_at } = &mut account.doing {
                    *spoke_at = spoke_at.map(|at| at.min(now));
                }
                ledger.changes.push(Change::Paid { account: account.clone(), spent: Vec::new() });
            }
            ledger.under_way.add(&account);
            ledger.accounts.insert(account.worker.clone(), account);
        }
        ledger
    }

    pub(crate) fn take_changes(&mut self, out: &mut Vec<Change>) {
        out.append(&mut self.changes);
        self.counted = 0;
    }

    /// What was given out since this was asked last.
    pub(crate) fn uncounted(&mut self) -> Vec<Spent> {
        let fresh = self.changes[self.counted..].iter().filter_map(|change| match change {
            Change::Paid { spent, .. } => Some(spent),
            _ => None, // No time is given out by others.
        });
        let fresh = fresh.flatten().cloned().collect();
        self.counted = self.changes.len();
        fresh
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// From now on the worker is paid; nothing new if it is already.
    pub(crate) fn open(&mut self, now: Timestamp, worker: &WorkerId, function: &FunctionKey, pool: Option<Name>) {
        if self.accounts.contains_key(worker) {
            self.found_in(worker, pool);
            return;
        }
        let account = Account {
            worker: worker.clone(),
            function: Arc::new(function.clone()),
            gpu: "".into(),
            pool,
            opened_at: now,
            until: now,
            doing: Doing::Starting { spoke_at: None },
            work: None,
        };
        self.changes.push(Change::Paid { account: account.clone(), spent: Vec::new() });
        self.under_way.add(&account);
        self.accounts.insert(worker.clone(), account);
    }

    /// Its place told of it only now. What was given out before stays without a pool.
    fn found_in(&mut self, worker: &WorkerId, pool: Option<Name>) {
        let is_news = self.accounts.get(worker).is_some_and(|account| account.pool.is_none());
        if is_news && pool.is_some() {
            self.change(worker, |account, _, _| {
                account.pool = pool;
                Some(Vec::new())
            });
        }
    }

    pub(crate) fn account(&self, worker: &WorkerId) -> Option<&Account> {
        self.accounts.get(worker)
    }

    /// It spoke. Not durable by itself: the next claim makes it so.
    pub(crate) fn spoke(&mut self, now: Timestamp, worker: &WorkerId, gpu: &str) {
        self.change(worker, |account, _, prices| {
            // Once: a worker that changes its mind would make rows without end.
            if !gpu.is_empty() && account.gpu.is_empty() {
                account.gpu = gpu.into();
            }
            match &mut account.doing {
                Doing::Starting { spoke_at } => {
                    spoke_at.get_or_insert(now);
                    None
                }
                Doing::Silent => {
                    let mut spent = Vec::new();
                    spend(account, now, Cause::Preempted, prices, &mut spent);
                    account.doing = Doing::Idle;
                    Some(spent)
                }
                Doing::Idle | Doing::Working { .. } => None,
            }
        });
    }

    /// It holds this attempt from now on.
    pub(crate) fn claimed(&mut self, now: Timestamp, worker: &WorkerId, attempt: AttemptId, work: Work) {
        self.change(worker, |account, late, prices| {
            let same = account.work.as_deref() == Some(&work);
            let work = if same { account.work.clone() } else { Some(Arc::new(work)) };
            if let Doing::Starting { .. } = account.doing {
                account.work.clone_from(&work);
            }
            let mut spent = give_up(account, late, prices);
            match account.doing {
                Doing::Working { attempt, upload_ms } if same => *late = Some(Late { attempt, upload_ms, end: now }),
                // Who asks for more is through with what it held. That it counts is nearly always true, and of another job's time
                // nothing may be left open: it would be this one's after a crash.
                Doing::Working { .. } => spend(account, now, Cause::Useful, prices, &mut spent),
                Doing::Starting { .. } | Doing::Idle | Doing::Silent => spent.append(&mut finish(account, now, prices)),
            }
            // What came before is of the work before.
            account.work = work;
            account.doing = Doing::Working { attempt, upload_ms: 0 };
            Some(spent)
        });
    }

    /// News of the attempt that it holds. What the report does not explain waits for the next one: it is
    /// the beginning of what that one tells.
    pub(crate) fn worked(&mut self, now: Timestamp, worker: &WorkerId, attempt: AttemptId, worked: Worked) {
        self.change(worker, |account, late, prices| {
            let mut spent = Vec::new();
            let end = match (&mut account.doing, &mut *late) {
                (_, Some(late)) if late.attempt == attempt => {
                    late.upload_ms = late.upload_ms.saturating_add(worked.upload_ms);
                    late.end
                }
                (Doing::Working { attempt: held, upload_ms }, _) if *held == attempt => {
                    *upload_ms = upload_ms.saturating_add(worked.upload_ms);
                    spent = give_up(account, late, prices);
                    now
                }
                _ => return None,
            };
            let causes = [
                (Cause::Load, worked.load_ms),
                (Cause::Useful, worked.useful_ms),
                (Cause::Failed, worked.failed_ms),
                (Cause::Preempted, worked.preempted_ms),
            ];
            for (cause, ms) in causes {
                // A worker can't have worked for longer than it was paid.
                let end = Timestamp(account.until.0.saturating_add_unsigned(ms)).min(end);
                spend(account, end, cause, prices, &mut spent);
            }
            (!spent.is_empty()).then_some(spent)
        });
    }

    /// The attempt is over.
    pub(crate) fn ended(&mut self, now: Timestamp, worker: &WorkerId, attempt: AttemptId, outcome: &Outcome) {
        self.change(worker, |account, late, prices| {
            let mut spent = Vec::new();
            let (end, upload_ms, is_late) = match (account.doing, &*late) {
                (_, Some(late)) if late.attempt == attempt => (late.end, late.upload_ms, true),
                (Doing::Working { attempt: held, upload_ms }, _) if held == attempt => {
                    spent = give_up(account, late, prices);
                    (now, upload_ms, false)
                }
                _ => return None,
            };
            let (cause, doing) = match outcome {
                // What it waited for: messages, the last of its log, a license.
                Outcome::Finished | Outcome::LicenseWait => (Cause::Idle, Doing::Idle),
                Outcome::Canceled => (Cause::Failed, Doing::Idle),
                Outcome::HandedBack => (Cause::Preempted, Doing::Idle),
                Outcome::Lost { .. } => (Cause::Preempted, Doing::Silent),
            };
            if *outcome == Outcome::Finished {
                let uploaded = Timestamp(account.until.0.saturating_add_unsigned(upload_ms)).min(end);
                spend(account, uploaded, Cause::Upload, prices, &mut spent);
            }
            spend(account, end, cause, prices, &mut spent);
            if is_late {
                *late = None;
            } else {
                account.doing = doing;
            }
            Some(spent)
        });
    }

    /// It is gone, or thought to be.
    pub(crate) fn closed(&mut self, now: Timestamp, worker: &WorkerId) {
        self.change(worker, |account, late, prices| {
            let mut spent = give_up(account, late, prices);
            spent.append(&mut finish(account, now, prices));
            account.doing = Doing::Idle;
            Some(spent)
        });
        if let Some(account) = self.accounts.remove(worker) {
            self.under_way.remove(&account);
            self.changes.push(Change::AccountClosed { worker: worker.clone(), at: now });
        }
    }

    /// The one way in which an account changes: what is summed up over all of them stays in step with it. With what it gives
    /// out it becomes durable; with `None` it waits for the next change.
    fn change(
        &mut self,
        worker: &WorkerId,
        how: impl FnOnce(&mut Account, &mut Option<Late>, &Prices) -> Option<Vec<Spent>>,
    ) {
        let Some(account) = self.accounts.get_mut(worker) else { return };
        let mut late = self.late.remove(worker);
        self.under_way.remove(account);
        let spent = how(account, &mut late, &self.prices);
        self.under_way.add(account);
        if let Some(late) = late {
            self.late.insert(worker.clone(), late);
        }
        if let Some(spent) = spent {
            self.changes.push(Change::Paid { account: account.clone(), spent });
        }
    }
}

/// The reports of an attempt before did not come, and none will: its time is lost.
fn give_up(account: &mut Account, late: &mut Option<Late>, prices: &Prices) -> Vec<Spent> {
    let mut spent = Vec::new();
    if let Some(late) = late.take() {
        spend(account, late.end, Cause::Preempted, prices, &mut spent);
    }
    spent
}

/// Gives out all time until now, as what it has been doing says.
fn finish(account: &mut Account, now: Timestamp, prices: &Prices) -> Vec<Spent> {
    let mut spent = Vec::new();
    match account.doing {
        Doing::Starting { spoke_at } => {
            let spoke_at = spoke_at.unwrap_or(now).min(now);
            spend(account, spoke_at, Cause::ColdStart, prices, &mut spent);
            spend(account, now, Cause::Idle, prices, &mut spent);
        }
        Doing::Idle => spend(account, now, Cause::Idle, prices, &mut spent),
        Doing::Working { .. } | Doing::Silent => spend(account, now, Cause::Preempted, prices, &mut spent),
    }
    spent
}

/// Gives the account's time up to `end` to the cause, a piece a day.
fn spend(account: &mut Account, end: Timestamp, cause: Cause, prices: &Prices, spent: &mut Vec<Spent>) {
    while account.until < end {
        let midnight = (account.until.0.div_euclid(DAY_MS) + 1) * DAY_MS;
        let many = end.0 - account.until.0 > DAYS_MAX * DAY_MS;
        let until = if many { end } else { end.min(Timestamp(midnight)) };
        let mut piece = Spent { from: account.until, until, cause, work: account.work.clone(), price: None };
        piece.price = prices.of(&account.function.name, &account.gpu, account.pool.as_ref(), piece.day());
        account.until = until;
        spent.push(piece);
    }
}

#[cfg(test)]
mod tests;
