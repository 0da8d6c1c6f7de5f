//! Sessions of pages: a cookie in the place of a token, or for somebody who logged in at a provider, which scripts can't read. They
//! are kept with the farm, so that a restart logs nobody out, and end with their token, by who has them, when nobody uses them, or
//! after some hours.

use super::oidc::Person;
use super::seal::Seal;
use super::table::Held;
use super::token::{Token, TokenId, random};
use framewake_proto::time::Timestamp;
use sha2::{Digest as _, Sha256};
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the cookies of a farm are called. A browser has one place for those of all ports of a host, so each farm has names of its
/// own: or who logs in to one of two farms on a machine would be logged out of the other.
#[derive(Debug)]
pub(crate) struct CookieNames {
    pub(crate) session: String,
    /// Holds a login at a provider to the browser that began it.
    pub(crate) login: String,
}

impl CookieNames {
    /// Of the farm with this id.
    pub(crate) fn of(farm: &str) -> CookieNames {
        let mark = hex::encode(&Sha256::digest(farm)[..4]);
        CookieNames { session: format!("framewake_session_{mark}"), login: format!("framewake_login_{mark}") }
    }
}

/// How long one lasts: a day at work.
pub(crate) const SESSION_FOR: Duration = Duration::from_hours(12);
/// How long one lasts that nobody uses: a long lunch. A page that somebody can see uses it; one in a hidden tab asks for nothing.
pub(crate) const UNUSED_FOR: Duration = Duration::from_hours(2);
/// Sessions at once; for one more, whoever has the most of them loses their oldest.
const SESSIONS_MAX: usize = 10_000;
/// Sessions of one token, or one person, at once; their own oldest ends for one more, and nobody else's. A token that all of a
/// studio log in with has room; fifty that are as full make no difference to who has a few.
pub(crate) const SESSIONS_OF_ONE_MAX: usize = 200;
/// How exactly it is written down when one was used last: each writing is a change of the database.
const USED_EVERY_MS: i64 = 5 * 60 * 1000;
/// Longest ID token that is kept: it goes back to the provider in an address, and servers take few that are longer.
const HINT_MAX: usize = 4096;
const SECRET_BYTES: usize = 32;

/// The SHA-256 of a cookie: what is kept logs nobody in.
pub(crate) type Key = [u8; 32];

/// A session as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    /// That it stands for; of a person its own, by which it can be taken back.
    pub(crate) token: TokenId,
    /// Whom a provider of identities knows.
    pub(crate) person: Option<Person>,
    pub(crate) begun_at: Timestamp,
    pub(crate) used_at: Timestamp,
    /// The ID token, for the logout at the provider. Sealed with the cookie: only who logs out can read it.
    pub(crate) hint: Option<Vec<u8>>,
}

/// Whose sessions count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Token(TokenId),
    Person { issuer: String, subject: String },
}

impl Kept {
    fn whose(&self) -> Whose {
        match &self.person {
            None => Whose::Token(self.token),
            // Those of before people were known by their subject have none.
            Some(Person { issuer, subject, name, .. }) => Whose::Person {
                issuer: issuer.clone(),
                subject: if subject.is_empty() { name.to_string() } else { subject.clone() },
            },
        }
    }
}

/// A new session: its cookie, and what is kept of it.
pub(crate) fn make(token: TokenId, person: Option<Person>, id_token: Option<&str>, now: Timestamp) -> (String, Kept) {
    let mut secret = [0; SECRET_BYTES];
    random(&mut secret);
    let cookie = hex::encode(secret);
    let hint = id_token.filter(|text| text.len() <= HINT_MAX).map(|text| seal(&cookie).close(text));
    let kept = Kept { key: key(&cookie), token, person, begun_at: now, used_at: now, hint };
    (cookie, kept)
}

/// One that goes on.
#[derive(Debug)]
pub(crate) struct Session {
    kept: Kept,
    /// What a person has in the place of a token.
    person: Option<Arc<Held>>,
    /// Milliseconds since 1970.
    used: AtomicI64,
    /// The same as it is in the database.
    written: AtomicI64,
    /// Streams that its pages follow.
    followed: AtomicUsize,
    /// Canceled when it ends by hand: what it holds open ends then.
    pub(crate) gone: CancellationToken,
}

