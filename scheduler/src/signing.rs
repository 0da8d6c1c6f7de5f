//! Addresses in the store, signed for a while, for the calls that a worker needs for the attempt it holds. So workers need no credentials
//! of the store, and can't do there what nobody signed: list it, read what others have, or write over a frame.

use crate::engine::Handle;
use crate::objects::Objects;
use framewake_proto::chain::Chain;
use framewake_proto::ids::{AttemptId, ChunkId, JobId, WorkerId};
use framewake_proto::job::check_relative;
use framewake_proto::objects::{input_key, picture_prefix};
use framewake_proto::order::{OrderSource, StepOrder};
use framewake_proto::wire::{self, STORE_CALLS_MAX, SignedCall, StoreCall};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;

/// How long an address is good: a frame may wait this long for its turn, and a worker whose lease is over is done with it soon.
const LASTS: Duration = Duration::from_hours(1);
/// Steps of which it is remembered what they need.
const ORDERS_MAX: usize = 256;

#[derive(Debug)]
pub struct Signing {
    store: AmazonS3,
    bucket: String,
    /// With a `/` at its end, unless empty.
    prefix: String,
    orders: Mutex<VecDeque<Arc<StepOrder>>>,
}

/// A call that may be made.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Read,
    /// Unless there is something.
    Create,
    /// Of an upload in parts: to begin, to send, to copy, to finish, to give up.
    Part(Vec<(String, String)>),
}

impl Signing {
    /// `None` where the store is a folder.
    pub(crate) fn over(objects: &Objects) -> Option<Signing> {
        let (store, bucket, prefix) = objects.s3()?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Some(Signing { store: store.clone(), bucket: bucket.to_owned(), prefix, orders: Mutex::default() })
    }

    pub(crate) async fn sign(&self, handle: &Handle, worker: &WorkerId, ask: &wire::Sign) -> wire::Signed {
        let refused = |why: String| wire::Signed { refused: why, ..Default::default() };
        if ask.calls.len() > STORE_CALLS_MAX {
            return refused(format!("{} calls, more than the {STORE_CALLS_MAX} of one request", ask.calls.len()));
        }
        let attempt = AttemptId { chunk: ChunkId(ask.chunk), number: ask.attempt };
        let Ok(Some((job, step))) = handle.held_by(worker.clone(), attempt).await else {
            return refused(format!("attempt {attempt} is not this worker's"));
        };
        let Some(order) = self.order(handle, job, step).await else {
            return refused(format!("job {job} is not known any more"));
        };
        let mut calls = Vec::with_capacity(ask.calls.len());
        for call in &ask.calls {
            let Some(kind) = allowed(&order, worker, call) else {
                warn!(worker.id = %worker, job.id = %job, method = %wire::clip(&call.method, 16), "worker {worker} asks for what is not of its attempt {attempt}");
                return refused("it is not of the attempt".to_owned());
            };
            match self.address(call, kind).await {
                Ok(signed) => calls.push(signed),
                Err(error) => {
                    warn!("an address in the store can't be signed: {}", Chain(&error));
                    return refused("it can't be signed".to_owned());
                }
            }
        }
        wire::Signed { refused: String::new(), calls, lasts_s: u32::try_from(LASTS.as_secs()).unwrap_or(u32::MAX) }
    }

    /// What a step needs does not change, and is asked for with each frame.
    async fn order(&self, handle: &Handle, job: JobId, step: usize) -> Option<Arc<StepOrder>> {
        let is_it = |order: &&Arc<StepOrder>| (order.job, order.step as usize) == (job, step);
        let known = self.orders.lock().expect("nobody panics with it").iter().find(is_it).cloned();
        if known.is_some() {
            return known;
        }
        let order = Arc::new(handle.step_order(job, step).await.ok()??);
        let mut orders = self.orders.lock().expect("nobody panics with it");
        orders.push_front(order.clone());
        orders.truncate(ORDERS_MAX);
        Some(order)
    }

