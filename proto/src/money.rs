//! Money: whole millionths of a currency, never a float, and never two currencies in one sum.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Millionths in one unit of a currency.
const MICROS: i64 = 1_000_000;
/// Digits after the point that a millionth can hold.
const DIGITS_MAX: usize = 6;
/// Most units of a currency in one amount: nine thousand times less than what 64 bits hold, so that no sum of a farm's
/// rows overflows 128.
const UNITS_MAX: i64 = 1_000_000_000;
/// Microseconds of an hour.
const HOUR_US: i128 = 3_600_000_000;

/// A currency by its ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// An amount, at least 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    pub micros: i64,
    pub currency: Currency,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("`{0}` is not an amount, as `0.7068` or `5`")]
    Amount(String),
    #[error("`{0}` is negative: what is paid is at least 0")]
    Negative(String),
    #[error("`{0}` has more than {DIGITS_MAX} digits after the point")]
    TooFine(String),
    #[error("`{0}` is more than {UNITS_MAX}")]
    TooMuch(String),
    #[error("`{0}` is not a currency: three capital letters, as `USD`")]
    Currency(String),
    #[error("`{0}` names no currency: write it after the amount, as `5USD`")]
    NoCurrency(String),
}

impl Currency {
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of letters")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Currency, MoneyError> {
        let letters: Result<[u8; 3], _> = text.as_bytes().try_into();
        match letters {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Currency(letters)),
            _ => Err(MoneyError::Currency(shown(text))),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `0.7068` in millionths.
pub fn parse_micros(text: &str) -> Result<i64, MoneyError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(MoneyError::Negative(shown(text)));
    }
    let (units, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(units) || (text.contains('.') && !digits(part)) {
        return Err(MoneyError::Amount(shown(text)));
    }
    let part = part.trim_end_matches('0');
    if part.len() > DIGITS_MAX {
        return Err(MoneyError::TooFine(shown(text)));
    }
    let too_much = || MoneyError::TooMuch(shown(text));
    let units: i64 = units.parse().map_err(|_| too_much())?;
    let micros: i64 = format!("{part:0<DIGITS_MAX$}").parse().expect("six digits");
    if units > UNITS_MAX || (units == UNITS_MAX && micros > 0) {
        return Err(too_much());
    }
    Ok(units * MICROS + micros)
}

fn shown(text: &str) -> String {
    text.chars().take(32).collect()
}

/// `5USD` or `5 USD`.
impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Money, MoneyError> {
        let text = text.trim();
        let at = text.find(|c: char| c.is_alphabetic()).ok_or_else(|| MoneyError::NoCurrency(shown(text)))?;
        let (amount, currency) = text.split_at(at);
        Ok(Money { micros: parse_micros(amount)?, currency: currency.parse()? })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Micros(i128::from(self.micros)), self.currency)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Millionths, written as units: at least two digits after the point, and no more than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micros(pub i128);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let part = format!("{:06}", micros % u128::from(MICROS.unsigned_abs()));
        let part = part.trim_end_matches('0');
        write!(f, "{sign}{}.{part:0<2}", micros / u128::from(MICROS.unsigned_abs()))
    }
}

/// What so many microseconds cost at so much an hour, rounded to the nearest millionth, halves up.
#[must_use]
pub fn cost_micros(micros_an_hour: i64, time_us: u64) -> i128 {
    (i128::from(micros_an_hour) * i128::from(time_us) + HOUR_US / 2) / HOUR_US
}

/// Amounts of any number of currencies, each for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amounts(BTreeMap<Currency, i128>);

impl Amounts {
    pub fn add(&mut self, currency: Currency, micros: i128) {
        *self.0.entry(currency).or_default() += micros;
    }

