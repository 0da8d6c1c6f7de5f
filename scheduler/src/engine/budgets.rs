//! Budgets of jobs and projects: what was paid is counted once, what is durable with what this batch pays.

use super::batch::Batch;
use super::{Engine, Error, Refused};
use framewake_core::change::Change;
use framewake_core::event::Event;
use framewake_core::ledger::Spent;
use framewake_core::price::Held;
use framewake_proto::budget::{BUDGETS_MAX, BudgetView, Period, ProjectBudget, Standing};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::{AtLimit, Budget, Job};
use framewake_proto::money::Currency;
use framewake_proto::time::{Day, Month};
use std::sync::Arc;

impl Engine {
    pub(super) async fn budget_job(
        &mut self,
        id: JobId,
        budget: Option<Budget>,
        batch: &mut Batch,
    ) -> Result<Result<(), Refused>, Error> {
        if self.farm.job_state(id).is_none() {
            return Ok(match self.store.job_state(id).await? {
                None => Err(Refused::NotFound),
                Some(state) => Err(Refused::WrongState { state }),
            });
        }
        let job = match self.jobs.get(id) {
            Some(job) => job.clone(),
            None => self.store.jobs(&[id], &self.functions).await?.pop().expect("it is not over").1,
        };
        // One that came with this very batch has no rows yet: it paid nothing.
        let mut spent = self.store.spent_of_job(id).await?;
        add(&mut spent, batch, |piece| piece.work.as_ref().is_some_and(|work| work.job == id));
        self.jobs.insert(id, Arc::new(Job { budget, ..job.as_ref().clone() }));
        if let Some(submission) = batch.submission_mut(id) {
            submission.spec.budget = budget;
        }
        self.apply(Event::JobBudgeted { id, budget, spent }, batch);
        Ok(Ok(()))
    }

    pub(super) async fn budget_project(
        &mut self,
        project: Name,
        period: Period,
        budget: Option<ProjectBudget>,
        batch: &mut Batch,
    ) -> Result<Result<(), Refused>, Error> {
        let known = self.farm.budgets().any(|known| *known.project == project && known.period == period);
        let Some(new) = budget else {
            if !known {
                return Ok(Err(Refused::NoBudget(project, period)));
            }
            self.apply(Event::ProjectBudgeted { project, period, budget, spent: Vec::new() }, batch);
            return Ok(Ok(()));
        };
        if !known && self.farm.budgets().count() >= BUDGETS_MAX {
            return Ok(Err(Refused::TooManyBudgets));
        }
        let currencies = self.farm.currencies();
        if !currencies.is_empty() && !currencies.contains(&new.limit.currency) {
            let named: Vec<String> = currencies.iter().map(Currency::to_string).collect();
            return Ok(Err(Refused::OtherCurrency(new.limit.currency, named.join(", "))));
        }
        let mut spent = self.store.spent_of_project(&project, period, batch.now).await?;
        let this_month = Month::of(Day::of(batch.now));
        add(&mut spent, batch, |piece| {
            let is_now = period == Period::Total || Month::of(Day(piece.day())) == this_month;
            is_now && piece.work.as_ref().is_some_and(|work| work.project == project)
        });
        self.apply(Event::ProjectBudgeted { project, period, budget, spent }, batch);
        Ok(Ok(()))
    }

    pub(super) fn budget_views(&self) -> Vec<BudgetView> {
        let currencies = self.farm.currencies();
        self.farm.budgets().map(|status| {
            let month = (status.period == Period::Month).then(|| status.month.to_string());
            let mut warnings = Vec::new();
            if !currencies.contains(&status.budget.limit.currency) {
                warnings.push(format!(
                    "no price is known in {}: until one is, jobs of the project are paused as they come; `framewake prices set any …`",
                    status.budget.limit.currency
                ));
            }
            if status.standing == Standing::UsedUp {
                warnings.push(match status.budget.at_limit {
                    AtLimit::Warn => "it is used up; the work of the project goes on, as it asks".to_owned(),
                    AtLimit::Hold | AtLimit::Finish => "it is used up: nothing of the project is given out".to_owned(),
                });
            }
            BudgetView {
                project: status.project.clone(),
                period: status.period,
                month,
                budget: status.budget,
                spent: status.spent,
                standing: status.standing,
                held: status.held,
                warnings,
            }
        })
        .collect()
    }
}

/// What this batch paid already and the store does not know yet.
fn add(spent: &mut Vec<(Held, u64)>, batch: &Batch, is_of: impl Fn(&Spent) -> bool) {
    for change in &batch.applied.changes {
        if let Change::Paid { spent: pieces, .. } = change {
            let of = pieces.iter().filter(|piece| is_of(piece));
            spent.extend(of.filter_map(|piece| Some((piece.price?, piece.time_us()))));
        }
    }
}
