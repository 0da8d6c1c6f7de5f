//! What the page about scaling promises, and that its figures are those of these rules, on the first of its seeds.

use framewake_simulate::scaling::{NAMES, Outcome, Played, SEEDS_TO_REPORT, Trace, csv, play_all, quantile_s};
use std::path::Path;

/// All is played once: it takes seconds.
#[test]
fn what_the_page_about_scaling_promises_is_so() {
    let played = play_all([*SEEDS_TO_REPORT.start()]);
    everybody_does_the_same_work_and_what_is_paid_adds_up(&played);
    a_bursty_farm_pays_at_least_25_points_less_for_nothing(&played);
    on_the_same_nodes_as_much_is_useful_as_with_a_pod_for_each_task(&played);
    a_night_is_done_no_later(&played);
    a_run_of_a_schedule_finds_its_workers_there(&played);
    the_figures_of_the_page_are_those_of_these_rules(&played);
}

fn the_figures_of_the_page_are_those_of_these_rules(played: &Played) {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/scaling.csv");
    let table = std::fs::read_to_string(table).expect("the figures are there");
    let now = csv(played);
    assert_eq!(now.lines().count(), 1 + Trace::ALL.len() * NAMES.len());
    let differs = now.lines().zip(table.lines()).find(|(now, then)| now != then);
    assert!(
        differs.is_none(),
        "`make scaling-report` brings docs/scaling.md, scaling.svg and scaling.csv up to date: {differs:?}"
    );
}

fn on<'a>(played: &'a Played, name: &str, nodes: &str, trace: Trace) -> &'a Outcome {
    played.of(name, nodes, trace)[0]
}

const OTHERS: [&str; 3] = ["KEDA ScaledJob", "KEDA ScaledObject", "KEDA ScaledObject, grace 4 h"];
const NODES: [&str; 2] = ["Karpenter", "cluster-autoscaler"];

fn everybody_does_the_same_work_and_what_is_paid_adds_up(played: &Played) {
    for trace in Trace::ALL {
        let ours = on(played, "Framewake", "Karpenter", trace);
        for (name, nodes) in NAMES {
            let other = on(played, name, nodes, trace);
            assert_eq!(ours.paid.useful_ms, other.paid.useful_ms, "{name} on {nodes}, {}", trace.name());
            assert_eq!(ours.done_ms.len(), other.done_ms.len(), "{name} on {nodes}: every job is done");
            assert_eq!(ours.waits_ms.len(), other.waits_ms.len());
            assert!(other.paid.idle_ms() >= 0, "{name} on {nodes}: {:?}", other.paid);
            assert!(
                other.nodes <= other.waits_ms.len() as u64 + other.ended,
                "{name} on {nodes}: {} nodes",
                other.nodes
            );
        }
    }
}

fn a_bursty_farm_pays_at_least_25_points_less_for_nothing(played: &Played) {
    let ours = on(played, "Framewake", "Karpenter", Trace::Bursty).useful_percent();
    let beside = |name: &str| on(played, name, "cluster-autoscaler", Trace::Bursty).useful_percent();
    for object in ["KEDA ScaledObject", "KEDA ScaledObject, grace 4 h"] {
        assert!(ours >= beside(object) + 25.0, "{ours:.1} % against {:.1} % of {object}", beside(object));
    }
    // A pod for each task wastes less, and what is left are the nodes.
    let jobs = beside("KEDA ScaledJob");
    assert!(ours >= jobs + 17.0, "{ours:.1} % against {jobs:.1} %");
}

fn on_the_same_nodes_as_much_is_useful_as_with_a_pod_for_each_task(played: &Played) {
    for nodes in NODES {
        for trace in [Trace::Bursty, Trace::Mixed] {
            let (ours, jobs) = (on(played, "Framewake", nodes, trace), on(played, "KEDA ScaledJob", nodes, trace));
            let (share, theirs) = (ours.useful_percent(), jobs.useful_percent());
            assert!(share >= theirs - 1.0, "{share:.1} % against {theirs:.1} % on {nodes}, {}", trace.name());
            for percent in [50, 95] {
                let (wait, theirs) = (quantile_s(&ours.waits_ms, percent), quantile_s(&jobs.waits_ms, percent));
                assert!(wait < theirs, "{percent} % wait {wait} s, and {theirs} s on {nodes}, {}", trace.name());
            }
        }
    }
}

fn a_night_is_done_no_later(played: &Played) {
    for trace in [Trace::Nightly, Trace::Mixed] {
        for (nodes, keda) in NODES.into_iter().flat_map(|nodes| OTHERS.map(|keda| (nodes, keda))) {
            let ours = &on(played, "Framewake", nodes, trace).nights;
            let theirs = &on(played, keda, nodes, trace).nights;
            assert_eq!((ours.len(), theirs.len()), (5, 5));
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(ours.1 <= theirs.1, "done after {} ms, with {keda} after {} ms", ours.1, theirs.1);
            }
        }
    }
}

fn a_run_of_a_schedule_finds_its_workers_there(played: &Played) {
    for trace in [Trace::Nightly, Trace::Mixed] {
        for nodes in NODES {
            let first: Vec<i64> =
                on(played, "Framewake", nodes, trace).nights.iter().map(|(first, _)| *first).collect();
            assert!(first.len() == 5 && first.iter().all(|first| *first <= 2000), "{}: {first:?} ms", trace.name());
        }
    }
}
