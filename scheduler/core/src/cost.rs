//! What paid time costs: amounts made of times and prices, each currency for itself, rounded once and then split so
//! that the parts of a whole add up to it exactly.

use framewake_proto::cost::Paid;
use framewake_proto::money::{Currency, Money, split};
use std::collections::{BTreeMap, BTreeSet};

/// Microseconds of an hour.
const HOUR_US: u128 = 3_600_000_000;
/// What the parts of a whole weigh is cut by this: two hundred years of the dearest price still fit.
const WEIGHT_CUT: u128 = 3600;

/// Time that was paid by one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub time_us: u64,
    /// Millionths an hour; `None`: unknown, which is not 0.
    pub an_hour: Option<(i64, Currency)>,
}

/// What all pieces cost together, and what the pieces of each part do.
pub fn whole_and_parts(parts: &[Vec<Piece>]) -> (Paid, Vec<Paid>) {
    let mut paid: Vec<Paid> = parts.iter().map(|pieces| times(pieces)).collect();
    let mut whole = Paid {
        time_us: paid.iter().map(|part| part.time_us).sum(),
        unknown_us: paid.iter().map(|part| part.unknown_us).sum(),
        cost: Vec::new(),
    };
    for currency in currencies(parts) {
        let exact: Vec<u128> = parts.iter().map(|pieces| micro_us(pieces, currency)).collect();
        let sum = (exact.iter().sum::<u128>() + HOUR_US / 2) / HOUR_US;
        let weights: Vec<u64> =
            exact.iter().map(|exact| u64::try_from(exact / WEIGHT_CUT).unwrap_or(u64::MAX)).collect();
        whole.cost.push(money(sum, currency));
        for (part, micros) in paid.iter_mut().zip(split(sum, &weights)).filter(|(_, micros)| *micros > 0) {
            part.cost.push(money(micros, currency));
        }
    }
    (whole, paid)
}

/// Splits amounts over frames by what rendering each took, so that they add up to it exactly.
pub fn of_frames(cost: &[Money], elapsed_ms: &[u64]) -> Vec<Vec<Money>> {
    let mut frames = vec![Vec::new(); elapsed_ms.len()];
    for amount in cost {
        let parts = split(u128::from(amount.micros.unsigned_abs()), elapsed_ms);
        for (frame, micros) in frames.iter_mut().zip(parts) {
            frame.push(money(micros, amount.currency));
        }
    }
    frames
}

/// The same for some of many frames: each within a millionth of what [`of_frames`] gives it.
pub fn of_some_frames(cost: &[Money], elapsed_ms: &[u64], all_ms: u64) -> Vec<Vec<Money>> {
    let share = |amount: &Money, ms: u64| {
        let part = u128::from(amount.micros.unsigned_abs()) * u128::from(ms) / u128::from(all_ms.max(1));
        money(part, amount.currency)
    };
    elapsed_ms.iter().map(|ms| cost.iter().map(|amount| share(amount, *ms)).collect()).collect()
}

fn times(pieces: &[Piece]) -> Paid {
    let unknown = pieces.iter().filter(|piece| piece.an_hour.is_none()).map(|piece| piece.time_us).sum();
    Paid { time_us: pieces.iter().map(|piece| piece.time_us).sum(), unknown_us: unknown, cost: Vec::new() }
}

fn currencies(parts: &[Vec<Piece>]) -> BTreeSet<Currency> {
    parts.iter().flatten().filter_map(|piece| piece.an_hour.map(|(_, currency)| currency)).collect()
}

fn micro_us(pieces: &[Piece], currency: Currency) -> u128 {
    let of = pieces.iter().filter_map(|piece| {
        let (micros, of) = piece.an_hour?;
        (of == currency).then(|| u128::from(micros.unsigned_abs()) * u128::from(piece.time_us))
    });
    of.sum()
}

