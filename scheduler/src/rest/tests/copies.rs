//! The committed copies of what the scheduler says about itself are what it says.

use super::super::{function_schema, job_schema, openapi, schedule_schema, schema};
use super::*;
use std::path::Path;

/// Set it to write the copies anew.
const WRITE: &str = "FRAMEWAKE_WRITE_COPIES";

#[allow(clippy::disallowed_methods)] // A switch of this test alone.
fn check(file: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
        std::fs::write(&path, said).expect("written");
    }
    let copy = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(copy == said, "{file} is not fresh: run `{WRITE}=1 cargo test -p framewake-scheduler copies`");
}

#[test]
fn the_copies_are_fresh() {
    check("proto/openapi.json", openapi());
    check("docs/job.schema.json", &job_schema());
    check("docs/function.schema.json", &function_schema());
    check("docs/schedule.schema.json", &schedule_schema());
}

#[test]
fn everything_the_description_refers_to_is_in_it() {
    let description: Value = serde_json::from_str(openapi()).expect("JSON");
    assert_eq!(description["openapi"], "3.1.0");
    let mut references = Vec::new();
    collect(&description, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_bounds_in_the_docs_are_those_of_the_program() {
    use super::super::shares;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let docs = std::fs::read_to_string(path).expect("the docs");
    let said = |what: &str, bound: String| {
        let row = docs.lines().find(|line| line.starts_with(&format!("| {what}")));
        let row = row.unwrap_or_else(|| panic!("no row for `{what}`"));
        let cell = row.split('|').nth(2).unwrap_or_default().trim();
        assert!(cell.split([' ', ',']).next() == Some(bound.as_str()), "{row} but it is {bound}");
    };
    said("Submissions and other changes at once", shares::CHANGES_MAX.to_string());
    said("Logins under way at once", shares::LOGINS_MAX.to_string());
    said("Lists and views at once", shares::LOOKS_MAX.to_string());
    said("`/readyz` and `/metrics` at once", shares::PROBES_MAX.to_string());
    said("Inputs and outputs on their way at once", shares::TRANSFERS_MAX.to_string());
    said("Streams of events and logs", shares::STREAMS_MAX.to_string());
    said("Connections", shares::CONNECTIONS_MAX.to_string());
    said("Jobs that are not over", crate::engine::JOBS_MAX_DEFAULT.to_string());
    said("One client's share", format!("1/{}", shares::PARTS));
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| collect(inner, references));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_address_says_what_a_refusal_looks_like() {
    let description: Value = serde_json::from_str(openapi()).expect("JSON");
    let mut operations = std::collections::BTreeSet::new();
    for (path, item) in
        description["paths"].as_object().expect("paths").iter().filter(|(path, _)| path.starts_with("/v1/"))
    {
        for (method, operation) in item.as_object().expect("methods") {
            assert!(operations.insert(operation["operationId"].to_string()), "{method} {path}");
            let described = |answer: &Value| answer["description"].is_string();
            assert!(operation["responses"].as_object().expect("answers").values().all(described), "{method} {path}");
            let told = operation["tags"][0] == "descriptions"
                || operation["responses"]["default"]["content"]["application/problem+json"].is_object();
            assert!(told, "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
    assert!(operations.len() >= 30, "{operations:?}");
}

/// The schema only explains what the type decides, so it must not call wrong what the type takes.
#[test]
fn a_job_with_every_field_fits_its_schema() {
    let full = json!({
        "name": "shot", "project": "film", "priority": 7, "labels": {"show": "x"},
        "steps": [
            {
                "name": "render", "function": "paint@1", "frames": "1-10x3,-5", "output": "f/{frame:04}.png",
                "inputs": [
                    {"digest": "0".repeat(64), "as": "a.blend"}, {"url": "s3://textures/wood.png"},
                    {"path": "x", "as": null}, {"step": "sim", "as": "sim"},
                ],
                "parameters": {"a": 1, "b": 1.5, "c": "x", "d": true, "e": ["x", "y"], "f": -3},
                "chunking": {"mode": "fixed", "size": 10}, "retries": {"attempts": 5, "backoff": "1s", "backoff_max": "10m"},
                "timeouts": {"frame": "1h", "silent": "90s", "chunk": "1d"}, "allow_cpu": true,
                "verify": {"width": 1920, "height": null, "frames": 3, "black": "allow", "nan": "refuse"},
                "after": ["sim"],
            },
            {"name": "sim", "function": "paint", "frames": null, "chunking": {"mode": "auto", "target": "1m"}},
            {"name": "other", "function": "paint", "chunking": {"mode": "auto"}},
        ],
    });
    serde_json::from_value::<framewake_proto::job::JobSpec>(full.clone()).expect("the type takes it");
    let faults: Vec<String> = schema::JOB.validator.iter_errors(&full).map(|error| error.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
}
