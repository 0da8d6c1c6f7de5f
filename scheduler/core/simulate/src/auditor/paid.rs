//! What was paid: each moment of each worker once, and under the pool it was asked for in.

use super::Auditor;
use crate::invariant::{About, Invariant};
use framewake_core::ledger::{Account, Spent};
use framewake_proto::ids::{Name, WorkerId};
use framewake_proto::time::Timestamp;

/// What was paid of a worker that is there.
#[derive(Debug)]
pub(super) struct PaidBook {
    until: Timestamp,
    pool: Option<Name>,
}

impl Auditor {
    /// Each piece begins where the one before ended, and the last ends where the account says.
    pub(super) fn paid(&mut self, account: &Account, spent: &[Spent]) {
        let about = About::worker(&account.worker);
        let at = self.at;
        self.check_pool(account);
        let fresh = || PaidBook { until: at, pool: account.pool.clone() };
        let book = self.paid.entry(account.worker.clone()).or_insert_with(fresh);
        if spent.is_empty() && account.until < book.until && account.until == self.started_at {
            // The clock was set back while the scheduler was down: the same hour is not paid twice.
            book.until = account.until;
        }
        let mut until = book.until;
        let gap = spent.iter().find(|piece| {
            let before = std::mem::replace(&mut until, piece.until);
            piece.from != before || piece.until <= piece.from
        });
        book.until = account.until;
        let worker = &account.worker;
        if let Some(piece) = gap {
            self.fail(Invariant::PaidTimeAddsUp, about, format!("{worker}: {piece:?} does not follow what was paid"));
        } else if until != account.until || until > at {
            let text = format!("{worker} is accounted for until {} and paid until {until}, at {at}", account.until);
            self.fail(Invariant::PaidTimeAddsUp, about, text);
        }
        for piece in spent {
            *self.spent_ms.entry(piece.cause).or_default() += piece.time_us() / 1000;
        }
    }

    /// A pool may be told late, of a worker that spoke first; it is the one it was asked for in, and never another.
    fn check_pool(&mut self, account: &Account) {
        let Account { worker, pool, .. } = account;
        let before = self.paid.get_mut(worker).and_then(|book| std::mem::replace(&mut book.pool, pool.clone()));
        let changed = before.is_some() && before != *pool;
        let asked_in = self.asked_in.get(worker);
        if changed || pool.as_ref().is_some_and(|pool| asked_in.is_some_and(|asked_in| asked_in != pool)) {
            let text = format!("{worker} is paid in {pool:?}, before in {before:?}; it was asked for in {asked_in:?}");
            self.fail(Invariant::PaidTimeAddsUp, About::worker(worker), text);
        }
    }

    pub(super) fn account_closed(&mut self, worker: &WorkerId, at: Timestamp) {
        let book = self.paid.remove(worker);
        if book.is_none_or(|book| book.until != at) || at != self.at {
            let text = format!("{worker} is gone at {at} and not paid until then");
            self.fail(Invariant::PaidTimeAddsUp, About::worker(worker), text);
        }
    }
}
