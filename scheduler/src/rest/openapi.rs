//! The interface's own description (`OpenAPI` 3.1), made from the handlers and the types they take and give.

use super::{
    App, attempts, audit, budgets, costs, estimates, events, functions, gpus, health, inputs, jobs, logs,
    notifications, oidc, outputs, overview, pictures, places, projects, schedules, schema, session, sessions, tasks,
    tokens, workers,
};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use framewake_proto::api::Problem;
use framewake_proto::ids::{JobId, Name};
use framewake_proto::objects::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Framewake",
        description = "A render farm that starts from zero and goes back to zero. Every refusal is a problem (RFC 9457) \
                       with a stable `type`, `urn:framewake:<code>`; every list comes in pages.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, JobId, Name, Digest)),
    tags(
        (name = "overview", description = "The farm at a glance"),
        (name = "jobs", description = "Submit, look, change"),
        (name = "tasks", description = "What each frame is doing"),
        (name = "outputs", description = "Verified, committed results"),
        (name = "attempts", description = "Who tried what, and the logs"),
        (name = "events", description = "What happens, as it happens"),
        (name = "inputs", description = "Files that jobs need"),
        (name = "functions", description = "Renderers, packaged to run from zero"),
        (name = "workers", description = "Running instances of functions"),
        (name = "places", description = "Machines and GPUs, and those that are set aside"),
        (name = "projects", description = "Who pays, and their share"),
        (name = "costs", description = "What was paid, what for, and by which prices"),
        (name = "budgets", description = "What jobs and projects may cost"),
        (name = "schedules", description = "Jobs that are made by themselves"),
        (name = "notifications", description = "Who is told of what, and what could not be delivered"),
        (name = "tokens", description = "Who may do what"),
        (name = "sessions", description = "Who is logged in to the pages"),
        (name = "access", description = "Who one is, and who changed what"),
        (name = "health", description = "How the scheduler is"),
        (name = "descriptions", description = "This page and the schemas of job, schedule and function files"),
    )
)]
struct Description;

/// The problem that every address may answer.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new()
            .description("Refused: why, and what to do")
            .content("application/problem+json", content)
            .build();
        let crowded = |description: &str| {
            let mut crowded = response.clone();
            description.clone_into(&mut crowded.description);
            let seconds = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                .description(Some("Seconds after which to try again"))
                .build();
            crowded.headers.insert("retry-after".to_owned(), seconds.into());
            crowded
        };
        BTreeMap::from([
            ("429".to_owned(), crowded("This client asks more at once than one may").into()),
            (
                "503".to_owned(),
                crowded("All clients ask more at once than may be, or a part of the farm is away").into(),
            ),
            ("default".to_owned(), response.into()),
        ])
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(overview::show))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show, jobs::change))
        .routes(routes!(jobs::spec))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::steps))
        .routes(routes!(jobs::explain))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::map))
        .routes(routes!(outputs::list))
        .routes(routes!(outputs::bytes))
        .routes(routes!(pictures::picture))
        .routes(routes!(attempts::list))
        .routes(routes!(logs::log))
        .routes(routes!(events::of_job))
        .routes(routes!(events::of_all))
        .routes(routes!(inputs::show, inputs::send))
        .routes(routes!(functions::list, functions::add))
        .routes(routes!(functions::show))
        .routes(routes!(functions::explain_scaling))
        .routes(routes!(workers::list))
        .routes(routes!(workers::start))
        .routes(routes!(gpus::gpus))
        .routes(routes!(places::list))
        .routes(routes!(places::restore))
        .routes(routes!(projects::list))
        .routes(routes!(projects::show, projects::weigh))
        .routes(routes!(budgets::list))
        .routes(routes!(budgets::put, budgets::remove))
        .routes(routes!(budgets::of_job))
        .routes(routes!(costs::of_job))
        .routes(routes!(costs::of_days))
        .routes(routes!(estimates::estimate))
        .routes(routes!(costs::prices, costs::add))
        .routes(routes!(costs::paid_by))
        .routes(routes!(costs::pay_by))
        .routes(routes!(schedules::list, schedules::add))
        .routes(routes!(schedules::show, schedules::put, schedules::remove))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::runs))
        .routes(routes!(schedules::next))
        .routes(routes!(schedules::calendar))
        .routes(routes!(notifications::list, notifications::add))
        .routes(routes!(notifications::show, notifications::put, notifications::remove))
        .routes(routes!(notifications::test))
        .routes(routes!(notifications::dead))
        .routes(routes!(notifications::resend))
        .routes(routes!(tokens::list, tokens::add))
        .routes(routes!(tokens::revoke))
        .routes(routes!(session::show, session::begin, session::end))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(oidc::ask_provider))
        .routes(routes!(oidc::come_back))
        .routes(routes!(audit::list))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(show))
        .routes(routes!(show_job_schema))
        .routes(routes!(show_function_schema))
        .routes(routes!(show_schedule_schema))
}

