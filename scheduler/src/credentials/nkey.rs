//! Keys of NATS: Ed25519, written in base 32 behind a letter that says whose they are (`O…`, `A…`, `U…`; seeds `SO…`, `SA…`),
//! with a checksum.

use anyhow::{Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::BASE32_NOPAD;
use framewake_proto::notify::Secret;
use std::fmt;

const KEY_LEN: usize = 32;
const SEED: u8 = 18 << 3;

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Operator,
    Account,
    User,
}

impl Kind {
    /// The first byte, which becomes the letter.
    const fn prefix(self) -> u8 {
        match self {
            Kind::Operator => 14 << 3,
            Kind::Account => 0,
            Kind::User => 20 << 3,
        }
    }

    /// Whose it is, and by what a seed of it is known.
    const fn begins(self) -> &'static str {
        match self {
            Kind::Operator => "an operator begins with `SO`",
            Kind::Account => "an account begins with `SA`",
            Kind::User => "a user begins with `SU`",
        }
    }
}

/// A key that can sign.
pub(super) struct Key {
    kind: Kind,
    pair: Ed25519KeyPair,
}

/// Only what may be known.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.public()).finish()
    }
}

impl Key {
    pub(super) fn make(kind: Kind) -> Key {
        Key { kind, pair: Ed25519KeyPair::generate().expect("the system has randomness") }
    }

    pub(super) fn of_seed(text: &str, kind: Kind) -> Result<Key> {
        let Some(bytes) = decode(text).filter(|bytes| bytes.len() == 2 + KEY_LEN) else {
            bail!("it is no seed: a seed of {} and has 58 letters and digits", kind.begins());
        };
        let of = (bytes[0] & 7) << 5 | bytes[1] >> 3;
        if bytes[0] & !7 != SEED || of != kind.prefix() {
            bail!("it is the key of something else: a seed of {} is needed", kind.begins());
        }
        match Ed25519KeyPair::from_seed_unchecked(&bytes[2..]) {
            Ok(pair) => Ok(Key { kind, pair }),
            Err(_) => bail!("it is no key of Ed25519"),
        }
    }

    pub(super) fn seed(&self) -> Secret {
        let seed = self.pair.seed().and_then(|seed| seed.as_be_bytes()).expect("the key holds it");
        let prefix = self.kind.prefix();
        let bytes = [&[SEED | prefix >> 5, (prefix & 31) << 3], seed.as_ref()].concat();
        Secret::new(encode(bytes))
    }

    pub(super) fn public(&self) -> String {
        encode([&[self.kind.prefix()], self.pair.public_key().as_ref()].concat())
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

/// Whether the holder of this key signed it.
pub(super) fn has_signed(public: &str, text: &[u8], signature: &[u8]) -> bool {
    decode(public).is_some_and(|bytes| UnparsedPublicKey::new(&ED25519, &bytes[1..]).verify(text, signature).is_ok())
}

pub(super) fn is_public(text: &str, kind: Kind) -> bool {
    decode(text).is_some_and(|bytes| bytes.len() == 1 + KEY_LEN && bytes[0] == kind.prefix())
}

/// The key of a user that proves nothing with it: the same for the same name, and nobody can sign with it.
pub(super) fn user_named(name: &str) -> String {
    encode([&[Kind::User.prefix()], digest(&SHA256, name.as_bytes()).as_ref()].concat())
}

fn encode(mut bytes: Vec<u8>) -> String {
    bytes.extend(checksum(&bytes).to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

/// At least one byte, or nothing.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let told = [bytes.pop()?, bytes.pop()?];
    (!bytes.is_empty() && u16::from_be_bytes(told) == checksum(&bytes)).then_some(bytes)
}

/// CRC-16 as in XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| if sum >> 15 == 1 { sum << 1 ^ 0x1021 } else { sum << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_nats_writes_it() {
        // Of the check value of CRC-16/XMODEM.
        assert_eq!(checksum(b"123456789"), 0x31c3);
        // From the documentation of NATS' keys.
        let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
        let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        let key = Key::of_seed(seed, Kind::User).expect("a good seed");
        assert_eq!((key.public().as_str(), key.seed().reveal()), (public, seed));
        assert!(is_public(public, Kind::User) && !is_public(public, Kind::Account) && !is_public(seed, Kind::User));
        for (kind, letter) in [(Kind::Operator, "O"), (Kind::Account, "A"), (Kind::User, "U")] {
            let key = Key::make(kind);
            assert!(key.public().starts_with(letter) && key.seed().reveal().starts_with(&format!("S{letter}")));
            assert!(has_signed(&key.public(), b"text", &key.sign(b"text")));
            assert!(!has_signed(&key.public(), b"test", &key.sign(b"text")));
            let again = Key::of_seed(key.seed().reveal(), kind).expect("its own seed");
            assert_eq!(again.public(), key.public());
        }
    }

    #[test]
    fn what_is_no_seed_of_an_account_is_refused() {
        let user = Key::make(Kind::User);
        let account = Key::make(Kind::Account);
        let (seed, secret) = (account.seed(), user.seed());
        let cut = &seed.reveal()[..50];
        let bent = seed.reveal().replacen("SA", "SB", 1);
        for text in ["", "SA", secret.reveal(), &account.public(), cut, &bent, "nats://farm:secret@host", "SA\u{e4}"] {
            let error = Key::of_seed(text, Kind::Account).expect_err(text).to_string();
            assert!(text.len() < 3 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_seed_is_never_printed() {
        let key = Key::make(Kind::Account);
        assert!(!format!("{key:?}").contains(key.seed().reveal()));
    }
}
