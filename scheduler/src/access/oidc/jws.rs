//! Signed tokens (JWS, RFC 7515) held against a provider's keys (JWK, RFC 7517): only kinds of signatures that the provider alone
//! can make, by the cryptography that TLS has. Not here: what a token must say.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Longest token that is read: with hundreds of groups one has some ten kilobytes.
const TOKEN_MAX: usize = 256 * 1024;

/// Why a token is not what it claims to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is no signed token")]
    Shape,
    #[error("it is signed by `{0}`, which is not taken")]
    Algorithm(String),
    #[error("it asks for something that is not known")]
    Critical,
    #[error("it names a key that the provider does not have")]
    UnknownKey,
    #[error("its signature is not the provider's")]
    Signature,
    #[error("it does not say what it must say")]
    Claims(#[source] serde_json::Error),
}

/// Signatures that are taken: neither none, nor one by a secret that two have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa(&'static RsaParameters),
    P256,
    P384,
    Ed25519,
}

fn kind(algorithm: &str) -> Option<Kind> {
    Some(match algorithm {
        "RS256" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Kind::Rsa(&RSA_PSS_2048_8192_SHA256),
        "PS384" => Kind::Rsa(&RSA_PSS_2048_8192_SHA384),
        "PS512" => Kind::Rsa(&RSA_PSS_2048_8192_SHA512),
        "ES256" => Kind::P256,
        "ES384" => Kind::P384,
        "EdDSA" => Kind::Ed25519,
        _ => return None,
    })
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// A public key of a provider; what is of another kind than is known here is left alone.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Key {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// A token that was read, and not yet believed.
#[derive(Debug)]
pub(super) struct Token<'a> {
    header: Header,
    kind: Kind,
    claims: Vec<u8>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Token<'a>, Error> {
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Shape);
        };
        if text.len() > TOKEN_MAX {
            return Err(Error::Shape);
        }
        let signed = &text.as_bytes()[..header.len() + 1 + claims.len()];
        let header: Header =
            decoded(header).and_then(|header| serde_json::from_slice(&header).ok()).ok_or(Error::Shape)?;
        let claims = decoded(claims).ok_or(Error::Shape)?;
        let signature = decoded(signature).ok_or(Error::Shape)?;
        if header.crit.is_some() {
            return Err(Error::Critical);
        }
        let kind = kind(&header.alg).ok_or_else(|| Error::Algorithm(header.alg.chars().take(32).collect()))?;
        Ok(Token { header, kind, claims, signed, signature })
    }

    /// The key that it names, or the only one that could have signed it.
    pub(super) fn key<'k>(&self, keys: &'k Keys) -> Option<&'k Key> {
        let mut good = keys.keys.iter().filter(|key| self.may_be_by(key));
        match &self.header.kid {
            Some(name) => good.find(|key| key.kid.as_ref() == Some(name)),
            None => good.next().filter(|_| good.next().is_none()),
        }
    }

    fn may_be_by(&self, key: &Key) -> bool {
        let curve = key.crv.as_deref();
        let kind = match self.kind {
            Kind::Rsa(_) => key.kty == "RSA",
            Kind::P256 => key.kty == "EC" && curve == Some("P-256"),
            Kind::P384 => key.kty == "EC" && curve == Some("P-384"),
            Kind::Ed25519 => key.kty == "OKP" && curve == Some("Ed25519"),
        };
        let said = key.alg.as_ref().is_none_or(|said| *said == self.header.alg);
        kind && said && key.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
    }

    /// What it says, if the key has signed it.
    pub(super) fn verified<T: DeserializeOwned>(&self, key: &Key) -> Result<T, Error> {
        if self.verify(key) != Some(true) {
            return Err(Error::Signature);
        }
        serde_json::from_slice(&self.claims).map_err(Error::Claims)
    }

    fn verify(&self, key: &Key) -> Option<bool> {
        let part = |text: &Option<String>| text.as_deref().and_then(decoded);
        let point = |size: usize| {
            let (x, y) = (part(&key.x)?, part(&key.y)?);
            // Uncompressed, as SEC 1 writes it.
            (x.len() == size && y.len() == size).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        let by = |algorithm: &'static dyn VerificationAlgorithm, public: &[u8]| {
            UnparsedPublicKey::new(algorithm, public).verify(self.signed, &self.signature).is_ok()
        };
        Some(match self.kind {
            Kind::Rsa(parameters) => {
                let without_zeros =
                    |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let (n, e) = (without_zeros(part(&key.n)?), without_zeros(part(&key.e)?));
                RsaPublicKeyComponents { n, e }.verify(parameters, self.signed, &self.signature).is_ok()
            }
            Kind::P256 => by(&ECDSA_P256_SHA256_FIXED, &point(32)?),
            Kind::P384 => by(&ECDSA_P384_SHA384_FIXED, &point(48)?),
            Kind::Ed25519 => by(&ED25519, &part(&key.x)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7515 (A.2, A.3) and RFC 8037 (A.4, A.5): signed by others than us.
    const RSA: (&str, &str) = (
        r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    const EC: (&str, &str) = (
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );

    fn keys(keys: &[Value]) -> Keys {
        serde_json::from_value(json!({ "keys": keys })).expect("keys")
    }

    fn key(text: &str) -> Value {
        serde_json::from_str(text).expect("a key")
    }

    #[test]
    fn what_others_have_signed_is_known_and_what_was_changed_is_not() {
        for (public, text) in [RSA, EC] {
            let known = keys(&[key(RSA.0), key(EC.0)]);
            let token = Token::read(text).expect("a token");
            let found = token.key(&known).expect("the only one of its kind");
            let claims: Value = token.verified(found).expect("signed");
            assert_eq!(claims["iss"], "joe", "{public}");
            for at in 0..3 {
                // Another sign in each part.
                let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
                let middle = parts[at].len() / 2;
                let other = if parts[at].as_bytes()[middle] == b'A' { "B" } else { "A" };
                parts[at].replace_range(middle..=middle, other);
                let changed = parts.join(".");
                let refused = Token::read(&changed).and_then(|token| token.verified::<Value>(found));
                assert!(refused.is_err(), "part {at}");
            }
        }
    }

    #[test]
    fn a_token_that_no_provider_alone_can_sign_is_not_read() {
        let with = |header: Value| format!("{}.e30.e30", URL_SAFE_NO_PAD.encode(header.to_string()));
        for algorithm in ["none", "None", "HS256", "RS1", "", "rs256"] {
            let text = with(json!({ "alg": algorithm }));
            assert!(matches!(Token::read(&text), Err(Error::Algorithm(_))), "{algorithm}");
        }
        assert!(matches!(Token::read(&with(json!({ "alg": "RS256", "crit": ["b64"] }))), Err(Error::Critical)));
        for shape in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.e30", &"a".repeat(TOKEN_MAX + 1)] {
            assert!(matches!(Token::read(shape), Err(Error::Shape)), "{}", shape.len());
        }
    }

    #[test]
    fn a_key_of_another_name_kind_or_purpose_is_not_taken() {
        let text = with_name("one");
        let token = Token::read(&text).expect("a token");
        let named = |name: &str, more: Value| {
            let mut key = key(RSA.0);
            key["kid"] = name.into();
            for (field, value) in more.as_object().expect("fields") {
                key[field] = value.clone();
            }
            key
        };
        assert!(token.key(&keys(&[named("one", json!({}))])).is_some());
        for other in [json!({"use": "enc"}), json!({"alg": "RS512"}), json!({"kty": "EC"})] {
            assert!(token.key(&keys(&[named("one", other.clone())])).is_none(), "{other}");
        }
        assert!(token.key(&keys(&[named("two", json!({}))])).is_none());
        // Without a name only what can't be mistaken is taken.
        let nameless = Token::read(RSA.1).expect("a token");
        assert!(nameless.key(&keys(&[named("one", json!({})), named("two", json!({}))])).is_none());
    }

    fn with_name(name: &str) -> String {
        let header = json!({ "alg": "RS256", "kid": name }).to_string();
        format!("{}.e30.e30", URL_SAFE_NO_PAD.encode(header))
    }
}
