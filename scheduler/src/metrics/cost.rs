//! What workers are paid for, and what that costs. By cause, function, model and pool, never by job.

use super::gpu::MODELS_MAX;
use super::make::Maker;
use super::names::Names;
use framewake_core::ledger::{Account, Spent};
use framewake_core::price::gpu_model;
use framewake_proto::budget::BudgetView;
use framewake_proto::ids::Name;
use framewake_proto::pool::POOLS_MAX;
use prometheus::{CounterVec, IntGaugeVec};
use std::sync::Arc;

#[derive(Debug)]
pub struct Cost {
    functions: Arc<Names>,
    models: Names,
    pools: Names,
    paid_seconds: CounterVec,
    micros: CounterVec,
    budget_limit: IntGaugeVec,
    budget_spent: IntGaugeVec,
    budget_held: IntGaugeVec,
}

impl Cost {
    pub(super) fn new(make: &Maker, functions: Arc<Names>) -> Cost {
        Cost {
            functions,
            models: Names::new(MODELS_MAX),
            pools: Names::new(POOLS_MAX),
            paid_seconds: make.sums(
                "framewake_paid_seconds_total",
                "Time of workers that is paid for, by what it went to.",
                &["cause", "function", "gpu", "pool"],
            ),
            micros: make.sums(
                "framewake_cost_micros_total",
                "What paid time costs, in millionths of a currency; without time whose price is unknown.",
                &["cause", "function", "gpu", "pool", "currency"],
            ),
            budget_limit: make.gauges(
                "framewake_budget_limit_micros",
                "What a project may cost in this month or in all, in millionths of the currency.",
                &["project", "period", "currency"],
            ),
            budget_spent: make.gauges(
                "framewake_budget_spent_micros",
                "What of it is gone; for a month it begins at 0 with it, in UTC.",
                &["project", "period", "currency"],
            ),
            budget_held: make.gauges(
                "framewake_budget_held",
                "1 while nothing of the project is given out because its budget is used up.",
                &["project", "period"],
            ),
        }
    }

    /// Those there are now, which is at most `BUDGETS_MAX`; the series of others go.
    pub(crate) fn set_budgets(&self, budgets: &[BudgetView]) {
        for gauges in [&self.budget_limit, &self.budget_spent, &self.budget_held] {
            gauges.reset();
        }
        for view in budgets {
            let (project, period) = (view.project.as_str(), view.period.as_str());
            let labels = [project, period, view.spent.currency.as_str()];
            self.budget_limit.with_label_values(&labels).set(view.budget.limit.micros);
            self.budget_spent.with_label_values(&labels).set(view.spent.micros);
            self.budget_held.with_label_values(&[project, period]).set(i64::from(view.held));
        }
    }

    pub(crate) fn spent(&self, account: &Account, spent: &[Spent]) {
        let (function, gpu) = (self.functions.label(account.function.name.as_str()), gpu_model(&account.gpu));
        let gpu = self.models.label(gpu);
        let pool = self.pools.label(account.pool.as_ref().map_or("", Name::as_str));
        for piece in spent {
            let (cause, seconds) = (piece.cause.as_str(), piece.time_us() as f64 / 1e6);
            self.paid_seconds.with_label_values(&[cause, &function, &gpu, &pool]).inc_by(seconds);
            if let Some(held) = piece.price {
                let labels = [cause, &function, &gpu, &pool, held.currency.as_str()];
                let micros = held.micros_an_hour as f64 * seconds / 3600.0;
                self.micros.with_label_values(&labels).inc_by(micros);
            }
        }
    }
}
