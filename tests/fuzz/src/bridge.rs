//! Messages of a session's bridge.

use framewake_reading::bridge::{Messages, Tell};

/// How often a first piece of the input comes before the rest of it: what is cut must not matter.
pub fn check(data: &[u8]) {
    let Some((cut, said)) = data.split_first() else { return };
    let whole = told([said]);
    let at = said.len() * usize::from(*cut) / 256;
    let cut = told([&said[..at], &said[at..]]);
    assert_eq!(whole, cut);
}

/// What was told until the first nonsense, and that nonsense.
fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Tell>, Option<String>) {
    let (mut messages, mut told) = (Messages::default(), Vec::new());
    for piece in pieces {
        messages.push(piece);
        loop {
            match messages.take() {
                Ok(Some(tell)) => {
                    assert!(tell.describe().len() < 300, "what is said of a message is bounded");
                    told.push(tell);
                }
                Ok(None) => break,
                Err(nonsense) => return (told, Some(nonsense.to_string())),
            }
        }
    }
    (told, None)
}
