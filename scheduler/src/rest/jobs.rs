//! Jobs: submit, look, change.

use super::audit::OfProject;
use super::body;
use super::border::{self, Border};
use super::narrow::{self, Narrowed};
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Order, Query, invalid, job_id};
use super::{App, door, schema};
use crate::access::Caller;
use crate::engine::handle::{JobCommand, Refused, Submission, pinned};
use crate::store::read::{Accepted, JobFilter, JobKey};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use framewake_core::farm::Listener;
use framewake_proto::api::{
    Explanation, IDEMPOTENCY_KEY_MAX, JobChange, JobRetry, JobState, JobView, Page, StepExplanation, StepView,
    Submitted,
};
use framewake_proto::frames::{FrameSet, FramesError};
use framewake_proto::ids::JobId;
use framewake_proto::job::{Fault, JOB_SIZE_MAX, Job, JobSpec, PRIORITY_MAX};
use framewake_proto::tasks::TaskSet;
use framewake_proto::trace::{TRACEPARENT, TraceParent};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use ulid::Ulid;

/// Frame sets longer than this, or more steps, may take milliseconds to check, too long for the threads that answer.
const FRAMES_TEXT_LIGHT: usize = 64;
const STEPS_LIGHT: usize = 8;
/// Frames that can be named to be tried again: each is looked up while others wait, and who wants more wants all.
const RETRY_FRAMES_MAX: u32 = 1000;

/// Submit a job
///
/// Answers once the job is durable. The same `Idempotency-Key` with the same body again gives the same job.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs",
    params(
        ("idempotency-key" = Option<String>, Header, description = "Makes trying again harmless; at most 200 characters"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context: the job's trace hangs under this span, where traces are on"),
    ),
    request_body(description = "The job, as JSON or YAML",
        content((JobSpec = "application/json"), (JobSpec = "application/yaml"))),
    responses((status = 201, description = "Accepted and durable", body = Submitted),
        (status = 200, description = "Accepted before, under this key", body = Submitted), Problems))]
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<impl IntoResponse> {
    let key = idempotency_key(&caller, &headers)?;
    let mut spec: JobSpec = body::take(&headers, body, JOB_SIZE_MAX, &schema::JOB).await?;
    narrow::fit(&caller, &mut spec.project)?;
    let project = Extension(OfProject(spec.project.clone()));
    // Of what the body says, not of its bytes: YAML and JSON of one job are one body.
    let idempotency = key.map(|key| {
        let text = serde_json::to_vec(&spec).expect("what was read can be written");
        (key, <[u8; 32]>::from(Sha256::digest(text)))
    });
    let checked = match check(&app, &caller, spec).await {
        Ok((spec, job)) => border::check_inputs(&app, &caller, &spec).await.map(|()| (spec, job)),
        Err(refusal) => Err(refusal),
    };
    let (spec, job) = match (checked, &idempotency) {
        (Ok(checked), _) => checked,
        (Err(refusal), None) => return Err(refusal),
        // An accepted job stays accepted, although its function or an input is gone since.
        (Err(refusal), Some((key, digest))) => match app.reader.accepted(key).await? {
            None => return Err(refusal),
            Some(accepted) if accepted.body_sha256 != digest => return Err(key_conflict()),
            Some(Accepted { job: id, tasks, .. }) => {
                return Ok((project, submitted(Submitted { id, tasks, repeated: true })));
            }
        },
    };
    let (id, by, parent) = (JobId(Ulid::generate()), caller.name.clone(), trace_parent(&headers));
    let submission = Submission { id, by, spec, job, idempotency, parent };
    let made = app.handle.submit(submission).await.map_err(|error| refused(&error, None))?;
    Ok((project, submitted(made)))
}

pub(super) fn submitted(submitted: Submitted) -> impl IntoResponse {
    let status = if submitted.repeated { StatusCode::OK } else { StatusCode::CREATED };
    (status, [(LOCATION, format!("/v1/jobs/{}", submitted.id))], Json(submitted))
}

/// The job, and its text with the versions of its functions.
pub(super) async fn check(app: &Arc<App>, caller: &Caller, spec: JobSpec) -> Answer<(JobSpec, Job)> {
    let light = spec.steps.len() <= STEPS_LIGHT
        && spec.steps.iter().all(|step| step.frames.as_ref().is_none_or(|frames| frames.len() <= FRAMES_TEXT_LIGHT));
    let (shared, only) = (app.clone(), caller.only().cloned());
    let check = move || {
        let (functions, targets) = (shared.handle.functions(), shared.handle.targets());
        let job =
            spec.check(&Border { functions: &functions, urls: &shared.urls, targets: &targets, only: only.as_ref() });
        job.map(|job| (pinned(spec, &job), job))
    };
    let checked = if light { Ok(check()) } else { tokio::task::spawn_blocking(check).await };
    checked.map_err(|error| Refusal::internal(&error))?.map_err(Refusal::faults)
}

