//! What operators look at: a real Prometheus scrapes a real farm, every panel has something to show, every alert is tested,
//! and names are the same in code, dashboards, rules and documents.

use framewake_tests::farm::{SOON, TestFarm};
use framewake_tests::monitoring::work::{ON_GPU, Watched};
use framewake_tests::monitoring::{DASHBOARDS, dashboard, filled, panels, rules};
use framewake_tests::nvml::{StubNvml, gpu};
use framewake_tests::parts::{root, tool};
use framewake_tests::wait::until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Of panels that look at the newest moments.
const RATE_INTERVAL: &str = "10s";
/// How long the farm works.
const WORK: Duration = Duration::from_secs(8);
/// How often it does, at most, until each panel has something to show.
const ROUNDS_MAX: u32 = 4;

#[tokio::test]
async fn every_panel_of_every_dashboard_has_data_of_a_farm_at_work() {
    let watched = Watched::start().await;
    // Rates are of what changed between two scrapes, so the farm works on until each has been seen to.
    let (mut frames, mut rounds, mut empty) = (0, 0, Vec::new());
    while rounds == 0 || (!empty.is_empty() && rounds < ROUNDS_MAX) {
        frames += watched.work(WORK).await;
        rounds += 1;
        empty = without_data(&watched).await;
    }
    assert!(empty.is_empty(), "after {rounds} rounds of work:\n{}", empty.join("\n"));
    let text = reqwest::get(format!("{}/metrics", watched.farm.url())).await.expect("answered");
    let text = text.text().await.expect("text");
    well_formed(&text);
    let counted =
        |series: &str, count: u32| assert!(text.contains(&format!("{series} {count}\n")), "{series}:\n{text}");
    counted("framewake_tasks_total{function=\"tachyon\",verdict=\"done\"}", frames);
    counted("framewake_cpu_fallbacks_total{function=\"glow\"}", rounds);
    let groups = watched.prometheus.get("rules", &[]).await.expect("it has rules");
    let rules = groups["groups"].as_array().into_iter().flatten().flat_map(|group| {
        group["rules"].as_array().into_iter().flatten().map(|rule| (rule["name"].clone(), rule["health"].clone()))
    });
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 30 && rules.iter().all(|(_, health)| health == "ok"), "{rules:?}");
}

/// Panels that show nothing of what the farm did so far.
async fn without_data(watched: &Watched) -> Vec<String> {
    let (mut asked, mut empty) = (0, Vec::new());
    for name in DASHBOARDS {
        for (title, targets) in panels(&dashboard(name)) {
            for (expression, _) in &targets {
                asked += 1;
                match watched.prometheus.range(&filled(expression, RATE_INTERVAL), watched.span(), 1.0).await {
                    Ok(series) if !series.is_empty() => {}
                    Ok(_) => empty.push(format!("{name}, {title}: nothing for {expression}")),
                    Err(error) => empty.push(format!("{name}, {title}: {error}: {expression}")),
                }
            }
        }
    }
    assert!(asked > 70, "only {asked} expressions were asked");
    empty
}

