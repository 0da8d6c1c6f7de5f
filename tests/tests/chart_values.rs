//! The values of the Helm chart: each is explained, bounded by the schema, and refused with words that lead to it.

use framewake_proto::pool::PoolSpec;
use framewake_tests::chart::{Case, PRESETS, folder, refusals};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Set, the README of the chart is written anew.
const WRITE: &str = "FRAMEWAKE_WRITE_COPIES";

#[test]
fn bad_values_are_refused_in_words_that_name_them() {
    let bad: &[(&str, Value, &[&str])] = &[
        ("text for a number", json!({ "service": { "port": "two" } }), &["/service/port", "got string, want integer"]),
        ("a typing error", json!({ "servce": {} }), &["'servce' not allowed"]),
        ("a negative number", json!({ "pools": { "gpu": { "max": -1 } } }), &["/pools/gpu/max", "got -1, want 1"]),
        ("nothing", json!({ "pools": { "gpu": { "max": 0 } } }), &["/pools/gpu/max", "got 0, want 1"]),
        ("absurd", json!({ "pools": { "gpu": { "max": 100_000 } } }), &["/pools/gpu/max", "want 10,000"]),
        (
            "a field of no pool",
            json!({ "pools": { "gpu": { "maximum": 3 } } }),
            &["/pools/gpu", "'maximum' not allowed"],
        ),
        (
            "the spelling of others",
            json!({ "pools": { "gpu": { "provider": { "nodeSelector": {} } } } }),
            &["/pools/gpu/provider", "'nodeSelector' not allowed"],
        ),
        ("a name that no pool has", json!({ "pools": { "My Pool": { "max": 1 } } }), &["propertyName 'My Pool'"]),
        (
            "9 GPUs are fine, 17 are not",
            json!({ "pools": { "gpu": { "gpu": { "count": 17 } } } }),
            &["/gpu/count", "want 16"],
        ),
        (
            "a size without a unit that is known",
            json!({ "pools": { "gpu": { "gpu": { "memory": "16 GB" } } } }),
            &["memory", "16 GB"],
        ),
        ("a market of one's own", json!({ "pools": { "gpu": { "market": "preemptible" } } }), &["/market", "'spot'"]),
        ("root", json!({ "runAs": 0 }), &["/runAs", "got 0, want 1"]),
        ("a folder as store", json!({ "store": { "url": "file:///data" } }), &["/store/url", "file:///data"]),
        ("a password in the open", json!({ "nats": { "url": "nats://a:b@c:4222" } }), &["/nats/url"]),
        (
            "a function without an image",
            json!({ "functions": { "f": { "driver": {} } } }),
            &["/functions/f", "'image'"],
        ),
        ("no store", json!({ "store": { "url": "" } }), &["store.url must be set"]),
        ("a database that nothing keeps", json!({ "persistence": { "enabled": false } }), &["every job would be lost"]),
        ("a copy to nowhere", json!({ "replication": { "enabled": true } }), &["replication.url must be set"]),
        ("no NATS", json!({ "nats": { "enabled": false } }), &["nats.url or nats.existingSecret must be set"]),
        (
            "workers without a way in",
            json!({ "nats": { "keysSecret": "keys" } }),
            &["nats.existingSecret must be set", "FRAMEWAKE_JOIN_TOKEN"],
        ),
        (
            "a NATS for everybody that nobody asked for",
            json!({ "nats": { "open": false } }),
            &["nats.keysSecret must be set", "docs/kubernetes.md", "nats.open=true"],
        ),
        (
            "the same with a password, which every worker has",
            json!({ "nats": { "open": false, "existingSecret": "nats" } }),
            &["nats.keysSecret must be set"],
        ),
        (
            "a server elsewhere that everybody may do everything on",
            json!({ "nats": { "enabled": false, "open": false, "url": "nats://nats.messaging:4222" } }),
            &["nats.keysSecret must be set"],
        ),
        (
            "keys, and open",
            json!({ "nats": { "open": true, "keysSecret": "keys", "existingSecret": "join" } }),
            &["nats.keysSecret and nats.open are both set"],
        ),
        ("an ingress for every name", json!({ "ingress": { "enabled": true } }), &["ingress.host must be set"]),
        ("images for nobody", json!({ "preload": { "pools": ["cpus"] } }), &["there is no pool \"cpus\""]),
        ("two on one volume", json!({ "scheduler": { "replicas": 2 } }), &["both must mount the same volume"]),
        ("three", json!({ "scheduler": { "replicas": 3 } }), &["/scheduler/replicas", "want 2"]),
        (
            "two that copy",
            json!({
                "scheduler": { "replicas": 2 }, "persistence": { "accessMode": "ReadWriteMany" },
                "replication": { "enabled": true, "url": "s3://a/b" },
            }),
            &["two would write the same copy"],
        ),
        (
            "OpenFaaS for everybody",
            json!({ "openfaas": { "enabled": true } }),
            &["openfaas.existingSecret must be set"],
        ),
        (
            "a Prometheus that shows no token where one is asked for",
            json!({ "monitoring": { "serviceMonitor": { "enabled": true } } }),
            &["monitoring.serviceMonitor.tokenSecret must be set", "docs/kubernetes.md"],
        ),
        ("mail from nobody", json!({ "smtp": { "existingSecret": "mail" } }), &["smtp.from must be set"]),
        (
            "an option twice",
            json!({ "scheduler": { "environment": { "FRAMEWAKE_STORE": "s3://other" } } }),
            &["scheduler.environment.FRAMEWAKE_STORE", "the chart sets it itself"],
        ),
    ];
    let cases: Vec<Case> = bad.iter().map(|(name, values, _)| Case::new(name, Some("bare"), values.clone())).collect();
    for ((name, values, words), said) in bad.iter().zip(refusals(&cases)) {
        for word in *words {
            assert!(said.contains(word), "{name}: no `{word}` in what is said to {values}: {said:?}");
        }
    }
}

