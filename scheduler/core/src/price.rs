//! What an hour of a worker costs, and which row of the price table says so.

use framewake_proto::ids::Name;
use framewake_proto::money::Currency;
pub use framewake_proto::price::{PaidFor, gpu_model};
use std::collections::{BTreeMap, BTreeSet};

/// Number of a row of the price table; rows are added and never changed, so it stays true of what was paid by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub u32);

/// The prices that workers of this farm are paid by: the rows of the table that hold for them, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// By what it is for, then by the day since when it holds.
    rows: BTreeMap<PaidFor, BTreeMap<i64, Held>>,
}

/// A row of the table as the ledger needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub price: PriceId,
    pub micros_an_hour: i64,
    pub currency: Currency,
}

impl Prices {
    /// From this day on these workers are paid so.
    pub fn set(&mut self, paid_for: PaidFor, day: i64, held: Held) {
        self.rows.entry(paid_for).or_default().insert(day, held);
    }

    /// What workers are paid in.
    pub fn currencies(&self) -> BTreeSet<Currency> {
        let of_workers =
            self.rows.iter().filter(|(paid_for, _)| !matches!(paid_for, PaidFor::Storage | PaidFor::Egress));
        of_workers.flat_map(|(_, rows)| rows.values().map(|held| held.currency)).collect()
    }

    /// What a GB of outputs costs for a month, or to fetch.
    pub fn of_outputs(&self, paid_for: &PaidFor, day: i64) -> Option<Held> {
        self.rows.get(paid_for)?.range(..=day).next_back().map(|(_, held)| *held)
    }

    /// What an hour of such a worker costs on a day. `None`: unknown, which is not 0.
    pub fn of(&self, function: &Name, gpu: &str, day: i64) -> Option<Held> {
        if self.rows.is_empty() {
            return None;
        }
        let on = |paid_for: &PaidFor| self.rows.get(paid_for)?.range(..=day).next_back().map(|(_, held)| *held);
        let by_gpu = || on(&PaidFor::Gpu(gpu_model(gpu).to_owned())).filter(|_| !gpu.is_empty());
        on(&PaidFor::Function(function.clone())).or_else(by_gpu).or_else(|| on(&PaidFor::Any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(price: u32) -> Held {
        Held { price: PriceId(price), micros_an_hour: 1, currency: "USD".parse().expect("good") }
    }

    #[test]
    fn the_narrowest_price_that_holds_on_the_day_is_taken() {
        let mut prices = Prices::default();
        prices.set(PaidFor::Gpu("L4".to_owned()), 100, held(1));
        prices.set(PaidFor::Gpu("L4".to_owned()), 200, held(2));
        prices.set(PaidFor::Function("blender".parse().expect("good")), 150, held(3));
        let paid = |prices: &Prices, function: &str, gpu: &str, day: i64| {
            prices.of(&function.parse().expect("good"), gpu, day).map(|held| held.price.0)
        };
        let of = |function, gpu, day| paid(&prices, function, gpu, day);
        assert_eq!(of("povray", "NVIDIA L4", 99), None, "not known yet");
        assert_eq!(of("povray", "NVIDIA L4", 100), Some(1));
        assert_eq!(of("povray", "L4", 1000), Some(2));
        assert_eq!(of("blender", "L4", 149), Some(1));
        assert_eq!(of("blender", "L4", 150), Some(3));
        assert_eq!(of("povray", "NVIDIA L40S", 1000), None, "an unknown GPU has an unknown price, not 0");
        assert_eq!(of("povray", "", 1000), None);
        prices.set(PaidFor::Any, 0, held(9));
        assert_eq!(paid(&prices, "povray", "NVIDIA L40S", 1000), Some(9));
    }
}
