//! Who is told of what: targets as sent ([`TargetSpec`]), what a job may ask for ([`NotifySpec`]), and the secrets among
//! them, which are never shown again.

#[cfg(feature = "schema")]
mod views;

#[cfg(feature = "schema")]
pub use views::*;

use crate::ids::Name;
use crate::job::{Fault, Known};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Most targets of a farm: each has a lane of its own, which is a task and a few connections.
pub const TARGETS_MAX: usize = 100;
/// Most entries of `notify` in one job.
pub const JOB_TARGETS_MAX: usize = 16;
/// Most addresses that one target mails to.
pub const MAIL_TO_MAX: usize = 20;
/// Longest address of a target, in bytes.
pub const ADDRESS_LEN_MAX: usize = 2048;

/// What people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// A job is done.
    Succeeded,
    /// A job is over with frames that failed for good.
    Failed,
    /// A try at a frame failed, the first of its job; it may be tried again.
    FirstError,
    /// A run of a schedule missed a deadline.
    Late,
    /// A due time of a schedule came to no job.
    Missed,
    /// A budget of a job or a project goes to its end, or is used up.
    Budget,
}

impl Occasion {
    pub const ALL: [Occasion; 6] = [
        Occasion::Succeeded,
        Occasion::Failed,
        Occasion::FirstError,
        Occasion::Late,
        Occasion::Missed,
        Occasion::Budget,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Occasion::Succeeded => "succeeded",
            Occasion::Failed => "failed",
            Occasion::FirstError => "first_error",
            Occasion::Late => "late",
            Occasion::Missed => "missed",
            Occasion::Budget => "budget",
        }
    }

    /// Whether it is about a job, so that the job itself may ask for it.
    pub fn is_of_job(self) -> bool {
        match self {
            Occasion::Succeeded | Occasion::Failed | Occasion::FirstError | Occasion::Budget => true,
            Occasion::Late | Occasion::Missed => false,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Occasion {
    type Err = String;

    fn from_str(text: &str) -> Result<Occasion, String> {
        let known = Occasion::ALL.map(Occasion::as_str);
        let found = Occasion::ALL.into_iter().find(|occasion| occasion.as_str() == text);
        found.ok_or_else(|| format!("not one of {}", known.join(", ")))
    }
}

/// Text that is stored and sent, and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself: for signing and connecting only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Secret {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .min_length(Some(1))
            .write_only(true)
            .description(Some("Stored, and never shown again"))
            .into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Secret {}

/// Somebody who is told, as in `POST /v1/notifications/targets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    pub name: Name,
    /// What it is told of, of every job and schedule; without any, only what jobs ask for by its name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    // What is said twice is said once.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<Occasion>))]
    pub on: BTreeSet<Occasion>,
    /// Only of this project; jobs of others can't name it either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    pub way: Way,
}

/// How a target is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Way {
    /// A CloudEvent as JSON, signed as Standard Webhooks says.
    Webhook {
        /// `https://host/path`
        url: Secret,
        /// `whsec_` and 24 to 64 bytes in base64.
        secret: Secret,
    },
    /// `{"text": …}`, as Slack, Mattermost and others take it.
    Slack {
        /// Whoever knows it may post.
        url: Secret,
    },
    /// E-mail by the scheduler's mail server.
    Mail {
        #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 20))]
        to: Vec<String>,
    },
    /// A CloudEvent on the subject `FARM.events.OCCASION.PROJECT`, for whoever listens at that moment.
    Nats {},
}

impl Way {
    pub fn as_str(&self) -> &'static str {
        match self {
            Way::Webhook { .. } => "webhook",
            Way::Slack { .. } => "slack",
            Way::Mail { .. } => "mail",
            Way::Nats {} => "nats",
        }
    }
}

/// What a job wants to be told, and to whom: stored targets, never addresses, so that nobody who may submit can make
/// the scheduler call an address of his choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NotifySpec {
    /// `succeeded`, `failed`, `first_error`, `budget`
    #[cfg_attr(feature = "schema", schema(min_items = 1, value_type = Vec<Occasion>))]
    pub on: BTreeSet<Occasion>,
    /// Name of a target of the farm: `framewake notify list`.
    pub target: Name,
}

/// Checks what a job of `project` asks for.
pub(crate) fn check(asked: &[NotifySpec], project: &Name, known: &impl Known, faults: &mut Vec<Fault>) {
    if asked.len() > JOB_TARGETS_MAX {
        let reason = format!("{} entries, more than the {JOB_TARGETS_MAX} allowed", asked.len());
        faults.push(Fault::new("/notify", reason));
    }
    for (at, NotifySpec { on, target }) in asked.iter().take(JOB_TARGETS_MAX).enumerate() {
        if on.is_empty() {
            faults.push(Fault::new(format!("/notify/{at}/on"), "must name at least one occasion"));
        }
        for occasion in on.iter().filter(|occasion| !occasion.is_of_job()) {
            let reason = format!("`{occasion}` is about schedules: a target is told of it by its own `on`");
            faults.push(Fault::new(format!("/notify/{at}/on"), reason));
        }
        if let Err(reason) = known.may_notify(target, project) {
            faults.push(Fault::new(format!("/notify/{at}/target"), reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_in_no_debug_text() {
        let way = Way::Webhook { url: Secret::new("https://a.example/t0ken"), secret: Secret::new("whsec_abc") };
        let text = format!("{way:?}");
        assert!(!text.contains("t0ken") && !text.contains("whsec_abc"), "{text}");
    }

    #[test]
    fn targets_read_as_they_are_written_and_refuse_what_they_do_not_know() {
        let body = json!({ "name": "ops", "on": ["failed", "first_error"], "way": { "kind": "nats" } });
        let spec: TargetSpec = serde_json::from_value(body.clone()).expect("a target");
        assert_eq!(serde_json::to_value(&spec).expect("JSON"), body);
        for way in [json!({ "kind": "fax" }), json!({ "kind": "nats", "url": "x" }), json!({ "kind": "slack" })] {
            let body = json!({ "name": "ops", "way": way });
            assert!(serde_json::from_value::<TargetSpec>(body).is_err(), "{way}");
        }
    }

    #[test]
    fn every_occasion_has_a_name_of_its_own() {
        for occasion in Occasion::ALL {
            assert_eq!(occasion.as_str().parse(), Ok(occasion));
            assert_eq!(serde_json::to_value(occasion).expect("JSON"), occasion.as_str());
        }
        assert!("done".parse::<Occasion>().is_err());
    }
}
