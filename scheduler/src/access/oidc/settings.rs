//! What the operator says of a provider of identities, and what a person's groups make of them.

use crate::access::Mode;
use framewake_proto::access::Role;
use framewake_proto::ids::Name;
use reqwest::Url;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the provider sends people back to, below the address of the pages.
pub(crate) const CALLBACK: &str = "/v1/session/oidc/callback";
/// Longest secret in a file: a path that leads to something else is noticed.
const SECRET_FILE_MAX: u64 = 4096;

#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::doc_markdown)] // The text of `--help`.
pub struct OidcSettings {
    /// Provider of identities (OpenID Connect) by which people log in to the pages: its issuer, as `https://login.example/realms/studio`
    #[arg(long, env = "FRAMEWAKE_OIDC_ISSUER", requires_all = ["oidc_client", "oidc_url", "oidc_groups"])]
    pub oidc_issuer: Option<Issuer>,
    /// Name of this farm at the provider
    #[arg(long, env = "FRAMEWAKE_OIDC_CLIENT", requires = "oidc_issuer")]
    pub oidc_client: Option<String>,
    /// File with the secret of this farm at the provider; without it the farm is a public client, by PKCE alone
    #[arg(long, env = "FRAMEWAKE_OIDC_SECRET_FILE", requires = "oidc_issuer")]
    pub oidc_secret_file: Option<PathBuf>,
    /// Address of the pages as browsers know it, `https://farm.example`; the provider must know it with `/v1/session/oidc/callback` after it
    #[arg(long, env = "FRAMEWAKE_OIDC_URL", requires = "oidc_issuer")]
    pub oidc_url: Option<PublicUrl>,
    /// What groups may do, as `lighting=artist:film` (of one project) or `pipeline=operator` (of all). Of several that fit, the
    /// one with the most rights counts; who is in none may not come in
    #[arg(long, env = "FRAMEWAKE_OIDC_GROUPS", value_delimiter = ',', requires = "oidc_issuer")]
    pub oidc_groups: Vec<GroupRule>,
    /// Claim with the names of the groups, in the ID token; `realm_access.roles` is one in another
    #[arg(long, env = "FRAMEWAKE_OIDC_GROUPS_CLAIM", default_value = "groups")]
    pub oidc_groups_claim: String,
    /// What is asked of the provider beside `openid`
    #[arg(long, env = "FRAMEWAKE_OIDC_SCOPES", value_delimiter = ',', default_value = "profile,email")]
    pub oidc_scopes: Vec<String>,
}

/// Who may be spoken to: TLS, or a provider on this machine.
fn secure(url: &Url) -> bool {
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && local)
}

/// The name of a provider, which is also its address. Kept as it was written: it is compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    #[error("`{0}` is no address")]
    Unreadable(String),
    #[error("`{0}` must begin with `https://`; `http://` is for this machine alone")]
    Insecure(String),
    #[error("`{0}` must have no query and no fragment")]
    More(String),
    #[error("`{0}` must be an address without a path")]
    Path(String),
}

fn read_url(text: &str) -> Result<Url, UrlError> {
    let shown = || text.chars().take(200).collect();
    let url = Url::parse(text).map_err(|_| UrlError::Unreadable(shown()))?;
    if !secure(&url) || !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Insecure(shown()));
    }
    if url.query().is_some() || url.fragment().is_some() { Err(UrlError::More(shown())) } else { Ok(url) }
}

impl FromStr for Issuer {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Issuer, UrlError> {
        read_url(text).map(|_| Issuer(text.to_owned()))
    }
}

impl Issuer {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What is shown on the button.
    pub(crate) fn host(&self) -> String {
        Url::parse(&self.0).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// An address of a provider's own description: no more open than its issuer.
pub(crate) fn endpoint(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Unreadable(text.chars().take(200).collect()))?;
    if secure(&url) { Ok(url) } else { Err(UrlError::Insecure(text.chars().take(200).collect())) }
}

/// The pages' own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl FromStr for PublicUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<PublicUrl, UrlError> {
        let url = read_url(text)?;
        if url.path() == "/" {
            Ok(PublicUrl(text.trim_end_matches('/').to_owned()))
        } else {
            Err(UrlError::Path(text.chars().take(200).collect()))
        }
    }
}

impl PublicUrl {
    pub(crate) fn callback(&self) -> String {
        format!("{}{CALLBACK}", self.0)
    }

    /// Where the provider sends people back to who have logged out.
    pub(crate) fn page(&self) -> String {
        format!("{}/", self.0)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }
}

