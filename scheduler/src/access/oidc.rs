//! People who log in to the pages by a provider of identities (`OpenID` Connect): authorization code with PKCE, state and nonce,
//! and the ID token held against the provider's own keys.
//!
//! What comes of it is a [`Person`], and a session of pages stands for it as for a token. Not here: requests and cookies
//! (`rest/oidc.rs`).

mod jws;
mod logins;
mod provider;
mod settings;

pub use settings::OidcSettings;
pub(crate) use settings::SettingsError;

use super::token::random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framewake_proto::access::Role;
use framewake_proto::ids::Name;
use framewake_proto::time::Timestamp;
use jws::Token;
use logins::Logins;
use provider::{ANSWER_MAX, Provider};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use settings::{GroupRule, PublicUrl, UrlError, endpoint, rights};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long somebody may take to log in at the provider.
pub(crate) const LOGIN_WITHIN: Duration = Duration::from_mins(10);
/// How far clocks of provider and scheduler may be apart.
const LEEWAY_S: f64 = 60.0;

/// Why somebody is not logged in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the provider of identities can't be asked at `{url}`")]
    Away {
        url: String,
        #[source]
        error: reqwest::Error,
    },
    #[error("the provider of identities answers {status} at `{url}`{said}")]
    Answer { url: String, status: u16, said: String },
    #[error("the provider's answer at `{0}` is longer than {ANSWER_MAX} bytes")]
    TooLong(String),
    #[error("the provider's answer at `{url}` can't be read")]
    Unreadable {
        url: String,
        #[source]
        error: serde_json::Error,
    },
    #[error(
        "the provider calls itself `{said}`, and not `{issuer}`, as --oidc-issuer says: they must be the same, byte by byte"
    )]
    OtherIssuer { issuer: String, said: String },
    #[error("the provider names an address that is not used")]
    Endpoint(#[source] UrlError),
    #[error("the login was not begun by this browser, was begun more than {} minutes ago, or is over already", LOGIN_WITHIN.as_secs() / 60)]
    Stale,
    #[error("the provider refused: {0}")]
    Refused(String),
    #[error("the ID token is not good")]
    Token(#[source] jws::Error),
    #[error("the ID token is not for this login: {0}")]
    NotForUs(&'static str),
    #[error("`{0}` is in no group that may come in")]
    NoGroup(String),
}

impl Error {
    /// What the page is told; the log has the rest.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Away { .. } | Error::Answer { .. } | Error::TooLong(_) | Error::Unreadable { .. } => "away",
            Error::OtherIssuer { .. } | Error::Endpoint(_) => "settings",
            Error::Stale => "stale",
            Error::Refused(_) => "refused",
            Error::Token(_) | Error::NotForUs(_) => "token",
            Error::NoGroup(_) => "group",
        }
    }
}

/// Who logged in, as the farm knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) name: Name,
    /// Whom they call themselves at the provider, which others may too, and the provider's own word for them, which is theirs alone.
    #[serde(default)]
    pub(crate) called: String,
    #[serde(default)]
    pub(crate) subject: String,
    pub(crate) role: Role,
    pub(crate) project: Option<Name>,
    /// By which provider, and the group that let them in: what they may do ends with the rule that says it.
    pub(crate) issuer: String,
    pub(crate) group: String,
}

/// Somebody has come back from the provider.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) person: Person,
    /// The page they wanted.
    pub(crate) to: String,
    pub(crate) id_token: String,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    id_token: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    /// Seconds since 1970, as all times here; fractions are allowed.
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(flatten)]
    more: HashMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The provider of identities of this farm.
#[derive(Debug)]
pub(crate) struct Oidc {
    provider: Provider,
    client: String,
    secret: Option<String>,
    url: PublicUrl,
    groups: Vec<GroupRule>,
    groups_claim: String,
    scopes: String,
    logins: Logins,
}

/// Where somebody is sent to log in, and what their browser keeps until they come back.
pub(crate) struct Begun {
    pub(crate) address: Url,
    pub(crate) kept: String,
}

