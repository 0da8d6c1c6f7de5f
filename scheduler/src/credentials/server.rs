//! What a nats-server must know to let in whom the scheduler signs for: an operator, and the farm's account.

use super::jwt::{self, Claims};
use super::nkey::{Key, Kind};
use anyhow::{Context, Result};
use framewake_proto::notify::Secret;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A server's part and the scheduler's.
#[derive(Debug)]
pub struct Keys {
    /// Of the account: the scheduler's alone.
    pub seed: Secret,
    /// To be included in the configuration of the server; nothing in it is secret.
    pub config: String,
}

impl Keys {
    /// New ones. The operator's own key is thrown away: who needs other accounts makes all of it anew.
    pub fn make() -> Keys {
        let (operator, system, account) =
            (Key::make(Kind::Operator), Key::make(Kind::Account), Key::make(Kind::Account));
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
            signed("farm", account.public(), of_account(true)),
        );
        Keys { seed: account.seed(), config }
    }

    /// Writes the seed for its owner alone, and the rest for everybody; nothing is overwritten.
    pub fn write(&self, seed: &Path, config: &Path) -> Result<()> {
        write_new(config, 0o644, &self.config)?;
        write_new(seed, 0o600, &format!("{}\n", self.seed.reveal()))
    }
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
