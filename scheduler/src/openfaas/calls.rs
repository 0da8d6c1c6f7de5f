//! Calls: a job of one task, whose input is the body and whose output is the answer.

use super::deploy::{self, BODY, HowCalled};
use super::functions::{asked, deployment};
use super::{Gateway, bad_request};
use crate::deployment_table::Deployment;
use crate::engine::Submission;
use crate::engine::handle::pinned;
use crate::function_table::Accepted;
use crate::rest::{self, Answer, App, Class, Code, Peer, Refusal};
use crate::store::Callback;
use crate::store::read::{JobKey, StoredOutput};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use framewake_proto::api::{EventView, Happening, JobState};
use framewake_proto::ids::{JobId, Name};
use framewake_proto::job::JobSpec;
use framewake_proto::objects::{Digest, input_key};
use framewake_proto::time::Timestamp;
use framewake_proto::trace::TRACEPARENT;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior};
use ulid::Ulid;

/// Largest body of a call; what is larger is an input of a job.
pub(super) const CALL_BODY_MAX: usize = 16 * 1024 * 1024;
/// Longest id of a call.
const CALL_ID_LEN_MAX: usize = 64;
/// How often a call that is waited for is looked at, beside being told.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const START_TIME: HeaderName = HeaderName::from_static("x-start-time");
pub(super) const DURATION: HeaderName = HeaderName::from_static("x-duration-seconds");
const CALLBACK_URL: HeaderName = HeaderName::from_static("x-callback-url");
/// The job that a call is here.
pub(super) const JOB: HeaderName = HeaderName::from_static("x-framewake-job");

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(StoredOutput),
    /// With what is to be said.
    Failed(String),
    Canceled,
}

/// `POST /function/NAME`: answers when the call is over, or when nobody would wait any longer.
pub(super) async fn now(
    State(gateway): State<Arc<Gateway>>,
    Path(path): Path<Vec<(String, String)>>,
    method: Method,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let app = &gateway.app;
    let name = gateway.name(function_of(&path))?;
    let deployment = deployment(&gateway, &name)?;
    let call = Call::of(&headers, gateway.clock.now())?;
    let transfer = app.enter(Class::Transfer, peer)?;
    let submission = prepare(app, &deployment, &call, &headers, body, &gateway.namespace).await?;
    drop(transfer);
    let _waiting = app.enter(Class::Stream, peer)?;
    // From before it can be over.
    let events = app.handle.events();
    let began = Instant::now();
    let job = app.handle.submit(submission).await.map_err(|error| rest::refused(&error, None))?.id;
    gateway.count_call(&name);
    let over = tokio::time::timeout(gateway.wait, over(app, job, events)).await;
    let mut response = match over {
        Err(_) => {
            let waited = gateway.wait.as_secs_f64();
            let said = format!(
                "the call goes on, and is not over after {waited} s: `GET /v1/jobs/{job}` of the scheduler shows it. Call \
                 /async-function/{name} with X-Callback-Url to be sent the answer, however long it takes\n"
            );
            (StatusCode::GATEWAY_TIMEOUT, said).into_response()
        }
        Ok(key) => answer(app, &key?, method == Method::HEAD).await?,
    };
    call.mark(job, response.headers_mut());
    let elapsed = format!("{:.6}", began.elapsed().as_secs_f64());
    response.headers_mut().insert(DURATION, HeaderValue::from_str(&elapsed).expect("digits"));
    Ok(response)
}

/// `POST /async-function/NAME`: answers once the call is durable; what comes of it is sent to `X-Callback-Url`.
pub(super) async fn later(
    State(gateway): State<Arc<Gateway>>,
    Path(path): Path<Vec<(String, String)>>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let app = &gateway.app;
    let name = gateway.name(function_of(&path))?;
    let deployment = deployment(&gateway, &name)?;
    let call = Call::of(&headers, gateway.clock.now())?;
    let url = headers.get(CALLBACK_URL).map(|value| value.to_str().unwrap_or_default().to_owned());
    if let Some(url) = &url {
        if gateway.callback_key.is_none() {
            return Err(bad_request(
                "X-Callback-Url: this farm sends no answers; its operator allows it with --openfaas-callback-secret-file",
            ));
        }
        app.ways.judge(url).map_err(|reason| bad_request(format!("X-Callback-Url {reason}")))?;
    }
    let _transfer = app.enter(Class::Transfer, peer)?;
    let submission = prepare(app, &deployment, &call, &headers, body, &gateway.namespace).await?;
    let submitted = match url {
        None => app.handle.submit(submission).await,
        Some(url) => {
            let callback = Callback { call: call.id.clone(), function: name.clone(), url, began_at: call.began_at };
            app.handle.call(submission, callback).await
        }
    };
    let job = submitted.map_err(|error| rest::refused(&error, None))?.id;
    gateway.count_call(&name);
    let mut response = StatusCode::ACCEPTED.into_response();
    call.mark(job, response.headers_mut());
    Ok(response)
}

/// Who calls, and since when.
struct Call {
    id: String,
    began_at: Timestamp,
}

impl Call {
    /// The caller's id is kept.
    fn of(headers: &HeaderMap, now: Timestamp) -> Answer<Call> {
        let good = |id: &str| {
            !id.is_empty()
                && id.len() <= CALL_ID_LEN_MAX
                && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
        };
        let id = match headers.get(CALL_ID).map(HeaderValue::to_str) {
            None => Ulid::generate().to_string(),
            Some(Ok(id)) if good(id) => id.to_owned(),
            Some(_) => {
                return Err(bad_request(format!(
                    "X-Call-Id must be 1 to {CALL_ID_LEN_MAX} letters, digits, `-`, `_`, `.` and `:`"
                )));
            }
        };
        Ok(Call { id, began_at: now })
    }