    pub fn of(&self, currency: Currency) -> i128 {
        self.0.get(&currency).copied().unwrap_or(0)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Currency, i128)> + '_ {
        self.0.iter().map(|(currency, micros)| (*currency, *micros))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits a whole by weights so that the parts add up to it exactly: each gets its share rounded down, and what is left
/// goes, one each, to the largest remainders. Without any weight all weigh the same; without parts there is nothing.
#[must_use]
pub fn split(whole: u128, weights: &[u64]) -> Vec<u128> {
    let even = weights.iter().all(|weight| *weight == 0);
    let weight = |at: usize| if even { 1 } else { u128::from(weights[at]) };
    let sum: u128 = (0..weights.len()).map(weight).sum();
    if sum == 0 {
        return Vec::new();
    }
    // `whole * weight` could overflow for a whole above 2^64; it is taken apart first.
    let (each, rest) = (whole / sum, whole % sum);
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut given = 0;
    for at in 0..weights.len() {
        let part = each * weight(at) + rest * weight(at) / sum;
        given += part;
        parts.push(part);
        remainders.push((rest * weight(at) % sum, std::cmp::Reverse(at)));
    }
    let left = usize::try_from(whole - given).expect("less than one for each part");
    remainders.sort_unstable_by(|a, b| b.cmp(a));
    for (_, std::cmp::Reverse(at)) in remainders.into_iter().take(left) {
        parts[at] += 1;
    }
    parts
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "An amount and its currency, as `5USD` or `0.7068 EUR`; at most six digits after the point",
            ))
            .examples([serde_json::json!("5USD")])
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Money {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<&str, MoneyError>) {
        let parsed = text.parse::<Money>().map(|money| money.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn amounts_are_exact_and_name_their_currency() {
        check("5USD", Ok("5.00 USD"));
        check(" 0.7068 EUR", Ok("0.7068 EUR"));
        check("0.000001USD", Ok("0.000001 USD"));
        check("1.1000000000USD", Ok("1.10 USD"));
        check("1000000000USD", Ok("1000000000.00 USD"));
        check("0.1234567USD", Err(MoneyError::TooFine("0.1234567".to_owned())));
        check("1000000000.01USD", Err(MoneyError::TooMuch("1000000000.01".to_owned())));
        check("99999999999999999999USD", Err(MoneyError::TooMuch("99999999999999999999".to_owned())));
        check("-1USD", Err(MoneyError::Negative("-1".to_owned())));
        check("5", Err(MoneyError::NoCurrency("5".to_owned())));
        check("5usd", Err(MoneyError::Currency("usd".to_owned())));
        check("5DOLLARS", Err(MoneyError::Currency("DOLLARS".to_owned())));
        for bad in ["USD", ".5USD", "5.USD", "1,5USD", "+5USD", "0x1USD", "1e3USD", "NaNUSD", "５USD"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }

    #[test]
    fn time_costs_what_an_hour_of_it_says() {
        assert_eq!(cost_micros(706_800, 3_600_000_000), 706_800);
        assert_eq!(cost_micros(706_800, 80_000_000), 15_707, "80 s of an L4");
        assert_eq!(cost_micros(1, 1), 0);
        assert_eq!(cost_micros(i64::MAX, u64::MAX) / i128::from(i64::MAX), 5_124_095_576);
    }

    #[test]
    fn currencies_stay_apart() {
        let (usd, eur): (Currency, Currency) = ("USD".parse().expect("good"), "EUR".parse().expect("good"));
        let mut sums = Amounts::default();
        sums.add(usd, 5);
        sums.add(eur, 7);
        sums.add(usd, 1);
        assert_eq!((sums.of(usd), sums.of(eur), sums.iter().count()), (6, 7, 2));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_none_is_off_by_one(
            whole in 0u128..u128::from(u64::MAX),
            weights in prop::collection::vec(prop_oneof![Just(0u64), 0u64..100, any::<u32>().prop_map(u64::from)], 1..50),
        ) {
            let parts = split(whole, &weights);
            prop_assert_eq!(parts.len(), weights.len());
            prop_assert_eq!(parts.iter().sum::<u128>(), whole);
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(&weights).filter(|_| sum > 0) {
                let off = (part * sum).abs_diff(whole * u128::from(*weight));
                prop_assert!(off < sum, "a part is more than one off its share");
            }
        }

        #[test]
        fn an_amount_is_read_as_it_is_written(micros in 0i64..=1_000_000_000_000_000) {
            let money = Money { micros, currency: "USD".parse().expect("good") };
            prop_assert_eq!(money.to_string().parse::<Money>(), Ok(money));
        }
    }
}