/// A page follows a stream: as long as it does, the session is used.
#[derive(Debug)]
pub(crate) struct Following(Arc<Session>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.use_now(Timestamp::now());
        self.0.followed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    pub(crate) fn of(kept: Kept) -> Session {
        let person = kept.person.clone().map(|person| {
            let lasts = Timestamp(kept.begun_at.0.saturating_add(millis(SESSION_FOR)));
            // It has what a token has, but no secret that could be told, and is in no list of tokens.
            Arc::new(Held::person(Token {
                id: kept.token,
                sha256: kept.key,
                name: person.name,
                role: person.role,
                project: person.project,
                made_at: kept.begun_at,
                made_by: "oidc".to_owned(),
                expires_at: Some(lasts),
                used_at: None,
            }))
        });
        let used = kept.used_at.0;
        let (used, written, followed) = (used.into(), used.into(), 0.into());
        Session { kept, person, used, written, followed, gone: CancellationToken::new() }
    }

    /// Of the token that it stands for; of a person, its own.
    pub(crate) fn token(&self) -> TokenId {
        self.kept.token
    }

    pub(crate) fn key(&self) -> Key {
        self.kept.key
    }

    /// What it is called where it is listed, noted and ended.
    pub(crate) fn id(&self) -> TokenId {
        if self.person.is_some() { self.kept.token } else { TokenId::of_digest(&self.kept.key) }
    }

    /// What they call themselves at the provider of identities.
    pub(crate) fn called(&self) -> Option<&str> {
        self.kept.person.as_ref().map(|person| person.called.as_str()).filter(|called| !called.is_empty())
    }

    pub(crate) fn begun_at(&self) -> Timestamp {
        self.kept.begun_at
    }

    pub(crate) fn used_at(&self, now: Timestamp) -> Timestamp {
        if self.followed.load(Ordering::Relaxed) > 0 { now } else { Timestamp(self.used.load(Ordering::Relaxed)) }
    }

    /// Somebody whom a provider of identities knows.
    pub(crate) fn person(&self) -> Option<&Arc<Held>> {
        self.person.as_ref()
    }

    /// The ID token that this person logged in with.
    pub(crate) fn hint(&self, cookie: &str) -> Option<String> {
        seal(cookie).open(self.kept.hint.as_ref()?)
    }

    /// When it is over, however much it is used.
    pub(crate) fn ends_at(&self) -> Timestamp {
        Timestamp(self.kept.begun_at.0.saturating_add(millis(SESSION_FOR)))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let unused = now.0.saturating_sub(self.used.load(Ordering::Relaxed)) >= millis(UNUSED_FOR);
        self.gone.is_cancelled() || self.ends_at() <= now || (unused && self.followed.load(Ordering::Relaxed) == 0)
    }

    fn use_now(&self, now: Timestamp) {
        self.used.fetch_max(now.0, Ordering::Relaxed);
    }

    pub(crate) fn follow(self: &Arc<Session>) -> Following {
        self.followed.fetch_add(1, Ordering::Relaxed);
        Following(self.clone())
    }
}

/// Those that go on, by the key of their cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Going>);

#[derive(Debug, Default)]
struct Going {
    all: HashMap<Key, Arc<Session>>,
    /// Oldest first.
    of_one: HashMap<Whose, VecDeque<Key>>,
}

impl Going {
    /// It opens nothing from now on, and what it holds open ends.
    fn end(&mut self, key: &Key) -> Option<Arc<Session>> {
        let session = self.all.remove(key)?;
        session.gone.cancel();
        let whose = session.kept.whose();
        if let Some(keys) = self.of_one.get_mut(&whose) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.of_one.remove(&whose);
            }
        }
        Some(session)
    }

    /// Those that end for one more of this one.
    fn in_the_way_of(&self, whose: &Whose, now: Timestamp) -> Vec<Key> {
        let is_over = |key: &Key| self.all.get(key).is_none_or(|session| session.is_over(now));
        let begun = |key: &Key| self.all.get(key).map(|session| session.kept.begun_at);
        let (over, oldest): (Vec<Key>, _) = match self.of_one.get(whose) {
            Some(own) if own.len() >= SESSIONS_OF_ONE_MAX => {
                (own.iter().filter(|key| is_over(key)).copied().collect(), own.front())
            }
            _ if self.all.len() >= SESSIONS_MAX => {
                let most = self.of_one.values().max_by_key(|keys| (keys.len(), Reverse(keys.front().and_then(begun))));
                (self.all.keys().filter(|key| is_over(key)).copied().collect(), most.and_then(VecDeque::front))
            }
            _ => return Vec::new(),
        };
        if over.is_empty() { oldest.copied().into_iter().collect() } else { over }
    }
}

