//! What is wrong with a body, in words: one sentence a fault, with the nearest known name where a name is wrong.

use super::schema::BodySchema;
use framewake_proto::ids::nearest;
use framewake_proto::job::{FAULTS_MAX, Fault};
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

/// Most characters of a wrong value that are said back.
const ECHO_CHARS: usize = 64;

/// Every fault of `body`, bounded; empty when the schema finds none.
pub(super) fn of(schema: &BodySchema, body: &Value) -> Vec<Fault> {
    let mut found = Explainer { document: &schema.document, faults: Vec::new() };
    for error in schema.validator.iter_errors(body).take(FAULTS_MAX) {
        found.explain(&error);
    }
    found.faults
}

struct Explainer<'a> {
    document: &'a Value,
    faults: Vec<Fault>,
}

impl Explainer<'_> {
    fn explain(&mut self, error: &ValidationError<'_>) {
        let at = error.instance_path().as_str();
        let value = error.instance();
        let reason = match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                return self.explain_unknown(error, unexpected);
            }
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } => return self.explain_variants(error, context),
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                return self.add(format!("{at}/{}", escape(name)), "is missing".to_owned());
            }
            Kind::Type { .. } => wrong_type(&kinds_of(self.around(error)), value),
            Kind::Enum { options } => not_one_of(value, options.as_array().map_or(&[], Vec::as_slice)),
            Kind::Constant { expected_value } => not_one_of(value, std::slice::from_ref(expected_value)),
            Kind::Pattern { pattern } => {
                let wanted = self.around(error).and_then(|schema| schema["description"].as_str());
                format!("{} does not fit: {}", echo(value), wanted.map_or(pattern.clone(), uncapitalized))
            }
            Kind::Minimum { limit } => format!("{} is less than the {limit} allowed", echo(value)),
            Kind::Maximum { limit } => format!("{} is more than the {limit} allowed", echo(value)),
            Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
            Kind::MinLength { limit } => format!("is shorter than the {limit} characters allowed"),
            Kind::MaxLength { limit } => format!("is longer than the {limit} characters allowed"),
            Kind::MinItems { limit: 1 } => "must have at least one entry".to_owned(),
            Kind::MinItems { limit } => format!("has fewer than the {limit} entries needed"),
            Kind::MaxItems { limit } => format!("has more than the {limit} entries allowed"),
            // None of our types makes another kind; should one come, it is said without the value.
            _ => error.masked().to_string(),
        };
        self.add(at.to_owned(), reason);
    }

    fn explain_unknown(&mut self, error: &ValidationError<'_>, unexpected: &[String]) {
        let known: Vec<String> = self
            .around(error)
            .and_then(|schema| schema["properties"].as_object())
            .map_or(Vec::new(), |properties| properties.keys().cloned().collect());
        for name in unexpected {
            let hint = nearest(name, known.iter().map(String::as_str));
            let hint = hint.map_or_else(
                || format!("; known here: {}", known.join(", ")),
                |near| format!("; did you mean `{near}`?"),
            );
            let field = format!("{}/{}", error.instance_path().as_str(), escape(clip(name)));
            self.add(field, format!("unknown field `{}`{hint}", clip(name)));
        }
    }

    /// None of several shapes fits: speak of the one that was meant.
    fn explain_variants(&mut self, error: &ValidationError<'_>, context: &[Vec<ValidationError<'static>>]) {
        let at = error.instance_path().as_str();
        let value = error.instance();
        let variants: &[Value] =
            self.document.pointer(error.schema_path().as_str()).and_then(Value::as_array).map_or(&[], Vec::as_slice);
        // What may be left out has `null` beside its real shape.
        let mut real =
            variants.iter().zip(context).filter(|(variant, _)| variant["type"] != "null").map(|(_, errors)| errors);
        if let (Some(only), None) = (real.next(), real.next()) {
            return only.iter().for_each(|error| self.explain(error));
        }
        let Some(tag) = tag_of(variants) else {
            let kinds: Vec<&str> = variants.iter().flat_map(|variant| kinds_of(Some(variant))).collect();
            return self.add(at.to_owned(), wrong_type(&kinds, value));
        };
        let options: Vec<Value> =
            variants.iter().map(|variant| variant["properties"][&tag]["enum"][0].clone()).collect();
        match value.as_object().map(|object| object.get(&tag)) {
            None => self.add(at.to_owned(), wrong_type(&["object"], value)),
            Some(None) => self.add(format!("{at}/{tag}"), format!("is missing: one of {}", listed(&options))),
            Some(Some(given)) => match options.iter().position(|option| option == given) {
                Some(meant) => context[meant].iter().for_each(|error| self.explain(error)),
                None => self.add(format!("{at}/{tag}"), not_one_of(given, &options)),
            },
        }
    }

    /// The schema that holds the keyword that failed.
    fn around(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let path = error.schema_path().as_str();
        path.rsplit_once('/').and_then(|(parent, _)| self.document.pointer(parent))
    }

    fn add(&mut self, field: String, reason: String) {
        let fault = Fault { field, reason };
        if self.faults.len() < FAULTS_MAX && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// The field whose single value tells the variants apart.
fn tag_of(variants: &[Value]) -> Option<String> {
    let single = |variant: &Value, name: &str| {
        variant["properties"][name]["enum"].as_array().is_some_and(|values| values.len() == 1)
    };
    let names = variants.first()?["properties"].as_object()?.keys();
    names.into_iter().find(|name| variants.iter().all(|variant| single(variant, name))).cloned()
}

/// The types a schema allows, `null` left out.
fn kinds_of(schema: Option<&Value>) -> Vec<&str> {
    let kinds = match schema.map(|schema| &schema["type"]) {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    kinds.into_iter().filter(|kind| *kind != "null").collect()
}

fn wrong_type(wanted: &[&str], value: &Value) -> String {
    let mut names: Vec<&str> = wanted.iter().map(|kind| describe_kind(kind)).collect();
    // A whole number is a number.
    if names.contains(&"a number") {
        names.retain(|name| *name != "a whole number");
    }
    let names = match names.split_last() {
        None => return "is of the wrong kind".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
    };
    let hint = match value {
        Value::Number(_) | Value::Bool(_) if wanted == ["string"] => ": put it between quotes",
        Value::String(text) if wanted != ["string"] && text.parse::<f64>().is_ok() => ": take the quotes away",
        _ => "",
    };
    // Half a number is a number too: which one is what helps.
    match value {
        Value::Number(number) if names == "a whole number" => format!("must be {names}, not {number}"),
        _ => format!("must be {names}, not {}{hint}", describe(value)),
    }
}

fn describe_kind(kind: &str) -> &'static str {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        _ => "something else",
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn not_one_of(value: &Value, options: &[Value]) -> String {
    let Value::String(text) = value else { return wrong_type(&["string"], value) };
    let hint = nearest(clip(text), options.iter().filter_map(Value::as_str));
    let hint = hint.map_or(String::new(), |option| format!("; did you mean `{option}`?"));
    format!("{} is not one of {}{hint}", echo(value), listed(options))
}

fn listed(options: &[Value]) -> String {
    options.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// A wrong value, short enough to be said back.
fn echo(value: &Value) -> String {
    match value {
        Value::String(text) if clip(text).len() < text.len() => format!("`{}…`", clip(text)),
        Value::String(text) => format!("`{text}`"),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => describe(value).to_owned(),
    }
}

fn clip(text: &str) -> &str {
    text.char_indices().nth(ECHO_CHARS).map_or(text, |(at, _)| &text[..at])
}

fn uncapitalized(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // `SHA-256` keeps its capitals.
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
