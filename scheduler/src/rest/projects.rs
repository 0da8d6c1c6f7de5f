//! Projects and their weights.

use super::body;
use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::Query;
use super::{App, jobs, schema};
use crate::access::Caller;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use framewake_proto::api::{Page, ProjectChange, ProjectView};
use framewake_proto::ids::{Name, NameError};
use framewake_proto::job::{Fault, JOB_SIZE_MAX};
use std::sync::Arc;

const WEIGHT_DEFAULT: u32 = 1;
const WEIGHT_MAX: u32 = 1000;

/// List projects, by name
#[utoipa::path(get, path = "/v1/projects", tag = "projects",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<ProjectView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<ProjectView>>> {
    let query = query.only(&["cursor", "limit"])?;
    let after = query.cursor(|text| text.parse::<Name>().ok())?;
    if let Some(name) = caller.only() {
        let weight = app.reader.project_weight(name.as_str()).await?.unwrap_or(WEIGHT_DEFAULT);
        let item = ProjectView { name: name.clone(), weight };
        return Ok(Json(Page { items: Vec::from_iter((after.as_ref() < Some(name)).then_some(item)), next: None }));
    }
    Ok(Json(app.reader.projects(after.as_ref().map(Name::as_str), query.limit()?).await?))
}

/// Show a project; one that nobody weighed has weight 1
#[utoipa::path(get, path = "/v1/projects/{name}", tag = "projects", params(("name" = Name, Path)),
    responses((status = 200, body = ProjectView), Problems))]
pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer<Json<ProjectView>> {
    let name = project(&name)?;
    let weight = app.reader.project_weight(name.as_str()).await?.unwrap_or(WEIGHT_DEFAULT);
    Ok(Json(ProjectView { name, weight }))
}

/// Set a project's weight: its share of the workers, relative to the other projects that want some
#[utoipa::path(put, path = "/v1/projects/{name}", tag = "projects", params(("name" = Name, Path)),
    request_body = ProjectChange, responses((status = 200, body = ProjectView), Problems))]
pub(super) async fn weigh(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ProjectView>> {
    let name = project(&name)?;
    let ProjectChange { weight } = body::take(&headers, body, JOB_SIZE_MAX, &schema::PROJECT_CHANGE).await?;
    if !(1..=WEIGHT_MAX).contains(&weight) {
        let reason = format!("{weight} is not between 1 and {WEIGHT_MAX}");
        return Err(Refusal::faults(vec![Fault::new("/weight", reason)]));
    }
    app.handle.weigh_project(name.clone(), weight).await.map_err(|error| jobs::refused(&error, None))?;
    Ok(Json(ProjectView { name, weight }))
}

fn project(text: &str) -> Answer<Name> {
    text.parse().map_err(|error: NameError| Refusal::not_found(error.to_string()))
}
