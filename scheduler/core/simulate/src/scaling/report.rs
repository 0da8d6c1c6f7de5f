//! The figures of many seeds as tables and a picture for the documents, and each seed's as lines of CSV.

use super::{GRACE_DEFAULT_MS, Keda, NodePolicy, Outcome, Paid, Policy, Trace, play, quantile_s};
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const HOUR_MS: f64 = 3_600_000.0;

/// What is compared: its name, the name of the nodes beneath, and both in numbers.
#[derive(Debug, Clone, Copy)]
struct Side {
    name: &'static str,
    nodes: &'static str,
    policy: Policy,
    node_policy: NodePolicy,
}

const KARPENTER: (&str, NodePolicy) = ("Karpenter, empty 30 s", NodePolicy::Karpenter { empty_ms: 30_000 });
const AUTOSCALER: (&str, NodePolicy) = ("cluster-autoscaler", NodePolicy::ClusterAutoscaler);
/// Longer than any task takes: what a pod renders is never cut off.
const GRACE_LONG_MS: i64 = 4 * 3_600_000;

const OURS: Policy = Policy::Ours { waiting: None };
const OURS_VALUED: Policy = Policy::Ours { waiting: Some(1000) };
const JOB: Policy = Policy::Keda(Keda::ScaledJob);
const OBJECT: Policy = Policy::Keda(Keda::ScaledObject { grace_ms: GRACE_DEFAULT_MS });
const OBJECT_LONG: Policy = Policy::Keda(Keda::ScaledObject { grace_ms: GRACE_LONG_MS });

const fn side(name: &'static str, policy: Policy, (nodes, node_policy): (&'static str, NodePolicy)) -> Side {
    Side { name, nodes, policy, node_policy }
}

const SIDES: [Side; 9] = [
    side("Framewake", OURS, KARPENTER),
    side("Framewake, `waiting: 10 USD`", OURS_VALUED, KARPENTER),
    side("Framewake", OURS, AUTOSCALER),
    side("KEDA ScaledJob", JOB, KARPENTER),
    side("KEDA ScaledObject, grace 4 h", OBJECT_LONG, KARPENTER),
    side("KEDA ScaledObject", OBJECT, KARPENTER),
    side("KEDA ScaledJob", JOB, AUTOSCALER),
    side("KEDA ScaledObject, grace 4 h", OBJECT_LONG, AUTOSCALER),
    side("KEDA ScaledObject", OBJECT, AUTOSCALER),
];

/// Names of all that is compared, and of the nodes beneath, in the order of the tables.
pub const NAMES: [(&str, &str); SIDES.len()] = {
    let mut names = [("", ""); SIDES.len()];
    let mut at = 0;
    while at < SIDES.len() {
        names[at] = (SIDES[at].name, SIDES[at].nodes);
        at += 1;
    }
    names
};

/// Which is held against which, by their places in [`SIDES`].
const COMPARISONS: [(usize, usize); 6] = [(0, 8), (0, 7), (0, 6), (0, 3), (0, 4), (2, 6)];

/// Everything that was played.
#[derive(Debug, Clone)]
pub struct Played {
    pub seeds: Vec<u64>,
    /// By seed, trace and side.
    outcomes: Vec<Outcome>,
}

/// Every side on every trace of every seed, on all cores.
pub fn play_all(seeds: impl IntoIterator<Item = u64>) -> Played {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let count = seeds.len() * Trace::ALL.len() * SIDES.len();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(vec![Outcome::default(); count]));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let (seed, trace) =
                        (seeds[at / SIDES.len() / Trace::ALL.len()], at / SIDES.len() % Trace::ALL.len());
                    let Side { policy, node_policy, .. } = SIDES[at % SIDES.len()];
                    let outcome = play(policy, node_policy, Trace::ALL[trace], seed);
                    outcomes.lock().expect("no thread panics while it stores")[at] = outcome;
                }
            });
        }
    });
    Played { seeds, outcomes: outcomes.into_inner().expect("no thread panics while it stores") }
}

impl Played {
    /// Of each seed, what came of it under the policy of this name on nodes whose name begins so.
    pub fn of(&self, name: &str, nodes: &str, trace: Trace) -> Vec<&Outcome> {
        let side = NAMES.iter().position(|side| side.0 == name && side.1.starts_with(nodes));
        self.of_side(side.expect("one of them"), trace)
    }

