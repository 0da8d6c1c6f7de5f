//! The references are what the programs and the schemas say: made of them, and held against them.

use framewake_tests::parts::{built, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

/// Set it to write the references anew.
const WRITE: &str = "FRAMEWAKE_WRITE_COPIES";
const MADE: &str =
    "FRAMEWAKE_WRITE_COPIES=1 cargo nextest run --workspace --test references, once `make build` was run -->";
/// Deepest command of commands: a program that shows its own help for ever would be followed for ever.
const DEPTH_MAX: usize = 4;

fn check(file: &str, made: &str) {
    let path = root().join(file);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, made).expect("writable");
    }
    let copy = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        copy == made,
        "{file} is not what the programs say: run `{WRITE}=1 cargo nextest run --workspace --test references`"
    );
}

/// What a program says of a command, whatever stands in the environment of whoever asks.
fn help(program: &str, words: &[String]) -> String {
    let mut command = Command::new(built(program));
    let output = command.args(words).arg("--help").env_clear().output().expect("it runs");
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names in the list of commands, in its order.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// A command and all beneath it.
fn write_command(page: &mut String, program: &str, words: &[String]) -> usize {
    assert!(words.len() <= DEPTH_MAX, "{program} {words:?}");
    let help = help(program, words);
    let title = std::iter::once(program).chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let level = "#".repeat(words.len() + 2);
    write!(page, "{level} {title}\n\n```text\n{}\n```\n\n", help.trim_end()).expect("text grows");
    let mut written = 1;
    for name in commands(&help) {
        written += write_command(page, program, &[words, &[name]].concat());
    }
    written
}

#[test]
fn the_command_line_reference_is_what_the_programs_say() {
    let mut page = format!(
        "# Command line reference\n\n<!-- Made of the programs' own help: {MADE}\n\n\
         Every command with all its options, as the programs say it themselves. What one does with them is in\n\
         [the command line](cli.md), [running a farm](operations.md) and [your own Dockerfile](own-dockerfile.md); the same as man \
         pages\nis made by `framewake man`. An option with `[env: NAME=]` may be given in the environment too.\n\n"
    );
    let mut written = 0;
    for program in ["framewake", "framewake-scheduler", "framewake-worker"] {
        written += write_command(&mut page, program, &[]);
    }
    assert!(written > 70, "only {written} commands were found");
    check("docs/cli-reference.md", &format!("{}\n", page.trim_end()));
}

/// Options in a help text, as `--wait`.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    words.map(|word| word.trim_end_matches(['=', '[']).to_owned()).filter(|word| word.len() > 2).collect()
}

#[test]
fn each_command_has_a_manual_page_with_all_its_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut man = Command::new(built("framewake"));
    let output = man.arg("man").arg(folder.path()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut left: Vec<(&str, Vec<String>)> = vec![("framewake", Vec::new()), ("framewake-scheduler", Vec::new())];
    let mut seen = 0;
    while let Some((program, words)) = left.pop() {
        let name = std::iter::once(program).chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join("-");
        let page = std::fs::read_to_string(folder.path().join(format!("{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}")).replace('\\', "");
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}");
        let help = help(program, &words);
        for option in options(&help) {
            assert!(page.contains(&option), "{name} has {option}, and its page has not");
        }
        seen += 1;
        left.extend(commands(&help).into_iter().map(|next| (program, [words.as_slice(), &[next]].concat())));
    }
    let pages = std::fs::read_dir(folder.path()).expect("pages").count();
    assert!(seen == pages && seen > 70, "{seen} commands and {pages} pages");
    let nowhere = Command::new(built("framewake")).args(["man", "/dev/null/man"]).output().expect("it runs");
    assert!(!nowhere.status.success() && String::from_utf8_lossy(&nowhere.stderr).contains("/dev/null/man"));
}

/// The types of a field in words, with links to what they are made of.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a path has a last part");
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for both in ["oneOf", "anyOf"] {
        if let Some(variants) = schema[both].as_array() {
            let kinds: Vec<String> = variants.iter().filter(|one| one["type"] != "null").map(kind).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        return words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let named = match &schema["type"] {
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("anything")
        }
        Value::String(name) => name,
        _ => "anything",
    };
    match named {
        "array" => format!("list of {}{}", kind(&schema["items"]), bounds(schema, "minItems", "maxItems")),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        "object" => "map".to_owned(),
        "integer" => format!("whole number{}", bounds(schema, "minimum", "maximum")),
        "number" => format!("number{}", bounds(schema, "minimum", "maximum")),
        "boolean" => "`true`, `false`".to_owned(),
        "string" => format!("text{}", bounds(schema, "minLength", "maxLength")),
        other => other.to_owned(),
    }
}

