//! Output templates: `frames/{frame:04}.png` becomes the name of one task's output.

use crate::frames::FRAME_MAX;
use crate::job::PART_LEN_MAX;
use std::fmt;

/// Longest output template, in bytes.
pub const TEMPLATE_LEN_MAX: usize = 512;
/// Most digits that `{frame:0N}` may ask for.
pub const PADDING_MAX: usize = 12;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    #[error("the output template is empty: write for example `frames/{{frame:04}}.png`")]
    Empty,
    #[error("the output template is longer than {TEMPLATE_LEN_MAX} bytes")]
    TooLong,
    #[error("a part of the output template gives more than {PART_LEN_MAX} bytes: shorten the name or the folder")]
    PartTooLong,
    #[error("`{{{0}}}` is not a placeholder: use `{{frame}}` or `{{frame:04}}`")]
    Placeholder(String),
    #[error("a brace in the output template is not closed")]
    Unclosed,
    #[error("`{{frame}}` appears more than once")]
    Repeated,
    #[error("the output template leaves its folder: it must be a relative path without `.`, `..` or empty parts")]
    Escapes,
    #[error(
        "the output template has the character {0:?}: use letters, digits, `/`, `.`, `-`, `_` and spaces inside names"
    )]
    Character(char),
    #[error("the step has {0} frames and the template has no `{{frame}}`: all would write one file")]
    FrameMissing(u32),
    #[error("the name has no extension: end it with `.png`, `.jpg`, `.exr`, `.mp4` or another")]
    NoExtension,
}

/// A checked template. Two parts around at most one frame number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTemplate {
    before: String,
    /// Digits to pad to, and what follows; `None` without `{frame}`.
    frame: Option<(usize, String)>,
}

impl OutputTemplate {
    /// Reads a template for a step of `tasks` tasks.
    pub fn parse(text: &str, tasks: u32) -> Result<OutputTemplate, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > TEMPLATE_LEN_MAX {
            return Err(TemplateError::TooLong);
        }
        let template = match text.split_once('{') {
            None => OutputTemplate { before: text.to_owned(), frame: None },
            Some((before, rest)) => {
                let (placeholder, after) = rest.split_once('}').ok_or(TemplateError::Unclosed)?;
                let digits = parse_placeholder(placeholder)?;
                if let Some((_, rest)) = after.split_once('{') {
                    let (second, _) = rest.split_once('}').ok_or(TemplateError::Unclosed)?;
                    parse_placeholder(second)?;
                    return Err(TemplateError::Repeated);
                }
                OutputTemplate { before: before.to_owned(), frame: Some((digits, after.to_owned())) }
            }
        };
        template.check_path()?;
        if template.frame.is_none() && tasks > 1 {
            return Err(TemplateError::FrameMissing(tasks));
        }
        Ok(template)
    }

    fn check_path(&self) -> Result<(), TemplateError> {
        // A frame number never makes a path part empty or `..`, so one sample stands for all.
        let sample = self.name(1);
        let good = |c: char| c.is_alphanumeric() || "/.-_ ".contains(c);
        if let Some(bad) = sample.chars().find(|c| !good(*c)) {
            return Err(TemplateError::Character(bad));
        }
        let longest = self.name(-FRAME_MAX);
        if longest.split('/').any(|part| part.len() > PART_LEN_MAX) {
            return Err(TemplateError::PartTooLong);
        }
        let parts: Vec<&str> = sample.split('/').collect();
        if parts.iter().any(|part| part.trim().is_empty() || *part == "." || *part == ".." || part.trim() != *part) {
            return Err(TemplateError::Escapes);
        }
        match parts.last().and_then(|file| file.rsplit_once('.')) {
            Some((stem, extension)) if !stem.is_empty() && !extension.is_empty() => Ok(()),
            _ => Err(TemplateError::NoExtension),
        }
    }

    /// The output's name for `frame`, relative to the job's folder.
    pub fn name(&self, frame: i64) -> String {
        match &self.frame {
            None => self.before.clone(),
            Some((digits, after)) => {
                let sign = if frame < 0 { "-" } else { "" };
                format!("{}{sign}{:0digits$}{after}", self.before, frame.unsigned_abs())
            }
        }
    }

    pub fn has_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Lower-case extension, without the dot.
    pub fn extension(&self) -> String {
        let tail = self.frame.as_ref().map_or(&self.before, |(_, after)| after);
        tail.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_lowercase())
    }

    /// Whether some frame could give both templates one name. Errs on the side of yes, except that
    /// equal templates are told apart by the frames of their steps, which the caller compares.
    pub fn may_meet(&self, other: &OutputTemplate) -> bool {
        let starts_meet = self.before.starts_with(&other.before) || other.before.starts_with(&self.before);
        match (&self.frame, &other.frame) {
            (None, None) => self.before == other.before,
            (Some((_, a)), Some((_, b))) => starts_meet && (a.ends_with(b.as_str()) || b.ends_with(a.as_str())),
            (Some((_, after)), None) => {
                other.before.starts_with(&self.before) && other.before.ends_with(after.as_str())
            }
            (None, Some((_, after))) => self.before.starts_with(&other.before) && self.before.ends_with(after.as_str()),
        }
    }
}

