//! Who may do what over HTTP: tokens and what they open, sessions of pages, and what is noted of changes.
//!
//! Whoever asks becomes a [`Caller`] in one place (`rest/door.rs`), and what comes after looks only at that: another way to
//! become one, as by a provider of identities, adds a way in and nothing behind it.
//! Not here: what an address needs (`rules`) is a table; what is shown of whom, the handlers of `rest` narrow.

pub(crate) mod errand;
mod names;
pub(crate) mod note;
mod oidc;
mod origin;
pub(crate) mod rules;
mod seal;
mod sessions;
mod table;
mod token;
mod wrong;

pub use names::HostName;
pub(crate) use names::{is_ours, name_in};
pub use oidc::OidcSettings;
pub(crate) use oidc::{Error as OidcError, LOGIN_WITHIN, LoggedIn, Oidc, Person};
pub use origin::Origin;
pub(crate) use sessions::{
    CookieNames, Kept as KeptSession, Key as SessionKey, SESSION_FOR, Session, Sessions, make as make_session,
};
#[cfg(test)]
pub(crate) use sessions::{SESSIONS_OF_ONE_MAX, UNUSED_FOR};
pub(crate) use table::{Held, TokenTable, Why};
pub(crate) use token::{Token, TokenId, make as make_token, name_fault};
pub(crate) use wrong::{Tries, Wrong};

use clap::ValueEnum;
use framewake_proto::access::{Role, Who};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::time::Timestamp;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// Jobs whose project is remembered, for tokens of one project.
const JOBS_REMEMBERED: usize = 100_000;

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Mode {
    /// Everybody on this machine, and nobody else: only a loopback address is listened on
    #[default]
    Local,
    /// Who has a token
    Tokens,
    /// Everybody who reaches the address, by an IP address or one of `--names`: for a proxy in front that asks who it is
    Open,
}

/// Why a scheduler doesn't listen where it was told to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListenError {
    #[error(
        "{0} can be reached from other machines, and nobody would be asked who they are: use `--access tokens` (`framewake-scheduler token` makes the first one), listen on 127.0.0.1, or say `--access open` (with `--names`) if a proxy in front asks"
    )]
    Unguarded(SocketAddr),
    #[error(
        "`framewake dev` is open on this machine only: on {0} it needs `--access tokens` (`framewake-scheduler token --data DIR` makes the first one), or use 127.0.0.1"
    )]
    Dev(SocketAddr),
    #[error(
        "`--keda-listen` {0} can be reached from other machines, and nobody is asked there who they are: use 127.0.0.1, or, where only KEDA reaches that address, as behind a network policy, say so with `--access tokens` or `--access open`"
    )]
    Keda(SocketAddr),
    #[error(
        "`framewake dev` is open on this machine only: on `--keda-listen` {0} it needs `--access tokens` (`framewake-scheduler token --data DIR` makes the first one), or use 127.0.0.1"
    )]
    DevKeda(SocketAddr),
    #[error(
        "`--cors-allow {0}` needs `--access tokens`: nobody would be asked for a token, and its pages could do whatever an admin may; leave it out, or ask for tokens"
    )]
    Origin(String),
}

impl ListenError {
    /// The same of the address where KEDA is answered: it brings no token, so whoever reaches that address is told.
    #[must_use]
    pub fn of_keda(self) -> ListenError {
        match self {
            ListenError::Unguarded(listen) | ListenError::Keda(listen) => ListenError::Keda(listen),
            ListenError::Dev(listen) | ListenError::DevKeda(listen) => ListenError::DevKeda(listen),
            ListenError::Origin(origin) => ListenError::Origin(origin),
        }
    }
}

impl Mode {
    /// Whether a scheduler may listen there.
    pub fn check(self, listen: SocketAddr) -> Result<(), ListenError> {
        match self {
            Mode::Local if !listen.ip().is_loopback() => Err(ListenError::Unguarded(listen)),
            Mode::Local | Mode::Tokens | Mode::Open => Ok(()),
        }
    }

    /// Whether pages of others may ask: they bring a token, where one is asked for.
    pub fn check_origins(self, origins: &[Origin]) -> Result<(), ListenError> {
        match (self, origins.first()) {
            (Mode::Local | Mode::Open, Some(origin)) => Err(ListenError::Origin(origin.as_str().to_owned())),
            (Mode::Local | Mode::Open | Mode::Tokens, _) => Ok(()),
        }
    }

    /// Whether a farm on one machine may listen there.
    pub fn check_dev(self, listen: SocketAddr) -> Result<(), ListenError> {
        match self {
            Mode::Local | Mode::Open if !listen.ip().is_loopback() => Err(ListenError::Dev(listen)),
            Mode::Local | Mode::Tokens | Mode::Open => Ok(()),
        }
    }
}

/// Whether it looks like a token.
pub(crate) fn is_token(text: &str) -> bool {
    token::read(text).is_some()
}