/// A project's keys are its own: a key that another used says nothing of it.
pub(super) fn idempotency_key(caller: &Caller, headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_MAX => Ok(Some(match caller.only() {
            // A sign that no header has.
            Some(project) => format!("{project}\n{key}"),
            None => key.to_owned(),
        })),
        _ => Err(invalid(format!("`Idempotency-Key` must be 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"))),
    }
}

/// One that is none is as if it were not there: so the standard wants it.
fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

fn key_conflict() -> Refusal {
    Refusal::new(Code::Conflict, "this `Idempotency-Key` was used with another body; nothing was stored")
        .hint("use a new key for a new job, and the same body with the same key")
}

/// List jobs, newest first if nothing else is asked
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    params(
        ("state" = Option<String>, Query, description = "One or more of queued, running, paused, succeeded, failed, canceled, with commas between"),
        ("project" = Option<String>, Query,),
        ("label" = Option<Vec<String>>, Query, description = "`key=value`; given more than once, all must be there"),
        ("name" = Option<String>, Query, description = "Part of the name"),
        ("by" = Option<String>, Query, description = "Who submitted it, as `submitted_by` says it"),
        ("order" = Option<String>, Query, description = "`newest` first, which is the default, or `oldest`"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<JobView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<JobView>>> {
    let query = query.only(&["state", "project", "label", "name", "by", "order", "cursor", "limit"])?;
    let project = match narrow::project(&caller, query.one("project")?) {
        Narrowed::All => None,
        Narrowed::To(project) => Some(project),
        Narrowed::Nothing => return Ok(Json(Page { items: Vec::new(), next: None })),
    };
    let mut filter = JobFilter {
        project,
        name: query.one("name")?.map(str::to_owned),
        by: query.one("by")?.map(str::to_owned),
        oldest_first: query.order()? == Some(Order::Oldest),
        ..JobFilter::default()
    };
    for word in query.all("state").flat_map(|words| words.split(',')) {
        let state = job_state(word)?;
        if !filter.states.contains(&state) {
            filter.states.push(state);
        }
    }
    for label in query.all("label") {
        let (key, value) = label.split_once('=').ok_or_else(|| invalid("`label` must be `key=value`"))?;
        filter.labels.push((key.to_owned(), value.to_owned()));
    }
    if filter.labels.len() > framewake_proto::job::LABELS_MAX {
        return Err(invalid("more labels than a job can have"));
    }
    let cursor = query.cursor(|text| text.parse::<i64>().ok())?;
    Ok(Json(app.reader.jobs(&filter, cursor, query.limit()?).await?))
}

fn job_state(word: &str) -> Answer<JobState> {
    use JobState as S;
    let all = [S::Queued, S::Running, S::Paused, S::Succeeded, S::Failed, S::Canceled];
    let known = all.map(JobState::as_str);
    all.into_iter().find(|state| state.as_str() == word).ok_or_else(|| super::query::not_one_of("state", word, &known))
}

/// Show a job
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = JobView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    view(&app, job_id(&id)?).await
}

/// Show the text of a job, as it was accepted
#[utoipa::path(get, path = "/v1/jobs/{id}/spec", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = JobSpec), Problems))]
pub(super) async fn spec(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<JobSpec>> {
    let id = job_id(&id)?;
    app.reader.job_spec(id).await?.map(Json).ok_or_else(|| no_such_job(id))
}

/// List the steps of a job
#[utoipa::path(get, path = "/v1/jobs/{id}/steps", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = Page<StepView>), Problems))]
pub(super) async fn steps(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<Page<StepView>>> {
    let Json(job) = view(&app, job_id(&id)?).await?;
    Ok(Json(Page { items: job.steps, next: None }))
}

/// Change a job's priority
#[utoipa::path(patch, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)), request_body = JobChange,
    responses((status = 200, body = JobView), Problems))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<JobView>> {
    let id = job_id(&id)?;
    let JobChange { priority } = body::take(&headers, body, JOB_SIZE_MAX, &schema::JOB_CHANGE).await?;
    if priority > PRIORITY_MAX {
        let reason = format!("{priority} is not between 0 and {PRIORITY_MAX}");
        return Err(Refusal::faults(vec![Fault::new("/priority", reason)]));
    }
    command(&app, id, JobCommand::Priority(priority)).await
}

/// Cancel a job: what runs is stopped
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = JobView), Problems))]
pub(super) async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    command(&app, job_id(&id)?, JobCommand::Cancel).await
}