    async fn address(&self, call: &StoreCall, kind: Kind) -> Result<SignedCall, object_store::Error> {
        let header = |name: &'static str, value: &str| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("keys and `*` are good in headers"))
        };
        let mut options = SignedUrlOptions::new();
        let mut copy_from = String::new();
        if !call.if_none_match.is_empty() {
            let (name, value) = header("if-none-match", "*");
            options = options.with_signed_header(name, value);
        }
        if let Kind::Part(query) = kind {
            options = options.with_query(query);
            if !call.copy_from.is_empty() {
                let from = Path::parse(format!("{}{}", self.prefix, call.copy_from))?;
                copy_from = format!("{}/{from}", self.bucket);
                let (name, value) = header("x-amz-copy-source", &copy_from);
                options = options.with_signed_header(name, value);
            }
        }
        let method = call.method.parse().unwrap_or(Method::GET);
        let url = if call.bucket.is_empty() {
            let key = Path::parse(format!("{}{}", self.prefix, call.key))?;
            self.store.signed_url_opts(method, &key, LASTS, &options).await?
        } else {
            let other = AmazonS3Builder::from_env().with_bucket_name(&call.bucket).with_allow_http(true).build()?;
            other.signed_url_opts(method, &Path::parse(&call.key)?, LASTS, &options).await?
        };
        Ok(SignedCall { url: url.to_string(), copy_from })
    }
}

/// Whether a worker that holds an attempt at this step may make the call.
fn allowed(order: &StepOrder, worker: &WorkerId, call: &StoreCall) -> Option<Kind> {
    check_relative(&call.key).ok()?;
    let reads = matches!(call.method.as_str(), "GET" | "HEAD");
    if !call.bucket.is_empty() {
        let url = format!("s3://{}/{}", call.bucket, call.key);
        let named = order.inputs.iter().any(|input| matches!(&input.source, OrderSource::Url(named) if *named == url));
        let plain = call.query.is_empty() && call.if_none_match.is_empty() && call.copy_from.is_empty();
        return (named && reads && plain).then_some(Kind::Read);
    }
    let staging = format!("staging/{worker}/");
    let (is_output, is_staged) = (call.key.starts_with(&order.prefix), call.key.starts_with(&staging));
    let is_input = || {
        let digests = order.inputs.iter().filter_map(|input| match &input.source {
            OrderSource::Digest(digest) => Some(input_key(digest)),
            OrderSource::Url(_) | OrderSource::Outputs { .. } => None,
        });
        call.key.starts_with("inputs/") && digests.into_iter().any(|key| key == call.key)
    };
    let query = query(&call.query)?;
    let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
    let (once, copies) = (call.if_none_match == "*", !call.copy_from.is_empty());
    let good = match (call.method.as_str(), names.as_slice()) {
        ("GET" | "HEAD", []) => (is_output || is_input()) && call.if_none_match.is_empty() && !copies,
        ("PUT", []) => (is_output || call.key.starts_with(&picture_prefix(order.job))) && once && !copies,
        ("POST", ["uploads"]) | ("DELETE", ["uploadId"]) => (is_output || is_staged) && !copies,
        ("PUT", ["partNumber", "uploadId"]) if copies => {
            is_output && check_relative(&call.copy_from).is_ok() && call.copy_from.starts_with(&staging)
        }
        ("PUT", ["partNumber", "uploadId"]) => is_staged,
        ("POST", ["uploadId"]) => !copies && (is_staged || is_output && once),
        _ => false,
    };
    let kind = match (reads, query.is_empty()) {
        (true, _) => Kind::Read,
        (false, true) => Kind::Create,
        (false, false) => Kind::Part(query),
    };
    good.then_some(kind)
}

