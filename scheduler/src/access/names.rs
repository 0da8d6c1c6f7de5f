//! The names under which a scheduler answers that asks nobody for a token. A page of others that has its own name point here
//! (DNS rebinding) is of the same site as we are, for the browser, and would do whatever it likes; it can't come under an IP
//! address, nor under a name that isn't its own.

use std::net::IpAddr;
use std::str::FromStr;

/// A host's name without scheme and port, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no name: write it without scheme, port and path, as `farm.example`; there is no `*`")]
pub struct HostNameError(String);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<HostName, HostNameError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 253 || !text.chars().all(good) {
            return Err(HostNameError(text.chars().take(64).collect()));
        }
        Ok(HostName(text.to_ascii_lowercase()))
    }
}

/// The name in what a browser writes of a host: without its port.
pub(crate) fn name_in(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether who asks under this host is answered, beside who asks under one of these names.
pub(crate) fn is_ours(host: &str, names: &[HostName]) -> bool {
    let name = name_in(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    // HTTP/1.0 and plain tools send no host at all; a browser always does.
    host.is_empty()
        || bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok()
        || names.iter().any(|ours| ours.as_str().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_and_those_that_were_given_are_answered() {
        let names = ["farm.example".parse().expect("a name"), "Farm-2".parse().expect("a name")];
        let local =
            ["localhost", "localhost:7700", "LOCALHOST:1", "127.0.0.1:7700", "[::1]:7700", "[::1]", "10.0.0.7", ""];
        for host in local {
            assert!(is_ours(host, &[]) && is_ours(host, &names), "{host}");
        }
        for host in ["farm.example", "farm.example:7700", "FARM.example:80", "farm-2:1"] {
            assert!(is_ours(host, &names) && !is_ours(host, &[]), "{host}");
        }
        for host in [
            "evil.example:7700",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7700",
            "farm.example.evil.example",
            "evil.farm.example",
            "farm.example:77x",
            "evil:77x",
        ] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn a_name_is_written_without_scheme_port_and_star() {
        for bad in ["", "*", "*.example", "https://farm.example", "farm.example:7700", "farm.example/", "a b", "[::1]"]
        {
            let error = bad.parse::<HostName>().expect_err(bad);
            assert!(error.to_string().contains("farm.example"), "{error}");
        }
        assert_eq!("Farm.Example".parse::<HostName>().expect("good").as_str(), "farm.example");
    }
}
