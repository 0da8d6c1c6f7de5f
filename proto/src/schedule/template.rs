//! The job of one run: the schedule's job with dates and the run's number in the places of their placeholders.

use crate::function::{BUILT_IN_PLACEHOLDERS, ParameterKind};
use crate::ids::{FunctionRef, Name, nearest};
use crate::job::{Fault, JobSpec, Known, ParameterValue, StepSpec};
use crate::template::PADDING_MAX;
use crate::time::Timestamp;
use std::fmt::Write as _;

/// The placeholders of schedules. Dates are those of the due time, in the schedule's zone.
const PLACEHOLDERS: [&str; 11] =
    ["date", "year", "month", "day", "hour", "minute", "second", "week", "weekday", "run", "schedule"];

/// What the placeholders of one run stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    pub schedule: Name,
    pub run: u64,
    due: jiff::Zoned,
}

impl Values {
    /// `None` for a time that no calendar has.
    pub fn new(schedule: Name, run: u64, due: Timestamp, zone: &jiff::tz::TimeZone) -> Option<Values> {
        let due = jiff::Timestamp::from_millisecond(due.0).ok()?.to_zoned(zone.clone());
        Some(Values { schedule, run, due })
    }

    /// Text of a placeholder, with its padding if it is a number.
    fn text(&self, name: &str) -> Option<Value> {
        let number = |number: i64, digits| Some(Value::Number(number, digits));
        let due = &self.due;
        match name {
            "date" => Some(Value::Text(due.date().to_string())),
            "year" => number(due.year().into(), 4),
            "month" => number(due.month().into(), 2),
            "day" => number(due.day().into(), 2),
            "hour" => number(due.hour().into(), 2),
            "minute" => number(due.minute().into(), 2),
            "second" => number(due.second().into(), 2),
            "week" => number(due.date().iso_week_date().week().into(), 2),
            "weekday" => number(due.weekday().to_monday_one_offset().into(), 1),
            "run" => number(self.run.cast_signed(), 1),
            "schedule" => Some(Value::Text(self.schedule.to_string())),
            _ => None,
        }
    }
}

/// A number has its usual width: `{month}` is `03`, and `{month:1}` is `3`.
enum Value {
    Text(String),
    Number(i64, usize),
}

/// The job of one run, or every placeholder that there is not.
pub fn fill(job: &JobSpec, values: &Values, known: &impl Known) -> Result<JobSpec, Vec<Fault>> {
    let mut filling = Filling { values, faults: Vec::new() };
    let mut job = job.clone();
    job.name = filling.text("/name", &job.name);
    for (key, value) in &mut job.labels {
        *value = filling.text(&format!("/labels/{key}"), value);
    }
    for (at, step) in job.steps.iter_mut().enumerate() {
        filling.step(&format!("/steps/{at}"), step, known);
    }
    if filling.faults.is_empty() { Ok(job) } else { Err(filling.faults) }
}

struct Filling<'a> {
    values: &'a Values,
    faults: Vec<Fault>,
}

impl Filling<'_> {
    fn step(&mut self, at: &str, step: &mut StepSpec, known: &impl Known) {
        if let Some(frames) = &mut step.frames {
            *frames = self.text(&format!("{at}/frames"), frames);
        }
        if let Some(output) = &mut step.output {
            *output = self.text(&format!("{at}/output"), output);
        }
        for (index, input) in step.inputs.iter_mut().enumerate() {
            for (field, text) in [("url", &mut input.url), ("as", &mut input.staged_as)] {
                if let Some(text) = text {
                    *text = self.text(&format!("{at}/inputs/{index}/{field}"), text);
                }
            }
        }
        let function = step.function.parse::<FunctionRef>().ok();
        let function = function.and_then(|wanted| known.function(&wanted)).map(|(_, spec)| spec);
        for (name, value) in &mut step.parameters {
            let pointer = format!("{at}/parameters/{name}");
            let kind = function.and_then(|function| function.parameters.get(name)).map(|spec| spec.kind);
            match value {
                ParameterValue::Text(text) => *value = self.parameter(&pointer, text, kind),
                ParameterValue::Words(words) => {
                    for word in words {
                        *word = self.text(&pointer, word);
                    }
                }
                ParameterValue::Boolean(_) | ParameterValue::Integer(_) | ParameterValue::Number(_) => {}
            }
        }
    }

    /// Text that becomes a whole number where the function wants a number.
    fn parameter(&mut self, pointer: &str, text: &str, kind: Option<ParameterKind>) -> ParameterValue {
        let filled = self.text(pointer, text);
        let wants_number = matches!(kind, Some(ParameterKind::Integer | ParameterKind::Number));
        match filled.parse() {
            Ok(number) if wants_number && filled != text => ParameterValue::Integer(number),
            _ => ParameterValue::Text(filled),
        }
    }

    /// What stands in doubled braces, and what is the renderer's own, stays for later.
    fn text(&mut self, pointer: &str, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let (before, from) = rest.split_at(brace);
            filled.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                filled.push_str("{{");
                rest = after;
                continue;
            }
            let Some((inside, after)) = from[1..].split_once('}').filter(|(inside, _)| is_placeholder(inside)) else {
                filled.push('{');
                rest = &from[1..];
                continue;
            };
            match self.placeholder(inside) {
                Ok(value) => filled.push_str(&value),
                Err(reason) => self.faults.push(Fault::new(pointer, reason)),
            }
            rest = after;
        }
        filled + rest
    }

    fn placeholder(&self, inside: &str) -> Result<String, String> {
        let (name, padding) = inside.split_once(':').map_or((inside, None), |(name, padding)| (name, Some(padding)));
        if BUILT_IN_PLACEHOLDERS.contains(&name) {
            return Ok(format!("{{{inside}}}"));
        }
        let Some(value) = self.values.text(name) else {
            let near =
                nearest(name, PLACEHOLDERS).map_or(String::new(), |near| format!("; did you mean `{{{near}}}`?"));
            let known = PLACEHOLDERS.join(", ");
            return Err(format!("`{{{inside}}}` is not a placeholder of schedules: there are {known}{near}"));
        };
        let digits = padding.map(|padding| padding.parse().ok().filter(|digits: &usize| *digits <= PADDING_MAX));
        match (value, digits) {
            (Value::Text(text), None) => Ok(text),
            (Value::Number(number, digits), None) | (Value::Number(number, _), Some(Some(digits))) => {
                Ok(padded(number, digits))
            }
            (Value::Text(_), Some(_)) => Err(format!("`{{{inside}}}` pads something that is no number")),
            (Value::Number(..), Some(None)) => Err(format!("`{{{inside}}}` asks for more than {PADDING_MAX} digits")),
        }
    }
}

