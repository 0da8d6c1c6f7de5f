//! What jobs and projects may cost.

use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Code, Refusal};
use super::query::{Query, job_id};
use super::{App, jobs, schema};
use crate::access::Caller;
use crate::engine::handle::Refused;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use framewake_proto::api::{JobView, Page};
use framewake_proto::budget::{BudgetView, JobBudgetChange, Period, ProjectBudget};
use framewake_proto::ids::{JobId, Name, NameError};
use framewake_proto::job::{Fault, JOB_SIZE_MAX};
use std::sync::Arc;

/// List the budgets of projects, and what of them is gone
#[utoipa::path(get, path = "/v1/budgets", tag = "budgets",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<BudgetView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<BudgetView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let key = |view: &BudgetView| (view.project.clone(), view.period);
    let after = query.cursor(|text| {
        let (project, period) = text.split_once('.')?;
        Some((project.parse::<Name>().ok()?, period.parse::<Period>().ok()?))
    })?;
    let limit = query.limit()? as usize;
    let mut views = app.handle.budgets().await.map_err(|error| jobs::refused(&error, None))?;
    views.sort_by_key(key);
    views.retain(|view| caller.sees(&view.project));
    views.retain(|view| after.as_ref().is_none_or(|after| key(view) > *after));
    let more = views.len() > limit;
    views.truncate(limit);
    let next = views.last().filter(|_| more).map(|last| format!("{}.{}", last.project, last.period));
    Ok(Json(Page { items: views, next }))
}

/// Set what a project may cost in each month, or in all
///
/// Less than what is spent already is accepted: the project is held at once, and the answer warns of it.
#[utoipa::path(put, path = "/v1/budgets/{project}/{period}", tag = "budgets",
    params(("project" = Name, Path), ("period" = Period, Path)),
    request_body = ProjectBudget, responses((status = 200, body = BudgetView), Problems))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path((project, period)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<BudgetView>> {
    let (project, period) = names(&project, &period)?;
    let budget: ProjectBudget = body::take(&headers, body, JOB_SIZE_MAX, &schema::PROJECT_BUDGET).await?;
    let mut faults = Vec::new();
    if budget.limit.micros <= 0 {
        faults.push(Fault::new("/limit", "must be more than 0"));
    }
    if !(1..=100).contains(&budget.warn_percent) {
        faults.push(Fault::new("/warn_percent", format!("{} is not between 1 and 100", budget.warn_percent)));
    }
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    let views = app.handle.budget_project(project.clone(), period, Some(budget)).await;
    let views = views.map_err(|error| jobs::refused(&error, None))?;
    let view = views.into_iter().find(|view| view.project == project && view.period == period);
    view.map(Json).ok_or_else(|| Refusal::not_found("the budget was removed in the same moment"))
}

/// Let a project go on without this budget
#[utoipa::path(delete, path = "/v1/budgets/{project}/{period}", tag = "budgets",
    params(("project" = Name, Path), ("period" = Period, Path)),
    responses((status = 204, description = "It is gone"), Problems))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Path((project, period)): Path<(String, String)>,
) -> Answer<axum::http::StatusCode> {
    let (project, period) = names(&project, &period)?;
    let removed = app.handle.budget_project(project, period, None).await;
    removed.map_err(|error| jobs::refused(&error, None))?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

/// Give a job another budget, or none
///
/// A job that its old budget held goes on if the new one has room; one that has no room is paused.
#[utoipa::path(put, path = "/v1/jobs/{id}/budget", tag = "budgets", params(("id" = JobId, Path)),
    request_body = JobBudgetChange, responses((status = 200, body = JobView), Problems))]
pub(super) async fn of_job(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<JobView>> {
    let id = job_id(&id)?;
    let JobBudgetChange { budget } = body::take(&headers, body, JOB_SIZE_MAX, &schema::JOB_BUDGET_CHANGE).await?;
    if budget.is_some_and(|budget| budget.limit.micros <= 0) {
        return Err(Refusal::faults(vec![Fault::new("/budget/limit", "must be more than 0")]));
    }
    app.handle.budget_job(id, budget).await.map_err(|error| match error {
        Refused::WrongState { state } => {
            let detail = format!("job {id} is {state}: it spends nothing any more, so it can't be given a budget");
            let hint = "write `budget` into the job file before it is submitted again, or give its project a budget";
            Refusal::new(Code::WrongState, detail).hint(hint)
        }
        error => jobs::refused(&error, Some(id)),
    })?;
    jobs::view(&app, id).await
}

fn names(project: &str, period: &str) -> Answer<(Name, Period)> {
    let project = project.parse().map_err(|error: NameError| Refusal::not_found(error.to_string()))?;
    let period = period.parse().map_err(|reason| Refusal::not_found(format!("`{period}` is no period: {reason}")));
    Ok((project, period?))
}
