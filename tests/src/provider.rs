//! A provider of identities (`OpenID` Connect) on this machine: it signs with keys of its own, asks people who they are, remembers
//! their browsers, and lies as the test wants.

use crate::farm::TestFarm;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use framewake_proto::time::Timestamp;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the farm is called at the provider, and its secret there.
pub const CLIENT: &str = "framewake farm";
pub const SECRET: &str = "p@ss word:1";

/// What a token says, and how it is signed, before it is.
#[derive(Debug, Clone)]
pub struct Draft {
    pub header: Value,
    pub claims: Value,
    /// With the provider's newest key; else with one of its own, or not at all.
    pub signed: Signed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    Well,
    ByAnother,
    /// As if the provider's public key were a secret that it has with the farm (HMAC).
    ByThePublicKey,
    Not,
}

/// By what a provider signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

type Lie = Box<dyn Fn(&mut Draft) + Send + Sync>;

enum Pair {
    Rsa(RsaKeyPair),
    Curve(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

struct Key {
    name: String,
    algorithm: Algorithm,
    pair: Pair,
}

impl Key {
    fn make(name: &str, algorithm: Algorithm) -> Key {
        let pair = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")),
            Algorithm::Es256 => Pair::Curve(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")),
            Algorithm::Es384 => Pair::Curve(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key")),
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().expect("a key")),
        };
        Key { name: name.to_owned(), algorithm, pair }
    }

    fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Curve(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    fn described(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = json!({ "use": "sig", "alg": self.algorithm.name(), "kid": self.name });
        match &self.pair {
            Pair::Rsa(_) => {
                // SEQUENCE { INTEGER n, INTEGER e }
                let (sequence, _) = element(self.public());
                let (n, rest) = element(sequence);
                let (e, _) = element(rest);
                let number = |bytes: &[u8]| text(bytes.strip_prefix(&[0]).unwrap_or(bytes));
                (key["kty"], key["n"], key["e"]) = ("RSA".into(), number(n).into(), number(e).into());
            }
            Pair::Curve(_) => {
                // 4, x, y
                let (x, y) = self.public()[1..].split_at(self.public().len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                (key["kty"], key["crv"]) = ("EC".into(), curve.into());
                (key["x"], key["y"]) = (text(x).into(), text(y).into());
            }
            Pair::Ed25519(_) => {
                (key["kty"], key["crv"], key["x"]) = ("OKP".into(), "Ed25519".into(), text(self.public()).into());
            }
        }
        key
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let chance = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = match self.algorithm {
                    Algorithm::Ps256 => pair.sign(&RSA_PSS_SHA256, &chance, message, &mut signature),
                    _ => pair.sign(&RSA_PKCS1_SHA256, &chance, message, &mut signature),
                };
                signed.expect("it signs");
                signature
            }
            Pair::Curve(pair) => pair.sign(&chance, message).expect("it signs").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// The contents of the first element (DER), and what follows it.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, from) = match bytes[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (bytes[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + count)
        }
    };
    (&bytes[from..from + length], &bytes[from + length..])
}

struct State {
    keys: Vec<Key>,
    other: Key,
    /// What a code is good for: nonce and challenge.
    codes: HashMap<String, (String, String)>,
    codes_given: usize,
    claims: Value,
    lie: Lie,
    /// How it calls itself, where not by its address.
    issuer: Option<String>,
    keys_asked: usize,
    away: bool,
    /// Asks people who they are, and remembers their browsers; else everybody is let through at once.
    asks: bool,
    /// Where people come back to who log out; without it nobody can.
    out: Option<String>,
    /// ID tokens that were given out, and those of people who have logged out.
    given: Vec<String>,
    ended: Vec<String>,
}

/// What a browser keeps that is logged in here.
const COOKIE: &str = "provider=jane";

pub struct Provider {
    port: u16,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Provider {
    pub async fn start(port: u16) -> Provider {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is the test's own");
        let state = Arc::new(Mutex::new(State {
            keys: vec![Key::make("first", Algorithm::Rs256)],
            other: Key::make("first", Algorithm::Rs256),
            codes: HashMap::new(),
            codes_given: 0,
            claims: json!({ "sub": "1", "preferred_username": "Jane.Doe", "groups": ["lighting"] }),
            lie: Box::new(|_| ()),
            issuer: None,
            keys_asked: 0,
            away: false,
            asks: false,
            out: None,
            given: Vec::new(),
            ended: Vec::new(),
        }));
        let shared = state.clone();
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), port, request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Provider { port, state, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/realm", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// What it says of whoever logs in.
    pub fn says(&self, claims: Value) {
        self.state().claims = claims;
    }

    /// Changes tokens before they are signed, or how.
    pub fn lies(&self, lie: impl Fn(&mut Draft) + Send + Sync + 'static) {
        self.state().lie = Box::new(lie);
    }

    pub fn calls_itself(&self, issuer: Option<&str>) {
        self.state().issuer = issuer.map(str::to_owned);
    }

    /// Signs with another key from now on.
    pub fn change_key(&self, name: &str, algorithm: Algorithm) {
        self.state().keys.push(Key::make(name, algorithm));
    }

    /// With one that it has, from now on.
    pub fn signs_with(&self, name: &str) {
        let mut state = self.state();
        let at = state.keys.iter().position(|key| key.name == name).expect("it has one of this name");
        let key = state.keys.remove(at);
        state.keys.push(key);
    }

    /// Only the newest key is the provider's any more.
    pub fn forget_keys(&self) {
        let newest = self.state().keys.pop().expect("it has one");
        self.state().keys = vec![newest];
    }

    /// Asks people who they are from now on, and remembers their browsers.
    pub fn asks_people(&self) {
        self.state().asks = true;
    }

    /// People may log out, and come back to this address.
    pub fn lets_out_to(&self, address: &str) {
        self.state().out = Some(address.to_owned());
    }

    /// How many have logged out with an ID token that was given out.
    pub fn ended(&self) -> usize {
        self.state().ended.len()
    }

    /// The arguments of a scheduler whose people log in here; its pages are at `url`.
    pub fn arguments(&self, farm: &TestFarm, url: &str, groups: &str) -> Vec<String> {
        let secret = farm.folder().join("oidc-secret");
        std::fs::write(&secret, format!("{SECRET}\n")).expect("writable");
        let (issuer, secret) = (self.url(), secret.display().to_string());
        let words = [
            "--access",
            "tokens",
            "--oidc-issuer",
            &issuer,
            "--oidc-client",
            CLIENT,
            "--oidc-secret-file",
            &secret,
            "--oidc-url",
            url,
            "--oidc-groups",
            groups,
        ];
        words.map(str::to_owned).to_vec()
    }

    pub fn keys_asked(&self) -> usize {
        self.state().keys_asked
    }

    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn respond(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::new(Bytes::from(body.to_string()))).expect("a response")
}

async fn answer(
    state: Arc<Mutex<State>>,
    port: u16,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let here = format!("http://127.0.0.1:{port}");
    let url = Url::parse(&format!("{here}{}", request.uri())).expect("a URL");
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let cookies = request.headers().get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let logged_in = cookies.contains(COOKIE) || url.query_pairs().any(|(name, _)| name == "me");
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut state = state.lock().expect("nobody panics with it");
    if state.away {
        return Ok(respond(503, &json!({ "error": "temporarily_unavailable" })));
    }
    let issuer = state.issuer.clone().unwrap_or_else(|| format!("{here}/realm"));
    Ok(match url.path() {
        "/realm/.well-known/openid-configuration" => {
            let mut said = json!({
                "issuer": issuer, "authorization_endpoint": format!("{here}/authorize"), "token_endpoint": format!("{here}/token"),
                "jwks_uri": format!("{here}/keys"),
            });
            if state.out.is_some() {
                said["end_session_endpoint"] = format!("{here}/logout?of=realm").into();
            }
            respond(200, &said)
        }
        "/keys" => {
            state.keys_asked += 1;
            let keys: Vec<Value> = state.keys.iter().map(Key::described).collect();
            respond(200, &json!({ "keys": keys }))
        }
        "/authorize" if state.asks && !logged_in => {
            let way = url.query().unwrap_or_default().replace('&', "&amp;");
            page(&format!("<h1>Who are you?</h1><a href='/authorize?{way}&amp;me=jane'>I am Jane</a>"))
        }
        "/authorize" => authorize(&mut state, &url),
        "/token" => token(&mut state, &issuer, authorization.as_deref(), &body),
        "/logout" => log_out(&mut state, &url),
        _ => respond(404, &json!({})),
    })
}

fn page(body: &str) -> Response<Full<Bytes>> {
    let body = format!("<!doctype html><html lang='en'><title>Provider</title><main>{body}</main></html>");
    let answer = Response::builder().header("content-type", "text/html; charset=utf-8");
    answer.body(Full::new(Bytes::from(body))).expect("a response")
}

fn asked(url: &Url) -> HashMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// Whoever comes here has said who they are.
fn authorize(state: &mut State, url: &Url) -> Response<Full<Bytes>> {
    let asked = asked(url);
    let good = asked["response_type"] == "code"
        && asked["client_id"] == CLIENT
        && asked["code_challenge_method"] == "S256"
        && asked["scope"].split(' ').any(|scope| scope == "openid");
    assert!(good, "{asked:?}");
    state.codes_given += 1;
    let code = format!("code-{}", state.codes_given);
    state.codes.insert(code.clone(), (asked["nonce"].clone(), asked["code_challenge"].clone()));
    let mut back = Url::parse(&asked["redirect_uri"]).expect("an address");
    back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked["state"]).append_pair("iss", "x");
    let answer = Response::builder().status(302).header("location", back.as_str());
    let answer = if state.asks { answer.header("set-cookie", format!("{COOKIE}; Path=/; HttpOnly")) } else { answer };
    answer.body(Full::default()).expect("a response")
}

/// Only with what large providers ask for too: the token that was given, the client it was given to, an address that is known.
fn log_out(state: &mut State, url: &Url) -> Response<Full<Bytes>> {
    let asked = asked(url);
    let said = |name: &str| asked.get(name).map(String::as_str);
    let hint = said("id_token_hint").filter(|hint| state.given.iter().any(|given| given == hint));
    let known = said("post_logout_redirect_uri") == state.out.as_deref() && said("client_id") == Some(CLIENT);
    let (Some(hint), true, Some("realm")) = (hint, known, said("of")) else {
        return page(&format!("<h1>This logout is not known here</h1><p>{asked:?}</p>"));
    };
    state.ended.push(hint.to_owned());
    let back = state.out.clone().unwrap_or_default();
    let answer = Response::builder().status(302).header("location", back);
    let answer = answer.header("set-cookie", format!("{COOKIE}; Path=/; Max-Age=0"));
    answer.body(Full::default()).expect("a response")
}

fn token(state: &mut State, issuer: &str, authorization: Option<&str>, body: &[u8]) -> Response<Full<Bytes>> {
    let basic = STANDARD.encode("framewake+farm:p%40ss+word%3A1");
    if authorization != Some(&format!("Basic {basic}")) {
        return respond(401, &json!({ "error": "invalid_client" }));
    }
    let form = Url::parse(&format!("form:?{}", String::from_utf8_lossy(body))).expect("a form");
    let form: HashMap<String, String> = form.query_pairs().into_owned().collect();
    let Some((nonce, challenge)) = state.codes.remove(&form["code"]) else {
        return respond(400, &json!({ "error": "invalid_grant" }));
    };
    if URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"])) != challenge {
        return respond(400, &json!({ "error": "invalid_grant" }));
    }
    let now = Timestamp::now().0 / 1000;
    let mut claims = json!({ "iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce });
    for (name, value) in state.claims.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let key = state.keys.last().expect("it has one");
    let mut draft = Draft {
        header: json!({ "alg": key.algorithm.name(), "typ": "JWT", "kid": key.name }),
        claims,
        signed: Signed::Well,
    };
    (state.lie)(&mut draft);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signing = format!("{}.{}", part(&draft.header), part(&draft.claims));
    let signature = match draft.signed {
        Signed::Well => key.sign(signing.as_bytes()),
        Signed::ByAnother => state.other.sign(signing.as_bytes()),
        Signed::ByThePublicKey => {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, key.public());
            hmac::sign(&secret, signing.as_bytes()).as_ref().to_vec()
        }
        Signed::Not => Vec::new(),
    };
    let id_token = format!("{signing}.{}", URL_SAFE_NO_PAD.encode(signature));
    state.given.push(id_token.clone());
    respond(200, &json!({ "access_token": "x", "token_type": "Bearer", "id_token": id_token }))
}
