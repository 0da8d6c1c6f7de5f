//! The figures as a table and a picture for the documents.

use super::{Keda, NodePolicy, Outcome, Policy, Trace, play};
use std::fmt::Write;

/// A policy on the nodes of a cluster.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: &'static str,
    pub nodes: &'static str,
    /// By trace, in the order of [`Trace::ALL`].
    pub outcomes: Vec<Outcome>,
}

/// Every policy on every trace.
pub fn rows(seed: u64) -> Vec<Row> {
    let ours = Policy::Ours { waiting: None };
    let valued = Policy::Ours { waiting: Some(1000) };
    let (object, jobs) = (Policy::Keda(Keda::ScaledObject), Policy::Keda(Keda::ScaledJob));
    let (autoscaler, karpenter) = (NodePolicy::ClusterAutoscaler, NodePolicy::Karpenter);
    let all = [
        ("Framewake", ours, "Karpenter, empty 30 s", karpenter),
        ("Framewake, `waiting: 10 USD`", valued, "Karpenter, empty 30 s", karpenter),
        ("Framewake", ours, "cluster-autoscaler", autoscaler),
        ("KEDA ScaledJob", jobs, "Karpenter, empty 30 s", karpenter),
        ("KEDA ScaledObject", object, "Karpenter, empty 30 s", karpenter),
        ("KEDA ScaledJob", jobs, "cluster-autoscaler", autoscaler),
        ("KEDA ScaledObject", object, "cluster-autoscaler", autoscaler),
    ];
    let rows = all.into_iter().map(|(name, policy, nodes, node_policy)| Row {
        name,
        nodes,
        outcomes: Trace::ALL.into_iter().map(|trace| play(policy, node_policy, trace, seed)).collect(),
    });
    rows.collect()
}

/// The figures, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for (at, trace) in Trace::ALL.into_iter().enumerate() {
        let _ = writeln!(text, "**{}**\n", trace.name());
        text.push_str(
            "| Workers | Nodes | Useful of paid | GPU hours paid | Wait p50 | Wait p95 | Renders cut off | Night done after |\n",
        );
        text.push_str("|---|---|---:|---:|---:|---:|---:|---:|\n");
        for row in rows {
            let outcome = &row.outcomes[at];
            let night = outcome.night_min().map_or(String::new(), |minutes| format!("{minutes:.1} min"));
            let _ = writeln!(
                text,
                "| {} | {} | {:.1} % | {:.0} | {:.0} s | {:.0} s | {} | {night} |",
                row.name,
                row.nodes,
                outcome.useful_percent(),
                outcome.paid_ms as f64 / 3_600_000.0,
                outcome.wait_s(50),
                outcome.wait_s(95),
                outcome.ended,
            );
        }
        text.push('\n');
    }
    text
}

const BEGIN: &str = "<!-- figures: `make scaling-report` writes them -->\n";
const END: &str = "<!-- end of figures -->\n";

/// The page with these figures in place of those before; `None`: it has no place for them.
pub fn with_figures(page: &str, rows: &[Row]) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}{END}{after}", table(rows)))
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 290.0;
const BAR: f64 = 18.0;

/// The share of paid time that renders, on the bursty trace, as bars.
pub fn svg(rows: &[Row]) -> String {
    let height = 34.0 + rows.len() as f64 * (BAR + 8.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"18\" fill=\"#222222\">Paid GPU time that renders, bursty trace (waiting p50 beside)</text>\n"
    );
    for (at, row) in rows.iter().enumerate() {
        let outcome = &row.outcomes[0];
        let (y, share) = (30.0 + at as f64 * (BAR + 8.0), outcome.useful_percent());
        let (width, middle) = ((WIDTH - LEFT - 110.0) * share / 100.0, y + 13.0);
        let color = if row.name.starts_with("Framewake") { "#2f7ed8" } else { "#9aa5b1" };
        let name = row.name.replace('`', "");
        let _ = writeln!(
            text,
            "<text x=\"8\" y=\"{middle}\" fill=\"#222222\">{name} · {}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <text x=\"{:.1}\" y=\"{middle}\" fill=\"#222222\">{share:.1} % · {:.0} s</text>",
            row.nodes,
            LEFT + width + 6.0,
            outcome.wait_s(50),
        );
    }
    text.push_str("</svg>\n");
    text
}
