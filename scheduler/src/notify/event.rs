//! What is sent: a notice as a CloudEvent 1.0, and its signature as Standard Webhooks says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use framewake_proto::budget::Standing;
use framewake_proto::ids::Name;
use framewake_proto::notify::{BudgetNotice, ErrorNotice, JobNotice, Notice};
use framewake_proto::time::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// Media type of a CloudEvent in one piece.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";
/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks wants them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The same bytes at every try: receivers may drop what they have by `id`.
pub(super) fn cloud_event(farm: &Name, id: &str, notice: &Notice, made_at: Timestamp) -> Value {
    let (kind, subject) = match notice {
        Notice::Succeeded(JobNotice { job, .. }) => ("framewake.job.succeeded", format!("jobs/{job}")),
        Notice::Failed(JobNotice { job, .. }) => ("framewake.job.failed", format!("jobs/{job}")),
        Notice::FirstError(ErrorNotice { job, .. }) => ("framewake.job.first_error", format!("jobs/{job}")),
        Notice::Late { schedule, .. } => ("framewake.schedule.late", format!("schedules/{schedule}")),
        Notice::Missed { schedule, .. } => ("framewake.schedule.missed", format!("schedules/{schedule}")),
        Notice::Budget(BudgetNotice { job: Some(job), standing, .. }) => {
            (budget_kind(*standing), format!("jobs/{job}"))
        }
        Notice::Budget(BudgetNotice { project, standing, .. }) => {
            (budget_kind(*standing), format!("projects/{project}"))
        }
        Notice::Test { target } => ("framewake.test", format!("targets/{target}")),
    };
    json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("urn:framewake:{farm}"),
        "type": kind,
        "subject": subject,
        "time": made_at,
        "datacontenttype": "application/json",
        "data": notice,
    })
}

/// HMAC-SHA256 of a body, in hexadecimal digits.
pub(crate) fn hmac_hex(key: &[u8], body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length are good");
    mac.update(body);
    let mut text = String::new();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("a string takes every letter");
    }
    text
}

fn budget_kind(standing: Standing) -> &'static str {
    match standing {
        Standing::Fine | Standing::Warned => "framewake.budget.warned",
        Standing::UsedUp => "framewake.budget.used_up",
    }
}

/// The bytes of a secret `whsec_…`, or what is wrong with it; its text is in no answer.
pub(crate) fn key(secret: &str) -> Result<Vec<u8>, String> {
    let wanted = "must be `whsec_` and 24 to 64 bytes in base64: `echo whsec_$(openssl rand -base64 32)` makes one";
    let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or(wanted)?;
    let key = STANDARD.decode(encoded).map_err(|_| wanted)?;
    if SECRET_BYTES.contains(&key.len()) { Ok(key) } else { Err(wanted.to_owned()) }
}

/// `v1,…`: of this body under this id, sent at this second.
pub(crate) fn signature(key: &[u8], id: &str, sent_at_s: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length are good");
    mac.update(format!("{id}.{sent_at_s}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standards_own_example() {
        // https://github.com/standard-webhooks/standard-webhooks, its reference libraries' tests.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a good secret");
        let signature = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_that_are_short_or_not_base64_are_refused_without_being_said() {
        for bad in ["", "hunter2", "whsec_", "whsec_aHVudGVyMg==", "whsec_not base64 at all, but long enough"] {
            let reason = key(bad).expect_err("refused");
            assert!(reason.contains("whsec_") && !reason.contains("hunter2") && !reason.contains("aHVu"), "{reason}");
        }
    }

    #[test]
    fn an_event_says_everything_that_cloudevents_demand() {
        let notice = Notice::Test { target: "ops".parse().expect("a name") };
        let farm = "farm".parse().expect("a name");
        let event = cloud_event(&farm, "01J", &notice, Timestamp(0));
        assert_eq!(
            event,
            json!({
                "specversion": "1.0", "id": "01J", "source": "urn:framewake:farm", "type": "framewake.test",
                "subject": "targets/ops", "time": "1970-01-01T00:00:00.000Z", "datacontenttype": "application/json",
                "data": { "occasion": "test", "target": "ops" },
            })
        );
    }
}
