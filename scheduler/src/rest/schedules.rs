//! Schedules: store, look, run, and say when they are due.

use super::audit::OfProject;
use super::body;
use super::border::{self, Border};
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::{Query, clip, invalid, not_one_of, pair};
use super::{App, jobs, narrow, schema};
use crate::access::Caller;
use crate::engine::handle::{InPlaceOf, ScheduleCommand};
use crate::engine::schedules::render;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use framewake_core::calendar::{self, Calendar};
use framewake_core::schedule::Rules;
use framewake_proto::api::{Page, Submitted};
use framewake_proto::ids::{Name, NameError};
use framewake_proto::job::{Fault, JOB_SIZE_MAX, JobSpec};
use framewake_proto::schedule::{
    RunView, SCHEDULES_MAX, ScheduleChange, ScheduleSpec, ScheduleStored, ScheduleView, UPCOMING_DEFAULT, UPCOMING_MAX,
    Upcoming, UpcomingTime,
};
use framewake_proto::time::Timestamp;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Due times whose jobs are filled in and checked before a schedule is stored.
const CHECKED_MAX: usize = 10;

/// List schedules, by name or by when they are due
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules",
    params(
        ("order" = Option<String>, Query, description = "By `name`, which is the default, or by when they are `due` next, those that never are last"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<ScheduleView>), Problems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Page<ScheduleView>>> {
    let query = query.only(&["order", "cursor", "limit"])?;
    match query.one("order")? {
        None | Some("name") => {}
        Some("due") => return list_by_due(&app, &caller, &query).await,
        Some(word) => return Err(not_one_of("order", word, &["name", "due"])),
    }
    let after = query.cursor(|text| text.parse::<Name>().ok())?;
    let limit = query.limit()? as usize;
    // Others' are between those of one project.
    let asked = if caller.only().is_some() { SCHEDULES_MAX } else { limit + 1 };
    let schedules = app.handle.schedules(after, asked).await;
    let mut items = schedules.map_err(|error| jobs::refused(&error, None))?;
    items.retain(|schedule| caller.sees(&schedule.spec.job.project));
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|schedule| schedule.name.to_string());
    Ok(Json(Page { items, next }))
}

async fn list_by_due(app: &App, caller: &Caller, query: &Query) -> Answer<Json<Page<ScheduleView>>> {
    let after: Option<(i64, Name)> = query.cursor(pair)?;
    let limit = query.limit()? as usize;
    let place = |schedule: &ScheduleView| (schedule.next.map_or(i64::MAX, |due| due.0), schedule.name.clone());
    let schedules = app.handle.schedules(None, SCHEDULES_MAX).await;
    let mut items = schedules.map_err(|error| jobs::refused(&error, None))?;
    items.retain(|schedule| {
        caller.sees(&schedule.spec.job.project) && after.as_ref().is_none_or(|after| place(schedule) > *after)
    });
    items.sort_by_cached_key(place);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(place);
    Ok(Json(Page { items, next: next.map(|(due, name)| format!("{due}.{name}")) }))
}

/// Add a schedule
///
/// The jobs of the next due times are filled in and checked as if they were submitted.
#[utoipa::path(post, path = "/v1/schedules", tag = "schedules",
    request_body(description = "The schedule, as JSON or YAML",
        content((ScheduleSpec = "application/json"), (ScheduleSpec = "application/yaml"))),
    responses((status = 201, description = "Stored and durable", body = ScheduleStored),
        (status = 200, description = "The same was there", body = ScheduleStored), Problems))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<impl IntoResponse> {
    let spec = read(&headers, body).await?;
    store(&app, &caller, spec, InPlaceOf::Nothing).await
}

/// Add a schedule, or put it in the place of the one of its name
#[utoipa::path(put, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = Name, Path)),
    request_body(description = "The schedule, as JSON or YAML",
        content((ScheduleSpec = "application/json"), (ScheduleSpec = "application/yaml"))),
    responses((status = 201, description = "Stored and durable", body = ScheduleStored),
        (status = 200, description = "Changed, or the same was there", body = ScheduleStored), Problems))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(wanted): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<impl IntoResponse> {
    let wanted = name(&wanted)?;
    let spec = read(&headers, body).await?;
    if spec.name != wanted {
        let reason = format!("`{}` is not `{wanted}`, which the address names", spec.name);
        return Err(Refusal::faults(vec![Fault::new("/name", reason)]));
    }
    let over = InPlaceOf::seen_by(caller.only());
    store(&app, &caller, spec, over).await
}

async fn read(headers: &HeaderMap, body: Body) -> Answer<ScheduleSpec> {
    body::take(headers, body, JOB_SIZE_MAX, &schema::SCHEDULE).await
}