/// Text that nobody guesses.
fn chance() -> String {
    let mut bytes = [0; 32];
    random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Only a page of this farm: an address with a host, however it is written, leads to `/`.
pub(crate) fn page(text: &str) -> String {
    let own = text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 512
        && text.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    if own { text.to_owned() } else { "/".to_owned() }
}

impl Oidc {
    /// `None` where there is no provider.
    pub(crate) fn open(settings: &OidcSettings) -> Result<Option<Oidc>, SettingsError> {
        let secret = settings.secret()?;
        let OidcSettings { oidc_issuer, oidc_client, oidc_url, oidc_groups, oidc_groups_claim, oidc_scopes, .. } =
            settings;
        let (Some(issuer), Some(client), Some(url)) = (oidc_issuer.clone(), oidc_client.clone(), oidc_url.clone())
        else {
            return Ok(None);
        };
        let scopes =
            std::iter::once("openid").chain(oidc_scopes.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        Ok(Some(Oidc {
            provider: Provider::new(issuer)?,
            client,
            secret,
            url,
            groups: oidc_groups.clone(),
            groups_claim: oidc_groups_claim.clone(),
            scopes,
            logins: Logins::new(),
        }))
    }

    /// What the button calls it.
    pub(crate) fn name(&self) -> String {
        self.provider.issuer.host()
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.url.is_encrypted()
    }

    /// Asks the provider about itself, which a start does only to say early what is wrong.
    pub(crate) async fn look(&self) -> Result<(), Error> {
        self.provider.description().await.map(drop)
    }

    /// Sends somebody to the provider, and then on to that page.
    pub(crate) async fn begin(&self, to: &str) -> Result<Begun, Error> {
        let description = self.provider.description().await?;
        let (login, kept) = self.logins.begin(to, Instant::now());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&login.verifier));
        let mut address = endpoint(&description.authorization_endpoint).map_err(Error::Endpoint)?;
        address.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", self.client.as_str()),
            ("redirect_uri", self.url.callback().as_str()),
            ("scope", self.scopes.as_str()),
            ("state", login.state.as_str()),
            ("nonce", login.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(Begun { address, kept })
    }

    /// Whether somebody who logged in before a restart may go on.
    pub(crate) fn admits(&self, person: &Person) -> bool {
        let Person { role, project, issuer, group, .. } = person;
        let rule = GroupRule { group: group.clone(), role: *role, project: project.clone() };
        issuer == self.provider.issuer.as_str() && self.groups.contains(&rule)
    }

    /// Where a browser is logged out of the provider too, and comes back from; `None`: the provider has no such address.
    pub(crate) async fn end(&self, id_token: Option<&str>) -> Result<Option<Url>, Error> {
        let Some(text) = self.provider.description().await?.end_session_endpoint else { return Ok(None) };
        let mut address = endpoint(&text).map_err(Error::Endpoint)?;
        let back = self.url.page();
        let mut query = address.query_pairs_mut();
        if let Some(hint) = id_token {
            query.append_pair("id_token_hint", hint);
        }
        query.append_pair("client_id", &self.client).append_pair("post_logout_redirect_uri", &back);
        drop(query);
        Ok(Some(address))
    }

    /// Somebody comes back. `kept` is what their browser kept; a login is good for once.
    pub(crate) async fn finish(
        &self,
        kept: Option<&str>,
        state: &str,
        code: &Result<String, String>,
    ) -> Result<LoggedIn, Error> {
        let login = kept.and_then(|kept| self.logins.find(kept, state, Instant::now())).ok_or(Error::Stale)?;
        let code = code.as_ref().map_err(|said| Error::Refused(said.clone()))?;
        let id_token = self.redeem(code, &login.verifier).await?;
        if !self.logins.end(&login, Instant::now()) {
            return Err(Error::Stale);
        }
        let claims = self.verified(&id_token).await?;
        if claims.nonce.as_deref() != Some(login.nonce.as_str()) {
            return Err(Error::NotForUs("its nonce is another"));
        }
        Ok(LoggedIn { person: self.person(&claims)?, to: login.to, id_token })
    }

    /// The ID token for a code.
    async fn redeem(&self, code: &str, verifier: &str) -> Result<String, Error> {
        let description = self.provider.description().await?;
        let url = endpoint(&description.token_endpoint).map_err(Error::Endpoint)?;
        let callback = self.url.callback();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback.as_str()),
            ("client_id", self.client.as_str()),
            ("code_verifier", verifier),
        ];
        let mut request = self.provider.http.post(url.clone());
        let methods = &description.token_endpoint_auth_methods_supported;
        // What is not said is `client_secret_basic`, as the standard has it.
        let in_body = !methods.is_empty() && !methods.iter().any(|method| method == "client_secret_basic");
        match &self.secret {
            Some(secret) if in_body => form.push(("client_secret", secret)),
            Some(secret) => request = request.basic_auth(urlencoded(&self.client), Some(urlencoded(secret))),
            None => {}
        }
        let mut body = Url::parse("form:").expect("a URL");
        body.query_pairs_mut().extend_pairs(form);
        let body = body.query().unwrap_or_default().to_owned();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let tokens: Tokens = self.provider.answer(&url, request).await?;
        Ok(tokens.id_token)
    }

    /// What an ID token says, if the provider says it to us and now.
    async fn verified(&self, text: &str) -> Result<Claims, Error> {
        let token = Token::read(text).map_err(Error::Token)?;
        let claims: Claims = token.verified(&self.provider.key(&token).await?).map_err(Error::Token)?;
        self.check(&claims, Timestamp::now().0 as f64 / 1000.0)?;
        Ok(claims)
    }

    fn check(&self, claims: &Claims, now_s: f64) -> Result<(), Error> {
        let client = &self.client;
        let (ours, several) = match &claims.aud {
            Audience::One(one) => (one == client, false),
            Audience::Several(all) => (all.contains(client), all.len() > 1),
        };
        let given = claims.azp.as_ref();
        let fault = if claims.iss != self.provider.issuer.as_str() {
            "its issuer is another"
        } else if !ours {
            "its audience is another"
        } else if given.is_some_and(|azp| azp != client) {
            "it was given to another client"
        } else if several && given.is_none() {
            "it is for several, and does not say to whom it was given"
        } else if claims.exp + LEEWAY_S <= now_s {
            "it has expired"
        } else if claims.nbf.is_some_and(|nbf| nbf - LEEWAY_S > now_s) {
            "it is not good yet"
        } else {
            return Ok(());
        };
        Err(Error::NotForUs(fault))
    }

    fn person(&self, claims: &Claims) -> Result<Person, Error> {
        let text = |name: &str| claims.more.get(name).and_then(Value::as_str);
        let called = text("preferred_username").or_else(|| text("email")).unwrap_or(&claims.sub);
        let groups = groups(&claims.more, &self.groups_claim);
        let rule = rights(&self.groups, &groups).ok_or_else(|| Error::NoGroup(clip(called)))?;
        let GroupRule { group, role, project } = rule.clone();
        let (issuer, subject) = (self.provider.issuer.as_str().to_owned(), clip(&claims.sub));
        let name = name_of(called, &issuer, &claims.sub);
        Ok(Person { name, called: clip(called), subject, role, project, issuer, group })
    }
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// As user and password of `Basic` are written for OAuth (RFC 6749, 2.3.1).
fn urlencoded(text: &str) -> String {
    let mut url = Url::parse("form:").expect("a URL");
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

/// Names of groups: a list, or one; `realm_access.roles` is in another claim.
fn groups(claims: &HashMap<String, Value>, path: &str) -> Vec<String> {
    let within = || {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |at, part| at.get(part))
    };
    let found = claims.get(path).or_else(within);
    match found {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(_) | None => Vec::new(),
    }
}

