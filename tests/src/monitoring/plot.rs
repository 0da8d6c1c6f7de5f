//! A dashboard as a picture: each panel where Grafana would have it, with what its queries gave. Plain SVG.

use super::{Prometheus, Series, Span, filled};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Of Grafana's grid of 24 columns.
const COLUMN: f64 = 50.0;
const ROW: f64 = 26.0;
/// Between panels, and from a panel's edge to its curves.
const GAP: f64 = 4.0;
const COLORS: [&str; 10] =
    ["#3274d9", "#e0752d", "#37872d", "#c4162a", "#8f3bb8", "#b877d9", "#0a9ba8", "#d4a017", "#606060", "#e24d8f"];
/// Names under a panel; the others are only drawn.
const LEGENDS_MAX: usize = 5;

/// Asks all that the dashboard asks, and draws the answers.
pub async fn draw(prometheus: &Prometheus, dashboard: &Value, span: Span, rate_interval: &str) -> String {
    let mut body = String::new();
    let mut bottom = 0.0f64;
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let area = Area::of(&panel["gridPos"]);
        bottom = bottom.max(area.y + area.height);
        let title = escaped(panel["title"].as_str().unwrap_or_default());
        if panel["type"] == "row" {
            let _ = write!(body, "<text x=\"{}\" y=\"{}\" class=\"row\">{title}</text>", area.x + 4.0, area.y + 19.0);
            continue;
        }
        let _ = write!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"panel\"/><text x=\"{}\" y=\"{}\" class=\"title\">{title}</text>",
            area.x,
            area.y,
            area.width,
            area.height,
            area.x + 8.0,
            area.y + 17.0
        );
        let mut series = Vec::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = filled(target["expr"].as_str().unwrap_or_default(), rate_interval);
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let found = prometheus.range(&expression, span, 1.0).await.unwrap_or_default();
            series.extend(found.into_iter().map(|series| (series.legend(legend), series)));
        }
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        match panel["type"].as_str().unwrap_or_default() {
            "stat" => draw_number(&mut body, area, unit, &series),
            "heatmap" => draw_heat(&mut body, area, unit, span, &series),
            "text" => draw_text(&mut body, area, panel["options"]["content"].as_str().unwrap_or_default()),
            _ => {
                if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal" {
                    stack(&mut series);
                }
                draw_curves(&mut body, area, unit, span, &series);
            }
        }
    }
    let name = escaped(dashboard["title"].as_str().unwrap_or_default());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 -34 {width} {height}\" font-family=\"sans-serif\">\
         <style>.panel{{fill:#fff;stroke:#d8d9da}}.title{{font-size:12px;font-weight:bold;fill:#333}}.row{{font-size:14px;fill:#333}}\
         .small{{font-size:9px;fill:#666}}.line{{fill:none;stroke-width:1.2}}</style>\
         <rect y=\"-34\" width=\"100%\" height=\"100%\" fill=\"#f4f5f5\"/>\
         <text x=\"8\" y=\"-12\" font-size=\"18\" fill=\"#333\">{name}</text>{body}</svg>\n",
        width = 24.0 * COLUMN + GAP,
        height = bottom + 34.0 + GAP
    )
}

