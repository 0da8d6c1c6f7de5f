//! Names, ids, digests, durations: what is read prints as it was meant, and is safe in keys and subjects.

use framewake_proto::duration::Span;
use framewake_proto::ids::{AttemptId, FunctionKey, FunctionRef, JobId, Name, nearest};
use framewake_proto::job::check_relative;
use framewake_proto::objects::{Digest, input_key, job_prefix, log_key, staging_key};
use framewake_proto::subjects::Subjects;
use framewake_proto::time::Timestamp;
use framewake_proto::verdict::Verdict;
use std::fmt::Display;
use std::str::FromStr;

/// Longest error about a name: it quotes a bounded part.
const ERROR_LEN_MAX: usize = 600;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = printed::<Name>(text);
    let job = printed::<JobId>(text);
    let attempt = printed::<AttemptId>(text);
    let function = printed::<FunctionKey>(text);
    let digest = printed::<Digest>(text);
    printed::<Span>(text);
    printed::<Verdict>(text);
    if let Ok(wanted) = text.parse::<FunctionRef>() {
        assert!(wanted.version != Some(0));
    }
    if let Ok(time) = serde_json::from_value::<Timestamp>(text.into()) {
        let again = serde_json::to_value(time).and_then(serde_json::from_value::<Timestamp>);
        assert!(again.is_ok_and(|again| again == time), "{text:?} prints as {time}");
    }
    let farm: Name = "farm".parse().expect("a good name");
    let subjects = Subjects::new(name.clone().unwrap_or(farm));
    let some_job: JobId = job.unwrap_or(JobId(0u128.into()));
    let some_attempt = attempt.unwrap_or("1.1".parse().expect("a good id"));
    let project = name.clone().unwrap_or("default".parse().expect("a good name"));
    for key in [
        format!("{}x", job_prefix(&project, some_job)),
        log_key(some_job, some_attempt),
        staging_key(&project, some_attempt, 7),
        digest.map_or("x".to_owned(), |digest| input_key(&digest)),
    ] {
        assert_eq!(check_relative(&key), Ok(()));
    }
    let log = subjects.log(&project, some_job, some_attempt);
    assert_eq!(subjects.log_of(&log), Some((project.clone(), some_job, some_attempt)));
    if let Some(function) = &function {
        let asked = subjects.claim(function, &project);
        assert_eq!(subjects.asker(&asked), Some((function.clone(), project.clone())));
    }
    for subject in
        [Some(log), name.map(|name| subjects.report(&name)), function.map(|of| subjects.order(&of, some_job))]
    {
        assert!(!subject.is_some_and(|subject| subject.contains(['*', '>', ' ']) || subject.contains("..")));
    }
    subjects.log_of(text);
    subjects.asker(text);
    subjects.reporter(text);
    if let Err(reason) = check_relative(text) {
        assert!(reason.len() < ERROR_LEN_MAX, "{} bytes", reason.len());
    } else {
        assert!(!text.split('/').any(|part| part.is_empty() || part == ".." || part == ".") && !text.contains('\0'));
    }
    nearest(text, ["samples", "resolution", "scene"]);
}

/// Reads `text`; what it prints as must be read as the same again.
fn printed<T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} prints as {printed:?}");
            Some(value)
        }
        Err(error) => {
            assert!(error.to_string().len() < ERROR_LEN_MAX, "an error quotes a bounded part");
            None
        }
    }
}
