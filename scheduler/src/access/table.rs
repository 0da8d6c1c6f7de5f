//! The tokens there are, in memory: a request asks no database who it is, and one that is revoked opens nothing from the next
//! request on.

use super::token::{Token, TokenId, read, same};
use framewake_proto::time::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

/// How exactly it is written down when a token was used last: each writing is a change of the database.
const USED_EVERY_MS: i64 = 5 * 60 * 1000;

/// A token that opens something, while it does.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) token: Token,
    /// Milliseconds since 1970; 0: never.
    used: AtomicI64,
    /// The same as it is in the database.
    written: AtomicI64,
    /// Canceled when it is revoked: what it holds open ends then.
    pub(crate) gone: CancellationToken,
}

impl Held {
    /// Of somebody who has no token, and is in no table.
    pub(crate) fn person(token: Token) -> Held {
        Held { used: 0.into(), written: 0.into(), gone: CancellationToken::new(), token }
    }

    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.gone.is_cancelled() || self.token.expires_at.is_some_and(|end| end <= now)
    }

    pub(crate) fn use_now(&self, now: Timestamp) {
        self.used.fetch_max(now.0, Ordering::Relaxed);
    }

    fn used_at(&self) -> Option<Timestamp> {
        let used = self.used.load(Ordering::Relaxed);
        (used > 0).then_some(Timestamp(used))
    }
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is no token, or not one of this farm, or was revoked: which, is nobody's business.
    Unknown,
    /// Only who has it can learn this.
    Expired,
}

#[derive(Debug, Default)]
pub(crate) struct TokenTable(RwLock<HashMap<TokenId, Arc<Held>>>);

impl TokenTable {
    pub(crate) fn new(tokens: Vec<Token>) -> TokenTable {
        let table = TokenTable::default();
        for token in tokens {
            table.insert(token);
        }
        table
    }

    /// Whose token this is.
    pub(crate) fn find(&self, text: &str, now: Timestamp) -> Result<Arc<Held>, Why> {
        let (id, digest) = read(text).ok_or(Why::Unknown)?;
        let held = self.of(id).filter(|held| same(&held.token.sha256, &digest)).ok_or(Why::Unknown)?;
        if held.is_over(now) {
            return Err(Why::Expired);
        }
        held.use_now(now);
        Ok(held)
    }

    pub(crate) fn of(&self, id: TokenId) -> Option<Arc<Held>> {
        self.read().get(&id).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// One that is there already is left as it is.
    pub(crate) fn insert(&self, token: Token) {
        let used = token.used_at.map_or(0, |at| at.0);
        let held = Held { used: used.into(), written: used.into(), gone: CancellationToken::new(), token };
        self.write().entry(held.token.id).or_insert_with(|| Arc::new(held));
    }

    /// From now on it opens nothing, and what it held open ends.
    pub(crate) fn remove(&self, id: TokenId) {
        if let Some(held) = self.write().remove(&id) {
            held.gone.cancel();
        }
    }

    /// By id, with the moment each was used last.
    pub(crate) fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> =
            self.read().values().map(|held| Token { used_at: held.used_at(), ..held.token.clone() }).collect();
        tokens.sort_unstable_by_key(|token| token.id);
        tokens
    }

    /// Those whose last use is to be written down, which they count as from now on.
    pub(crate) fn used(&self) -> Vec<(TokenId, Timestamp)> {
        let mut used = Vec::new();
        for (id, held) in self.read().iter() {
            let (now, before) = (held.used.load(Ordering::Relaxed), held.written.load(Ordering::Relaxed));
            if now - before >= USED_EVERY_MS {
                held.written.store(now, Ordering::Relaxed);
                used.push((*id, Timestamp(now)));
            }
        }
        used
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<TokenId, Arc<Held>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TokenId, Arc<Held>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::make;
    use super::*;
    use framewake_proto::access::Role;
    use framewake_proto::notify::Secret;

    fn token(expires_at: Option<Timestamp>) -> (Token, Secret) {
        let (id, secret, sha256) = make();
        let name = "jane".parse().expect("a name");
        let made_at = Timestamp(1);
        let token = Token {
            id,
            sha256,
            name,
            role: Role::Viewer,
            project: None,
            made_at,
            made_by: "local".to_owned(),
            expires_at,
            used_at: None,
        };
        (token, secret)
    }

    #[test]
    fn a_token_opens_until_it_expires_or_is_revoked() {
        let table = TokenTable::default();
        let ((forever, one), (short, two)) = (token(None), token(Some(Timestamp(1000))));
        table.insert(forever.clone());
        table.insert(short);
        let held = table.find(one.reveal(), Timestamp(10)).expect("it is good");
        assert!(table.find(two.reveal(), Timestamp(999)).is_ok());
        assert_eq!(table.find(two.reveal(), Timestamp(1000)).expect_err("over"), Why::Expired);
        assert!(!held.gone.is_cancelled());
        table.remove(forever.id);
        assert!(held.gone.is_cancelled() && held.is_over(Timestamp(10)), "what it holds open ends");
        assert_eq!(table.find(one.reveal(), Timestamp(10)).expect_err("gone"), Why::Unknown);
        assert_eq!(table.find(token(None).1.reveal(), Timestamp(10)).expect_err("not ours"), Why::Unknown);
    }

    #[test]
    fn the_last_use_is_written_seldom() {
        let table = TokenTable::default();
        let (one, secret) = token(None);
        table.insert(one);
        let day = 24 * 3600 * 1000;
        for second in 0..1000 {
            table.find(secret.reveal(), Timestamp(day + second * 1000)).expect("good");
        }
        assert_eq!(table.used().len(), 1);
        assert_eq!(table.used().len(), 0, "once it is written");
        table.find(secret.reveal(), Timestamp(day + 1_000_000 + USED_EVERY_MS)).expect("good");
        assert_eq!(table.used().len(), 1);
        assert_eq!(table.list()[0].used_at, Some(Timestamp(day + 1_000_000 + USED_EVERY_MS)), "lists know it exactly");
    }
}
