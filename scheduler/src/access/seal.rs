//! What is given away and must come back as it was, or be read by one alone: sealed by AES-256-GCM.

use super::token::random;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

#[derive(Debug)]
pub(crate) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(crate) fn of(key: &[u8; 32]) -> Seal {
        Seal(RandomizedNonceKey::new(&AES_256_GCM, key).expect("256 bits are a key"))
    }

    /// With a key that ends with it.
    pub(crate) fn by_chance() -> Seal {
        let mut key = [0; 32];
        random(&mut key);
        Seal::of(&key)
    }

    pub(crate) fn close(&self, text: &str) -> Vec<u8> {
        let mut sealed = text.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut sealed).expect("it is short");
        [nonce.as_ref().as_slice(), &sealed].concat()
    }

    /// `None`: it was not sealed by this, or is another now.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<String> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.0.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}