#[test]
fn a_pool_of_a_preset_can_be_changed_and_taken_away() {
    let values = json!({ "pools": { "l4-spot": null, "l4": { "max": 40 } } });
    let rendered = framewake_tests::chart::render(&[Case::new("changed", Some("gke"), values)]).remove(0);
    let files = rendered.pool_files();
    let names: Vec<&str> = files.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(names, ["cpu.yaml", "l4.yaml"]);
    assert!(files[1].1.contains("max: 40\n") && files[1].1.contains("gke-accelerator"), "{}", files[1].1);
}

/// A key of values.yaml that a user may set.
struct Row {
    path: String,
    default: String,
    says: String,
}

/// The keys of values.yaml with the comments above them. A key is a value if nothing below it is explained.
fn rows(text: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut above: Vec<&str> = Vec::new();
    // Keys whose blocks are open, each with its column.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut inside: Option<usize> = None;
    for line in text.lines() {
        let column = line.len() - line.trim_start().len();
        let content = line.trim_start();
        if content.is_empty() {
            above.clear();
            continue;
        }
        if let Some(words) = content.strip_prefix('#') {
            above.push(words.trim_start());
            inside = None;
            continue;
        }
        let (key, value) = content.split_once(':').expect("values.yaml has keys only");
        open.retain(|(at, _)| *at < column);
        if above.is_empty() {
            // A part of the default above.
            let at = inside.unwrap_or_else(|| panic!("`{line}` of values.yaml is not explained"));
            let row = &mut rows[at];
            if !row.default.is_empty() {
                row.default.push_str(", ");
            }
            write!(row.default, "{key}: {}", value.trim()).expect("text grows");
            continue;
        }
        open.push((column, key.to_owned()));
        let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
        rows.push(Row { path: path.join("."), default: value.trim().to_owned(), says: above.join(" ") });
        inside = value.trim().is_empty().then_some(rows.len() - 1);
        above.clear();
    }
    rows
}