async fn store(app: &Arc<App>, caller: &Caller, mut spec: ScheduleSpec, over: InPlaceOf) -> Answer<Response> {
    narrow::fit(caller, &mut spec.job.project)?;
    let project = Extension(OfProject(spec.job.project.clone()));
    // Frame sets of some jobs take milliseconds to check, and so does an expression that is hardly ever due.
    let (shared, only) = (app.clone(), caller.only().cloned());
    let check = move || check(&shared, only.as_ref(), &spec).map(|(rules, job)| (spec, rules, job));
    let checked = tokio::task::spawn_blocking(check);
    let (spec, rules, job) = checked.await.map_err(|error| Refusal::internal(&error))?.map_err(Refusal::faults)?;
    border::check_inputs(app, caller, &job).await?;
    let stored = app.handle.put_schedule(spec, rules, over).await.map_err(|error| jobs::refused(&error, None))?;
    let status = match stored.change {
        ScheduleChange::Created => StatusCode::CREATED,
        ScheduleChange::Changed | ScheduleChange::Unchanged => StatusCode::OK,
    };
    let at = format!("/v1/schedules/{}", stored.schedule.name);
    Ok((status, project, [(LOCATION, at)], Json(stored)).into_response())
}

/// The rules of a schedule and the job of its next run, or everything that is wrong with them.
fn check(app: &App, only: Option<&Name>, spec: &ScheduleSpec) -> Result<(Rules, JobSpec), Vec<Fault>> {
    let now = Timestamp::now();
    let rules = Rules::check(spec, now);
    let (functions, targets) = (app.handle.functions(), app.handle.targets());
    let known = Border { functions: &functions, urls: &app.urls, targets: &targets, only };
    // Without good rules, the job is looked at as of now: all faults at once.
    let dues: Vec<Timestamp> = match &rules {
        Ok(rules) => rules.upcoming(now).take(CHECKED_MAX).collect(),
        Err(faults) if faults.iter().any(|fault| fault.field == "/zone") => Vec::new(),
        Err(_) => vec![now],
    };
    let mut first = None;
    let mut faults = Vec::new();
    for (due, number) in dues.into_iter().zip(1..) {
        match render(spec, due, number, &known) {
            Ok((job, _)) => {
                first.get_or_insert(job);
            }
            Err(found) => {
                faults = found;
                for fault in &mut faults {
                    fault.field = format!("/job{}", fault.field);
                    if first.is_some() {
                        fault.reason = format!("{} (in the run due {due})", fault.reason);
                    }
                }
                break;
            }
        }
    }
    match (rules, first) {
        (Ok(rules), Some(job)) if faults.is_empty() => Ok((rules, job)),
        (Ok(_), _) => Err(faults),
        (Err(mut wrong), _) => {
            wrong.extend(faults);
            Err(wrong)
        }
    }
}

/// Show a schedule
#[utoipa::path(get, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = Name, Path)),
    responses((status = 200, body = ScheduleView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<Json<ScheduleView>> {
    view(&app, name(&wanted)?).await
}

/// Remove a schedule and its history; its jobs go on
#[utoipa::path(delete, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = Name, Path)),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<StatusCode> {
    change(&app, name(&wanted)?, ScheduleCommand::Remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a schedule: nothing is due until it is resumed
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", tag = "schedules", params(("name" = Name, Path)),
    responses((status = 200, body = ScheduleView), Problems))]
pub(super) async fn pause(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<Json<ScheduleView>> {
    let name = name(&wanted)?;
    change(&app, name.clone(), ScheduleCommand::Pause).await?;
    view(&app, name).await
}

/// Let a paused schedule go on; what was due in the meantime is not made up for
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", tag = "schedules", params(("name" = Name, Path)),
    responses((status = 200, body = ScheduleView), Problems))]
pub(super) async fn resume(State(app): State<Arc<App>>, Path(wanted): Path<String>) -> Answer<Json<ScheduleView>> {
    let name = name(&wanted)?;
    change(&app, name.clone(), ScheduleCommand::Resume).await?;
    view(&app, name).await
}

/// Make a job of the schedule now, whatever else goes on
#[utoipa::path(post, path = "/v1/schedules/{name}/run", tag = "schedules",
    params(("name" = Name, Path),
        ("idempotency-key" = Option<String>, Header, description = "Makes trying again harmless; at most 200 characters")),
    responses((status = 201, description = "Its job is accepted and durable", body = Submitted),
        (status = 200, description = "Made before, under this key", body = Submitted), Problems))]
pub(super) async fn run(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let name = name(&wanted)?;
    let digest = <[u8; 32]>::from(Sha256::digest(format!("run of schedule {name}")));
    let idempotency = jobs::idempotency_key(&caller, &headers)?.map(|key| (key, digest));
    let made = app.handle.run_schedule(name, idempotency).await;
    made.map(jobs::submitted).map_err(|error| jobs::refused(&error, None))
}

