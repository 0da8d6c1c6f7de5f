//! Logins that are under way at the provider. Anybody may begin one, so nothing of it is kept here: it is sealed in a cookie of the
//! browser that began it. What is kept is which ones the provider has let in lately, so that each is good for once.

use super::{LOGIN_WITHIN, chance, page};
use crate::access::seal::Seal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Logins that are known to be over; of more within the time, the provider alone knows, which takes no code twice.
const OVER_MAX: usize = 10_000;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    /// Page to go on with.
    pub(super) to: String,
    /// Since this process keeps logins: clocks that are set change nothing.
    begun: Duration,
}

#[derive(Debug)]
pub(super) struct Logins {
    seal: Seal,
    since: Instant,
    over: Mutex<Over>,
}

#[derive(Debug, Default)]
struct Over {
    states: HashSet<String>,
    /// Oldest first.
    order: VecDeque<(Instant, String)>,
}

impl Logins {
    pub(super) fn new() -> Logins {
        Logins { seal: Seal::by_chance(), since: Instant::now(), over: Mutex::default() }
    }

    /// A new one, and what its browser keeps of it.
    pub(super) fn begin(&self, to: &str, now: Instant) -> (Login, String) {
        let begun = now.duration_since(self.since);
        let login = Login { state: chance(), nonce: chance(), verifier: chance(), to: page(to), begun };
        let text = serde_json::to_string(&login).expect("text can be written as JSON");
        let kept = URL_SAFE_NO_PAD.encode(self.seal.close(&text));
        (login, kept)
    }

    /// What was begun with this state by the browser that kept this, if there is still time for it, and it is not over.
    pub(super) fn find(&self, kept: &str, state: &str, now: Instant) -> Option<Login> {
        let text = self.seal.open(&URL_SAFE_NO_PAD.decode(kept).ok()?)?;
        let login: Login = serde_json::from_str(&text).ok()?;
        let goes_on = now.duration_since(self.since) < login.begun + LOGIN_WITHIN;
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        (goes_on && login.state == state && !over.states.contains(state)).then_some(login)
    }

    /// The provider has let somebody in with it. False: it was over already.
    pub(super) fn end(&self, login: &Login, now: Instant) -> bool {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let Over { states, order } = &mut *over;
        while order.front().is_some_and(|(at, _)| now.duration_since(*at) >= LOGIN_WITHIN || order.len() >= OVER_MAX) {
            if let Some((_, state)) = order.pop_front() {
                states.remove(&state);
            }
        }
        let first = states.insert(login.state.clone());
        if first {
            order.push_back((now, login.state.clone()));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_of_the_browser_that_keeps_it_for_a_while_and_once() {
        let (logins, begun) = (Logins::new(), Instant::now());
        let (login, kept) = logins.begin("/jobs?name=a", begun);
        let find = |kept: &str, state: &str, after: Duration| logins.find(kept, state, begun + after);
        let (soon, late) = (LOGIN_WITHIN * 9 / 10, LOGIN_WITHIN);
        let found = find(&kept, &login.state, soon).expect("it goes on");
        assert_eq!((&found.nonce, &found.verifier, found.to.as_str()), (&login.nonce, &login.verifier, "/jobs?name=a"));
        assert!(find(&kept, &login.state, late).is_none(), "too late");
        // What another browser began, with either half of it.
        let (other, others) = logins.begin("/", begun);
        assert!(find(&kept, &other.state, soon).is_none() && find(&others, &login.state, soon).is_none());
        // What was changed, or is of another farm, or is nothing.
        let mut changed = kept.clone().into_bytes();
        changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("text");
        let strange = Logins::new().begin("/", begun);
        for (kept, state) in [
            (&*changed, &*login.state),
            (&kept[..kept.len() - 4], &login.state),
            (&strange.1, &strange.0.state),
            (&login.state, &login.state),
            ("", ""),
        ] {
            assert!(find(kept, state, soon).is_none(), "{kept}");
        }
        assert!(logins.end(&login, begun + soon), "the first time");
        assert!(find(&kept, &login.state, soon).is_none());
        assert!(!logins.end(&login, begun + soon), "the provider may take a code twice");
        assert!(find(&others, &other.state, soon).is_some(), "the other goes on");
    }

    #[test]
    fn nobody_reads_what_a_browser_keeps_and_browsers_have_room_for_it() {
        let logins = Logins::new();
        let long = format!("/{}", "x".repeat(511));
        let (login, kept) = logins.begin(&long, Instant::now());
        assert_eq!(login.to, long);
        // Names and attributes of a cookie are counted too, up to 4096 bytes.
        assert!(kept.len() < 2048, "{}", kept.len());
        let bytes = URL_SAFE_NO_PAD.decode(&kept).expect("readable");
        for secret in [&login.verifier, &login.nonce] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        }
        assert!(kept.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{kept}");
    }

    #[test]
    fn what_is_known_to_be_over_has_a_bound_and_is_forgotten_in_time() {
        let (logins, begun) = (Logins::new(), Instant::now());
        let first = logins.begin("/", begun);
        for _ in 0..OVER_MAX {
            assert!(logins.end(&logins.begin("/", begun).0, begun));
        }
        let known = || logins.over.lock().expect("whole").states.len();
        assert!(logins.end(&first.0, begun));
        assert_eq!(known(), OVER_MAX);
        assert!(logins.find(&first.1, &first.0.state, begun).is_none(), "the newest is known");
        assert!(logins.end(&logins.begin("/", begun).0, begun + LOGIN_WITHIN));
        assert_eq!(known(), 1);
    }
}