impl Sessions {
    /// From now on its cookie opens something. Those that end for it are to be forgotten.
    pub(crate) fn insert(&self, kept: Kept, now: Timestamp) -> Vec<Key> {
        let mut going = self.lock();
        let whose = kept.whose();
        let ended = going.in_the_way_of(&whose, now);
        for key in &ended {
            going.end(key);
        }
        going.of_one.entry(whose).or_default().push_back(kept.key);
        going.all.insert(kept.key, Arc::new(Session::of(kept)));
        ended
    }

    /// Those of before the restart that are still good; of the others, what is to be forgotten.
    pub(crate) fn restore(&self, kept: Vec<Kept>, good: impl Fn(&Kept) -> bool, now: Timestamp) -> Vec<Key> {
        let mut over = Vec::new();
        for kept in kept {
            if Session::of(kept.clone()).is_over(now) || !good(&kept) {
                over.push(kept.key);
            } else {
                over.extend(self.insert(kept, now));
            }
        }
        over
    }

    /// What a cookie opens; it is used.
    pub(crate) fn find(&self, cookie: &str, now: Timestamp) -> Option<Arc<Session>> {
        if cookie.len() != 2 * SECRET_BYTES {
            return None;
        }
        let session = self.lock().all.get(&key(cookie))?.clone();
        if session.is_over(now) {
            return None;
        }
        session.use_now(now);
        Some(session)
    }

    /// Of somebody who has no token: the one of this id.
    pub(crate) fn of_person(&self, id: TokenId) -> Option<Arc<Held>> {
        self.lock().all.values().filter_map(|session| session.person()).find(|held| held.token.id == id).cloned()
    }

    /// It opens nothing from now on, and what it holds open ends.
    pub(crate) fn end(&self, cookie: &str) -> Option<Arc<Session>> {
        self.lock().end(&key(cookie))
    }

    /// The same, of one that was found.
    pub(crate) fn end_this(&self, session: &Session) {
        self.lock().end(&session.key());
    }

    /// Those that go on, in no order.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<Arc<Session>> {
        self.lock().all.values().filter(|session| !session.is_over(now)).cloned().collect()
    }

    /// The same for all of this token, or the one of this person.
    pub(crate) fn end_of(&self, token: TokenId) {
        let mut going = self.lock();
        let of_it = |session: &&Arc<Session>| session.kept.token == token;
        let keys: Vec<Key> = going.all.values().filter(of_it).map(|session| session.kept.key).collect();
        for key in keys {
            going.end(&key);
        }
    }

    /// Those whose last use is to be written down, which they count as from now on.
    pub(crate) fn used(&self, now: Timestamp) -> Vec<(Key, Timestamp)> {
        let mut used = Vec::new();
        for (key, session) in &self.lock().all {
            if session.followed.load(Ordering::Relaxed) > 0 {
                session.use_now(now);
            }
            let (at, before) = (session.used.load(Ordering::Relaxed), session.written.load(Ordering::Relaxed));
            if at - before >= USED_EVERY_MS {
                session.written.store(at, Ordering::Relaxed);
                used.push((*key, Timestamp(at)));
            }
        }
        used
    }

    fn lock(&self) -> MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn key(cookie: &str) -> Key {
    Sha256::digest(cookie).into()
}

/// A key for nothing but this, of 256 bits of chance that are in the browser alone.
fn seal(cookie: &str) -> Seal {
    let key = Sha256::new().chain_update("framewake ID token of session ").chain_update(cookie).finalize();
    Seal::of(&key.into())
}

#[cfg(test)]
mod tests {
    use super::super::token::make as make_token;
    use super::*;
    use framewake_proto::access::Role;

    const BEGIN: Timestamp = Timestamp(1_800_000_000_000);

    fn after(time: Duration) -> Timestamp {
        Timestamp(BEGIN.0 + millis(time))
    }

    fn begin(sessions: &Sessions, token: TokenId, now: Timestamp) -> String {
        let (cookie, kept) = make(token, None, None, now);
        sessions.insert(kept, now);
        cookie
    }

    fn jane() -> Person {
        Person {
            name: "oidc-jane".parse().expect("a name"),
            called: "jane".to_owned(),
            subject: "1".to_owned(),
            role: Role::Artist,
            project: None,
            issuer: "https://login.example".to_owned(),
            group: "lighting".to_owned(),
        }
    }

