//! Function files.

use framewake_proto::function::{Driver, FunctionSpec, Piece, pieces};
use framewake_proto::job::FAULTS_MAX;
use framewake_reading::rules::Rules;
use serde::Deserialize;

/// A function in YAML or JSON.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_words(text);
    let Some(value) = super::job::value(text) else { return };
    let Ok(function) = FunctionSpec::deserialize(&value) else { return };
    let text = serde_json::to_string(&function).expect("a function can be written as JSON");
    let again: FunctionSpec = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again, function);
    let faults = function.faults();
    assert!(faults.len() <= FAULTS_MAX + 1, "{} faults", faults.len());
    for fault in &faults {
        assert!(points_somewhere(&fault.field) && !fault.reason.is_empty(), "{fault:?}");
    }
    if faults.is_empty() {
        // What the scheduler accepts a worker can use.
        Rules::new(function.name.as_str(), &function.rules, &function.extra_rules).expect("rules were checked");
        let (Driver::Command { command, .. } | Driver::Session { command, .. }) = &function.driver;
        assert!(command.first().is_some_and(|program| !program.is_empty()));
        assert!(!command.iter().any(|word| word.contains('\0')), "no program can be given a NUL");
    }
}

/// A JSON pointer.
pub fn points_somewhere(field: &str) -> bool {
    field.is_empty() || field.starts_with('/')
}

/// Cutting a word into pieces loses nothing.
fn check_words(text: &str) {
    for word in text.split('\n').take(64) {
        let mut joined = String::new();
        for piece in pieces(word) {
            match piece {
                Piece::Text(text) => joined.push_str(text),
                Piece::Placeholder(name) => {
                    joined.push('{');
                    joined.push_str(name);
                    joined.push('}');
                }
            }
        }
        if !word.contains("{{") && !word.contains("}}") {
            assert_eq!(joined, word);
        }
    }
}