fn money(micros: u128, currency: Currency) -> Money {
    Money { micros: i64::try_from(micros).unwrap_or(i64::MAX), currency }
}

/// Useful of paid time, in thousandths.
pub fn efficiency_permille(useful_us: u64, time_us: u64) -> u32 {
    let permille = u128::from(useful_us) * 1000 / u128::from(time_us.max(1));
    u32::try_from(permille).unwrap_or(1000).min(1000)
}

/// Adds up pieces that share a key.
#[derive(Debug, Clone)]
pub struct Groups<K>(BTreeMap<K, Vec<Piece>>);

impl<K: Ord> Default for Groups<K> {
    fn default() -> Groups<K> {
        Groups(BTreeMap::new())
    }
}

impl<K: Ord> Groups<K> {
    pub fn add(&mut self, key: K, piece: Piece) {
        let pieces = self.0.entry(key).or_default();
        match pieces.iter_mut().find(|other| other.an_hour == piece.an_hour) {
            Some(other) => other.time_us += piece.time_us,
            None => pieces.push(piece),
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn paid(self) -> (Paid, Vec<(K, Paid)>) {
        let (keys, parts): (Vec<K>, Vec<Vec<Piece>>) = self.0.into_iter().unzip();
        let (whole, parts) = whole_and_parts(&parts);
        (whole, keys.into_iter().zip(parts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(text: &str) -> Currency {
        text.parse().expect("good")
    }

    #[test]
    fn an_unknown_price_is_told_as_time_and_never_as_nothing_to_pay() {
        let known = Piece { time_us: 3_600_000_000, an_hour: Some((706_800, currency("USD"))) };
        let unknown = Piece { time_us: 7, an_hour: None };
        let other = Piece { time_us: 1_800_000_000, an_hour: Some((1_000_000, currency("EUR"))) };
        let (whole, parts) = whole_and_parts(&[vec![known, unknown], vec![other]]);
        let told = |paid: &Paid| paid.cost.iter().map(Money::to_string).collect::<Vec<_>>().join(", ");
        assert_eq!((told(&whole), whole.unknown_us), ("0.50 EUR, 0.7068 USD".to_owned(), 7));
        assert_eq!((told(&parts[0]), told(&parts[1])), ("0.7068 USD".to_owned(), "0.50 EUR".to_owned()));
    }

    proptest! {
        #[test]
        fn parts_and_frames_add_up_to_the_job(
            parts in prop::collection::vec(
                prop::collection::vec((0..1u64 << 50, prop::option::of((0..100_000_000i64, 0..2usize))), 0..5), 1..8),
            elapsed_ms in prop::collection::vec(0..10_000_000u64, 1..40),
        ) {
            let currencies = [currency("USD"), currency("EUR")];
            let parts: Vec<Vec<Piece>> = parts.into_iter().map(|pieces| {
                let piece = |(time_us, price): (u64, Option<(i64, usize)>)| {
                    Piece { time_us, an_hour: price.map(|(micros, at)| (micros, currencies[at])) }
                };
                pieces.into_iter().map(piece).collect()
            }).collect();
            let (whole, costs) = whole_and_parts(&parts);
            for amount in &whole.cost {
                let of = |paid: &[Money]| paid.iter().filter(|part| part.currency == amount.currency).map(|part| part.micros).sum::<i64>();
                prop_assert_eq!(costs.iter().map(|part| of(&part.cost)).sum::<i64>(), amount.micros);
                let frames: i64 = costs.iter().flat_map(|part| of_frames(&part.cost, &elapsed_ms)).map(|frame| of(&frame)).sum();
                prop_assert_eq!(frames, amount.micros, "a job's cost is the sum of its frames");
            }
            prop_assert_eq!(costs.iter().map(|part| part.time_us).sum::<u64>(), whole.time_us);
            prop_assert_eq!(costs.iter().map(|part| part.unknown_us).sum::<u64>(), whole.unknown_us);
        }
    }
}