fn readme(text: &str) -> String {
    let mut page = "# framewake\n\n\
        The scheduler, NATS, and pools of workers that are Jobs: 0 to as many as a pool may have, and 0 again. How to install it on \
        each platform: [docs/kubernetes.md](../../docs/kubernetes.md). What is started where and why:\n\
        [docs/platforms.md](../../docs/platforms.md).\n\n\
        ```sh\n\
        helm install farm charts/framewake --namespace render --create-namespace \\\n  \
        --values charts/framewake/presets/bare.yaml --set store.url=s3://frames/farm --set image.repository=registry.example/framewake/scheduler \\\n  \
        --set nats.keysSecret=nats-keys --set nats.existingSecret=nats\n\
        ```\n\n\
        Presets: "
        .to_owned();
    let presets: Vec<String> = PRESETS.iter().map(|preset| format!("[{preset}](presets/{preset}.yaml)")).collect();
    writeln!(page, "{}.\n\n## Values\n", presets.join(", ")).expect("text grows");
    page.push_str(
        "<!-- Made of values.yaml: FRAMEWAKE_WRITE_COPIES=1 cargo nextest run -p framewake-tests chart_values -->\n\n",
    );
    page.push_str("| Value | Default | |\n|---|---|---|\n");
    for Row { path, default, says } in rows(text) {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        writeln!(page, "| `{path}` | {default} | {says} |").expect("text grows");
    }
    page
}

#[test]
fn the_readme_says_what_values_there_are() {
    let text = std::fs::read_to_string(folder().join("values.yaml")).expect("it is there");
    let (file, made) = (folder().join("README.md"), readme(&text));
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &made).expect("writable");
    }
    let held = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(held == made, "charts/framewake/README.md is not what values.yaml says: run this test with {WRITE}=1");
    assert!(rows(&text).len() > 80, "{} rows", rows(&text).len());
}

#[test]
fn the_schema_bounds_every_value() {
    let text = std::fs::read_to_string(folder().join("values.yaml")).expect("it is there");
    let schema = std::fs::read_to_string(folder().join("values.schema.json")).expect("it is there");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut known = BTreeSet::new();
    leaves(&schema, String::new(), &mut known);
    // Helm gives it to every chart.
    known.remove("global");
    let explained: BTreeSet<String> = rows(&text).into_iter().map(|row| row.path).collect();
    let unbound: Vec<&String> = explained.difference(&known).filter(|path| !prefix(path, &known)).collect();
    assert!(unbound.is_empty(), "not in values.schema.json: {unbound:?}");
    let unsaid: Vec<&String> = known.difference(&explained).filter(|path| !path.starts_with("pools.")).collect();
    let unsaid: Vec<&&String> = unsaid.iter().filter(|path| !of_a_default(path, &explained)).collect();
    assert!(unsaid.is_empty(), "not in values.yaml: {unsaid:?}");
}

#[test]
fn the_schema_knows_the_fields_of_a_pool_and_no_others() {
    let schema = std::fs::read_to_string(folder().join("values.schema.json")).expect("it is there");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let pool = &schema["properties"]["pools"]["additionalProperties"]["properties"];
    let known = |properties: &Value| -> BTreeSet<String> {
        properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    // What the scheduler itself says of a field that there is not.
    let fields = |text: &str| -> BTreeSet<String> {
        let error = framewake_proto::yaml::read::<PoolSpec>(text).expect_err("there is no such field").to_string();
        let (_, names) = error.split_once("expected one of ").unwrap_or_else(|| panic!("{error}"));
        let line = names.lines().next().unwrap_or_default();
        line.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect()
    };
    let mut of_pool = fields("{ name: a, max: 1, nothing: 1, provider: { kind: kubernetes } }");
    assert!(of_pool.remove("name"), "the key is the name");
    assert_eq!(known(pool), of_pool);
    let mut of_provider = fields("{ name: a, max: 1, provider: { kind: kubernetes, nothing: 1 } }");
    of_provider.insert("kind".to_owned());
    assert_eq!(known(&pool["provider"]["properties"]), of_provider);
    assert_eq!(
        known(&pool["gpu"]["properties"]),
        fields("{ name: a, max: 1, gpu: { model: a, memory: 1GiB, nothing: 1 }, provider: { kind: local } }")
    );
}

/// Whether it is a section of what is known.
fn prefix(path: &str, known: &BTreeSet<String>) -> bool {
    known.iter().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether it is part of a value that is explained as a whole, as requests are of `resources`.
fn of_a_default(path: &str, explained: &BTreeSet<String>) -> bool {
    path.rsplit_once('.').is_some_and(|(above, _)| explained.contains(above) && above.ends_with("resources"))
}

/// Paths of the schema that have no properties of their own; each object on the way must refuse what it does not know.
fn leaves(schema: &Value, path: String, found: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        found.insert(path);
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "`{path}` takes what it does not know");
    for (name, below) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        leaves(below, path, found);
    }
}
