//! Words after `?`: known ones only, each read once into its type.

use super::problem::{Answer, Code, Refusal};
use axum::extract::{FromRequestParts, Query as Pairs};
use axum::http::request::Parts;
use framewake_proto::api::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use framewake_proto::ids::{JobId, nearest};
use std::str::FromStr;

/// The query of a request, not yet checked.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

/// What comes first in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Newest,
    Oldest,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Refusal> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        pairs.map(|Pairs(pairs)| Query(pairs)).map_err(|_| invalid("the words after `?` can't be read"))
    }
}

impl Query {
    /// Refuses words that are not `known`, with the nearest that is.
    pub(crate) fn only(self, known: &[&'static str]) -> Answer<Query> {
        for (name, _) in &self.0 {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(64).collect();
                let hint = nearest(&name, known.iter().copied());
                let hint = hint.map_or_else(
                    || format!("known here: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(invalid(format!("unknown parameter `{name}`")).hint(hint));
            }
        }
        Ok(self)
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn one(&self, name: &str) -> Answer<Option<&str>> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(invalid(format!("`{name}` is given more than once"))),
        }
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &str, wanted: &str) -> Answer<Option<T>> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(format!("`{name}` must be {wanted}, not `{}`", clip(text))))
    }

    pub(crate) fn limit(&self) -> Answer<u32> {
        match self.parsed("limit", "a whole number")? {
            None => Ok(PAGE_SIZE_DEFAULT),
            Some(limit) if (1..=PAGE_SIZE_MAX).contains(&limit) => Ok(limit),
            Some(limit) => Err(invalid(format!("`limit` must be 1 to {PAGE_SIZE_MAX}, not {limit}"))),
        }
    }

    pub(crate) fn order(&self) -> Answer<Option<Order>> {
        match self.one("order")? {
            None => Ok(None),
            Some("newest") => Ok(Some(Order::Newest)),
            Some("oldest") => Ok(Some(Order::Oldest)),
            Some(word) => Err(not_one_of("order", word, &["newest", "oldest"])),
        }
    }

    /// The cursor as `read` understands it. It is ours: whoever makes one up learns so.
    pub(crate) fn cursor<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Answer<Option<T>> {
        let Some(text) = self.one("cursor")? else { return Ok(None) };
        let wrong = || {
            invalid(format!("`{}` is not a cursor of this list", clip(text)))
                .hint("give back `next` of a page as it is")
        };
        read(text).map(Some).ok_or_else(wrong)
    }
}

/// Two numbers with a dot between: `3.17`.
pub(crate) fn pair<A: FromStr, B: FromStr>(text: &str) -> Option<(A, B)> {
    let (first, second) = text.split_once('.')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// A job's id out of a path.
pub(crate) fn job_id(text: &str) -> Answer<JobId> {
    text.parse().map_err(|error: framewake_proto::ids::JobIdError| Refusal::not_found(error.to_string()))
}

pub(crate) fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidQuery, detail)
}

pub(crate) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(crate) fn not_one_of(name: &str, word: &str, known: &[&str]) -> Refusal {
    let word = clip(word);
    let refusal = invalid(format!("`{name}` must be one of {}, not `{word}`", known.join(", ")));
    match nearest(&word, known.iter().copied()) {
        Some(near) => refusal.hint(format!("did you mean `{near}`?")),
        None => refusal,
    }
}
