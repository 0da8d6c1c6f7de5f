//! What is signed for NATS: JSON Web Tokens of its own kind (`ed25519-nkey`).

use super::nkey::{Key, Kind, has_signed};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framewake_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
/// Longest that is looked at: ours have a kilobyte.
const LEN_MAX: usize = 8 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    iat: i64,
    #[serde(default)]
    iss: String,
    jti: String,
    pub(super) name: String,
    sub: String,
    nats: Value,
}

impl Claims {
    /// Of `subject`, as from now.
    pub(super) fn new(name: &str, subject: String, until: Option<Timestamp>, nats: Value) -> Claims {
        Claims {
            exp: until.map(|until| until.0 / 1000),
            iat: Timestamp::now().0 / 1000,
            iss: String::new(),
            jti: Key::make(Kind::User).public(),
            name: name.to_owned(),
            sub: subject,
            nats,
        }
    }

    /// The same, as if made after this second.
    pub(super) fn made_after(self, second: i64) -> Claims {
        Claims { iat: self.iat.max(second + 1), ..self }
    }
}

pub(super) fn sign(key: &Key, claims: Claims) -> String {
    let claims = Claims { iss: key.public(), ..claims };
    let body = serde_json::to_vec(&claims).expect("plain values");
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(body));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What this issuer has signed, be it over or not.
pub(super) fn read(text: &str, issuer: &str) -> Option<Claims> {
    if text.len() > LEN_MAX {
        return None;
    }
    let (signed, signature) = text.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    if !has_signed(issuer, signed.as_bytes(), &signature) {
        return None;
    }
    let (_, body) = signed.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
}
