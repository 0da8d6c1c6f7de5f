//! What jobs and projects may cost: no new order that would pass a budget, and tails given back when one is used up.

use super::committed::Committed;
use super::{Applied, Farm};
use crate::budget::{Book, Purse, Room, Serving, month};
use crate::change::{Change, JobState, Payer};
use crate::chunk::ChunkState;
use crate::effect::{Control, Effect};
use crate::price::Held;
use crate::rank::Project;
use crate::timers::Timer;
use crate::values::StoredBudget;
use framewake_proto::budget::{Period, ProjectBudget, Standing};
use framewake_proto::ids::{ChunkId, JobId, Name};
use framewake_proto::job::{AtLimit, Budget};
use framewake_proto::money::Money;
use framewake_proto::time::{Month, Timestamp};

/// A budget of a project, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStatus<'a> {
    pub project: &'a Name,
    pub period: Period,
    pub month: Month,
    pub budget: ProjectBudget,
    pub spent: Money,
    pub standing: Standing,
    /// Nothing of the project is given out.
    pub held: bool,
}

/// Farms with more jobs than this call workers without a look at each budget; orders are held by it all the same.
const JOBS_LOOKED_AT_MAX: usize = 100;

impl Farm {
    /// Counts what the ledger gave out since the last time.
    pub(super) fn count_spent(&mut self) {
        if self.budgeted == 0 && self.purses.is_empty() {
            return;
        }
        for piece in self.ledger.uncounted() {
            let Some(work) = &piece.work else { continue };
            if let Some(book) = self.jobs.get_mut(&work.job).and_then(|job| job.budget.as_mut()) {
                book.add(&piece);
                self.spenders.0.insert(work.job);
            }
            if let Some(project) = self.project_index.get(&work.project)
                && let Some(purse) = self.purses.get_mut(project)
            {
                purse.add(&piece);
                self.spenders.1.insert(*project);
            }
        }
    }

    /// How many tasks of a step may be given out. A job whose budget is used up is paused; a project whose budget is used up
    /// gets nothing until there is more.
    pub(super) fn room(&mut self, now: Timestamp, id: JobId, at: usize, out: &mut Applied) -> Room {
        self.count_spent();
        self.sum_commitments(now);
        let own = self.room_of_job(now, id, at);
        match own {
            Room::Free | Room::Tasks(_) => {}
            Room::Later => self.dequeue(id, at),
            Room::None => self.hold_job(now, id, out),
        }
        if matches!(own, Room::Later | Room::None) {
            return own;
        }
        let project = self.jobs[&id].project;
        let Some(purse) = self.purses.get(&project) else { return own };
        let forecast = self.forecast(now, id, at);
        if !purse.knows_price(forecast) {
            self.pause_job(now, id, out);
            return Room::None;
        }
        let Committed { chunks, expected, .. } = self.committed_of_project(now, project);
        let room = self.purses[&project].room(expected, chunks > 0, forecast);
        match room {
            Room::Free | Room::Tasks(_) => {}
            Room::Later => self.serve(project, Serving::Later),
            Room::None => self.hold_project(now, project, out),
        }
        own.least(room)
    }

    fn room_of_job(&self, now: Timestamp, id: JobId, at: usize) -> Room {
        let Some(book) = &self.jobs[&id].budget else { return Room::Free };
        let Committed { chunks, expected, .. } = self.committed_of_job(now, id);
        book.room(expected, chunks > 0, self.forecast(now, id, at))
    }

    /// Whether nothing of the project is given out: its jobs demand no workers.
    pub(super) fn is_held(&self, project: Project) -> bool {
        self.purses.get(&project).is_some_and(|purse| purse.serving == Serving::Held)
    }

    /// A project's weight, and 0 while it gets nothing.
    pub(super) fn weight_served(&self, project: Project) -> u32 {
        let serving = self.purses.get(&project).map_or(Serving::Open, |purse| purse.serving);
        if serving == Serving::Open { self.projects[project] } else { 0 }
    }

    fn serve(&mut self, project: Project, serving: Serving) {
        if let Some(purse) = self.purses.get_mut(&project) {
            purse.serving = serving;
        }
    }

    fn hold_job(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        self.spenders.0.insert(id);
        if let Some(book) = self.jobs.get_mut(&id).and_then(|job| job.budget.as_mut()) {
            book.tell(Standing::UsedUp, Payer::Job(id), out);
        }
        self.pause_job(now, id, out);
    }

