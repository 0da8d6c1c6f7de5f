//! The invariants of the farm under any order of events, and the planted faults that show each of them
//! can be seen to break.

mod world;

use framewake_proto::verdict::Verdict;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use world::{Move, Plant, World};

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        12 => Just(Verdict::Done),
        1 => Just(Verdict::RetrySame),
        1 => Just(Verdict::RetryElsewhere),
        1 => Just(Verdict::Hung),
        1 => Just(Verdict::Preempted),
        1 => Just(Verdict::SceneError),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let which = any::<u16>;
    prop_oneof![
        2 => (any::<u8>(), which(), any::<u8>(), any::<u8>(), any::<u8>())
            .prop_map(|(project, tasks, steps, fixed, priority)| Move::Submit { project, tasks, steps, fixed, priority }),
        1 => which().prop_map(Move::Cancel),
        1 => which().prop_map(Move::Pause),
        1 => which().prop_map(Move::Resume),
        1 => (which(), any::<u8>()).prop_map(|(job, priority)| Move::Prioritize(job, priority)),
        1 => (any::<u8>(), 0u8..9).prop_map(|(project, weight)| Move::Weigh(project, weight)),
        12 => (which(), which()).prop_map(|(worker, order)| Move::Pull(worker, order)),
        16 => (which(), verdicts()).prop_map(|(worker, verdict)| Move::Work(worker, verdict)),
        1 => which().prop_map(Move::HandBack),
        14 => (which(), any::<bool>()).prop_map(|(which, copy)| Move::Deliver { which, copy }),
        1 => which().prop_map(Move::LoseReport),
        8 => which().prop_map(Move::Beat),
        2 => which().prop_map(Move::KillWorker),
        1 => which().prop_map(Move::Zombie),
        1 => Just(Move::WipeOrders),
        1 => which().prop_map(Move::RepeatOrder),
        1 => any::<bool>().prop_map(|durable| Move::Crash { durable }),
        4 => which().prop_map(Move::Wait),
    ]
}

/// Plays the moves, then lets everything come to its end; what broke, if anything.
fn play(plant: Plant, moves: Vec<Move>) -> Result<(), TestCaseError> {
    let mut world = World::new(plant);
    for step in moves {
        world.play(step);
        if let Some(broken) = world.auditor.broken() {
            return Err(TestCaseError::fail(broken.to_owned()));
        }
    }
    world.settle();
    world.auditor.broken().map_or(Ok(()), |broken| Err(TestCaseError::fail(broken.to_owned())))
}

proptest! {
    // PROPTEST_CASES searches longer; failures print the moves, which are the way to play them again.
    #![proptest_config(Config { max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_order_of_events_loses_or_repeats_a_task(moves in prop::collection::vec(moves(), 0..250)) {
        play(Plant::Nothing, moves)?;
    }
}

/// The same search must find the planted fault, and say what is expected of it.
fn check_seen(plant: Plant, expected: &str) {
    let config = Config { cases: 2000, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let found = runner.run(&prop::collection::vec(moves(), 0..250), |moves| play(plant, moves));
    let said = match found {
        Ok(()) => panic!("the planted fault {plant:?} was not seen"),
        Err(error) => error.to_string(),
    };
    assert!(said.contains(expected), "{plant:?} was seen, but as: {said}");
}

#[test]
fn a_stale_report_that_counts_is_seen() {
    check_seen(Plant::StaleReportCounts, "a stale report counted");
}

#[test]
fn a_retry_that_is_never_published_is_seen() {
    check_seen(Plant::RetryNeverPublished, "work was lost");
}

#[test]
fn an_attempt_number_that_does_not_rise_is_seen() {
    check_seen(Plant::AttemptNumberKept, "attempt numbers must rise");
}

#[test]
fn a_task_forgotten_over_a_restart_is_seen() {
    check_seen(Plant::RestartForgetsTask, "the book");
}

#[test]
fn chunk_numbers_used_twice_are_seen() {
    check_seen(Plant::ChunkNumbersReused, "");
}

#[test]
fn an_order_of_a_canceled_job_is_seen() {
    check_seen(Plant::CanceledJobOrders, "published for a job that is over");
}

#[test]
fn an_end_announced_too_early_is_seen() {
    check_seen(Plant::OverTooEarly, "announced over too early");
}

#[test]
fn a_lost_worker_that_is_charged_to_the_task_is_seen() {
    check_seen(Plant::LossSpendsAttempt, "before its attempts were spent");
}

#[test]
fn workers_beyond_the_slots_are_seen() {
    check_seen(Plant::TooManyWorkers, "slots");
}

#[test]
fn a_result_recorded_twice_is_seen() {
    check_seen(Plant::DoneTwice, "done twice");
}
