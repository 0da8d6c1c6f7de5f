//! Sessions of pages: a cookie in the place of a token, or for somebody who logged in at a provider, which scripts can't read. They
//! are known here and end with their token, with this process, or after some hours.

use super::table::Held;
use super::token::{TokenId, random};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Name of the cookie.
pub(crate) const COOKIE: &str = "framewake_session";
/// How long one lasts: a day at work.
pub(crate) const SESSION_FOR: Duration = Duration::from_hours(12);
/// Sessions at once; the oldest ends for one more.
const SESSIONS_MAX: usize = 10_000;
const SECRET_BYTES: usize = 32;

/// By the SHA-256 of the cookie: what is in memory logs nobody in.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

/// What a session stands for.
#[derive(Debug, Clone)]
pub(crate) enum Stands {
    /// A token, which may be gone.
    Token(TokenId),
    /// Somebody whom a provider of identities knows.
    Person(Arc<Held>),
}

#[derive(Debug, Clone)]
struct Session {
    stands: Stands,
    begun: Instant,
}

impl Sessions {
    /// A new one; its cookie.
    pub(crate) fn begin(&self, stands: Stands, now: Instant) -> String {
        let mut secret = [0; SECRET_BYTES];
        random(&mut secret);
        let cookie = hex::encode(secret);
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, session| now.duration_since(session.begun) < SESSION_FOR);
            let oldest = sessions.iter().min_by_key(|(_, session)| session.begun).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| sessions.len() >= SESSIONS_MAX) {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(key(&cookie), Session { stands, begun: now });
        cookie
    }

    /// What it stands for.
    pub(crate) fn find(&self, cookie: &str, now: Instant) -> Option<Stands> {
        if cookie.len() != 2 * SECRET_BYTES {
            return None;
        }
        let session = self.lock().get(&key(cookie))?.clone();
        (now.duration_since(session.begun) < SESSION_FOR).then_some(session.stands)
    }

    pub(crate) fn end(&self, cookie: &str) {
        // Whoever logged in has nothing but this session: what it holds open ends too.
        if let Some(Session { stands: Stands::Person(held), .. }) = self.lock().remove(&key(cookie)) {
            held.gone.cancel();
        }
    }

    /// All that stand for this token.
    pub(crate) fn end_of(&self, token: TokenId) {
        self.lock().retain(|_, session| !matches!(session.stands, Stands::Token(of) if of == token));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::super::token::make;
    use super::*;

    #[test]
    fn a_session_ends_by_itself_by_its_owner_or_with_its_token() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let (one, two) = (make().0, make().0);
        let cookies = [one, one, two].map(|token| sessions.begin(Stands::Token(token), begin));
        let find = |cookie: &str, now| match sessions.find(cookie, now) {
            Some(Stands::Token(token)) => Some(token),
            Some(Stands::Person(_)) | None => None,
        };
        assert_eq!(find(&cookies[0], begin), Some(one));
        assert_eq!(find(&cookies[0], begin + SESSION_FOR), None);
        assert_eq!(find(&cookies[0][1..], begin), None);
        sessions.end(&cookies[0]);
        assert_eq!(cookies.each_ref().map(|cookie| find(cookie, begin)), [None, Some(one), Some(two)]);
        sessions.end_of(one);
        assert_eq!(cookies.each_ref().map(|cookie| find(cookie, begin)), [None, None, Some(two)]);
        assert!(!format!("{sessions:?}").contains(&cookies[2]), "what is in memory is no cookie");
    }

    #[test]
    fn the_oldest_session_ends_where_there_are_too_many() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let token = Stands::Token(make().0);
        let first = sessions.begin(token.clone(), begin);
        let second = sessions.begin(token.clone(), begin + Duration::from_secs(1));
        for _ in 2..=SESSIONS_MAX {
            sessions.begin(token.clone(), begin + Duration::from_secs(2));
        }
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
        assert!(sessions.find(&first, begin).is_none() && sessions.find(&second, begin).is_some());
    }
}