/// List what became of a schedule's due times, newest first
#[utoipa::path(get, path = "/v1/schedules/{name}/runs", tag = "schedules",
    params(
        ("name" = Name, Path),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<RunView>), Problems))]
pub(super) async fn runs(
    State(app): State<Arc<App>>,
    Path(wanted): Path<String>,
    query: Query,
) -> Answer<Json<Page<RunView>>> {
    let name = name(&wanted)?;
    let query = query.only(&["cursor", "limit"])?;
    let (before, limit) = (query.cursor(|text| text.parse::<i64>().ok())?, query.limit()?);
    let _it_is_there = view(&app, name.clone()).await?;
    Ok(Json(app.reader.schedule_runs(name.as_str(), before, limit).await?))
}

/// Say when a schedule is due next
#[utoipa::path(get, path = "/v1/schedules/{name}/next", tag = "schedules",
    params(("name" = Name, Path), ("count" = Option<u32>, Query, description = "1 to 1000, else 10")),
    responses((status = 200, body = Upcoming), Problems))]
pub(super) async fn next(
    State(app): State<Arc<App>>,
    Path(wanted): Path<String>,
    query: Query,
) -> Answer<Json<Upcoming>> {
    let name = name(&wanted)?;
    let query = query.only(&["count"])?;
    let count = count(&query)?;
    let Json(schedule) = view(&app, name).await?;
    let Some(rules) = Rules::stored(&schedule.spec) else {
        return Err(Refusal::not_found("the schedule's expression can't be read any more"));
    };
    let dues = rules.upcoming(Timestamp::now()).take(count);
    Ok(Json(upcoming(&rules.calendar, dues)))
}

/// Say when an expression would be due, without storing anything
#[utoipa::path(get, path = "/v1/calendar", tag = "schedules",
    params(
        ("cron" = String, Query, description = "Five or six fields, or `@daily` and the like"),
        ("zone" = Option<String>, Query, description = "IANA time zone, else `UTC`"),
        ("after" = Option<String>, Query, description = "RFC 3339, else now"),
        ("count" = Option<u32>, Query, description = "1 to 1000, else 10"),
    ),
    responses((status = 200, body = Upcoming), Problems))]
pub(super) async fn calendar(query: Query) -> Answer<Json<Upcoming>> {
    let query = query.only(&["cron", "zone", "after", "count"])?;
    let cron = query.one("cron")?.ok_or_else(|| invalid("`cron` is needed: `/v1/calendar?cron=30 2 * * *`"))?;
    let zone = calendar::zone(query.one("zone")?.unwrap_or("UTC")).map_err(|error| invalid(error.to_string()))?;
    let after = query.one("after")?.map(str::parse::<jiff::Timestamp>);
    let after = after.transpose().map_err(|_| invalid("`after` must be a time, as 2026-03-29T01:30:00Z"))?;
    let after = after.map_or_else(Timestamp::now, |after| Timestamp(after.as_millisecond()));
    let count = count(&query)?;
    let calendar = Calendar::new(cron, zone).map_err(|error| invalid(error.to_string()))?;
    let dues = std::iter::successors(calendar.next(after), |due| calendar.next(*due)).take(count);
    Ok(Json(upcoming(&calendar, dues)))
}

fn upcoming(calendar: &Calendar, dues: impl Iterator<Item = Timestamp>) -> Upcoming {
    let times = dues.map(|due| UpcomingTime { due, local: calendar.local(due) });
    Upcoming { reading: calendar.reading(), times: times.collect() }
}

fn count(query: &Query) -> Answer<usize> {
    match query.parsed("count", "a whole number")?.unwrap_or(UPCOMING_DEFAULT) {
        count if (1..=UPCOMING_MAX).contains(&count) => Ok(count as usize),
        count => Err(invalid(format!("`count` must be 1 to {UPCOMING_MAX}, not {count}"))),
    }
}

async fn view(app: &App, name: Name) -> Answer<Json<ScheduleView>> {
    let found = app.handle.schedule(name.clone()).await.map_err(|error| jobs::refused(&error, None))?;
    found.map(Json).ok_or_else(|| no_such(&name))
}

pub(super) fn no_such(name: &Name) -> Refusal {
    Refusal::not_found(format!("there is no schedule `{name}`")).hint("GET /v1/schedules lists them")
}

async fn change(app: &App, name: Name, command: ScheduleCommand) -> Answer<()> {
    app.handle.change_schedule(name, command).await.map_err(|error| jobs::refused(&error, None))
}

fn name(text: &str) -> Answer<Name> {
    text.parse().map_err(|error: NameError| Refusal::not_found(format!("{error}: `{}`", clip(text))))
}
