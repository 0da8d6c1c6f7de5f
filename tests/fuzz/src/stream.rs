//! Server-sent events, as the client reads them.

use framewake_proto::sse::{Message, Parser};
use std::collections::VecDeque;

/// A byte that says where to cut, then the stream.
pub fn check(data: &[u8]) {
    let Some((cut, said)) = data.split_first() else { return };
    let whole = events([said]);
    let at = said.len() * usize::from(*cut) / 256;
    assert_eq!(events([&said[..at], &said[at..]]), whole);
    for event in whole.iter().flatten() {
        assert!(!event.event.contains(['\n', '\r']) && !event.data.contains('\r'), "{event:?}");
    }
}

fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<VecDeque<Message>> {
    let (mut parser, mut complete) = (Parser::default(), VecDeque::new());
    for piece in pieces {
        parser.push(piece, &mut complete).ok()?;
    }
    Some(complete)
}
