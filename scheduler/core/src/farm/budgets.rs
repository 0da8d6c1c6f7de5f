//! Jobs that may cost so much and no more: no new order that would pass the budget, and tails given back when it is used up.

use super::{Applied, Farm};
use crate::budget::{Book, Forecast, Room, cost, time_us};
use crate::change::{Change, JobState};
use crate::chunk::ChunkState;
use crate::effect::{Control, Effect};
use crate::ledger::Doing;
use framewake_proto::ids::{ChunkId, JobId};
use framewake_proto::job::AtLimit;
use framewake_proto::time::{Day, Timestamp};

impl Farm {
    /// Counts what the ledger gave out since the last time.
    pub(super) fn count_spent(&mut self) {
        if self.budgeted == 0 {
            return;
        }
        for piece in self.ledger.uncounted() {
            let job = piece.work.as_ref().and_then(|work| self.jobs.get_mut(&work.job));
            if let Some(book) = job.and_then(|job| job.budget.as_mut()) {
                book.add(&piece);
            }
        }
    }

    /// How many tasks of a step may be given out; a job whose budget is used up is held.
    pub(super) fn room(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) -> Room {
        let Some(book) = self.jobs[&id].budget.clone() else { return Room::Free };
        self.count_spent();
        let forecast = self.forecast(now, id, at);
        let (committed, any_open) = self.committed(now, id, forecast);
        let room = book.room(committed, any_open, forecast);
        match room {
            Room::Free | Room::Tasks(_) => {}
            Room::Later => self.dequeue(id, at),
            Room::None => self.pause_job(now, id, out),
        }
        room
    }

    /// Once another frame of each worker would use the budget up: offers are taken back, and who holds several tasks
    /// keeps the one at hand.
    pub(super) fn stop_at_budget(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) {
        let Some(book) = self.jobs.get(&id).and_then(|job| job.budget.clone()) else { return };
        let stops_frames = match book.at_limit() {
            AtLimit::Warn => return,
            AtLimit::Hold => true,
            AtLimit::Finish => false,
        };
        let open = self.chunks_of(id);
        let forecast = self.forecast(now, id, at);
        let frame = forecast.held.map_or(0, |held| cost(held, time_us(forecast.task_s.unwrap_or(0.0))));
        let is_held = |chunk: &&ChunkId| matches!(self.chunks[*chunk].state, ChunkState::Leased(_));
        let under_way: i128 = open.iter().filter(is_held).map(|chunk| self.under_way(now, *chunk) + frame).sum();
        if !book.is_used_up(under_way) {
            return;
        }
        for chunk_id in open {
            if matches!(self.chunks.get(&chunk_id).map(|chunk| &chunk.state), Some(ChunkState::Offered { .. })) {
                self.withdraw(now, chunk_id);
                continue;
            }
            if !stops_frames {
                continue;
            }
            let Some(chunk) = self.chunks.get_mut(&chunk_id) else { continue };
            let (attempt, before) = (chunk.attempt_id(), chunk.left());
            let ChunkState::Leased(lease) = &mut chunk.state else { continue };
            if before > 1 && lease.keep.is_none_or(|keep| keep > 1) {
                lease.keep = Some(1);
                let worker = lease.worker.clone();
                self.rank_lease(chunk_id, before);
                let control = Control { attempt: Some(attempt), keep_tasks: Some(1), ..Control::default() };
                out.effects.push(Effect::PushControl { worker, control });
            }
        }
    }

