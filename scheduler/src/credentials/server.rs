//! What a nats-server must know to let in whom the scheduler signs for, an operator and the farm's account; and what the scheduler
//! tells it later: whom of the account it shall let in no more.

use super::jwt::{self, Claims};
use super::nkey::{Key, Kind};
use super::of_user;
use anyhow::{Context, Result};
use framewake_proto::notify::Secret;
use framewake_proto::permissions::Permissions;
use framewake_proto::wire;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A server's part and the scheduler's.
#[derive(Debug)]
pub struct Keys {
    /// Of the account, the operator, and the account in which the server is spoken to about itself: the scheduler's alone.
    pub seed: Secret,
    /// To be included in the configuration of the server; nothing in it is secret.
    pub config: String,
}

impl Keys {
    /// New ones.
    pub fn make() -> Keys {
        Keys::around(&Key::make(Kind::Account))
    }

    /// New ones for the account that this file is the seed of: what it has signed stays good.
    pub fn renew(seed: &Path) -> Result<Keys> {
        let text = std::fs::read_to_string(seed).with_context(|| format!("cannot read `{}`", seed.display()))?;
        let key = Key::of_seed(text.split_whitespace().next().unwrap_or_default(), Kind::Account);
        Ok(Keys::around(&key.with_context(|| format!("`{}`", seed.display()))?))
    }

    fn around(account: &Key) -> Keys {
        let (operator, system) = (Key::make(Kind::Operator), Key::make(Kind::Account));
        let of_operator = json!({ "type": "operator", "version": 2, "system_account": system.public() });
        let signed =
            |name: &str, subject: String, nats: Value| jwt::sign(&operator, Claims::new(name, subject, None, nats));
        let config = format!(
            "# Made by framewake-scheduler. Nothing here is secret: it says whose signature is good.\n\
             operator: {}\n\
             system_account: {}\n\
             resolver: MEMORY\n\
             resolver_preload: {{\n  {}: {}\n  {}: {}\n}}\n",
            signed("framewake", operator.public(), of_operator),
            system.public(),
            system.public(),
            signed("system", system.public(), of_account(false)),
            account.public(),
            signed(FARM, account.public(), of_account(true)),
        );
        let seeds = [account.seed(), operator.seed(), system.seed()];
        Keys { seed: Secret::new(seeds.each_ref().map(Secret::reveal).join("\n")), config }
    }

    /// Writes the seed for its owner alone, and the rest for everybody; nothing is overwritten.
    pub fn write(&self, seed: &Path, config: &Path) -> Result<()> {
        write_new(config, 0o644, &self.config)?;
        write_new(seed, 0o600, &format!("{}\n", self.seed.reveal()))
    }
}

/// The account's name.
const FARM: &str = "farm";

/// May tell the server whom it shall let in no more.
#[derive(Debug)]
pub(super) struct Authority {
    operator: Key,
    system: Key,
    account: String,
}

impl Authority {
    pub(super) fn new(operator: Key, system: Key, account: String) -> Authority {
        Authority { operator, system, account }
    }

    /// With which the server is told, and nothing else can be done.
    pub(super) fn own(&self) -> Secret {
        let permissions = Permissions { publish: vec![self.subject()], subscribe: vec!["_INBOX.>".to_owned()] };
        let claims = Claims::new("scheduler", Key::make(Kind::User).public(), None, of_user(Some(permissions)));
        Secret::new(jwt::sign(&self.system, claims))
    }

    fn subject(&self) -> String {
        format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.UPDATE", self.account)
    }

    /// What the server knows of the account, with these users, each with the second up to which what they were given is of no use.
    pub(super) fn without(&self, users: &BTreeMap<String, i64>) -> String {
        let mut account = of_account(true);
        account["revocations"] = json!(users);
        jwt::sign(&self.operator, Claims::new(FARM, self.account.clone(), None, account))
    }

    /// Comes back when the server has taken this in its place.
    pub(super) async fn tell(&self, client: &async_nats::Client, claims: String) -> Result<(), TellError> {
        let answer = client.request(self.subject(), claims.into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        match answer["data"]["message"].as_str() {
            Some("jwt updated") => Ok(()),
            // As of an account that nobody has used since it was started.
            _ => Err(TellError::Refused(wire::clip(&answer.to_string(), SAID_MAX).to_owned())),
        }
    }
}

/// Characters of a server's answer that are said.
const SAID_MAX: usize = 300;

#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    #[error("NATS does not answer")]
    Silent(#[from] async_nats::RequestError),
    #[error("NATS answers: {0}")]
    Refused(String),
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn of_account(with_streams: bool) -> Value {
    let mut limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
    });
    if with_streams {
        for kind in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[kind] = json!(-1);
        }
    }
    json!({ "type": "account", "version": 2, "limits": limits, "default_permissions": { "pub": {}, "sub": {} } })
}
