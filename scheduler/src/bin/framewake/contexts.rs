//! Which scheduler is asked, and with which token: from the command line, the environment, or a file that nobody else may read.
//!
//! A token is sent to the address that it was stored for, and to no other. It never stands on a command line, where everybody on
//! the machine can read it.

use crate::failure::BadInput;
use framewake_proto::client::URL_DEFAULT;
use framewake_proto::notify::Secret;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file of contexts, and of a token.
const FILE_MAX: u64 = 1 << 20;
const TOKEN_FILE_MAX: u64 = 4096;
/// What others may do with a file, which must be nothing.
const RIGHTS_OF_OTHERS: u32 = 0o077;

/// A farm and how one is known there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Farm {
    pub(crate) url: String,
    /// Absent: nobody is asked for one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is meant when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Farm>,
}

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) token: Option<Secret>,
}

/// What the environment says, which tests set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) token: Option<OsString>,
    pub(crate) token_file: Option<OsString>,
    /// The file of contexts, or where to look for it.
    pub(crate) file: Option<OsString>,
    pub(crate) config_home: Option<OsString>,
    pub(crate) home: Option<OsString>,
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            token: set("FRAMEWAKE_TOKEN"),
            token_file: set("FRAMEWAKE_TOKEN_FILE"),
            file: set("FRAMEWAKE_CONTEXTS"),
            config_home: set("XDG_CONFIG_HOME"),
            home: set("HOME"),
        }
    }

    /// Where contexts are kept; `None`: this user has no home.
    pub(crate) fn contexts_file(&self) -> Option<PathBuf> {
        if let Some(file) = &self.file {
            return Some(file.into());
        }
        let home = self.config_home.as_ref().map(PathBuf::from);
        let home = home.or_else(|| self.home.as_ref().map(|home| Path::new(home).join(".config")))?;
        Some(home.join("framewake/contexts.json"))
    }

    /// `url` and `context` are what the command line says.
    pub(crate) fn asked(&self, url: Option<&str>, context: Option<&str>) -> Result<Asked, BadInput> {
        let given = self.given_token()?;
        let kept = match (self.contexts_file(), &given, url) {
            // Nothing of the file is wanted, and whoever has none need not have it right.
            (_, Some(_), Some(_)) if context.is_none() => Contexts::default(),
            (Some(file), ..) => Contexts::load(&file)?,
            (None, ..) => Contexts::default(),
        };
        let farm = match context.or(kept.current.as_deref().filter(|_| url.is_none())) {
            Some(name) => Some(kept.contexts.get(name).ok_or_else(|| no_context(name, &kept))?),
            None => kept.contexts.values().find(|farm| url.is_some_and(|url| same_url(url, &farm.url))),
        };
        let url = match (url, farm) {
            (Some(url), _) => url.to_owned(),
            (None, Some(farm)) => farm.url.clone(),
            (None, None) => URL_DEFAULT.to_owned(),
        };
        let kept = farm.filter(|farm| same_url(&url, &farm.url)).and_then(|farm| farm.token.clone());
        Ok(Asked { token: given.or(kept), url })
    }

    fn given_token(&self) -> Result<Option<Secret>, BadInput> {
        if let Some(token) = &self.token {
            let token = token.to_str().ok_or_else(|| BadInput::new("FRAMEWAKE_TOKEN is no token"))?;
            return Ok(Some(Secret::new(token.trim())));
        }
        self.token_file.as_ref().map(|file| read_token(Path::new(file))).transpose()
    }
}

/// The token in a file.
pub(crate) fn read_token(file: &Path) -> Result<Secret, BadInput> {
    let cannot = |error: std::io::Error| BadInput::new(format!("can't read `{}`: {error}", file.display()));
    let mut text = String::new();
    File::open(file).map_err(cannot)?.take(TOKEN_FILE_MAX).read_to_string(&mut text).map_err(cannot)?;
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(BadInput::new(format!("`{}` has no token in it, or more than one", file.display())));
    }
    Ok(Secret::new(text))
}

