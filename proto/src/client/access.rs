//! Tokens, who one is, and what was changed by whom.

use super::{Client, Error, page_of};
use crate::access::{AuditView, SessionView, TokenAdd, TokenMade, TokenView, WhoView};
use crate::api::Page;
use reqwest::Method;

impl Client {
    pub async fn who(&self) -> Result<WhoView, Error> {
        self.get(self.at(&["v1", "session"])).await
    }

    pub async fn tokens(&self, cursor: Option<&str>) -> Result<Page<TokenView>, Error> {
        self.get(self.at_list("tokens", cursor)).await
    }

    /// Its secret is in the answer, and nowhere else.
    pub async fn add_token(&self, token: &TokenAdd) -> Result<TokenMade, Error> {
        self.json(self.request(Method::POST, self.at(&["v1", "tokens"])).json(token)).await
    }

    /// It opens nothing from now on.
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, self.at(&["v1", "tokens", id]))).await.map(drop)
    }

    /// Who is logged in to the pages, newest first.
    pub async fn sessions(&self, cursor: Option<&str>) -> Result<Page<SessionView>, Error> {
        self.get(self.at_list("sessions", cursor)).await
    }

    /// It opens nothing from now on.
    pub async fn end_session(&self, id: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, self.at(&["v1", "sessions", id]))).await.map(drop)
    }

    /// Changes, newest first.
    pub async fn audit(
        &self,
        who: Option<&str>,
        action: Option<&str>,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<AuditView>, Error> {
        let mut url = self.at(&["v1", "audit"]);
        let words = [who.map(|who| ("who", who)), action.map(|action| ("action", action))];
        if words.iter().any(Option::is_some) {
            url.query_pairs_mut().extend_pairs(words.into_iter().flatten());
        }
        page_of(&mut url, cursor, limit);
        self.get(url).await
    }
}