    fn of_side(&self, side: usize, trace: Trace) -> Vec<&Outcome> {
        let trace = Trace::ALL.iter().position(|other| *other == trace).expect("one of them");
        let of_seed = |seed: usize| &self.outcomes[(seed * Trace::ALL.len() + trace) * SIDES.len() + side];
        (0..self.seeds.len()).map(of_seed).collect()
    }
}

/// Mean, least and most over the seeds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    mean: f64,
    min: f64,
    max: f64,
}

fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let values: Vec<f64> = values.into_iter().collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (min, max) = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max));
    Spread { mean, min: min.unwrap_or(0.0), max: max.unwrap_or(0.0) }
}

/// All the figures, in Markdown.
pub fn tables(played: &Played) -> String {
    let mut text = differences(played);
    for trace in Trace::ALL {
        let _ = writeln!(text, "**{}**\n", trace.name());
        text.push_str("| Workers | Nodes | Useful of paid (least–most) | GPU hours paid | Wait p50 | p95 | Job done p50 | p95 | Renders cut off | Slowest night |\n");
        text.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for (at, (name, nodes)) in NAMES.into_iter().enumerate() {
            let all = played.of_side(at, trace);
            let mean = |of: &dyn Fn(&Outcome) -> f64| spread(all.iter().map(|outcome| of(outcome))).mean;
            let useful = spread(all.iter().map(|outcome| outcome.useful_percent()));
            let nights = all.iter().filter_map(|outcome| outcome.night_min()).reduce(f64::max);
            let night = nights.map_or(String::new(), |minutes| format!("{minutes:.1} min"));
            let _ = writeln!(
                text,
                "| {name} | {nodes} | {:.1} % ({:.1}–{:.1}) | {:.0} | {:.0} s | {:.0} s | {:.0} s | {:.0} s | {:.0} | {night} |",
                useful.mean,
                useful.min,
                useful.max,
                mean(&|outcome| outcome.paid.all_ms as f64 / HOUR_MS),
                mean(&|outcome| quantile_s(&outcome.waits_ms, 50)),
                mean(&|outcome| quantile_s(&outcome.waits_ms, 95)),
                mean(&|outcome| quantile_s(&outcome.done_ms, 50)),
                mean(&|outcome| quantile_s(&outcome.done_ms, 95)),
                mean(&|outcome| outcome.ended as f64),
            );
        }
        text.push('\n');
    }
    text.push_str(&causes(played));
    text
}

/// Each of the comparisons, seed by seed.
fn differences(played: &Played) -> String {
    let mut text = format!("**Points of useful of paid, seed by seed ({} seeds)**\n\n", played.seeds.len());
    text.push_str("| | beside | bursty: mean (least … most) | nightly | mixed |\n|---|---|---:|---:|---:|\n");
    for (ours, theirs) in COMPARISONS {
        let cell = |trace: Trace| {
            let (ours, theirs) = (played.of_side(ours, trace), played.of_side(theirs, trace));
            let points = ours.iter().zip(theirs).map(|(ours, theirs)| ours.useful_percent() - theirs.useful_percent());
            let Spread { mean, min, max } = spread(points);
            format!("{mean:+.1} ({min:+.1} … {max:+.1})")
        };
        let side = |at: usize| format!("{} on {}", NAMES[at].0, NAMES[at].1);
        let [bursty, nightly, mixed] = Trace::ALL.map(cell);
        let _ = writeln!(text, "| {} | {} | {bursty} | {nightly} | {mixed} |", side(ours), side(theirs));
    }
    text.push('\n');
    text
}

/// What paid time goes to: its name, its color in the picture, and its milliseconds.
type Cause = (&'static str, &'static str, fn(&Paid) -> i64);
const CAUSES: [Cause; 7] = [
    ("renders", "#2f7ed8", |paid| paid.useful_ms),
    ("rendered again", "#d64545", |paid| paid.redone_ms),
    ("loads", "#8bb8e8", |paid| paid.load_ms),
    ("makes nodes", "#f0a500", |paid| paid.node_ms),
    ("starts pods", "#f7d070", |paid| paid.pod_ms),
    ("idle workers", "#9aa5b1", Paid::idle_ms),
    ("empty nodes", "#d3d9e0", |paid| paid.empty_ms),
];