    fn hold_project(&mut self, now: Timestamp, project: Project, out: &mut Applied) {
        if self.is_held(project) {
            return;
        }
        let jobs = self.demand_of_project(project, false);
        self.serve(project, Serving::Held);
        for (id, steps) in jobs {
            (0..steps).for_each(|at| self.dequeue(id, at));
        }
        for chunk in self.chunks_of_project(project) {
            if matches!(self.chunks.get(&chunk).map(|chunk| &chunk.state), Some(ChunkState::Offered { .. })) {
                self.withdraw(now, chunk);
            }
        }
        let name = self.project_names[project].clone();
        let Some(purse) = self.purses.get_mut(&project) else { return };
        let hard: Vec<(Period, Month)> =
            purse.books().filter(|(_, _, book)| book.is_hard()).map(|(period, month, _)| (period, month)).collect();
        // The one that is nearest to its end is the one that has no room.
        let fullest = hard.into_iter().max_by_key(|(period, _)| purse.book_mut(*period).map(|book| book.permille()));
        if let Some((period, month)) = fullest
            && let Some(book) = purse.book_mut(period)
        {
            book.tell(Standing::UsedUp, Payer::Project { project: name, period, month }, out);
        }
    }

    /// There may be money again: what waits for it is looked at, and held again if there is none.
    pub(super) fn release_project(&mut self, now: Timestamp, project: Project) {
        let Some(purse) = self.purses.get(&project) else { return };
        let was = purse.serving;
        if was == Serving::Held && purse.used_up(0).is_some() {
            return;
        }
        self.serve(project, Serving::Open);
        if was == Serving::Held {
            for (id, steps) in self.demand_of_project(project, true) {
                (0..steps).for_each(|at| self.enqueue(now, id, at));
            }
        }
        self.touched.extend(0..self.functions.len());
    }

    /// Adds what the project's jobs demand, or takes it away; the jobs, and how many steps they have.
    fn demand_of_project(&mut self, project: Project, add: bool) -> Vec<(JobId, usize)> {
        // Rare: once when a budget is used up, and once when there is more.
        let jobs = self.jobs.iter().filter(|(_, job)| job.project == project);
        let jobs: Vec<(JobId, usize)> = jobs.map(|(id, job)| (*id, job.steps.len())).collect();
        for (id, steps) in &jobs {
            for at in 0..*steps {
                if self.jobs[id].steps[at].may_run() {
                    self.count_tasks(*id, at, add);
                }
            }
        }
        jobs
    }

    /// Once another frame of each worker would use a budget up: offers are taken back, and who holds several tasks
    /// keeps the one at hand. Once, for nothing is given out afterwards: ten thousand workers tell of their last frames.
    pub(super) fn stop_at_budget(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        let Some(job) = self.jobs.get(&id) else { return };
        let project = job.project;
        self.sum_commitments(now);
        let last = self.committed_of_job(now, id).frames;
        let book = self.jobs.get_mut(&id).and_then(|job| job.budget.as_mut());
        if let Some(at_limit) = book.filter(|book| book.is_hard()).and_then(|book| book.stops(last)) {
            let chunks = self.chunks_of(id);
            self.stop_chunks(now, &chunks, at_limit == AtLimit::Hold, out);
        }
        self.stop_at_purse(now, project, out);
    }

    fn stop_at_purse(&mut self, now: Timestamp, project: Project, out: &mut Applied) {
        if !self.purses.contains_key(&project) {
            return;
        }
        let last = self.committed_of_project(now, project).frames;
        if let Some(at_limit) = self.purses.get_mut(&project).and_then(|purse| purse.stops(last)) {
            let chunks = self.chunks_of_project(project);
            self.stop_chunks(now, &chunks, at_limit == AtLimit::Hold, out);
        }
    }

    fn stop_chunks(&mut self, now: Timestamp, chunks: &[ChunkId], stops_frames: bool, out: &mut Applied) {
        for chunk_id in chunks {
            if matches!(self.chunks.get(chunk_id).map(|chunk| &chunk.state), Some(ChunkState::Offered { .. })) {
                self.withdraw(now, *chunk_id);
                continue;
            }
            if !stops_frames {
                continue;
            }
            let Some(chunk) = self.chunks.get_mut(chunk_id) else { continue };
            let (attempt, before) = (chunk.attempt_id(), chunk.left());
            let ChunkState::Leased(lease) = &mut chunk.state else { continue };
            if before > 1 && lease.keep.is_none_or(|keep| keep > 1) {
                lease.keep = Some(1);
                let worker = lease.worker.clone();
                self.rank_lease(*chunk_id, before);
                let control = Control { attempt: Some(attempt), keep_tasks: Some(1), ..Control::default() };
                out.effects.push(Effect::PushControl { worker, control });
            }
        }
    }

