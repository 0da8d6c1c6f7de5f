//! JSON Schemas (2020-12) of the bodies people write by hand, made from the same types that read them, and compiled
//! once.

use framewake_proto::access::{Login, TokenAdd};
use framewake_proto::api::{JobChange, JobRetry, ProjectChange};
use framewake_proto::budget::{JobBudgetChange, ProjectBudget};
use framewake_proto::function::FunctionSpec;
use framewake_proto::job::JobSpec;
use framewake_proto::notify::TargetSpec;
use framewake_proto::price::{PaidByChange, PricesAdd};
use framewake_proto::schedule::ScheduleSpec;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

const REFERENCE_OPENAPI: &str = "#/components/schemas/";
const REFERENCE_OWN: &str = "#/$defs/";

pub(super) static JOB: LazyLock<BodySchema> = LazyLock::new(|| BodySchema::new::<JobSpec>("A Framewake job"));
pub(super) static SCHEDULE: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<ScheduleSpec>("A Framewake schedule"));
pub(super) static FUNCTION: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<FunctionSpec>("A Framewake function"));
pub(super) static TARGET: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<TargetSpec>("A target of notifications"));
pub(super) static JOB_CHANGE: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<JobChange>("A change of a job"));
pub(super) static JOB_RETRY: LazyLock<BodySchema> = LazyLock::new(|| BodySchema::new::<JobRetry>("Tasks to try again"));
pub(super) static PROJECT_CHANGE: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<ProjectChange>("A change of a project"));
pub(super) static PROJECT_BUDGET: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<ProjectBudget>("A budget of a project"));
pub(super) static JOB_BUDGET_CHANGE: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<JobBudgetChange>("A budget of a job"));
pub(super) static PRICES_ADD: LazyLock<BodySchema> = LazyLock::new(|| BodySchema::new::<PricesAdd>("Rows of prices"));
pub(super) static TOKEN_ADD: LazyLock<BodySchema> = LazyLock::new(|| BodySchema::new::<TokenAdd>("A token to be made"));
pub(super) static LOGIN: LazyLock<BodySchema> = LazyLock::new(|| BodySchema::new::<Login>("A login"));
pub(super) static PAID_BY_CHANGE: LazyLock<BodySchema> =
    LazyLock::new(|| BodySchema::new::<PaidByChange>("What is paid by"));

/// A body's schema, as published and as compiled.
#[derive(Debug)]
pub(super) struct BodySchema {
    pub(super) document: Value,
    pub(super) validator: Validator,
}

impl BodySchema {
    fn new<T: ToSchema + PartialSchema>(title: &str) -> BodySchema {
        let document = document::<T>(title);
        let validator = jsonschema::draft202012::new(&document).expect("a schema made from a type is valid");
        BodySchema { document, validator }
    }

    /// The document as it is published, one text for the file and for the answer.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.document).expect("a schema is JSON");
        text.push('\n');
        text
    }
}

/// The schema of `T` with everything it refers to, as one document.
fn document<T: ToSchema + PartialSchema>(title: &str) -> Value {
    let mut definitions: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut definitions);
    let definitions: Map<String, Value> = definitions
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).expect("a schema is JSON")))
        .collect();
    let mut document = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let top = document.as_object_mut().expect("bodies written by hand are objects");
    top.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    top.insert("title".to_owned(), json!(title));
    top.insert("$defs".to_owned(), Value::Object(definitions));
    mend(&mut document);
    tighten(&mut document);
    point_to_definitions(&mut document);
    document
}

/// Says what utoipa gets wrong: an untagged enum of integer and number is `anyOf`, because 5 is both.
pub(super) fn mend(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let overlaps = map.get("oneOf").and_then(Value::as_array).is_some_and(|variants| {
                let has = |kind: &str| variants.iter().any(|variant| variant["type"] == kind);
                has("integer") && has("number")
            });
            if overlaps && let Some(variants) = map.remove("oneOf") {
                map.insert("anyOf".to_owned(), variants);
            }
            map.values_mut().for_each(mend);
        }
        Value::Array(items) => items.iter_mut().for_each(mend),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says what utoipa leaves out: every body written by hand refuses unknown fields, also in the variants of enums, and
/// our whole numbers of 32 bits have no sign.
fn tighten(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("type") == Some(&json!("object")) && map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
            if map.get("format") == Some(&json!("int32")) {
                map.entry("maximum").or_insert(json!(u32::MAX));
            }
            map.values_mut().for_each(tighten);
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn point_to_definitions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                let name = inner.as_str().and_then(|target| target.strip_prefix(REFERENCE_OPENAPI));
                match name {
                    Some(name) if key == "$ref" => *inner = json!(format!("{REFERENCE_OWN}{name}")),
                    _ => point_to_definitions(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_definitions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
