//! Server-sent events out of bytes that arrive cut anywhere (WHATWG HTML §9.2). Leaves ids to the bodies, which
//! carry their own, and waiting times to the caller.

use std::collections::VecDeque;

/// Largest event: ours stay below 64 KiB.
const EVENT_SIZE_MAX: usize = 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub event: String,
    pub data: String,
}

#[derive(Debug, thiserror::Error)]
#[error("an event is larger than the {EVENT_SIZE_MAX} bytes allowed")]
pub struct TooLarge;

#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last byte was `\r`, which ended a line: a `\n` that follows belongs to it.
    after_return: bool,
    /// A byte order mark is allowed before the first line only.
    begun: bool,
    event: String,
    data: String,
}

impl Parser {
    /// Takes in the next bytes and appends the events they complete.
    pub fn push(&mut self, bytes: &[u8], complete: &mut VecDeque<Message>) -> Result<(), TooLarge> {
        for byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(complete),
                _ if self.line.len() + self.data.len() >= EVENT_SIZE_MAX => return Err(TooLarge),
                _ => self.line.push(*byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, complete: &mut VecDeque<Message>) {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_event(complete);
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // Comments have no name before the colon; `id` and `retry` are not needed.
            _ => {}
        }
    }

    fn end_event(&mut self, complete: &mut VecDeque<Message>) {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_some() {
            complete.push_back(Message { event, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let mut complete = VecDeque::new();
        for piece in pieces {
            parser.push(piece, &mut complete).expect("small");
        }
        complete.into_iter().map(|message| (message.event, message.data)).collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(event, data)| ((*event).to_owned(), (*data).to_owned())).collect();
        assert_eq!(parse([text.as_bytes()]), expected, "{text:?}");
    }

    #[test]
    fn events_end_at_an_empty_line() {
        check("event: a\nid: 7\ndata: {}\n\n", &[("a", "{}")]);
        check("event:a\r\ndata:x\r\n\r\ndata: y\r\r", &[("a", "x"), ("", "y")]);
        check("\u{feff}data: first\ndata\ndata:  third\n\n", &[("", "first\n\n third")]);
        check("event: nothing\n\n: a comment\n\nretry: 10\n\n", &[]);
        check("data: not ended\n", &[]);
        check("data:\n\n", &[("", "")]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let mut complete = VecDeque::new();
        let piece = [b"data: ".as_slice(), &[b'x'; 1000], b"\n"].concat();
        let refused = (0..2000).any(|_| parser.push(&piece, &mut complete).is_err());
        assert!(refused && complete.is_empty());
        assert!(Parser::default().push(&vec![b'x'; EVENT_SIZE_MAX + 1], &mut complete).is_err());
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            text in "((event|data|id|retry|)(:| :|: |)[a-z\\PC]{0,6}|(\n|\r|\r\n)){0,40}",
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(parse(pieces), parse([bytes]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse([bytes.as_slice()]);
        }
    }
}