    /// News of an attempt: what waited for a budget is looked at again, in every step.
    pub(super) fn look_at_budget_again(&mut self, now: Timestamp, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (project, budgeted, steps) = (job.project, job.budget.is_some(), job.steps.len());
        if budgeted {
            (0..steps).for_each(|at| self.enqueue(now, id, at));
        }
        self.look_at_purse_again(now, project);
    }

    /// Something may have ended: what waited for that is looked at again.
    pub(super) fn serve_again(&mut self) {
        for purse in self.purses.values_mut().filter(|purse| purse.serving == Serving::Later) {
            purse.serving = Serving::Open;
        }
    }

    fn look_at_purse_again(&mut self, now: Timestamp, project: Project) {
        if self.purses.get(&project).is_some_and(|purse| purse.serving == Serving::Later) {
            self.release_project(now, project);
        }
    }

    /// A person says that the job shall go on: without its budget, if that has no room.
    pub(super) fn lift_budget(&mut self, now: Timestamp, id: JobId, out: &mut Applied) {
        self.count_spent();
        if !self.has_room(now, id) {
            self.set_book(id, None);
            out.changes.push(Change::JobBudget { job: id, budget: None });
        }
    }

    /// Whether the job's own budget leaves room for a task of each of its steps.
    fn has_room(&self, now: Timestamp, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else { return true };
        let steps = job.steps.iter().enumerate().filter(|(_, step)| step.left() > 0);
        let mut rooms = steps.map(|(at, _)| self.room_of_job(now, id, at));
        rooms.all(|room| room != Room::None)
    }

    pub(super) fn set_book(&mut self, id: JobId, book: Option<Book>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.budgeted -= u32::from(job.budget.is_some());
        job.budget = book;
        self.budgeted += u32::from(job.budget.is_some());
        let steps = job.steps.len();
        (0..steps).for_each(|at| self.commit_anew(id, at));
    }

    /// Another budget for a job that is not over, of which so much is spent. If its old one held it and this one does not, it
    /// goes on.
    pub(super) fn budget_job(
        &mut self,
        now: Timestamp,
        id: JobId,
        budget: Option<Budget>,
        spent: &[(Held, u64)],
        out: &mut Applied,
    ) {
        let Some(job) = self.jobs.get(&id) else { return };
        let steps = job.steps.len();
        let was_held = job.state == JobState::Paused && job.budget.is_some() && !self.has_room(now, id);
        self.set_book(id, budget.map(|budget| Book::of_job(budget, spent)));
        out.changes.push(Change::JobBudget { job: id, budget });
        self.take_back(now, &self.chunks_of(id));
        if was_held && self.has_room(now, id) {
            self.resume_job(now, id, out);
        }
        for at in 0..steps {
            if self.jobs[&id].state != JobState::Paused && self.jobs[&id].steps[at].may_run() {
                self.room(now, id, at, out);
            }
        }
        self.spenders.0.insert(id);
        self.stop_at_budget(now, id, out);
        self.look_at_budget_again(now, id);
    }

    /// What is on offer was counted against another budget, or none.
    fn take_back(&mut self, now: Timestamp, chunks: &[ChunkId]) {
        for chunk in chunks {
            if matches!(self.chunks[chunk].state, ChunkState::Offered { .. }) {
                self.withdraw(now, *chunk);
            }
        }
    }