    fn mark(&self, job: JobId, headers: &mut HeaderMap) {
        let plain = |text: &str| HeaderValue::from_str(text).expect("visible ASCII");
        headers.insert(CALL_ID, plain(&self.id));
        // Nanoseconds, as there.
        headers.insert(START_TIME, plain(&(self.began_at.0 * 1_000_000).to_string()));
        headers.insert(JOB, plain(&job.to_string()));
    }
}

/// The first part of the path; what follows is the function's own affair, and has no place in a job.
fn function_of(path: &[(String, String)]) -> &str {
    path.first().map_or("", |(_, name)| name)
}

/// Stores the body, and makes the job.
async fn prepare(
    app: &App,
    deployment: &Deployment,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
    project: &Name,
) -> Answer<Submission> {
    let bytes = rest::read_body(headers, body, CALL_BODY_MAX).await.map_err(|refusal| match refusal.code() {
        Code::TooLarge => refusal.hint("upload it as an input and submit a job: `framewake submit` does both"),
        _ => refusal,
    })?;
    let how = deploy::read(&asked(deployment)?).map_err(|faults| Refusal::internal(&StaleDeployment(faults)))?.how;
    let digest = store_body(app, bytes).await?;
    let spec = job_of(deployment, call, &how, digest, project);
    let functions = app.handle.functions();
    let job = spec.check(&Accepted(&functions)).map_err(Refusal::faults)?;
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok());
    let by = format!("openfaas {}", deployment.function.name);
    Ok(Submission { id: JobId(Ulid::generate()), by, spec: pinned(spec, &job), job, idempotency: None, parent })
}

/// What an earlier version of this program took, and this one does not.
#[derive(Debug, thiserror::Error)]
#[error("the deployment can't be used any more: {0}")]
struct StaleDeployment(String);

async fn store_body(app: &App, bytes: Bytes) -> Answer<Digest> {
    let digest = Digest::of(&bytes);
    let key = input_key(&digest);
    let away = |error| rest::store_away(&error);
    if app.objects.size(&key).await.map_err(away)?.is_none() {
        app.objects.put(&key, bytes).await.map_err(away)?;
    }
    Ok(digest)
}

fn job_of(deployment: &Deployment, call: &Call, how: &HowCalled, digest: Digest, project: &Name) -> JobSpec {
    let name = &deployment.function.name;
    let mut step = json!({
        "name": "call",
        "function": deployment.function.to_string(),
        "inputs": [{ "digest": digest, "as": BODY }],
        "output": how.output,
        "retries": { "attempts": how.attempts },
    });
    if let Some(within) = how.within {
        step["timeouts"] = json!({ "frame": within, "chunk": within });
    }
    serde_json::from_value(json!({
        "name": format!("{name} {}", call.id),
        "project": project,
        "labels": { "openfaas-function": name, "openfaas-call": call.id },
        "steps": [step],
    }))
    .expect("a job of ours has the shape of one")
}

/// Waits until the job is over. `events` are those since before it was submitted.
async fn over(app: &App, job: JobId, mut events: broadcast::Receiver<Arc<EventView>>) -> Answer<JobKey> {
    let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if event.job == job && matches!(event.what, Happening::JobState { state } if state.is_over()) => {}
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => {
                    return Err(Refusal::new(Code::Unavailable, "the scheduler stops; the call goes on when it is back"));
                }
            },
            _ = look.tick() => {}
        }
        if let Some(key) = app.reader.job_key(job).await?.filter(|key| key.state.is_over()) {
            return Ok(key);
        }
    }
}

/// What became of a call that is over.
pub(super) async fn outcome(app: &App, key: &JobKey) -> Answer<Outcome> {
    match key.state {
        JobState::Succeeded => {
            let none = || Refusal::new(Code::Internal, "the call has no output");
            Ok(Outcome::Answer(app.reader.output(key, 0, 0).await?.ok_or_else(none)?))
        }
        JobState::Canceled => Ok(Outcome::Canceled),
        _ => {
            let page = app.reader.tasks(key, Some(0), None, (0, 0), 1).await?;
            let failure = page.items.into_iter().find_map(|task| task.failure);
            let said = failure.map_or_else(String::new, |failure| {
                let evidence =
                    if failure.evidence.is_empty() { String::new() } else { format!("\n{}", failure.evidence) };
                format!("{}{evidence}\n", failure.message)
            });
            Ok(Outcome::Failed(said))
        }
    }
}

async fn answer(app: &Arc<App>, key: &JobKey, head: bool) -> Answer<Response> {
    let output = match outcome(app, key).await? {
        Outcome::Answer(output) => output,
        Outcome::Failed(said) => return Ok((StatusCode::INTERNAL_SERVER_ERROR, said).into_response()),
        Outcome::Canceled => {
            return Ok((StatusCode::SERVICE_UNAVAILABLE, "the call was canceled\n").into_response());
        }
    };
    let found = app.objects.get(&output.key, None).await.map_err(|error| rest::store_away(&error))?;
    let gone = || Refusal::new(Code::Internal, "the answer is gone from the store");
    let found = found.ok_or_else(gone)?;
    let body = if head { Body::empty() } else { Body::from_stream(found.into_stream()) };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(rest::media_type(&output.file)));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(output.size_bytes));
    Ok(response)
}
