//! A foreign gateway of `OpenFaaS` as the place where workers run.

use super::docker::VARIABLES_MAX;
use super::http::{check_longest_run, check_secret, check_url};
use super::secret::Secret;
use crate::duration::Span;
use crate::job::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most secrets of the gateway that functions of a pool can have.
const SECRETS_MAX: usize = 32;
/// Longest name that Kubernetes, below most gateways, gives to anything a function is made of.
pub const NAME_LEN_MAX: usize = 63;

/// How functions are deployed there, and woken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenfaasPool {
    /// Address of the gateway: `http://gateway.openfaas:8080`.
    pub gateway: String,
    /// Where functions are deployed. Default: the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default = "admin")]
    pub user: String,
    /// Where the password lies.
    pub password: Secret,
    /// The shortest of all limits on a call: the gateway's `write_timeout` and `upstream_timeout`, and those of proxies
    /// before it. A worker hands back what it can't finish within; a frame that takes longer is never finished here.
    pub longest_run: Span,
    /// Address of NATS as functions reach it. Default: the scheduler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<String>,
    /// Address of the store as functions reach it. Default: the scheduler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Environment of the workers, beside what all are told. Who may list functions there can read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Secrets of the gateway that functions get as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Constraints of the functions, as the gateway understands them: `node.kubernetes.io/instance-type=c7i`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
}

impl OpenfaasPool {
    pub(super) fn faults(&self, at: &str, faults: &mut Vec<Fault>) {
        check_url(&self.gateway, format!("{at}/gateway"), "", faults);
        check_longest_run(self.longest_run, at, faults);
        check_secret(Some(&self.password), &format!("{at}/password"), faults);
        let mut fault = |field: &str, reason: &str| faults.push(Fault::new(format!("{at}/{field}"), reason));
        let word =
            |text: &String| !text.is_empty() && text.len() <= NAME_LEN_MAX && !text.contains(char::is_whitespace);
        if self.namespace.as_ref().is_some_and(|namespace| !word(namespace)) {
            fault("namespace", "must be the name of a namespace");
        }
        if self.user.is_empty() || self.user.contains(':') {
            fault("user", "must be a name without `:`");
        }
        if self.nats.as_ref().is_some_and(|nats| !nats.contains("://")) {
            fault("nats", "must be an address, as `nats://10.0.0.1:4222`");
        }
        if self.store.as_ref().is_some_and(|store| !store.starts_with("s3://")) {
            fault("store", "must be `s3://bucket/prefix`: functions share no folder");
        }
        if self.environment.len() > VARIABLES_MAX {
            fault("environment", &format!("has more than the {VARIABLES_MAX} variables allowed"));
        }
        if self.environment.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            fault("environment", "has a name that is empty or has a `=`");
        }
        if self.secrets.len() > SECRETS_MAX || !self.secrets.iter().all(word) {
            fault("secrets", &format!("must be the names of at most {SECRETS_MAX} secrets"));
        }
        if self.constraints.len() > SECRETS_MAX || self.constraints.iter().any(String::is_empty) {
            fault("constraints", &format!("must be at most {SECRETS_MAX}, and none empty"));
        }
    }
}

fn admin() -> String {
    "admin".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn faults(field: &str, value: Value) -> Vec<String> {
        let mut pool =
            json!({ "gateway": "http://gw:8080", "password": { "file": "/run/secrets/pw" }, "longest_run": "9m" });
        pool[field] = value;
        let pool: OpenfaasPool = serde_json::from_value(pool).expect("the shape of a pool");
        let mut faults = Vec::new();
        pool.faults("/provider", &mut faults);
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_gateway_that_can_not_be_is_refused_by_the_field_that_is_wrong() {
        assert_eq!(faults("user", json!("me")), Vec::<String>::new());
        for (field, value) in [
            ("gateway", json!("gw:8080")),
            ("gateway", json!("http://admin:pw@gw:8080")),
            ("namespace", json!("")),
            ("user", json!("a:b")),
            ("password", json!({ "file": "pw" })),
            ("longest_run", json!("2s")),
            ("nats", json!("10.0.0.1")),
            ("store", json!("file:///srv/frames")),
            ("environment", json!({ "": "x" })),
            ("secrets", json!(["a b"])),
            ("constraints", json!([""])),
        ] {
            assert_eq!(faults(field, value.clone()), [format!("/provider/{field}")], "{value}");
        }
    }
}
