//! The words of a command, with a task's values in the places of their placeholders.

use super::{Setup, Step};
use crate::inputs::Staged;
use framewake_proto::function::{BUILT_IN_PLACEHOLDERS, Piece, pieces};
use framewake_proto::job::ParameterValue;
use std::path::{Path, PathBuf};

/// What the built-in placeholders stand for.
#[derive(Debug)]
pub struct Values<'a> {
    pub frames: &'a [i64],
    pub output: PathBuf,
    pub outputs: &'a Path,
    pub scratch: &'a Path,
    pub inputs: &'a Path,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("`{{{0}}}` in the function's command is neither a parameter nor built in")]
    Unknown(String),
    #[error("`{{{0}}}` in the function's command pads something that is no whole number")]
    Padding(String),
    #[error("the command has no program: its first word is empty")]
    NoProgram,
}

pub fn has_placeholders(word: &str) -> bool {
    framewake_proto::function::placeholders(word).next().is_some()
}

/// Fills in a command. The first word of the result is the program.
pub fn fill(
    command: &[String],
    setup: &Setup,
    step: &Step,
    staged: &Staged,
    values: &Values<'_>,
) -> Result<Vec<String>, Error> {
    let scope = Scope { setup, step, staged, values };
    let mut filled = Vec::new();
    for word in command {
        let mut parts = pieces(word);
        // A word that is a placeholder and nothing else may become many words, or none.
        if let (Some(Piece::Placeholder(name)), None) = (parts.next(), parts.next()) {
            match step.order.parameters.get(name) {
                Some(ParameterValue::Words(words)) => {
                    for word in words {
                        filled.push(scope.fill_word_of_job(word)?);
                    }
                    continue;
                }
                Some(ParameterValue::Text(text)) if text.is_empty() => continue,
                _ => {}
            }
        }
        let mut text = String::new();
        for piece in pieces(word) {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Placeholder(name) => text.push_str(&scope.value(name)?),
            }
        }
        filled.push(text);
    }
    if filled.first().is_none_or(String::is_empty) {
        return Err(Error::NoProgram);
    }
    Ok(filled)
}

struct Scope<'a> {
    setup: &'a Setup,
    step: &'a Step,
    staged: &'a Staged,
    values: &'a Values<'a>,
}

impl Scope<'_> {
    /// A word that the job gave: the built-in placeholders mean the same there, and every other brace
    /// is the job's own, as in `awk {print}`.
    fn fill_word_of_job(&self, word: &str) -> Result<String, Error> {
        let mut text = String::new();
        let mut rest = word;
        while let Some(at) = rest.find('{') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let placeholder = rest[1..].split_once('}').map(|(inside, _)| inside);
            let name = placeholder.and_then(|inside| inside.split(':').next());
            let known = name.is_some_and(|name| BUILT_IN_PLACEHOLDERS.contains(&name));
            if let Some(inside) = placeholder.filter(|_| known) {
                text.push_str(&self.value(inside)?);
                rest = &rest[inside.len() + 2..];
            } else {
                text.push('{');
                rest = &rest[1..];
            }
        }
        text.push_str(rest);
        Ok(text)
    }

    fn value(&self, placeholder: &str) -> Result<String, Error> {
        let unknown = || Error::Unknown(placeholder.to_owned());
        let (name, padding) = match placeholder.split_once(':') {
            Some((name, digits)) => (name, Some(digits.parse::<usize>().map_err(|_| unknown())?)),
            None => (placeholder, None),
        };
        let values = self.values;
        let frame = |frame: Option<&i64>| frame.copied().ok_or_else(unknown);
        let number = match name {
            "frame" | "first" => Some(frame(values.frames.first())?),
            "last" => Some(frame(values.frames.last())?),
            "count" => i64::try_from(values.frames.len()).ok(),
            _ => match self.step.order.parameters.get(name) {
                Some(ParameterValue::Integer(number)) => Some(*number),
                _ => None,
            },
        };
        match (number, padding) {
            (Some(number), padding) => Ok(padded(number, padding.unwrap_or(0))),
            (None, Some(_)) => Err(Error::Padding(placeholder.to_owned())),
            (None, None) => self.text(name).ok_or_else(unknown),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let path = |path: &Path| Some(path.display().to_string());
        match name {
            "frames" => {
                let frames: Vec<String> = self.values.frames.iter().map(i64::to_string).collect();
                Some(frames.join(","))
            }
            "output" => path(&self.values.output),
            "outputs" => path(self.values.outputs),
            "scratch" => path(self.values.scratch),
            "inputs" => path(self.values.inputs),
            _ => Some(match self.step.order.parameters.get(name)? {
                ParameterValue::Text(text) if self.setup.is_input(name) => {
                    self.staged.folder.join(text).display().to_string()
                }
                ParameterValue::Text(text) => text.clone(),
                ParameterValue::Boolean(yes) => yes.to_string(),
                ParameterValue::Integer(number) => number.to_string(),
                ParameterValue::Number(number) => number.to_string(),
                ParameterValue::Words(words) => words.join(" "),
            }),
        }
    }
}

/// `-0012` for -12 in 4 digits, as output templates write it.
fn padded(number: i64, digits: usize) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:0digits$}", number.unsigned_abs())
}
