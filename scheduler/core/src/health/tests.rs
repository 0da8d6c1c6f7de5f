//! The rule of set-aside places, case by case.

use super::*;
use proptest::prelude::*;

const RENDER: usize = 0;
const ENCODE: usize = 1;
const ASIDE: Duration = Duration::from_mins(10);

fn place(name: &str) -> Place {
    Place::new(name)
}

fn scene(job: u128) -> Scene {
    (JobId(job.into()), 0)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// Places `a` to `d`, of which all but `a` have just worked.
fn farm() -> Health {
    let mut health = Health::new(ASIDE, Vec::new());
    for name in ["a", "b", "c", "d"] {
        health.seen(at(0), &place(name));
    }
    health
}

fn works(health: &mut Health, seconds: i64, name: &str, job: u128) {
    health.done(at(seconds), &place(name), RENDER, scene(job));
}

fn fails(health: &mut Health, seconds: i64, name: &str, job: u128) {
    health.failed(at(seconds), &place(name), RENDER, scene(job), Fault::Task(Verdict::Hung));
}

fn judged(health: &Health, seconds: i64, name: &str) -> Judgment {
    health.judge(at(seconds), &place(name), Vec::new)
}

#[track_caller]
fn check_broken(health: &Health, seconds: i64, name: &str) {
    let judgment = judged(health, seconds, name);
    assert!(matches!(judgment, Judgment::Broken { .. }), "{judgment:?}");
}

#[track_caller]
fn check_suspect(health: &Health, seconds: i64, name: &str, why: &str) {
    let judgment = judged(health, seconds, name);
    assert!(matches!(&judgment, Judgment::Suspect { kept, .. } if kept.contains(why)), "{judgment:?}");
}

#[track_caller]
fn check_well(health: &Health, seconds: i64, name: &str) {
    assert_eq!(judged(health, seconds, name), Judgment::Well);
}

#[test]
fn a_place_that_fails_three_jobs_while_another_works_is_broken() {
    let mut health = farm();
    for job in 1..=2 {
        fails(&mut health, 10, "a", job);
        works(&mut health, 11, "b", job);
        check_well(&health, 12, "a");
    }
    fails(&mut health, 12, "a", 3);
    check_broken(&health, 13, "a");
}

#[test]
fn one_job_that_fails_again_and_again_says_nothing_of_the_place() {
    let mut health = farm();
    for second in 10..100 {
        fails(&mut health, second, "a", 1);
        works(&mut health, second, "b", 2);
    }
    check_well(&health, 100, "a");
}

#[test]
fn five_tasks_of_one_job_that_others_did_tell_of_the_place() {
    let mut health = farm();
    for task in 0..5 {
        check_well(&health, 10, "a");
        fails(&mut health, 10, "a", 1);
        works(&mut health, 11, "b", 1);
        health.done_elsewhere(&place("a"), scene(1), task);
    }
    check_broken(&health, 12, "a");
}

#[test]
fn a_task_that_is_done_there_clears_the_place() {
    let mut health = farm();
    for job in 1..=3 {
        fails(&mut health, 10, "a", job);
        works(&mut health, 11, "b", job);
    }
    check_broken(&health, 12, "a");
    // Of another function: that says nothing of a GPU.
    health.done(at(13), &place("a"), ENCODE, scene(9));
    check_broken(&health, 14, "a");
    works(&mut health, 15, "a", 9);
    check_well(&health, 16, "a");
}

#[test]
fn failures_of_yesterday_are_forgotten() {
    let mut health = farm();
    fails(&mut health, 0, "a", 1);
    fails(&mut health, 1, "a", 2);
    let today = 2 + i64::try_from(MEMORY.as_secs()).expect("small");
    works(&mut health, today, "b", 4);
    fails(&mut health, today, "a", 3);
    check_well(&health, today, "a");
}

#[test]
fn while_nobody_works_it_is_not_the_place() {
    let mut health = farm();
    works(&mut health, 5, "b", 9);
    for job in 1..=3 {
        fails(&mut health, 10, "a", job);
    }
    check_suspect(&health, 11, "a", "no other place");
    works(&mut health, 12, "b", 9);
    check_broken(&health, 13, "a");
}

#[test]
fn bad_scenes_are_not_held_against_a_place() {
    let mut health = farm();
    for job in 1..=5 {
        fails(&mut health, 10, "a", job);
        fails(&mut health, 10, "b", job);
    }
    works(&mut health, 11, "c", 9);
    check_well(&health, 12, "a");
    check_well(&health, 12, "b");
}

#[test]
fn a_place_set_aside_for_bad_scenes_comes_back_when_they_fail_elsewhere() {
    let mut health = farm();
    for job in 1..=3 {
        fails(&mut health, 10, "a", job);
    }
    works(&mut health, 11, "c", 9);
    check_broken(&health, 12, "a");
    health.set_aside(at(12), &place("a"), "test".to_owned());
    assert_eq!(health.wronged(), []);
    fails(&mut health, 13, "b", 2);
    assert_eq!(health.wronged(), [place("a")]);
}

#[test]
fn the_only_place_for_other_work_stays() {
    let mut health = farm();
    for job in 1..=3 {
        fails(&mut health, 10, "a", job);
        works(&mut health, 11, "b", job);
    }
    let judgment = health.judge(at(12), &place("a"), || vec![RENDER, ENCODE]);
    assert!(matches!(&judgment, Judgment::Suspect { kept, .. } if kept.contains("only place")), "{judgment:?}");
    health.done(at(13), &place("b"), ENCODE, scene(9));
    let judgment = health.judge(at(14), &place("a"), || vec![RENDER, ENCODE]);
    assert!(matches!(judgment, Judgment::Broken { .. }), "{judgment:?}");
}

#[test]
fn never_more_than_half_of_the_places_are_set_aside() {
    let mut health = farm();
    for name in ["a", "b", "c"] {
        for job in 1..=3 {
            fails(&mut health, 10, name, job);
            works(&mut health, 11, "d", job);
        }
    }
    for name in ["a", "b"] {
        check_broken(&health, 12, name);
        health.set_aside(at(12), &place(name), "test".to_owned());
    }
    check_suspect(&health, 12, "c", "half");
}

#[test]
fn a_machine_that_goes_away_with_all_its_workers_failed_once() {
    let mut health = farm();
    for job in 1..=8 {
        health.failed(at(10), &place("a"), RENDER, scene(job), Fault::Lost);
        works(&mut health, 11, "b", job);
    }
    check_well(&health, 12, "a");
    for job in 9..=10 {
        let second = i64::try_from(job).expect("small") * 100;
        health.failed(at(second), &place("a"), RENDER, scene(job), Fault::Lost);
        works(&mut health, second, "b", job);
    }
    check_broken(&health, 1001, "a");
}

#[test]
fn each_time_aside_is_twice_as_long_until_the_place_has_been_well_for_a_day() {
    let mut health = farm();
    let a = place("a");
    let mut now = at(0);
    for minutes in [10, 20, 40, 80, 160, 320, 480, 480] {
        let until = health.set_aside(now, &a, "test".to_owned());
        assert_eq!(until.since(now), Duration::from_mins(minutes));
        assert_eq!(health.deadline(&a), Some(until));
        assert!(!health.look(now, &a), "its time is not over");
        assert!(health.look(until, &a));
        assert!(matches!(health.standing(&a), Standing::Trial { .. }));
        assert!(health.done(until, &a, RENDER, scene(1)), "the trial is passed");
        assert!(!health.done(until, &a, RENDER, scene(1)), "once");
        now = until;
    }
    now = now.after(MEMORY);
    assert!(health.look(now, &a));
    assert_eq!(health.stored(&a), None);
    assert_eq!(health.set_aside(now, &a, "test".to_owned()).since(now), ASIDE);
}

#[test]
fn the_first_failure_on_trial_sets_it_aside_again_if_others_work() {
    let mut health = farm();
    let until = health.set_aside(at(0), &place("a"), "test".to_owned());
    health.look(until, &place("a"));
    let seconds = until.0 / 1000 + 1;
    fails(&mut health, seconds, "a", 1);
    check_suspect(&health, seconds, "a", "no other place");
    works(&mut health, seconds + 1, "b", 2);
    check_broken(&health, seconds + 2, "a");
}

#[test]
fn a_restart_remembers_who_is_set_aside_and_how_often() {
    let mut health = farm();
    let a = place("a");
    health.set_aside(at(0), &a, "test".to_owned());
    health.restore(&a);
    assert_eq!(health.stored(&a), None, "somebody mended it");
    health.set_aside(at(0), &a, "test".to_owned());
    let first = health.set_aside(at(0), &a, "test".to_owned());
    let mut again = Health::new(ASIDE, vec![health.stored(&a).expect("it is aside")]);
    assert_eq!(again.deadline(&a), Some(first));
    assert_eq!(again.stored(&a), health.stored(&a));
    assert!(again.look(first, &a));
    let mut again = Health::new(ASIDE, vec![again.stored(&a).expect("it is on trial")]);
    assert!(again.look(first, &a), "a trial that a restart cut short begins again");
}

#[test]
fn with_no_time_aside_nothing_is_set_aside() {
    let mut health = Health::new(Duration::ZERO, Vec::new());
    for name in ["a", "b"] {
        health.seen(at(0), &place(name));
    }
    for job in 1..=9 {
        fails(&mut health, 10, "a", job);
        works(&mut health, 11, "b", job);
    }
    check_well(&health, 12, "a");
}

#[test]
fn jobs_that_ended_well_are_forgotten() {
    let mut health = farm();
    for job in 1..=2 {
        works(&mut health, 1, "b", job);
    }
    fails(&mut health, 2, "a", 2);
    health.forget_job(JobId(1u128.into()));
    health.forget_job(JobId(2u128.into()));
    assert_eq!(health.scenes.keys().copied().collect::<Vec<_>>(), [scene(2)]);
}

proptest! {
    /// Whatever fails wherever: somebody who works is left, and half of the places are.
    #[test]
    fn no_order_of_failures_empties_the_farm(events in proptest::collection::vec((0u32..6, 0u128..8, 0u8..8), 0..300)) {
        const PLACES: usize = 6;
        let mut health = Health::new(ASIDE, Vec::new());
        let places: Vec<Place> = (0..PLACES).map(|number| place(&number.to_string())).collect();
        // What an onlooker knows: when each place last worked, and since when it has failed.
        let mut done = [None::<Timestamp>; PLACES];
        let mut failing = [None::<Timestamp>; PLACES];
        for (second, (number, job, what)) in events.into_iter().enumerate() {
            // Ten minutes aside pass after 60 events.
            let (now, here) = (at(i64::try_from(second).expect("few") * 10), number as usize);
            for (at, place) in places.iter().enumerate() {
                health.seen(now, place);
                if health.look(now, place) {
                    failing[at] = Some(now);
                }
            }
            if matches!(health.standing(&places[here]), Standing::Aside { .. }) {
                continue;
            }
            if what < 3 {
                health.done(now, &places[here], RENDER, scene(job));
                (done[here], failing[here]) = (Some(now), None);
                prop_assert_eq!(health.judge(now, &places[here], Vec::new), Judgment::Well);
                continue;
            }
            failing[here].get_or_insert(now);
            health.failed(now, &places[here], RENDER, scene(job), Fault::Task(Verdict::RetrySame));
            if let Judgment::Broken { reason } = health.judge(now, &places[here], || vec![RENDER]) {
                let since = failing[here].expect("just set");
                let works = |other: &usize| {
                    let aside = matches!(health.standing(&places[*other]), Standing::Aside { .. });
                    *other != here && !aside && done[*other].is_some_and(|at| at >= since)
                };
                prop_assert!((0..PLACES).any(|other| works(&other)), "nobody else works: {}", reason);
                health.set_aside(now, &places[here], reason);
                prop_assert!(health.aside_now.len() * 2 <= PLACES, "{:?}", health.aside_now);
            }
            for wronged in health.wronged() {
                prop_assert!(health.restore(&wronged));
                failing[wronged.as_str().parse::<usize>().expect("a number")] = None;
            }
        }
    }
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut health = Health::new(ASIDE, Vec::new());
    for number in 0..PLACES_MAX + 10 {
        health.seen(at(0), &place(&number.to_string()));
    }
    assert_eq!(health.places.len(), PLACES_MAX);
    let later = Timestamp(0).after(PRESENT * 2);
    health.seen(later, &place("new"));
    assert_eq!(health.places.len(), 1, "those that are gone make room");
    for job in 0..SCENES_MAX as u128 + 10 {
        health.failed(later, &place("new"), RENDER, scene(job), Fault::Lost);
        fails(&mut health, 7200, "new", job);
    }
    assert_eq!(health.scenes.len(), SCENES_MAX);
    assert_eq!(health.places[&place("new")].streak.len(), STREAK_MAX);
}
