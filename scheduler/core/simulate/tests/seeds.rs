//! The invariants of the farm in many small worlds. `make simulate` plays new ones.

use framewake_simulate::Setting;
use framewake_simulate::run::{Tally, play, shorten};

/// A fixed set of seeds: the same in every run. More are played by `make simulate`.
const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn no_world_loses_or_repeats_a_task() {
    let mut total = Tally::default();
    for seed in SEEDS {
        let setting = Setting::new(seed);
        match play(setting, None) {
            Ok(tally) => total.add(&tally),
            Err(broken) => panic!("{}", shorten(setting, None, broken.invariant)),
        }
    }
    // A world in which nothing happens would prove nothing.
    assert!(total.crashes > 100 && total.kills > 1000 && total.found > 100 && total.done > 10_000, "{total:?}");
}