/// What names of people begin with, and no token's name.
pub(crate) const PERSON: &str = "oidc-";
/// Letters of what somebody is called that stand in their name.
const CALLED_MAX: usize = 48;

/// A name for lists and the audit. At the provider `jane.doe` and `jane-doe` may be two, and names of ours can't tell them apart:
/// the end does, which is made of what the provider gives to nobody else.
fn name_of(called: &str, issuer: &str, subject: &str) -> Name {
    let letters = called.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let letters: String = letters.take(CALLED_MAX).collect();
    let digest = Sha256::new().chain_update(issuer).chain_update([0u8]).chain_update(subject).finalize();
    let text = format!("{PERSON}{letters}-{}", hex::encode(&digest[..4]));
    text.parse().expect("made of what names are made of")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_of_another_host_is_never_gone_on_with() {
        for own in ["/", "/jobs/01J?x=1#frame", "/jobs?name=a%20b"] {
            assert_eq!(page(own), own);
        }
        for other in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "\\\\evil.example",
            "/a\nlocation: x",
            "evil",
            "/ä",
        ] {
            assert_eq!(page(other), "/", "{other}");
        }
        assert_eq!(page(&format!("/{}", "x".repeat(600))), "/");
    }

    #[test]
    fn groups_are_read_where_the_provider_puts_them() {
        let claims = |value: Value| value.as_object().expect("claims").clone().into_iter().collect::<HashMap<_, _>>();
        assert_eq!(groups(&claims(json!({"groups": ["a", 1, "b"]})), "groups"), ["a", "b"]);
        assert_eq!(groups(&claims(json!({"realm_access": {"roles": ["a"]}})), "realm_access.roles"), ["a"]);
        assert_eq!(groups(&claims(json!({"https://x.example/groups": "a"})), "https://x.example/groups"), ["a"]);
        assert_eq!(groups(&claims(json!({"groups": {"a": 1}})), "groups"), Vec::<String>::new());
        assert_eq!(groups(&claims(json!({})), "realm_access.roles"), Vec::<String>::new());
    }

    #[test]
    fn whatever_somebody_is_called_is_a_name_of_ours() {
        let name = |called: &str, subject: &str| name_of(called, "https://login.example", subject).to_string();
        assert!(name("Jane.Doe@Studio.example", "1").starts_with("oidc-jane-doe-studio-example-"));
        for odd in ["", "ä", &"x".repeat(300), "../../etc", "<b>"] {
            assert!(name(odd, "1").starts_with("oidc-"), "{odd}");
        }
    }

    #[test]
    fn two_people_have_two_names_whatever_they_call_themselves() {
        let long = "x".repeat(200);
        let called = ["jane.doe", "jane-doe", "jane_doe", "Jane-Doe", "\u{e4}\u{e4}", "\u{f6}\u{f6}", &long, &long];
        let mut names: Vec<Name> = called
            .iter()
            .enumerate()
            .map(|(at, called)| name_of(called, "https://login.example", &at.to_string()))
            .collect();
        names.push(name_of("jane.doe", "https://other.example", "0"));
        let one = name_of("jane.doe", "https://login.example", "0");
        assert_eq!(one, names[0], "the same at each login");
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }
}
