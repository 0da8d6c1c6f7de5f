//! The REST of an API server: just enough of it to be taken for one.

use super::objects::{Key, Objects, Refusal, selected};
use super::{Harm, Shared};
use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often an idle watch has a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_millis(200);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request, as it is meant.
#[derive(Debug, Clone)]
pub struct Call {
    pub verb: &'static str,
    /// With its group.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    query: BTreeMap<String, String>,
}

impl Call {
    fn key(&self) -> Key {
        (self.resource.clone(), self.namespace.clone(), self.name.clone())
    }

    fn option(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// Answers one request; an error is a connection that breaks.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, io::Error> {
    let Some(call) = read(request.method(), request.uri()) else {
        return Ok(refused(&Refusal::new(404, "NotFound", "the server could not find the requested resource"), None));
    };
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
    shared.heard(&call);
    let mut lost = false;
    match shared.harm(&call) {
        None => {}
        Some(Harm::Refused(refusal, retry_after)) => return Ok(refused(&refusal, retry_after)),
        Some(Harm::Hangs) => std::future::pending().await,
        Some(Harm::AnswerLost) => lost = true,
    }
    shared.before(&call).await;
    let passed_on = shared.world.pass_on((head.method, head.uri, head.headers), bytes.clone()).await;
    let answer = match passed_on {
        Some(answer) => passed_back(answer.map_err(io::Error::other)?, &shared),
        None if call.verb == "watch" => watch(call.clone(), Arc::clone(&shared)),
        None => {
            let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let answer = shared.change(|objects| act(&call, &body, objects));
            answer.map_or_else(|refusal| refused(&refusal, None), |value| whole(200, &value, None))
        }
    };
    shared.after(&call).await;
    if lost { Err(io::Error::other("the answer is lost")) } else { Ok(answer) }
}

/// The answer of an API server elsewhere, which breaks when watches are cut.
fn passed_back(answer: Response<kube::client::Body>, shared: &Shared) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let frames = stream::unfold(Some((body, shared.cut.subscribe())), |state| async move {
        let (mut body, mut cut) = state?;
        tokio::select! {
            frame = body.frame() => frame.map(|frame| (frame.map_err(io::Error::other), Some((body, cut)))),
            _ = cut.changed() => Some((Err(io::Error::other("cut")), None)),
        }
    });
    let mut response = Response::builder().status(head.status);
    for name in ["content-type", "retry-after"] {
        if let Some(value) = head.headers.get(name) {
            response = response.header(name, value);
        }
    }
    response.body(BodyExt::boxed_unsync(StreamBody::new(frames.boxed()))).expect("good headers")
}

/// `/api/v1/namespaces/NS/pods[/NAME]`, `/apis/GROUP/VERSION/namespaces/NS/RESOURCE[/NAME]`.
fn read(method: &Method, uri: &hyper::Uri) -> Option<Call> {
    let url = reqwest::Url::parse(&format!("http://x{uri}")).ok()?;
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let parts: Vec<&str> = url.path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, resource, name) = match rest {
        ["namespaces", namespace, resource] => (namespace, resource, ""),
        ["namespaces", namespace, resource, name] => (namespace, resource, *name),
        _ => return None,
    };
    let verb = match *method {
        Method::GET if query.get("watch").is_some_and(|watch| watch == "true") => "watch",
        Method::GET if name.is_empty() => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        Method::PATCH => "patch",
        _ => return None,
    };
    let resource = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    Some(Call { verb, resource, namespace: (*namespace).to_owned(), name: name.to_owned(), query })
}

fn act(call: &Call, body: &Value, objects: &mut Objects) -> Result<Value, Refusal> {
    let (resource, namespace) = (call.resource.as_str(), call.namespace.as_str());
    match call.verb {
        "get" => objects
            .get(&call.key())
            .cloned()
            .ok_or_else(|| Refusal::new(404, "NotFound", format!("{resource} \"{}\" not found", call.name))),
        "list" => Ok(list(call, objects)),
        "create" => {
            check(resource, namespace, body, objects)?;
            objects.create(resource, namespace, body.clone())
        }
        "update" => objects.replace(&call.key(), body.clone()),
        "delete" => {
            let uid = &body["preconditions"]["uid"];
            let found = objects.get(&call.key());
            if let Some(found) = found.filter(|found| !uid.is_null() && found["metadata"]["uid"] != *uid) {
                let why =
                    format!("Precondition failed: UID in precondition: {uid}, in object: {}", found["metadata"]["uid"]);
                return Err(Refusal::new(409, "Conflict", why));
            }
            if body["propagationPolicy"] == "Orphan" {
                return Err(Refusal::new(400, "BadRequest", "these tests have no orphans"));
            }
            objects.delete(&call.key())
        }
        other => Err(Refusal::new(405, "MethodNotAllowed", format!("no {other}"))),
    }
}

/// In pages, by the name of the last object of the page before.
fn list(call: &Call, objects: &Objects) -> Value {
    let all = objects.list(&call.resource, &call.namespace, call.option("labelSelector"), call.option("fieldSelector"));
    let after = call.option("continue");
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut items: Vec<Value> = all.into_iter().filter(|object| name(object).as_str() > after).collect();
    let limit = call.option("limit").parse().unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(&name).unwrap_or_default();
    json!({
        "kind": "List", "apiVersion": "v1", "items": items,
        "metadata": { "resourceVersion": objects.version().to_string(), "continue": next },
    })
}