fn bounds(schema: &Value, least: &str, most: &str) -> String {
    // What a field of 32 bits can hold is no rule of ours.
    let most = schema[most].as_f64().filter(|most| *most < f64::from(u32::MAX));
    match (schema[least].as_f64().filter(|least| *least > 0.0), most) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", from {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn said(schema: &Value) -> String {
    let inner = ["oneOf", "anyOf"].iter().filter_map(|both| schema[both].as_array()).flatten();
    let texts = std::iter::once(schema).chain(inner).filter_map(|schema| schema["description"].as_str());
    texts.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The fields of a map, the needed ones first.
fn write_fields(page: &mut String, schema: &Value) {
    let empty = serde_json::Map::new();
    let fields = schema["properties"].as_object().unwrap_or(&empty);
    if fields.is_empty() {
        return;
    }
    let needed = |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
    page.push_str("| Field | Type | Default | |\n|---|---|---|---|\n");
    let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| needed(name));
    for (name, field) in first.into_iter().chain(rest) {
        let default = match &field["default"] {
            _ if needed(name) => "must be set".to_owned(),
            Value::Null => String::new(),
            value => format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        };
        writeln!(page, "| `{name}` | {} | {default} | {} |", kind(field), said(field)).expect("text grows");
    }
    page.push('\n');
}

fn write_type(page: &mut String, level: &str, name: &str, schema: &Value) {
    write!(page, "{level} {name}\n\n").expect("text grows");
    let text = schema["description"].as_str().unwrap_or_default();
    if !text.is_empty() {
        write!(page, "{}\n\n", text.trim_end()).expect("text grows");
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        write!(page, "Text that fits `{pattern}`.\n\n").expect("text grows");
    } else if schema["enum"].is_array() {
        write!(page, "One of {}.\n\n", kind(schema)).expect("text grows");
    }
    write_fields(page, schema);
    for variant in ["oneOf", "anyOf"].iter().filter_map(|both| schema[both].as_array()).flatten() {
        if variant["properties"].is_object() {
            let says = said(variant);
            let says = if says.is_empty() { "Either:".to_owned() } else { says };
            write!(page, "{says}\n\n").expect("text grows");
            write_fields(page, variant);
        } else {
            writeln!(page, "- {}", kind(variant)).expect("text grows");
        }
    }
    if schema["anyOf"].is_array() || schema["oneOf"].is_array() {
        page.push('\n');
    }
}

#[test]
fn the_reference_of_files_is_what_their_schemas_say() {
    let mut page = format!(
        "# Reference of files\n\n<!-- Made of the schemas: {MADE}\n\n\
         Every field of the files that people write, as the programs read them; what one does with them is in [the job \
         file](job-file.md),\n[functions](functions.md) and [schedules](schedules.md). What is not here is refused by its name. \
         Editors take the same from\n[job.schema.json](job.schema.json), [function.schema.json](function.schema.json) and \
         [schedule.schema.json](schedule.schema.json).\n\n"
    );
    let mut types = std::collections::BTreeMap::new();
    for (title, file) in [("A job file", "job"), ("A function file", "function"), ("A schedule file", "schedule")] {
        let text = std::fs::read_to_string(root().join(format!("docs/{file}.schema.json"))).expect("it is there");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        write!(page, "## {title}\n\n").expect("text grows");
        write_fields(&mut page, &schema);
        for (name, schema) in schema["$defs"].as_object().expect("definitions") {
            let before = types.insert(name.clone(), schema.clone());
            assert!(before.is_none_or(|before| before == *schema), "{name} means two things");
        }
    }
    page.push_str("## What they are made of\n\n");
    for (name, schema) in &types {
        write_type(&mut page, "###", name, schema);
    }
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        for link in line.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(types.keys().any(|name| name.to_lowercase() == link), "nothing says what {link} is");
        }
    }
    check("docs/file-reference.md", &format!("{}\n", page.trim_end()));
}
