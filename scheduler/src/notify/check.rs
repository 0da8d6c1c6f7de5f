//! Whether a target can be told at all, before it is stored.

use super::ways::Ways;
use super::{event, mail};
use framewake_proto::job::Fault;
use framewake_proto::notify::{ADDRESS_LEN_MAX, MAIL_TO_MAX, Secret, TargetSpec, Way};
use reqwest::Url;
use std::net::IpAddr;

/// Everything that is wrong with a target, without what is secret in it.
pub(crate) fn faults(spec: &TargetSpec, ways: &Ways) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, reason: String| faults.push(Fault::new(field, reason));
    let check_url = |url: &Secret, fault: &mut dyn FnMut(&str, String)| {
        let checked = url_of(url.reveal()).and_then(|url| {
            let host = url.host_str().unwrap_or_default();
            let refused = literal(&url).and_then(|address| ways.allowed().check(host, address).err());
            refused.map_or(Ok(()), |refused| Err(refused.to_string()))
        });
        if let Err(reason) = checked {
            fault("/way/url", reason);
        }
    };
    match &spec.way {
        Way::Webhook { url, secret } => {
            check_url(url, &mut fault);
            if let Err(reason) = event::key(secret.reveal()) {
                fault("/way/secret", reason);
            }
        }
        Way::Slack { url } => check_url(url, &mut fault),
        Way::Mail { to } => {
            if to.is_empty() || to.len() > MAIL_TO_MAX {
                fault("/way/to", format!("{} addresses: there must be 1 to {MAIL_TO_MAX}", to.len()));
            }
            for (at, address) in to.iter().take(MAIL_TO_MAX).enumerate() {
                if address.len() > ADDRESS_LEN_MAX || mail::mailbox(address).is_err() {
                    fault(&format!("/way/to/{at}"), "is not a mail address".to_owned());
                }
            }
            if !ways.can_mail() {
                fault("/way/kind", "this scheduler has no mail server: its operator names one with --smtp".to_owned());
            }
        }
        Way::Nats {} => {}
    }
    faults
}

/// An address that may be called, as far as its text shows.
pub(super) fn url_of(text: &str) -> Result<Url, String> {
    let wrong = "must be `https://host/…` or `http://host/…`, without a user, a password or `#`, at most 2048 bytes";
    let url = Url::parse(text).map_err(|_| wrong)?;
    let good = matches!(url.scheme(), "http" | "https")
        && text.len() <= ADDRESS_LEN_MAX
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if good { Ok(url) } else { Err(wrong.to_owned()) }
}

/// The host, where it is an address and no name: those are never resolved. The parser has brought forms as
/// `0x7f.1` and `2130706433` to dots.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_disguise_are_seen_for_what_they_are() {
        for text in
            ["http://127.0.0.1/", "http://2130706433/", "http://0x7f.1:80/", "http://0177.0.0.1", "http://127.1"]
        {
            let url = url_of(text).expect("an address");
            assert_eq!(literal(&url), Some("127.0.0.1".parse().expect("an address")), "{text}");
        }
        let url = url_of("http://[::ffff:10.0.0.1]:8080/x").expect("an address");
        assert_eq!(literal(&url).map(|address| address.to_canonical()), "10.0.0.1".parse().ok());
        assert_eq!(literal(&url_of("https://hooks.example/x").expect("an address")), None);
    }

    #[test]
    fn what_is_no_plain_web_address_is_refused() {
        let long = format!("https://hooks.example/{}", "a".repeat(ADDRESS_LEN_MAX));
        for text in
            ["", "hooks.example", "ftp://hooks.example", "file:///etc/passwd", "gopher://x", "https://me@hooks.example"]
                .into_iter()
                .chain(["https://me:pw@hooks.example/", "https://hooks.example/#a", &long])
        {
            assert!(url_of(text).is_err(), "{text}");
        }
    }
}
