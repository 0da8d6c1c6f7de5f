//! Prices as people write them: rows of the price table, what they are for, and the tables of others that are read
//! into ours.

mod import;

pub use import::{Defaults, Import, ImportError, read};

use crate::ids::Name;
use crate::money::{Currency, Money};
use crate::time::Day;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Longest word of a price: a provider, a machine, a GPU, a region.
pub const WORD_MAX: usize = 128;
/// Longest note of where a figure is from.
pub const SOURCE_MAX: usize = 300;
/// Most rows of one request; a whole table comes in several.
pub const ROWS_MAX: usize = 500;

/// Whether the provider may take the machine away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
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
            _ => Err(format!("`{}` is not a market: on-demand or spot", shown(text))),
        }
    }
}

/// One row of the price table: an hour of one machine. Rows are added and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    /// Its number, given by the farm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// `aws`, `gcp`, …; `own` for a price that somebody set.
    pub provider: String,
    #[serde(default)]
    pub instance_type: String,
    /// Without its maker: `L4`. Empty for a machine without one, or where the table does not say.
    #[serde(default)]
    pub gpu: String,
    /// GPUs of the machine.
    #[serde(default)]
    pub gpu_count: u32,
    pub market: Market,
    #[serde(default)]
    pub region: String,
    pub an_hour: Money,
    /// It holds from this day on, until a newer row.
    pub as_of: Day,
    /// Where the figure is from.
    #[serde(default)]
    pub source: String,
}

impl PriceRow {
    /// What is wrong with its words, if anything.
    pub fn fault(&self) -> Option<String> {
        let words = [&self.provider, &self.instance_type, &self.gpu, &self.region];
        if self.provider.is_empty() {
            return Some("`provider` is empty".to_owned());
        }
        if words.iter().any(|word| word.len() > WORD_MAX || word.chars().any(char::is_control)) {
            return Some(format!("a word is longer than {WORD_MAX} bytes or has control characters"));
        }
        if self.source.len() > SOURCE_MAX || self.source.chars().any(char::is_control) {
            return Some(format!("`source` is longer than {SOURCE_MAX} bytes or has control characters"));
        }
        None
    }

    /// An hour of one GPU of the machine, or of the machine if it has none; rounded up.
    pub fn micros_a_worker(&self) -> i64 {
        self.an_hour.micros.unsigned_abs().div_ceil(u64::from(self.gpu_count.max(1))).cast_signed()
    }
}

/// Rows for the price table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PricesAdd {
    #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 500))]
    pub rows: Vec<PriceRow>,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PricesAdded {
    pub added: u32,
    /// There already.
    pub known: u32,
}

/// Which row is paid by, from a day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PaidByChange {
    /// A row of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<u32>,
    /// A price of one's own: an hour of a worker; for `storage` a GB for a month, for `egress` a GB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Money>,
    /// Today, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Day>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaidByView {
    /// `any`, `gpu:L4`, `pool:NAME`, `function:NAME`, `function:NAME+pool:NAME`, `storage` or `egress`.
    pub paid_for: String,
    pub since: Day,
    pub price: PriceRow,
}

/// What a price is for; of those for workers the narrowest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PaidFor {
    /// Workers of a function in one pool.
    FunctionIn {
        function: Name,
        pool: Name,
    },
    Function(Name),
    /// Workers that are started there.
    Pool(Name),
    /// Workers that say they have this model.
    Gpu(String),
    /// All other workers.
    Any,
    /// A GB (10⁹ bytes) of outputs for a month.
    Storage,
    /// A GB that leaves the store.
    Egress,
}

/// `any`, `gpu:L4`, `pool:NAME`, `function:NAME`, `function:NAME+pool:NAME`, `storage` or `egress`.
impl FromStr for PaidFor {
    type Err = String;

    fn from_str(text: &str) -> Result<PaidFor, String> {
        match (text, text.split_once(':')) {
            ("any", _) => Ok(PaidFor::Any),
            ("storage", _) => Ok(PaidFor::Storage),
            ("egress", _) => Ok(PaidFor::Egress),
            (_, Some(("gpu", model))) if !gpu_model(model).is_empty() && model.len() <= WORD_MAX => {
                Ok(PaidFor::Gpu(gpu_model(model).to_owned()))
            }
            (_, Some(("pool", name))) => Ok(PaidFor::Pool(part(name)?)),
            (_, Some(("function", name))) => match name.split_once("+pool:") {
                Some((name, pool)) => Ok(PaidFor::FunctionIn { function: part(name)?, pool: part(pool)? }),
                None => Ok(PaidFor::Function(part(name)?)),
            },
            _ => Err(format!(
                "`{}` is not `any`, `gpu:MODEL`, `pool:NAME`, `function:NAME`, `function:NAME+pool:NAME`, `storage` or `egress`",
                shown(text)
            )),
        }
    }
}

impl fmt::Display for PaidFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PaidFor::FunctionIn { function, pool } => write!(f, "function:{function}+pool:{pool}"),
            PaidFor::Function(name) => write!(f, "function:{name}"),
            PaidFor::Pool(name) => write!(f, "pool:{name}"),
            PaidFor::Gpu(model) => write!(f, "gpu:{model}"),
            PaidFor::Any => f.write_str("any"),
            PaidFor::Storage => f.write_str("storage"),
            PaidFor::Egress => f.write_str("egress"),
        }
    }
}

/// `NVIDIA L40S` and `L40S` are one model.
pub fn gpu_model(name: &str) -> &str {
    let name = name.trim();
    let makers = ["NVIDIA GeForce ", "NVIDIA ", "Tesla ", "AMD "];
    makers.iter().find_map(|maker| name.strip_prefix(maker)).unwrap_or(name).trim()
}

fn part(name: &str) -> Result<Name, String> {
    name.parse().map_err(|error| format!("{error}"))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_price_is_for_is_read_as_it_is_written() {
        let all =
            ["any", "gpu:L40S", "gpu:RTX PRO 6000", "function:blender", "function:blender+pool:spot", "pool:spot"];
        for text in all.into_iter().chain(["storage", "egress"]) {
            assert_eq!(text.parse::<PaidFor>().map(|paid_for| paid_for.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("gpu:NVIDIA L4".parse(), Ok(PaidFor::Gpu("L4".to_owned())));
        let pools = [
            "pool:",
            "pool:A",
            "function:+pool:a",
            "function:a+pool:",
            "function:a+pool:b+pool:c",
            "pool:a+function:b",
        ];
        for bad in ["", "L4", "gpu:", "gpu: ", "function:", "function:A B"].into_iter().chain(pools) {
            assert!(bad.parse::<PaidFor>().is_err(), "{bad}");
        }
    }
}
