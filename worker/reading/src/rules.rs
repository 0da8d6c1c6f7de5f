//! What a renderer's words mean: progress, or a verdict with a sentence and a hint.
//!
//! The built-in rule files are in `rules/`; a function's own rules are tried before them. A regular
//! expression may name these groups: `permille`, `percent`, `fraction`, `done` with `total`, or `bar`
//! (progress; a bar is drawn with spaces for what is missing); `note` (what it is doing); `version` and `device` (what does the work).

use framewake_proto::function::Rule;
use framewake_proto::verdict::Verdict;
use framewake_proto::wire::{FAILURE_MESSAGE_MAX, NOTE_MAX, clip};
use framewake_proto::yaml;
use regex::{Captures, Regex};

/// Longest sentence that a rule makes.
pub const MEANING_MAX: usize = FAILURE_MESSAGE_MAX;
/// Most bytes of a line that are looked at: what a renderer means stands near the beginning, and the time of an
/// expression grows with the line.
const LINE_READ_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("rule {number} of function `{function}` has a bad regular expression")]
    Expression {
        function: String,
        number: usize,
        #[source]
        error: Box<regex::Error>,
    },
    #[error("`{0}` is not a built-in rule file")]
    Unknown(String),
}

#[derive(Debug)]
pub struct Rules {
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    expression: Regex,
    rule: Rule,
}

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meaning {
    pub progress: Option<Progress>,
    pub finding: Option<Finding>,
    pub version: Option<String>,
    pub device: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 1000.
    pub permille: u32,
    pub note: String,
}

/// A line with a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    /// A sentence and, where there is one, what to do.
    pub message: String,
    /// Place of the rule among all: a lower one knows better.
    pub rank: usize,
}

impl Rules {
    /// The built-in rules `name` after the function's own.
    pub fn new(function: &str, name: &str, own: &[Rule]) -> Result<Rules, Error> {
        let text = built_in(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let built_in: Vec<Rule> = yaml::read(text).expect("the built-in rule files are tested");
        let mut rules = Vec::new();
        for (at, rule) in own.iter().chain(&built_in).enumerate() {
            let expression = rule.expression().map_err(|error| Error::Expression {
                function: function.to_owned(),
                number: at + 1,
                error: Box::new(error),
            })?;
            rules.push(Compiled { expression, rule: rule.clone() });
        }
        Ok(Rules { rules })
    }

    /// What `line` says; the first rule wins in each respect.
    pub fn read(&self, line: &str) -> Meaning {
        let line = clip(line, LINE_READ_MAX);
        let mut meaning = Meaning::default();
        for (rank, compiled) in self.rules.iter().enumerate() {
            let Some(captures) = compiled.expression.captures(line) else { continue };
            let group = |name| captures.name(name).map(|group| clip(group.as_str().trim(), NOTE_MAX).to_owned());
            meaning.version = meaning.version.or_else(|| group("version"));
            meaning.device = meaning.device.or_else(|| group("device"));
            if meaning.progress.is_none() {
                meaning.progress = progress(&captures);
            }
            if let (None, Some(verdict)) = (&meaning.finding, compiled.rule.verdict) {
                meaning.finding = Some(Finding { verdict, message: sentence(&compiled.rule, &captures), rank });
            }
        }
        meaning
    }
}

fn built_in(name: &str) -> Option<&'static str> {
    match name {
        "blender" => Some(include_str!("rules/blender.yaml")),
        "ffmpeg" => Some(include_str!("rules/ffmpeg.yaml")),
        "generic" => Some(include_str!("rules/generic.yaml")),
        "mitsuba" => Some(include_str!("rules/mitsuba.yaml")),
        "povray" => Some(include_str!("rules/povray.yaml")),
        "tachyon" => Some(include_str!("rules/tachyon.yaml")),
        _ => None,
    }
}

/// The rule's sentence with `$name` replaced by what the group found, then the hint.
fn sentence(rule: &Rule, captures: &Captures<'_>) -> String {
    let mut text = String::new();
    if rule.means.is_empty() {
        text.push_str(captures.get(0).map_or("", |whole| whole.as_str()).trim());
    } else {
        captures.expand(&rule.means, &mut text);
    }
    if !rule.hint.is_empty() {
        text.push_str("; hint: ");
        captures.expand(&rule.hint, &mut text);
    }
    text.truncate(text.floor_char_boundary(MEANING_MAX));
    text
}

fn progress(captures: &Captures<'_>) -> Option<Progress> {
    let number = |name: &str| captures.name(name)?.as_str().trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let permille = number("permille")
        .or_else(|| Some(number("percent")? * 10.0))
        .or_else(|| Some(number("fraction")? * 1000.0))
        .or_else(|| {
            let total = number("total").filter(|total| *total > 0.0)?;
            Some(number("done")? / total * 1000.0)
        })
        .or_else(|| {
            let bar = captures.name("bar").map(|bar| bar.as_str()).filter(|bar| !bar.is_empty())?;
            Some(bar.trim_end().len() as f64 / bar.len() as f64 * 1000.0)
        })?;
    let note = captures.name("note").or(captures.get(0)).map_or("", |group| group.as_str().trim());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped right here.
    let permille = permille.clamp(0.0, 1000.0) as u32;
    Some(Progress { permille, note: clip(note, NOTE_MAX).to_owned() })
}

#[cfg(test)]
mod tests;