    /// A budget for a project, of which so much is spent, or none.
    pub(super) fn budget_project(
        &mut self,
        now: Timestamp,
        name: &Name,
        period: Period,
        budget: Option<ProjectBudget>,
        spent: &[(Held, u64)],
        out: &mut Applied,
    ) {
        let project = self.project(name);
        // What is in the ledger and not counted is in what the caller counted.
        self.count_spent();
        let told = self.purses.entry(project).or_default().set(now, period, budget.map(|budget| (budget, spent)));
        out.changes.push(Change::ProjectBudget { project: name.clone(), period, budget, month: month(now), told });
        self.commit_all_anew(|job| job.project == project);
        self.take_back(now, &self.chunks_of_project(project));
        self.sum_commitments(now);
        self.release_project(now, project);
        if self.purses.get(&project).is_some_and(Purse::is_empty) {
            self.purses.remove(&project);
            return;
        }
        self.set_timer(month(now).next().begins(), Timer::Month);
        self.spenders.1.insert(project);
        if self.purses[&project].used_up(0).is_some() {
            self.hold_project(now, project, out);
        }
        self.stop_at_purse(now, project, out);
    }

    /// As the store remembers it.
    pub(super) fn restore_budget(&mut self, now: Timestamp, stored: StoredBudget) {
        let StoredBudget { project, period, budget, spent, told } = stored;
        let project = self.project(&project);
        let purse = self.purses.entry(project).or_default();
        purse.set(now, period, Some((budget, &spent)));
        if let Some(book) = purse.book_mut(period) {
            book.told = told;
        }
        if purse.used_up(0).is_some() {
            purse.serving = Serving::Held;
        }
        self.set_timer(month(now).next().begins(), Timer::Month);
    }

    /// Each month has its own money.
    pub(super) fn turn_month(&mut self, now: Timestamp) {
        let projects: Vec<Project> = self.purses.keys().copied().collect();
        for project in projects {
            if let Some(purse) = self.purses.get_mut(&project) {
                purse.turn_month(now);
            }
            self.spenders.1.insert(project);
            self.release_project(now, project);
        }
        if !self.purses.is_empty() {
            self.set_timer(month(now).next().begins(), Timer::Month);
        }
    }

    /// Other prices: what could not be priced may be now.
    pub(super) fn look_at_all_purses_again(&mut self, now: Timestamp) {
        let projects: Vec<Project> = self.purses.keys().copied().collect();
        for project in projects {
            self.release_project(now, project);
        }
    }

    /// People are told once of each standing of each budget, and for a month once in it.
    pub(super) fn tell_standings(&mut self, out: &mut Applied) {
        let (jobs, projects) = std::mem::take(&mut self.spenders);
        for id in jobs {
            if let Some(book) = self.jobs.get_mut(&id).and_then(|job| job.budget.as_mut()) {
                book.tell(book.standing(), Payer::Job(id), out);
            }
        }
        for project in projects {
            let name = self.project_names[project].clone();
            let Some(purse) = self.purses.get_mut(&project) else { continue };
            let periods: Vec<(Period, Month)> = purse.books().map(|(period, month, _)| (period, month)).collect();
            for (period, month) in periods {
                if let Some(book) = purse.book_mut(period) {
                    book.tell(book.standing(), Payer::Project { project: name.clone(), period, month }, out);
                }
            }
        }
    }