/// Pause a job: what runs is finished, nothing new begins
#[utoipa::path(post, path = "/v1/jobs/{id}/pause", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = JobView), Problems))]
pub(super) async fn pause(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    command(&app, job_id(&id)?, JobCommand::Pause).await
}

/// Let a paused job go on
#[utoipa::path(post, path = "/v1/jobs/{id}/resume", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = JobView), Problems))]
pub(super) async fn resume(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<JobView>> {
    command(&app, job_id(&id)?, JobCommand::Resume).await
}

/// Try failed tasks again: all, or those that the body names
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", tag = "jobs", params(("id" = JobId, Path)),
    request_body = Option<JobRetry>, responses((status = 200, body = JobView), Problems))]
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<JobView>> {
    let id = job_id(&id)?;
    let retry = body::take_any(&headers, body, JOB_SIZE_MAX, &schema::JOB_RETRY).await?;
    let Some(JobRetry { step, frames }) = retry else {
        return command(&app, id, JobCommand::Retry(None)).await;
    };
    let job = app.reader.job_key(id).await?.ok_or_else(|| no_such_job(id))?;
    let known = job.outline.step(step.as_str());
    let at =
        known.ok_or_else(|| Refusal::faults(vec![Fault::new("/step", format!("the job has no step `{step}`"))]))?;
    let tasks = tasks_of(&frames, &job.outline.steps[at].frames);
    let tasks = tasks.map_err(|reason| Refusal::faults(vec![Fault::new("/frames", reason)]))?;
    command(&app, id, JobCommand::Retry(Some((at, tasks)))).await
}

/// The tasks that render these frames, or why there are none.
fn tasks_of(text: &str, step: &FrameSet) -> Result<TaskSet, String> {
    let frames: FrameSet = text.parse().map_err(|error: FramesError| error.to_string())?;
    if frames.len() > RETRY_FRAMES_MAX {
        let hint = "without a body all that failed are tried again";
        return Err(format!("{} frames are more than the {RETRY_FRAMES_MAX} that can be named: {hint}", frames.len()));
    }
    let mut tasks = TaskSet::new();
    for frame in frames.iter() {
        let task = step.position(frame).ok_or_else(|| format!("frame {frame} is not one of this step: {step}"))?;
        tasks.insert(task);
    }
    Ok(tasks)
}

/// Say why a job's tasks wait
#[utoipa::path(get, path = "/v1/jobs/{id}/explain", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, body = Explanation), Problems))]
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<Explanation>> {
    let Json(job) = view(&app, job_id(&id)?).await?;
    let mut reasons = why_waiting(&app, &job, caller.only().is_some()).await?.into_iter();
    let steps = job.steps.into_iter().map(|step| StepExplanation {
        step: step.name,
        tasks: step.tasks,
        reasons: reasons.next().unwrap_or_default(),
    });
    Ok(Json(Explanation { job: job.id, state: job.state, steps: steps.collect() }))
}

/// Sentences for each step, for somebody of all projects or of one alone; none where the job is over.
pub(super) async fn why_waiting(app: &App, job: &JobView, own_alone: bool) -> Answer<Vec<Vec<String>>> {
    let to = Listener { steps: job.steps.iter().map(|step| step.name.clone()).collect(), own_alone };
    let reasons = app.handle.explain(job.id, to).await.map_err(|error| refused(&error, Some(job.id)))?;
    Ok(reasons.unwrap_or_default())
}

async fn command(app: &App, id: JobId, command: JobCommand) -> Answer<Json<JobView>> {
    app.handle.change_job(id, command.clone()).await.map_err(|error| match (error, &command) {
        (Refused::WrongState { state }, command) => wrong_state(id, state, command),
        (Refused::NothingFailed, JobCommand::Retry(Some(_))) => {
            nothing_failed(&format!("none of these frames of job {id}"))
                .hint(format!("`framewake frames {id} --failed` lists those that did"))
        }
        (error, _) => refused(&error, Some(id)),
    })?;
    view(app, id).await
}

fn nothing_failed(which: &str) -> Refusal {
    Refusal::new(Code::WrongState, format!("{which} failed for good: there is nothing to try again"))
}

fn wrong_state(id: JobId, state: JobState, command: &JobCommand) -> Refusal {
    let (verb, hint) = match command {
        JobCommand::Cancel => ("canceled", "only a job that is not over can be canceled"),
        JobCommand::Pause => ("paused", "only a job that is not over can be paused"),
        JobCommand::Resume => ("resumed", "only a job that is not over can be resumed"),
        JobCommand::Retry(_) => {
            ("retried", "only a job with failed tasks can be retried, and not after it was canceled")
        }
        JobCommand::Priority(_) => ("given another priority", "only a job that is not over has a priority that counts"),
    };
    Refusal::new(Code::WrongState, format!("job {id} is {state}: it can't be {verb}")).hint(hint)
}

