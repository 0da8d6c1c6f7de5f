//! Wakes workers by HTTP requests: a gateway brings one up for each, it works until there is nothing left to do or its
//! time is up, and answers. It takes no names, lists or watches of the gateway, so any gateway will do.

#[cfg(test)]
mod tests;

pub use crate::wakeups::OpenError;
use crate::wakeups::{self, Wakeups, read_secret, unreachable};
use crate::{Error, Instance, Provider, Start, StartError};
use async_trait::async_trait;
use framewake_proto::chain::Chain;
use framewake_proto::ids::WorkerId;
use framewake_proto::pool::http::HttpPool;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder};
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for a gateway that was away to say that it is there.
const PROBE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct HttpProvider {
    pool: HttpPool,
    client: Client,
    wakeups: Wakeups,
}

impl HttpProvider {
    /// The gateway need not be there yet; its secret must. `notes` is a folder for this pool alone.
    pub fn open(pool: HttpPool, notes: PathBuf) -> Result<HttpProvider, OpenError> {
        pool.authorization.as_ref().map(read_secret).transpose()?;
        let client = wakeups::client(pool.longest_run.0)?;
        let wakeups = Wakeups::open(pool.longest_run.0, notes)?;
        Ok(HttpProvider { pool, client, wakeups })
    }

    fn request(&self, start: &Start) -> Result<RequestBuilder, String> {
        let mut request = self.client.post(self.pool.url_of(&start.function));
        for (name, value) in &self.pool.headers {
            request = request.header(name, value);
        }
        let Some(secret) = &self.pool.authorization else { return Ok(request) };
        let text = read_secret(secret).map_err(|error| Chain(&error).to_string())?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| format!("{secret} is not the value of a header"))?;
        value.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, value))
    }

    /// Whether anything answers where the gateway is. Its root is asked: a function would be woken.
    async fn probe(&self) -> Result<(), Error> {
        let url = &self.pool.url;
        let host = url.find("://").map_or(0, |at| at + 3);
        let root = url[host..].find(['/', '?']).map_or(url.as_str(), |at| &url[..host + at]);
        self.client.head(root).timeout(PROBE_MAX).send().await.map(drop).map_err(unreachable)
    }
}

#[async_trait]
impl Provider for HttpProvider {
    async fn start(&mut self, start: &Start) -> Result<(), StartError> {
        let request = self.request(start).map_err(StartError::Refused)?;
        self.wakeups.wake(start, request).await
    }

    async fn stop(&mut self, worker: &WorkerId) -> Result<(), Error> {
        self.wakeups.stop(worker);
        Ok(())
    }

    async fn observe(&mut self) -> Result<Vec<Instance>, Error> {
        if self.wakeups.is_away() {
            self.probe().await?;
            self.wakeups.is_back();
        }
        Ok(self.wakeups.instances())
    }

    async fn changed(&mut self) {
        self.wakeups.changed().await;
    }

    fn left(&mut self, worker: &WorkerId) {
        self.wakeups.left(worker);
    }

    async fn forget(&mut self, worker: &WorkerId) -> Result<(), Error> {
        self.wakeups.forget(worker);
        Ok(())
    }
}