/// What members of a group may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    pub(crate) group: String,
    pub(crate) role: Role,
    pub(crate) project: Option<Name>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` says nothing of a group: write `GROUP=ROLE` or `GROUP=ROLE:PROJECT`, the role being viewer, artist, operator or admin"
)]
pub struct GroupRuleError(String);

impl FromStr for GroupRule {
    type Err = GroupRuleError;

    fn from_str(text: &str) -> Result<GroupRule, GroupRuleError> {
        let wrong = || GroupRuleError(text.chars().take(100).collect());
        // Groups may have `=` in them, as those of LDAP have.
        let (group, may) = text.rsplit_once('=').filter(|(group, _)| !group.is_empty()).ok_or_else(wrong)?;
        let (role, project) = match may.split_once(':') {
            Some((role, project)) => (role, Some(project.parse().map_err(|_| wrong())?)),
            None => (may, None),
        };
        Ok(GroupRule { group: group.to_owned(), role: role.parse().map_err(|_| wrong())?, project })
    }
}

/// What these groups make of somebody: the rule with the most rights, of all projects before of one; `None`: they may not come in.
pub(crate) fn rights<'a>(rules: &'a [GroupRule], groups: &[String]) -> Option<&'a GroupRule> {
    let mine = rules.iter().filter(|rule| groups.contains(&rule.group));
    // Of several that are equal the first that was written counts.
    mine.rev().max_by_key(|rule| (rule.role, rule.project.is_none()))
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("people log in by a provider only where somebody is asked: use `--access tokens` too")]
    NobodyAsks,
    #[error("cannot read the secret `{}`", path.display())]
    Secret {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("the secret `{}` is empty, or longer than {SECRET_FILE_MAX} bytes", .0.display())]
    NoSecret(PathBuf),
    #[error("the HTTP client can't be made")]
    Client(#[source] reqwest::Error),
}

impl OidcSettings {
    pub(crate) fn check(&self, mode: Mode) -> Result<(), SettingsError> {
        if self.oidc_issuer.is_some() && mode != Mode::Tokens { Err(SettingsError::NobodyAsks) } else { Ok(()) }
    }

    pub(crate) fn secret(&self) -> Result<Option<String>, SettingsError> {
        let Some(path) = &self.oidc_secret_file else { return Ok(None) };
        let named = |error| SettingsError::Secret { path: path.clone(), error };
        if std::fs::metadata(path).map_err(named)?.len() > SECRET_FILE_MAX {
            return Err(SettingsError::NoSecret(path.clone()));
        }
        let text = std::fs::read_to_string(path).map_err(named)?;
        let text = text.trim();
        if text.is_empty() { Err(SettingsError::NoSecret(path.clone())) } else { Ok(Some(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_encrypted_or_on_this_machine_is_spoken_to() {
        for good in [
            "https://login.example/realms/studio",
            "https://login.example",
            "http://127.0.0.1:8080/x",
            "http://localhost:1",
        ] {
            assert_eq!(good.parse::<Issuer>().expect("good").as_str(), good);
        }
        for bad in [
            "http://login.example",
            "login.example",
            "ftp://login.example",
            "https://a@login.example",
            "https://login.example/?x",
            "https://login.example/#x",
        ] {
            assert!(bad.parse::<Issuer>().is_err(), "{bad}");
        }
        assert_eq!(
            "https://farm.example/".parse::<PublicUrl>().expect("good").callback(),
            "https://farm.example/v1/session/oidc/callback"
        );
        assert!("https://farm.example/farm".parse::<PublicUrl>().is_err());
    }

    #[test]
    fn the_group_with_the_most_rights_counts_and_without_one_nobody_comes_in() {
        let rules = ["lighting=artist:film", "td=operator:film", "cn=pipeline,ou=x=operator", "all=viewer"]
            .map(|text| text.parse::<GroupRule>().expect("good"));
        let of = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            rights(&rules, &groups).map(|rule| (rule.role, rule.project.as_ref().map(Name::as_str)))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Lighting", "other"]), None);
        assert_eq!(of(&["all", "lighting"]), Some((Role::Artist, Some("film"))));
        assert_eq!(of(&["td", "cn=pipeline,ou=x"]), Some((Role::Operator, None)));
        for bad in ["", "x", "=viewer", "x=boss", "x=viewer:", "x=viewer:No Name"] {
            assert!(bad.parse::<GroupRule>().is_err(), "{bad}");
        }
    }
}
