//! Targets of notifications, and what could not be delivered.

use super::{Client, Error, page_of};
use crate::api::Page;
use crate::ids::Name;
use crate::notify::{DeadView, TargetSpec, TargetStored, TargetTried, TargetView};
use reqwest::{Method, Url};

impl Client {
    /// All of them, by name.
    pub async fn targets(&self) -> Result<Vec<TargetView>, Error> {
        let page: Page<TargetView> = self.get(self.at(&["v1", "notifications", "targets"])).await?;
        Ok(page.items)
    }

    pub async fn target(&self, name: &Name) -> Result<TargetView, Error> {
        self.get(self.at_target(name, &[])).await
    }

    pub async fn add_target(&self, target: &TargetSpec) -> Result<TargetStored, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "notifications", "targets"])).json(target)).await
    }

    /// A new target, or one in the place of that of the same name.
    pub async fn put_target(&self, target: &TargetSpec) -> Result<TargetStored, Error> {
        self.json(self.request(Method::PUT, self.at_target(&target.name, &[])).json(target)).await
    }

    /// With all that waits for it.
    pub async fn remove_target(&self, name: &Name) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, self.at_target(name, &[]))).await.map(drop)
    }

    /// Sends a test at once and says how it went.
    pub async fn test_target(&self, name: &Name) -> Result<TargetTried, Error> {
        self.json(self.request(Method::POST, self.at_target(name, &["test"]))).await
    }

    /// What was given up, newest first.
    pub async fn dead_notifications(&self, cursor: Option<&str>) -> Result<Page<DeadView>, Error> {
        let mut url = self.at(&["v1", "notifications", "dead"]);
        page_of(&mut url, cursor, None);
        self.get(url).await
    }

    /// Tries one that was given up again.
    pub async fn resend_notification(&self, id: &str) -> Result<(), Error> {
        let url = self.at(&["v1", "notifications", "dead", id, "resend"]);
        self.send(self.request(Method::POST, url)).await.map(drop)
    }

    fn at_target(&self, name: &Name, parts: &[&str]) -> Url {
        self.at(&[&["v1", "notifications", "targets", name.as_str()], parts].concat())
    }
}
