//! What a job is checked against before it is accepted: functions, allowed addresses, uploaded inputs.

use super::App;
use super::problem::{Answer, Refusal};
use crate::access::Caller;
use crate::function_table::FunctionTable;
use crate::objects::Objects;
use crate::target_table::{Target, TargetTable};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionRef, Name};
use framewake_proto::job::{FAULTS_MAX, Fault, JobSpec, Known};
use framewake_proto::objects::{Digest, input_key};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Questions to the store at once, for one job.
const QUESTIONS_MAX: usize = 32;
/// How long an input that was there is believed to be there. Nothing of ours removes inputs.
const BELIEVED: Duration = Duration::from_mins(5);
const BELIEVED_MAX: usize = 100_000;

/// Addresses that workers may fetch inputs from, by their beginning: `https://assets.example/`, `s3://textures/`.
#[derive(Debug, Clone, Default)]
pub struct UrlsAllowed(Vec<String>);

impl UrlsAllowed {
    /// Each must name a host or bucket and end with `/`, so that `https://assets.example` doesn't allow
    /// `https://assets.example.evil`.
    pub fn new(prefixes: Vec<String>) -> Result<UrlsAllowed, String> {
        for prefix in &prefixes {
            let rest = ["https://", "http://", "s3://"].iter().find_map(|scheme| prefix.strip_prefix(scheme));
            if rest.is_none_or(|rest| rest.len() < 2 || rest.starts_with('/') || !rest.ends_with('/')) {
                return Err(format!(
                    "`{prefix}` is not the beginning of an address: write it as in `https://assets.example/` or `s3://bucket/`, with a `/` at its end"
                ));
            }
        }
        Ok(UrlsAllowed(prefixes))
    }

    fn check(&self, url: &str) -> Result<(), String> {
        let shown: String = url.chars().take(100).collect();
        // `..` would lead out of what is allowed on most servers; `@` would hide the host from the reader.
        if url.len() > 2048
            || url.contains("..")
            || url.to_ascii_lowercase().contains("%2e")
            || url.contains('@')
            || url.chars().any(|c| c.is_control() || c == ' ' || c == '\\')
        {
            return Err(format!(
                "`{shown}` is not an address that workers may fetch: no spaces, `@`, `\\` or `..`, at most 2048 bytes"
            ));
        }
        if self.0.iter().any(|prefix| url.starts_with(prefix)) {
            return Ok(());
        }
        if self.0.is_empty() {
            return Err(format!(
                "`{shown}` is not allowed: this farm fetches no addresses; its operator allows some with `--urls-allowed https://host/`, or upload the file instead"
            ));
        }
        Err(format!("`{shown}` is not allowed: addresses must begin with {}", self.0.join(" or ")))
    }
}

/// What this farm knows, for [`JobSpec::check`].
pub(super) struct Border<'a> {
    pub(super) functions: &'a FunctionTable,
    pub(super) urls: &'a UrlsAllowed,
    pub(super) targets: &'a TargetTable,
    /// The one project that whoever asks may see.
    pub(super) only: Option<&'a Name>,
}

impl Known for Border<'_> {
    fn function(&self, wanted: &FunctionRef) -> Option<(u32, &FunctionSpec)> {
        self.functions.find(wanted).map(|(version, spec)| (version, spec.as_ref()))
    }

    fn function_names(&self) -> Vec<&str> {
        self.functions.functions.keys().map(Name::as_str).collect()
    }

    fn url_allowed(&self, url: &str) -> Result<(), String> {
        self.urls.check(url)
    }

    fn may_notify(&self, target: &Name, project: &Name) -> Result<(), String> {
        let others = |target: &Target| target.spec.project.is_some() && target.spec.project.as_ref() != self.only;
        if self.only.is_some() && self.targets.get(target).is_none_or(others) {
            return Err(format!("there is no target `{target}`"));
        }
        self.targets.may_notify(target, project)
    }
}

/// Inputs that were seen in the store a moment ago.
#[derive(Debug, Default)]
pub(super) struct KnownInputs(Mutex<HashMap<Digest, Instant>>);

impl KnownInputs {
    fn has(&self, digest: &Digest) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).is_some_and(|seen| seen.elapsed() < BELIEVED)
    }

    pub(super) fn add(&self, digest: Digest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= BELIEVED_MAX {
            known.clear();
        }
        known.insert(digest, Instant::now());
    }
}

/// Refuses a job with inputs that were never uploaded, naming all of them. Of one project: by that project, for whoever knows
/// a digest need not have the file.
pub(super) async fn check_inputs(app: &App, caller: &Caller, spec: &JobSpec) -> Answer<()> {
    let only = caller.only();
    let mut wanted: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (step_at, step) in spec.steps.iter().enumerate() {
        for (at, input) in step.inputs.iter().enumerate() {
            if let Some(digest) = input.digest.filter(|digest| only.is_some() || !app.inputs.has(digest)) {
                wanted.entry(digest).or_default().push(format!("/steps/{step_at}/inputs/{at}/digest"));
            }
        }
    }
    let mut answers = futures::stream::iter(wanted)
        .map(|(digest, places)| async move {
            let sent = match only {
                Some(project) => app.reader.has_sent(project, &digest).await,
                None => Ok(true),
            };
            let found = if app.inputs.has(&digest) { Ok(true) } else { exists(&app.objects, &digest).await };
            (sent, found, digest, places)
        })
        .buffered(QUESTIONS_MAX);
    let mut faults = Vec::new();
    while let Some((sent, found, digest, places)) = answers.next().await {
        let sent = sent?;
        match found {
            Ok(true) if sent => app.inputs.add(digest),
            Ok(true | false) => faults.extend(places.into_iter().map(|field| {
                Fault::new(
                    field,
                    format!("input {digest} is not uploaded: `framewake submit` does it, or PATCH /v1/inputs/{digest}"),
                )
            })),
            Err(error) => return Err(store_away(&error)),
        }
        if faults.len() >= FAULTS_MAX {
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Refusal::faults(faults)) }
}

async fn exists(objects: &Objects, digest: &Digest) -> object_store::Result<bool> {
    objects.size(&input_key(digest)).await.map(|size| size.is_some())
}

pub(crate) fn store_away(error: &object_store::Error) -> Refusal {
    Refusal::unavailable("the object store does not answer as it should; nothing was changed", error)
        .hint("GET /readyz says which part is not well")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_allowed_by_their_beginning_only() {
        let allowed =
            UrlsAllowed::new(vec!["https://assets.example/pub/".into(), "s3://textures/".into()]).expect("good");
        for url in ["https://assets.example/pub/a.hdr", "s3://textures/wood/a.png"] {
            assert_eq!(allowed.check(url), Ok(()), "{url}");
        }
        for url in [
            "https://assets.example/other/a.hdr",
            "https://assets.example/pub/../other/a.hdr",
            "https://assets.example.evil/pub/a.hdr",
            "http://assets.example/pub/a.hdr",
            "s3://textures2/a.png",
            "https://assets.example/pub/ a",
            "file:///etc/passwd",
        ] {
            assert!(allowed.check(url).is_err(), "{url}");
        }
        let reason = UrlsAllowed::default().check("https://a.example/x").expect_err("nothing is allowed");
        assert!(reason.contains("--urls-allowed"), "{reason}");
    }

    #[test]
    fn a_beginning_that_allows_more_than_it_says_is_refused() {
        for prefix in ["https://assets.example", "assets.example/", "https:///", "s3://", "ftp://a/"] {
            assert!(UrlsAllowed::new(vec![prefix.to_owned()]).is_err(), "{prefix}");
        }
    }
}