fn causes(played: &Played) -> String {
    let mut text = "**Where the paid GPU hours go, bursty (mean)**\n\n| Workers | Nodes |".to_owned();
    for (name, ..) in CAUSES {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---:|".repeat(CAUSES.len()));
    text.push('\n');
    for (at, (name, nodes)) in NAMES.into_iter().enumerate() {
        let _ = write!(text, "| {name} | {nodes} |");
        for hours in hours_by_cause(played, at) {
            let _ = write!(text, " {hours:.1} |");
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn hours_by_cause(played: &Played, side: usize) -> impl Iterator<Item = f64> {
    let all = played.of_side(side, Trace::Bursty);
    CAUSES.into_iter().map(move |(.., of)| spread(all.iter().map(|outcome| of(&outcome.paid) as f64 / HOUR_MS)).mean)
}

const BEGIN: &str = "<!-- figures: `make scaling-report` writes them -->\n";
const END: &str = "<!-- end of figures -->\n";

/// The page with these figures in place of those before; `None`: it has no place for them.
pub fn with_figures(page: &str, played: &Played) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}{END}{after}", tables(played)))
}

/// Every figure of every seed, a line for each policy and trace.
pub fn csv(played: &Played) -> String {
    let mut text =
        "seed,trace,workers,nodes,paid_ms,useful_ms,redone_ms,load_ms,node_ms,pod_ms,empty_ms,wait_p50_s,wait_p95_s,\
                    done_p50_s,done_p95_s,cut_off,first_frame_ms_max,night_ms_max\n"
            .to_owned();
    for (seed_at, seed) in played.seeds.iter().enumerate() {
        for trace in Trace::ALL {
            for (at, (name, nodes)) in NAMES.into_iter().enumerate() {
                let outcome = played.of_side(at, trace)[seed_at];
                let Paid { all_ms, useful_ms, redone_ms, load_ms, node_ms, pod_ms, empty_ms } = outcome.paid;
                let most = |of: &dyn Fn(&(i64, i64)) -> i64| {
                    outcome.nights.iter().map(of).max().map_or(String::new(), |ms| ms.to_string())
                };
                let _ = writeln!(
                    text,
                    "{seed},{},\"{name}\",\"{nodes}\",{all_ms},{useful_ms},{redone_ms},{load_ms},{node_ms},{pod_ms},{empty_ms},\
                     {},{},{},{},{},{},{}",
                    trace.name(),
                    quantile_s(&outcome.waits_ms, 50),
                    quantile_s(&outcome.waits_ms, 95),
                    quantile_s(&outcome.done_ms, 50),
                    quantile_s(&outcome.done_ms, 95),
                    outcome.ended,
                    most(&|(first, _)| *first),
                    most(&|(_, done)| *done),
                );
            }
        }
    }
    text
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 150.0;
const BAR: f64 = 18.0;
const LEGEND: f64 = 100.0;

/// What is paid for the same jobs on the bursty trace, and what for, as bars.
pub fn svg(played: &Played) -> String {
    let height = 60.0 + SIDES.len() as f64 * (BAR + 8.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"18\" fill=\"#222222\">GPU hours paid for the same jobs, bursty (mean of {} seeds); beside: useful of paid (least–most), wait p50</text>\n",
        played.seeds.len()
    );
    for (at, (name, color, _)) in CAUSES.into_iter().enumerate() {
        let x = 8.0 + at as f64 * (LEGEND + 18.0);
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"28\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"{}\" y=\"38\" fill=\"#222222\">{name}</text>",
            x + 16.0
        );
    }
    let most = (0..SIDES.len()).map(|at| hours_by_cause(played, at).sum::<f64>()).fold(1.0, f64::max);
    for (at, (name, nodes)) in NAMES.into_iter().enumerate() {
        let all = played.of_side(at, Trace::Bursty);
        let y = 54.0 + at as f64 * (BAR + 8.0);
        let middle = y + 13.0;
        let name = name.replace('`', "");
        let _ = writeln!(text, "<text x=\"8\" y=\"{middle}\" fill=\"#222222\">{name} · {nodes}</text>");
        let mut x = LEFT;
        for (hours, (_, color, _)) in hours_by_cause(played, at).zip(CAUSES) {
            let width = (WIDTH - LEFT - RIGHT) * hours / most;
            let _ =
                writeln!(text, "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>");
            x += width;
        }
        let Spread { mean, min, max } = spread(all.iter().map(|outcome| outcome.useful_percent()));
        let wait = spread(all.iter().map(|outcome| quantile_s(&outcome.waits_ms, 50))).mean;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{middle}\" fill=\"#222222\">{mean:.0} % ({min:.0}–{max:.0}) · {wait:.0} s</text>",
            x + 6.0
        );
    }
    text.push_str("</svg>\n");
    text
}