    #[test]
    fn a_session_ends_by_itself_by_its_owner_or_with_its_token() {
        let sessions = Sessions::default();
        let (one, two) = (make_token().0, make_token().0);
        let cookies = [one, one, two].map(|token| begin(&sessions, token, BEGIN));
        let find = |cookie: &str, now| sessions.find(cookie, now).map(|session| session.token());
        assert_eq!(find(&cookies[0], BEGIN), Some(one));
        assert_eq!(find(&cookies[0][1..], BEGIN), None);
        let held = sessions.find(&cookies[1], BEGIN).expect("it goes on");
        assert_eq!(sessions.end(&cookies[0]).expect("it went on").token(), one);
        assert!(sessions.end(&cookies[0]).is_none(), "once");
        assert_eq!(cookies.each_ref().map(|cookie| find(cookie, BEGIN)), [None, Some(one), Some(two)]);
        sessions.end_of(one);
        assert_eq!(cookies.each_ref().map(|cookie| find(cookie, BEGIN)), [None, None, Some(two)]);
        assert!(held.gone.is_cancelled(), "what it held open ends with it");
        assert!(!format!("{sessions:?}").contains(&cookies[2]), "what is in memory is no cookie");
    }

    #[test]
    fn a_session_is_over_after_its_hours_or_when_nobody_uses_it() {
        let sessions = Sessions::default();
        let step = UNUSED_FOR * 9 / 10;
        let (used, unused) = (begin(&sessions, make_token().0, BEGIN), begin(&sessions, make_token().0, BEGIN));
        let followed = begin(&sessions, make_token().0, BEGIN);
        let following = sessions.find(&followed, BEGIN).expect("it goes on").follow();
        let mut at = Duration::ZERO;
        while at + step < SESSION_FOR {
            at += step;
            assert!(sessions.find(&used, after(at)).is_some(), "{at:?}");
        }
        assert!(sessions.find(&unused, after(UNUSED_FOR)).is_none());
        assert!(sessions.find(&followed, after(at)).is_some(), "a page is open");
        assert!(sessions.find(&used, after(SESSION_FOR)).is_none(), "however much it is used");
        assert!(sessions.find(&followed, after(SESSION_FOR)).is_none());
        drop(following);
    }

    #[test]
    fn what_is_kept_goes_on_after_a_restart_unless_it_is_over_or_good_no_more() {
        let jane = jane();
        let (good, kept) = make(make_token().0, Some(jane.clone()), Some("e30.e30.x"), BEGIN);
        let (_, bad) = make(make_token().0, Some(Person { group: "gone".to_owned(), ..jane }), None, BEGIN);
        let (_, old) = make(make_token().0, None, None, Timestamp(BEGIN.0 - millis(UNUSED_FOR)));
        let sessions = Sessions::default();
        let still = |kept: &Kept| kept.person.as_ref().is_none_or(|person| person.group == "lighting");
        let over = sessions.restore(vec![kept.clone(), bad.clone(), old.clone()], still, BEGIN);
        assert_eq!(over, [bad.key, old.key]);
        let session = sessions.find(&good, BEGIN).expect("it goes on");
        let held = session.person().expect("a person").clone();
        assert_eq!((held.token.name.as_str(), held.token.role), ("oidc-jane", Role::Artist));
        assert!(held.is_over(after(SESSION_FOR)) && !held.is_over(BEGIN));
        assert_eq!(session.hint(&good).as_deref(), Some("e30.e30.x"));
        let other = make(make_token().0, None, None, BEGIN).0;
        assert_eq!(session.hint(&other), None, "only who has the cookie reads it");
        assert!(!kept.hint.expect("kept").windows(3).any(|part| part == b"e30"), "what is kept is sealed");
        // Taken back by its id, as a token is.
        assert!(sessions.of_person(held.token.id).is_some());
        sessions.end_of(held.token.id);
        assert!(sessions.find(&good, BEGIN).is_none());
    }

    #[test]
    fn an_id_token_that_no_address_has_room_for_is_not_kept() {
        let of = |length: usize| make(make_token().0, None, Some(&"x".repeat(length)), BEGIN).1.hint.is_some();
        assert!(of(HINT_MAX) && !of(HINT_MAX + 1));
    }

