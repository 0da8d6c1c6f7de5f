//! What an hour of a worker costs, and which row of the price table says so.

use framewake_proto::ids::Name;
use framewake_proto::money::Currency;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest name of a GPU's model.
const GPU_MAX: usize = 128;

/// Number of a row of the price table; rows are added and never changed, so it stays true of what was paid by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceId(pub u32);

/// Whether the provider may take the machine away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Market {
    OnDemand,
    Spot,
}

impl Market {
    pub fn as_str(self) -> &'static str {
        match self {
            Market::OnDemand => "on-demand",
            Market::Spot => "spot",
        }
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Market {
    type Err = String;

    fn from_str(text: &str) -> Result<Market, String> {
        match text {
            "on-demand" => Ok(Market::OnDemand),
            "spot" => Ok(Market::Spot),
            _ => Err(format!("`{text}` is not a market: on-demand or spot")),
        }
    }
}

/// One row of the price table: an hour of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// `aws`, `gcp`, or `own` for a price that somebody set.
    pub provider: String,
    pub instance_type: String,
    /// As its maker calls it, without the maker: `L4`. Empty for a machine without one.
    pub gpu: String,
    pub gpu_count: u32,
    pub market: Market,
    /// Empty where it does not matter.
    pub region: String,
    pub micros_an_hour: i64,
    pub currency: Currency,
    /// Days since 1970; it holds from then on, until a newer row.
    pub as_of: i64,
    /// Where the figure is from.
    pub source: String,
}

/// The prices that workers of this farm are paid by: the rows of the table that hold for them, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// By what it is for, then by the day since when it holds.
    rows: BTreeMap<PaidFor, BTreeMap<i64, Held>>,
}

/// Whose hours a price is for, the narrowest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaidFor {
    Function(Name),
    /// Workers that say they have this model.
    Gpu(String),
    /// All others.
    Any,
}

/// `any`, `gpu:L4` or `function:NAME`.
impl FromStr for PaidFor {
    type Err = String;

    fn from_str(text: &str) -> Result<PaidFor, String> {
        match text.split_once(':') {
            None if text == "any" => Ok(PaidFor::Any),
            Some(("gpu", model)) if !gpu_model(model).is_empty() && model.len() <= GPU_MAX => {
                Ok(PaidFor::Gpu(gpu_model(model).to_owned()))
            }
            Some(("function", name)) => name.parse().map(PaidFor::Function).map_err(|error| format!("{error}")),
            _ => Err(format!("`{}` is not `any`, `gpu:MODEL` or `function:NAME`", shown(text))),
        }
    }
}

impl fmt::Display for PaidFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PaidFor::Function(name) => write!(f, "function:{name}"),
            PaidFor::Gpu(model) => write!(f, "gpu:{model}"),
            PaidFor::Any => f.write_str("any"),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
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

/// `NVIDIA L40S` and `L40S` are one model.
pub fn gpu_model(name: &str) -> &str {
    let name = name.trim();
    ["NVIDIA GeForce ", "NVIDIA ", "Tesla ", "AMD "]
        .iter()
        .find_map(|maker| name.strip_prefix(maker))
        .unwrap_or(name)
        .trim()
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

    #[test]
    fn what_a_price_is_for_is_read_as_it_is_written() {
        for text in ["any", "gpu:L40S", "gpu:RTX PRO 6000", "function:blender"] {
            assert_eq!(text.parse::<PaidFor>().map(|paid_for| paid_for.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("gpu:NVIDIA L4".parse(), Ok(PaidFor::Gpu("L4".to_owned())));
        for bad in ["", "L4", "gpu:", "gpu: ", "function:", "function:A B", "pool:a"] {
            assert!(bad.parse::<PaidFor>().is_err(), "{bad}");
        }
    }
}
