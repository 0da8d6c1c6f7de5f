//! What an hour of a worker costs, and which row of the price table says so.

use framewake_proto::ids::Name;
use framewake_proto::money::Currency;
pub use framewake_proto::price::{PaidFor, gpu_model};
use std::collections::{BTreeMap, BTreeSet};

/// Number of a row of the price table; rows are added and never changed, so it stays true of what was paid by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub u32);

/// What is paid from a day on.
type Days = BTreeMap<i64, Held>;

/// The prices that workers of this farm are paid by: the rows of the table that hold for them, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// By function, with those of single pools.
    functions: BTreeMap<Name, OfFunction>,
    pools: BTreeMap<Name, Days>,
    gpus: BTreeMap<String, Days>,
    any: Days,
    storage: Days,
    egress: Days,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct OfFunction {
    anywhere: Days,
    pools: BTreeMap<Name, Days>,
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
        let days = match paid_for {
            PaidFor::FunctionIn { function, pool } => {
                self.functions.entry(function).or_default().pools.entry(pool).or_default()
            }
            PaidFor::Function(name) => &mut self.functions.entry(name).or_default().anywhere,
            PaidFor::Pool(name) => self.pools.entry(name).or_default(),
            PaidFor::Gpu(model) => self.gpus.entry(model).or_default(),
            PaidFor::Any => &mut self.any,
            PaidFor::Storage => &mut self.storage,
            PaidFor::Egress => &mut self.egress,
        };
        days.insert(day, held);
    }

    /// What workers are paid in.
    pub fn currencies(&self) -> BTreeSet<Currency> {
        let of_functions =
            self.functions.values().flat_map(|of| std::iter::once(&of.anywhere).chain(of.pools.values()));
        let all = of_functions.chain(self.pools.values()).chain(self.gpus.values()).chain([&self.any]);
        all.flat_map(|days| days.values().map(|held| held.currency)).collect()
    }

    /// What an hour of such a worker costs on a day. `None`: unknown, which is not 0.
    pub fn of(&self, function: &Name, gpu: &str, pool: Option<&Name>, day: i64) -> Option<Held> {
        let on = |days: &Days| days.range(..=day).next_back().map(|(_, held)| *held);
        let of_function = self.functions.get(function);
        let narrowest = || on(of_function?.pools.get(pool?)?);
        let by_function = || on(&of_function?.anywhere);
        let by_pool = || on(self.pools.get(pool?)?);
        let by_gpu = || on(self.gpus.get(gpu_model(gpu))?);
        narrowest().or_else(by_function).or_else(by_pool).or_else(by_gpu).or_else(|| on(&self.any))
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
            prices.of(&function.parse().expect("good"), gpu, None, day).map(|held| held.price.0)
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

    #[test]
    fn the_same_gpu_costs_what_its_pool_says() {
        let name = |text: &str| -> Name { text.parse().expect("good") };
        let mut prices = Prices::default();
        let of = |prices: &Prices, function: &str, pool: Option<&str>| {
            let pool = pool.map(name);
            prices.of(&name(function), "NVIDIA L4", pool.as_ref(), 10).map(|held| held.price.0)
        };
        prices.set("pool:spot".parse().expect("good"), 0, held(1));
        assert_eq!(of(&prices, "blender", Some("spot")), Some(1));
        assert_eq!(of(&prices, "blender", Some("reserved")), None, "another pool's price says nothing of this one");
        assert_eq!(of(&prices, "blender", None), None);
        prices.set(PaidFor::Gpu("L4".to_owned()), 0, held(2));
        assert_eq!(
            (of(&prices, "blender", Some("spot")), of(&prices, "blender", Some("reserved"))),
            (Some(1), Some(2))
        );
        prices.set("function:blender".parse().expect("good"), 0, held(3));
        assert_eq!((of(&prices, "blender", Some("spot")), of(&prices, "povray", Some("spot"))), (Some(3), Some(1)));
        prices.set("function:blender+pool:spot".parse().expect("good"), 0, held(4));
        assert_eq!((of(&prices, "blender", Some("spot")), of(&prices, "blender", None)), (Some(4), Some(3)));
        assert_eq!(prices.currencies().len(), 1);
    }
}