fn well_formed(text: &str) {
    let mut command = Command::new(tool("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool starts");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool check metrics: {said}");
}

#[tokio::test]
async fn a_worker_answers_on_its_own_port_logs_json_and_names_its_job_to_dcgm_exporter() {
    let functions = tempfile::tempdir().expect("room for a folder");
    std::fs::write(functions.path().join("glow.yaml"), ON_GPU).expect("writable");
    let mut farm = TestFarm::start_with(1, false, functions.path()).await;
    let (stub, jobs) = (StubNvml::build(farm.folder()), farm.folder().join("dcgm"));
    stub.says(&gpu(3, "GPU-cc", 24, &[("busy", 80)]));
    std::fs::create_dir(&jobs).expect("writable");
    let folder = jobs.display().to_string();
    let mut environment = stub.environment().to_vec();
    environment.push(("FRAMEWAKE_DCGM_JOB_MAPPING", folder));
    environment.push(("FRAMEWAKE_METRICS", "127.0.0.1:0".to_owned()));
    environment.push(("FRAMEWAKE_METRICS_ALIASES", "dcgm,openfaas".to_owned()));
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // The flag reaches the workers too.
    farm.arguments = vec!["--log-format".to_owned(), "json".to_owned()];
    farm.restart_scheduler_with(&environment).await;
    let job = |seconds: f64| {
        json!({ "name": "glow", "steps": [{
            "name": "render", "function": "glow", "frames": "1", "allow_cpu": true,
            "parameters": { "seconds": seconds }, "retries": { "attempts": 1 },
        }] })
    };
    let id = farm.submit(&job(2.0)).await;
    let file = jobs.join("3");
    let named = until(SOON, "the GPU has a job", || async { std::fs::read_to_string(&file).ok() }).await;
    assert_eq!(named.trim(), id.to_string());
    let log = until(SOON, "the worker has a log", || async { worker_log(&farm) }).await;
    let said =
        log.lines().find_map(|line| line.split("http://").nth(1)?.split([' ', '/', '"']).next().map(str::to_owned));
    let address = said.unwrap_or_else(|| panic!("no address in {log}"));
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(get("/_/health").await.0, 200);
    assert_eq!(get("/_/ready").await, (200, "ready\n".to_owned()));
    let (_, page) = get("/metrics").await;
    assert!(
        page.contains("framewake_worker_working 1\n") && page.contains("framewake_worker_heartbeat_age_seconds 0.")
    );
    well_formed(&page);
    let page = reqwest::get(format!("{}/metrics", farm.url())).await.expect("answered").text().await.expect("text");
    for alias in [
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"3\",UUID=\"GPU-cc\",device=\"nvidia3\",modelName=\"NVIDIA Test 24\",Hostname=",
        "gateway_service_count{function_name=\"glow.openfaas-fn\"} 1\n",
        "gateway_function_invocation_started{function_name=\"glow.openfaas-fn\"} 1\n",
    ] {
        assert!(page.contains(alias), "{alias} in {page}");
    }
    farm.over(id).await;
    until(SOON, "the GPU has no job", || async { (!file.exists()).then_some(()) }).await;
    let failed = farm.submit(&job(-1.0)).await;
    farm.over(failed).await;
    let (_, page) = get("/metrics").await;
    let counts = ["tasks_total{result=\"done\"} 1\n", "tasks_total{result=\"failed\"} 1\n", "attempts_total 2\n"];
    assert!(counts.iter().all(|count| page.contains(&format!("framewake_worker_{count}"))), "{page}");
    let log = worker_log(&farm).expect("it lingers");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let failure = lines.iter().find(|line| line["fields"]["verdict"].is_string()).expect("it says what failed");
    assert_eq!(failure["span"]["job.id"], failed.to_string(), "{failure}");
    assert!(failure["span"]["chunk.id"].is_u64() && failure["span"]["attempt"].is_u64(), "{failure}");
    let log = farm.scheduler_log();
    let over = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert_eq!(over.filter(|line| line["fields"]["job.id"] == failed.to_string()).count(), 1, "{log}");
}

fn worker_log(farm: &TestFarm) -> Option<String> {
    let workers = std::fs::read_dir(farm.data().join("workers")).ok()?;
    workers.flatten().find_map(|worker| std::fs::read_to_string(worker.path().join("log")).ok())
}

#[test]
fn every_alert_fires_where_it_should_and_nowhere_else() {
    let tests = rules().with_file_name("tests.yaml");
    for arguments in [["check", "rules"], ["test", "rules"]] {
        let file = if arguments[0] == "check" { rules() } else { tests.clone() };
        let output = Command::new(tool("promtool")).args(arguments).arg(&file).output().expect("promtool runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    }
    let (tests, page) = (read(&tests), read(&root().join("docs/monitoring.md")));
    let text = read(&rules());
    let alerts: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in &alerts {
        let named = |name: &str| tests.contains(&format!("- name: {name}\n"));
        let both = named(&format!("{alert} fires")) && named(&format!("{alert} is quiet"));
        let one = tests.split("- name: ").find(|test| test.starts_with(&format!("{alert}\n")));
        let together = one.is_some_and(|test| test.contains("=\"fires\"}', value: 1}") && test.contains("\"quiet\""));
        assert!(both || together, "{alert} has no test in which it fires and none in which it is quiet");
        assert!(page.contains(&format!("| `{alert}` |")), "docs/monitoring.md does not say what to do about {alert}");
    }
    for named in page.split("| `Framewake").skip(1).filter_map(|rest| rest.split('`').next()) {
        assert!(alerts.contains(&format!("Framewake{named}").as_str()), "there is no alert Framewake{named}");
    }
}

#[test]
fn names_are_the_same_in_code_dashboards_rules_and_documents() {
    let code = names_in_code();
    assert!(code.len() > 50, "{code:?}");
    let page = read(&root().join("docs/monitoring.md"));
    let documented = words(&page, "framewake_");
    let mut shown = words(&read(&rules()), "framewake_");
    for name in DASHBOARDS {
        for (expression, _) in panels(&dashboard(name)).into_iter().flat_map(|(_, targets)| targets) {
            shown.extend(words(&expression, "framewake_"));
        }
    }
    let plain = |names: BTreeSet<String>| -> BTreeSet<String> {
        let ends = ["_bucket", "_sum", "_count"];
        let plain = |name: &String| {
            let stem = ends.iter().find_map(|end| name.strip_suffix(end)).filter(|stem| code.contains(*stem));
            stem.unwrap_or(name).to_owned()
        };
        names.iter().map(plain).collect()
    };
    let (shown, documented) = (plain(shown), plain(documented));
    let missing =
        |of: &BTreeSet<String>, from: &BTreeSet<String>| -> Vec<String> { of.difference(from).cloned().collect() };
    // The workers' own ports are for who looks into one worker: no panel can know them all.
    let of_farm: BTreeSet<String> =
        code.iter().filter(|name| !name.starts_with("framewake_worker_")).cloned().collect();
    for (what, names) in [
        ("metrics that no panel and no rule uses: show them, or remove them", missing(&of_farm, &shown)),
        ("names in dashboards and rules that no code has", missing(&shown, &code)),
        ("metrics that docs/monitoring.md does not explain", missing(&code, &documented)),
        ("names in docs/monitoring.md that no code has", missing(&documented, &code)),
    ] {
        assert!(names.is_empty(), "{what}:\n  {}", names.join("\n  "));
    }
}

#[test]
fn dashboards_can_be_imported_as_they_are() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert!(dashboard["schemaVersion"].is_u64() && dashboard["title"].is_string(), "{name}");
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}: its uid is another's");
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        assert_eq!(variables[0]["type"], "datasource", "{name}");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{name}, {title}: its id is another's");
            let place =
                |side: &str| panel["gridPos"][side].as_u64().unwrap_or_else(|| panic!("{name}, {title}: {side}"));
            let (x, y, width, height) = (place("x"), place("y"), place("w"), place("h"));
            assert!(x + width <= 24, "{name}, {title}: wider than the page");
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}, {title}: lies over another panel");
            }
            let asks = panel["targets"].is_array();
            assert!(!asks || panel["datasource"]["uid"] == "${datasource}", "{name}, {title}: another's data source");
        }
    }
}

/// Literals of names, where metrics are made.
fn names_in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("scheduler/src/metrics"), root().join("worker/src/port")];
    let files = ["scheduler/src/metrics.rs", "worker/src/port.rs", "worker/src/figures.rs"];
    let mut files: Vec<PathBuf> = files.map(|file| root().join(file)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    for file in files.iter().filter(|file| file.is_file() && !file.ends_with("tests.rs")) {
        let text = read(file);
        // What tests say is made up of what the code says.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for literal in text.split('"').skip(1).step_by(2) {
            let is_name = literal.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if literal.starts_with("framewake_") && is_name {
                names.insert(literal.to_owned());
            }
        }
    }
    names
}

/// Words that begin so.
fn words(text: &str, begin: &str) -> BTreeSet<String> {
    let apart = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    text.split(apart).filter(|word| word.starts_with(begin)).map(str::to_owned).collect()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
