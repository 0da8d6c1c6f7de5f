//! A real Prometheus that looks at a real farm, and the dashboards as Grafana would ask them.

pub mod plot;
pub mod work;

use crate::parts::{Running, free_port, root, tool};
use crate::wait::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const DASHBOARDS: [&str; 4] = ["farm", "job", "gpu", "cost"];

/// Labels that every series of the farm has alike.
const OF_ALL: [&str; 3] = ["__name__", "instance", "job"];

pub fn rules() -> PathBuf {
    root().join("charts/framewake/rules/framewake.yaml")
}

/// Scrapes each second, with the rules of the chart.
#[derive(Debug)]
pub struct Prometheus {
    running: Running,
    url: String,
}

impl Prometheus {
    pub async fn start(folder: &Path, target: &str) -> Prometheus {
        let config = folder.join("prometheus.yaml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: framewake, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            rules().display()
        );
        std::fs::write(&config, text).expect("the test's folder is writable");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(tool("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        command.arg("--enable-feature=exemplar-storage");
        let running = Running::start("prometheus", &mut command, &folder.join("prometheus.log"));
        let mut prometheus = Prometheus { running, url: format!("http://{address}") };
        let ready = format!("{}/-/ready", prometheus.url);
        until(Duration::from_secs(30), "Prometheus is ready", || {
            prometheus.running.assert_alive();
            async { reqwest::get(&ready).await.ok().filter(|answer| answer.status().is_success()) }
        })
        .await;
        prometheus
    }

    /// What it answers under `/api/v1/`.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url)).expect("a good address");
        url.query_pairs_mut().extend_pairs(query);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        let body: Value = answer.json().await.map_err(|error| error.to_string())?;
        if body["status"] == "success" { Ok(body["data"].clone()) } else { Err(body["error"].to_string()) }
    }

    /// The values of an expression over a time, one a step, those that are numbers.
    pub async fn range(&self, expression: &str, span: Span, step_s: f64) -> Result<Vec<Series>, String> {
        let (begin, end, step) = (span.begin_s.to_string(), span.end_s.to_string(), step_s.to_string());
        let query = [("query", expression), ("start", &begin), ("end", &end), ("step", &step)];
        let data = self.get("query_range", &query).await?;
        let series = data["result"].as_array().into_iter().flatten().map(Series::read);
        Ok(series.filter(|series| !series.points.is_empty()).collect())
    }
}

/// A time, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub begin_s: f64,
    pub end_s: f64,
}

#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    fn read(result: &Value) -> Series {
        let labels = result["metric"].as_object().into_iter().flatten();
        let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let points = result["values"].as_array().into_iter().flatten().filter_map(|point| {
            let value: f64 = point[1].as_str()?.parse().ok()?;
            Some((point[0].as_f64()?, value)).filter(|_| value.is_finite())
        });
        Series { labels: labels.collect(), points: points.collect() }
    }

    /// `p95 {{function}}` filled in.
    pub fn legend(&self, format: &str) -> String {
        let mut text = String::new();
        let mut parts = format.split("{{");
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (label, rest) = part.split_once("}}").unwrap_or((part, ""));
            text.push_str(self.labels.get(label.trim()).map_or("", String::as_str));
            text.push_str(rest);
        }
        if text.is_empty() && format.is_empty() {
            for (name, value) in self.labels.iter().filter(|(name, _)| !OF_ALL.contains(&name.as_str())) {
                let _ = write!(text, "{name} {value} ");
            }
        }
        text
    }
}

/// A dashboard of the chart.
pub fn dashboard(name: &str) -> Value {
    let file = root().join(format!("charts/framewake/dashboards/{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Its panels that ask Prometheus something, each with its expressions and their legends.
pub fn panels(dashboard: &Value) -> Vec<(String, Vec<(String, String)>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let panels = panels.map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        (text(&panel["title"]), targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"]))).collect())
    });
    panels.filter(|(_, targets): &(String, Vec<_>)| !targets.is_empty()).collect()
}

/// An expression with its variables as Grafana fills them in when everything is chosen.
pub fn filled(expression: &str, rate_interval: &str) -> String {
    let mut text = expression.replace("$__rate_interval", rate_interval);
    for variable in ["$function", "$gpu", "$host", "$pool"] {
        text = text.replace(variable, ".*");
    }
    text
}
