//! Cuts a renderer's output into lines at `\n` and `\r`, whatever comes.

use std::fmt::Write;

/// Longest line kept; the rest of a longer one is counted and dropped.
pub const LINE_LEN_MAX: usize = 16 * 1024;

/// A line, and whether the next one is meant to overwrite it on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// Ended by `\r` alone: progress that the next line replaces.
    pub overwritten: bool,
}

#[derive(Debug, Default)]
pub struct LineCutter {
    part: Vec<u8>,
    dropped: usize,
    /// The last byte was `\r`: a `\n` now belongs to it.
    after_return: bool,
    /// What stood before that `\r`, held back until it is known whether `\n` follows.
    held: Option<String>,
}

impl LineCutter {
    /// Takes more bytes and gives the lines that they complete.
    pub fn push(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.after_return {
                self.after_return = false;
                let newline = rest[0] == b'\n';
                if newline {
                    rest = &rest[1..];
                }
                if let Some(text) = self.held.take().filter(|text| newline || !text.is_empty()) {
                    lines.push(Line { text, overwritten: !newline });
                }
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.extend(rest);
                return;
            };
            self.extend(&rest[..end]);
            let text = self.take();
            if rest[end] == b'\r' {
                self.after_return = true;
                self.held = Some(text);
            } else {
                lines.push(Line { text, overwritten: false });
            }
            rest = &rest[end + 1..];
        }
    }

    /// The end of the output: what is left is a line.
    pub fn finish(&mut self, lines: &mut Vec<Line>) {
        self.flush_held(lines);
        if !self.part.is_empty() {
            let text = self.take();
            lines.push(Line { text, overwritten: false });
        }
    }

    /// Gives out a line that waits for what follows its `\r`: the renderer is silent now.
    pub fn flush_held(&mut self, lines: &mut Vec<Line>) {
        if let Some(text) = self.held.take().filter(|text| !text.is_empty()) {
            lines.push(Line { text, overwritten: true });
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_LEN_MAX - self.part.len();
        let kept = bytes.len().min(room);
        self.part.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn take(&mut self) -> String {
        let mut text = without_colors(&String::from_utf8_lossy(&self.part));
        if self.dropped > 0 {
            let _a_string_takes_all = write!(text, " … ({} more bytes of this line dropped)", self.dropped);
        }
        self.part.clear();
        self.dropped = 0;
        text
    }
}

/// Drops terminal escapes (`ESC [ … letter`), which mean nothing in a log.
fn without_colors(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == '?');
        let mut chars = after.chars();
        // What ends an escape is a letter; anything else is the renderer's own.
        let ended = chars.next().is_some_and(|end| end.is_ascii_alphabetic());
        plain.push_str(if ended { chars.as_str() } else { after });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expected: &[(&str, bool)]) {
        let (mut cutter, mut lines) = (LineCutter::default(), Vec::new());
        for piece in pieces {
            cutter.push(piece.as_bytes(), &mut lines);
        }
        cutter.finish(&mut lines);
        let lines: Vec<(&str, bool)> = lines.iter().map(|line| (line.text.as_str(), line.overwritten)).collect();
        assert_eq!(lines, expected, "{pieces:?}");
    }

    #[test]
    fn lines_end_at_newlines_and_returns_wherever_the_bytes_are_cut() {
        check(&["a\nb\n"], &[("a", false), ("b", false)]);
        check(&["a\r", "\nb"], &[("a", false), ("b", false)]);
        check(&["1%\r2%\r", "done\n"], &[("1%", true), ("2%", true), ("done", false)]);
        check(&["\r1%", "  \r2%"], &[("1%  ", true), ("2%", false)]);
        check(&["a\n\nb"], &[("a", false), ("", false), ("b", false)]);
        check(&["1%\r"], &[("1%", true)]);
        check(&[""], &[]);
        check(&["\u{1b}[31éa\n\u{1b}[\n"], &[("éa", false), ("", false)]);
        check(&["\u{1b}[31mred\u{1b}[0m plain\u{1b}[1;32mé\n"], &[("red plainé", false)]);
    }

    #[test]
    fn a_line_of_ten_megabytes_is_clipped_and_the_next_one_is_whole() {
        let (mut cutter, mut lines) = (LineCutter::default(), Vec::new());
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..160 {
            cutter.push(&block, &mut lines);
        }
        cutter.push(b"\nnext\n", &mut lines);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].text.len() < LINE_LEN_MAX + 64);
        let dropped = 160 * block.len() - LINE_LEN_MAX;
        assert!(lines[0].text.ends_with(&format!("({dropped} more bytes of this line dropped)")));
        assert_eq!(lines[1].text, "next");
    }
}
