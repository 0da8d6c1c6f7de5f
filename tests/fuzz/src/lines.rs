//! The renderer's output, cut into lines.

use framewake_reading::lines::{LINE_LEN_MAX, Line, LineCutter};

/// Bytes that a sentence about a cut line may add; a byte that is no UTF-8 becomes three.
const LINE_TEXT_MAX: usize = 3 * LINE_LEN_MAX + 64;

/// A byte that says where to cut, then the output.
pub fn check(data: &[u8]) {
    let Some((cut, output)) = data.split_first() else { return };
    let whole = lines([output]);
    let at = output.len() * usize::from(*cut) / 256;
    assert_eq!(lines([&output[..at], &output[at..]]), whole);
    assert_eq!(lines(output.chunks(1)), whole);
    for line in &whole {
        assert!(line.text.len() <= LINE_TEXT_MAX);
        assert!(!line.text.contains(['\n', '\r']));
    }
    // Nothing of a plain line is lost.
    if let Ok(text) = std::str::from_utf8(output)
        && output.len() < LINE_LEN_MAX
        && !text.contains(|c: char| c.is_control() && c != '\n')
    {
        let expected: Vec<&str> = text.lines().collect();
        let found: Vec<&str> = whole.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(found, expected);
    }
}

fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let (mut cutter, mut lines) = (LineCutter::default(), Vec::new());
    for piece in pieces {
        cutter.push(piece, &mut lines);
    }
    cutter.finish(&mut lines);
    lines
}