pub(super) async fn view(app: &App, id: JobId) -> Answer<Json<JobView>> {
    app.reader.job(id).await?.map(Json).ok_or_else(|| no_such_job(id))
}

/// The job that a path names, for the lists under it.
pub(super) async fn key(app: &App, id: &str) -> Answer<JobKey> {
    let id = job_id(id)?;
    app.reader.job_key(id).await?.ok_or_else(|| no_such_job(id))
}

/// The index of the step that a query names.
pub(super) fn step(job: &JobKey, name: Option<&str>) -> Answer<Option<usize>> {
    let Some(name) = name else { return Ok(None) };
    let known: Vec<&str> = job.outline.steps.iter().map(|step| step.name.as_str()).collect();
    let wrong = || {
        let name = super::query::clip(name);
        let hint = framewake_proto::ids::nearest(&name, known.iter().copied());
        let hint =
            hint.map_or_else(|| format!("its steps: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        Refusal::not_found(format!("job {} has no step `{name}`", job.id)).hint(hint)
    };
    job.outline.step(name).map(Some).ok_or_else(wrong)
}

pub(super) fn no_such_job(id: JobId) -> Refusal {
    Refusal::not_found(format!("there is no job {id}")).hint("GET /v1/jobs lists the jobs there are")
}

/// What the engine refused, for people.
pub(crate) fn refused(error: &Refused, id: Option<JobId>) -> Refusal {
    match error {
        Refused::NotFound => id.map_or_else(|| Refusal::not_found("there is no such job"), no_such_job),
        Refused::WrongState { state } => Refusal::new(Code::WrongState, format!("the job is {state}")),
        Refused::NothingFailed => {
            nothing_failed(&id.map_or_else(|| "no frame of the job".to_owned(), |id| format!("no frame of job {id}")))
        }
        Refused::Conflict => key_conflict(),
        Refused::TooManyVersions(max) => {
            let detail = format!("the function has {max} versions, the most there may be; add it under another name");
            Refusal::new(Code::WrongState, detail)
        }
        Refused::NoPool(faults) => Refusal::faults(faults.clone()),
        Refused::TooManyJobs(_) => Refusal::new(Code::QueueFull, format!("{error}; nothing was stored"))
            .hint("wait until some are over, cancel some, or raise --jobs-max of the scheduler"),
        Refused::StepTooLarge { step, .. } => {
            Refusal::faults(vec![Fault::new(format!("/steps/{step}"), error.to_string())])
        }
        Refused::NoSchedule(_) => Refusal::not_found(error.to_string()).hint("GET /v1/schedules lists them"),
        Refused::ScheduleExists(_) => Refusal::new(Code::WrongState, error.to_string())
            .hint("choose another name, or put new rules in its place with PUT"),
        Refused::Taken(name) => door::taken(name),
        Refused::TooManySchedules => Refusal::new(Code::WrongState, error.to_string()).hint("remove one that is over"),
        Refused::NoBudget(..) => Refusal::not_found(error.to_string()).hint("GET /v1/budgets lists them"),
        Refused::OtherCurrency(..) => Refusal::faults(vec![Fault::new("/limit", error.to_string())]),
        Refused::TooManyBudgets => {
            Refusal::new(Code::WrongState, error.to_string()).hint("remove one that nobody needs")
        }
        Refused::TooManyPrices | Refused::NoRun { .. } | Refused::Deployed(_) | Refused::OfOthers(_) => {
            Refusal::new(Code::WrongState, error.to_string())
        }
        Refused::NoTarget(_) => Refusal::not_found(error.to_string()).hint("GET /v1/notifications/targets lists them"),
        Refused::TargetExists(_) => Refusal::new(Code::WrongState, error.to_string())
            .hint("choose another name, or put it in the place of that one with PUT"),
        Refused::TooManyTargets => Refusal::new(Code::WrongState, error.to_string()).hint("remove one of them"),
        Refused::NotDead => Refusal::not_found(error.to_string()).hint("GET /v1/notifications/dead lists them"),
        Refused::NotDeployed(_) => Refusal::not_found(error.to_string()),
        Refused::TooManyCallbacks => Refusal::new(Code::QueueFull, error.to_string()),
        Refused::Closing => Refusal::unavailable("the scheduler is stopping; nothing was changed", error),
    }
}