fn padded(number: i64, digits: usize) -> String {
    let mut text = String::new();
    write!(text, "{number:0digits$}").expect("a string takes every letter");
    text
}

/// `{date}`, `{run:04}`. Other braces, of a shell or of JSON, are none of ours.
fn is_placeholder(inside: &str) -> bool {
    let (name, padding) = inside.split_once(':').unwrap_or((inside, "0"));
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    !name.is_empty() && name.chars().all(word) && !padding.is_empty() && padding.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::FunctionSpec;
    use serde_json::json;

    struct Farm(FunctionSpec);

    impl Known for Farm {
        fn function(&self, _: &FunctionRef) -> Option<(u32, &FunctionSpec)> {
            Some((1, &self.0))
        }

        fn function_names(&self) -> Vec<&str> {
            Vec::new()
        }

        fn url_allowed(&self, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn may_notify(&self, _: &Name, _: &Name) -> Result<(), String> {
            Ok(())
        }
    }

    fn filled(job: serde_json::Value) -> Result<serde_json::Value, Vec<Fault>> {
        let function = json!({
            "name": "f", "driver": { "kind": "command", "command": ["f"] },
            "parameters": { "seed": { "type": "integer" }, "note": { "type": "text" }, "words": { "type": "words" } },
        });
        let farm = Farm(serde_json::from_value(function).expect("a good function"));
        let job: JobSpec = serde_json::from_value(job).expect("a good job");
        let zone = jiff::tz::TimeZone::get("Europe/Paris").expect("it is bundled");
        // 2026-03-28 23:30 UTC is the 29th in Paris.
        let due = Timestamp(1_774_740_600_000);
        let values = Values::new("nightly".parse().expect("a name"), 7, due, &zone).expect("a time");
        fill(&job, &values, &farm).map(|job| serde_json::to_value(job).expect("JSON"))
    }

    #[test]
    fn dates_are_those_of_the_zone_and_numbers_have_their_width() {
        let job = filled(json!({
            "name": "{schedule} {date} {hour}:{minute}:{second}, run {run}, week {week}, day {weekday}",
            "labels": { "night": "{year}{month}{day}" },
            "steps": [{
                "name": "s", "function": "f", "frames": "1-{day}",
                "parameters": { "seed": "{run}", "note": "{run}", "words": ["{run:04} {month:1} {frame}", "{{date}}", "${HOME} {\"a\":1}"] },
                "output": "{date}/{run:03}_{frame:04}.png",
            }],
        }))
        .expect("all are known");
        assert_eq!(job["name"], "nightly 2026-03-29 00:30:00, run 7, week 13, day 7");
        assert_eq!(job["labels"]["night"], "20260329");
        let step = &job["steps"][0];
        assert_eq!(step["frames"], "1-29");
        assert_eq!(step["parameters"]["seed"], 7, "the function wants a number");
        assert_eq!(step["parameters"]["note"], "7", "the function wants text");
        assert_eq!(step["parameters"]["words"], json!(["0007 3 {frame}", "{{date}}", "${HOME} {\"a\":1}"]));
        assert_eq!(step["output"], "2026-03-29/007_{frame:04}.png");
    }

    #[test]
    fn unknown_placeholders_are_named_where_they_are() {
        let faults = filled(json!({
            "name": "{dat}",
            "steps": [{ "name": "s", "function": "f", "parameters": { "note": "{run:99}" }, "output": "{schedule:3}.png" }],
        }))
        .expect_err("three faults");
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["/name", "/steps/0/output", "/steps/0/parameters/note"]);
        assert!(faults[0].reason.contains("did you mean `{date}`"), "{}", faults[0].reason);
    }
}