/// What an API server refuses of what we send.
fn check(resource: &str, namespace: &str, object: &Value, objects: &Objects) -> Result<(), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good =
        !name.is_empty() && name.len() <= 63 && name.chars().all(|c| letter(c) || c == '-') && name.starts_with(letter);
    let invalid = |why: String| Refusal::new(422, "Invalid", format!("{resource} \"{name}\" is invalid: {why}"));
    if !good {
        return Err(invalid("metadata.name: a lowercase RFC 1123 label".to_owned()));
    }
    for label in object["metadata"]["labels"].as_object().into_iter().flat_map(serde_json::Map::values) {
        let value = label.as_str().unwrap_or_default();
        if value.len() > 63 || !value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(invalid(format!("metadata.labels: Invalid value: {value}")));
        }
    }
    if resource != "jobs.batch" {
        return Ok(());
    }
    let (spec, pod) = (&object["spec"], &object["spec"]["template"]["spec"]);
    if !spec["podFailurePolicy"].is_null()
        && (pod["restartPolicy"] != "Never" || spec["podReplacementPolicy"] != "Failed")
    {
        return Err(invalid(
            "spec.podFailurePolicy needs restartPolicy Never and podReplacementPolicy Failed".to_owned(),
        ));
    }
    let container = &pod["containers"][0];
    let volumes: Vec<&Value> = pod["volumes"].as_array().into_iter().flatten().map(|volume| &volume["name"]).collect();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        if !volumes.contains(&&mount["name"]) {
            return Err(invalid(format!("volumeMounts: Not found: {}", mount["name"])));
        }
    }
    for (name, request) in container["resources"]["requests"].as_object().into_iter().flatten() {
        let limit = &container["resources"]["limits"][name];
        if !limit.is_null() && limit != request {
            return Err(invalid(format!("resources.requests: {name} must be less than or equal to its limit")));
        }
    }
    quota(resource, namespace, name, "count/jobs.batch", 1, objects)
}

/// Refuses what is more than a `ResourceQuota` of the namespace allows.
pub(super) fn quota(
    resource: &str,
    namespace: &str,
    name: &str,
    what: &str,
    wanted: u64,
    objects: &Objects,
) -> Result<(), Refusal> {
    for quota in objects.list("resourcequotas", namespace, "", "") {
        let Some(hard) = quota["spec"]["hard"][what].as_str().and_then(|hard| hard.parse::<u64>().ok()) else {
            continue;
        };
        let used = match what.strip_prefix("requests.") {
            None => objects.list(resource, namespace, "", "").len() as u64,
            Some(gpu) => {
                let pods = objects.list("pods", namespace, "", "");
                pods.iter().filter(|pod| !super::nodes::is_over(pod)).map(|pod| super::nodes::gpus(pod, gpu)).sum()
            }
        };
        if used + wanted > hard {
            let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "{resource} \"{name}\" is forbidden: exceeded quota: {quota}, requested: {what}={wanted}, used: {what}={used}, limited: {what}={hard}"
            );
            return Err(Refusal::new(403, "Forbidden", why));
        }
    }
    Ok(())
}

/// Changes after the version asked for, until the time is up or somebody cuts it.
fn watch(call: Call, shared: Arc<Shared>) -> Response<Body> {
    let from: u64 = call.option("resourceVersion").parse().unwrap_or(0);
    let (forgotten, odd) = shared.change(|objects| (objects.forgotten(), objects.version() % 2 == 1));
    if from < forgotten {
        let gone = Refusal::new(410, "Expired", format!("too old resource version: {from} ({forgotten})"));
        // It may say so in either way.
        let event = json!({ "type": "ERROR", "object": gone.body() });
        return if odd { refused(&gone, None) } else { whole(200, &event, None) };
    }
    let seconds = call.option("timeoutSeconds").parse().unwrap_or(60);
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let bookmarks = call.option("allowWatchBookmarks") == "true";
    let (cut, changed) = (shared.cut.subscribe(), shared.world.changed());
    let state = (call, shared, from, cut, changed);
    let lines = stream::unfold(Some(state), move |state| async move {
        let (call, shared, mut from, mut cut, mut changed) = state?;
        loop {
            changed.mark_unchanged();
            let (news, version) = shared.change(|objects| (objects.since(from), objects.version()));
            let mine = |change: &&super::objects::Change| {
                change.key.0 == call.resource
                    && change.key.1 == call.namespace
                    && selected(&change.object, call.option("labelSelector"))
            };
            let mut lines = String::new();
            for change in news.iter().filter(mine) {
                lines += &json!({ "type": change.kind, "object": change.object }).to_string();
                lines.push('\n');
            }
            if !lines.is_empty() {
                from = version;
                return Some((Ok(Frame::data(Bytes::from(lines))), Some((call, shared, from, cut, changed))));
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = cut.changed() => return Some((Err(io::Error::other("cut")), None)),
                () = tokio::time::sleep_until(until) => return None,
                () = tokio::time::sleep_until(tokio::time::Instant::now() + BOOKMARK_EVERY), if bookmarks && version > from => {
                    from = version;
                    let metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
                    let object = json!({ "kind": "X", "apiVersion": "v1", "metadata": metadata });
                    let line = format!("{}\n", json!({ "type": "BOOKMARK", "object": object }));
                    return Some((Ok(Frame::data(Bytes::from(line))), Some((call, shared, from, cut, changed))));
                }
            }
        }
    });
    let body = StreamBody::new(lines.boxed());
    Response::builder()
        .header("content-type", "application/json")
        .body(BodyExt::boxed_unsync(body))
        .expect("good headers")
}

fn refused(refusal: &Refusal, retry_after: Option<u64>) -> Response<Body> {
    whole(refusal.code, &refusal.body(), retry_after)
}

fn whole(code: u16, body: &Value, retry_after: Option<u64>) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{body}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::builder().status(code).header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(body).expect("good headers")
}
