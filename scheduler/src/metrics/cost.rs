//! What workers are paid for, and what that costs. By cause, function and model, never by job.

use super::gpu::MODELS_MAX;
use super::make::Maker;
use super::names::Names;
use framewake_core::ledger::{Account, Spent};
use framewake_core::price::gpu_model;
use prometheus::CounterVec;
use std::sync::Arc;

#[derive(Debug)]
pub struct Cost {
    functions: Arc<Names>,
    models: Names,
    paid_seconds: CounterVec,
    micros: CounterVec,
}

impl Cost {
    pub(super) fn new(make: &Maker, functions: Arc<Names>) -> Cost {
        Cost {
            functions,
            models: Names::new(MODELS_MAX),
            paid_seconds: make.sums(
                "framewake_paid_seconds_total",
                "Time of workers that is paid for, by what it went to.",
                &["cause", "function", "gpu"],
            ),
            micros: make.sums(
                "framewake_cost_micros_total",
                "What paid time costs, in millionths of a currency; without time whose price is unknown.",
                &["cause", "function", "gpu", "currency"],
            ),
        }
    }

    pub(crate) fn spent(&self, account: &Account, spent: &[Spent]) {
        let (function, gpu) = (self.functions.label(account.function.name.as_str()), gpu_model(&account.gpu));
        let gpu = self.models.label(gpu);
        for piece in spent {
            let (cause, seconds) = (piece.cause.as_str(), piece.time_us() as f64 / 1e6);
            self.paid_seconds.with_label_values(&[cause, &function, &gpu]).inc_by(seconds);
            if let Some(held) = piece.price {
                let labels = [cause, &function, &gpu, held.currency.as_str()];
                let micros = held.micros_an_hour as f64 * seconds / 3600.0;
                self.micros.with_label_values(&labels).inc_by(micros);
            }
        }
    }
}
