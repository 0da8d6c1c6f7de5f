//! The provider of identities itself: what it says of itself, and its keys, asked for when they are needed and believed for a while.

use super::jws::{self, Key, Keys, Token};
use super::settings::{Issuer, SettingsError, endpoint};
use super::{Error, clip};
use reqwest::Url;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Longest wait for an answer of the provider: somebody sits in front of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Largest answer of a provider that is read.
pub(super) const ANSWER_MAX: usize = 1024 * 1024;
/// How long what a provider says of itself is believed.
const BELIEVED_FOR: Duration = Duration::from_hours(1);
/// How often keys are asked for again because a token names one that is not known, at most: everybody can name any.
const KEYS_EVERY: Duration = Duration::from_secs(2);

/// What a provider says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Description {
    issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    jwks_uri: String,
    /// Where people are logged out, if it can do that for others.
    #[serde(default)]
    pub(super) end_session_endpoint: Option<String>,
    #[serde(default)]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Debug, Default)]
struct Known {
    description: Option<(Description, Instant)>,
    keys: Option<(Keys, Instant)>,
}

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: Issuer,
    pub(super) http: reqwest::Client,
    known: Mutex<Known>,
}

impl Provider {
    pub(super) fn new(issuer: Issuer) -> Result<Provider, SettingsError> {
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(Policy::none()).build();
        Ok(Provider { issuer, http: http.map_err(SettingsError::Client)?, known: Mutex::default() })
    }

    /// The provider's key that a token names, asked for again where it is not known: keys are changed.
    pub(super) async fn key(&self, token: &Token<'_>) -> Result<Key, Error> {
        let uri = self.description().await?.jwks_uri;
        let url = endpoint(&uri).map_err(Error::Endpoint)?;
        let unknown = || Error::Token(jws::Error::UnknownKey);
        let mut known = self.known.lock().await;
        if let Some((keys, asked)) = &known.keys {
            match token.key(keys) {
                Some(key) if asked.elapsed() < BELIEVED_FOR => return Ok(key.clone()),
                None if asked.elapsed() < KEYS_EVERY => return Err(unknown()),
                Some(_) | None => {}
            }
        }
        let keys: Keys = self.answer(&url, self.http.get(url.clone())).await?;
        let key = token.key(&keys).cloned();
        known.keys = Some((keys, Instant::now()));
        key.ok_or_else(unknown)
    }

    /// What it says of itself.
    pub(super) async fn description(&self) -> Result<Description, Error> {
        let mut known = self.known.lock().await;
        if let Some((description, asked)) = &known.description
            && asked.elapsed() < BELIEVED_FOR
        {
            return Ok(description.clone());
        }
        let text = format!("{}/.well-known/openid-configuration", self.issuer.as_str().trim_end_matches('/'));
        let url = endpoint(&text).map_err(Error::Endpoint)?;
        let description: Description = self.answer(&url, self.http.get(url.clone())).await?;
        if description.issuer != self.issuer.as_str() {
            let said = description.issuer.chars().take(200).collect();
            return Err(Error::OtherIssuer { issuer: self.issuer.as_str().to_owned(), said });
        }
        known.description = Some((description.clone(), Instant::now()));
        Ok(description)
    }

    pub(super) async fn answer<T: DeserializeOwned>(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Error> {
        let url = url.to_string();
        let away = |error: reqwest::Error| Error::Away { url: url.clone(), error: error.without_url() };
        let mut answer = request.header("accept", "application/json").send().await.map_err(away)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(away)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > ANSWER_MAX {
                return Err(Error::TooLong(url));
            }
        }
        if !status.is_success() {
            // `invalid_client` and its like, which say what to mend.
            let said: Option<Value> = serde_json::from_slice(&bytes).ok();
            let said = said.and_then(|said| said["error"].as_str().map(|said| format!(": {}", clip(said))));
            return Err(Error::Answer { url, status: status.as_u16(), said: said.unwrap_or_default() });
        }
        serde_json::from_slice(&bytes).map_err(|error| Error::Unreadable { url, error })
    }
}