static OPENAPI: LazyLock<String> = LazyLock::new(|| {
    let (_, description) = routes().split_for_parts();
    let mut description = serde_json::to_value(description).expect("a description is JSON");
    schema::mend(&mut description);
    complete(&mut description);
    let mut text = serde_json::to_string_pretty(&description).expect("a description is JSON");
    text.push('\n');
    text
});

/// Methods of each address, in lower case.
static METHODS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let description: Value = serde_json::from_str(&OPENAPI).expect("a description is JSON");
    let paths = description["paths"].as_object().into_iter().flatten();
    let methods = |item: &Value| item.as_object().into_iter().flatten().map(|(method, _)| method.clone()).collect();
    paths.map(|(path, item)| (path.clone(), methods(item))).collect()
});

/// The methods that an address is described with.
pub(super) fn methods(path: &str) -> impl Iterator<Item = &str> {
    METHODS.get(path).into_iter().flatten().map(String::as_str)
}

/// Adds what OpenAPI asks for and the handlers' names don't give: ids that are unique, and a word for each answer.
fn complete(description: &mut Value) {
    let items = description["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in items.filter_map(Value::as_object_mut).flat_map(|methods| methods.values_mut()) {
        let (tag, name) = (operation["tags"][0].as_str(), operation["operationId"].as_str());
        operation["operationId"] = json!(format!("{}_{}", tag.unwrap_or_default(), name.unwrap_or_default()));
        let answers = operation["responses"].as_object_mut().into_iter().flat_map(|answers| answers.values_mut());
        for answer in answers.filter_map(Value::as_object_mut) {
            answer.entry("description").or_insert(json!("What was asked for"));
        }
    }
}

/// The description as it is served, and as it lies in `proto/openapi.json`.
pub fn openapi() -> &'static str {
    &OPENAPI
}

/// The schema of job files, as it is served, and as it lies in `docs/job.schema.json`.
pub fn job_schema() -> String {
    schema::JOB.text()
}

/// The schema of schedule files, as it is served, and as it lies in `docs/schedule.schema.json`.
pub fn schedule_schema() -> String {
    schema::SCHEDULE.text()
}

/// The schema of function files, as it is served, and as it lies in `docs/function.schema.json`.
pub fn function_schema() -> String {
    schema::FUNCTION.text()
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "descriptions",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
async fn show() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi())
}

/// The schema of job files, for editors
#[utoipa::path(get, path = "/v1/job-schema.json", tag = "descriptions",
    responses((status = 200, description = "JSON Schema 2020-12", content_type = "application/schema+json")))]
async fn show_job_schema() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/schema+json")], job_schema())
}

/// The schema of schedule files, for editors
#[utoipa::path(get, path = "/v1/schedule-schema.json", tag = "descriptions",
    responses((status = 200, description = "JSON Schema 2020-12", content_type = "application/schema+json")))]
async fn show_schedule_schema() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/schema+json")], schedule_schema())
}

/// The schema of function files, for editors
#[utoipa::path(get, path = "/v1/function-schema.json", tag = "descriptions",
    responses((status = 200, description = "JSON Schema 2020-12", content_type = "application/schema+json")))]
async fn show_function_schema() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/schema+json")], function_schema())
}
