//! Each invariant can be seen to break: a fault is planted between the rules and the world, and the auditor
//! sees it and calls it by its name.

use framewake_simulate::Setting;
use framewake_simulate::invariant::Invariant;
use framewake_simulate::plant::Plant;
use framewake_simulate::run::{play, shorten};
use std::collections::BTreeSet;

/// Seeds within which every planted fault is seen.
const SEEDS: u64 = 100;

/// The first seed in which something breaks, and what.
fn first(plant: Plant) -> (Setting, Invariant, String) {
    let broken = (0..SEEDS).find_map(|seed| {
        let mut setting = Setting::new(seed);
        // With another job there would be something to do, or it would lack the workers that wait in vain for the first one's orders.
        if matches!(plant, Plant::StartsForNothing | Plant::RetryNeverPublished) {
            setting.jobs_max = 1;
        }
        play(setting, Some(plant)).err().map(|broken| (setting, broken.invariant, broken.text))
    });
    broken.unwrap_or_else(|| (Setting::new(0), Invariant::WorkEnds, "not seen at all".to_owned()))
}

#[test]
fn every_planted_fault_is_seen_and_called_by_its_name() {
    let misnamed = Plant::ALL.into_iter().filter_map(|plant| {
        let (setting, invariant, text) = first(plant);
        (invariant != plant.breaks()).then(|| format!("{plant:?}, seed {}: {invariant:?}: {text}", setting.seed))
    });
    let misnamed: Vec<String> = misnamed.collect();
    assert!(misnamed.is_empty(), "{misnamed:#?}");
}

#[test]
fn every_invariant_has_a_planted_fault() {
    let planted: BTreeSet<Invariant> = Plant::ALL.into_iter().map(Plant::breaks).collect();
    assert_eq!(planted, Invariant::ALL.into_iter().collect());
}

#[test]
fn a_failing_seed_is_shortened_and_says_how_to_play_it_again() {
    let plant = Plant::StaleReportCounts;
    let (setting, invariant, _) = first(plant);
    let failure = shorten(setting, Some(plant), invariant);
    assert_eq!(failure.broken.invariant, invariant);
    assert!(failure.setting.faults.iter().count() < setting.faults.iter().count(), "{failure}");
    let text = failure.to_string();
    assert!(text.contains(&format!("--seed {} --faults ", setting.seed)), "{text}");
    assert!(text.contains(invariant.sentence()), "{text}");
    let again = play(failure.setting, Some(plant)).expect_err("the shortened setting breaks too");
    assert_eq!(again.text, failure.broken.text, "a seed always plays the same way");
}
