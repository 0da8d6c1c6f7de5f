//! The page as `OpenMetrics`, which can say of which trace a measurement is: made of the page as Prometheus has always
//! read it, so that both have the same figures.

use super::exemplars::Exemplar;
use std::collections::HashMap;
use std::fmt::Write;

pub(super) fn written(text: &str, exemplars: &HashMap<String, Exemplar>) -> String {
    let mut out = String::with_capacity(text.len() + 128 * exemplars.len() + 8);
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            out.push_str(&headed(head));
        } else {
            out.push_str(line);
            let exemplar = line.rsplit_once(' ').and_then(|(series, _)| exemplars.get(series));
            if let Some(Exemplar { trace, value, at }) = exemplar {
                let (seconds, milliseconds) = (at.0 / 1000, at.0.rem_euclid(1000));
                write!(out, " # {{trace_id=\"{trace}\"}} {value} {seconds}.{milliseconds:03}")
                    .expect("a string takes every text");
            }
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

/// `HELP name text` or `TYPE name kind`. A counter's family is named without its `_total`, and without one it is no
/// counter here.
fn headed(head: &str) -> String {
    let mut words = head.splitn(3, ' ');
    let (what, name, rest) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    let family = name.strip_suffix("_total");
    let rest = match (what, rest, family) {
        ("TYPE", "counter", None) => "unknown".to_owned(),
        ("HELP", text, _) => text.replace('"', "\\\""),
        (_, rest, _) => rest.to_owned(),
    };
    format!("# {what} {} {rest}", family.unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::time::Timestamp;
    use framewake_proto::trace::TraceId;

    #[test]
    fn the_page_is_the_same_and_says_of_which_trace_a_bucket_is() {
        let text = "# HELP a_total \"A\" in all.\n# TYPE a_total counter\na_total{of=\"x y\"} 3\n\
                    # TYPE other counter\nother 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\n\
                    h_sum 0.5\nh_count 2\n";
        let exemplar = Exemplar { trace: TraceId(0xabc), value: 0.25, at: Timestamp(1_700_000_000_007) };
        let exemplars = HashMap::from([("h_bucket{le=\"1\"}".to_owned(), exemplar)]);
        assert_eq!(
            written(text, &exemplars),
            "# HELP a \\\"A\\\" in all.\n# TYPE a counter\na_total{of=\"x y\"} 3\n# TYPE other unknown\nother 1\n\
             # TYPE h histogram\nh_bucket{le=\"1\"} 2 # {trace_id=\"00000000000000000000000000000abc\"} 0.25 \
             1700000000.007\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.5\nh_count 2\n# EOF\n"
        );
    }
}