fn parse_placeholder(text: &str) -> Result<usize, TemplateError> {
    let wrong = || TemplateError::Placeholder(text.chars().take(32).collect());
    match text.split_once(':') {
        None if text == "frame" => Ok(0),
        Some(("frame", padding)) => {
            let digits: usize = padding.strip_prefix('0').unwrap_or(padding).parse().map_err(|_| wrong())?;
            if digits <= PADDING_MAX { Ok(digits) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

impl fmt::Display for OutputTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.frame {
            None => f.write_str(&self.before),
            Some((0, after)) => write!(f, "{}{{frame}}{after}", self.before),
            Some((digits, after)) => write!(f, "{}{{frame:0{digits}}}{after}", self.before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, tasks: u32) -> TemplateError {
        OutputTemplate::parse(text, tasks).expect_err(text)
    }

    #[test]
    fn templates_name_frames() {
        for (text, frame, name) in [
            ("frames/{frame:04}.png", 7, "frames/0007.png"),
            ("f_{frame}.exr", -12, "f_-12.exr"),
            ("f_{frame:4}.exr", -12, "f_-0012.exr"),
            ("shot 010/{frame:02}.jpg", 12345, "shot 010/12345.jpg"),
        ] {
            let template = OutputTemplate::parse(text, 10).expect(text);
            assert_eq!(template.name(frame), name);
        }
        assert_eq!(OutputTemplate::parse("a/video.MP4", 1).expect("valid").extension(), "mp4");
    }

    #[test]
    fn templates_that_escape_clash_or_mistype_are_refused() {
        assert_eq!(refused("", 1), TemplateError::Empty);
        assert_eq!(refused("video.mp4", 2), TemplateError::FrameMissing(2));
        assert_eq!(refused("{frme}.png", 2), TemplateError::Placeholder("frme".into()));
        assert_eq!(refused("{frame:099}.png", 2), TemplateError::Placeholder("frame:099".into()));
        assert_eq!(refused("{frame", 2), TemplateError::Unclosed);
        assert_eq!(refused("{frame}{frame}.png", 2), TemplateError::Repeated);
        assert_eq!(refused("{frame}", 2), TemplateError::NoExtension);
        assert_eq!(refused(&format!("{}/{{frame}}.png", "a".repeat(PART_LEN_MAX + 1)), 2), TemplateError::PartTooLong);
        assert_eq!(refused(&format!("{}{{frame}}.png", "a".repeat(PART_LEN_MAX - 8)), 2), TemplateError::PartTooLong);
        assert_eq!(refused("a\\{frame}.png", 2), TemplateError::Character('\\'));
        for text in [
            "../{frame}.png",
            "/etc/{frame}.png",
            "a//{frame}.png",
            "a/../../{frame}.png",
            "./{frame}.png",
            "a /{frame}.png",
        ] {
            assert_eq!(refused(text, 2), TemplateError::Escapes, "{text}");
        }
    }

    #[test]
    fn templates_that_could_write_one_name_are_seen() {
        let parse = |text| OutputTemplate::parse(text, 1).expect("valid");
        assert!(parse("a/{frame}.png").may_meet(&parse("a/7.png")));
        assert!(parse("a/{frame:04}.png").may_meet(&parse("a/{frame}.png")));
        assert!(!parse("a/{frame}.png").may_meet(&parse("b/{frame}.png")));
        assert!(!parse("a/{frame}.png").may_meet(&parse("a/{frame}.exr")));
        assert!(!parse("a.mp4").may_meet(&parse("b.mp4")));
    }
}
