//! Sessions of pages: a cookie in the place of a token, which scripts can't read. They are known here and end with their token,
//! with this process, or after some hours.

use super::token::{TokenId, random};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
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

#[derive(Debug, Clone, Copy)]
struct Session {
    token: TokenId,
    begun: Instant,
}

impl Sessions {
    /// A new one; its cookie.
    pub(crate) fn begin(&self, token: TokenId, now: Instant) -> String {
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
        sessions.insert(key(&cookie), Session { token, begun: now });
        cookie
    }

    /// The token that it stands for, which may be gone.
    pub(crate) fn find(&self, cookie: &str, now: Instant) -> Option<TokenId> {
        if cookie.len() != 2 * SECRET_BYTES {
            return None;
        }
        let session = *self.lock().get(&key(cookie))?;
        (now.duration_since(session.begun) < SESSION_FOR).then_some(session.token)
    }

    pub(crate) fn end(&self, cookie: &str) {
        self.lock().remove(&key(cookie));
    }

    /// All that stand for this token.
    pub(crate) fn end_of(&self, token: TokenId) {
        self.lock().retain(|_, session| session.token != token);
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
        let cookies = [sessions.begin(one, begin), sessions.begin(one, begin), sessions.begin(two, begin)];
        assert_eq!(sessions.find(&cookies[0], begin), Some(one));
        assert_eq!(sessions.find(&cookies[0], begin + SESSION_FOR), None);
        assert_eq!(sessions.find(&cookies[0][1..], begin), None);
        sessions.end(&cookies[0]);
        assert_eq!(cookies.each_ref().map(|cookie| sessions.find(cookie, begin)), [None, Some(one), Some(two)]);
        sessions.end_of(one);
        assert_eq!(cookies.each_ref().map(|cookie| sessions.find(cookie, begin)), [None, None, Some(two)]);
        assert!(!format!("{sessions:?}").contains(&cookies[2]), "what is in memory is no cookie");
    }

    #[test]
    fn the_oldest_session_ends_where_there_are_too_many() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let token = make().0;
        let first = sessions.begin(token, begin);
        let second = sessions.begin(token, begin + Duration::from_secs(1));
        for _ in 2..=SESSIONS_MAX {
            sessions.begin(token, begin + Duration::from_secs(2));
        }
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
        assert!(sessions.find(&first, begin).is_none() && sessions.find(&second, begin).is_some());
    }
}
