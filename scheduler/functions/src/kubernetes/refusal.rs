//! What the API server's refusals mean, in words that say who has to do what.

use super::{because, plain};
use crate::{Error, StartError};
use kube::core::Status;
use std::time::Duration;

/// Longest wait for an answer. An API server that takes longer is as good as away.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long it is left alone when it is overrun and doesn't say for how long.
const BREATH: Duration = Duration::from_secs(5);
/// Longest that it may have itself left alone.
const BREATH_MAX: Duration = Duration::from_mins(5);

/// A call, as refusals speak of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub verb: &'static str,
    /// With its group: `jobs.batch`.
    pub resource: &'static str,
    pub namespace: &'a str,
}

impl Call<'_> {
    /// Waits for the answer, but not for ever.
    pub(super) async fn answered<T>(self, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused(status)),
            Ok(Err(error)) => Err(Failure::Unheard(Some(error))),
            Err(_) => Err(Failure::Unheard(None)),
        }
    }

    /// What went wrong, for whoever reads the log.
    pub(super) fn error(self, failure: Failure) -> Error {
        let Call { verb, resource, namespace } = self;
        match failure {
            Failure::Refused(status) => {
                let what = match status.code {
                    401 => "the API server does not accept the credentials it is given".to_owned(),
                    403 if is_quota(&status) => format!("the quota of namespace `{namespace}` is used up"),
                    403 => format!(
                        "the service account may not `{verb} {resource}` in namespace `{namespace}`: give it the Role of the chart"
                    ),
                    404 if verb == "create" => format!("there is no namespace `{namespace}`"),
                    code => format!("the API server refuses to {verb} {resource} in namespace `{namespace}` ({code})"),
                };
                because(what, *status)
            }
            Failure::Unheard(Some(error)) => because(self.unheard(), error),
            Failure::Unheard(None) => plain(format!("{} for {} s", self.unheard(), ANSWER_MAX.as_secs())),
        }
    }

    fn unheard(self) -> String {
        let Call { verb, resource, namespace } = self;
        format!("the API server does not answer ({verb} {resource} in namespace `{namespace}`)")
    }

    /// Why a worker is not started.
    pub(super) fn start_error(self, failure: Failure) -> StartError {
        match failure {
            Failure::Refused(status) => match status.code {
                403 if is_quota(&status) => StartError::Full(format!("quota: {}", status.message)),
                // Given the right, it may: people mend such things, and until then nothing can be looked for either.
                400 | 403 | 404 | 413 | 422 => StartError::Refused(words(&self.error(Failure::Refused(status)))),
                _ => StartError::Away(self.error(Failure::Refused(status))),
            },
            unheard @ Failure::Unheard(_) => StartError::Away(self.error(unheard)),
        }
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Box<Status>),
    /// None in time, or the way there is cut.
    Unheard(Option<kube::Error>),
}

impl Failure {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Failure::Refused(status) => Some(status.code),
            Failure::Unheard(_) => None,
        }
    }
}

/// How long an API server that is overrun wants to be left alone.
pub(super) fn breath(status: &Status, header: Option<&str>) -> Option<Duration> {
    if status.code != 429 {
        return None;
    }
    let told = header.and_then(|seconds| seconds.trim().parse().ok());
    let told = told.or(status.details.as_ref().map(|details| u64::from(details.retry_after_seconds)));
    let told = told.filter(|seconds| *seconds > 0).map_or(BREATH, Duration::from_secs);
    Some(told.min(BREATH_MAX))
}

/// Quotas refuse with the same number as missing rights; a new one also as long as nobody has counted what it is for.
fn is_quota(status: &Status) -> bool {
    ["exceeded quota", "status unknown for quota"].iter().any(|words| status.message.contains(words))
}

fn words(error: &Error) -> String {
    framewake_proto::chain::Chain(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: Call<'static> = Call { verb: "create", resource: "jobs.batch", namespace: "render" };

    fn refused(code: u16, message: &str) -> Failure {
        Failure::Refused(Status::failure(message, "Reason").with_code(code).boxed())
    }

    #[test]
    fn refusals_say_who_has_to_do_what() {
        let quota = "jobs.batch \"w1\" is forbidden: exceeded quota: gpus, requested: count/jobs.batch=1";
        assert!(matches!(CREATE.start_error(refused(403, quota)), StartError::Full(why) if why.contains("gpus")));
        let new = "jobs.batch \"w1\" is forbidden: status unknown for quota: gpus, resources: count/jobs.batch";
        assert!(matches!(CREATE.start_error(refused(403, new)), StartError::Full(why) if why.contains("gpus")));
        let rights = "jobs.batch is forbidden: User \"system:serviceaccount:render:x\" cannot create resource";
        let error = CREATE.start_error(refused(403, rights)).to_string();
        assert!(error.contains("may not `create jobs.batch` in namespace `render`"), "{error}");
        assert!(error.contains("system:serviceaccount:render:x"), "{error}");
        let error = CREATE.start_error(refused(404, "namespaces \"render\" not found")).to_string();
        assert!(error.contains("there is no namespace `render`"), "{error}");
        let invalid = "Job.batch \"w1\" is invalid: spec.template.spec.runtimeClassName: Invalid value";
        assert!(
            matches!(CREATE.start_error(refused(422, invalid)), StartError::Refused(why) if why.contains("runtimeClassName"))
        );
        for code in [401, 409, 429, 500, 503] {
            assert!(matches!(CREATE.start_error(refused(code, "no")), StartError::Away(_)), "{code}");
        }
        assert!(matches!(CREATE.start_error(Failure::Unheard(None)), StartError::Away(_)));
    }

    #[test]
    fn an_overrun_server_is_left_alone_as_long_as_it_asks_within_bounds() {
        let status = |seconds| {
            let details = kube::core::response::StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: seconds,
            };
            Status::failure("slow down", "TooManyRequests").with_code(429).with_details(details)
        };
        assert_eq!(breath(&status(3), None), Some(Duration::from_secs(3)));
        assert_eq!(breath(&status(0), Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(breath(&status(0), None), Some(BREATH));
        assert_eq!(breath(&status(86_400), None), Some(BREATH_MAX));
        assert_eq!(breath(&Status::failure("no", "no").with_code(500), Some("7")), None);
    }
}
