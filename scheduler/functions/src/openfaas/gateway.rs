//! The gateway's API, as far as workers need it.

use crate::Error;
use crate::wakeups::{SecretError, beginning, read_secret, said, unreachable};
use framewake_proto::pool::openfaas::OpenfaasPool;
use framewake_proto::pool::secret::Secret;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an answer about functions; calls of them have the pool's time.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Largest list of functions, in bytes: some thousands of them.
const LIST_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Gateway {
    client: Client,
    url: String,
    namespace: Option<String>,
    user: String,
    password: Secret,
}

/// A function there. The gateway leaves out what is empty or 0.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployed {
    pub(super) name: String,
    #[serde(default)]
    pub(super) replicas: u64,
    #[serde(default)]
    pub(super) available_replicas: u64,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) labels: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the password can't be used")]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Answered(String),
    /// Nothing is wrong, and there is no room yet.
    #[error("{0}")]
    NotYet(String),
    #[error("the gateway can't be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the gateway's answer makes no sense")]
    Nonsense(#[source] serde_json::Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Failure::Unreachable(error) => unreachable(error),
            Failure::Secret(_) | Failure::Answered(_) | Failure::NotYet(_) | Failure::Nonsense(_) => {
                Error { what: "the gateway of this pool can't be used".to_owned(), cause: Some(Box::new(self)) }
            }
        }
    }
}

impl Gateway {
    pub(super) fn new(spec: &OpenfaasPool, client: Client) -> Gateway {
        Gateway {
            client,
            url: spec.gateway.trim_end_matches('/').to_owned(),
            namespace: spec.namespace.clone(),
            user: spec.user.clone(),
            password: spec.password.clone(),
        }
    }

    /// All functions of the namespace.
    pub(super) async fn functions(&self) -> Result<Vec<Deployed>, Failure> {
        let response = expect(self.ask(Method::GET, "/system/functions")?).await?;
        let text = whole(response).await?;
        // An installation without functions answers `null`.
        let all: Option<Vec<Deployed>> = serde_json::from_str(&text).map_err(Failure::Nonsense)?;
        Ok(all.unwrap_or_default())
    }

    pub(super) async fn status(&self, name: &str) -> Result<Option<Deployed>, Failure> {
        let request = self.ask(Method::GET, &format!("/system/function/{name}"))?;
        let response = request.send().await.map_err(Failure::Unreachable)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = whole(good(response).await?).await?;
        serde_json::from_str(&text).map(Some).map_err(Failure::Nonsense)
    }

    pub(super) async fn deploy(&self, deployment: &Value) -> Result<(), Failure> {
        expect(self.ask(Method::POST, "/system/functions")?.body(deployment.to_string())).await.map(drop)
    }

    pub(super) async fn scale(&self, name: &str, replicas: u64) -> Result<(), Failure> {
        let mut body = json!({ "serviceName": name, "replicas": replicas });
        if let Some(namespace) = &self.namespace {
            body["namespace"] = json!(namespace);
        }
        let path = format!("/system/scale-function/{name}");
        expect(self.ask(Method::POST, &path)?.body(body.to_string())).await.map(drop)
    }

    /// One that is gone already is as good.
    pub(super) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let mut body = json!({ "functionName": name });
        if let Some(namespace) = &self.namespace {
            body["namespace"] = json!(namespace);
        }
        let request = self.ask(Method::DELETE, "/system/functions")?.body(body.to_string());
        let response = request.send().await.map_err(Failure::Unreachable)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        good(response).await.map(drop)
    }

    /// A call, which is as long as the pool allows.
    pub(super) fn call(&self, name: &str) -> Result<RequestBuilder, Failure> {
        let of = self.namespace.as_ref().map_or_else(String::new, |namespace| format!(".{namespace}"));
        self.signed(self.client.post(format!("{}/function/{name}{of}", self.url)))
    }

    fn ask(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let of = self.namespace.as_ref().map_or_else(String::new, |namespace| format!("?namespace={namespace}"));
        let request = self.client.request(method, format!("{}{path}{of}", self.url)).timeout(ANSWER_WITHIN);
        self.signed(request.header("content-type", "application/json"))
    }

    fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, Failure> {
        Ok(request.basic_auth(&self.user, Some(read_secret(&self.password)?)))
    }
}

async fn expect(request: RequestBuilder) -> Result<Response, Failure> {
    good(request.send().await.map_err(Failure::Unreachable)?).await
}

async fn good(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(Failure::Answered(said(status, &beginning(response).await)))
}

async fn whole(mut response: Response) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Failure::Unreachable)? {
        if bytes.len() + piece.len() > LIST_MAX {
            return Err(Failure::Answered(format!("the gateway's list has more than {LIST_MAX} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