    /// An attempt is over: what waited for the budget is looked at again, in every step.
    pub(super) fn look_at_budget_again(&mut self, now: Timestamp, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.budget.is_some()) else { return };
        for at in 0..job.steps.len() {
            self.enqueue(now, id, at);
        }
    }

    /// A person says that the job shall go on: without its budget, if that has no room.
    pub(super) fn lift_budget(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        self.count_spent();
        let Some(book) = self.jobs.get(&id).and_then(|job| job.budget.as_ref()) else { return };
        let steps = 0..self.jobs[&id].steps.len();
        let has_room = |at: usize| {
            let forecast = self.forecast(now, id, at);
            let (committed, any_open) = self.committed(now, id, forecast);
            self.jobs[&id].steps[at].left() == 0 || book.room(committed, any_open, forecast) != Room::None
        };
        if !steps.into_iter().all(has_room) {
            self.set_budget(id, None);
            out.changes.push(Change::BudgetLifted { job: id });
        }
    }

    pub(super) fn set_budget(&mut self, id: JobId, budget: Option<Book>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.budgeted -= u32::from(job.budget.is_some());
        job.budget = budget;
        self.budgeted += u32::from(job.budget.is_some());
    }

    /// Why a job waits for its budget, for people.
    pub(super) fn explain_budget(&self, now: Timestamp, id: JobId, at: usize) -> Option<String> {
        let book = self.jobs.get(&id)?.budget.as_ref()?;
        let forecast = self.forecast(now, id, at);
        let told = book.told();
        if !book.knows_price(forecast) {
            let told = "budget: what its workers cost is not known in the budget's currency, and so it can't be kept; \
                        `framewake prices set any …` sets a price, `framewake resume` lets the job go on";
            return Some(told.to_owned());
        }
        if book.at_limit() == AtLimit::Warn {
            return book.is_used_up(0).then(|| format!("budget: {told}; the job goes on, as it asked"));
        }
        let (committed, any_open) = self.committed(now, id, forecast);
        match book.room(committed, any_open, forecast) {
            Room::Free | Room::Tasks(_) => None,
            Room::Later => Some(format!("budget: {told}, and what is under way may take the rest")),
            Room::None => Some(format!(
                "budget: {told}, and no frame fits into the rest; `framewake resume` lets it go on without its budget"
            )),
        }
    }

    /// What open chunks of the job will take, those on offer too.
    fn committed(&self, now: Timestamp, id: JobId, forecast: Forecast) -> (i128, bool) {
        let mut committed = 0;
        let mut any_open = false;
        for chunk_id in self.chunks_of(id) {
            let chunk = &self.chunks[&chunk_id];
            let (begun, leased) = match &chunk.state {
                ChunkState::Offered { .. } => (false, false),
                ChunkState::Leased(lease) => (lease.done + lease.failed > 0, true),
                ChunkState::Waiting { .. } | ChunkState::Ready { .. } => continue,
            };
            any_open = true;
            let Some(held) = forecast.held else { continue };
            let before_s = if begun { 0.0 } else { forecast.before_s };
            let expected = time_us(before_s + forecast.task_s.unwrap_or(0.0) * f64::from(chunk.left()));
            let expected = cost(held, expected);
            committed += if leased { expected.max(self.under_way(now, chunk_id)) } else { expected };
        }
        (committed, any_open)
    }

    /// What the holder of a chunk took since it was last accounted for.
    fn under_way(&self, now: Timestamp, chunk: ChunkId) -> i128 {
        let Some(ChunkState::Leased(lease)) = self.chunks.get(&chunk).map(|chunk| &chunk.state) else { return 0 };
        let Some(account) = self.ledger.account(&lease.worker) else { return 0 };
        if !matches!(account.doing, Doing::Working { attempt, .. } if attempt.chunk == chunk) {
            return 0;
        }
        let held = self.ledger.prices.of(&account.function.name, &account.gpu, Day::of(now).0);
        let since = u64::try_from(now.since(account.until).as_micros()).unwrap_or(u64::MAX);
        held.map_or(0, |held| cost(held, since))
    }

    /// By the dearest worker that the function has, else by the price of one that says nothing of itself.
    fn forecast(&self, now: Timestamp, id: JobId, at: usize) -> Forecast {
        let step = &self.jobs[&id].steps[at];
        let function = &self.functions[step.function];
        let today = Day::of(now).0;
        let name = &function.key.name;
        let there = self.ledger.accounts().filter(|account| account.function.name == *name);
        let dearest = there
            .filter_map(|account| self.ledger.prices.of(name, &account.gpu, today))
            .max_by_key(|held| held.micros_an_hour);
        let held = dearest.or_else(|| self.ledger.prices.of(name, "", today));
        let load_s = step.timing.load_s.or(function.timing.load_s).unwrap_or(0.0);
        let start_s = if function.idle.is_empty() { self.start_s(now, step.function).unwrap_or(0.0) } else { 0.0 };
        Forecast { held, before_s: load_s + start_s, task_s: step.timing.task_s.or(function.timing.task_s) }
    }

    /// Whether a job's budget keeps it from going on.
    pub(super) fn is_held_by_budget(&self, now: Timestamp, id: JobId, at: usize) -> bool {
        self.job_state(id) == Some(JobState::Paused) && self.explain_budget(now, id, at).is_some()
    }
}
