//! Who is let into NATS, as what, and for how long. The scheduler holds the seed of the account that the server trusts, and
//! signs what others connect with: nothing has to be written on the server when a worker or a function comes.
//!
//! A *join token* lets its holder ask for a credential, and do nothing else. A *credential* is of one worker of one function, and
//! good for an hour or so; with it the worker asks for the next.

mod gate;
mod jwt;
mod nkey;
pub mod server;

pub(crate) use gate::Gate;

use anyhow::{Context, Result, ensure};
use framewake_proto::duration::Span;
use framewake_proto::ids::{FunctionKey, WorkerId};
use framewake_proto::notify::Secret;
use framewake_proto::permissions::{Joiner, Permissions};
use framewake_proto::subjects::Subjects;
use framewake_proto::time::Timestamp;
use jwt::Claims;
use nkey::{Key, Kind};
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
    /// How long a worker's credential for NATS is good (2s to 7d); it is renewed when half is over
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
    subjects: Subjects,
}

impl Issuer {
    /// With the seed in this file, and behind it, where it is that of a signing key, the account that it signs for.
    pub fn open(file: &Path, subjects: Subjects) -> Result<Issuer> {
        let what = || format!("the seed for NATS in `{}`", file.display());
        let size = std::fs::metadata(file).with_context(what)?.len();
        ensure!(size <= SEED_FILE_MAX, "`{}` has {size} bytes: it is no seed", file.display());
        let text = std::fs::read_to_string(file).with_context(what)?;
        let mut words = text.split_whitespace();
        let key = Key::of_seed(words.next().unwrap_or_default(), Kind::Account).with_context(what)?;
        let account = words.next().map(str::to_owned);
        if let Some(account) = &account {
            ensure!(
                nkey::is_public(account, Kind::Account),
                "`{}` has something else than an account (`A…`) behind its seed",
                file.display()
            );
        }
        Ok(Issuer { key: Arc::new(key), account, subjects })
    }

    /// For the scheduler itself, which may do everything in the account.
    pub(crate) fn own(&self) -> Secret {
        self.sign("scheduler", None, None)
    }

    /// For a worker of this function.
    pub(crate) fn of_worker(&self, function: &FunctionKey, worker: &WorkerId, until: Timestamp) -> Secret {
        self.sign(&named(function, worker), Some(Permissions::of_worker(&self.subjects, function, worker)), Some(until))
    }

    /// For whoever may ask to be let in.
    pub(crate) fn join_token(&self, joiner: &Joiner, until: Option<Timestamp>) -> Secret {
        self.sign("joiner", Some(Permissions::of_joiner(&self.subjects, joiner)), until)
    }

    /// For the one worker that a pool is to start.
    pub(crate) fn join_token_of(&self, function: &FunctionKey, worker: &WorkerId, now: Timestamp) -> Secret {
        self.join_token(&Joiner::Worker(function.clone(), worker.clone()), Some(now.after(JOIN_FOR)))
    }

    /// Whether the text was this worker's credential, be it over or not.
    fn was_of(&self, text: &str, function: &FunctionKey, worker: &WorkerId) -> bool {
        let claims = jwt::read(text, &self.key.public());
        claims.is_some_and(|claims| claims.name == named(function, worker))
    }

    fn sign(&self, name: &str, permissions: Option<Permissions>, until: Option<Timestamp>) -> Secret {
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
        if let Some(account) = &self.account {
            nats["issuer_account"] = account.clone().into();
        }
        let claims = Claims::new(name, Key::make(Kind::User).public(), until, nats);
        Secret::new(jwt::sign(&self.key, claims))
    }
}

/// By which a credential is known again.
fn named(function: &FunctionKey, worker: &WorkerId) -> String {
    format!("worker {worker} of {function}")
}

#[cfg(test)]
mod tests;
