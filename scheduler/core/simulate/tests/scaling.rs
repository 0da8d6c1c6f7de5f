//! What the page about scaling promises, on its own seed.

use framewake_simulate::scaling::{Outcome, Row, SEED, Trace, rows, svg, with_figures};
use std::path::Path;

/// All is played once: it takes seconds.
#[test]
fn the_page_about_scaling_says_what_is_so() {
    let rows = rows(SEED);
    a_bursty_farm_pays_at_least_25_points_less_for_nothing(&rows);
    a_night_is_done_no_later(&rows);
    a_run_of_a_schedule_finds_its_workers_there(&rows);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs");
    let page = std::fs::read_to_string(docs.join("scaling.md")).expect("the page is there");
    assert!(
        with_figures(&page, &rows).as_ref() == Some(&page),
        "`make scaling-report` brings docs/scaling.md up to date"
    );
    let picture = std::fs::read_to_string(docs.join("scaling.svg")).expect("the picture is there");
    assert!(svg(&rows) == picture, "`make scaling-report` brings docs/scaling.svg up to date");
}

fn on(rows: &[Row], name: &str, nodes: &str, trace: Trace) -> Outcome {
    let at = Trace::ALL.iter().position(|other| *other == trace).expect("one of them");
    let row = rows.iter().find(|row| row.name == name && row.nodes.starts_with(nodes));
    row.expect("a row of this name").outcomes[at].clone()
}

fn a_bursty_farm_pays_at_least_25_points_less_for_nothing(rows: &[Row]) {
    let ours = on(rows, "Framewake", "Karpenter", Trace::Bursty);
    let object = on(rows, "KEDA ScaledObject", "cluster-autoscaler", Trace::Bursty);
    let jobs = on(rows, "KEDA ScaledJob", "cluster-autoscaler", Trace::Bursty);
    assert!(ours.useful_ms == object.useful_ms && ours.useful_ms == jobs.useful_ms, "the same work");
    let (ours, object, jobs) = (ours.useful_percent(), object.useful_percent(), jobs.useful_percent());
    assert!(ours >= object + 25.0, "{ours:.1} % against {object:.1} %");
    // A pod for each task wastes less, and what is left are the nodes.
    assert!(ours >= jobs + 15.0, "{ours:.1} % against {jobs:.1} %");
}

fn a_night_is_done_no_later(rows: &[Row]) {
    for nodes in ["Karpenter", "cluster-autoscaler"] {
        let ours = on(rows, "Framewake", nodes, Trace::Nightly).nights;
        for keda in ["KEDA ScaledObject", "KEDA ScaledJob"] {
            let theirs = on(rows, keda, nodes, Trace::Nightly).nights;
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!(ours.1 <= theirs.1, "done after {} ms, with {keda} after {} ms", ours.1, theirs.1);
            }
        }
    }
}

fn a_run_of_a_schedule_finds_its_workers_there(rows: &[Row]) {
    for trace in [Trace::Nightly, Trace::Mixed] {
        let first: Vec<i64> =
            on(rows, "Framewake", "Karpenter", trace).nights.iter().map(|(first, _)| *first).collect();
        // How long workers take to come is learned from the first night, if not from the day before it.
        let known = usize::from(trace == Trace::Nightly);
        assert!(first.len() == 5 && first[known..].iter().all(|first| *first <= 2000), "{trace:?}: {first:?} ms");
    }
}