fn no_context(name: &str, kept: &Contexts) -> BadInput {
    let known: Vec<&str> = kept.contexts.keys().map(String::as_str).collect();
    let hint = if known.is_empty() {
        "there is none yet: `framewake login URL` makes one".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    BadInput::new(format!("there is no context `{name}`")).hint(hint)
}

/// `http://farm:7700/` is `http://farm:7700`.
fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

impl Contexts {
    /// What a farm is called that nobody named: as before, where it is known; else by its host, and its port where that is not
    /// the one that such addresses have anyway.
    pub(crate) fn name_for(&self, url: &str) -> Result<String, BadInput> {
        if let Some((name, _)) = self.contexts.iter().find(|(_, farm)| same_url(url, &farm.url)) {
            return Ok(name.clone());
        }
        let address = url.parse::<Url>().ok();
        let Some((host, port)) = address.as_ref().and_then(|url| Some((url.host_str()?, url.port()))) else {
            return Err(BadInput::new(format!("`{url}` is no address")).hint("as in https://farm.example"));
        };
        let name = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        match self.contexts.get(&name) {
            None => Ok(name),
            Some(other) => Err(BadInput::new(format!("context `{name}` is of another farm, {}", other.url))
                .hint(format!("call this one otherwise with --name, or forget that one: framewake logout {name}"))),
        }
    }

    /// What is in the file; nothing where there is none. A file that others may read is refused: its tokens are no secrets.
    pub(crate) fn load(file: &Path) -> Result<Contexts, BadInput> {
        let cannot = |error: std::io::Error| BadInput::new(format!("can't read `{}`: {error}", file.display()));
        let mut opened = match File::open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(cannot(error)),
        };
        let rights = opened.metadata().map_err(cannot)?.permissions().mode();
        if rights & RIGHTS_OF_OTHERS != 0 {
            let message = format!("others may read or change `{}`, which has tokens in it", file.display());
            let hint =
                format!("chmod 600 '{}', and if somebody may have read it: `framewake tokens revoke`", file.display());
            return Err(BadInput::new(message).hint(hint));
        }
        let mut text = String::new();
        (&mut opened).take(FILE_MAX).read_to_string(&mut text).map_err(cannot)?;
        serde_json::from_str(&text).map_err(|error| {
            BadInput::new(format!("`{}` is no file of contexts: {error}", file.display()))
                .hint("remove it, and `framewake login` again")
        })
    }

    /// In one step, so that a full disk leaves what was there; readable by its owner alone from the first byte on.
    pub(crate) fn store(&self, file: &Path) -> Result<(), BadInput> {
        let cannot = |error: std::io::Error| BadInput::new(format!("can't write `{}`: {error}", file.display()));
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
        let beside = folder.join(format!(".contexts.{}", std::process::id()));
        let _ = fs::remove_file(&beside);
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut new| {
                new.write_all(serde_json::to_string_pretty(self).expect("contexts are JSON").as_bytes())?;
                new.sync_all()?;
                fs::rename(&beside, file)
            });
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            cannot(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path) -> Environment {
        Environment { config_home: Some(folder.into()), ..Environment::default() }
    }

    fn farm(url: &str, token: &str) -> Farm {
        Farm { url: url.to_owned(), token: Some(Secret::new(token)) }
    }

    fn kept(folder: &Path) -> (Environment, PathBuf) {
        let environment = environment(folder);
        let file = environment.contexts_file().expect("a place");
        let contexts = BTreeMap::from([
            ("one".to_owned(), farm("http://one:7700", "fw_one")),
            ("two".to_owned(), farm("https://two", "fw_two")),
            ("open".to_owned(), Farm { url: "http://open".to_owned(), token: None }),
        ]);
        Contexts { current: Some("one".to_owned()), contexts }.store(&file).expect("stored");
        (environment, file)
    }

    #[test]
    fn a_token_goes_to_the_farm_it_was_stored_for_and_to_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let (environment, _) = kept(folder.path());
        let check = |url, context, expected_url: &str, token: Option<&str>| {
            let asked = environment.asked(url, context).expect("good");
            assert_eq!(
                (asked.url.as_str(), asked.token),
                (expected_url, token.map(Secret::new)),
                "{url:?} {context:?}"
            );
        };
        check(None, None, "http://one:7700", Some("fw_one"));
        check(None, Some("two"), "https://two", Some("fw_two"));
        check(None, Some("open"), "http://open", None);
        check(Some("https://two/"), None, "https://two/", Some("fw_two"));
        check(Some("http://one:7700.evil.example"), None, "http://one:7700.evil.example", None);
        check(Some("http://one"), Some("one"), "http://one", None);
        let given = Environment { token: Some("fw_given".into()), ..environment.clone() };
        assert_eq!(given.asked(None, None).expect("good").token, Some(Secret::new("fw_given")));
        assert!(
            environment.asked(None, Some("three")).expect_err("none").hint.expect("a hint").contains("one, open, two")
        );
    }

    #[test]
    fn farms_on_one_host_have_names_of_their_own_and_those_that_are_known_keep_theirs() {
        let mut kept = Contexts::default();
        for (url, name) in [
            ("https://farm.example", "farm.example"),
            ("https://farm.example:443/", "farm.example"),
            ("https://farm.example:8443", "farm.example:8443"),
            ("http://farm.example:7700", "farm.example:7700"),
            ("http://[::1]:7700", "[::1]:7700"),
        ] {
            assert_eq!(kept.name_for(url).expect(url), name);
        }
        // Stored by a version that named farms by their hosts alone, or with --name.
        kept.contexts.insert("farm.example".to_owned(), farm("http://farm.example:7700", "fw_old"));
        assert_eq!(kept.name_for("http://farm.example:7700/").expect("known"), "farm.example");
        assert_eq!(kept.name_for("http://farm.example:7701").expect("new"), "farm.example:7701");
        let refused = kept.name_for("https://farm.example").expect_err("its token would take the place of the other's");
        assert!(refused.hint.expect("a way out").contains("--name"));
        assert!(kept.name_for("farm.example").is_err());
    }

    #[test]
    fn what_others_may_read_is_refused_and_what_is_written_they_may_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (environment, file) = kept(folder.path());
        let rights = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((rights(&file), rights(file.parent().expect("a folder"))), (0o600, 0o700));
        for wide in [0o604, 0o640, 0o660, 0o666] {
            fs::set_permissions(&file, fs::Permissions::from_mode(wide)).expect("changed");
            let refused = environment.asked(None, None).expect_err("refused");
            assert!(refused.hint.expect("a way out").contains("chmod 600"), "{wide:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(environment.asked(None, None).is_ok());
        assert!(!format!("{:?}", Contexts::load(&file)).contains("fw_"), "a token prints itself");
    }
}
