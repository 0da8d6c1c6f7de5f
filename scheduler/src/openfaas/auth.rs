//! Who may come in: HTTP basic authentication, compared in a time that says nothing about how much of it was right.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Longest credentials, in base64: more is not read.
const CREDENTIALS_LEN_MAX: usize = 8192;

pub(super) struct Door {
    /// Of the credentials, under a key of this process: what is compared has one length, whatever was sent.
    expected: Vec<u8>,
    key: [u8; 32],
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(user: &str, password: &str) -> Door {
        let mut key = [0; 32];
        fastrand::fill(&mut key);
        let expected = mac(&key, format!("{user}:{password}").as_bytes()).finalize().into_bytes().to_vec();
        Door { expected, key }
    }

    /// Whether an `Authorization` is that of our user.
    pub(super) fn opens(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(words) = authorization.and_then(|value| value.to_str().ok()) else { return false };
        let Some((scheme, credentials)) = words.split_once(' ') else { return false };
        if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > CREDENTIALS_LEN_MAX {
            return false;
        }
        let Ok(given) = STANDARD.decode(credentials.trim()) else { return false };
        mac(&self.key, &given).verify_slice(&self.expected).is_ok()
    }
}

fn mac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length are good");
    mac.update(text);
    mac
}