/// Who asks, as everything behind the door knows them.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The one project they see; without it, all.
    pub(crate) project: Option<Name>,
    /// By which they came in; none where nobody is asked.
    pub(crate) held: Option<Arc<Held>>,
    /// Of a page.
    pub(crate) session: Option<Arc<Session>>,
}

impl Caller {
    /// Everybody, where nobody is asked who they are.
    pub(crate) fn local() -> Caller {
        Caller { name: "local".to_owned(), role: Role::Admin, project: None, held: None, session: None }
    }

    pub(crate) fn of(held: Arc<Held>) -> Caller {
        let Token { name, role, project, .. } = &held.token;
        Caller { name: name.to_string(), role: *role, project: project.clone(), held: Some(held), session: None }
    }

    /// The one project they see.
    pub(crate) fn only(&self) -> Option<&Name> {
        self.project.as_ref()
    }

    pub(crate) fn sees(&self, project: &Name) -> bool {
        self.project.as_ref().is_none_or(|own| own == project)
    }

    /// The id of the token.
    pub(crate) fn token(&self) -> Option<TokenId> {
        self.held.as_ref().map(|held| held.token.id)
    }

    pub(crate) fn view(&self) -> Who {
        Who {
            name: self.name.clone(),
            role: self.role,
            project: self.project.clone(),
            token: self.token().map(|id| id.to_string()),
            expires_at: self.held.as_ref().and_then(|held| held.token.expires_at),
        }
    }
}

/// What the door looks at.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) mode: Mode,
    pub(crate) tokens: TokenTable,
    pub(crate) sessions: Sessions,
    /// By which people may log in to the pages.
    pub(crate) oidc: Option<Arc<Oidc>>,
    pub(crate) wrong: Wrong,
    /// Held while tokens are made, revoked or looked for, so that none comes back that is just being revoked; and when they
    /// were looked for last.
    pub(crate) changing: AsyncMutex<Option<Instant>>,
    /// Jobs that were found to be of these projects; it never changes.
    jobs: Mutex<HashMap<JobId, Name>>,
}

impl Access {
    pub(crate) fn new(mode: Mode, tokens: Vec<Token>) -> Access {
        Access { mode, tokens: TokenTable::new(tokens), ..Access::default() }
    }

    /// With a way in for people whom a provider of identities knows.
    pub(crate) fn with_oidc(mut self, oidc: Option<Arc<Oidc>>) -> Access {
        self.oidc = oidc;
        self
    }

    /// Sessions of before the restart go on, if what they stand for is good still. Those that don't are to be forgotten.
    pub(crate) fn restore(&self, kept: Vec<KeptSession>, now: Timestamp) -> Vec<SessionKey> {
        let good = |kept: &KeptSession| match &kept.person {
            None => self.tokens.of(kept.token).is_some_and(|held| !held.is_over(now)),
            Some(person) => self.oidc.as_ref().is_some_and(|oidc| oidc.admits(person)),
        };
        self.sessions.restore(kept, good, now)
    }

    /// What a session stands for, while it is there.
    pub(crate) fn behind(&self, session: &Session) -> Option<Arc<Held>> {
        session.person().cloned().or_else(|| self.tokens.of(session.token()))
    }

    pub(crate) fn asks(&self) -> bool {
        self.mode == Mode::Tokens
    }

    pub(crate) fn project_of(&self, job: JobId) -> Option<Name> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    pub(crate) fn remember(&self, job: JobId, project: Name) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_REMEMBERED {
            jobs.clear();
        }
        jobs.insert(job, project);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_beyond_this_machine_unasked() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (address, local, dev_open) in [
            ("127.0.0.1:7700", true, true),
            ("[::1]:7700", true, true),
            ("127.9.9.9:1", true, true),
            ("0.0.0.0:7700", false, false),
            ("[::]:7700", false, false),
            ("10.0.0.7:7700", false, false),
        ] {
            let address = at(address);
            assert_eq!(Mode::Local.check(address).is_ok(), local, "{address}");
            assert_eq!(Mode::Local.check_dev(address).is_ok(), local, "{address}");
            assert_eq!(Mode::Open.check_dev(address).is_ok(), dev_open, "{address}");
            assert!(Mode::Tokens.check(address).is_ok() && Mode::Tokens.check_dev(address).is_ok());
            assert!(Mode::Open.check(address).is_ok());
        }
        let beyond = at("0.0.0.0:7700");
        let refused = Mode::Local.check(beyond).expect_err("refused");
        let of_dev = Mode::Open.check_dev(beyond).expect_err("refused");
        let ways = ["--access tokens", "--access open", "127.0.0.1"];
        for (said, ways, of_keda) in [
            (refused.to_string(), &ways[..], false),
            (refused.of_keda().to_string(), &ways[..], true),
            (of_dev.to_string(), &["--access tokens", "127.0.0.1"][..], false),
            (of_dev.of_keda().to_string(), &["--access tokens", "127.0.0.1"][..], true),
        ] {
            assert!(ways.iter().all(|way| said.contains(way)), "{said}");
            assert_eq!(said.contains("--keda-listen"), of_keda, "{said}");
        }
    }
}
