//! Reads what scanners print: the JSON of Trivy, or SARIF, which most others can write (`grype -o sarif`).

use framewake_proto::scan::{Finding, Severity};
use serde::Deserialize;
use serde_json::Value;

/// Longest text that is kept of each part of a finding.
const TEXT_MAX: usize = 200;

/// Why it is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("what it printed is no JSON")]
    NoJson(#[source] serde_json::Error),
    #[error("what it printed is neither a JSON report of Trivy (SchemaVersion 2) nor SARIF 2.1")]
    Neither,
    #[error("what it printed begins as {what} and goes on otherwise")]
    Strange {
        what: &'static str,
        #[source]
        error: serde_json::Error,
    },
    #[error("it looked at nothing: its report has no results")]
    Nothing,
    #[error("it calls something `{0}`, which is no severity")]
    Severity(String),
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Finding>, Error> {
    let value: Value = serde_json::from_slice(bytes).map_err(Error::NoJson)?;
    if value["SchemaVersion"] == 2 {
        let report = serde_json::from_value(value).map_err(|error| Error::Strange { what: "Trivy's JSON", error })?;
        return of_trivy(report);
    }
    if value["version"].as_str().is_some_and(|version| version.starts_with("2.1.")) && value["runs"].is_array() {
        let report = serde_json::from_value(value).map_err(|error| Error::Strange { what: "SARIF", error })?;
        return of_sarif(report);
    }
    Err(Error::Neither)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trivy {
    #[serde(default)]
    results: Vec<TrivyResult>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    target: String,
    #[serde(default)]
    vulnerabilities: Vec<TrivyFinding>,
    #[serde(default)]
    misconfigurations: Vec<TrivyFinding>,
    #[serde(default)]
    secrets: Vec<TrivyFinding>,
    #[serde(default)]
    licenses: Vec<TrivyFinding>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyFinding {
    #[serde(alias = "VulnerabilityID", alias = "RuleID", alias = "ID", alias = "Name", default)]
    id: String,
    #[serde(default)]
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    severity: String,
    #[serde(default)]
    title: String,
    /// `PASS` of a rule that was kept.
    #[serde(default)]
    status: String,
}

fn of_trivy(report: Trivy) -> Result<Vec<Finding>, Error> {
    // It leaves the results out of a report about what it could make nothing of.
    if report.results.is_empty() {
        return Err(Error::Nothing);
    }
    let mut findings = Vec::new();
    for result in report.results {
        let TrivyResult { target, vulnerabilities, misconfigurations, secrets, licenses } = result;
        for found in vulnerabilities.into_iter().chain(misconfigurations).chain(secrets).chain(licenses) {
            let TrivyFinding { id, pkg_name, installed_version, severity, title, status } = found;
            if status == "PASS" {
                continue;
            }
            let place = if pkg_name.is_empty() { target.clone() } else { format!("{pkg_name} {installed_version}") };
            findings.push(finding(word(&severity)?, &id, &place, &title));
        }
    }
    Ok(findings)
}

fn word(text: &str) -> Result<Severity, Error> {
    let known = Severity::ALL.into_iter().find(|severity| severity.as_str().eq_ignore_ascii_case(text));
    known.ok_or_else(|| Error::Severity(text.chars().take(64).collect()))
}

#[derive(Debug, Deserialize)]
struct Sarif {
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    /// Absent where the tool could not look, as the standard has it.
    results: Option<Vec<SarifResult>>,
    #[serde(default)]
    invocations: Vec<Invocation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
}

#[derive(Debug, Deserialize)]
struct Tool {
    driver: Component,
    #[serde(default)]
    extensions: Vec<Component>,
}

/// The tool itself, or what it was extended by.
#[derive(Debug, Default, Deserialize)]
struct Component {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    #[serde(default)]
    properties: Value,
    #[serde(default)]
    default_configuration: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    #[serde(default)]
    rule_id: Option<String>,
    /// -1: it is not said.
    #[serde(default)]
    rule_index: Option<i64>,
    #[serde(default)]
    rule: Value,
    #[serde(default)]
    level: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    message: Message,
    #[serde(default)]
    locations: Vec<Value>,
    #[serde(default)]
    properties: Value,
    #[serde(default)]
    suppressions: Option<Vec<Suppression>>,
}

#[derive(Debug, Deserialize)]
struct Suppression {
    /// Absent: it is accepted. It may also be under review, or rejected.
    #[serde(default)]
    status: Option<String>,
}

impl SarifResult {
    /// Whoever runs the scanner has accepted it, or it tells of a rule that is kept.
    fn counts(&self) -> bool {
        let kept = matches!(self.kind.as_deref(), Some("pass" | "notApplicable"));
        let suppressions = self.suppressions.as_deref().unwrap_or_default();
        let accepted = |one: &Suppression| one.status.as_deref().is_none_or(|status| status == "accepted");
        !kept && (suppressions.is_empty() || !suppressions.iter().all(accepted))
    }

    /// Its rule, however it names it: by its place in the tool, or in what the tool was extended by, or by id.
    fn rule<'a>(&self, tool: &'a Tool) -> Option<&'a Rule> {
        let place = |at: Option<i64>| at.and_then(|at| usize::try_from(at).ok());
        let component = match place(self.rule["toolComponent"]["index"].as_i64()) {
            Some(at) => tool.extensions.get(at)?,
            None => &tool.driver,
        };
        let by_place = place(self.rule_index).or_else(|| place(self.rule["index"].as_i64()));
        by_place.and_then(|at| component.rules.get(at)).or_else(|| {
            let id = self.rule_id.as_deref().or_else(|| self.rule["id"].as_str())?;
            let mut rules = component.rules.iter().chain(tool.extensions.iter().flat_map(|one| &one.rules));
            rules.find(|rule| rule.id == id)
        })
    }

    fn severity(&self, rule: Option<&Rule>) -> Result<Severity, Error> {
        let by_rule = rule.and_then(|rule| score(&rule.properties));
        if let Some(score) = score(&self.properties).or(by_rule) {
            return Ok(of_score(score));
        }
        let by_rule = rule.and_then(|rule| rule.default_configuration["level"].as_str());
        // As the standard has it, where nobody says.
        of_level(self.level.as_deref().or(by_rule).unwrap_or("warning"))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Message {
    #[serde(default)]
    text: String,
}

fn of_sarif(report: Sarif) -> Result<Vec<Finding>, Error> {
    if report.runs.is_empty() {
        return Err(Error::Nothing);
    }
    let mut findings = Vec::new();
    for Run { tool, results, invocations } in report.runs {
        // What one of several tools could not look at, nobody has looked at.
        let Some(results) = results.filter(|_| invocations.iter().all(|one| one.execution_successful)) else {
            return Err(Error::Nothing);
        };
        for result in results.iter().filter(|result| result.counts()) {
            let rule = result.rule(&tool);
            let severity = result.severity(rule)?;
            let id = result.rule_id.as_deref().or(rule.map(|rule| rule.id.as_str())).unwrap_or_default();
            let location = result.locations.first();
            let place = location.and_then(|one| one["physicalLocation"]["artifactLocation"]["uri"].as_str());
            findings.push(finding(severity, id, place.unwrap_or_default(), &result.message.text));
        }
    }
    Ok(findings)
}

/// CVSS, as code scanners write it: a number, or a text of one.
fn score(properties: &Value) -> Option<f64> {
    let score = &properties["security-severity"];
    score.as_f64().or_else(|| score.as_str()?.parse().ok()).filter(|score| score.is_finite())
}

/// The bands of CVSS 3.
fn of_score(score: f64) -> Severity {
    match score {
        score if score >= 9.0 => Severity::Critical,
        score if score >= 7.0 => Severity::High,
        score if score >= 4.0 => Severity::Medium,
        _ => Severity::Low,
    }
}

fn of_level(level: &str) -> Result<Severity, Error> {
    match level {
        "error" => Ok(Severity::High),
        "warning" => Ok(Severity::Medium),
        "note" => Ok(Severity::Low),
        "none" => Ok(Severity::Unknown),
        other => Err(Error::Severity(other.chars().take(64).collect())),
    }
}

fn finding(severity: Severity, id: &str, place: &str, title: &str) -> Finding {
    let short = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_MAX).collect();
    Finding { severity, id: short(id), place: short(place), title: short(title) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::{Critical, High, Low, Medium};
    use serde_json::json;

    #[test]
    fn trivy_tells_of_packages_secrets_and_rules_that_are_broken() {
        let report = json!({
            "SchemaVersion": 2, "ArtifactName": "r.example/i:1", "Results": [
                { "Target": "r.example/i:1 (debian 12.7)", "Class": "os-pkgs", "Vulnerabilities": [
                    { "VulnerabilityID": "CVE-2026-1", "PkgName": "zlib1g", "InstalledVersion": "1:1.2.13", "Severity": "CRITICAL", "Title": "an\noverflow" },
                    { "VulnerabilityID": "CVE-2026-2", "PkgName": "tar", "InstalledVersion": "1.34", "Severity": "UNKNOWN" },
                ] },
                { "Target": "/app/key.pem", "Class": "secret", "Secrets": [
                    { "RuleID": "private-key", "Severity": "HIGH", "Title": "a private key", "Match": "x" } ] },
                { "Target": "Dockerfile", "Class": "config", "Misconfigurations": [
                    { "ID": "DS002", "Severity": "HIGH", "Status": "PASS", "Title": "kept" },
                    { "ID": "DS026", "Severity": "LOW", "Status": "FAIL", "Title": "no health check" } ] },
                { "Target": "app", "Class": "lang-pkgs" },
                { "Target": "OS Packages", "Class": "license", "Licenses": [
                    { "Severity": "HIGH", "Category": "restricted", "PkgName": "gs", "Name": "AGPL-3.0" } ] },
            ]
        });
        let found = read(report.to_string().as_bytes()).expect("a report");
        let said: Vec<_> =
            found.iter().map(|one| (one.severity, one.id.as_str(), one.place.as_str(), one.title.as_str())).collect();
        assert_eq!(
            said,
            [
                (Severity::Critical, "CVE-2026-1", "zlib1g 1:1.2.13", "an overflow"),
                (Severity::Unknown, "CVE-2026-2", "tar 1.34", ""),
                (Severity::High, "private-key", "/app/key.pem", "a private key"),
                (Severity::Low, "DS026", "Dockerfile", "no health check"),
                (Severity::High, "AGPL-3.0", "gs", ""),
            ]
        );
    }

    #[test]
    fn sarif_tells_by_score_or_else_by_level() {
        let report = |results: Value| {
            let rules = json!([
                { "id": "A", "properties": { "security-severity": "9.8" } }, { "id": "B", "properties": { "security-severity": 7.0 } },
                { "id": "C", "properties": { "security-severity": "6.9" } }, { "id": "D", "properties": {} }, { "id": "E" },
            ]);
            json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": { "name": "grype", "rules": rules } }, "results": results }] }).to_string()
        };
        let results = json!([
            { "ruleId": "A", "level": "note", "message": { "text": "first" }, "locations": [{ "physicalLocation": { "artifactLocation": { "uri": "lib/z" } } }] },
            { "ruleId": "B" }, { "ruleId": "C" }, { "ruleId": "D", "level": "error" }, { "ruleId": "E" }, { "ruleId": "F", "level": "note" },
            { "ruleId": "A", "suppressions": [{ "kind": "external" }] }, { "ruleId": "A", "kind": "pass" },
        ]);
        let found = read(report(results).as_bytes()).expect("a report");
        let severities: Vec<Severity> = found.iter().map(|one| one.severity).collect();
        assert_eq!(severities, [Critical, High, Medium, High, Medium, Low]);
        assert_eq!((found[0].place.as_str(), found[0].title.as_str()), ("lib/z", "first"));
        assert_eq!(read(report(json!([])).as_bytes()).expect("a report").len(), 0, "it looked, and found nothing");
        for nothing in [
            json!({ "version": "2.1.0", "runs": [] }),
            json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": {} } }] }),
            json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": {} }, "results": [], "invocations": [{ "executionSuccessful": false }] }] }),
            // One of two tools could not look.
            json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": {} }, "results": [] }, { "tool": { "driver": {} } }] }),
            json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": {} }, "results": [] },
                { "tool": { "driver": {} }, "results": [], "invocations": [{ "executionSuccessful": true }, { "executionSuccessful": false }] }] }),
        ] {
            assert!(matches!(read(nothing.to_string().as_bytes()), Err(Error::Nothing)), "{nothing}");
        }
        assert!(matches!(read(report(json!([{ "level": "awful" }])).as_bytes()), Err(Error::Severity(_))));
        assert!(matches!(read(br#"{"version":"2.1.0","runs":[1]}"#), Err(Error::Strange { .. })));
        assert!(matches!(read(br#"{"version":"1.0.0","runs":[]}"#), Err(Error::Neither)));
    }

    #[test]
    fn a_finding_is_as_bad_as_its_rule_however_it_names_it() {
        let driver = json!({ "name": "scanner", "rules": [
            { "id": "A", "properties": { "security-severity": "9.8" } },
            { "id": "B", "defaultConfiguration": { "level": "error" } } ] });
        let extensions =
            json!([{ "name": "more", "rules": [{ "id": "C", "properties": { "security-severity": "9.1" } }] }]);
        let of = |result: Value| {
            let tool = json!({ "driver": driver, "extensions": extensions });
            let report = json!({ "version": "2.1.0", "runs": [{ "tool": tool, "results": [result] }] });
            read(report.to_string().as_bytes()).expect("a report").first().map(|one| (one.severity, one.id.clone()))
        };
        for (result, severity, id) in [
            (json!({ "ruleIndex": 0, "level": "note" }), Critical, "A"),
            (json!({ "rule": { "index": 0 }, "level": "note" }), Critical, "A"),
            (json!({ "rule": { "id": "A" }, "level": "note" }), Critical, "A"),
            (json!({ "rule": { "index": 0, "toolComponent": { "index": 0 } } }), Critical, "C"),
            (json!({ "ruleId": "C", "level": "note" }), Critical, "C"),
            (json!({ "ruleId": "B" }), High, "B"),
            (json!({ "ruleId": "B", "level": "note" }), Low, "B"),
            (json!({ "ruleId": "B", "properties": { "security-severity": "9.9" } }), Critical, "B"),
            (json!({ "ruleId": "A", "ruleIndex": -1, "rule": { "index": -1 }, "level": "note" }), Critical, "A"),
            (json!({ "ruleIndex": 99, "level": "error" }), High, ""),
        ] {
            assert_eq!(of(result.clone()), Some((severity, id.to_owned())), "{result}");
        }
        // Only what somebody has accepted is left out.
        for (suppressions, told) in [
            (json!([{ "kind": "external", "status": "accepted" }]), false),
            (json!([{ "kind": "inSource" }]), false),
            (json!([{ "kind": "external", "status": "rejected" }]), true),
            (json!([{ "kind": "external", "status": "underReview" }]), true),
            (json!([{ "kind": "external" }, { "kind": "external", "status": "rejected" }]), true),
            (json!([]), true),
            (json!(null), true),
        ] {
            let found = of(json!({ "ruleId": "A", "suppressions": suppressions }));
            assert_eq!(found.is_some(), told, "{suppressions}");
        }
    }
}
