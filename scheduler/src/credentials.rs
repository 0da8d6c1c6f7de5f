//! Who is let into NATS, as what, and for how long. The scheduler holds the seed of the account that the server trusts, and
//! signs what others connect with: nothing has to be written on the server when a worker or a function comes.
//!
//! A *join token* lets its holder ask for a credential, and do nothing else. Of a worker that the farm had started it must show the
//! *invitation* too, which is of that worker alone. A *credential* is of one worker of one function, and
//! good for an hour or so; with it the worker asks for the next. Once the worker has ended, the server is told to take it from nobody.

mod gate;
mod jwt;
mod nkey;
mod revoking;
pub mod server;

pub(crate) use gate::Gate;
pub(crate) use revoking::{ENDED_MAX, Ended, tell_always};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::notify::Secret;
use framewake_proto::permissions::{Joiner, Permissions};
use framewake_proto::subjects::Subjects;
use framewake_proto::time::Timestamp;
use jwt::Claims;
use nkey::{Key, Kind, user_named};
use serde_json::Value;
use server::Authority;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a join token of one worker is good. Most are used within seconds; after an outage in which its credential ran out, the
/// worker needs it again.
pub(crate) const JOIN_FOR: Duration = Duration::from_hours(7 * 24);
/// Least and most that credentials last: workers renew them when half is over.
const LASTS_MIN: Duration = Duration::from_secs(2);
const LASTS_MAX: Duration = Duration::from_hours(7 * 24);
/// Largest file of a seed.
const SEED_FILE_MAX: u64 = 4096;

/// Where the seed is, and how long what is signed with it lasts.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "credentials")]
pub struct Settings {
    /// File with the seed of the farm's account on NATS (`framewake-scheduler nats-keys` makes one): each worker may then do there what it
    /// must, and nothing else. Without it NATS itself says who may do what
    #[arg(long, env = "FRAMEWAKE_NATS_SEED_FILE")]
    pub nats_seed: Option<PathBuf>,
    /// How long a worker's credential for NATS is good (2s to 7d); it is renewed when half is over, and taken back when the worker has ended
    #[arg(long, env = "FRAMEWAKE_CREDENTIALS_FOR", default_value = "1h", value_parser = lasts)]
    pub credentials_for: Span,
    /// File with the certificates of the authorities that NATS is trusted by (PEM) [default: those of the system]
    #[arg(long, env = "FRAMEWAKE_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
}

pub(crate) fn lasts(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if (LASTS_MIN..=LASTS_MAX).contains(&span.0) { Ok(span) } else { Err("must be 2s to 7d".to_owned()) }
}

/// Signs for the farm's account.
#[derive(Debug, Clone)]
pub struct Issuer {
    key: Arc<Key>,
    /// The account, where the key is one that may sign for it.
    account: Option<String>,
    /// Where the server is the farm's own.
    authority: Option<Arc<Authority>>,
    subjects: Subjects,
}

impl Issuer {
    /// With the seed in this file. Behind it come the account that it signs for, where it is that of a signing key; or the seeds of the
    /// operator and of the system's account, where they are known: then what was signed can be taken back.
    pub fn open(file: &Path, subjects: Subjects) -> Result<Issuer> {
        let what = || format!("the seed for NATS in `{}`", file.display());
        let size = std::fs::metadata(file).with_context(what)?.len();
        ensure!(size <= SEED_FILE_MAX, "`{}` has {size} bytes: it is no seed", file.display());
        let text = std::fs::read_to_string(file).with_context(what)?;
        let mut words = text.split_whitespace();
        let key = Key::of_seed(words.next().unwrap_or_default(), Kind::Account).with_context(what)?;
        let (mut account, mut operator, mut system) = (None, None, None);
        for word in words {
            if nkey::is_public(word, Kind::Account) {
                account = Some(word.to_owned());
            } else if word.starts_with("SO") {
                operator = Some(Key::of_seed(word, Kind::Operator).with_context(what)?);
            } else if word.starts_with("SA") {
                system = Some(Key::of_seed(word, Kind::Account).with_context(what)?);
            } else {
                bail!(
                    "`{}` has something else behind its seed than an account (`A…`) or further seeds",
                    file.display()
                );
            }
        }
        let authority = match (operator, system, &account) {
            (Some(operator), Some(system), None) => Some(Arc::new(Authority::new(operator, system, key.public()))),
            (None, None, _) => None,
            _ => bail!("`{}` has one seed without the others that it goes with", file.display()),
        };
        Ok(Issuer { key: Arc::new(key), account, authority, subjects })
    }