fn query(text: &str) -> Option<Vec<(String, String)>> {
    let url = Url::parse(&format!("http://any/?{text}")).ok()?;
    Some(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order() -> StepOrder {
        let mut order = json!({
            "job": "01M7YBE5W3BJA9VTCNGZ3R5X34", "step": 0, "step_name": "render", "function": "f@1", "frames": "1-3",
            "inputs": [
                { "staged_as": "a", "source": { "digest": "a".repeat(64) } },
                { "staged_as": "b", "source": { "url": "s3://assets/wood.png" } },
            ],
            "parameters": {}, "prefix": "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X34/", "output": "{frame}.png",
            "allow_cpu": false,
        });
        order["timeouts"] = serde_json::to_value(framewake_proto::job::Timeouts::default()).expect("plain");
        order["verify"] = serde_json::to_value(framewake_proto::job::Verify::default()).expect("plain");
        serde_json::from_value(order).expect("a good order")
    }

    fn check(method: &str, key: &str, query: &str, once: bool, copy_from: &str, expected: bool) {
        let call = StoreCall {
            method: method.to_owned(),
            bucket: String::new(),
            key: key.to_owned(),
            query: query.to_owned(),
            if_none_match: if once { "*" } else { "" }.to_owned(),
            copy_from: copy_from.to_owned(),
        };
        let found = allowed(&order(), &"w1".parse().expect("good"), &call);
        assert_eq!(found.is_some(), expected, "{call:?}");
    }

    #[test]
    fn a_worker_reads_inputs_and_outputs_of_its_job_and_creates_outputs() {
        let output = "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X34/1.png";
        let input = format!("inputs/aa/{}", "a".repeat(64));
        for method in ["GET", "HEAD"] {
            check(method, output, "", false, "", true);
            check(method, &input, "", false, "", true);
            check(method, "staging/w1/1.1.1", "", false, "", false);
            for query in ["list-type=2", "uploads", "acl", "versionId=1"] {
                check(method, output, query, false, "", false);
            }
            for key in [
                "",
                "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X34",
                "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X35/1.png",
                "jobs/theirs/01M7YBE5W3BJA9VTCNGZ3R5X34/1.png",
                "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X34/../../theirs/x",
                "logs/01M7YBE5W3BJA9VTCNGZ3R5X34/1.1.log",
                &format!("inputs/bb/{}", "b".repeat(64)),
                "inputs/aa/",
                "inputs/",
                "probe/x",
            ] {
                check(method, key, "", false, "", false);
            }
        }
        check("PUT", output, "", true, "", true);
        // Nobody needs to read pictures there, or to replace them.
        let picture = "pictures/01M7YBE5W3BJA9VTCNGZ3R5X34/x.thumbnail.jpg";
        check("PUT", picture, "", true, "", true);
        check("PUT", picture, "", false, "", false);
        check("GET", picture, "", false, "", false);
        check("PUT", "pictures/01M7YBE5W3BJA9VTCNGZ3R5X35/x.thumbnail.jpg", "", true, "", false);
        check("PUT", output, "", false, "", false);
        check("PUT", output, "", true, "staging/w1/1.1.1", false);
        check("PUT", output, "acl", true, "", false);
        check("PUT", &input, "", true, "", false);
        check("PUT", "staging/w1/1.1.1", "", true, "", false);
        check("DELETE", output, "", false, "", false);
        check("POST", output, "delete", false, "", false);
        check("PATCH", output, "", false, "", false);
    }

    #[test]
    fn what_is_large_is_staged_as_the_workers_own_and_then_created() {
        let output = "jobs/ours/01M7YBE5W3BJA9VTCNGZ3R5X34/1.exr";
        let (own, others) = ("staging/w1/1.1.1", "staging/w10/1.1.1");
        for (key, expected) in [(own, true), (others, false), (output, true), ("logs/x", false)] {
            check("POST", key, "uploads", false, "", expected);
            check("DELETE", key, "uploadId=x", false, "", expected);
        }
        check("PUT", own, "partNumber=1&uploadId=x", false, "", true);
        check("PUT", others, "partNumber=1&uploadId=x", false, "", false);
        check("PUT", output, "partNumber=1&uploadId=x", false, "", false);
        check("PUT", output, "partNumber=1&uploadId=x", false, own, true);
        for from in [others, "jobs/theirs/x", "inputs/aa/x", "staging/w1/../../jobs/theirs/x", "staging/w1"] {
            check("PUT", output, "partNumber=1&uploadId=x", false, from, false);
        }
        check("POST", own, "uploadId=x", false, "", true);
        check("POST", output, "uploadId=x", true, "", true);
        check("POST", output, "uploadId=x", false, "", false);
        check("POST", output, "uploadId=x&acl", true, "", false);
    }

    #[test]
    fn other_buckets_are_read_where_the_job_names_the_object() {
        let worker = "w1".parse().expect("good");
        let call = |method: &str, bucket: &str, key: &str| {
            let (method, bucket, key) = (method.to_owned(), bucket.to_owned(), key.to_owned());
            allowed(&order(), &worker, &StoreCall { method, bucket, key, ..StoreCall::default() }).is_some()
        };
        assert!(call("GET", "assets", "wood.png") && call("HEAD", "assets", "wood.png"));
        for (method, bucket, key) in [
            ("PUT", "assets", "wood.png"),
            ("DELETE", "assets", "wood.png"),
            ("GET", "assets", "stone.png"),
            ("GET", "other", "wood.png"),
            ("GET", "assets", ""),
        ] {
            assert!(!call(method, bucket, key), "{method} {bucket} {key}");
        }
    }
}
