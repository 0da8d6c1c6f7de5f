//! Words for people: text made harmless for a terminal, durations, fields.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Text of others on one line, with nothing in it that a terminal would obey.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

/// As [`clean`], but lines stay lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// JSON on one line, with the same meaning and nothing that a terminal would obey: `jq` understands it, and whoever reads
/// it without is safe.
pub(crate) fn clean_json(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_harmful) {
        return Cow::Borrowed(line);
    }
    let mut cleaned = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_harmful(c) {
            // All of them have four digits, and stand in strings only.
            write!(cleaned, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

/// Control characters, and those that turn the direction of the text around them, so that `a` reads as `b`.
fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Cleans text that arrives in pieces, cut anywhere, and keeps its lines and tabs.
#[derive(Debug, Default)]
pub(crate) struct LogCleaner {
    /// The beginning of a character whose end has not come.
    rest: Vec<u8>,
}

impl LogCleaner {
    pub(crate) fn clean(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let bytes = std::mem::take(&mut self.rest);
        let mut cleaned = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' | '\t' => cleaned.push(c),
                    // A program that rewrites its line: each version on a line of its own.
                    '\r' => cleaned.push('\n'),
                    c if is_harmful(c) => cleaned.extend(c.escape_default()),
                    c => cleaned.push(c),
                }
            }
            let invalid = chunk.invalid();
            // An incomplete character is at most three bytes, and only at the end may it still become whole.
            let at_end = bytes.ends_with(invalid) && chunk_ends_at(&bytes, invalid);
            if at_end && is_character_start(invalid) {
                self.rest = invalid.to_vec();
            } else if !invalid.is_empty() {
                cleaned.push(char::REPLACEMENT_CHARACTER);
            }
        }
        cleaned
    }
}

fn chunk_ends_at(bytes: &[u8], chunk: &[u8]) -> bool {
    bytes.as_ptr_range().end == chunk.as_ptr_range().end
}

/// Whether more bytes could make a character of these.
fn is_character_start(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// `/steps/0/frames` as `steps[0].frames`.
pub(crate) fn field_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()) && !path.is_empty() {
            write!(path, "[{part}]").expect("a String takes everything");
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&part);
        }
    }
    if path.is_empty() { "the whole".to_owned() } else { path }
}

/// A duration as short as it may be: `4ms`, `0.4s`, `12s`, `3m 07s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() < 100 => format!("{}ms", duration.as_millis()),
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A rate for people: `3.2 frames/s`, or the other way round where that is clearer: `12s/frame`.
pub(crate) fn rate(per_s: f64) -> String {
    if per_s >= 1.0 || per_s <= 0.0 {
        format!("{per_s:.1} frames/s")
    } else {
        let each = Duration::try_from_secs_f64(1.0 / per_s).unwrap_or(Duration::MAX);
        format!("{}/frame", self::duration(each))
    }
}

/// `1 frame`, `2 frames`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// At most `chars_max` characters, with `…` where some were left out.
pub(crate) fn shorten(text: &str, chars_max: usize) -> Cow<'_, str> {
    if text.chars().count() <= chars_max {
        return Cow::Borrowed(text);
    }
    let head: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    Cow::Owned(head + "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("plain ä 漢"), "plain ä 漢");
        assert_eq!(clean("\x1b[2Jgone\x07"), "\\u{1b}[2Jgone\\u{7}");
        assert_eq!(clean("a\u{9b}31mb\u{202e}c\r\n"), "a\\u{9b}31mb\\u{202e}c\\r\\n");
        assert_eq!(clean_lines("a\nb\x1b]0;t\x07"), "a\nb\\u{1b}]0;t\\u{7}");
    }

    #[test]
    fn json_keeps_its_meaning_and_nothing_in_it_is_obeyed() {
        let said = serde_json::json!({"text": "\x1b[2J\u{9b}31m\x7f\u{202e}cod.exe\u{200f} ä漢\n"});
        let line = said.to_string();
        let cleaned = clean_json(&line);
        assert_eq!(cleaned, r#"{"text":"\u001b[2J\u009b31m\u007f\u202ecod.exe\u200f ä漢\n"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).expect("JSON"), said);
        assert_eq!(clean_json("{}"), "{}");
    }

    #[test]
    fn a_log_cut_anywhere_reads_the_same() {
        let log = "Fra:1 ä漢\u{1f980}\r50%\r\x1b[1mend\n".as_bytes();
        let log = [log, b"bad \xff\xfe\xc3(\n\xe6\xbc"].concat();
        let whole = {
            let mut cleaner = LogCleaner::default();
            cleaner.clean(&log)
        };
        assert_eq!(whole, "Fra:1 ä漢\u{1f980}\n50%\n\\u{1b}[1mend\nbad \u{fffd}\u{fffd}\u{fffd}(\n");
        for cut in 0..=log.len() {
            let mut cleaner = LogCleaner::default();
            let cut_up = cleaner.clean(&log[..cut]) + &cleaner.clean(&log[cut..]);
            assert_eq!(cut_up, whole, "cut at {cut}");
        }
    }

    #[test]
    fn fields_read_as_in_the_file() {
        for (pointer, path) in [
            ("/steps/0/frames", "steps[0].frames"),
            ("/steps/1/inputs/12/as", "steps[1].inputs[12].as"),
            ("/labels/a~1b", "labels.a/b"),
            ("/name", "name"),
            ("", "the whole"),
        ] {
            assert_eq!(field_path(pointer), path);
        }
    }

    #[test]
    fn durations_and_rates_are_short() {
        let of = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!(
            [of(0.0049), of(0.44), of(12.9), of(187.0), of(7500.0), of(273_700.0)],
            ["4ms", "0.4s", "12s", "3m 07s", "2h 05m", "3d 04h"]
        );
        assert_eq!([rate(3.21), rate(0.05), rate(0.0)], ["3.2 frames/s", "20s/frame", "0.0 frames/s"]);
        assert_eq!([count(1u32, "frame"), count(2u32, "frame")], ["1 frame", "2 frames"]);
    }
}