    /// Whether the server can be told that what was signed is good no more.
    pub(crate) fn can_take_back(&self) -> bool {
        self.authority.is_some()
    }

    /// For the scheduler itself, which may do everything in the account.
    pub(crate) fn own(&self) -> Secret {
        self.sign(Claims::new("scheduler", Key::make(Kind::User).public(), None, self.of_user(None)))
    }

    /// For a worker of this function. What it had up to the second `taken_back` stays of no use.
    pub(crate) fn of_worker(
        &self,
        function: &FunctionKey,
        worker: &WorkerId,
        until: Timestamp,
        taken_back: Option<i64>,
    ) -> Secret {
        let nats = self.of_user(Some(Permissions::of_worker(&self.subjects, function, worker)));
        let claims = Claims::new(&named(function, worker), self.user(worker), Some(until), nats);
        self.sign(taken_back.into_iter().fold(claims, Claims::made_after))
    }

    /// As whom the server knows a worker, whichever of its credentials it shows.
    fn user(&self, worker: &WorkerId) -> String {
        user_named(&format!("{}.{worker}", self.subjects.farm()))
    }

    /// For whoever may ask to be let in.
    pub(crate) fn join_token(&self, joiner: &Joiner, until: Option<Timestamp>) -> Secret {
        let nats = self.of_user(Some(Permissions::of_joiner(&self.subjects, joiner)));
        self.sign(Claims::new("joiner", Key::make(Kind::User).public(), until, nats))
    }

    /// For the one worker that a pool is to start.
    pub(crate) fn join_token_of(&self, function: &FunctionKey, worker: &WorkerId, now: Timestamp) -> Secret {
        self.join_token(&Joiner::Worker(function.clone(), worker.clone()), Some(now.after(JOIN_FOR)))
    }

    /// For the one worker that a pool is to start: with it, whoever has a join token may be that worker.
    pub(crate) fn invitation(&self, function: &FunctionKey, worker: &WorkerId) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(self.key.sign(self.invites(function, worker).as_bytes())))
    }

    fn has_invited(&self, function: &FunctionKey, worker: &WorkerId, invitation: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(invitation);
        let text = self.invites(function, worker);
        signature.is_ok_and(|signature| nkey::has_signed(&self.key.public(), text.as_bytes(), &signature))
    }

    /// No credential begins so.
    fn invites(&self, function: &FunctionKey, worker: &WorkerId) -> String {
        format!("farm {} invites worker {worker} of {function}", self.subjects.farm())
    }

    /// Whether the text was this worker's credential, be it over or not.
    fn was_of(&self, text: &str, function: &FunctionKey, worker: &WorkerId) -> bool {
        let claims = jwt::read(text, &self.key.public());
        claims.is_some_and(|claims| claims.name == named(function, worker))
    }

    fn of_user(&self, permissions: Option<Permissions>) -> Value {
        let mut nats = of_user(permissions);
        if let Some(account) = &self.account {
            nats["issuer_account"] = account.clone().into();
        }
        nats
    }

    fn sign(&self, claims: Claims) -> Secret {
        Secret::new(jwt::sign(&self.key, claims))
    }
}

/// What the server is told of a user; without permissions it may do everything in its account.
fn of_user(permissions: Option<Permissions>) -> Value {
    let mut nats = serde_json::json!({
        // Its holder proves nothing but that it has it, as with a password: nobody but the server should hear it.
        "bearer_token": true,
        "subs": -1, "data": -1, "payload": -1,
        "type": "user", "version": 2,
    });
    if let Some(Permissions { publish, subscribe }) = permissions {
        nats["pub"] = serde_json::json!({ "allow": publish });
        nats["sub"] = serde_json::json!({ "allow": subscribe });
    }
    nats
}

/// By which a credential is known again.
fn named(function: &FunctionKey, worker: &WorkerId) -> String {
    format!("worker {worker} of {function}")
}

#[cfg(test)]
mod tests;