    #[test]
    fn the_last_use_is_written_seldom_and_that_of_an_open_page_too() {
        let sessions = Sessions::default();
        let cookie = begin(&sessions, make_token().0, BEGIN);
        for second in 0..USED_EVERY_MS / 1000 {
            sessions.find(&cookie, Timestamp(BEGIN.0 + second * 1000)).expect("it goes on");
            assert_eq!(sessions.used(Timestamp(BEGIN.0 + second * 1000)), [], "{second}");
        }
        let later = Timestamp(BEGIN.0 + USED_EVERY_MS);
        let session = sessions.find(&cookie, later).expect("it goes on");
        assert_eq!(sessions.used(later), [(session.key(), later)]);
        assert_eq!(sessions.used(later), [], "once it is written");
        let _following = session.follow();
        let much_later = Timestamp(later.0 + USED_EVERY_MS);
        assert_eq!(sessions.used(much_later), [(session.key(), much_later)], "nobody asks, and the page is open");
    }

    #[test]
    fn who_has_too_many_sessions_loses_their_own_oldest_and_nobody_elses() {
        let sessions = Sessions::default();
        let at = |second: usize| after(Duration::from_secs(second as u64));
        let goes_on = |cookie: &str, now| sessions.find(cookie, now).is_some();
        let others = begin(&sessions, make_token().0, BEGIN);
        let token = make_token().0;
        let own: Vec<String> = (0..SESSIONS_OF_ONE_MAX).map(|second| begin(&sessions, token, at(second))).collect();
        assert!(own.iter().all(|cookie| goes_on(cookie, BEGIN)));
        let (_, one_more) = make(token, None, None, at(300));
        assert_eq!(sessions.insert(one_more, at(300)), [key(&own[0])], "to be forgotten");
        assert!(!goes_on(&own[0], BEGIN) && goes_on(&own[1], BEGIN));
        for _ in 0..SESSIONS_MAX + 240 {
            begin(&sessions, token, at(301));
        }
        assert!(goes_on(&others, at(301)), "another's");
        assert_eq!(sessions.lock().all.len(), SESSIONS_OF_ONE_MAX + 1);
        // Where some are over, nothing that goes on ends.
        let later = after(UNUSED_FOR + Duration::from_secs(301));
        let fresh = begin(&sessions, token, later);
        assert_eq!(sessions.lock().of_one[&Whose::Token(token)], [key(&fresh)]);
    }

    #[test]
    fn a_person_has_the_sessions_of_all_their_logins_whatever_they_are_called() {
        let sessions = Sessions::default();
        let log_in = |person: &Person| {
            let (cookie, kept) = make(make_token().0, Some(person.clone()), None, BEGIN);
            sessions.insert(kept, BEGIN);
            cookie
        };
        let namesake = log_in(&Person { subject: "2".to_owned(), ..jane() });
        let elsewhere = log_in(&Person { issuer: "https://other.example".to_owned(), ..jane() });
        let first = log_in(&jane());
        for number in 0..SESSIONS_OF_ONE_MAX {
            log_in(&Person { name: format!("oidc-jane-{number}").parse().expect("a name"), ..jane() });
        }
        assert_eq!(
            [&first, &namesake, &elsewhere].map(|cookie| sessions.find(cookie, BEGIN).is_some()),
            [false, true, true]
        );
    }

    #[test]
    fn where_there_are_too_many_of_all_whoever_has_the_most_loses_their_oldest() {
        let sessions = Sessions::default();
        let alone = begin(&sessions, make_token().0, BEGIN);
        let greedy = make_token().0;
        let later = after(Duration::from_secs(1));
        let most: Vec<String> = (0..2).map(|_| begin(&sessions, greedy, later)).collect();
        for _ in 3..SESSIONS_MAX {
            begin(&sessions, make_token().0, later);
        }
        let goes_on = |cookie: &str| sessions.find(cookie, later).is_some();
        assert!(goes_on(&alone) && goes_on(&most[0]));
        begin(&sessions, make_token().0, later);
        assert_eq!([&alone, &most[0], &most[1]].map(|cookie| goes_on(cookie)), [true, false, true]);
        // Of those who have as many, the oldest.
        begin(&sessions, make_token().0, later);
        assert_eq!([&alone, &most[1]].map(|cookie| goes_on(cookie)), [false, true]);
        assert_eq!(sessions.lock().all.len(), SESSIONS_MAX);
    }
}
