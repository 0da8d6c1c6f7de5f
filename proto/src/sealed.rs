//! Text that only one can read, over a way that others hear: whoever wants it sends a key made for the purpose (X25519), and
//! what comes back is sealed for it (AES-256-GCM under a key that is used once).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::error::Unspecified;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Bytes of a key.
const KEY_LEN: usize = 32;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it is not sealed for this key")]
pub struct NotForUs;

/// The key of whoever wants to be answered.
pub struct Opener {
    private: PrivateKey,
    public: Vec<u8>,
}

/// Never what is in it.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Opener {
    /// A new key.
    pub fn make() -> Opener {
        let private = PrivateKey::generate(&X25519).expect("the system has randomness");
        let public = private.compute_public_key().expect("it was just made").as_ref().to_vec();
        Opener { private, public }
    }

    /// What is sent to whoever answers.
    pub fn key(&self) -> &[u8] {
        &self.public
    }

    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, NotForUs> {
        let (theirs, text) = sealed.split_at_checked(KEY_LEN).ok_or(NotForUs)?;
        let key = shared(&self.private, theirs, theirs, &self.public).map_err(|Unspecified| NotForUs)?;
        let mut text = text.to_vec();
        let opened = key.open_in_place(once(), Aad::empty(), &mut text).map_err(|Unspecified| NotForUs)?.len();
        text.truncate(opened);
        Ok(text)
    }
}

/// Seals `text` for a key of which nothing is known; `None` if it is none.
pub fn seal(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let ours = Opener::make();
    let shared = shared(&ours.private, key, &ours.public, key).ok()?;
    let mut sealed = text.to_vec();
    shared.seal_in_place_append_tag(once(), Aad::empty(), &mut sealed).ok()?;
    Some([ours.public, sealed].concat())
}

/// Both keys are in it, so that it is the key of this one message.
fn shared(private: &PrivateKey, theirs: &[u8], sealer: &[u8], opener: &[u8]) -> Result<LessSafeKey, Unspecified> {
    agree(private, UnparsedPublicKey::new(&X25519, theirs), Unspecified, |secret| {
        let key = Sha256::new().chain_update(secret).chain_update(sealer).chain_update(opener).finalize();
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?))
    })
}

/// Each message has a key of its own, for its sealer is new.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_key_alone() {
        let (ours, others) = (Opener::make(), Opener::make());
        let sealed = seal(ours.key(), b"secret").expect("a good key");
        assert_eq!(ours.open(&sealed).as_deref(), Ok(b"secret".as_slice()));
        assert_eq!(others.open(&sealed), Err(NotForUs));
        assert_ne!(seal(ours.key(), b"secret"), Some(sealed.clone()), "each is sealed by a new key");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(ours.open(&bent), Err(NotForUs), "byte {at}");
            assert_eq!(ours.open(&sealed[..at]), Err(NotForUs), "cut at {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_sealed_for_nobody() {
        for key in [vec![], vec![1; KEY_LEN - 1], vec![1; KEY_LEN + 1], vec![0; KEY_LEN]] {
            assert_eq!(seal(&key, b"secret"), None, "{} bytes", key.len());
        }
    }
}