    /// By project and period.
    pub fn budgets(&self) -> impl Iterator<Item = BudgetStatus<'_>> {
        self.purses.iter().flat_map(|(project, purse)| {
            purse.books().map(|(period, month, book)| {
                let Book { limit, at_limit, warn_percent, told, .. } = *book;
                BudgetStatus {
                    project: &self.project_names[*project],
                    period,
                    month,
                    budget: ProjectBudget { limit, warn_percent, at_limit },
                    spent: book.spent(),
                    standing: told.max(book.standing()),
                    held: purse.serving == Serving::Held,
                }
            })
        })
    }

    /// Why a job waits for its budget, or that of its project, for people.
    pub(super) fn explain_budget(&self, now: Timestamp, id: JobId, at: usize) -> Option<String> {
        self.explain_purse(now, id, at).or_else(|| self.explain_book(now, id, at))
    }

    fn explain_purse(&self, now: Timestamp, id: JobId, at: usize) -> Option<String> {
        let project = self.jobs.get(&id)?.project;
        let purse = self.purses.get(&project)?;
        let name = &self.project_names[project];
        if !purse.knows_price(self.forecast(now, id, at)) {
            return Some(format!(
                "budget of project {name}: what workers of this job cost is not known in its currency, and so it can't be \
                 kept; `framewake prices set any …` sets a price, and `framewake resume` lets the job go on then"
            ));
        }
        let fullest = purse.books().max_by_key(|(_, _, book)| (book.is_hard(), book.permille()));
        let (period, _, book) = fullest?;
        let when = match period {
            Period::Month => "this month",
            Period::Total => "in all",
        };
        let month = if period == Period::Month { ", or in the next month (UTC)" } else { "" };
        match purse.serving {
            Serving::Held => Some(format!(
                "held by the budget of project {name}: {} {when}; it goes on with more (`framewake budgets set`){month}",
                book.told()
            )),
            Serving::Later => Some(format!(
                "budget of project {name}: {} {when}, and what is under way may take the rest",
                book.told()
            )),
            Serving::Open if !book.is_hard() && book.is_used_up(0) => {
                Some(format!("budget of project {name}: {} {when}; its jobs go on, as it asks", book.told()))
            }
            Serving::Open => None,
        }
    }

    fn explain_book(&self, now: Timestamp, id: JobId, at: usize) -> Option<String> {
        let book = self.jobs.get(&id)?.budget.as_ref()?;
        let told = book.told();
        if !book.knows_price(self.forecast(now, id, at)) {
            let told = "budget: what its workers cost is not known in the budget's currency, and so it can't be kept; \
                        `framewake prices set any …` sets a price, `framewake resume` lets the job go on";
            return Some(told.to_owned());
        }
        if !book.is_hard() {
            return book.is_used_up(0).then(|| format!("budget: {told}; the job goes on, as it asked"));
        }
        match self.room_of_job(now, id, at) {
            Room::Free | Room::Tasks(_) => None,
            Room::Later => Some(format!("budget: {told}, and what is under way may take the rest")),
            Room::None => Some(format!(
                "budget: {told}, and no frame fits into the rest; `framewake budget` gives the job more, `framewake resume` \
                 lets it go on without"
            )),
        }
    }

    fn chunks_of_project(&self, project: Project) -> Vec<ChunkId> {
        let of = |job: &JobId| self.jobs.get(job).is_some_and(|job| job.project == project);
        self.chunks.values().filter(|chunk| of(&chunk.job)).map(|chunk| chunk.id).collect()
    }

    /// Workers that the budgets of a function's jobs pay for, their starts and their work; `None`: not every job has a budget
    /// that says so.
    pub(super) fn paid_for(&self, now: Timestamp, at: usize, start_s: f64) -> Option<u32> {
        if self.budgeted == 0 || self.jobs.len() > JOBS_LOOKED_AT_MAX || start_s <= 0.0 {
            return None;
        }
        let mut workers = 0.0;
        let of_worker = self.forecast_of_worker(now, at);
        for job in self.jobs.values().filter(|job| job.state != JobState::Paused) {
            for step in &job.steps {
                if step.function != at || !step.may_run() || step.left() == 0 {
                    continue;
                }
                let forecast = step.forecast(of_worker);
                let left_s = job.budget.as_ref()?.left_s(forecast.held)?;
                let work_s = f64::from(step.left()) * forecast.task_s?;
                workers += ((left_s - work_s) / start_s).floor().max(1.0);
            }
        }
        // Clamped to the range of u32.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let workers = workers.min(f64::from(u32::MAX)) as u32;
        (workers > 0).then_some(workers)
    }

    /// Whether nothing more of the step is given out for now, for want of money.
    pub(super) fn is_kept_by_budget(&self, now: Timestamp, id: JobId, at: usize) -> bool {
        let project = self.jobs.get(&id).and_then(|job| self.purses.get(&job.project));
        project.is_some_and(|purse| purse.serving != Serving::Open)
            || matches!(self.room_of_job(now, id, at), Room::Later | Room::None)
    }

    /// Whether a job's budget keeps it from going on.
    pub(super) fn is_held_by_budget(&self, now: Timestamp, id: JobId, at: usize) -> bool {
        self.job_state(id) == Some(JobState::Paused) && self.explain_book(now, id, at).is_some()
    }
}

impl Book {
    /// Says what people were not told yet.
    fn tell(&mut self, standing: Standing, payer: Payer, out: &mut Applied) {
        if standing > self.told {
            self.told = standing;
            let (spent, limit, at_limit) = (self.spent(), self.limit, self.at_limit);
            out.changes.push(Change::BudgetTold { payer, standing, spent, limit, at_limit });
        }
    }

    /// How much of it is gone, in thousandths.
    fn permille(&self) -> i64 {
        let permille = i128::from(self.spent().micros) * 1000 / i128::from(self.limit.micros.max(1));
        i64::try_from(permille).unwrap_or(i64::MAX)
    }
}
