//! Rules of a function against what a renderer prints: bounded in time and in what they say.

use framewake_proto::function::{BUILT_IN_RULES, FunctionSpec, RULES_MAX, Rule};
use framewake_proto::wire::NOTE_MAX;
use framewake_reading::rules::{MEANING_MAX, Rules};

/// A byte for the built-in rules; the function's own rules in YAML, a line of `%%`, then the renderer's lines.
pub fn check(data: &[u8]) {
    let Some((choice, text)) = super::choice_and_text(data) else { return };
    let (own, printed) = text.split_once("\n%%\n").unwrap_or(("", text));
    let own: Vec<Rule> = if own.is_empty() {
        Vec::new()
    } else {
        match serde_saphyr::from_str(own) {
            Ok(own) => own,
            Err(_) => return,
        }
    };
    if own.len() > RULES_MAX {
        return;
    }
    let built_in = BUILT_IN_RULES[usize::from(choice) % BUILT_IN_RULES.len()];
    let Ok(rules) = Rules::new("fuzz", built_in, &own) else {
        return assert!(!is_accepted(&own), "a function whose rules can't be used was accepted");
    };
    for line in printed.split('\n') {
        let meaning = rules.read(line);
        if let Some(progress) = meaning.progress {
            assert!(progress.permille <= 1000 && progress.note.len() <= NOTE_MAX, "{progress:?}");
        }
        if let Some(finding) = meaning.finding {
            assert!(finding.message.len() <= MEANING_MAX, "a message of {} bytes", finding.message.len());
        }
        for said in [meaning.version, meaning.device].into_iter().flatten() {
            assert!(said.len() <= NOTE_MAX, "{said:?}");
        }
    }
}

/// Whether the scheduler would take a function with these rules.
fn is_accepted(own: &[Rule]) -> bool {
    let text = include_str!("../../../samples/functions/command.yaml");
    let mut function: FunctionSpec = serde_saphyr::from_str(text).expect("a sample is good");
    function.extra_rules = own.to_vec();
    function.faults().is_empty()
}
