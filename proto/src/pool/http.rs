//! Gateways that wake a worker by an HTTP request, and keep it only while that is open.

use super::secret::Secret;
use crate::duration::Span;
use crate::ids::FunctionKey;
use crate::job::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Least and most time that a gateway may give: in less no renderer is loaded, and more is none of a gateway.
pub const LONGEST_RUN: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(24);
/// A worker that a gateway has not brought up after this long is not coming: an image of some GiB is fetched by then.
pub const STARTS_WITHIN: Duration = Duration::from_mins(15);
/// Longest address, in bytes.
const URL_LEN_MAX: usize = 2048;
/// Most headers that a pool can set, and most bytes of one.
pub const HEADERS_MAX: usize = 32;
const HEADER_LEN_MAX: usize = 4096;
/// What the scheduler or HTTP itself says.
const OUR_HEADERS: [&str; 7] =
    ["authorization", "connection", "content-length", "host", "transfer-encoding", "x-deadline", "x-framewake-worker"];

/// How workers of a pool are woken: Knative and Cloud Run services, Nuclio, Fission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpPool {
    /// What is asked with POST: `https://gateway.example/function/{function}`. `{function}` and `{version}` stand for what is
    /// wanted; behind it is the worker, with `--mode http` and this function.
    pub url: String,
    /// Headers of each request, beside `Authorization`: `X-Nuclio-Target: blender`. Nothing secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Where the value of `Authorization` lies: `Bearer …`, `Basic …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Secret>,
    /// The shortest of all limits between here and the worker: of the gateway, of its queue, of proxies. A worker hands back
    /// what it can't finish within; a frame that takes longer is never finished here.
    pub longest_run: Span,
}

impl HttpPool {
    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        let plain = self.url.replace("{function}", "f").replace("{version}", "1");
        check_url(&plain, format!("{at}/url"), " with no placeholders but `{function}` and `{version}`", faults);
        check_longest_run(self.longest_run, at, faults);
        if self.headers.len() > HEADERS_MAX {
            faults.push(Fault::new(format!("{at}/headers"), format!("more than the {HEADERS_MAX} headers allowed")));
        }
        for (name, value) in self.headers.iter().take(HEADERS_MAX) {
            if let Some(reason) = header_fault(name, value) {
                faults.push(Fault::new(format!("{at}/headers/{}", crate::job::escape(name)), reason));
            }
        }
        check_secret(self.authorization.as_ref(), &format!("{at}/authorization"), faults);
    }

    /// The address for workers of this function.
    pub fn url_of(&self, function: &FunctionKey) -> String {
        self.url.replace("{function}", function.name.as_str()).replace("{version}", &function.version.to_string())
    }
}

pub(super) fn check_url(url: &str, field: String, more: &str, faults: &mut Vec<Fault>) {
    let host = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let good = host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.len() <= URL_LEN_MAX
        && !url.contains(['{', '}', '@', '#'])
        && !url.contains(|c: char| c.is_whitespace() || c.is_control());
    if !good {
        let reason = format!("must be `http://host/…` or `https://host/…`, without a user,{more}");
        faults.push(Fault::new(field, reason.trim_end_matches(',')));
    }
}

pub(super) fn check_longest_run(longest_run: Span, at: &str, faults: &mut Vec<Fault>) {
    if !LONGEST_RUN.contains(&longest_run.0) {
        let reason = format!("must be {} to {}", Span(*LONGEST_RUN.start()), Span(*LONGEST_RUN.end()));
        faults.push(Fault::new(format!("{at}/longest_run"), reason));
    }
}

pub(super) fn check_secret(secret: Option<&Secret>, field: &str, faults: &mut Vec<Fault>) {
    if let Some(reason) = secret.and_then(Secret::fault) {
        faults.push(Fault::new(field, reason));
    }
}

fn header_fault(name: &str, value: &str) -> Option<String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > HEADER_LEN_MAX || !name.chars().all(token) {
        return Some("is not the name of a header".to_owned());
    }
    if OUR_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Some("is set by the scheduler; secrets go into `authorization`".to_owned());
    }
    let plain = |c: char| c == '\t' || (' '..='~').contains(&c);
    let good = value.len() <= HEADER_LEN_MAX && value.chars().all(plain);
    (!good).then(|| format!("must have at most {HEADER_LEN_MAX} visible ASCII characters"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(more: Value) -> Vec<String> {
        let mut pool = json!({ "url": "https://gw.example/f", "longest_run": "9m" });
        pool.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let pool: HttpPool = serde_json::from_value(pool).expect("the shape of a pool");
        let mut faults = Vec::new();
        pool.faults("/provider", &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn an_address_is_one_of_the_web_with_known_placeholders() {
        let none = Vec::<String>::new();
        assert_eq!(faults(json!({ "url": "https://gw.example/function/{function}-{version}" })), none);
        for url in [
            "",
            "gw.example",
            "ftp://gw",
            "http://",
            "http:///x",
            "http://me:pw@gw/",
            "http://gw/{name}",
            "http://gw/a b",
        ] {
            assert_eq!(faults(json!({ "url": url })), ["/provider/url"], "{url}");
        }
        for (run, good) in [("10s", true), ("24h", true), ("9s", false), ("0s", false), ("25h", false)] {
            let expected = if good { vec![] } else { vec!["/provider/longest_run".to_owned()] };
            assert_eq!(faults(json!({ "longest_run": run })), expected, "{run}");
        }
    }

    #[test]
    fn headers_and_secrets_are_what_they_should_be() {
        assert_eq!(faults(json!({ "headers": { "X-Nuclio-Target": "blender" } })), Vec::<String>::new());
        for name in ["", "a b", "Authorization", "x-deadline", "X-Framewake-Worker", "naïve"] {
            let field = format!("/provider/headers/{name}");
            assert_eq!(faults(json!({ "headers": { name: "x" } })), [field]);
        }
        assert_eq!(faults(json!({ "headers": { "x-a": "line\nline" } })), ["/provider/headers/x-a"]);
        let many: BTreeMap<String, &str> = (0..=HEADERS_MAX).map(|n| (format!("x-{n}"), "1")).collect();
        assert_eq!(faults(json!({ "headers": many })), ["/provider/headers"]);
        for (secret, good) in [
            (json!({ "file": "/run/secrets/gateway" }), true),
            (json!({ "env": "GATEWAY_TOKEN" }), true),
            (json!({ "file": "gateway" }), false),
            (json!({ "env": "" }), false),
        ] {
            let expected = if good { vec![] } else { vec!["/provider/authorization".to_owned()] };
            assert_eq!(faults(json!({ "authorization": secret })), expected, "{secret}");
        }
    }

    #[test]
    fn the_address_is_that_of_the_wanted_version() {
        let pool: HttpPool =
            serde_json::from_value(json!({ "url": "http://gw/{function}-v{version}/", "longest_run": "9m" }))
                .expect("a pool");
        assert_eq!(pool.url_of(&"blender@3".parse().expect("a key")), "http://gw/blender-v3/");
    }
}
