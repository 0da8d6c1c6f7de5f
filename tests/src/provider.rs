//! A provider of identities (`OpenID` Connect) on this machine, which signs with a key of its own and lies as the test wants.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use framewake_proto::time::Timestamp;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey};
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
    Not,
}

type Lie = Box<dyn Fn(&mut Draft) + Send + Sync>;

struct Key {
    name: String,
    pair: KeyPair,
}

impl Key {
    fn make(name: &str) -> Key {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
        Key { name: name.to_owned(), pair }
    }

    fn described(&self) -> Value {
        // SEQUENCE { INTEGER n, INTEGER e }
        let (sequence, _) = element(self.pair.public_key_raw());
        let (n, rest) = element(sequence);
        let (e, _) = element(rest);
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes.strip_prefix(&[0]).unwrap_or(bytes));
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.name, "n": number(n), "e": number(e) })
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
    claims: Value,
    lie: Lie,
    /// How it calls itself, where not by its address.
    issuer: Option<String>,
    keys_asked: usize,
    away: bool,
}

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
            keys: vec![Key::make("first")],
            other: Key::make("first"),
            codes: HashMap::new(),
            claims: json!({ "sub": "1", "preferred_username": "Jane.Doe", "groups": ["lighting"] }),
            lie: Box::new(|_| ()),
            issuer: None,
            keys_asked: 0,
            away: false,
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
    pub fn change_key(&self, name: &str) {
        self.state().keys.push(Key::make(name));
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
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut state = state.lock().expect("nobody panics with it");
    if state.away {
        return Ok(respond(503, &json!({ "error": "temporarily_unavailable" })));
    }
    let issuer = state.issuer.clone().unwrap_or_else(|| format!("{here}/realm"));
    Ok(match url.path() {
        "/realm/.well-known/openid-configuration" => respond(
            200,
            &json!({
                "issuer": issuer, "authorization_endpoint": format!("{here}/authorize"), "token_endpoint": format!("{here}/token"),
                "jwks_uri": format!("{here}/keys"),
            }),
        ),
        "/keys" => {
            state.keys_asked += 1;
            let keys: Vec<Value> = state.keys.iter().map(Key::described).collect();
            respond(200, &json!({ "keys": keys }))
        }
        "/authorize" => authorize(&mut state, &url),
        "/token" => token(&mut state, &issuer, authorization.as_deref(), &body),
        _ => respond(404, &json!({})),
    })
}

/// Whoever comes here is logged in at once.
fn authorize(state: &mut State, url: &Url) -> Response<Full<Bytes>> {
    let asked: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let good = asked["response_type"] == "code"
        && asked["client_id"] == CLIENT
        && asked["code_challenge_method"] == "S256"
        && asked["scope"].split(' ').any(|scope| scope == "openid");
    assert!(good, "{asked:?}");
    let code = format!("code-{}", state.codes.len());
    state.codes.insert(code.clone(), (asked["nonce"].clone(), asked["code_challenge"].clone()));
    let mut back = Url::parse(&asked["redirect_uri"]).expect("an address");
    back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked["state"]).append_pair("iss", "x");
    Response::builder().status(302).header("location", back.as_str()).body(Full::default()).expect("a response")
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
    let mut draft =
        Draft { header: json!({ "alg": "RS256", "typ": "JWT", "kid": key.name }), claims, signed: Signed::Well };
    (state.lie)(&mut draft);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signing = format!("{}.{}", part(&draft.header), part(&draft.claims));
    let signature = match draft.signed {
        Signed::Well => key.pair.sign(signing.as_bytes()).expect("it signs"),
        Signed::ByAnother => state.other.pair.sign(signing.as_bytes()).expect("it signs"),
        Signed::Not => Vec::new(),
    };
    let id_token = format!("{signing}.{}", URL_SAFE_NO_PAD.encode(signature));
    respond(200, &json!({ "access_token": "x", "token_type": "Bearer", "id_token": id_token }))
}