/// Each series upon those before it.
fn stack(series: &mut [(String, Series)]) {
    let mut below: BTreeMap<u64, f64> = BTreeMap::new();
    for (_, series) in series {
        for (time_s, value) in &mut series.points {
            let sum = below.entry(time_s.to_bits()).or_default();
            *sum += *value;
            *value = *sum;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Area {
    fn of(place: &Value) -> Area {
        let side = |name: &str| place[name].as_f64().unwrap_or(0.0);
        Area {
            x: side("x") * COLUMN + GAP,
            y: side("y") * ROW + GAP,
            width: side("w") * COLUMN - GAP,
            height: side("h") * ROW - GAP,
        }
    }

    /// Where curves go: beside the numbers, under the title, above the legend.
    fn inner(self) -> Area {
        Area { x: self.x + 52.0, y: self.y + 28.0, width: self.width - 64.0, height: self.height - 62.0 }
    }

    fn at(self, span: Span, time_s: f64, part: f64) -> (f64, f64) {
        let along = (time_s - span.begin_s) / (span.end_s - span.begin_s).max(1.0);
        (self.x + along * self.width, self.y + (1.0 - part) * self.height)
    }
}

fn draw_curves(body: &mut String, area: Area, unit: &str, span: Span, series: &[(String, Series)]) {
    let inner = area.inner();
    let values = series.iter().flat_map(|(_, series)| series.points.iter().map(|(_, value)| *value));
    let top = values.fold(0.0f64, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    for part in [0.0, 0.5, 1.0] {
        let (x, y) = inner.at(span, span.begin_s, part);
        let _ = write!(
            body,
            "<line x1=\"{x:.0}\" x2=\"{:.0}\" y1=\"{y:.0}\" y2=\"{y:.0}\" stroke=\"#e9edf2\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" class=\"small\">{}</text>",
            x + inner.width,
            x - 4.0,
            y + 3.0,
            amount(top * part, unit)
        );
    }
    for (at, (_, series)) in series.iter().enumerate() {
        let mut points = String::new();
        for (time_s, value) in &series.points {
            let (x, y) = inner.at(span, *time_s, (value / top).clamp(0.0, 1.0));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let color = COLORS[at % COLORS.len()];
        let _ = write!(body, "<polyline points=\"{}\" class=\"line\" stroke=\"{color}\"/>", points.trim_end());
    }
    let mut x = area.x + 8.0;
    let y = area.y + area.height - 8.0;
    for (at, (legend, _)) in series.iter().enumerate().take(LEGENDS_MAX) {
        let color = COLORS[at % COLORS.len()];
        let text: String = legend.chars().take(28).collect();
        let text = if text.is_empty() { "value".to_owned() } else { text };
        let width = 20.0 + 5.8 * text.chars().count() as f64;
        if x + width > area.x + area.width {
            break;
        }
        let _ = write!(
            body,
            "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"8\" height=\"3\" fill=\"{color}\"/><text x=\"{:.0}\" y=\"{y:.0}\" class=\"small\">{}</text>",
            y - 4.0,
            x + 11.0,
            escaped(&text)
        );
        x += width;
    }
    let seconds = span.end_s - span.begin_s;
    let (right, low) = (inner.x + inner.width, inner.y + inner.height + 12.0);
    let _ =
        write!(body, "<text x=\"{right:.0}\" y=\"{low:.0}\" text-anchor=\"end\" class=\"small\">{seconds:.0} s</text>");
}

/// The last value of each series, the first of them large.
fn draw_number(body: &mut String, area: Area, unit: &str, series: &[(String, Series)]) {
    let last = series.first().and_then(|(legend, series)| Some((legend, series.points.last()?.1)));
    let text = match last {
        Some((legend, _)) if legend.contains('.') => legend.clone(),
        Some((legend, value)) => format!("{} {legend}", amount(value, unit)),
        None => "no data".to_owned(),
    };
    let (x, y) = (area.x + area.width / 2.0, area.y + area.height / 2.0 + 18.0);
    let text = escaped(text.trim());
    let _ = write!(
        body,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\" font-size=\"26\" fill=\"#37872d\">{text}</text>"
    );
}

/// Buckets from below, the fuller the darker.
fn draw_heat(body: &mut String, area: Area, unit: &str, span: Span, series: &[(String, Series)]) {
    let inner = area.inner();
    let mut buckets: Vec<(f64, &Series)> = series
        .iter()
        .map(|(_, series)| (series.labels.get("le").and_then(|le| le.parse().ok()).unwrap_or(f64::INFINITY), series))
        .collect();
    buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
    let cell = inner.height / buckets.len().max(1) as f64;
    let wide = inner.width / (span.end_s - span.begin_s).max(1.0);
    // What a bucket holds beyond the one below it.
    let mut cells = Vec::new();
    for (at, (_, series)) in buckets.iter().enumerate() {
        for (time_s, value) in &series.points {
            let below = at.checked_sub(1).and_then(|below| {
                buckets[below]
                    .1
                    .points
                    .iter()
                    .find(|(time, _)| time.to_bits() == time_s.to_bits())
                    .map(|(_, value)| *value)
            });
            cells.push((at, *time_s, (value - below.unwrap_or(0.0)).max(0.0)));
        }
    }
    let most = cells.iter().map(|(_, _, count)| *count).fold(0.0f64, f64::max).max(f64::MIN_POSITIVE);
    for (at, time_s, count) in cells.into_iter().filter(|(_, _, count)| *count > 0.0) {
        let (x, y) = inner.at(span, time_s, (at + 1) as f64 / buckets.len() as f64);
        let _ = write!(
            body,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{cell:.1}\" fill=\"#e0752d\" fill-opacity=\"{:.2}\"/>",
            x - wide,
            0.1 + 0.9 * count / most
        );
    }
    for (at, (le, _)) in buckets.iter().enumerate().filter(|(at, _)| at % 3 == 0) {
        let (x, y) = inner.at(span, span.begin_s, (at + 1) as f64 / buckets.len() as f64);
        let text = if le.is_finite() { amount(*le, unit) } else { "more".to_owned() };
        let _ = write!(
            body,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" class=\"small\">{text}</text>",
            x - 4.0,
            y + 8.0
        );
    }
}

fn draw_text(body: &mut String, area: Area, text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    for (at, line) in words.chunks(26).enumerate() {
        let y = area.y + 36.0 + 16.0 * at as f64;
        let line = escaped(&line.join(" ").replace('`', ""));
        let _ = write!(body, "<text x=\"{}\" y=\"{y}\" font-size=\"12\" fill=\"#444\">{line}</text>", area.x + 8.0);
    }
}

/// A value in Grafana's units, as far as the dashboards use them.
fn amount(value: f64, unit: &str) -> String {
    let scaled = |value: f64, ends: &[&str], base: f64| {
        let (mut value, mut at) = (value, 0);
        while value.abs() >= base && at + 1 < ends.len() {
            value /= base;
            at += 1;
        }
        format!("{}{}", short(value), ends[at])
    };
    match unit {
        "s" if value != 0.0 && value.abs() < 1.0 => format!("{} ms", short(value * 1000.0)),
        "s" if value.abs() >= 3600.0 => format!("{} h", short(value / 3600.0)),
        "s" => format!("{} s", short(value)),
        "bytes" => scaled(value, &[" B", " KiB", " MiB", " GiB", " TiB"], 1024.0),
        "Bps" => scaled(value, &[" B/s", " kB/s", " MB/s", " GB/s"], 1000.0),
        "percentunit" => format!("{} %", short(value * 100.0)),
        "watt" => scaled(value, &[" W", " kW", " MW"], 1000.0),
        "joule" => scaled(value, &[" J", " kJ", " MJ"], 1000.0),
        "hertz" => scaled(value, &[" Hz", " kHz", " MHz", " GHz"], 1000.0),
        "celsius" => format!("{} °C", short(value)),
        "ops" | "reqps" => format!("{}/s", short(value)),
        _ => scaled(value, &["", " k", " M", " G"], 1000.0),
    }
}

fn short(value: f64) -> String {
    let digits = if value == 0.0 || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_in_grafana() {
        for (value, unit, text) in [
            (0.004, "s", "4 ms"),
            (0.0, "s", "0 s"),
            (7200.0, "s", "2 h"),
            (0.256, "percentunit", "25.6 %"),
            (3.0 * 1024.0 * 1024.0, "bytes", "3 MiB"),
            (1500.0, "short", "1.5 k"),
            (2.5e9, "hertz", "2.5 GHz"),
        ] {
            assert_eq!(amount(value, unit), text);
        }
    }
}
