//! A token: what stands in it, and what is kept of it.
//!
//! `fw_<id>_<secret>`: the id finds it and may be said; the secret is 256 bits of chance. Of both together only the SHA-256 is
//! stored. A slow, salted hash is for what people make up: for secrets of at least 112 bits an approved one-way function is
//! enough (NIST SP 800-63B, 5.1.2.2), because none can be tried out.

use super::oidc::PERSON;
use framewake_proto::access::{Role, TOKEN_PREFIX, TokenView};
use framewake_proto::ids::Name;
use framewake_proto::notify::Secret;
use framewake_proto::time::Timestamp;
use hmac::digest::CtOutput;
use rustls::crypto::aws_lc_rs::default_provider;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
/// Of the whole text; what is longer or shorter is not looked at.
const TEXT_LEN: usize = TOKEN_PREFIX.len() + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES;

/// The part of a token that is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenId([u8; ID_BYTES]);

impl TokenId {
    /// The beginning of a digest, for what has no token of its own: it says nothing of what the digest is of.
    pub(crate) fn of_digest(digest: &[u8; 32]) -> TokenId {
        TokenId(*digest.first_chunk().expect("it is longer"))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for TokenId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<TokenId, hex::FromHexError> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id)?;
        Ok(TokenId(id))
    }
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    pub(crate) sha256: [u8; 32],
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) project: Option<Name>,
    pub(crate) made_at: Timestamp,
    pub(crate) made_by: String,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) used_at: Option<Timestamp>,
}

impl Token {
    pub(crate) fn view(&self) -> TokenView {
        TokenView {
            id: self.id.to_string(),
            name: self.name.clone(),
            role: self.role,
            project: self.project.clone(),
            made_at: self.made_at,
            made_by: self.made_by.clone(),
            expires_at: self.expires_at,
            used_at: self.used_at,
        }
    }
}

/// Why a token may not have this name; none: it may.
pub(crate) fn name_fault(name: &Name) -> Option<String> {
    let taken = name.as_str().starts_with(PERSON);
    taken.then(|| format!("`{PERSON}…` are names of people who log in by the provider of identities: choose another"))
}

/// A new token's id, its text and what is kept of it.
pub(crate) fn make() -> (TokenId, Secret, [u8; 32]) {
    let mut id = [0; ID_BYTES];
    random(&mut id);
    let mut secret = [0; SECRET_BYTES];
    random(&mut secret);
    let text = format!("{TOKEN_PREFIX}{}_{}", hex::encode(id), hex::encode(secret));
    let digest = digest(&text);
    (TokenId(id), Secret::new(text), digest)
}

/// The id, and what must be kept of it if it is one of ours; `None`: it looks like none.
pub(crate) fn read(text: &str) -> Option<(TokenId, [u8; 32])> {
    if text.len() != TEXT_LEN || !text.is_ascii() {
        return None;
    }
    let (id, secret) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if !secret.chars().all(hexadecimal) || !id.chars().all(hexadecimal) {
        return None;
    }
    Some((id.parse().ok()?, digest(text)))
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// In a time that says nothing of where they differ.
pub(crate) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    CtOutput::<Sha256>::new((*one).into()) == CtOutput::<Sha256>::new((*other).into())
}

/// Of the system's, by the library that TLS takes its own from.
pub(crate) fn random(bytes: &mut [u8]) {
    default_provider().secure_random.fill(bytes).expect("the system has random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_nothing_else_is_read() {
        let (id, text, kept) = make();
        let text = text.reveal();
        let (read_id, digest) = read(text).expect("a token");
        assert!(read_id == id && same(&digest, &kept));
        let (_, other, _) = make();
        let mixed = format!("{TOKEN_PREFIX}{id}_{}", other.reveal().rsplit('_').next().expect("a secret"));
        assert!(!same(&read(&mixed).expect("it looks like one").1, &kept), "the secret of another");
        let long = format!("{text}0");
        let huge = "f".repeat(1 << 20);
        let upper = text.to_uppercase();
        for wrong in
            ["", "fw_", "fw__", &text[1..], &text[..text.len() - 1], &long, &huge, &upper, &text.replace('_', "-")]
        {
            assert_eq!(read(wrong), None, "{}", wrong.len());
        }
        let mut last = text.to_owned();
        last.replace_range(text.len() - 1.., if text.ends_with('0') { "1" } else { "0" });
        assert!(!same(&read(&last).expect("it looks like one").1, &kept));
        assert!(!format!("{:?}", make()).contains(TOKEN_PREFIX), "a token prints itself");
    }
}
