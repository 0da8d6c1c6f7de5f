//! Families that come and go are written as text at once: the registry would keep every GPU that ever was.

use std::fmt::{Display, Write};

/// A family's head; its samples follow.
pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

/// One sample. Label values are escaped; names of labels are ours.
pub(super) fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    out.push_str(name);
    for (at, (label, text)) in labels.iter().enumerate() {
        line(out, format_args!("{}{label}=\"", if at == 0 { '{' } else { ',' }));
        for c in text.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    line(out, format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_of_others_break_no_line() {
        let mut out = String::new();
        sample(&mut out, "a", &[("of", "x\"} 1\nb\\"), ("in", "y")], 2);
        sample(&mut out, "b", &[], 0.5);
        assert_eq!(out, "a{of=\"x\\\"} 1\\nb\\\\\",in=\"y\"} 2\nb 0.5\n");
    }
}
