//! What docs/kubernetes.md and the chart's README tell people to type and to write is what Helm takes, and names what is there.

use framewake_proto::function::FunctionSpec;
use framewake_proto::pool::PoolSpec;
use framewake_tests::chart::{Case, PRESETS, Rendered, check, name, render};
use framewake_tests::parts::root;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PAGES: [&str; 2] = ["docs/kubernetes.md", "charts/framewake/README.md"];

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Texts of the fenced blocks in this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
}

/// The reader's own values, as the page writes them piece by piece.
fn farm_yaml() -> Value {
    let pieces = blocks(&page(PAGES[0]), "yaml").into_iter().filter(|block| block.starts_with("# farm.yaml"));
    let mut values = json!({});
    for piece in pieces {
        let piece: Value = serde_saphyr::from_str(&piece).unwrap_or_else(|error| panic!("{error}:\n{piece}"));
        lay(&mut values, piece);
    }
    assert!(values["store"]["url"].is_string() && values["pools"].is_object(), "{values}");
    values
}

/// Values over values, as Helm does it.
fn lay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// `a.b=1` as values.
fn set(word: &str) -> Value {
    let (path, text) = word.split_once('=').expect("--set takes NAME=VALUE");
    let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    path.rsplit('.').fold(value, |value, key| json!({ key: value }))
}

/// The `helm install` and `helm upgrade` commands of a page.
fn commands(path: &str) -> Vec<(String, Case)> {
    let mut found = Vec::new();
    for block in blocks(&page(path), "sh") {
        let joined = block.replace("\\\n", " ");
        for line in joined.lines().filter(|line| line.starts_with("helm upgrade") || line.starts_with("helm install")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.contains(&"farm") && words.contains(&"charts/framewake"), "{line}");
            let (mut preset, mut values) = (None, json!({}));
            for pair in words.windows(2) {
                match pair {
                    ["--namespace", namespace] => assert_eq!(*namespace, "render", "{line}"),
                    ["--values", "farm.yaml"] => lay(&mut values, farm_yaml()),
                    ["--values", file] => {
                        let known =
                            PRESETS.into_iter().find(|name| *file == format!("charts/framewake/presets/{name}.yaml"));
                        preset = Some(known.unwrap_or_else(|| panic!("{line}: there is no {file}")));
                    }
                    ["--set", word] => lay(&mut values, set(word)),
                    ["--set-json", word] => lay(&mut values, set(word.trim_matches('\''))),
                    _ => {}
                }
            }
            if words.contains(&"--reuse-values") {
                let mut before = farm_yaml();
                lay(&mut before, values);
                values = before;
            }
            // With nothing that the reader does not type.
            found.push((line.to_owned(), Case { name: "documented", preset, values }));
        }
    }
    found
}

fn all(render: impl Fn(&[Case]) -> Vec<Rendered>) -> Vec<(String, Rendered)> {
    let (lines, cases): (Vec<String>, Vec<Case>) = PAGES.into_iter().flat_map(commands).unzip();
    assert!(lines.len() > 6, "only {} commands", lines.len());
    lines.into_iter().zip(render(&cases)).collect()
}

#[test]
fn every_documented_command_installs_what_kubernetes_and_the_scheduler_take() {
    for (line, rendered) in all(check) {
        assert!(
            rendered.faults.is_empty() && rendered.lint.is_empty(),
            "{line}: {:?} {:?}",
            rendered.faults,
            rendered.lint
        );
        for (file, text) in rendered.pool_files() {
            let pool: PoolSpec =
                framewake_proto::yaml::read(&text).unwrap_or_else(|error| panic!("{line}: {file}: {error}"));
            assert!(pool.faults().is_empty(), "{line}: {file}: {:?}", pool.faults());
        }
        let functions = rendered.one("ConfigMap", "-functions")["data"].as_object().cloned().unwrap_or_default();
        for text in functions.values().filter_map(Value::as_str) {
            let function: FunctionSpec =
                framewake_proto::yaml::read(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(function.faults().is_empty(), "{:?}", function.faults());
        }
    }
}

#[test]
fn objects_that_the_documents_name_are_made() {
    let made: BTreeSet<String> = all(render)
        .iter()
        .flat_map(|(_, rendered)| rendered.objects.iter().map(|object| name(object).to_owned()))
        .collect();
    let text = page(PAGES[0]);
    let apart = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let named: BTreeSet<&str> = text.split(apart).filter(|word| word.starts_with("farm-framewake")).collect();
    assert!(named.len() >= 3, "{named:?}");
    for name in named {
        assert!(made.contains(name), "docs/kubernetes.md names `{name}`, which no command makes: {made:?}");
    }
}

#[test]
fn machines_that_the_documents_make_have_what_the_presets_look_for() {
    let text = page(PAGES[0]);
    let section = |heading: &str| {
        let from = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
        from.split("\n## ").next().unwrap_or_default().to_owned()
    };
    for (heading, words) in [
        ("Google (GKE)", &["type=nvidia-l4", "--node-taints cloud.google.com/gke-spot=true:NoSchedule", "--spot"][..]),
        ("Azure (AKS)", &["--node-taints sku=gpu:NoSchedule", "--priority Spot"]),
        (
            "Amazon (EKS) with Karpenter",
            &[
                "karpenter.sh/capacity-type",
                "karpenter.k8s.aws/instance-gpu-name",
                "values: [l4, l40s]",
                "key: nvidia.com/gpu, effect: NoSchedule",
            ],
        ),
        ("Any other cluster", &["nvidia.com/gpu.present=true"]),
    ] {
        for word in words {
            assert!(section(heading).contains(word), "{heading}: no `{word}`");
        }
    }
    // What is not ours is YAML at least.
    for block in blocks(&section("Amazon (EKS) with Karpenter"), "yaml") {
        for document in block.split("\n---\n") {
            let document: Value =
                serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}:\n{document}"));
            assert!(document["kind"].is_string() && document["spec"].is_object(), "{document}");
        }
    }
}
