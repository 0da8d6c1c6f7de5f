//! One try at telling one target, by whichever way it has. Bounded in time and in what is read of the answer.

use super::address::{Allowed, Inner, Resolver};
use super::mail::{self, Mail};
use super::{check, event, words};
use crate::queue::{self, Queue};
use framewake_proto::ids::Name;
use framewake_proto::notify::{Notice, TargetSpec, Way};
use framewake_proto::time::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Longest time of one try, from the resolution of a name to the end of the answer.
const TRY_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read, to be said in the reason.
const ANSWER_READ_MAX: usize = 300;
/// Connections that wait for the next notification, and for how long.
const IDLE_MAX: usize = 1;
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Inner(#[from] Inner),
    #[error("the target's address can't be used: it {0}")]
    Address(String),
    #[error("the target's secret can't be used: it {0}")]
    Secret(String),
    #[error("it leads elsewhere ({0}): redirects are not followed, give the target its new address")]
    Redirect(StatusCode),
    #[error("it was answered with {status}{said}")]
    Refused { status: StatusCode, said: String },
    #[error("no answer within {} s", within.as_secs())]
    Slow { within: Duration },
    #[error("cannot reach it")]
    Http(#[source] reqwest::Error),
    #[error("this scheduler has no mail server any more: its operator names one with --smtp")]
    NoMail,
    #[error(transparent)]
    Mail(#[from] mail::Error),
    #[error("this scheduler has no NATS")]
    NoNats,
    #[error(transparent)]
    Nats(#[from] queue::PublishError),
}

/// Every way there is.
#[derive(Debug)]
pub struct Ways {
    farm: Name,
    http: reqwest::Client,
    allowed: Arc<Allowed>,
    mail: Option<Mail>,
    queue: Option<Queue>,
}

impl Ways {
    pub fn new(farm: Name, allowed: Allowed, mail: Option<Mail>, queue: Option<Queue>) -> Result<Ways, reqwest::Error> {
        let allowed = Arc::new(allowed);
        let http = reqwest::Client::builder()
            .user_agent(concat!("framewake/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Resolver(allowed.clone()))
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve names itself, and reach what this scheduler must not.
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE)
            .build()?;
        Ok(Ways { farm, http, allowed, mail, queue })
    }

    pub(crate) fn farm(&self) -> &Name {
        &self.farm
    }

    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    pub(super) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    pub(super) fn can_mail(&self) -> bool {
        self.mail.is_some()
    }

    /// One try. Whether it arrived: any answer of 2xx, a mail server or NATS that has taken it.
    pub(crate) async fn send(
        &self,
        target: &TargetSpec,
        id: &str,
        notice: &Notice,
        made_at: Timestamp,
    ) -> Result<(), Error> {
        let sent = tokio::time::timeout(TRY_MAX, async {
            match &target.way {
                Way::Webhook { url, secret } => {
                    let key = event::key(secret.reveal()).map_err(Error::Secret)?;
                    let body = self.event(id, notice, made_at);
                    let now_s = Timestamp::now().0 / 1000;
                    let mut headers = HeaderMap::new();
                    headers.insert("webhook-id", plain(id));
                    headers.insert("webhook-timestamp", now_s.into());
                    headers.insert("webhook-signature", plain(&event::signature(&key, id, now_s, &body)));
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static(event::MEDIA_TYPE));
                    self.post(url.reveal(), headers, body).await
                }
                Way::Slack { url } => {
                    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
                    let body = json!({ "text": words::slack(notice) }).to_string().into_bytes();
                    self.post(url.reveal(), headers, body).await
                }
                Way::Mail { to } => {
                    let mail = self.mail.as_ref().ok_or(Error::NoMail)?;
                    Ok(mail.send(to, id, &self.farm, notice).await?)
                }
                Way::Nats {} => {
                    let queue = self.queue.as_ref().ok_or(Error::NoNats)?;
                    let occasion = notice.occasion().map_or("test", framewake_proto::notify::Occasion::as_str);
                    let project = notice.project().map_or("none", Name::as_str);
                    let body = self.event(id, notice, made_at);
                    Ok(queue.publish_event(occasion, project, event::MEDIA_TYPE, body).await?)
                }
            }
        });
        sent.await.map_err(|_| Error::Slow { within: TRY_MAX })?
    }

    /// One request to an address that somebody gave, within this time. Whether it arrived: any answer of 2xx.
    pub(crate) async fn call(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(), Error> {
        tokio::time::timeout(within, self.post(url, headers, body)).await.map_err(|_| Error::Slow { within })?
    }

    /// Why such an address may not be called, as far as its text shows.
    pub(crate) fn judge(&self, url: &str) -> Result<(), String> {
        let url = check::url_of(url)?;
        let Some(address) = check::literal(&url) else { return Ok(()) };
        self.allowed
            .check(url.host_str().unwrap_or_default(), address)
            .map_err(|refused| format!("can't be called: {refused}"))
    }

    fn event(&self, id: &str, notice: &Notice, made_at: Timestamp) -> Vec<u8> {
        event::cloud_event(&self.farm, id, notice, made_at).to_string().into_bytes()
    }

    async fn post(&self, url: &str, headers: HeaderMap, body: Vec<u8>) -> Result<(), Error> {
        let url = check::url_of(url).map_err(Error::Address)?;
        // An address that is no name is not resolved, so it is looked at here.
        if let Some(address) = check::literal(&url) {
            self.allowed.check(url.host_str().unwrap_or_default(), address)?;
        }
        let response = self.http.post(url).headers(headers).body(body).send().await;
        let response = response.map_err(|error| Error::Http(error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            return Err(Error::Redirect(status));
        }
        Err(Error::Refused { status, said: beginning(response).await })
    }
}

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids and base64 are ASCII")
}

/// The beginning of an answer on one line, however long it is.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_READ_MAX
        && let Ok(Some(piece)) = response.chunk().await
    {
        bytes.extend_from_slice(&piece[..piece.len().min(ANSWER_READ_MAX - bytes.len())]);
    }
    let text: String = String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}
